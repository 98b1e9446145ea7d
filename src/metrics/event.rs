//! What actors report.
//!
//! A label whose values belong to another room travels as that room's `&'static str`, from a closed
//! set in [`LabelSets`](super::LabelSets).

use std::time::Duration;

use super::Sample;
use crate::actor::Role;
use crate::mt5::{AccountValues, Method, Retcode};

/// An account for as long as it is served. Ids are never reused: an account whose settings change, or
/// that comes back after its removal, has another one, so that late news of the earlier one is
/// recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub usize);

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub struct EndedCall {
    /// Whose terminal it was made on.
    pub account: AccountId,
    /// What was called.
    pub method: Method,
    /// How it ended.
    pub outcome: &'static str,
    /// The `type` of its error, if it failed.
    pub error: Option<&'static str>,
    /// On the terminal, without queueing.
    pub duration: Duration,
    /// Before that.
    pub queued: Duration,
}

/// What an account has.
#[derive(Debug, Clone, Default)]
pub struct AccountFigures {
    /// Its money.
    pub values: AccountValues,
    /// How many positions are open; `None`: not counted.
    pub positions: Option<u64>,
    /// How many orders are pending; `None`: not counted.
    pub orders: Option<u64>,
}

/// What happened. Durations are wall time.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the labels and values of the families they move")]
pub enum Event {
    /// A login was tried.
    Login { account: AccountId, success: bool, duration: Duration },
    /// An error outside a call: the terminal failed before it took one.
    Error { account: AccountId, method: Method, error: &'static str },
    /// How many sessions are in each state, and how many terminals are connected to their broker.
    Sessions { account: AccountId, states: Vec<(&'static str, i64)>, connected: i64 },
    /// What an account has. `None`: that is not known now.
    AccountFigures { account: AccountId, figures: Option<Box<AccountFigures>> },
    /// Which of these reasons against trading an account stand now. Whoever finds a reason reports it;
    /// nobody else does.
    TradeBlocked { account: AccountId, blocked: Vec<(&'static str, bool)> },
    /// A terminal was replaced.
    Restarted { account: AccountId, reason: &'static str },
    /// A call was not admitted.
    Rejected { account: AccountId, reason: &'static str },
    /// The broker answered a trade.
    TradeResult { account: AccountId, retcode: Retcode },
    /// A trade ended.
    TradeEnded { account: AccountId, outcome: &'static str },
    /// So many trades are unknown, the oldest since (unix seconds; 0: none).
    TradesUnknown { account: AccountId, count: i64, oldest: f64 },
    /// What was found later contradicts a trade's final state.
    TradeContradicted { account: AccountId },
    /// An account is not served any more.
    AccountGone(AccountId),
    /// The journal was written.
    JournalWritten(Duration),
    /// An actor was restarted by its supervisor.
    ActorRestarted(Role),
    /// The machine was measured.
    Sampled(Box<Sample>),
    /// The process of a terminal is measured no more.
    TerminalGone { account: AccountId, session: usize },
    /// Nobody measures the machine any more.
    SamplerGone,
}
