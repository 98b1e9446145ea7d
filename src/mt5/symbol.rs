//! Names of symbols.

use crate::text::text_type;

text_type! {
    /// The name of a symbol, such as `EURUSD`. Cheap to clone. What a terminal's record calls a symbol is
    /// known, what a client does is parsed.
    SymbolName
}

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
