//! The monitoring kit of `docs/operations`: rules and dashboards as they are
//! shipped, in a real Prometheus that scrapes gateways under traffic.

mod story;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mt5_gateway::metrics::catalog::FAMILIES;
use serde_json::{Value, json};

use crate::common::Gateway;
use crate::prometheus::Prometheus;
use crate::tools::{modules, program, worker};

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
    for name in names(&alerts, "- alert: ") {
        for how in ["fires", "is quiet"] {
            assert!(tests.contains(&format!("- name: {name} {how}")), "{name} {how} is not tested");
        }
    }
    assert!(
        !alerts.contains("interval:") && !text("prometheus/recording.yml").contains("interval:")
    );
}

/// The anchors that a page's headings have on the usual forges.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len() && text.starts_with(' ')).then(|| text.trim().to_lowercase())
    });
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    headings
        .map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_runbook_is_below_the_one_base_and_exists() {
    let alerts = text("prometheus/alerts.yml");
    let links = names(&alerts, "runbook_url: ");
    assert_eq!(links.len(), names(&alerts, "- alert: ").len(), "each alert has one");
    for (name, link) in names(&alerts, "- alert: ").iter().zip(&links) {
        let below = link.strip_prefix("\"{{ $externalLabels.runbook_base }}/");
        let below = below.and_then(|rest| rest.strip_suffix('"'));
        let below = below.unwrap_or_else(|| panic!("{name}: {link} is not below the base"));
        let (path, anchor) = below.split_once('#').unwrap_or((below, ""));
        let page = operations().parent().unwrap().join(path);
        let page = std::fs::read_to_string(&page)
            .unwrap_or_else(|error| panic!("{name}: {}: {error}", page.display()));
        assert!(anchors(&page).contains(anchor), "{name}: {path} has no heading {anchor}");
        assert_eq!(anchor, name.to_lowercase(), "{name} has a section of its own");
    }
    for page in ["prometheus/prometheus.yml", "monitoring.md"] {
        assert!(text(page).contains("\n    runbook_base: "), "{page} shows the base");
    }
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

/// A panel's expression as Grafana sends it.
fn filled(expression: &str, rate_interval: &str) -> String {
    let query = expression
        .replace("$instance", ".*")
        .replace("$account", ".*")
        .replace("$__rate_interval", rate_interval);
    assert!(!query.contains('$'), "{query}");
    query
}

const DASHBOARDS: [&str; 3] =
    ["grafana/service.json", "grafana/pool.json", "grafana/accounts.json"];

#[test]
fn every_metric_in_rules_and_dashboards_exists() {
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
    // A worker has processes.
    let modules = modules().display().to_string();
    let busy = Gateway::start_with(
        &format!(
            "[metrics]\nsampler_interval = '500ms'\naccount_values = true\n[server]\n\
             probe_interval = '500ms'\n[accounts.demo]\nlogin = 5001\nserver = 'S'\n\
             sessions = 2\n[accounts.demo.terminal]\nkind = 'simulator'\n{}",
            worker("real", "", "")
        ),
        &[("PYTHONPATH", &modules)],
    );
    busy.wait_ready();
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
            // A login that Prometheus sees, while another session serves.
            let logins = "mt5_login_duration_seconds_count";
            has_data(
                &busy,
                &prometheus,
                logins,
                &format!("{logins}{{instance=\"{}\"}}", busy.address),
            );
            assert_eq!(busy.post_with("/api/v1/accounts/demo/restart", &[]).status, 202);
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
                    let query = filled(&expression, "10s");
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
