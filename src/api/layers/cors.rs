//! Cross-origin resource sharing: which pages of other origins may read answers.

use http::HeaderValue;
use http::header::{AGE, ALLOW, ETAG, LOCATION, RETRY_AFTER};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::request_log::REQUEST_ID;
use crate::api::filters::trade_headers::REPLAYED;
use crate::api::routes::HISTORY_WINDOW;

/// The layer for these origins, `*` for every one that has a name. `None`: there are no origins.
pub fn layer(origins: &[String]) -> Option<CorsLayer> {
    let exposed = [RETRY_AFTER, REQUEST_ID, ETAG, REPLAYED, LOCATION, ALLOW, AGE, HISTORY_WINDOW];
    if origins.is_empty() {
        return None;
    }
    let any = origins.iter().any(|origin| origin == "*");
    let listed: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let allowed = AllowOrigin::predicate(move |origin, _| {
        listed.contains(origin) || (any && origin.as_bytes() != b"null")
    });
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed);
    Some(layer)
}
