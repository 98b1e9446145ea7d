//! The trades in the journal, and what an operator says about them.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;
use warp::path::end;

use super::execute::{PresentBody, present, shown};
use crate::api::authorized::{AccountRequest, AnyAccountRequest};
use crate::api::context::shorten;
use crate::api::filters::body::Body;
use crate::api::filters::fields::{Field, Fields};
use crate::api::filters::path::{item, last};
use crate::api::filters::query::Parameter;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::filters::trade_headers::unquoted;
use crate::api::problem::Problem;
use crate::api::reply::json;
use crate::mt5::TradeRequest;
use crate::pool::Account;
use crate::trading::{
    IdempotencyKey, Operation, Resolution, Trade, TradeFilter, TradeId, TradeResult, TradeState,
};

/// Trades in one list, unless the client asks for another number.
const LIMIT: u32 = 100;

/// `/api/v1/accounts/{account}/trades`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    let of_trade = end()
        .and(resource!(routes: get Read trade))
        .or(last("resolve").and(resource!(routes: post Admin resolve_trade)))
        .unify();
    let all = end().and(resource!(routes: get Read trades));
    item().and(of_trade).or(all).unify()
}

/// A trade, as the journal has it.
#[derive(Serialize, ToSchema)]
pub struct TradeRecord {
    /// The gateway's own id.
    #[schema(value_type = String)]
    trade_id: TradeId,
    /// What is known about its fate.
    state: TradeState,
    /// What it does.
    operation: Operation,
    /// The key that it was sent with.
    #[schema(value_type = Option<String>)]
    idempotency_key: Option<IdempotencyKey>,
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
    /// Of a superseded trade: the position or order as it was found; `null`: there is none any more.
    #[schema(value_type = Option<PresentBody>)]
    present: Option<serde_json::Value>,
    /// Who settled it, if an operator did.
    resolved_by: Option<String>,
    /// What was found later and contradicts the operator.
    contradicted: Option<String>,
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

impl Parameter for TradeState {
    const EXPECTED: &'static str =
        "sending, executed, refused, unknown, not-found, not-sent or superseded";

    fn parse(text: &str) -> Option<TradeState> {
        TradeState::from_name(text)
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
pub async fn trades(AnyAccountRequest(request): AnyAccountRequest) -> Outcome {
    let mut parameters = request.parameters()?;
    let state = parameters.optional("state")?;
    let key: Option<String> = parameters.optional("idempotency_key")?;
    let api_key = parameters.optional("api_key")?;
    let limit = parameters.optional("limit")?.map_or(LIMIT, |Limit(limit)| limit);
    parameters.finish()?;
    let key = match key.as_deref().map(|key| IdempotencyKey::parse(unquoted(key))) {
        // No trade has a key that no request can have.
        Some(None) => return json(&request, &Vec::<TradeRecord>::new()),
        Some(key) => key,
        None => None,
    };
    let filter = TradeFilter { state, key, api_key, limit };
    let found = request.app().trading.list(&request.account.name, filter).await?;
    let records = found.into_iter().map(|trade| TradeRecord::of(&request.account, trade));
    let records: Vec<TradeRecord> = records.collect();
    json(&request, &records)
}

/// A trade made through this gateway.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/trades/{trade_id}", tag = "trading",
    responses((status = 200, description = "The trade", body = TradeRecord))
)]
pub async fn trade(AnyAccountRequest(request): AnyAccountRequest) -> Outcome {
    request.no_parameters()?;
    let (account, trade_id) = (&request.account, trade_id(&request)?);
    match request.app().trading.find(&account.name, &trade_id).await? {
        Some(found) => json(&request, &TradeRecord::of(account, found)),
        None => Err(no_trade(&trade_id)),
    }
}

fn trade_id(request: &AccountRequest) -> Result<TradeId, Problem> {
    let text = request.trade_id();
    TradeId::parse(text).ok_or_else(|| no_trade(text))
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
pub async fn resolve_trade(AnyAccountRequest(request): AnyAccountRequest, body: Body) -> Outcome {
    request.no_parameters()?;
    let mut fields = Fields::of(&request, body).await?;
    let Settlement(state) = fields.required("state")?;
    let order: Option<u64> = fields.optional("order")?;
    let reason: String = fields.required("reason")?;
    fields.finish()?;
    request.check_key()?;
    let order = match (state, order) {
        (TradeState::Executed, None) => {
            return Err(Problem::invalid(
                "field `order` is missing: expected the ticket of the order that the trade is",
            ));
        }
        (TradeState::Executed, order) => order,
        (_, Some(_)) => {
            return Err(Problem::invalid("field `order`: it belongs to the state `executed`"));
        }
        (_, None) => None,
    };
    let operator =
        request.api_key().map_or_else(|| request.context.peer.to_string(), str::to_owned);
    let resolution = Resolution { order, reason, operator };
    // After the body, so that what is wrong with it is said whatever the id is.
    let (account, trade_id) = (&request.account, trade_id(&request)?);
    let trading = &request.app().trading;
    let request_id = &request.call_context().request_id;
    match trading.resolve(account, &trade_id, resolution, request_id).await? {
        Some(trade) => json(&request, &TradeRecord::of(account, trade)),
        None => Err(no_trade(&trade_id)),
    }
}

/// A state that an operator can settle a trade in.
struct Settlement(TradeState);

impl Field for Settlement {
    const EXPECTED: &'static str = "executed or not-found";

    fn read(value: &serde_json::Value) -> Option<Settlement> {
        let state = TradeState::from_name(value.as_str()?)?;
        matches!(state, TradeState::Executed | TradeState::NotFound).then_some(Settlement(state))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use crate::app::Service;
    use crate::settings::Settings;
    use crate::telemetry::Events;

    const TRADES: &str = "/api/v1/accounts/demo/trades";

    /// A gateway with the account `demo`.
    async fn start(folder: &std::path::Path) -> Service {
        let settings = format!(
            "[accounts.demo]\nlogin = 5001\nserver = 'S'\nterminal.kind = 'simulator'\n\
             [server]\nmax_body = '1KiB'\n[trading]\njournal = '{}'\n",
            folder.join("j").display()
        );
        let file = folder.join("gateway.toml");
        std::fs::write(&file, settings).unwrap();
        let settings = Settings::load(folder, Some(&file), [], &[]).unwrap();
        Service::start(settings, Events::default()).await.unwrap()
    }

    /// Sends a body of a media type, if there is one, and gives the status and the answer.
    async fn send(service: &Service, path: &str, body: Option<(&str, &str)>) -> (u16, Value) {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let connections = futures_util::stream::iter([(server, IpAddr::V4(Ipv4Addr::LOCALHOST))]);
        let stop = CancellationToken::new();
        let served = tokio::spawn(crate::api::serve(connections, service.app().clone(), stop));
        let method = if body.is_some() { "POST" } else { "GET" };
        let (media_type, body) = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {media_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        served.await.unwrap();
        let status = response["HTTP/1.1 ".len()..][..3].parse().unwrap();
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    #[tokio::test]
    async fn a_wrong_body_is_said_before_an_id_that_no_trade_can_have() {
        let folder = tempfile::tempdir().unwrap();
        let service = start(folder.path()).await;
        let large = " ".repeat(2_000);
        let body = r#"{"state": "not-found", "reason": "x"}"#;
        let cases = [
            ("text/plain", body, 415),
            ("application/json", "{}", 400),
            ("application/json", r#"{"state": "executed", "reason": "x"}"#, 400),
            ("application/json", &large, 413),
            ("application/json", body, 404),
        ];
        // No trade can have the second one.
        for id in ["1".to_owned(), "1".repeat(65)] {
            let path = format!("{TRADES}/{id}/resolve");
            for (media_type, body, expected) in cases {
                let (status, answer) = send(&service, &path, Some((media_type, body))).await;
                assert_eq!(status, expected, "{id} {media_type} {answer}");
            }
        }
    }

    #[tokio::test]
    async fn a_key_that_no_request_can_have_has_no_trades() {
        let folder = tempfile::tempdir().unwrap();
        let service = start(folder.path()).await;
        let path = format!("{TRADES}?idempotency_key={}", "k".repeat(256));
        assert_eq!(send(&service, &path, None).await, (200, serde_json::json!([])));
    }
}
