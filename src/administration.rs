//! The owner of the settings while the gateway runs: reads them again, and applies what has changed.
//!
//! One change is made at a time, on a task of its own that nobody's leaving cancels. A set of settings is
//! checked as a whole before anything is applied, so that a faulty one changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::account_name::AccountName;
use crate::api::{Administration, ChangeKind, LiveKeys, Refusal, Reloaded};
use crate::lifecycle::Lifecycle;
use crate::pool::{AccountOptions, Standing};
use crate::settings::{
    self, AccountsStore, Administered, Difference, SettingFault, SettingSources, SettingValues,
    Settings,
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
    /// Where it was when the gateway started.
    store: AccountsStore,
    allows_anonymous: AtomicBool,
    /// The settings in force. Locked while a change is being made.
    running: Mutex<SettingValues>,
}

impl Administrator {
    /// The owner of these settings, whose accounts and keys are in use already.
    pub fn new(settings: Administered, lifecycle: Lifecycle, keys: Arc<LiveKeys>) -> Administrator {
        let Administered { listen, anonymous, sources, values, store } = settings;
        let (allows_anonymous, running) = (anonymous.into(), Mutex::new(values));
        Administrator(Arc::new(Shared {
            lifecycle,
            keys,
            listen,
            sources,
            store,
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

    fn store(
        &self,
        account: AccountName,
        settings: Map<String, Value>,
    ) -> BoxFuture<'static, Result<bool, Refusal>> {
        let shared = self.0.clone();
        self.change(async move { shared.store(&account, &settings).await })
    }

    fn remove(&self, account: AccountName, force: bool) -> BoxFuture<'static, Result<(), Refusal>> {
        let shared = self.0.clone();
        self.change(async move { shared.remove(&account, force).await })
    }

    fn pause(&self, account: AccountName, paused: bool) -> BoxFuture<'static, Result<(), Refusal>> {
        let shared = self.0.clone();
        self.change(async move { shared.pause(&account, paused).await })
    }
}

impl Shared {
    async fn reload(&self) -> Result<Reloaded, Refusal> {
        let mut running = self.running.lock().await;
        let outcome = self.read(None).await;
        let settings = outcome.inspect_err(|refusal| {
            if let Refusal::Faults(faults) = refusal {
                error!(?faults, "settings have faults, those before are in force");
            }
        })?;
        let values = settings.values();
        let difference = settings::difference(&running, &values);
        self.open_journal(&settings)?;
        self.keys.replace(settings.keys);
        self.allows_anonymous.store(settings.anonymous_administration, Ordering::Relaxed);
        self.apply(&difference, settings.accounts).await;
        *running = settings::applied(std::mem::take(&mut *running), &values);
        let reloaded = difference.report();
        let applied: Vec<String> =
            reloaded.applied.iter().map(|change| change.setting.clone()).collect();
        let restart_required = &reloaded.restart_required;
        info!(?applied, ?restart_required, "settings reloaded");
        Ok(reloaded)
    }

    /// Sets an account, in the store and here.
    async fn store(
        &self,
        account: &AccountName,
        settings: &Map<String, Value>,
    ) -> Result<bool, Refusal> {
        let text = settings::to_toml(settings).map_err(|fault| Refusal::Faults(vec![fault]))?;
        let mut running = self.running.lock().await;
        let candidate = (account.clone(), Some(text));
        let settings = self.read(Some(&candidate)).await?;
        let is_new = self.lifecycle.accounts.get(account).is_none();
        self.keep_and_apply(&mut running, candidate, settings).await?;
        Ok(is_new)
    }

    /// Removes an account from the store and from here.
    async fn remove(&self, account: &AccountName, force: bool) -> Result<(), Refusal> {
        let mut running = self.running.lock().await;
        if self.lifecycle.accounts.get(account).is_none() {
            return Err(Refusal::NoSuchAccount);
        }
        let candidate = (account.clone(), None);
        let settings = self.read(Some(&candidate)).await?;
        if settings.accounts.iter().any(|configured| configured.name == *account) {
            return Err(not_stored(&settings, account));
        }
        if !force {
            let open = self.lifecycle.trading.open_trades(account).await;
            match open.map_err(|fault| Refusal::Unavailable(fault.to_string()))? {
                0 => {}
                open => return Err(Refusal::OpenTrades(open)),
            }
        }
        self.keep_and_apply(&mut running, candidate, settings).await
    }

    /// Pauses or resumes an account, in the store and here.
    async fn pause(&self, account: &AccountName, paused: bool) -> Result<(), Refusal> {
        let mut running = self.running.lock().await;
        if self.lifecycle.accounts.get(account).is_none() {
            return Err(Refusal::NoSuchAccount);
        }
        let kept = self.store.read(account).map_err(unavailable)?;
        let text = settings::with_pause(kept.as_deref().unwrap_or_default(), paused);
        if kept.is_none() && text.is_empty() {
            // The store has nothing of it that could be lifted.
            let settings = self.read(None).await?;
            let configured = settings.accounts.iter().find(|one| one.name == *account);
            return match configured.is_some_and(|configured| configured.paused) {
                true => Err(not_stored(&settings, account)),
                false => Ok(()),
            };
        }
        let candidate = (account.clone(), (!text.is_empty()).then_some(text));
        let settings = self.read(Some(&candidate)).await?;
        let configured = settings.accounts.iter().find(|one| one.name == *account);
        if configured.is_none_or(|configured| configured.paused != paused) {
            return Err(not_stored(&settings, account));
        }
        self.keep_and_apply(&mut running, candidate, settings).await
    }

    /// Keeps what the store is to have of an account, and applies it. Whatever else differs in the
    /// sources waits for a reload.
    async fn keep_and_apply(
        &self,
        running: &mut SettingValues,
        (account, text): (AccountName, Option<String>),
        settings: Settings,
    ) -> Result<(), Refusal> {
        self.open_journal(&settings)?;
        let (store, name) = (self.store.clone(), account.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&name, text.as_deref())).await;
        kept.map_err(|_| Refusal::Failed)?.map_err(unavailable)?;
        let values = settings.values();
        let table = format!("accounts.{account}.");
        let mut difference = settings::difference(running, &values);
        difference.accounts.retain(|name, _| *name == *account);
        self.apply(&difference, settings.accounts).await;
        running.retain(|key, _| !key.starts_with(&table));
        running.extend(values.into_iter().filter(|(key, _)| key.starts_with(&table)));
        Ok(())
    }

    /// Reads every source and checks the settings as a whole. `candidate`: what the store is to have of
    /// an account.
    async fn read(
        &self,
        candidate: Option<&(AccountName, Option<String>)>,
    ) -> Result<Settings, Refusal> {
        let (sources, candidate) = (self.sources.clone(), candidate.cloned());
        // Files may be on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || sources.load_with(candidate.as_ref())).await;
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
    async fn apply(&self, difference: &Difference, options: Vec<AccountOptions>) {
        let Lifecycle { accounts, .. } = &self.lifecycle;
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
        for options in options {
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

/// Says where an account comes from, or its pause.
fn not_stored(settings: &Settings, account: &AccountName) -> Refusal {
    let sources = settings.sources_of(account);
    let sources: Vec<String> = sources.into_iter().collect();
    let built_in = || vec!["the built-in defaults".to_owned()];
    Refusal::NotStored(if sources.is_empty() { built_in() } else { sources })
}

fn unavailable(fault: std::io::Error) -> Refusal {
    Refusal::Unavailable(format!("the accounts store cannot be used: {fault}"))
}

fn faults(faults: Vec<SettingFault>) -> Refusal {
    Refusal::Faults(faults.iter().map(SettingFault::to_string).collect())
}

#[cfg(test)]
mod tests;
