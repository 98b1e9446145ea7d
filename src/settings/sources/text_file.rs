//! Text files that people write: settings, `.env` and passwords. All are read by the same rules.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::files::open_regular;

/// The largest size of such a file, in bytes.
const LARGEST: u64 = 4 << 20;

/// Why a file cannot be read. The message follows the file's name, and never repeats the content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFileError {
    /// There is no such file.
    #[error("does not exist")]
    Missing,
    /// It exists, but cannot be read as text.
    #[error("{0}")]
    Unusable(String),
}

impl TextFileError {
    fn unusable(why: impl Into<String>) -> TextFileError {
        TextFileError::Unusable(why.into())
    }
}

/// Reads a file as UTF-8, without its byte order mark.
pub fn read(path: &Path) -> Result<String, TextFileError> {
    let open = || {
        let mut bytes = vec![];
        open_regular(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error| explain(path, &error))?;
    if bytes.len() as u64 > LARGEST {
        let most = LARGEST >> 20;
        return Err(TextFileError::unusable(format!(
            "is larger than {most} MiB, so it is something else"
        )));
    }
    decode(bytes).map_err(TextFileError::Unusable)
}

fn explain(path: &Path, error: &io::Error) -> TextFileError {
    if path.is_dir() {
        return TextFileError::unusable("is a directory, expected a file");
    }
    if error.kind() == ErrorKind::NotFound {
        return match path.symlink_metadata() {
            Ok(_) => TextFileError::unusable("is a link to something that does not exist"),
            Err(_) => TextFileError::Missing,
        };
    }
    TextFileError::unusable(format!("cannot be read: {error}"))
}

/// Decodes UTF-8 and removes a byte order mark. Other encodings are refused, never guessed: a
/// password with a replaced character would lock the account at its broker.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let has_wide_mark = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    if has_wide_mark || bytes.contains(&0) {
        return Err("is UTF-16 or no text, expected UTF-8: save it as UTF-8 (Notepad: Save as, \
                    Encoding UTF-8; PowerShell: `Set-Content -Encoding utf8`)"
            .to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..offset].split(|byte| *byte == b'\n').count();
        format!(
            "is not UTF-8 at line {line} (byte offset {offset}): save it as UTF-8, not as ANSI or \
             Windows-1252"
        )
    })?;
    Ok(match text.strip_prefix('\u{FEFF}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&pipe, Path::new("/dev/null")] {
            let fault = read(path).unwrap_err().to_string();
            assert!(fault.contains("expected a regular file"), "{fault}");
        }
    }

    #[test]
    fn decode_takes_utf_8_alone_and_says_where_it_ends() {
        let utf_16 = |text: &str, little: bool| -> Vec<u8> {
            let units = text.encode_utf16();
            units
                .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
                .collect()
        };
        assert_eq!(decode(b"a = 1\r\n".to_vec()).as_deref(), Ok("a = 1\r\n"));
        assert_eq!(decode("\u{FEFF}ä".into()).as_deref(), Ok("ä"));
        // One mark is one too many only at the beginning.
        assert_eq!(decode("\u{FEFF}\u{FEFF}a".into()).as_deref(), Ok("\u{FEFF}a"));
        let wide = [
            utf_16("\u{FEFF}a = 1", true),
            utf_16("\u{FEFF}a = 1", false),
            utf_16("a = 1", true),
            utf_16("a = 1", false),
        ];
        for bytes in wide {
            assert!(decode(bytes).unwrap_err().starts_with("is UTF-16 or no text"));
        }
        let fault = decode(b"a = 1\nb = 'S3cr\xE4t'".to_vec()).unwrap_err();
        assert!(fault.starts_with("is not UTF-8 at line 2 (byte offset 15): save"), "{fault}");
        assert!(!fault.contains("S3cr"));
    }
}
