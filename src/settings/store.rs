//! The accounts store: accounts that clients have set, one file of settings each.
//!
//! A file holds what `[accounts.NAME]` would, and is named `NAME.toml`. It is written as a whole: a reader
//! sees the earlier one or the new one, also after the machine has failed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::account_name::AccountName;
use crate::files::{create_private_directory, open_private};

/// Where it is unless the settings say otherwise.
pub const DEFAULT_DIRECTORY: &str = "data/accounts";

/// The ending of a file's name.
const ENDING: &str = "toml";

/// Where accounts are kept that clients have set.
#[derive(Debug, Clone)]
pub struct AccountsStore(pub PathBuf);

impl AccountsStore {
    /// What is kept of an account. `None`: nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, account: &AccountName) -> io::Result<Option<String>> {
        match fs::read_to_string(file(&self.0, account)) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Keeps this of an account; `None`: nothing. Returns when it is on disk.
    ///
    /// # Errors
    /// If it cannot be written. What was kept before is there then.
    pub fn keep(&self, account: &AccountName, text: Option<&str>) -> io::Result<()> {
        match text {
            Some(text) => write(&self.0, account, text),
            None => remove(&self.0, account),
        }
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
///
/// # Errors
/// If it cannot be written. The earlier one is there then.
fn write(directory: &Path, account: &AccountName, text: &str) -> io::Result<()> {
    create_private_directory(directory)?;
    let path = file(directory, account);
    // Its ending is not the one of settings.
    let new = path.with_extension("new");
    let mut written = open_private(&new, OpenOptions::new().write(true).truncate(true))?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    drop(written);
    fs::rename(&new, &path)?;
    sync_directory(directory)
}

/// Removes the file of an account, and returns when that is on disk.
///
/// # Errors
/// If it cannot be removed.
fn remove(directory: &Path, account: &AccountName) -> io::Result<()> {
    fs::remove_file(file(directory, account))?;
    sync_directory(directory)
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Windows writes names in order by itself.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    let _ = File::open;
    Ok(())
}

/// The text of an account's file.
///
/// # Errors
/// The field whose value cannot be a setting.
pub fn to_toml(settings: &Map<String, Value>) -> Result<String, String> {
    let mut text = String::new();
    for (name, value) in settings {
        let value = toml_value(name, value)?;
        text.push_str(&format!("{} = {value}\n", quoted(name)));
    }
    Ok(text)
}

fn toml_value(field: &str, value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Null => {
            return Err(format!("field `{field}`: null is no setting; leave it out"));
        }
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Result<Vec<String>, String> =
                items.iter().map(|item| toml_value(field, item)).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Object(table) => {
            let entries: Result<Vec<String>, String> = table
                .iter()
                .map(|(name, value)| {
                    let value = toml_value(&format!("{field}.{name}"), value)?;
                    Ok(format!("{} = {value}", quoted(name)))
                })
                .collect();
            format!("{{ {} }}", entries?.join(", "))
        }
    })
}

/// A text as TOML writes it, which has every escape of JSON, and one more character to escape.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// The text of a file with or without the pause, which stands in a line of its own above every table.
pub fn with_pause(text: &str, paused: bool) -> String {
    let mut in_table = false;
    let others = text.lines().filter(|line| {
        in_table |= line.trim_start().starts_with('[');
        let name = line.split_once('=').map(|(name, _)| name.trim().trim_matches('"'));
        in_table || name != Some("paused")
    });
    let pause = paused.then_some("paused = true");
    pause.into_iter().chain(others).map(|line| format!("{line}\n")).collect()
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
        assert_eq!(to_toml(&settings).unwrap(), expected);
        let fault = to_toml(&map(json!({ "terminal": { "kind": null } }))).unwrap_err();
        assert!(fault.contains("`terminal.kind`"), "{fault}");
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
            assert_eq!(with_pause(text, paused), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was_written(text in any::<String>()) {
            let written = format!("x = {}", quoted(&text));
            let read = crate::settings::sources::parsed(&written);
            prop_assert_eq!(read, text);
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_the_gateways_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("data/accounts");
        let account = AccountName::parse("main").unwrap();
        assert!(files(&store).unwrap().is_empty());
        for text in ["a = 1\n", "b = 22\n", ""] {
            write(&store, &account, text).unwrap();
            assert_eq!(fs::read_to_string(file(&store, &account)).unwrap(), text);
            assert_eq!(files(&store).unwrap(), [(Some(account.clone()), file(&store, &account))]);
            assert_eq!(crate::files::exposed_mode(&file(&store, &account)), None);
        }
        remove(&store, &account).unwrap();
        assert!(files(&store).unwrap().is_empty());
        assert!(remove(&store, &account).is_err());
    }
}
