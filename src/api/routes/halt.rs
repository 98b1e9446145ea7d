//! Halts: nothing may be opened, on one account or on all of them. Closing goes on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;
use utoipa::ToSchema;
use warp::Filter;

use crate::account_name::AccountName;
use crate::api::authorized::AuthorizedRequest;
use crate::api::filters::body::Body;
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use crate::clock::BootInstant;
use crate::mt5::{Order, Selection, Ticket, calls};
use crate::pool::{Account, CallContext};
use crate::trading::{Halt, HaltScope, Origin, Trade, TradeCommand, TradeId, TradeState, tag};

/// How long an account's resting orders are waited for: a terminal that hangs must not hold the answer up.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// How many orders of an account are cancelled at once: fewer than any queue of trades holds.
const AT_ONCE: usize = 4;

/// `/api/v1/halt`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    last("halt").and(resource!(routes: get Read halts, put Admin halt_all, delete Admin lift_all))
}

/// `/api/v1/accounts/{account}/halt`
pub fn of_account(routes: &mut Routes) -> impl Answers + use<> {
    last("halt").and(resource!(routes: get Read halt, put Trade halt_account, delete Trade lift))
}

/// Whether an account is halted.
#[derive(Serialize, ToSchema)]
pub struct HaltStatus {
    #[schema(value_type = String)]
    account: AccountName,
    /// Whether nothing may be opened.
    halted: bool,
    /// Who halted this account, and when; `null`: nobody did by itself.
    halt: Option<Halt>,
    /// Who halted all accounts, and when; `null`: nobody did.
    halt_of_all: Option<Halt>,
}

impl HaltStatus {
    async fn of(request: &AuthorizedRequest, account: &Account) -> Result<HaltStatus, Problem> {
        HaltStatus::beside(request, account, halt_of_all(request).await).await
    }

    /// Of an account, with what is known of the halt of all. One that is known is told, even if the journal cannot
    /// be asked for the other.
    async fn beside(
        request: &AuthorizedRequest,
        account: &Account,
        halt_of_all: Result<Option<Halt>, Problem>,
    ) -> Result<HaltStatus, Problem> {
        let halt = request.app().trading.halt_of(&HaltScope::of(account)).await;
        match (halt, halt_of_all) {
            (Ok(halt), Ok(of_all)) => Ok(HaltStatus::with(account, halt, of_all)),
            (Ok(halt @ Some(_)), Err(_)) => Ok(HaltStatus::with(account, halt, None)),
            (Err(_), Ok(of_all @ Some(_))) => Ok(HaltStatus::with(account, None, of_all)),
            (Err(error), _) => Err(error.into()),
            (_, Err(problem)) => Err(problem),
        }
    }

    fn with(account: &Account, halt: Option<Halt>, halt_of_all: Option<Halt>) -> HaltStatus {
        let halted = halt.is_some() || halt_of_all.is_some();
        HaltStatus { account: account.name.clone(), halted, halt, halt_of_all }
    }
}

/// The halt of all accounts. Whose key and address it was is shown to those who see every account.
async fn halt_of_all(request: &AuthorizedRequest) -> Result<Option<Halt>, Problem> {
    let halt = request.app().trading.halt_of(&HaltScope::All).await?;
    Ok(halt.map(|halt| {
        if request.sees_every_account() {
            halt
        } else {
            Halt { api_key: None, client: None, ..halt }
        }
    }))
}

/// Which accounts are halted.
#[derive(Serialize, ToSchema)]
pub struct HaltStatuses {
    /// Who halted all accounts, those that come later included, and when; `null`: nobody did.
    halt_of_all: Option<Halt>,
    /// The accounts that the key may see.
    accounts: Vec<HaltStatus>,
}

/// An account that has been halted, and what may still be opened by what was there before.
#[derive(Serialize, ToSchema)]
pub struct Halted {
    #[serde(flatten)]
    status: HaltStatus,
    /// Whether the halt is on disk, and outlives the gateway. If not, `problem` says why: ask again.
    kept: bool,
    /// Trades that a terminal already has, or whose outcome is unknown, as far as they are known.
    #[schema(value_type = Vec<String>)]
    sent: Vec<TradeId>,
    /// Resting orders, which may still be filled, unless they were cancelled. `null`: the terminal could not be asked.
    orders: Option<Vec<Order>>,
    /// What became of the attempts to cancel them; empty without `cancel_orders=true`.
    cancelled: Vec<Cancellation>,
    /// Why `kept` is false, or `sent` or `orders` are not known: ask again.
    problem: Option<String>,
}

/// The attempt to cancel a resting order.
#[derive(Serialize, ToSchema)]
pub struct Cancellation {
    ticket: u64,
    /// Whether the broker has cancelled it.
    cancelled: bool,
    /// Under which the attempt is kept, if it was recorded.
    #[schema(value_type = Option<String>)]
    trade_id: Option<TradeId>,
    /// Why it is not known to be cancelled.
    problem: Option<String>,
}

/// All accounts, halted.
#[derive(Serialize, ToSchema)]
pub struct AllHalted {
    /// Who halted them, and when.
    halt_of_all: Halt,
    /// Whether the halt is on disk, and outlives the gateway.
    kept: bool,
    /// Those that there are now.
    accounts: Vec<Halted>,
}

/// Whether an account is halted.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/halt", tag = "halt",
    responses((status = 200, description = "Whether it is halted", body = HaltStatus))
)]
pub async fn halt(request: AuthorizedRequest) -> Outcome {
    request.no_parameters()?;
    json(&request, &HaltStatus::of(&request, &*request.account()?).await?)
}

/// Which accounts are halted.
#[utoipa::path(
    get, path = "/api/v1/halt", tag = "halt",
    responses((status = 200, description = "Whether all are, and which are", body = HaltStatuses))
)]
pub async fn halts(request: AuthorizedRequest) -> Outcome {
    request.no_parameters()?;
    let halt_of_all = halt_of_all(&request).await?;
    let mut accounts = vec![];
    for account in request.accounts() {
        accounts.push(HaltStatus::beside(&request, &account, Ok(halt_of_all.clone())).await?);
    }
    json(&request, &HaltStatuses { halt_of_all, accounts })
}

/// Halts an account: nothing is opened any more.
///
/// Opening is whatever can raise exposure: an opening order, a netting order larger than the opposite position, a
/// new or moved pending order, stops that are removed or widened. Those are refused with 403 `trading-not-allowed`.
/// Closing and cancelling go on. The answer comes when no opening trade can be sent any more, and names those
/// that were sent before. A halt outlives the gateway, and stays with the account's login and server. Repeating the
/// request changes nothing and asks again.
#[utoipa::path(
    put, path = "/api/v1/accounts/{account}/halt", tag = "halt",
    params(("cancel_orders" = Option<bool>, Query, description = "Also cancel the account's resting orders")),
    responses((status = 200, description = "It is halted", body = Halted))
)]
pub async fn halt_account(request: AuthorizedRequest, _: Body) -> Outcome {
    let cancel_orders = cancel_orders(&request)?;
    request.check_key()?;
    // Also while it ends: what it has under way is held back.
    let account = request.account()?;
    let halt = request.app().trading.halt(HaltScope::of(&account), by(&request)).await;
    log(&request, Some(&account), "opening is halted");
    let halt_of_all = halt_of_all(&request).await.unwrap_or_default();
    let status = HaltStatus::with(&account, Some(halt.halt), halt_of_all);
    json(
        &request,
        &halted(&request, &account, status, halt.not_kept.as_deref(), cancel_orders).await,
    )
}

/// Lifts the halt of an account. That of all accounts stays.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{account}/halt", tag = "halt",
    responses((status = 200, description = "How it stands now", body = HaltStatus))
)]
pub async fn lift(request: AuthorizedRequest, _: Body) -> Outcome {
    request.no_parameters()?;
    request.check_key()?;
    let (account, trading) = (request.account()?, &request.app().trading);
    if trading.lift_halt(HaltScope::of(&account)).await? {
        log(&request, Some(&account), "halt is lifted");
    }
    json(&request, &HaltStatus::of(&request, &account).await?)
}

/// Halts all accounts, those that come later included.
///
/// Like the halt of one account. Accounts whose terminal does not answer within 5 s are named with a `problem`;
/// they are halted all the same. Needs a key that is not limited to accounts.
#[utoipa::path(
    put, path = "/api/v1/halt", tag = "halt",
    params(("cancel_orders" = Option<bool>, Query, description = "Also cancel all resting orders")),
    responses((status = 200, description = "All are halted", body = AllHalted))
)]
pub async fn halt_all(request: AuthorizedRequest, _: Body) -> Outcome {
    let cancel_orders = cancel_orders(&request)?;
    ensure_unlimited(&request)?;
    request.check_key()?;
    let halt = request.app().trading.halt(HaltScope::All, by(&request)).await;
    log(&request, None, "opening is halted on all accounts");
    let not_kept = halt.not_kept.as_deref();
    let accounts = request.accounts();
    let accounts = accounts.iter().map(async |account| {
        let own = request.app().trading.halt_of(&HaltScope::of(account)).await;
        let status = HaltStatus::with(account, own.unwrap_or_default(), Some(halt.halt.clone()));
        halted(&request, account, status, not_kept, cancel_orders).await
    });
    let accounts = join_all(accounts).await;
    let kept = halt.not_kept.is_none();
    json(&request, &AllHalted { halt_of_all: halt.halt, kept, accounts })
}

/// Lifts the halt of all accounts. Accounts that were halted by themselves stay so.
#[utoipa::path(
    delete, path = "/api/v1/halt", tag = "halt",
    responses((status = 200, description = "How they stand now", body = HaltStatuses))
)]
pub async fn lift_all(request: AuthorizedRequest, _: Body) -> Outcome {
    request.no_parameters()?;
    ensure_unlimited(&request)?;
    request.check_key()?;
    if request.app().trading.lift_halt(HaltScope::All).await? {
        log(&request, None, "halt of all accounts is lifted");
    }
    halts(request).await
}

fn cancel_orders(request: &AuthorizedRequest) -> Result<bool, Problem> {
    let mut parameters = request.parameters()?;
    let cancel_orders = parameters.optional("cancel_orders")?.unwrap_or(false);
    parameters.finish()?;
    Ok(cancel_orders)
}

fn ensure_unlimited(request: &AuthorizedRequest) -> Result<(), Problem> {
    if request.sees_every_account() {
        return Ok(());
    }
    let detail =
        "the key is limited to accounts, and this concerns all of them: use each one's own route";
    Err(Problem::new(ProblemType::Forbidden, detail))
}

fn by(request: &AuthorizedRequest) -> Halt {
    let now = Timestamp::now();
    // As precise as the journal.
    let since = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let api_key = request.api_key().map(str::to_owned);
    Halt { since, api_key, client: Some(request.context.peer.to_string()) }
}

fn log(request: &AuthorizedRequest, account: Option<&Arc<Account>>, change: &str) {
    warn!(
        target: "mt5_gateway::trading",
        account = account.map(|account| account.name.as_str()),
        api_key = request.api_key(),
        client = %request.context.peer,
        request_id = &*request.context.request_id,
        "{change}"
    );
}

/// How an account stands that has been halted.
async fn halted(
    request: &AuthorizedRequest,
    account: &Arc<Account>,
    status: HaltStatus,
    not_kept: Option<&str>,
    cancel_orders: bool,
) -> Halted {
    let trading = &request.app().trading;
    let deadline = request.call_context().deadline.min(Instant::now() + LOOK_WITHIN);
    let context = CallContext::new(request.context.request_id.clone(), deadline);
    let (sent, unread) = trading.may_still_open(account).await;
    let orders = account.call(calls::OrdersGet { selection: Selection::All }, &context).await;
    let problems = [
        not_kept.map(|why| format!("the halt would end with the gateway: {why}")),
        // Of a journal that takes no halt that was said.
        unread
            .filter(|_| not_kept.is_none())
            .map(|error| format!("trades that were sent are not all known: {error}")),
        orders.as_ref().err().map(|error| format!("its resting orders are not known: {error}")),
    ];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    let mut orders = orders.ok();
    if let Some(orders) = &mut orders {
        tag::strip_answer(orders);
    }
    let cancelled = match &orders {
        Some(orders) if cancel_orders => {
            let tickets: Vec<u64> = orders.iter().map(|order| order.ticket).collect();
            let cancelling = tickets.into_iter().map(|ticket| cancel(request, account, ticket));
            stream::iter(cancelling).buffered(AT_ONCE).collect().await
        }
        _ => vec![],
    };
    Halted {
        status,
        kept: not_kept.is_none(),
        sent,
        orders,
        cancelled,
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
    }
}

/// Cancels a resting order, as a trade of its own.
async fn cancel(request: &AuthorizedRequest, account: &Arc<Account>, ticket: u64) -> Cancellation {
    let uncertain = |trade_id: Option<TradeId>, problem: String| Cancellation {
        ticket,
        cancelled: false,
        trade_id,
        problem: Some(problem),
    };
    let command = TradeCommand::Cancel { ticket: Ticket::new(ticket) };
    let origin = Origin {
        key: None,
        arrived: BootInstant::now(),
        send_within: account.send_within_close,
        api_key: request.api_key().map(str::to_owned),
        client: Some(request.context.peer.to_string()),
    };
    let trading = &request.app().trading;
    let (executed, delivery) =
        trading.execute(account, command, origin, request.call_context()).await;
    delivery.confirm();
    match executed {
        Ok(reply) if reply.trade.state == TradeState::Executed => {
            let trade_id = Some(reply.trade.trade_id);
            Cancellation { ticket, cancelled: true, trade_id, problem: None }
        }
        Ok(reply) => {
            let Trade { trade_id, state, detail, result, .. } = reply.trade;
            let problem = match (state, result) {
                (TradeState::Refused, Some(result)) => {
                    format!("the broker refused it: {} ({})", result.retcode, result.retcode_name)
                }
                (state, _) => {
                    let why = detail.unwrap_or_else(|| "its answer has not come".to_owned());
                    format!("its trade is {}: {why}", state.name())
                }
            };
            uncertain(Some(trade_id), problem)
        }
        Err(error) => uncertain(None, error.to_string()),
    }
}
