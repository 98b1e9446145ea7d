//! Open positions and pending orders, as they are.

use super::{Outcome, Segments, Table};
use crate::api::context::{AuthorizedRequest, shorten};
use crate::api::filters::query::{Parameter, Parameters};
use crate::api::problem::Problem;
use crate::api::reply::{json, records};
use crate::mt5::{Group, Mt5Call, Order, Position, Selection, calls};

/// A ticket of an account.
#[derive(Debug, Clone)]
pub struct TicketPath {
    pub account: String,
    ticket: String,
}

impl TicketPath {
    pub fn ticket(&self) -> Result<u64, Problem> {
        Parameter::parse(&self.ticket).ok_or_else(|| {
            let ticket = shorten(&self.ticket);
            Problem::invalid(format!("ticket: expected a whole number, got {ticket:?}"))
        })
    }
}

impl From<Segments> for TicketPath {
    fn from(mut segments: Segments) -> TicketPath {
        TicketPath { account: segments.take(), ticket: segments.take() }
    }
}

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts/{account}/positions", positions);
    table.get("/api/v1/accounts/{account}/positions/total", positions_total);
    table.get("/api/v1/accounts/{account}/positions/{ticket}", position);
    table.get("/api/v1/accounts/{account}/orders", orders);
    table.get("/api/v1/accounts/{account}/orders/total", orders_total);
    table.get("/api/v1/accounts/{account}/orders/{ticket}", order);
}

/// What to ask the terminal for, and what to leave out of its answer: the
/// package takes a symbol or a group, not both.
fn selection(call: &AuthorizedRequest) -> Result<(Selection, Option<Group>), Problem> {
    let mut parameters = Parameters::parse(call.context.query())?;
    let symbol: Option<String> = parameters.optional("symbol")?;
    let group: Option<String> = parameters.optional("group")?;
    parameters.finish()?;
    Ok(match (symbol, group) {
        (None, None) => (Selection::All, None),
        (None, Some(group)) => (Selection::Group(group), None),
        (Some(symbol), group) => (Selection::Symbol(symbol), group.as_deref().map(Group::parse)),
    })
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
pub async fn positions(call: AuthorizedRequest, account: String) -> Outcome {
    call.account(&account)?;
    let (selection, group) = selection(&call)?;
    let mut found = call.ask(&account, calls::PositionsGet { selection }).await?;
    if let Some(group) = group {
        found.retain(|position| group.matches(&position.symbol));
    }
    records(&call, found).await
}

async fn total(
    call: AuthorizedRequest,
    account: &str,
    count: impl Mt5Call<Reply = u64>,
) -> Outcome {
    call.account(account)?;
    Parameters::parse(call.context.query())?.finish()?;
    json(&call, &call.ask(account, count).await?)
}

/// Number of open positions.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/positions/total", tag = "positions",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn positions_total(call: AuthorizedRequest, account: String) -> Outcome {
    total(call, &account, calls::PositionsTotal).await
}

/// An open position.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/positions/{ticket}", tag = "positions",
    responses((status = 200, description = "The position", body = Position))
)]
pub async fn position(call: AuthorizedRequest, path: TicketPath) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    let by_ticket = calls::PositionsGet { selection: Selection::Ticket(ticket) };
    match call.ask(&path.account, by_ticket).await?.first() {
        Some(position) => json(&call, position),
        None => Err(Problem::not_found(format!("there is no open position {ticket}"))),
    }
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
pub async fn orders(call: AuthorizedRequest, account: String) -> Outcome {
    call.account(&account)?;
    let (selection, group) = selection(&call)?;
    let mut found = call.ask(&account, calls::OrdersGet { selection }).await?;
    if let Some(group) = group {
        found.retain(|order| group.matches(&order.symbol));
    }
    records(&call, found).await
}

/// Number of pending orders.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/orders/total", tag = "orders",
    responses((status = 200, description = "The number", body = u64, content_type = "application/json"))
)]
pub async fn orders_total(call: AuthorizedRequest, account: String) -> Outcome {
    total(call, &account, calls::OrdersTotal).await
}

/// A pending order.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/orders/{ticket}", tag = "orders",
    responses((status = 200, description = "The order", body = Order))
)]
pub async fn order(call: AuthorizedRequest, path: TicketPath) -> Outcome {
    call.account(&path.account)?;
    Parameters::parse(call.context.query())?.finish()?;
    let ticket = path.ticket()?;
    let by_ticket = calls::OrdersGet { selection: Selection::Ticket(ticket) };
    match call.ask(&path.account, by_ticket).await?.first() {
        Some(order) => json(&call, order),
        None => Err(Problem::not_found(format!("there is no pending order {ticket}"))),
    }
}
