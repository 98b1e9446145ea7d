//! The body of a request.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::headers;
use crate::api::authorized::AuthorizedRequest;
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::JSON;

/// A body as it arrives.
pub type Body = BoxStream<'static, Result<Bytes, warp::Error>>;

/// A body of which nothing has been read yet.
pub fn body(
    parts: impl Stream<Item = Result<impl Buf + 'static, warp::Error>> + Send + 'static,
) -> Body {
    parts.map(|part| part.map(|mut part| part.copy_to_bytes(part.remaining()))).boxed()
}

/// Reads and parses a body of JSON.
///
/// # Errors
/// 413, 415, or 400 that names what is wrong; 408 or 503 if it does not arrive in time.
pub async fn read_json<T: DeserializeOwned>(
    call: &AuthorizedRequest,
    mut body: Body,
) -> Result<T, Problem> {
    let content_type = headers::value(&call.context.headers, &CONTENT_TYPE)?;
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(JSON)) {
        let detail = format!("expected the header `Content-Type: {JSON}`");
        return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    }
    let limit = call.app().options.max_body;
    let mut bytes = Vec::new();
    while let Some(chunk) = arriving(call, body.next()).await? {
        let chunk =
            chunk.map_err(|error| Problem::invalid(format!("the body broke off: {error}")))?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Problem::body_too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("body: {error}")))
}

/// Waits for a part of a body until the request's deadline. A shutdown ends the wait with 503.
///
/// # Errors
/// 408 or 503.
pub async fn arriving<T>(
    call: &AuthorizedRequest,
    part: impl Future<Output = T>,
) -> Result<T, Problem> {
    let stopping = call.app().streams.stopping();
    tokio::select! {
        biased;
        part = part => Ok(part),
        () = tokio::time::sleep_until(call.call_context().deadline) => {
            let detail = "the body did not arrive whole in time; nothing was done";
            Err(Problem::new(ProblemType::RequestTimeout, detail))
        }
        () = stopping.cancelled() => {
            let detail = "the gateway stops, and the body has not arrived; nothing was done";
            Err(Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1)))
        }
    }
}
