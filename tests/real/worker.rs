//! Terminals behind Python workers.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Gateway, signal};
use crate::tools::{
    Server, children, free_port, lives, modules, program, python, worker, worker_of,
};

fn start(settings: &str, environment: &[(&str, &str)]) -> Gateway {
    let modules = modules().display().to_string();
    let mut all = vec![("PYTHONPATH", modules.as_str())];
    all.extend_from_slice(environment);
    Gateway::start_with(settings, &all)
}

fn ready(settings: &str, environment: &[(&str, &str)]) -> Gateway {
    let gateway = start(settings, environment);
    gateway.wait_ready();
    gateway
}

/// What each read route has to answer, as the test module itself says.
fn expected() -> HashMap<String, Value> {
    let output = Command::new(python()).arg(modules().join("expected.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn assert_reads(gateway: &Gateway) {
    for (path, expected) in expected() {
        let reply = gateway.get(&path.replace('*', "%2A"));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let mut answer = reply.json();
        if path.ends_with("/symbols/EURUSD") {
            // The worker selects it on first use, as expected.py did.
            answer["select"] = expected["select"].clone();
        }
        assert_eq!(answer, expected, "{path}");
    }
}

#[test]
fn every_read_route_returns_the_values_of_the_package() {
    let gateway = ready(&worker("real", "", ""), &[]);
    assert_reads(&gateway);
    gateway.logs("the package prints to standard output");
    assert!(!gateway.log().contains("correct horse"));
}

#[test]
fn a_package_with_another_layout_gives_the_same_values() {
    assert_reads(&ready(&worker("real", "", ""), &[("FAKE_MT5_LAYOUT", "1")]));
}

#[test]
fn every_read_route_returns_the_same_values_through_mt5linux() {
    let port = free_port();
    let _server = Server::start(
        Command::new(python())
            .arg(program("venv/bin/rpyc_classic.py"))
            .args(["--host", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONPATH", modules()),
        port,
    );
    let terminal = format!(
        "module = 'mt5linux:MetaTrader5'\nconnect = {{ host = '127.0.0.1', port = {port} }}"
    );
    assert_reads(&ready(&worker("real", "", &terminal), &[]));
}

#[test]
fn a_worker_killed_under_load_is_back_without_a_wrong_answer() {
    let gateway = ready(&worker("real", "sessions = 2", ""), &[]);
    let stop = AtomicBool::new(false);
    let path = "/api/v1/accounts/real/symbols/EURUSD/tick";
    let right = gateway.get(path).json();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = HashMap::new();
                    while !stop.load(Ordering::Relaxed) {
                        let reply = gateway.get(path);
                        if reply.status == 200 {
                            assert_eq!(reply.json(), right);
                        }
                        *answers.entry(reply.status).or_insert(0) += 1;
                    }
                    answers
                })
            })
            .collect();
        let restarts = r#"mt5_session_restarts_total{account="real",reason="exit"}"#;
        // However this ends, the clients do, too.
        let kills = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 1..=3 {
                let workers = children(gateway.pid());
                signal(*workers.iter().find(|pid| lives(**pid)).unwrap(), "KILL");
                gateway.eventually("it is noticed", || {
                    (gateway.metric(restarts) == f64::from(kill)).then_some(())
                });
                gateway.wait_ready();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        kills.unwrap();
        for client in clients {
            let answers = client.join().unwrap();
            assert!(answers.keys().all(|status| [200, 502, 503].contains(status)), "{answers:?}");
            assert!(answers[&200] > 0);
        }
    });
}

#[test]
fn a_hung_terminal_fails_its_call_and_is_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("switch");
    std::fs::write(&switch, "").unwrap();
    let settings = format!("[server]\ncall_timeout = '2s'\n{}", worker("real", "sessions = 2", ""));
    let gateway = ready(
        &settings,
        &[("FAKE_MT5_HANG", "version"), ("FAKE_MT5_SWITCH", switch.to_str().unwrap())],
    );
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| gateway.get("/api/v1/accounts/real/version"));
        while !hung.is_finished() {
            assert_eq!(gateway.get("/api/v1/accounts/real/symbols/EURUSD/tick").status, 200);
        }
        let reply = hung.join().unwrap();
        assert_eq!(reply.problem(), (504, "terminal-timeout".to_owned()));
        assert!(reply.took < Duration::from_secs(3), "{:?}", reply.took);
    });
    gateway.wait_ready();
    assert_eq!(gateway.get("/api/v1/accounts/real/version").status, 200);
}

#[test]
fn a_wrong_password_is_counted_and_shown_nowhere() {
    let gateway = start(&worker("real", "", ""), &[("FAKE_MT5_PASSWORD", "another")]);
    gateway.eventually("the failure is counted", || {
        (gateway.metric(r#"mt5_logins_total{account="real",outcome="failure"}"#) == 1.0)
            .then_some(())
    });
    let errors = r#"mt5_errors_total{account="real",method="initialize",type="auth_failed"}"#;
    assert_eq!(gateway.metric(errors), 1.0);
    let account = gateway.get("/api/v1/accounts/real").text();
    assert!(account.contains("backing_off") && account.contains("auth_failed"), "{account}");
    assert!(!account.contains("correct horse") && !gateway.log().contains("correct horse"));
}

#[test]
fn a_login_to_another_account_is_not_accepted() {
    let gateway = start(&worker("real", "", ""), &[("FAKE_MT5_LOGIN", "666")]);
    gateway.eventually("it is noticed", || {
        let account = gateway.get("/api/v1/accounts/real").text();
        account.contains("logged in to account 666 instead of 5001").then_some(())
    });
    assert_eq!(gateway.get("/api/v1/accounts/real/account").problem().0, 503);
}

#[test]
fn a_terminal_without_its_broker_is_not_ready_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let offline = directory.path().join("offline");
    let settings = format!("[server]\nprobe_interval = '100ms'\n{}", worker("real", "", ""));
    let gateway = ready(&settings, &[("FAKE_MT5_OFFLINE", offline.to_str().unwrap())]);
    std::fs::write(&offline, "").unwrap();
    let connected = || gateway.metric(r#"mt5_terminal_connected{account="real"}"#);
    gateway.eventually("it is noticed", || (connected() == 0.0).then_some(()));
    assert_eq!(gateway.get("/api/v1/accounts/real/account").problem().0, 503);
    std::fs::remove_file(&offline).unwrap();
    gateway.wait_ready();
    assert_eq!(connected(), 1.0);
    assert_eq!(gateway.get("/api/v1/accounts/real").json()["sessions"][0]["restarts"], 0);
}

#[test]
fn a_worker_that_breaks_the_protocol_costs_one_error() {
    let script = modules().join("misbehaving_worker.py").display().to_string();
    let workers: String = ["cut", "huge", "twice", "lacking"]
        .iter()
        .map(|fault| {
            let command = [python().display().to_string(), script.clone(), (*fault).to_owned()];
            worker_of(&command, fault, "", "")
        })
        .collect();
    let gateway = ready(&workers, &[]);
    let tick =
        |account: &str| gateway.get(&format!("/api/v1/accounts/{account}/symbols/EURUSD/tick"));
    let restarts = |account: &str, reason: &str| {
        gateway.metric(&format!(
            r#"mt5_session_restarts_total{{account="{account}",reason="{reason}"}}"#
        ))
    };
    assert_eq!(tick("cut").problem(), (502, "terminal-died".to_owned()));
    assert_eq!(tick("huge").problem(), (502, "terminal-died".to_owned()));
    assert_eq!(tick("twice").status, 200);
    let lacking = tick("lacking");
    assert_eq!(lacking.problem(), (502, "terminal-answer-unusable".to_owned()));
    assert!(lacking.detail().contains("`time_msc`"), "{}", lacking.detail());
    for (account, reason) in [("cut", "exit"), ("huge", "protocol"), ("twice", "protocol")] {
        gateway.eventually(account, || (restarts(account, reason) == 1.0).then_some(()));
    }
    gateway.wait_ready();
    assert_eq!(restarts("lacking", "protocol") + restarts("lacking", "exit"), 0.0);
}

#[test]
fn a_worker_that_never_says_hello_is_restarted() {
    let script = modules().join("misbehaving_worker.py").display().to_string();
    let workers: String = ["silent", "rubbish"]
        .iter()
        .map(|fault| {
            let command = [python().display().to_string(), script.clone(), (*fault).to_owned()];
            worker_of(&command, fault, "", "init_timeout = '300ms'")
        })
        .collect();
    let settings = "[restart]\nbackoff = '10ms'\nbackoff_max = '10ms'\nbudget = 1000\n";
    let gateway = start(&format!("{settings}{workers}"), &[]);
    for (account, reason, least) in [("silent", "hang", 10.0), ("rubbish", "protocol", 1.0)] {
        let series =
            format!(r#"mt5_session_restarts_total{{account="{account}",reason="{reason}"}}"#);
        gateway.eventually(account, || (gateway.metric(&series) >= least).then_some(()));
    }
    // What does not answer is killed at once, and not asked to end first.
    assert!(!gateway.log().contains("the input closed"), "{}", gateway.log());
    assert_eq!(gateway.get("/livez").status, 200);
    // A module that is not there is named where the account is shown.
    let lacking = start(&worker("real", "", "module = 'no_such_module'"), &[]);
    lacking.eventually("the module is named", || {
        let account = lacking.get("/api/v1/accounts/real").text();
        account.contains("No module named 'no_such_module'").then_some(())
    });
    // A command that does not exist is no different.
    let nothing = start(&worker_of(&["/no/such/python".to_owned()], "real", "", ""), &[]);
    nothing.logs("cannot be started");
}

#[test]
fn an_old_python_is_told_what_the_worker_needs() {
    let command = [python(), modules().join("old.py")].map(|path| path.display().to_string());
    let gateway = start(&worker_of(&command, "real", "", ""), &[]);
    gateway.eventually("the version is named", || {
        let account = gateway.get("/api/v1/accounts/real").text();
        account
            .contains("the worker needs Python 3.9 or newer, this is 3.8.10: set `terminal.python`")
            .then_some(())
    });
}

#[test]
fn a_record_with_odd_values_is_repaired_and_returned_with_the_others() {
    let settings = worker("real", "trade = true", "");
    assert_repairs(&ready(&settings, &[("FAKE_MT5_ODD", "1")]));
}

/// The test module has records with odd values.
pub fn assert_repairs(gateway: &Gateway) {
    let get = |path: &str| {
        let reply = gateway.get(&format!("/api/v1/accounts/real{path}"));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    };
    let positions = get("/positions");
    assert_eq!(positions.as_array().unwrap().len(), 2, "{positions}");
    assert_eq!(positions[0]["comment"], "\u{fffd}");
    assert_eq!(positions[0]["swap"], 1.5);
    assert_eq!(positions[1]["comment"], "\u{fffd}");
    assert_eq!(positions[1]["magic"], -1);
    for position in positions.as_array().unwrap() {
        assert_eq!(&get(&format!("/positions/{}", position["ticket"])), position);
    }
    assert_eq!(get("/account")["name"], "\u{fffd}");

    let order = serde_json::json!({"symbol": "TRADED", "type": "BUY", "volume": 0.1});
    let placed = gateway.send("POST", "/api/v1/accounts/real/orders", Some(&order));
    assert_eq!(placed.status, 201, "{}", placed.text());
    assert_eq!(placed.json()["comment"], "\u{fffd}");

    // Two fields of positions, one of the account and one of the order's result, each once.
    let repaired = || gateway.log().matches("field repaired").count();
    gateway.eventually("each is logged", || (repaired() >= 4).then_some(()));
    assert_eq!(repaired(), 4, "{}", gateway.log());
}

#[test]
fn a_symbol_that_somebody_hides_is_selected_again() {
    let directory = tempfile::tempdir().unwrap();
    let hide = directory.path().join("hide");
    let gateway = ready(&worker("real", "", ""), &[("FAKE_MT5_HIDE", hide.to_str().unwrap())]);
    for read in ["tick", "rates?timeframe=M1&count=3", "ticks?count=3&from=1700000010", "book"] {
        let path = format!("/api/v1/accounts/real/symbols/EURUSD/{read}");
        let before = gateway.get(&path);
        assert_eq!(before.status, 200, "{read}: {before:?}");
        std::fs::write(&hide, "EURUSD").unwrap();
        let hidden = gateway.get(&path);
        assert_eq!(hidden.status, 200, "{read}: {hidden:?}");
        assert_eq!(hidden.json(), before.json(), "{read}");
        assert!(!hide.exists(), "{read} came without the terminal");
    }
}

#[test]
fn children_end_with_the_gateway_however_it_ends() {
    for (hang, end) in [(None, "TERM"), (None, "KILL"), (Some("symbol_info_tick"), "KILL")] {
        let environment: Vec<_> =
            hang.map(|method| ("FAKE_MT5_HANG", method)).into_iter().collect();
        let mut gateway = ready(&worker("real", "sessions = 2", ""), &environment);
        let workers = children(gateway.pid());
        assert_eq!(workers.len(), 2);
        if hang.is_some() {
            let url = gateway.url("/api/v1/accounts/real/symbols/EURUSD/tick");
            std::thread::spawn(move || ureq::get(url).call().is_ok());
            let depth = r#"mt5_session_queue_depth{account="real"}"#;
            gateway.eventually("it hangs", || (gateway.metric(depth) == 1.0).then_some(()));
        }
        gateway.signal(end);
        let status = gateway.wait();
        assert_eq!(status.code(), (end == "TERM").then_some(0));
        gateway.eventually("the workers are gone", || {
            workers.iter().all(|pid| !lives(*pid)).then_some(())
        });
    }
}

#[test]
fn a_worker_and_the_terminal_that_it_started_are_measured_while_they_live() {
    let settings =
        "[metrics]\nsampler_interval = '50ms'\n[restart]\nbackoff = '1h'\nbackoff_max = '1h'\n";
    let settings = format!("{settings}{}", worker("real", "sessions = 2", ""));
    let gateway = ready(&settings, &[("FAKE_MT5_PROGRAM", "1")]);
    let series = |what: &str, session: u8| {
        format!("mt5_terminal_{what}{{account=\"real\",session=\"{session}\"}}")
    };
    for session in [0, 1] {
        gateway.eventually("the terminal's memory is counted", || {
            let memory = gateway.metric(&series("resident_memory_bytes", session));
            (memory > 1e8).then_some(())
        });
        assert!(gateway.metric(&series("cpu_seconds_total", session)) > 0.0);
        let now = jiff::Timestamp::now().as_second() as f64;
        let age = now - gateway.metric(&series("start_time_seconds", session));
        assert!((-2.0..600.0).contains(&age), "{age}");
    }
    let (workers, before) = (children(gateway.pid()), gateway.metrics());
    assert_eq!(before.matches("\nmt5_terminal_resident_memory_bytes{").count(), 2, "{before}");
    signal(workers[0], "KILL");
    gateway.eventually("the series of one session are gone", || {
        let metrics = gateway.metrics();
        let left = |what: &str| metrics.matches(&format!("\nmt5_terminal_{what}{{")).count();
        let all = ["resident_memory_bytes", "cpu_seconds_total", "start_time_seconds"].map(left);
        (all == [1, 1, 1]).then_some(())
    });
}

#[test]
fn a_workers_process_shows_neither_password_nor_gateway_settings() {
    let gateway = ready(&worker("real", "", ""), &[("MT5_GATEWAY__RESTART__BUDGET", "7")]);
    let pid = children(gateway.pid())[0];
    for file in ["cmdline", "environ"] {
        let content = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let content = String::from_utf8_lossy(&content);
        assert!(
            !content.contains("correct horse") && !content.contains("MT5_GATEWAY__"),
            "{content}"
        );
    }
}
