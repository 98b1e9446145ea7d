//! `/api/v1/accounts`: the configured accounts.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;

use crate::account_name::AccountName;
use crate::api::authorized::{AnyAccountRequest, AuthorizedRequest};
use crate::api::filters::body::Body;
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
    end().and(resource!(routes: get Read one)).or(restart).unify()
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
