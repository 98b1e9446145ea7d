//! The accounts store: accounts that clients have set, one file of settings each.
//!
//! A file holds what `[accounts.NAME]` would, and is named `NAME.toml`. It is replaced as a whole: whoever
//! reads it, also after the gateway or the machine has failed at any moment, sees the earlier one or the
//! new one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::sources::text_file::{self, TextFileError};
use super::sources::toml_file;
use crate::account_name::AccountName;
use crate::files::{create_secret_directory, open_private};

/// Where it is unless the settings say otherwise.
pub const DEFAULT_DIRECTORY: &str = "data/accounts";

/// The ending of a file's name.
const ENDING: &str = "toml";

/// The ending of a file that is being written, which is not the one of settings.
const NEW: &str = "new";

/// Where accounts are kept that clients have set.
#[derive(Debug, Clone, Default)]
pub struct AccountsStore(pub PathBuf);

impl AccountsStore {
    /// What is kept of an account. `None`: nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, account: &AccountName) -> Result<Option<String>, String> {
        let path = file(&self.0, account);
        match text_file::read(&path) {
            Err(TextFileError::Missing) => Ok(None),
            read => read.map(Some).map_err(|fault| format!("{} {fault}", path.display())),
        }
    }

    /// Whether there is a file of an account, readable or not.
    pub fn has(&self, account: &AccountName) -> bool {
        file(&self.0, account).symlink_metadata().is_ok()
    }

    /// Keeps this of an account; `None`: nothing. Returns when it is on disk.
    ///
    /// # Errors
    /// If it cannot be written. Unless only the last step failed, which makes sure that it is on disk,
    /// the store has what it had before.
    pub fn keep(&self, account: &AccountName, text: Option<&str>) -> Result<(), String> {
        let kept = match text {
            Some(text) => write(&self.0, account, text),
            None => remove(&self.0, account),
        };
        let directory = self.0.display();
        kept.map_err(|fault| format!("the accounts store {directory} cannot be written: {fault}"))
    }
}

/// The file of an account.
pub fn file(directory: &Path, account: &AccountName) -> PathBuf {
    directory.join(format!("{account}.{ENDING}"))
}

/// The files of every account, by name. The account's name is `None` if it is none.
///
/// # Errors
/// If the directory cannot be read. One that is missing has no files.
pub fn files(directory: &Path) -> io::Result<Vec<(Option<AccountName>, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(fault) => return Err(fault),
    };
    let mut files = vec![];
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if path.extension().is_some_and(|ending| ending == ENDING) {
            files.push((name.as_deref().and_then(AccountName::parse), path));
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the file of an account, for the gateway's user alone, and returns when it is on disk.
fn write(directory: &Path, account: &AccountName, text: &str) -> io::Result<()> {
    if !directory.exists() {
        create_secret_directory(directory)?;
        if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
            sync_directory(above)?;
        }
    }
    let path = file(directory, account);
    let new = path.with_extension(NEW);
    remove_if_there(&new)?;
    // One that was put there meanwhile may be another's, or a link.
    let mut file = open_private(&new, OpenOptions::new().write(true).create_new(true))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    drop(file);
    if let Err(fault) = written.and_then(|()| fs::rename(&new, &path)) {
        // It may have a password.
        let _ = remove_if_there(&new);
        return Err(fault);
    }
    sync_directory(directory)
}

/// Removes the file of an account, and returns when that is on disk.
fn remove(directory: &Path, account: &AccountName) -> io::Result<()> {
    let path = file(directory, account);
    // A gateway that was killed while it wrote may have left a password there.
    remove_if_there(&path.with_extension(NEW))?;
    fs::remove_file(path)?;
    sync_directory(directory)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Windows writes names in order by itself.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The text of an account's file. A value that is none for a setting becomes one that its check refuses.
pub fn to_toml(settings: &Map<String, Value>) -> String {
    let line =
        |(name, value): (&String, &Value)| format!("{} = {}\n", quoted(name), toml_value(value));
    settings.iter().map(line).collect()
}

fn toml_value(value: &Value) -> String {
    match value {
        // TOML has none.
        Value::Null => "[]".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) => {
            let entry = |(name, value): (&String, &Value)| {
                format!("{} = {}", quoted(name), toml_value(value))
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// A text as TOML writes it, which has every escape of JSON, and one more character to escape.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// The text of a file with or without the pause, which stands in a line of its own above every table.
///
/// # Errors
/// If somebody has written the file so that its lines do not show the pause, or it is no TOML.
pub fn with_pause(text: &str, paused: bool) -> Result<String, String> {
    let mut in_table = false;
    let others = text.lines().filter(|line| {
        in_table |= line.trim_start().starts_with('[');
        let name = line.split_once('=').map(|(name, _)| name.trim().trim_matches('"'));
        in_table || name != Some("paused")
    });
    let pause = paused.then_some("paused = true");
    let changed: String = pause.into_iter().chain(others).map(|line| format!("{line}\n")).collect();
    let other_settings = |text: &str| {
        let mut entries = toml_file::parse(text).ok()?;
        entries.retain(|(key, _)| key != "paused");
        Some(entries)
    };
    if other_settings(text).is_none_or(|before| other_settings(&changed) != Some(before)) {
        return Err(
            "the account's file in the accounts store was edited: write `paused` there by \
                    hand, in a line of its own above every table, and reload"
                .to_owned(),
        );
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn settings_are_written_a_line_each() {
        let settings = map(json!({
            "login": 7, "password": "a\"b\\c\n", "sessions": 2, "trade": true,
            "terminal": { "kind": "simulator" }, "list": [1, 2.5, "x"],
        }));
        let expected = "\"list\" = [1, 2.5, \"x\"]\n\"login\" = 7\n\
                        \"password\" = \"a\\\"b\\\\c\\n\"\n\"sessions\" = 2\n\
                        \"terminal\" = { \"kind\" = \"simulator\" }\n\"trade\" = true\n";
        assert_eq!(to_toml(&settings), expected);
    }

    #[test]
    fn a_pause_is_one_line_above_the_tables() {
        for (text, paused, expected) in [
            ("", true, "paused = true\n"),
            ("", false, ""),
            ("login = 1\n", true, "paused = true\nlogin = 1\n"),
            ("paused = true\nlogin = 1\n", false, "login = 1\n"),
            ("\"paused\" = false\nlogin = 1\n", true, "paused = true\nlogin = 1\n"),
            ("[t]\npaused = 1\n", true, "paused = true\n[t]\npaused = 1\n"),
            ("# paused by hand\n", false, "# paused by hand\n"),
        ] {
            assert_eq!(with_pause(text, paused).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["server = \"\"\"\npaused = true\n\"\"\"\n", "login = ", "{"] {
            let fault = with_pause(text, true).unwrap_err();
            assert!(fault.contains("by hand"), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was_written(text in any::<String>()) {
            let written = format!("x = {}", quoted(&text));
            let (_, read) = toml_file::parse(&written).unwrap().remove(0);
            prop_assert_eq!(read.into_string().unwrap(), text);
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_the_gateways_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = AccountsStore(directory.path().join("data/accounts"));
        let account = AccountName::parse("main").unwrap();
        let path = file(&store.0, &account);
        assert!(files(&store.0).unwrap().is_empty());
        assert_eq!(store.read(&account), Ok(None));
        for text in ["a = 1\n", "b = 22\n", ""] {
            // What a gateway has left that was killed while it wrote.
            if store.0.exists() {
                fs::write(path.with_extension(NEW), "half").unwrap();
            }
            store.keep(&account, Some(text)).unwrap();
            assert_eq!(store.read(&account).unwrap().as_deref(), Some(text));
            assert_eq!(files(&store.0).unwrap(), [(Some(account.clone()), path.clone())]);
            assert_eq!(crate::files::exposed_mode(&path), None);
            assert_eq!(fs::read_dir(&store.0).unwrap().count(), 1);
        }
        fs::write(path.with_extension(NEW), "password = 'half'").unwrap();
        store.keep(&account, None).unwrap();
        assert_eq!(fs::read_dir(&store.0).unwrap().count(), 0);
        assert!(store.keep(&account, None).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (store, other) =
            (AccountsStore(directory.path().into()), directory.path().join("other"));
        let account = AccountName::parse("main").unwrap();
        fs::write(&other, "untouched").unwrap();
        let path = file(&store.0, &account);
        for link in [path.with_extension(NEW), path.clone()] {
            std::os::unix::fs::symlink(&other, link).unwrap();
        }
        store.keep(&account, Some("a = 1\n")).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        assert!(path.symlink_metadata().unwrap().is_file());
    }
}
