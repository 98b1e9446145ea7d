//! Moments that clients write, and the instants that they mean.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::query::Parameter;
use crate::api::context::shorten;
use crate::mt5::{ServerTime, UtcTime};
use crate::pool::Account;

/// The first second that MT5 can represent, 1970-01-01.
pub const FIRST: i64 = 0;

/// The last second that MT5 can represent, 3000-12-31 23:59:59.
pub const LAST: i64 = 32_535_215_999;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A moment as a client wrote it. The instant at which a day begins depends on the server's clock:
/// see [`Moment::resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Unix milliseconds: UTC if the zone of the server's clock is known, else that clock as it is.
    Instant(i64),
    /// A date without a time: that midnight on the server's clock, unix seconds.
    Day(i64),
    /// The day that the server's clock shows now.
    Today,
}

/// A moment on the clock of an account's times, in unix milliseconds. Displayed as unix seconds,
/// with a fraction if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedMoment(i64);

/// The spellings of a date; `0` stands for a digit.
const DATES: [&str; 3] = ["0000-00-00", "0000.00.00", "0000_00_00"];

/// The spellings of a time without a zone beside RFC 3339. MT5's own has dots.
const TIMES: [&str; 3] = ["0000.00.00 00:00", "0000.00.00 00:00:00", "0000_00_00_00_00_00"];

impl Moment {
    /// The instant that is meant. A day begins at midnight on the clock of the account's server. If
    /// the zone of that clock is not known, all times are on that clock, so midnight stays as it
    /// is.
    pub fn resolve(self, account: &Account) -> ResolvedMoment {
        self.resolve_with(
            || account.server_now().seconds(),
            |seconds| account.server_to_utc(ServerTime::from_seconds(seconds)).seconds(),
        )
    }

    pub(super) fn resolve_with(
        self,
        server_now: impl FnOnce() -> i64,
        server_to_utc: impl FnOnce(i64) -> i64,
    ) -> ResolvedMoment {
        let midnight = match self {
            Moment::Instant(milliseconds) => return ResolvedMoment(milliseconds),
            Moment::Day(midnight) => midnight,
            Moment::Today => server_now().div_euclid(DAY) * DAY,
        };
        ResolvedMoment(server_to_utc(midnight) * 1000)
    }
}

impl ResolvedMoment {
    /// A moment in unix milliseconds, for tests of other modules.
    #[cfg(test)]
    pub const fn from_milliseconds(milliseconds: i64) -> ResolvedMoment {
        ResolvedMoment(milliseconds)
    }

    /// Unix milliseconds.
    pub fn milliseconds(self) -> i64 {
        self.0
    }

    /// The last whole unix second that is not later.
    pub fn floor_seconds(self) -> UtcTime {
        UtcTime::from_seconds(self.0.div_euclid(1000))
    }

    /// The first whole unix second that is not earlier.
    pub fn ceil_seconds(self) -> UtcTime {
        UtcTime::from_seconds((self.0 + 999).div_euclid(1000))
    }

    pub fn has_fraction(self) -> bool {
        self.0.rem_euclid(1000) != 0
    }
}

impl fmt::Display for ResolvedMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.floor_seconds().seconds())?;
        if self.has_fraction() {
            write!(f, ".{:03}", self.0.rem_euclid(1000))?;
        }
        Ok(())
    }
}

impl Parameter for Moment {
    const EXPECTED: &'static str = "a time from 1970 to 3000: unix seconds, `today`, a date \
        (YYYY-MM-DD, YYYY.MM.DD or YYYY_MM_DD), RFC 3339 (2025-01-02T15:04:05.678Z), \
        YYYY.MM.DD HH:MM[:SS] or YYYY_MM_DD_HH_MM_SS";

    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("today") {
            return Some(Moment::Today);
        }
        if date_of_digits(text).is_some() {
            // As unix seconds it would be a day in 1970, which nobody means.
            return None;
        }
        if let Some(date) = DATES.iter().find_map(|shape| civil(text, shape)) {
            return in_range(milliseconds_of(date)?).map(|midnight| Moment::Day(midnight / 1000));
        }
        let milliseconds = if let Ok(seconds) = text.parse::<i64>() {
            seconds.checked_mul(1000)?
        } else if let Some(time) = TIMES.iter().find_map(|shape| civil(text, shape)) {
            milliseconds_of(time)?
        } else {
            // Digits beyond the millisecond are cut off.
            rfc_3339(text).filter(|time| *time >= Timestamp::UNIX_EPOCH)?.as_millisecond()
        };
        in_range(milliseconds).map(Moment::Instant)
    }

    fn hint(text: &str) -> Option<String> {
        if let Some(date) = date_of_digits(text) {
            let seconds = milliseconds_of(date.at(0, 0, 0, 0))? / 1000;
            return Some(format!(
                "as unix seconds {text} is in 1970: for the date write {date}, or its unix \
                 seconds, {seconds}"
            ));
        }
        if let Some(number) = text.parse::<i64>().ok().filter(|number| *number > LAST) {
            let time = Timestamp::from_millisecond(in_range(number)?).ok()?;
            return Some(format!("if these are milliseconds, write {time}"));
        }
        let lacks_zone =
            text.contains(':') && rfc_3339(text).is_none() && text.parse::<DateTime>().is_ok();
        lacks_zone.then(|| format!("a time in RFC 3339 needs its zone: {}Z is UTC", shorten(text)))
    }
}

/// The unix milliseconds, if MT5 can represent their second.
fn in_range(milliseconds: i64) -> Option<i64> {
    (FIRST * 1000..=LAST * 1000).contains(&milliseconds).then_some(milliseconds)
}

/// Unix milliseconds of a time without a zone, read as UTC.
fn milliseconds_of(datetime: DateTime) -> Option<i64> {
    TimeZone::UTC.to_timestamp(datetime).ok().map(Timestamp::as_millisecond)
}

/// Parses a text of this shape, in which `0` stands for a digit and anything else for itself. Hour,
/// minute and second are 0 if the shape lacks them.
fn civil(text: &str, shape: &str) -> Option<DateTime> {
    let fits = |(byte, expected): (u8, u8)| match expected {
        b'0' => byte.is_ascii_digit(),
        _ => byte == expected,
    };
    if text.len() != shape.len() || !text.bytes().zip(shape.bytes()).all(fits) {
        return None;
    }
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<i16>);
    let year = numbers.next()?.ok()?;
    let mut next = || numbers.next()?.ok().and_then(|number| i8::try_from(number).ok());
    let (month, day) = (next()?, next()?);
    let (hour, minute, second) = (next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0));
    DateTime::new(year, month, day, hour, minute, second, 0).ok()
}

/// The date that eight digits can be read as, such as 2025-01-02 for `20250102`.
fn date_of_digits(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let written = format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]);
    let date = civil(&written, DATES[0])?.date();
    (1900..=3000).contains(&date.year()).then_some(date)
}

/// Parses a time in RFC 3339. If a client did not encode its query, the `+` of an offset arrives as
/// a space, which means nothing else there.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    if text.contains(['T', 't']) { text.replace(' ', "+").parse().ok() } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mt5::ServerClock;

    /// 2017-04-19 09:00, and that midnight, unix seconds.
    const NINE: i64 = 1_492_592_400;
    const MIDNIGHT: i64 = 1_492_560_000;

    #[test]
    fn parse_reads_every_spelling() {
        let cases = [
            ("1492592400", Moment::Instant(NINE * 1000)),
            ("0", Moment::Instant(0)),
            ("2017-04-19T09:00:00Z", Moment::Instant(NINE * 1000)),
            ("2017-04-19T11:00:00+02:00", Moment::Instant(NINE * 1000)),
            ("2017-04-19T11:00:00 02:00", Moment::Instant(NINE * 1000)),
            ("2017-04-19T09:00:00.5Z", Moment::Instant(NINE * 1000 + 500)),
            ("2017-04-19T09:00:00.123Z", Moment::Instant(NINE * 1000 + 123)),
            ("2017-04-19T09:00:00.123456+00:00", Moment::Instant(NINE * 1000 + 123)),
            ("2017-04-19T09:00:00.123456 00:00", Moment::Instant(NINE * 1000 + 123)),
            ("2017.04.19 09:00", Moment::Instant(NINE * 1000)),
            ("2017.04.19 09:00:00", Moment::Instant(NINE * 1000)),
            ("2017_04_19_09_00_00", Moment::Instant(NINE * 1000)),
            ("3000-12-31T23:59:59Z", Moment::Instant(LAST * 1000)),
            ("2017-04-19", Moment::Day(MIDNIGHT)),
            ("2017.04.19", Moment::Day(MIDNIGHT)),
            ("2017_04_19", Moment::Day(MIDNIGHT)),
            ("today", Moment::Today),
            ("Today", Moment::Today),
        ];
        for (text, expected) in cases {
            assert_eq!(Moment::parse(text), Some(expected), "{text}");
        }
        for text in [
            "1969-12-31",
            "1969-12-31T23:59:59.9999Z",
            "9999-01-01",
            "3000-12-31T23:59:59.001Z",
            "-1",
            "1e9",
            "1.5",
            "2017-02-30",
            "2017.02.30",
            "2017-4-19",
            "2017.04.19T09:00",
            "2017.04.19 24:00",
            "2017-04-19T09:00:00",
            "20170419",
            "1492592400000",
            "9223372036854775807",
            "",
            "_",
            "now",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hint_tells_what_to_write_instead() {
        let cases = [
            ("20250102", Some("write 2025-01-02, or its unix seconds, 1735776000")),
            ("19991231", Some("write 1999-12-31, or its unix seconds, 946598400")),
            // Not a date, and fine as unix seconds.
            ("20251302", None),
            ("99999999", None),
            ("1492592400123", Some("write 2017-04-19T09:00:00.123Z")),
            ("2017-04-19T09:00:00", Some("2017-04-19T09:00:00Z is UTC")),
            ("9999-01-01T00:00:00Z", None),
            ("now", None),
        ];
        for (text, expected) in cases {
            let hint = Moment::hint(text);
            match expected {
                Some(expected) => assert!(
                    hint.as_ref().is_some_and(|hint| hint.contains(expected)),
                    "{text}: {hint:?}"
                ),
                None => assert!(hint.is_none(), "{text}: {hint:?}"),
            }
        }
        assert_eq!(Moment::parse("20251302"), Some(Moment::Instant(20_251_302_000)));
    }

    #[test]
    fn a_day_begins_when_the_servers_clock_shows_midnight() {
        // Ahead of UTC, behind it, at it.
        let cases =
            [("Europe/Athens", -3), ("New_York+7", -3), ("America/New_York", 4), ("UTC", 0)];
        for (zone, hours) in cases {
            let clock = ServerClock::parse(zone).unwrap();
            let resolve = |moment: Moment| {
                let to_utc = |seconds| clock.to_utc().map_or(seconds, |mut to_utc| to_utc(seconds));
                moment.resolve_with(|| NINE, to_utc).milliseconds()
            };
            let expected = (MIDNIGHT + hours * 3600) * 1000;
            assert_eq!(resolve(Moment::Day(MIDNIGHT)), expected, "{zone}");
            assert_eq!(resolve(Moment::Today), expected, "{zone}");
            assert_eq!(resolve(Moment::Instant(1_001)), 1_001, "{zone}");
            // An order that ends on that day ends on it for the server.
            let from_utc = clock.from_utc().unwrap();
            assert_eq!(from_utc(expected / 1000), MIDNIGHT, "{zone}");
        }
        assert_eq!(raw(Moment::Day(MIDNIGHT)), ResolvedMoment(MIDNIGHT * 1000));
    }

    /// Resolves where the zone of the server's clock is not known.
    fn raw(moment: Moment) -> ResolvedMoment {
        moment.resolve_with(|| NINE, |seconds| seconds)
    }

    #[test]
    fn a_fraction_of_a_second_is_rounded_inwards_and_shown() {
        let cases = [
            (NINE * 1000, NINE, NINE, "1492592400"),
            (NINE * 1000 + 1, NINE, NINE + 1, "1492592400.001"),
            (NINE * 1000 + 999, NINE, NINE + 1, "1492592400.999"),
        ];
        for (milliseconds, floor, ceil, shown) in cases {
            let moment = raw(Moment::Instant(milliseconds));
            let seconds = (moment.floor_seconds().seconds(), moment.ceil_seconds().seconds());
            assert_eq!(seconds, (floor, ceil), "{shown}");
            assert_eq!(moment.to_string(), shown);
            assert_eq!(moment.has_fraction(), floor != ceil, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
            let _ = Moment::parse(&text);
            let _ = Moment::hint(&text);
        }

        #[test]
        fn every_moment_is_read_back(milliseconds in FIRST * 1000..=LAST * 1000) {
            let timestamp = Timestamp::from_millisecond(milliseconds).unwrap();
            let expected = Some(Moment::Instant(milliseconds));
            prop_assert_eq!(Moment::parse(&timestamp.to_string()), expected);
            let seconds = (milliseconds / 1000).to_string();
            prop_assume!(date_of_digits(&seconds).is_none());
            let expected = Some(Moment::Instant(milliseconds / 1000 * 1000));
            prop_assert_eq!(Moment::parse(&seconds), expected);
        }
    }
}
