//! Reports about trades, on their way from those who know to the journal's thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics::AccountId;
use crate::trading::trade::Trade;

/// What is known about a trade now.
pub struct Report {
    pub trade: Trade,
    pub account: AccountId,
    /// The request that led to it.
    pub request_id: Arc<str>,
    /// Whether it counts only if the journal does not know the trade.
    pub unless_known: bool,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// It is the trade's state now, with its time of change.
    Applied(Box<Trade>),
    /// It was no news. Carries the trade as it stands.
    Ignored(Box<Trade>),
}

/// A report that is not settled, and who waits for that.
pub struct Unsettled {
    pub report: Report,
    /// Whether it could not be settled before, which was logged.
    pub kept: bool,
    /// Whether settling it has panicked before.
    pub panicked: bool,
    begun: Instant,
    // Before the reply, so that whoever waits does not find a report counted that was dropped.
    counted: Counted,
    reply: oneshot::Sender<Settlement>,
}

impl Unsettled {
    /// How long ago it came.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells whoever waits.
    pub fn settled(self, settlement: Settlement) {
        let Unsettled { reply, counted, .. } = self;
        // First, so that whoever waits does not find it counted.
        drop(counted);
        // Nobody may wait any more.
        let _ = reply.send(settlement);
    }
}

/// Reports that the thread has not looked at, in the order in which they came.
#[derive(Default)]
pub struct Inbox {
    reports: Mutex<VecDeque<Unsettled>>,
    unsettled: Arc<AtomicUsize>,
}

impl Inbox {
    /// Takes a report, which is settled by the thread that there is, or the next one.
    pub fn put(&self, report: Report, reply: oneshot::Sender<Settlement>) {
        let unsettled = Unsettled {
            report,
            kept: false,
            panicked: false,
            begun: Instant::now(),
            counted: Counted::new(&self.unsettled),
            reply,
        };
        self.reports.lock().push_back(unsettled);
    }

    /// The report that has waited longest, for the thread.
    pub fn next(&self) -> Option<Unsettled> {
        self.reports.lock().pop_front()
    }

    /// How many reports are not settled, with those that the thread has.
    pub fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }
}

/// Counts a report until it is settled or given up, also while the disk hangs on it.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::AcqRel);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
