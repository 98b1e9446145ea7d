//! Symbols and their present prices.

use http::Method;
use http::header::{HeaderValue, VARY};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Outcome, Segments, Table};
use crate::api::auth::Scope;
use crate::api::context::{AuthorizedRequest, shorten};
use crate::api::export::{self, Facts, Format};
use crate::api::filters::body::{Body, read_json};
use crate::api::filters::query::Parameters;
use crate::api::problem::Problem;
use crate::api::reply::{json, row};
use crate::mt5::{BookEntry, Mt5Call, SymbolInfo, SymbolName, Tick, calls};

/// A symbol of an account.
#[derive(Debug, Clone)]
pub struct SymbolPath {
    pub account: String,
    pub symbol: String,
}

impl SymbolPath {
    /// The name, if it can be one.
    ///
    /// # Errors
    /// 404 for what no symbol is called.
    pub fn name(&self) -> Result<SymbolName, Problem> {
        symbol_named(&self.symbol)
    }
}

/// The symbol of this name.
///
/// # Errors
/// 404 for what no symbol is called.
pub fn symbol_named(name: &str) -> Result<SymbolName, Problem> {
    SymbolName::parse(name)
        .ok_or_else(|| Problem::not_found(format!("there is no symbol {:?}", shorten(name))))
}

impl From<Segments> for SymbolPath {
    fn from(mut segments: Segments) -> SymbolPath {
        SymbolPath { account: segments.take(), symbol: segments.take() }
    }
}

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts/{account}/symbols", symbols);
    table.get("/api/v1/accounts/{account}/symbols/total", symbols_total);
    table.get("/api/v1/accounts/{account}/symbols/{symbol}", symbol);
    table.get("/api/v1/accounts/{account}/symbols/{symbol}/tick", tick);
    table.get("/api/v1/accounts/{account}/symbols/{symbol}/book", book);
    let template = "/api/v1/accounts/{account}/symbols/{symbol}/select";
    table.send(Method::POST, template, Scope::Trade, select);
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
pub async fn symbols(call: AuthorizedRequest, account: String) -> Outcome {
    let utc = call.account(&account)?.is_utc();
    let mut parameters = Parameters::parse(call.context.query())?;
    let group = parameters.optional("group")?;
    let format = Format::take(&call, &mut parameters)?;
    parameters.finish()?;
    let symbols = call.ask(&account, calls::SymbolsGet { group }).await?;
    if format != Format::Json {
        return export::answer(&call, format, Facts { utc, closed: false }, symbols).await;
    }
    let names: Vec<String> = symbols.into_iter().map(|symbol| symbol.name).collect();
    let mut response = json(&call, &names)?;
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Number of symbols that the terminal knows.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/total", tag = "symbols",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn symbols_total(call: AuthorizedRequest, account: String) -> Outcome {
    call.account(&account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let total = call.ask(&account, calls::SymbolsTotal).await?;
    json(&call, &total)
}

async fn ask<C: Mt5Call>(
    call: &AuthorizedRequest,
    path: &SymbolPath,
    about: impl FnOnce(SymbolName) -> C,
) -> Result<C::Reply, Problem> {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    call.ask(&path.account, about(path.name()?)).await
}

/// A symbol's properties.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}", tag = "symbols",
    responses((status = 200, description = "The properties", body = SymbolInfo))
)]
pub async fn symbol(call: AuthorizedRequest, path: SymbolPath) -> Outcome {
    json(&call, &ask(&call, &path, |symbol| calls::SymbolInfo { symbol }).await?)
}

/// A symbol's last tick.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/tick", tag = "symbols",
    responses((status = 200, description = "The tick", body = Tick))
)]
pub async fn tick(call: AuthorizedRequest, path: SymbolPath) -> Outcome {
    row(&call, ask(&call, &path, |symbol| calls::SymbolInfoTick { symbol }).await?)
}

/// A symbol's depth of market.
///
/// As far as its broker gives one.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/symbols/{symbol}/book", tag = "symbols",
    responses((status = 200, description = "Price levels, highest first", body = [BookEntry]))
)]
pub async fn book(call: AuthorizedRequest, path: SymbolPath) -> Outcome {
    json(&call, &ask(&call, &path, |symbol| calls::MarketBookGet { symbol }).await?)
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
pub async fn select(call: AuthorizedRequest, path: SymbolPath, body: Body) -> Outcome {
    let account = call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let symbol = path.name()?;
    let select: Select = read_json(&call, body).await?;
    let selection = calls::SymbolSelect { symbol, enable: select.enable };
    account.call_all(selection, call.call_context()).await?;
    json(&call, &select)
}
