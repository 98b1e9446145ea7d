//! Takes settings one by one, by key and type, and keeps what was wrong with
//! any of them and what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use config::{Value, ValueKind};
use ipnet::IpNet;

use super::Fault;
use super::layers::{Layers, Leaf};

const SECONDS_PER_DAY: u64 = 86_400;

/// The type of a setting.
pub trait Setting: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Reads a value from a file, or a text from the environment.
    fn read(value: &Value) -> Option<Self>;
    /// Writes it as a file would have it.
    fn show(&self) -> String;
}

/// A setting as it is in force.
#[derive(Debug)]
pub struct Effective {
    pub key: String,
    pub value: String,
    pub source: String,
}

/// Takes settings.
pub struct Reader {
    leaves: BTreeMap<String, Leaf>,
    pub faults: Vec<Fault>,
    /// What is allowed, but probably not what was meant.
    pub warnings: Vec<Fault>,
    pub effective: Vec<Effective>,
}

impl Reader {
    pub fn new(layers: Layers) -> Reader {
        let Layers { leaves, faults, .. } = layers;
        Reader { leaves, faults, warnings: vec![], effective: vec![] }
    }

    /// Notes that a key's value is wrong.
    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        let fault = self.about(key, message.into());
        self.faults.push(fault);
    }

    /// Notes that a key's value is allowed, but probably not what was meant.
    pub fn warn(&mut self, key: &str, message: impl Into<String>) {
        let warning = self.about(key, message.into());
        self.warnings.push(warning);
    }

    fn about(&self, key: &str, message: String) -> Fault {
        let effective = self.effective.iter().find(|effective| effective.key == key);
        let origin = effective.map_or("default", |effective| &effective.source).to_owned();
        Fault { key: key.to_owned(), origin, message }
    }

    fn take<T: Setting>(&mut self, key: &str) -> Option<(T, String)> {
        let Leaf { value, source } = self.leaves.remove(key)?;
        match T::read(&value) {
            Some(read) => Some((read, source)),
            None => {
                // The value itself is not repeated: it might be a secret in the wrong place.
                let message = format!("expected {}", T::EXPECTED);
                self.faults.push(Fault { key: key.to_owned(), origin: source, message });
                None
            }
        }
    }

    fn note(&mut self, key: &str, value: String, source: &str) {
        self.effective.push(Effective { key: key.to_owned(), value, source: source.to_owned() });
    }

    /// Takes a setting that has a default.
    pub fn value<T: Setting>(&mut self, key: &str, default: T) -> T {
        let (value, source) = self.take(key).unwrap_or((default, "default".to_owned()));
        self.note(key, value.show(), &source);
        value
    }

    /// Takes a setting that may be missing.
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let (value, source) = self.take::<T>(key)?;
        self.note(key, value.show(), &source);
        Some(value)
    }

    /// Takes a setting that must be there; without it a stand-in keeps the
    /// search for further faults going.
    pub fn required<T: Setting + Default>(&mut self, key: &str) -> T {
        if !self.leaves.contains_key(key) {
            self.fault(key, format!("is missing: expected {}", T::EXPECTED));
            return T::default();
        }
        self.optional(key).unwrap_or_default()
    }

    /// Takes a text that must not be shown.
    pub fn secret(&mut self, key: &str) -> Option<String> {
        let (value, source) = self.take(key)?;
        self.note(key, "(hidden)".to_owned(), &source);
        Some(value)
    }

    /// Whether a setting was given.
    pub fn has(&self, key: &str) -> bool {
        self.leaves.contains_key(key)
    }

    /// The names that stand directly below a key.
    pub fn names(&self, key: &str) -> BTreeSet<String> {
        let below = self.below(key);
        below.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect()
    }

    /// Everything below a key, whose names may have dots themselves.
    pub fn rest(&self, key: &str) -> Vec<String> {
        self.below(key).map(str::to_owned).collect()
    }

    fn below(&self, key: &str) -> impl Iterator<Item = &str> {
        self.leaves
            .keys()
            .filter_map(move |name| name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')))
    }

    /// Everything that nobody took is a fault.
    pub fn finish(&mut self) {
        for (key, Leaf { source, .. }) in std::mem::take(&mut self.leaves) {
            let message = "there is no such setting".to_owned();
            self.faults.push(Fault { key, origin: source, message });
        }
    }
}

/// A text, less blanks around it.
pub fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text.trim()),
        _ => None,
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn read(value: &Value) -> Option<Self> {
        // Not trimmed: a password may begin or end with a space.
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
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
        // Days have no fixed length on a calendar, but here they do.
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
        text(value).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
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
fn list<T>(value: &Value, item: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(item).collect(),
        ValueKind::String(text) => text
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| item(&Value::from(text)))
            .collect(),
        _ => None,
    }
}

macro_rules! setting_list {
    ($item:ty, $expected:literal) => {
        impl Setting for Vec<$item> {
            const EXPECTED: &'static str = $expected;

            fn read(value: &Value) -> Option<Self> {
                list(value, <$item>::read)
            }

            fn show(&self) -> String {
                let items: Vec<String> = self.iter().map(Setting::show).collect();
                format!("[{}]", items.join(", "))
            }
        }
    };
}

setting_list!(String, "a list of texts, or one text with commas");
setting_list!(f64, "a list of numbers, or one text with commas");
setting_list!(IpNet, "a list of addresses or networks, or one text with commas");
setting_list!(PathBuf, "a list of paths, or one text with commas");
