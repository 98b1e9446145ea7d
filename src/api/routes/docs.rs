//! What a newcomer finds: the links at `/`, the OpenAPI document, and Swagger UI, all built into the
//! binary.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use utoipa_swagger_ui::Config;
use warp::Filter;
use warp::path::end;
use warp::reply::Response;

use crate::api::authorized::AuthorizedRequest;
use crate::api::context::shorten;
use crate::api::filters::path::{item, last};
use crate::api::filters::route::{Answers, Outcome, Routes, page, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;

/// Swagger UI may load nothing but itself, and talk to nobody but its gateway. It writes styles of
/// its own.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The files of Swagger UI, which shows our document.
static SWAGGER_UI: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// `/` and `/openapi.json`
pub fn area(routes: &mut Routes, document: &'static LazyLock<Bytes>) -> impl Answers + use<> {
    let links = end().and(resource!(routes: get Anyone root));
    let openapi = last("openapi.json").and(page(
        routes.page("/openapi.json"),
        move |_: AuthorizedRequest| {
            std::future::ready(Ok(typed((**document).clone(), "application/json")))
        },
    ));
    links.or(openapi).unify()
}

/// `/docs`
pub fn pages(routes: &mut Routes) -> impl Answers + use<> {
    let index = end().and(page(routes.page("/docs"), index));
    let files = item().and(end()).and(page(routes.page("/docs/{file}"), named_file));
    index.or(files).unify()
}

/// The page, whose own links are relative to `/docs/`.
async fn index(request: AuthorizedRequest) -> Outcome {
    if request.context.path().ends_with('/') { file("") } else { Ok(redirect()) }
}

async fn named_file(request: AuthorizedRequest) -> Outcome {
    file(request.context.item_segment())
}

/// Where everything is.
#[utoipa::path(
    get, path = "/", tag = "health",
    responses(
        (status = 200, description = "The links", body = Object),
        (status = 302, description = "To the console, for a client that prefers `text/html`"),
    )
)]
pub async fn root(request: AuthorizedRequest) -> Outcome {
    let mut response = if request.prefers_html()? {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/console"));
        response
    } else {
        json(
            &request,
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

fn redirect() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/docs/"));
    response
}

fn file(name: &str) -> Outcome {
    let found = utoipa_swagger_ui::serve(name, SWAGGER_UI.clone())
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
