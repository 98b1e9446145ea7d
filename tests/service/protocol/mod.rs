//! HTTP and WebSockets as clients really speak them: foreign pages, incomplete requests, malformed heads.

mod connections;
mod headers;
mod origins;
mod websockets;

use serde_json::Value;

use crate::common::{Gateway, PATIENCE};

const DEMO: &str = "/api/v1/accounts/demo";

const ORDER: &str = r#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;

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

fn positions(gateway: &Gateway) -> usize {
    gateway.get(&format!("{DEMO}/positions")).json().as_array().unwrap().len()
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
