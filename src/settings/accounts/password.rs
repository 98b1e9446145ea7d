//! The password of an account, given as it is or in a file.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::files;
use crate::settings::reader::Reader;
use crate::settings::sources::text_file;
use crate::settings::types::has_control;

/// Takes the password. `None`: there is none, or a fault was noted.
pub fn take(reader: &mut Reader, section: &str) -> Option<SecretString> {
    let (key, file_key) = (format!("{section}.password"), format!("{section}.password_file"));
    if reader.has(&key) && reader.has(&file_key) {
        reader.fault(&file_key, "expected either `password` or `password_file`, not both");
    }
    let file = reader.file(&file_key);
    if let Some(password) = reader.password(&key) {
        if password.expose_secret().is_empty() {
            reader.fault(&key, "is empty");
        }
        return Some(password);
    }
    let file = file?;
    match read_password_file(&file) {
        Ok(password) => {
            reader.compare_by(&file_key, password.as_bytes());
            if let Some(mode) = files::exposed_mode(&file) {
                let file = file.display();
                let message =
                    format!("others can read {file}, which has mode {mode:04o}: `chmod 600` it");
                reader.warn(&file_key, message);
            }
            Some(password.into())
        }
        Err(fault) => {
            reader.fault(&file_key, fault);
            None
        }
    }
}

/// Reads a password that stands alone in a file. A line break at its end does not belong to it.
///
/// # Errors
/// What is wrong with the file, with its name and without its content.
pub fn read_password_file(file: &Path) -> Result<String, String> {
    let name = file.display();
    let text = text_file::read(file).map_err(|fault| format!("{name} {fault}"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        Err(format!("{name} is empty"))
    } else if has_control(password) {
        Err(format!(
            "{name} has more than one line or a control character: expected the password alone"
        ))
    } else {
        Ok(password.to_owned())
    }
}
