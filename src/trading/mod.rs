//! Sends each trade at most once and never late, and finds out what became of it.
//!
//! A trade is written to the journal before it is sent, and its result is written there afterwards. When
//! the answer is lost, the gateway searches the terminal until it knows the outcome, or reports it as
//! unknown. `docs/trading.md` states what is promised.
//!
//! In the order of a trade: the API hands a [`command`] to the [`handle`], the [`actor`] admits it and
//! keeps track of its [`executions`], an [`execution`] carries it through, and a [`delivery`] brings its client the answer. [`build`] makes a request of the
//! command and checks it against the symbol, with a [`tag`] by which the trade is recognised later. The
//! [`journal`] keeps what was decided and the [`audit`] records it, the [`ledger`] tells everybody concerned, the [`permission`] says whether an account may trade now, a [`halt`] keeps it from opening anything, and [`reconcile`] searches
//! for trades whose answer was lost.
//!
//! This room must never send a trade a second time, never send one late, and never say that a trade did not
//! happen unless that is known.

mod actor;
mod audit;
mod build;
mod command;
mod delivery;
mod execution;
mod executions;
#[cfg(test)]
mod faults;
mod halt;
mod handle;
mod identifiers;
mod journal;
mod ledger;
mod permission;
mod reconcile;
mod reply;
pub mod tag;
mod trade;

use std::path::PathBuf;
use std::time::Duration;

pub use self::actor::{Args, TradingActor};
pub use self::build::Refused;
pub use self::command::{NewOrder, OrderChange, TradeCommand};
pub use self::delivery::Delivery;
pub use self::execution::{Origin, Rehearsal};
pub use self::halt::{Halt, HaltScope, InForce};
pub use self::handle::{Left, Resolution, Trading};
pub use self::identifiers::{IdempotencyKey, TradeId};
pub use self::journal::{Journal, JournalError, JournalLook, Owner, TradeFilter, inspect};
pub use self::ledger::NoJournal;
pub use self::permission::{ActionPermission, TradePermission};
pub use self::reply::{Error, NotSent, NotSentCause, TimeSpent, TradeReply};
pub use self::trade::{Operation, Trade, TradeResult, TradeState};

/// How trades are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's file.
    pub journal: PathBuf,
    /// How long requests and results are kept. Keys and states are kept for ever.
    pub retention: Duration,
    /// Whether comments are tagged.
    pub tag: bool,
    /// How long nothing must show a trade, on a terminal that is connected and up to date, before the
    /// trade is known not to have happened.
    pub not_found_after: Duration,
}

/// Unix milliseconds.
fn now_msc() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
