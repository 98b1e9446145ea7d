//! Pending orders: what they are, and what a client does to them. Market orders are placed here too.

use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;

use super::execute::{
    Checked, DEVIATION, ExecutedTrade, Rehearsed, change, execute, positive, rehearse, without_body,
};
use super::selection::selection;
use crate::api::authorized::{AccountRequest, AnyAccountRequest};
use crate::api::filters::body::Body;
use crate::api::filters::fields::Fields;
use crate::api::filters::moment::Moment;
use crate::api::filters::path::{item, last};
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::openapi::time::TimeBody;
use crate::api::problem::Problem;
use crate::api::reply::{json, records};
use crate::mt5::{Order, OrderType, Selection, Ticket, calls};
use crate::pool::Account;
use crate::trading::{NewOrder, OrderChange, TradeCommand};

/// `/api/v1/accounts/{account}/orders`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let of_order = end()
        .and(resource!(routes: get Read order, put Trade modify_order, delete Trade cancel_order));
    let total = last("total").and(resource!(routes: get Read orders_total));
    let check = last("check").and(resource!(routes: post Trade check_order));
    let all = end().and(resource!(routes: get Read orders, post Trade place_order));
    total.or(check).unify().or(item().and(of_order)).unify().or(all).unify()
}

/// Pending orders.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/orders", tag = "orders",
    params(
        ("symbol" = Option<String>, Query, description = "Only those of this symbol"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
    ),
    responses((status = 200, description = "The orders", body = [Order]))
)]
pub async fn orders(request: AccountRequest) -> Outcome {
    let (selection, group) = selection(&request)?;
    let mut found = request.ask(calls::OrdersGet { selection }).await?;
    if let Some(group) = group {
        found.retain(|order| group.matches(&order.symbol));
    }
    records(&request, found).await
}

/// Number of pending orders.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/orders/total", tag = "orders",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn orders_total(request: AccountRequest) -> Outcome {
    request.no_parameters()?;
    json(&request, &request.ask(calls::OrdersTotal).await?)
}

/// A pending order.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "orders",
    responses((status = 200, description = "The order", body = Order))
)]
pub async fn order(request: AccountRequest) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    let call = calls::OrdersGet { selection: Selection::Ticket(ticket) };
    match request.ask(call).await?.into_iter().next() {
        Some(order) => json(&request, &order),
        None => Err(Problem::not_found(format!("there is no pending order {ticket}"))),
    }
}

/// A new order, or two positions that close each other.
#[derive(ToSchema)]
#[schema(as = NewTrade)]
#[serde(untagged)]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub enum TradeBody {
    Order(OrderBody),
    CloseBy(CloseByBody),
}

/// A new order.
#[derive(ToSchema)]
#[schema(as = NewOrder, example = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1, "sl": 1.05}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct OrderBody {
    /// Name of a symbol.
    symbol: String,
    /// What to place.
    r#type: String,
    /// Lots.
    #[schema(exclusive_minimum = 0)]
    volume: f64,
    /// Price of a pending order; of a market order the tick's unless given.
    price: Option<f64>,
    /// Price of the limit order that a stop-limit order becomes.
    stoplimit: Option<f64>,
    /// Stop loss.
    sl: Option<f64>,
    /// Take profit.
    tp: Option<f64>,
    /// Points that the price may have moved; 20 unless given.
    deviation: Option<u64>,
    /// Magic number, sent as it is.
    magic: Option<i64>,
    /// Up to 20 characters get a tag, which no answer shows.
    #[schema(max_length = 29)]
    comment: Option<String>,
    /// How much of it has to be filled; a policy that the symbol has unless given.
    type_filling: Option<String>,
    /// How long it stays.
    type_time: Option<String>,
    /// When it ends, in one of the spellings of `from` and `to`.
    #[schema(value_type = Option<TimeBody>)]
    expiration: Option<String>,
    /// Ticket of the position that it closes.
    position: Option<u64>,
}

/// Two opposite positions of one symbol that are closed by each other. They decide type and price.
#[derive(ToSchema)]
#[schema(as = CloseBy, example = json!({"symbol": "EURUSD", "position": 4711, "position_by": 4712}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct CloseByBody {
    /// Name of a symbol.
    symbol: String,
    /// Ticket of a position.
    position: u64,
    /// Ticket of the opposite position.
    position_by: u64,
    /// Lots. The positions decide it; a number that is not theirs is refused.
    volume: Option<f64>,
    /// Read, and of no effect.
    r#type: Option<String>,
    /// Magic number, sent as it is.
    magic: Option<i64>,
    /// Up to 20 characters get a tag, which no answer shows.
    #[schema(max_length = 29)]
    comment: Option<String>,
}

fn take_order(mut fields: Fields, account: &Account) -> Result<TradeCommand, Problem> {
    let by: Option<Ticket> = fields.optional("position_by")?;
    let symbol = fields.required("symbol")?;
    let magic = fields.optional("magic")?.unwrap_or_default();
    let comment: String = fields.optional("comment")?.unwrap_or_default();
    if let Some(position_by) = by {
        let position = fields.required("position")?;
        // What two positions decide by themselves is read, but not needed.
        let _: Option<OrderType> = fields.optional("type")?;
        let volume = fields.optional("volume")?;
        fields.finish()?;
        return Ok(TradeCommand::CloseBy { position, position_by, symbol, volume, magic, comment });
    }
    let order = NewOrder {
        symbol,
        kind: fields.required("type")?,
        volume: fields.required("volume")?,
        price: positive(fields.optional("price")?),
        stoplimit: positive(fields.optional("stoplimit")?),
        sl: fields.optional("sl")?,
        tp: fields.optional("tp")?,
        deviation: fields.optional("deviation")?.unwrap_or(DEVIATION),
        magic,
        comment,
        type_filling: fields.optional("type_filling")?,
        type_time: fields.optional("type_time")?,
        expiration: fields
            .optional::<Moment>("expiration")?
            .map(|at| at.resolve(account).floor_seconds().seconds())
            .filter(|at| *at != 0),
        position: fields.optional("position")?.filter(|ticket: &Ticket| ticket.get() != 0),
    };
    fields.finish()?;
    Ok(TradeCommand::Place(order))
}

/// Places an order, or closes two positions by each other.
///
/// Give an `Idempotency-Key`: a repetition with the same key and body answers what became of the
/// first and never trades again. With `dry_run=true` everything is done but the sending: nothing is written, no key
/// is used, and the answer says what would be sent. What would be refused is refused.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders", tag = "trading",
    params(("dry_run" = Option<bool>, Query, description = "Say what would be sent, and send nothing")),
    request_body = TradeBody,
    responses(
        (status = 201, description = "The order was placed", body = ExecutedTrade),
        (status = 200, description = "Two positions were closed by each other, or nothing was sent because of `dry_run=true`", body = PlacedOrRehearsed),
    )
)]
pub async fn place_order(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    let mut parameters = request.parameters()?;
    let is_dry: bool = parameters.optional("dry_run")?.unwrap_or(false);
    parameters.finish()?;
    let command = take_order(Fields::of(&request, body).await?, &request.account)?;
    if is_dry { rehearse(&request, command).await } else { execute(&request, command).await }
}

/// What was traded, or would be.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "shows the shape of two kinds of answers")]
pub enum PlacedOrRehearsed {
    Executed(ExecutedTrade),
    Rehearsed(Box<Rehearsed>),
}

/// Asks the terminal what an order would do.
///
/// Nothing is sent to the broker.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders/check", tag = "trading",
    request_body = OrderBody,
    responses((status = 200, description = "The terminal's answer; `retcode` 0: it would be taken", body = Checked))
)]
pub async fn check_order(request: AccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let account = &request.account;
    let TradeCommand::Place(order) = take_order(Fields::of(&request, body).await?, account)? else {
        return Err(Problem::invalid("field `position_by`: the terminal checks orders alone"));
    };
    let result = request.app().trading.check(account, &order, request.call_context()).await?;
    json(&request, &Checked::of(account, result))
}

/// What is to change about a pending order.
#[derive(ToSchema)]
#[schema(as = OrderChange, min_properties = 1, example = json!({"price": 1.08, "sl": 1.05}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct OrderChangeBody {
    /// Its price; not given: as it is.
    price: Option<f64>,
    /// Price of the limit order that it becomes.
    stoplimit: Option<f64>,
    /// Stop loss; `0` or `null`: none.
    sl: Option<f64>,
    /// Take profit; `0` or `null`: none.
    tp: Option<f64>,
    /// How long it stays.
    type_time: Option<String>,
    /// When it ends; `0` or `null`: never.
    #[schema(value_type = Option<TimeBody>)]
    expiration: Option<String>,
}

/// Changes a pending order.
///
/// What is not given stays as it is; a body without any field is refused.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "trading",
    request_body = OrderChangeBody,
    responses((status = 200, description = "It is changed", body = ExecutedTrade))
)]
pub async fn modify_order(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    let mut fields = change(&request, body).await?;
    let change = OrderChange {
        price: fields.optional("price")?,
        stoplimit: fields.clearable("stoplimit", 0.0)?,
        sl: fields.clearable("sl", 0.0)?,
        tp: fields.clearable("tp", 0.0)?,
        type_time: fields.optional("type_time")?,
        expiration: fields
            .clearable("expiration", Moment::Instant(0))?
            .map(|at| at.resolve(&request.account).floor_seconds().seconds()),
    };
    fields.finish()?;
    execute(&request, TradeCommand::ModifyOrder { ticket, change }).await
}

/// Cancels a pending order.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "trading",
    responses((status = 200, description = "It is cancelled", body = ExecutedTrade))
)]
pub async fn cancel_order(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let ticket = request.ticket()?;
    without_body(&request, body).await?;
    execute(&request, TradeCommand::Cancel { ticket }).await
}
