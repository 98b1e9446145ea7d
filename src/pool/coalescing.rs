//! Identical reads that wait at the same moment share one call. A read joins
//! only while the call has not been written to its terminal, so that its answer
//! is never older than its question.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::call::CallError;
use crate::mt5::{Answer, Request};

/// Somebody who waits for an answer.
#[derive(Debug)]
pub struct Waiter {
    pub reply: oneshot::Sender<Result<Answer, CallError>>,
    pub deadline: Instant,
}

/// An account's calls that others may join. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Coalescer(Arc<Mutex<JoinTable<Waiter>>>);

/// A call that others may join until it is closed, which dropping it does as well.
#[derive(Debug)]
pub struct CoalescedRead {
    coalescer: Coalescer,
    key: CallKey,
    id: u64,
    is_closed: bool,
}

/// The calls that are open. Pure: `W` is whoever waits.
#[derive(Debug)]
struct JoinTable<W> {
    open: HashMap<CallKey, OpenCall<W>>,
    next_id: u64,
}

#[derive(Debug)]
struct OpenCall<W> {
    /// Tells it from a later call of the same request.
    id: u64,
    followers: Vec<W>,
}

/// A request, which joins those that are equal.
#[derive(Debug, Clone, PartialEq)]
struct CallKey(Request);

// === impl Waiter ===

impl Waiter {
    /// A waiter, and where its answer arrives.
    pub fn new(deadline: Instant) -> (Waiter, oneshot::Receiver<Result<Answer, CallError>>) {
        let (reply, answer) = oneshot::channel();
        (Waiter { reply, deadline }, answer)
    }

    /// Whether nobody waits any more.
    pub fn has_left(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.deadline <= now
    }
}

// === impl Coalescer ===

impl Coalescer {
    /// Joins a call that is open. If there is none, opens one, which the caller has to make for the
    /// waiter that it gets back.
    pub fn join_or_open(
        &self,
        request: &Request,
        waiter: Waiter,
    ) -> Option<(Waiter, CoalescedRead)> {
        let key = CallKey(request.clone());
        let (waiter, id) = self.locked().join_or_open(&key, waiter)?;
        Some((waiter, CoalescedRead { coalescer: self.clone(), key, id, is_closed: false }))
    }

    fn locked(&self) -> MutexGuard<'_, JoinTable<Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CoalescedRead ===

impl CoalescedRead {
    /// Lets nobody join any more, and gives those who did.
    pub fn close(mut self) -> Vec<Waiter> {
        self.is_closed = true;
        self.coalescer.locked().close(&self.key, self.id)
    }
}

impl Drop for CoalescedRead {
    fn drop(&mut self) {
        // A call that is lost must not be joined; those who did learn that it is lost.
        if !self.is_closed {
            drop(self.coalescer.locked().close(&self.key, self.id));
        }
    }
}

// === impl JoinTable ===

impl<W> Default for JoinTable<W> {
    fn default() -> Self {
        JoinTable { open: HashMap::new(), next_id: 0 }
    }
}

impl<W> JoinTable<W> {
    /// Joins the call that is open for a request. If there is none, opens it: gives the waiter back
    /// and what to close the call with.
    fn join_or_open(&mut self, key: &CallKey, waiter: W) -> Option<(W, u64)> {
        match self.open.entry(key.clone()) {
            Entry::Occupied(mut open) => {
                open.get_mut().followers.push(waiter);
                None
            }
            Entry::Vacant(vacant) => {
                let id = self.next_id;
                self.next_id += 1;
                vacant.insert(OpenCall { id, followers: Vec::new() });
                Some((waiter, id))
            }
        }
    }

    /// Closes a call, and gives those who joined it. Closing it twice gives nobody.
    fn close(&mut self, key: &CallKey, id: u64) -> Vec<W> {
        match self.open.entry(key.clone()) {
            Entry::Occupied(open) if open.get().id == id => open.remove().followers,
            _ => Vec::new(),
        }
    }
}

// === impl CallKey ===

// The numbers of a read were checked to be finite, so that each equals itself.
impl Eq for CallKey {}

impl Hash for CallKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let arguments = self.0.arguments();
        self.0.method().hash(state);
        arguments.positional.hash(state);
        arguments.named.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mt5::{Selection, SymbolName, Ticket, calls};

    fn tick(symbol: &str) -> CallKey {
        CallKey(calls::SymbolInfoTick { symbol: SymbolName::from_trusted(symbol) }.into())
    }

    fn margin(price: f64) -> CallKey {
        let (action, symbol, volume) = (0, SymbolName::from_trusted("EURUSD"), 0.1);
        CallKey(calls::OrderCalcMargin { action, symbol, volume, price }.into())
    }

    #[test]
    fn only_an_equal_request_joins() {
        let orders = |selection| CallKey(calls::OrdersGet { selection }.into());
        let keys = [
            tick("EURUSD"),
            tick("GBPUSD"),
            CallKey(calls::SymbolInfo { symbol: SymbolName::from_trusted("EURUSD") }.into()),
            orders(Selection::All),
            orders(Selection::Ticket(Ticket::new(7))),
            orders(Selection::Group("EURUSD".to_owned())),
            orders(Selection::Symbol("EURUSD".to_owned())),
            margin(1.1),
            margin(1.2),
        ];
        let mut table = JoinTable::default();
        for (number, key) in keys.iter().enumerate() {
            assert!(table.join_or_open(key, number).is_some(), "{key:?}");
        }
        for (id, key) in keys.iter().enumerate() {
            assert!(table.join_or_open(key, 100 + id).is_none(), "{key:?}");
            assert_eq!(table.close(key, id as u64), [100 + id], "{key:?}");
        }
    }

    #[test]
    fn a_call_that_is_closed_is_joined_by_nobody_and_closed_once() {
        let (key, mut table) = (tick("EURUSD"), JoinTable::default());
        let (_, first) = table.join_or_open(&key, "leader").unwrap();
        assert!(table.join_or_open(&key, "follower").is_none());
        assert_eq!(table.close(&key, first), ["follower"]);
        let (_, second) = table.join_or_open(&key, "later").unwrap();
        assert!(table.join_or_open(&key, "its follower").is_none());
        // The first call is dropped late.
        assert!(table.close(&key, first).is_empty());
        assert_eq!(table.close(&key, second), ["its follower"]);
    }

    #[tokio::test]
    async fn who_joined_a_call_that_is_lost_learns_it() {
        let coalescer = Coalescer::default();
        let request: Request = calls::AccountInfo.into();
        let (leader, _answer) = Waiter::new(Instant::now());
        let (follower, told) = Waiter::new(Instant::now());
        let (_, open) = coalescer.join_or_open(&request, leader).unwrap();
        assert!(coalescer.join_or_open(&request, follower).is_none());
        drop(open);
        assert!(told.await.is_err());
    }

    proptest! {
        /// Whatever the order of joining and closing, each waiter is with exactly one call, and
        /// none stays behind.
        #[test]
        fn every_waiter_leads_or_follows_exactly_once(
            steps in proptest::collection::vec((0usize..3, any::<bool>()), 0..100),
        ) {
            let keys = [tick("EURUSD"), tick("GBPUSD"), margin(1.1)];
            let mut table = JoinTable::default();
            let (mut open, mut served) = ([None; 3], Vec::new());
            for (waiter, (key, joins)) in steps.iter().enumerate() {
                if *joins {
                    if let Some((leader, id)) = table.join_or_open(&keys[*key], waiter) {
                        prop_assert_eq!(open[*key], None, "two calls of one request are open");
                        open[*key] = Some(id);
                        served.push(leader);
                    }
                } else if let Some(id) = open[*key].take() {
                    served.extend(table.close(&keys[*key], id));
                }
            }
            for (key, id) in open.iter().enumerate() {
                served.extend(id.map(|id| table.close(&keys[key], id)).unwrap_or_default());
            }
            served.sort_unstable();
            let joined = steps.iter().enumerate().filter(|(_, (_, joins))| *joins);
            prop_assert_eq!(served, joined.map(|(waiter, _)| waiter).collect::<Vec<_>>());
            prop_assert!(table.open.is_empty());
        }
    }
}
