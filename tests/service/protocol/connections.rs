//! Connections: bodies that do not arrive, answers that are not read, and the end of the gateway.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::websockets::{frames, raw_websocket};
use super::{DEMO, ORDER, request, status};
use crate::common::{Gateway, PATIENCE};

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
fn a_client_that_is_still_sending_receives_the_refusal() {
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

#[test]
fn an_unread_body_closes_the_connection() {
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

#[test]
fn shutdown_does_not_wait_for_incomplete_requests() {
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
fn sighup_does_not_end_the_gateway() {
    let mut gateway = Gateway::ready("");
    gateway.signal("HUP");
    gateway.logs("settings reloaded");
    assert_eq!(gateway.get("/livez").status, 200);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
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
fn shutdown_does_not_cut_a_slowly_read_http_2_response() {
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
fn an_http_2_client_that_reads_nothing_is_disconnected() {
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
