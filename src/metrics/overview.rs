//! What the console shows: where the families stand now, and their history.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::Metric;
use serde::Serialize;
use utoipa::ToSchema;

use super::Catalog;
use super::history::{History, Point};
use super::reading::{label, measured, sums, sums_where};

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

impl Overview {
    /// Where everything stands that belongs to these accounts, or to none.
    pub fn read(catalog: &Catalog, history: &History, accounts: &BTreeSet<String>) -> Overview {
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
            history: history.points(accounts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::LabelSets;

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn an_overview_holds_the_accounts_that_were_asked_for_and_what_belongs_to_none() {
        let options = crate::metrics::Options {
            enabled: true,
            account_values: false,
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
            let overview = Overview::read(&catalog, &history, &accounts);
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
}
