//! The operator's console: a page from the binary, and what it shows.

use std::time::Duration;

use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use super::{Outcome, Table};
use crate::http::json::json;
use crate::http::parameters::Parameters;
use crate::http::problem::{Kind, Problem};
use crate::http::request::{Call, shorten};
use crate::metrics::Overview;
use crate::pool::AccountStatus;
use crate::telemetry::Noted;

/// The page may load nothing but itself, and talk to nobody but its gateway.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = include_str!("../console/index.html");

pub fn add(table: &mut Table) {
    let page = |_: Call, (): ()| async { Ok(served(PAGE, "text/html; charset=utf-8")) };
    table.open("/console", page);
    table.open("/console/{file}", |_: Call, name: String| async move { file(&name) });
    table.get("/api/v1/console", console);
}

fn file(name: &str) -> Outcome {
    match name {
        "console.css" => {
            Ok(served(include_str!("../console/console.css"), "text/css; charset=utf-8"))
        }
        "console.js" => {
            let script = include_str!("../console/console.js");
            Ok(served(script, "text/javascript; charset=utf-8"))
        }
        "icon.svg" => Ok(served(include_str!("../console/icon.svg"), "image/svg+xml")),
        other => Err(Problem::not_found(format!("there is no file {:?}", shorten(other)))),
    }
}

fn served(content: &'static str, content_type: &'static str) -> Response {
    let mut response = Response::new(content.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What the console shows.
#[derive(Serialize, ToSchema)]
pub struct Console {
    /// Version of the gateway.
    version: &'static str,
    /// Every account with its sessions.
    accounts: Vec<AccountStatus>,
    /// Sums of the metrics, and their last quarter of an hour.
    metrics: Overview,
    /// The last events of each actor, newest first.
    events: Vec<Noted>,
}

/// What `/console` shows: accounts, sums of the metrics, the last quarter of an hour, events.
#[utoipa::path(
    get, path = "/api/v1/console", tag = "health",
    responses((status = 200, description = "Everything at once", body = Console))
)]
pub async fn console(call: Call, (): ()) -> Outcome {
    Parameters::parse(call.exchange.query())?.finish()?;
    let metrics = call.app.metrics.overview().await.ok_or_else(|| {
        let problem = Problem::new(Kind::NotReady, "the metrics actor is being restarted");
        problem.retry_after(Duration::from_secs(1))
    })?;
    let console = Console {
        version: env!("CARGO_PKG_VERSION"),
        accounts: call.accounts().map(|account| account.status()).collect(),
        metrics,
        events: call.app.events.latest(),
    };
    let mut response = json(&call, &console)?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
