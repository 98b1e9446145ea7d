//! Orders and positions: placed, changed, closed, refused.

use serde_json::{Value, json};

use super::{ACCOUNT, buy, price, simulated};
use crate::common::{Gateway, Reply};

#[test]
fn an_order_is_placed_changed_closed_in_parts_and_found_in_the_history() {
    let gateway = Gateway::ready("");
    let tick = gateway.read("/symbols/EURUSD/tick");
    let order = json!({
        "symbol": "EURUSD", "type": "BUY", "volume": 0.3, "magic": 77, "comment": "first",
        "sl": price(tick["bid"].as_f64().unwrap() / 2.0),
    });
    let placed = gateway.trade("POST", "/orders", order);
    assert_eq!(placed.status, 201, "{}", placed.text());
    let result = placed.json();
    assert_eq!((&result["retcode"], &result["retcode_name"]), (&json!(10009), &json!("done")));
    let location = placed.header("location").to_owned();
    let trade = gateway.get(&location).json();
    assert_eq!((&trade["state"], &trade["result"]["deal"]), (&json!("executed"), &result["deal"]));
    assert_eq!(trade["request"]["comment"], "first");

    let ticket = result["order"].as_u64().unwrap();
    let path = format!("/positions/{ticket}");
    let position = gateway.read(&path);
    assert_eq!(
        (&position["volume"], &position["magic"], &position["comment"]),
        (&json!(0.3), &json!(77), &json!("first"))
    );
    let target = price(tick["ask"].as_f64().unwrap() * 1.5);
    let changed = gateway.trade("PUT", &path, json!({"tp": target}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let stops = gateway.read(&path);
    assert_eq!((&stops["sl"], &stops["tp"]), (&position["sl"], &json!(target)));
    assert_eq!(gateway.trade("PUT", &path, json!({"sl": null})).status, 200);
    assert_eq!(gateway.read(&path)["sl"], 0.0);

    let part = gateway.trade("DELETE", &format!("{path}?volume=0.1"), Value::Null);
    assert_eq!(part.status, 400);
    assert!(part.detail().contains(&format!("{path}/close")), "{}", part.detail());
    let part = gateway.trade("POST", &format!("{path}/close"), json!({"volume": 0.1}));
    assert_eq!((part.status, &part.json()["volume"]), (200, &json!(0.1)), "{}", part.text());
    assert_eq!(part.json()["position"], ticket);
    assert_eq!(gateway.read(&path)["volume"], 0.2);
    assert_eq!(gateway.trade("DELETE", &path, Value::Null).status, 200);
    assert_eq!(gateway.trade("DELETE", &path, Value::Null).problem(), (404, "not-found".into()));
    let deals = gateway.read("/history/deals?from=2020-01-02&to=2099-01-01");
    let of_position = deals.as_array().unwrap().iter().filter(|deal| deal["position_id"] == ticket);
    let volumes: Vec<f64> = of_position.map(|deal| deal["volume"].as_f64().unwrap()).collect();
    assert_eq!(volumes, [0.3, 0.1, 0.2]);
    let comments: Vec<&Value> =
        deals.as_array().unwrap().iter().map(|deal| &deal["comment"]).collect();
    assert_eq!(comments, ["first", "", ""], "tags are stripped everywhere");
    let trades = gateway.read("/trades?state=executed");
    assert_eq!(trades.as_array().unwrap().len(), 5);
    assert_eq!(gateway.metric("mt5_trades_total{account=\"demo\",outcome=\"executed\"}"), 5.0);
    let done = "mt5_trade_results_total{account=\"demo\",retcode=\"done\"}";
    assert_eq!(gateway.metric(done), 5.0);
    assert!(gateway.metric("gateway_journal_write_duration_seconds_count") >= 10.0);
    gateway.logs("event=\"intent\"");
    gateway.logs("event=\"executed\"");
    assert!(!gateway.log().contains("first"), "comments may be private");
}

#[test]
fn a_pending_order_is_placed_changed_and_cancelled() {
    let gateway = Gateway::ready("");
    let ask = gateway.read("/symbols/EURUSD/tick")["ask"].as_f64().unwrap();
    let order = json!({
        "symbol": "EURUSD", "type": "ORDER_TYPE_BUY_LIMIT", "volume": 0.1, "price": price(ask / 2.0),
        "expiration": "2099-01-01",
    });
    let placed = gateway.trade("POST", "/orders", order);
    assert_eq!(
        (placed.status, &placed.json()["retcode"]),
        (201, &json!(10009)),
        "{}",
        placed.text()
    );
    let path = format!("/orders/{}", placed.json()["order"]);
    assert_eq!(gateway.read(&path)["time_expiration"], 4_070_908_800_i64);
    let lower = price(ask / 3.0);
    let changed = gateway.trade("PUT", &path, json!({"price": lower, "expiration": null}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let order = gateway.read(&path);
    assert_eq!((&order["price_open"], &order["time_expiration"]), (&json!(lower), &json!(0)));
    assert_eq!(gateway.trade("DELETE", &path, Value::Null).status, 200);
    assert_eq!(gateway.trade("DELETE", &path, Value::Null).status, 404);
    let history = gateway.read("/history/orders?from=2020-01-02&to=2099-01-01");
    assert_eq!(history[0]["state"], 2);
}

#[test]
fn two_positions_close_each_other_and_a_position_is_closed_by_an_order() {
    let gateway = Gateway::ready("");
    let order = |body: Value| gateway.trade("POST", "/orders", body);
    let ticket = |reply: Reply| reply.json()["order"].as_u64().unwrap();
    let long = ticket(order(buy(0.3)));
    let short = ticket(order(json!({"symbol": "EURUSD", "type": "SELL", "volume": 0.1})));
    let both = json!({"symbol": "EURUSD", "position": long, "position_by": short, "volume": 0.2});
    assert!(order(both).detail().contains("0.1 lots"), "the smaller volume is what is closed");
    let closed = order(json!({"symbol": "EURUSD", "position": long, "position_by": short}));
    assert_eq!(closed.status, 200, "{}", closed.text());
    let close = |volume: f64, kind: &str| {
        order(json!({"symbol": "EURUSD", "type": kind, "volume": volume, "position": long}))
    };
    assert!(close(0.2, "BUY").detail().contains("opposite type"));
    assert!(close(0.3, "SELL").detail().contains("has 0.2 lots"));
    assert_eq!(close(0.2, "SELL").status, 201);
    assert_eq!(gateway.read("/positions/total"), 0);
}

#[test]
fn a_netting_account_holds_one_position_per_symbol() {
    let gateway = Gateway::ready(&simulated("", "margin_mode = 'netting'\ncommission = 7.0"));
    assert_eq!(gateway.read("/account")["margin_mode"], 0);
    for (kind, volume) in [("BUY", 0.3), ("SELL", 0.1)] {
        let order = json!({"symbol": "EURUSD", "type": kind, "volume": volume});
        assert_eq!(gateway.trade("POST", "/orders", order).status, 201);
    }
    let positions = gateway.read("/positions");
    assert_eq!(positions.as_array().unwrap().len(), 1);
    assert_eq!(positions[0]["volume"], 0.2);
    let deals = gateway.read("/history/deals?from=2020-01-02&to=2099-01-01");
    assert_eq!(deals[0]["commission"], -2.1);
    let account = gateway.read("/account");
    let money = |field: &str| account[field].as_f64().unwrap();
    assert!((money("equity") - money("balance") - money("profit")).abs() < 0.001, "{account}");
}

#[test]
fn invalid_orders_are_refused_with_the_rule_and_not_recorded() {
    let gateway = Gateway::ready("");
    let with = |field: &str, value: Value| {
        let mut body = buy(0.1);
        body[field] = value;
        body
    };
    let cases = [
        (with("volume", json!(-0.1)), "`volume`"),
        (with("volume", json!(0)), "volume_min"),
        (with("volume", json!("NaN")), "`volume`"),
        (with("volume", json!(0.123_456_789_012_345_67)), "volume_step"),
        (with("volume", json!(501)), "volume_max"),
        (with("price", json!(-1.1)), "`price`"),
        (with("price", json!(1.123_456_789_012_345)), "digits"),
        (with("sl", json!("1.05")), "`sl`: expected a number"),
        (with("stoploss", json!(1.05)), "`stoploss` is unknown"),
        (with("type", json!("LONG")), "`type`: expected BUY"),
        (with("type", json!(8)), "`type`: expected BUY"),
        (with("type", json!("BUY_LIMIT")), "`price` is missing"),
        (with("stoplimit", json!(1.05)), "`stoplimit`"),
        (with("type_filling", json!("ALL")), "`type_filling`"),
        (with("type_time", json!("SPECIFIED")), "`expiration` is missing"),
        (with("comment", json!("x".repeat(30))), "29 characters"),
        // Which the package counts as two each.
        (with("comment", json!("😀".repeat(15))), "29 characters, got 30"),
        (with("position_by", json!(7)), "`position` is missing"),
        (with("deviation", json!(-1)), "`deviation`"),
        (with("symbol", Value::Null), "`symbol` is missing"),
        (json!([]), "an object"),
        (json!({}), "`symbol` is missing"),
    ];
    for (body, expected) in cases {
        let reply = gateway.keyed("bad", &body);
        assert_eq!(reply.problem(), (400, "invalid-request".into()), "{body}");
        assert!(reply.detail().contains(expected), "{body}: {}", reply.detail());
    }
    let path = format!("{ACCOUNT}/orders");
    for raw in
        ["{\"symbol\":\"EURUSD\",\"type\":\"BUY\",\"volume\":1e400}", "{\"sl\":1,\"sl\":2}", ""]
    {
        let reply = gateway.post(&path, "application/json", raw.as_bytes());
        assert_eq!(reply.status, 400, "{raw}: {}", reply.text());
    }
    assert_eq!(gateway.post(&path, "text/plain", b"{}").status, 415);
    for key in ["", "\"\"", "two words", &"k".repeat(256)] {
        let reply = gateway.keyed(key, &buy(0.1));
        assert!(reply.detail().contains("Idempotency-Key"), "{key}: {}", reply.text());
    }
    assert_eq!(gateway.keyed("bad", &with("symbol", json!("NOPE"))).status, 404);
    // The key was never used up by what was refused with 400 or 404.
    assert_eq!(gateway.keyed("bad", &buy(0.1)).status, 201);
    let ticket = gateway.read("/positions")[0]["ticket"].as_u64().unwrap();
    let position = format!("/positions/{ticket}");
    assert_eq!(gateway.trade("PUT", &position, json!({})).status, 400);
    assert_eq!(gateway.trade("PUT", &position, json!({"price": 1.0})).status, 400);
    assert_eq!(gateway.trade("DELETE", &position, json!({"volume": 0.05})).status, 400);
    let close = format!("{position}/close");
    for body in [json!({"volume": "nan"}), json!({"volume": 0.2}), json!({"sl": 1.0}), json!([])] {
        assert_eq!(gateway.trade("POST", &close, body.clone()).status, 400, "{body}");
    }
    assert_eq!(gateway.read(&position)["volume"], 0.1);
    assert_eq!(gateway.read("/trades").as_array().unwrap().len(), 1);
}

#[test]
fn a_refusal_is_422_with_the_whole_result() {
    let gateway = Gateway::ready("");
    let mut order = buy(0.1);
    for (field, value, code, name) in [
        ("sl", json!(3.0), 10016, "invalid_stops"),
        ("volume", json!(400.0), 10019, "no_money"),
        ("type_filling", json!("RETURN"), 10030, "invalid_fill"),
    ] {
        let before = order[field].take();
        order[field] = value;
        let reply = gateway.trade("POST", "/orders", order.clone());
        assert_eq!(reply.problem(), (422, "trade-refused".into()), "{}", reply.text());
        let body = reply.json();
        assert_eq!(
            (&body["mt5"]["code"], &body["mt5"]["name"], &body["result"]["retcode"]),
            (&json!(code), &json!(name), &json!(code))
        );
        let series = format!("mt5_trade_results_total{{account=\"demo\",retcode=\"{name}\"}}");
        assert_eq!(gateway.metric(&series), 1.0);
        order[field] = before;
    }
    let late = json!({
        "symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5, "expiration": "2020-01-01",
    });
    assert_eq!(gateway.trade("POST", "/orders", late).json()["mt5"]["name"], "invalid_expiration");
    let fault = "faults = { order_send = { kind = 'retcode', code = 10018 } }";
    let closed = Gateway::ready(&simulated("", fault));
    assert_eq!(closed.trade("POST", "/orders", buy(0.1)).json()["mt5"]["name"], "market_closed");
}

#[test]
fn margin_profit_and_checks_are_calculated() {
    let gateway = Gateway::ready("");
    let margin = gateway.read("/calc/margin?action=BUY&symbol=EURUSD&volume=0.1&price=1.085");
    assert_eq!(margin, json!({"margin": 108.5}));
    let profit = gateway.read(
        "/calc/profit?action=ORDER_TYPE_BUY&symbol=EURUSD&volume=0.1&price_open=1.085&price_close=1.083",
    );
    assert_eq!(profit, json!({"profit": -20.0}));
    let bad =
        gateway.get(&format!("{ACCOUNT}/calc/margin?action=BUY&symbol=EURUSD&volume=inf&price=1"));
    assert_eq!(bad.status, 400);
    let check = gateway.trade("POST", "/orders/check", buy(0.1));
    assert_eq!((check.status, &check.json()["retcode"]), (200, &json!(0)), "{}", check.text());
    let poor = gateway.trade("POST", "/orders/check", buy(400.0)).json();
    assert_eq!((&poor["retcode"], &poor["retcode_name"]), (&json!(10019), &json!("no_money")));
    assert_eq!(gateway.read("/positions/total"), 0);
    assert_eq!(gateway.read("/trades"), json!([]));
}
