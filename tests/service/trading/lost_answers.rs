//! Trades whose answer is lost, and clients that do not wait for one.

use serde_json::json;

use super::{ACCOUNT, QUICK, buy, simulated};
use crate::common::Gateway;

#[test]
fn a_trade_with_a_lost_answer_is_decided_by_reconciliation() {
    let cases = [
        ("{ kind = 'hang', when = 'after', every = 2 }", "executed"),
        ("{ kind = 'exit', when = 'after', every = 2 }", "executed"),
        ("{ kind = 'code', code = -10001, when = 'after', every = 2 }", "executed"),
        ("{ kind = 'retcode', code = 10012, when = 'after', every = 2 }", "executed"),
        ("{ kind = 'hang', every = 2 }", "not-found"),
        ("{ kind = 'exit', every = 2 }", "not-found"),
        ("{ kind = 'retcode', code = 10031, every = 2 }", "not-found"),
    ];
    std::thread::scope(|scope| {
        for (fault, fate) in cases {
            scope.spawn(move || lose_an_answer(fault, fate));
        }
    });
}

fn lose_an_answer(fault: &str, fate: &str) {
    let gateway =
        Gateway::ready(&simulated(QUICK, &format!("faults = {{ order_send = {fault} }}")));
    assert_eq!(gateway.keyed("before", &buy(0.1)).status, 201, "a twin that came before");
    let lost = gateway.keyed("lost", &buy(0.1));
    if lost.status != 201 || !fault.contains("10012") {
        // An order whose ticket is in the answer is found before its client stops waiting.
        assert_eq!(lost.problem(), (504, "outcome-unknown".into()), "{fault}: {}", lost.text());
    }
    let trade = gateway.fate(&lost.json()["trade_id"], fate);
    let again = gateway.repeated("lost", &buy(0.1));
    assert_eq!(again.header("idempotent-replayed"), "true");
    gateway.eventually("a session is ready", || gateway.read("")["ready"].as_bool());
    gateway.eventually("positions are read", || {
        (gateway.get(&format!("{ACCOUNT}/positions/total")).status == 200).then_some(())
    });
    let positions = gateway.read("/positions");
    if fate == "executed" {
        assert_eq!((again.status, &again.json()["order"]), (201, &trade["result"]["order"]));
        assert!(
            positions
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["ticket"] == trade["result"]["order"])
        );
        assert_eq!(positions.as_array().unwrap().len(), 2);
    } else {
        assert_eq!(again.problem(), (409, "trade-not-found".into()), "{}", again.text());
        assert_eq!(positions.as_array().unwrap().len(), 1);
    }
    let label = fate.replace('-', "_");
    let ended = |outcome: &str| {
        gateway.metric(&format!("mt5_trades_total{{account=\"demo\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(ended(&label), if fate == "executed" { 2.0 } else { 1.0 });
    assert_eq!(gateway.metric("mt5_trades_unknown{account=\"demo\"}"), 0.0);
}

#[test]
fn an_unknown_trade_is_listed_and_counted_until_it_is_decided() {
    let head = QUICK.replace("400ms", "2s");
    let fault = "faults = { order_send = { kind = 'exit', when = 'before' } }";
    let gateway = Gateway::ready(&simulated(&head, fault));
    let lost = gateway.keyed("lost", &buy(0.1));
    assert_eq!(lost.status, 504);
    let unknown = gateway.read("/trades?state=unknown");
    assert_eq!(
        (&unknown[0]["trade_id"], &unknown[0]["idempotency_key"]),
        (&lost.json()["trade_id"], &json!("lost"))
    );
    assert_eq!(gateway.metric("mt5_trades_unknown{account=\"demo\"}"), 1.0);
    assert!(
        gateway.metric("mt5_trades_unknown_oldest_timestamp_seconds{account=\"demo\"}") > 1.7e9
    );
    assert_eq!(gateway.keyed("lost", &buy(0.1)).problem(), (504, "outcome-unknown".into()));
    gateway.fate(&lost.json()["trade_id"], "not-found");
    assert_eq!(gateway.metric("mt5_trades_unknown{account=\"demo\"}"), 0.0);
    assert_eq!(
        gateway.metric("mt5_trades_unknown_oldest_timestamp_seconds{account=\"demo\"}"),
        0.0
    );
    assert_eq!(gateway.get(&format!("{ACCOUNT}/trades?state=lost")).status, 400);
    assert_eq!(gateway.get(&format!("{ACCOUNT}/trades/none")).problem(), (404, "not-found".into()));
}

#[test]
fn a_client_deadline_ends_the_wait_and_not_the_trade() {
    let gateway = Gateway::ready(&simulated("", "latency = '500ms'"));
    let headers = [("request-timeout", "0.4"), ("idempotency-key", "k")];
    let path = format!("{ACCOUNT}/orders");
    let left = gateway.send_with("POST", &path, Some(&buy(0.1)), &headers);
    assert_eq!(left.problem(), (504, "outcome-unknown".into()));
    assert_eq!(gateway.keyed("k", &buy(0.1)).problem(), (409, "trade-under-way".into()));
    gateway.fate(&left.json()["trade_id"], "executed");
    assert_eq!(gateway.repeated("k", &buy(0.1)).status, 201);
    assert_eq!(gateway.read("/positions/total"), 1);
    // What turns out to be no trade at all is known not to have happened.
    let mut nonsense = buy(0.1);
    nonsense["symbol"] = json!("NOPE");
    let left = gateway.send_with("POST", &path, Some(&nonsense), &[("request-timeout", "0.05")]);
    assert_eq!(left.problem(), (504, "outcome-unknown".into()));
    let trade = gateway.fate(&left.json()["trade_id"], "not-sent");
    assert!(trade["detail"].as_str().unwrap().starts_with("it was not sent"), "{trade}");
}

#[test]
fn a_client_that_hangs_up_does_not_end_its_trade() {
    use std::io::Write;

    let gateway = Gateway::ready(&simulated("", "latency = '100ms'"));
    let body = buy(0.1).to_string();
    let request = format!(
        "POST {ACCOUNT}/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         idempotency-key: gone\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    gateway.eventually("the trade is under way", || {
        (gateway.read("/trades?state=sending") != json!([])).then_some(())
    });
    assert_eq!(gateway.keyed("gone", &buy(0.1)).problem(), (409, "trade-under-way".into()));
    drop(stream);
    let told = gateway.repeated("gone", &buy(0.1));
    assert_eq!((told.status, told.header("idempotent-replayed")), (201, "true"));
    assert_eq!(gateway.read("/positions/total"), 1);
}

#[test]
fn a_gateway_killed_between_intent_and_result_reconciles_before_it_trades() {
    let quick = simulated(&QUICK.replace("300ms", "20s"), "latency = '0ms'");
    let hanging = format!("{quick}faults = {{ order_send = {{ kind = 'hang' }} }}\n");
    let mut gateway = Gateway::ready(&hanging);
    let begun = gateway.send_with(
        "POST",
        &format!("{ACCOUNT}/orders"),
        Some(&buy(0.1)),
        &[("idempotency-key", "cut"), ("request-timeout", "0.5")],
    );
    assert_eq!(begun.status, 504);
    std::fs::write(gateway.directory.path().join("gateway.toml"), &quick).unwrap();
    gateway.kill_and_start(&[]);
    let refused = gateway.keyed("new", &buy(0.1));
    assert!(matches!(refused.problem().1.as_str(), "reconciling" | "not-ready"), "{refused:?}");
    assert_eq!(gateway.keyed("cut", &buy(0.1)).status, 504);
    gateway.fate(&begun.json()["trade_id"], "not-found");
    gateway.eventually("the account trades again", || {
        (gateway.keyed("new", &buy(0.1)).status == 201).then_some(())
    });
    assert_eq!(gateway.keyed("cut", &buy(0.1)).problem(), (409, "trade-not-found".into()));
}
