//! Open positions: what they are, and what a client does to them.

use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;

use super::execute::{DEVIATION, ExecutedTrade, change, execute, positive, without_body};
use super::selection::selection;
use crate::api::authorized::{AccountRequest, AnyAccountRequest};
use crate::api::filters::body::Body;
use crate::api::filters::fields::Fields;
use crate::api::filters::path::{item, last};
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::filters::trade_headers::idempotency_key;
use crate::api::problem::Problem;
use crate::api::reply::{json, records};
use crate::mt5::{Position, Selection, calls};
use crate::trading::TradeCommand;

/// `/api/v1/accounts/{account}/positions`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let of_position = end()
        .and(resource!(routes: get Read position, put Trade modify_position, delete Trade close_position))
        .or(last("close").and(resource!(routes: post Trade close_position_with)))
        .unify();
    let total = last("total").and(resource!(routes: get Read positions_total));
    let all = end().and(resource!(routes: get Read positions));
    total.or(item().and(of_position)).unify().or(all).unify()
}

/// Open positions.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/positions", tag = "positions",
    params(
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
    ),
    responses((status = 200, description = "The positions", body = [Position]))
)]
pub async fn positions(request: AccountRequest) -> Outcome {
    let (selection, group) = selection(&request)?;
    let mut found = request.ask(calls::PositionsGet { selection }).await?;
    if let Some(group) = group {
        found.retain(|position| group.matches(&position.symbol));
    }
    records(&request, found).await
}

/// Number of open positions.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/positions/total", tag = "positions",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn positions_total(request: AccountRequest) -> Outcome {
    request.no_parameters()?;
    json(&request, &request.ask(calls::PositionsTotal).await?)
}

/// An open position.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "positions",
    responses((status = 200, description = "The position", body = Position))
)]
pub async fn position(request: AccountRequest) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    let call = calls::PositionsGet { selection: Selection::Ticket(ticket) };
    match request.ask(call).await?.into_iter().next() {
        Some(position) => json(&request, &position),
        None => Err(Problem::not_found(format!("there is no open position {ticket}"))),
    }
}

/// A position's stops.
#[derive(ToSchema)]
#[schema(as = PositionChange, min_properties = 1, example = json!({"sl": 1.05, "tp": null}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct PositionBody {
    /// Stop loss; `0` or `null`: none; not given: as it is.
    sl: Option<f64>,
    /// Take profit, likewise.
    tp: Option<f64>,
}

/// Changes a position's stops.
///
/// What is not given stays as it is; a body without any field is refused.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "trading",
    request_body = PositionBody,
    responses((status = 200, description = "They are changed", body = ExecutedTrade))
)]
pub async fn modify_position(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    let mut fields = change(&request, body).await?;
    let (sl, tp) = (fields.clearable("sl", 0.0)?, fields.clearable("tp", 0.0)?);
    fields.finish()?;
    execute(&request, TradeCommand::ModifyPosition { ticket, sl, tp }).await
}

/// Closes a position, or a part of it.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "trading",
    params(
        ("volume" = Option<f64>, Query, exclusive_minimum = 0, description = "Lots to close, which needs an `Idempotency-Key`; all unless given", example = 0.05),
        ("deviation" = Option<u64>, Query, description = "Points that the price may have moved; 20 unless given"),
    ),
    responses((status = 200, description = "It is closed", body = ExecutedTrade))
)]
pub async fn close_position(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    let mut parameters = request.parameters()?;
    let volume = parameters.optional("volume")?;
    let deviation = parameters.optional("deviation")?.unwrap_or(DEVIATION);
    parameters.finish()?;
    let ticket = request.ticket()?;
    without_body(&request, body).await?;
    if volume.is_some() && idempotency_key(&request)?.is_none() {
        // Libraries and proxies repeat a DELETE by themselves (RFC 9110, 9.2.2), and each repetition
        // would close a further part.
        return Err(Problem::invalid(format!(
            "parameter `volume`: closing a part with DELETE needs a header `Idempotency-Key`; or use \
             POST /api/v1/accounts/{}/positions/{ticket}/close",
            request.account.name
        )));
    }
    let (price, comment, type_filling) = (None, String::new(), None);
    let command = TradeCommand::Close { ticket, volume, deviation, price, comment, type_filling };
    execute(&request, command).await
}

/// How a position is to be closed.
#[derive(ToSchema)]
#[schema(as = PositionClose, example = json!({"volume": 0.05}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct CloseBody {
    /// Lots to close; all unless given.
    #[schema(exclusive_minimum = 0)]
    volume: Option<f64>,
    /// Price; the market's unless given.
    price: Option<f64>,
    /// Points that the price may have moved; 20 unless given.
    deviation: Option<u64>,
    /// Up to 20 characters get a tag, which no answer shows.
    #[schema(max_length = 29)]
    comment: Option<String>,
    /// How much of it has to be filled; a policy that the symbol has unless given.
    type_filling: Option<String>,
}

/// Closes a position, or a part of it.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/positions/{ticket}/close", tag = "trading",
    request_body = CloseBody,
    responses((status = 200, description = "It is closed", body = ExecutedTrade))
)]
pub async fn close_position_with(
    AnyAccountRequest(request): AnyAccountRequest,
    body: Body,
) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    let mut fields = Fields::of(&request, body).await?;
    let command = TradeCommand::Close {
        ticket,
        volume: fields.optional("volume")?,
        deviation: fields.optional("deviation")?.unwrap_or(DEVIATION),
        price: positive(fields.optional("price")?),
        comment: fields.optional("comment")?.unwrap_or_default(),
        type_filling: fields.optional("type_filling")?,
    };
    fields.finish()?;
    execute(&request, command).await
}
