//! `/api/v1/accounts`: the configured accounts.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;
use warp::reply::Response;

use super::account_settings::{AccountSettings, SettingsBody, check_settings};
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
/// own files. They replace what the store had of the account, also its pause: a body without `paused`
/// resumes it. An account whose settings change finishes what is under way and begins anew. Needs a key
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
    let SettingsBody(settings) = read_json(&request, body).await?;
    check_settings(&settings).map_err(|faults| Problem::invalid(faults.join("; ")))?;
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
