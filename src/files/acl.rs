//! Directories of Windows that only one user may enter.

use std::ffi::c_void;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::CreateDirectoryW;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// Room for a token's user: its structure and the longest SID, 68 bytes.
const TOKEN_USER_ROOM: usize = size_of::<TOKEN_USER>() + 68;

/// Creates a directory whose access list names this process's user alone, also for what comes into it, and
/// inherits nothing.
///
/// # Errors
/// If it cannot be created.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let list = format!("D:P(A;OICI;FA;;;{})", user()?);
    let list: Vec<u16> = list.encode_utf16().chain([0]).collect();
    let mut descriptor: PSECURITY_DESCRIPTOR = ptr::null_mut();
    // SAFETY: the text ends with a zero. The descriptor is ours once the call has succeeded.
    succeed(unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            list.as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            ptr::null_mut(),
        )
    })?;
    let descriptor = Local(descriptor);
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    // SAFETY: the path ends with a zero, and the descriptor outlives the call.
    succeed(unsafe { CreateDirectoryW(path.as_ptr(), &attributes) })
}

/// The SID of this process's user, as text.
fn user() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the process's own handle is always valid.
    succeed(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) })?;
    // Words, because the structure has pointers in it.
    let mut room = [0_u64; TOKEN_USER_ROOM.div_ceil(8)];
    let mut length = 0;
    // SAFETY: the room is as long as is said, and aligned for the structure.
    let read = succeed(unsafe {
        GetTokenInformation(
            token,
            TokenUser,
            room.as_mut_ptr().cast(),
            size_of_val(&room) as u32,
            &mut length,
        )
    });
    // SAFETY: the handle is open, and used no more.
    unsafe { CloseHandle(token) };
    read?;
    // SAFETY: the call has written the structure there.
    let user = unsafe { &*room.as_ptr().cast::<TOKEN_USER>() };
    let mut text = ptr::null_mut();
    // SAFETY: the SID lies in the room. The text is ours once the call has succeeded.
    succeed(unsafe { ConvertSidToStringSidW(user.User.Sid, &mut text) })?;
    let text = Local(text.cast());
    let units = text.0.cast::<u16>();
    // SAFETY: the text ends with a zero.
    let length = (0..).take_while(|index| unsafe { *units.add(*index) } != 0).count();
    // SAFETY: so many units were just read.
    Ok(String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(units, length) }))
}

/// Memory that Windows has allocated for us.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it was allocated by Windows, and nobody uses it any more.
        unsafe { LocalFree(self.0) };
    }
}

fn succeed(returned: i32) -> io::Result<()> {
    if returned == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Security::Authorization::{
        ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW, SE_FILE_OBJECT,
    };
    use windows_sys::Win32::Security::DACL_SECURITY_INFORMATION;

    use super::*;

    /// The access list of a path, as text.
    fn list_of(path: &Path) -> String {
        let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
        let (mut descriptor, none) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the path ends with a zero. What is not wanted is null.
        let status = unsafe {
            GetNamedSecurityInfoW(
                path.as_ptr(),
                SE_FILE_OBJECT,
                DACL_SECURITY_INFORMATION,
                none,
                none,
                ptr::null_mut(),
                ptr::null_mut(),
                &mut descriptor,
            )
        };
        assert_eq!(status, 0);
        let descriptor = Local(descriptor);
        let (mut text, mut length) = (ptr::null_mut(), 0);
        // SAFETY: the descriptor was just read. The text is ours once the call has succeeded.
        let written = unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor.0,
                SDDL_REVISION_1,
                DACL_SECURITY_INFORMATION,
                &mut text,
                &mut length,
            )
        };
        succeed(written).unwrap();
        let text = Local(text.cast());
        // SAFETY: the call says how long the text is, with its zero.
        let units = unsafe { std::slice::from_raw_parts(text.0.cast::<u16>(), length as usize) };
        String::from_utf16_lossy(units).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn a_directory_is_its_users_alone() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("accounts");
        create_directory(&directory).unwrap();
        let (list, user) = (list_of(&directory), user().unwrap());
        assert!(user.starts_with("S-1-") && list.contains(&user), "{list} {user}");
        // Wine shows the system in every list, and lets nothing inherit one.
        let mut named = list.split('(').skip(1);
        assert!(named.all(|entry| entry.contains(&user) || entry.ends_with(";SY)")), "{list}");
        std::fs::write(directory.join("main.toml"), "login = 1").unwrap();
        assert!(create_directory(&directory).is_err());
    }
}
