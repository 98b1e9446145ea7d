//! Carries a trade command through, and answers with what became of it.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::authorized::AccountRequest;
use crate::api::filters::body::{Body, arriving};
use crate::api::filters::fields::Fields;
use crate::api::filters::route::Outcome;
use crate::api::filters::trade_headers::{REPLAYED, idempotency_key, send_within};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::mt5::{Order, OrderCheckResult, Position, ReplyFields, Retcode, TradeRequest};
use crate::pool::Account;
use crate::trading::{
    Error, Operation, Origin, TradeCommand, TradeId, TradeReply, TradeResult, TradeState, tag,
};

/// The deviation of a request that gives none, points.
pub const DEVIATION: u64 = 20;

/// Executes a command.
///
/// # Errors
/// The problem if nothing was recorded: the command breaks a rule, or nothing can be traded now.
pub async fn execute(request: &AccountRequest, command: TradeCommand) -> Outcome {
    request.check_key()?;
    let origin = origin(request, &command)?;
    let trading = &request.app().trading;
    let (executed, delivery) =
        trading.execute(&request.account, command, origin, request.call_context()).await;
    // The key of a trade that was not sent is free again only for a client that knows so.
    let on_sent = Arc::new(move || delivery.confirm());
    let (mut response, replayed) = match executed {
        Ok(trade) => {
            let replayed = trade.replayed;
            (reply(request, trade).unwrap_or_else(Problem::into_response), replayed)
        }
        Err(Error::NotSent(not_sent)) => {
            let replayed = not_sent.spent.is_none();
            (Problem::from(*not_sent).on_sent(on_sent).into_response(), replayed)
        }
        Err(error) => return Err(Problem::from(error).on_sent(on_sent)),
    };
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn origin(request: &AccountRequest, command: &TradeCommand) -> Result<Origin, Problem> {
    Ok(Origin {
        key: idempotency_key(request)?,
        arrived: request.context.arrived_at,
        send_within: send_within(request, command)?,
        api_key: request.api_key().map(str::to_owned),
        client: Some(request.context.peer.to_string()),
    })
}

/// What would be sent. Nothing was.
#[derive(Serialize, ToSchema)]
pub struct Rehearsed {
    /// Always true.
    dry_run: bool,
    /// What the terminal would be given, with everything that was left out.
    request: TradeRequest,
    /// What the terminal says about it. `null`: two positions that close each other, which MT5 does not check.
    check: Option<Checked>,
}

/// Does everything for a command but sending it. Its key stays unused.
///
/// # Errors
/// The problem for which it would not be sent.
pub async fn rehearse(request: &AccountRequest, command: TradeCommand) -> Outcome {
    request.check_key()?;
    let (origin, account) = (origin(request, &command)?, &request.account);
    let trading = &request.app().trading;
    let rehearsed = trading.rehearse(account, command, origin, request.call_context()).await?;
    let check = rehearsed.check.map(|result| Checked::of(account, result));
    json(request, &Rehearsed { dry_run: true, request: shown(account, rehearsed.request), check })
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

impl Checked {
    /// The terminal's answer as clients see it.
    pub fn of(account: &Account, mut result: OrderCheckResult) -> Checked {
        result.request = shown(account, result.request);
        let retcode_name = match result.retcode {
            0 => "ok",
            code => Retcode::from_code(code).name(),
        };
        Checked { retcode_name, result }
    }
}

/// A trade's result, with the id under which it is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Traded)]
pub struct ExecutedTrade {
    /// The gateway's own id, for `trades/{trade_id}`.
    #[schema(value_type = String)]
    trade_id: TradeId,
    #[serde(flatten)]
    result: TradeResult,
}

/// The answer that a trade's state is.
fn reply(request: &AccountRequest, TradeReply { trade, .. }: TradeReply) -> Outcome {
    let account = &request.account;
    let trade_id = trade.trade_id.clone();
    match (trade.state, trade.result) {
        (TradeState::Executed, Some(result)) => {
            let placed = matches!(trade.operation, Operation::Place);
            let path = format!("/api/v1/accounts/{}/trades/{trade_id}", trade.account);
            let mut response = json(request, &ExecutedTrade { trade_id, result })?;
            if placed {
                *response.status_mut() = StatusCode::CREATED;
                if let Ok(path) = HeaderValue::from_str(&path) {
                    response.headers_mut().insert(LOCATION, path);
                }
            }
            Ok(response)
        }
        (TradeState::Refused, Some(result)) => {
            let (code, name) = (result.retcode, result.retcode_name.clone());
            let why = trade.detail.map_or(String::new(), |why| format!("; {why}"));
            let detail = format!("the broker refused the trade: {code} ({name}){why}");
            let mt5 = json!({ "code": code, "name": name, "message": result.comment });
            let result = json!(ExecutedTrade { trade_id: trade_id.clone(), result });
            Err(Problem::new(ProblemType::TradeRefused, detail)
                .with("mt5", mt5)
                .with("trade_id", (&*trade_id).into())
                .with("result", result))
        }
        (TradeState::Superseded, _) => {
            let why = trade.detail.unwrap_or_else(|| "it was changed otherwise".to_owned());
            let detail = format!(
                "whether trade {trade_id} took effect cannot be told any more: {why}; compare \
                 `present` with `intended` and decide anew, with a new key"
            );
            let intended = trade.request.map(|request| shown(account, request));
            Err(Problem::new(ProblemType::TradeSuperseded, detail)
                .with("trade_id", (&*trade_id).into())
                .with("present", present(account, trade.present).unwrap_or_default())
                .with("intended", json!(intended)))
        }
        (TradeState::NotFound, _) => {
            let why = trade.detail.unwrap_or_else(|| "nothing showed it".to_owned());
            let detail =
                format!("trade {trade_id} did not happen: {why}; use a new key to try again");
            Err(Problem::new(ProblemType::TradeNotFound, detail)
                .with("trade_id", (&*trade_id).into()))
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
                .with("trade_id", (&*trade_id).into())
                .with("candidates", json!(trade.candidates)))
        }
    }
}

/// A position or an order.
#[derive(ToSchema)]
#[schema(as = PositionOrOrder)]
#[serde(untagged)]
#[expect(dead_code, reason = "shows the shape of what the journal keeps as JSON")]
pub enum PresentBody {
    Position(Position),
    Order(Order),
}

/// A position or order as clients see it: without the tag, and in UTC where the server's zone is known.
pub fn present(account: &Account, present: Option<serde_json::Value>) -> Option<serde_json::Value> {
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
pub fn shown(account: &Account, request: TradeRequest) -> TradeRequest {
    let comment = tag::strip(&request.comment).into_owned();
    let expiration = match account.clock().to_utc() {
        Some(mut to_utc) => to_utc(request.expiration),
        None => request.expiration,
    };
    TradeRequest { comment, expiration, ..request }
}

/// Reads a body that has to change something.
pub async fn change(request: &AccountRequest, body: Body) -> Result<Fields, Problem> {
    let fields = Fields::of(request, body).await?;
    if fields.is_empty() {
        return Err(Problem::invalid("body: it has no field, so nothing would change"));
    }
    Ok(fields)
}

/// Makes sure that a request has no body: one that is lost on the way would close everything.
pub async fn without_body(request: &AccountRequest, mut body: Body) -> Result<(), Problem> {
    match arriving(request, body.next()).await? {
        None => Ok(()),
        Some(Ok(piece)) if piece.is_empty() => Ok(()),
        Some(_) => Err(Problem::invalid(
            "body: this route takes none; give `volume` and `deviation` as query parameters",
        )),
    }
}

/// MT5 writes 0 for a price that is not given.
pub fn positive(price: Option<f64>) -> Option<f64> {
    price.filter(|price| *price != 0.0)
}
