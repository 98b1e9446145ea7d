//! systemd, or whatever else speaks its notification protocol (`Type=notify`).
//!
//! The protocol is one datagram for each message, see
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>. This is our own code because
//! the crate for it waits for a manager whose queue is full.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

use super::{BEYOND_THE_GRACE, Manager, Phase};

/// How long a manager whose queue is full is waited for: with what is told once, and with a sign of life,
/// which is followed by others.
const TELLING: Duration = Duration::from_millis(500);
const PROVING: Duration = Duration::from_millis(1);

/// The systemd that started this process.
pub struct Systemd {
    /// Its socket, as the environment names it.
    address: OsString,
    /// How long it waits for a sign of life. `None`: it expects none.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// `None`: the process was not started by it, or not with `Type=notify`.
    pub fn from_environment() -> Option<Systemd> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        // The watchdog may be meant for another process of the unit.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| *limit > 0 && is_ours);
        Some(Systemd { address, watchdog: limit.map(Duration::from_micros) })
    }

    fn send(&self, message: &str, patience: Duration) {
        if let Err(fault) = send(self.address.as_bytes(), message.as_bytes(), patience) {
            let address = self.address.to_string_lossy();
            warn!(%fault, %address, "service manager cannot be told about the gateway");
        }
    }
}

impl Manager for Systemd {
    fn tell(&mut self, phase: Phase) {
        match phase {
            Phase::Listening => self.send("READY=1\nSTATUS=listening", TELLING),
            Phase::Stopping(grace) => {
                // A grace that is longer than the unit's TimeoutStopSec must not be cut by it.
                let limit = (grace + BEYOND_THE_GRACE).as_micros();
                let message = format!(
                    "STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\nSTATUS=stopping: finishes what is under way"
                );
                self.send(&message, TELLING);
            }
        }
    }

    fn interval(&self, _phase: Phase) -> Option<Duration> {
        // An answer may take as long again, and is still in time.
        self.watchdog.map(|limit| limit / 3)
    }

    fn alive(&mut self) {
        self.send("WATCHDOG=1", PROVING);
    }
}

fn send(address: &[u8], message: &[u8], patience: Duration) -> io::Result<()> {
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that reads nothing must not stop the gateway.
    socket.set_write_timeout(Some(patience))?;
    socket.send_to_addr(message, &address)?;
    Ok(())
}
