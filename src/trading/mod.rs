//! One fate for each trade: it is written down before it is sent, sent at most
//! once, and its result is written down; where no answer says what became of
//! it, the gateway looks until it knows.
//!
//! [`wish`] is what a client wants, [`prepare`] checks it against the symbol and
//! makes a request of it, [`journal`] keeps what was decided, the [`desk`] actor
//! carries trades through, [`watch`] and [`reconcile`] find out about those whose
//! answer was lost, [`tag`] is how they are recognised. This room must never send a trade a
//! second time, and never say of one that it failed unless that is known.

mod desk;
mod journal;
mod prepare;
mod reconcile;
pub mod tag;
mod trade;
mod watch;
mod wish;

use std::path::PathBuf;
use std::time::Duration;

pub use self::desk::{Args, Desk, Error, Fate, NoJournal, Trading};
pub use self::journal::{Journal, JournalError};
pub use self::prepare::Refused;
pub use self::trade::{Operation, State, Trade, TradeResult};
pub use self::wish::{NewOrder, OrderChange, Wish};

/// How trades are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's file.
    pub journal: PathBuf,
    /// How long requests and results are kept; keys and fates are kept for ever.
    pub retention: Duration,
    /// Whether comments are tagged.
    pub tag: bool,
    /// How long the terminal has to be connected, and the trade nowhere to be
    /// seen, before it is known not to have happened.
    pub not_found_after: Duration,
}
