//! Rows in bulk: formats, ranges in pages, responses that fail midway, and the cache of bars.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::Value;

use crate::common::Gateway;

const EURUSD: &str = "/api/v1/accounts/demo/symbols/EURUSD";

/// A range of 120,001 minutes, more than a simulated terminal gives at once.
const LONG: &str = "timeframe=M1&from=1700000040&to=1707200040";

fn simulator(more: &str) -> Gateway {
    Gateway::ready(&format!(
        "{more}\n[accounts.demo]\nlogin = 1\nserver = 'S'\n[accounts.demo.terminal]\n\
         kind = 'simulator'\n"
    ))
}

fn calls(gateway: &Gateway, method: &str) -> f64 {
    gateway.metric(&format!(
        "mt5_calls_total{{account=\"demo\",method=\"{method}\",outcome=\"success\"}}"
    ))
}

#[test]
fn a_format_is_chosen_by_parameter_or_header() {
    let gateway = simulator("");
    let rates = format!("{EURUSD}/rates?timeframe=H1&count=3");
    let types = [
        ("json", "application/json", "application/json", &b"[{"[..]),
        ("csv", "text/csv", "text/csv; charset=utf-8; header=present", b"time,open,"),
        (
            "arrow",
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.arrow.stream",
            b"\xff\xff\xff\xff",
        ),
        ("parquet", "application/vnd.apache.parquet", "application/vnd.apache.parquet", b"PAR1"),
    ];
    for (name, accept, content_type, beginning) in types {
        let by_name = gateway.get(&format!("{rates}&format={name}"));
        let by_type = gateway.get_with(&rates, &[("accept", accept)]);
        for reply in [&by_name, &by_type] {
            assert_eq!((reply.status, reply.header("content-type")), (200, content_type));
            assert!(reply.body.starts_with(beginning), "{name}");
            assert!(reply.header("vary").contains("accept"));
        }
        let refused = gateway.get_with(&format!("{rates}&format={name}"), &[("accept", "image/*")]);
        assert_eq!(refused.problem(), (406, "not-acceptable".into()));
    }
    let preferred = [
        ("*/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        (
            "application/json;q=0.1, application/vnd.apache.parquet",
            "application/vnd.apache.parquet",
        ),
        ("*/*;q=0.5, application/json;q=0", "application/vnd.apache.arrow.stream"),
    ];
    for (accept, content_type) in preferred {
        let reply = gateway.get_with(&rates, &[("accept", accept)]);
        assert_eq!((reply.status, reply.header("content-type")), (200, content_type), "{accept}");
    }
    assert_eq!(gateway.get(&format!("{rates}&format=xml")).problem().0, 406);
    assert_eq!(gateway.get(&format!("{rates}&format=CSV")).status, 200);
    let nothing = [("accept-encoding", "identity;q=0, *;q=0")];
    let refused = gateway.get_with(&rates, &nothing);
    assert_eq!(refused.problem(), (406, "not-acceptable".into()));
    assert_eq!(gateway.get("/api/v1/accounts/demo/symbols").header("vary"), "accept");
    assert_eq!(gateway.get_with(&rates, &[("accept", "text/html")]).problem().0, 406);
    for encoding in ["gzip", "zstd"] {
        let reply = gateway.get_with(
            &format!("{EURUSD}/rates?timeframe=M1&count=5000&format=csv"),
            &[("accept-encoding", encoding)],
        );
        assert_eq!(reply.header("content-encoding"), encoding);
    }
}

#[test]
fn a_range_longer_than_one_call_comes_without_gap_or_duplicate() {
    let gateway = simulator("[reads]\ncache = '0'");
    let reply = gateway.get(&format!("{EURUSD}/rates?{LONG}"));
    let bars = reply.json();
    let times: Vec<i64> =
        bars.as_array().unwrap().iter().map(|bar| bar["time"].as_i64().unwrap()).collect();
    assert_eq!(times, (0..=120_000).map(|minute| 1_700_000_040 + minute * 60).collect::<Vec<_>>());
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    assert_eq!(calls(&gateway, "copy_rates_range"), 3.0);
    let csv = gateway.get(&format!("{EURUSD}/rates?{LONG}&format=csv")).text();
    assert_eq!(csv.lines().count(), 120_002);
    // Two days of ticks, of which one call gives one.
    let (from, middle, to) = (1_700_000_000, 1_700_086_400, 1_700_172_800);
    let ticks = |from: i64, to: i64| {
        let ticks = gateway.get(&format!("{EURUSD}/ticks?from={from}&to={to}")).json();
        ticks.as_array().unwrap().clone()
    };
    let both = ticks(from, to);
    let times: Vec<i64> = both.iter().map(|tick| tick["time_msc"].as_i64().unwrap()).collect();
    assert!(times.is_sorted() && times.len() > 1000);
    let mut joined = ticks(from, middle);
    let second = ticks(middle, to);
    joined.retain(|tick| tick["time_msc"].as_i64().unwrap() < middle * 1000);
    joined.extend(second);
    assert_eq!(both, joined);
}

/// What a client sees of an answer, without the help of a library that hides its end.
fn raw(gateway: &Gateway, path: &str) -> (String, Vec<u8>) {
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..head]).into_owned(), answer.split_off(head + 4))
}

#[test]
fn a_response_that_fails_midway_ends_without_its_last_chunk() {
    let gateway = simulator(
        "[reads]\ncache = '0'\n[accounts.demo.terminal.faults.copy_rates_range]\nkind = 'code'\ncode = -1\nevery = 3",
    );
    let broken = raw(&gateway, &format!("{EURUSD}/rates?{LONG}&format=csv"));
    assert!(broken.0.starts_with("HTTP/1.1 200"), "{}", broken.0);
    assert!(broken.1.len() > 1_000_000 && !broken.1.ends_with(b"0\r\n\r\n"));
    gateway.logs("answer broken off");
    // Two more calls, and the next fails before anything was sent.
    let whole = format!("{EURUSD}/rates?timeframe=M1&from=1600000000&to=1600000600");
    assert_eq!(gateway.get(&whole).status, 200);
    let whole = format!("{EURUSD}/rates?timeframe=M1&from=1500000000&to=1500000600");
    assert_eq!(gateway.get(&whole).status, 200);
    let failed = gateway.get(&format!("{EURUSD}/rates?{LONG}&format=parquet"));
    assert_eq!(failed.problem(), (502, "terminal-error".into()));
}

#[test]
fn a_response_cut_by_shutdown_ends_without_its_last_chunk() {
    for format in ["json", "csv", "arrow"] {
        let mut gateway = simulator("server.shutdown_grace = '100ms'");
        let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
        let path = format!("{EURUSD}/rates?timeframe=M1&from=0&to=1700000000&format={format}");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = vec![0; 1_000_000];
        stream.read_exact(&mut answer).unwrap();
        gateway.signal("TERM");
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{format}: {} bytes", answer.len());
        assert!(gateway.wait().success());
    }
}

#[test]
fn times_with_parts_of_seconds_have_three_digits() {
    let gateway = simulator("");
    let csv = gateway.get(&format!("{EURUSD}/ticks?count=200&format=csv")).text();
    for line in csv.lines().skip(1) {
        for time in line.split(',').filter(|field| field.contains('T')) {
            assert_eq!(time.len(), "2026-11-25T03:40:00.000".len(), "{line}");
        }
    }
}

/// The most memory that the gateway has had, in bytes.
#[cfg(target_os = "linux")]
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn a_million_bars_take_little_memory() {
    let gateway = simulator("server.request_timeout = '30s'");
    let before = peak(&gateway);
    let million = format!("{EURUSD}/rates?timeframe=M1&from=1600000020&to=1660000020&format=arrow");
    let (_, mut body) = gateway.open(&million, &[]);
    let length = std::io::copy(&mut body, &mut std::io::sink()).unwrap();
    assert!(length > 60_000_000, "{length} bytes");
    let more = peak(&gateway) - before;
    assert!(more < 3 * length, "{more} bytes for an answer of {length}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_vanishes_ends_its_download() {
    let gateway = simulator("[reads]\ncache = '0'");
    let before = peak(&gateway);
    // Some 250 MB.
    let path = format!("{EURUSD}/rates?timeframe=M1&from=1500000000&to=1640000000");
    let (_, mut body) = gateway.open(&path, &[]);
    body.read_exact(&mut vec![0; 1_000_000]).unwrap();
    drop(body);
    gateway.eventually("the request has ended", || {
        let ended = "http_requests_total{handler=\"/api/v1/accounts/{account}/symbols/{symbol}/rates\",method=\"GET\",status=\"200\"}";
        (gateway.metric(ended) == 1.0).then_some(())
    });
    assert!(calls(&gateway, "copy_rates_range") < 10.0);
    let more = peak(&gateway) - before;
    assert!(more < 100_000_000, "{more} bytes for a client that was gone");
}

#[test]
fn closed_bars_have_an_etag_and_two_equal_reads_at_once_are_not_cached() {
    // What a terminal gives twice within a second may be a history that it still downloads.
    for cache in ["64 MiB", "0"] {
        let gateway = simulator(&format!("[reads]\ncache = '{cache}'"));
        let newest = format!("{EURUSD}/rates?timeframe=M1&count=1");
        assert_eq!(gateway.get(&newest).status, 200);
        let range = format!("{EURUSD}/rates?timeframe=M1&from=1700000000&to=1700060000");
        let first = gateway.get(&range);
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with("\"json-") && first.header("age").is_empty());
        for _ in 0..2 {
            let again = gateway.get(&range);
            assert_eq!((&again.body, again.header("etag")), (&first.body, tag.as_str()));
            assert!(again.header("age").is_empty());
        }
        let unchanged = gateway.get_with(&range, &[("if-none-match", &tag)]);
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
        assert_eq!(unchanged.header("etag"), tag);
        let other = gateway.get_with(&format!("{range}&format=csv"), &[("if-none-match", &tag)]);
        assert_eq!(other.status, 200);
        assert_eq!(calls(&gateway, "copy_rates_range"), 5.0, "{cache}");
    }
    // A range that may still change is not named.
    let gateway = simulator("");
    let now = jiff::Timestamp::now().as_second();
    let open = format!("{EURUSD}/rates?timeframe=M1&from={}&to={now}", now - 600);
    for expected in [1.0, 2.0] {
        let reply = gateway.get(&open);
        assert!(reply.header("etag").is_empty() && reply.header("age").is_empty());
        assert_eq!(calls(&gateway, "copy_rates_range"), expected);
    }
}

#[test]
fn closed_bars_are_cached_after_two_equal_reads_half_a_minute_apart() {
    let gateway = simulator("");
    let range = format!("{EURUSD}/rates?timeframe=M1&from=1700000000&to=1700060000");
    let first = gateway.get(&range);
    // Shows that the range's last bar is not the last of all.
    assert_eq!(gateway.get(&format!("{EURUSD}/rates?timeframe=M1&count=1")).status, 200);
    std::thread::sleep(Duration::from_secs(31));
    let second = gateway.get(&range);
    assert!(second.header("age").is_empty());
    assert_eq!(calls(&gateway, "copy_rates_range"), 2.0);
    let kept = gateway.get(&range);
    assert_eq!((&second.body, &kept.body), (&first.body, &first.body));
    assert_eq!(kept.header("etag"), first.header("etag"));
    assert!(!kept.header("age").is_empty());
    assert_eq!(calls(&gateway, "copy_rates_range"), 2.0);
}

#[test]
fn an_empty_answer_is_a_valid_table_in_every_format() {
    let gateway = simulator("");
    let orders = "/api/v1/accounts/demo/history/orders?from=0&to=100";
    assert_eq!(gateway.get(orders).json(), Value::Array(vec![]));
    let csv = gateway.get(&format!("{orders}&format=csv")).text();
    assert!(csv.starts_with("ticket,time_setup,") && csv.lines().count() == 1, "{csv}");
    for format in ["arrow", "parquet"] {
        assert!(gateway.get(&format!("{orders}&format={format}")).body.len() > 100);
    }
}
