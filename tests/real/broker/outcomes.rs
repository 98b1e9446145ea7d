//! Never wrong: what the gateway says about a trade is what happened.

use serde_json::{Value, json};

use super::{ACCOUNT, Broker, QUICK, buy};

#[test]
fn a_lost_change_is_superseded_if_its_position_closed_or_changed_since() {
    let broker = Broker::start(QUICK, "", json!({}));
    let (closed, changed) = (broker.position(), broker.position());
    broker.control(json!({"fault": "timeout before", "connected": true}));
    for (ticket, mut request, present) in [
        (
            closed,
            json!({"action": 1, "symbol": "EURUSD", "type": 1, "volume": 0.1, "price": 1.1}),
            Value::Null,
        ),
        (changed, json!({"action": 6, "symbol": "EURUSD", "sl": 1.05, "tp": 0.0}), json!(1.05)),
    ] {
        request["position"] = json!(ticket);
        let body = json!({"sl": 1.0});
        let path = format!("{ACCOUNT}/positions/{ticket}");
        let key = format!("change-{ticket}");
        let headers = [("idempotency-key", key.as_str())];
        let lost = broker.gateway.send_with("PUT", &path, Some(&body), &headers);
        assert_eq!(lost.status, 504, "{}", lost.text());
        broker.happens(request, json!({}));
        let trade = broker.state(&lost.json()["trade_id"], "superseded");
        assert_eq!(trade["present"].get("sl").unwrap_or(&Value::Null), &present, "{trade}");
        let told = broker.gateway.send_with("PUT", &path, Some(&body), &headers);
        assert_eq!(told.problem(), (409, "trade-superseded".into()));
        assert_eq!(told.json()["intended"]["sl"], 1.0);
    }
    let counted = "mt5_trades_total{account=\"real\",outcome=\"superseded\"}";
    assert_eq!(broker.gateway.metric(counted), 2.0);
}

#[test]
fn a_lost_change_that_did_not_take_effect_is_not_found_only_if_the_terminal_answered() {
    let broker = Broker::start(QUICK, "", json!({}));
    let path = format!("/positions/{}", broker.position());
    broker.control(json!({"fault": "connection before"}));
    let answered = broker.lose("PUT", &path, json!({"sl": 1.0}));
    broker.state(&answered, "not-found");
    broker.control(json!({"fault": "dies before"}));
    let died = broker.lose("PUT", &path, json!({"sl": 1.01}));
    broker.when(&died, "the search is inconclusive", |trade| {
        trade["detail"].as_str().is_some_and(|detail| detail.contains("may still deliver"))
    });
    broker.stays_unknown(&died);
    // It does, whoever did it: the change is in force.
    let ticket: u64 = path.rsplit('/').next().unwrap().parse().unwrap();
    broker.happens(
        json!({"action": 6, "symbol": "EURUSD", "position": ticket, "sl": 1.01, "tp": 0.0}),
        json!({}),
    );
    broker.state(&died, "executed");
}

#[test]
fn an_order_delivered_late_by_a_killed_terminal_is_never_reported_not_found() {
    let broker = Broker::start(QUICK, "", json!({"fault": "fills late"}));
    let lost = broker.keyed("late", &buy(0.1), &[]);
    assert_eq!(lost.problem(), (504, "outcome-unknown".into()));
    let trade_id = lost.json()["trade_id"].clone();
    broker.when(&trade_id, "it is executed", |trade| {
        assert_ne!(trade["state"], "not-found", "{trade}");
        trade["state"] == "executed"
    });
    let told = broker.keyed("late", &buy(0.1), &[]);
    assert_eq!((told.status, told.header("idempotent-replayed")), (201, "true"));
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_close_that_fills_in_two_deals_is_reported_whole_or_as_a_candidate() {
    let control = json!({"fills": [0.4, 0.6]});
    let broker = Broker::start(QUICK, "", control.clone());
    let (tagged, bare) = (broker.position(), broker.position());
    broker.control(json!({"fills": [0.4, 0.6], "fault": "dies after"}));
    let lost = broker.lose("DELETE", &format!("/positions/{tagged}"), Value::Null);
    let trade = broker.state(&lost, "executed");
    let result = &trade["result"];
    assert_eq!((&result["volume"], &result["position"]), (&json!(0.1), &json!(tagged)), "{trade}");
    assert_eq!(result["deals"].as_array().unwrap().len(), 2);
    broker.control(json!({"fills": [0.4, 0.6], "fault": "dies after", "closes": "drop"}));
    let lost = broker.lose("DELETE", &format!("/positions/{bare}"), Value::Null);
    broker.when(&lost, "a candidate is shown", |trade| {
        trade["candidates"].as_array().is_some_and(|candidates| candidates.len() == 1)
    });
    broker.stays_unknown(&lost);
}

#[test]
fn an_accepted_order_is_followed_until_it_is_filled() {
    let broker = Broker::start(QUICK, "", json!({"fault": "accepts"}));
    let placed = broker.trade("POST", "/orders", buy(0.1));
    assert_eq!(placed.status, 201, "{}", placed.text());
    assert_eq!((&placed.json()["retcode"], &placed.json()["volume"]), (&json!(10009), &json!(0.1)));
    broker.control(json!({"fault": "parts", "fills": [0.4, 0.6]}));
    let parts = broker.trade("POST", "/orders", buy(0.1)).json();
    assert_eq!((&parts["volume"], parts["deals"].as_array().unwrap().len()), (&json!(0.1), 2));
    // Only a part is done, and the rest is cancelled.
    broker.control(json!({"fault": "parts", "fills": [0.4]}));
    broker.control(json!({"fills": [0.4], "retcode": 10010}));
    let part = broker.trade("POST", "/orders", buy(0.1)).json();
    assert_eq!((&part["retcode"], &part["volume"]), (&json!(10010), &json!(0.04)), "{part}");
}

#[test]
fn an_inconclusive_retcode_is_not_reported_as_a_refusal() {
    let broker = Broker::start(QUICK, "", json!({}));
    for code in [10007, 10011, 10012, 10023, 10028, 10031, 10041, 10047] {
        broker.control(json!({"retcode": code}));
        let placed = broker.trade("POST", "/orders", buy(0.1));
        assert_eq!(placed.status, 201, "{code}: {}", placed.text());
        assert_eq!(placed.json()["retcode"], 10009, "the order is found by its ticket");
    }
}
