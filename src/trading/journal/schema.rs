//! The journal's file: its schema, its versions, and whose it is.
//!
//! `docs/operations/journal.md` documents the schema for those who read the file with a tool of
//! their own.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tracing::{info, warn};

use super::JournalError;
use crate::account_name::AccountName;
use crate::files;
use crate::pool::Account;

/// The schema's version, `PRAGMA user_version`.
const VERSION: i64 = 3;

/// Marks the file as ours, `PRAGMA application_id`: "mt5g".
const APPLICATION_ID: i64 = 0x6d74_3567;

/// How long to wait for another SQLite program that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const TABLE: &str = "
    CREATE TABLE trades (
        trade_id        TEXT PRIMARY KEY,
        account         TEXT NOT NULL,
        login           INTEGER NOT NULL,
        operation       TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint     BLOB NOT NULL,
        tag             TEXT,
        state           TEXT NOT NULL,
        created_msc     INTEGER NOT NULL,
        updated_msc     INTEGER NOT NULL,
        server_time     INTEGER NOT NULL,
        position_id     INTEGER NOT NULL,
        retcode         INTEGER,
        order_ticket    INTEGER,
        deal_ticket     INTEGER,
        detail          TEXT,
        candidates      TEXT,
        request         TEXT,
        result          TEXT
    ) STRICT;
    CREATE INDEX trades_by_state ON trades (account, state, updated_msc);
    CREATE INDEX trades_by_time ON trades (account, created_msc);
";

/// What version 2 added. The clock behind the times of version 1 is not known, so its rows get no time and
/// no floor.
const SECOND: &str = "
    ALTER TABLE trades ADD COLUMN server TEXT NOT NULL DEFAULT '';
    ALTER TABLE trades ADD COLUMN trade_mode INTEGER NOT NULL DEFAULT -1;
    ALTER TABLE trades ADD COLUMN order_floor INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE trades ADD COLUMN deal_floor INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE trades ADD COLUMN accepted_order INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE trades ADD COLUMN may_arrive INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE trades ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE trades ADD COLUMN before TEXT;
    ALTER TABLE trades ADD COLUMN present TEXT;
    ALTER TABLE trades ADD COLUMN resolved_by TEXT;
    ALTER TABLE trades ADD COLUMN contradicted TEXT;
    ALTER TABLE trades ADD COLUMN api_key TEXT;
    ALTER TABLE trades ADD COLUMN client TEXT;
    DROP INDEX IF EXISTS trades_by_key;
    CREATE UNIQUE INDEX trades_by_key
        ON trades (server COLLATE NOCASE, login, account, idempotency_key)
        WHERE idempotency_key IS NOT NULL AND state <> 'not-sent';
    CREATE INDEX trades_of_key ON trades (account, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX trades_by_order ON trades (account, order_ticket);
    CREATE INDEX trades_by_accepted_order ON trades (account, accepted_order)
        WHERE accepted_order <> 0;
    UPDATE trades SET server_time = 0;
    UPDATE trades SET may_arrive = 1 WHERE state IN ('sending', 'unknown');
";

/// What version 3 added. An older gateway must not use the file, because it would open what is halted. Login 0
/// stands for every account.
const THIRD: &str = "
    CREATE TABLE halts (
        login     INTEGER NOT NULL,
        server    TEXT NOT NULL,
        since_msc INTEGER NOT NULL,
        api_key   TEXT,
        client    TEXT,
        PRIMARY KEY (login, server)
    ) STRICT;
";

/// Indexes that version 2 got later. An older gateway keeps them up to date without knowing them.
const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS trades_by_identity
        ON trades (login, server COLLATE NOCASE, account);
    CREATE INDEX IF NOT EXISTS trades_by_decision ON trades (account, updated_msc)
        WHERE resolved_by IS NOT NULL;
    CREATE INDEX IF NOT EXISTS trades_with_bodies ON trades (updated_msc)
        WHERE request IS NOT NULL OR result IS NOT NULL;
";

/// What SQLite's planner has to know about a long journal, by name of index: how many rows the index has, and how
/// many of them are alike in its first column, its first two, and so on. An account has half of a million trades, and
/// few of them are in the states that are looked up in `trades_by_state`. Without statistics the planner expects
/// ten trades of an account, and reads all of them where another index leads to the one that is wanted.
const STATISTICS: [(&str, &str); 10] = [
    ("sqlite_autoindex_trades_1", "1000000 1"),
    ("trades_by_accepted_order", "10 5 1"),
    ("trades_by_decision", "10 5 1"),
    ("trades_by_identity", "1000000 500000 500000 500000"),
    ("trades_by_key", "1000000 500000 500000 500000 1"),
    ("trades_by_order", "1000000 500000 1"),
    ("trades_by_state", "1000000 500000 10 1"),
    ("trades_by_time", "1000000 500000 1"),
    ("trades_of_key", "1000000 500000 1"),
    ("trades_with_bodies", "1000000 1"),
];

/// The first name, after another one, under which an account has trades.
const NEXT_NAME: &str = "SELECT account FROM trades
    WHERE login = ?1 AND server = ?2 COLLATE NOCASE AND account > ?3 ORDER BY account LIMIT 1";

/// Gives an account's trades another name. Rows that cannot follow were repeated under that name by a gateway
/// that did not know this rule.
const RENAME: &str = "UPDATE OR IGNORE trades SET account = ?1
    WHERE login = ?2 AND server = ?3 COLLATE NOCASE AND account = ?4";

/// A configured account, to tell whose the rows of version 1 are.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Its name.
    pub account: AccountName,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
}

impl Owner {
    /// A configured account.
    pub fn of(account: &Account) -> Owner {
        let (login, server) = (account.login, account.server.clone());
        Owner { account: account.name.clone(), login, server }
    }
}

/// The open file, which is not [prepared](prepare) yet.
pub struct Opened {
    pub connection: Connection,
    pub identity: FileIdentity,
}

/// Opens the file, creates it if it is missing, and keeps every other gateway out of it. Takes no longer for a
/// long journal than for a short one.
///
/// # Errors
/// Why it cannot be used.
pub fn open(file: &Path) -> Result<Opened, JournalError> {
    let unusable = |detail: String| JournalError::Unusable { file: file.to_owned(), detail };
    if let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::create_private_directory(directory)
            .map_err(|error| unusable(format!("its directory cannot be created: {error}")))?;
    }
    if !file.exists() {
        // SQLite gives its write-ahead log the mode of the database.
        let created = files::open_private(file, OpenOptions::new().write(true));
        drop(created.map_err(|error| unusable(error.to_string()))?);
    }
    let file = &resolved(file).map_err(|error| unusable(error.to_string()))?;
    let lock = lock(file)?;
    for name in ["", "-wal", "-shm", ".lock"].map(|ending| with_ending(file, ending)) {
        if let Some(mode) = files::exposed_mode(&name) {
            let (file, mode) = (name.display(), format_args!("{mode:04o}"));
            warn!(%file, %mode, "journal can be read by other users, chmod 600 closes it to them");
        }
    }
    let connection = connect(file).map_err(unusable)?;
    let identity = FileIdentity::of(file, lock).map_err(|error| unusable(error.to_string()))?;
    Ok(Opened { connection, identity })
}

/// The file that a symbolic link leads to: SQLite keeps its log beside that one, and two gateways that
/// reach it by different names must not both have it.
pub fn resolved(file: &Path) -> io::Result<PathBuf> {
    if file.symlink_metadata()?.is_symlink() {
        return file.canonicalize();
    }
    Ok(file.to_owned())
}

fn connect(file: &Path) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let file = files::path_for_c(file).map_err(|error| error.to_string())?;
    let mut connection = Connection::open(file).map_err(text)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(text)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(text)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(text)?;
    if mode != "wal" {
        return Err(format!("it has to be in WAL mode, and is in mode {mode}"));
    }
    if check(&connection)? == 0 {
        create(&mut connection).map_err(text)?;
    }
    Ok(connection)
}

/// The version of the file's schema; 0 if it is empty.
///
/// # Errors
/// If it is not a journal that this gateway knows.
pub fn check(connection: &Connection) -> Result<i64, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let version = version(connection).map_err(text)?;
    let application: i64 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(text)?;
    match (application, version) {
        (0, 0) | (APPLICATION_ID, 1..=VERSION) => Ok(version),
        (APPLICATION_ID, newer) => Err(format!(
            "its schema has version {newer}, this gateway knows {VERSION}: use a newer gateway"
        )),
        _ => Err("it is a database of another program".to_owned()),
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    change.execute_batch(TABLE)?;
    change.execute_batch(SECOND)?;
    change.execute_batch(THIRD)?;
    add_indexes(&change)?;
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    change.pragma_update(None, "user_version", VERSION)?;
    change.commit()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes sure that the file is not damaged, brings its schema up to date, and gives trades the present names of
/// their accounts. Nothing may be read or written before: a damaged file is evidence. Reads the whole file, which takes a second or two for
/// a million trades.
///
/// # Errors
/// Why it cannot be used.
pub fn prepare(connection: &mut Connection, owners: &[Owner]) -> Result<(), String> {
    check_soundness(connection)?;
    migrate(connection, owners).map_err(|error| error.to_string())
}

/// Makes sure that the file is not damaged. Reads all of it.
///
/// # Errors
/// What is damaged, or why it cannot be read.
pub fn check_soundness(connection: &Connection) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let sound: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(text)?;
    if sound == "ok" {
        return Ok(());
    }
    // SQLite says it in lines.
    Err(format!("it is damaged: {}", sound.trim().replace('\n', ", ")))
}

fn migrate(connection: &mut Connection, owners: &[Owner]) -> rusqlite::Result<()> {
    let version = version(connection)?;
    let change = connection.transaction()?;
    if version == 1 {
        change.execute_batch(SECOND)?;
        name_servers(&change, owners)?;
    }
    if version < 3 {
        change.execute_batch(THIRD)?;
    }
    // Also where it is there already, which shows that the file can be written.
    change.pragma_update(None, "user_version", VERSION)?;
    add_indexes(&change)?;
    follow_accounts(&change, owners)?;
    change.commit()
}

/// Adds the indexes and the statistics that are missing.
fn add_indexes(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch(INDEXES)?;
    // An error: nobody has made statistics yet.
    let found = statistics(change).unwrap_or_default();
    if found.iter().map(|(index, statistic)| (&**index, &**statistic)).eq(STATISTICS) {
        return Ok(());
    }
    // Creates the table, and at the end lets this connection read it.
    change.execute_batch("ANALYZE sqlite_schema; DELETE FROM sqlite_stat1 WHERE tbl = 'trades'")?;
    for (index, statistic) in STATISTICS {
        change.execute(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('trades', ?1, ?2)",
            [index, statistic],
        )?;
    }
    change.execute_batch("ANALYZE sqlite_schema")
}

fn statistics(change: &Transaction<'_>) -> rusqlite::Result<Vec<(String, String)>> {
    change
        .prepare("SELECT idx, stat FROM sqlite_stat1 WHERE tbl = 'trades' ORDER BY idx")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Rows of version 1 know the account's name and number; the settings know its server.
fn name_servers(change: &Transaction<'_>, owners: &[Owner]) -> rusqlite::Result<()> {
    for Owner { account, login, server } in owners {
        change.execute(
            "UPDATE trades SET server = ?1 WHERE account = ?2 AND login = ?3 AND server = ''",
            params![server, account.as_str(), login.cast_signed()],
        )?;
    }
    Ok(())
}

/// Gives the trades of an account its present name. An account is its login and server: under a new name it must not
/// trade with a key again, nor forget trades that are open.
fn follow_accounts(change: &Transaction<'_>, owners: &[Owner]) -> rusqlite::Result<()> {
    let mut next_name = change.prepare(NEXT_NAME)?;
    for Owner { account, login, server } in owners {
        let (account, login) = (account.as_str(), login.cast_signed());
        // From name to name, because an account has as many trades as it likes, and few names.
        let mut name = String::new();
        while let Some(next) =
            next_name.query_row(params![login, server, name], |row| row.get(0)).optional()?
        {
            name = next;
            if name == account {
                continue;
            }
            let trades = change.execute(RENAME, params![account, login, server, name])?;
            if trades > 0 {
                info!(
                    account,
                    earlier_name = name,
                    trades,
                    "trades follow their account to its new name"
                );
            }
        }
    }
    Ok(())
}

/// Gives the trades of an account that has come its present name.
///
/// # Errors
/// If the file cannot be read or written.
pub fn adopt(connection: &mut Connection, owner: Owner) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    follow_accounts(&change, &[owner])?;
    change.commit()
}

pub fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Keeps other gateways out for as long as the file is open.
fn lock(file: &Path) -> Result<File, JournalError> {
    let name = with_ending(file, ".lock");
    let unusable = |error: io::Error| JournalError::Unusable {
        file: file.to_owned(),
        detail: format!("{}: {error}", name.display()),
    };
    let lock = files::open_private(&name, OpenOptions::new().write(true)).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::InUse(file.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// The identity of the open file, whatever its name. A file that is deleted or moved while it is open would
/// take every further row with it, and another gateway could open a new file under its name.
pub struct FileIdentity {
    /// Each file's name and place: the database, its log of newest rows, the lock.
    files: Vec<(PathBuf, FileId)>,
    /// Holds the lock.
    _lock: File,
}

impl FileIdentity {
    fn of(file: &Path, lock: File) -> io::Result<FileIdentity> {
        let mut files = vec![(with_ending(file, ".lock"), FileId::of(&lock.metadata()?))];
        // By their names: opening them once more and closing that would drop SQLite's own locks.
        for name in [file.to_owned(), with_ending(file, "-wal")] {
            let place = FileId::of(&std::fs::metadata(&name)?);
            files.push((name, place));
        }
        Ok(FileIdentity { files, _lock: lock })
    }

    /// Makes sure that the names still lead to the files that are open.
    ///
    /// # Errors
    /// What is not there, or is another file.
    pub fn check(&self) -> Result<(), String> {
        for (name, opened) in &self.files {
            match std::fs::metadata(name) {
                Ok(found) if FileId::of(&found) == *opened => {}
                Ok(_) => {
                    return Err(format!(
                        "{} was replaced by another file while the gateway ran: put the old one \
                         back; after a restart the keys of the new one count",
                        name.display()
                    ));
                }
                Err(error) => {
                    return Err(format!(
                        "{} is gone ({error}) while the gateway runs: put it back; a restart without \
                         it begins an empty journal, in which every key can trade again",
                        name.display()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The device and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &std::fs::Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt;
        FileId(metadata.dev(), metadata.ino())
    }

    /// Windows lets nobody delete or rename a file that SQLite has open, so its presence is enough.
    #[cfg(not(unix))]
    fn of(_metadata: &std::fs::Metadata) -> FileId {
        FileId(0, 0)
    }
}

/// How SQLite carries out a statement: what it searches or scans, on lines.
#[cfg(test)]
pub fn plan(connection: &Connection, statement: &str) -> String {
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let (mut rows, mut lines) = (plan.raw_query(), Vec::<String>::new());
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get("detail").unwrap());
    }
    lines.retain(|line| line.starts_with("SEARCH") || line.starts_with("SCAN"));
    lines.join("\n")
}

/// Opens and prepares a file.
#[cfg(test)]
pub fn prepared(file: &Path, owners: &[Owner]) -> Connection {
    let mut connection = open(file).unwrap().connection;
    prepare(&mut connection, owners).unwrap();
    connection
}

#[cfg(test)]
mod tests;
