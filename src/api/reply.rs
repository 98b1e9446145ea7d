//! Answers in JSON.

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use warp::reply::Response;

use super::authorized::AuthorizedRequest;
use super::export::rows_json;
use super::problem::{Problem, ProblemType};
use crate::mt5::Row;

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

/// Answers with one row, which is written faster than serde would.
///
/// # Errors
/// 406.
pub fn row(call: &AuthorizedRequest, row: impl Row) -> Result<Response, Problem> {
    call.accepts(JSON)?;
    Ok(respond(rows_json::one(&row)))
}

/// Answers with records, many of which are serialized on a blocking thread.
///
/// # Errors
/// 406, or 500 if they cannot be serialized.
pub async fn records<T>(call: &AuthorizedRequest, records: Vec<T>) -> Result<Response, Problem>
where
    T: Serialize + Send + 'static,
{
    if records.len() < MANY_RECORDS {
        return json(call, &records);
    }
    large_json(call, records).await
}

fn not_serializable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Internal, format!("the answer could not be written: {error}"))
}

fn respond(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
