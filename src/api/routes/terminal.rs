//! What a terminal says about itself and its account.

use serde::Serialize;
use utoipa::ToSchema;

use super::health::STATUS_OK;
use super::{Outcome, Table};
use crate::api::context::AuthorizedRequest;
use crate::api::filters::query::Parameters;
use crate::api::reply::json;
use crate::mt5::{AccountInfo, Mt5Call, TerminalInfo, Version, calls};
use crate::terminal::Mode;

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts/{account}/ping", ping);
    table.get("/api/v1/accounts/{account}/error", error);
    table.get("/api/v1/accounts/{account}/version", version);
    table.get("/api/v1/accounts/{account}/terminal", terminal);
    table.get("/api/v1/accounts/{account}/account", account);
}

async fn plain<C>(call: AuthorizedRequest, account: &str, about: C) -> Outcome
where
    C: Mt5Call<Reply: Serialize>,
{
    call.account(account)?;
    Parameters::parse(call.context.query())?.finish()?;
    json(&call, &call.ask(account, about).await?)
}

/// That an account's terminal answers.
#[derive(Serialize, ToSchema)]
pub struct Pong {
    /// `ok`
    status: &'static str,
    /// Whether there is a broker behind it.
    mode: Mode,
}

/// Whether the account's terminal answers.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/ping", tag = "terminal",
    responses((status = 200, description = "It does", body = Pong))
)]
pub async fn ping(call: AuthorizedRequest, account: String) -> Outcome {
    let mode = call.account(&account)?.mode();
    Parameters::parse(call.context.query())?.finish()?;
    call.ask(&account, calls::TerminalInfo).await?;
    json(&call, &Pong { status: STATUS_OK, mode })
}

/// A code and its message.
#[derive(Serialize, ToSchema)]
pub struct LastError {
    /// MT5's code; 1 is success.
    code: i64,
    /// The terminal's words.
    message: String,
}

/// The last error of the account's primary terminal.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/error", tag = "terminal",
    responses((status = 200, description = "Code and message", body = LastError))
)]
pub async fn error(call: AuthorizedRequest, account: String) -> Outcome {
    plain(call, &account, calls::LastError).await
}

/// Version and build of the account's primary terminal.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/version", tag = "terminal",
    responses((status = 200, description = "The version", body = Version))
)]
pub async fn version(call: AuthorizedRequest, account: String) -> Outcome {
    plain(call, &account, calls::Version).await
}

/// State and settings of the account's primary terminal.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/terminal", tag = "terminal",
    responses((status = 200, description = "State and settings of the terminal", body = TerminalInfo))
)]
pub async fn terminal(call: AuthorizedRequest, account: String) -> Outcome {
    plain(call, &account, calls::TerminalInfo).await
}

/// The account at its broker: balance, equity, margin and the rest.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/account", tag = "terminal",
    responses((status = 200, description = "The account at its broker", body = AccountInfo))
)]
pub async fn account(call: AuthorizedRequest, account: String) -> Outcome {
    plain(call, &account, calls::AccountInfo).await
}
