//! A call on its way to a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::sharing::{Shared, Waiter};
use crate::mt5::{Answer, OrderSendResult, Request, TradeRequest};
use crate::terminal::Failure;

/// On whose behalf a call is made.
#[derive(Debug, Clone)]
pub struct Context {
    /// The id of the request that it serves.
    pub request_id: Arc<str>,
    /// When its caller stops waiting.
    pub deadline: Instant,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The terminal gave an error, or an answer that is of no use.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The call passed its limit, and its terminal was ended for it.
    #[error("the terminal did not answer within {0:?} and is being replaced")]
    TimedOut(Duration),
    /// The terminal ended in this call.
    #[error("the terminal ended during the call: {0}")]
    Died(String),
    /// No session of the account is ready; the next start is due after this time.
    #[error("no terminal of the account is ready")]
    NotReady(Duration),
    /// As many calls as allowed wait already.
    #[error("as many calls as allowed wait already")]
    QueueFull,
    /// The caller's deadline passed. What becomes of the call is unknown.
    #[error("the deadline passed before the terminal answered")]
    DeadlinePassed,
}

/// The place in a session's queue that a call holds until it is over.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    depth: Arc<AtomicI64>,
}

impl Place {
    pub fn new(permit: OwnedSemaphorePermit, depth: Arc<AtomicI64>) -> Place {
        depth.fetch_add(1, Ordering::Relaxed);
        Place { _permit: permit, depth }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that a session was given.
#[derive(Debug)]
pub struct Call {
    pub request: Request,
    pub arrived: Instant,
    pub place: Place,
    /// Whether another session had it before.
    pub moved: bool,
    /// Everybody who waits for the answer.
    pub waiters: Vec<Waiter>,
    /// How others may join, until it is written.
    pub shared: Option<Shared>,
}

impl Call {
    /// Lets nobody join any more, and forgets those who left. Gives whether
    /// nobody waits for the answer.
    pub fn is_abandoned(&mut self, now: Instant) -> bool {
        if let Some(shared) = self.shared.take() {
            self.waiters.extend(shared.close());
        }
        self.waiters.retain(|waiter| !waiter.has_left(now));
        self.waiters.is_empty()
    }

    /// Ends the call.
    pub fn finish(self, result: Result<Answer, CallError>) {
        self.finish_at(Instant::now(), result);
    }

    /// Ends the call, when the time is known.
    pub fn finish_at(mut self, now: Instant, result: Result<Answer, CallError>) {
        // Those who left need no answer, which saves the copies for them.
        let _ = self.is_abandoned(now);
        // The place is free before the callers know, so that their next call finds it so.
        drop(self.place);
        let last = self.waiters.pop();
        for waiter in self.waiters {
            let _ = waiter.reply.send(result.clone());
        }
        if let Some(last) = last {
            let _ = last.reply.send(result);
        }
    }
}

/// Why a trade has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TradeError {
    /// It never reached the terminal.
    #[error("{0}")]
    NotSent(CallError),
    /// The terminal took it and gave an error instead of a result.
    #[error("{0}")]
    Failed(Failure),
    /// It was given to the terminal, which ended before it answered.
    #[error("{0}")]
    Unanswered(String),
}

/// What a trade comes back with.
pub type Traded = Result<OrderSendResult, TradeError>;

/// A trade that a session was given. Unlike a call it is never abandoned,
/// never moved, and never sent twice.
#[derive(Debug)]
pub struct TradeCall {
    pub request: Box<TradeRequest>,
    pub arrived: Instant,
    pub place: Place,
    pub reply: oneshot::Sender<Traded>,
}

impl TradeCall {
    /// Ends the trade.
    pub fn finish(self, traded: Traded) {
        drop(self.place);
        let _ = self.reply.send(traded);
    }
}
