//! How accounts come and go while the gateway runs.
//!
//! An account concerns four rooms: the pool has its sessions, trading its executions and its reconciler,
//! streams its hub, and metrics its children. Here is the order in which they take it on and let it go.
//! Nothing of this waits in an actor, and no other account notices.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::pool::{Account, AccountOptions, Accounts, Pool, Standing};
use crate::streams::Streams;
use crate::terminal::provisioning::Terminals;
use crate::trading::Trading;

/// The rooms that an account concerns.
#[derive(Clone)]
pub struct Lifecycle {
    /// The directory.
    pub accounts: Arc<Accounts>,
    /// Its sessions.
    pub pool: Pool,
    /// Its trades.
    pub trading: Trading,
    /// Its streams.
    pub streams: Arc<Streams>,
    /// Copies of terminals.
    pub terminals: Arc<Terminals>,
    /// How long requests of an account that goes may take to end. Trades have limits of their own.
    pub grace: Duration,
}

impl Lifecycle {
    /// Takes an account on, and starts its terminals. It must not be there yet.
    pub fn open(&self, options: AccountOptions) -> Arc<Account> {
        let account = self.accounts.make(options);
        // Before clients see it.
        self.trading.open(&account);
        self.streams.open(&account);
        self.accounts.insert(account.clone());
        self.pool.open(&account);
        info!(account = account.name.as_str(), "account opened");
        account
    }

    /// Lets an account finish what is under way, and ends it. Until it is removed or replaced it refuses
    /// what is new. Trades whose outcome is not known stay in the journal.
    ///
    /// Nothing is lost if the future is dropped; the account is then closed by half, and takes nothing.
    pub async fn close(&self, account: &Account, standing: Standing) {
        let name = account.name.as_str();
        account.door.set(standing);
        account.announce();
        info!(account = name, "account closing");
        self.finish(account).await;
        self.pool.close(account).await;
        self.streams.close(account).await;
        self.trading.close(account).await;
        info!(account = name, "account closed");
    }

    /// Waits until nothing is under way for an account that takes no requests: each of its trades was sent,
    /// and its outcome written down, or it is not sent any more.
    pub async fn finish(&self, account: &Account) {
        let requests = account.door.requests_ended();
        if tokio::time::timeout(self.grace, requests).await.is_err() {
            let name = account.name.as_str();
            warn!(account = name, grace = ?self.grace, "requests of a closing account are cut");
        }
        self.trading.finish_trades(account).await;
    }

    /// Removes an account that is closed, with its metrics.
    pub fn remove(&self, account: &Account) {
        self.accounts.remove(account);
        self.accounts.forget(account);
        self.clear_terminals();
    }

    /// Puts an account in the place of a closed one of the same name. Its metrics go on.
    pub fn replace(&self, closed: &Account, options: AccountOptions) {
        self.open(options).count_replaced(closed);
        self.accounts.forget(closed);
        self.clear_terminals();
    }

    /// Deletes the files of terminals that the gateway made for accounts and sessions that there are no
    /// more. This may take long, so it is not waited for.
    pub fn clear_terminals(&self) {
        let (accounts, terminals) = (self.accounts.clone(), self.terminals.clone());
        tokio::task::spawn_blocking(move || {
            terminals.clear(|name, session| {
                accounts.get(name).is_some_and(|account| account.has_files_of(session))
            });
        });
    }

    /// Lets an account take requests again, or ends its streams and refuses what is new.
    pub fn pause(&self, account: &Account, paused: bool) {
        let name = account.name.as_str();
        if paused {
            account.door.set(Standing::Paused);
            info!(account = name, "account paused");
        } else {
            account.door.set(Standing::Serving);
            info!(account = name, "account resumed");
        }
        // Whether it may trade has changed.
        account.announce();
    }
}
