//! States that could not be written to the file yet: the newest one of each trade, in the order in which
//! the trades came. Readers see them in place of the file's rows.
//!
//! Only the journal's thread changes the outbox, after it has compared the new state with the present one,
//! so an older state never replaces a newer one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::trading::identifiers::TradeId;
use crate::trading::trade::Trade;

/// The states that wait.
#[derive(Debug, Default)]
pub struct Outbox {
    by_id: HashMap<TradeId, (u64, Trade)>,
    order: BTreeMap<u64, TradeId>,
    next: u64,
    /// How many wait, for those who must not wait for the thread.
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    /// An empty one, which says in `waiting` how many states wait.
    pub fn new(waiting: Arc<AtomicUsize>) -> Outbox {
        Outbox { waiting, ..Outbox::default() }
    }

    /// Adds a state, which replaces an older one of the same trade.
    pub fn put(&mut self, trade: Trade) {
        let id = trade.trade_id.clone();
        let number = match self.by_id.get(&id) {
            Some((number, _)) => *number,
            None => {
                self.next += 1;
                self.order.insert(self.next, id.clone());
                self.next
            }
        };
        self.by_id.insert(id, (number, trade));
        self.count();
    }

    /// The state that waits for a trade.
    pub fn get(&self, trade_id: &TradeId) -> Option<&Trade> {
        self.by_id.get(trade_id).map(|(_, trade)| trade)
    }

    /// The state that has waited longest.
    pub fn first(&self) -> Option<&Trade> {
        let (_, id) = self.order.first_key_value()?;
        self.get(id)
    }

    /// Removes a state that was written.
    pub fn remove(&mut self, trade_id: &TradeId) {
        if let Some((number, _)) = self.by_id.remove(trade_id) {
            self.order.remove(&number);
        }
        self.count();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Every state that waits.
    pub fn iter(&self) -> impl Iterator<Item = &Trade> {
        self.order.values().filter_map(|id| self.get(id))
    }

    fn count(&self) {
        self.waiting.store(self.by_id.len(), Ordering::Release);
    }
}
