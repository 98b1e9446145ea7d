//! The owner of the settings while the gateway runs: reads them again, and applies what has changed.
//!
//! A set of settings is checked as a whole before anything is applied, so that a faulty one changes
//! nothing. One change of accounts is made at a time, on a task of its own that nobody's leaving cancels.
//! Keys do not wait for it: one that is revoked must not work until an account has closed.

mod applying;
mod joint;
mod reading;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::joint::{Joint, finished};
use crate::account_name::AccountName;
use crate::api::{Administration, ChangeKind, LiveKeys, Refusal, Reloaded, StillAllowed};
use crate::lifecycle::Lifecycle;
use crate::pool::Account;
use crate::settings::{
    self, AccountsStore, Administered, Candidate, SettingFault, SettingSources, SettingValues,
    Settings,
};

/// Applies changes of the settings. Cheap to clone.
#[derive(Clone)]
pub struct Administrator(Arc<Shared>);

struct Shared {
    lifecycle: Lifecycle,
    keys: Arc<LiveKeys>,
    /// Where the gateway listens as long as it runs.
    listen: SocketAddr,
    sources: SettingSources,
    store: AccountsStore,
    /// Whether the store's directory was ever seen.
    had_store: AtomicBool,
    allows_anonymous: AtomicBool,
    /// Cancelled when the gateway stops, after which nothing changes.
    stop: CancellationToken,
    /// What the log has warned of, as far as it still holds.
    warned: parking_lot::Mutex<BTreeSet<String>>,
    /// Locked while sources are read, also by a reading that hangs and that nobody waits for any more.
    reading: Arc<Mutex<()>>,
    /// Locked from the reading of keys until they are in force.
    renewing: Arc<Mutex<()>>,
    /// The settings in force. Locked while a change is being made.
    running: Arc<Mutex<SettingValues>>,
    renewals: Arc<Joint<()>>,
    reloads: Arc<Joint<Reloaded>>,
    /// Lets the next change fail between what goes and what comes.
    #[cfg(test)]
    fails: AtomicBool,
}

impl Administrator {
    /// The owner of these settings, whose accounts and keys are in use already.
    pub fn new(
        settings: Administered,
        lifecycle: Lifecycle,
        keys: Arc<LiveKeys>,
        stop: CancellationToken,
    ) -> Administrator {
        let Administered { listen, anonymous, sources, values, store, warnings } = settings;
        Administrator(Arc::new(Shared {
            lifecycle,
            keys,
            listen,
            sources,
            had_store: store.0.is_dir().into(),
            store,
            allows_anonymous: anonymous.into(),
            stop,
            warned: parking_lot::Mutex::new(warnings.into_iter().collect()),
            reading: Arc::default(),
            renewing: Arc::default(),
            running: Arc::new(Mutex::new(values)),
            renewals: Arc::default(),
            reloads: Arc::default(),
            #[cfg(test)]
            fails: AtomicBool::default(),
        }))
    }

    /// Makes a change on a task of its own.
    fn change<T, F>(&self, change: impl FnOnce(Arc<Shared>) -> F) -> Changed<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        finished(tokio::spawn(change(self.0.clone()))).boxed()
    }
}

type Changed<T> = BoxFuture<'static, Result<T, Refusal>>;

impl Administration for Administrator {
    fn allows_anonymous(&self) -> bool {
        self.0.allows_anonymous.load(Ordering::Relaxed)
    }

    fn reload(&self) -> Changed<Reloaded> {
        self.change(async |shared| {
            shared.renew_keys().await?;
            shared.reload().await
        })
    }

    fn set_account(
        &self,
        account: AccountName,
        settings: Map<String, Value>,
        allowed: StillAllowed,
    ) -> Changed<bool> {
        self.change(async move |shared| shared.set_account(&account, &settings, &allowed).await)
    }

    fn remove_account(
        &self,
        account: AccountName,
        force: bool,
        allowed: StillAllowed,
    ) -> Changed<()> {
        self.change(async move |shared| shared.remove_account(account, force, &allowed).await)
    }

    fn pause_account(
        &self,
        account: AccountName,
        paused: bool,
        allowed: StillAllowed,
    ) -> Changed<()> {
        self.change(async move |shared| shared.pause_account(account, paused, &allowed).await)
    }
}

// === Everything ===

impl Shared {
    /// Reads the settings, and puts the keys into force. Whoever waits for this waits together.
    fn renew_keys(self: &Arc<Self>) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let shared = self.clone();
        self.renewals.join(self.renewing.clone().lock_owned(), async move |_renewing| {
            shared.renew().await.map(drop)
        })
    }

    /// Reads the settings, and applies what has changed. Whoever waits for this waits together: it reads
    /// after the last of them has come.
    fn reload(self: &Arc<Self>) -> impl Future<Output = Result<Reloaded, Refusal>> + use<> {
        let shared = self.clone();
        self.reloads.join(self.running.clone().lock_owned(), async move |mut running| {
            shared.apply_all(&mut running).await
        })
    }

    /// Reads the settings, and puts the keys into force if they are good as a whole. `renewing` is locked
    /// meanwhile, so that no earlier reading follows.
    async fn renew(&self) -> Result<Settings, Refusal> {
        self.go_on()?;
        let settings = self.read(None).await.inspect_err(reading::log_refusal)?;
        self.open_journal(&settings).inspect_err(reading::log_refusal)?;
        self.keys.replace(settings.keys.clone());
        self.allows_anonymous.store(settings.anonymous_administration, Ordering::Relaxed);
        Ok(settings)
    }

    async fn apply_all(&self, running: &mut SettingValues) -> Result<Reloaded, Refusal> {
        // Once more, because files may have changed since the keys were read.
        let settings = {
            let _renewing = self.renewing.lock().await;
            self.renew().await?
        };
        self.warn_of_news(&settings);
        let values = settings.values();
        let difference = self.difference(running, &settings);
        let unknown = self.apply(running, &difference, settings.accounts).await?;
        *running = settings::applied(std::mem::take(running), &values);
        let reloaded = difference.report(&unknown);
        let applied: Vec<String> =
            reloaded.applied.iter().map(|change| change.setting.clone()).collect();
        let restart_required = &reloaded.restart_required;
        info!(?applied, ?restart_required, "settings reloaded");
        Ok(reloaded)
    }

    /// Makes sure that the gateway does not stop.
    fn go_on(&self) -> Result<(), Refusal> {
        if self.stop.is_cancelled() { Err(Refusal::Stopping) } else { Ok(()) }
    }
}

// === One account ===

impl Shared {
    /// Waits until no other change is being made, and makes sure that the client still may make one.
    async fn turn(
        &self,
        allowed: &StillAllowed,
    ) -> Result<tokio::sync::MutexGuard<'_, SettingValues>, Refusal> {
        let running = self.running.lock().await;
        self.go_on()?;
        if allowed() { Ok(running) } else { Err(Refusal::KeyEnded) }
    }

    fn account(&self, name: &AccountName) -> Result<Arc<Account>, Refusal> {
        self.lifecycle.accounts.get(name).ok_or(Refusal::NoSuchAccount)
    }

    async fn set_account(
        &self,
        account: &AccountName,
        settings: &Map<String, Value>,
        allowed: &StillAllowed,
    ) -> Result<bool, Refusal> {
        let text = settings::to_toml(settings);
        let mut running = self.turn(allowed).await?;
        let candidate = Candidate { account: account.clone(), text: Some(text), alone: false };
        let settings = self.read(Some(&candidate)).await?;
        self.refuse_unapplied(&running, &settings, account)?;
        let is_new = self.account(account).is_err();
        self.keep_and_apply(&mut running, candidate, settings).await?;
        Ok(is_new)
    }

    async fn remove_account(
        &self,
        account: AccountName,
        force: bool,
        allowed: &StillAllowed,
    ) -> Result<(), Refusal> {
        let mut running = self.turn(allowed).await?;
        let present = self.account(&account);
        let (store, name) = (self.store.clone(), account.clone());
        let is_stored = self.reading(move || store.has(&name)).await?;
        if !is_stored {
            present.as_ref().map_err(Refusal::clone)?;
        }
        // No other account need be right for one to go.
        let candidate = Candidate { account: account.clone(), text: None, alone: true };
        let settings = self.read(Some(&candidate)).await?;
        if settings.accounts.iter().any(|configured| configured.name == account) {
            let mut sources = sources(&settings, &account);
            if is_stored {
                sources.push(settings.stored_source(&account));
            }
            return Err(Refusal::NotStored(sources));
        }
        let Ok(present) = present else {
            // Its file was never in force.
            return self.keep(candidate).await;
        };
        let is_serving = present.door.is_open();
        if !force {
            self.finish_trades(&present).await?;
        }
        let removed = self.keep_and_apply(&mut running, candidate, settings).await;
        if removed.is_err() && is_serving {
            // It was paused to finish its trades. One that has begun to end is not changed by this.
            self.lifecycle.pause(&present, false);
        }
        removed
    }

    async fn pause_account(
        &self,
        account: AccountName,
        paused: bool,
        allowed: &StillAllowed,
    ) -> Result<(), Refusal> {
        let mut running = self.turn(allowed).await?;
        let present = self.account(&account)?;
        let (store, name) = (self.store.clone(), account.clone());
        let kept = self.reading(move || store.read(&name)).await?.map_err(Refusal::Unavailable)?;
        // A pause is the operator's brake, which works whatever is wrong with other accounts.
        let alone = |text| Candidate { account: account.clone(), text, alone: true };
        let before = match &kept {
            Some(kept) => kept.as_str(),
            None => {
                let settings = self.read(Some(&alone(None))).await?;
                if !paused {
                    // The store has nothing of it that could be lifted.
                    return match is_paused(&settings, &account) {
                        Some(true) => Err(pause_not_stored(&settings, &account)),
                        _ => {
                            self.lifecycle.pause(&present, false);
                            settings::apply_pause(&mut running, &account, false);
                            Ok(())
                        }
                    };
                }
                // The store's file names the account, which is then no longer the built-in one.
                let is_built_in = settings.sources_of(&account).is_empty();
                if is_built_in { settings::BUILT_IN_ACCOUNT } else { "" }
            }
        };
        let text = settings::with_pause(before, paused);
        let text = text.map_err(|fault| Refusal::Faults(vec![fault]))?;
        let candidate = alone((!text.is_empty()).then_some(text));
        let settings = self.read(Some(&candidate)).await?;
        if is_paused(&settings, &account) != Some(paused) {
            return Err(pause_not_stored(&settings, &account));
        }
        self.keep(candidate).await?;
        // Nothing else, even if the sources have more of it that is new: that waits for a reload, which
        // compares all accounts.
        self.lifecycle.pause(&present, paused);
        settings::apply_pause(&mut running, &account, paused);
        Ok(())
    }

    /// Keeps what the store is to have of an account, and applies it. Whatever else differs in the
    /// sources waits for a reload.
    async fn keep_and_apply(
        &self,
        running: &mut SettingValues,
        candidate: Candidate,
        settings: Settings,
    ) -> Result<(), Refusal> {
        self.open_journal(&settings)?;
        let (account, alone) = (candidate.account.clone(), candidate.alone);
        self.keep(candidate).await?;
        if !alone {
            self.warn_of_news(&settings);
        }
        let values = settings.values();
        let mut difference = self.difference(running, &settings);
        difference.accounts.retain(|name, _| *name == *account);
        self.apply(running, &difference, settings.accounts).await?;
        settings::apply_account(running, &values, &account);
        Ok(())
    }

    /// Keeps what the store is to have of an account. If the gateway ends after this, the next one begins
    /// with it.
    async fn keep(&self, candidate: Candidate) -> Result<(), Refusal> {
        let (Candidate { account, text, .. }, store) = (candidate, self.store.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&account, text.as_deref())).await;
        kept.map_err(|_| Refusal::Failed)?.map_err(Refusal::Unavailable)?;
        self.had_store.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses an account while others run otherwise than the sources say, because it was compared with
    /// these: it could have the login, or the terminal, of one that runs.
    fn refuse_unapplied(
        &self,
        running: &SettingValues,
        settings: &Settings,
        account: &AccountName,
    ) -> Result<(), Refusal> {
        let difference = self.difference(running, settings);
        let others = difference.accounts.iter().filter(|(name, change)| {
            **name != **account && matches!(change, ChangeKind::Removed | ChangeKind::Changed)
        });
        let fault = |name: &String| SettingFault {
            key: format!("accounts.{name}"),
            origin: String::new(),
            message:
                "runs otherwise than its sources say, so that no account can be compared with \
                      it: reload first"
                    .to_owned(),
        };
        let faults: Vec<SettingFault> = others.map(|(name, _)| fault(name)).collect();
        if faults.is_empty() { Ok(()) } else { Err(reading::faults(&faults)) }
    }
}

/// Whether the settings have an account paused. `None`: they have no such account.
fn is_paused(settings: &Settings, account: &AccountName) -> Option<bool> {
    let configured = settings.accounts.iter().find(|configured| configured.name == *account);
    configured.map(|configured| configured.paused)
}

/// Where an account comes from.
fn sources(settings: &Settings, account: &AccountName) -> Vec<String> {
    let sources: Vec<String> = settings.sources_of(account).into_iter().collect();
    let built_in = || vec!["the built-in defaults".to_owned()];
    if sources.is_empty() { built_in() } else { sources }
}

/// Says where an account's pause comes from, or that it is not paused.
fn pause_not_stored(settings: &Settings, account: &AccountName) -> Refusal {
    let source = settings.source_of(&format!("accounts.{account}.paused"));
    Refusal::NotStored(source.map(str::to_owned).into_iter().collect())
}

#[cfg(test)]
mod tests;
