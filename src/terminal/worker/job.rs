//! A job object for everything that the gateway starts on Windows.

use std::io;
use std::mem;
use std::ptr;
use std::sync::Once;

use tracing::warn;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Puts the gateway into a job that ends with it, however it ends, and with it all that it starts from
/// now on. Each worker also has a job of its own, but it enters that a moment after it was created. A
/// gateway that is killed in this moment would leave it behind.
pub fn contain() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Jobs nest, but a job around the gateway may refuse it.
        if let Err(fault) = enter_job() {
            warn!(%fault, "no job object contains the gateway and its workers together");
        }
    });
}

fn enter_job() -> io::Result<()> {
    // SAFETY: without attributes the handle is not inherited, and without a name nobody else opens it.
    let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    let entered = limit(job).and_then(|()| {
        // SAFETY: both handles are valid.
        succeed(unsafe { AssignProcessToJobObject(job, GetCurrentProcess()) })
    });
    if entered.is_err() {
        // SAFETY: the handle is open, and used no more. No process is in the job.
        unsafe { CloseHandle(job) };
    }
    // Else it is left open. Windows closes it with the process, which ends all others in the job.
    entered
}

fn limit(job: HANDLE) -> io::Result<()> {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { mem::zeroed() };
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    // SAFETY: the structure is that of this class, and has the size that is given.
    succeed(unsafe {
        SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            ptr::from_ref(&limits).cast(),
            mem::size_of_val(&limits) as u32,
        )
    })
}

fn succeed(returned: i32) -> io::Result<()> {
    if returned == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
