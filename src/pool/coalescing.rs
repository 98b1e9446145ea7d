//! Identical reads that wait at the same moment share one call. A read joins
//! only while the call has not been written to its terminal, so that what it is
//! told is never older than its question.

use std::collections::HashMap;
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

impl Waiter {
    /// A waiter, and where it is told.
    pub fn new(deadline: Instant) -> (Waiter, oneshot::Receiver<Result<Answer, CallError>>) {
        let (reply, answer) = oneshot::channel();
        (Waiter { reply, deadline }, answer)
    }

    /// Whether nobody waits any more.
    pub fn has_left(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.deadline <= now
    }
}

type Waiting = HashMap<String, Arc<Mutex<Option<Vec<Waiter>>>>>;

/// An account's calls that others may join.
#[derive(Debug, Clone, Default)]
pub struct Coalescer(Arc<Mutex<Waiting>>);

/// A call's place among those that others may join.
#[derive(Debug)]
pub struct CoalescedRead {
    sharing: Coalescer,
    key: String,
    followers: Arc<Mutex<Option<Vec<Waiter>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Coalescer {
    /// Joins a call that waits for the same answer. Gives the waiter back if there is none.
    pub fn join(&self, request: &Request, waiter: Waiter) -> Option<Waiter> {
        let waiting = locked(&self.0);
        let followers = waiting.get(&key_of(request)).cloned();
        match followers.as_deref().map(locked).as_deref_mut() {
            Some(Some(open)) => {
                open.push(waiter);
                None
            }
            _ => Some(waiter),
        }
    }

    /// Opens a call for others to join.
    pub fn open(&self, request: &Request) -> CoalescedRead {
        let (key, followers) = (key_of(request), Arc::new(Mutex::new(Some(vec![]))));
        locked(&self.0).insert(key.clone(), followers.clone());
        CoalescedRead { sharing: self.clone(), key, followers }
    }
}

fn key_of(request: &Request) -> String {
    format!("{request:?}")
}

impl CoalescedRead {
    /// Lets nobody join any more, and gives those who did.
    pub fn close(&self) -> Vec<Waiter> {
        let mut waiting = locked(&self.sharing.0);
        let ours = waiting.get(&self.key).is_some_and(|open| Arc::ptr_eq(open, &self.followers));
        if ours {
            waiting.remove(&self.key);
        }
        locked(&self.followers).take().unwrap_or_default()
    }
}

impl Drop for CoalescedRead {
    fn drop(&mut self) {
        // A call that is lost must not be joined; those who did learn that it is lost.
        drop(self.close());
    }
}
