//! How far a server's clock is ahead of UTC, as ticks show it, and whether that fits the configured zone.
//!
//! A tick carries the time of its server's clock. The newest one may be old: on a weekend, or of a quiet
//! symbol. So a tick says something in two cases only: if it has just come, or if by the configured zone
//! it would lie in the future.

use std::fmt;

use super::{ServerClock, UtcTime};

/// Looks that are further apart do not tell when a tick came.
const TOGETHER_MSC: i64 = 60_000;

/// What the clocks of the server and of this machine may be wrong by, seconds.
const CLOCK_ERROR: i64 = 120;

/// Zones differ from UTC by full quarters of an hour.
const QUARTER: i64 = 900;

/// No zone is further from UTC, seconds.
const FURTHEST: i64 = 15 * 3600;

/// The usual clock of brokers.
const USUAL: &str = "New_York+7";

/// Zones that are not ahead of UTC by full hours, without daylight saving.
const ODD_ZONES: [&str; 4] = ["Asia/Kolkata", "Asia/Tehran", "Asia/Kathmandu", "Australia/Darwin"];

/// A look at a symbol's newest tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickLook {
    /// The tick's time, unix milliseconds of the server's clock.
    pub tick_msc: i64,
    /// When it was looked at, unix milliseconds of UTC.
    pub at_msc: i64,
}

impl TickLook {
    /// What the server's clock is ahead of UTC at least, milliseconds: a tick is never younger than it.
    fn ahead_msc(self) -> i64 {
        self.tick_msc - self.at_msc
    }
}

/// How the configured zone and what ticks show go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockVerdict {
    /// The ticks say nothing.
    Silent,
    /// They fit.
    Fits,
    /// They do not.
    Contradicts(Contradiction),
}

/// What the configured zone and the server's clock disagree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// What the server's clock is ahead of UTC, seconds.
    pub ahead: i64,
    /// Whether it may be more than that.
    pub at_least: bool,
    /// What the configured zone is ahead of UTC now, seconds.
    pub configured: i64,
    /// A zone that would fit; none if no zone has such an offset.
    pub fitting: Option<String>,
}

impl Contradiction {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.fitting {
            Some(zone) => {
                format!("set `server_time_zone = \"{zone}\"` if the broker names no other zone")
            }
            None if self.at_least || to_quarter(self.ahead) == Some(self.ahead) => {
                "set `server_time_zone` to the zone that the broker names".to_owned()
            }
            None => "set this machine's clock, and let it be kept right (NTP)".to_owned(),
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.at_least { "at least " } else { "" };
        let (ahead, configured) = (offset(self.ahead), offset(self.configured));
        write!(
            formatter,
            "the server's clock shows {at_least}{ahead}, its configured zone {configured}"
        )
    }
}

/// What a server's clock is ahead of UTC, in seconds, as successive looks at one symbol's newest tick
/// show it, to a minute. `None`: they do not.
///
/// The tick has to have advanced twice by about as much as time did. A terminal that has just been started
/// replaces an old tick by the last one, which may be old as well.
pub fn seconds_ahead(looks: &[TickLook]) -> Option<i64> {
    let advances = looks.windows(2).filter(|pair| {
        let apart = pair[1].at_msc - pair[0].at_msc;
        pair[1].tick_msc > pair[0].tick_msc && (0..=TOGETHER_MSC).contains(&apart)
    });
    let mut latest = advances.map(|pair| pair[1].ahead_msc()).rev();
    let (last, before) = (latest.next()?, latest.next()?);
    let ahead = last.max(before).div_euclid(1000);
    ((last - before).abs() <= TOGETHER_MSC && ahead.abs() <= FURTHEST).then_some(ahead)
}

/// Compares a server's clock with the zone that is configured for it, by successive looks at one symbol's
/// newest tick.
pub fn judge(clock: &ServerClock, looks: &[TickLook]) -> ClockVerdict {
    let Some(latest) = looks.last().filter(|_| clock.zone().is_some()) else {
        return ClockVerdict::Silent;
    };
    let now = UtcTime::from_seconds(latest.at_msc.div_euclid(1000));
    let configured = clock.show(now).seconds() - now.seconds();
    if let Some(ahead) = seconds_ahead(looks) {
        if (ahead - configured).abs() <= CLOCK_ERROR {
            return ClockVerdict::Fits;
        }
        let ahead = to_quarter(ahead).unwrap_or(ahead);
        let fitting = fitting_zone(ahead, now);
        let at_least = false;
        return ClockVerdict::Contradicts(Contradiction { ahead, at_least, configured, fitting });
    }
    let ahead = latest.ahead_msc().div_euclid(1000);
    if ahead <= configured + CLOCK_ERROR {
        return ClockVerdict::Silent;
    }
    // The tick may be old, so the clock may be ahead by more.
    let ahead = (ahead - CLOCK_ERROR).div_euclid(QUARTER) * QUARTER + QUARTER;
    ClockVerdict::Contradicts(Contradiction { ahead, at_least: true, configured, fitting: None })
}

/// The full quarter of an hour that an offset is near to. `None`: it is near to none, so a clock is wrong.
pub fn to_quarter(ahead: i64) -> Option<i64> {
    let quarter = (ahead + QUARTER / 2).div_euclid(QUARTER) * QUARTER;
    ((ahead - quarter).abs() <= CLOCK_ERROR).then_some(quarter)
}

/// The name of a zone for `server_time_zone` whose clock is ahead of UTC by so many seconds at a moment.
pub fn fitting_zone(ahead: i64, at: UtcTime) -> Option<String> {
    let fits = |name: &&str| {
        ServerClock::parse(name).is_ok_and(|clock| clock.show(at).seconds() - at.seconds() == ahead)
    };
    if fits(&USUAL) {
        return Some(USUAL.to_owned());
    }
    let hours = ahead / 3600;
    match (ahead, ahead % 3600) {
        (0, _) => Some("UTC".to_owned()),
        (_, 0) if hours.abs() <= 14 => Some(format!("UTC{hours:+}")),
        _ => ODD_ZONES.iter().copied().find(fits).map(str::to_owned),
    }
}

/// An offset as people write it: `UTC`, `UTC+3`, `UTC-3:30`, to the minute.
pub fn offset(ahead: i64) -> String {
    let minutes = ahead.abs() / 60;
    let sign = if ahead < 0 { '-' } else { '+' };
    match (minutes / 60, minutes % 60) {
        (0, 0) => "UTC".to_owned(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-15 12:00 UTC, in winter.
    const NOON: i64 = 1_700_049_600;

    /// Looks at these seconds after noon, at ticks so many seconds after noon, on a clock so many hours
    /// ahead.
    fn looks(hours: f64, seconds: &[(i64, i64)]) -> Vec<TickLook> {
        let ahead_msc = (hours * 3_600_000.0) as i64;
        let look = |(at, tick): &(i64, i64)| TickLook {
            tick_msc: (NOON + tick) * 1000 + ahead_msc,
            at_msc: (NOON + at) * 1000,
        };
        seconds.iter().map(look).collect()
    }

    const MOVING: &[(i64, i64)] = &[(0, 0), (1, 1), (2, 2)];
    const HOUR: i64 = 3600;

    #[test]
    fn a_tick_says_something_if_it_advances_twice_or_lies_in_the_future() {
        let contradicts = |hours: f64, at_least, configured: i64, fitting: Option<&str>| {
            ClockVerdict::Contradicts(Contradiction {
                ahead: (hours * 3600.0) as i64,
                at_least,
                configured: configured * HOUR,
                fitting: fitting.map(str::to_owned),
            })
        };
        let weekend = 40 * HOUR;
        let cases = [
            ("New_York+7", 2.0, MOVING, ClockVerdict::Fits),
            ("UTC+2", 2.0, MOVING, ClockVerdict::Fits),
            ("Europe/Athens", 0.0, MOVING, contradicts(0.0, false, 2, Some("UTC"))),
            ("UTC", 2.0, MOVING, contradicts(2.0, false, 0, Some("New_York+7"))),
            ("New_York+7", 3.0, MOVING, contradicts(3.0, false, 2, Some("UTC+3"))),
            ("New_York+7", -5.0, MOVING, contradicts(-5.0, false, 2, Some("UTC-5"))),
            ("UTC", 5.5, MOVING, contradicts(5.5, false, 0, Some("Asia/Kolkata"))),
            // No zone is ten minutes ahead: the clock of this machine is wrong.
            ("UTC", 0.125, MOVING, contradicts(0.125, false, 0, None)),
            // Ticks that are seconds late, and clocks that are a minute off.
            ("UTC+2", 2.0, &[(0, -9), (1, -7), (2, -5)], ClockVerdict::Fits),
            ("UTC+2", 2.01, MOVING, ClockVerdict::Fits),
            // An old tick says nothing, and the first that replaces it may be old as well.
            ("UTC+2", 2.0, &[(0, -weekend), (1, -weekend), (2, -weekend)], ClockVerdict::Silent),
            ("UTC+2", 2.0, &[(0, -weekend), (1, -30_000), (2, -30_000)], ClockVerdict::Silent),
            ("UTC+2", 2.0, &[(0, -weekend), (1, -60_000), (2, -30_000)], ClockVerdict::Silent),
            ("UTC+2", 2.0, &[(0, 0), (1, 1)], ClockVerdict::Silent),
            ("UTC+2", 2.0, &[(0, 0)], ClockVerdict::Silent),
            ("UTC+2", 2.0, &[], ClockVerdict::Silent),
            // Between looks that are far apart nobody knows when the tick came.
            ("UTC", 2.0, &[(0, -9000), (7200, -8000), (14_400, -7500)], ClockVerdict::Silent),
            // Ticks of another day that are replayed.
            ("UTC", -72.0, MOVING, ClockVerdict::Silent),
            // Nobody has ticks of the future.
            ("UTC", 3.0, &[(0, 0)], contradicts(3.0, true, 0, None)),
            ("UTC", 3.0, &[(0, -1200), (1, -1200)], contradicts(2.75, true, 0, None)),
            ("UTC", 0.03, &[(0, 0)], ClockVerdict::Silent),
        ];
        for (zone, hours, seconds, expected) in cases {
            let clock = ServerClock::parse(zone).unwrap();
            let verdict = judge(&clock, &looks(hours, seconds));
            assert_eq!(verdict, expected, "{zone} {hours} {seconds:?}");
        }
        assert_eq!(judge(&ServerClock::RAW, &looks(3.0, MOVING)), ClockVerdict::Silent);
        assert_eq!(seconds_ahead(&looks(3.0, MOVING)), Some(3 * HOUR));
    }

    #[test]
    fn a_zone_that_would_fit_is_one_that_the_settings_take() {
        let summer = UtcTime::from_seconds(NOON + 200 * 24 * HOUR);
        assert_eq!(fitting_zone(3 * HOUR, summer).as_deref(), Some("New_York+7"));
        assert_eq!(fitting_zone(2 * HOUR, summer).as_deref(), Some("UTC+2"));
        for ahead in (-14..=14).map(|hours| hours * HOUR) {
            let zone = fitting_zone(ahead, summer).unwrap();
            let clock = ServerClock::parse(&zone).unwrap();
            assert_eq!(
                clock.show(summer) - crate::mt5::ServerTime::from_seconds(summer.seconds()),
                ahead
            );
        }
    }

    #[test]
    fn offsets_are_written_as_people_do() {
        for (ahead, expected) in [
            (0, "UTC"),
            (3 * HOUR, "UTC+3"),
            (-5 * HOUR, "UTC-5"),
            (19_800, "UTC+5:30"),
            (-450, "UTC-0:07"),
        ] {
            assert_eq!(offset(ahead), expected);
        }
        let contradiction =
            Contradiction { ahead: 10_800, at_least: true, configured: 0, fitting: None };
        let expected = "the server's clock shows at least UTC+3, its configured zone UTC";
        assert_eq!(contradiction.to_string(), expected);
        let remedies = [
            (10_800, true, None, "the broker names"),
            (10_800, false, Some("UTC+3"), "set `server_time_zone = \"UTC+3\"`"),
            (450, false, None, "set this machine's clock"),
        ];
        for (ahead, at_least, fitting, expected) in remedies {
            let fitting = fitting.map(str::to_owned);
            let remedy = Contradiction { ahead, at_least, configured: 0, fitting }.remedy();
            assert!(remedy.contains(expected), "{remedy}");
        }
    }
}
