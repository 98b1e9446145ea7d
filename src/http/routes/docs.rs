//! The OpenAPI document and Swagger UI, both from the binary itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;
use warp::reply::Response;

use super::{Outcome, Table};
use crate::http::openapi;
use crate::http::problem::{Kind, Problem};
use crate::http::request::{Call, shorten};

pub fn add(table: &mut Table) {
    // Written once: the document never changes.
    let document: Bytes = openapi::document().into();
    table.open("/openapi.json", move |_: Call, (): ()| {
        std::future::ready(Ok(typed(document.clone(), "application/json")))
    });
    let config = Arc::new(Config::from("/openapi.json"));
    let page = config.clone();
    table.open("/docs", move |call: Call, (): ()| {
        let inside = call.exchange.path().ends_with('/');
        std::future::ready(if inside { file("", page.clone()) } else { Ok(redirect()) })
    });
    table.open("/docs/{file}", move |_: Call, name: String| {
        std::future::ready(file(&name, config.clone()))
    });
}

/// The page's own links are relative to `/docs/`.
fn redirect() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/docs/"));
    response
}

fn file(name: &str, config: Arc<Config<'static>>) -> Outcome {
    let found = utoipa_swagger_ui::serve(name, config)
        .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    let file =
        found.ok_or_else(|| Problem::not_found(format!("there is no page {:?}", shorten(name))))?;
    let mut response = typed(file.bytes.into_owned(), &file.content_type);
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn typed(body: impl Into<Bytes>, content_type: &str) -> Response {
    let mut response = Response::new(body.into().into());
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}
