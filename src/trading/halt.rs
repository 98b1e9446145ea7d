//! Halts: what keeps an account, or all of them, from opening anything.
//!
//! A halt is in force from the moment in which it is set here, before it is on disk, and ends only once the
//! journal has forgotten it. A session asks [`Halts::pass`] immediately before it gives an opening trade
//! to its terminal, under the same lock under which a halt is set. So a trade is either held back, or it is
//! among those that the halt names as sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::OnceCell;
use tracing::{error, warn};
use utoipa::ToSchema;

use super::handle::Trading;
use super::identifiers::TradeId;
use super::journal::{Journal, JournalError, Owner};
use super::permission;
use super::reply::Error;
use super::trade::Operation;
use crate::metrics::AccountId;
use crate::pool::Account;

/// What is halted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HaltScope {
    /// Every account, those that come later included.
    All,
    /// What is one account at its broker, whatever its name.
    Account {
        /// Its number.
        login: u64,
        /// The broker's server, in lower case.
        server: String,
    },
}

impl HaltScope {
    /// The scope of one account.
    pub fn of(account: &Account) -> HaltScope {
        HaltScope::account(account.login, &account.server)
    }

    /// The scope of a login at a server.
    pub fn account(login: u64, server: &str) -> HaltScope {
        HaltScope::Account { login, server: server.to_ascii_lowercase() }
    }
}

/// A halt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Halt {
    /// When it was set.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Name of the API key that set it; `null` without keys.
    pub api_key: Option<String>,
    /// Address of the client that set it.
    pub client: Option<String>,
}

/// The halts in force, and the opening trades that terminals have.
#[derive(Default)]
pub struct Halts {
    state: Mutex<State>,
    /// Whether those of the journal are among them.
    loaded: OnceCell<()>,
    /// Held while a halt is set or lifted, so that disk and memory agree about the last.
    pub changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    halts: HashMap<HaltScope, Halt>,
    sent: BTreeSet<(AccountId, TradeId)>,
}

impl State {
    fn is_halted(&self, account: &Account) -> bool {
        self.halts.contains_key(&HaltScope::All) || self.halts.contains_key(&HaltScope::of(account))
    }
}

impl Halts {
    /// Adds those of the journal, once.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn load(&self, journal: &Journal) -> Result<(), JournalError> {
        let loading = async {
            let loaded = journal.halts().await?;
            for (scope, Halt { since, api_key, .. }) in &loaded {
                match scope {
                    HaltScope::All => {
                        warn!(%since, api_key, "all accounts are halted since before the start");
                    }
                    HaltScope::Account { login, server } => {
                        warn!(login, server, %since, api_key, "account is halted since before the start");
                    }
                }
            }
            let mut state = self.state.lock();
            // They are the earlier ones.
            state.halts.extend(loaded);
            Ok(())
        };
        self.loaded.get_or_try_init(|| loading).await.copied()
    }

    /// Whether those of the journal are among them.
    pub fn are_loaded(&self) -> bool {
        self.loaded.initialized()
    }

    /// The halt with exactly this scope.
    pub fn get(&self, scope: &HaltScope) -> Option<Halt> {
        self.state.lock().halts.get(scope).cloned()
    }

    /// Whether an account is halted.
    pub fn is_halted(&self, account: &Account) -> bool {
        self.state.lock().is_halted(account)
    }

    /// Puts a halt into force, unless there is one.
    pub fn set(&self, scope: HaltScope, halt: Halt) {
        self.state.lock().halts.entry(scope).or_insert(halt);
    }

    /// Ends a halt. Gives whether there was one.
    pub fn lift(&self, scope: &HaltScope) -> bool {
        self.state.lock().halts.remove(scope).is_some()
    }

    /// Whether an opening trade may be given to its terminal, which has to be done at once then.
    pub fn pass(&self, account: &Account, trade_id: &TradeId) -> bool {
        let mut state = self.state.lock();
        let passes = !state.is_halted(account);
        if passes {
            state.sent.insert((account.id, trade_id.clone()));
        }
        passes
    }

    /// The opening trades of an account that a terminal has been given, and that have not come back.
    pub fn sent(&self, account: &Account) -> Vec<TradeId> {
        let state = self.state.lock();
        let of_account = state.sent.iter().filter(|(of, _)| *of == account.id);
        of_account.map(|(_, trade_id)| trade_id.clone()).collect()
    }

    /// Forgets a trade when this is dropped: its execution has ended.
    pub fn forgetting(self: &Arc<Self>, account: AccountId, trade_id: TradeId) -> Forgetting {
        Forgetting { halts: self.clone(), sent: (account, trade_id) }
    }
}

/// A trade counts as one that a terminal may have until this is dropped.
pub struct Forgetting {
    halts: Arc<Halts>,
    sent: (AccountId, TradeId),
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        self.halts.state.lock().sent.remove(&self.sent);
    }
}

/// A halt that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Who set it, and when.
    pub halt: Halt,
    /// Why it is not on disk, so that it would end with the gateway.
    pub not_kept: Option<String>,
}

impl Trading {
    /// The halt of a scope, exactly.
    ///
    /// # Errors
    /// If none is known, and the journal cannot be read.
    pub async fn halt_of(&self, scope: &HaltScope) -> Result<Option<Halt>, Error> {
        let known = self.know_halts().await;
        let halt = self.ledger.halts.get(scope);
        if halt.is_none() {
            known?;
        }
        Ok(halt)
    }

    /// Whether all accounts are halted, as far as that is known without waiting for the journal.
    pub fn are_all_halted(&self) -> bool {
        self.ledger.halts.get(&HaltScope::All).is_some()
    }

    async fn know_halts(&self) -> Result<(), Error> {
        if !self.ledger.was_never_needed() && !self.ledger.halts.are_loaded() {
            self.ledger.halts.load(self.ledger.journal()?).await?;
        }
        Ok(())
    }

    /// Puts a halt into force, and writes it down. Gives the one in force, which may be an earlier one. Goes on
    /// if it is not awaited.
    pub async fn halt(&self, scope: HaltScope, halt: Halt) -> InForce {
        // Before anything is waited for.
        self.ledger.halts.set(scope.clone(), halt.clone());
        let trading = self.clone();
        let change = tokio::spawn({
            let (scope, halt) = (scope.clone(), halt.clone());
            async move {
                let _turn = trading.ledger.halts.changing.lock().await;
                // It may have been lifted while this waited.
                trading.ledger.halts.set(scope.clone(), halt.clone());
                trading.announce_halts();
                trading.keep_halt(scope, halt).await
            }
        });
        let kept = match change.await {
            Ok(kept) => kept.map_err(|error| error.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        if let Err(error) = &kept {
            error!(error, "halt is in force, and could not be written to the journal");
        }
        InForce { halt: self.ledger.halts.get(&scope).unwrap_or(halt), not_kept: kept.err() }
    }

    async fn keep_halt(&self, scope: HaltScope, halt: Halt) -> Result<(), Error> {
        let owners: Vec<Owner> =
            self.ledger.accounts().iter().map(|of| Owner::of(&of.account)).collect();
        self.open_journal(&owners)?;
        // Its actor has been started by then.
        self.ping().await;
        // One that the disk has is the earlier one.
        self.know_halts().await?;
        let halt = self.ledger.halts.get(&scope).unwrap_or(halt);
        Ok(self.ledger.journal()?.add_halt(scope, halt).await?)
    }

    /// Ends a halt. Gives whether there was one. Goes on if it is not awaited.
    ///
    /// # Errors
    /// If the journal could not be written. The halt stays in force then.
    pub async fn lift_halt(&self, scope: HaltScope) -> Result<bool, Error> {
        let trading = self.clone();
        let change = tokio::spawn(async move {
            let _turn = trading.ledger.halts.changing.lock().await;
            trading.know_halts().await?;
            if !trading.ledger.was_never_needed() {
                trading.ledger.journal()?.remove_halt(scope.clone()).await?;
            }
            let lifted = trading.ledger.halts.lift(&scope);
            trading.announce_halts();
            Ok(lifted)
        });
        change.await.unwrap_or_else(|failure| Err(Error::NoJournal(failure.to_string())))
    }

    fn announce_halts(&self) {
        for of_account in self.ledger.accounts() {
            permission::announce(&self.ledger, &of_account.account);
        }
    }

    /// The opening trades of an account that may still be carried out: a terminal has them, or nobody knows what
    /// became of them. If the journal cannot be read, those that a terminal has, and why there may be more.
    pub async fn may_still_open(&self, account: &Account) -> (Vec<TradeId>, Option<Error>) {
        // First: what is answered meanwhile is in the journal then.
        let mut trades = self.ledger.halts.sent(account);
        let undecided = self.undecided(account).await;
        let (undecided, error) = match undecided {
            Ok(undecided) => (undecided, None),
            Err(error) => (vec![], Some(error)),
        };
        trades.extend(undecided);
        trades.sort_unstable();
        trades.dedup();
        (trades, error)
    }

    /// Trades that may open something, that the journal has, and whose fate it does not know.
    async fn undecided(&self, account: &Account) -> Result<Vec<TradeId>, Error> {
        if self.ledger.was_never_needed() {
            return Ok(vec![]);
        }
        let journal = self.ledger.journal()?;
        // Under another name they would not be found.
        journal.adopt(Owner::of(account)).await?;
        let unfinished = journal.unfinished(&account.name, i64::MAX).await?;
        let undecided = unfinished.into_iter().filter(|trade| {
            let may_open = !matches!(
                trade.operation,
                Operation::Close | Operation::CloseBy | Operation::Cancel
            );
            // What an execution decides about is known to have been sent, or is held back.
            !trade.state.is_final()
                && may_open
                && account.is_of(&trade.identity)
                && !self.ledger.executions.is_deciding(&trade.trade_id)
        });
        Ok(undecided.map(|trade| trade.trade_id).collect())
    }
}
