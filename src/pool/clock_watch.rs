//! Whether the clock of an account's server contradicts the zone that is configured for it, as far as ticks
//! that clients ask for show it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::BootInstant;
use crate::mt5::{ClockVerdict, Contradiction, ServerClock, SymbolName, TickLook, judge};

/// From one look to the next. Ticks in between are not looked at, so that reading them costs nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After this time without a tick of the symbol that is followed, another one is.
const FOLLOWED_MSC: i64 = 60_000;

/// How many looks are kept: some of them may be at the same tick.
const KEPT: usize = 8;

/// Follows the ticks of one symbol at a time. Starts without knowledge.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// When the next look is due, on the boot clock in milliseconds.
    next_look: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    symbol: Option<SymbolName>,
    looks: VecDeque<TickLook>,
    contradiction: Option<Contradiction>,
}

impl ClockWatch {
    /// Whether a look is due. Ticks that come before the next one need not be [seen](Self::see).
    pub fn is_due(&self, now: BootInstant) -> bool {
        let now = u64::try_from(now.since_boot().as_millis()).unwrap_or(u64::MAX);
        if now < self.next_look.load(Ordering::Relaxed) {
            return false;
        }
        let interval = u64::try_from(LOOK_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        self.next_look.store(now.saturating_add(interval), Ordering::Relaxed);
        true
    }

    /// Looks at a symbol's newest tick. Gives the new verdict if it has changed, which is never
    /// [`ClockVerdict::Silent`].
    pub fn see(
        &self,
        clock: &ServerClock,
        symbol: &SymbolName,
        look: TickLook,
    ) -> Option<ClockVerdict> {
        let mut seen = self.seen.lock();
        let seen = &mut *seen;
        if seen.symbol.as_ref() != Some(symbol) {
            let latest = seen.looks.back().map(|latest| latest.at_msc);
            if latest.is_some_and(|latest| (0..FOLLOWED_MSC).contains(&(look.at_msc - latest))) {
                return None;
            }
            seen.symbol = Some(symbol.clone());
            seen.looks.clear();
        }
        if seen.looks.len() == KEPT {
            seen.looks.pop_front();
        }
        seen.looks.push_back(look);
        let verdict = judge(clock, seen.looks.make_contiguous());
        let contradiction = match &verdict {
            ClockVerdict::Silent => return None,
            ClockVerdict::Fits => None,
            ClockVerdict::Contradicts(contradiction) => Some(contradiction.clone()),
        };
        let is_known = match (&seen.contradiction, &contradiction) {
            (None, None) => true,
            // What is known exactly is not replaced by a bound, nor a bound by another.
            (Some(_), Some(now)) if now.at_least => true,
            (before, now) => before == now,
        };
        if is_known {
            return None;
        }
        seen.contradiction = contradiction;
        Some(verdict)
    }

    /// What ticks have shown last against the configured zone.
    pub fn contradiction(&self) -> Option<Contradiction> {
        self.seen.lock().contradiction.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-15 12:00 UTC.
    const NOON_MSC: i64 = 1_700_049_600_000;
    const HOUR: i64 = 3600;

    /// A look so many seconds after noon at a tick of that moment, on a clock so many seconds ahead.
    fn look(second: i64, ahead: i64) -> TickLook {
        let at_msc = NOON_MSC + second * 1000;
        TickLook { tick_msc: at_msc + ahead * 1000, at_msc }
    }

    /// What a change is told as.
    fn told(verdict: Option<ClockVerdict>) -> &'static str {
        match verdict {
            None => "",
            Some(ClockVerdict::Silent) => "silent",
            Some(ClockVerdict::Fits) => "fits",
            Some(ClockVerdict::Contradicts(contradiction)) if contradiction.at_least => "at least",
            Some(ClockVerdict::Contradicts(_)) => "exactly",
        }
    }

    #[test]
    fn a_contradiction_is_told_once_and_once_more_when_it_is_over() {
        let [eurusd, gbpusd] = ["EURUSD", "GBPUSD"].map(|name| SymbolName::parse(name).unwrap());
        let utc = ServerClock::parse("UTC").unwrap();
        let watch = ClockWatch::default();
        let cases = [
            // The server is ahead, which one tick shows, and three show exactly.
            (&eurusd, 0, 3 * HOUR, "at least"),
            (&eurusd, 1, 3 * HOUR, ""),
            (&eurusd, 2, 3 * HOUR, "exactly"),
            (&eurusd, 3, 3 * HOUR, ""),
            // Another symbol is not followed meanwhile.
            (&gbpusd, 4, 0, ""),
            (&eurusd, 5, 3 * HOUR, ""),
            // Summer time ends.
            (&eurusd, 6, 2 * HOUR, ""),
            (&eurusd, 7, 2 * HOUR, ""),
            (&eurusd, 8, 2 * HOUR, "exactly"),
            (&eurusd, 9, 2 * HOUR, ""),
            // After a while without a tick of it, another one is followed.
            (&gbpusd, 80, 0, ""),
            (&gbpusd, 81, 0, ""),
            (&gbpusd, 82, 0, "fits"),
            (&gbpusd, 83, 0, ""),
        ];
        for (symbol, second, ahead, expected) in cases {
            let verdict = watch.see(&utc, symbol, look(second, ahead));
            assert_eq!(told(verdict), expected, "{second}");
            assert_eq!(watch.contradiction().is_some(), second < 82, "{second}");
        }
    }

    #[test]
    fn a_look_is_due_once_a_second() {
        let watch = ClockWatch::default();
        let due = |milliseconds| {
            watch.is_due(BootInstant::from_boot(Duration::from_millis(milliseconds)))
        };
        let looks = [5_000, 5_500, 5_999, 6_000, 6_001, 9_000, 9_999, 10_000].map(due);
        assert_eq!(looks, [true, false, false, true, false, true, false, true]);
    }
}
