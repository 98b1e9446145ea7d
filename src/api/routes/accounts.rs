//! `/api/v1/accounts`: the configured accounts.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::info;
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;
use warp::reply::Response;

use super::reload::finished;
use crate::account_name::AccountName;
use crate::api::administration::StillAllowed;
use crate::api::authorized::{
    AdministrationRequest, Admitted, AnyAccountRequest, AuthorizedRequest,
};
use crate::api::context::shorten;
use crate::api::filters::body::{Body, read_json};
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::api::state::App;
use crate::pool::{Account, AccountStatus};
use crate::trading::TradePermission;

/// `/api/v1/accounts`
pub fn collection(routes: &mut Routes) -> impl Answers + use<> {
    end().and(resource!(routes: get Read list))
}

/// `/api/v1/accounts/{account}`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let restart = last("restart").and(resource!(routes: post Admin restart));
    let pause = last("pause").and(resource!(routes: put Admin pause, delete Admin resume));
    let one = resource!(routes: get Read one, put Admin set_account, delete Admin remove_account);
    end().and(one).or(restart).unify().or(pause).unify()
}

/// An account, and whether it may trade.
#[derive(Serialize, ToSchema)]
pub struct AccountReport {
    #[serde(flatten)]
    status: AccountStatus,
    /// Whether orders can be sent now, as far as settings, the last probe of the primary session's
    /// terminal, and the journal tell.
    trading: TradePermission,
}

impl AccountReport {
    /// How an account is now.
    pub fn of(app: &App, account: &Account) -> AccountReport {
        AccountReport { status: account.status(), trading: app.trading.permission(account) }
    }
}

/// Every configured account with the state of its sessions.
#[utoipa::path(
    get, path = "/api/v1/accounts", tag = "accounts",
    responses((status = 200, description = "The accounts, by name", body = [AccountReport]))
)]
pub async fn list(request: AuthorizedRequest) -> Outcome {
    request.no_parameters()?;
    let report = |account: &Arc<Account>| AccountReport::of(request.app(), account);
    let accounts: Vec<AccountReport> = request.accounts().iter().map(report).collect();
    json(&request, &accounts)
}

/// One account with the state of its sessions.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}", tag = "accounts",
    responses((status = 200, description = "The account", body = AccountReport))
)]
pub async fn one(AnyAccountRequest(request): AnyAccountRequest) -> Outcome {
    request.no_parameters()?;
    json(&request, &AccountReport::of(request.app(), &request.account))
}

/// The settings of an account, as `[accounts.NAME]` has them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "shows the shape of a body that the settings read")]
pub struct AccountSettings {
    /// Its number at its broker.
    login: u64,
    /// Its broker's server.
    server: String,
    /// Never shown again.
    #[schema(write_only)]
    password: Option<String>,
    /// Terminals, 1 by default.
    sessions: Option<u64>,
    /// Calls that may wait for each terminal.
    queue: Option<u64>,
    /// Whether it may trade.
    trade: Option<bool>,
    /// Whether it is paused.
    paused: Option<bool>,
    /// From a trade's arrival until it is sent, at most.
    #[schema(example = "5s")]
    send_within: Option<String>,
    /// The same for trades that only reduce risk.
    #[schema(example = "30s")]
    send_within_close: Option<String>,
    /// The zone of its server's clock.
    #[schema(example = "New_York+7")]
    server_time_zone: Option<String>,
    /// Its terminal.
    terminal: Option<AccountTerminal>,
}

/// A terminal: one of both.
#[derive(ToSchema)]
#[expect(dead_code, reason = "shows the shape of a body that the settings read")]
pub struct AccountTerminal {
    /// A `[terminal_profiles.NAME]` of the gateway's own files.
    profile: Option<String>,
    /// `simulator`.
    #[schema(example = "simulator")]
    kind: Option<String>,
}

/// The name of the account that the path sets.
fn named(request: &AuthorizedRequest) -> Result<AccountName, Problem> {
    let name = request.context.account_segment();
    AccountName::parse(name).ok_or_else(|| {
        let name = shorten(name);
        Problem::invalid(format!(
            "no account is called {name:?}: expected {}",
            AccountName::EXPECTED
        ))
    })
}

/// The settings that a body may have.
const FIELDS: [&str; 11] = [
    "login",
    "server",
    "password",
    "sessions",
    "queue",
    "trade",
    "paused",
    "send_within",
    "send_within_close",
    "server_time_zone",
    "terminal",
];

/// Makes sure that settings run no code and read no file: only those of the gateway's host decide that.
/// Their values are checked with all other settings.
fn check_settings(settings: &Map<String, Value>) -> Result<(), String> {
    const OF_THE_HOST: &str = "names what runs or is read on the gateway's host, which only its own \
                               files may; use a `[terminal_profiles.NAME]`";
    if settings.contains_key("password_file") {
        return Err(format!("field `password_file` {OF_THE_HOST}, or send `password`"));
    }
    for (name, value) in settings {
        let name = name.as_str();
        if !FIELDS.contains(&name) {
            let name = shorten(name);
            return Err(format!("field `{name}` is unknown: expected {}", FIELDS.join(", ")));
        }
        if value.is_null() {
            return Err(format!("field `{name}`: null is no setting; leave it out"));
        }
    }
    let expected =
        "field `terminal`: expected {\"profile\": \"NAME\"} or {\"kind\": \"simulator\"}";
    let terminal = match settings.get("terminal") {
        None => return Ok(()),
        Some(terminal) => terminal.as_object().ok_or(expected)?,
    };
    for (name, value) in terminal {
        match (name.as_str(), value) {
            ("profile", Value::String(_)) => {}
            ("kind", Value::String(kind)) if kind == "simulator" => {}
            ("kind" | "profile", _) => return Err(expected.to_owned()),
            (other, _) => {
                let other = shorten(other);
                return Err(format!("field `terminal.{other}` {OF_THE_HOST}"));
            }
        }
    }
    if terminal.len() == 1 { Ok(()) } else { Err(expected.to_owned()) }
}

/// Whether the client may still change settings once the change's turn has come.
fn still_allowed(request: &AuthorizedRequest) -> StillAllowed {
    let request = request.clone();
    Box::new(move || {
        !request.has_key_ended() && AdministrationRequest::admit(request.clone()).is_ok()
    })
}

fn log_change(request: &AuthorizedRequest, account: &AccountName, change: &str) {
    info!(
        target: "mt5_gateway::administration",
        account = account.as_str(),
        api_key = request.api_key(),
        client = %request.context.peer,
        request_id = &*request.context.request_id,
        "{change}"
    );
}

/// How an account stands now, after a change.
fn status(request: &AuthorizedRequest, account: &AccountName) -> Outcome {
    let account = request.app().accounts.get(account).ok_or_else(|| request.no_such_account())?;
    json(request, &AccountReport::of(request.app(), &account))
}

/// Adds an account, or changes it.
///
/// The settings are kept in the accounts store, also for later runs of the gateway, over those of its
/// own files. An account whose settings change finishes what is under way and begins anew. Needs a key
/// that is not limited to accounts.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}", tag = "accounts", request_body = AccountSettings,
    responses(
        (status = 200, description = "The account has these settings now", body = AccountReport),
        (status = 201, description = "The account is new", body = AccountReport),
    )
)]
pub async fn set_account(
    AdministrationRequest(request): AdministrationRequest,
    body: Body,
) -> Outcome {
    request.no_parameters()?;
    let account = named(&request)?;
    let settings: Map<String, Value> = read_json(&request, body).await?;
    check_settings(&settings).map_err(Problem::invalid)?;
    request.check_key()?;
    log_change(&request, &account, "account to be set");
    let allowed = still_allowed(&request);
    let setting = request.app().administration.set_account(account.clone(), settings, allowed);
    let is_new = finished(&request, setting).await?;
    let mut response = status(&request, &account)?;
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
        let location = HeaderValue::from_str(&format!("/api/v1/accounts/{account}"));
        // A name has no character that a header does not take.
        response.headers_mut().extend(location.ok().map(|location| (LOCATION, location)));
    }
    Ok(response)
}

/// Removes an account that the accounts store has.
///
/// It finishes what is under way. Its trades stay in the journal; those whose outcome is unknown are looked
/// for again when an account with its login and server comes. Needs a key that is not limited to accounts.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}", tag = "accounts",
    params(("force" = Option<bool>, Query, description = "Also if the outcome of a trade of it is unknown")),
    responses((status = 204, description = "It is gone"))
)]
pub async fn remove_account(
    AdministrationRequest(request): AdministrationRequest,
    _: Body,
) -> Outcome {
    let mut parameters = request.parameters()?;
    let force = parameters.optional("force")?.unwrap_or(false);
    parameters.finish()?;
    let account = named(&request)?;
    log_change(&request, &account, "account to be removed");
    let allowed = still_allowed(&request);
    let removing = request.app().administration.remove_account(account, force, allowed);
    finished(&request, removing).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Pauses an account.
///
/// It refuses what is new with 503 `account-paused` and ends its streams. Its terminals stay logged in.
/// Needs a key that is not limited to accounts.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/pause", tag = "accounts",
    responses((status = 200, description = "It is paused", body = AccountReport))
)]
pub async fn pause(AdministrationRequest(request): AdministrationRequest, _: Body) -> Outcome {
    set_paused(&request, true).await
}

/// Resumes an account.
///
/// Needs a key that is not limited to accounts.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/pause", tag = "accounts",
    responses((status = 200, description = "It is not paused", body = AccountReport))
)]
pub async fn resume(AdministrationRequest(request): AdministrationRequest, _: Body) -> Outcome {
    set_paused(&request, false).await
}

async fn set_paused(request: &AuthorizedRequest, paused: bool) -> Outcome {
    request.no_parameters()?;
    let account = named(request)?;
    log_change(request, &account, if paused { "pause requested" } else { "resumption requested" });
    let allowed = still_allowed(request);
    let pausing = request.app().administration.pause_account(account.clone(), paused, allowed);
    finished(request, pausing).await?;
    status(request, &account)
}

/// What a restart has begun.
#[derive(Serialize, ToSchema)]
pub struct RestartBegun {
    /// The account's name.
    #[schema(value_type = String)]
    account: AccountName,
    /// Terminals that are being replaced, one at a time.
    sessions: usize,
}

/// Replaces the account's terminals.
///
/// One at a time, quarantined ones too. The account shows how far it is.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/restart", tag = "accounts",
    responses((status = 202, description = "The restart has begun", body = RestartBegun))
)]
pub async fn restart(AnyAccountRequest(request): AnyAccountRequest, _: Body) -> Outcome {
    let account = &request.account;
    request.no_parameters()?;
    request.check_key()?;
    match request.app().pool.restart(account).await {
        Some(true) => {
            info!(
                target: "mt5_gateway::pool",
                account = account.name.as_str(),
                api_key = request.api_key(),
                client = %request.context.peer,
                request_id = &*request.context.request_id,
                "restart requested"
            );
            let sessions = account.status().sessions.len();
            let mut response =
                json(&request, &RestartBegun { account: account.name.clone(), sessions })?;
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
        Some(false) => {
            let detail = format!("the terminals of {} are being replaced already", account.name);
            Err(Problem::new(ProblemType::RestartUnderWay, detail))
        }
        None => {
            let problem = Problem::new(ProblemType::NotReady, "the pool is being restarted");
            Err(problem.retry_after(Duration::from_secs(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_a_body_run_no_code_and_read_no_file() {
        let profile = json!({ "profile": "broker" });
        let good = [
            json!({}),
            json!({ "login": 1, "terminal": profile }),
            json!({ "terminal": { "kind": "simulator" } }),
        ];
        for settings in good {
            assert_eq!(check_settings(settings.as_object().unwrap()), Ok(()), "{settings}");
        }
        for (settings, field) in [
            (json!({ "password_file": "x" }), "password_file"),
            (json!({ "nonsense": 1 }), "nonsense"),
            (json!({ "terminal.python": "sh" }), "terminal.python"),
            (json!({ "login": null }), "login"),
            (json!({ "terminal": null }), "terminal"),
            (json!({ "terminal": "simulator" }), "terminal"),
            (json!({ "terminal": {} }), "terminal"),
            (json!({ "terminal": { "kind": "worker" } }), "terminal"),
            (json!({ "terminal": { "profile": 1 } }), "terminal"),
            (json!({ "terminal": { "profile": "a", "kind": "simulator" } }), "terminal"),
            (
                json!({ "terminal": { "kind": "simulator", "bars": { "EURUSD": "x" } } }),
                "terminal.bars",
            ),
            (json!({ "terminal": { "profile": "a", "python": "sh" } }), "terminal.python"),
            (json!({ "terminal": { "profile": "a", "module": "os" } }), "terminal.module"),
            (json!({ "terminal": { "profile": "a", "path": "x" } }), "terminal.path"),
            (json!({ "terminal": { "profile": "a", "template": "x" } }), "terminal.template"),
            (json!({ "terminal": { "profile": "a", "connect": {} } }), "terminal.connect"),
        ] {
            let fault = check_settings(settings.as_object().unwrap()).unwrap_err();
            assert!(fault.starts_with(&format!("field `{field}`")), "{fault}");
        }
    }
}
