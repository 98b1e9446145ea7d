//! What Prometheus itself makes of `/metrics`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Gateway, PATIENCE};
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
fn the_exposition_passes_promtool() {
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

/// A running Prometheus.
pub struct Prometheus {
    _server: Server,
    _directory: tempfile::TempDir,
    port: u16,
}

impl Prometheus {
    /// Starts one with a configuration, beside which these files lie.
    pub fn start(configuration: &str, files: &[(&str, &str)]) -> Prometheus {
        Self::start_in(tempfile::tempdir().unwrap(), configuration, files)
    }

    /// Starts one that scrapes nothing and has these samples, in OpenMetrics' format.
    pub fn remembering(samples: &str) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("samples"), samples).unwrap();
        let output = Command::new(program("prometheus/usr/bin/promtool"))
            .current_dir(directory.path())
            .args(["tsdb", "create-blocks-from", "openmetrics", "samples", "data"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self::start_in(directory, "global: {}\n", &[])
    }

    fn start_in(
        directory: tempfile::TempDir,
        configuration: &str,
        files: &[(&str, &str)],
    ) -> Prometheus {
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("prometheus.yml"), configuration).unwrap();
        for (name, content) in files {
            std::fs::write(at(name), content).unwrap();
        }
        let port = free_port();
        let server = Server::start(
            Command::new(program("prometheus/usr/bin/prometheus"))
                .arg(format!("--config.file={}", at("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", at("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
            port,
        );
        // It listens before it has read its storage, and answers "Service Unavailable" until then.
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        let begun = Instant::now();
        while ureq::get(&ready).call().is_err() {
            assert!(begun.elapsed() < PATIENCE, "prometheus is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Prometheus { _server: server, _directory: directory, port }
    }

    /// The values of a query.
    ///
    /// # Errors
    /// What Prometheus finds wrong with it.
    pub fn query(&self, expression: &str) -> Result<Vec<f64>, String> {
        self.query_with(expression, &[])
            .map(|values| values.into_iter().map(|(_, value)| value).collect())
    }

    /// The values of a query at a time in unix seconds, by their labels as JSON.
    pub fn query_at(&self, expression: &str, time: u64) -> BTreeMap<String, f64> {
        let values = self.query_with(expression, &[("time", &time.to_string())]);
        values.unwrap_or_else(|error| panic!("{expression}: {error}")).into_iter().collect()
    }

    fn query_with(
        &self,
        expression: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<(String, f64)>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.get(url).query("query", expression);
        for (name, value) in parameters {
            request = request.query(*name, *value);
        }
        let mut reply = request.call().map_err(|error| error.to_string())?;
        let body = reply.body_mut().read_to_vec().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let result = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let values = result.iter().filter_map(|one| {
            Some((one["metric"].to_string(), one["value"][1].as_str()?.parse().ok()?))
        });
        Ok(values.collect())
    }
}

#[test]
fn prometheus_scrapes_the_series_of_the_traffic() {
    let gateway = busy();
    let target = gateway.address;
    let configuration = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: mt5-gateway\n    \
         static_configs: [{{ targets: ['{target}'] }}]\n"
    );
    let prometheus = Prometheus::start(&configuration, &[]);
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
        gateway.eventually(expression, || {
            (prometheus.query(expression) == Ok(vec![expected])).then_some(())
        });
    }
}
