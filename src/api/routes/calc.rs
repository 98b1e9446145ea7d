//! What a trade would need, and what it would have brought.

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;

use crate::api::authorized::{AccountRequest, symbol};
use crate::api::filters::path::last;
use crate::api::filters::query::Parameter;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::reply::json;
use crate::mt5::{OrderType, calls};

/// `/api/v1/accounts/{account}/calc`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let margin = last("margin").and(resource!(routes: get Read calc_margin));
    let profit = last("profit").and(resource!(routes: get Read calc_profit));
    margin.or(profit).unify()
}

/// Bought or sold.
struct Side(i64);

impl Parameter for Side {
    const EXPECTED: &'static str = "BUY or SELL, with or without ORDER_TYPE_, or MT5's integer";

    fn parse(text: &str) -> Option<Side> {
        OrderType::parse(text).filter(|kind| kind.is_market()).map(|kind| Side(kind.value()))
    }
}

/// A margin.
#[derive(Serialize, ToSchema)]
pub struct Margin {
    /// In the account's currency.
    #[schema(example = 108.5)]
    margin: f64,
}

/// The margin that a trade would need.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/calc/margin", tag = "trading",
    params(
        ("action" = String, Query, description = "`BUY` or `SELL`", example = "BUY"),
        ("symbol" = String, Query, description = "Name of a symbol", example = "EURUSD"),
        ("volume" = f64, Query, description = "Lots", exclusive_minimum = 0, example = 0.1),
        ("price" = f64, Query, exclusive_minimum = 0, description = "Opening price", example = 1.085),
    ),
    responses((status = 200, description = "The margin", body = Margin))
)]
pub async fn calc_margin(request: AccountRequest) -> Outcome {
    let mut parameters = request.parameters()?;
    let Side(action) = parameters.required("action")?;
    let name: String = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price = parameters.required("price")?;
    parameters.finish()?;
    let symbol = symbol(&name)?;
    let call = calls::OrderCalcMargin { action, symbol, volume, price };
    json(&request, &Margin { margin: request.ask(call).await? })
}

/// A profit.
#[derive(Serialize, ToSchema)]
pub struct Profit {
    /// In the account's currency.
    #[schema(example = -20.0)]
    profit: f64,
}

/// The profit that a trade would have brought.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/calc/profit", tag = "trading",
    params(
        ("action" = String, Query, description = "`BUY` or `SELL`", example = "BUY"),
        ("symbol" = String, Query, description = "Name of a symbol", example = "EURUSD"),
        ("volume" = f64, Query, description = "Lots", exclusive_minimum = 0, example = 0.1),
        ("price_open" = f64, Query, exclusive_minimum = 0, description = "Opening price", example = 1.085),
        ("price_close" = f64, Query, exclusive_minimum = 0, description = "Closing price", example = 1.083),
    ),
    responses((status = 200, description = "The profit", body = Profit))
)]
pub async fn calc_profit(request: AccountRequest) -> Outcome {
    let mut parameters = request.parameters()?;
    let Side(action) = parameters.required("action")?;
    let name: String = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price_open = parameters.required("price_open")?;
    let price_close = parameters.required("price_close")?;
    parameters.finish()?;
    let symbol = symbol(&name)?;
    let call = calls::OrderCalcProfit { action, symbol, volume, price_open, price_close };
    json(&request, &Profit { profit: request.ask(call).await? })
}
