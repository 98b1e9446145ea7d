//! Symbols and their present prices.

use http::header::{HeaderValue, VARY};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;

use super::rates;
use crate::api::authorized::AccountRequest;
use crate::api::export::{self, Facts, Format};
use crate::api::filters::body::{Body, read_json};
use crate::api::filters::path::{item, last};
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::Problem;
use crate::api::reply::{json, row};
use crate::mt5::{BookEntry, Mt5Call, SymbolInfo, SymbolName, Tick, calls};

/// `/api/v1/accounts/{account}/symbols`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let of_symbol = last("tick")
        .and(resource!(routes: get Read tick))
        .or(rates::area(routes))
        .unify()
        .or(last("book").and(resource!(routes: get Read book)))
        .unify()
        .or(last("select").and(resource!(routes: post Trade select)))
        .unify()
        .or(end().and(resource!(routes: get Read symbol)))
        .unify();
    let total = last("total").and(resource!(routes: get Read symbols_total));
    let all = end().and(resource!(routes: get Read symbols));
    total.or(item().and(of_symbol)).unify().or(all).unify()
}

/// Names of the symbols that the terminal knows.
///
/// CSV, Arrow and Parquet have all their properties.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols", tag = "symbols",
    params(
        ("group" = Option<String>, Query, description = "Filter, such as `*USD*,!EUR*`"),
        ("format" = Option<String>, Query),
    ),
    responses((status = 200, description = "Names, or a table of properties", body = [String]))
)]
pub async fn symbols(request: AccountRequest) -> Outcome {
    let utc = request.account.is_utc();
    let mut parameters = request.parameters()?;
    let group = parameters.optional("group")?;
    let format = Format::take(&request, &mut parameters)?;
    parameters.finish()?;
    let symbols = request.ask(calls::SymbolsGet { group }).await?;
    if format != Format::Json {
        return export::answer(&request, format, Facts { utc, closed: false }, symbols).await;
    }
    let names: Vec<String> = symbols.into_iter().map(|symbol| symbol.name).collect();
    let mut response = json(&request, &names)?;
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Number of symbols that the terminal knows.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/total", tag = "symbols",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn symbols_total(request: AccountRequest) -> Outcome {
    request.no_parameters()?;
    json(&request, &request.ask(calls::SymbolsTotal).await?)
}

async fn ask<C: Mt5Call>(
    request: &AccountRequest,
    about: impl FnOnce(SymbolName) -> C,
) -> Result<C::Reply, Problem> {
    request.no_parameters()?;
    request.ask(about(request.symbol()?)).await
}

/// A symbol's properties.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}", tag = "symbols",
    responses((status = 200, description = "The properties", body = SymbolInfo))
)]
pub async fn symbol(request: AccountRequest) -> Outcome {
    json(&request, &ask(&request, |symbol| calls::SymbolInfo { symbol }).await?)
}

/// A symbol's last tick.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/tick", tag = "symbols",
    responses((status = 200, description = "The tick", body = Tick))
)]
pub async fn tick(request: AccountRequest) -> Outcome {
    row(&request, ask(&request, |symbol| calls::SymbolInfoTick { symbol }).await?)
}

/// A symbol's depth of market.
///
/// As far as its broker gives one.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/book", tag = "symbols",
    responses((status = 200, description = "Price levels, highest first", body = [BookEntry]))
)]
pub async fn book(request: AccountRequest) -> Outcome {
    json(&request, &ask(&request, |symbol| calls::MarketBookGet { symbol }).await?)
}

/// Whether a symbol is to be shown in Market Watch.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// Shown or hidden.
    #[schema(example = true)]
    enable: bool,
}

/// Shows a symbol in Market Watch, or hides it.
///
/// This goes for each of the account's terminals. Reads show what they use by themselves.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/symbols/{symbol}/select", tag = "symbols",
    request_body = Select,
    responses((status = 200, description = "It is so now", body = Select))
)]
pub async fn select(request: AccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let symbol = request.symbol()?;
    let select: Select = read_json(&request, body).await?;
    let call = calls::SymbolSelect { symbol, enable: select.enable };
    request.account.call_all(call, request.call_context()).await?;
    json(&request, &select)
}
