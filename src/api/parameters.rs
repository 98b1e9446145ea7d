//! Query parameters: each is taken once, by name, and what is left is an error.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::context::shorten;
use super::problem::Problem;
use crate::mt5::{CopyTicks, Timeframe};
use crate::pool::Account;

/// The first second that MT5 can name, 1970-01-01.
pub const FIRST: i64 = 0;

/// The last second that MT5 can name, 3000-12-31 23:59:59.
pub const LAST: i64 = 32_535_215_999;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The parameters of a query.
#[derive(Debug)]
pub struct Parameters {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

/// What a parameter's text can be read as.
pub trait Parameter: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Reads the text.
    fn parse(text: &str) -> Option<Self>;
    /// What to write instead of a text that cannot be read, where that can be told.
    fn hint(_text: &str) -> Option<String> {
        None
    }
}

impl Parameters {
    /// Reads a query string.
    ///
    /// # Errors
    /// 400 if a parameter is repeated.
    pub fn parse(query: &str) -> Result<Parameters, Problem> {
        let mut given = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = name.into_owned();
            if given.contains_key(&name) {
                let name = shorten(&name);
                return Err(Problem::invalid(format!(
                    "parameter `{name}` is given more than once"
                )));
            }
            given.insert(name, value.into_owned());
        }
        Ok(Parameters { given, known: vec![] })
    }

    /// Takes a parameter.
    ///
    /// # Errors
    /// 400 if it cannot be read.
    pub fn optional<T: Parameter>(&mut self, name: &'static str) -> Result<Option<T>, Problem> {
        self.known.push(name);
        let Some(text) = self.given.remove(name) else {
            return Ok(None);
        };
        match T::parse(&text) {
            Some(value) => Ok(Some(value)),
            None => {
                let hint = T::hint(&text).map_or_else(String::new, |hint| format!("; {hint}"));
                let (expected, text) = (T::EXPECTED, shorten(&text));
                Err(Problem::invalid(format!(
                    "parameter `{name}`: expected {expected}, got {text:?}{hint}"
                )))
            }
        }
    }

    /// Takes a parameter that must be there.
    ///
    /// # Errors
    /// 400 if it is missing or cannot be read.
    pub fn required<T: Parameter>(&mut self, name: &'static str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| {
            Problem::invalid(format!("parameter `{name}` is missing: expected {}", T::EXPECTED))
        })
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// 400 if a parameter was not taken.
    pub fn finish(self) -> Result<(), Problem> {
        let Some(name) = self.given.keys().next() else {
            return Ok(());
        };
        let known = match self.known.as_slice() {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        let name = shorten(name);
        Err(Problem::invalid(format!("parameter `{name}` is unknown; this route takes {known}")))
    }
}

impl Parameter for String {
    const EXPECTED: &'static str = "a text without control characters";

    fn parse(text: &str) -> Option<Self> {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

impl Parameter for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Option<Self> {
        // Rust also reads "nan" and "inf", which no terminal should see.
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

/// How many rows are asked for: forward, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub i64);

impl Count {
    /// Rows that one request may ask for.
    pub const LIMIT: i64 = 100_000;
}

impl Parameter for Count {
    const EXPECTED: &'static str = "a whole number from -100000 to 100000, not 0";

    fn parse(text: &str) -> Option<Self> {
        let count: i64 = text.parse().ok()?;
        (count != 0 && count.abs() <= Count::LIMIT).then_some(Count(count))
    }
}

impl Parameter for Timeframe {
    const EXPECTED: &'static str = "a timeframe: M1, M2, M3, M4, M5, M6, M10, M12, M15, M20, M30, \
        H1, H2, H3, H4, H6, H8, H12, D1, W1, MN1, or MT5's integer";

    fn parse(text: &str) -> Option<Self> {
        Timeframe::parse(text)
    }
}

impl Parameter for CopyTicks {
    const EXPECTED: &'static str = "ALL, INFO, TRADE, or MT5's integer";

    fn parse(text: &str) -> Option<Self> {
        CopyTicks::parse(text)
    }
}

/// A moment as a client wrote it. Which instant a day begins at depends on the server that
/// counts it: see [`Moment::resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Unix milliseconds: UTC where the zone of the server's clock is known, else the server's
    /// clock as it is.
    Instant(i64),
    /// A date without a time: that midnight on the server's clock, unix seconds.
    Day(i64),
    /// The day that the server's clock shows now.
    Today,
}

/// A moment on the clock that an account's times are told in, as unix milliseconds. Shown as unix
/// seconds, with a fraction if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedMoment(i64);

/// The spellings of a date; `0` stands for a digit.
const DATES: [&str; 3] = ["0000-00-00", "0000.00.00", "0000_00_00"];

/// The spellings of a time without a zone beside RFC 3339. MT5's own has dots.
const TIMES: [&str; 3] = ["0000.00.00 00:00", "0000.00.00 00:00:00", "0000_00_00_00_00_00"];

impl Moment {
    /// The instant that is meant. A day begins at midnight on the clock of the account's server;
    /// where the zone of that clock is not known, times are told on it, so midnight is itself.
    pub fn resolve(self, account: &Account) -> ResolvedMoment {
        self.resolve_with(|| account.server_now(), |seconds| account.server_to_utc(seconds))
    }

    fn resolve_with(
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
    /// The moment of so many unix milliseconds, for tests of other modules.
    #[cfg(test)]
    pub const fn from_milliseconds(milliseconds: i64) -> ResolvedMoment {
        ResolvedMoment(milliseconds)
    }

    /// Unix milliseconds.
    pub fn milliseconds(self) -> i64 {
        self.0
    }

    /// The last whole unix second that is not later.
    pub fn floor_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The first whole unix second that is not earlier.
    pub fn ceil_seconds(self) -> i64 {
        (self.0 + 999).div_euclid(1000)
    }

    /// Whether it lies between two whole seconds.
    pub fn has_fraction(self) -> bool {
        self.0.rem_euclid(1000) != 0
    }
}

impl fmt::Display for ResolvedMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.floor_seconds())?;
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
            // As unix seconds it would be a day of 1970, which nobody means.
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
            // What is finer than a millisecond is cut off.
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

/// The unix milliseconds, if MT5 can name their second.
fn in_range(milliseconds: i64) -> Option<i64> {
    (FIRST * 1000..=LAST * 1000).contains(&milliseconds).then_some(milliseconds)
}

/// Unix milliseconds of a time without a zone, read as UTC.
fn milliseconds_of(datetime: DateTime) -> Option<i64> {
    TimeZone::UTC.to_timestamp(datetime).ok().map(Timestamp::as_millisecond)
}

/// Reads the year, month, day, and what there is of hour, minute and second, from a text of this
/// shape: a `0` stands for a digit, anything else for itself.
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

/// Reads a time in RFC 3339. A query that was not encoded turns the `+` of an offset into a
/// space, which cannot stand there otherwise.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    if text.contains(['T', 't']) { text.replace(' ', "+").parse().ok() } else { text.parse().ok() }
}

/// The rules for `count`, `from` and `to`, which bars and ticks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistorySpan {
    /// So many from a moment on.
    Forward(ResolvedMoment, u32),
    /// So many that end at a moment, or the last.
    Backward(Option<ResolvedMoment>, u32),
    /// All from one moment to another, both included.
    Range(ResolvedMoment, ResolvedMoment),
}

impl HistorySpan {
    /// Takes `count`, `from` and `to`.
    ///
    /// # Errors
    /// 400 if they cannot be read or do not go together.
    pub fn take(parameters: &mut Parameters, account: &Account) -> Result<HistorySpan, Problem> {
        HistorySpan::take_with(parameters, |moment| moment.resolve(account))
    }

    fn take_with(
        parameters: &mut Parameters,
        resolve: impl Fn(Moment) -> ResolvedMoment,
    ) -> Result<HistorySpan, Problem> {
        let count = parameters.optional::<Count>("count")?.map(|Count(count)| count);
        let from = parameters.optional::<Moment>("from")?.map(&resolve);
        let to = parameters.optional::<Moment>("to")?.map(&resolve);
        let rows = |count: i64| u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
        match (count, from, to) {
            (Some(_), _, Some(_)) => Err(Problem::invalid(
                "parameters `count` and `to` exclude each other: give `from` and `to`, or `count`",
            )),
            (None, None, Some(_)) => {
                Err(Problem::invalid("parameter `to` needs `from`: together they are a range"))
            }
            (None, Some(_), None) => {
                Err(Problem::invalid("parameter `from` needs `to` for a range, or `count`"))
            }
            (None, None, None) => {
                Err(Problem::invalid("parameter `count` is missing; or give `from` and `to`"))
            }
            (None, Some(from), Some(to)) if from > to => Err(reversed(from, to)),
            (None, Some(from), Some(to)) => Ok(HistorySpan::Range(from, to)),
            (Some(count), Some(from), None) if count > 0 => {
                Ok(HistorySpan::Forward(from, rows(count)))
            }
            (Some(count), from, None) => Ok(HistorySpan::Backward(from, rows(count))),
        }
    }
}

/// The problem of a range that ends before it begins.
pub fn reversed(from: ResolvedMoment, to: ResolvedMoment) -> Problem {
    Problem::invalid(format!("parameter `from` ({from}) is after `to` ({to})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::ServerClock;
    use proptest::prelude::*;

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
            assert_eq!((moment.floor_seconds(), moment.ceil_seconds()), (floor, ceil), "{shown}");
            assert_eq!(moment.to_string(), shown);
            assert_eq!(moment.has_fraction(), floor != ceil, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "\\PC{0,24}") {
            let _ = Moment::parse(&text);
            let _ = Moment::hint(&text);
            let _ = Count::parse(&text);
            let _ = Timeframe::parse(&text);
            let _ = Parameters::parse(&text)
                .map(|mut parameters| HistorySpan::take_with(&mut parameters, raw));
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
