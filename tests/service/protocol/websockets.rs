//! WebSockets frame by frame.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::DEMO;
use crate::common::{Gateway, PATIENCE};

/// Opens a WebSocket by hand, so that frames can be sent that no library sends.
pub fn raw_websocket(gateway: &Gateway, query: &str) -> TcpStream {
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
pub fn frames(mut stream: TcpStream) -> Vec<(u8, Vec<u8>)> {
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
fn websockets_count_as_active_connections() {
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
fn a_websocket_violation_is_closed_with_its_code() {
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
fn a_websocket_whose_client_answers_no_ping_is_closed_even_while_events_flow() {
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
fn a_client_that_pings_without_reading_is_slowed_down() {
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
