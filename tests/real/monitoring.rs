//! The monitoring kit of `docs/operations`: rules and dashboards as they are
//! shipped, in a real Prometheus that scrapes gateways under traffic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mt5_gateway::metrics::catalog::FAMILIES;
use serde_json::{Value, json};

use crate::common::Gateway;
use crate::prometheus::Prometheus;
use crate::tools::program;

fn operations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(operations().join(path)).unwrap()
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(program("prometheus/usr/bin/promtool"))
        .current_dir(operations().join("prometheus"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said.into_owned()
}

#[test]
fn rules_pass_lint_and_every_alert_is_tested() {
    promtool(&["check", "config", "prometheus.yml"]);
    for file in ["recording.yml", "alerts.yml"] {
        promtool(&["check", "rules", "--lint=all", "--lint-fatal", file]);
    }
    promtool(&["test", "rules", "tests/alerts_test.yml"]);
    let (alerts, tests) = (text("prometheus/alerts.yml"), text("prometheus/tests/alerts_test.yml"));
    let runbook = text("monitoring.md");
    for name in names(&alerts, "- alert: ") {
        for how in ["fires", "is quiet"] {
            assert!(tests.contains(&format!("- name: {name} {how}")), "{name} {how} is not tested");
        }
        assert!(runbook.contains(&format!("### {name}\n")), "monitoring.md lacks {name}");
        let link = format!("runbook_url: docs/operations/monitoring.md#{}\n", name.to_lowercase());
        assert!(alerts.contains(&link), "alerts.yml lacks {link}");
    }
    assert!(
        !alerts.contains("interval:") && !text("prometheus/recording.yml").contains("interval:")
    );
}

fn names(rules: &str, prefix: &str) -> Vec<String> {
    rules.lines().filter_map(|line| line.trim().strip_prefix(prefix)).map(str::to_owned).collect()
}

/// The expressions of a dashboard's panels, with the panels' titles.
fn panels(dashboard: &str) -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text(dashboard))
        .unwrap_or_else(|error| panic!("docs/operations/{dashboard}: {error}"));
    let panels = dashboard["panels"].as_array().unwrap();
    panels
        .iter()
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets
                .map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
        })
        .collect()
}

const DASHBOARDS: [&str; 2] = ["grafana/service.json", "grafana/pool.json"];

#[test]
fn every_metric_that_is_named_exists() {
    let families: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let recorded: BTreeSet<String> =
        names(&text("prometheus/recording.yml"), "- record: ").into_iter().collect();
    let mut sources = vec![
        ("recording.yml", text("prometheus/recording.yml")),
        ("alerts.yml", text("prometheus/alerts.yml")),
    ];
    for dashboard in DASHBOARDS {
        let expressions: Vec<String> =
            panels(dashboard).into_iter().map(|(_, expr)| expr).collect();
        sources.push((dashboard, expressions.join("\n")));
    }
    for (source, content) in sources {
        let lines = content.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        for (number, line) in lines {
            let unquoted: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            let word = |letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter));
            for name in unquoted.split(word) {
                let of_histogram = ["_bucket", "_sum", "_count"];
                let base = of_histogram.iter().find_map(|suffix| name.strip_suffix(suffix));
                let prefixes = ["http_", "mt5_", "system_", "process_", "gateway_"];
                let known = if name.trim_end_matches(':').contains(':') {
                    recorded.contains(name)
                } else if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                    families.contains(name) || base.is_some_and(|base| families.contains(base))
                } else {
                    true
                };
                assert!(known, "{source}:{}: there is no metric {name}", number + 1);
            }
        }
    }
}

/// Traffic of a healthy gateway: reads alone.
fn read(gateway: &Gateway) {
    for path in
        ["symbols/EURUSD/tick", "account", "positions", "symbols/EURUSD/rates?timeframe=H1&count=5"]
    {
        let reply = gateway.get(&format!("/api/v1/accounts/demo/{path}"));
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[test]
fn rules_and_panels_have_data_in_a_real_prometheus() {
    let healthy = Gateway::ready("[metrics]\nsampler_interval = '500ms'");
    let busy = Gateway::ready("[metrics]\nsampler_interval = '500ms'");
    let configuration = text("prometheus/prometheus.yml")
        .replace(": 15s", ": 500ms")
        .replace("127.0.0.1:8080\"", &format!("{}\", \"{}\"", healthy.address, busy.address));
    let (recording, alerts) = (text("prometheus/recording.yml"), text("prometheus/alerts.yml"));
    let prometheus = Prometheus::start(
        &configuration,
        &[("recording.yml", &recording), ("alerts.yml", &alerts)],
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                read(&healthy);
                read(&busy);
                busy.get("/api/v1/accounts/demo/symbols/NOPE/tick");
                let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.01});
                busy.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for name in names(&recording, "- record: ") {
                let query = format!("{name}{{instance=\"{}\"}}", healthy.address);
                has_data(&busy, &prometheus, &format!("recording rule {name}"), &query);
            }
            let ratio = format!(
                "instance:http_requests_errors:ratio_5m{{instance=\"{}\"}}",
                healthy.address
            );
            assert_eq!(prometheus.query(&ratio), Ok(vec![0.0]), "a ratio without failures is 0");
            for dashboard in DASHBOARDS {
                for (title, expression) in panels(dashboard) {
                    let query = expression
                        .replace("$instance", ".*")
                        .replace("$account", ".*")
                        .replace("$__rate_interval", "10s");
                    assert!(!query.contains('$'), "{dashboard}, {title}: {query}");
                    has_data(&busy, &prometheus, &format!("{dashboard}, {title}"), &query);
                }
            }
            assert_eq!(prometheus.query("ALERTS"), Ok(vec![]), "nothing is wrong");
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(failed) = looked {
            std::panic::resume_unwind(failed);
        }
    });
}

/// Waits until a query gives a number.
fn has_data(gateway: &Gateway, prometheus: &Prometheus, what: &str, query: &str) {
    gateway.eventually(&format!("{what} has data: {query}"), || {
        let values =
            prometheus.query(query).unwrap_or_else(|error| panic!("{what}: {query}: {error}"));
        values.iter().any(|value| !value.is_nan()).then_some(())
    });
}
