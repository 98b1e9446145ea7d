//! The body of a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::headers;
use crate::api::authorized::AuthorizedRequest;
use crate::api::context::RequestContext;
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::JSON;

/// A body as it arrives. What is read of it is counted.
pub struct Body {
    context: Arc<RequestContext>,
    incoming: Option<Incoming>,
}

impl Body {
    /// The body of a request, of which nothing was read yet.
    pub fn of(context: Arc<RequestContext>) -> Body {
        let incoming = context.take_body();
        Body { context, incoming }
    }

    /// The next part. `None`: that was all.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let incoming = self.incoming.as_mut()?;
        loop {
            let frame = incoming.frame().await;
            if frame.is_none() || incoming.is_end_stream() {
                self.context.note_received_whole();
            }
            match frame?.map(Frame::into_data) {
                Ok(Ok(part)) => {
                    self.context.note_received(part.len());
                    return Some(Ok(part));
                }
                // Trailers, which say nothing here.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
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
