//! Dashboards over a made-up story: calm, busy, calm. Each panel has to show the difference.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{DASHBOARDS, filled, panels};
use crate::prometheus::Prometheus;

/// From one sample to the next, seconds.
const STEP: u64 = 15;

/// How long the calm times before and after the busy one last, samples. Longer than the longest
/// range of a panel, an hour.
const CALM: u64 = 300;

/// How long the busy time lasts, samples.
const BUSY: u64 = 160;

/// What a series does: in calm times, and in the busy time between them.
enum Course {
    /// Grows by so much with each sample.
    Counts(f64, f64),
    /// Is that.
    Is(f64, f64),
    /// Is there and 1.
    Exists(bool, bool),
    /// The busy time's beginning, and 0 in calm times.
    BusySince,
    /// The present time, and in the busy time its beginning.
    Now,
    /// So many observations of so many seconds with each sample. Cumulative, by bounds of 0.001,
    /// 0.01, 0.1, 1, 10.
    Takes((u64, f64), (u64, f64)),
}

/// A gateway on which everything that a panel shows happens otherwise for a while.
const STORY: &[(&str, &str, Course)] = {
    use Course::{BusySince, Counts, Exists, Is, Now, Takes};
    const QUICK: (u64, f64) = (100, 0.005);
    const SLOW: (u64, f64) = (1_000, 5.0);
    &[
        ("http_requests_total", r#"handler="/a",method="GET",status="200""#, Counts(99.0, 500.0)),
        ("http_requests_total", r#"handler="/b",method="POST",status="503""#, Counts(1.0, 500.0)),
        ("http_request_duration_seconds", r#"handler="/a",method="GET""#, Takes(QUICK, SLOW)),
        ("http_request_duration_highr_seconds", "", Takes(QUICK, SLOW)),
        ("http_requests_inprogress", r#"handler="/a",method="GET""#, Is(1.0, 50.0)),
        ("http_request_size_bytes", r#"handler="/a""#, Takes(QUICK, SLOW)),
        ("http_response_size_bytes", r#"handler="/a""#, Takes(QUICK, SLOW)),
        ("http_connections_active", "", Is(2.0, 40.0)),
        ("http_connections_total", "", Counts(1.0, 30.0)),
        ("mt5_pool_size", r#"account="a""#, Is(4.0, 4.0)),
        ("mt5_pool_sessions", r#"account="a",state="ready""#, Is(4.0, 1.0)),
        ("mt5_pool_sessions", r#"account="a",state="backing_off""#, Is(0.0, 3.0)),
        ("mt5_terminal_connected", r#"account="a""#, Is(4.0, 1.0)),
        ("mt5_account_balance", r#"account="a""#, Is(1_000.0, 100.0)),
        ("mt5_account_equity", r#"account="a""#, Is(1_000.0, 100.0)),
        ("mt5_account_margin", r#"account="a""#, Is(10.0, 90.0)),
        ("mt5_account_margin_free", r#"account="a""#, Is(990.0, 10.0)),
        ("mt5_account_margin_level_ratio", r#"account="a""#, Is(100.0, 1.1)),
        ("mt5_account_profit", r#"account="a""#, Is(5.0, -900.0)),
        ("mt5_account_positions", r#"account="a""#, Is(1.0, 9.0)),
        ("mt5_account_orders", r#"account="a""#, Is(0.0, 4.0)),
        (
            "mt5_account_info",
            r#"account="a",currency="USD",leverage="100",margin_mode="hedging",trade_mode="demo""#,
            Exists(true, false),
        ),
        ("mt5_account_trade_allowed", r#"account="a",action="open""#, Is(1.0, 0.0)),
        ("mt5_account_trade_blocked", r#"account="a",reason="autotrading_off""#, Is(0.0, 1.0)),
        ("mt5_logins_total", r#"account="a",outcome="success""#, Counts(1.0, 1.0)),
        ("mt5_logins_total", r#"account="a",outcome="failure""#, Counts(0.0, 5.0)),
        ("mt5_login_duration_seconds", "", Takes(QUICK, SLOW)),
        (
            "mt5_calls_total",
            r#"account="a",method="version",outcome="success""#,
            Counts(99.0, 500.0),
        ),
        ("mt5_calls_total", r#"account="a",method="version",outcome="error""#, Counts(1.0, 500.0)),
        ("mt5_call_duration_seconds", r#"method="version""#, Takes(QUICK, SLOW)),
        ("mt5_call_queue_seconds", r#"method="version""#, Takes(QUICK, SLOW)),
        (
            "mt5_errors_total",
            r#"account="a",method="version",type="not_found""#,
            Counts(1.0, 500.0),
        ),
        ("mt5_trade_results_total", r#"account="a",retcode="done""#, Counts(1.0, 20.0)),
        ("mt5_trades_total", r#"account="a",outcome="executed""#, Counts(1.0, 20.0)),
        ("mt5_trades_unknown", r#"account="a""#, Is(0.0, 3.0)),
        ("mt5_trades_unknown_oldest_timestamp_seconds", r#"account="a""#, BusySince),
        ("mt5_terminal_resident_memory_bytes", r#"account="a",session="0""#, Is(1e8, 9e8)),
        ("mt5_terminal_cpu_seconds_total", r#"account="a",session="0""#, Counts(0.1, 10.0)),
        ("mt5_terminal_start_time_seconds", r#"account="a",session="0""#, Now),
        ("mt5_session_restarts_total", r#"account="a",reason="hang""#, Counts(0.01, 1.0)),
        ("mt5_session_queue_depth", r#"account="a""#, Is(1.0, 60.0)),
        ("mt5_calls_rejected_total", r#"account="a",reason="queue_full""#, Counts(0.0, 10.0)),
        ("system_cpu_usage_ratio", "", Is(0.1, 0.9)),
        ("system_memory_used_bytes", "", Is(1e9, 7e9)),
        ("system_memory_total_bytes", "", Is(8e9, 16e9)),
        ("system_disk_free_bytes", r#"mountpoint="/""#, Is(9e10, 1e10)),
        ("system_disk_size_bytes", r#"mountpoint="/""#, Is(1e11, 2e11)),
        ("process_cpu_seconds_total", "", Counts(0.1, 10.0)),
        ("process_resident_memory_bytes", "", Is(1e7, 9e7)),
        ("process_threads", "", Is(8.0, 80.0)),
        ("process_open_fds", "", Is(20.0, 900.0)),
        ("process_start_time_seconds", "", Is(1e9, 2e9)),
        ("gateway_build_info", r#"version="1",revision="a""#, Exists(true, false)),
        ("gateway_build_info", r#"version="2",revision="b""#, Exists(false, true)),
        ("gateway_actor_mailbox_depth", r#"actor="pool""#, Is(0.0, 70.0)),
        ("gateway_actor_restarts_total", r#"actor="pool""#, Counts(0.0, 1.0)),
        ("gateway_sampler_duration_seconds", "", Takes(QUICK, SLOW)),
        ("gateway_sampler_errors_total", r#"group="disk""#, Counts(0.0, 1.0)),
        ("gateway_sampler_last_success_timestamp_seconds", "", Now),
        ("gateway_journal_write_duration_seconds", "", Takes(QUICK, SLOW)),
        ("gateway_scrape_duration_seconds", "", Takes(QUICK, SLOW)),
        ("gateway_scrapes_rejected_total", "", Counts(0.0, 10.0)),
        ("gateway_metrics_series", "", Is(500.0, 5_000.0)),
    ]
};

/// The story's samples in OpenMetrics' format, from this moment on.
fn story(start: u64) -> String {
    const BOUNDS: [f64; 5] = [0.001, 0.01, 0.1, 1.0, 10.0];
    let mut text = String::new();
    for (name, labels, course) in STORY {
        let mut lines: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
        let (mut total, mut sum, mut buckets) = (0.0, 0.0, [0; BOUNDS.len()]);
        for sample in 0..=2 * CALM + BUSY {
            let time = start + sample * STEP;
            let is_busy = (CALM + 1..=CALM + BUSY).contains(&sample);
            let mut put = |suffix: &str, bound: &str, value: f64| {
                let labels = [r#"instance="gw:8080""#, bound, labels];
                let labels: Vec<&str> = labels.into_iter().filter(|one| !one.is_empty()).collect();
                let series = format!("{name}{suffix}{{{}}}", labels.join(","));
                lines.entry(series).or_default().push((time, value));
            };
            let busy_since = start + CALM * STEP;
            match *course {
                Course::Counts(calm, busy) => {
                    total += if is_busy { busy } else { calm };
                    put("", "", total);
                }
                Course::Is(calm, busy) => put("", "", if is_busy { busy } else { calm }),
                Course::Exists(calm, busy) => {
                    if if is_busy { busy } else { calm } {
                        put("", "", 1.0);
                    }
                }
                Course::BusySince => put("", "", if is_busy { busy_since as f64 } else { 0.0 }),
                Course::Now => put("", "", if is_busy { busy_since } else { time } as f64),
                Course::Takes(calm, busy) => {
                    let (count, each) = if is_busy { busy } else { calm };
                    total += count as f64;
                    sum += count as f64 * each;
                    for (bound, bucket) in BOUNDS.iter().zip(&mut buckets) {
                        *bucket += if each <= *bound { count } else { 0 };
                        put("_bucket", &format!("le=\"{bound}\""), *bucket as f64);
                    }
                    put("_bucket", "le=\"+Inf\"", total);
                    put("_sum", "", sum);
                    put("_count", "", total);
                }
            }
        }
        for (series, samples) in lines {
            for (time, value) in samples {
                writeln!(text, "{series} {value} {time}").unwrap();
            }
        }
    }
    text + "# EOF\n"
}

/// Whether a value, or its absence, changed by a third in the busy time and came back after it.
fn moves(before: Option<f64>, busy: Option<f64>, after: Option<f64>) -> bool {
    let number = |value: Option<f64>| value.filter(|value| !value.is_nan()).unwrap_or(0.0);
    let (before, busy, after) = (number(before), number(busy), number(after));
    let scale = before.abs().max(busy.abs());
    (busy - before).abs() > scale / 3.0 && (after - before).abs() < scale / 20.0
}

#[test]
fn every_panel_changes_with_the_metric_that_it_shows() {
    let length = (2 * CALM + BUSY) * STEP;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = now.as_secs() - length - 60;
    let prometheus = Prometheus::remembering(&story(start));
    let times = [CALM, CALM + BUSY, 2 * CALM + BUSY].map(|sample| start + sample * STEP);
    let mut still = Vec::new();
    for dashboard in DASHBOARDS {
        for (title, expression) in panels(dashboard) {
            let query = filled(&expression, "1m");
            let [before, busy, after] = times.map(|time| prometheus.query_at(&query, time));
            let mut series = before.keys().chain(busy.keys());
            let of = |values: &BTreeMap<String, f64>, one: &String| values.get(one).copied();
            if !series.any(|one| moves(of(&before, one), of(&busy, one), of(&after, one))) {
                still.push(format!(
                    "{dashboard}, {title}: {query}\n  {before:?}\n  {busy:?}\n  {after:?}"
                ));
            }
        }
    }
    assert!(still.is_empty(), "{} panels do not move:\n{}", still.len(), still.join("\n"));
}
