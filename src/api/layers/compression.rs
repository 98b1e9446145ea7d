//! Compression of answers, where it makes them shorter.

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};

/// Bytes of a body that are not worth compressing: they fit into one packet as they are.
const SHORT: u64 = 1_024;

/// The layer. It compresses with the coding that admission left in `Accept-Encoding`.
pub fn layer() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(SHORT).and(is_compressible);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

/// Whether an answer gets shorter by compression, without any of it being held back. Parquet is
/// compressed already, and events must be sent one by one.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is = |beginning: &str| content_type.starts_with(beginning.as_bytes());
    !is("text/event-stream") && !is("application/vnd.apache.parquet")
}
