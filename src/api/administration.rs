//! What the API asks of whoever owns the settings: to read them again, and to apply what has changed.
//!
//! The settings are above this room, so it knows their owner by a trait.

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::account_name::AccountName;

/// What happened to a setting while the gateway runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has another value. An account of which more has changed than its pause ends and begins anew.
    Changed,
    /// It is gone.
    Removed,
    /// The account is paused now, and nothing else of it has changed.
    Paused,
    /// The account is not paused any more, and nothing else of it has changed.
    Resumed,
}

/// A change that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettingChange {
    /// The table or the setting.
    #[schema(example = "accounts.main")]
    pub setting: String,
    /// What happened to it.
    pub change: ChangeKind,
    /// Trades that an account has left behind whose outcome is unknown. Nobody looks for them until an
    /// account with its login and server is configured.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_trades: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What a new reading of the settings has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// What is in force now.
    pub applied: Vec<SettingChange>,
    /// Settings that have another value than the one in force, which a restart applies.
    #[schema(example = json!(["server.listen"]))]
    pub restart_required: Vec<String>,
}

/// Why the settings were not changed. The earlier ones are in force, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The settings have these faults.
    Faults(Vec<String>),
    /// There is no such account.
    NoSuchAccount,
    /// The account, or its pause, does not come from the accounts store alone, but from these sources.
    NotStored(Vec<String>),
    /// So many trades of the account have an unknown outcome.
    UnknownTrades(usize),
    /// A source of settings, the accounts store or the journal cannot be read or written.
    Unavailable(String),
    /// The client's key has expired or was revoked while the change waited for its turn.
    KeyEnded,
    /// The gateway stops.
    Stopping,
    /// The change failed half way, which is a bug. The log says more.
    Failed,
}

/// Whether a client still may make a change, asked when its turn has come.
pub type StillAllowed = Box<dyn Fn() -> bool + Send + Sync>;

/// The owner of the settings. One change is made at a time, and goes on if nobody waits for it.
pub trait Administration: Send + Sync {
    /// Whether clients may change settings on a gateway without keys.
    fn allows_anonymous(&self) -> bool;

    /// Reads every source of settings again, and applies what has changed.
    fn reload(&self) -> BoxFuture<'static, Result<Reloaded, Refusal>>;

    /// Keeps the settings of an account in the accounts store, and applies them. Gives whether the
    /// account is new.
    fn set_account(
        &self,
        account: AccountName,
        settings: Map<String, Value>,
        allowed: StillAllowed,
    ) -> BoxFuture<'static, Result<bool, Refusal>>;

    /// Removes an account that the accounts store alone has. `force`: also if it has trades whose outcome
    /// is unknown.
    fn remove_account(
        &self,
        account: AccountName,
        force: bool,
        allowed: StillAllowed,
    ) -> BoxFuture<'static, Result<(), Refusal>>;

    /// Pauses or resumes an account, also for later runs of the gateway.
    fn pause_account(
        &self,
        account: AccountName,
        paused: bool,
        allowed: StillAllowed,
    ) -> BoxFuture<'static, Result<(), Refusal>>;
}
