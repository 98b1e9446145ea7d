//! The open file and the outbox beside it.
//!
//! What became of a trade that was sent is accepted in any case: a state that the disk does not take
//! waits in the [`Outbox`], and readers see it there. A report is kept while the state that it may follow
//! cannot be read, and so is what is reported about its trade after it. No read hides a report that is kept:
//! one that it could change fails.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tracing::{error, info};

use super::JournalError;
use super::outbox::Outbox;
use super::reports::{Inbox, Report, Settlement, Unsettled};
use super::rows;
use super::schema::{self, FileIdentity, Opened, Owner};
use super::settle::{ended, is_news};
use crate::account_name::AccountName;
use crate::metrics::{AccountId, Event, Metrics};
use crate::trading::audit::audit;
use crate::trading::identifiers::TradeId;
use crate::trading::now_msc;
use crate::trading::trade::{Trade, TradeState};

/// Bodies that are removed in one transaction.
pub const BODIES_AT_ONCE: usize = 500;

/// Removes bodies of trades that ended before a time, as many at most.
const FORGET_BODIES: &str =
    "UPDATE trades SET request = NULL, result = NULL, detail = NULL, present = NULL
     WHERE trade_id IN (SELECT trade_id FROM trades
        WHERE updated_msc < ?1 AND state NOT IN ('sending', 'unknown')
            AND (request IS NOT NULL OR result IS NOT NULL)
        LIMIT ?2)";

/// What the journal keeps when its actor or its thread fails.
pub struct Retained {
    /// Held by the thread while it lives.
    pub store: Mutex<Store>,
    /// The thread that was started last. The next one works after it.
    pub last_thread: Mutex<Option<JoinHandle<()>>>,
    /// Reports that the thread has not looked at.
    pub inbox: Inbox,
    /// Why the file is not used, once the thread has found that out.
    pub refusal: OnceLock<JournalError>,
    /// Whether the file is not the one that was opened.
    pub lost: Arc<AtomicBool>,
    /// How many states wait in the outbox.
    waiting_states: Arc<AtomicUsize>,
    #[cfg(test)]
    pub fail_thread: std::sync::atomic::AtomicBool,
    /// What the next thread does before it locks the store.
    #[cfg(test)]
    pub before_lock: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Retained {
    pub fn new(opened: Opened, owners: &[Owner], metrics: Metrics) -> Retained {
        let Opened { connection, identity } = opened;
        let (waiting_states, lost) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let store = Store {
            connection,
            unprepared: Some(owners.to_vec()),
            identity,
            lost: lost.clone(),
            outbox: Outbox::new(waiting_states.clone()),
            kept: VecDeque::new(),
            metrics,
            #[cfg(test)]
            panics: 0,
        };
        Retained {
            store: Mutex::new(store),
            last_thread: Mutex::default(),
            inbox: Inbox::default(),
            refusal: OnceLock::new(),
            lost,
            waiting_states,
            #[cfg(test)]
            fail_thread: false.into(),
            #[cfg(test)]
            before_lock: Mutex::default(),
        }
    }

    /// How many states and reports are not on disk. Does not wait for the thread, which may be stuck.
    pub fn waiting(&self) -> usize {
        // In the order in which a report becomes a state: one on the way counts twice, and is never missed.
        self.inbox.unsettled() + self.waiting_states.load(Ordering::Acquire)
    }

    /// Prepares the file, unless that was done. Whether it can be used.
    pub fn prepare(&self, store: &mut Store, file: &Path) -> bool {
        if self.refusal.get().is_some() {
            return false;
        }
        let Some(owners) = &store.unprepared else {
            return true;
        };
        let Err(detail) = schema::prepare(&mut store.connection, owners) else {
            store.unprepared = None;
            return true;
        };
        let unusable = JournalError::Unusable { file: file.to_owned(), detail };
        let unusable = self.refusal.get_or_init(|| unusable);
        error!(reason = %unusable, "trading is off, reads go on");
        false
    }

    /// Drops every report that has come to a file that is not used. They are about trades that were refused:
    /// none was sent, because no intent was written.
    pub fn drop_reports(&self) {
        while self.inbox.next().is_some() {}
    }

    /// Settles every report that has come.
    pub fn settle_reports(&self, store: &mut Store) {
        loop {
            let Some(report) = self.inbox.next() else {
                return;
            };
            store.take(report);
        }
    }

    #[cfg(test)]
    pub fn delay_if_told(&self) {
        let before_lock = self.before_lock.lock().take();
        if let Some(before_lock) = before_lock {
            before_lock();
        }
    }

    #[cfg(test)]
    pub fn fail_if_told(&self) {
        assert!(!self.fail_thread.swap(false, std::sync::atomic::Ordering::AcqRel), "on purpose");
    }
}

/// What the thread works with.
pub struct Store {
    pub connection: Connection,
    /// Whose trades the file has, until it is prepared.
    unprepared: Option<Vec<Owner>>,
    identity: FileIdentity,
    lost: Arc<AtomicBool>,
    pub outbox: Outbox,
    /// Reports that cannot be settled yet, in the order in which they came. What they report is not known to
    /// be news, so reads that it could change fail meanwhile.
    pub kept: VecDeque<Unsettled>,
    metrics: Metrics,
    /// How often settling panics.
    #[cfg(test)]
    pub panics: usize,
}

impl Store {
    /// Writes an intent.
    ///
    /// # Errors
    /// If it is not on disk, or the file is not the one that was opened.
    pub fn insert(&mut self, trade: &Trade) -> Result<(), String> {
        self.ensure_file()?;
        rows::insert(&self.connection, trade).map_err(text)
    }

    /// Makes sure that what is written goes into the file that was opened.
    ///
    /// # Errors
    /// What happened to the file.
    pub fn ensure_file(&self) -> Result<(), String> {
        self.identity.check()
    }

    /// Settles a report that has come, or keeps it, behind what is kept about its trade.
    fn take(&mut self, mut unsettled: Unsettled) {
        let trade = &unsettled.report.trade;
        if self.kept.iter().any(|kept| kept.report.trade.trade_id == trade.trade_id) {
            let (trade_id, state) = (&*trade.trade_id, trade.state.name());
            error!(trade_id, state, "report about a trade waits behind an earlier one");
            unsettled.kept = true;
            self.kept.push_back(unsettled);
        } else {
            self.settle_or_keep(unsettled);
        }
    }

    /// Tries once more to settle what is kept. Not before each work: on a disk that fails, every one of these
    /// attempts reads.
    pub fn settle_kept(&mut self) {
        let mut stuck = HashSet::new();
        // Each is taken from the front, and put back at the end if it stays, so that the order remains.
        for _ in 0..self.kept.len() {
            let Some(unsettled) = self.kept.pop_front() else {
                return;
            };
            let trade_id = unsettled.report.trade.trade_id.clone();
            if stuck.contains(&trade_id) {
                self.kept.push_back(unsettled);
            } else if !self.settle_or_keep(unsettled) {
                stuck.insert(trade_id);
            }
        }
    }

    /// Settles a report, or keeps it as the last one. Gives whether it is done with.
    fn settle_or_keep(&mut self, mut unsettled: Unsettled) -> bool {
        let settled = catch_unwind(AssertUnwindSafe(|| self.settle(&unsettled.report)));
        let trade = &unsettled.report.trade;
        let (trade_id, state) = (&*trade.trade_id, trade.state.name());
        match settled {
            Ok(Ok(settlement)) => {
                self.metrics.record(Event::JournalWritten(unsettled.age()));
                unsettled.settled(settlement);
                return true;
            }
            Ok(Err(error)) => {
                if !unsettled.kept {
                    error!(trade_id, state, %error, "report about a trade waits, the trade cannot be read");
                }
            }
            Err(_) if unsettled.panicked => {
                error!(
                    trade_id,
                    state, "report about a trade is lost, settling it has panicked twice"
                );
                return true;
            }
            Err(_) => {
                error!(
                    trade_id,
                    state, "settling a report about a trade has panicked, it is tried once more"
                );
                unsettled.panicked = true;
            }
        }
        unsettled.kept = true;
        self.kept.push_back(unsettled);
        false
    }

    /// Settles a report, and logs and counts what it has changed.
    ///
    /// # Errors
    /// If the state before cannot be read: nothing is written over what is not known.
    fn settle(&mut self, report: &Report) -> rusqlite::Result<Settlement> {
        let Report { trade, account, request_id, unless_known } = report;
        #[cfg(test)]
        self.panic_if_told();
        let present = self.state_of(&trade.trade_id)?;
        let before = present.as_ref().map(|present| present.state);
        if let Some(present) = present
            && (*unless_known || !is_news(&present, trade))
        {
            return Ok(Settlement::Ignored(Box::new(present)));
        }
        let updated_msc = now_msc().max(trade.updated_msc + 1);
        let trade = Trade { updated_msc, ..trade.clone() };
        self.put_or_keep(&trade);
        // Here, where whoever reported it cannot be stopped in between, and in the order of the changes, so
        // that the gauge ends with the last one. Before the answer, so that a scrape after it includes this.
        if before != Some(trade.state) {
            audit(&trade, trade.state.name(), request_id);
        }
        if let Some(outcome) = ended(before, trade.state) {
            self.metrics.record(Event::TradeEnded { account: *account, outcome });
        }
        self.count_unknown(*account, &trade.account);
        Ok(Settlement::Applied(Box::new(trade)))
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub fn count_unknown(&self, account: AccountId, name: &AccountName) {
        if let Ok((count, oldest_msc)) = self.unknown(name) {
            let oldest = oldest_msc.map_or(0.0, |msc| msc as f64 / 1000.0);
            self.metrics.record(Event::TradesUnknown { account, count, oldest });
        }
    }

    /// Gives the trades of an account its present name.
    pub fn adopt(&mut self, owner: Owner) -> Result<(), String> {
        if !self.outbox.is_empty() || !self.kept.is_empty() {
            return Err("states of trades wait to be written under their earlier names".to_owned());
        }
        schema::adopt(&mut self.connection, owner).map_err(text)
    }

    /// Notes that a client was told that its trade was not sent, which frees its key.
    pub fn note_told(&mut self, trade_id: &TradeId) {
        let Ok(Some(present)) = self.state_of(trade_id) else {
            return;
        };
        if present.state != TradeState::NotSent {
            return;
        }
        if matches!(rows::by_id(&self.connection, trade_id), Ok(None)) {
            // It was never written, and its client knows: nobody needs a row.
            self.outbox.remove(trade_id);
        } else {
            self.put_or_keep(&Trade { told: true, ..present });
        }
    }

    /// Removes some bodies of trades that ended before a time (unix milliseconds), and says how many.
    pub fn forget_bodies(&mut self, before_msc: i64) -> Result<usize, String> {
        self.connection
            .execute(FORGET_BODIES, rusqlite::params![before_msc, BODIES_AT_ONCE as i64])
            .map_err(text)
    }

    /// The trade as it stands.
    fn state_of(&self, trade_id: &TradeId) -> rusqlite::Result<Option<Trade>> {
        match self.outbox.get(trade_id) {
            Some(trade) => Ok(Some(trade.clone())),
            None => rows::by_id(&self.connection, trade_id),
        }
    }

    fn put_or_keep(&mut self, trade: &Trade) {
        // Behind what waits already, in its order, and without waiting for the disk once more.
        if !self.outbox.is_empty() {
            return self.outbox.put(trade.clone());
        }
        if let Err(error) = rows::put(&self.connection, trade) {
            error!(trade_id = &*trade.trade_id, %error, "trade's state waits to be written");
            self.outbox.put(trade.clone());
        }
    }

    /// Settles what is kept, and writes what waits, in order, until something cannot be written. Looks
    /// whether the file is still there, too.
    pub fn flush(&mut self) {
        self.note_whether_lost();
        self.settle_kept();
        while let Some(trade) = self.outbox.first().cloned() {
            if rows::put(&self.connection, &trade).is_err() {
                break;
            }
            self.outbox.remove(&trade.trade_id);
        }
    }

    /// Notes whether the file is still the one that was opened, and logs when that changes.
    fn note_whether_lost(&self) {
        match (self.identity.check(), self.lost.load(Ordering::Relaxed)) {
            (Err(error), false) => {
                self.lost.store(true, Ordering::Relaxed);
                error!(%error, "journal is lost, nothing is traded");
            }
            (Ok(()), true) => {
                self.lost.store(false, Ordering::Relaxed);
                info!("journal is there again");
            }
            _ => {}
        }
    }

    #[cfg(test)]
    fn panic_if_told(&mut self) {
        if let Some(left) = self.panics.checked_sub(1) {
            self.panics = left;
            panic!("on purpose");
        }
    }
}

pub fn text(error: rusqlite::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::journal::schema;

    #[test]
    fn bodies_past_their_retention_are_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::prepared(&directory.path().join("journal"), &[]);
        let plan = schema::plan(&connection, FORGET_BODIES);
        let expected = "SEARCH trades USING COVERING INDEX sqlite_autoindex_trades_1 (trade_id=?)\n\
                        SEARCH trades USING INDEX trades_with_bodies (updated_msc<?)";
        assert_eq!(plan, expected);
    }
}
