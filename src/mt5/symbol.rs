//! Names of symbols.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The name of a symbol, such as `EURUSD`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolName(Arc<str>);

impl SymbolName {
    /// The longest name that is looked up, in bytes; MT5's are shorter.
    const LONGEST: usize = 64;

    /// Reads a client's text. `None`: no symbol can be called so. Quotes, backslashes and braces
    /// would be read as code by packages that send calls as text.
    pub fn parse(text: &str) -> Option<SymbolName> {
        let plain = |c: char| !c.is_control() && !matches!(c, '"' | '\'' | '\\' | '{' | '}');
        let fits = text.len() <= SymbolName::LONGEST && text.chars().all(plain);
        fits.then(|| SymbolName(text.into()))
    }

    /// A name that was read before: from a terminal's record, or by [`SymbolName::parse`].
    pub fn known(name: &str) -> SymbolName {
        SymbolName(name.into())
    }
}

impl Deref for SymbolName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SymbolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SymbolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::SymbolName;

    #[test]
    fn what_could_be_read_as_code_is_no_name() {
        for name in ["EURUSD", "EURUSD.m", "#AAPL", "Nasdaq 100", "RTS-12.26", "München", ""] {
            assert_eq!(SymbolName::parse(name).as_deref(), Some(name), "{name}");
        }
        for name in ["a\"b", "a'b", "a\\b", "{a}", "a\nb", &"A".repeat(65)] {
            assert_eq!(SymbolName::parse(name), None, "{name}");
        }
    }
}
