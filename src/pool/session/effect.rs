//! What the machine decides, for the actor to carry out in this order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::NextStart;
use super::notice::Settled;
use crate::clock::BootInstant;
use crate::metrics::{EndedCall, Event};
use crate::mt5::{AccountInfo, Answer, Method, Request};
use crate::pool::call::{CallError, QueuedCall, QueuedTrade, TradeOutcome};
use crate::pool::labels::{RestartReason, SessionState};
use crate::pool::trade_permission::TradeFlags;

/// The present moment, on the clock of calls and on the one of trades.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub at: Instant,
    pub boot: BootInstant,
}

impl Now {
    pub fn read() -> Now {
        Now { at: Instant::now(), boot: BootInstant::now() }
    }
}

/// Numbers terminals, so that what belongs to an earlier one is recognised. It changes with every
/// start and every end of a terminal.
pub type Generation = u64;

/// What the machine is reminded of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Start a terminal.
    Launch,
    /// Look at the clock of the oldest call.
    CheckLimit,
    /// Ask the terminal whether it is connected.
    Probe,
    /// Withdraw trades that are late.
    WithdrawLateTrades,
    /// See whether another session should take the trades that wait here.
    HandOver,
}

/// What the machine asks of the account's other sessions and of the account itself.
pub trait Surroundings {
    /// Whether this session is the one that trades.
    fn is_primary(&self) -> bool;

    /// Whether another session can take over.
    fn has_several_sessions(&self) -> bool;

    /// For how long this session may be on one call before its trades go elsewhere.
    fn hand_over_after(&self) -> Duration;

    /// Makes another session the primary, if this one has been on one call for too long and the
    /// other is ready and idle. Gives whether it did.
    fn hand_primary_over(&self) -> bool;

    /// Compares what the terminal shows with the configured account.
    ///
    /// # Errors
    /// What differs.
    fn check_identity(&self, info: &AccountInfo) -> Result<(), String>;
}

/// A decision of the machine.
#[derive(Debug)]
pub enum Effect {
    /// Start a terminal, whose events carry this generation.
    Launch(Generation),
    /// Write a call to the terminal, which is on no other if it is `idle`. `send_by` is the last
    /// moment of a trade.
    Submit { id: u64, request: Request, send_by: Option<BootInstant>, idle: bool },
    /// Let the terminal finish and end by itself.
    Close,
    /// End the terminal at once.
    Kill,
    /// Come back with this timer, unless another generation has begun. There is one [`Timer::Probe`]
    /// at most: a later one replaces it.
    Arm(Timer, Duration, Generation),
    /// Answer everybody who waits for a read.
    Answer(Box<QueuedCall>, Instant, Result<Answer, CallError>),
    /// Give a read to another session, or refuse it.
    Move(Box<QueuedCall>),
    /// Tell what became of a trade.
    EndTrade(QueuedTrade, TradeOutcome),
    /// Give a trade back that was not sent, because the session is not ready.
    RefuseTrade(QueuedTrade),
    /// Tell that a restart that was asked for is over.
    Settle(Settled),
    /// End the actor: nothing is left to do.
    Stop,
    /// Show the session's state, and when its next start is due.
    SetState(SessionState, Option<Instant>),
    /// Show whether the terminal is connected to its broker.
    SetConnected(bool),
    /// Show whether the terminal lets its account trade.
    SetTradeFlags(TradeFlags),
    /// Show the account's money.
    ShowAccount(Box<AccountInfo>),
    /// Show how many open positions (`positions_total`) or pending orders (`orders_total`) there are.
    ShowTotal(Method, u64),
    /// Show since when the terminal has been on a call, and whether that is the gateway's own search.
    SetBusy { since: Option<Instant>, internal: bool },
    /// Have the terminal's process measured until the terminal is ended.
    Watch(u32),
    /// Note how many bytes the terminal's files take.
    NoteFiles(u64),
    /// Count a call that ended.
    CountCall(EndedCall),
    /// Count something else.
    Count(Event),
    /// Tell operators.
    Report(Report),
}

/// What operators are told, in the log and in the account's status.
#[derive(Debug)]
pub enum Report {
    /// The terminal takes calls. Carries its versions.
    Started(String),
    /// The login succeeded.
    LoggedIn { after: Duration },
    /// The login failed.
    LoginFailed { detail: String },
    /// The session takes calls.
    Ready,
    /// The terminal lost its broker.
    BrokerLost,
    /// Trades that waited here go to another session.
    TradesHandedOver,
    /// The terminal failed.
    Failed {
        reason: RestartReason,
        detail: String,
        next_start: NextStart,
        /// The id of the request whose read the terminal was on.
        request_id: Option<Arc<str>>,
    },
    /// The terminal is replaced although it works, for this reason.
    Replaced(RestartReason),
}
