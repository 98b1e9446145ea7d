//! Files that only the service's user may read.

#[cfg(windows)]
mod acl;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The longest path, in UTF-16 units, that every function of Windows takes, less the longest ending
/// that SQLite adds to it.
#[cfg(any(windows, test))]
const LONGEST_PLAIN_PATH: usize = 259 - "-journal".len();

/// Opens a file to read it. What is no regular file is refused and not waited for, as a pipe that nobody
/// writes to would be.
///
/// # Errors
/// As [`File::open`], and if it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.cast_signed());
    }
    let file = options.read(true).open(path)?;
    let kind = file.metadata()?.file_type();
    // Windows does not open a directory, Unix does not read it.
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        let expected = "it is a pipe or a device, expected a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
    }
    Ok(file)
}

/// Opens a file with these options, and creates it with mode 0600 if it is missing. On Windows a
/// new file inherits the access list of its directory.
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.create(true).open(path)
}

/// Creates a directory, and those above it that are missing, with mode 0700.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Creates a directory for secrets, and those above it that are missing. Nobody but this user may enter it:
/// it has mode 0700, or on Windows an access list of its own, which what comes into it inherits.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_secret_directory(path: &Path) -> io::Result<()> {
    #[cfg(windows)]
    {
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            create_private_directory(above)?;
        }
        acl::create_directory(path)
    }
    #[cfg(not(windows))]
    create_private_directory(path)
}

/// Bytes that this user may still write to the file system of a path.
///
/// # Errors
/// If the system does not say so.
#[cfg(unix)]
pub fn free_space(path: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(path)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Bytes that this user may still write to the file system of a path.
///
/// # Errors
/// If the system does not say so.
#[cfg(windows)]
pub fn free_space(path: &Path) -> io::Result<u64> {
    use std::os::windows::ffi::OsStrExt;
    use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0;
    let null = std::ptr::null_mut();
    // SAFETY: the path ends with a zero, and `free` is there for the call.
    if unsafe { GetDiskFreeSpaceExW(wide.as_ptr(), &mut free, null, null) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(free)
}

/// The mode of a file that other users can read or change. `None`: they cannot, or it is no file.
#[cfg(unix)]
pub fn exposed_mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Always `None`: on Windows permissions are access lists, which are not checked.
#[cfg(not(unix))]
pub fn exposed_mode(_path: &Path) -> Option<u32> {
    None
}

/// A path by which libraries in C open the file. Rust's own functions take paths of any length; on
/// Windows those of C take long ones in another notation only.
///
/// # Errors
/// If the working directory is not known.
pub fn path_for_c(path: &Path) -> io::Result<PathBuf> {
    #[cfg(windows)]
    if let Some(text) = std::path::absolute(path)?.to_str() {
        return Ok(verbatim_if_long(text).into());
    }
    Ok(path.to_owned())
}

/// An absolute Windows path, in the notation for long ones if it is long.
#[cfg(any(windows, test))]
fn verbatim_if_long(path: &str) -> String {
    if path.starts_with(r"\\?\") || path.encode_utf16().count() <= LONGEST_PLAIN_PATH {
        return path.to_owned();
    }
    match path.strip_prefix(r"\\") {
        Some(share) => format!(r"\\?\UNC\{share}"),
        None => format!(r"\\?\{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_of_windows_is_written_so_that_c_opens_it() {
        let long = "ü".repeat(LONGEST_PLAIN_PATH);
        let cases = [
            (r"C:\data\journal".to_owned(), r"C:\data\journal".to_owned()),
            (format!(r"C:\{}", &long[..2 * (LONGEST_PLAIN_PATH - 3)]), String::new()),
            (format!(r"C:\{long}"), format!(r"\\?\C:\{long}")),
            (format!(r"\\server\share\{long}"), format!(r"\\?\UNC\server\share\{long}")),
            (format!(r"\\?\C:\{long}"), format!(r"\\?\C:\{long}")),
        ];
        for (path, expected) in cases {
            let expected = if expected.is_empty() { path.clone() } else { expected };
            assert_eq!(verbatim_if_long(&path), expected);
        }
    }
}
