//! Answers with rows.
//!
//! A short answer goes out in one, with its length. A long one is sent while it is made, page by
//! page, so that it is never in memory as a whole. A failure in the middle breaks the connection,
//! so that a cut answer never looks complete.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;
use tracing::warn;
use warp::Reply;
use warp::reply::Response;

use super::encode::{EncodeError, Encoder};
use super::format::Format;
use super::table::Table;
use crate::api::authorized::AuthorizedRequest;
use crate::api::filters::headers;
use crate::api::problem::{Problem, ProblemType};
use crate::pool::history::{HistoryPage, HistoryPages};
use crate::pool::{CallContext, CallError};

/// Rows that are encoded at once: about a millisecond of work.
const CHUNK: usize = 4_096;

/// The most rows of an answer that goes out in one, with its length.
const WHOLE: usize = 2_000;

/// What is known about the rows of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Whether times are UTC.
    pub utc: bool,
    /// Whether the rows are of a past that can no longer change, so that the answer gets an `ETag`.
    pub closed: bool,
}

/// Answers with rows that are in memory.
///
/// # Errors
/// If they cannot be encoded, or `If-None-Match` cannot be parsed.
pub async fn answer<T: Table>(
    call: &AuthorizedRequest,
    format: Format,
    facts: Facts,
    rows: T,
) -> Result<Response, Problem> {
    stream(call, format, facts, SinglePage(Some(rows))).await
}

/// Rows that are one page.
struct SinglePage<T>(Option<T>);

impl<T: Table> HistoryPages for SinglePage<T> {
    type Rows = T;

    async fn next(&mut self, _: &CallContext) -> Result<Option<HistoryPage<T>>, CallError> {
        Ok(self.0.take().map(|rows| HistoryPage { rows, age: None }))
    }

    fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

/// Answers with rows that come in pages. The first page is fetched before the status is sent, so
/// that its failure is a problem; a later failure breaks the connection.
///
/// # Errors
/// If the first page cannot be fetched or encoded, or `If-None-Match` cannot be parsed.
pub async fn stream<P>(
    call: &AuthorizedRequest,
    format: Format,
    facts: Facts,
    mut pages: P,
) -> Result<Response, Problem>
where
    P: HistoryPages + Send + 'static,
    P::Rows: Table,
{
    let first = pages.next(call.call_context()).await?;
    let (rows, age) = first.map_or((None, None), |page| (Some(page.rows), page.age));
    let whole = pages.is_done();
    let length = rows.as_ref().map_or(0, Table::row_count);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if whole && facts.closed {
        let tag = entity_tag(format, facts, rows.as_ref()).await.map_err(not_encodable)?;
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        let known = headers::list(&call.context.headers, &IF_NONE_MATCH)?;
        let mut known = known.into_iter();
        let unchanged = known.find(|one| one.trim_start_matches("W/") == tag || *one == "*");
        // A client that has the tag of a compressed answer has a weak one, and gets that one back.
        let tag = unchanged.filter(|one| one.starts_with("W/")).unwrap_or(&tag);
        headers.insert(ETAG, HeaderValue::from_str(tag).map_err(not_encodable)?);
        if let Some(age) = age {
            headers.insert(AGE, HeaderValue::from(age.as_secs()));
        }
        if unchanged.is_some() {
            let mut response = Response::new(Vec::new().into());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            headers.remove(CONTENT_TYPE);
            *response.headers_mut() = headers;
            return Ok(response);
        }
    }
    let mut encoder = Encoder::<P::Rows>::new(format, facts.utc).map_err(not_encodable)?;
    let mut response = if whole && length <= WHOLE {
        let mut body = match &rows {
            Some(rows) => encoder.write(rows, 0..length).map_err(not_encodable)?,
            None => Vec::new(),
        };
        body.extend(encoder.finish().map_err(not_encodable)?);
        Response::new(body.into())
    } else {
        let (chunks, mut arriving) = mpsc::channel(2);
        let call = call.clone();
        tokio::spawn(async move {
            let end = match encode_pages(&call, encoder, rows, pages, &chunks).await {
                Ok(()) => AnswerChunk::End,
                Err(fault) => {
                    warn!(request_id = &*call.context.request_id, %fault, "answer broken off");
                    AnswerChunk::Broken(fault)
                }
            };
            let _ = chunks.send(end).await;
        });
        let body = futures_util::stream::poll_fn(move |context| {
            arriving.poll_recv(context).map(|chunk| match chunk {
                Some(AnswerChunk::Rows(bytes)) => Some(Ok(bytes)),
                Some(AnswerChunk::End) => None,
                Some(AnswerChunk::Broken(fault)) => Some(Err(fault)),
                // The encoding task ended with the gateway.
                None => Some(Err(BrokenAnswer::Cut)),
            })
        });
        // The compression layer may poll once more after the end.
        warp::reply::stream(body.fuse()).into_response()
    };
    *response.headers_mut() = headers;
    Ok(response)
}

/// A part of an answer on its way to the connection. An answer without [`AnswerChunk::End`] is not
/// complete.
enum AnswerChunk {
    Rows(Bytes),
    End,
    Broken(BrokenAnswer),
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
enum BrokenAnswer {
    #[error("{0}")]
    NotEncodable(String),
    #[error("the gateway stopped")]
    Cut,
    #[error("the key of the client has expired or was revoked")]
    KeyEnded,
    #[error("a later page could not be fetched: {0}")]
    Call(#[from] CallError),
}

/// Encodes pages as they come, as long as the client reads.
async fn encode_pages<P: HistoryPages>(
    call: &AuthorizedRequest,
    mut encoder: Encoder<P::Rows>,
    mut rows: Option<P::Rows>,
    mut pages: P,
    chunks: &mpsc::Sender<AnswerChunk>,
) -> Result<(), BrokenAnswer>
where
    P::Rows: Table,
{
    let broken = |error: EncodeError| BrokenAnswer::NotEncodable(error.to_string());
    while let Some(page) = rows {
        let length = page.row_count();
        for start in (0..length).step_by(CHUNK) {
            if call.has_key_ended() {
                return Err(BrokenAnswer::KeyEnded);
            }
            let range = start..(start + CHUNK).min(length);
            let chunk = encoder.write(&page, range).map_err(broken)?;
            if !chunk.is_empty() && chunks.send(AnswerChunk::Rows(chunk.into())).await.is_err() {
                return Ok(());
            }
        }
        drop(page);
        let context = call.renewed_context();
        rows = tokio::select! {
            page = pages.next(&context) => page?.map(|page| page.rows),
            () = chunks.closed() => return Ok(()),
            () = call.key_ended() => return Err(BrokenAnswer::KeyEnded),
        };
    }
    let end = encoder.finish().map_err(broken)?;
    if !end.is_empty() {
        let _ = chunks.send(AnswerChunk::Rows(end.into())).await;
    }
    Ok(())
}

/// The entity tag of the rows in a format.
async fn entity_tag<T: Table>(
    format: Format,
    facts: Facts,
    rows: Option<&T>,
) -> serde_json::Result<String> {
    let mut hasher = DefaultHasher::new();
    if let Some(rows) = rows {
        for start in (0..rows.row_count()).step_by(CHUNK) {
            rows.digest(start..(start + CHUNK).min(rows.row_count()), &mut hasher)?;
            tokio::task::yield_now().await;
        }
    }
    facts.utc.hash(&mut hasher);
    Ok(format!("\"{}-{:016x}\"", format.name(), hasher.finish()))
}

fn not_encodable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Internal, format!("the answer could not be written: {error}"))
}
