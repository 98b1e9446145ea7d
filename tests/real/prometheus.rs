//! What Prometheus itself makes of `/metrics`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::Gateway;
use crate::tools::{Server, free_port, modules, program, worker};

/// A gateway with a worker and a simulator, after traffic of every kind.
fn busy() -> Gateway {
    let settings = format!(
        "{}[accounts.sim]\nlogin = 1\nserver = 'S'\n[accounts.sim.terminal]\nkind = 'simulator'\n\
         faults.version = {{ kind = 'exit' }}\n",
        worker("real", "", "")
    );
    let gateway = Gateway::start_with(&settings, &[("PYTHONPATH", modules().to_str().unwrap())]);
    gateway.wait_ready();
    for path in [
        "/api/v1/accounts/real/symbols/EURUSD/tick",
        "/api/v1/accounts/real/symbols/EURUSD/tick",
        "/api/v1/accounts/real/symbols/NOPE/tick",
        "/api/v1/accounts/real/symbols/EURUSD/rates?timeframe=H1&count=0",
        "/api/v1/accounts/sim/version",
        "/nothing",
        "/docs/",
    ] {
        gateway.get(path);
    }
    gateway.wait_ready();
    gateway
}

#[test]
fn promtool_finds_nothing() {
    let gateway = busy();
    let mut promtool = Command::new(program("prometheus/usr/bin/promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(gateway.metrics().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn prometheus_scrapes_what_the_traffic_moved() {
    let gateway = busy();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let target = gateway.address;
    std::fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: mt5-gateway\n    \
             static_configs: [{{ targets: ['{target}'] }}]\n"
        ),
    )
    .unwrap();
    let port = free_port();
    let _server = Server::start(
        Command::new(program("prometheus/usr/bin/prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        port,
    );
    let query = |expression: &str| -> Option<f64> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let reply = ureq::get(url).query("query", expression).call().ok()?.body_mut().read_to_vec();
        let answer: Value = serde_json::from_slice(&reply.ok()?).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    for (expression, expected) in [
        ("up", 1.0),
        (r#"mt5_logins_total{account="real",outcome="success"}"#, 1.0),
        (r#"mt5_logins_total{account="sim",outcome="success"}"#, 2.0),
        (r#"mt5_calls_total{account="real",method="symbol_info_tick",outcome="success"}"#, 2.0),
        (r#"mt5_calls_total{account="real",method="symbol_info_tick",outcome="error"}"#, 1.0),
        (r#"mt5_calls_total{account="sim",method="version",outcome="died"}"#, 1.0),
        (r#"mt5_errors_total{account="real",method="symbol_info_tick",type="not_found"}"#, 1.0),
        (r#"mt5_errors_total{account="sim",method="version",type="terminal_died"}"#, 1.0),
        (r#"sum(mt5_pool_sessions{state="ready"})"#, 2.0),
    ] {
        gateway.eventually(expression, || (query(expression) == Some(expected)).then_some(()));
    }
}
