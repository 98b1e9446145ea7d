//! A clock that also counts the time in which the process or the machine is suspended.
//!
//! The age of an order is measured on it: a laptop that wakes up, a paused virtual machine or a
//! stopped process must not send an order whose time is over. `tokio::time::Instant` stands still
//! during suspension on Linux, and the wall clock can be set.

use std::ops::Add;
use std::time::Duration;

/// A moment, as the time since the machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// The present moment.
    pub fn now() -> BootInstant {
        BootInstant(since_boot())
    }

    /// A moment by its distance from the boot.
    pub const fn from_boot(since: Duration) -> BootInstant {
        BootInstant(since)
    }

    /// The time between the boot and this moment.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time since an earlier moment; zero if `earlier` is later.
    pub const fn saturating_duration_since(self, earlier: BootInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// What is left until this moment; zero if it has passed.
    pub fn left(self) -> Duration {
        self.saturating_duration_since(BootInstant::now())
    }

    /// Whether the moment has come.
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

impl Add<Duration> for BootInstant {
    type Output = BootInstant;

    fn add(self, duration: Duration) -> BootInstant {
        BootInstant(self.0.saturating_add(duration))
    }
}

#[cfg(unix)]
fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    // Elsewhere the monotonic clock counts suspension.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(windows)]
fn since_boot() -> Duration {
    let mut ticks = 0;
    // SAFETY: the function writes one integer to the address that it is given.
    // The biased interrupt time, in units of 100 ns, includes sleep and hibernation.
    unsafe { windows_sys::Win32::System::WindowsProgramming::QueryInterruptTime(&mut ticks) };
    Duration::from_nanos(ticks.saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_passes_once_and_never_runs_backwards() {
        let now = BootInstant::now();
        let soon = now + Duration::from_secs(3_600);
        assert!(now.has_passed() && !soon.has_passed());
        assert_eq!(soon.saturating_duration_since(now), Duration::from_secs(3_600));
        assert_eq!(now.saturating_duration_since(soon), Duration::ZERO);
        assert!(BootInstant::now() >= now);
    }
}
