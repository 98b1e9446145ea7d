//! Idempotency keys.

use serde_json::json;

use super::{ACCOUNT, buy, simulated};
use crate::common::Gateway;

#[test]
fn a_repeated_key_gets_the_trades_current_state_also_after_a_restart() {
    let mut gateway = Gateway::ready("");
    let order = buy(0.1);
    let first = gateway.keyed("one", &order);
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, ""));
    // Another spelling of the same body, and quotes around the key.
    let same = json!({"type": "ORDER_TYPE_BUY", "volume": 0.10, "symbol": "EURUSD", "sl": null});
    let again = gateway.keyed("\"one\"", &same);
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
    assert_eq!(again.json(), first.json());
    for key in ["one", "%22one%22"] {
        let found = gateway.read(&format!("/trades?idempotency_key={key}"));
        assert_eq!(found[0]["state"], "executed", "{key}");
    }
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

#[test]
fn concurrent_requests_with_one_key_trade_once() {
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
fn tickets_and_idempotency_keys_belong_to_their_account() {
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
