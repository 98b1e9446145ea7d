//! `/api/v1/accounts`: the configured accounts.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::{Outcome, Table};
use crate::api::auth::Scope;
use crate::api::context::AuthorizedRequest;
use crate::api::filters::body::Body;
use crate::api::filters::query::Parameters;
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::pool::AccountStatus;

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts", list);
    table.get("/api/v1/accounts/{account}", one);
    table.send(Method::POST, "/api/v1/accounts/{account}/restart", Scope::Admin, restart);
}

/// Every configured account with the state of its sessions.
#[utoipa::path(
    get, path = "/api/v1/accounts", tag = "accounts",
    responses((status = 200, description = "The accounts, by name", body = [AccountStatus]))
)]
pub async fn list(call: AuthorizedRequest, (): ()) -> Outcome {
    Parameters::parse(call.context.query())?.finish()?;
    let accounts: Vec<AccountStatus> = call.accounts().map(|account| account.status()).collect();
    json(&call, &accounts)
}

/// One account with the state of its sessions.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}", tag = "accounts",
    responses((status = 200, description = "The account", body = AccountStatus))
)]
pub async fn one(call: AuthorizedRequest, account: String) -> Outcome {
    let status = call.account(&account)?.status();
    Parameters::parse(call.context.query())?.finish()?;
    json(&call, &status)
}

/// What a restart has begun.
#[derive(Serialize, ToSchema)]
pub struct RestartBegun {
    /// The account's name.
    account: String,
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
pub async fn restart(call: AuthorizedRequest, account: String, _: Body) -> Outcome {
    let account = call.account(&account)?;
    Parameters::parse(call.context.query())?.finish()?;
    match call.app.pool.restart(account).await {
        Some(true) => {
            info!(
                target: "mt5_gateway::pool",
                account = account.name,
                api_key = call.api_key(),
                client = %call.context.peer,
                request_id = &*call.context.request_id,
                "restart requested"
            );
            let sessions = account.status().sessions.len();
            let mut response =
                json(&call, &RestartBegun { account: account.name.clone(), sessions })?;
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
