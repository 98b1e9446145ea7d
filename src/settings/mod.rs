//! Typed settings: read from every source, checked all at once, each with its
//! origin. This room turns texts into what the other rooms take; it decides
//! nothing about what they do with it.

mod accounts;
mod hosts;
mod keys;
mod layers;
mod reader;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;

use self::layers::Layers;
use self::reader::{Effective, Reader, Setting};
use crate::http::{self, Keys};
use crate::metrics::{self, StatusLabels};
use crate::pool::{self, AccountOptions};
use crate::streams;
use crate::telemetry::{self, LogFile};
use crate::trading;

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}{}{message} (from {origin})", if key.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// The setting's key; empty if a whole source is wrong.
    pub key: String,
    /// Where its value came from.
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
    pub http: http::Options,
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
    /// and `.env`, `file` is what `--config` names.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn load(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, Vec<Fault>> {
        let layers = Layers::read(directory, file, environment);
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

    /// The environment of this process. Names and values that are no text are
    /// left out: no setting can be one.
    pub fn environment() -> impl Iterator<Item = (String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
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
        let request_timeout = positive(reader, "server.request_timeout", seconds(30));
        let call_timeout = positive(reader, "server.call_timeout", request_timeout);
        let trade_timeout = positive(reader, "server.trade_timeout", seconds(60));
        let probe_interval = positive(reader, "server.probe_interval", seconds(10));
        let write_timeout = positive(reader, "server.write_timeout", seconds(60));
        let max_body = reader.value("server.max_body", ByteSize::mib(1)).as_u64();
        let shutdown_grace = duration(reader, "server.shutdown_grace", seconds(65));
        let allowed_hosts = hosts::allowed_hosts(reader);
        let cors_origins = hosts::cors_origins(reader);
        let trusted_proxies = reader.value("server.trusted_proxies", vec![]);

        let restart = pool::Policy {
            backoff: positive(reader, "restart.backoff", Duration::from_millis(500)),
            backoff_max: positive(reader, "restart.backoff_max", seconds(30)),
            budget: number(reader, "restart.budget", 10, 1..=1_000_000),
            window: positive(reader, "restart.window", seconds(300)),
            quarantine_retry: positive(reader, "restart.quarantine_retry", seconds(300)),
        };

        let allow_anonymous = reader.value("auth.allow_anonymous", false);
        let keys = keys::take(reader);
        if keys.is_empty() && !allow_anonymous && !listen.ip().is_loopback() {
            reader.fault(
                "server.listen",
                "without `auth.keys` only a loopback address may be listened on: add a key, \
                 or set `auth.allow_anonymous = true` if the network is trusted",
            );
        }

        let reads = pool::Savings {
            share: reader.value("reads.share", true),
            cache: reader.value("reads.cache", ByteSize::mib(64)).as_u64(),
        };
        let streams = streams::Options {
            max: usize::try_from(reader.value("streams.max", 1_000_u64)).unwrap_or(usize::MAX),
            tick_interval: positive(reader, "streams.tick_interval", Duration::from_millis(100)),
            state_interval: positive(reader, "streams.state_interval", Duration::from_millis(500)),
            heartbeat: positive(reader, "streams.heartbeat", seconds(15)),
            buffer: reader.value("streams.buffer", ByteSize::mib(4)).as_u64(),
            timeout: call_timeout,
        };
        let trading = trading::Options {
            journal: reader.value("trading.journal", PathBuf::from("data/journal.sqlite")),
            retention: positive(reader, "trading.retention", seconds(90 * 86_400)),
            tag: reader.value("trading.tag", true),
            not_found_after: positive(reader, "trading.not_found_after", seconds(60)),
        };
        let send_within = SendWithin {
            any: positive(reader, "trading.send_within", seconds(5)),
            close: positive(reader, "trading.send_within_close", seconds(30)),
        };
        if trading.retention < seconds(86_400) {
            reader.fault(
                "trading.retention",
                "expected \"1d\" or more: trades that were not found are watched for a day",
            );
        }

        let enabled = reader.value("metrics.enabled", true);
        let sampler_interval = positive(reader, "metrics.sampler_interval", seconds(15));
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
        let access_log = reader.value("log.access", true);
        let file = log_file(reader);
        let accounts = accounts::take(reader, send_within);
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        keys::warn(reader, &keys, &names, Timestamp::now());

        Settings {
            listen,
            shutdown_grace,
            http: http::Options {
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
            pool: pool::Options { call_timeout, trade_timeout, probe_interval, restart },
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

/// The longest duration that any setting may have, 366 days. Moments are reckoned by adding
/// durations to the present, which must not overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Bytes that a log file has at least. A smaller one would be replaced every few lines.
const SMALLEST_LOG_FILE: u64 = 64 << 10;

/// A duration from 1 ms to 366 days.
fn positive(reader: &mut Reader, key: &str, default: Duration) -> Duration {
    bounded(reader, key, default, SHORTEST)
}

/// A duration from 0 to 366 days.
fn duration(reader: &mut Reader, key: &str, default: Duration) -> Duration {
    bounded(reader, key, default, Duration::ZERO)
}

fn bounded(reader: &mut Reader, key: &str, default: Duration, least: Duration) -> Duration {
    let value = reader.value(key, default);
    if (least..=LONGEST).contains(&value) {
        return value;
    }
    let (least, most) = (least.show(), LONGEST.show());
    let examples = "\"250ms\", \"15s\" or \"90d\"";
    reader.fault(key, format!("expected a duration from {least} to {most}, such as {examples}"));
    default
}

/// A whole number within a range.
fn number(
    reader: &mut Reader,
    key: &str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> u32 {
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
    let chosen = choices.iter().find(|(name, _)| *name == word);
    if chosen.is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        reader.fault(key, format!("expected one of {}", names.join(", ")));
    }
    chosen.map_or(fallback, |(_, choice)| *choice)
}

/// Where to log beside standard error.
fn log_file(reader: &mut Reader) -> Option<LogFile> {
    if reader.names("log.file").is_empty() {
        return None;
    }
    let path: PathBuf = reader.required("log.file.path");
    let max_size = reader.value("log.file.max_size", ByteSize::mib(100)).as_u64();
    if max_size < SMALLEST_LOG_FILE {
        reader.fault("log.file.max_size", "expected a size of at least \"64 KiB\"");
    }
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
