//! A command on its way from a client to its execution.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::pool::{Account, CallContext};
use crate::trading::command::TradeCommand;
use crate::trading::now_msc;
use crate::trading::reply::Told;
use crate::trading::trade::Trade;

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its Idempotency-Key.
    pub key: Option<String>,
    /// When its request arrived.
    pub arrived: BootInstant,
    /// `Send-Within`, at most what the account allows.
    pub send_within: Duration,
    /// Name of the API key.
    pub api_key: Option<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// Whether a trade was answered or its client stopped waiting: one of the two comes first.
#[derive(Debug, Default)]
pub struct Waiting(AtomicU8);

impl Waiting {
    const OPEN: u8 = 0;
    const ANSWERED: u8 = 1;
    const LEFT: u8 = 2;

    fn settle(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The trade's task is about to answer. Gives whether somebody waits.
    pub fn answer(&self) -> bool {
        self.settle(Self::ANSWERED)
    }

    /// The client stops waiting. Gives whether there was no answer yet.
    pub fn leave(&self) -> bool {
        self.settle(Self::LEFT)
    }

    pub fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::LEFT
    }
}

/// A command on its way.
pub struct Submission {
    pub account: Arc<Account>,
    pub command: TradeCommand,
    pub fingerprint: [u8; 32],
    pub origin: Origin,
    pub trade_id: String,
    pub request_id: Arc<str>,
    /// When its client stops waiting.
    pub deadline: Instant,
    pub waiting: Arc<Waiting>,
    pub reply: oneshot::Sender<Told>,
}

impl Submission {
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
            ..Trade::new(&self.trade_id, &self.account.name, operation, now_msc())
        }
    }

    /// On whose behalf the terminal is read: not longer than the trade may still be sent.
    pub fn context(&self) -> CallContext {
        let deadline = Instant::now() + self.send_by().left();
        CallContext { urgent: true, ..CallContext::new(self.request_id.clone(), deadline) }
    }
}
