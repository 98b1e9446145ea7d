//! Typed settings: read from every source, checked all at once, each with its
//! origin. This room turns texts into what the other rooms take; it decides
//! nothing about what they do with it.

mod accounts;
mod dotenv;
mod files;
mod hosts;
mod keys;
mod layers;
mod reader;
mod toml_file;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use jiff::Timestamp;

use self::layers::Layers;
use self::reader::{Effective, Reader, Setting};
use crate::actor::RestartPolicy;
use crate::api::{self, Keys};
use crate::metrics::{self, StatusLabels};
use crate::pool::{self, AccountOptions};
use crate::streams;
use crate::telemetry::{self, LogFile};
use crate::trading;

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key}{}{message}{}",
    if key.is_empty() { "" } else { ": " },
    if origin.is_empty() { String::new() } else { format!(" (from {origin})") },
)]
pub struct Fault {
    /// The setting's key; empty if a whole source is wrong.
    pub key: String,
    /// Where its value came from; empty if it is missing.
    pub origin: String,
    /// What was expected.
    pub message: String,
}

/// Every setting, checked.
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long calls that are under way may take when the gateway stops.
    pub shutdown_grace: Duration,
    /// How HTTP is served.
    pub http: api::Options,
    /// Who may do what.
    pub keys: Keys,
    /// How sessions treat their terminals.
    pub pool: pool::Options,
    /// How reads are saved.
    pub reads: pool::Savings,
    /// How changes are looked for and kept.
    pub streams: streams::Options,
    /// How trades are kept.
    pub trading: trading::Options,
    /// What is measured.
    pub metrics: metrics::Options,
    /// From one measurement of the machine to the next.
    pub sampler_interval: Duration,
    /// Mount points to report.
    pub disks: Vec<PathBuf>,
    /// How to log.
    pub log: telemetry::Options,
    /// The accounts.
    pub accounts: Vec<AccountOptions>,
    /// What the sources were, in order.
    pub sources: Vec<String>,
    /// What is allowed, but probably not what was meant: key, text and origin, as in a [`Fault`].
    pub warnings: Vec<String>,
    effective: Vec<Effective>,
}

/// From a trade's arrival until it has to be sent, at most.
#[derive(Debug, Clone, Copy)]
struct SendWithin {
    any: Duration,
    /// For trades that only reduce risk.
    close: Duration,
}

impl Settings {
    /// Reads the settings of a process: `directory` holds `settings/default.toml`
    /// and `.env`, `file` is what `--config` names, and `command_line` has settings by their keys.
    ///
    /// # Errors
    /// Every fault that was found. If a source cannot be read, nothing else is checked: what
    /// it says would seem to be missing.
    pub fn load(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> Result<Settings, Vec<Fault>> {
        let layers = Layers::read(directory, file, environment, command_line);
        if !layers.faults.is_empty() {
            return Err(layers.faults);
        }
        let sources = layers.sources.clone();
        let mut reader = Reader::new(layers);
        let mut settings = Settings::take(&mut reader);
        reader.finish();
        if reader.faults.is_empty() {
            settings.sources = sources;
            settings.warnings = reader.warnings.iter().map(Fault::to_string).collect();
            settings.effective = reader.effective;
            Ok(settings)
        } else {
            Err(reader.faults)
        }
    }

    /// The environment of this process.
    pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
        std::env::vars_os()
    }

    /// Every setting in force, one a line, with its source; secrets are hidden.
    pub fn describe(&self) -> String {
        let width = self.effective.iter().map(|effective| effective.key.len()).max().unwrap_or(0);
        let lines = self.effective.iter().map(|Effective { key, value, source }| {
            format!("{key:width$} = {value}  # {source}\n")
        });
        lines.collect()
    }

    fn take(reader: &mut Reader) -> Settings {
        let seconds = Duration::from_secs;
        let listen = reader.value("server.listen", SocketAddr::from(([127, 0, 0, 1], 8080)));
        if listen.port() == 0 {
            reader.warn("server.listen", "another free port is taken at each start");
        }
        let request_timeout = positive(reader, "server.request_timeout", seconds(30), HOUR);
        let call_timeout = positive(reader, "server.call_timeout", request_timeout, HOUR);
        let trade_timeout = positive(reader, "server.trade_timeout", seconds(60), HOUR);
        let probe_interval = positive(reader, "server.probe_interval", seconds(10), HOUR);
        let write_timeout = positive(reader, "server.write_timeout", seconds(60), HOUR);
        let max_body = size(reader, "server.max_body", ByteSize::mib(1), KIB..=GIB);
        let shutdown_grace = duration(reader, "server.shutdown_grace", seconds(65), DAY);
        if shutdown_grace < trade_timeout {
            reader.warn(
                "server.shutdown_grace",
                "it is below `server.trade_timeout`: a trade that is under way may be cut at the \
                 end, and what became of it is then unknown",
            );
        }
        let allowed_hosts = hosts::allowed_hosts(reader);
        let cors_origins = hosts::cors_origins(reader);
        let trusted_proxies: Vec<IpNet> = reader.value("server.trusted_proxies", vec![]);
        if trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            reader.warn(
                "server.trusted_proxies",
                "every client is believed about its own address: name the proxies",
            );
        }

        let restart = RestartPolicy {
            backoff: positive(reader, "restart.backoff", Duration::from_millis(500), DAY),
            backoff_max: positive(reader, "restart.backoff_max", seconds(30), DAY),
            budget: number(reader, "restart.budget", 10, 1..=1_000_000),
            window: positive(reader, "restart.window", seconds(300), YEAR),
        };
        let quarantine_retry = positive(reader, "restart.quarantine_retry", seconds(300), DAY);
        if restart.backoff > restart.backoff_max {
            reader.fault(
                "restart.backoff",
                "it is above `restart.backoff_max`, up to which it doubles",
            );
        }

        let allow_anonymous = reader.value("auth.allow_anonymous", false);
        let keys = keys::take(reader);
        if keys.is_empty() && !allow_anonymous && !listen.ip().is_loopback() {
            reader.fault(
                "server.listen",
                "without `auth.keys` only a loopback address may be listened on: add a key, \
                 or set `auth.allow_anonymous = true` if the network is trusted",
            );
        }

        if keys.is_empty() && !listen.ip().is_loopback() {
            reader.warn("auth.allow_anonymous", "everybody who reaches the address may trade");
        }
        if allow_anonymous && !keys.is_empty() {
            reader.warn("auth.allow_anonymous", "it does nothing beside `auth.keys`");
        }
        if keys.is_empty() && allowed_hosts.iter().any(|host| host == "*") {
            let message = "without `auth.keys` a page whose name was rebound to this machine can \
                           trade: list the names that clients use";
            reader.warn("server.allowed_hosts", message);
        }
        if keys.is_empty() && cors_origins.iter().any(|origin| origin == "*") {
            let message = "without `auth.keys` every page that is open in a browser here can trade: \
                           list the origins of your own pages";
            reader.warn("server.cors_origins", message);
        }

        let reads = pool::Savings {
            share: reader.value("reads.share", true),
            cache: reader.value("reads.cache", ByteSize::mib(64)).as_u64(),
        };
        let streams = streams::Options {
            max: number(reader, "streams.max", 1_000, 0..=1_000_000) as usize,
            tick_interval: positive(
                reader,
                "streams.tick_interval",
                Duration::from_millis(100),
                HOUR,
            ),
            state_interval: positive(
                reader,
                "streams.state_interval",
                Duration::from_millis(500),
                HOUR,
            ),
            heartbeat: positive(reader, "streams.heartbeat", seconds(15), HOUR),
            buffer: size(reader, "streams.buffer", ByteSize::mib(4), KIB..=GIB),
            timeout: call_timeout,
        };
        let trading = trading::Options {
            journal: reader.value("trading.journal", PathBuf::from("data/journal.sqlite")),
            retention: positive(reader, "trading.retention", 90 * DAY, YEAR),
            tag: reader.value("trading.tag", true),
            not_found_after: positive(reader, "trading.not_found_after", seconds(60), DAY),
        };
        refuse_directory(reader, "trading.journal", &trading.journal);
        let send_within = SendWithin {
            any: positive(reader, "trading.send_within", seconds(5), HOUR),
            close: positive(reader, "trading.send_within_close", seconds(30), HOUR),
        };
        if trading.retention < DAY {
            reader.fault(
                "trading.retention",
                "expected \"1d\" or more: trades that were not found are watched for a day",
            );
        }

        let enabled = reader.value("metrics.enabled", true);
        let sampler_interval = positive(reader, "metrics.sampler_interval", seconds(15), HOUR);
        let status_labels = choice(
            reader,
            "metrics.status_labels",
            &[("exact", StatusLabels::Exact), ("class", StatusLabels::Class)],
        );
        let duration_buckets = buckets(reader, "metrics.duration_buckets");
        let call_buckets = buckets(reader, "metrics.call_buckets");
        let scrape_rate = number(reader, "metrics.rate_limit_per_second", 10, 1..=1_000_000);
        let scrape_burst = number(reader, "metrics.rate_limit_burst", 20, 1..=1_000_000);
        let disks = reader.value("metrics.disks", vec![]);

        let format = choice(
            reader,
            "log.format",
            &[("text", telemetry::Format::Text), ("json", telemetry::Format::Json)],
        );
        let filter = reader.value("log.filter", "info,ractor=warn".to_owned());
        if let Err(error) = telemetry::check_filter(&filter) {
            reader.fault(
                "log.filter",
                format!(
                    "expected a filter such as \"info\" or \"info,mt5_gateway=debug\": {error}"
                ),
            );
        }
        if let Some(word) = filter.split(',').map(str::trim).find(|word| is_no_level(word)) {
            reader.warn(
                "log.filter",
                format!(
                    "`{word}` is no level (error, warn, info, debug, trace, off), so it is read as \
                     the name of a module"
                ),
            );
        }
        let access_log = reader.value("log.access", true);
        let file = log_file(reader);
        let accounts = accounts::take(reader, send_within);
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        keys::warn(reader, &keys, &names, Timestamp::now());

        Settings {
            listen,
            shutdown_grace,
            http: api::Options {
                request_timeout,
                write_timeout,
                max_body,
                allowed_hosts,
                cors_origins,
                trusted_proxies,
                access_log,
                scrape_rate: NonZeroU32::new(scrape_rate).unwrap_or(NonZeroU32::MIN),
                scrape_burst: NonZeroU32::new(scrape_burst).unwrap_or(NonZeroU32::MIN),
            },
            keys: Keys::new(keys),
            pool: pool::Options {
                call_timeout,
                trade_timeout,
                probe_interval,
                restart,
                quarantine_retry,
            },
            reads,
            streams,
            trading,
            metrics: metrics::Options { enabled, status_labels, duration_buckets, call_buckets },
            sampler_interval,
            disks,
            log: telemetry::Options { format, filter, file },
            accounts,
            sources: vec![],
            warnings: vec![],
            effective: vec![],
        }
    }
}

/// The shortest duration that means anything here.
const SHORTEST: Duration = Duration::from_millis(1);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The longest duration that any setting may have. Moments are reckoned by adding durations to
/// the present, which must not overflow.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// Bytes that a log file has at least. A smaller one would be replaced every few lines.
const SMALLEST_LOG_FILE: u64 = 64 * KIB;

/// A duration from 1 ms up.
fn positive(reader: &mut Reader, key: &str, default: Duration, most: Duration) -> Duration {
    bounded(reader, key, default, SHORTEST..=most)
}

/// A duration from 0 up.
fn duration(reader: &mut Reader, key: &str, default: Duration, most: Duration) -> Duration {
    bounded(reader, key, default, Duration::ZERO..=most)
}

fn bounded(
    reader: &mut Reader,
    key: &str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let value = reader.value(key, default);
    if range.contains(&value) {
        return value;
    }
    let (least, most) = (range.start().show(), range.end().show());
    reader.fault(key, format!("expected a duration from {least} to {most}"));
    default
}

/// Bytes within a range.
fn size(reader: &mut Reader, key: &str, default: ByteSize, range: RangeInclusive<u64>) -> u64 {
    let value = reader.value(key, default).as_u64();
    if range.contains(&value) {
        return value;
    }
    let (least, most) = (ByteSize(*range.start()).show(), ByteSize(*range.end()).show());
    reader.fault(key, format!("expected a size from {least} to {most}"));
    default.as_u64()
}

/// A file that the gateway writes cannot be where a directory is.
fn refuse_directory(reader: &mut Reader, key: &str, path: &Path) {
    if path.is_dir() {
        let message = format!("{} is a directory, expected a file", path.display());
        reader.fault(key, message);
    }
}

/// A whole number within a range.
fn number(reader: &mut Reader, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
    let value = reader.value(key, u64::from(default));
    let within = u32::try_from(value).ok().filter(|value| range.contains(value));
    if within.is_none() {
        let (least, most) = (range.start(), range.end());
        reader.fault(key, format!("expected a whole number from {least} to {most}"));
    }
    within.unwrap_or(default)
}

/// One of a few words; the first is the default.
fn choice<T: Copy>(reader: &mut Reader, key: &str, choices: &[(&str, T)]) -> T {
    let (default, fallback) = choices[0];
    let word = reader.value(key, default.to_owned());
    chosen(reader, key, choices, &word).unwrap_or(fallback)
}

/// One of a few words, which must be there. `None`: there is a fault already.
fn required_choice<T: Copy>(reader: &mut Reader, key: &str, choices: &[(&str, T)]) -> Option<T> {
    if !reader.has(key) {
        reader.missing(key, &format!("one of {}", words(choices)));
    }
    let word: String = reader.optional(key)?;
    chosen(reader, key, choices, &word)
}

fn chosen<T: Copy>(reader: &mut Reader, key: &str, choices: &[(&str, T)], word: &str) -> Option<T> {
    let chosen = choices.iter().find(|(name, _)| *name == word);
    if chosen.is_none() {
        reader.fault(key, format!("expected one of {}", words(choices)));
    }
    chosen.map(|(_, choice)| *choice)
}

fn words<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Whether a part of a log filter is a word that names neither a level nor a module of ours.
fn is_no_level(word: &str) -> bool {
    let levels = ["", "off", "error", "warn", "info", "debug", "trace"];
    let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_module = word.contains(['=', '[', ':']) || word == "mt5_gateway";
    !is_level && !is_module && word.parse::<u8>().is_err()
}

/// Where to log beside standard error.
fn log_file(reader: &mut Reader) -> Option<LogFile> {
    if !reader.has_section("log.file") {
        return None;
    }
    let path: PathBuf = reader.required("log.file.path").unwrap_or_default();
    refuse_directory(reader, "log.file.path", &path);
    let max_size =
        size(reader, "log.file.max_size", ByteSize::mib(100), SMALLEST_LOG_FILE..=1024 * GIB);
    let keep = number(reader, "log.file.keep", 7, 1..=10_000);
    Some(LogFile { path, max_size, keep })
}

/// Upper bounds of a histogram, seconds.
fn buckets(reader: &mut Reader, key: &str) -> Vec<f64> {
    let default =
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let bounds = reader.value(key, default.to_vec());
    let ascending = bounds.is_sorted_by(|a, b| a < b) && bounds.first() > Some(&0.0);
    if !ascending {
        reader.fault(key, "expected upper bounds in seconds above 0, each above the one before");
    }
    bounds
}
