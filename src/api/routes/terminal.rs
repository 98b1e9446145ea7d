//! What a terminal says about itself and its account.

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;

use super::health::STATUS_OK;
use crate::api::authorized::AccountRequest;
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::reply::json;
use crate::mt5::{AccountInfo, Mt5Call, TerminalInfo, Version, calls};
use crate::terminal::Mode;

/// `/api/v1/accounts/{account}`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let account = last("account").and(resource!(routes: get Read account));
    let terminal = last("terminal").and(resource!(routes: get Read terminal));
    let version = last("version").and(resource!(routes: get Read version));
    let error = last("error").and(resource!(routes: get Read error));
    let ping = last("ping").and(resource!(routes: get Read ping));
    account.or(terminal).unify().or(version).unify().or(error).unify().or(ping).unify()
}

async fn plain<C>(request: AccountRequest, call: C) -> Outcome
where
    C: Mt5Call<Reply: Serialize>,
{
    request.no_parameters()?;
    json(&request, &request.ask(call).await?)
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
pub async fn ping(request: AccountRequest) -> Outcome {
    let mode = request.account.mode();
    request.no_parameters()?;
    request.ask(calls::TerminalInfo).await?;
    json(&request, &Pong { status: STATUS_OK, mode })
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
pub async fn error(request: AccountRequest) -> Outcome {
    plain(request, calls::LastError).await
}

/// Version and build of the account's primary terminal.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/version", tag = "terminal",
    responses((status = 200, description = "The version", body = Version))
)]
pub async fn version(request: AccountRequest) -> Outcome {
    plain(request, calls::Version).await
}

/// State and settings of the account's primary terminal.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/terminal", tag = "terminal",
    responses((status = 200, description = "State and settings of the terminal", body = TerminalInfo))
)]
pub async fn terminal(request: AccountRequest) -> Outcome {
    plain(request, calls::TerminalInfo).await
}

/// The account at its broker: balance, equity, margin and the rest.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/account", tag = "terminal",
    responses((status = 200, description = "The account at its broker", body = AccountInfo))
)]
pub async fn account(request: AccountRequest) -> Outcome {
    plain(request, calls::AccountInfo).await
}
