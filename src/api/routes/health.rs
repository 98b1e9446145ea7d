//! Health and metrics, for those who watch the gateway. No key is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;
use warp::Filter;
use warp::reply::Response;

use crate::account_name::AccountName;
use crate::actor::Role;
use crate::api::authorized::AuthorizedRequest;
use crate::api::context::shorten;
use crate::api::filters::path::last;
use crate::api::filters::query::Parameter;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::metrics::Rendered;
use crate::pool::{Account, Standing};

/// How long the root actor and its children may take to answer that they live.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Prometheus refuses a scrape without exactly this kind of type.
const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How long a scrape may wait for its rendering, which takes milliseconds. Below the ten seconds
/// after which Prometheus gives up, so that the scraper sees the reason.
const RENDER_TIMEOUT: Duration = Duration::from_secs(5);

/// `/metrics`, `/livez` and `/readyz`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let metrics = last("metrics").and(resource!(routes: get Anyone metrics));
    let livez = last("livez").and(resource!(routes: get Anyone livez));
    let readyz = last("readyz").and(resource!(routes: get Anyone readyz));
    metrics.or(livez).unify().or(readyz).unify()
}

/// What `status` says when all is well.
pub const STATUS_OK: &str = "ok";

/// That all is well.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`
    status: &'static str,
}

/// That an account serves what was asked about.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    #[serde(flatten)]
    health: Health,
    /// The sessions of each account.
    #[schema(value_type = BTreeMap<String, ReadySessions>)]
    accounts: BTreeMap<AccountName, ReadySessions>,
}

/// How many of an account's sessions are ready.
#[derive(Serialize, ToSchema)]
pub struct ReadySessions {
    /// Those that take calls.
    ready: usize,
    /// All of them.
    sessions: usize,
}

/// Whether the process and its root actors answer.
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses((status = 200, description = "They do", body = Health))
)]
pub async fn livez(request: AuthorizedRequest) -> Outcome {
    let silent = request.app().gateway.silent(PING_TIMEOUT).await;
    if silent.is_empty() {
        return json(&request, &Health { status: STATUS_OK });
    }
    let silent: Vec<&str> = silent.into_iter().map(Role::name).collect();
    let detail = format!("actors that do not answer: {}", silent.join(", "));
    Err(Problem::new(ProblemType::NotReady, detail).retry_after(PING_TIMEOUT))
}

/// What an account has to be ready for.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Purpose {
    /// A session is ready.
    Read,
    /// Orders that open can be sent.
    Trade,
}

impl Parameter for Purpose {
    const EXPECTED: &'static str = "read or trade";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Purpose::Read),
            "trade" => Some(Purpose::Trade),
            _ => None,
        }
    }
}

/// Whether an account serves reads, or trades.
///
/// One account at least has to, or the one that is named. For load balancers.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    params(
        ("account" = Option<String>, Query, description = "The account that has to be ready; any one unless given"),
        ("for" = inline(Option<Purpose>), Query, description = "`read` (a session is ready, the default) or `trade` (orders that open can be sent, too)"),
    ),
    responses((status = 200, description = "One does; how many sessions are ready of each account", body = Readiness))
)]
pub async fn readyz(request: AuthorizedRequest) -> Outcome {
    let mut parameters = request.parameters()?;
    let named: Option<String> = parameters.optional("account")?;
    let purpose = parameters.optional("for")?.unwrap_or(Purpose::Read);
    parameters.finish()?;
    let app = request.app();
    let all = app.accounts.all();
    let asked =
        |account: &&Arc<Account>| named.as_deref().is_none_or(|name| *account.name == *name);
    let asked: Vec<_> = all.values().filter(asked).collect();
    if let (Some(name), []) = (&named, asked.as_slice()) {
        return Err(Problem::not_found(format!("there is no account {:?}", shorten(name))));
    }
    let permissions = asked.iter().map(|account| (&account.name, app.trading.permission(account)));
    let reasons: BTreeMap<_, _> =
        permissions.map(|(name, permission)| (name, permission.open.reasons)).collect();
    let (ready, unready) = match purpose {
        Purpose::Read => {
            // A gateway whose accounts have all been removed or paused does what it was told.
            let rests = |account: &&Arc<Account>| {
                matches!(account.door.standing(), Standing::Paused | Standing::Leaving)
            };
            let idle = named.is_none() && asked.iter().all(rests);
            let serves = |account: &&Arc<Account>| account.door.is_open() && account.is_ready();
            let ready = idle || asked.iter().any(serves);
            let paused = asked.iter().all(|account| !account.door.is_open());
            let why =
                if paused { "paused, or being changed" } else { "no account has a ready session" };
            (ready, why.to_owned())
        }
        Purpose::Trade => {
            let why = reasons.iter().map(|(name, reasons)| {
                let reasons: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
                format!("{} ({})", **name, reasons.join(", "))
            });
            let why: Vec<String> = why.collect();
            let ready = reasons.values().any(Vec::is_empty);
            (ready, format!("no account may trade: {}", why.join("; ")))
        }
    };
    let accounts: BTreeMap<AccountName, ReadySessions> = asked
        .iter()
        .map(|account| (account.name.clone(), ready_sessions(&account.status())))
        .collect();
    let measuring = app.first_sample.is_awaited(Instant::now()) && app.metrics.enabled();
    if ready && !measuring {
        return json(&request, &Readiness { health: Health { status: STATUS_OK }, accounts });
    }
    let detail = if ready { "the machine is still being measured".to_owned() } else { unready };
    let problem =
        Problem::new(ProblemType::NotReady, detail).with("accounts", serde_json::json!(accounts));
    let problem = match purpose {
        Purpose::Trade => problem.with("reasons", serde_json::json!(reasons)),
        Purpose::Read => problem,
    };
    Err(problem.retry_after(Duration::from_secs(1)))
}

fn ready_sessions(status: &crate::pool::AccountStatus) -> ReadySessions {
    let ready = status.sessions.iter().filter(|session| session.state.name() == "ready").count();
    ReadySessions { ready, sessions: status.sessions.len() }
}

/// The metrics as Prometheus text 0.0.4.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Every family", body = String, content_type = "text/plain"))
)]
pub async fn metrics(request: AuthorizedRequest) -> Outcome {
    let app = request.app();
    let Some(instruments) = &app.instruments else {
        return Err(Problem::not_found("metrics are switched off by `metrics.enabled`"));
    };
    if let Err(delay) = app.scrape_limit.check(request.context.peer) {
        instruments.scrape_rejected();
        let problem =
            Problem::new(ProblemType::TooManyRequests, "too many scrapes from this address");
        return Err(problem.retry_after(delay));
    }
    let text = snapshot(app.metrics.render(), RENDER_TIMEOUT).await?;
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Waits for a rendering, at most for `limit`.
async fn snapshot(
    rendering: impl Future<Output = Rendered>,
    limit: Duration,
) -> Result<Bytes, Problem> {
    let Ok(rendered) = tokio::time::timeout(limit, rendering).await else {
        warn!(?limit, "metrics rendering takes too long");
        let detail = format!("the metrics were not rendered within {limit:?}; scrape again");
        return Err(Problem::new(ProblemType::DeadlinePassed, detail));
    };
    rendered.map_err(|error| {
        Problem::new(ProblemType::NotReady, error.to_string()).retry_after(Duration::from_secs(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RenderError;

    #[tokio::test]
    async fn a_scrape_without_a_text_is_an_error_and_never_waits_for_ever() {
        for error in [RenderError::Panicked, RenderError::ThreadEnded, RenderError::Restarting] {
            let rendering = std::future::ready(Err(error));
            let problem = snapshot(rendering, RENDER_TIMEOUT).await.unwrap_err();
            assert_eq!(problem.into_response().status(), 503, "{error}");
        }
        let hanging = std::future::pending();
        let problem = snapshot(hanging, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(problem.into_response().status(), 504);
        let text = std::future::ready(Ok(Bytes::from_static(b"up 1\n")));
        assert_eq!(snapshot(text, RENDER_TIMEOUT).await.unwrap(), "up 1\n");
    }
}
