//! The last quarter of an hour, within a fixed amount of memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

use super::Catalog;
use super::reading::{label, measured, quantile, sums_where, total, value};

/// From one point of the history to the next.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Points that are kept: a quarter of an hour.
const POINTS: usize = 180;

/// One point of the history: what happened since the one before, and how things stood at its time.
/// `null`: there was nothing to measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Unix seconds.
    pub time: f64,
    /// MT5 calls a second.
    pub calls_per_second: f64,
    /// MT5 calls without success a second.
    pub errors_per_second: f64,
    /// HTTP requests a second.
    pub requests_per_second: f64,
    /// Median time that MT5 calls of all accounts took on the terminal, seconds.
    pub p50: Option<f64>,
    /// 95th percentile, seconds.
    pub p95: Option<f64>,
    /// 99th percentile, seconds.
    pub p99: Option<f64>,
    /// Calls that wait or are under way.
    pub queue_depth: f64,
    /// Sessions that take calls.
    pub ready_sessions: f64,
    /// Share of all processors' time that is used.
    pub cpu_usage_ratio: Option<f64>,
    /// Memory in use on the machine, bytes.
    pub memory_used_bytes: Option<f64>,
    /// Terminals that were replaced.
    pub restarts: Vec<Restarts>,
}

/// Terminals of an account that were replaced within an interval.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Restarts {
    /// Name of the account.
    #[schema(example = "demo")]
    pub account: String,
    /// `reason` of `mt5_session_restarts_total`.
    #[schema(example = "hang")]
    pub reason: String,
    /// How many.
    #[schema(example = 1)]
    pub count: u64,
}

/// Counters as they were at a point.
#[derive(Debug, Clone, Default)]
struct Totals {
    at: f64,
    requests: f64,
    accounts: BTreeMap<String, AccountTotals>,
    /// Cumulative counts of `mt5_call_duration_seconds`, by the bits of their upper bounds: bounds are
    /// positive, so their bits are in their order.
    durations: BTreeMap<u64, u64>,
}

/// Counters of one account.
#[derive(Debug, Clone, Default)]
struct AccountTotals {
    calls: f64,
    errors: f64,
    restarts: BTreeMap<String, f64>,
}

/// A point as it is kept: by account, so that each client sees those that it may see.
#[derive(Debug, Default)]
struct Kept {
    /// What belongs to no account.
    common: Point,
    accounts: BTreeMap<String, Load>,
}

/// What one account contributes to a point.
#[derive(Debug, Default)]
struct Load {
    calls_per_second: f64,
    errors_per_second: f64,
    queue_depth: f64,
    ready_sessions: f64,
    restarts: Vec<Restarts>,
}

/// The points so far.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Kept>,
    before: Option<Totals>,
}

impl History {
    /// Adds a point.
    pub fn tick(&mut self, catalog: &Catalog) {
        let now = Totals::read(catalog);
        if let Some(before) = self.before.replace(now.clone()) {
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back(point(catalog, &before, &now));
        }
    }

    /// The points as these accounts make them, oldest first.
    pub fn points(&self, accounts: &BTreeSet<String>) -> Vec<Point> {
        self.points.iter().map(|kept| kept.of(accounts)).collect()
    }
}

impl Kept {
    /// The point as these accounts make it.
    fn of(&self, accounts: &BTreeSet<String>) -> Point {
        let mut point = self.common.clone();
        for (_, load) in self.accounts.iter().filter(|(account, _)| accounts.contains(*account)) {
            point.calls_per_second += load.calls_per_second;
            point.errors_per_second += load.errors_per_second;
            point.queue_depth += load.queue_depth;
            point.ready_sessions += load.ready_sessions;
            point.restarts.extend(load.restarts.iter().cloned());
        }
        point
    }
}

impl Totals {
    fn read(catalog: &Catalog) -> Totals {
        let mut accounts: BTreeMap<String, AccountTotals> = BTreeMap::new();
        for metric in catalog.mt5_calls_total.metrics() {
            let of = accounts.entry(label(&metric, "account").to_owned()).or_default();
            of.calls += value(&metric);
            if label(&metric, "outcome") != "success" {
                of.errors += value(&metric);
            }
        }
        for metric in catalog.mt5_session_restarts_total.metrics() {
            let of = accounts.entry(label(&metric, "account").to_owned()).or_default();
            *of.restarts.entry(label(&metric, "reason").to_owned()).or_default() += value(&metric);
        }
        let mut durations: BTreeMap<u64, u64> = BTreeMap::new();
        for metric in catalog.mt5_call_duration_seconds.metrics() {
            let histogram = metric.get_histogram();
            for bucket in histogram.get_bucket() {
                *durations.entry(bucket.upper_bound().to_bits()).or_default() +=
                    bucket.cumulative_count();
            }
            *durations.entry(f64::INFINITY.to_bits()).or_default() += histogram.get_sample_count();
        }
        Totals { at: now(), requests: total(&catalog.http_requests_total), accounts, durations }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn point(catalog: &Catalog, before: &Totals, now: &Totals) -> Kept {
    let elapsed = (now.at - before.at).max(0.001);
    let rate = |now: f64, before: f64| ((now - before) / elapsed).max(0.0);
    // Children that were not there before began at 0.
    let since = |(bound, count): (&u64, &u64)| {
        let before = before.durations.get(bound).copied().unwrap_or(0);
        (f64::from_bits(*bound), count.saturating_sub(before))
    };
    let buckets: Vec<(f64, u64)> = now.durations.iter().map(since).collect();
    let ready = sums_where(&catalog.mt5_pool_sessions, "account", |metric| {
        label(metric, "state") == "ready"
    });
    let none = AccountTotals::default();
    let accounts = catalog.queue_depths().into_iter().map(|(account, queue_depth)| {
        let earlier = before.accounts.get(&account).unwrap_or(&none);
        let now = now.accounts.get(&account).unwrap_or(&none);
        let restarts = now.restarts.iter().filter_map(|(reason, total)| {
            let count = total - earlier.restarts.get(reason).copied().unwrap_or_default();
            let (account, reason) = (account.clone(), reason.clone());
            (count > 0.0).then_some(Restarts { account, reason, count: count as u64 })
        });
        let load = Load {
            calls_per_second: rate(now.calls, earlier.calls),
            errors_per_second: rate(now.errors, earlier.errors),
            queue_depth,
            ready_sessions: ready.get(&account).copied().unwrap_or_default(),
            restarts: restarts.collect(),
        };
        (account, load)
    });
    let accounts = accounts.collect();
    let common = Point {
        time: now.at,
        requests_per_second: rate(now.requests, before.requests),
        p50: quantile(&buckets, 0.5),
        p95: quantile(&buckets, 0.95),
        p99: quantile(&buckets, 0.99),
        cpu_usage_ratio: measured(&catalog.system_cpu_usage_ratio),
        memory_used_bytes: measured(&catalog.system_memory_used_bytes),
        ..Point::default()
    };
    Kept { common, accounts }
}
