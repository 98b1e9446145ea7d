//! What the clock of a broker's server shows, learnt from ticks.
//!
//! A tick is never younger than the server's clock, so each one says what that clock has reached at
//! least. Between ticks the machine's boot clock carries on, which nobody can set.

use std::sync::{Mutex, PoisonError};

use crate::clock::BootInstant;
use crate::mt5::ServerTime;

/// How long the freshest tick counts, milliseconds. Longer than the gaps between ticks, so that a quiet
/// symbol does not set the clock back; shorter than a weekend, so that a change to winter time does.
const PERIOD_MSC: i64 = 3_600_000;

/// Times that a tick can have, unix milliseconds: from 2000 to 2100.
const PLAUSIBLE_MSC: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// What the server's clock has reached at least. Starts without knowledge.
#[derive(Debug, Default)]
pub struct ServerTimeFloor(Mutex<Seen>);

/// What the server's clock is ahead of the boot clock at least, milliseconds: the highest value of
/// the period that the newest tick is in, and of the one before.
#[derive(Debug, Default)]
struct Seen {
    period: i64,
    present: Option<i64>,
    before: Option<i64>,
}

impl ServerTimeFloor {
    /// Learns from a tick: its time, unix milliseconds of the server's clock, and when it was seen.
    pub fn observe(&self, tick_msc: i64, now: BootInstant) {
        let now_msc = milliseconds(now);
        if !PLAUSIBLE_MSC.contains(&tick_msc) {
            return;
        }
        let (ahead, period) = (tick_msc - now_msc, now_msc / PERIOD_MSC);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.period != period {
            // After a longer pause the server may have changed between summer and winter time.
            let present = seen.present.take();
            seen.before = present.filter(|_| seen.period + 1 == period);
            seen.period = period;
        }
        seen.present = seen.present.max(Some(ahead));
    }

    /// A time that the server's clock has reached. `None` before the first tick.
    pub fn floor(&self, now: BootInstant) -> Option<ServerTime> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = seen.present.max(seen.before)?;
        Some(ServerTime::from_seconds((milliseconds(now) + ahead).div_euclid(1000)))
    }
}

fn milliseconds(moment: BootInstant) -> i64 {
    i64::try_from(moment.since_boot().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn a_stale_tick_does_not_set_the_clock_back() {
        let time = ServerTimeFloor::default();
        assert_eq!(time.floor(at(10)), None);
        time.observe(1_700_000_000_000, at(10));
        // The last tick of a symbol that has been quiet for a minute.
        time.observe(1_699_999_940_000, at(20));
        assert_eq!(time.floor(at(25)), Some(ServerTime::from_seconds(1_700_000_015)));
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed_after_a_while() {
        let time = ServerTimeFloor::default();
        time.observe(1_700_000_000_000, at(0));
        let hours = |hours: u64| hours * 3_600;
        for hour in 1..=2 {
            // An hour behind from now on, as after the end of summer time.
            let server = 1_700_000_000_000 + (hours(hour) as i64 - 3_600) * 1000;
            time.observe(server, at(hours(hour)));
        }
        let expected = ServerTime::from_seconds(1_700_000_000 + 3_600);
        assert_eq!(time.floor(at(hours(2))), Some(expected));
    }
}
