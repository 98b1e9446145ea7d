//! TOML, parsed so that no error repeats a part of the file: a password may stand where the fault
//! is.

use std::collections::BTreeSet;

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};

/// The documented settings: each one stands in this file as `name = …`.
const DOCUMENTED: &str = include_str!("../../../settings/default.toml");

/// Dotted keys with their values. An empty table is a value, too.
pub type Entries = Vec<(String, Value)>;

/// Reads a file's text.
///
/// # Errors
/// Every fault, with line, column and key.
pub fn parse(text: &str) -> Result<Entries, Vec<String>> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut faults: Vec<String> = vec![];
    let mut lines = BTreeSet::new();
    for error in errors {
        let position = TextPosition::of(text, error.span().map_or(0, |span| span.start));
        // Further errors on the same line are probably consequences of the first.
        if lines.insert(position.line) {
            faults.push(format!("{position}: {}", explain(&position, error.message())));
        }
    }
    let mut entries = vec![];
    if faults.is_empty() {
        flatten("", table.into_inner(), text, &mut entries, &mut faults);
    }
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
}

fn flatten(
    section: &str,
    table: DeTable<'_>,
    text: &str,
    entries: &mut Entries,
    faults: &mut Vec<String>,
) {
    // Symbols may contain dots. Other names must not, because a dot separates them.
    let takes_dots = section.ends_with(".bars");
    for (name, value) in table {
        let start = name.span().start;
        let name = name.into_inner();
        let is_name = !name.is_empty()
            && !name.contains(char::is_control)
            && (takes_dots || !name.contains('.'));
        if !is_name {
            let position = TextPosition::of(text, start);
            let why = "a name in quotes is empty or has a dot or a control character";
            faults.push(format!("{position}: {why}"));
            continue;
        }
        let key = if section.is_empty() { name.into_owned() } else { format!("{section}.{name}") };
        match value.into_inner() {
            DeValue::Table(table) if table.is_empty() => {
                entries.push((key, Value::new(None, config::Map::<String, Value>::new())));
            }
            DeValue::Table(table) => flatten(&key, table, text, entries, faults),
            value => entries.push((key, convert(value))),
        }
    }
}

fn convert(value: DeValue<'_>) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.into_owned()),
        // A number that does not fit becomes nothing, and the setting's own error says what is
        // expected.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(ValueKind::Nil, ValueKind::I64),
        DeValue::Float(number) => number.as_str().parse().map_or(ValueKind::Nil, ValueKind::Float),
        DeValue::Boolean(value) => ValueKind::Boolean(value),
        DeValue::Datetime(moment) => ValueKind::String(moment.to_string()),
        DeValue::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| convert(item.into_inner())).collect())
        }
        // A table in a list: no setting is a list of tables.
        DeValue::Table(_) => ValueKind::Nil,
    };
    Value::new(None, kind)
}

/// A position in a text, and what may be told about it.
struct TextPosition<'a> {
    line: usize,
    column: usize,
    /// The setting that the line assigns.
    key: Option<&'a str>,
    /// The text from there on.
    rest: &'a str,
}

impl<'a> TextPosition<'a> {
    fn of(text: &'a str, offset: usize) -> TextPosition<'a> {
        let offset = text.floor_char_boundary(offset);
        let (before, rest) = text.split_at(offset);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        TextPosition {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: setting_of(text[line_start..].lines().next().unwrap_or_default()),
            rest,
        }
    }
}

impl std::fmt::Display for TextPosition<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        match self.key {
            Some(key) => write!(f, ", `{key}`"),
            None => Ok(()),
        }
    }
}

/// The last name in `accounts.main.password = …`, if a setting has that name. Anything else there
/// may be a misplaced secret.
fn setting_of(line: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (path, _) = line.split_once('=')?;
    let name = path.trim().rsplit(['.', '{', '[', ' ']).next()?;
    let mut documented = DOCUMENTED.split(" =").map(|text| text.rsplit(|c| !is_name(c)).next());
    (!name.is_empty() && documented.any(|documented| documented == Some(name))).then_some(name)
}

/// Explains the parser's message in words of our own: its text may repeat a part of the file.
fn explain(position: &TextPosition<'_>, message: &str) -> &'static str {
    match position.rest.chars().next() {
        Some('“' | '”' | '„' | '‘' | '’' | '‚' | '«' | '»') => {
            return "a typographic quotation mark: write \" or '";
        }
        Some('\u{A0}' | '\u{202F}' | '\u{200B}' | '\u{FEFF}') => {
            return "an invisible character: write the line anew";
        }
        Some('\n' | '\r') | None if message.contains(MUST_BE_QUOTED) => {
            return "the value is missing";
        }
        _ => {}
    }
    let found = message.split(", expected ").next().unwrap_or_default();
    let explanation =
        EXPLANATIONS.iter().find(|(parts, _)| parts.iter().any(|part| found.contains(part)));
    explanation.map_or("this is not TOML", |(_, explanation)| explanation)
}

const MUST_BE_QUOTED: &str = "must be quoted";

/// Explanations of the parser's messages, found by parts of them.
const EXPLANATIONS: [(&[&str], &str); 13] = [
    (
        &["escape", "unicode"],
        "a backslash in double quotes begins an escape, and this one is none: write the text in \
         'single quotes'",
    ),
    (&["duplicate key"], "it is set a second time"),
    (&[MUST_BE_QUOTED], "a text must be in quotes"),
    (
        &["basic string"],
        "the closing double quote is missing, or there is a character that double quotes do not take",
    ),
    (
        &["literal string"],
        "the closing single quote is missing, or there is a character that single quotes do not take",
    ),
    (&["unclosed array", "unclosed table"], "the closing ] is missing"),
    (&["unclosed inline table"], "the closing } is missing"),
    (&["missing comma"], "a comma is missing, or a closing bracket"),
    (&["key with no value"], "expected NAME = value"),
    (&["missing value"], "the value is missing"),
    (
        &["unexpected key or value"],
        "there is more after the value: a text with a quote in it is written in the other kind of \
         quotes",
    ),
    (&["recursion"], "it is nested too deeply"),
    (
        &[
            "invalid value",
            "number",
            "boolean",
            "date-time",
            "float",
            "leading zero",
            "sign",
            "mantissa",
            "fraction",
            "exponent",
            "radix",
        ],
        "this is no number, no date and neither true nor false: a text must be in quotes",
    ),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The parts of a secret are told apart from everything that a message may say.
    const SECRETS: [&str; 3] = ["Zq7xWv", "Kj3yPt", "Rb9uNd"];

    fn file() -> String {
        let [a, b, c] = SECRETS;
        format!(
            "[accounts.main]\nlogin = 1\npassword = \"{a}{b}\"\nserver = '{a}{b}'\n\
             [accounts.main.terminal]\nconnect = {{ host = \"{b}{c}\", port = 1 }}\n\
             python = [\"{a}\", '{b}']\n[auth.keys.x]\nsha256 = '{c}'\n"
        )
    }

    #[test]
    fn faults_name_line_column_and_key_and_say_what_to_do() {
        let closing = "the closing double quote is missing";
        let cases = [
            ("x = 1\npassword = \"S3cret\n", "line 2, column 19, `password`: ", closing),
            ("password = 'S3cret\n", "line 1, column 19, `password`: ", "the closing single quote"),
            ("password = S3cret\n", "line 1, column 12, `password`: ", "a text must be in quotes"),
            ("password = \n", "line 1, column 12, `password`: ", "the value is missing"),
            ("password = 12S3cret\n", "line 1, column 14, `password`: ", "this is no number"),
            ("password = \"S3\"cret\"\n", "line 1, column 16, `password`: ", "there is more after"),
            ("password = \"S3\\cret\"\n", "line 1, column 16, `password`: ", "a backslash"),
            ("path = \"C:\\Users\"\n", "line 1, column 13, `path`: ", "a backslash"),
            ("path = \"C:\\5\"\n", "line 1, column 12, `path`: ", "a backslash"),
            ("password = \"\"\"S3cret\nx = 1\n", "line 3, column 1: ", closing),
            ("password = “S3cret”\n", "line 1, column 12, `password`: ", "a typographic"),
            ("password S3cret\n", "line 1, column 10: ", "expected NAME = value"),
            ("S3cret\n", "line 1, column 7: ", "expected NAME = value"),
            ("a = 1\na = 2\n", "line 2, column 1: ", "it is set a second time"),
            ("a.password = 1\na.password = 2\n", "line 2, column 3, `password`: ", "it is set"),
            ("[server\n", "line 1, column 8: ", "the closing ] is missing"),
            ("disks = ['a' 'b']\n", "line 1, column 14, `disks`: ", "a comma is missing"),
            ("[accounts.\"a.b\"]\nx = 1\n", "line 1, column 11: ", "a name in quotes"),
            ("[\"\"]\nx = 1\n", "line 1, column 2: ", "a name in quotes"),
            ("\u{A0}x = 1\n", "line 1, column 1: ", "an invisible character"),
        ];
        for (text, position, explanation) in cases {
            let faults = parse(text).unwrap_err();
            let expected = format!("{position}{explanation}");
            assert!(faults.len() == 1 && faults[0].starts_with(&expected), "{text:?}: {faults:?}");
            assert!(!faults[0].contains("S3") && !faults[0].contains("cret"), "{faults:?}");
        }
    }

    #[test]
    fn every_faulty_line_is_reported_once_in_order() {
        let faults = parse("a = \nb = 1\nc = \"x\nd = 2 3 4 5\n").unwrap_err();
        let lines: Vec<&str> = faults.iter().map(|fault| &fault[..6]).collect();
        assert_eq!(lines, ["line 1", "line 3", "line 4"]);
    }

    #[test]
    fn values_become_dotted_keys() {
        let text = "a.b = 1\n[c]\nd = [1, 'x']\ne = 2027-01-31\n[c.f]\n[accounts.x.terminal.bars]\n\
                    \"EURUSD.m\" = 'bars.csv'\n[n]\nbig = 99999999999999999999\nhex = 0x10\n";
        let entries = parse(text).unwrap();
        let read: std::collections::BTreeMap<String, String> =
            entries.into_iter().map(|(key, value)| (key, format!("{:?}", value.kind))).collect();
        let kind = |key: &str| read[key].as_str();
        assert_eq!(kind("a.b"), "I64(1)");
        assert!(kind("c.d").starts_with("Array(["));
        assert_eq!(kind("c.e"), "String(\"2027-01-31\")");
        assert_eq!(kind("c.f"), "Table({})");
        assert_eq!(kind("accounts.x.terminal.bars.EURUSD.m"), "String(\"bars.csv\")");
        assert_eq!(kind("n.big"), "Nil");
        assert_eq!(kind("n.hex"), "I64(16)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_fault_repeats_a_part_of_a_secret(
            at in any::<prop::sample::Index>(),
            length in 0_usize..20,
            insert in r#"["'=\n\\\[\]{}.,# a1“]{0,3}"#,
        ) {
            let text = file();
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            let text = format!("{}{insert}{}", &text[..start], &text[end..]);
            for fault in parse(&text).err().unwrap_or_default() {
                for secret in SECRETS {
                    prop_assert!(!fault.contains(&secret[1..5]), "{}\n{}", text, fault);
                }
            }
        }
    }
}
