//! Settings: read from every source, parsed into what the other rooms take, and checked all at
//! once.
//!
//! `sources` puts the layers over each other, [`Reader`] hands values out by key and type and
//! collects every fault, and one file per section states its keys, defaults and limits. A fault
//! never repeats a value, because a password may stand where the fault is.
//!
//! serde is not used on purpose: a derived `Deserialize` stops at the first fault. This room
//! reports all of them in one run, each with its key and its source, and shows every setting in
//! force with its origin.

mod accounts;
mod auth;
mod auth_keys;
mod difference;
mod fault;
mod hosts;
mod limits;
mod reader;
mod sections;
mod server;
mod sources;
mod store;
mod types;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::accounts::Demo;
pub use self::accounts::{BUILT_IN_ACCOUNT, read_password_file};
pub use self::difference::{
    Difference, SettingValues, applied, apply_account, apply_pause, difference, forget_accounts,
};
pub use self::fault::SettingFault;
use self::reader::{EffectiveSetting, Reader};
use self::sections::KeptTerminals;
pub use self::sources::Candidate;
use self::sources::{ENVIRONMENT, Layers, Locations};
pub use self::store::{AccountsStore, to_toml, with_pause};
use crate::account_name::AccountName;
use crate::api::{self, Keys};
use crate::pool::{self, AccountOptions};
use crate::terminal::provisioning::Terminals;
use crate::{metrics, streams, telemetry, trading};

/// Every setting, checked.
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long requests and calls that are under way may take when the gateway stops.
    pub shutdown_grace: Duration,
    /// How HTTP is served.
    pub http: api::Options,
    /// Who may do what.
    pub keys: Keys,
    /// Whether a gateway without keys may listen on other addresses than loopback's.
    pub allow_anonymous: bool,
    /// Whether clients may change settings on a gateway without keys.
    pub anonymous_administration: bool,
    /// Where accounts are kept that clients have set.
    pub store: AccountsStore,
    /// How sessions treat their terminals.
    pub pool: pool::Options,
    /// How reads are coalesced and cached.
    pub reads: pool::Savings,
    /// How changes are polled for and buffered.
    pub streams: streams::Options,
    /// How trades are journaled.
    pub trading: trading::Options,
    /// What is measured.
    pub metrics: metrics::Options,
    /// The interval between two measurements of the machine.
    pub sampler_interval: Duration,
    /// Mount points to report.
    pub disks: Vec<PathBuf>,
    /// How to log.
    pub log: telemetry::Options,
    /// The accounts.
    pub accounts: Vec<AccountOptions>,
    /// Where copies of terminals are kept.
    pub terminals: Arc<Terminals>,
    /// What is allowed, but probably not what was meant: key, text and origin, as in a
    /// [`SettingFault`].
    pub warnings: Vec<String>,
    /// Where they come from.
    pub sources: SettingSources,
    effective: Vec<EffectiveSetting>,
}

/// What has an account paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseOrigin {
    /// The accounts store, as after `PUT /api/v1/accounts/{account}/pause`.
    Store,
    /// The environment of the process, which is read at its start only.
    Environment,
    /// Another source, by its name.
    Source(String),
}

/// What is needed to apply a later reading of the settings.
pub struct Administered {
    /// Where the gateway listens as long as it runs.
    pub listen: SocketAddr,
    /// Whether clients may change settings on a gateway without keys.
    pub anonymous: bool,
    /// Where settings come from.
    pub sources: SettingSources,
    /// Every setting in force.
    pub values: SettingValues,
    /// Where accounts are kept that clients have set.
    pub store: AccountsStore,
    /// What the log has warned of.
    pub warnings: Vec<String>,
}

/// Settings that may have faults, for a look at them.
pub struct Inspection {
    /// Every setting; one with a fault has its default, or is missing, as is an account whose file in the
    /// accounts store cannot be read. `None`: another source cannot be read.
    pub settings: Option<Settings>,
    /// What is wrong.
    pub faults: Vec<SettingFault>,
    /// What is allowed, but probably not what was meant.
    pub warnings: Vec<SettingFault>,
}

/// Where settings come from, to read them again.
#[derive(Debug, Clone)]
pub struct SettingSources {
    locations: Locations,
    demo: Demo,
    /// As they were when the gateway started.
    terminals: Option<KeptTerminals>,
}

impl SettingSources {
    fn of_process(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> SettingSources {
        let text = |(key, text): &(&str, String)| ((*key).to_owned(), text.clone());
        let locations = Locations {
            directory: directory.to_owned(),
            file: file.map(Path::to_owned),
            environment: environment.into_iter().collect(),
            command_line: command_line.iter().map(text).collect(),
            ..Locations::default()
        };
        SettingSources { locations, demo: Demo::IfAlone, terminals: None }
    }

    /// Reads the settings as they stand there now, or as if the accounts store had another file of an
    /// account.
    ///
    /// # Errors
    /// Every fault, or those of the account if the settings are read for it alone. If a source cannot be
    /// read, nothing else is checked, because its settings would seem to be missing. A file of the accounts
    /// store hides its account alone.
    pub fn load(&self, candidate: Option<&Candidate>) -> Result<Settings, Vec<SettingFault>> {
        let Inspection { settings, mut faults, .. } = self.inspect(candidate);
        if let Some(Candidate { account, alone: true, .. }) = candidate {
            faults.retain(|fault| fault.key.is_empty() || sources::is_of(&fault.key, account));
        }
        settings.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// Reads the settings as [`SettingSources::load`] does, and says what is wrong with them.
    fn inspect(&self, candidate: Option<&Candidate>) -> Inspection {
        let mut layers = Layers::read(&self.locations, candidate);
        if !layers.faults.is_empty() {
            let mut faults = layers.faults;
            faults.extend(layers.stored_faults);
            return Inspection { settings: None, faults, warnings: layers.warnings };
        }
        let demo = match self.demo {
            // An account that cannot be read is one.
            Demo::IfAlone if !layers.unread.is_empty() => Demo::Decided(false),
            demo => demo,
        };
        let (store, filled) = (layers.store.clone(), std::mem::take(&mut layers.filled));
        let mut reader = Reader::new(layers);
        let mut settings = Settings::take(&mut reader, demo, self.terminals.as_ref());
        reader.finish();
        settings.store = AccountsStore(self.locations.directory.join(&store));
        let locations = Locations { store: Some(store), filled, ..self.locations.clone() };
        settings.sources.locations = locations;
        let Reader { faults, warnings, effective, .. } = reader;
        settings.warnings = warnings.iter().map(SettingFault::to_string).collect();
        settings.effective = effective;
        Inspection { settings: Some(settings), faults, warnings }
    }
}

impl Settings {
    /// Reads the settings of a process. `directory` holds `settings/default.toml` and `.env`,
    /// `file` is that of `--config`, and `command_line` has settings by their keys.
    ///
    /// # Errors
    /// Every fault. If a source cannot be read, nothing else is checked, because its settings would
    /// seem to be missing.
    pub fn load(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> Result<Settings, Vec<SettingFault>> {
        SettingSources::of_process(directory, file, environment, command_line).load(None)
    }

    /// Reads the settings of a process as [`Settings::load`] does, and says what is wrong with them.
    pub fn inspect(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> Inspection {
        SettingSources::of_process(directory, file, environment, command_line).inspect(None)
    }

    /// What is needed to apply a later reading of the settings.
    pub fn administered(&self) -> Administered {
        Administered {
            listen: self.listen,
            anonymous: self.anonymous_administration,
            sources: self.sources.clone(),
            values: self.values(),
            store: self.store.clone(),
            warnings: self.warnings.clone(),
        }
    }

    /// The sources that say something about an account, in their own words.
    pub fn sources_of(&self, account: &str) -> BTreeSet<String> {
        let table = format!("accounts.{account}.");
        let of_account = self.effective.iter().filter(|one| one.key.starts_with(&table));
        let sources = of_account.map(|effective| effective.source.clone());
        sources.filter(|source| source != reader::DEFAULT).collect()
    }

    /// The source of a setting in force, in its own words. `None`: there is no such setting.
    pub fn source_of(&self, key: &str) -> Option<&str> {
        let effective = self.effective.iter().find(|effective| effective.key == key);
        effective.map(|effective| effective.source.as_str())
    }

    /// What an account's file in the accounts store is called as a source.
    pub fn stored_source(&self, account: &AccountName) -> String {
        let store = self.sources.locations.store.as_deref().unwrap_or(Path::new(""));
        store::file(store, account).display().to_string()
    }

    /// What has an account paused. `None`: nothing.
    pub fn pause_of(&self, account: &AccountOptions) -> Option<PauseOrigin> {
        let source = self.source_of(&format!("accounts.{}.paused", account.name));
        Some(match source.filter(|_| account.paused)? {
            source if source == self.stored_source(&account.name) => PauseOrigin::Store,
            ENVIRONMENT => PauseOrigin::Environment,
            source => PauseOrigin::Source(source.to_owned()),
        })
    }

    /// Every setting in force, to be compared with those of another reading.
    pub fn values(&self) -> SettingValues {
        let effective = self.effective.iter();
        effective.map(|effective| (effective.key.clone(), effective.compared.clone())).collect()
    }

    /// The environment of this process.
    pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
        std::env::vars_os()
    }

    /// Every setting in force, one per line, with its source. Secrets are hidden.
    pub fn describe(&self) -> String {
        let width = self.effective.iter().map(|effective| effective.key.len()).max().unwrap_or(0);
        let lines = self.effective.iter().map(|EffectiveSetting { key, value, source, .. }| {
            format!("{key:width$} = {value}  # {source}\n")
        });
        lines.collect()
    }

    /// Takes every setting. What is not known of its sources yet is left empty.
    fn take(reader: &mut Reader, demo: Demo, running: Option<&KeptTerminals>) -> Settings {
        let server = server::take(reader);
        let (restart, quarantine_retry) = sections::restart(reader);
        let (keys, allow_anonymous) = auth::take(reader, &server);
        // The layers were read from there already.
        let _ = reader.value("accounts_store.directory", PathBuf::from(store::DEFAULT_DIRECTORY));
        let anonymous_administration = reader.value("accounts_store.anonymous", false);
        let reads = sections::reads(reader);
        let streams = sections::streams(reader, server.call_timeout);
        let (trading, send_within) = sections::trading(reader);
        let metrics = sections::metrics(reader);
        let (log, access_log) = sections::log(reader);
        let terminals = sections::terminals(reader, running);
        let (accounts, has_demo) = accounts::take(reader, send_within, demo, &terminals);
        for account in accounts.iter().filter(|account| account.recycling.memory.is_some()) {
            if !metrics.options.enabled {
                let key = format!("accounts.{}.terminal.recycle.memory", account.name);
                let message = "does nothing, because `metrics.enabled = false` measures no memory";
                reader.warn(&key, message);
            }
        }
        let unread = reader.unread.clone();
        let names = accounts.iter().map(|account| account.name.as_str());
        let names: Vec<&str> = names.chain(unread.iter().map(String::as_str)).collect();
        auth_keys::warn(reader, &keys, &names, Timestamp::now());
        Settings {
            listen: server.listen,
            shutdown_grace: server.shutdown_grace,
            http: api::Options {
                request_timeout: server.request_timeout,
                write_timeout: server.write_timeout,
                max_body: server.max_body,
                allowed_hosts: server.allowed_hosts,
                cors_origins: server.cors_origins,
                trusted_proxies: server.trusted_proxies,
                access_log,
                scrape_rate: metrics.scrape_rate,
                scrape_burst: metrics.scrape_burst,
            },
            keys: Keys::new(keys),
            allow_anonymous,
            anonymous_administration,
            store: AccountsStore::default(),
            pool: pool::Options {
                call_timeout: server.call_timeout,
                trade_timeout: server.trade_timeout,
                probe_interval: server.probe_interval,
                count_holdings: metrics.options.enabled && metrics.options.account_values,
                restart,
                quarantine_retry,
            },
            reads,
            streams,
            trading,
            metrics: metrics.options,
            sampler_interval: metrics.sampler_interval,
            disks: metrics.disks,
            log,
            accounts,
            warnings: vec![],
            terminals: terminals.shared.clone(),
            sources: SettingSources {
                locations: Locations::default(),
                demo: Demo::Decided(has_demo),
                terminals: Some(terminals),
            },
            effective: vec![],
        }
    }
}
