//! Wrong parameters, paths, methods and bodies.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::common::Gateway;

const DEMO: &str = "/api/v1/accounts/demo";

#[test]
fn a_wrong_parameter_is_named_with_the_values_it_takes() {
    let gateway = Gateway::ready("");
    let rates = format!("{DEMO}/symbols/EURUSD/rates");
    let cases = [
        (format!("{rates}?count=1"), "`timeframe` is missing"),
        (format!("{rates}?timeframe=H5&count=1"), "`timeframe`: expected a timeframe: M1"),
        (format!("{rates}?timeframe=H1"), "`count` is missing"),
        (format!("{rates}?timeframe=H1&count=0"), "`count`: expected a whole number"),
        (format!("{rates}?timeframe=H1&count=100001"), "`count`: expected"),
        (format!("{rates}?timeframe=H1&count=ten"), "got \"ten\""),
        (format!("{rates}?timeframe=H1&count=1&count=1"), "`count` is given more than once"),
        (
            format!("{rates}?timeframe=H1&count=1&limit=5"),
            "`limit` is unknown; this route takes timeframe, count, from, to",
        ),
        (format!("{rates}?timeframe=H1&from=20&to=10"), "`from` (20) is after `to` (10)"),
        (
            format!("{rates}?timeframe=H1&from=1969-12-31&to=10"),
            "`from`: expected a time from 1970",
        ),
        (format!("{rates}?timeframe=H1&from=0&to=9999-01-01"), "`to`: expected a time from 1970"),
        (format!("{rates}?timeframe=H1&from=soon&count=1"), "YYYY.MM.DD HH:MM[:SS]"),
        (
            format!("{rates}?timeframe=H1&from=20250102&count=1"),
            "for the date write 2025-01-02, or its unix seconds, 1735776000",
        ),
        (
            format!("{rates}?timeframe=H1&from=1735776000123&count=1"),
            "if these are milliseconds, write 2025-01-02T00:00:00.123Z",
        ),
        (
            format!("{rates}?timeframe=H1&from=2025-01-02T00:00:00&count=1"),
            "2025-01-02T00:00:00Z is UTC",
        ),
        (
            format!("{rates}?timeframe=H1&from=1970-01-01T00:00:20.5Z&to=20"),
            "`from` (20.500) is after `to` (20)",
        ),
        (format!("{rates}?timeframe=H1&count=1&to=10"), "`count` and `to` exclude each other"),
        (format!("{rates}?timeframe=H1&to=10"), "`to` needs `from`"),
        (format!("{rates}?timeframe=H1&from=10"), "`from` needs `to`"),
        (
            format!("{DEMO}/symbols/EURUSD/ticks?count=1&flags=SOME"),
            "`flags`: expected ALL, INFO, TRADE",
        ),
        (format!("{DEMO}/history/deals"), "`from` is missing: expected a time from 1970"),
        (format!("{DEMO}/history/deals?to=10"), "left out with `ticket` or `position`"),
        (format!("{DEMO}/history/orders?position=1&from=20&to=10"), "`from` (20) is after `to`"),
        (format!("{DEMO}/history/orders/total?from=0&magic=x"), "`magic`: expected a whole number"),
        (format!("{DEMO}/account?x=1"), "`x` is unknown; this route takes none"),
        (format!("{DEMO}/positions/abc"), "ticket: expected a whole number"),
    ];
    for (path, expected) in cases {
        let reply = gateway.get(&path);
        assert_eq!(reply.problem(), (400, "invalid-request".to_owned()), "{path}");
        assert!(reply.detail().contains(expected), "{path}: {}", reply.detail());
    }
    for expiration in [json!("20250102"), json!(20250102)] {
        let order = json!({
            "symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5,
            "expiration": expiration,
        });
        let reply = gateway.send("POST", &format!("{DEMO}/orders"), Some(&order));
        assert_eq!(reply.problem(), (400, "invalid-request".to_owned()), "{expiration}");
        let detail = reply.detail();
        assert!(detail.contains("for the date write 2025-01-02"), "{expiration}: {detail}");
    }
    for timeout in ["soon", "-1", "0", "NaN", "inf"] {
        let reply = gateway.get_with(&format!("{DEMO}/ping"), &[("request-timeout", timeout)]);
        assert_eq!(reply.problem().0, 400, "{timeout}");
    }
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_allow() {
    let gateway = Gateway::ready("");
    let long = "A".repeat(10_000);
    for symbol in ["NOPE", "EUR%2FUSD", "%00", "%F0%9F%9A%80", "a%22b", "%5C", &long, "%ff%fe"] {
        let reply = gateway.get(&format!("{DEMO}/symbols/{symbol}/tick"));
        assert_eq!(reply.problem(), (404, "not-found".to_owned()), "{symbol}");
        assert!(reply.body.len() < 1000);
    }
    for path in [
        "/api",
        "/api/v1/accounts/nobody",
        "/api/v1/accounts/nobody/ping",
        "/docs/none.js",
        "/api/v1/accounts/demo/symbols//tick",
    ] {
        assert_eq!(gateway.get(path).problem().0, 404, "{path}");
    }
    let reply = gateway.post_with(&format!("{DEMO}/account"), &[]);
    assert_eq!(reply.problem(), (405, "method-not-allowed".to_owned()));
    assert_eq!(reply.header("allow"), "GET, HEAD");
    assert_eq!(gateway.get(&format!("{DEMO}/restart")).header("allow"), "POST");
    // What is named stands before what is variable, with its own methods.
    assert_eq!(gateway.get(&format!("{DEMO}/orders/check")).header("allow"), "POST");
    let total = gateway.send("PUT", &format!("{DEMO}/orders/total"), None);
    assert_eq!((total.status, total.header("allow")), (405, "GET, HEAD"));
    let order = gateway.post_with(&format!("{DEMO}/orders/1"), &[]);
    assert_eq!((order.status, order.header("allow")), (405, "GET, PUT, DELETE, HEAD"));
    assert_eq!(gateway.get(&format!("{DEMO}/symbols/totals")).problem().0, 404);
    let html = gateway.get_with(&format!("{DEMO}/account"), &[("accept", "text/html")]);
    assert_eq!(html.problem(), (406, "not-acceptable".to_owned()));
    for accept in ["*/*", "application/*", "text/html, application/json;q=0.5"] {
        assert_eq!(gateway.get_with(&format!("{DEMO}/account"), &[("accept", accept)]).status, 200);
    }
    for path in ["/livez/", "/readyz/", "/metrics/", "/openapi.json/", "/docs/"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
}

#[test]
fn bodies_over_the_limit_are_refused_declared_and_chunked() {
    let gateway = Gateway::ready("[server]\nmax_body = '1 KiB'\n");
    let path = format!("{DEMO}/symbols/EURUSD/select");
    let reply = gateway.post(&path, "application/json", &[b' '; 2000]);
    assert_eq!(reply.problem(), (413, "body-too-large".to_owned()));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("{:x}\r\n{}\r\n", 800, " ".repeat(800));
    let answer = gateway.raw(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("/problems/body-too-large"), "{answer}");
}

#[test]
fn malformed_requests_get_a_problem_and_leave_the_gateway_running() {
    let gateway = Gateway::ready("");
    for request in [
        "CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let answer = gateway.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(answer.contains("allow: "), "{answer}");
    }
    assert!(gateway.raw(b"rubbish\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(gateway.get("/livez").status, 200);
}

#[test]
fn thousands_of_idle_connections_do_not_block_requests() {
    let gateway = Gateway::ready("");
    let idle: Vec<TcpStream> = (0..2000)
        .map(|index| {
            let mut stream = TcpStream::connect(gateway.address).unwrap();
            if index % 2 == 0 {
                stream.write_all(b"GET /livez HT").unwrap();
            }
            stream
        })
        .collect();
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.eventually("all connections are counted", || {
        (gateway.metric("http_connections_active") >= 2000.0).then_some(())
    });
    drop(idle);
    gateway.eventually("all connections are gone", || {
        (gateway.metric("http_connections_active") < 10.0).then_some(())
    });
}

#[test]
fn unknown_paths_and_methods_make_no_series() {
    let gateway = Gateway::ready("[log]\naccess = false\n");
    let series = || gateway.metrics().lines().filter(|line| line.starts_with("http_")).count();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        assert!(stream.read(&mut answer).unwrap() > 0);
    };
    ask("GET", "/nothing");
    ask("MADEUP", "/nothing");
    series();
    let before = series();
    for index in 0..10_000 {
        ask("GET", &format!("/nothing/{index}"));
    }
    for index in 0..50 {
        ask(&format!("MADEUP{index}"), "/nothing");
    }
    assert_eq!(series(), before);
    let other =
        gateway.metric(r#"http_requests_total{handler="none",method="other",status="404"}"#);
    assert_eq!(other, 51.0);
}
