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
use super::settle::is_news;
use crate::metrics::{AccountId, Event, Metrics};
use crate::trading::now_msc;
use crate::trading::trade::{Trade, TradeState};

/// Bodies that are removed in one transaction.
pub const BODIES_AT_ONCE: usize = 500;

/// What is known about a trade now, on its way to the journal.
pub struct Report {
    pub trade: Trade,
    pub account: AccountId,
    /// Whether it counts only if the journal does not know the trade.
    pub unless_known: bool,
    pub reply: oneshot::Sender<Settlement>,
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
    reports: Mutex<VecDeque<Report>>,
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
    pub fn report(&self, report: Report) {
        self.reports.lock().push_back(report);
    }

    /// How many states and reports are not on disk. Does not wait for the thread, which may be stuck.
    pub fn waiting(&self) -> usize {
        self.waiting_states.load(Ordering::Acquire) + self.reports.lock().len()
    }

    /// Settles every report that has come.
    pub fn settle_reports(&self, store: &mut Store) {
        loop {
            // It stays in the queue until it is settled, so that one on which the disk hangs is counted.
            let next = self
                .reports
                .lock()
                .front()
                .map(|report| (report.trade.clone(), report.account, report.unless_known));
            let Some((trade, account, unless_known)) = next else {
                return;
            };
            let name = trade.account.clone();
            let settled = catch_unwind(AssertUnwindSafe(|| {
                let settlement = store.settle(trade, unless_known);
                // Here, in the order of the changes, so that the gauge ends with the last one. Before the
                // answer, so that a scrape after the answer includes it.
                if matches!(settlement, Settlement::Applied(_)) {
                    self.count_unknown(store, account, &name);
                }
                settlement
            }));
            let report = self.reports.lock().pop_front();
            match settled {
                // Nobody may wait any more.
                Ok(settlement) => drop(report.map(|report| report.reply.send(settlement))),
                Err(_) => error!("a report about a trade could not be settled"),
            }
        }
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub fn count_unknown(&self, store: &Store, account: AccountId, name: &str) {
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

    fn settle(&mut self, trade: Trade, unless_known: bool) -> Settlement {
        let present = self.state_of(&trade.trade_id);
        let present = match present {
            Ok(present) => present,
            // The row may be there.
            Err(_) if unless_known => return Settlement::Ignored(Box::new(trade)),
            Err(_) => None,
        };
        if let Some(present) = present
            && (unless_known || !is_news(&present, &trade))
        {
            return Settlement::Ignored(Box::new(present));
        }
        let updated_msc = now_msc().max(trade.updated_msc + 1);
        let trade = Trade { updated_msc, ..trade };
        self.put_or_keep(trade.clone());
        Settlement::Applied(Box::new(trade))
    }

    /// Notes that a client was told that its trade was not sent, which frees its key.
    pub fn note_told(&mut self, trade_id: &str) {
        let Ok(Some(present)) = self.state_of(trade_id) else {
            return;
        };
        if present.state != TradeState::NotSent {
            return;
        }
        if matches!(rows::by_id(&self.connection, trade_id), Ok(None)) {
            // It says nothing any more that would be worth the room.
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
    fn state_of(&self, trade_id: &str) -> rusqlite::Result<Option<Trade>> {
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
            error!(trade_id = trade.trade_id.as_str(), %error, "trade's state waits to be written");
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
