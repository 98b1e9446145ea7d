//! Applying what has changed: accounts end, and others begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tracing::{error, info};

use super::Shared;
use crate::api::{ChangeKind, Refusal};
use crate::pool::{Account, AccountOptions, Standing};
use crate::settings::{self, Difference, SettingValues, Settings};
use crate::trading::TradeId;

impl Shared {
    /// What differs between the accounts and settings that run and those that were read.
    pub(super) fn difference(&self, running: &SettingValues, settings: &Settings) -> Difference {
        let present = self.lifecycle.accounts.all();
        let present: BTreeSet<String> = present.keys().map(ToString::to_string).collect();
        let read = settings.accounts.iter().map(|account| account.name.to_string()).collect();
        settings::difference(running, &settings.values()).among(&present, &read)
    }

    /// Applies what has changed of accounts. What goes has ended before what comes begins, because it may
    /// have the same terminal, or be the same account under another name. Gives the accounts that leave
    /// trades behind whose outcome is unknown, and how many.
    pub(super) async fn apply(
        &self,
        running: &mut SettingValues,
        difference: &Difference,
        options: Vec<AccountOptions>,
    ) -> Result<BTreeMap<String, usize>, Refusal> {
        // A change that fails half way leaves it open how they run. The next one makes that good.
        settings::forget_accounts(running, &difference.accounts);
        let mut closing = vec![];
        for (name, change) in &difference.accounts {
            let Some(account) = self.lifecycle.accounts.get(name) else {
                continue;
            };
            match change {
                ChangeKind::Removed => closing.push((account, Standing::Leaving)),
                ChangeKind::Changed => closing.push((account, Standing::Changing)),
                ChangeKind::Paused => self.lifecycle.pause(&account, true),
                ChangeKind::Resumed => self.lifecycle.pause(&account, false),
                ChangeKind::Added => {}
            }
        }
        let closes = closing.iter().map(|(account, to)| self.lifecycle.close(account, *to));
        join_all(closes).await;
        let unknown = self.left_behind(&closing, &options).await;
        for (account, _) in closing.iter().filter(|(_, to)| *to == Standing::Leaving) {
            self.lifecycle.remove(account);
        }
        #[cfg(test)]
        assert!(!self.fails.swap(false, std::sync::atomic::Ordering::Relaxed), "injected");
        self.go_on()?;
        for options in options {
            let closed = closing.iter().find(|(account, _)| account.name == options.name);
            match difference.accounts.get(options.name.as_str()) {
                Some(ChangeKind::Added) => drop(self.lifecycle.open(options)),
                Some(ChangeKind::Changed) => match closed {
                    Some((closed, _)) => self.lifecycle.replace(closed, options),
                    None => drop(self.lifecycle.open(options)),
                },
                _ => {}
            }
        }
        Ok(unknown)
    }

    /// Names the trades of accounts that have ended whose outcome is unknown, and that nobody looks for any
    /// more: no account has this login by another name.
    async fn left_behind(
        &self,
        closed: &[(Arc<Account>, Standing)],
        options: &[AccountOptions],
    ) -> BTreeMap<String, usize> {
        let mut left = BTreeMap::new();
        for (account, _) in closed {
            let is_same = |other: &AccountOptions| {
                other.login == account.login && other.server.eq_ignore_ascii_case(&account.server)
            };
            if options.iter().any(is_same) {
                continue;
            }
            let name = account.name.as_str();
            match self.lifecycle.trading.unknown(account).await {
                Ok(trades) if trades.is_empty() => {}
                Ok(trades) => {
                    error!(
                        account = name,
                        ?trades,
                        "account has gone with trades whose outcome is unknown, nobody looks for them \
                         until an account with its login and server is configured"
                    );
                    left.insert(name.to_owned(), trades.len());
                }
                Err(fault) => error!(
                    account = name,
                    %fault,
                    "account has gone, and the journal does not say whether it has unknown trades"
                ),
            }
        }
        left
    }

    /// Lets an account finish its trades, and makes sure that none is looked for then.
    ///
    /// # Errors
    /// How many are. The account goes on then.
    pub(super) async fn finish_trades(&self, account: &Account) -> Result<(), Refusal> {
        // Before its streams are ended for nothing.
        self.refuse_unknown(account).await?;
        let is_serving = account.door.is_open();
        self.lifecycle.pause(account, true);
        self.lifecycle.finish(account).await;
        let refusal = self.refuse_unknown(account).await;
        if refusal.is_err() && is_serving {
            info!(account = account.name.as_str(), "account stays, a trade was lost meanwhile");
            self.lifecycle.pause(account, false);
        }
        refusal
    }

    async fn refuse_unknown(&self, account: &Account) -> Result<(), Refusal> {
        let unknown: Result<Vec<TradeId>, _> = self.lifecycle.trading.unknown(account).await;
        match unknown.map_err(|fault| Refusal::Unavailable(fault.to_string()))?.len() {
            0 => Ok(()),
            unknown => Err(Refusal::UnknownTrades(unknown)),
        }
    }
}
