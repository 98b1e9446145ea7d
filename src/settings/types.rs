//! The types of settings: how each is parsed, shown and explained.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use config::{Value, ValueKind};
use ipnet::IpNet;

const SECONDS_PER_DAY: u64 = 86_400;

/// The type of a setting.
pub trait Setting: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Parses a value from a file, or a text from the environment.
    fn read(value: &Value) -> Option<Self>;
    /// Formats it as a file would write it.
    fn show(&self) -> String;
    /// Explains what is wrong with a value that cannot be parsed. The explanation never repeats the
    /// value, which may be a misplaced secret.
    fn explain(_value: &Value) -> String {
        format!("expected {}", Self::EXPECTED)
    }
}

/// Whether a text has characters that nobody means, such as the line feed in `"C:\new"`.
pub fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

/// Whether a text has invisible characters that only direct how it is shown (Unicode's category Cf), such
/// as a zero-width space. Two texts that look alike may differ in them.
pub fn has_format(text: &str) -> bool {
    text.contains(|c| FORMAT.iter().any(|range| range.contains(&c)))
}

/// Unicode's category Cf.
const FORMAT: [RangeInclusive<char>; 21] = [
    '\u{AD}'..='\u{AD}',
    '\u{600}'..='\u{605}',
    '\u{61C}'..='\u{61C}',
    '\u{6DD}'..='\u{6DD}',
    '\u{70F}'..='\u{70F}',
    '\u{890}'..='\u{891}',
    '\u{8E2}'..='\u{8E2}',
    '\u{180E}'..='\u{180E}',
    '\u{200B}'..='\u{200F}',
    '\u{202A}'..='\u{202E}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206F}',
    '\u{FEFF}'..='\u{FEFF}',
    '\u{FFF9}'..='\u{FFFB}',
    '\u{110BD}'..='\u{110BD}',
    '\u{110CD}'..='\u{110CD}',
    '\u{13430}'..='\u{1343F}',
    '\u{1BCA0}'..='\u{1BCA3}',
    '\u{1D173}'..='\u{1D17A}',
    '\u{E0001}'..='\u{E0001}',
    '\u{E0020}'..='\u{E007F}',
];

/// The fault of a text that has a control character.
const HAS_CONTROL: &str = "has a control character: in double quotes a backslash begins an \
                               escape (`\\n`, `\\t`), so write it in 'single quotes'";

fn explain_text(value: &Value, expected: &str) -> String {
    match &value.kind {
        ValueKind::String(text) if has_control(text) => HAS_CONTROL.to_owned(),
        _ => format!("expected {expected}"),
    }
}

/// A text without the blanks around it.
pub fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text.trim()),
        _ => None,
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn read(value: &Value) -> Option<Self> {
        // Not trimmed, because a password may begin or end with a space.
        match &value.kind {
            ValueKind::String(text) if !has_control(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn explain(value: &Value) -> String {
        explain_text(value, Self::EXPECTED)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value) -> Option<Self> {
        match &value.kind {
            ValueKind::Boolean(value) => Some(*value),
            _ => text(value)?.parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number from 0 up";

    fn read(value: &Value) -> Option<Self> {
        match &value.kind {
            ValueKind::I64(value) => u64::try_from(*value).ok(),
            ValueKind::U64(value) => Some(*value),
            _ => text(value)?.parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: &Value) -> Option<Self> {
        match &value.kind {
            ValueKind::I64(value) => Some(*value),
            _ => text(value)?.parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &Value) -> Option<Self> {
        let number = match &value.kind {
            ValueKind::Float(value) => *value,
            ValueKind::I64(value) => *value as f64,
            _ => text(value)?.parse().ok()?,
        };
        number.is_finite().then_some(number)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str =
        "an address with a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";

    fn read(value: &Value) -> Option<Self> {
        text(value)?.parse().ok()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str =
        "a duration in quotes, such as \"15s\", \"250ms\", \"5m\" or \"90d\"";

    fn read(value: &Value) -> Option<Self> {
        let text = text(value)?;
        // On a calendar a day has no fixed length; here it has.
        if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok())
        {
            return Some(Duration::from_secs(u64::from(days) * SECONDS_PER_DAY));
        }
        let duration: jiff::SignedDuration = text.parse().ok()?;
        duration.try_into().ok()
    }

    fn show(&self) -> String {
        let seconds = self.as_secs();
        if seconds > 0 && self.subsec_nanos() == 0 && seconds.is_multiple_of(SECONDS_PER_DAY) {
            return format!("\"{}d\"", seconds / SECONDS_PER_DAY);
        }
        match jiff::SignedDuration::try_from(*self) {
            Ok(duration) => format!("\"{duration:#}\""),
            Err(_) => format!("\"{self:?}\""),
        }
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = "a size in quotes, such as \"1 MiB\" or \"64 kB\"";

    fn read(value: &Value) -> Option<Self> {
        text(value)?.parse().ok()
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.display().iec())
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn read(value: &Value) -> Option<Self> {
        text(value).filter(|path| !path.is_empty() && !has_control(path)).map(PathBuf::from)
    }

    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }

    fn explain(value: &Value) -> String {
        explain_text(value, Self::EXPECTED)
    }
}

impl Setting for IpNet {
    const EXPECTED: &'static str =
        "an address or a network, such as \"127.0.0.1\" or \"10.0.0.0/8\"";

    fn read(value: &Value) -> Option<Self> {
        let text = text(value)?;
        let network = text.parse().ok();
        network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A list in a file, or comma-separated in one text.
fn items(value: &Value) -> Option<Vec<Value>> {
    match &value.kind {
        ValueKind::Array(items) => Some(items.clone()),
        ValueKind::String(text) => {
            let items = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            Some(items.map(Value::from).collect())
        }
        _ => None,
    }
}

/// Names the entry that cannot be read. Lists have no secrets.
fn explain_list<T: Setting>(value: &Value, expected: &str) -> String {
    let items = items(value).unwrap_or_default();
    let Some(index) = items.iter().position(|item| T::read(item).is_none()) else {
        return format!("expected {expected}");
    };
    let (item, fault) = (&items[index], T::explain(&items[index]));
    match &item.kind {
        ValueKind::String(text) => format!("entry {}, {text:?}: {fault}", index + 1),
        _ => format!("entry {}: {fault}", index + 1),
    }
}

macro_rules! setting_list {
    ($item:ty, $expected:literal) => {
        impl Setting for Vec<$item> {
            const EXPECTED: &'static str = $expected;

            fn read(value: &Value) -> Option<Self> {
                items(value)?.iter().map(<$item>::read).collect()
            }

            fn show(&self) -> String {
                let items: Vec<String> = self.iter().map(Setting::show).collect();
                format!("[{}]", items.join(", "))
            }

            fn explain(value: &Value) -> String {
                explain_list::<$item>(value, Self::EXPECTED)
            }
        }
    };
}

setting_list!(String, "a list of texts, or one text with commas");
setting_list!(f64, "a list of numbers, or one text with commas");
setting_list!(IpNet, "a list of addresses or networks, or one text with commas");
setting_list!(PathBuf, "a list of paths, or one text with commas");
