//! The OpenAPI document and Swagger UI, both from the binary itself.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;
use warp::Filter;
use warp::reply::Response;

use super::{Endpoint, Outcome, Routes, first_of, segment};
use crate::http::App;
use crate::http::openapi;
use crate::http::problem::{Kind, Problem};
use crate::http::request::{Call, shorten};

pub fn routes(app: &Arc<App>) -> Routes {
    // Written once: the document never changes.
    let document: Arc<str> = openapi::document().into();
    let openapi = Endpoint::open(app, "/openapi.json").to(
        warp::path("openapi.json").map(move || document.clone()),
        |_call: Call, document: Arc<str>| async move {
            Ok(typed(document.to_string(), "application/json"))
        },
    );
    let config = Arc::new(Config::from("/openapi.json"));
    let page = Endpoint::open(app, "/docs").to(
        warp::path("docs")
            .and(warp::path::full())
            .map(|path: warp::path::FullPath| path.as_str().ends_with('/')),
        {
            let config = config.clone();
            move |_call: Call, inside: bool| {
                let config = config.clone();
                async move { if inside { file("", config) } else { Ok(redirect()) } }
            }
        },
    );
    let files = Endpoint::open(app, "/docs/{file}").to(
        warp::path("docs").and(segment()),
        move |_call: Call, name: String| {
            let config = config.clone();
            async move { file(&name, config) }
        },
    );
    first_of([openapi, page, files])
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

fn typed(body: impl Into<bytes::Bytes>, content_type: &str) -> Response {
    let mut response = Response::new(body.into().into());
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}
