//! The end of a user's session on Windows, which only programs with a window are told about.
//!
//! A console program that has loaded `user32.dll`, as libraries do, hears nothing of a logoff or a
//! shutdown. So a thread has a window that nobody sees, and waits for its messages.

use std::io;
use std::ptr;
use std::sync::OnceLock;

use tokio::sync::mpsc;
use tracing::debug;
use windows_sys::Win32::Foundation::{HWND, LPARAM, LRESULT, WPARAM};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DispatchMessageW, ENDSESSION_LOGOFF, GetMessageW, MSG,
    RegisterClassW, WM_ENDSESSION, WM_QUERYENDSESSION, WNDCLASSW, WS_OVERLAPPED,
};
use windows_sys::w;

/// The class of the window.
const CLASS: *const u16 = w!("mt5-gateway session end");

/// Windows calls the window without an argument of ours.
static ENDS: OnceLock<mpsc::UnboundedSender<&'static str>> = OnceLock::new();

/// Listens from now on. Only the first caller hears of the end.
pub fn listen() -> mpsc::UnboundedReceiver<&'static str> {
    let (sender, ends) = mpsc::unbounded_channel();
    if ENDS.set(sender).is_ok() {
        let thread = std::thread::Builder::new().name("session-end".to_owned());
        if let Err(fault) = thread.spawn(wait) {
            debug!(%fault, "logoff and shutdown cannot be noticed");
        }
    }
    ends
}

fn wait() {
    if let Err(fault) = create_window() {
        // As in a container: without a desktop there is no session that ends.
        return debug!(%fault, "logoff and shutdown cannot be noticed");
    }
    // SAFETY: for the plain structure zero is a value.
    let mut message: MSG = unsafe { std::mem::zeroed() };
    // SAFETY: the message is written before it is read. A negative result is a failure.
    while unsafe { GetMessageW(&mut message, ptr::null_mut(), 0, 0) } > 0 {
        // SAFETY: it is the message that was just taken.
        unsafe { DispatchMessageW(&message) };
    }
}

/// A window of the top level, because others are not told; it is never shown.
fn create_window() -> io::Result<()> {
    // SAFETY: null stands for this program.
    let program = unsafe { GetModuleHandleW(ptr::null()) };
    // SAFETY: for the plain structure zero is a value, which means none.
    let mut class: WNDCLASSW = unsafe { std::mem::zeroed() };
    class.lpfnWndProc = Some(window);
    class.hInstance = program;
    class.lpszClassName = CLASS;
    // SAFETY: names end with a zero and live as long as the program; the function is one for windows.
    let created = unsafe {
        if RegisterClassW(&class) == 0 {
            return Err(io::Error::last_os_error());
        }
        CreateWindowExW(
            0,
            CLASS,
            w!("mt5-gateway"),
            WS_OVERLAPPED,
            0,
            0,
            0,
            0,
            ptr::null_mut(),
            ptr::null_mut(),
            program,
            ptr::null(),
        )
    };
    if created.is_null() { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "system" fn window(window: HWND, message: u32, wide: WPARAM, long: LPARAM) -> LRESULT {
    match message {
        // The session may end.
        WM_QUERYENDSESSION => 1,
        WM_ENDSESSION if wide != 0 => {
            let is_logoff = long as u32 & ENDSESSION_LOGOFF != 0;
            if let Some(ends) = ENDS.get() {
                let _ = ends.send(if is_logoff { "logoff" } else { "shutdown" });
            }
            // Windows ends the process when this returns, or after its patience, some 5 s.
            loop {
                std::thread::park();
            }
        }
        // SAFETY: these are the arguments of the call.
        _ => unsafe { DefWindowProcW(window, message, wide, long) },
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use windows_sys::Win32::UI::WindowsAndMessaging::{FindWindowW, PostMessageW, SendMessageW};

    use super::*;

    #[test]
    #[ignore = "needs a desktop; Wine has one with HKCU\\Software\\Wine\\Drivers, Graphics = null"]
    fn a_logoff_is_let_through_and_noticed() {
        let mut ends = listen();
        let until = Instant::now() + Duration::from_secs(30);
        let window = loop {
            // SAFETY: the name ends with a zero.
            let window = unsafe { FindWindowW(CLASS, ptr::null()) };
            if !window.is_null() {
                break window;
            }
            assert!(Instant::now() < until, "there is no window");
            std::thread::sleep(Duration::from_millis(10));
        };
        // SAFETY: the window is there as long as the process.
        assert_eq!(unsafe { SendMessageW(window, WM_QUERYENDSESSION, 0, 0) }, 1);
        // Not sent, because that would wait for the end of the process. A session that does not end after
        // all is no end.
        for ends in [0, 1] {
            let logoff = ENDSESSION_LOGOFF as LPARAM;
            // SAFETY: as above.
            assert_ne!(unsafe { PostMessageW(window, WM_ENDSESSION, ends, logoff) }, 0);
        }
        assert_eq!(ends.blocking_recv(), Some("logoff"));
        assert!(ends.try_recv().is_err());
    }
}
