//! The operator's console: a page from the binary, and what it shows.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;
use warp::reply::Response;

use crate::api::auth::Scope;
use crate::api::authorized::AuthorizedRequest;
use crate::api::context::shorten;
use crate::api::filters::path::{item, last};
use crate::api::filters::route::{Answers, Outcome, Routes, page, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::large_json;
use crate::metrics::{Overview, Unknown};
use crate::pool::{AccountMoney, AccountStatus, Availability, Ready, SessionState, SessionStatus};
use crate::telemetry::LoggedEvent;
use crate::trading::TradePermission;

/// The page may load nothing but itself, and talk to nobody but its gateway.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page's files: name, type, content. The first one is the page itself.
const FILES: &[(&str, &str, &str)] = &[
    ("", "text/html; charset=utf-8", include_str!("../console/index.html")),
    ("console.css", "text/css; charset=utf-8", include_str!("../console/console.css")),
    ("console.js", JAVASCRIPT, include_str!("../console/console.js")),
    ("accounts.js", JAVASCRIPT, include_str!("../console/accounts.js")),
    ("confirm.js", JAVASCRIPT, include_str!("../console/confirm.js")),
    ("dom.js", JAVASCRIPT, include_str!("../console/dom.js")),
    ("events.js", JAVASCRIPT, include_str!("../console/events.js")),
    ("figures.js", JAVASCRIPT, include_str!("../console/figures.js")),
    ("format.js", JAVASCRIPT, include_str!("../console/format.js")),
    ("gateway.js", JAVASCRIPT, include_str!("../console/gateway.js")),
    ("halt.js", JAVASCRIPT, include_str!("../console/halt.js")),
    ("plots.js", JAVASCRIPT, include_str!("../console/plots.js")),
    ("up.svg", SVG, include_str!("../console/up.svg")),
    ("degraded.svg", SVG, include_str!("../console/degraded.svg")),
    ("down.svg", SVG, include_str!("../console/down.svg")),
    ("stale.svg", SVG, include_str!("../console/stale.svg")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// By how much the note of what went wrong may be older than the state that it led to, seconds.
const NOTED_BEFORE: i64 = 1;

/// Sessions that a reason names one by one.
const NAMED: usize = 3;

/// `/api/v1/console`
pub fn figures(routes: &mut Routes) -> impl Answers + use<> {
    last("console").and(resource!(routes: get Read console))
}

/// `/console`
pub fn pages(routes: &mut Routes) -> impl Answers + use<> {
    let index = end().and(page(routes.page("/console"), index));
    let files = item().and(end()).and(page(routes.page("/console/{file}"), named_file));
    index.or(files).unify()
}

async fn index(_: AuthorizedRequest) -> Outcome {
    file("")
}

async fn named_file(request: AuthorizedRequest) -> Outcome {
    file(request.context.item_segment())
}

fn file(name: &str) -> Outcome {
    let found = FILES.iter().find(|(known, _, _)| *known == name);
    let (_, content_type, content) =
        found.ok_or_else(|| Problem::not_found(format!("there is no file {:?}", shorten(name))))?;
    let mut response = Response::new((*content).into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// What the console shows.
#[derive(Serialize, ToSchema)]
pub struct Console {
    /// Version of the gateway.
    version: &'static str,
    /// The commit that it was built from, or `unknown`.
    revision: &'static str,
    /// Name of the machine that it runs on.
    host: Option<String>,
    /// When it was started, RFC 3339.
    #[schema(value_type = String)]
    started: Timestamp,
    /// The time on its clock, RFC 3339.
    #[schema(value_type = String)]
    now: Timestamp,
    /// Whether the client may restart terminals.
    may_restart: bool,
    /// Whether the client may halt these accounts, and lift that.
    may_halt: bool,
    /// Whether the client may halt all accounts at once, and lift that.
    may_halt_all: bool,
    /// Whether all accounts are halted.
    all_halted: bool,
    /// Whether metrics are measured (`metrics.enabled`). Without, `metrics` stays at 0.
    measured: bool,
    /// Every account with its sessions.
    accounts: Vec<ConsoleAccount>,
    /// Sums of the metrics over these accounts, and their last quarter of an hour.
    metrics: Overview,
    /// The last events of each actor of each account, at most 200, and as many warnings and errors;
    /// newest first. With hundreds of actors they are fewer of each.
    events: Vec<LoggedEvent>,
}

/// An account, and how it is.
#[derive(Serialize, ToSchema)]
struct ConsoleAccount {
    #[serde(flatten)]
    status: AccountStatus,
    /// Whether orders can be sent now.
    trading: TradePermission,
    /// Its money, as the last probe showed it. `null`: no terminal is ready.
    money: Option<AccountMoney>,
    /// How it is.
    health: AccountHealth,
    /// `mt5_trades_unknown`. `null`: not measured.
    trades_unknown: Option<u64>,
    /// When the oldest unknown trade was made, RFC 3339. `null`: there is none.
    #[schema(value_type = Option<String>)]
    trades_unknown_since: Option<Timestamp>,
}

/// How an account is.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct AccountHealth {
    /// The one word.
    state: AccountHealthState,
    /// Since when, RFC 3339.
    #[schema(value_type = String)]
    since: Timestamp,
    /// What is wrong with its sessions. `null`: nothing; if it is degraded all the same, unknown trades
    /// are why.
    reason: Option<String>,
}

/// How an account is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AccountHealthState {
    /// Every session is ready, and no trade is unknown.
    Up,
    /// Calls are served, but a session is not ready or a trade is unknown.
    Degraded,
    /// No session is ready.
    Down,
}

impl AccountHealth {
    /// Decides how an account is.
    fn of(
        sessions: &[SessionStatus],
        availability: Availability,
        unknown: Unknown,
    ) -> AccountHealth {
        let Availability { ready, since } = availability;
        match ready {
            Ready::All if unknown.count == 0 => {
                AccountHealth { state: AccountHealthState::Up, since, reason: None }
            }
            Ready::All => {
                // It was no better before its last session became ready.
                let since = oldest(unknown).map_or(since, |oldest| oldest.max(since));
                AccountHealth { state: AccountHealthState::Degraded, since, reason: None }
            }
            Ready::Some => {
                let reason = Some(why(sessions, since));
                AccountHealth { state: AccountHealthState::Degraded, since, reason }
            }
            Ready::None => AccountHealth {
                state: AccountHealthState::Down,
                since,
                reason: Some(why(sessions, since)),
            },
        }
    }
}

fn oldest(unknown: Unknown) -> Option<Timestamp> {
    let millisecond =
        (unknown.count > 0 && unknown.oldest > 0.0).then_some(unknown.oldest * 1e3)?;
    Timestamp::from_millisecond(millisecond as i64).ok()
}

/// What the sessions that are not ready do, and what went wrong with them.
fn why(sessions: &[SessionStatus], since: Timestamp) -> String {
    let failing: Vec<(usize, &SessionStatus)> =
        sessions.iter().enumerate().filter(|(_, one)| one.state != SessionState::Ready).collect();
    let mut reasons: Vec<String> = failing
        .iter()
        .take(NAMED)
        .map(|(index, session)| {
            let doing = match session.state {
                SessionState::Starting => "is being started",
                SessionState::LoggingIn => "logs in",
                SessionState::Ready => "is ready",
                SessionState::Disconnected => "is disconnected from its broker",
                SessionState::BackingOff => "waits for its next start",
                SessionState::Quarantined => "is quarantined",
            };
            // An error from before has nothing to do with it.
            let error = session.last_error.as_ref();
            let error =
                error.filter(|error| error.at.duration_since(since).as_secs() >= -NOTED_BEFORE);
            let error = error.map_or(String::new(), |error| format!(": {}", error.message));
            format!("session {index} {doing}{error}")
        })
        .collect();
    if failing.len() > NAMED {
        reasons.push(format!("{} more sessions are not ready", failing.len() - NAMED));
    }
    reasons.join("; ")
}

/// What `/console` shows.
///
/// Accounts, sums of the metrics, the last quarter of an hour, events. Show times relative to `now`: the clock of the client may be wrong.
#[utoipa::path(
    get, path = "/api/v1/console", tag = "health",
    params(
        ("after" = Option<u64>, Query, description = "Only events with a higher `id`; all that are kept unless given"),
    ),
    responses((status = 200, description = "Everything at once", body = Console))
)]
pub async fn console(request: AuthorizedRequest) -> Outcome {
    let mut parameters = request.parameters()?;
    let after: u64 = parameters.optional("after")?.unwrap_or_default();
    parameters.finish()?;
    let app = request.app();
    // The only place that lists accounts: what follows is about these, or about no account.
    let accounts = request.accounts();
    let names: BTreeSet<String> = accounts.iter().map(|account| account.name.to_string()).collect();
    let metrics = app.metrics.overview(names.clone()).await.ok_or_else(|| {
        let problem = Problem::new(ProblemType::NotReady, "the metrics actor is being restarted");
        problem.retry_after(Duration::from_secs(1))
    })?;
    let mut events = app.events.after(after);
    events.retain(|event| match &event.account {
        Some(account) => names.contains(account),
        None => request.sees_every_account(),
    });
    let measured = app.metrics.enabled();
    let accounts = accounts.into_iter().map(|account| {
        let status = account.status();
        let unknown = metrics.unknown.get(account.name.as_str()).copied().unwrap_or_default();
        ConsoleAccount {
            health: AccountHealth::of(&status.sessions, account.availability(), unknown),
            trades_unknown: measured.then_some(unknown.count),
            trades_unknown_since: oldest(unknown),
            trading: app.trading.permission(&account),
            money: account.money(),
            status,
        }
    });
    let console = Console {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("MT5_GATEWAY_REVISION"),
        host: sysinfo::System::host_name().ok(),
        started: app.started,
        now: Timestamp::now(),
        may_restart: request.may(Scope::Admin),
        may_halt: request.may(Scope::Trade),
        may_halt_all: request.may(Scope::Admin) && request.sees_every_account(),
        all_halted: app.trading.are_all_halted(),
        measured,
        accounts: accounts.collect(),
        metrics,
        events,
    };
    let mut response = large_json(&request, console).await?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::ErrorReport;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn session(state: SessionState, error: Option<(&str, i64)>) -> SessionStatus {
        SessionStatus {
            state,
            since: at(0),
            primary: false,
            connected: true,
            queue_depth: 0,
            restarts: 0,
            last_login: None,
            last_error: error
                .map(|(message, second)| ErrorReport { message: message.into(), at: at(second) }),
        }
    }

    /// The sessions, the unknown trades with the oldest one's time, how many sessions are ready (since
    /// 100), and what that has to be called.
    type Case =
        (&'static [Session], (u64, f64), Ready, (AccountHealthState, i64, Option<&'static str>));
    /// A session's state, and its last error with its time.
    type Session = (SessionState, Option<(&'static str, i64)>);

    const HUNG: Option<(&str, i64)> = Some(("no answer within 30s", 100));
    const HUNG_BEFORE: Option<(&str, i64)> = Some(("no answer within 30s", 90));

    const CASES: &[Case] = &[
        (&[(SessionState::Ready, None)], (0, 0.0), Ready::All, (AccountHealthState::Up, 100, None)),
        (&[(SessionState::Ready, HUNG)], (0, 0.0), Ready::All, (AccountHealthState::Up, 100, None)),
        (
            &[(SessionState::Ready, None)],
            (1, 150.0),
            Ready::All,
            (AccountHealthState::Degraded, 150, None),
        ),
        (
            &[(SessionState::Ready, None)],
            (2, 50.0),
            Ready::All,
            (AccountHealthState::Degraded, 100, None),
        ),
        (
            &[(SessionState::Ready, None), (SessionState::BackingOff, HUNG)],
            (0, 0.0),
            Ready::Some,
            (
                AccountHealthState::Degraded,
                100,
                Some("session 1 waits for its next start: no answer within 30s"),
            ),
        ),
        (
            &[(SessionState::Starting, HUNG_BEFORE), (SessionState::Ready, HUNG)],
            (1, 50.0),
            Ready::Some,
            (AccountHealthState::Degraded, 100, Some("session 0 is being started")),
        ),
        (
            &[(SessionState::LoggingIn, None), (SessionState::Disconnected, None)],
            (0, 0.0),
            Ready::None,
            (
                AccountHealthState::Down,
                100,
                Some("session 0 logs in; session 1 is disconnected from its broker"),
            ),
        ),
        (
            &[(SessionState::Quarantined, None); 5],
            (0, 0.0),
            Ready::None,
            (
                AccountHealthState::Down,
                100,
                Some(
                    "session 0 is quarantined; session 1 is quarantined; session 2 is \
                     quarantined; 2 more sessions are not ready",
                ),
            ),
        ),
    ];

    #[test]
    fn health_says_how_an_account_is_since_when_and_why() {
        for (sessions, (count, oldest), ready, (state, since, reason)) in CASES {
            let sessions: Vec<_> =
                sessions.iter().map(|(state, error)| session(*state, *error)).collect();
            let availability = Availability { ready: *ready, since: at(100) };
            let unknown = Unknown { count: *count, oldest: *oldest };
            let health = AccountHealth::of(&sessions, availability, unknown);
            let reason = reason.map(str::to_owned);
            assert_eq!(health, AccountHealth { state: *state, since: at(*since), reason });
        }
    }
}
