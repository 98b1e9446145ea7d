//! Trading: placing, changing, closing, cancelling, checking, and looking up
//! what became of it.

use futures_util::StreamExt;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::orders::TicketPath;
use super::{Body, Outcome, Table};
use crate::http::auth::Scope;
use crate::http::fields::Fields;
use crate::http::json::json;
use crate::http::parameters::{Moment, Parameter, Parameters};
use crate::http::problem::{Kind, Problem};
use crate::http::request::{Call, shorten};
use crate::mt5::{Answer, OrderCheckResult, OrderType, Request, Retcode, TradeRequest};
use crate::pool::Account;
use crate::trading::{
    Fate, NewOrder, Operation, OrderChange, State, Trade, TradeResult, Wish, tag,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

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
    table.send(Method::POST, check, Scope::Read, check_order);
    let position = "/api/v1/accounts/{account}/positions/{ticket}";
    table.send(Method::PUT, position, Scope::Trade, modify_position);
    table.send(Method::DELETE, position, Scope::Trade, close_position);
    table.get("/api/v1/accounts/{account}/calc/margin", calc_margin);
    table.get("/api/v1/accounts/{account}/calc/profit", calc_profit);
    table.get("/api/v1/accounts/{account}/trades", trades);
    table.get("/api/v1/accounts/{account}/trades/{trade_id}", trade);
}

/// The client's key: 1 to 255 visible ASCII characters, quotes optional.
fn idempotency_key(call: &Call) -> Result<Option<String>, Problem> {
    let mut values = call.exchange.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key =
        value.to_str().ok().map(str::trim).map(|text| {
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
        });
    let key = key.filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(
            "header `Idempotency-Key`: expected one key of 1 to 255 visible ASCII characters",
        )),
    }
}

/// Carries a wish through and answers with what became of it.
async fn carry_through(call: &Call, account: &str, wish: Wish) -> Outcome {
    let account = call.account(account)?.clone();
    let key = idempotency_key(call)?;
    let fate = call.app.trading.execute(&account, wish, key, call.context()).await?;
    let replayed = fate.replayed;
    let mut response = told(call, fate).unwrap_or_else(Problem::into_response);
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

fn told(call: &Call, Fate { trade, .. }: Fate) -> Outcome {
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
            let detail = format!("the broker refused the trade: {code} ({name})");
            let mt5 = json!({ "code": code, "name": name, "message": result.comment });
            let result = json!(Traded { trade_id: trade_id.clone(), result });
            Err(Problem::new(Kind::TradeRefused, detail)
                .with("mt5", mt5)
                .with("trade_id", trade_id.into())
                .with("result", result))
        }
        (State::NotFound, _) => {
            let why = trade.detail.unwrap_or_else(|| "nothing showed it".to_owned());
            let detail =
                format!("trade {trade_id} did not happen: {why}; use a new key to try again");
            Err(Problem::new(Kind::TradeNotFound, detail).with("trade_id", trade_id.into()))
        }
        _ => {
            let why = trade.detail.unwrap_or_else(|| "its answer has not come".to_owned());
            let detail = format!(
                "it is not known yet whether trade {trade_id} happened: {why}; ask for it again, \
                 or send the same request with the same Idempotency-Key; a new one could trade twice"
            );
            Err(Problem::new(Kind::OutcomeUnknown, detail).with("trade_id", trade_id.into()))
        }
    }
}

/// A new order, as a request's body describes it.
#[derive(ToSchema)]
#[schema(as = NewOrder, example = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1, "sl": 1.05}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct OrderBody {
    /// Name of a symbol.
    symbol: String,
    /// `BUY`, `SELL`, `BUY_LIMIT`, `SELL_LIMIT`, `BUY_STOP`, `SELL_STOP`, `BUY_STOP_LIMIT`,
    /// `SELL_STOP_LIMIT`, MT5's full name, or its integer. Not needed with `position_by`.
    r#type: String,
    /// Lots. Not needed with `position_by`.
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
    /// At most 29 characters. Up to 20 get a tag, which no answer shows.
    comment: Option<String>,
    /// `FOK`, `IOC`, `RETURN`, `BOC`; one that the symbol has unless given.
    type_filling: Option<String>,
    /// `GTC`, `DAY`, `SPECIFIED`, `SPECIFIED_DAY`.
    type_time: Option<String>,
    /// When it ends, in one of the spellings of `from` and `to`.
    expiration: Option<String>,
    /// Ticket of the position that it closes.
    position: Option<u64>,
    /// Ticket of the opposite position, to close both by each other.
    position_by: Option<u64>,
}

fn take_order(mut fields: Fields, account: &Account) -> Result<Wish, Problem> {
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
        return Ok(Wish::CloseBy { position, position_by, symbol, volume, magic, comment });
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
            .map(|at| at.resolve(account).floor_seconds())
            .filter(|at| *at != 0),
        position: fields.optional("position")?.filter(|ticket| *ticket != 0),
    };
    fields.finish()?;
    Ok(Wish::Place(order))
}

/// MT5 writes 0 for a price that is not given.
fn positive(price: Option<f64>) -> Option<f64> {
    price.filter(|price| *price != 0.0)
}

/// Places an order, or closes by one. Give an `Idempotency-Key`: a repetition with the same key
/// and body answers what became of the first and never trades again.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders", tag = "trading",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", example = "order-7f3a"),
    ),
    request_body = OrderBody,
    responses(
        (status = 201, description = "The order was placed", body = Traded),
        (status = 200, description = "Two positions were closed by each other", body = Traded),
    )
)]
pub async fn place_order(call: Call, account: String, body: Body) -> Outcome {
    let known = call.account(&account)?.clone();
    Parameters::parse(call.exchange.query())?.finish()?;
    let wish = take_order(Fields::of(&call, body).await?, &known)?;
    carry_through(&call, &account, wish).await
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

/// Asks the terminal what an order would do. Nothing is sent to the broker.
#[utoipa::path(
    post, path = "/api/v1/accounts/{account}/orders/check", tag = "trading",
    params(("account" = String, Path, description = "Name of a configured account")),
    request_body = OrderBody,
    responses((status = 200, description = "The terminal's answer; `retcode` 0: it would be taken", body = Checked))
)]
pub async fn check_order(call: Call, account: String, body: Body) -> Outcome {
    let checked = call.account(&account)?.clone();
    Parameters::parse(call.exchange.query())?.finish()?;
    let Wish::Place(order) = take_order(Fields::of(&call, body).await?, &checked)? else {
        return Err(Problem::invalid("field `position_by`: the terminal checks orders alone"));
    };
    let result = call.app.trading.check(&checked, &order, call.context()).await?;
    let retcode_name =
        if result.retcode == 0 { "ok" } else { Retcode::from_code(result.retcode).name() };
    json(&call, &Checked { retcode_name, result })
}

/// A position's stops.
#[derive(ToSchema)]
#[schema(as = PositionChange, example = json!({"sl": 1.05, "tp": null}))]
#[expect(dead_code, reason = "shows the shape of a body that is read field by field")]
pub struct PositionBody {
    /// Stop loss; `0` or `null`: none; not given: as it is.
    sl: Option<f64>,
    /// Take profit, likewise.
    tp: Option<f64>,
}

/// Changes a position's stops.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "trading",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("ticket" = u64, Path, description = "Ticket of the position"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    request_body = PositionBody,
    responses((status = 200, description = "They are changed", body = Traded))
)]
pub async fn modify_position(call: Call, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.exchange.query())?.finish()?;
    let ticket = path.ticket()?;
    let mut fields = change(&call, body).await?;
    let (sl, tp) = (fields.clearable("sl", 0.0)?, fields.clearable("tp", 0.0)?);
    fields.finish()?;
    carry_through(&call, &path.account, Wish::ModifyPosition { ticket, sl, tp }).await
}

/// Reads a body that has to change something.
async fn change(call: &Call, body: Body) -> Result<Fields, Problem> {
    let fields = Fields::of(call, body).await?;
    if fields.is_empty() {
        return Err(Problem::invalid("body: it has no field, so nothing would change"));
    }
    Ok(fields)
}

/// Makes sure that a request has no body: one that is lost on the way would close everything.
async fn without_body(mut body: Body) -> Result<(), Problem> {
    match body.next().await {
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
        ("account" = String, Path, description = "Name of a configured account"),
        ("ticket" = u64, Path, description = "Ticket of the position"),
        ("volume" = Option<f64>, Query, description = "Lots to close; all unless given", example = 0.05),
        ("deviation" = Option<u64>, Query, description = "Points that the price may have moved; 20 unless given"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    responses((status = 200, description = "It is closed", body = Traded))
)]
pub async fn close_position(call: Call, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let volume = parameters.optional("volume")?;
    let deviation = parameters.optional("deviation")?.unwrap_or(DEVIATION);
    parameters.finish()?;
    let ticket = path.ticket()?;
    without_body(body).await?;
    carry_through(&call, &path.account, Wish::Close { ticket, volume, deviation }).await
}

/// What is to change about a pending order.
#[derive(ToSchema)]
#[schema(as = OrderChange, example = json!({"price": 1.08, "sl": 1.05}))]
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
    /// `GTC`, `DAY`, `SPECIFIED`, `SPECIFIED_DAY`.
    type_time: Option<String>,
    /// When it ends; `0` or `null`: never.
    expiration: Option<String>,
}

/// Changes a pending order. What is not given stays as it is.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "trading",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("ticket" = u64, Path, description = "Ticket of the order"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    request_body = OrderChangeBody,
    responses((status = 200, description = "It is changed", body = Traded))
)]
pub async fn modify_order(call: Call, path: TicketPath, body: Body) -> Outcome {
    let account = call.account(&path.account)?.clone();
    Parameters::parse(call.exchange.query())?.finish()?;
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
            .map(|at| at.resolve(&account).floor_seconds()),
    };
    fields.finish()?;
    carry_through(&call, &path.account, Wish::ModifyOrder { ticket, change }).await
}

/// Cancels a pending order.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "trading",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("ticket" = u64, Path, description = "Ticket of the order"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    responses((status = 200, description = "It is cancelled", body = Traded))
)]
pub async fn cancel_order(call: Call, path: TicketPath, body: Body) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.exchange.query())?.finish()?;
    let ticket = path.ticket()?;
    without_body(body).await?;
    carry_through(&call, &path.account, Wish::Cancel { ticket }).await
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
        ("account" = String, Path, description = "Name of a configured account"),
        ("action" = String, Query, description = "`BUY` or `SELL`", example = "BUY"),
        ("symbol" = String, Query, description = "Name of a symbol", example = "EURUSD"),
        ("volume" = f64, Query, description = "Lots", example = 0.1),
        ("price" = f64, Query, description = "Opening price", example = 1.085),
    ),
    responses((status = 200, description = "The margin", body = Margin))
)]
pub async fn calc_margin(call: Call, account: String) -> Outcome {
    call.account(&account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let Side(action) = parameters.required("action")?;
    let symbol = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price = parameters.required("price")?;
    parameters.finish()?;
    let request = Request::OrderCalcMargin { action, symbol, volume, price };
    json(&call, &Margin { margin: amount(call.ask(&account, request).await?)? })
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
        ("account" = String, Path, description = "Name of a configured account"),
        ("action" = String, Query, description = "`BUY` or `SELL`", example = "BUY"),
        ("symbol" = String, Query, description = "Name of a symbol", example = "EURUSD"),
        ("volume" = f64, Query, description = "Lots", example = 0.1),
        ("price_open" = f64, Query, description = "Opening price", example = 1.085),
        ("price_close" = f64, Query, description = "Closing price", example = 1.083),
    ),
    responses((status = 200, description = "The profit", body = Profit))
)]
pub async fn calc_profit(call: Call, account: String) -> Outcome {
    call.account(&account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let Side(action) = parameters.required("action")?;
    let symbol = parameters.required("symbol")?;
    let volume = parameters.required("volume")?;
    let price_open = parameters.required("price_open")?;
    let price_close = parameters.required("price_close")?;
    parameters.finish()?;
    let request = Request::OrderCalcProfit { action, symbol, volume, price_open, price_close };
    json(&call, &Profit { profit: amount(call.ask(&account, request).await?)? })
}

fn amount(answer: Answer) -> Result<f64, Problem> {
    match answer {
        Answer::Amount(amount) => Ok(amount),
        _ => {
            let detail = "the terminal's answer is no amount";
            Err(Problem::new(Kind::TerminalAnswerUnusable, detail))
        }
    }
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
    /// When its intent was written, RFC 3339.
    #[schema(value_type = String)]
    created: Timestamp,
    /// When its state changed last, RFC 3339.
    #[schema(value_type = String)]
    updated: Timestamp,
    /// Why it stands where it stands, if there is more to say.
    detail: Option<String>,
    /// Tickets of orders any of which could be it.
    candidates: Vec<u64>,
    /// What was sent, without the tag. `null` past the retention.
    request: Option<TradeRequest>,
    /// What came of it.
    result: Option<TradeResult>,
}

impl From<Trade> for TradeRecord {
    fn from(trade: Trade) -> TradeRecord {
        let time = |msc| Timestamp::from_millisecond(msc).unwrap_or_default();
        TradeRecord {
            trade_id: trade.trade_id,
            state: trade.state,
            operation: trade.operation,
            idempotency_key: trade.idempotency_key,
            created: time(trade.created_msc),
            updated: time(trade.updated_msc),
            detail: trade.detail,
            candidates: trade.candidates,
            request: trade.request.map(|request| TradeRequest {
                comment: tag::strip(&request.comment).into_owned(),
                ..request
            }),
            result: trade.result,
        }
    }
}

impl Parameter for State {
    const EXPECTED: &'static str = "sending, executed, refused, unknown or not-found";

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
        ("account" = String, Path, description = "Name of a configured account"),
        ("state" = Option<String>, Query, description = "`sending`, `executed`, `refused`, `unknown` or `not-found`", example = "unknown"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 unless given"),
    ),
    responses((status = 200, description = "The trades", body = [TradeRecord]))
)]
pub async fn trades(call: Call, account: String) -> Outcome {
    call.account(&account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let state = parameters.optional("state")?;
    let limit = parameters.optional("limit")?.map_or(LIMIT, |Limit(limit)| limit);
    parameters.finish()?;
    let found = call.app.trading.list(&account, state, limit).await?;
    let records: Vec<TradeRecord> = found.into_iter().map(TradeRecord::from).collect();
    json(&call, &records)
}

/// A trade made through this gateway.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/trades/{trade_id}", tag = "trading",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("trade_id" = String, Path, description = "Id from the answer to the trade"),
    ),
    responses((status = 200, description = "The trade", body = TradeRecord))
)]
pub async fn trade(call: Call, (account, trade_id): (String, String)) -> Outcome {
    call.account(&account)?;
    Parameters::parse(call.exchange.query())?.finish()?;
    match call.app.trading.find(&account, &trade_id).await? {
        Some(found) => json(&call, &TradeRecord::from(found)),
        None => {
            let id = shorten(&trade_id);
            Err(Problem::not_found(format!("there is no trade {id:?} in the journal")))
        }
    }
}
