//! What Windows tells about a process in a snapshot of all processes.

use std::io;
use std::mem;

use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};

/// The number of threads of a process.
///
/// # Errors
/// If no snapshot can be made, or the process is not in it.
pub fn threads(pid: u32) -> io::Result<u64> {
    // SAFETY: the call takes no addresses.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut entry: PROCESSENTRY32W = unsafe { mem::zeroed() };
    entry.dwSize = mem::size_of::<PROCESSENTRY32W>() as u32;
    // SAFETY: the snapshot is open, and the entry has the size that it states.
    let mut is_there = unsafe { Process32FirstW(snapshot, &mut entry) } != 0;
    while is_there && entry.th32ProcessID != pid {
        // SAFETY: as above.
        is_there = unsafe { Process32NextW(snapshot, &mut entry) } != 0;
    }
    // SAFETY: the snapshot is open, and used no more.
    unsafe { CloseHandle(snapshot) };
    if is_there { Ok(entry.cntThreads.into()) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_more_is_counted() {
        let before = threads(std::process::id()).unwrap();
        // Other tests begin and end threads, so many are started.
        let started: Vec<_> = (0..100).map(|_| std::thread::spawn(std::thread::park)).collect();
        let during = threads(std::process::id()).unwrap();
        assert!(during >= before + 50, "{before} {during}");
        started.into_iter().for_each(|thread| {
            thread.thread().unpark();
            thread.join().unwrap();
        });
        assert!(threads(u32::MAX).is_err());
    }
}
