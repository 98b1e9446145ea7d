//! Log lines as entries of systemd's journal, with a field for each of their own.
//!
//! This is our own code because `tracing-journald` writes to the journal where an event happens: a
//! journal that hangs would stop the gateway. These lines are queued like all others.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::io::Errno;
use serde_json::{Map, Value};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What a field that is not one of journald's own begins with.
const PREFIX: &str = "MT5_";

/// The longest message of an entry that is too long for a datagram, in bytes.
const LONGEST_CUT_MESSAGE: usize = 32 << 10;

/// The longest field that such an entry keeps, in bytes.
const LONGEST_KEPT_FIELD: usize = 1 << 10;

/// Sends each line, one JSON object, to journald. What journald does not take is written to another
/// writer as it is.
pub struct Journald<W> {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    otherwise: W,
}

impl<W: Write> Journald<W> {
    pub fn new(otherwise: W) -> Journald<W> {
        Journald { path: PathBuf::from(SOCKET), socket: None, otherwise }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let Value::Object(fields) = serde_json::from_slice(line)? else {
            return Err(ErrorKind::InvalidData.into());
        };
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(UnixDatagram::unbound()?),
        };
        match socket.send_to(&entry(&fields), &self.path) {
            Err(fault) if Errno::from_io_error(&fault) == Some(Errno::MSGSIZE) => {
                socket.send_to(&cut_entry(&fields), &self.path)?;
            }
            sent => drop(sent?),
        }
        Ok(())
    }
}

impl<W: Write> Write for Journald<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.send(line).is_err() {
            self.otherwise.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.otherwise.flush()
    }
}

/// An entry in journald's native protocol. Its message also has the fields, because `journalctl` shows
/// nothing else by default.
fn entry(fields: &Map<String, Value>) -> Vec<u8> {
    let mut message = String::new();
    let mut entry = begin(fields);
    for (name, value) in fields {
        let value = text(value);
        match name.as_str() {
            "level" => {}
            "message" => message.insert_str(0, &value),
            name => {
                // The time is of the event, which may have waited for journald.
                if !["target", "timestamp"].contains(&name) {
                    message.push_str(&format!(" {name}={}", quoted(&value)));
                }
                add(&mut entry, &field_name(name), &value);
            }
        }
    }
    add(&mut entry, "MESSAGE", message.trim_start());
    entry
}

/// The beginning of an entry that is too long, with its short fields.
fn cut_entry(fields: &Map<String, Value>) -> Vec<u8> {
    let message = fields.get("message").map(text).unwrap_or_default();
    let mut entry = begin(fields);
    for (name, value) in fields {
        let value = text(value);
        if !["level", "message"].contains(&name.as_str()) && value.len() <= LONGEST_KEPT_FIELD {
            add(&mut entry, &field_name(name), &value);
        }
    }
    let end = message.floor_char_boundary(LONGEST_CUT_MESSAGE);
    add(&mut entry, "MESSAGE", &format!("{}… (cut)", &message[..end]));
    entry
}

fn begin(fields: &Map<String, Value>) -> Vec<u8> {
    let mut entry = b"SYSLOG_IDENTIFIER=mt5-gateway\n".to_vec();
    add(&mut entry, "PRIORITY", priority(fields.get("level").and_then(Value::as_str)));
    entry
}

/// The priority of syslog(3).
fn priority(level: Option<&str>) -> &'static str {
    match level {
        Some("ERROR") => "3",
        Some("WARN") => "4",
        Some("DEBUG" | "TRACE") => "7",
        _ => "6",
    }
}

/// Journald takes capital letters, digits and underscores, 64 at most.
fn field_name(name: &str) -> String {
    let allowed = |character: char| match character.to_ascii_uppercase() {
        upper @ ('A'..='Z' | '0'..='9') => upper,
        _ => '_',
    };
    PREFIX.chars().chain(name.chars().map(allowed)).take(64).collect()
}

/// A value as a part of the message. What is not one word is a JSON string, so that no value from
/// outside looks like another field or line.
fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/{}+%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(Value::from(value).to_string())
    }
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn add(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        // A value of several lines has its length in front.
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> Vec<u8> {
        let mut datagram = vec![0; 1 << 20];
        let length = socket.recv(&mut datagram).unwrap();
        datagram.truncate(length);
        datagram
    }

    fn connected(directory: &tempfile::TempDir) -> (UnixDatagram, Journald<Vec<u8>>) {
        let path = directory.path().join("journal");
        let socket = UnixDatagram::bind(&path).unwrap();
        (socket, Journald { path, socket: None, otherwise: vec![] })
    }

    #[test]
    fn a_line_is_an_entry_with_a_field_for_each_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, mut journald) = connected(&directory);
        let line = r#"{"timestamp":"2025-01-01T00:00:00Z","level":"WARN","account":"demo","session":0,
            "request-id":"a=b","message":"session ready","target":"mt5_gateway::pool"}"#;
        journald.write_all(line.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(receive(&socket)).unwrap(),
            "SYSLOG_IDENTIFIER=mt5-gateway\nPRIORITY=4\nMT5_ACCOUNT=demo\nMT5_REQUEST_ID=a=b\n\
             MT5_SESSION=0\nMT5_TARGET=mt5_gateway::pool\nMT5_TIMESTAMP=2025-01-01T00:00:00Z\n\
             MESSAGE=session ready account=demo request-id=\"a=b\" session=0\n"
        );
        assert!(journald.otherwise.is_empty());
    }

    #[test]
    fn a_value_cannot_add_fields() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, mut journald) = connected(&directory);
        let line = r#"{"level":"INFO","line":"a\n_UID=0","message":"m\nPRIORITY=0"}"#;
        journald.write_all(line.as_bytes()).unwrap();
        let mut expected = b"SYSLOG_IDENTIFIER=mt5-gateway\nPRIORITY=6\nMT5_LINE\n".to_vec();
        expected.extend(8_u64.to_le_bytes());
        expected.extend(b"a\n_UID=0\nMESSAGE\n");
        expected.extend(29_u64.to_le_bytes());
        expected.extend(b"m\nPRIORITY=0 line=\"a\\n_UID=0\"\n");
        assert_eq!(String::from_utf8_lossy(&receive(&socket)), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn a_line_that_is_too_long_for_a_datagram_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, mut journald) = connected(&directory);
        let long = "ü".repeat(4 << 20);
        let line =
            format!(r#"{{"level":"ERROR","account":"demo","detail":"{long}","message":"{long}"}}"#);
        journald.write_all(line.as_bytes()).unwrap();
        let entry = String::from_utf8(receive(&socket)).unwrap();
        assert!(entry.contains("PRIORITY=3\nMT5_ACCOUNT=demo\nMESSAGE="), "{}", entry.len());
        assert!(entry.ends_with("ü… (cut)\n"), "{}", entry.len());
        assert!(journald.otherwise.is_empty());
    }

    #[test]
    fn what_journald_does_not_take_is_written_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, mut journald) = connected(&directory);
        drop(socket);
        journald.write_all(b"{\"message\":\"m\"}\n").unwrap();
        journald.write_all(b"no object\n").unwrap();
        assert_eq!(journald.otherwise, b"{\"message\":\"m\"}\nno object\n");
        // It is back.
        std::fs::remove_file(&journald.path).unwrap();
        let socket = UnixDatagram::bind(&journald.path).unwrap();
        journald.write_all(b"{\"message\":\"m\"}\n").unwrap();
        assert!(receive(&socket).ends_with(b"MESSAGE=m\n"));
    }
}
