//! What executions, reconcilers and the trading actor share: the journal, who has to learn what became of
//! a trade, and which trades are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::Options;
use super::journal::{Journal, Settled};
use super::reconcile::{self, Gate};
use super::reply::Error;
use super::trade::{State as TradeState, Trade};
use crate::actor::Address;
use crate::metrics::{Event, Metrics};
use crate::pool::Account;

/// Why there is no journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoJournal {
    /// No account may trade, and none ever did.
    #[error("no account may trade")]
    NotNeeded,
    /// It cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// What executions, reconcilers and the actor share. It outlives each of them, so that a key that is
/// under way stays so when the actor is restarted.
pub struct Shared {
    pub options: Options,
    pub metrics: Metrics,
    pub journal: Result<Journal, NoJournal>,
    pub tasks: TaskTracker,
    /// Keys of which a trade is under way, with the fingerprint of its command.
    pub keys: Mutex<HashMap<(String, String), [u8; 32]>>,
    /// Trades whose task decides, as they began.
    pub live: Mutex<HashMap<String, Trade>>,
    pub accounts: BTreeMap<String, AccountTrading>,
}

/// What the room knows of one account.
pub struct AccountTrading {
    pub account: Arc<Account>,
    pub gate: Gate,
    /// Told when a trade was settled.
    pub settled: Notify,
    pub reconciler: Address<reconcile::Msg>,
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key that is under way, until this is dropped.
pub struct Reserved {
    pub shared: Arc<Shared>,
    pub place: Option<(String, String)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            locked(&self.shared.keys).remove(&place);
        }
    }
}

/// A trade whose task decides, until this is dropped.
pub struct Live<'a> {
    shared: &'a Shared,
    trade_id: String,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.shared.leave(&self.trade_id);
    }
}

impl Shared {
    /// The journal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn journal(&self) -> Result<&Journal, Error> {
        self.journal.as_ref().map_err(|reason| Error::NoJournal(reason.to_string()))
    }

    /// Whether nothing was ever traded, so that there is nothing to know.
    pub fn was_never_needed(&self) -> bool {
        matches!(self.journal, Err(NoJournal::NotNeeded))
    }

    /// Notes that a trade's task decides about it.
    pub fn enter(&self, trade: Trade) -> Live<'_> {
        let trade_id = trade.trade_id.clone();
        locked(&self.live).insert(trade_id.clone(), trade);
        Live { shared: self, trade_id }
    }

    /// Notes that a trade's task does not decide about it any more.
    pub fn leave(&self, trade_id: &str) {
        locked(&self.live).remove(trade_id);
    }

    /// Whether a trade's task decides about it.
    pub fn is_live(&self, trade_id: &str) -> bool {
        locked(&self.live).contains_key(trade_id)
    }

    /// Whether an account's trades from before the start were looked for.
    pub fn is_reconciled(&self, account: &str) -> bool {
        self.accounts.get(account).is_some_and(|trading| trading.gate.is_reconciled())
    }

    /// The gate of an account.
    ///
    /// # Panics
    /// If there is no such account, which nobody has who comes here.
    pub fn gate(&self, account: &str) -> &Gate {
        &self.accounts[account].gate
    }

    /// Lets an account's trades in.
    pub fn open_gate(&self, account: &str) {
        self.gate(account).open();
    }

    /// Waits until a trade of an account was settled, or for so long; the reconciler looks for one
    /// meanwhile.
    pub async fn watch(&self, account: &str, trade_id: &str, longest: Duration) {
        if let Some(trading) = self.accounts.get(account) {
            let settled = trading.settled.notified();
            let _ = trading.reconciler.send(reconcile::Msg::Wake(trade_id.to_owned()));
            let _ = tokio::time::timeout(longest, settled).await;
        }
    }

    /// Writes down what became of a trade, counts its end, and tells everybody who waits. Gives the
    /// trade as it stands then.
    pub async fn finish(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let outcome = trade.state.outcome();
        let (wanted, id) = (trade.state, trade.trade_id.clone());
        let trade = self.settle(account, trade, request_id).await;
        if let Some(outcome) = outcome
            && (trade.state, &trade.trade_id) == (wanted, &id)
        {
            self.metrics.record(Event::TradeEnded { account: account.id, outcome });
        }
        trade
    }

    /// Writes down what became of a trade whose end was counted before.
    pub async fn settle(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let trade = match journal.settle(trade.clone()).await {
            Ok(Settled::Kept(present)) => *present,
            Ok(Settled::Taken(trade)) => *trade,
            // The journal settles it as soon as it can.
            Err(_) => trade,
        };
        audit(&trade, trade.state.name(), request_id);
        self.count_unknown(account).await;
        if let Some(trading) = self.accounts.get(&account.name) {
            trading.settled.notify_waiters();
            if trade.state == TradeState::Unknown {
                let _ = trading.reconciler.send(reconcile::Msg::Wake(trade.trade_id.clone()));
            }
        }
        trade
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub async fn count_unknown(&self, account: &Account) {
        let Ok(journal) = self.journal() else {
            return;
        };
        if let Ok(unknown) = journal.unknown(&account.name).await {
            let oldest = unknown.oldest_msc.map_or(0.0, |msc| msc as f64 / 1000.0);
            let (account, count) = (account.id, unknown.count);
            self.metrics.record(Event::TradesUnknown { account, count, oldest });
        }
    }
}

/// One line for each thing that happens to a trade. Comments may be private and
/// are not among the fields.
pub fn audit(trade: &Trade, event: &str, request_id: &str) {
    let request = trade.request.as_ref();
    let result = trade.result.as_ref();
    info!(
        target: "mt5_gateway::trading",
        event,
        trade_id = trade.trade_id,
        account = trade.account,
        operation = trade.operation.name(),
        symbol = request.map(|request| request.symbol.as_str()),
        r#type = request.map(|request| request.r#type),
        volume = request.map(|request| request.volume),
        price = request.map(|request| request.price),
        position = request.map(|request| request.position),
        retcode = result.map(|result| result.retcode),
        order = result.map(|result| result.order),
        deal = result.map(|result| result.deal),
        detail = trade.detail,
        api_key = trade.api_key,
        client = trade.client,
        resolved_by = trade.resolved_by,
        request_id,
        "trade"
    );
}
