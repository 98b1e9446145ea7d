//! What the console shows: where the families stand now, and how the last
//! quarter of an hour went, within a fixed amount of memory.

use std::collections::{BTreeMap, VecDeque};
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

/// One point of the history. `null`: there was nothing to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Unix seconds.
    pub time: f64,
    /// MT5 calls a second.
    pub calls_per_second: f64,
    /// MT5 calls without success a second.
    pub errors_per_second: f64,
    /// HTTP requests a second.
    pub requests_per_second: f64,
    /// Median time that MT5 calls took on the terminal, seconds.
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
    pub cpu_usage_ratio: f64,
    /// Memory in use on the machine, bytes.
    pub memory_used_bytes: f64,
}

/// Where the families stand. Sums over what is not named.
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
    /// `system_cpu_usage_ratio`.
    pub cpu_usage_ratio: f64,
    /// `system_memory_used_bytes`.
    pub memory_used_bytes: f64,
    /// `system_memory_total_bytes`.
    pub memory_total_bytes: f64,
    /// `process_resident_memory_bytes`.
    pub resident_memory_bytes: f64,
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
    calls: f64,
    errors: f64,
    requests: f64,
    /// Cumulative counts of `mt5_call_duration_seconds`, by upper bound.
    durations: Vec<(f64, u64)>,
}

/// The points so far.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
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

    /// Where everything stands.
    pub fn overview(&self, catalog: &Catalog) -> Overview {
        let accounts = sums(&catalog.mt5_logins_total, "account");
        let logins = accounts.into_keys().map(|account| {
            let of = |metric: &Metric| label(metric, "account") == account;
            (account.clone(), sums_where(&catalog.mt5_logins_total, "outcome", of))
        });
        Overview {
            sessions: sums(&catalog.mt5_pool_sessions, "state"),
            logins: logins.collect(),
            calls: sums(&catalog.mt5_calls_total, "outcome"),
            errors: sums(&catalog.mt5_errors_total, "type"),
            queues: catalog.queue_depths(),
            restarts: sums(&catalog.mt5_session_restarts_total, "reason"),
            trades: sums(&catalog.mt5_trades_total, "outcome"),
            trades_unknown: total(&catalog.mt5_trades_unknown),
            cpu_usage_ratio: total(&catalog.system_cpu_usage_ratio),
            memory_used_bytes: total(&catalog.system_memory_used_bytes),
            memory_total_bytes: total(&catalog.system_memory_total_bytes),
            resident_memory_bytes: total(&catalog.process_resident_memory_bytes),
            disk_free_bytes: sums(&catalog.system_disk_free_bytes, "mountpoint"),
            disk_size_bytes: sums(&catalog.system_disk_size_bytes, "mountpoint"),
            history: self.points.iter().copied().collect(),
        }
    }
}

impl Totals {
    fn read(catalog: &Catalog) -> Totals {
        let errors = |metric: &Metric| label(metric, "outcome") != "success";
        let mut durations: BTreeMap<u64, u64> = BTreeMap::new();
        for metric in metrics(&catalog.mt5_call_duration_seconds) {
            let histogram = metric.get_histogram();
            for bucket in histogram.get_bucket() {
                // Bounds are positive, so their bits are in their order.
                *durations.entry(bucket.upper_bound().to_bits()).or_default() +=
                    bucket.cumulative_count();
            }
            *durations.entry(f64::INFINITY.to_bits()).or_default() += histogram.get_sample_count();
        }
        let errors = sums_where(&catalog.mt5_calls_total, "outcome", errors);
        Totals {
            at: now(),
            calls: total(&catalog.mt5_calls_total),
            errors: errors.into_values().sum(),
            requests: total(&catalog.http_requests_total),
            durations: durations
                .into_iter()
                .map(|(bound, count)| (f64::from_bits(bound), count))
                .collect(),
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn point(catalog: &Catalog, before: &Totals, now: &Totals) -> Point {
    let elapsed = (now.at - before.at).max(0.001);
    let rate = |now: f64, before: f64| ((now - before) / elapsed).max(0.0);
    // Children that were not there before began at 0.
    let earlier: BTreeMap<u64, u64> =
        before.durations.iter().map(|(bound, count)| (bound.to_bits(), *count)).collect();
    let buckets: Vec<(f64, u64)> = now
        .durations
        .iter()
        .map(|(bound, count)| {
            let before = earlier.get(&bound.to_bits()).copied().unwrap_or(0);
            (*bound, count.saturating_sub(before))
        })
        .collect();
    Point {
        time: now.at,
        calls_per_second: rate(now.calls, before.calls),
        errors_per_second: rate(now.errors, before.errors),
        requests_per_second: rate(now.requests, before.requests),
        p50: quantile(&buckets, 0.5),
        p95: quantile(&buckets, 0.95),
        p99: quantile(&buckets, 0.99),
        queue_depth: catalog.queue_depths().into_values().sum(),
        ready_sessions: sums(&catalog.mt5_pool_sessions, "state").remove("ready").unwrap_or(0.0),
        cpu_usage_ratio: total(&catalog.system_cpu_usage_ratio),
        memory_used_bytes: total(&catalog.system_memory_used_bytes),
    }
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

    #[test]
    fn a_quantile_is_where_prometheus_puts_it() {
        let buckets = [(0.1, 50), (0.5, 90), (1.0, 100), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.1));
        assert_eq!(quantile(&buckets, 0.95), Some(0.75));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 4)], 0.5), Some(0.1));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
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
