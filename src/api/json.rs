//! JSON in and out.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use warp::reply::Response;

use super::context::AuthorizedRequest;
use super::export;
use super::problem::{Problem, ProblemType};
use crate::mt5::{Answer, Rows};

/// Records from which on writing them takes long enough to keep it off the async threads.
const MANY_RECORDS: usize = 2_000;

/// The type of every answer that is no rows.
pub const JSON: &str = "application/json";

/// Answers with a value.
///
/// # Errors
/// 406, or 500 if the value cannot be written.
pub fn json(call: &AuthorizedRequest, value: &impl Serialize) -> Result<Response, Problem> {
    call.accepts(JSON)?;
    serde_json::to_vec(value).map(respond).map_err(unwritable)
}

/// Answers with a value that may be large, which is written on a thread for blocking work.
///
/// # Errors
/// 406, or 500 if the value cannot be written.
pub async fn large_json(
    call: &AuthorizedRequest,
    value: impl Serialize + Send + 'static,
) -> Result<Response, Problem> {
    call.accepts(JSON)?;
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&value)).await;
    written.map_err(unwritable)?.map(respond).map_err(unwritable)
}

/// Answers with what a terminal answered.
///
/// # Errors
/// 406, or 500 if it cannot be written.
pub async fn answer(call: &AuthorizedRequest, answer: Answer) -> Result<Response, Problem> {
    let records = match &answer {
        Answer::Tick(tick) => {
            call.accepts(JSON)?;
            let mut body = Vec::with_capacity(256);
            export::json::write(&Rows::pack([*tick]), &mut body);
            return Ok(respond(body));
        }
        Answer::Symbols(symbols) => symbols.len() * 10,
        Answer::Orders(orders) => orders.len(),
        Answer::Positions(positions) => positions.len(),
        _ => 1,
    };
    if records < MANY_RECORDS {
        return json(call, &answer);
    }
    large_json(call, answer).await
}

fn unwritable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Internal, format!("the answer could not be written: {error}"))
}

fn respond(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Reads a body of JSON.
///
/// # Errors
/// 413, 415, or 400 that names what is wrong.
pub async fn read<T: DeserializeOwned>(
    call: &AuthorizedRequest,
    mut body: impl Stream<Item = Result<Bytes, warp::Error>> + Unpin,
) -> Result<T, Problem> {
    let content_type = call.context.header(&CONTENT_TYPE)?;
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(JSON)) {
        let detail = format!("expected the header `Content-Type: {JSON}`");
        return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    }
    let limit = call.app.options.max_body;
    let mut bytes = Vec::new();
    while let Some(piece) = arriving(call, body.next()).await? {
        let piece =
            piece.map_err(|error| Problem::invalid(format!("the body broke off: {error}")))?;
        if (bytes.len() + piece.len()) as u64 > limit {
            return Err(Problem::body_too_large(limit));
        }
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("body: {error}")))
}

/// Waits for a part of a body, until the request's deadline. Shutdown ends the wait with 503.
///
/// # Errors
/// 408 or 503.
pub async fn arriving<T>(
    call: &AuthorizedRequest,
    part: impl Future<Output = T>,
) -> Result<T, Problem> {
    let stopping = call.app.streams.stopping();
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
