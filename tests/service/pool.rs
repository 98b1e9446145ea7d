//! Terminals that fail, and the calls on them.

use std::time::Duration;

use crate::common::{Gateway, Reply};

/// The settings of a simulated account.
pub fn simulator(name: &str, sessions: u32, terminal: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = 5001\nserver = 'S-{name}'\nsessions = {sessions}\n\
         [accounts.{name}.terminal]\nkind = 'simulator'\n{terminal}\n"
    )
}

fn restarts(gateway: &Gateway, account: &str, reason: &str) -> f64 {
    gateway
        .metric(&format!(r#"mt5_session_restarts_total{{account="{account}",reason="{reason}"}}"#))
}

#[test]
fn a_hung_call_ends_with_504_and_its_terminal_is_restarted() {
    let gateway = Gateway::ready(&format!(
        "[server]\ncall_timeout = '1s'\n{}{}",
        simulator("demo", 2, "faults.version = { kind = 'hang' }"),
        simulator("other", 1, ""),
    ));
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| {
            gateway.get_with("/api/v1/accounts/demo/version", &[("x-request-id", "hung-1")])
        });
        // Meanwhile the account's other session and the other account answer.
        let mut slowest = Duration::ZERO;
        while !hung.is_finished() {
            for account in ["demo", "other"] {
                let reply = gateway.get(&format!("/api/v1/accounts/{account}/symbols/EURUSD/tick"));
                assert_eq!(reply.status, 200, "{reply:?}");
                slowest = slowest.max(reply.took);
            }
        }
        assert!(slowest < Duration::from_millis(900), "a neighbour waited {slowest:?}");
        let reply = hung.join().unwrap();
        assert_eq!(reply.problem(), (504, "terminal-timeout".to_owned()));
        assert!(reply.took < Duration::from_secs(2), "{:?}", reply.took);
    });
    gateway.wait_ready();
    assert_eq!(restarts(&gateway, "demo", "hang"), 1.0);
    assert_eq!(restarts(&gateway, "other", "hang"), 0.0);
    assert_eq!(
        gateway.metric(r#"mt5_errors_total{account="demo",method="version",type="hang"}"#),
        1.0
    );
    assert_eq!(
        gateway.metric(r#"mt5_calls_total{account="demo",method="version",outcome="timeout"}"#),
        1.0
    );
    for event in ["terminal restarting", "reason=\"hang\"", "session ready", "login succeeded"] {
        gateway.logs(event);
    }
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("terminal restarting")).unwrap();
    assert!(line.contains("request_id=\"hung-1\""), "{line}");
}

#[test]
fn a_terminal_that_dies_fails_only_the_call_it_died_on() {
    let gateway = Gateway::ready(&simulator("demo", 1, "faults.version = { kind = 'exit' }"));
    assert_eq!(
        gateway.get("/api/v1/accounts/demo/version").problem(),
        (502, "terminal-died".to_owned())
    );
    let refused = gateway.get("/api/v1/accounts/demo/account");
    if refused.status != 200 {
        assert_eq!(refused.problem(), (503, "not-ready".to_owned()));
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    gateway.wait_ready();
    assert_eq!(gateway.get("/api/v1/accounts/demo/account").status, 200);
    assert_eq!(restarts(&gateway, "demo", "exit"), 1.0);
    let session = &gateway.get("/api/v1/accounts/demo").json()["sessions"][0];
    assert_eq!(session["restarts"], 1);
    assert!(session["last_error"]["message"].as_str().unwrap().contains("ended in version"));
}

#[test]
fn reads_behind_a_death_move_to_another_session() {
    let gateway = Gateway::ready(&format!(
        "[server]\nprobe_interval = '1h'\n[restart]\nbackoff = '20s'\nbackoff_max = '20s'\n{}",
        simulator("demo", 2, "latency = '3s'\nfaults.version = { kind = 'exit' }"),
    ));
    // All of these belong to the primary session, which dies on the first one.
    let behind = ["account", "positions", "orders"];
    let waiting = |calls: f64| {
        gateway.eventually("the calls are under way", || {
            let depth = gateway.metric(r#"mt5_session_queue_depth{account="demo"}"#);
            (depth == calls).then_some(())
        });
    };
    std::thread::scope(|scope| {
        let dies = scope.spawn(|| gateway.get("/api/v1/accounts/demo/version"));
        waiting(1.0);
        let moved = behind.map(|path| {
            let gateway = &gateway;
            scope.spawn(move || gateway.get(&format!("/api/v1/accounts/demo/{path}")))
        });
        waiting(4.0);
        assert_eq!(dies.join().unwrap().problem(), (502, "terminal-died".to_owned()));
        for reply in moved {
            let reply = reply.join().unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
    assert_eq!(restarts(&gateway, "demo", "exit"), 1.0);
}

#[test]
fn past_the_budget_a_session_is_quarantined_and_a_restart_frees_it() {
    let gateway = Gateway::start(&format!(
        "[restart]\nbackoff = '1ms'\nbackoff_max = '2ms'\nbudget = 3\n{}{}",
        simulator("demo", 1, "faults.initialize = { kind = 'exit' }"),
        simulator("well", 1, ""),
    ));
    let state = || gateway.get("/api/v1/accounts/demo").json()["sessions"][0]["state"].clone();
    gateway.eventually("quarantine", || (state() == "quarantined").then_some(()));
    assert_eq!(gateway.metric(r#"mt5_pool_sessions{account="demo",state="quarantined"}"#), 1.0);
    assert_eq!(gateway.metric(r#"mt5_logins_total{account="demo",outcome="failure"}"#), 4.0);
    gateway.logs("session quarantined");
    gateway.eventually("one ready account suffices", || {
        (gateway.get("/readyz").status == 200).then_some(())
    });
    let tried = || restarts(&gateway, "demo", "exit");
    let before = tried();
    assert_eq!(gateway.post_with("/api/v1/accounts/demo/restart", &[]).status, 202);
    gateway.eventually("it is tried again", || (tried() > before).then_some(()));
}

#[test]
fn a_refused_login_waits_a_minute() {
    let gateway = Gateway::start(&simulator(
        "demo",
        1,
        "faults.initialize = { kind = 'code', code = -6, message = 'Authorization failed' }",
    ));
    gateway.eventually("the failure is seen", || {
        (gateway.metric(r#"mt5_logins_total{account="demo",outcome="failure"}"#) == 1.0)
            .then_some(())
    });
    assert_eq!(
        gateway
            .metric(r#"mt5_errors_total{account="demo",method="initialize",type="auth_failed"}"#),
        1.0
    );
    let reply = gateway.get("/api/v1/accounts/demo/account");
    assert_eq!(reply.problem(), (503, "not-ready".to_owned()));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 50);
    let ready = gateway.get("/readyz");
    assert_eq!(ready.problem().0, 503);
    assert_eq!(ready.json()["accounts"]["demo"]["ready"], 0);
}

#[test]
fn neither_deadlines_nor_overload_restart_a_terminal() {
    let gateway = Gateway::ready(&format!(
        "reads.share = false\n{}\n",
        simulator("demo", 1, "latency = '20ms'").replace("sessions", "queue = 8\nsessions")
    ));
    let path = "/api/v1/accounts/demo/symbols/EURUSD/tick";
    let impatient = gateway.get_with(path, &[("request-timeout", "0.001")]);
    assert_eq!(impatient.problem(), (504, "deadline-passed".to_owned()));
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| gateway.get(path))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let full: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert!(!full.is_empty() && full.len() < 50, "{}", full.len());
    assert_eq!(full[0].problem(), (503, "queue-full".to_owned()));
    assert_eq!(full[0].header("retry-after"), "1");
    let rejected =
        gateway.metric(r#"mt5_calls_rejected_total{account="demo",reason="queue_full"}"#);
    assert_eq!(rejected, full.len() as f64);
    assert_eq!(gateway.get("/api/v1/accounts/demo").json()["sessions"][0]["restarts"], 0);
}

#[test]
fn mt5_errors_have_their_statuses() {
    let codes = [
        (-2, 400),
        (-4, 404),
        (-6, 503),
        (-7, 501),
        (-8, 403),
        (-10005, 504),
        (-1, 502),
        (-10003, 502),
        (-99, 502),
    ];
    let accounts: String = codes
        .iter()
        .map(|(code, _)| {
            let name = format!("code{}", -code);
            simulator(&name, 1, &format!("faults.version = {{ kind = 'code', code = {code} }}"))
        })
        .collect();
    let gateway = Gateway::ready(&accounts);
    for (code, status) in codes {
        let reply = gateway.get(&format!("/api/v1/accounts/code{}/version", -code));
        assert_eq!(reply.problem().0, status, "{code}");
        assert_eq!(reply.json()["mt5"]["code"], code);
    }
}

#[test]
fn a_restart_replaces_terminals_one_at_a_time_without_an_outage() {
    let gateway = Gateway::ready(&simulator("demo", 2, "latency = '5ms'"));
    let restart = || gateway.post_with("/api/v1/accounts/demo/restart", &[]);
    assert_eq!(restart().status, 202);
    while restarts(&gateway, "demo", "request") < 2.0 {
        let reply = gateway.get("/api/v1/accounts/demo/symbols/EURUSD/tick");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    gateway.wait_ready();
}

#[cfg(unix)]
#[test]
fn on_sigterm_calls_finish_and_new_ones_are_refused() {
    let mut gateway = Gateway::ready(&simulator("demo", 1, "latency = '700ms'"));
    let path = gateway.url("/api/v1/accounts/demo/symbols/EURUSD/tick");
    let call = std::thread::spawn(move || ureq::get(path).call().map(|reply| reply.status()));
    gateway.eventually("the call is under way", || {
        (gateway.metric(r#"mt5_session_queue_depth{account="demo"}"#) >= 1.0).then_some(())
    });
    gateway.signal("TERM");
    gateway.eventually("connections are refused", || {
        std::net::TcpStream::connect(gateway.address).is_err().then_some(())
    });
    assert_eq!(call.join().unwrap().unwrap(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
    for actor in ["session", "pool", "sampler", "metrics", "gateway"] {
        gateway.logs(&format!("actor stopped actor=\"{actor}\""));
    }
}

#[test]
fn a_busy_session_is_passed_over_until_the_others_are_full() {
    let gateway = Gateway::ready(
        "reads.share = false\nserver.probe_interval = '1h'\n\
         [accounts.demo]\nlogin = 1\nserver = 'S'\nsessions = 2\nqueue = 2\n\
         [accounts.demo.terminal]\nkind = 'simulator'\nlatency = '2s'",
    );
    // Of the primary session, which the first call belongs to, and of the other one.
    let depths = || {
        let sessions = gateway.get("/api/v1/accounts/demo").json()["sessions"].clone();
        let primary = usize::from(sessions[1]["primary"] == true);
        [primary, 1 - primary].map(|index| sessions[index]["queue_depth"].as_u64().unwrap())
    };
    let reach = |expected| {
        gateway.eventually("the calls are spread", || (depths() == expected).then_some(()));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(gateway.get("/api/v1/accounts/demo/version").status, 200));
        reach([1, 0]);
        // The session is passed over once it has been on the call for a tenth of a second.
        std::thread::sleep(Duration::from_millis(150));
        for expected in [[1, 1], [1, 2], [2, 2]] {
            scope.spawn(|| {
                let reply = gateway.get("/api/v1/accounts/demo/symbols/EURUSD/tick");
                assert_eq!(reply.status, 200, "{}", reply.text());
            });
            reach(expected);
        }
    });
}
