//! Query parameters: each is taken once, by name, and what is left is an error.
//!
//! A misspelt parameter is refused rather than ignored, and the error lists the ones that the route
//! takes.

use std::collections::BTreeMap;

use crate::api::context::shorten;
use crate::api::problem::Problem;
use crate::mt5::{CopyTicks, Lots, Ticket, Timeframe};

/// The parameters of a query.
#[derive(Debug)]
pub struct Parameters {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

/// A type that a parameter's text is parsed as.
pub trait Parameter: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Parses the text.
    fn parse(text: &str) -> Option<Self>;
    /// What to write instead of a text that cannot be parsed, if that can be told.
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
    /// 400 if it cannot be parsed.
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
    /// 400 if it is missing or cannot be parsed.
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

impl Parameter for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for Ticket {
    const EXPECTED: &'static str = <u64 as Parameter>::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        u64::parse(text).map(Ticket::new)
    }
}

impl Parameter for Lots {
    const EXPECTED: &'static str = <f64 as Parameter>::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        f64::parse(text).map(Lots::new)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
            let _ = Count::parse(&text);
            let _ = Timeframe::parse(&text);
            let _ = Parameters::parse(&text);
        }
    }
}
