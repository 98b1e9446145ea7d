//! Takes settings one by one, by key and type, and collects every fault, every warning, and the
//! value that is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use config::ValueKind;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::fault::SettingFault;
use super::sources::{Layers, SettingSource, SourcedValue};
use super::types::Setting;
use crate::files;

/// The source of a setting that no source names.
pub const DEFAULT: &str = "default";

/// A setting in force.
#[derive(Debug)]
pub struct EffectiveSetting {
    pub key: String,
    pub value: String,
    pub source: String,
    /// Equal for equal values. Of a secret its digest.
    pub compared: String,
}

/// Takes settings out of the layers.
pub struct Reader {
    /// The values that nobody has taken yet.
    values: BTreeMap<String, SourcedValue>,
    /// Every key that was asked for, given or not. A section's key ends with a dot.
    asked: BTreeSet<String>,
    pub faults: Vec<SettingFault>,
    /// What is allowed, but probably not what was meant.
    pub warnings: Vec<SettingFault>,
    pub effective: Vec<EffectiveSetting>,
    /// Accounts that exist, and of which nothing is known.
    pub unread: BTreeSet<String>,
}

impl Reader {
    pub fn new(layers: Layers) -> Reader {
        let Layers { values, stored_faults: faults, warnings, unread, .. } = layers;
        Reader { values, asked: BTreeSet::new(), faults, warnings, effective: vec![], unread }
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

    fn about(&self, key: &str, message: String) -> SettingFault {
        let effective = self.effective.iter().find(|effective| effective.key == key);
        let origin = effective.map_or(DEFAULT, |effective| &effective.source).to_owned();
        SettingFault { key: key.to_owned(), origin, message }
    }

    fn take<T: Setting>(&mut self, key: &str) -> Option<(T, Arc<SettingSource>)> {
        self.asked.insert(key.to_owned());
        let SourcedValue { value, source } = self.values.remove(key)?;
        match T::read(&value) {
            Some(read) => Some((read, source)),
            None => {
                let (key, origin) = (key.to_owned(), source.name.clone());
                self.faults.push(SettingFault { key, origin, message: T::explain(&value) });
                None
            }
        }
    }

    fn note(&mut self, key: &str, value: String, source: &str) {
        let (key, compared, source) = (key.to_owned(), value.clone(), source.to_owned());
        self.effective.push(EffectiveSetting { key, value, source, compared });
    }

    /// Notes what a setting leads to, such as the content of a file, which has changed if the digest has.
    pub fn compare_by(&mut self, key: &str, content: &[u8]) {
        if let Some(effective) = self.effective.iter_mut().rfind(|effective| effective.key == key) {
            let digest = Sha256::digest(content);
            effective.compared = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        }
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

    /// Takes a setting that may be absent.
    pub fn optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let (value, source) = self.take::<T>(key)?;
        self.note(key, value.show(), &source.name);
        Some(value)
    }

    /// Takes a setting that must be given. `None`: a fault was noted.
    pub fn required<T: Setting>(&mut self, key: &str) -> Option<T> {
        if !self.has(key) {
            self.missing(key, T::EXPECTED);
        }
        self.optional(key)
    }

    /// Notes that a setting is missing.
    pub fn missing(&mut self, key: &str, expected: &str) {
        self.asked.insert(key.to_owned());
        // If a value stands where a section belongs, that is the fault.
        let is_above = |(end, _): (usize, &str)| self.values.get(&key[..end]).is_some_and(is_value);
        if !key.match_indices('.').any(is_above) {
            let message = format!("is missing: expected {expected}");
            self.faults.push(SettingFault { key: key.to_owned(), origin: String::new(), message });
        }
    }

    /// Takes the path of a file to read. A relative path is relative to the settings file that
    /// names it, or to the working directory if no file does.
    pub fn file(&mut self, key: &str) -> Option<PathBuf> {
        let (path, source) = self.take::<PathBuf>(key)?;
        let path = source.directory().map_or_else(|| path.clone(), |beside| beside.join(&path));
        self.note(key, path.show(), &source.name);
        Some(path)
    }

    /// Takes a text that is never shown.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let (value, source) = self.take::<String>(key)?;
        self.note(key, "(hidden)".to_owned(), &source.name);
        self.compare_by(key, value.as_bytes());
        Some(value.into())
    }

    /// Takes a password, with a warning if others can read the file that it stands in.
    pub fn password(&mut self, key: &str) -> Option<SecretString> {
        let (value, source) = self.take::<String>(key)?;
        self.note(key, "(hidden)".to_owned(), &source.name);
        self.compare_by(key, value.as_bytes());
        if let Some(mode) = source.file.as_deref().and_then(files::exposed_mode) {
            let message = format!(
                "others can read the password, because {} has mode {mode:04o}: `chmod 600` it",
                source.name
            );
            self.warn(key, message);
        }
        Some(value.into())
    }

    /// Whether a setting was given.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether a section was given, even an empty one.
    pub fn has_section(&mut self, key: &str) -> bool {
        self.asked.insert(format!("{key}."));
        let is_empty_table = self.values.get(key).is_some_and(is_table);
        is_empty_table || self.below(key).next().is_some()
    }

    /// Lets a section have the settings of another one, as far as it does not have them itself. Their
    /// source names that section.
    pub fn inherit(&mut self, from: &str, to: &str) {
        let inherited: Vec<(String, SourcedValue)> = self
            .below(from)
            .filter_map(|rest| {
                let given = self.values.get(&format!("{from}.{rest}"))?;
                let SettingSource { name, file } = &*given.source;
                let source =
                    SettingSource { name: format!("{name}, [{from}]"), file: file.clone() };
                let given = SourcedValue { value: given.value.clone(), source: source.into() };
                Some((format!("{to}.{rest}"), given))
            })
            .collect();
        for (key, given) in inherited {
            self.values.entry(key).or_insert(given);
        }
    }

    /// Ignores everything below a key, because what is expected there is not known.
    pub fn skip(&mut self, key: &str) {
        let rest = self.rest(key);
        for name in rest {
            self.values.remove(&format!("{key}.{name}"));
        }
    }

    /// The names directly below a key.
    pub fn names(&mut self, key: &str) -> BTreeSet<String> {
        self.asked.insert(format!("{key}."));
        let below = self.below(key);
        below.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect()
    }

    /// Everything below a key, whose names may contain dots.
    pub fn rest(&mut self, key: &str) -> Vec<String> {
        self.asked.insert(format!("{key}."));
        self.below(key).map(str::to_owned).collect()
    }

    fn below(&self, key: &str) -> impl Iterator<Item = &str> {
        self.values
            .keys()
            .filter_map(move |name| name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')))
    }

    /// Makes everything that was not taken a fault.
    pub fn finish(&mut self) {
        for (key, given) in std::mem::take(&mut self.values) {
            let below = format!("{key}.");
            let is_section = self.asked.range(below.clone()..).next();
            let is_section = is_section.is_some_and(|asked| asked.starts_with(&below));
            let message = match (is_section, is_table(&given)) {
                // An empty section.
                (true, true) => continue,
                (true, false) => format!("expected a section of settings, such as [{key}]"),
                (false, true) => "there is no such section".to_owned(),
                (false, false) => "there is no such setting".to_owned(),
            };
            let key = printable(&key);
            self.faults.push(SettingFault { key, origin: given.source.name.clone(), message });
        }
    }
}

fn is_table(given: &SourcedValue) -> bool {
    matches!(given.value.kind, ValueKind::Table(_))
}

fn is_value(given: &SourcedValue) -> bool {
    !is_table(given)
}

/// The key of a setting that does not exist, without parts that may be misplaced secrets: those
/// below a secret, and those with characters that no key has.
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
