//! What executions, reconcilers and the trading actor share: the journal, the executions under way, and
//! who else has to learn what became of a trade. It outlives each of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

use super::Options;
use super::executions::Executions;
use super::journal::{Journal, JournalError, Settlement};
use super::reconcile::{self, Gate};
use super::reply::Error;
use super::trade::{Trade, TradeState};
use crate::actor::{Address, Depths, Role};
use crate::metrics::{Event, Metrics};
use crate::pool::{Account, Accounts};

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

pub struct Ledger {
    pub options: Options,
    pub metrics: Metrics,
    pub executions: Executions,
    journal: Result<Journal, NoJournal>,
    accounts: BTreeMap<String, AccountLedger>,
    #[cfg(test)]
    pub faults: super::faults::Faults,
}

struct AccountLedger {
    account: Arc<Account>,
    gate: Gate,
    /// Notified when a trade was settled.
    settled: Notify,
    reconciler: Address<reconcile::Msg>,
}

impl Ledger {
    pub fn new(
        depths: &Depths,
        journal: Result<Journal, NoJournal>,
        options: Options,
        accounts: &Accounts,
        metrics: Metrics,
    ) -> Ledger {
        let accounts = accounts.iter().map(|account| {
            let ledger = AccountLedger {
                account: account.clone(),
                gate: Gate::default(),
                settled: Notify::new(),
                reconciler: Address::of_account(Role::Reconciler, &account.name, depths),
            };
            (account.name.clone(), ledger)
        });
        Ledger {
            options,
            metrics,
            executions: Executions::default(),
            journal,
            accounts: accounts.collect(),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        }
    }

    /// The journal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn journal(&self) -> Result<&Journal, Error> {
        self.journal.as_ref().map_err(|reason| Error::NoJournal(reason.to_string()))
    }

    /// Whether no account ever traded, so that there is nothing to know.
    pub fn was_never_needed(&self) -> bool {
        matches!(self.journal, Err(NoJournal::NotNeeded))
    }

    /// The accounts and the addresses of their reconcilers.
    pub fn reconcilers(&self) -> impl Iterator<Item = (&Arc<Account>, &Address<reconcile::Msg>)> {
        self.accounts.values().map(|ledger| (&ledger.account, &ledger.reconciler))
    }

    /// The gate of an account.
    ///
    /// # Panics
    /// If there is no such account, which no caller has.
    pub fn gate(&self, account: &str) -> &Gate {
        &self.accounts[account].gate
    }

    /// Wakes the reconciler of an account, because somebody waits for a trade.
    pub fn wake_reconciler(&self, account: &str, trade_id: &str) {
        if let Some(ledger) = self.accounts.get(account) {
            let _ = ledger.reconciler.send(reconcile::Msg::Wake(trade_id.to_owned()));
        }
    }

    /// Lets the reconciler look for a trade, and waits until a trade of the account was settled, at
    /// most for `timeout`.
    pub async fn wait_for_settlement(&self, account: &str, trade_id: &str, timeout: Duration) {
        if let Some(ledger) = self.accounts.get(account) {
            let settled = ledger.settled.notified();
            self.wake_reconciler(account, trade_id);
            let _ = tokio::time::timeout(timeout, settled).await;
        }
    }

    /// Writes down what became of a trade, counts its end, and tells everybody who waits. Gives the
    /// trade as it stands then.
    pub async fn finish(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let settled = journal.settle(account.id, trade.clone()).await;
        self.count_end(account, &trade, &settled);
        self.announce(account, trade, settled, request_id)
    }

    /// Like [`finish`](Self::finish), for a trade that certainly was not sent unless the journal knows it.
    pub async fn finish_unless_known(
        &self,
        account: &Account,
        trade: Trade,
        request_id: &str,
    ) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let settled = journal.settle_unless_known(account.id, trade.clone()).await;
        self.count_end(account, &trade, &settled);
        self.announce(account, trade, settled, request_id)
    }

    /// Writes down what became of a trade whose end was counted before.
    pub async fn correct(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let settled = journal.settle(account.id, trade.clone()).await;
        self.announce(account, trade, settled, request_id)
    }

    fn count_end(
        &self,
        account: &Account,
        trade: &Trade,
        settled: &Result<Settlement, JournalError>,
    ) {
        let Some(outcome) = trade.state.outcome() else {
            return;
        };
        // A journal that did not answer in time settles it later.
        if !matches!(settled, Ok(Settlement::Ignored(_))) {
            self.metrics.record(Event::TradeEnded { account: account.id, outcome });
        }
    }

    fn announce(
        &self,
        account: &Account,
        trade: Trade,
        settled: Result<Settlement, JournalError>,
        request_id: &str,
    ) -> Trade {
        let trade = match settled {
            Ok(Settlement::Applied(trade) | Settlement::Ignored(trade)) => *trade,
            Err(_) => trade,
        };
        audit(&trade, trade.state.name(), request_id);
        if let Some(ledger) = self.accounts.get(&account.name) {
            ledger.settled.notify_waiters();
        }
        if trade.state == TradeState::Unknown {
            self.wake_reconciler(&account.name, &trade.trade_id);
        }
        trade
    }
}

/// Logs what happened to a trade. Comments may be private and are not among the fields.
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
