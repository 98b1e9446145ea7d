//! What the console shows: where the families stand now, and how the last
//! quarter of an hour went, within a fixed amount of memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily};
use serde::Serialize;
use utoipa::ToSchema;

use super::Catalog;

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

/// Unknown trades of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unknown {
    /// How many there are.
    pub count: u64,
    /// When the oldest one was made, unix seconds.
    pub oldest: f64,
}

/// Where the families stand: those that have accounts, for the accounts that were asked for; sums
/// over what is not named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Overview {
    /// `mt5_pool_sessions` by state.
    pub sessions: BTreeMap<String, f64>,
    /// `mt5_logins_total` by account and outcome.
    pub logins: BTreeMap<String, BTreeMap<String, f64>>,
    /// `mt5_calls_total` by outcome.
    pub calls: BTreeMap<String, f64>,
    /// `mt5_errors_total` by type.
    pub errors: BTreeMap<String, f64>,
    /// `mt5_session_queue_depth` by account.
    pub queues: BTreeMap<String, f64>,
    /// `mt5_session_restarts_total` by reason.
    pub restarts: BTreeMap<String, f64>,
    /// `mt5_trades_total` by outcome.
    pub trades: BTreeMap<String, f64>,
    /// `mt5_trades_unknown`.
    pub trades_unknown: f64,
    /// The same by account, with the oldest.
    #[serde(skip)]
    pub unknown: BTreeMap<String, Unknown>,
    /// `system_cpu_usage_ratio`. `null`: not measured now.
    pub cpu_usage_ratio: Option<f64>,
    /// `system_memory_used_bytes`. `null`: not measured now.
    pub memory_used_bytes: Option<f64>,
    /// `system_memory_total_bytes`. `null`: not measured now.
    pub memory_total_bytes: Option<f64>,
    /// `process_resident_memory_bytes`. `null`: not measured now.
    pub resident_memory_bytes: Option<f64>,
    /// `system_disk_free_bytes` by mount point.
    pub disk_free_bytes: BTreeMap<String, f64>,
    /// `system_disk_size_bytes` by mount point.
    pub disk_size_bytes: BTreeMap<String, f64>,
    /// The last quarter of an hour, oldest first.
    pub history: Vec<Point>,
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

    /// Where everything stands that belongs to these accounts, or to none.
    pub fn overview(&self, catalog: &Catalog, accounts: &BTreeSet<String>) -> Overview {
        let visible = |metric: &Metric| accounts.contains(label(metric, "account"));
        let logins = accounts.iter().map(|account| {
            let of = |metric: &Metric| label(metric, "account") == account;
            (account.clone(), sums_where(&catalog.mt5_logins_total, "outcome", of))
        });
        let queues = catalog.queue_depths().into_iter();
        let unknown = sums_where(&catalog.mt5_trades_unknown, "account", visible);
        let oldest = &catalog.mt5_trades_unknown_oldest_timestamp_seconds;
        let oldest = sums_where(oldest, "account", visible);
        Overview {
            sessions: sums_where(&catalog.mt5_pool_sessions, "state", visible),
            logins: logins.collect(),
            calls: sums_where(&catalog.mt5_calls_total, "outcome", visible),
            errors: sums_where(&catalog.mt5_errors_total, "type", visible),
            queues: queues.filter(|(account, _)| accounts.contains(account)).collect(),
            restarts: sums_where(&catalog.mt5_session_restarts_total, "reason", visible),
            trades: sums_where(&catalog.mt5_trades_total, "outcome", visible),
            trades_unknown: unknown.values().sum(),
            unknown: unknown
                .into_iter()
                .map(|(account, count)| {
                    let oldest = oldest.get(&account).copied().unwrap_or_default();
                    (account, Unknown { count: count as u64, oldest })
                })
                .collect(),
            cpu_usage_ratio: measured(&catalog.system_cpu_usage_ratio),
            memory_used_bytes: measured(&catalog.system_memory_used_bytes),
            memory_total_bytes: measured(&catalog.system_memory_total_bytes),
            resident_memory_bytes: measured(&catalog.process_resident_memory_bytes),
            disk_free_bytes: sums(&catalog.system_disk_free_bytes, "mountpoint"),
            disk_size_bytes: sums(&catalog.system_disk_size_bytes, "mountpoint"),
            history: self.points.iter().map(|kept| kept.of(accounts)).collect(),
        }
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
        for metric in metrics(&catalog.mt5_calls_total) {
            let of = accounts.entry(label(&metric, "account").to_owned()).or_default();
            of.calls += value(&metric);
            if label(&metric, "outcome") != "success" {
                of.errors += value(&metric);
            }
        }
        for metric in metrics(&catalog.mt5_session_restarts_total) {
            let of = accounts.entry(label(&metric, "account").to_owned()).or_default();
            *of.restarts.entry(label(&metric, "reason").to_owned()).or_default() += value(&metric);
        }
        let mut durations: BTreeMap<u64, u64> = BTreeMap::new();
        for metric in metrics(&catalog.mt5_call_duration_seconds) {
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

/// A quantile of cumulative buckets, as PromQL's `histogram_quantile` gives it:
/// linear within a bucket, the last finite bound beyond it.
fn quantile(buckets: &[(f64, u64)], quantile: f64) -> Option<f64> {
    let count = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = quantile * count as f64;
    let at = buckets.iter().position(|(_, cumulative)| *cumulative as f64 >= rank)?;
    let (start, below) = if at == 0 { (0.0, 0) } else { buckets[at - 1] };
    let (end, cumulative) = buckets[at];
    if end.is_infinite() {
        return Some(start);
    }
    let inside = (cumulative - below) as f64;
    Some(if inside == 0.0 { end } else { start + (end - start) * (rank - below as f64) / inside })
}

fn metrics(family: &impl Collector) -> Vec<Metric> {
    family.collect().into_iter().flat_map(|mut family: MetricFamily| family.take_metric()).collect()
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let labels = metric.get_label().iter();
    labels.filter(|label| label.name() == name).map(|label| label.value()).next().unwrap_or("")
}

/// A counter's or gauge's value; the other one is 0.
fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

/// A sum, unless there is nothing to sum.
fn measured(family: &impl Collector) -> Option<f64> {
    let metrics = metrics(family);
    (!metrics.is_empty()).then(|| metrics.iter().map(value).sum())
}

fn total(family: &impl Collector) -> f64 {
    metrics(family).iter().map(value).sum()
}

fn sums(family: &impl Collector, by: &str) -> BTreeMap<String, f64> {
    sums_where(family, by, |_| true)
}

fn sums_where(
    family: &impl Collector,
    by: &str,
    counts: impl Fn(&Metric) -> bool,
) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for metric in metrics(family).iter().filter(|metric| counts(metric)) {
        *sums.entry(label(metric, by).to_owned()).or_default() += value(metric);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::LabelSets;

    #[test]
    fn a_quantile_is_where_prometheus_puts_it() {
        let buckets = [(0.1, 50), (0.5, 90), (1.0, 100), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.1));
        assert_eq!(quantile(&buckets, 0.95), Some(0.75));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 4)], 0.5), Some(0.1));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn an_overview_holds_the_accounts_that_were_asked_for_and_what_belongs_to_none() {
        let options = crate::metrics::Options {
            enabled: true,
            status_labels: crate::metrics::StatusLabels::Exact,
            duration_buckets: vec![0.1],
            call_buckets: vec![0.1],
        };
        let accounts = [("a".to_owned(), 1), ("b".to_owned(), 1)];
        let catalog = Catalog::new(&options, &accounts, &LabelSets::default()).unwrap();
        let mut history = History::default();
        history.tick(&catalog);
        for (account, calls, unknown) in [("a", 1, 0), ("b", 2, 3)] {
            let labels = [account, "version", "success"];
            catalog.mt5_calls_total.with_label_values(&labels).inc_by(calls);
            catalog.mt5_session_restarts_total.with_label_values(&[account, "hang"]).inc_by(calls);
            catalog.mt5_pool_sessions.with_label_values(&[account, "ready"]).set(1);
            catalog.mt5_trades_unknown.with_label_values(&[account]).set(unknown);
        }
        history.tick(&catalog);
        let cases = [
            (names(["a"]), 1.0, 0, vec![("a", "hang", 1)]),
            (names(["b"]), 2.0, 3, vec![("b", "hang", 2)]),
            (names(["a", "b"]), 3.0, 3, vec![("a", "hang", 1), ("b", "hang", 2)]),
            (names([]), 0.0, 0, vec![]),
        ];
        for (accounts, calls, unknown, restarts) in cases {
            let overview = history.overview(&catalog, &accounts);
            let sum: f64 = overview.calls.values().sum();
            assert_eq!((sum, overview.trades_unknown), (calls, f64::from(unknown)), "{accounts:?}");
            assert!(overview.unknown.keys().eq(&accounts) && overview.logins.keys().eq(&accounts));
            let [point] = &overview.history[..] else { panic!("{:?}", overview.history) };
            let seen: Vec<(&str, &str, u64)> = point
                .restarts
                .iter()
                .map(|one| (one.account.as_str(), one.reason.as_str(), one.count))
                .collect();
            assert_eq!(seen, restarts);
            assert_eq!(point.ready_sessions, accounts.len() as f64);
            assert_eq!(point.calls_per_second > 0.0, calls > 0.0);
            assert_eq!((overview.cpu_usage_ratio, point.cpu_usage_ratio), (None, None));
        }
    }

    proptest! {
        #[test]
        fn quantiles_ascend_and_stay_within_the_bounds(counts in proptest::collection::vec(0u64..50, 1..8)) {
            let mut cumulative = 0;
            let mut buckets: Vec<(f64, u64)> = counts.iter().enumerate().map(|(index, count)| {
                cumulative += count;
                (index as f64 + 1.0, cumulative)
            }).collect();
            buckets.push((f64::INFINITY, cumulative));
            let [low, middle, high] = [0.5, 0.95, 0.99].map(|at| quantile(&buckets, at));
            prop_assert!(low <= middle && middle <= high);
            prop_assert!(high.is_none_or(|high| high <= counts.len() as f64));
            prop_assert_eq!(low.is_none(), cumulative == 0);
        }
    }
}
