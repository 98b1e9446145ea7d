//! Compression of answers, where it makes them shorter.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::Either;
use tower::service_fn;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionBody};
use tower_service::Service;

use crate::api::problem::{Problem, ProblemType};

/// Bytes of a body that are not worth compressing: they fit into one packet as they are.
const SHORT: u64 = 1_024;

/// The body of an answer. Most are short and stay as they are, so what compresses one has a box.
pub type Compressed<B> = Either<B, Pin<Box<CompressionBody<B>>>>;

/// Compresses an answer with the coding that admission chose, if that is worth it.
pub fn compress<B>(response: Response<B>, coding: Option<HeaderValue>) -> Response<Compressed<B>>
where
    B: Body<Data = Bytes> + Default,
{
    let worth_it = SizeAbove::new(SHORT).and(is_compressible);
    if !worth_it.should_compress(&response) {
        return response.map(Either::Left);
    }
    let mut request = Request::new(());
    request.headers_mut().extend(coding.map(|coding| (ACCEPT_ENCODING, coding)));
    // tower-http compresses what a service answers, here at once.
    let mut answer = Some(response);
    let answered = service_fn(|_| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
    let compression = Compression::new(answered);
    let mut compression = compression.quality(CompressionLevel::Fastest).compress_when(worth_it);
    let Some(Ok(compressed)) = compression.call(request).now_or_never() else {
        return Problem::from(ProblemType::Internal).into_response_of().map(Either::Left);
    };
    with_etag_of_encoding(compressed).map(|body| Either::Right(Box::pin(body)))
}

/// Whether an answer gets shorter by compression, without any of it being held back. Parquet is
/// compressed already, and events must be sent one by one.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is = |beginning: &str| content_type.starts_with(beginning.as_bytes());
    !is("text/event-stream") && !is("application/vnd.apache.parquet")
}

/// Weakens the `ETag` of a compressed answer: a strong one identifies the bytes of one coding.
fn with_etag_of_encoding<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(tag) = headers.get(ETAG).map(HeaderValue::as_bytes)
        && !tag.starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat())
    {
        headers.insert(ETAG, weak);
    }
    response
}
