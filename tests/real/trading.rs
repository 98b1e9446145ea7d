//! Trades through a worker and the package.

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};
use crate::tools::{modules, worker};

/// A worker with the test module that trades.
fn module(environment: &[(&str, &str)]) -> Gateway {
    let modules = modules().display().to_string();
    let mut all = vec![("PYTHONPATH", modules.as_str())];
    all.extend_from_slice(environment);
    let gateway = Gateway::start_with(&worker("real", "trade = true", ""), &all);
    gateway.wait_ready();
    gateway
}

fn order(gateway: &Gateway) -> Reply {
    let body =
        json!({"symbol": "TRADED", "type": "BUY", "volume": 0.1, "magic": -7, "comment": "Ünï"});
    gateway.send("POST", "/api/v1/accounts/real/orders", Some(&body))
}

#[test]
fn the_package_takes_a_dict_or_keywords_and_is_sent_to_once() {
    for environment in [&[][..], &[("FAKE_MT5_KEYWORDS", "1")]] {
        let gateway = module(environment);
        for _ in 0..2 {
            let placed = order(&gateway);
            assert_eq!(placed.status, 201, "{}", placed.text());
            let result = placed.json();
            let expected = json!({
                "trade_id": result["trade_id"], "retcode": 10009, "retcode_name": "done", "deal": 71,
                "order": 9_223_372_036_854_788_153_u64, "position": 9, "deals": [71], "volume": 0.1, "price": 1.2, "bid": 1.1, "ask": 1.2,
                "comment": "Ünï ☃", "request_id": 9, "retcode_external": -3,
            });
            assert_eq!(result, expected);
        }
        // MT5's magic numbers are unsigned.
        gateway.logs("'magic': 18446744073709551609");
        gateway.logs("'type_filling': 1");
        gateway.eventually("both arrived", || {
            (gateway.log().matches("order_send received").count() == 2).then_some(())
        });
        let check = json!({"symbol": "TRADED", "type": "SELL", "volume": 0.1});
        let checked =
            gateway.send("POST", "/api/v1/accounts/real/orders/check", Some(&check)).json();
        assert_eq!((&checked["margin"], &checked["margin_level"]), (&json!(4.5), &Value::Null));
        let margin = gateway
            .get("/api/v1/accounts/real/calc/margin?action=SELL&symbol=TRADED&volume=1.5&price=2");
        assert_eq!(margin.json(), json!({"margin": 1003.5}));
    }
}

#[test]
fn nothing_is_traded_on_a_terminal_that_is_logged_in_to_another_account() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("switched");
    let path = switch.display().to_string();
    let gateway = module(&[("FAKE_MT5_SWITCHED", &path)]);
    assert_eq!(order(&gateway).status, 201);
    std::fs::write(&switch, "").unwrap();
    assert_eq!(order(&gateway).problem(), (503, "not-ready".into()));
    gateway.logs("logged in to account 5002 instead of 5001");
    assert_eq!(gateway.log().matches("order_send received").count(), 1);
    let trades = gateway.get("/api/v1/accounts/real/trades").json();
    let states: Vec<&Value> =
        trades.as_array().unwrap().iter().map(|trade| &trade["state"]).collect();
    assert_eq!(states, ["not-sent", "executed"]);
    std::fs::remove_file(&switch).unwrap();
    gateway
        .eventually("the account trades again", || (order(&gateway).status == 201).then_some(()));
}
