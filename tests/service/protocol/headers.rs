//! Request headers: negotiation, limits, and malformed ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{DEMO, ORDER, http2, positions, problem, request, status};
use crate::common::Gateway;

#[test]
fn a_malformed_head_gets_a_problem_that_is_logged_and_counted() {
    let gateway = Gateway::ready("");
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (head, expected, kind) in [
        ("NONSENSE\r\n\r\n", 400, "invalid-request"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "invalid-request"),
        (long.as_str(), 414, "uri-too-long"),
        (many.as_str(), 431, "header-too-large"),
    ] {
        let answer = gateway.raw(head.as_bytes());
        assert_eq!(status(&answer), expected, "{answer}");
        let problem = problem(&answer);
        assert_eq!(problem["type"], format!("/problems/{kind}"));
        gateway.logs(problem["request_id"].as_str().unwrap());
        let series =
            format!(r#"http_requests_total{{handler="none",method="other",status="{expected}"}}"#);
        assert!(gateway.metric(&series) >= 1.0, "{series}");
    }
    // After a good request on the same connection, too.
    let good =
        request("GET", "/livez", &["host: localhost"], "").replace("connection: close\r\n", "");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(format!("{good}NONSENSE\r\n\r\n").as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let (first, second) = answers.split_at(answers.rfind("HTTP/1.1").unwrap());
    assert_eq!((status(first), status(second)), (200, 400), "{answers}");
}

#[test]
fn a_head_that_is_too_large_is_a_problem_in_http_2_too() {
    let gateway = Gateway::ready("");
    let large = "a".repeat(100_000);
    let names: Vec<String> = (0..150).map(|index| format!("x-{index}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    for headers in [&[("x-large", large.as_str())][..], &many] {
        let (parts, body) = http2(&gateway, "GET", "/livez", headers);
        assert_eq!(parts.status, 431);
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], "/problems/header-too-large");
        assert_eq!(problem["request_id"], parts.headers["x-request-id"].to_str().unwrap());
    }
}

#[test]
fn an_unreadable_header_is_refused_not_ignored() {
    let gateway = Gateway::ready("");
    let rates = format!("{DEMO}/symbols/EURUSD/rates?timeframe=H1&from=2020-01-01&to=2020-01-02");
    let stream = format!("{DEMO}/stream?events=account");
    let orders = format!("{DEMO}/orders");
    let json_type = "content-type: application/json";
    for (method, path, header) in [
        ("GET", rates.as_str(), "accept: ä"),
        ("GET", &rates, "if-none-match: \"ä\""),
        ("GET", &rates, "request-timeout: ä"),
        ("GET", &rates, "request-timeout: 1\r\nrequest-timeout: 2"),
        ("GET", &stream, "last-event-id: ä"),
        ("POST", &orders, "idempotency-key: ä"),
        ("POST", &orders, "send-within: ä"),
        ("POST", &orders, "content-type: ä"),
    ] {
        let body = if method == "POST" { ORDER } else { "" };
        let mut headers = vec!["host: localhost", header];
        if method == "POST" && !header.starts_with("content-type") {
            headers.push(json_type);
        }
        let answer = gateway.raw(request(method, path, &headers, body).as_bytes());
        assert_eq!(status(&answer), 400, "{header}: {answer}");
        let detail = problem(&answer)["detail"].to_string();
        let name = header.split(':').next().unwrap();
        assert!(detail.to_lowercase().contains(name), "{header}: {detail}");
    }
    assert_eq!(positions(&gateway), 0);
}

#[test]
fn parameters_of_headers_are_read_in_any_case() {
    let gateway = Gateway::ready("");
    let path = format!("{DEMO}/account");
    assert_eq!(gateway.get_with(&path, &[("accept", "application/json;Q=0")]).status, 406);
    assert_eq!(gateway.get_with(&path, &[("accept", "APPLICATION/JSON; Q=1")]).status, 200);
    let packed = gateway.get_with("/openapi.json", &[("accept-encoding", "GZIP;Q=1")]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    let plain = gateway.get_with("/openapi.json", &[("accept-encoding", "gzip;Q=0")]);
    assert_eq!(plain.header("content-encoding"), "");
}

#[test]
fn an_answer_to_head_has_no_body_in_any_version_of_http() {
    let gateway = Gateway::ready("");
    for path in [
        "/docs/",
        "/livez",
        "/nothing",
        "/api/v1/accounts",
        &format!("{DEMO}/stream?events=account"),
    ] {
        let first = gateway.raw(request("HEAD", path, &["host: localhost"], "").as_bytes());
        assert!(first.ends_with("\r\n\r\n"), "{first}");
        assert_eq!(first.matches("\r\n\r\n").count(), 1, "{first}");
        let (second, body) = http2(&gateway, "HEAD", path, &[]);
        assert!(body.is_empty(), "{path} has a body");
        let length = second.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(length.is_none(), path.contains("stream"), "{path}");
        if let Some(length) = length {
            assert!(
                first.contains(&format!("content-length: {length}\r\n")),
                "{length} in {first}"
            );
        }
    }
}

#[test]
fn a_strong_etag_belongs_to_one_encoding() {
    let gateway = Gateway::ready("");
    let path = format!("{DEMO}/symbols/EURUSD/rates?timeframe=M1&from=2020-01-06&to=2020-01-08");
    let plain = gateway.get(&path);
    let packed = gateway.get_with(&path, &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    let strong = plain.header("etag");
    assert!(strong.starts_with('"'), "{strong}");
    assert_eq!(packed.header("etag"), format!("W/{strong}"));
    for (tag, encoding) in [(strong, "identity"), (packed.header("etag"), "gzip")] {
        let again =
            gateway.get_with(&path, &[("if-none-match", tag), ("accept-encoding", encoding)]);
        assert_eq!(again.status, 304);
    }
}

#[test]
fn the_root_path_sends_browsers_to_the_console_and_gives_programs_links() {
    let gateway = Gateway::ready("");
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page = gateway.get_with("/", &[("accept", browser)]);
    assert_eq!((page.status, page.header("location")), (302, "/console"));
    for accept in ["*/*", "application/json", "application/json, text/html"] {
        let links = gateway.get_with("/", &[("accept", accept)]);
        assert_eq!(links.status, 200, "{accept}");
        for (name, path) in links.json().as_object().unwrap() {
            let path = path.as_str().unwrap();
            assert!([200, 308].contains(&gateway.get(path).status), "{name}: {path}");
        }
    }
}

#[test]
fn a_request_whose_answer_could_not_be_sent_is_refused_before_it_acts() {
    let gateway = Gateway::ready("");
    let json_type = "content-type: application/json";
    let place = || {
        gateway.send("POST", &format!("{DEMO}/orders"), Some(&serde_json::from_str(ORDER).unwrap()))
    };
    let placed = gateway.eventually("the account trades", || {
        let placed = place();
        (placed.status == 201).then(|| placed.json())
    });
    let ticket = placed["position"].as_u64().filter(|ticket| *ticket != 0).unwrap_or_else(|| {
        gateway.get(&format!("{DEMO}/positions")).json()[0]["ticket"].as_u64().unwrap()
    });
    let position = format!("{DEMO}/positions/{ticket}");
    let before = (positions(&gateway), gateway.get(&position).json());
    let trades = gateway.get(&format!("{DEMO}/trades")).json().as_array().unwrap().len();
    for (header, expected) in [
        ("accept: text/csv", 406),
        ("accept: application/vnd.apache.arrow.stream", 406),
        ("accept: application/json;q=0", 406),
        ("accept: ä", 400),
        ("accept-encoding: identity;q=0", 406),
        ("accept-encoding: *;q=0", 406),
        ("accept-encoding: ä", 400),
    ] {
        for (method, path, body) in [
            ("POST", format!("{DEMO}/orders"), ORDER),
            ("PUT", position.clone(), r#"{"sl":0.5}"#),
            ("DELETE", position.clone(), ""),
            ("POST", format!("{position}/close"), "{}"),
            ("POST", format!("{DEMO}/symbols/EURUSD/select"), r#"{"enable":false}"#),
            ("POST", format!("{DEMO}/restart"), ""),
        ] {
            let mut headers = vec!["host: localhost", header];
            if !body.is_empty() {
                headers.push(json_type);
            }
            let answer = gateway.raw(request(method, &path, &headers, body).as_bytes());
            assert_eq!(status(&answer), expected, "{method} {path} {header}: {answer}");
            assert_eq!(problem(&answer)["status"], expected, "{answer}");
        }
    }
    let positions_now = gateway.get(&position).json();
    assert_eq!((positions(&gateway), &positions_now["sl"]), (before.0, &before.1["sl"]));
    assert_eq!(gateway.get(&format!("{DEMO}/trades")).json().as_array().unwrap().len(), trades);
    let restarts = r#"mt5_session_restarts_total{account="demo",reason="request"}"#;
    assert_eq!(gateway.metric(restarts), 0.0);
}

#[test]
fn a_response_without_length_is_refused_in_http_1_0() {
    let gateway = Gateway::ready("");
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\naccept-encoding: gzip\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let bulk = ask(&format!("{DEMO}/symbols/EURUSD/rates?timeframe=M1&count=50000&format=csv"));
    assert_eq!(status(&bulk), 400, "{bulk:.200}");
    assert!(problem(&bulk)["detail"].to_string().contains("HTTP/1.1"), "{bulk}");
    for path in ["/openapi.json", "/metrics", &format!("{DEMO}/account")] {
        let answer = ask(path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(status(&answer), 200, "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
