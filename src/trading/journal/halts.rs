//! The halts that outlive the gateway.

use jiff::Timestamp;
use rusqlite::params;

use super::store::{Store, text};
use crate::trading::halt::{Halt, HaltScope};

/// The login under which the halt of all accounts is kept. No account has it.
const ALL: i64 = 0;

impl Store {
    /// Every halt.
    pub fn halts(&self) -> Result<Vec<(HaltScope, Halt)>, String> {
        let columns = "SELECT login, server, since_msc, api_key, client FROM halts";
        let mut halts = self.connection.prepare(columns).map_err(text)?;
        let halts = halts.query_map([], |row| {
            let (login, server): (i64, String) = (row.get(0)?, row.get(1)?);
            let scope = match login {
                ALL => HaltScope::All,
                login => HaltScope::account(login.cast_unsigned(), &server),
            };
            let since = Timestamp::from_millisecond(row.get(2)?).unwrap_or(Timestamp::UNIX_EPOCH);
            Ok((scope, Halt { since, api_key: row.get(3)?, client: row.get(4)? }))
        });
        halts.and_then(Iterator::collect).map_err(text)
    }

    /// Writes a halt, unless there is one with its scope.
    pub fn add_halt(&mut self, scope: &HaltScope, halt: &Halt) -> Result<(), String> {
        self.ensure_file()?;
        let (login, server) = columns(scope);
        let added = self.connection.execute(
            "INSERT OR IGNORE INTO halts (login, server, since_msc, api_key, client)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![login, server, halt.since.as_millisecond(), halt.api_key, halt.client],
        );
        added.map(drop).map_err(text)
    }

    /// Forgets a halt.
    pub fn remove_halt(&mut self, scope: &HaltScope) -> Result<(), String> {
        self.ensure_file()?;
        let (login, server) = columns(scope);
        let removed = self
            .connection
            .execute("DELETE FROM halts WHERE login = ?1 AND server = ?2", params![login, server]);
        removed.map(drop).map_err(text)
    }
}

fn columns(scope: &HaltScope) -> (i64, &str) {
    match scope {
        HaltScope::All => (ALL, ""),
        HaltScope::Account { login, server } => (login.cast_signed(), server),
    }
}
