//! What a client is told about its trade.

use std::time::Duration;

use super::build::Refused;
use super::identifiers::TradeId;
use super::journal::JournalError;
use super::trade::Trade;
use crate::pool::{CallError, TradeBlock};

/// Why a trade has no state to show.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It was refused before it was written down.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was withdrawn before it was sent.
    #[error("{0}")]
    NotSent(Box<NotSent>),
    /// The account may not trade, for these reasons.
    #[error("the account may not trade: {}", remedies(.0))]
    NotAllowed(Vec<TradeBlock>),
    /// The journal cannot be used, so nothing is sent.
    #[error("nothing is traded without a journal: {0}")]
    NoJournal(String),
    /// The account takes no trades for now.
    #[error("the account is paused or is being changed or removed, so nothing new is sent")]
    Paused,
    /// Trades from before the account came are still being looked for.
    #[error("trades from before the account was opened are still being looked for")]
    Reconciling,
    /// A trade with this key is under way.
    #[error("a trade with this Idempotency-Key is under way")]
    UnderWay,
    /// The key was used for something else.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The key was used while the account was simulated.
    #[error(
        "this Idempotency-Key was used while the account was simulated, and nothing was sent now: use \
         another one"
    )]
    KeyOfSimulation,
    /// The deadline passed while the trade was under way.
    #[error("the deadline passed while the trade was under way")]
    OutcomeUnknown {
        /// The id under which clients can ask for its state. `None`: whether the request is the
        /// repetition of an earlier one had not been found out, and then it makes no trade of its own.
        trade_id: Option<TradeId>,
    },
    /// An operator's decision contradicts what is known.
    #[error("{0}")]
    NotResolvable(String),
}

/// What is wrong, and what to do about it.
fn remedies(blocks: &[TradeBlock]) -> String {
    let remedies: Vec<&str> = blocks.iter().map(|block| block.remedy()).collect();
    remedies.join("; ")
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Error {
        Error::NoJournal(error.to_string())
    }
}

/// A trade that was withdrawn before it was sent, on its way to its client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct NotSent {
    /// The trade.
    pub trade: Trade,
    /// Why, for the client.
    pub reason: String,
    /// Why it was not sent, if its time was not over.
    pub cause: Option<NotSentCause>,
    /// Where its time went; `None`: another request with the same key made it.
    pub spent: Option<TimeSpent>,
    /// When to try again; `None`: waiting does not help.
    pub retry_after: Option<Duration>,
}

/// Why a trade was not sent although there was time.
#[derive(Debug, Clone, PartialEq)]
pub enum NotSentCause {
    /// No terminal took it.
    Call(CallError),
    /// The account was halted when it was about to be sent.
    Halted,
    /// Its intent could not be written.
    Journal(String),
}

/// How a trade's time was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeSpent {
    /// Before its request was complete and checked: the body, the key, reads of the terminal.
    pub preparation: Duration,
    /// Until its intent was on disk.
    pub journal: Duration,
    /// For the terminal.
    pub waiting: Duration,
}

/// A trade as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeReply {
    /// The trade.
    pub trade: Trade,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}
