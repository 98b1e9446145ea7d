//! The refusals that hyper writes by itself.
//!
//! hyper answers a head that it cannot read before any service sees the request, without a body and
//! without an id. The gateway recognizes such an answer among the bytes that are written, and
//! replaces it by the same answer with a problem as its body.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

/// Makes the problem of a refusal: its request id and its body.
pub type MakeProblem = Box<dyn Fn(StatusCode) -> (Arc<str>, Vec<u8>) + Send + Sync>;

/// The status of a response that hyper has written by itself. Responses of a service have an id.
pub fn status_of_bare_refusal(written: &[u8]) -> Option<StatusCode> {
    let after_version =
        written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?;
    let status = StatusCode::from_bytes(after_version.get(..3)?).ok()?;
    if !status.is_client_error() || !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && !head.contains("\r\nx-request-id:");
    is_bare.then_some(status)
}

/// The same response with a body.
pub fn with_body(head: &[u8], request_id: &str, body: &[u8]) -> Bytes {
    let head = String::from_utf8_lossy(head);
    let lines = head.trim_end().split("\r\n");
    let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let head: Vec<&str> = kept.collect();
    let mut response = format!(
        "{}\r\ncontent-type: application/problem+json\r\nx-request-id: {request_id}\r\n\
         content-length: {}\r\n\r\n",
        head.join("\r\n"),
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    response.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_that_hyper_writes_by_itself_are_refusals() {
        let own =
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(status_of_bare_refusal(own.as_bytes()), Some(StatusCode::BAD_REQUEST));
        for other in [
            own.replace("date: x", "x-request-id: 1"),
            own.replace("400", "200"),
            own.replace("content-length: 0", "content-length: 1"),
            format!("{own}more"),
            format!("x{own}"),
            String::new(),
        ] {
            assert_eq!(status_of_bare_refusal(other.as_bytes()), None, "{other}");
        }
    }
}
