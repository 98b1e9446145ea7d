//! A worker's place on the list of those that are measured.

use super::{AccountId, Event, Metrics, Watched};

/// Keeps a worker on the list. Dropping it takes the worker off, and removes its series at once.
pub struct Watch {
    watched: Watched,
    metrics: Metrics,
}

impl Watch {
    /// Has the worker of a session measured from the next sample on.
    pub fn begin(metrics: &Metrics, account: AccountId, session: usize, pid: u32) -> Watch {
        let watched = Watched { account, session, pid };
        metrics.watchlist().add(watched);
        Watch { watched, metrics: metrics.clone() }
    }

    /// Notes how many bytes the terminal's files take.
    pub fn note_files(&self, bytes: u64) {
        self.metrics.watchlist().note_files(&self.watched, bytes);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its successor's series stay.
        if self.metrics.watchlist().remove(&self.watched) {
            let Watched { account, session, .. } = self.watched;
            self.metrics.record(Event::TerminalGone { account, session });
        }
    }
}
