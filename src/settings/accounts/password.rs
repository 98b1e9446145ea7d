//! The password of an account, given as it is or in a file.

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
    let text = match text_file::read(&file) {
        Ok(text) => text,
        Err(fault) => {
            reader.fault(&file_key, format!("{} {fault}", file.display()));
            return None;
        }
    };
    if let Some(mode) = files::exposed_mode(&file) {
        let file = file.display();
        let message = format!("others can read {file}, which has mode {mode:04o}: `chmod 600` it");
        reader.warn(&file_key, message);
    }
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        reader.fault(&file_key, format!("{} is empty", file.display()));
    } else if has_control(password) {
        let message = format!(
            "{} has more than one line or a control character: expected the password alone",
            file.display()
        );
        reader.fault(&file_key, message);
    }
    Some(password.into())
}
