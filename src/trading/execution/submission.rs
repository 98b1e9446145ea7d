//! A command on its way from a client to its execution.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::pool::{Account, CallContext};
use crate::trading::command::TradeCommand;
use crate::trading::identifiers::{IdempotencyKey, TradeId};
use crate::trading::now_msc;
use crate::trading::trade::Trade;

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its Idempotency-Key.
    pub key: Option<IdempotencyKey>,
    /// When its request arrived.
    pub arrived: BootInstant,
    /// `Send-Within`, at most what the account allows.
    pub send_within: Duration,
    /// Name of the API key.
    pub api_key: Option<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// Whether a client is still waiting for its trade. Either the execution answers or the client leaves,
/// whichever comes first.
#[derive(Debug, Default)]
pub struct ClientWait {
    state: AtomicU8,
    admitted: AtomicBool,
}

impl ClientWait {
    const OPEN: u8 = 0;
    const ANSWERED: u8 = 1;
    const LEFT: u8 = 2;

    /// The execution is about to answer. Gives whether the client still waits.
    pub fn answer(&self) -> bool {
        self.end(Self::ANSWERED)
    }

    /// The client stops waiting. Gives whether there was no answer yet.
    pub fn leave(&self) -> bool {
        self.end(Self::LEFT)
    }

    pub fn has_left(&self) -> bool {
        self.state.load(Ordering::Acquire) == Self::LEFT
    }

    /// The trading actor has taken the submission.
    pub fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Whether the trading actor has taken the submission. One that it lost before was never sent.
    pub fn was_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    fn end(&self, state: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.state.compare_exchange(Self::OPEN, state, success, failure).is_ok()
    }
}

pub struct Submission {
    pub account: Arc<Account>,
    pub command: TradeCommand,
    pub fingerprint: [u8; 32],
    pub origin: Origin,
    pub trade_id: TradeId,
    pub request_id: Arc<str>,
    /// When its client stops waiting.
    pub deadline: Instant,
    pub client: ClientWait,
}

impl Submission {
    /// The last moment in which it may be sent.
    pub fn send_by(&self) -> BootInstant {
        self.origin.arrived + self.origin.send_within
    }

    /// The trade that it is to become.
    pub fn trade(&self) -> Trade {
        let operation = self.command.operation();
        Trade {
            identity: self.account.identity(),
            api_key: self.origin.api_key.clone(),
            client: self.origin.client.clone(),
            idempotency_key: self.origin.key.clone(),
            fingerprint: self.fingerprint,
            ..Trade::new(self.trade_id.clone(), self.account.name.clone(), operation, now_msc())
        }
    }

    /// The context of reads that prepare the trade: they end when it may not be sent any more.
    pub fn context(&self) -> CallContext {
        let deadline = Instant::now() + self.send_by().left();
        CallContext { urgent: true, ..CallContext::new(self.request_id.clone(), deadline) }
    }
}
