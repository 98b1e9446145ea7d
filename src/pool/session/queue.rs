//! What waits for a terminal: trades, then reads that prepare trades, then all other reads.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::pool::call::{QueuedCall, QueuedTrade};

/// The calls that were not written yet.
#[derive(Debug, Default)]
pub struct Queue {
    /// Reads that prepare trades, which go before the others.
    urgent: VecDeque<Box<QueuedCall>>,
    reads: VecDeque<Box<QueuedCall>>,
    trades: VecDeque<QueuedTrade>,
}

impl Queue {
    /// Appends a read.
    pub fn push(&mut self, call: Box<QueuedCall>) {
        let queue = if call.urgent { &mut self.urgent } else { &mut self.reads };
        queue.push_back(call);
    }

    /// Appends a trade.
    pub fn push_trade(&mut self, trade: QueuedTrade) {
        self.trades.push_back(trade);
    }

    /// The next read for which somebody still waits. Those for which nobody does are dropped: their
    /// answers need not cost the terminal anything.
    pub fn next_read(&mut self, now: Instant) -> Option<Box<QueuedCall>> {
        while let Some(mut call) = self.urgent.pop_front().or_else(|| self.reads.pop_front()) {
            if !call.is_abandoned(now) {
                return Some(call);
            }
        }
        None
    }

    /// The next trade.
    pub fn next_trade(&mut self) -> Option<QueuedTrade> {
        self.trades.pop_front()
    }

    /// Whether a trade waits.
    pub fn has_trade(&self) -> bool {
        !self.trades.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.reads.is_empty() && self.trades.is_empty()
    }

    /// Takes every read out.
    pub fn take_reads(&mut self) -> VecDeque<Box<QueuedCall>> {
        let mut reads = std::mem::take(&mut self.urgent);
        reads.append(&mut self.reads);
        reads
    }

    /// Takes every trade out.
    pub fn take_trades(&mut self) -> VecDeque<QueuedTrade> {
        std::mem::take(&mut self.trades)
    }

    /// Takes late trades out.
    pub fn take_late_trades(&mut self, now: BootInstant) -> Vec<QueuedTrade> {
        let (late, waiting) =
            std::mem::take(&mut self.trades).into_iter().partition(|trade| trade.is_late(now));
        self.trades = waiting;
        let late: VecDeque<QueuedTrade> = late;
        late.into()
    }
}
