//! The processes of terminals that are measured: sessions put them on the list, the sampler reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::AccountId;

/// The workers whose processes are measured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchlist(Arc<Mutex<BTreeMap<(AccountId, usize), Entry>>>);

#[derive(Clone, Copy)]
struct Entry {
    pid: u32,
    figures: Figures,
}

/// What is known about a worker and the processes that it started.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Since when the worker has been on the list, which is since its start.
    pub since: Timestamp,
    /// The resident memory that was measured last, bytes.
    pub memory: Option<u64>,
    /// Bytes of the terminal's files. `None`: the gateway did not make them.
    pub files: Option<u64>,
}

/// A worker on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watched {
    /// Whose terminal it serves.
    pub account: AccountId,
    /// Which of the account's sessions that is.
    pub session: usize,
    /// The process id.
    pub pid: u32,
}

impl Watchlist {
    /// Every worker, by account and session.
    pub fn workers(&self) -> Vec<Watched> {
        let list = self.0.lock();
        let watched = |(&(account, session), entry): (&_, &Entry)| {
            let pid = entry.pid;
            Watched { account, session, pid }
        };
        list.iter().map(watched).collect()
    }

    /// Notes what a worker and the processes that it started hold, and gives what is known of it. `None`: it
    /// is not on the list any more.
    pub fn note_memory(&self, watched: &Watched, memory: u64) -> Option<Figures> {
        self.change(watched, |figures| figures.memory = Some(memory))
    }

    /// Notes how many bytes the files of a worker's terminal take.
    pub(super) fn note_files(&self, watched: &Watched, bytes: u64) {
        self.change(watched, |figures| figures.files = Some(bytes));
    }

    /// Changes what is known about a worker, and gives it. `None`: it is not on the list any more.
    fn change(&self, watched: &Watched, change: impl FnOnce(&mut Figures)) -> Option<Figures> {
        let mut list = self.0.lock();
        let entry = list.get_mut(&watched.key()).filter(|entry| entry.pid == watched.pid);
        let figures = &mut entry?.figures;
        change(figures);
        Some(*figures)
    }

    /// What is known about the worker of a session. `None`: it has none.
    pub fn figures(&self, account: AccountId, session: usize) -> Option<Figures> {
        self.0.lock().get(&(account, session)).map(|entry| entry.figures)
    }

    /// Puts a worker that was just started on the list, in the place of the session's worker before.
    pub(super) fn add(&self, watched: Watched) {
        let figures = Figures { since: Timestamp::now(), memory: None, files: None };
        self.0.lock().insert(watched.key(), Entry { pid: watched.pid, figures });
    }

    /// Takes a worker off the list. `false`: it is not there any more.
    pub(super) fn remove(&self, watched: &Watched) -> bool {
        let mut list = self.0.lock();
        let is_there = list.get(&watched.key()).is_some_and(|entry| entry.pid == watched.pid);
        is_there && list.remove(&watched.key()).is_some()
    }
}

impl Watched {
    fn key(&self) -> (AccountId, usize) {
        (self.account, self.session)
    }
}
