//! What executions, reconcilers and the trading actor share: the journal, the executions under way, and
//! who else has to learn what became of a trade. It outlives each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::error;

use super::Options;
use super::executions::Executions;
use super::halt::Halts;
use super::identifiers::TradeId;
use super::journal::{Journal, JournalError, Owner, Settlement};
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
    pub halts: Arc<Halts>,
    journal: OnceLock<Journal>,
    /// Why there is none, while there is none.
    no_journal: NoJournal,
    accounts: RwLock<BTreeMap<AccountName, Arc<AccountLedger>>>,
    depths: Depths,
    #[cfg(test)]
    pub faults: super::faults::Faults,
}

/// What trading knows of one account.
pub struct AccountLedger {
    pub account: Arc<Account>,
    pub gate: Gate,
    /// Notified when a trade was settled.
    settled: Notify,
    pub reconciler: Address<reconcile::Msg>,
}

impl Ledger {
    pub fn new(
        depths: &Depths,
        journal: Result<Journal, NoJournal>,
        options: Options,
        accounts: &Accounts,
        metrics: Metrics,
    ) -> Ledger {
        let (journal, no_journal) = match journal {
            Ok(journal) => (OnceLock::from(journal), NoJournal::NotNeeded),
            Err(reason) => (OnceLock::new(), reason),
        };
        let ledger = Ledger {
            options,
            metrics,
            executions: Executions::default(),
            halts: Arc::default(),
            journal,
            no_journal,
            accounts: RwLock::default(),
            depths: depths.clone(),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        };
        accounts.all().values().for_each(|account| ledger.add(account));
        ledger
    }

    /// Adds an account, in the place of the one of its name. It takes no trades until its reconciler
    /// has opened its gate.
    pub fn add(&self, account: &Arc<Account>) {
        let ledger = AccountLedger {
            account: account.clone(),
            gate: Gate::default(),
            settled: Notify::new(),
            reconciler: Address::of_account(Role::Reconciler, &account.name, &self.depths),
        };
        self.accounts.write().insert(account.name.clone(), Arc::new(ledger));
    }

    /// Removes an account, unless another one has its name by now.
    pub fn remove(&self, account: &Account) {
        let mut accounts = self.accounts.write();
        let present = accounts.get(&account.name);
        if present.is_some_and(|present| present.account.id == account.id) {
            accounts.remove(&account.name);
        }
    }

    /// What is known of an account. `None`: it is not served.
    pub fn account(&self, name: &AccountName) -> Option<Arc<AccountLedger>> {
        self.accounts.read().get(name).cloned()
    }

    /// Every account that does not end.
    pub fn accounts(&self) -> Vec<Arc<AccountLedger>> {
        let accounts = self.accounts.read();
        let served = accounts.values().filter(|ledger| !ledger.account.door.is_ending());
        served.cloned().collect()
    }

    /// Opens the journal if there was no need for one until now. Whether this opened it.
    ///
    /// # Errors
    /// Why it cannot be used. It can be tried again.
    pub fn open_journal(&self, owners: &[Owner]) -> Result<bool, JournalError> {
        if self.journal.get().is_some() || self.no_journal != NoJournal::NotNeeded {
            return Ok(false);
        }
        let (file, metrics) = (&self.options.journal, self.metrics.clone());
        let journal = Journal::open(file, owners, metrics, &self.depths)?;
        Ok(self.journal.set(journal).is_ok())
    }

    /// The journal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn journal(&self) -> Result<&Journal, Error> {
        let no_journal = || Error::NoJournal(self.no_journal.to_string());
        let journal = self.journal.get().ok_or_else(no_journal)?;
        match journal.refusal() {
            None => Ok(journal),
            Some(refusal) => Err(refusal.clone().into()),
        }
    }

    /// Whether the journal's file is not the one that was opened, as when it was deleted.
    pub fn journal_is_lost(&self) -> bool {
        self.journal.get().is_some_and(Journal::is_lost)
    }

    /// Whether no account ever traded, so that there is nothing to know.
    pub fn was_never_needed(&self) -> bool {
        self.journal.get().is_none() && self.no_journal == NoJournal::NotNeeded
    }

    /// Wakes the reconciler of an account, because somebody waits for a trade.
    pub fn wake_reconciler(&self, account: &AccountName, trade_id: &TradeId) {
        if let Some(ledger) = self.account(account) {
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
        if let Some(ledger) = self.account(account) {
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
        if let Some(ledger) = self.account(&account.name) {
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
