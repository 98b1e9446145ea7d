//! Never late: a trade that cannot be sent in time is withdrawn.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ACCOUNT, Broker, buy};
use crate::common::signal;
use crate::tools::children;

#[test]
fn a_trade_past_send_within_is_withdrawn_and_its_problem_says_where_the_time_went() {
    let settings = "[trading]\nsend_within = '600ms'\n";
    let broker = Broker::start(settings, "", json!({}));
    broker.control(json!({"slow": {"symbol_info": 0.4, "account_info": 0.4}}));
    let late = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(late.problem(), (503, "trade-not-sent".into()), "{}", late.text());
    assert!(late.json()["spent_seconds"]["preparation"].as_f64().unwrap() >= 0.4);
    assert_ne!(late.header("retry-after"), "");
    let trade = broker.read(&format!("/trades/{}", late.json()["trade_id"].as_str().unwrap()));
    assert_eq!(trade["state"], "not-sent");
    assert_eq!(broker.sends(), [] as [Value; 0]);
    let counted = "mt5_trades_total{account=\"real\",outcome=\"not_sent\"}";
    assert_eq!(broker.gateway.metric(counted), 1.0);
    // Its client knows, so that the key is free.
    broker.control(json!({}));
    let again = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, ""), "{}", again.text());
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn send_within_shortens_the_limit_and_closing_has_a_longer_one() {
    let settings = "[trading]\nsend_within = '1s'\nsend_within_close = '5s'\n";
    let broker = Broker::start(settings, "", json!({}));
    let ticket = broker.position();
    for bad in ["", "0", "-1", "1.1", "soon", "nan", "inf"] {
        let reply = broker.keyed("bad", &buy(0.1), &[("send-within", bad)]);
        assert_eq!(reply.status, 400, "{bad}");
        assert!(reply.detail().contains("Send-Within"), "{}", reply.detail());
    }
    broker.control(json!({"slow": {"symbol_info": 0.5}}));
    let short = broker.keyed("short", &buy(0.1), &[("send-within", "0.3")]);
    assert_eq!(short.problem(), (503, "trade-not-sent".into()));
    broker.control(json!({"slow": {"symbol_info": 1.2}}));
    assert_eq!(broker.keyed("long", &buy(0.1), &[]).status, 503);
    let path = format!("/positions/{ticket}");
    assert_eq!(broker.trade("DELETE", &path, Value::Null).status, 200);
}

#[test]
fn a_worker_that_reads_a_trade_too_late_withdraws_it() {
    let broker = Broker::start("[trading]\nsend_within = '500ms'\n", "", json!({"stalls": 1}));
    let late = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(late.problem(), (503, "trade-not-sent".into()), "{}", late.text());
    assert_eq!(broker.sends(), [] as [Value; 0]);
}

#[test]
fn a_suspended_gateway_or_worker_sends_nothing_late() {
    let slow = json!({"slow": {"account_info": 0.5}});
    let broker = Broker::start("[trading]\nsend_within = '1s'\n", "", json!({}));
    let gateway = broker.gateway.pid();
    let worker = children(gateway)[0];
    broker.control(slow);
    for stopped in [vec![worker], vec![gateway], vec![gateway, worker]] {
        let reply = std::thread::scope(|scope| {
            let client = scope.spawn(|| broker.trade("POST", "/orders", buy(0.1)));
            // The intent is on disk, and the slow `account_info` before `order_send` is under way.
            broker.gateway.eventually("the trade is being sent", || {
                (broker.read("/trades?state=sending") != json!([])).then_some(())
            });
            stopped.iter().for_each(|pid| signal(*pid, "STOP"));
            // Longer than `send_within`, which only time can bring.
            std::thread::sleep(Duration::from_millis(1_200));
            stopped.iter().for_each(|pid| signal(*pid, "CONT"));
            client.join().unwrap()
        });
        assert_eq!(reply.problem(), (503, "trade-not-sent".into()), "{}", reply.text());
        broker.gateway.eventually("the terminal answers", || {
            (broker.gateway.get(&format!("{ACCOUNT}/positions")).status == 200).then_some(())
        });
    }
    assert_eq!(broker.sends(), [] as [Value; 0]);
}

#[test]
fn a_repeat_after_a_504_never_places_a_new_order() {
    let settings = "[trading]\nsend_within = '500ms'\n";
    let broker = Broker::start(settings, "", json!({}));
    broker.control(json!({"slow": {"symbol_info": 0.8}}));
    let asked = broker.keyed("k", &buy(0.1), &[("request-timeout", "0.2")]);
    assert_eq!(asked.problem(), (504, "outcome-unknown".into()));
    broker.state(&asked.json()["trade_id"], "not-sent");
    broker.control(json!({}));
    let by_key = broker.read("/trades?idempotency_key=k");
    assert_eq!((&by_key[0]["state"], by_key.as_array().unwrap().len()), (&json!("not-sent"), 1));
    // The client does not know yet, so this is a question, an hour later as well.
    let told = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(told.problem(), (503, "trade-not-sent".into()));
    assert_eq!(told.header("idempotent-replayed"), "true");
    assert_eq!(told.json()["trade_id"], asked.json()["trade_id"]);
    assert_eq!(broker.sends(), [] as [Value; 0]);
    let order = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!((order.status, order.header("idempotent-replayed")), (201, ""));
    assert_ne!(order.json()["trade_id"], asked.json()["trade_id"]);
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_trade_does_not_wait_for_a_hung_primary_while_another_session_is_idle() {
    let broker = Broker::start("[server]\ncall_timeout = '20s'\n", "sessions = 2", json!({}));
    broker.control(json!({"hangs_once": "positions_get"}));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let headers = [("request-timeout", "3")];
            broker.gateway.get_with(&format!("{ACCOUNT}/positions"), &headers)
        });
        broker.gateway.eventually("the primary hangs", || {
            let control: Value =
                serde_json::from_slice(&std::fs::read(&broker.control).unwrap()).unwrap();
            control["hangs_once"].is_null().then_some(())
        });
        let begun = Instant::now();
        let placed = broker.trade("POST", "/orders", buy(0.1));
        assert_eq!(placed.status, 201, "{}", placed.text());
        assert!(begun.elapsed() < Duration::from_secs(4), "within its time");
        // A read after the trade sees it.
        assert_eq!(broker.read("/positions").as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_locked_journal_delays_no_trade_beyond_send_within() {
    let broker = Broker::start("[trading]\nsend_within = '700ms'\n", "", json!({}));
    let file = broker.gateway.directory.path().join("data/journal.sqlite");
    let holder = rusqlite::Connection::open(file).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let statuses: Vec<(u16, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let broker = &broker;
                scope.spawn(move || {
                    broker.keyed(&format!("k{number}"), &buy(0.1), &[("request-timeout", "4")])
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(1_500));
        holder.execute_batch("ROLLBACK").unwrap();
        clients.into_iter().map(|client| client.join().unwrap().problem()).collect()
    });
    let not_sent = |problem: &(u16, String)| {
        matches!(problem.1.as_str(), "trade-not-sent" | "journal-unavailable")
    };
    assert!(statuses.iter().all(not_sent), "{statuses:?}");
    assert_eq!(broker.sends(), [] as [Value; 0]);
    // No key is burnt by what was not sent.
    let again = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k0", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn no_trade_is_sent_after_the_journal_file_was_removed() {
    let broker = Broker::start("", "", json!({}));
    assert_eq!(broker.keyed("one", &buy(0.1), &[]).status, 201);
    let file = broker.gateway.directory.path().join("data/journal.sqlite");
    std::fs::remove_file(file).unwrap();
    let refused = broker.keyed("two", &buy(0.1), &[]);
    assert_eq!(refused.problem(), (503, "journal-unavailable".into()));
    assert!(refused.detail().contains("is gone"), "{}", refused.detail());
    assert_eq!(broker.sends().len(), 1);
}
