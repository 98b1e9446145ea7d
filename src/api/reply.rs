//! Answers in JSON.

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use warp::reply::Response;

use super::context::AuthorizedRequest;
use super::export::rows_json;
use super::problem::{Problem, ProblemType};
use crate::mt5::{Answer, Rows};

/// Number of records from which on they are serialized on a blocking thread instead of an async
/// one.
const MANY_RECORDS: usize = 2_000;

/// The media type of every answer without rows.
pub const JSON: &str = "application/json";

/// Answers with a value.
///
/// # Errors
/// 406, or 500 if the value cannot be serialized.
pub fn json(call: &AuthorizedRequest, value: &impl Serialize) -> Result<Response, Problem> {
    call.accepts(JSON)?;
    serde_json::to_vec(value).map(respond).map_err(not_serializable)
}

/// Answers with a value that may be large: it is serialized on a blocking thread.
///
/// # Errors
/// 406, or 500 if the value cannot be serialized.
pub async fn large_json(
    call: &AuthorizedRequest,
    value: impl Serialize + Send + 'static,
) -> Result<Response, Problem> {
    call.accepts(JSON)?;
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&value)).await;
    written.map_err(not_serializable)?.map(respond).map_err(not_serializable)
}

/// Passes on a terminal's answer.
///
/// # Errors
/// 406, or 500 if it cannot be serialized.
pub async fn answer(call: &AuthorizedRequest, answer: Answer) -> Result<Response, Problem> {
    let records = match &answer {
        Answer::Tick(tick) => {
            call.accepts(JSON)?;
            let mut body = Vec::with_capacity(256);
            rows_json::write(&Rows::pack([*tick]), &mut body);
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

fn not_serializable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Internal, format!("the answer could not be written: {error}"))
}

fn respond(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
