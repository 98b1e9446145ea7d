//! The journal: what was decided about each trade, in SQLite, on disk before
//! anything is sent. One thread owns the file; everybody else sends it work.
//!
//! `docs/operations/journal.md` documents the schema for those who read the
//! file with a tool of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use tokio::sync::oneshot;
use tracing::error;

use super::trade::{Operation, State, Trade, TradeResult};
use crate::metrics::{Event, Metrics};
use crate::mt5::Retcode;

/// The schema's version, `PRAGMA user_version`.
const VERSION: i64 = 1;

/// Marks the file as ours, `PRAGMA application_id`: "mt5g".
const APPLICATION_ID: i64 = 0x6d74_3567;

const SCHEMA: &str = "
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
    CREATE UNIQUE INDEX trades_by_key ON trades (account, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX trades_by_state ON trades (account, state, updated_msc);
    CREATE INDEX trades_by_time ON trades (account, created_msc);
";

/// Why the journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another gateway uses it.
    #[error("the journal {} is used by another gateway; give each its own `trading.journal`", .0.display())]
    InUse(PathBuf),
    /// It cannot be opened, read or written.
    #[error("the journal {} cannot be used: {detail}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The way to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    file: PathBuf,
    work: mpsc::Sender<Work>,
    metrics: Metrics,
}

/// What one account's unknown trades come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    pub count: i64,
    /// Unix milliseconds.
    pub oldest_msc: Option<i64>,
}

impl Journal {
    /// Opens the journal and keeps every other gateway out of it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(file: &Path, metrics: Metrics) -> Result<Journal, JournalError> {
        let unusable = |detail: String| JournalError::Unusable { file: file.to_owned(), detail };
        if let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| unusable(error.to_string()))?;
        }
        let lock = lock(file)?;
        let mut connection = open(file).map_err(unusable)?;
        let (work, queue) = mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let _lock = lock;
                while let Ok(work) = queue.recv() {
                    work(&mut connection);
                }
            })
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Journal { file: file.to_owned(), work, metrics })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let unusable = |detail: String| JournalError::Unusable { file: self.file.clone(), detail };
        let work: Work = Box::new(move |connection| {
            let _ = reply.send(work(connection));
        });
        self.work.send(work).map_err(|_| unusable("its thread has ended".to_owned()))?;
        match answer.await {
            Ok(result) => result.map_err(|error| unusable(error.to_string())),
            Err(_) => Err(unusable("its thread has ended".to_owned())),
        }
    }

    async fn write(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        let begun = Instant::now();
        let written = self.run(work).await;
        self.metrics.record(Event::JournalWritten(begun.elapsed()));
        if let Err(error) = &written {
            error!(%error, "journal cannot be written");
        }
        written
    }

    /// Writes a trade's intent; it is on disk when this returns.
    pub async fn insert(&self, trade: Trade) -> Result<(), JournalError> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO trades (trade_id, account, login, operation, idempotency_key,
                        fingerprint, tag, state, created_msc, updated_msc, server_time,
                        position_id, detail, request)
                     VALUES (:trade_id, :account, :login, :operation, :idempotency_key,
                        :fingerprint, :tag, :state, :created_msc, :updated_msc, :server_time,
                        :position_id, :detail, :request)",
                )?
                .execute(named_params! {
                    ":trade_id": trade.trade_id,
                    ":account": trade.account,
                    ":login": stored(trade.login),
                    ":operation": trade.operation.name(),
                    ":idempotency_key": trade.idempotency_key,
                    ":fingerprint": trade.fingerprint,
                    ":tag": trade.tag,
                    ":state": trade.state.name(),
                    ":created_msc": trade.created_msc,
                    ":updated_msc": trade.updated_msc,
                    ":server_time": trade.server_time,
                    ":position_id": stored(trade.position_id),
                    ":detail": trade.detail,
                    ":request": json(&trade.request),
                })?;
            Ok(())
        })
        .await
    }

    /// Writes what is known about a trade's fate now.
    pub async fn update(&self, trade: Trade) -> Result<(), JournalError> {
        self.write(move |connection| {
            let result = trade.result.as_ref();
            connection
                .prepare_cached(
                    "UPDATE trades SET state = :state, updated_msc = :updated_msc,
                        retcode = :retcode, order_ticket = :order, deal_ticket = :deal,
                        detail = :detail, candidates = :candidates, result = :result
                     WHERE trade_id = :trade_id",
                )?
                .execute(named_params! {
                    ":trade_id": trade.trade_id,
                    ":state": trade.state.name(),
                    ":updated_msc": trade.updated_msc,
                    ":retcode": result.map(|result| result.retcode),
                    ":order": result.map(|result| stored(result.order)),
                    ":deal": result.map(|result| stored(result.deal)),
                    ":detail": trade.detail,
                    ":candidates": json(&trade.candidates),
                    ":result": json(&trade.result),
                })?;
            Ok(())
        })
        .await
    }

    /// Turns a trade whose task is gone from `sending` to `unknown`, unless its
    /// result was written meanwhile. Gives whether it did.
    pub async fn orphan(&self, trade: &Trade) -> Result<bool, JournalError> {
        let (id, detail, at) = (trade.trade_id.clone(), trade.detail.clone(), trade.updated_msc);
        self.run(move |connection| {
            let changed = connection.execute(
                "UPDATE trades SET state = 'unknown', detail = ?2, updated_msc = ?3
                 WHERE trade_id = ?1 AND state = 'sending'",
                params![id, detail, at],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// Takes back the intent of a trade that was never sent.
    pub async fn withdraw(&self, trade_id: String) -> Result<(), JournalError> {
        self.write(move |connection| {
            connection.execute("DELETE FROM trades WHERE trade_id = ?1", [trade_id])?;
            Ok(())
        })
        .await
    }

    /// The trade that was made with a key.
    pub async fn by_key(&self, account: &str, key: &str) -> Result<Option<Trade>, JournalError> {
        let (account, key) = (account.to_owned(), key.to_owned());
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT * FROM trades WHERE account = ?1 AND idempotency_key = ?2")?
                .query_row([account, key], read)
                .optional()
        })
        .await
    }

    /// The trade with an id.
    pub async fn by_id(&self, account: &str, id: &str) -> Result<Option<Trade>, JournalError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT * FROM trades WHERE account = ?1 AND trade_id = ?2")?
                .query_row([account, id], read)
                .optional()
        })
        .await
    }

    /// Trades of an account, the newest first.
    pub async fn list(
        &self,
        account: &str,
        state: Option<State>,
        limit: u32,
    ) -> Result<Vec<Trade>, JournalError> {
        let (account, state) = (account.to_owned(), state.map(State::name));
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM trades WHERE account = ?1 AND (?2 IS NULL OR state = ?2)
                     ORDER BY created_msc DESC, trade_id DESC LIMIT ?3",
                )?
                .query_map(params![account, state, limit], read)?
                .collect()
        })
        .await
    }

    /// Trades whose fate is open, and those that were not found since a time
    /// (unix milliseconds), the oldest first.
    pub async fn unfinished(
        &self,
        account: &str,
        watched_since_msc: i64,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.to_owned();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM trades WHERE account = ?1 AND (state IN ('sending', 'unknown')
                        OR (state = 'not-found' AND updated_msc >= ?2))
                     ORDER BY created_msc, trade_id",
                )?
                .query_map(params![account, watched_since_msc], read)?
                .collect()
        })
        .await
    }

    /// Tickets of orders and deals that trades of the account own, of those
    /// made since a time (unix milliseconds).
    pub async fn owned(&self, account: &str, since_msc: i64) -> Result<Vec<u64>, JournalError> {
        let account = account.to_owned();
        self.run(move |connection| {
            let mut tickets = vec![];
            let mut statement = connection.prepare_cached(
                "SELECT order_ticket, deal_ticket FROM trades
                 WHERE account = ?1 AND created_msc >= ?2 AND state = 'executed'
                    AND operation IN ('place', 'close', 'close-by')",
            )?;
            let mut rows = statement.query(params![account, since_msc])?;
            while let Some(row) = rows.next()? {
                for column in 0..2 {
                    tickets.extend(row.get::<_, Option<i64>>(column)?.map(loaded));
                }
            }
            tickets.retain(|ticket| *ticket != 0);
            Ok(tickets)
        })
        .await
    }

    /// How many of an account's trades are unknown, and since when.
    pub async fn unknown(&self, account: &str) -> Result<Unknown, JournalError> {
        let account = account.to_owned();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT count(*), min(created_msc) FROM trades
                     WHERE account = ?1 AND state = 'unknown'",
                )?
                .query_row([account], |row| {
                    Ok(Unknown { count: row.get(0)?, oldest_msc: row.get(1)? })
                })
        })
        .await
    }

    /// Removes the bodies of trades that ended before a time (unix milliseconds).
    pub async fn forget_bodies(&self, before_msc: i64) -> Result<(), JournalError> {
        self.write(move |connection| {
            connection.execute(
                "UPDATE trades SET request = NULL, result = NULL, detail = NULL
                 WHERE updated_msc < ?1 AND state IN ('executed', 'refused', 'not-found')
                    AND request IS NOT NULL",
                [before_msc],
            )?;
            Ok(())
        })
        .await
    }
}

/// Keeps other gateways out for as long as the file is open.
fn lock(file: &Path) -> Result<File, JournalError> {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let unusable = |error: std::io::Error| JournalError::Unusable {
        file: file.to_owned(),
        detail: format!("{}: {error}", Path::new(&name).display()),
    };
    let lock =
        File::options().create(true).truncate(false).write(true).open(&name).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::InUse(file.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn open(file: &Path) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let mut connection = Connection::open(file).map_err(text)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(text)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(text)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(text)?;
    if mode != "wal" {
        return Err(format!("it has to be in WAL mode, and is in mode {mode}"));
    }
    let sound: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(text)?;
    if sound != "ok" {
        return Err(format!("it is damaged: {sound}"));
    }
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(text)?;
    let application: i64 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(text)?;
    let change = connection.transaction().map_err(text)?;
    match (application, version) {
        (0, 0) => {
            change.execute_batch(SCHEMA).map_err(text)?;
            change.pragma_update(None, "application_id", APPLICATION_ID).map_err(text)?;
            change.pragma_update(None, "user_version", VERSION).map_err(text)?;
        }
        (APPLICATION_ID, VERSION) => {
            // Writing what is there already shows that it can be written.
            change.pragma_update(None, "user_version", VERSION).map_err(text)?;
        }
        (APPLICATION_ID, newer) => {
            return Err(format!(
                "its schema has version {newer}, this gateway knows {VERSION}: use a newer gateway"
            ));
        }
        _ => return Err("it is a database of another program".to_owned()),
    }
    change.commit().map_err(text)?;
    Ok(connection)
}

/// SQLite's integers are signed; the bits are kept.
fn stored(ticket: u64) -> i64 {
    ticket.cast_signed()
}

fn loaded(ticket: i64) -> u64 {
    ticket.cast_unsigned()
}

fn json(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(value).ok().filter(|text| text != "null" && text != "[]")
}

fn parsed<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| invalid(error.into()))
}

fn invalid(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Trade> {
    let word = |column: &str| row.get::<_, String>(column);
    let (state, operation) = (word("state")?, word("operation")?);
    let unknown = |what: &str, name: &str| invalid(format!("there is no {what} {name:?}").into());
    let ticket = |column: &str| row.get::<_, Option<i64>>(column).map(|at| at.map_or(0, loaded));
    // After retention the codes and tickets are what is left.
    let kept = match row.get::<_, Option<i64>>("retcode")? {
        None => None,
        Some(code) => {
            let (order, deal) = (ticket("order_ticket")?, ticket("deal_ticket")?);
            let retcode = Retcode::from_code(code);
            Some(TradeResult {
                comment: String::new(),
                retcode: code,
                ..TradeResult::found(retcode, order, deal, 0.0, 0.0)
            })
        }
    };
    Ok(Trade {
        trade_id: word("trade_id")?,
        account: word("account")?,
        login: loaded(row.get("login")?),
        operation: Operation::from_name(&operation)
            .ok_or_else(|| unknown("operation", &operation))?,
        idempotency_key: row.get("idempotency_key")?,
        fingerprint: row.get("fingerprint")?,
        tag: row.get("tag")?,
        state: State::from_name(&state).ok_or_else(|| unknown("state", &state))?,
        created_msc: row.get("created_msc")?,
        updated_msc: row.get("updated_msc")?,
        server_time: row.get("server_time")?,
        position_id: loaded(row.get("position_id")?),
        detail: row.get("detail")?,
        candidates: parsed(row, "candidates")?.unwrap_or_default(),
        request: parsed(row, "request")?,
        result: parsed(row, "result")?.or(kept),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Depths;
    use crate::mt5::TradeRequest;

    fn metrics() -> Metrics {
        Metrics::new(&Depths::default(), false)
    }

    fn trade(key: &str) -> Trade {
        Trade {
            trade_id: format!("id-{key}"),
            account: "demo".to_owned(),
            login: 5001,
            operation: Operation::Place,
            idempotency_key: Some(key.to_owned()),
            fingerprint: [7; 32],
            tag: Some("~abcdefgh".to_owned()),
            state: State::Sending,
            created_msc: 1_000,
            updated_msc: 1_000,
            server_time: 1,
            position_id: u64::MAX - 1,
            detail: None,
            candidates: vec![],
            request: Some(TradeRequest { volume: 0.1, ..TradeRequest::default() }),
            result: None,
        }
    }

    #[tokio::test]
    async fn a_trade_is_read_as_it_was_written_and_its_key_outlives_its_body() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deeper/journal.sqlite");
        let journal = Journal::open(&file, metrics()).unwrap();
        let mut trade = trade("one");
        journal.insert(trade.clone()).await.unwrap();
        assert_eq!(journal.by_key("demo", "one").await.unwrap().as_ref(), Some(&trade));
        assert_eq!(journal.by_key("other", "one").await.unwrap(), None);
        assert!(journal.insert(trade.clone()).await.is_err(), "a key is written once");

        trade.state = State::Executed;
        trade.updated_msc = 2_000;
        trade.result = Some(TradeResult::found(Retcode::Done, u64::MAX, 8, 0.1, 1.5));
        journal.update(trade.clone()).await.unwrap();
        assert_eq!(journal.by_id("demo", "id-one").await.unwrap().as_ref(), Some(&trade));
        assert_eq!(journal.owned("demo", 0).await.unwrap(), [u64::MAX, 8]);

        journal.forget_bodies(3_000).await.unwrap();
        let kept = journal.by_key("demo", "one").await.unwrap().unwrap();
        let result = kept.result.as_ref().unwrap();
        assert_eq!((kept.state, kept.fingerprint, kept.request), (State::Executed, [7; 32], None));
        assert_eq!((result.retcode, result.order, result.deal), (10009, u64::MAX, 8));
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_not_a_trade() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(&directory.path().join("journal"), metrics()).unwrap();
        journal
            .run(|connection| connection.query_row("PRAGMA max_page_count = 1", [], |_| Ok(())))
            .await
            .unwrap();
        let mut full = None;
        for index in 0..1_000 {
            full = journal.insert(trade(&index.to_string())).await.err();
            if full.is_some() {
                break;
            }
        }
        assert!(full.unwrap().to_string().contains("full"));
        journal
            .run(|connection| {
                connection.query_row("PRAGMA max_page_count = 100000", [], |_| Ok(()))
            })
            .await
            .unwrap();
        journal.insert(trade("later")).await.unwrap();
    }

    #[test]
    fn what_is_no_journal_of_ours_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = |name: &str| {
            let error = Journal::open(&directory.path().join(name), metrics()).err().unwrap();
            error.to_string()
        };
        std::fs::write(directory.path().join("text"), "x".repeat(5_000)).unwrap();
        assert!(refusal("text").contains("not a database"), "{}", refusal("text"));

        std::fs::create_dir(directory.path().join("folder")).unwrap();
        assert!(refusal("folder").contains("unable to open"), "{}", refusal("folder"));

        let newer = directory.path().join("newer");
        drop(Journal::open(&newer, metrics()).unwrap());
        let change = "PRAGMA user_version = 9";
        Connection::open(&newer).unwrap().execute_batch(change).unwrap();
        let refused = loop {
            // The thread lets go of the file a moment after the last handle is gone.
            let refused = refusal("newer");
            if !refused.contains("another gateway") {
                break refused;
            }
        };
        assert!(refused.contains("version 9"), "{refused}");

        let other = directory.path().join("other");
        let schema = "CREATE TABLE t (x); PRAGMA user_version = 3";
        Connection::open(&other).unwrap().execute_batch(schema).unwrap();
        assert!(refusal("other").contains("another program"), "{}", refusal("other"));

        let held = Journal::open(&directory.path().join("held"), metrics()).unwrap();
        assert!(refusal("held").contains("another gateway"), "{}", refusal("held"));
        drop(held);
    }
}
