//! The same streams over WebSockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::{Client, STREAM, simulator, wait_for_subscribers};
use crate::common::{Gateway, PATIENCE};

pub fn web_socket(gateway: &Gateway, query: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://{}{STREAM}?{query}", gateway.address);
    tungstenite::client(url, stream).unwrap().0
}

pub fn message(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_websocket_sends_the_same_events_and_accepts_no_messages() {
    let gateway = simulator("streams.state_interval = '20ms'\nstreams.heartbeat = '100ms'");
    let mut socket = web_socket(&gateway, "events=orders");
    let first = message(&mut socket);
    assert_eq!((&first["event"], &first["data"]), (&json!("orders"), &json!([])));
    // A heartbeat is a ping.
    assert!(matches!(socket.read().unwrap(), Message::Ping(_)));
    let mut again = web_socket(
        &gateway,
        &format!("events=orders&last_event_id={}", first["id"].as_str().unwrap()),
    );
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
    let changed = message(&mut socket);
    assert_eq!(changed["data"].as_array().unwrap().len(), 1);
    assert_eq!(message(&mut again), changed);
    let mut sse = Client::open(&gateway, "events=orders");
    let same = sse.next().unwrap();
    assert_eq!((&json!(same.id), &same.data), (&changed["id"], &changed["data"]));
    // A stream has nothing to be told.
    socket.send(Message::text("hello")).unwrap();
    let close = loop {
        if let Message::Close(Some(close)) = socket.read().unwrap() {
            break close;
        }
    };
    assert_eq!(close.code, CloseCode::Policy);
    // A client that closes is answered.
    again.close(None).unwrap();
    while let Ok(message) = again.read() {
        assert!(!message.is_text());
    }
    drop(sse);
    wait_for_subscribers(&gateway, 0.0);
}

#[test]
fn malformed_and_huge_frames_close_a_websocket() {
    let gateway = simulator("");
    // A huge frame is announced, with nothing behind it; then bytes that are no frame.
    let huge = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat();
    for sent in [huge, b"\xff\xff garbage of some length".to_vec()] {
        let mut socket = web_socket(&gateway, "events=account");
        message(&mut socket);
        let stream = socket.get_mut();
        stream.write_all(&sent).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        wait_for_subscribers(&gateway, 0.0);
    }
    // An upgrade that is none.
    let reply = gateway.raw(
        format!("GET {STREAM}?events=orders HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .as_bytes(),
    );
    assert!(reply.starts_with("HTTP/1.1 4") || reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(gateway.get("/livez").status, 200);
}
