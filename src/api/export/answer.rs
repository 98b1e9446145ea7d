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
use crate::api::context::AuthorizedRequest;
use crate::api::problem::{Problem, ProblemType};
use crate::pool::history::{HistoryPage, HistoryPages};
use crate::pool::{CallContext, CallError};

/// Rows that are written at once: about a millisecond of work.
const CHUNK: usize = 4_096;

/// Rows up to which an answer goes out in one, with its length.
const WHOLE: usize = 2_000;

/// What is known of an answer beside its rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Whether times are UTC.
    pub utc: bool,
    /// Whether the rows are of a past that does not change any more.
    pub closed: bool,
}

/// Answers with rows that are all there.
///
/// # Errors
/// If they cannot be written.
pub async fn answer<T: Table>(
    call: &AuthorizedRequest,
    format: Format,
    facts: Facts,
    rows: T,
) -> Result<Response, Problem> {
    stream(call, format, facts, SinglePage(Some(rows))).await
}

/// Rows that came in one piece.
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

/// Answers with rows that come in pieces, the first of them before the status
/// is sent.
///
/// # Errors
/// If the first piece cannot be had.
pub async fn stream<P>(
    call: &AuthorizedRequest,
    format: Format,
    facts: Facts,
    mut pieces: P,
) -> Result<Response, Problem>
where
    P: HistoryPages + Send + 'static,
    P::Rows: Table,
{
    let first = pieces.next(call.call_context()).await?;
    let (rows, age) = first.map_or((None, None), |piece| (Some(piece.rows), piece.age));
    let whole = pieces.is_done();
    let length = rows.as_ref().map_or(0, Table::row_count);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if whole && facts.closed {
        let tag = tag(format, facts, rows.as_ref()).await.map_err(unwritable)?;
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        let known = call.context.header_list(&IF_NONE_MATCH)?;
        let mut known = known.into_iter();
        let unchanged = known.find(|one| one.trim_start_matches("W/") == tag || *one == "*");
        // The tag of a compressed answer is a weak one, and stays so in the answer that it is good.
        let tag = unchanged.filter(|one| one.starts_with("W/")).unwrap_or(&tag);
        headers.insert(ETAG, HeaderValue::from_str(tag).map_err(unwritable)?);
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
    let mut encoder = Encoder::<P::Rows>::new(format, facts.utc).map_err(unwritable)?;
    let mut response = if whole && length <= WHOLE {
        let mut body = match &rows {
            Some(rows) => encoder.write(rows, 0..length).map_err(unwritable)?,
            None => Vec::new(),
        };
        body.extend(encoder.finish().map_err(unwritable)?);
        Response::new(body.into())
    } else {
        let (chunks, mut arriving) = mpsc::channel(2);
        let call = call.clone();
        tokio::spawn(async move {
            let end = match pour(&call, encoder, rows, pieces, &chunks).await {
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
                // The task that writes was ended with the gateway.
                None => Some(Err(BrokenAnswer::Cut)),
            })
        });
        // What compresses may ask once more.
        warp::reply::stream(body.fuse()).into_response()
    };
    *response.headers_mut() = headers;
    Ok(response)
}

/// A part of an answer on its way to the connection. Only what ends with [`AnswerChunk::End`] is
/// whole.
enum AnswerChunk {
    Rows(Bytes),
    End,
    Broken(BrokenAnswer),
}

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
enum BrokenAnswer {
    #[error("{0}")]
    Unwritable(String),
    #[error("the gateway stopped")]
    Cut,
    #[error("the key of the client has expired")]
    KeyExpired,
    #[error("a later piece has no answer: {0}")]
    Call(#[from] CallError),
}

/// Writes pieces as they come, for as long as the client takes them.
async fn pour<P: HistoryPages>(
    call: &AuthorizedRequest,
    mut encoder: Encoder<P::Rows>,
    mut rows: Option<P::Rows>,
    mut pieces: P,
    chunks: &mpsc::Sender<AnswerChunk>,
) -> Result<(), BrokenAnswer>
where
    P::Rows: Table,
{
    let broken = |error: EncodeError| BrokenAnswer::Unwritable(error.to_string());
    while let Some(piece) = rows {
        let length = piece.row_count();
        for start in (0..length).step_by(CHUNK) {
            if call.is_key_expired() {
                return Err(BrokenAnswer::KeyExpired);
            }
            let range = start..(start + CHUNK).min(length);
            let chunk = encoder.write(&piece, range).map_err(broken)?;
            if !chunk.is_empty() && chunks.send(AnswerChunk::Rows(chunk.into())).await.is_err() {
                return Ok(());
            }
        }
        drop(piece);
        let context = call.renewed_context();
        rows = tokio::select! {
            piece = pieces.next(&context) => piece?.map(|piece| piece.rows),
            () = chunks.closed() => return Ok(()),
        };
    }
    let end = encoder.finish().map_err(broken)?;
    if !end.is_empty() {
        let _ = chunks.send(AnswerChunk::Rows(end.into())).await;
    }
    Ok(())
}

/// Names the content, so that a client can ask whether it is still the same.
async fn tag<T: Table>(
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

fn unwritable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::Internal, format!("the answer could not be written: {error}"))
}
