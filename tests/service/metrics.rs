//! `/metrics` itself.

use std::io::{Read, Write};
use std::net::TcpStream;

use mt5_gateway::metrics::catalog::FAMILIES;

use crate::common::Gateway;

const TICK: &str = "/api/v1/accounts/demo/symbols/EURUSD/tick";

#[test]
fn an_answered_request_is_in_the_next_scrape() {
    let gateway = Gateway::ready("");
    for _ in 0..3 {
        gateway.get(TICK);
    }
    gateway.get("/api/v1/accounts/demo/symbols/NOPE/tick");
    let handler = "/api/v1/accounts/{account}/symbols/{symbol}/tick";
    for (series, expected) in [
        (format!(r#"http_requests_total{{handler="{handler}",method="GET",status="200"}}"#), 3.0),
        (format!(r#"http_requests_total{{handler="{handler}",method="GET",status="404"}}"#), 1.0),
        (
            format!(r#"http_request_duration_seconds_count{{handler="{handler}",method="GET"}}"#),
            4.0,
        ),
        (format!(r#"http_requests_inprogress{{handler="{handler}",method="GET"}}"#), 0.0),
        (
            r#"mt5_calls_total{account="demo",method="symbol_info_tick",outcome="success"}"#.into(),
            3.0,
        ),
        (
            r#"mt5_calls_total{account="demo",method="symbol_info_tick",outcome="error"}"#.into(),
            1.0,
        ),
        (
            r#"mt5_errors_total{account="demo",method="symbol_info_tick",type="not_found"}"#.into(),
            1.0,
        ),
        (r#"mt5_logins_total{account="demo",outcome="success"}"#.into(), 1.0),
        (r#"mt5_logins_total{account="demo",outcome="failure"}"#.into(), 0.0),
        (r#"mt5_pool_size{account="demo"}"#.into(), 1.0),
        (r#"mt5_pool_sessions{account="demo",state="ready"}"#.into(), 1.0),
        (r#"mt5_pool_sessions{account="demo",state="starting"}"#.into(), 0.0),
        (r#"mt5_terminal_connected{account="demo"}"#.into(), 1.0),
        (r#"mt5_session_queue_depth{account="demo"}"#.into(), 0.0),
        (r#"gateway_actor_restarts_total{actor="session"}"#.into(), 0.0),
    ] {
        assert_eq!(gateway.metric(&series), expected, "{series}");
    }
    let metrics = gateway.metrics();
    for family in [
        "system_cpu_usage_ratio ",
        "system_memory_used_bytes ",
        "system_memory_total_bytes ",
        "system_disk_free_bytes{mountpoint=",
        "system_disk_size_bytes{mountpoint=",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_threads ",
        "process_start_time_seconds ",
        "process_open_fds ",
        "process_max_fds ",
        "gateway_sampler_last_success_timestamp_seconds ",
        "gateway_build_info{",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(family)), "{family} is missing");
    }
    #[cfg(target_os = "linux")]
    {
        let threads = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().count();
        let told = gateway.metric("process_threads");
        // Threads for blocking work come and go.
        assert!((told - threads as f64).abs() <= 3.0, "{told} is not about {threads}");
    }
}

#[test]
fn metrics_have_the_exact_content_type_and_gzip_on_request() {
    let gateway = Gateway::ready("");
    let plain = gateway.get("/metrics");
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(plain.header("content-encoding"), "");
    let packed = gateway.get_with("/metrics", &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(packed.body.len() * 3 < plain.body.len());
}

#[test]
fn every_family_with_closed_labels_is_exported_from_the_start() {
    let metrics = Gateway::ready("").metrics();
    for family in FAMILIES {
        let is_exported = metrics.contains(&format!("\n# TYPE {} ", family.name));
        // Children by method or route appear on first use, by session with a worker; what the machine has not, it lacks.
        let appears_on_use =
            ["method", "handler", "session"].iter().any(|open| family.labels.contains(open));
        let depends = ["system_", "process_"].iter().any(|of| family.name.starts_with(of));
        let depends = depends || is_money(family.name);
        assert!(is_exported || appears_on_use || depends, "{} has no child", family.name);
    }
}

/// Whether a family shows what an account has. It has children only while that is known, and only if the
/// settings say so.
fn is_money(family: &str) -> bool {
    family.starts_with("mt5_account_") && !family.starts_with("mt5_account_trade_")
}

#[test]
fn the_money_of_accounts_is_exported_only_if_the_settings_say_so() {
    let shown = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        let lines = metrics.lines().filter(|line| !line.starts_with('#') && is_money(line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let gateway = Gateway::ready("");
    assert_eq!(shown(&gateway), [""; 0]);

    let gateway =
        Gateway::ready("[metrics]\naccount_values = true\n[server]\nprobe_interval = '50ms'\n");
    let account = gateway.get("/api/v1/accounts/demo/account").json();
    let value = |family: &str| gateway.metric(&format!("{family}{{account=\"demo\"}}"));
    assert_eq!(value("mt5_account_balance"), account["balance"].as_f64().unwrap());
    let info = "mt5_account_info{account=\"demo\",currency=\"USD\",leverage=\"100\",\
                margin_mode=\"hedging\",trade_mode=\"demo\"}";
    assert_eq!(gateway.metric(info), 1.0);
    // Nothing ties up money, so there is no level.
    assert!(!gateway.metrics().contains("mt5_account_margin_level_ratio{"));
    let order = |kind: &str, price: Option<f64>| {
        let mut body = serde_json::json!({"symbol": "EURUSD", "type": kind, "volume": 0.1});
        if let Some(price) = price {
            body["price"] = price.into();
        }
        assert_eq!(gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&body)).status, 201);
    };
    order("BUY", None);
    order("BUY_LIMIT", Some(0.5));
    gateway.eventually("the probe has seen them", || {
        let metrics = gateway.metrics();
        let has = |line: &str| metrics.contains(&format!("\n{line}"));
        let all = has("mt5_account_positions{account=\"demo\"} 1\n")
            && has("mt5_account_orders{account=\"demo\"} 1\n")
            && has("mt5_account_margin_level_ratio{account=\"demo\"} ");
        all.then_some(())
    });
    assert!(value("mt5_account_margin") > 0.0);
    let level = value("mt5_account_equity") / value("mt5_account_margin");
    let shown_level = value("mt5_account_margin_level_ratio");
    assert!((shown_level / level - 1.0).abs() < 0.01, "{shown_level} {level}");
}

#[test]
fn money_that_is_not_known_any_more_is_not_exported() {
    let settings = crate::pool::simulator("demo", 1, "faults.symbols_get = { kind = 'exit' }")
        + "\n[metrics]\naccount_values = true\n[restart]\nbackoff = '1h'\nbackoff_max = '1h'\n";
    let gateway = Gateway::ready(&settings);
    assert!(gateway.metric("mt5_account_balance{account=\"demo\"}") > 0.0);
    let money = || gateway.get("/api/v1/console").json()["accounts"][0]["money"].clone();
    assert!(money()["equity"].as_f64().is_some_and(|equity| equity > 0.0), "{}", money());
    assert_eq!(gateway.get("/api/v1/accounts/demo/symbols").status, 502);
    gateway.eventually("it is gone", || {
        (!gateway.metrics().contains("mt5_account_balance{")).then_some(())
    });
    assert!(money().is_null());
}

#[test]
fn the_number_of_series_is_exported() {
    let gateway = Gateway::ready("");
    gateway.metrics();
    let before = gateway.metrics();
    let series = before.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(gateway.metric("gateway_metrics_series"), series as f64);
}

#[test]
fn scrapes_are_limited_per_address() {
    let gateway = Gateway::start_with(
        "",
        &[
            ("MT5_GATEWAY__METRICS__RATE_LIMIT_BURST", "2"),
            ("MT5_GATEWAY__METRICS__RATE_LIMIT_PER_SECOND", "1"),
        ],
    );
    gateway.wait_ready();
    let replies: Vec<_> = (0..10).map(|_| gateway.get("/metrics")).collect();
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(refused.len() >= 7, "{}", refused.len());
    assert_eq!(refused[0].problem(), (429, "too-many-requests".to_owned()));
    assert!(refused[0].header("retry-after").parse::<u64>().unwrap() >= 1);
    let counted = gateway.eventually("a scrape is let through", || {
        let reply = gateway.get("/metrics");
        (reply.status == 200)
            .then(|| crate::common::metric(&reply.text(), "gateway_scrapes_rejected_total"))
    });
    assert!(counted >= refused.len() as f64);
}

#[test]
fn scrapes_are_answered_while_every_terminal_hangs() {
    let gateway =
        Gateway::ready(&crate::pool::simulator("demo", 1, "faults.version = { kind = 'hang' }"));
    let mut hanging = TcpStream::connect(gateway.address).unwrap();
    write!(hanging, "GET /api/v1/accounts/demo/version HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    gateway.eventually("the call is under way", || {
        (gateway.metric(r#"mt5_session_queue_depth{account="demo"}"#) == 1.0).then_some(())
    });
    assert_eq!(gateway.get("/metrics").status, 200);
    assert_eq!(gateway.get("/livez").status, 200);
    let progress =
        r#"http_requests_inprogress{handler="/api/v1/accounts/{account}/version",method="GET"}"#;
    assert_eq!(gateway.metric(progress), 1.0);
    // A client that leaves is recorded, too.
    drop(hanging);
    gateway.eventually("the client is gone", || (gateway.metric(progress) == 0.0).then_some(()));
    let left = r#"http_requests_total{handler="/api/v1/accounts/{account}/version",method="GET",status="499"}"#;
    assert_eq!(gateway.metric(left), 1.0);
}

#[test]
fn buckets_disks_and_status_labels_follow_the_settings() {
    let off = Gateway::start("[metrics]\nenabled = false\n");
    off.eventually("it is ready", || (off.get("/readyz").status == 200).then_some(()));
    assert_eq!(off.get("/metrics").problem(), (404, "not-found".to_owned()));

    let shaped = Gateway::ready(
        "[metrics]\nstatus_labels = 'class'\nduration_buckets = [0.5, 7.0]\ncall_buckets = [0.25]\ndisks = ['/nowhere', '/']\n",
    );
    shaped.get("/nothing");
    let metrics = shaped.metrics();
    assert!(metrics.contains(r#"http_requests_total{handler="none",method="GET",status="4xx"} 1"#));
    assert!(
        metrics.contains(
            r#"http_request_duration_seconds_bucket{handler="none",method="GET",le="7"} 1"#
        )
    );
    assert!(
        metrics.contains(r#"mt5_call_duration_seconds_bucket{method="initialize",le="0.25"} 1"#)
    );
    // One disk that is not there stops neither the other nor the rest.
    assert!(metrics.contains(r#"system_disk_size_bytes{mountpoint="/"}"#), "{metrics}");
    assert!(metrics.contains("system_memory_total_bytes "));
    assert!(shaped.metric(r#"gateway_sampler_errors_total{group="disk"}"#) >= 1.0);
}

#[test]
fn bytes_are_counted_as_sent() {
    let gateway = Gateway::ready("");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    write!(stream, "GET {TICK} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let sum = r#"http_response_size_bytes_sum{handler="/api/v1/accounts/{account}/symbols/{symbol}/tick"}"#;
    assert_eq!(gateway.metric(sum), body.len() as f64);
}
