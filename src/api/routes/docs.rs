//! What a newcomer finds: the links at `/`, the OpenAPI document, and Swagger UI, all from the
//! binary itself.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use utoipa_swagger_ui::Config;
use warp::reply::Response;

use super::{Outcome, Table};
use crate::api::context::{AuthorizedRequest, shorten};
use crate::api::openapi;
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;

/// Swagger UI may load nothing but itself, and talk to nobody but its gateway. It writes styles of
/// its own.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// Written once: the document never changes. It is written from the table of routes, so not while
/// that is being made.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().into());

pub fn add(table: &mut Table) {
    table.open("/", root);
    table.open("/openapi.json", |_: AuthorizedRequest, (): ()| {
        std::future::ready(Ok(typed(DOCUMENT.clone(), "application/json")))
    });
    let config = Arc::new(Config::from("/openapi.json"));
    let page = config.clone();
    table.open("/docs", move |call: AuthorizedRequest, (): ()| {
        let inside = call.context.path().ends_with('/');
        std::future::ready(if inside { file("", page.clone()) } else { Ok(redirect()) })
    });
    table.open("/docs/{file}", move |_: AuthorizedRequest, name: String| {
        std::future::ready(file(&name, config.clone()))
    });
}

/// Where everything is.
#[utoipa::path(
    get, path = "/", tag = "health",
    responses(
        (status = 200, description = "The links", body = Object),
        (status = 302, description = "To the console, for a client that prefers `text/html`"),
    )
)]
pub async fn root(call: AuthorizedRequest, (): ()) -> Outcome {
    let mut response = if call.prefers_html()? {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/console"));
        response
    } else {
        json(
            &call,
            &json!({
                "accounts": "/api/v1/accounts",
                "console": "/console",
                "docs": "/docs",
                "openapi": "/openapi.json",
                "metrics": "/metrics",
                "livez": "/livez",
                "readyz": "/readyz",
            }),
        )?
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
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
        .map_err(|error| Problem::new(ProblemType::Internal, error.to_string()))?;
    let file =
        found.ok_or_else(|| Problem::not_found(format!("there is no page {:?}", shorten(name))))?;
    let mut response = typed(file.bytes.into_owned(), &file.content_type);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
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
