//! The open file and the outbox beside it.
//!
//! What became of a trade that was sent is accepted in any case: a state that the disk does not take
//! waits in the [`Outbox`], and readers see it there.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::error;

use super::outbox::Outbox;
use super::rows;
use super::schema::{FileIdentity, Opened};
use super::settle::{ended, is_news};
use crate::account_name::AccountName;
use crate::metrics::{AccountId, Event, Metrics};
use crate::trading::audit::audit;
use crate::trading::identifiers::TradeId;
use crate::trading::now_msc;
use crate::trading::trade::{Trade, TradeState};

/// Bodies that are removed in one transaction.
pub const BODIES_AT_ONCE: usize = 500;

/// What is known about a trade now, on its way to the journal.
#[derive(Clone)]
pub struct Report {
    pub trade: Trade,
    pub account: AccountId,
    /// The request that led to it.
    pub request_id: String,
    /// Whether it counts only if the journal does not know the trade.
    pub unless_known: bool,
    /// Whether it could not be settled before.
    pub kept: bool,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// It is the trade's state now, with its time of change.
    Applied(Box<Trade>),
    /// It was no news. Carries the trade as it stands.
    Ignored(Box<Trade>),
}

/// What the journal keeps when its actor or its thread fails.
pub struct Retained {
    /// Held by the thread while it lives.
    pub store: Mutex<Store>,
    /// The thread that was started last. The next one works after it.
    pub last_thread: Mutex<Option<JoinHandle<()>>>,
    /// Reports that the thread has not settled, in the order in which they came.
    reports: Mutex<VecDeque<(Report, oneshot::Sender<Settlement>)>>,
    /// How many states wait in the outbox.
    waiting_states: Arc<AtomicUsize>,
    metrics: Metrics,
    #[cfg(test)]
    pub fail_thread: std::sync::atomic::AtomicBool,
    /// What the next thread does before it locks the store.
    #[cfg(test)]
    pub before_lock: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Retained {
    pub fn new(opened: Opened, metrics: Metrics) -> Retained {
        let Opened { connection, identity } = opened;
        let waiting_states = Arc::<AtomicUsize>::default();
        let outbox = Outbox::new(waiting_states.clone());
        Retained {
            store: Mutex::new(Store { connection, identity, outbox }),
            last_thread: Mutex::default(),
            reports: Mutex::default(),
            waiting_states,
            metrics,
            #[cfg(test)]
            fail_thread: false.into(),
            #[cfg(test)]
            before_lock: Mutex::default(),
        }
    }

    /// Takes a report, which is settled by the thread that there is, or the next one.
    pub fn report(&self, report: Report, reply: oneshot::Sender<Settlement>) {
        self.reports.lock().push_back((report, reply));
    }

    /// How many states and reports are not on disk. Does not wait for the thread, which may be stuck.
    pub fn waiting(&self) -> usize {
        self.waiting_states.load(Ordering::Acquire) + self.reports.lock().len()
    }

    /// Settles every report that has come. One whose trade cannot be read is kept for the next time, and
    /// so is what was reported about that trade after it.
    pub fn settle_reports(&self, store: &mut Store) {
        let mut kept: Vec<TradeId> = vec![];
        loop {
            // It stays in the queue until it is settled, so that one on which the disk hangs is counted.
            let next = self.reports.lock().get(kept.len()).map(|(report, _)| report.clone());
            let Some(report) = next else {
                return;
            };
            let trade_id = report.trade.trade_id.clone();
            let settled = catch_unwind(AssertUnwindSafe(|| {
                if kept.contains(&trade_id) { None } else { self.settle(store, report) }
            }));
            if let Ok(None) = settled {
                if let Some((report, _)) = self.reports.lock().get_mut(kept.len()) {
                    report.kept = true;
                }
                kept.push(trade_id);
                continue;
            }
            let report = self.reports.lock().remove(kept.len());
            match (settled, report) {
                // Nobody may wait any more.
                (Ok(Some(settlement)), Some((_, reply))) => drop(reply.send(settlement)),
                _ => error!(trade_id = &*trade_id, "report about a trade could not be settled"),
            }
        }
    }

    /// Settles a report, and logs and counts what it has changed. `None`: the trade cannot be read.
    fn settle(&self, store: &mut Store, report: Report) -> Option<Settlement> {
        let Report { trade, account, request_id, unless_known, kept } = report;
        let trade_id = trade.trade_id.clone();
        let (before, settlement) = match store.settle(trade, unless_known) {
            Ok(settled) => settled,
            Err(error) => {
                if !kept {
                    error!(trade_id = &*trade_id, %error, "report about a trade waits, the trade cannot be read");
                }
                return None;
            }
        };
        // Here, where whoever reported it cannot be stopped in between, and in the order of the changes, so
        // that the gauge ends with the last one. Before the answer, so that a scrape after it includes this.
        if let Settlement::Applied(trade) = &settlement {
            if before != Some(trade.state) {
                audit(trade, trade.state.name(), &request_id);
            }
            if let Some(outcome) = ended(before, trade.state) {
                self.metrics.record(Event::TradeEnded { account, outcome });
            }
            self.count_unknown(store, account, &trade.account);
        }
        Some(settlement)
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub fn count_unknown(&self, store: &Store, account: AccountId, name: &AccountName) {
        if let Ok((count, oldest_msc)) = store.unknown(name) {
            let oldest = oldest_msc.map_or(0.0, |msc| msc as f64 / 1000.0);
            self.metrics.record(Event::TradesUnknown { account, count, oldest });
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
    identity: FileIdentity,
    pub outbox: Outbox,
}

impl Store {
    /// Writes an intent.
    ///
    /// # Errors
    /// If it is not on disk, or the file is not the one that was opened.
    pub fn insert(&mut self, trade: &Trade) -> Result<(), String> {
        self.identity.check()?;
        rows::insert(&self.connection, trade).map_err(text)
    }

    /// Settles a report about a trade. Gives the state before, if there was one.
    ///
    /// # Errors
    /// If the state before cannot be read: nothing is written over what is not known.
    fn settle(
        &mut self,
        trade: Trade,
        unless_known: bool,
    ) -> rusqlite::Result<(Option<TradeState>, Settlement)> {
        let present = self.state_of(&trade.trade_id)?;
        let before = present.as_ref().map(|present| present.state);
        if let Some(present) = present
            && (unless_known || !is_news(&present, &trade))
        {
            return Ok((before, Settlement::Ignored(Box::new(present))));
        }
        let updated_msc = now_msc().max(trade.updated_msc + 1);
        let trade = Trade { updated_msc, ..trade };
        self.put_or_keep(trade.clone());
        Ok((before, Settlement::Applied(Box::new(trade))))
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
            self.put_or_keep(Trade { told: true, ..present });
        }
    }

    /// Removes some bodies of trades that ended before a time (unix milliseconds), and says how many.
    pub fn forget_bodies(&mut self, before_msc: i64) -> Result<usize, String> {
        self.connection
            .execute(
                "UPDATE trades SET request = NULL, result = NULL, detail = NULL, present = NULL
                 WHERE trade_id IN (SELECT trade_id FROM trades
                    WHERE updated_msc < ?1 AND state NOT IN ('sending', 'unknown')
                        AND (request IS NOT NULL OR result IS NOT NULL)
                    LIMIT ?2)",
                rusqlite::params![before_msc, BODIES_AT_ONCE as i64],
            )
            .map_err(text)
    }

    /// The trade as it stands.
    fn state_of(&self, trade_id: &TradeId) -> rusqlite::Result<Option<Trade>> {
        match self.outbox.get(trade_id) {
            Some(trade) => Ok(Some(trade.clone())),
            None => rows::by_id(&self.connection, trade_id),
        }
    }

    fn put_or_keep(&mut self, trade: Trade) {
        // Behind what waits already, in its order, and without waiting for the disk once more.
        if !self.outbox.is_empty() {
            return self.outbox.put(trade);
        }
        if let Err(error) = rows::put(&self.connection, &trade) {
            error!(trade_id = &*trade.trade_id, %error, "trade's state waits to be written");
            self.outbox.put(trade);
        }
    }

    /// Writes what waits, in order, until something cannot be written.
    pub fn flush(&mut self) {
        while let Some(trade) = self.outbox.first().cloned() {
            if rows::put(&self.connection, &trade).is_err() {
                break;
            }
            self.outbox.remove(&trade.trade_id);
        }
    }
}

pub fn text(error: rusqlite::Error) -> String {
    error.to_string()
}
