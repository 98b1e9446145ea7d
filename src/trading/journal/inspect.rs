//! A look at the journal's file that changes nothing, also while a gateway uses it.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::schema::{self, with_ending};
use crate::files;

/// How the journal's file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalLook {
    /// There is none yet. The first directory above it that exists can be written, or why not.
    Missing(Result<(), String>),
    /// A gateway uses it, which has looked at it itself.
    InUse,
    /// It can be used.
    Sound {
        /// The version of its schema.
        version: i64,
        /// How many halts it has.
        halts: i64,
    },
    /// It cannot be used.
    Unusable(String),
}

/// Looks at the journal's file. Reads the whole file unless a gateway uses it, which takes a second or
/// two for a million trades.
pub fn inspect(file: &Path) -> JournalLook {
    let file = match schema::resolved(file) {
        Ok(file) => file,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
            return JournalLook::Missing(can_be_made(file));
        }
        Err(fault) => return JournalLook::Unusable(fault.to_string()),
    };
    if is_locked(&file) {
        return JournalLook::InUse;
    }
    if let Err(fault) = OpenOptions::new().write(true).open(&file) {
        return JournalLook::Unusable(format!("it cannot be written: {fault}"));
    }
    match look(&file) {
        Ok((version, halts)) => JournalLook::Sound { version, halts },
        Err(fault) => JournalLook::Unusable(fault),
    }
}

/// Whether a gateway holds the file.
fn is_locked(file: &Path) -> bool {
    let lock = File::open(with_ending(file, ".lock"));
    // Given back at once: a gateway may be about to start.
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

fn look(file: &Path) -> Result<(i64, i64), String> {
    let file = files::path_for_c(file).map_err(|fault| fault.to_string())?;
    let text = |fault: rusqlite::Error| fault.to_string();
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(text)?;
    let version = schema::check(&connection)?;
    schema::check_soundness(&connection)?;
    let count = "SELECT count(*) FROM halts";
    let halts = match version {
        3.. => connection.query_row(count, [], |row| row.get(0)).map_err(text)?,
        _ => 0,
    };
    Ok((version, halts))
}

/// Whether files can be made where the journal will be.
fn can_be_made(file: &Path) -> Result<(), String> {
    let above = file
        .ancestors()
        .skip(1)
        .map(|directory| if directory.as_os_str().is_empty() { Path::new(".") } else { directory });
    let directory = above.into_iter().find(|directory| directory.exists());
    let directory = directory.unwrap_or(Path::new("."));
    let name = directory.join(format!(".mt5-gateway-doctor-{}", std::process::id()));
    let made = files::open_private(&name, OpenOptions::new().write(true));
    let _ = std::fs::remove_file(&name);
    made.map(drop).map_err(|fault| format!("{} cannot be written: {fault}", directory.display()))
}
