//! A call on its way to a terminal.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::coalescing::{CoalescedRead, Waiter};
use crate::clock::BootInstant;
use crate::mt5::{Answer, OrderSendResult, Request, TradeRequest};
use crate::terminal::Failure;

/// On whose behalf a call is made.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The id of the request that it serves.
    pub request_id: Arc<str>,
    /// When its caller stops waiting.
    pub deadline: Instant,
    /// Whether it is the gateway's own search, for which no terminal that still serves clients is
    /// given up.
    pub internal: bool,
    /// Whether it prepares a trade, and so goes before all other reads.
    pub urgent: bool,
}

impl CallContext {
    /// The context of a client's request.
    pub fn new(request_id: Arc<str>, deadline: Instant) -> CallContext {
        CallContext { request_id, deadline, internal: false, urgent: false }
    }

    /// The context of what the gateway looks for by itself.
    pub fn internal(purpose: &'static str, patience: Duration) -> CallContext {
        let deadline = Instant::now() + patience;
        CallContext { request_id: purpose.into(), deadline, internal: true, urgent: false }
    }
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
    /// The terminal ended during the call.
    #[error("the terminal ended during the call: {0}")]
    Died(String),
    /// No session of the account is ready; the next start is due after this time.
    #[error("no terminal of the account is ready")]
    NotReady(Duration),
    /// As many calls as allowed wait already.
    #[error("as many calls as allowed wait already")]
    QueueFull,
    /// The terminal has no quote for a symbol yet.
    #[error("the terminal has no quote for {0} yet")]
    NoQuote(String),
    /// The caller's deadline passed. What becomes of the call is unknown.
    #[error("the deadline passed before the terminal answered")]
    DeadlinePassed,
}

/// The permit to wait in a session's queue, held until the call is over.
#[derive(Debug)]
pub struct QueuePermit {
    _permit: OwnedSemaphorePermit,
    depth: Arc<AtomicI64>,
}

impl QueuePermit {
    pub fn new(permit: OwnedSemaphorePermit, depth: Arc<AtomicI64>) -> QueuePermit {
        depth.fetch_add(1, Ordering::Relaxed);
        QueuePermit { _permit: permit, depth }
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that a session was given. It travels in a box: through a mailbox, a queue and the effects of a
/// session, each of which would copy it.
#[derive(Debug)]
pub struct QueuedCall {
    /// The id of the request that it serves, for the log.
    pub request_id: Arc<str>,
    pub request: Request,
    pub arrived: Instant,
    pub permit: QueuePermit,
    /// Whether another session had it before.
    pub moved: bool,
    /// Whether it is the gateway's own search.
    pub internal: bool,
    /// Whether it prepares a trade.
    pub urgent: bool,
    /// Everybody who waits for the answer.
    pub waiters: SmallVec<[Waiter; 1]>,
    /// How others may join, until it is written.
    pub shared: Option<CoalescedRead>,
}

impl QueuedCall {
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
    pub fn finish(self: Box<Self>, result: Result<Answer, CallError>) {
        self.finish_at(Instant::now(), result);
    }

    /// Ends the call, when the time is known.
    pub fn finish_at(mut self: Box<Self>, now: Instant, result: Result<Answer, CallError>) {
        // Those who left need no answer, which saves the copies for them.
        let _ = self.is_abandoned(now);
        // The permit is free before the callers know, so that their next call finds it so.
        drop(self.permit);
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
    /// Its session gave it back unsent, because another one is the primary now.
    #[error("another session has taken over")]
    Moved,
    /// Its last moment passed before `order_send` was called.
    #[error("its time was over before it could be sent")]
    Withdrawn,
    /// [`LastCheck`] did not let it through.
    #[error("it was held back when it was about to be sent")]
    HeldBack,
    /// The terminal took it and gave an error instead of a result.
    #[error("{0}")]
    Failed(Failure),
    /// It was given to the terminal, which ended before it answered.
    #[error("{0}")]
    Unanswered(String),
}

/// What a trade comes back with.
pub type TradeOutcome = Result<Box<OrderSendResult>, TradeError>;

/// Says, immediately before `order_send` is given to a terminal, whether that may be. Asked at most once for
/// each time that it would be given.
#[derive(Clone)]
pub struct LastCheck(Arc<dyn Fn() -> bool + Send + Sync>);

impl LastCheck {
    /// What `passes` says. It must not wait.
    pub fn new(passes: impl Fn() -> bool + Send + Sync + 'static) -> LastCheck {
        LastCheck(Arc::new(passes))
    }

    /// Lets everything through.
    pub fn none() -> LastCheck {
        LastCheck::new(|| true)
    }
}

impl fmt::Debug for LastCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LastCheck")
    }
}

/// A trade that a session was given. Once it is written to a terminal it is never abandoned, never
/// moved, and never sent twice.
#[derive(Debug)]
pub struct QueuedTrade {
    pub request: Box<TradeRequest>,
    /// Until when `order_send` may be called.
    pub send_by: BootInstant,
    check: LastCheck,
    pub arrived: Instant,
    /// Whether `order_send` was given to the terminal.
    pub written: bool,
    /// `None` once it has ended.
    open: Option<(QueuePermit, oneshot::Sender<TradeOutcome>)>,
}

impl QueuedTrade {
    /// A trade that was not written yet.
    pub fn new(
        request: Box<TradeRequest>,
        send_by: BootInstant,
        check: LastCheck,
        arrived: Instant,
        permit: QueuePermit,
        reply: oneshot::Sender<TradeOutcome>,
    ) -> QueuedTrade {
        QueuedTrade {
            request,
            send_by,
            check,
            arrived,
            written: false,
            open: Some((permit, reply)),
        }
    }

    /// Whether it may still be sent. If so, it has to be at once.
    pub fn passes_last_check(&self) -> bool {
        (self.check.0)()
    }

    /// Whether it may not be sent any more.
    pub fn is_late(&self, now: BootInstant) -> bool {
        self.send_by <= now
    }

    /// Ends the trade.
    pub fn finish(mut self, traded: TradeOutcome) {
        self.end(traded);
    }

    fn end(&mut self, traded: TradeOutcome) {
        if let Some((permit, reply)) = self.open.take() {
            drop(permit);
            let _ = reply.send(traded);
        }
    }
}

impl Drop for QueuedTrade {
    /// A session that fails while a trade waits has not sent it.
    fn drop(&mut self) {
        if !self.written {
            self.end(Err(TradeError::NotSent(CallError::NotReady(Duration::from_secs(1)))));
        }
    }
}
