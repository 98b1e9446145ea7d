//! The closed sets of words that the pool reports: in its status, in logs and as label values.

use strum::{IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;

/// Where a session stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    ToSchema,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SessionState {
    /// Its terminal is being started.
    Starting,
    /// The terminal logs in.
    LoggingIn,
    /// It takes calls.
    Ready,
    /// The terminal lost its broker.
    Disconnected,
    /// It waits before the next start.
    BackingOff,
    /// It failed too often and waits long.
    Quarantined,
}

impl SessionState {
    /// Every state, in declaration order.
    pub const ALL: &'static [SessionState] = <SessionState as VariantArray>::VARIANTS;

    /// Its name in the API, in logs and in metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a terminal was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum RestartReason {
    /// A call or the start passed its limit.
    Hang,
    /// It ended by itself.
    Exit,
    /// It broke the protocol.
    Protocol,
    /// The login failed or led to another account.
    Login,
    /// Somebody asked for it.
    Request,
    /// The account's settings say so: it took too much memory, or its time had come.
    Recycle,
    /// The settings of its account have changed.
    Settings,
    /// Its template has changed.
    Template,
}

impl RestartReason {
    /// Its name in logs and in metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Rejection {
    /// As many calls as allowed wait already.
    QueueFull,
    /// No session of the account is ready.
    NotReady,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// With an answer.
    Success,
    /// With an error that the terminal gave.
    Error,
    /// It passed its limit, and its terminal was ended for it.
    Timeout,
    /// Its terminal ended.
    Died,
}
