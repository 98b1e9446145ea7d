//! The smaller sections: `[restart]`, `[reads]`, `[streams]`, `[trading]`, `[metrics]` and `[log]`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::limits::{
    DAY, GIB, HOUR, KIB, MIB, YEAR, choice, number, positive, refuse_directory, size,
};
use super::reader::Reader;
use crate::actor::RestartPolicy;
use crate::metrics::{self, StatusLabels};
use crate::telemetry::{self, Destination, LogFile, LogFormat};
use crate::terminal::provisioning::{self, Terminals};
use crate::{pool, streams, trading};

/// The smallest limit of a log file, in bytes. A smaller file would be replaced every few lines.
const SMALLEST_LOG_FILE: u64 = 64 * KIB;

/// The time from a trade's arrival within which it is sent.
#[derive(Debug, Clone, Copy)]
pub struct SendLimits {
    pub any: Duration,
    /// For trades that only reduce risk.
    pub close: Duration,
}

/// The section `[metrics]`.
pub struct MetricsSection {
    pub options: metrics::Options,
    pub sampler_interval: Duration,
    pub disks: Vec<PathBuf>,
    pub scrape_rate: NonZeroU32,
    pub scrape_burst: NonZeroU32,
}

/// The section `[terminals]`.
#[derive(Debug, Clone)]
pub struct KeptTerminals {
    /// Shared by every reading of the settings, because one gateway keeps them in one place.
    pub shared: Arc<Terminals>,
    /// How often templates are looked at for changes.
    pub interval: Duration,
}

/// Takes `[terminals]`. `running`: what it was when the gateway started.
pub fn terminals(reader: &mut Reader, running: Option<&KeptTerminals>) -> KeptTerminals {
    let directory = reader.value("terminals.directory", PathBuf::from("data/terminals"));
    let options = provisioning::Options {
        directory: std::path::absolute(&directory).unwrap_or(directory),
        keep_free: size(reader, "terminals.keep_free", ByteSize::gib(2), 0..=1_024 * GIB),
        copy_limit: size(reader, "terminals.copy_limit", ByteSize::gib(8), 64 * MIB..=1_024 * GIB),
    };
    let interval = positive(reader, "terminals.template_interval", Duration::from_secs(60), DAY);
    running.cloned().unwrap_or_else(|| {
        let shared = Arc::new(Terminals::new(options));
        KeptTerminals { shared, interval }
    })
}

/// Returns the policy of restarts, and how long after its budget a quarantined session is retried.
pub fn restart(reader: &mut Reader) -> (RestartPolicy, Duration) {
    let seconds = Duration::from_secs;
    let policy = RestartPolicy {
        backoff: positive(reader, "restart.backoff", Duration::from_millis(500), DAY),
        backoff_max: positive(reader, "restart.backoff_max", seconds(30), DAY),
        budget: number(reader, "restart.budget", 10, 1..=1_000_000),
        window: positive(reader, "restart.window", seconds(300), YEAR),
    };
    let quarantine_retry = positive(reader, "restart.quarantine_retry", seconds(300), DAY);
    if policy.backoff > policy.backoff_max {
        reader
            .fault("restart.backoff", "it is above `restart.backoff_max`, up to which it doubles");
    }
    (policy, quarantine_retry)
}

pub fn reads(reader: &mut Reader) -> pool::Savings {
    pool::Savings {
        share: reader.value("reads.share", true),
        cache: reader.value("reads.cache", ByteSize::mib(64)).as_u64(),
    }
}

/// `timeout` limits how long a poll waits for its terminal.
pub fn streams(reader: &mut Reader, timeout: Duration) -> streams::Options {
    let (seconds, milliseconds) = (Duration::from_secs, Duration::from_millis);
    streams::Options {
        max: number(reader, "streams.max", 1_000, 0..=1_000_000) as usize,
        tick_interval: positive(reader, "streams.tick_interval", milliseconds(100), HOUR),
        state_interval: positive(reader, "streams.state_interval", milliseconds(500), HOUR),
        heartbeat: positive(reader, "streams.heartbeat", seconds(15), HOUR),
        buffer: size(reader, "streams.buffer", ByteSize::mib(4), KIB..=GIB),
        timeout,
    }
}

pub fn trading(reader: &mut Reader) -> (trading::Options, SendLimits) {
    let seconds = Duration::from_secs;
    let options = trading::Options {
        journal: reader.value("trading.journal", PathBuf::from("data/journal.sqlite")),
        retention: positive(reader, "trading.retention", 90 * DAY, YEAR),
        tag: reader.value("trading.tag", true),
        not_found_after: positive(reader, "trading.not_found_after", seconds(60), DAY),
    };
    refuse_directory(reader, "trading.journal", &options.journal);
    let send_within = SendLimits {
        any: positive(reader, "trading.send_within", seconds(5), HOUR),
        close: positive(reader, "trading.send_within_close", seconds(30), HOUR),
    };
    if options.retention < DAY {
        reader.fault(
            "trading.retention",
            "expected \"1d\" or more: trades that were not found are watched for a day",
        );
    }
    (options, send_within)
}

pub fn metrics(reader: &mut Reader) -> MetricsSection {
    let enabled = reader.value("metrics.enabled", true);
    let account_values = reader.value("metrics.account_values", false);
    let sampler_interval =
        positive(reader, "metrics.sampler_interval", Duration::from_secs(15), HOUR);
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
    MetricsSection {
        options: metrics::Options {
            enabled,
            account_values,
            status_labels,
            duration_buckets,
            call_buckets,
        },
        sampler_interval,
        disks,
        scrape_rate: NonZeroU32::new(scrape_rate).unwrap_or(NonZeroU32::MIN),
        scrape_burst: NonZeroU32::new(scrape_burst).unwrap_or(NonZeroU32::MIN),
    }
}

/// Returns the options, and whether requests are logged.
pub fn log(reader: &mut Reader) -> (telemetry::Options, bool) {
    let (format, destination) = choice(
        reader,
        "log.format",
        &[
            ("text", (LogFormat::Text, Destination::StandardError)),
            ("json", (LogFormat::Json, Destination::StandardError)),
            #[cfg(target_os = "linux")]
            ("journald", (LogFormat::Json, Destination::Journald)),
        ],
    );
    let filter = reader.value("log.filter", "info,ractor=warn".to_owned());
    if let Err(error) = telemetry::check_filter(&filter) {
        reader.fault(
            "log.filter",
            format!("expected a filter such as \"info\" or \"info,mt5_gateway=debug\": {error}"),
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
    let access = reader.value("log.access", true);
    let file = log_file(reader);
    (telemetry::Options { format, destination, filter, file }, access)
}

/// Whether a part of a log filter is a word that names neither a level nor a module of ours.
fn is_no_level(word: &str) -> bool {
    let levels = ["", "off", "error", "warn", "info", "debug", "trace"];
    let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_module = word.contains(['=', '[', ':']) || word == "mt5_gateway";
    !is_level && !is_module && word.parse::<u8>().is_err()
}

/// The file to log to, beside standard error.
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
