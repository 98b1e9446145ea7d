//! The signals that ask the process to end.

#[cfg(windows)]
mod session_end;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
#[cfg(unix)]
use tracing::warn;

/// The signals that ask the process to end, from now on. None of them is lost while nobody waits.
pub fn signals() -> BoxStream<'static, &'static str> {
    let next = async |mut signals: Signals| Some((signals.next().await, signals));
    futures_util::stream::unfold(Signals::listen(), next).boxed()
}

/// Each SIGHUP, which asks for the settings to be read again, from now on. The end of a shell sends one,
/// too, and must not end the process.
#[cfg(unix)]
pub fn hangups() -> BoxStream<'static, ()> {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(hangup) => {
            let next = async |mut hangup: tokio::signal::unix::Signal| {
                hangup.recv().await.map(|()| ((), hangup))
            };
            futures_util::stream::unfold(hangup, next).boxed()
        }
        Err(fault) => {
            warn!(%fault, "SIGHUP cannot be listened to");
            futures_util::stream::pending().boxed()
        }
    }
}

/// Windows has no SIGHUP.
#[cfg(not(unix))]
pub fn hangups() -> BoxStream<'static, ()> {
    futures_util::stream::pending().boxed()
}

struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(windows)]
    interrupt: Option<tokio::signal::windows::CtrlC>,
    #[cfg(windows)]
    close: Option<tokio::signal::windows::CtrlClose>,
    #[cfg(windows)]
    logoff: Option<tokio::signal::windows::CtrlLogoff>,
    #[cfg(windows)]
    shutdown: Option<tokio::signal::windows::CtrlShutdown>,
    #[cfg(windows)]
    session_end: Option<tokio::sync::mpsc::UnboundedReceiver<&'static str>>,
    /// Whether the end of the session was noticed.
    #[cfg(windows)]
    session_ends: bool,
}

/// Waits for a signal, for ever if it cannot be listened to.
macro_rules! received {
    ($signal:expr) => {
        async {
            match &mut $signal {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        }
    };
}

impl Signals {
    fn listen() -> Signals {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Signals {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate()).ok(),
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).ok(),
            #[cfg(windows)]
            interrupt: tokio::signal::windows::ctrl_c().ok(),
            #[cfg(windows)]
            close: tokio::signal::windows::ctrl_close().ok(),
            #[cfg(windows)]
            logoff: tokio::signal::windows::ctrl_logoff().ok(),
            #[cfg(windows)]
            shutdown: tokio::signal::windows::ctrl_shutdown().ok(),
            #[cfg(windows)]
            session_end: Some(session_end::listen()),
            #[cfg(windows)]
            session_ends: false,
        }
    }

    /// Waits for one of them.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = received!(self.terminate) => "SIGTERM",
            _ = received!(self.interrupt) => "interrupt",
        }
    }

    /// Waits for one of them.
    #[cfg(windows)]
    async fn next(&mut self) -> &'static str {
        loop {
            let end = tokio::select! {
                _ = received!(self.close) => return "CTRL_CLOSE",
                _ = received!(self.interrupt) => return "interrupt",
                _ = received!(self.logoff) => "CTRL_LOGOFF",
                _ = received!(self.shutdown) => "CTRL_SHUTDOWN",
                Some(end) = received!(self.session_end) => end,
            };
            // Windows may tell it in two ways, and a second signal would cut what is under way.
            if !std::mem::replace(&mut self.session_ends, true) {
                return end;
            }
        }
    }
}
