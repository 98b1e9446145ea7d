//! `Host`, `Origin`, CORS and proxies.

use serde_json::json;

use super::{DEMO, ORDER, positions, problem, request, status};
use crate::common::Gateway;

#[test]
fn a_host_name_that_is_not_allowed_reaches_nothing() {
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
fn a_page_of_an_unlisted_origin_can_neither_trade_nor_subscribe() {
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
fn every_response_to_a_listed_origin_has_cors_headers() {
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
fn a_wildcard_origin_does_not_include_null() {
    let gateway = Gateway::ready("[server]\ncors_origins = ['*']\n");
    for (origin, allowed) in [("https://any.example", "https://any.example"), ("null", "")] {
        let reply = gateway.get_with("/api/v1/accounts", &[("origin", origin)]);
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
    }
}

#[test]
fn the_client_address_comes_from_trusted_proxies() {
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
