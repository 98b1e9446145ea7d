//! The owner of the settings while the gateway runs: reads them again, and applies what has changed.
//!
//! One change is made at a time, on a task of its own that nobody's leaving cancels. A set of settings is
//! checked as a whole before anything is applied, so that a faulty one changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::api::{Administration, ChangeKind, LiveKeys, Refusal, Reloaded};
use crate::lifecycle::Lifecycle;
use crate::pool::{AccountOptions, Standing};
use crate::settings::{
    self, Administered, Difference, SettingFault, SettingSources, SettingValues, Settings,
};
use crate::trading::Owner;

/// Applies changes of the settings. Cheap to clone.
#[derive(Clone)]
pub struct Administrator(Arc<Shared>);

struct Shared {
    lifecycle: Lifecycle,
    keys: Arc<LiveKeys>,
    /// Where the gateway listens as long as it runs.
    listen: SocketAddr,
    sources: SettingSources,
    allows_anonymous: AtomicBool,
    /// The settings in force. Locked while a change is being made.
    running: Mutex<SettingValues>,
}

impl Administrator {
    /// The owner of these settings, whose accounts and keys are in use already.
    pub fn new(settings: Administered, lifecycle: Lifecycle, keys: Arc<LiveKeys>) -> Administrator {
        let Administered { listen, anonymous, sources, values } = settings;
        let (allows_anonymous, running) = (anonymous.into(), Mutex::new(values));
        Administrator(Arc::new(Shared {
            lifecycle,
            keys,
            listen,
            sources,
            allows_anonymous,
            running,
        }))
    }

    /// Makes a change on a task of its own.
    fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Refusal>> {
        let changed = tokio::spawn(change);
        async move {
            changed.await.unwrap_or_else(|failure| {
                error!(%failure, "change of settings failed");
                Err(Refusal::Failed)
            })
        }
        .boxed()
    }
}

impl Administration for Administrator {
    fn allows_anonymous(&self) -> bool {
        self.0.allows_anonymous.load(Ordering::Relaxed)
    }

    fn reload(&self) -> BoxFuture<'static, Result<Reloaded, Refusal>> {
        let shared = self.0.clone();
        self.change(async move { shared.reload().await })
    }
}

impl Shared {
    async fn reload(&self) -> Result<Reloaded, Refusal> {
        let mut running = self.running.lock().await;
        let outcome = self.read().await;
        let settings = outcome.inspect_err(|refusal| {
            if let Refusal::Faults(faults) = refusal {
                error!(?faults, "settings have faults, those before are in force");
            }
        })?;
        let values = settings.values();
        let difference = settings::difference(&running, &values);
        self.open_journal(&settings)?;
        self.apply(&difference, settings).await;
        *running = settings::applied(std::mem::take(&mut *running), &values);
        let reloaded = difference.report();
        let applied: Vec<String> =
            reloaded.applied.iter().map(|change| change.setting.clone()).collect();
        let restart_required = &reloaded.restart_required;
        info!(?applied, ?restart_required, "settings reloaded");
        Ok(reloaded)
    }

    /// Reads every source and checks the settings as a whole.
    async fn read(&self) -> Result<Settings, Refusal> {
        let sources = self.sources.clone();
        // Files may be on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || sources.load()).await;
        let settings = read.map_err(|_| Refusal::Failed)?.map_err(faults)?;
        for warning in &settings.warnings {
            warn!(%warning, "setting is probably not what was meant");
        }
        let is_open = settings.keys.is_empty() && !settings.allow_anonymous;
        let refused = if !is_open {
            return Ok(settings);
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
            return Ok(settings);
        };
        let key = "auth.keys".to_owned();
        Err(faults(vec![SettingFault { key, origin: String::new(), message: refused }]))
    }

    /// Opens the journal if an account is to trade, and none was until now.
    fn open_journal(&self, settings: &Settings) -> Result<(), Refusal> {
        if !settings.accounts.iter().any(|account| account.trade) {
            return Ok(());
        }
        let owners: Vec<Owner> = settings.accounts.iter().map(owner).collect();
        self.lifecycle.trading.open_journal(&owners).map_err(|fault| {
            let key = "trading.journal".to_owned();
            faults(vec![SettingFault { key, origin: String::new(), message: fault.to_string() }])
        })
    }

    /// Applies what can be applied. What goes has ended before what comes begins, because it may have
    /// the same terminal, or the same account under another name.
    async fn apply(&self, difference: &Difference, settings: Settings) {
        let Lifecycle { accounts, .. } = &self.lifecycle;
        self.keys.replace(settings.keys);
        self.allows_anonymous.store(settings.anonymous_administration, Ordering::Relaxed);
        let present = |name: &str| accounts.get(name);
        let mut closing = vec![];
        for (name, change) in &difference.accounts {
            let Some(account) = present(name) else {
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
        let (changed, removed): (Vec<_>, Vec<_>) =
            closing.into_iter().partition(|(_, standing)| *standing == Standing::Changing);
        for (account, _) in &removed {
            self.lifecycle.remove(account);
        }
        let changed = |name: &str| changed.iter().find(|(account, _)| *account.name == *name);
        for options in settings.accounts {
            match difference.accounts.get(options.name.as_str()) {
                Some(ChangeKind::Added) => drop(self.lifecycle.open(options)),
                Some(ChangeKind::Changed) => match changed(&options.name) {
                    Some((closed, _)) => self.lifecycle.replace(closed, options),
                    None => drop(self.lifecycle.open(options)),
                },
                _ => {}
            }
        }
    }
}

fn owner(options: &AccountOptions) -> Owner {
    let (login, server) = (options.login, options.server.clone());
    Owner { account: options.name.clone(), login, server }
}

fn faults(faults: Vec<SettingFault>) -> Refusal {
    Refusal::Faults(faults.iter().map(SettingFault::to_string).collect())
}

#[cfg(test)]
mod tests;
