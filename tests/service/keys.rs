//! API keys: scopes, accounts, networks, rates, expiry, and the traces that a key leaves.

use std::io::{BufRead, Read, Write};

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};

/// Keys named after their text, with more settings each, and three simulated accounts.
fn gateway(keys: &[(&str, &str)], more: &str) -> Gateway {
    let mut settings = format!("{more}\n");
    for (key, lines) in keys {
        use sha2::Digest;
        let digest: String =
            sha2::Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        settings += &format!("[auth.keys.{key}]\nsha256 = '{digest}'\n{lines}\n");
    }
    for (number, account) in ["main", "prop_one", "prop_two"].iter().enumerate() {
        settings += &format!(
            "[accounts.{account}]\nlogin = {}\nserver = 'S'\nterminal.kind = 'simulator'\n",
            number + 1
        );
    }
    let gateway = Gateway::start(&settings);
    gateway.eventually("every account is ready", || {
        let accounts = gateway.get("/readyz").json();
        let ready = |account: &Value| account["ready"] == 1;
        accounts["accounts"].as_object()?.values().all(ready).then_some(())
    });
    gateway
}

fn account(name: &str, rest: &str) -> String {
    format!("/api/v1/accounts/{name}{rest}")
}

fn get(gateway: &Gateway, key: &str, path: &str) -> Reply {
    gateway.get_with(path, &[("x-api-key", key)])
}

fn send(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    gateway.send_with(method, path, Some(body), &[("x-api-key", key)])
}

fn buy() -> Value {
    json!({ "symbol": "EURUSD", "type": "BUY", "volume": 0.1 })
}

fn place(gateway: &Gateway, key: &str, on: &str) -> Value {
    gateway.eventually("the account trades", || {
        let placed = send(gateway, key, "POST", &account(on, "/orders"), &buy());
        (placed.status == 201).then(|| placed.json())
    })
}

#[test]
fn a_scope_includes_those_before_it_on_every_route() {
    let gateway = gateway(
        &[("r", "scopes = ['read']"), ("t", "scopes = ['trade']"), ("a", "scopes = ['admin']")],
        "",
    );
    let select = account("main", "/symbols/EURUSD/select");
    let trade_id = place(&gateway, "t", "main")["trade_id"].as_str().unwrap().to_owned();
    let resolve = account("main", &format!("/trades/{trade_id}/resolve"));
    for (method, path, body, read, trade, admin) in [
        ("GET", account("main", "/account"), None, 200, 200, 200),
        ("GET", account("main", &format!("/trades/{trade_id}")), None, 200, 200, 200),
        ("GET", "/api/v1/console".to_owned(), None, 200, 200, 200),
        // A symbol that is not in Market Watch is selected on first use.
        ("GET", account("main", "/symbols/XAUUSD/tick"), None, 200, 200, 200),
        ("POST", select, Some(json!({ "enable": true })), 403, 200, 200),
        ("POST", account("main", "/orders/check"), Some(buy()), 403, 200, 200),
        ("POST", account("main", "/orders"), Some(buy()), 403, 201, 201),
        ("POST", resolve, Some(json!({ "state": "not-found", "reason": "x" })), 403, 403, 409),
        ("POST", account("prop_one", "/restart"), Some(json!({})), 403, 403, 202),
    ] {
        for (key, expected) in [("r", read), ("t", trade), ("a", admin)] {
            let reply = match &body {
                None => get(&gateway, key, &path),
                Some(body) => send(&gateway, key, method, &path, body),
            };
            assert_eq!(reply.status, expected, "{key} {method} {path}: {}", reply.text());
        }
    }
}

#[test]
fn an_account_that_a_key_may_not_see_is_404() {
    let gateway = gateway(
        &[("props", "scopes = ['trade']\naccounts = ['prop_*']"), ("all", "scopes = ['admin']")],
        "",
    );
    let trade_id = place(&gateway, "all", "main")["trade_id"].as_str().unwrap().to_owned();
    place(&gateway, "props", "prop_one");
    let names = |path: &str, member: &str| -> Vec<String> {
        let reply = get(&gateway, "props", path).json();
        let accounts = if member.is_empty() { &reply } else { &reply[member] };
        let accounts = accounts.as_array().unwrap().iter();
        accounts.map(|account| account["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/api/v1/accounts", ""), ["prop_one", "prop_two"]);
    assert_eq!(names("/api/v1/console", "accounts"), ["prop_one", "prop_two"]);
    let console = get(&gateway, "props", "/api/v1/console").text();
    assert!(!console.contains("main") && console.contains("prop_one"), "{console}");
    for path in
        ["", "/account", "/positions", "/trades", "/symbols/EURUSD/tick", "/stream?events=account"]
    {
        let hidden = get(&gateway, "props", &account("main", path));
        let missing = get(&gateway, "props", &account("nobody", path));
        assert_eq!(hidden.problem(), (404, "not-found".to_owned()), "{path}");
        assert_eq!(hidden.detail().replace("main", "nobody"), missing.detail(), "{path}");
        assert!(!missing.detail().contains("main"));
    }
    assert_eq!(
        get(&gateway, "props", &account("main", &format!("/trades/{trade_id}"))).status,
        404
    );
    assert_eq!(
        get(&gateway, "props", &account("prop_one", &format!("/trades/{trade_id}"))).status,
        404
    );
    assert_eq!(send(&gateway, "props", "POST", &account("main", "/orders"), &buy()).status, 404);
    assert_eq!(send(&gateway, "all", "GET", &account("main", "/trades"), &json!(null)).status, 200);
}

#[test]
fn log_and_trades_name_the_key_that_traded() {
    let gateway = gateway(
        &[("robot", "scopes = ['trade']"), ("hand", "scopes = ['admin']")],
        "[server]\ntrusted_proxies = ['127.0.0.1']\n",
    );
    place(&gateway, "hand", "main");
    let path = account("main", "/orders");
    let headers = [("x-api-key", "robot"), ("x-forwarded-for", "198.51.100.9")];
    let placed = gateway.send_with("POST", &path, Some(&buy()), &headers).json();
    let trade_id = placed["trade_id"].as_str().unwrap();
    let trade = get(&gateway, "hand", &account("main", &format!("/trades/{trade_id}"))).json();
    assert_eq!((&trade["api_key"], &trade["client"]), (&json!("robot"), &json!("198.51.100.9")));
    let of = |key: &str| -> usize {
        let trades =
            get(&gateway, "hand", &account("main", &format!("/trades?api_key={key}"))).json();
        trades.as_array().unwrap().len()
    };
    assert_eq!((of("robot"), of("hand"), of("nobody")), (1, 1, 0));
    assert_eq!(
        send(&gateway, "hand", "POST", &account("main", "/restart"), &json!({})).status,
        202
    );
    for (line, who, from) in [
        ("restart requested", "hand", "127.0.0.1"),
        ("event=\"intent\"", "robot", "198.51.100.9"),
        ("event=\"executed\"", "robot", "198.51.100.9"),
        ("request method=\"POST\"", "robot", "198.51.100.9"),
    ] {
        gateway.eventually("the log tells who, and from where", || {
            let log = gateway.log();
            let mut lines = log.lines().filter(|one| one.contains(line));
            let who = format!("api_key=\"{who}\"");
            let from = [format!("client={from}"), format!("client=\"{from}\"")];
            lines
                .any(|line| line.contains(&who) && from.iter().any(|from| line.contains(from)))
                .then_some(())
        });
    }
    assert_eq!(get(&gateway, "wrong", "/api/v1/accounts").status, 401);
    gateway.logs("status=401");
    let log = gateway.log();
    let refused = log.lines().find(|line| line.contains("status=401")).unwrap();
    assert!(!refused.contains("api_key"), "{refused}");
}

#[test]
fn a_key_over_its_rate_is_refused_before_any_terminal_call() {
    let gateway = gateway(
        &[
            ("slow", "scopes = ['read']\nrate_limit_per_second = 1\nrate_limit_burst = 3"),
            ("free", "scopes = ['read']"),
        ],
        "",
    );
    let series = r#"mt5_calls_total{account="main",method="version",outcome="success"}"#;
    let before = gateway.metric(series);
    let replies: Vec<Reply> =
        (0..10).map(|_| get(&gateway, "slow", &account("main", "/version"))).collect();
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(refused.len() >= 5, "{replies:?}");
    for reply in &refused {
        assert_eq!(reply.problem().1, "too-many-requests");
        assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    }
    assert_eq!(gateway.metric(series) - before, (10 - refused.len()) as f64);
    for _ in 0..10 {
        assert_eq!(get(&gateway, "free", &account("main", "/ping")).status, 200);
    }
}

#[test]
fn a_key_is_accepted_only_from_its_networks() {
    let gateway = gateway(
        &[("inside", "scopes = ['read']\ncidr = ['10.0.0.0/8']"), ("any", "scopes = ['read']")],
        "[server]\ntrusted_proxies = ['127.0.0.1']\n",
    );
    let ask = |key: &str, from: &str| {
        gateway.get_with("/api/v1/accounts", &[("x-api-key", key), ("x-forwarded-for", from)])
    };
    assert_eq!(ask("inside", "10.1.2.3").status, 200);
    let outside = ask("inside", "192.0.2.1");
    assert_eq!(outside.problem(), (401, "unauthorized".to_owned()));
    // It tells a thief nothing that a wrong key would not.
    assert_eq!(outside.detail(), ask("wrong", "192.0.2.1").detail());
    gateway.logs("key used from outside its cidr");
    assert_eq!(ask("any", "192.0.2.1").status, 200);
}

#[test]
fn an_expired_key_is_refused_and_its_streams_end_with_a_problem() {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let gateway = gateway(
        &[
            ("old", "scopes = ['read']\nexpires = '2020-01-31'"),
            ("soon", &format!("scopes = ['read']\nexpires = '{expires}'")),
        ],
        "",
    );
    let refused = get(&gateway, "old", "/api/v1/accounts");
    // The operator sees whose key it was.
    gateway.logs("api_key=\"old\"");
    assert_eq!(refused.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(refused.detail(), "the key has expired");
    // An answer that is read slowly.
    let mut slow = std::net::TcpStream::connect(gateway.address).unwrap();
    let long = account("main", "/symbols/EURUSD/rates?timeframe=M1&from=2000-01-01&to=2025-01-01");
    write!(slow, "GET {long}&format=csv HTTP/1.1\r\nhost: localhost\r\nx-api-key: soon\r\n\r\n")
        .unwrap();
    let mut begun = [0; 1000];
    slow.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));

    let path = account("main", "/stream?events=account");
    let (_, body) = gateway.open(&path, &[("x-api-key", "soon")]);
    let lines: Vec<String> = body.lines().map_while(Result::ok).collect();
    let event = lines.iter().rposition(|line| line == "event: problem").unwrap();
    let problem: Value =
        serde_json::from_str(lines[event + 1].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(problem["type"], "/problems/unauthorized");
    assert_eq!(problem["detail"], "the key has expired");
    assert_eq!(get(&gateway, "soon", "/api/v1/accounts").status, 401);
    assert_eq!(gateway.get_with("/api/v1/accounts", &[("x-api-key", "")]).status, 401);
    let mut rest = vec![];
    let _ = slow.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{} bytes went on after the key", rest.len());
    gateway.logs("the key of the client has expired");
}

#[test]
fn keys_and_scopes_guard_the_api_but_not_health_and_metrics() {
    // The SHA-256 of "reader" and of "boss".
    let gateway = Gateway::start(
        "[auth.keys.reader]\nsha256 = '3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30'\nscopes = ['read']\n\
         [auth.keys.boss]\nsha256 = 'a5e7c002443743c5836758c7d1cd8ddefd9fcf2061daa0efaac683fb99966057'\nscopes = ['read', 'admin']\n",
    );
    gateway.eventually("it is ready", || (gateway.get("/readyz").status == 200).then_some(()));
    let accounts = "/api/v1/accounts";
    let without = gateway.get(accounts);
    assert_eq!(without.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(without.header("www-authenticate"), "Bearer");
    assert_eq!(gateway.get_with(accounts, &[("x-api-key", "guess")]).problem().0, 401);
    assert_eq!(gateway.get_with(accounts, &[("x-api-key", "reader")]).status, 200);
    assert_eq!(gateway.get_with(accounts, &[("authorization", "Bearer reader")]).status, 200);
    let restart = "/api/v1/accounts/demo/restart";
    assert_eq!(
        gateway.post_with(restart, &[("x-api-key", "reader")]).problem(),
        (403, "forbidden".to_owned())
    );
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    assert_eq!(gateway.post_with(restart, &[("x-api-key", "boss")]).status, 202);
    assert!(!gateway.log().contains("guess"));
}
