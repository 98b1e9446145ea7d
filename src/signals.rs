//! The signals that ask the process to end.

#[cfg(unix)]
use tracing::warn;

/// The signals that ask the process to end.
#[cfg_attr(test, derive(Default))]
pub struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
    #[cfg(windows)]
    interrupt: Option<tokio::signal::windows::CtrlC>,
    #[cfg(windows)]
    close: Option<tokio::signal::windows::CtrlClose>,
    #[cfg(windows)]
    logoff: Option<tokio::signal::windows::CtrlLogoff>,
    #[cfg(windows)]
    shutdown: Option<tokio::signal::windows::CtrlShutdown>,
    /// Stands for the system.
    #[cfg(test)]
    test: Option<tokio::sync::mpsc::UnboundedReceiver<&'static str>>,
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
    /// Listens to them from now on.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Signals {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Signals {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate()).ok(),
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).ok(),
            #[cfg(unix)]
            hangup: signal(SignalKind::hangup()).ok(),
            #[cfg(windows)]
            interrupt: tokio::signal::windows::ctrl_c().ok(),
            #[cfg(windows)]
            close: tokio::signal::windows::ctrl_close().ok(),
            #[cfg(windows)]
            logoff: tokio::signal::windows::ctrl_logoff().ok(),
            #[cfg(windows)]
            shutdown: tokio::signal::windows::ctrl_shutdown().ok(),
            #[cfg(test)]
            test: None,
        }
    }

    /// Those that a test sends, and none of the system's.
    #[cfg(test)]
    pub fn of(test: tokio::sync::mpsc::UnboundedReceiver<&'static str>) -> Signals {
        Signals { test: Some(test), ..Signals::default() }
    }

    /// Waits for one of them. SIGHUP, which the end of a shell sends, is none.
    #[cfg(unix)]
    pub async fn next(&mut self) -> &'static str {
        #[cfg(test)]
        if let Some(signal) = received!(self.test).await {
            return signal;
        }
        loop {
            tokio::select! {
                _ = received!(self.terminate) => return "SIGTERM",
                _ = received!(self.interrupt) => return "interrupt",
                _ = received!(self.hangup) => {
                    warn!("SIGHUP ignored, the settings are read at start only");
                }
            }
        }
    }

    /// Waits for one of them.
    #[cfg(windows)]
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = received!(self.close) => "CTRL_CLOSE",
            _ = received!(self.logoff) => "CTRL_LOGOFF",
            _ = received!(self.shutdown) => "CTRL_SHUTDOWN",
            _ = received!(self.interrupt) => "interrupt",
        }
    }
}
