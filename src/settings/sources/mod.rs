//! The sources of settings: files, `.env`, the environment and the command line.
//!
//! A later source overrides an earlier one, key by key. Each value keeps its source, so that every
//! fault and `check-config` can name it.

mod dotenv;
pub mod text_file;
pub mod toml_file;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Environment, Map, Source as _, Value, ValueKind};

use self::text_file::TextFileError;
use self::variables::{PREFIX, is_ours, misspelt};
use super::fault::SettingFault;
use super::store;
use crate::account_name::AccountName;

/// The settings file that is read if it exists.
const DEFAULT_FILE: &str = "settings/default.toml";

/// The file of environment variables that is read if it exists.
const ENV_FILE: &str = ".env";

/// What the environment of the process is called as a source.
pub const ENVIRONMENT: &str = "environment";

/// The setting that says where the accounts store is.
const STORE_DIRECTORY: &str = "accounts_store.directory";

/// Where the sources are, and what a later reading must keep to.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    /// It holds `settings/default.toml` and `.env`.
    pub directory: PathBuf,
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    pub environment: Vec<(OsString, OsString)>,
    /// Settings by their keys.
    pub command_line: Vec<(String, String)>,
    /// The directory of the accounts store, which only a restart changes. `None`: the settings say.
    pub store: Option<PathBuf>,
    /// The files that had settings when the gateway started. One that has none later was probably
    /// read while it was being written, and would remove every account.
    pub filled: BTreeSet<String>,
}

/// What the accounts store is to have of an account.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The account.
    pub account: AccountName,
    /// The text of the account's file. `None`: it has none.
    pub text: Option<String>,
    /// Whether the settings are read for this account alone, without any other account. Faults that do
    /// not concern it are ignored.
    pub alone: bool,
}

/// A source of settings.
#[derive(Debug)]
pub struct SettingSource {
    /// Its name in faults and in `check-config`.
    pub name: String,
    /// Its path, if it is a file.
    pub file: Option<PathBuf>,
}

impl SettingSource {
    /// The directory that its relative paths are relative to. `None`: the working directory.
    pub fn directory(&self) -> Option<&Path> {
        self.file.as_deref()?.parent()
    }
}

/// A value and its source.
#[derive(Debug, Clone)]
pub struct SourcedValue {
    pub value: Value,
    pub source: Arc<SettingSource>,
}

/// Every value by its dotted key.
#[derive(Debug, Default)]
pub struct Layers {
    pub values: BTreeMap<String, SourcedValue>,
    /// Sources, or parts of them, that cannot be read.
    pub faults: Vec<SettingFault>,
    /// Files of the accounts store that cannot be read. Each hides its account and nothing else.
    pub stored_faults: Vec<SettingFault>,
    /// The accounts of these files, of which nothing is known then.
    pub unread: BTreeSet<String>,
    pub warnings: Vec<SettingFault>,
    /// The directory of the accounts store.
    pub store: PathBuf,
    /// The files that have settings.
    pub filled: BTreeSet<String>,
}

impl Layers {
    /// Reads every source, as if the accounts store had this of an account.
    pub fn read(locations: &Locations, candidate: Option<&Candidate>) -> Layers {
        let directory = &locations.directory;
        let mut layers = Layers::default();
        layers.toml_file(&directory.join(DEFAULT_FILE), DEFAULT_FILE, Presence::Optional);
        if let Some(file) = &locations.file {
            layers.toml_file(file, &file.display().to_string(), Presence::Required);
        }
        layers.refuse_emptied(&locations.filled);
        // Read first, because they may say where the store is.
        let mut above = Layers::default();
        above.env_file(&directory.join(ENV_FILE));
        above.environment(locations.environment.iter().cloned());
        above.command_line(&locations.command_line);
        let said = || above.store_directory().or_else(|| layers.store_directory());
        let store = locations.store.clone().or_else(said);
        layers.store = store.unwrap_or_else(|| store::DEFAULT_DIRECTORY.into());
        layers.stored_accounts(directory, candidate);
        above.values.into_iter().for_each(|(key, value)| layers.add_one(key, value));
        if let Some(Candidate { account, alone: true, .. }) = candidate {
            let is_other = |key: &str| key.starts_with("accounts.") && !is_of(key, account);
            layers.values.retain(|key, _| !is_other(key));
        }
        layers.faults.extend(above.faults);
        layers.warnings.extend(above.warnings);
        layers.forget_unread();
        layers
    }

    /// Notes the files that have no settings any more.
    fn refuse_emptied(&mut self, filled: &BTreeSet<String>) {
        for source in filled.difference(&self.filled.clone()) {
            if self.faults.iter().all(|fault| fault.origin != *source) {
                self.fault(
                    source,
                    "the file has no settings, and had some when the gateway started: it was probably \
                     read while it was being written, so write another file and rename it; if it is \
                     meant, keep a section without settings, such as [accounts]",
                );
            }
        }
    }

    /// Drops what other sources say of accounts whose file cannot be read: the rest would seem missing.
    fn forget_unread(&mut self) {
        for account in &self.unread {
            let table = format!("accounts.{account}");
            let below = format!("{table}.");
            self.values.retain(|key, _| *key != table && !key.starts_with(&below));
        }
    }

    fn store_directory(&self) -> Option<PathBuf> {
        let given = self.values.get(STORE_DIRECTORY)?;
        given.value.clone().into_string().ok().map(PathBuf::from)
    }

    /// Reads the files of the accounts store.
    fn stored_accounts(&mut self, directory: &Path, candidate: Option<&Candidate>) {
        let store = self.store.clone();
        let source = |file: &str| store.join(file).display().to_string();
        let files = match store::files(&directory.join(&store)) {
            Ok(files) => files,
            Err(fault) => {
                let message =
                    format!("the directory of the accounts store cannot be read: {fault}");
                return self.fault(&store.display().to_string(), message);
            }
        };
        for (account, path) in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(account) = account else {
                let message = format!(
                    "the file's name is no account's: expected {} before `.toml`",
                    AccountName::EXPECTED
                );
                self.fault(&source(&name), message);
                self.stored_faults.extend(self.faults.pop());
                continue;
            };
            let earlier = self.faults.len();
            if candidate.is_none_or(|candidate| candidate.account != account)
                && let Some(text) = self.text(&path, &source(&name), Presence::Optional)
            {
                self.stored(&account, &text, &source(&name), &path);
            }
            if self.faults.len() > earlier {
                self.stored_faults.extend(self.faults.drain(earlier..));
                self.unread.insert(account.to_string());
            }
        }
        let Some(Candidate { account, text, alone }) = candidate else {
            return;
        };
        if *alone {
            self.stored_faults.clear();
            self.unread.clear();
        }
        if let Some(text) = text {
            let path = store::file(&directory.join(&store), account);
            self.stored(account, text, &source(&format!("{account}.toml")), &path);
        }
    }

    fn stored(&mut self, account: &AccountName, text: &str, source: &str, path: &Path) {
        match toml_file::parse(text) {
            Ok(entries) => {
                if entries.is_empty() {
                    // It names its account all the same, as the header of an empty table does.
                    let table = Value::new(None, Map::<String, Value>::new());
                    self.add([(format!("accounts.{account}"), table)], source, Some(path));
                }
                let entries = entries.into_iter();
                let entries =
                    entries.map(|(key, value)| (format!("accounts.{account}.{key}"), value));
                self.add(entries, source, Some(path));
            }
            Err(faults) => faults.into_iter().for_each(|fault| self.fault(source, fault)),
        }
    }

    fn fault(&mut self, source: &str, message: impl Into<String>) {
        let (key, origin) = (String::new(), source.to_owned());
        self.faults.push(SettingFault { key, origin, message: message.into() });
    }

    fn text(&mut self, path: &Path, source: &str, presence: Presence) -> Option<String> {
        match text_file::read(path) {
            Ok(text) => Some(text),
            Err(TextFileError::Missing) if presence == Presence::Optional => None,
            Err(fault) => {
                self.fault(source, format!("the file {fault}"));
                None
            }
        }
    }

    fn toml_file(&mut self, path: &Path, source: &str, presence: Presence) {
        let Some(text) = self.text(path, source, presence) else {
            return;
        };
        match toml_file::parse(&text) {
            Ok(entries) => {
                if !entries.is_empty() {
                    self.filled.insert(source.to_owned());
                }
                self.add(entries, source, Some(path));
            }
            Err(faults) => faults.into_iter().for_each(|fault| self.fault(source, fault)),
        }
    }

    fn env_file(&mut self, path: &Path) {
        let Some(text) = self.text(path, ENV_FILE, Presence::Optional) else {
            return;
        };
        let (variables, faults) = dotenv::parse(&text);
        for dotenv::LineFault { line, name, message } in faults {
            // A name that is not ours may be a misplaced secret.
            let name = name.filter(|name| is_ours(name)).map(|name| format!(", `{name}`"));
            let name = name.unwrap_or_default();
            self.fault(ENV_FILE, format!("line {line}{name}: {message}"));
        }
        for variable in variables.iter().filter(|variable| variable.has_comment) {
            if is_ours(&variable.name) {
                let message = format!(
                    "line {}: the value includes everything from ` #` on; a comment needs a line of \
                     its own, and quotes around the value say that it is meant",
                    variable.line
                );
                self.warn(&variable.name, ENV_FILE, message);
            }
        }
        let variables = variables.into_iter().map(|variable| (variable.name, variable.value));
        self.variables(variables.collect(), ENV_FILE, Some(path));
    }

    fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut texts = vec![];
        for (name, value) in variables {
            let name = name.to_string_lossy();
            match value.into_string() {
                Ok(value) => texts.push((name.into_owned(), value)),
                Err(_) if is_ours(&name) => {
                    self.fault(ENVIRONMENT, format!("the value of `{name}` is not Unicode"));
                }
                // Not a setting of the gateway.
                Err(_) => {}
            }
        }
        self.variables(texts, ENVIRONMENT, None);
    }

    fn variables(&mut self, variables: Vec<(String, String)>, source: &str, file: Option<&Path>) {
        let mut ours: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value) in variables {
            if let Some(meant) = misspelt(&name) {
                let message = format!(
                    "is not read: two underscores separate the parts of a name: write `{meant}`"
                );
                self.warn(&name, source, message);
            }
            if is_ours(&name)
                && let Some((other, _)) =
                    ours.insert(name.to_ascii_lowercase(), (name.clone(), value))
            {
                let names = if other == name { String::new() } else { format!(" as `{other}`") };
                self.fault(source, format!("`{name}` is set twice{names}"));
            }
        }
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("__")
            .separator("__")
            .source(Some(ours.into_values().collect::<Map<String, String>>()));
        match environment.collect() {
            Ok(map) => self.add(map, source, file),
            Err(_) => self.fault(source, "cannot be read as settings"),
        }
    }

    fn command_line(&mut self, settings: &[(String, String)]) {
        let entry = |(key, text): &(String, String)| (key.clone(), text.as_str().into());
        self.add(settings.iter().map(entry), "command line", None);
    }

    fn warn(&mut self, key: &str, source: &str, message: String) {
        self.warnings.push(SettingFault {
            key: key.to_owned(),
            origin: source.to_owned(),
            message,
        });
    }

    fn add(
        &mut self,
        entries: impl IntoIterator<Item = (String, Value)>,
        source: &str,
        file: Option<&Path>,
    ) {
        let source =
            Arc::new(SettingSource { name: source.to_owned(), file: file.map(Path::to_path_buf) });
        for (key, value) in entries {
            self.add_one(key, SourcedValue { value, source: source.clone() });
        }
    }

    fn add_one(&mut self, key: String, given: SourcedValue) {
        // An empty table removes nothing of an earlier source.
        let is_table = matches!(given.value.kind, ValueKind::Table(_));
        if !(is_table && self.values.contains_key(&key)) {
            self.values.insert(key, given);
        }
    }
}

/// Whether a key is an account's table, or a setting of it.
pub fn is_of(key: &str, account: &str) -> bool {
    let table = key.strip_prefix("accounts.").and_then(|key| key.strip_prefix(account));
    table.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a source must be there.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Optional,
    Required,
}
