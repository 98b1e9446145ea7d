//! Terminals that are copied from a template, with MetaQuotes' package in between.

use mt5_gateway::mt5::Method;
use serde_json::json;

use crate::common::{Gateway, command};
use crate::double::{Double, Fault};
use crate::stage::{LOGIN, SERVER, copied_account, environment, installed, start};

/// As long as MT5's may be, with what a file or a command line would take for something else.
const PASSWORD: &str = "\"Pä ss'=w[ö]rd; \\u0041 %PATH% $HOME =☃= 0123456789 0123456789 01";

/// An empty folder with a template, and a gateway that was given nothing but settings.
fn set(sessions: usize) -> (tempfile::TempDir, Double, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(LOGIN, SERVER, 7);
    double.change(|switches| switches.password = Some(PASSWORD.to_owned()));
    let template = folder.path().join("Program Files/Börse");
    double.install(&template, &installed("terminal64.exe"));
    std::fs::create_dir_all(template.join("config")).unwrap();
    std::fs::write(template.join("config/accounts.dat"), "secret").unwrap();
    std::fs::write(template.join("config/common.ini"), "[Experts]\nEnabled=0\nApi=1\n").unwrap();
    let account = format!("trade = true\nsessions = {sessions}");
    let account = copied_account("real", &template, &account, PASSWORD);
    let gateway = start(&format!(
        "[server]\ncall_timeout = '3s'\n[restart]\nbackoff_max = '1s'\nbudget = 1000\n\
         [terminals]\ntemplate_interval = '1s'\n{account}"
    ));
    (folder, double, gateway)
}

fn open(gateway: &Gateway) -> serde_json::Value {
    gateway.get("/api/v1/accounts/real").json()["trading"]["open"].clone()
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn two_sessions_of_a_template_trade_without_a_hand_on_a_mouse() {
    let (folder, double, gateway) = set(2);
    gateway.wait_ready();
    gateway.eventually("it may trade", || {
        (open(&gateway) == json!({ "allowed": true, "reasons": [] })).then_some(())
    });
    // Of each terminal the process, and the package.
    gateway.eventually("two terminals run", || (double.connections() == 4).then_some(()));
    let order = json!({ "symbol": "EURUSD", "type": "BUY", "volume": 0.1 });
    let placed = gateway.send("POST", "/api/v1/accounts/real/orders", Some(&order));
    assert_eq!(placed.status, 201, "{}", placed.text());
    assert_eq!(gateway.get("/api/v1/accounts/real/terminal").json()["maxbars"], 100_000);

    // A new template reaches both.
    std::fs::write(folder.path().join("Program Files/Börse/new.dat"), "new").unwrap();
    let restarts = r#"mt5_session_restarts_total{account="real",reason="template"}"#;
    gateway.eventually("both are replaced", || (gateway.metric(restarts) == 2.0).then_some(()));
    gateway.wait_ready();
    let terminals = gateway.directory.path().join("data/terminals/real");
    for session in ["0", "1"] {
        assert!(terminals.join(session).join("new.dat").exists());
    }
    gateway.eventually("it may trade, although the terminal had written otherwise", || {
        (open(&gateway)["allowed"] == true).then_some(())
    });
    // However the gateway ends, its terminals end with it.
    drop(gateway);
    let begun = std::time::Instant::now();
    while double.connections() > 0 {
        assert!(begun.elapsed() < crate::common::PATIENCE, "{} are left", double.connections());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn what_is_wrong_with_a_copied_terminal_is_shown() {
    let (_folder, double, gateway) = set(1);
    gateway.wait_ready();
    gateway.eventually("it may trade", || (open(&gateway)["allowed"] == true).then_some(()));
    let reasons = |expected: &[&str]| {
        gateway.eventually(&format!("the reasons are {expected:?}"), || {
            (open(&gateway)["reasons"] == json!(expected)).then_some(())
        });
    };
    let doctor = |check: &str, result: &str, expected: &str| {
        gateway.eventually(&format!("doctor says {expected:?} of {check}"), || {
            let output = command(gateway.directory.path())
                .args(["--config", "gateway.toml", "doctor", "--json", "--url", &gateway.url("")])
                .envs(environment())
                .output()
                .unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let mut findings = report["checks"].as_array().unwrap().iter();
            let is_it = |finding: &&serde_json::Value| {
                let text = format!("{} -> {}", finding["found"], finding["remedy"]);
                finding["check"] == check && finding["result"] == result && text.contains(expected)
            };
            findings.find(is_it).map(drop)
        });
    };
    doctor("trade_permission", "ok", "orders can be sent");
    double.change(|switches| switches.auto_trading = false);
    reasons(&["autotrading_off"]);
    doctor("trade_permission", "failure", "autotrading_off");
    double.change(|switches| switches.auto_trading = true);
    reasons(&[]);
    double.change(|switches| switches.connected = false);
    reasons(&["not_connected"]);
    doctor("broker", "failure", "does not hear its broker");
    double.change(|switches| switches.connected = true);
    reasons(&[]);
    // Somebody logs in to another account in the terminal.
    double.change(|switches| switches.shows = Some(LOGIN + 1));
    gateway.eventually("the session is not ready", || {
        (gateway.get("/readyz?account=real&for=trade").status == 503).then_some(())
    });
    doctor("identity", "failure", &(LOGIN + 1).to_string());
    double.change(|switches| switches.shows = None);
    gateway.wait_ready();
    // It dies, and later it hangs, both times in a read and in the next logins.
    for fault in [Fault::DiesBefore, Fault::Never] {
        double.change(|switches| {
            for method in [Method::Version, Method::Initialize] {
                switches.faults.insert(method, fault);
            }
        });
        let reply = gateway.get("/api/v1/accounts/real/version");
        assert!([502, 504].contains(&reply.status), "{fault:?}: {}", reply.text());
        doctor("login", "failure", "");
        double.change(|switches| switches.faults.clear());
        gateway.wait_ready();
        gateway.eventually("it may trade", || (open(&gateway)["allowed"] == true).then_some(()));
    }
}
