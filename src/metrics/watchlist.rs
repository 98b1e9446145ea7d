//! The processes of terminals that are measured: sessions put them on the list, the sampler reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::AccountId;

/// The workers whose processes are measured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchlist(Arc<Mutex<BTreeMap<(AccountId, usize), u32>>>);

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
        let watched = |(&(account, session), &pid)| Watched { account, session, pid };
        list.iter().map(watched).collect()
    }

    /// Whether a worker is still on the list.
    pub fn has(&self, watched: &Watched) -> bool {
        self.0.lock().get(&(watched.account, watched.session)) == Some(&watched.pid)
    }

    /// Puts a worker on the list, in the place of the session's worker before.
    pub(super) fn add(&self, watched: Watched) {
        self.0.lock().insert((watched.account, watched.session), watched.pid);
    }

    /// Takes a worker off the list. `false`: it is not there any more.
    pub(super) fn remove(&self, watched: &Watched) -> bool {
        let mut list = self.0.lock();
        let key = (watched.account, watched.session);
        list.get(&key) == Some(&watched.pid) && list.remove(&key).is_some()
    }
}
