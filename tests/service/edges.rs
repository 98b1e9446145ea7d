//! What the outside world really sends: pages of other sites, halves of requests, odd heads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Gateway, PATIENCE};

const DEMO: &str = "/api/v1/accounts/demo";

/// A request as bytes, with these header lines.
fn request(method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length =
        if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\n{lines}{length}connection: close\r\n\r\n{body}")
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// The body of a problem, which has the id of the answer's header.
fn problem(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap();
    let id = format!("x-request-id: {}", body["request_id"].as_str().unwrap());
    assert!(head.contains(&id), "{answer}");
    body
}

const ORDER: &str = r#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;

fn positions(gateway: &Gateway) -> usize {
    gateway.get(&format!("{DEMO}/positions")).json().as_array().unwrap().len()
}

#[test]
fn a_name_that_was_rebound_to_the_gateway_reaches_nothing() {
    let gateway = Gateway::ready("[server]\nallowed_hosts = ['gateway.example']\n");
    let json_type = "content-type: application/json";
    let orders = format!("{DEMO}/orders");
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "gateway.example.x"]
    {
        let host = format!("host: {host}");
        let answer = gateway.raw(request("POST", &orders, &[&host, json_type], ORDER).as_bytes());
        assert_eq!(status(&answer), 421, "{answer}");
        let refused = problem(&answer);
        assert_eq!(refused["type"], "/problems/host-not-allowed");
        for path in ["/api/v1/accounts", "/console", "/docs/", "/openapi.json", "/nothing", "/"] {
            assert_eq!(
                status(&gateway.raw(request("GET", path, &[&host], "").as_bytes())),
                421,
                "{path}"
            );
        }
        for path in ["/metrics", "/livez", "/readyz/"] {
            assert_eq!(
                status(&gateway.raw(request("GET", path, &[&host], "").as_bytes())),
                200,
                "{path}"
            );
        }
    }
    assert_eq!(positions(&gateway), 0);
    let answer = gateway.raw(request("GET", "/docs", &["host: evil.example"], "").as_bytes());
    let detail = problem(&answer)["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(r#"allowed_hosts = ["evil.example"]"#), "{detail}");
    for host in ["gateway.example", "GATEWAY.example:443", "localhost", "[::1]:1", "192.0.2.1"] {
        let host = format!("host: {host}");
        assert_eq!(
            status(&gateway.raw(request("GET", "/docs/", &[&host], "").as_bytes())),
            200,
            "{host}"
        );
    }
    for hosts in [&[][..], &["host: localhost", "host: localhost"], &["host: a b"]] {
        let answer = gateway.raw(request("GET", "/livez", hosts, "").as_bytes());
        assert_eq!(
            (status(&answer), &problem(&answer)["type"]),
            (400, &json!("/problems/invalid-request"))
        );
    }
    assert!(
        gateway.metric(r#"http_requests_total{handler="none",method="POST",status="421"}"#) >= 4.0
    );
    gateway.logs("status=421");
}

#[test]
fn a_page_of_another_origin_neither_changes_nor_listens() {
    let settings = format!(
        "[server]\ncors_origins = ['https://app.example']\n[auth.keys.t]\nsha256 = '{}'\nscopes = ['admin']\n",
        sha256("secret")
    );
    for (settings, key) in
        [("[server]\ncors_origins = ['https://app.example']", ""), (&settings, "x-api-key: secret")]
    {
        let gateway = Gateway::start(settings);
        let key = if key.is_empty() { "x-nothing: 0" } else { key };
        gateway.eventually("it is ready", || (gateway.get("/readyz").status == 200).then_some(()));
        let host = format!("host: {}", gateway.address);
        let own = format!("origin: http://{}", gateway.address);
        let upgrade = [
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        for (origin, allowed) in [
            ("origin: https://evil.example", false),
            ("origin: null", false),
            ("origin: http://localhost", false),
            ("sec-fetch-site: cross-site", false),
            ("sec-fetch-site: same-site", false),
            ("x-none: 0", true),
            ("origin: https://app.example\r\nsec-fetch-site: cross-site", true),
            (&own, true),
        ] {
            let headers = [&host, origin, key, "content-type: application/json"];
            let orders =
                gateway.raw(request("POST", &format!("{DEMO}/orders"), &headers, ORDER).as_bytes());
            let restart = gateway.raw(
                request("POST", &format!("{DEMO}/restart"), &[&host, origin, key], "").as_bytes(),
            );
            let stream = format!(
                "GET {DEMO}/stream?events=account HTTP/1.1\r\n{host}\r\n{origin}\r\n{key}\r\n{}\r\n\r\n",
                upgrade.join("\r\n")
            );
            let stream = gateway.raw(stream.as_bytes());
            if allowed {
                assert_eq!(status(&stream), 101, "{origin}: {stream}");
                assert!([201, 502, 503].contains(&status(&orders)), "{origin}: {orders}");
                assert!([202, 409].contains(&status(&restart)), "{origin}: {restart}");
            } else {
                for answer in [&orders, &restart, &stream] {
                    assert_eq!(status(answer), 403, "{origin}: {answer}");
                    assert_eq!(problem(answer)["type"], "/problems/origin-not-allowed");
                }
            }
        }
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_answer_tells_a_listed_origin_what_it_may_read() {
    let settings = format!(
        "[server]\ncors_origins = ['https://app.example']\nmax_body = '1 KiB'\n\
         trusted_proxies = ['127.0.0.1']\n\
         [auth.keys.t]\nsha256 = '{}'\nscopes = ['read']\n",
        sha256("secret")
    );
    let gateway = Gateway::start(&settings);
    gateway.eventually("it is ready", || (gateway.get("/readyz").status == 200).then_some(()));
    let origin = "origin: https://app.example";
    let key = "x-api-key: secret";
    let long = "x".repeat(2_000);
    let orders = format!("{DEMO}/orders");
    let json_type = "content-type: application/json";
    for (method, path, headers, body, expected) in [
        ("GET", "/api/v1/accounts", &["host: localhost", key][..], "", 200),
        ("GET", "/api/v1/accounts", &["host: localhost"], "", 401),
        ("POST", &orders, &["host: localhost", key, json_type], ORDER, 403),
        ("GET", "/nothing", &["host: localhost"], "", 404),
        ("DELETE", "/api/v1/accounts", &["host: localhost"], "", 405),
        ("GET", "/api/v1/accounts", &["host: localhost", key, "accept: text/html"], "", 406),
        (
            "GET",
            "/api/v1/accounts",
            &["host: localhost", key, "accept-encoding: identity;q=0, br"],
            "",
            406,
        ),
        ("POST", &orders, &["host: localhost", key, json_type], &long, 413),
        ("POST", &orders, &["host: localhost", key, "content-encoding: gzip"], ORDER, 415),
        ("GET", "/docs", &["host: evil.example"], "", 421),
        ("GET", "/docs", &[], "", 400),
        (
            "GET",
            "/docs",
            &["host: localhost", "forwarded: for=192.0.2.1", "x-forwarded-for: 192.0.2.2"],
            "",
            400,
        ),
    ] {
        let answer =
            gateway.raw(request(method, path, &[headers, &[origin]].concat(), body).as_bytes());
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
        let exposed = answer.lines().find(|line| line.starts_with("access-control-expose-headers"));
        let exposed = exposed.unwrap_or_else(|| panic!("{answer}"));
        for name in ["retry-after", "x-request-id", "etag", "idempotent-replayed", "location"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        let other = [headers, &["origin: https://other.example"]].concat();
        let answer = gateway.raw(request(method, path, &other, body).as_bytes());
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
    for path in ["/metrics", "/livez", "/readyz", "/metrics/"] {
        for method in ["GET", "OPTIONS"] {
            let answer =
                gateway.raw(request(method, path, &["host: localhost", origin], "").as_bytes());
            assert!(!answer.contains("access-control"), "{answer}");
        }
    }
}

#[test]
fn heads_that_cannot_be_read_are_refused_as_problems_that_are_logged_and_counted() {
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
fn a_body_that_does_not_arrive_has_a_deadline() {
    let gateway = Gateway::ready("[server]\nrequest_timeout = '500ms'\n");
    for framing in
        ["content-length: 100\r\n\r\n{\"sym", "transfer-encoding: chunked\r\n\r\n5\r\n{\"sym\r\n"]
    {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        write!(stream, "POST {DEMO}/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(status(&answer), 408, "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(body.contains("/problems/request-timeout"), "{answer}");
    }
}

#[test]
fn the_end_does_not_wait_for_requests_that_have_not_arrived() {
    let mut gateway = Gateway::ready("");
    let halves = [
        "",
        "GET / HTTP/1.1\r\nhos",
        "PRI * HTTP/2.0\r\n",
        &format!(
            "POST {DEMO}/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
        ),
    ];
    let open: Vec<TcpStream> = halves
        .iter()
        .map(|half| {
            let mut stream = TcpStream::connect(gateway.address).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    gateway.eventually("they are connected", || {
        (gateway.metric("http_connections_active") >= 4.0).then_some(())
    });
    let begun = Instant::now();
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    // The grace is 65 s, a head's limit 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(open);
}

#[cfg(unix)]
#[test]
fn the_end_of_a_shell_does_not_end_the_gateway() {
    let mut gateway = Gateway::ready("");
    gateway.signal("HUP");
    gateway.logs("SIGHUP ignored");
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
}

/// The answer to a request in HTTP/2, and the bytes of its body that come at once.
fn http2(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (http::response::Parts, Vec<u8>) {
    use hyper::body::Body;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let uri = format!("http://{}{path}", gateway.address);
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let mut body = std::pin::pin!(body);
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        let frame = tokio::time::timeout(PATIENCE, frame).await.unwrap();
        let bytes = frame.map(|frame| frame.unwrap().into_data().unwrap_or_default());
        (parts, bytes.unwrap_or_default().to_vec())
    })
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
fn heads_that_are_too_large_are_problems_in_http_2_too() {
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
fn headers_that_cannot_be_read_are_not_as_if_they_were_missing() {
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
fn the_front_door_leads_browsers_to_the_console_and_programs_to_the_links() {
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
fn connections_that_became_websockets_are_still_counted() {
    let gateway = Gateway::ready("");
    let open: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).unwrap();
            write!(stream, "GET {DEMO}/stream?events=account HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
            stream
        })
        .collect();
    let others = gateway.metric("http_connections_active") - 3.0;
    drop(open);
    gateway.eventually("they are gone", || {
        (gateway.metric("http_connections_active") <= others).then_some(())
    });
}

#[test]
fn the_client_is_whom_trusted_proxies_name() {
    let gateway = Gateway::ready("[server]\ntrusted_proxies = ['127.0.0.1']\n");
    for (header, value, client) in [
        ("x-forwarded-for", "198.51.100.1:4711", "198.51.100.1"),
        ("x-forwarded-for", "[2001:db8::2]:443", "2001:db8::2"),
        ("forwarded", "for=\"[2001:db8::3]:443\";proto=https", "2001:db8::3"),
        ("forwarded", "For=198.51.100.4, for=127.0.0.1", "198.51.100.4"),
    ] {
        assert_eq!(gateway.get_with(&format!("{DEMO}/ping"), &[(header, value)]).status, 200);
        gateway.logs(&format!("client={client}"));
    }
    let both = [("x-forwarded-for", "198.51.100.5"), ("forwarded", "for=198.51.100.6")];
    let refused = gateway.get_with(&format!("{DEMO}/ping"), &both);
    assert_eq!(refused.problem(), (400, "invalid-request".to_owned()));
}

/// Opens a WebSocket by hand, so that frames can be sent that no library sends.
fn raw_websocket(gateway: &Gateway, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {DEMO}/stream?{query} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A frame as a client sends it, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => panic!("too long for a test"),
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The frames that arrive until the gateway closes; each opcode with its payload.
fn frames(mut stream: TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = vec![];
    let _ = stream.read_to_end(&mut bytes);
    let (mut frames, mut rest) = (vec![], bytes.as_slice());
    while let [first, length, following @ ..] = rest {
        let (length, following) = match length & 0x7f {
            126 => (usize::from(u16::from_be_bytes([following[0], following[1]])), &following[2..]),
            length => (usize::from(length), following),
        };
        frames.push((first & 0x0f, following[..length].to_vec()));
        rest = &following[length..];
    }
    frames
}

#[test]
fn offences_against_the_websocket_protocol_are_named_when_it_is_closed() {
    let gateway = Gateway::ready("");
    for (offence, bytes, code) in [
        ("an unmasked frame", vec![0x81, 0x02, b'h', b'i'], 1002),
        ("a reserved bit", frame(0xc1, b"hi"), 1002),
        ("an unknown opcode", frame(0x83, b"hi"), 1002),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002),
        ("a ping in two parts", frame(0x09, b"hi"), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff\xfe"), 1007),
        ("a message of 5 kB", frame(0x81, &[b'x'; 5_000]), 1009),
        ("a message", frame(0x81, b"hello"), 1008),
    ] {
        let mut stream = raw_websocket(&gateway, "events=account");
        stream.write_all(&bytes).unwrap();
        let last = frames(stream).pop().unwrap();
        assert_eq!(last.0, 8, "{offence}: {last:?}");
        assert_eq!(u16::from_be_bytes([last.1[0], last.1[1]]), code, "{offence}");
    }
}

#[test]
fn a_websocket_whose_client_answers_no_ping_is_closed_also_while_events_flow() {
    let gateway = Gateway::ready("[streams]\nheartbeat = '100ms'\ntick_interval = '20ms'\n");
    for query in ["events=account", "symbols=EURUSD,GBPUSD"] {
        let mut stream = raw_websocket(&gateway, query);
        // Half a frame.
        stream.write_all(&[0x81, 0x80 | 5, 0, 0]).unwrap();
        let frames = frames(stream);
        assert!(frames.iter().filter(|(opcode, _)| *opcode == 9).count() >= 3, "{frames:?}");
        let last = frames.last().unwrap();
        assert_eq!((last.0, u16::from_be_bytes([last.1[0], last.1[1]])), (8, 1008));
    }
}

#[test]
fn a_client_that_takes_no_answer_hears_of_it_before_anything_is_done() {
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
fn a_preflight_is_refused_for_a_host_that_is_not_allowed() {
    let gateway = Gateway::ready("[server]\ncors_origins = ['https://app.example']\n");
    let origin = "origin: https://app.example";
    for (hosts, expected) in [
        (&["host: evil.example"][..], 421),
        (&[], 400),
        (&["host: localhost", "host: localhost"], 400),
        (&["host: localhost"], 200),
    ] {
        let headers = [hosts, &[origin, "access-control-request-method: POST"]].concat();
        let answer =
            gateway.raw(request("OPTIONS", &format!("{DEMO}/orders"), &headers, "").as_bytes());
        assert_eq!(status(&answer), expected, "{answer}");
        assert_eq!(answer.contains("access-control-allow-origin"), expected == 200, "{answer}");
    }
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let gateway = Gateway::ready("[server]\nmax_body = '1 KiB'\n");
    let large = vec![b'x'; 4_000_000];
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST {DEMO}/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", large.len()).unwrap();
    let _ = stream.write_all(&large);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 413, "{answer}");

    let mut stream = raw_websocket(&gateway, "events=account");
    let head = [&[0x81, 0x80 | 127][..], &1_000_000u64.to_be_bytes(), &[0; 4]].concat();
    stream.write_all(&head).unwrap();
    let _ = stream.write_all(&large[..1_000_000]);
    let last = frames(stream).pop().unwrap();
    assert_eq!((last.0, u16::from_be_bytes([last.1[0], last.1[1]])), (8, 1009));
}

/// An HTTP/2 answer that is read slowly, from a window of so many bytes: its length, and whether it was
/// whole.
async fn read_slowly(
    address: std::net::SocketAddr,
    path: String,
    window: u32,
    begun: tokio::sync::oneshot::Sender<()>,
    pause: Duration,
) -> (usize, bool) {
    use http_body_util::BodyExt;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{address}{path}"));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut length = 0;
    if window > 0 {
        length += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    begun.send(()).unwrap();
    tokio::time::sleep(pause).await;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.into_data().map_or(0, |data| data.len()),
            Err(_) => return (length, false),
        }
    }
    (length, true)
}

#[test]
fn an_answer_that_is_read_slowly_in_http_2_is_not_cut_by_the_end() {
    let mut gateway = Gateway::ready("");
    let path = "/openapi.json".to_owned();
    let whole = gateway.get(&path).body.len();
    assert!(whole > 200_000, "{whole} bytes fit into the window");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    // Longer than a connection without requests is given at the end.
    let reading =
        runtime.spawn(read_slowly(gateway.address, path, 65_535, begun, Duration::from_secs(3)));
    runtime.block_on(has_begun).unwrap();
    gateway.signal("TERM");
    assert_eq!(runtime.block_on(reading).unwrap(), (whole, true));
    assert!(gateway.wait().success());
}

#[test]
fn an_http_2_client_that_takes_nothing_is_cut_off() {
    let gateway =
        Gateway::ready("[server]\nwrite_timeout = '1s'\n[streams]\nheartbeat = '200ms'\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (path, window) in [
        ("/openapi.json".to_owned(), 65_535),
        ("/openapi.json".to_owned(), 0),
        (format!("{DEMO}/stream?symbols=EURUSD"), 0),
        (format!("{DEMO}/stream?symbols=EURUSD"), 1_000),
    ] {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let reading =
            runtime.spawn(read_slowly(gateway.address, path.clone(), window, begun, PATIENCE * 2));
        runtime.block_on(has_begun).unwrap();
        let route = path.split('?').next().unwrap().replace("demo", "{account}");
        let progress = format!(r#"http_requests_inprogress{{handler="{route}",method="GET"}}"#);
        gateway.eventually("it is cut off", || (gateway.metric(&progress) == 0.0).then_some(()));
        reading.abort();
    }
    gateway.logs("status=200");
}

#[test]
fn a_client_that_pings_and_never_reads_is_read_no_further() {
    let gateway = Gateway::ready("");
    let mut stream = raw_websocket(&gateway, "events=account");
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let pings = frame(0x89, &[b'x'; 125]).repeat(10_000);
    let mut sent = 0;
    while sent < 200_000_000 && stream.write_all(&pings).is_ok() {
        sent += pings.len();
    }
    assert!(sent < 100_000_000, "{sent} bytes of pings were taken, and their answers kept");
}

#[test]
fn an_answer_whose_end_http_1_0_could_not_tell_is_refused_there() {
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

#[test]
fn every_named_origin_is_not_the_one_without_a_name() {
    let gateway = Gateway::ready("[server]\ncors_origins = ['*']\n");
    for (origin, allowed) in [("https://any.example", "https://any.example"), ("null", "")] {
        let reply = gateway.get_with("/api/v1/accounts", &[("origin", origin)]);
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
    }
}

#[test]
fn a_client_whose_body_was_not_read_is_told_that_the_connection_ends() {
    let gateway = Gateway::ready("");
    let orders = format!("{DEMO}/orders");
    let keep = |text: String| text.replace("connection: close\r\n", "");
    let plain = ["host: localhost", "content-type: text/plain"];
    let unread = gateway.raw(keep(request("POST", &orders, &plain, ORDER)).as_bytes());
    assert_eq!(status(&unread), 415);
    assert!(unread.contains("\r\nconnection: close\r\n"), "{unread}");
    let json_type = ["host: localhost", "content-type: application/json"];
    let read = gateway.raw(keep(request("POST", &orders, &json_type, "{}")).as_bytes());
    assert_eq!(status(&read), 400);
    assert!(!read.contains("connection: close"), "{read}");
    let without = gateway.raw(keep(request("GET", "/livez", &["host: localhost"], "")).as_bytes());
    assert!(!without.contains("connection: close"), "{without}");
}
