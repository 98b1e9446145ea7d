//! How accounts and sessions stand, as `/api/v1/accounts` shows it.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::equity_history::EquityPoint;
use super::labels::SessionState;
use crate::account_name::AccountName;
use crate::mt5::AccountValues;
use crate::terminal::Mode;

/// How the last login of a session ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoginReport {
    /// `success` or `failure`.
    pub outcome: &'static str,
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What went wrong with a session last.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorReport {
    /// In words.
    pub message: String,
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A session as `/api/v1/accounts` shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionStatus {
    /// Where it stands.
    pub state: SessionState,
    /// Since when, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Whether account, positions, orders and history are read from it.
    pub primary: bool,
    /// Whether its terminal is connected to the broker.
    pub connected: bool,
    /// Calls that wait or are under way.
    pub queue_depth: usize,
    /// How often its terminal was replaced.
    pub restarts: u64,
    /// How its last login ended.
    pub last_login: Option<LoginReport>,
    /// What went wrong last.
    pub last_error: Option<ErrorReport>,
}

/// An account's money, as the last probe showed it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountMoney {
    /// When the terminal showed it, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The figures.
    #[serde(flatten)]
    pub values: AccountValues,
    /// Equity of the last quarter of an hour, oldest first.
    pub history: Vec<EquityPoint>,
}

/// An account as `/api/v1/accounts` shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountStatus {
    /// Its name in URLs.
    #[schema(value_type = String)]
    pub name: AccountName,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
    /// `live` or `simulated`.
    pub mode: Mode,
    /// Whether it may trade.
    pub trade: bool,
    /// Whether it is paused, so that what asks its terminals, trades and streams is refused.
    pub paused: bool,
    /// Whether a session is ready.
    pub ready: bool,
    /// The zone of its server's clock. `null`: times are the server's, as they come; else they
    /// are UTC, in and out.
    pub server_time_zone: Option<String>,
    /// What the newest ticks show against that zone, and what to do. `null`: nothing, as far as ticks were
    /// asked for.
    pub server_time_warning: Option<String>,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
}
