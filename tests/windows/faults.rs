//! Terminals that are not there, hang, die, or show something else than they should.

use std::time::Duration;

use mt5_gateway::mt5::Method;
use serde_json::json;

use crate::double::Fault;
use crate::stage::{ACCOUNT, Stage, account, start};

fn buy() -> serde_json::Value {
    json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1})
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn without_a_terminal_state_metrics_and_log_say_so() {
    let settings = "[restart]\nbackoff = '10ms'\nbackoff_max = '20ms'\nbudget = 2\n";
    let missing = std::path::Path::new("/no/such/terminal64.exe");
    // Without a path the package looks for an installed terminal.
    let installed = account("installed", missing, "", "").replace("login = 5001", "login = 5002");
    let installed: String = installed
        .lines()
        .filter(|line| !line.starts_with("path"))
        .map(|line| format!("{line}\n"))
        .collect();
    let gateway = start(&format!("{settings}{}{installed}", account("real", missing, "", "")));
    gateway.eventually("it is quarantined", || {
        let account = gateway.get(ACCOUNT).text();
        (account.contains("quarantined") && account.contains("ipc_initialize")).then_some(())
    });
    let errors = r#"mt5_errors_total{account="real",method="initialize",type="ipc_initialize"}"#;
    assert!(gateway.metric(errors) >= 2.0);
    assert!(gateway.metric(r#"mt5_logins_total{account="real",outcome="failure"}"#) >= 2.0);
    gateway.logs("IPC initialize failed, MetaTrader 5 x64 not found");
    gateway.logs("MT5 error -10003 (ipc_initialize): IPC initialize failed, Process create failed");
    assert_eq!(gateway.get(&format!("{ACCOUNT}/account")).problem(), (503, "not-ready".into()));
    assert_eq!(gateway.get("/readyz").status, 503);
    assert_eq!(gateway.get("/livez").status, 200);
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_terminal_that_never_answers_is_given_up_after_the_gateways_own_limit() {
    // The package would wait for 100 s and more, whatever its own timeout says.
    let stage = Stage::set("[restart]\nbackoff = '10ms'\n", "init_timeout = '12s'", |double| {
        double.change(|switches| switches.faults.insert(Method::Initialize, Fault::Never));
    });
    let restarts = r#"mt5_session_restarts_total{account="real",reason="hang"}"#;
    stage.gateway.eventually("the worker is replaced", || {
        (stage.gateway.metric(restarts) >= 1.0).then_some(())
    });
    stage.double.change(|switches| switches.faults.clear());
    stage.gateway.wait_ready();
    assert_eq!(stage.get("/symbols/EURUSD/tick").status, 200);
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_read_on_which_the_terminal_hangs_or_dies_fails_alone() {
    for (fault, reason) in [(Fault::Never, Some("hang")), (Fault::DiesBefore, None)] {
        let stage = Stage::ready("[server]\ncall_timeout = '2s'\n[restart]\nbackoff = '10ms'\n");
        stage.double.change(|switches| switches.faults.insert(Method::SymbolsTotal, fault));
        let reply = stage.get("/symbols/total");
        assert!(matches!(reply.status, 502..=504), "{fault:?}: {}", reply.text());
        assert!(reply.took < Duration::from_secs(20), "{:?}", reply.took);
        stage.double.change(|switches| switches.faults.clear());
        stage.gateway.eventually("the account answers again", || {
            (stage.get("/symbols/total").status == 200).then_some(())
        });
        if let Some(reason) = reason {
            let series =
                format!(r#"mt5_session_restarts_total{{account="real",reason="{reason}"}}"#);
            assert_eq!(stage.gateway.metric(&series), 1.0);
        }
    }
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_refused_login_is_named_and_the_password_shown_nowhere() {
    let stage = Stage::set("", "", |double| {
        double.change(|switches| switches.refuses_login = true);
    });
    stage.gateway.eventually("the failure is shown", || {
        stage.gateway.get(ACCOUNT).text().contains("auth_failed").then_some(())
    });
    let errors = r#"mt5_errors_total{account="real",method="initialize",type="auth_failed"}"#;
    assert_eq!(stage.gateway.metric(errors), 1.0);
    let account = stage.gateway.get(ACCOUNT).text();
    assert!(!account.contains("correct horse") && !stage.gateway.log().contains("correct horse"));
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_terminal_that_lost_its_broker_is_not_ready_until_it_is_back() {
    let stage = Stage::ready("[server]\nprobe_interval = '200ms'\n");
    stage.double.change(|switches| switches.connected = false);
    let connected = || stage.gateway.metric(r#"mt5_terminal_connected{account="real"}"#);
    stage.gateway.eventually("it is noticed", || (connected() == 0.0).then_some(()));
    assert_eq!(stage.get("/account").problem(), (503, "not-ready".into()));
    assert_eq!(stage.trade("POST", "/orders", buy()).problem(), (503, "not-ready".into()));
    stage.double.change(|switches| switches.connected = true);
    stage.gateway.wait_ready();
    assert_eq!(connected(), 1.0);
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn nothing_is_traded_while_auto_trading_is_off() {
    // The terminal refuses what comes before the gateway has noticed.
    let stage = Stage::ready("[server]\nprobe_interval = '2s'\n");
    stage.double.change(|switches| switches.auto_trading = false);
    let refused = stage.trade("POST", "/orders", buy());
    if refused.status == 422 {
        assert_eq!(refused.json()["mt5"]["name"], "client_disables_at");
    }
    stage.gateway.eventually("it is noticed", || {
        let trading = stage.gateway.get(ACCOUNT).json()["trading"].clone();
        (trading["open"]["reasons"] == json!(["autotrading_off"])).then_some(())
    });
    let refused = stage.trade("POST", "/orders", buy());
    assert_eq!(refused.problem(), (403, "trading-not-allowed".into()), "{}", refused.text());
    // It is asked once more before the next refusal.
    stage.double.change(|switches| switches.auto_trading = true);
    assert_eq!(stage.trade("POST", "/orders", buy()).status, 201);
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn nothing_is_read_or_traded_on_another_account() {
    let stage = Stage::ready("[server]\nprobe_interval = '200ms'\n");
    stage.double.change(|switches| switches.shows = Some(666));
    stage.gateway.eventually("it is noticed", || {
        let account = stage.gateway.get(ACCOUNT).text();
        account.contains("logged in to account 666 instead of 5001").then_some(())
    });
    assert_eq!(stage.get("/positions").problem().0, 503);
    assert_eq!(stage.trade("POST", "/orders", buy()).problem().0, 503);
    stage.double.change(|switches| switches.shows = None);
    stage.gateway.wait_ready();
    assert_eq!(stage.trade("POST", "/orders", buy()).status, 201);
}
