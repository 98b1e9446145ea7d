//! Who owns terminals, and who may use them.
//!
//! The [`supervisor`] actor owns one [`session`] actor for each configured
//! terminal. [`Accounts`] says who is ready. [`dispatch`] takes a call from HTTP straight to a session, which
//! [`routing`] chooses. [`coalescing`] joins equal reads that wait, and [`bar_cache`] keeps bars that have closed. This room knows nothing of HTTP and
//! nothing of Prometheus; what it sees, it reports as events.

mod account_clock;
mod account_status;
mod accounts;
mod availability;
mod bar_cache;
mod call;
mod clock_watch;
mod coalescing;
mod dispatch;
mod equity_history;
pub mod history;
mod labels;
mod recycling;
mod routing;
mod server_time;
mod session;
mod session_slot;
mod standing;
pub mod supervisor;
mod tickets;
mod timers;
mod trade_permission;

use std::sync::Arc;
use std::time::Duration;

use crate::account_name::AccountName;
use crate::actor::RestartPolicy;
use crate::mt5::ServerClock;
use crate::terminal::Launch;

pub use self::account_status::{AccountMoney, AccountStatus, ErrorReport, SessionStatus};
pub use self::accounts::{Account, Accounts, TradeUnderWay};
pub use self::availability::{Availability, Ready};
pub use self::bar_cache::LONGEST as CACHE_LONGEST;
pub use self::call::{CallContext, CallError, LastCheck, TradeError, TradeOutcome};
pub use self::labels::{Rejection, RestartReason, SessionState};
pub use self::recycling::{Recycling, Schedule};
pub use self::standing::{Door, RequestUnderWay, Standing};
pub use self::supervisor::Pool;
pub use self::trade_permission::{TradeBlock, TradeFlags};

/// How sessions treat their terminals.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a terminal may take for a call before it is replaced.
    pub call_timeout: Duration,
    /// How long it may take for a trade.
    pub trade_timeout: Duration,
    /// How often a terminal is asked whether it is connected.
    pub probe_interval: Duration,
    /// Whether positions and orders are counted at each probe, for the metrics of accounts.
    pub count_holdings: bool,
    /// When a terminal or session actor that failed is started again.
    pub restart: RestartPolicy,
    /// How long a session is quarantined whose restart budget is spent.
    pub quarantine_retry: Duration,
}

/// How reads are saved.
#[derive(Debug, Clone, Copy)]
pub struct Savings {
    /// Whether identical reads that wait are one call.
    pub share: bool,
    /// Bytes of closed bars that are kept; 0: none.
    pub cache: u64,
}

/// A configured account.
pub struct AccountOptions {
    /// Its name in URLs and labels.
    pub name: AccountName,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
    /// Terminals.
    pub sessions: usize,
    /// Calls that may wait or be under way for each terminal.
    pub queue: usize,
    /// Whether it may trade.
    pub trade: bool,
    /// Whether it is served only once somebody lifts the pause.
    pub paused: bool,
    /// From a trade's arrival until `order_send` has to be called, at most.
    pub send_within: Duration,
    /// The same for trades that only reduce risk.
    pub send_within_close: Duration,
    /// The clock of its broker's server.
    pub clock: ServerClock,
    /// Starts its terminals.
    pub launcher: Arc<dyn Launch>,
    /// When its terminals are replaced although they work.
    pub recycling: Recycling,
}
