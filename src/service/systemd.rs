//! systemd, or whatever else speaks its notification protocol (`Type=notify`).

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use super::{BEYOND_THE_GRACE, Manager, Phase};

/// The systemd that started this process.
pub struct Systemd {
    /// How long it waits for a sign of life. `None`: it expects none.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// `None`: the process was not started by it, or not with `Type=notify`.
    pub fn from_environment() -> Option<Systemd> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let watchdog = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        Some(Systemd { watchdog })
    }
}

impl Manager for Systemd {
    fn tell(&mut self, phase: Phase) {
        match phase {
            Phase::Listening => send(&[NotifyState::Ready, NotifyState::Status("listening")]),
            Phase::Stopping(grace) => {
                // A grace that is longer than the unit's TimeoutStopSec must not be cut by it.
                let limit = (grace + BEYOND_THE_GRACE).as_micros();
                let limit = format!("EXTEND_TIMEOUT_USEC={limit}");
                let status = NotifyState::Status("stopping: finishes what is under way");
                send(&[NotifyState::Stopping, NotifyState::Custom(&limit), status]);
            }
        }
    }

    fn interval(&self, _phase: Phase) -> Option<Duration> {
        // An answer may take as long again, and is still in time.
        self.watchdog.map(|limit| limit / 3)
    }

    fn alive(&mut self) {
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState]) {
    if let Err(fault) = sd_notify::notify(states) {
        warn!(%fault, "service manager cannot be told about the gateway");
    }
}
