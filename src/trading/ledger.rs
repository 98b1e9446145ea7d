//! What executions, reconcilers and the trading actor share: the journal, the executions under way, and
//! who else has to learn what became of a trade. It outlives each of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::error;

use super::Options;
use super::executions::Executions;
use super::identifiers::TradeId;
use super::journal::{Journal, Settlement};
use super::reconcile::{self, Gate};
use super::reply::Error;
use super::trade::{Trade, TradeState};
use crate::account_name::AccountName;
use crate::actor::{Address, Depths, Role};
use crate::metrics::Metrics;
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
    accounts: BTreeMap<AccountName, AccountLedger>,
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
        let no_journal = |reason: &NoJournal| Error::NoJournal(reason.to_string());
        let journal = self.journal.as_ref().map_err(no_journal)?;
        match journal.refusal() {
            None => Ok(journal),
            Some(refusal) => Err(refusal.clone().into()),
        }
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
    pub fn gate(&self, account: &AccountName) -> &Gate {
        &self.accounts[account].gate
    }

    /// Wakes the reconciler of an account, because somebody waits for a trade.
    pub fn wake_reconciler(&self, account: &AccountName, trade_id: &TradeId) {
        if let Some(ledger) = self.accounts.get(account) {
            let _ = ledger.reconciler.send(reconcile::Msg::Wake(trade_id.clone()));
        }
    }

    /// Lets the reconciler look for a trade, and waits until a trade of the account was settled, at
    /// most for `timeout`.
    pub async fn wait_for_settlement(
        &self,
        account: &AccountName,
        trade_id: &TradeId,
        timeout: Duration,
    ) {
        if let Some(ledger) = self.accounts.get(account) {
            let settled = ledger.settled.notified();
            self.wake_reconciler(account, trade_id);
            let _ = tokio::time::timeout(timeout, settled).await;
        }
    }

    /// Writes down what became of a trade, and tells everybody who waits. Gives the trade as it stands
    /// then. The journal counts and logs the change, so that it does so also if this is not awaited to
    /// its end.
    pub async fn finish(
        &self,
        account: &Account,
        trade: Trade,
        request_id: impl Into<Arc<str>>,
    ) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let trade = match journal.settle(account.id, trade.clone(), request_id).await {
            Ok(Settlement::Applied(trade) | Settlement::Ignored(trade)) => *trade,
            Err(error) => {
                let (trade_id, state) = (&*trade.trade_id, trade.state.name());
                let result = trade.result.as_ref();
                let (order, deal) =
                    (result.map(|result| result.order), result.map(|result| result.deal));
                error!(trade_id, state, order, deal, %error, "trade's state waits for the journal");
                trade
            }
        };
        if let Some(ledger) = self.accounts.get(&account.name) {
            ledger.settled.notify_waiters();
        }
        if trade.state == TradeState::Unknown {
            // Before anybody can replace the terminal that has to find it.
            account.note_search();
            self.wake_reconciler(&account.name, &trade.trade_id);
        }
        trade
    }

    /// Writes down that a trade certainly was not sent, unless the journal knows it. Whoever asks the
    /// journal afterwards sees it, or an error.
    pub fn record_unsent(&self, account: &Account, trade: Trade, request_id: impl Into<Arc<str>>) {
        if let Ok(journal) = self.journal() {
            journal.settle_unless_known(account.id, trade, request_id);
        }
    }
}
