//! Trading against the simulated broker: what is placed, changed, closed and
//! refused, and what becomes of trades whose answer is lost.

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};

const ACCOUNT: &str = "/api/v1/accounts/demo";

/// A simulated account with these additions to its terminal.
fn simulated(head: &str, terminal: &str) -> String {
    format!(
        "{head}\n[accounts.demo]\nlogin = 5001\nserver = 'S'\n\
         [accounts.demo.terminal]\nkind = 'simulator'\n{terminal}\n"
    )
}

impl Gateway {
    fn trade(&self, method: &str, path: &str, body: Value) -> Reply {
        self.send(method, &format!("{ACCOUNT}{path}"), (!body.is_null()).then_some(&body))
    }

    fn keyed(&self, key: &str, body: &Value) -> Reply {
        let headers = [("idempotency-key", key)];
        self.send_with("POST", &format!("{ACCOUNT}/orders"), Some(body), &headers)
    }

    /// The answer to a repeat as soon as the trade is not under way any more, which is a moment after
    /// the journal knows its end.
    fn repeated(&self, key: &str, body: &Value) -> Reply {
        self.eventually("the trade has ended", || {
            let reply = self.keyed(key, body);
            let under_way = reply.status == 409 && reply.problem().1 == "trade-under-way";
            (!under_way).then_some(reply)
        })
    }

    fn read(&self, path: &str) -> Value {
        let reply = self.get(&format!("{ACCOUNT}{path}"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// Waits until the trade has this state.
    fn fate(&self, trade_id: &Value, state: &str) -> Value {
        let path = format!("/trades/{}", trade_id.as_str().unwrap());
        self.eventually(&format!("the trade is {state}"), || {
            let trade = self.read(&path);
            (trade["state"] == state).then_some(trade)
        })
    }
}

fn buy(volume: f64) -> Value {
    json!({"symbol": "EURUSD", "type": "BUY", "volume": volume})
}

fn price(value: f64) -> f64 {
    (value * 100_000.0).round() / 100_000.0
}

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
fn bad_orders_are_refused_with_the_rule_and_leave_no_trace() {
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

#[test]
fn a_key_gives_the_present_truth_also_after_a_restart() {
    let mut gateway = Gateway::ready("");
    let order = buy(0.1);
    let first = gateway.keyed("one", &order);
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, ""));
    // Another spelling of the same body, and quotes around the key.
    let same = json!({"type": "ORDER_TYPE_BUY", "volume": 0.10, "symbol": "EURUSD", "sl": null});
    let again = gateway.keyed("\"one\"", &same);
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
    assert_eq!(again.json(), first.json());
    assert_eq!(gateway.keyed("one", &buy(0.2)).problem(), (422, "idempotency-key-reused".into()));
    let mut refused = buy(0.1);
    refused["sl"] = json!(3.0);
    assert_eq!(gateway.keyed("two", &refused).status, 422);
    let again = gateway.keyed("two", &refused);
    assert_eq!(again.problem(), (422, "trade-refused".into()));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(gateway.read("/positions/total"), 1);

    // Keys belong to what they were used for: method and route are part of it.
    let ticket = first.json()["order"].as_u64().unwrap();
    let path = format!("{ACCOUNT}/positions/{ticket}");
    let close = gateway.send_with("DELETE", &path, None, &[("idempotency-key", "one")]);
    assert_eq!(close.problem(), (422, "idempotency-key-reused".into()));

    gateway.kill_and_start(&[]);
    // Readiness is not needed to tell what is known.
    let replayed = gateway.keyed("one", &order);
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (201, "true"));
    assert_eq!(replayed.json(), first.json());
}

/// Settings under which lost answers are decided soon.
const QUICK: &str = "[server]\ntrade_timeout = '300ms'\n[restart]\nbackoff = '10ms'\nbackoff_max = '50ms'\n\
                     [trading]\nnot_found_after = '400ms'";

#[test]
fn a_trade_whose_answer_is_lost_is_found_or_known_not_to_have_happened() {
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
fn an_impatient_client_ends_its_wait_and_not_the_trade() {
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
fn a_client_that_hangs_up_changes_nothing() {
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
fn one_key_at_once_trades_once() {
    let gateway = Gateway::ready(&simulated("", "latency = '5ms'"));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..16).map(|_| scope.spawn(|| gateway.keyed("same", &buy(0.1)).status)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
    assert!(statuses.contains(&201));
    assert_eq!(gateway.read("/positions/total"), 1);
}

#[test]
fn a_gateway_killed_between_intent_and_result_finds_out_before_it_trades() {
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

#[test]
fn trading_needs_the_switch_and_the_scope() {
    let sha = |key: &str| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(key);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let settings = format!(
        "[auth.keys.r]\nsha256 = '{}'\nscopes = ['read']\n[auth.keys.t]\nsha256 = '{}'\n\
         scopes = ['read', 'trade']\n[accounts.demo]\nlogin = 1\nserver = 'S'\n\
         terminal.kind = 'simulator'\n[accounts.off]\nlogin = 2\nserver = 'S'\ntrade = false\n\
         terminal.kind = 'simulator'",
        sha("reader"),
        sha("trader"),
    );
    let gateway = Gateway::start(&settings);
    let order = |account: &str, key: &str| {
        let path = format!("/api/v1/accounts/{account}/orders");
        gateway.send_with("POST", &path, Some(&buy(0.1)), &[("x-api-key", key)])
    };
    gateway
        .eventually("the account trades", || (order("demo", "trader").status == 201).then_some(()));
    assert_eq!(order("demo", "reader").problem(), (403, "forbidden".into()));
    assert_eq!(order("demo", "nobody").status, 401);
    assert_eq!(order("off", "trader").problem(), (403, "trading-disabled".into()));
}

#[test]
fn where_nobody_trades_there_is_no_journal_and_nothing_in_it() {
    let gateway = Gateway::ready(
        "[accounts.demo]\nlogin = 1\nserver = 'S'\ntrade = false\nterminal.kind = 'simulator'",
    );
    assert_eq!(
        gateway.trade("POST", "/orders", buy(0.1)).problem(),
        (403, "trading-disabled".into())
    );
    assert_eq!(gateway.read("/trades"), json!([]));
    assert_eq!(gateway.get(&format!("{ACCOUNT}/trades/x")).status, 404);
    assert!(!gateway.directory.path().join("data").exists());
}

#[test]
fn without_a_journal_nothing_is_traded_and_reads_go_on() {
    let file = |content: &str| {
        let gateway = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(gateway.path(), content).unwrap();
        gateway
    };
    let corrupt = file(&"this is no journal ".repeat(500));
    let journals = ["/proc/journal.sqlite".to_owned(), corrupt.path().display().to_string()];
    for journal in journals {
        let gateway = Gateway::ready(&format!("[trading]\njournal = '{journal}'"));
        let reply = gateway.trade("POST", "/orders", buy(0.1));
        assert_eq!(reply.problem(), (503, "journal-unavailable".into()), "{journal}");
        assert!(reply.detail().contains(&journal), "{}", reply.detail());
        gateway.logs("trading is off, reads go on");
        assert_eq!(gateway.read("/positions"), json!([]));
        let trades = gateway.get(&format!("{ACCOUNT}/trades"));
        assert_eq!(trades.problem(), (503, "journal-unavailable".into()));
    }
}

#[test]
fn two_gateways_do_not_share_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("shared.sqlite");
    let settings = format!("[trading]\njournal = '{}'", journal.display());
    let _first = Gateway::ready(&settings);
    std::fs::write(directory.path().join("second.toml"), &settings).unwrap();
    let second = crate::common::command(directory.path())
        .args(["--config", "second.toml"])
        .env("MT5_GATEWAY__SERVER__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another gateway"), "{said}");
}

#[test]
fn a_netting_account_holds_one_position_a_symbol() {
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
fn tickets_and_keys_belong_to_their_account() {
    let account = |name: &str, login: u32| {
        format!("[accounts.{name}]\nlogin = {login}\nserver = 'S'\nterminal.kind = 'simulator'\n")
    };
    let gateway = Gateway::ready(&(account("demo", 1) + &account("other", 2)));
    let first = gateway.keyed("same", &buy(0.1));
    let headers = [("idempotency-key", "same")];
    let path = "/api/v1/accounts/other";
    let second = gateway.send_with("POST", &format!("{path}/orders"), Some(&buy(0.2)), &headers);
    assert_eq!((first.status, second.status), (201, 201), "{}", second.text());
    assert_eq!(second.header("idempotent-replayed"), "");
    let ticket = first.json()["order"].as_u64().unwrap();
    let foreign = format!("{path}/positions/{ticket}");
    assert_eq!(gateway.send("DELETE", &foreign, None).problem(), (404, "not-found".into()));
    let trade = first.json()["trade_id"].as_str().unwrap().to_owned();
    assert_eq!(gateway.get(&format!("{path}/trades/{trade}")).status, 404);
    assert_eq!(gateway.read("/positions/total"), 1);
}
