//! Orders that reduce risk need no quote.

use serde_json::{Value, json};

use super::{ACCOUNT, Broker, QUICK, buy};

#[test]
fn closing_and_cancelling_need_neither_quote_nor_symbol() {
    for control in [json!({"quiet": "never"}), json!({"symbol": null})] {
        let broker = Broker::start(QUICK, "", json!({}));
        let ticket = broker.position();
        let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 1.0, "magic": 9});
        let order = broker.trade("POST", "/orders", limit).json()["order"].clone();
        broker.control(control.clone());
        let position = format!("/positions/{ticket}");
        let pending = format!("/orders/{order}");
        for (method, path, body) in [
            ("PUT", &position, json!({"sl": 1.0})),
            ("PUT", &pending, json!({"price": 0.9})),
            ("DELETE", &pending, Value::Null),
            ("DELETE", &position, Value::Null),
        ] {
            let reply = broker.trade(method, path, body);
            assert_eq!(reply.status, 200, "{control} {method} {path}: {}", reply.text());
        }
        let sends = broker.sends();
        assert_eq!(sends[3]["magic"], 9, "a change keeps the order's own magic");
        assert!(sends[5]["price"] == 0.0 || control["symbol"].is_null(), "{}", sends[5]);
    }
}

#[test]
fn a_quote_of_zeros_is_reported_as_no_quote() {
    let broker = Broker::start(QUICK, "", json!({"quiet": "never"}));
    let tick = broker.gateway.get(&format!("{ACCOUNT}/symbols/EURUSD/tick"));
    assert_eq!(tick.problem(), (503, "no-quote".into()));
    let order = broker.trade("POST", "/orders", buy(0.1));
    assert_eq!(order.problem(), (503, "no-quote".into()), "{}", order.text());
    assert_eq!(broker.sends(), [] as [Value; 0]);
    // Where the server wants a price, a close without one is not sent.
    broker.control(json!({}));
    let ticket = broker.position();
    broker.control(json!({"quiet": "never", "symbol": {"trade_exemode": 1}}));
    let close = broker.trade("DELETE", &format!("/positions/{ticket}"), Value::Null);
    assert_eq!(close.problem(), (503, "no-quote".into()), "{}", close.text());
}

#[test]
fn a_resting_order_under_exchange_execution_uses_filling_return() {
    let broker = Broker::start(QUICK, "", json!({"symbol": {"trade_exemode": 3}}));
    let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 1.0});
    assert_eq!(broker.trade("POST", "/orders", limit).status, 201);
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
    let policies: Vec<Value> =
        broker.sends().into_iter().map(|sent| sent["type_filling"].clone()).collect();
    assert_eq!(policies, [2, 0]);
}
