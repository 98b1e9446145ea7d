//! Takes settings one by one, by key and type, and keeps what was wrong with
//! any of them and what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use config::{Value, ValueKind};
use ipnet::IpNet;

use super::Fault;
use super::layers::{Layers, Leaf, Source};
use crate::files;

const SECONDS_PER_DAY: u64 = 86_400;

/// The source of what no source names.
const DEFAULT: &str = "default";

/// The type of a setting.
pub trait Setting: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;
    /// Reads a value from a file, or a text from the environment.
    fn read(value: &Value) -> Option<Self>;
    /// Writes it as a file would have it.
    fn show(&self) -> String;
    /// Says what is wrong with a value that cannot be read. The value itself is not repeated: it
    /// might be a secret in the wrong place.
    fn explain(_value: &Value) -> String {
        format!("expected {}", Self::EXPECTED)
    }
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
    /// Every key that was asked for, whether it was given or not.
    asked: BTreeSet<String>,
    pub faults: Vec<Fault>,
    /// What is allowed, but probably not what was meant.
    pub warnings: Vec<Fault>,
    pub effective: Vec<Effective>,
}

impl Reader {
    pub fn new(layers: Layers) -> Reader {
        let Layers { leaves, faults, warnings, .. } = layers;
        Reader { leaves, asked: BTreeSet::new(), faults, warnings, effective: vec![] }
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
        let origin = effective.map_or(DEFAULT, |effective| &effective.source).to_owned();
        Fault { key: key.to_owned(), origin, message }
    }

    fn take<T: Setting>(&mut self, key: &str) -> Option<(T, Arc<Source>)> {
        self.asked.insert(key.to_owned());
        let Leaf { value, source } = self.leaves.remove(key)?;
        match T::read(&value) {
            Some(read) => Some((read, source)),
            None => {
                let (key, origin) = (key.to_owned(), source.name.clone());
                self.faults.push(Fault { key, origin, message: T::explain(&value) });
                None
            }
        }
    }

    fn note(&mut self, key: &str, value: String, source: &str) {
        self.effective.push(Effective { key: key.to_owned(), value, source: source.to_owned() });
    }

    /// Takes a setting that has a default.
    pub fn value<T: Setting>(&mut self, key: &str, default: T) -> T {
        let (value, source) = match self.take(key) {
            Some((value, source)) => (value, Some(source)),
            None => (default, None),
        };
        let source = source.as_ref().map_or(DEFAULT, |source| &source.name);
        self.note(key, value.show(), source);
        value
    }

    /// Takes a setting that may be missing.
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let (value, source) = self.take::<T>(key)?;
        self.note(key, value.show(), &source.name);
        Some(value)
    }

    /// Takes a setting that must be there. `None`: there is a fault already.
    pub fn required<T: Setting>(&mut self, key: &str) -> Option<T> {
        if !self.has(key) {
            self.missing(key, T::EXPECTED);
        }
        self.optional(key)
    }

    /// Notes that a setting must be there, and is not.
    pub fn missing(&mut self, key: &str, expected: &str) {
        self.asked.insert(key.to_owned());
        // A value where a section belongs is the fault then.
        let is_above = |(end, _): (usize, &str)| self.leaves.get(&key[..end]).is_some_and(is_value);
        if !key.match_indices('.').any(is_above) {
            let message = format!("is missing: expected {expected}");
            self.faults.push(Fault { key: key.to_owned(), origin: String::new(), message });
        }
    }

    /// Takes the path of a file that is to be read. A relative one is relative to the file that
    /// names it, or to the working directory if no file does.
    pub fn file(&mut self, key: &str) -> Option<PathBuf> {
        let (path, source) = self.take::<PathBuf>(key)?;
        let path = source.directory().map_or_else(|| path.clone(), |beside| beside.join(&path));
        self.note(key, path.show(), &source.name);
        Some(path)
    }

    /// Takes a text that must not be shown.
    pub fn secret(&mut self, key: &str) -> Option<String> {
        let (value, source) = self.take(key)?;
        self.note(key, "(hidden)".to_owned(), &source.name);
        Some(value)
    }

    /// Takes a text that must not be shown and that opens an account. It is a warning if others
    /// can read the file that it stands in.
    pub fn password(&mut self, key: &str) -> Option<String> {
        let (value, source) = self.take(key)?;
        self.note(key, "(hidden)".to_owned(), &source.name);
        if let Some(mode) = source.file.as_deref().and_then(files::exposed_mode) {
            let message = format!(
                "others can read the password, because {} has mode {mode:04o}: `chmod 600` it",
                source.name
            );
            self.warn(key, message);
        }
        Some(value)
    }

    /// Whether a setting was given.
    pub fn has(&self, key: &str) -> bool {
        self.leaves.contains_key(key)
    }

    /// Whether anything was given below a key, or an empty table.
    pub fn has_section(&mut self, key: &str) -> bool {
        self.asked.insert(format!("{key}."));
        let is_empty_table = self.leaves.get(key).is_some_and(is_table);
        is_empty_table || self.below(key).next().is_some()
    }

    /// Drops everything below a key: what would be expected there is not known.
    pub fn skip(&mut self, key: &str) {
        let rest = self.rest(key);
        for name in rest {
            self.leaves.remove(&format!("{key}.{name}"));
        }
    }

    /// The names that stand directly below a key.
    pub fn names(&mut self, key: &str) -> BTreeSet<String> {
        self.asked.insert(format!("{key}."));
        let below = self.below(key);
        below.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect()
    }

    /// Everything below a key, whose names may have dots themselves.
    pub fn rest(&mut self, key: &str) -> Vec<String> {
        self.asked.insert(format!("{key}."));
        self.below(key).map(str::to_owned).collect()
    }

    fn below(&self, key: &str) -> impl Iterator<Item = &str> {
        self.leaves
            .keys()
            .filter_map(move |name| name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')))
    }

    /// Everything that nobody took is a fault.
    pub fn finish(&mut self) {
        for (key, leaf) in std::mem::take(&mut self.leaves) {
            let below = format!("{key}.");
            let is_section = self.asked.range(below.clone()..).next();
            let is_section = is_section.is_some_and(|asked| asked.starts_with(&below));
            let message = match (is_section, is_table(&leaf)) {
                // A section that says nothing.
                (true, true) => continue,
                (true, false) => format!("expected a section of settings, such as [{key}]"),
                (false, true) => "there is no such section".to_owned(),
                (false, false) => "there is no such setting".to_owned(),
            };
            let key = printable(&key);
            self.faults.push(Fault { key, origin: leaf.source.name.clone(), message });
        }
    }
}

fn is_table(leaf: &Leaf) -> bool {
    matches!(leaf.value.kind, ValueKind::Table(_))
}

fn is_value(leaf: &Leaf) -> bool {
    !is_table(leaf)
}

/// Whether a text has characters that nobody means, such as the line feed of `"C:\new"`.
pub fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

/// What is wrong with such a text.
pub const HAS_CONTROL: &str = "has a control character: in double quotes a backslash begins an \
                               escape (`\\n`, `\\t`), so write it in 'single quotes'";

fn explain_text(value: &Value, expected: &str) -> String {
    match &value.kind {
        ValueKind::String(text) if has_control(text) => HAS_CONTROL.to_owned(),
        _ => format!("expected {expected}"),
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

/// The name of a setting that does not exist, as far as it can be no secret in the wrong place: what
/// is below a secret, or has characters that no name has, is left out.
fn printable(key: &str) -> String {
    const SECRETS: [&str; 2] = ["password", "sha256"];
    let is_word = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let mut shown = vec![];
    for part in key.split('.') {
        let below_secret = shown.last().is_some_and(|above| SECRETS.contains(above));
        if below_secret || !is_word(part) {
            shown.push("…");
            break;
        }
        shown.push(part);
    }
    shown.join(".")
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
