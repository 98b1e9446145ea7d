//! One fate for each trade: it is written down before it is sent, sent at most once and not later than
//! its client allowed, and its result is written down; where no answer says what became of it, the
//! gateway looks until it knows, or says that it does not.
//!
//! [`command`] is what a client wants, [`build`] checks it against the symbol and makes a request of it,
//! [`journal`] keeps what was decided, [`execution`] carries one trade through, the [`actor`] admits
//! trades and supervises the rest, [`reconcile`] finds out about those whose answer was lost, [`tag`] is
//! how they are recognised. `docs/trading.md` states what is promised. This room must never send a trade
//! a second time, never send one late, and never say of one that it did not happen unless that is known.

mod actor;
mod build;
mod command;
mod execution;
mod executions;
#[cfg(test)]
mod faults;
mod handle;
mod journal;
mod ledger;
mod reconcile;
mod reply;
pub mod tag;
mod trade;

use std::path::PathBuf;
use std::time::Duration;

pub use self::actor::{Args, TradingActor};
pub use self::build::Refused;
pub use self::command::{NewOrder, OrderChange, TradeCommand};
pub use self::execution::Origin;
pub use self::handle::{Resolution, Trading};
pub use self::journal::{Journal, JournalError, Owner, TradeFilter};
pub use self::ledger::NoJournal;
pub use self::reply::{Error, NotSent, NotSentCause, TimeSpent, TradeReply};
pub use self::trade::{Operation, Trade, TradeResult, TradeState};

/// How trades are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's file.
    pub journal: PathBuf,
    /// How long requests and results are kept; keys and fates are kept for ever.
    pub retention: Duration,
    /// Whether comments are tagged.
    pub tag: bool,
    /// How long a terminal has to be sound, and the trade nowhere to be seen, before it is known not
    /// to have happened.
    pub not_found_after: Duration,
}

/// Unix milliseconds.
fn now_msc() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
