//! Reading the settings again, within a time, and whether they may come into force.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{error, warn};

use super::Shared;
use crate::api::Refusal;
use crate::pool::AccountOptions;
use crate::settings::{Candidate, SettingFault, Settings};
use crate::trading::Owner;

/// How long a reading may take. Files take a moment, unless their disk or network share hangs.
const READ_WITHIN: Duration = Duration::from_secs(10);

impl Shared {
    /// Reads every source and checks the settings as a whole, as if the store had this of an account.
    pub(super) async fn read(&self, candidate: Option<&Candidate>) -> Result<Settings, Refusal> {
        let alone = candidate.is_some_and(|candidate| candidate.alone);
        let (sources, candidate) = (self.sources.clone(), candidate.cloned());
        let store = self.store.clone();
        let read = move || (sources.load(candidate.as_ref()), store.0.is_dir());
        let (read, has_store) = self.reading(read).await?;
        let settings = read.map_err(|found| faults(&found))?;
        self.refuse_lost_store(has_store)?;
        // What is read for one account lets nobody in.
        if !alone {
            self.refuse_openness(&settings)?;
        }
        Ok(settings)
    }

    /// Refuses settings without the accounts store that was there before, because all its accounts would
    /// be removed.
    fn refuse_lost_store(&self, has_store: bool) -> Result<(), Refusal> {
        if self.had_store.fetch_or(has_store, Ordering::Relaxed) && !has_store {
            let (key, origin) = ("accounts_store.directory".to_owned(), String::new());
            let message = format!(
                "{} was there and is missing, and its accounts would be removed: put it back, or make \
                 it anew, empty, if that is meant",
                self.store.0.display()
            );
            return Err(faults(&[SettingFault { key, origin, message }]));
        }
        Ok(())
    }

    /// Reads files on a thread of its own. If it hangs, it is the only one that does.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.reading.clone().lock_owned();
        let within = async {
            let turn = turn.await;
            let task = tokio::task::spawn_blocking(move || {
                let read = read();
                drop(turn);
                read
            });
            task.await.map_err(|_| Refusal::Failed)
        };
        tokio::time::timeout(READ_WITHIN, within).await.unwrap_or_else(|_| {
            let detail = format!(
                "the settings could not be read within {READ_WITHIN:?}, so those before are in \
                 force: a disk or a network share that has one of their files does not answer"
            );
            Err(Refusal::Unavailable(detail))
        })
    }

    /// Refuses settings that would let in whoever reaches the gateway, if nobody has said that this is
    /// meant.
    fn refuse_openness(&self, settings: &Settings) -> Result<(), Refusal> {
        let is_open = settings.keys.is_empty() && !settings.allow_anonymous;
        let message = if !is_open {
            return Ok(());
        } else if !self.listen.ip().is_loopback() {
            // The address that was read counts after a restart only.
            format!(
                "without a key only a loopback address may be listened on, and this gateway listens on \
                 {}: keep a key, or set `auth.allow_anonymous = true` if the network is trusted",
                self.listen
            )
        } else if !self.keys.load().is_empty() {
            // A file that was written by half looks like this.
            "the gateway has keys, and without any whoever reaches it may do everything: keep a key, or \
             set `auth.allow_anonymous = true` if that is meant"
                .to_owned()
        } else {
            return Ok(());
        };
        let (key, origin) = ("auth.keys".to_owned(), String::new());
        Err(faults(&[SettingFault { key, origin, message }]))
    }

    /// Opens the journal if an account is to trade, and none was until now.
    pub(super) fn open_journal(&self, settings: &Settings) -> Result<(), Refusal> {
        if !settings.accounts.iter().any(|account| account.trade) {
            return Ok(());
        }
        let owners: Vec<Owner> = settings.accounts.iter().map(owner).collect();
        self.lifecycle.trading.open_journal(&owners).map_err(|fault| {
            let (key, origin) = ("trading.journal".to_owned(), String::new());
            faults(&[SettingFault { key, origin, message: fault.to_string() }])
        })
    }

    /// Warns of what the settings before did not have.
    pub(super) fn warn_of_news(&self, settings: &Settings) {
        let mut warned = self.warned.lock();
        for warning in settings.warnings.iter().filter(|warning| !warned.contains(*warning)) {
            warn!(%warning, "setting is probably not what was meant");
        }
        *warned = settings.warnings.iter().cloned().collect();
    }
}

fn owner(options: &AccountOptions) -> Owner {
    let (login, server) = (options.login, options.server.clone());
    Owner { account: options.name.clone(), login, server }
}

/// Refuses settings that have these faults.
pub fn faults(faults: &[SettingFault]) -> Refusal {
    Refusal::Faults(faults.iter().map(SettingFault::to_string).collect())
}

/// Says in the log why settings were not applied, for those who have no answer.
pub fn log_refusal(refusal: &Refusal) {
    match refusal {
        Refusal::Faults(faults) => {
            error!(?faults, "settings have faults, those before are in force");
        }
        Refusal::Unavailable(reason) => {
            error!(reason, "settings cannot be read, those before are in force");
        }
        _ => {}
    }
}
