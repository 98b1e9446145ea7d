//! Slow subscribers, many subscribers, and the end of the gateway.

use std::io::Write;
use std::net::TcpStream;

use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::websockets::{message, web_socket};
use super::{
    Client, STREAM, change_orders, sequence, simulator, subscribers, wait_for_subscribers,
};

#[test]
fn a_slow_subscriber_delays_nobody_and_gets_a_gap() {
    let gateway = simulator("streams.state_interval = '2ms'\nstreams.buffer = '256 KiB'");
    let mut slow = Client::open(&gateway, "events=orders");
    let first = slow.next().unwrap();
    // The other one reads until the first has no more room in its connection's buffers.
    let mut quick = Client::open(&gateway, "events=orders");
    let mut place = quick.next().unwrap().sequence();
    let mut bytes = 0;
    while bytes < 20_000_000 {
        change_orders(&gateway);
        let event = quick.next().unwrap();
        assert_eq!((event.event.as_str(), event.sequence()), ("orders", place + 1));
        place += 1;
        bytes += event.data.to_string().len();
    }
    let mut place = first.sequence();
    let gap = loop {
        let event = slow.next().unwrap();
        if event.event == "gap" {
            break event;
        }
        assert_eq!(event.sequence(), place + 1);
        place += 1;
    };
    assert_eq!(sequence(gap.data["from"].as_str().unwrap()), place + 1);
    assert_eq!(slow.next().unwrap().sequence(), gap.sequence() + 1);
    let dropped = gateway.metric("gateway_stream_events_dropped_total{account=\"demo\"}");
    assert_eq!(dropped, (gap.sequence() - place) as f64);
}

#[test]
fn a_subscriber_that_reads_nothing_is_disconnected() {
    let gateway = simulator("streams.state_interval = '2ms'\nserver.write_timeout = '200ms'");
    let address = gateway.address;
    let never_read = |head: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {STREAM}?events=orders HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")
            .unwrap();
        stream
    };
    let connections = [
        never_read(""),
        never_read(
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
    ];
    wait_for_subscribers(&gateway, 2.0);
    gateway.eventually("both are cut off", || {
        (0..20).for_each(|_| change_orders(&gateway));
        (subscribers(&gateway) == 0.0).then_some(())
    });
    drop(connections);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_requests_are_still_answered() {
    let gateway = simulator("streams.max = 100");
    let mut asked = Vec::new();
    for _ in 0..5_000 {
        let Ok(mut stream) = TcpStream::connect(gateway.address) else { break };
        let request = format!("GET {STREAM}?events=account HTTP/1.1\r\nhost: localhost\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
        asked.push(stream);
        // As many as this process may have open.
        if asked.len() == 900 {
            asked.drain(..800);
        }
    }
    assert_eq!(gateway.get("/api/v1/accounts/demo/symbols/EURUSD/tick").status, 200);
    assert!(subscribers(&gateway) <= 100.0);
    drop(asked);
    wait_for_subscribers(&gateway, 0.0);
    Client::open(&gateway, "events=orders").next().unwrap();
}

#[test]
fn streams_end_cleanly_when_the_gateway_stops() {
    let mut gateway = simulator("");
    let mut client = Client::open(&gateway, "events=orders");
    client.next().unwrap();
    let mut socket = web_socket(&gateway, "events=orders");
    assert_eq!(message(&mut socket)["event"], "orders");
    gateway.signal("TERM");
    assert_eq!(client.next().unwrap().event, "end");
    assert_eq!(client.next(), None);
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Away);
    assert!(gateway.wait().success());
}
