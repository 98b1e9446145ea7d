//! What actors report, and the closed sets that become label values.

use std::time::Duration;

use super::Sample;
use crate::actor::Role;
use crate::mt5::{ErrorType, Method, Retcode};

macro_rules! labels {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// Every value, in declaration order.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The label value.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }
        }
    };
}

labels! {
    /// How a call ended.
    Outcome {
        /// With an answer.
        Success = "success",
        /// With an error that the terminal gave.
        Error = "error",
        /// It passed its limit, and its terminal was ended for it.
        Timeout = "timeout",
        /// Its terminal ended.
        Died = "died",
    }
}

labels! {
    /// Where a session stands.
    SessionState {
        /// Its terminal is being started.
        Starting = "starting",
        /// The terminal logs in.
        LoggingIn = "logging_in",
        /// It takes calls.
        Ready = "ready",
        /// The terminal lost its broker.
        Disconnected = "disconnected",
        /// It waits before the next start.
        BackingOff = "backing_off",
        /// It failed too often and waits long.
        Quarantined = "quarantined",
    }
}

labels! {
    /// Why a terminal was replaced.
    RestartReason {
        /// A call or the start passed its limit.
        Hang = "hang",
        /// It ended by itself.
        Exit = "exit",
        /// It broke the protocol.
        Protocol = "protocol",
        /// The login failed or led to another account.
        Login = "login",
        /// Somebody asked for it.
        Request = "request",
    }
}

labels! {
    /// Why a call was not admitted.
    Rejection {
        /// As many calls as allowed wait already.
        QueueFull = "queue_full",
        /// No session of the account is ready.
        NotReady = "not_ready",
    }
}

labels! {
    /// How a trade ended.
    TradeOutcome {
        /// The broker carried it out.
        Executed = "executed",
        /// The broker refused it.
        Refused = "refused",
        /// It did not happen.
        NotFound = "not_found",
        /// It was withdrawn before it was sent.
        NotSent = "not_sent",
        /// What it was to change has changed otherwise since.
        Superseded = "superseded",
    }
}

/// The `type` of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorLabel {
    /// The terminal gave it.
    Mt5(ErrorType),
    /// The terminal did not answer in time.
    Hang,
    /// The terminal ended.
    TerminalDied,
}

impl ErrorLabel {
    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorLabel::Mt5(error_type) => error_type.name(),
            ErrorLabel::Hang => "hang",
            ErrorLabel::TerminalDied => "terminal_died",
        }
    }
}

/// A configured account, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountId(pub usize);

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub struct EndedCall {
    /// Whose terminal it was made on.
    pub account: AccountId,
    /// What was called.
    pub method: Method,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, if something did.
    pub error: Option<ErrorLabel>,
    /// On the terminal, without queueing.
    pub duration: Duration,
    /// Before that.
    pub queued: Duration,
}

/// What happened. Durations are wall time.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the labels and values of the families they move")]
pub enum Event {
    /// A login was tried.
    Login { account: AccountId, success: bool, duration: Duration },
    /// Calls ended.
    Calls(Vec<EndedCall>),
    /// An error outside a call: the terminal failed before it took one.
    Error { account: AccountId, method: Method, error: ErrorLabel },
    /// How many sessions are in each state, in the order of [`SessionState::ALL`], and how many
    /// terminals are connected to their broker.
    Sessions { account: AccountId, states: [i64; SessionState::ALL.len()], connected: i64 },
    /// A terminal was replaced.
    Restarted { account: AccountId, reason: RestartReason },
    /// A call was not admitted.
    Rejected { account: AccountId, reason: Rejection },
    /// The broker answered a trade.
    TradeResult { account: AccountId, retcode: Retcode },
    /// A trade ended.
    TradeEnded { account: AccountId, outcome: TradeOutcome },
    /// So many trades are unknown, the oldest since (unix seconds; 0: none).
    TradesUnknown { account: AccountId, count: i64, oldest: f64 },
    /// What was found later contradicts a trade's final state.
    TradeContradicted { account: AccountId },
    /// The journal was written.
    JournalWritten(Duration),
    /// An actor was restarted by its supervisor.
    ActorRestarted(Role),
    /// The machine was measured.
    Sampled(Box<Sample>),
    /// Nobody measures the machine any more.
    SamplerGone,
}
