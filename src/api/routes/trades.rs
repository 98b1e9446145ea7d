//! Trading: placing, changing, closing, cancelling, checking, and looking up
//! what became of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use utoipa::ToSchema;

use super::orders::TicketPath;
use super::symbols::symbol_named;
use super::{Outcome, Table};
use crate::api::auth::Scope;
use crate::api::context::{AuthorizedRequest, shorten};
use crate::api::filters::body::{Body, arriving};
use crate::api::filters::fields::{Field, Fields};
use crate::api::filters::moment::Moment;
use crate::api::filters::query::{Parameter, Parameters};
use crate::api::openapi::TimeBody;
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::mt5::{
    Order, OrderCheckResult, OrderType, Position, ReplyFields, Retcode, TradeRequest, calls,
};
use crate::pool::Account;
use crate::trading::{
    Error, NewOrder, Operation, OrderChange, Origin, Resolution, Trade, TradeCommand, TradeFilter,
    TradeReply, TradeResult, TradeState as State, tag,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEND_WITHIN: HeaderName = HeaderName::from_static("send-within");
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The deviation of a request that gives none, points.
const DEVIATION: u64 = 20;

/// Trades in one list, unless the client asks for another number.
const LIMIT: u32 = 100;

pub fn add(table: &mut Table) {
    let (orders, order) =
        ("/api/v1/accounts/{account}/orders", "/api/v1/accounts/{account}/orders/{ticket}");
    table.send(Method::POST, orders, Scope::Trade, place_order);
    table.send(Method::PUT, order, Scope::Trade, modify_order);
    table.send(Method::DELETE, order, Scope::Trade, cancel_order);
    let check = "/api/v1/accounts/{account}/orders/check";
    table.send(Method::POST, check, Scope::Trade, check_order);
    let position = "/api/v1/accounts/{account}/positions/{ticket}";
    table.send(Method::PUT, position, Scope::Trade, modify_position);
    table.send(Method::DELETE, position, Scope::Trade, close_position);
    table.get("/api/v1/accounts/{account}/calc/margin", calc_margin);
    table.get("/api/v1/accounts/{account}/calc/profit", calc_profit);
    table.get("/api/v1/accounts/{account}/trades", trades);
    table.get("/api/v1/accounts/{account}/trades/{trade_id}", trade);
    let close = "/api/v1/accounts/{account}/positions/{ticket}/close";
    table.send(Method::POST, close, Scope::Trade, close_position_with);
    let resolve = "/api/v1/accounts/{account}/trades/{trade_id}/resolve";
    table.send(Method::POST, resolve, Scope::Admin, resolve_trade);
}

/// The client's key: 1 to 255 visible ASCII characters, quotes optional.
fn idempotency_key(call: &AuthorizedRequest) -> Result<Option<String>, Problem> {
    let Some(text) = call.context.header(&IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(key.to_owned()));
    }
    Err(Problem::invalid(
        "header `Idempotency-Key`: expected one key of 1 to 255 visible ASCII characters",
    ))
}

/// How long a trade may take from its arrival until it is sent: the account's setting, which the
/// header may shorten.
fn send_within(
    call: &AuthorizedRequest,
    account: &Account,
    command: &TradeCommand,
) -> Result<Duration, Problem> {
    let (setting, longest) = if command.only_reduces_risk() {
        ("send_within_close", account.send_within_close)
    } else {
        ("send_within", account.send_within)
    };
    let Some(seconds) = call.context.seconds(&SEND_WITHIN)? else {
        return Ok(longest);
    };
    let given = Duration::try_from_secs_f64(seconds).ok();
    given.filter(|given| *given <= longest).ok_or_else(|| {
        Problem::invalid(format!(
            "header `Send-Within`: expected at most {} seconds (`{setting}`), such as 2.5",
            longest.as_secs_f64()
        ))
    })
}

/// Carries a command through and answers with what became of it.
async fn carry_through(call: &AuthorizedRequest, account: &str, command: TradeCommand) -> Outcome {
    let account = call.account(account)?.clone();
    let origin = Origin {
        key: idempotency_key(call)?,
        arrived: call.context.arrived_at,
        send_within: send_within(call, &account, &command)?,
        api_key: call.api_key().map(str::to_owned),
        client: Some(call.context.peer.to_string()),
    };
    let executed = call.app.trading.execute(&account, command, origin, call.call_context()).await;
    let (response, replayed) = match executed {
        Ok(reply) => {
            let replayed = reply.replayed;
            (told(call, &account, reply).unwrap_or_else(Problem::into_response), replayed)
        }
        Err(Error::NotSent(not_sent)) => {
            let replayed = not_sent.spent.is_none();
            let (trading, trade) = (call.app.trading.clone(), not_sent.trade.clone());
            // Its key is free again only for a client that knows.
            let on_sent = Arc::new(move || trading.confirm_told(trade.clone()));
            (Problem::from(*not_sent).on_sent(on_sent).into_response(), replayed)
        }
        Err(error) => return Err(error.into()),
    };
    let mut response = response;
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A trade's result, with the id under which it is kept.
#[derive(Serialize, ToSchema)]
pub struct Traded {
    /// The gateway's own id, for `trades/{trade_id}`.
    trade_id: String,
    #[serde(flatten)]
    result: TradeResult,
}

fn told(
    call: &AuthorizedRequest,
    account: &Account,
    TradeReply { trade, .. }: TradeReply,
) -> Outcome {
    let trade_id = trade.trade_id.clone();
    match (trade.state, trade.result) {
        (State::Executed, Some(result)) => {
            let placed = matches!(trade.operation, Operation::Place);
            let path = format!("/api/v1/accounts/{}/trades/{trade_id}", trade.account);
            let mut response = json(call, &Traded { trade_id, result })?;
            if placed {
                *response.status_mut() = StatusCode::CREATED;
                if let Ok(path) = HeaderValue::from_str(&path) {
                    response.headers_mut().insert(LOCATION, path);
                }
            }
            Ok(response)
        }
        (State::Refused, Some(result)) => {
            let (code, name) = (result.retcode, result.retcode_name.clone());
            let why = trade.detail.map_or(String::new(), |why| format!("; {why}"));
            let detail = format!("the broker refused the trade: {code} ({name}){why}");
            let mt5 = json!({ "code": code, "name": name, "message": result.comment });
            let result = json!(Traded { trade_id: trade_id.clone(), result });
            Err(Problem::new(ProblemType::TradeRefused, detail)
                .with("mt5", mt5)
                .with("trade_id", trade_id.into())
                .with("result", result))
        }
        (State::Superseded, _) => {
            let why = trade.detail.unwrap_or_else(|| "it was changed otherwise".to_owned());
            let detail = format!(
                "whether trade {trade_id} took effect cannot be told any more: {why}; compare \
                 `present` with `intended` and decide anew, with a new key"
            );
            let intended = trade.request.map(|request| shown(account, request));
            Err(Problem::new(ProblemType::TradeSuperseded, detail)
                .with("trade_id", trade_id.into())
                .with("present", present(account, trade.present).unwrap_or_default())
                .with("intended", json!(intended)))
        }
        (State::NotFound, _) => {
            let why = trade.detail.unwrap_or_else(|| "nothing showed it".to_owned());
            let detail =
                format!("trade {trade_id} did not happen: {why}; use a new key to try again");
            Err(Problem::new(ProblemType::TradeNotFound, detail).with("trade_id", trade_id.into()))
        }
        _ => {
            let why = trade.detail.unwrap_or_else(|| "its answer has not come".to_owned());
            let then = if trade.idempotency_key.is_some() {
                "ask for it, or send the same request with the same Idempotency-Key; a new one could \
                 trade twice"
            } else {
                "ask for it, and do not send it again before its state is final: it had no \
                 Idempotency-Key, so it could trade twice"
            };
            let detail =
                format!("it is not known yet whether trade {trade_id} happened: {why}; {then}");
            Err(Problem::new(ProblemType::OutcomeUnknown, detail)
                .with("trade_id", trade_id.into())
                .with("candidates", json!(trade.candidates)))
        }
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
    let by: Option<u64> = fields.optional("position_by")?;
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
        position: fields.optional("position")?.filter(|ticket| *ticket != 0),
    };
    fields.finish()?;
    Ok(TradeCommand::Place(order))
}

/// MT5 writes 0 for a price that is not given.
fn positive(price: Option<f64>) -> Option<f64> {
    price.filter(|price| *price != 0.0)
}

/// Places an order, or closes two positions by each other.
///
/// Give an `Idempotency-Key`: a repetition with the same key and body answers what became of the
/// first and never trades again.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders", tag = "trading",
    request_body = TradeBody,
    responses(
        (status = 201, description = "The order was placed", body = Traded),
        (status = 200, description = "Two positions were closed by each other", body = Traded),
    )
)]
pub async fn place_order(call: AuthorizedRequest, account: String, body: Body) -> Outcome {
    let known = call.account(&account)?.clone();
    Parameters::parse(call.context.query())?.finish()?;
    let command = take_order(Fields::of(&call, body).await?, &known)?;
    carry_through(&call, &account, command).await
}

/// What the account would look like after a trade.
#[derive(Serialize, ToSchema)]
pub struct Checked {
    /// Name of the return code; `ok` if the trade would be taken.
    #[schema(example = "ok")]
    retcode_name: &'static str,
    #[serde(flatten)]
    result: OrderCheckResult,
}

/// Asks the terminal what an order would do.
///
/// Nothing is sent to the broker.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders/check", tag = "trading",
    request_body = OrderBody,
    responses((status = 200, description = "The terminal's answer; `retcode` 0: it would be taken", body = Checked))
)]
pub async fn check_order(call: AuthorizedRequest, account: String, body: Body) -> Outcome {
    let checked = call.account(&account)?.clone();
    Parameters::parse(call.context.query())?.finish()?;
    let TradeCommand::Place(order) = take_order(Fields::of(&call, body).await?, &checked)? else {
        return Err(Problem::invalid("field `position_by`: the terminal checks orders alone"));
    };
    let mut result = call.app.trading.check(&checked, &order, call.call_context()).await?;
    result.request = shown(&checked, result.request);
    let retcode_name =
        if result.retcode == 0 { "ok" } else { Retcode::from_code(result.retcode).name() };
    json(&call, &Checked { retcode_name, result })
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
    responses((status = 200, description = "They are changed", body = Traded))
)]
pub async fn modify_position(call: AuthorizedRequest, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    let mut fields = change(&call, body).await?;
    let (sl, tp) = (fields.clearable("sl", 0.0)?, fields.clearable("tp", 0.0)?);
    fields.finish()?;
    carry_through(&call, &path.account, TradeCommand::ModifyPosition { ticket, sl, tp }).await
}

/// Reads a body that has to change something.
async fn change(call: &AuthorizedRequest, body: Body) -> Result<Fields, Problem> {
    let fields = Fields::of(call, body).await?;
    if fields.is_empty() {
        return Err(Problem::invalid("body: it has no field, so nothing would change"));
    }
    Ok(fields)
}

/// Makes sure that a request has no body: one that is lost on the way would close everything.
async fn without_body(call: &AuthorizedRequest, mut body: Body) -> Result<(), Problem> {
    match arriving(call, body.next()).await? {
        None => Ok(()),
        Some(Ok(piece)) if piece.is_empty() => Ok(()),
        Some(_) => Err(Problem::invalid(
            "body: this route takes none; give `volume` and `deviation` as query parameters",
        )),
    }
}

/// Closes a position, or a part of it.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "trading",
    params(
        ("volume" = Option<f64>, Query, exclusive_minimum = 0, description = "Lots to close, which needs an `Idempotency-Key`; all unless given", example = 0.05),
        ("deviation" = Option<u64>, Query, description = "Points that the price may have moved; 20 unless given"),
    ),
    responses((status = 200, description = "It is closed", body = Traded))
)]
pub async fn close_position(call: AuthorizedRequest, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    let mut parameters = Parameters::parse(call.context.query())?;
    let volume = parameters.optional("volume")?;
    let deviation = parameters.optional("deviation")?.unwrap_or(DEVIATION);
    parameters.finish()?;
    let ticket = path.ticket()?;
    without_body(&call, body).await?;
    if volume.is_some() && idempotency_key(&call)?.is_none() {
        // Libraries and proxies repeat a DELETE by themselves (RFC 9110, 9.2.2), and each
        // repetition would close a further part.
        return Err(Problem::invalid(format!(
            "parameter `volume`: closing a part with DELETE needs a header `Idempotency-Key`; or use \
             POST /api/v1/accounts/{}/positions/{ticket}/close",
            path.account
        )));
    }
    let (price, comment, type_filling) = (None, String::new(), None);
    let command = TradeCommand::Close { ticket, volume, deviation, price, comment, type_filling };
    carry_through(&call, &path.account, command).await
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
    responses((status = 200, description = "It is closed", body = Traded))
)]
pub async fn close_position_with(call: AuthorizedRequest, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    let mut fields = Fields::of(&call, body).await?;
    let command = TradeCommand::Close {
        ticket,
        volume: fields.optional("volume")?,
        deviation: fields.optional("deviation")?.unwrap_or(DEVIATION),
        price: positive(fields.optional("price")?),
        comment: fields.optional("comment")?.unwrap_or_default(),
        type_filling: fields.optional("type_filling")?,
    };
    fields.finish()?;
    carry_through(&call, &path.account, command).await
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
    responses((status = 200, description = "It is changed", body = Traded))
)]
pub async fn modify_order(call: AuthorizedRequest, path: TicketPath, body: Body) -> Outcome {
    let account = call.account(&path.account)?.clone();
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    let mut fields = change(&call, body).await?;
    let change = OrderChange {
        price: fields.optional("price")?,
        stoplimit: fields.clearable("stoplimit", 0.0)?,
        sl: fields.clearable("sl", 0.0)?,
        tp: fields.clearable("tp", 0.0)?,
        type_time: fields.optional("type_time")?,
        expiration: fields
            .clearable("expiration", Moment::Instant(0))?
            .map(|at| at.resolve(&account).floor_seconds().seconds()),
    };
    fields.finish()?;
    carry_through(&call, &path.account, TradeCommand::ModifyOrder { ticket, change }).await
}

/// Cancels a pending order.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "trading",
    responses((status = 200, description = "It is cancelled", body = Traded))
)]
pub async fn cancel_order(call: AuthorizedRequest, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    without_body(&call, body).await?;
    carry_through(&call, &path.account, TradeCommand::Cancel { ticket }).await
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
pub async fn calc_margin(call: AuthorizedRequest, account: String) -> Outcome {
    call.account(&account)?;
    let mut parameters = Parameters::parse(call.context.query())?;
    let Side(action) = parameters.required("action")?;
    let symbol: String = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price = parameters.required("price")?;
    parameters.finish()?;
    let symbol = symbol_named(&symbol)?;
    let calculation = calls::OrderCalcMargin { action, symbol, volume, price };
    json(&call, &Margin { margin: call.ask(&account, calculation).await? })
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
pub async fn calc_profit(call: AuthorizedRequest, account: String) -> Outcome {
    call.account(&account)?;
    let mut parameters = Parameters::parse(call.context.query())?;
    let Side(action) = parameters.required("action")?;
    let symbol: String = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price_open = parameters.required("price_open")?;
    let price_close = parameters.required("price_close")?;
    parameters.finish()?;
    let symbol = symbol_named(&symbol)?;
    let calculation = calls::OrderCalcProfit { action, symbol, volume, price_open, price_close };
    json(&call, &Profit { profit: call.ask(&account, calculation).await? })
}

/// A trade, as the journal has it.
#[derive(Serialize, ToSchema)]
pub struct TradeRecord {
    /// The gateway's own id.
    trade_id: String,
    /// What is known about its fate.
    state: State,
    /// What it does.
    operation: Operation,
    /// The key that it was sent with.
    idempotency_key: Option<String>,
    /// Name of the API key that was used.
    api_key: Option<String>,
    /// The client's address.
    client: Option<String>,
    /// When its intent was written, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    created: Timestamp,
    /// When its state changed last, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    updated: Timestamp,
    /// Why it stands where it stands, if there is more to say.
    detail: Option<String>,
    /// Tickets of orders any of which could be it.
    candidates: Vec<u64>,
    /// What was sent, without the tag. `null` past the retention.
    request: Option<TradeRequest>,
    /// What came of it.
    result: Option<TradeResult>,
    /// Of a superseded trade: the position or order as it was found; `null`: there is none any
    /// more.
    #[schema(value_type = Option<PresentBody>)]
    present: Option<serde_json::Value>,
    /// Who settled it, if an operator did.
    resolved_by: Option<String>,
    /// What was found later and contradicts the operator.
    contradicted: Option<String>,
}

/// A position or an order.
#[derive(ToSchema)]
#[schema(as = PositionOrOrder)]
#[serde(untagged)]
#[expect(dead_code, reason = "shows the shape of what the journal keeps as JSON")]
pub enum PresentBody {
    Position(crate::mt5::Position),
    Order(crate::mt5::Order),
}

/// A position or order as clients see it: without the tag, and in UTC where the server's zone is
/// known.
fn present(account: &Account, present: Option<serde_json::Value>) -> Option<serde_json::Value> {
    fn shown<T>(account: &Account, present: serde_json::Value) -> Option<serde_json::Value>
    where
        T: ReplyFields + Serialize + DeserializeOwned,
    {
        let mut record: T = serde_json::from_value(present).ok()?;
        tag::strip_answer(&mut record);
        if let Some(mut to_utc) = account.clock().to_utc() {
            record.convert_times(&mut to_utc);
        }
        serde_json::to_value(record).ok()
    }

    let present = present?;
    match present.get("identifier") {
        Some(_) => shown::<Position>(account, present),
        None => shown::<Order>(account, present),
    }
}

/// A request as clients see it: without the tag, and in UTC where the server's zone is known.
fn shown(account: &Account, request: TradeRequest) -> TradeRequest {
    let comment = tag::strip(&request.comment).into_owned();
    let expiration = match account.clock().to_utc() {
        Some(mut to_utc) => to_utc(request.expiration),
        None => request.expiration,
    };
    TradeRequest { comment, expiration, ..request }
}

impl TradeRecord {
    fn of(account: &Account, trade: Trade) -> TradeRecord {
        let time = |msc| Timestamp::from_millisecond(msc).unwrap_or_default();
        TradeRecord {
            trade_id: trade.trade_id,
            state: trade.state,
            operation: trade.operation,
            idempotency_key: trade.idempotency_key,
            api_key: trade.api_key,
            client: trade.client,
            created: time(trade.created_msc),
            updated: time(trade.updated_msc),
            detail: trade.detail,
            candidates: trade.candidates,
            request: trade.request.map(|request| shown(account, request)),
            result: trade.result,
            present: present(account, trade.present),
            resolved_by: trade.resolved_by,
            contradicted: trade.contradicted,
        }
    }
}

impl Parameter for State {
    const EXPECTED: &'static str =
        "sending, executed, refused, unknown, not-found, not-sent or superseded";

    fn parse(text: &str) -> Option<State> {
        State::from_name(text)
    }
}

/// A number of trades.
struct Limit(u32);

impl Parameter for Limit {
    const EXPECTED: &'static str = "a whole number from 1 to 1000";

    fn parse(text: &str) -> Option<Limit> {
        text.parse().ok().filter(|limit| (1..=1_000).contains(limit)).map(Limit)
    }
}

/// Trades made through this gateway, the newest first.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/trades", tag = "trading",
    params(
        ("state" = Option<String>, Query, description = "Only those in this state", example = "unknown"),
        ("idempotency_key" = Option<String>, Query, description = "Only those with this Idempotency-Key; asks and never sends"),
        ("api_key" = Option<String>, Query, description = "Only those that were sent with the API key of this name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many at most; 100 unless given"),
    ),
    responses((status = 200, description = "The trades", body = [TradeRecord]))
)]
pub async fn trades(call: AuthorizedRequest, account: String) -> Outcome {
    let configured = call.account(&account)?;
    let mut parameters = Parameters::parse(call.context.query())?;
    let state = parameters.optional("state")?;
    let key = parameters.optional("idempotency_key")?;
    let api_key = parameters.optional("api_key")?;
    let limit = parameters.optional("limit")?.map_or(LIMIT, |Limit(limit)| limit);
    parameters.finish()?;
    let filter = TradeFilter { state, key, api_key, limit };
    let found = call.app.trading.list(&account, filter).await?;
    let records = found.into_iter().map(|trade| TradeRecord::of(configured, trade));
    let records: Vec<TradeRecord> = records.collect();
    json(&call, &records)
}

/// A trade made through this gateway.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/trades/{trade_id}", tag = "trading",
    responses((status = 200, description = "The trade", body = TradeRecord))
)]
pub async fn trade(call: AuthorizedRequest, (account, trade_id): (String, String)) -> Outcome {
    let configured = call.account(&account)?;
    Parameters::parse(call.context.query())?.finish()?;
    match call.app.trading.find(&account, &trade_id).await? {
        Some(found) => json(&call, &TradeRecord::of(configured, found)),
        None => Err(no_trade(&trade_id)),
    }
}

fn no_trade(trade_id: &str) -> Problem {
    let id = shorten(trade_id);
    Problem::not_found(format!("there is no trade {id:?} in the journal"))
}

/// An operator's word about an unknown trade.
#[derive(ToSchema)]
#[schema(as = TradeResolution)]
#[serde(untagged)]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub enum ResolveBody {
    Executed(ExecutedBody),
    NotFound(NotFoundBody),
}

/// That a trade was executed.
#[derive(ToSchema)]
#[schema(as = ResolvedAsExecuted, example = json!({"state": "executed", "order": 4711, "reason": "seen in the terminal"}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct ExecutedBody {
    /// `executed`
    state: String,
    /// Ticket of the order that it is, which the terminal has to show.
    order: u64,
    /// Why, for whoever reads the journal.
    reason: String,
}

/// That a trade did not happen.
#[derive(ToSchema)]
#[schema(as = ResolvedAsNotFound, example = json!({"state": "not-found", "reason": "the broker says so"}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct NotFoundBody {
    /// `not-found`
    state: String,
    /// Why, for whoever reads the journal.
    reason: String,
}

/// Settles a trade that looking cannot decide.
///
/// Refused where the terminal shows otherwise.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/trades/{trade_id}/resolve", tag = "trading",
    request_body = ResolveBody,
    responses((status = 200, description = "The trade, settled", body = TradeRecord))
)]
pub async fn resolve_trade(
    call: AuthorizedRequest,
    (account, trade_id): (String, String),
    body: Body,
) -> Outcome {
    let configured = call.account(&account)?.clone();
    Parameters::parse(call.context.query())?.finish()?;
    let mut fields = Fields::of(&call, body).await?;
    let Settlement(state) = fields.required("state")?;
    let order: Option<u64> = fields.optional("order")?;
    let reason: String = fields.required("reason")?;
    fields.finish()?;
    let order = match (state, order) {
        (State::Executed, None) => {
            return Err(Problem::invalid(
                "field `order` is missing: expected the ticket of the order that the trade is",
            ));
        }
        (State::Executed, order) => order,
        (_, Some(_)) => {
            return Err(Problem::invalid("field `order`: it belongs to the state `executed`"));
        }
        (_, None) => None,
    };
    let operator = call.api_key().map_or_else(|| call.context.peer.to_string(), str::to_owned);
    let resolution = Resolution { order, reason, operator };
    let trading = &call.app.trading;
    let request_id = &call.call_context().request_id;
    match trading.resolve(&configured, &trade_id, resolution, request_id).await? {
        Some(trade) => json(&call, &TradeRecord::of(&configured, trade)),
        None => Err(no_trade(&trade_id)),
    }
}

/// A state that an operator can settle a trade in.
struct Settlement(State);

impl Field for Settlement {
    const EXPECTED: &'static str = "executed or not-found";

    fn read(value: &serde_json::Value) -> Option<Settlement> {
        let state = State::from_name(value.as_str()?)?;
        matches!(state, State::Executed | State::NotFound).then_some(Settlement(state))
    }
}
