//! Query parameters: each is taken once, by name, and what is left is an error.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::request::shorten;
use crate::mt5::{CopyTicks, Timeframe};

/// The first second that MT5 can name, 1970-01-01.
const FIRST: i64 = 0;

/// The last second that MT5 can name, 3000-12-31 23:59:59.
const LAST: i64 = 32_535_215_999;

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
                let (expected, text) = (T::EXPECTED, shorten(&text));
                Err(Problem::invalid(format!(
                    "parameter `{name}`: expected {expected}, got {text:?}"
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

/// A moment, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Parameter for Moment {
    const EXPECTED: &'static str = "a time from 1970 to 3000 in whole seconds: unix seconds, \
        YYYY-MM-DD, RFC 3339, YYYY_MM_DD or YYYY_MM_DD_HH_MM_SS";

    fn parse(text: &str) -> Option<Self> {
        let utc = |datetime: jiff::civil::DateTime| {
            jiff::tz::TimeZone::UTC.to_timestamp(datetime).ok().map(jiff::Timestamp::as_second)
        };
        let seconds = if let Ok(seconds) = text.parse::<i64>() {
            seconds
        } else if text.contains('_') {
            let format = if text.len() > 10 { "%Y_%m_%d_%H_%M_%S" } else { "%Y_%m_%d" };
            match jiff::civil::DateTime::strptime(format, text) {
                Ok(datetime) => utc(datetime)?,
                Err(_) => utc(jiff::civil::Date::strptime(format, text).ok()?.at(0, 0, 0, 0))?,
            }
        } else if text.len() == 10 {
            utc(text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0))?
        } else {
            let timestamp: jiff::Timestamp = text.parse().ok()?;
            (timestamp.subsec_nanosecond() == 0).then(|| timestamp.as_second())?
        };
        (FIRST..=LAST).contains(&seconds).then_some(Moment(seconds))
    }
}

/// The rules for `count`, `from` and `to`, which bars and ticks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// So many from a moment on.
    Forward(i64, u32),
    /// So many that end at a moment, or the last.
    Backward(Option<i64>, u32),
    /// All from one moment to another.
    Range(i64, i64),
}

impl Stretch {
    /// Takes `count`, `from` and `to`.
    ///
    /// # Errors
    /// 400 if they cannot be read or do not go together.
    pub fn take(parameters: &mut Parameters) -> Result<Stretch, Problem> {
        let count = parameters.optional::<Count>("count")?.map(|Count(count)| count);
        let from = parameters.optional::<Moment>("from")?.map(|Moment(from)| from);
        let to = parameters.optional::<Moment>("to")?.map(|Moment(to)| to);
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
            (None, Some(from), Some(to)) if from > to => {
                Err(Problem::invalid(format!("parameter `from` ({from}) is after `to` ({to})")))
            }
            (None, Some(from), Some(to)) => Ok(Stretch::Range(from, to)),
            (Some(count), Some(from), None) if count > 0 => Ok(Stretch::Forward(from, rows(count))),
            (Some(count), from, None) => Ok(Stretch::Backward(from, rows(count))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_moment_has_five_spellings() {
        for text in [
            "1492592400",
            "2017-04-19T09:00:00Z",
            "2017-04-19T11:00:00+02:00",
            "2017_04_19_09_00_00",
        ] {
            assert_eq!(Moment::parse(text), Some(Moment(1_492_592_400)), "{text}");
        }
        for text in ["2017-04-19", "2017_04_19"] {
            assert_eq!(Moment::parse(text), Some(Moment(1_492_560_000)), "{text}");
        }
        for text in [
            "1969-12-31",
            "9999-01-01",
            "-1",
            "1e9",
            "2017-02-30",
            "2017-04-19T09:00:00.5Z",
            "",
            "_",
            "now",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "\\PC{0,24}") {
            let _ = Moment::parse(&text);
            let _ = Count::parse(&text);
            let _ = Timeframe::parse(&text);
            let _ = Parameters::parse(&text).map(|mut parameters| Stretch::take(&mut parameters));
        }

        #[test]
        fn every_second_is_read_back(seconds in FIRST..=LAST) {
            let timestamp = jiff::Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(Moment::parse(&timestamp.to_string()), Some(Moment(seconds)));
            prop_assert_eq!(Moment::parse(&seconds.to_string()), Some(Moment(seconds)));
        }
    }
}
