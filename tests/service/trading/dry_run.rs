//! `dry_run=true`: everything but the sending.

use serde_json::{Value, json};

use super::{ACCOUNT, buy, simulated};
use crate::common::{Gateway, Reply};

impl Gateway {
    fn rehearsed(&self, order: &Value, headers: &[(&str, &str)]) -> Reply {
        let path = format!("{ACCOUNT}/orders?dry_run=true");
        self.eventually("the account takes trades", || {
            let reply = self.send_with("POST", &path, Some(order), headers);
            (reply.status != 503).then_some(reply)
        })
    }
}

#[test]
fn a_dry_run_says_what_would_be_sent_and_sends_nothing() {
    let gateway = Gateway::ready("");
    let order =
        json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1, "comment": "mine", "sl": 0.9});
    let key = [("idempotency-key", "k")];
    let reply = gateway.rehearsed(&order, &key);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (answer, request) = (reply.json(), &reply.json()["request"]);
    assert_eq!(answer["dry_run"], true);
    let [symbol, volume, kind, comment] =
        ["symbol", "volume", "type", "comment"].map(|name| request[name].clone());
    assert_eq!(json!([symbol, volume, kind, comment]), json!(["EURUSD", 0.1, 0, "mine"]));
    assert!(request["price"].as_f64().unwrap() > 0.0, "what was left out is filled in");
    let check = &answer["check"];
    assert_eq!((&check["retcode"], &check["retcode_name"]), (&json!(0), &json!("ok")));
    for path in ["/positions", "/trades"] {
        assert_eq!(gateway.read(path), json!([]), "{path}");
    }
    // The key is unused, also for another request.
    assert_eq!(gateway.keyed("k", &buy(0.2)).status, 201);

    let (position, other) =
        (gateway.trade("POST", "/orders", buy(0.1)).json()["position"].clone(), {
            let sell = json!({"symbol": "EURUSD", "type": "SELL", "volume": 0.1});
            gateway.trade("POST", "/orders", sell).json()["position"].clone()
        });
    let close_by = json!({"symbol": "EURUSD", "position": position, "position_by": other});
    let rehearsed = gateway.rehearsed(&close_by, &[]).json();
    assert_eq!((&rehearsed["check"], &rehearsed["request"]["action"]), (&Value::Null, &json!(10)));
    assert_eq!(gateway.read("/positions/total"), json!(3));
}

#[test]
fn a_dry_run_is_refused_like_the_order() {
    let gateway = Gateway::ready(&simulated("", "balance = 100"));
    for (order, expected) in [
        (buy(0.001), (400, "invalid-request")),
        (json!({"symbol": "NONE", "type": "BUY", "volume": 0.1}), (404, "not-found")),
    ] {
        let refused = gateway.rehearsed(&order, &[]);
        assert_eq!(refused.problem(), (expected.0, expected.1.to_owned()), "{order}");
    }
    // What the broker would say, the check says.
    let poor = gateway.rehearsed(&buy(50.0), &[]).json();
    assert_eq!(poor["check"]["retcode_name"], "no_money");

    let odd = gateway.send("POST", &format!("{ACCOUNT}/orders?dry_run=perhaps"), Some(&buy(0.01)));
    assert_eq!(odd.problem(), (400, "invalid-request".to_owned()));
    assert_eq!(gateway.send("PUT", &format!("{ACCOUNT}/halt"), None).status, 200);
    let halted = gateway.rehearsed(&buy(0.01), &[]);
    assert_eq!(halted.problem(), (403, "trading-not-allowed".to_owned()));
    assert_eq!(halted.json()["reasons"], json!(["halted"]));
    assert_eq!(gateway.read("/trades"), json!([]));
}
