//! One terminal: something that takes the calls of [`mt5`](crate::mt5) in order
//! and answers them in order, or ends.
//!
//! A terminal runs on a task or in a process of its own and reports through an
//! [`EventSink`]; what takes no time it may answer at once. It must never decide what becomes of a call that it did not
//! answer, nor restart itself: that is the pool's business.
//!
//! What every terminal does for its callers, so that it holds wherever a call
//! lands: a symbol that is not in Market Watch is selected on first use, and a
//! `market_book_get` without a subscription subscribes for that one call.

pub mod provisioning;
pub mod simulator;
pub mod worker;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use smallvec::SmallVec;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::mt5::{Answer, Error, Request};

/// What a terminal reports.
#[derive(Debug)]
pub enum Event {
    /// Its process has been started, with this id. A terminal without a process of its own never says so.
    Process(u32),
    /// The terminal's files take so many bytes. Only terminals whose files the gateway makes say so.
    Files(u64),
    /// It takes calls now. Carries its versions, for the log.
    Started(String),
    /// The answers to the oldest calls that were not answered yet, in their order. What came
    /// together is told together.
    Answered(Answers),
    /// It is gone; nothing follows.
    Ended(Ending),
}

/// A terminal's answer to a call.
#[derive(Debug)]
pub struct Answered {
    /// The number that the call was submitted with.
    pub id: u64,
    /// When it came back.
    pub at: Instant,
    /// What came back.
    pub result: Result<Answer, Failure>,
}

/// Answers that came together: of a terminal that is on one call at a time, one.
pub type Answers = SmallVec<[Answered; 1]>;

/// Why a call has no answer although its terminal lives.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The terminal said so.
    #[error(transparent)]
    Mt5(#[from] Error),
    /// The answer cannot be understood, or the package raised an exception.
    #[error("{0}")]
    Unusable(String),
    /// The terminal is logged in to another account, so the answer is about that one.
    #[error("{0}")]
    OtherAccount(String),
    /// A trade came to the terminal after its last moment. Nothing was sent to the broker.
    #[error("the trade reached the terminal too late and was withdrawn before order_send")]
    Withdrawn,
}

/// Why a terminal is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// Its process ended, or never began.
    #[error("{0}")]
    Exit(String),
    /// It broke the protocol and was ended for it.
    #[error("{0}")]
    Protocol(String),
}

/// Where a terminal reports to. Called in the order of what happened.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// Held by a terminal while it lives, so that its replacement cannot start
/// beside it: MT5 allows one terminal a data directory.
pub type Lease = Arc<Mutex<()>>;

/// Whether there is a broker behind a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A real terminal.
    Live,
    /// The built-in simulator.
    Simulated,
}

/// A running terminal. Dropping it ends it at once.
pub trait Terminal: Send {
    /// Hands a call over without waiting. How many may be under way is bounded
    /// by the caller.
    ///
    /// `idle` says that the caller has heard the answers to all earlier calls. Then a terminal may
    /// answer a call that takes no time by returning the answer, and does not report it.
    ///
    /// `send_by` is the last moment at which an `order_send` may be passed on to the broker. The
    /// terminal compares it itself, immediately before that, and answers [`Failure::Withdrawn`]
    /// when it has passed. Other calls have none.
    fn submit(&mut self, call: SubmittedCall, idle: bool) -> Option<Answered>;

    /// Lets it answer what it has, log out and end by itself, within a short
    /// time of its own. It reports nothing after this.
    fn close(self: Box<Self>);
}

/// A call that is handed to a terminal.
#[derive(Debug)]
pub struct SubmittedCall {
    /// Its number, which the answer carries.
    pub id: u64,
    /// What is called.
    pub request: Request,
    /// The last moment of an `order_send`.
    pub send_by: Option<BootInstant>,
}

/// Starts terminals of one kind for one account.
pub trait Launch: Send + Sync {
    /// Starts the terminal of one of the account's sessions as soon as the lease is free.
    fn launch(&self, session: usize, lease: Lease, events: EventSink) -> Box<dyn Terminal>;

    /// Whether what it starts is real.
    fn mode(&self) -> Mode;

    /// How long starting and each of `initialize` and `login` may take.
    fn init_timeout(&self) -> std::time::Duration;

    /// Whether it makes the files of its terminals itself. Then a start takes as long as that does, and
    /// `init_timeout` counts from [`Event::Process`].
    fn provides_files(&self) -> bool {
        false
    }

    /// Whether the files of a session's terminal have a newer version, which its next start takes.
    fn is_outdated(&self, _session: usize) -> bool {
        false
    }

    /// Looks at what a start needs on this machine, without one. `None`: it needs nothing.
    fn examine(&self) -> Option<BoxFuture<'static, worker::Examination>> {
        None
    }
}
