//! The source of the events that a service writes to the Application log.

use std::io;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_SUCCESS};
use windows_sys::Win32::System::EventLog::{
    EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_LOCAL_MACHINE, KEY_SET_VALUE, REG_DWORD, REG_EXPAND_SZ, REG_OPTION_NON_VOLATILE,
    RegCloseKey, RegCreateKeyExW, RegDeleteKeyW, RegSetValueExW,
};

/// The file with the texts of our events. Those of this program of Windows are `%1`, the text that
/// comes with the event, for all numbers up to 1000. A file of our own would be locked by the Event
/// Viewer while somebody replaces the gateway.
const MESSAGES: &str = r"%SystemRoot%\System32\EventCreate.exe";

/// Tells the Event Viewer how to show events of this source.
pub fn register(source: &str) -> io::Result<()> {
    let path = wide(&path(source));
    let mut key: HKEY = ptr::null_mut();
    // SAFETY: the path ends with a zero, and the key is written before it is used. What is not given may
    // be null.
    succeed(unsafe {
        RegCreateKeyExW(
            HKEY_LOCAL_MACHINE,
            path.as_ptr(),
            0,
            ptr::null(),
            REG_OPTION_NON_VOLATILE,
            KEY_SET_VALUE,
            ptr::null(),
            &mut key,
            ptr::null_mut(),
        )
    })?;
    let types = EVENTLOG_ERROR_TYPE | EVENTLOG_WARNING_TYPE | EVENTLOG_INFORMATION_TYPE;
    let messages: Vec<u8> = wide(MESSAGES).iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let written = set(key, "EventMessageFile", REG_EXPAND_SZ, &messages)
        .and_then(|()| set(key, "TypesSupported", REG_DWORD, &u32::from(types).to_le_bytes()));
    // SAFETY: the key is open, and used no more.
    unsafe { RegCloseKey(key) };
    written
}

/// Forgets the source. Its events stay.
pub fn remove(source: &str) -> io::Result<()> {
    let path = wide(&path(source));
    // SAFETY: the path ends with a zero.
    match unsafe { RegDeleteKeyW(HKEY_LOCAL_MACHINE, path.as_ptr()) } {
        ERROR_FILE_NOT_FOUND => Ok(()),
        code => succeed(code),
    }
}

fn set(key: HKEY, name: &str, kind: u32, value: &[u8]) -> io::Result<()> {
    let name = wide(name);
    // SAFETY: the name ends with a zero, and the value has the length that is given.
    succeed(unsafe {
        RegSetValueExW(key, name.as_ptr(), 0, kind, value.as_ptr(), value.len() as u32)
    })
}

fn path(source: &str) -> String {
    format!(r"SYSTEM\CurrentControlSet\Services\EventLog\Application\{source}")
}

fn succeed(code: u32) -> io::Result<()> {
    match code {
        ERROR_SUCCESS => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
