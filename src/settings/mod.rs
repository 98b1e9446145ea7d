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
mod types;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use self::accounts::Demo;
pub use self::accounts::read_password_file;
pub use self::difference::{Difference, SettingValues, applied, difference};
pub use self::fault::SettingFault;
use self::reader::{EffectiveSetting, Reader};
use self::sources::Layers;
use crate::api::{self, Keys};
use crate::pool::{self, AccountOptions};
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
    /// What is allowed, but probably not what was meant: key, text and origin, as in a
    /// [`SettingFault`].
    pub warnings: Vec<String>,
    /// Where they come from.
    pub sources: SettingSources,
    effective: Vec<EffectiveSetting>,
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
}

/// Settings that may have faults, for a look at them.
pub struct Inspection {
    /// Every setting; one with a fault has its default, or is missing. `None`: a source cannot be read.
    pub settings: Option<Settings>,
    /// What is wrong.
    pub faults: Vec<SettingFault>,
    /// What is allowed, but probably not what was meant.
    pub warnings: Vec<SettingFault>,
}

/// Where settings come from, to read them again.
#[derive(Debug, Clone)]
pub struct SettingSources {
    directory: PathBuf,
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    command_line: Vec<(String, String)>,
    demo: Demo,
}

impl SettingSources {
    fn of_process(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> SettingSources {
        let text = |(key, text): &(&str, String)| ((*key).to_owned(), text.clone());
        SettingSources {
            directory: directory.to_owned(),
            file: file.map(Path::to_owned),
            environment: environment.into_iter().collect(),
            command_line: command_line.iter().map(text).collect(),
            demo: Demo::IfAlone,
        }
    }

    /// Reads the settings as they stand there now.
    ///
    /// # Errors
    /// Every fault. If a source cannot be read, nothing else is checked, because its settings would
    /// seem to be missing.
    pub fn load(&self) -> Result<Settings, Vec<SettingFault>> {
        let Inspection { settings, faults, .. } = self.inspect();
        settings.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// Reads the settings as they stand there now, and says what is wrong with them.
    fn inspect(&self) -> Inspection {
        let command_line: Vec<(&str, String)> =
            self.command_line.iter().map(|(key, text)| (key.as_str(), text.clone())).collect();
        let environment = self.environment.iter().cloned();
        let layers =
            Layers::read(&self.directory, self.file.as_deref(), environment, &command_line);
        if !layers.faults.is_empty() {
            let (faults, warnings) = (layers.faults, layers.warnings);
            return Inspection { settings: None, faults, warnings };
        }
        let mut reader = Reader::new(layers);
        let mut settings = Settings::take(&mut reader, self);
        reader.finish();
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
        SettingSources::of_process(directory, file, environment, command_line).load()
    }

    /// Reads the settings of a process as [`Settings::load`] does, and says what is wrong with them.
    pub fn inspect(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> Inspection {
        SettingSources::of_process(directory, file, environment, command_line).inspect()
    }

    /// What is needed to apply a later reading of the settings.
    pub fn administered(&self) -> Administered {
        Administered {
            listen: self.listen,
            anonymous: self.anonymous_administration,
            sources: self.sources.clone(),
            values: self.values(),
        }
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

    fn take(reader: &mut Reader, sources: &SettingSources) -> Settings {
        let server = server::take(reader);
        let (restart, quarantine_retry) = sections::restart(reader);
        let (keys, allow_anonymous) = auth::take(reader, &server);
        let anonymous_administration = reader.value("accounts_store.anonymous", false);
        let reads = sections::reads(reader);
        let streams = sections::streams(reader, server.call_timeout);
        let (trading, send_within) = sections::trading(reader);
        let metrics = sections::metrics(reader);
        let (log, access_log) = sections::log(reader);
        let (accounts, has_demo) = accounts::take(reader, send_within, sources.demo);
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
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
            sources: SettingSources { demo: Demo::Decided(has_demo), ..sources.clone() },
            effective: vec![],
        }
    }
}
