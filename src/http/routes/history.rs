//! Orders and deals of the past.

use std::ops::RangeInclusive;

use super::{Outcome, Table};
use crate::http::json::answer;
use crate::http::parameters::{Moment, Parameters};
use crate::http::problem::Problem;
use crate::http::request::Call;
use crate::http::table::{self, Facts, Format};
use crate::mt5::{Answer, Deal, Group, Order, Request, Selection};

pub fn add(table: &mut Table) {
    table.get("/api/v1/accounts/{account}/history/orders", history_orders);
    table.get("/api/v1/accounts/{account}/history/orders/total", history_orders_total);
    table.get("/api/v1/accounts/{account}/history/deals", history_deals);
    table.get("/api/v1/accounts/{account}/history/deals/total", history_deals_total);
}

/// What part of the history is asked for.
struct Filtered {
    from: i64,
    to: i64,
    group: Option<String>,
    ticket: Option<u64>,
    position: Option<u64>,
}

impl Filtered {
    fn take(parameters: &mut Parameters) -> Result<Filtered, Problem> {
        let Moment(from) = parameters.required("from")?;
        let Moment(to) = parameters.required("to")?;
        let group = parameters.optional("group")?;
        let ticket = parameters.optional("ticket")?;
        let position = parameters.optional("position")?;
        if from > to {
            let detail = format!("parameter `from` ({from}) is after `to` ({to})");
            return Err(Problem::invalid(detail));
        }
        Ok(Filtered { from, to, group, ticket, position })
    }

    fn is_whole(&self) -> bool {
        self.group.is_none() && self.ticket.is_none() && self.position.is_none()
    }

    /// What the terminal is asked: the package takes one filter at a time, and
    /// a ticket or a position only without dates.
    fn selection(&self) -> Selection {
        match (self.position, self.ticket, &self.group) {
            (Some(position), _, _) => Selection::Position(position),
            (None, Some(ticket), _) => Selection::Ticket(ticket),
            (None, None, Some(group)) => Selection::Group(group.clone()),
            (None, None, None) => Selection::All,
        }
    }

    /// Applies to the terminal's answer what it was not asked for.
    fn apply(&self, answer: &mut Answer) {
        let period = self.from..=self.to;
        let group = self.group.as_deref().map(Group::parse);
        let passes = |symbol: &str| group.as_ref().is_none_or(|group| group.matches(symbol));
        let by_ticket = matches!(self.selection(), Selection::Ticket(_) | Selection::Position(_));
        match answer {
            _ if !by_ticket => {}
            Answer::Orders(orders) => orders.retain(|order| {
                within(&period, order.time_done, order.time_setup)
                    && passes(&order.symbol)
                    && self.ticket.is_none_or(|ticket| order.ticket == ticket)
            }),
            Answer::Deals(deals) => deals.retain(|deal| {
                period.contains(&deal.time)
                    && passes(&deal.symbol)
                    && self.ticket.is_none_or(|ticket| deal.order == ticket)
            }),
            _ => {}
        }
    }
}

/// Orders are in the history from when they were done.
fn within(period: &RangeInclusive<i64>, done: i64, setup: i64) -> bool {
    period.contains(if done == 0 { &setup } else { &done })
}

async fn history_of(
    call: &Call,
    account: &str,
    filtered: &Filtered,
    deals: bool,
) -> Result<Answer, Problem> {
    let (date_from, date_to, selection) = (filtered.from, filtered.to, filtered.selection());
    let request = if deals {
        Request::HistoryDealsGet { date_from, date_to, selection }
    } else {
        Request::HistoryOrdersGet { date_from, date_to, selection }
    };
    let mut found = call.ask(account, request).await?;
    filtered.apply(&mut found);
    Ok(found)
}

async fn list(call: Call, name: &str, deals: bool) -> Outcome {
    let account = call.account(name)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let filtered = Filtered::take(&mut parameters)?;
    let format = Format::take(&call, &mut parameters)?;
    parameters.finish()?;
    let facts = Facts { utc: account.is_utc(), closed: account.is_past(filtered.to) };
    match history_of(&call, name, &filtered, deals).await? {
        Answer::Orders(orders) => table::answer(&call, format, facts, orders).await,
        Answer::Deals(deals) => table::answer(&call, format, facts, deals).await,
        other => answer(&call, other).await,
    }
}

async fn total(call: Call, account: &str, deals: bool) -> Outcome {
    call.account(account)?;
    let mut parameters = Parameters::parse(call.exchange.query())?;
    let filtered = Filtered::take(&mut parameters)?;
    parameters.finish()?;
    let (date_from, date_to) = (filtered.from, filtered.to);
    let total = if !filtered.is_whole() {
        match history_of(&call, account, &filtered, deals).await? {
            Answer::Orders(orders) => Answer::Total(orders.len() as u64),
            Answer::Deals(deals) => Answer::Total(deals.len() as u64),
            other => other,
        }
    } else if deals {
        call.ask(account, Request::HistoryDealsTotal { date_from, date_to }).await?
    } else {
        call.ask(account, Request::HistoryOrdersTotal { date_from, date_to }).await?
    };
    answer(&call, total).await
}

/// Orders that are done.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/orders", tag = "history",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("from" = String, Query, description = "Unix seconds, a date, RFC 3339, `YYYY_MM_DD` or `YYYY_MM_DD_HH_MM_SS`"),
        ("to" = String, Query, description = "As `from`; included"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("ticket" = Option<u64>, Query, description = "Only the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
        ("format" = Option<String>, Query, description = "json, arrow, parquet or csv; else the header `Accept` chooses"),
    ),
    responses((
        status = 200, description = "The orders",
        content(
            ([Order] = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"),
        ),
    ))
)]
pub async fn history_orders(call: Call, account: String) -> Outcome {
    list(call, &account, false).await
}

/// Number of orders that are done.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/orders/total", tag = "history",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("from" = String, Query, description = "Unix seconds, a date, RFC 3339, `YYYY_MM_DD` or `YYYY_MM_DD_HH_MM_SS`"),
        ("to" = String, Query, description = "As `from`; included"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("ticket" = Option<u64>, Query, description = "Only the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
    ),
    responses((status = 200, description = "The number", body = u64))
)]
pub async fn history_orders_total(call: Call, account: String) -> Outcome {
    total(call, &account, false).await
}

/// Deals.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/deals", tag = "history",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("from" = String, Query, description = "Unix seconds, a date, RFC 3339, `YYYY_MM_DD` or `YYYY_MM_DD_HH_MM_SS`"),
        ("to" = String, Query, description = "As `from`; included"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("ticket" = Option<u64>, Query, description = "Only those of the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
        ("format" = Option<String>, Query, description = "json, arrow, parquet or csv; else the header `Accept` chooses"),
    ),
    responses((
        status = 200, description = "The deals",
        content(
            ([Deal] = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"),
        ),
    ))
)]
pub async fn history_deals(call: Call, account: String) -> Outcome {
    list(call, &account, true).await
}

/// Number of deals.
#[utoipa::path(
    get, path = "/api/v1/accounts/{account}/history/deals/total", tag = "history",
    params(
        ("account" = String, Path, description = "Name of a configured account"),
        ("from" = String, Query, description = "Unix seconds, a date, RFC 3339, `YYYY_MM_DD` or `YYYY_MM_DD_HH_MM_SS`"),
        ("to" = String, Query, description = "As `from`; included"),
        ("group" = Option<String>, Query, description = "Only those whose symbol passes, such as `*USD*,!EUR*`"),
        ("ticket" = Option<u64>, Query, description = "Only those of the order with this ticket"),
        ("position" = Option<u64>, Query, description = "Only those of this position"),
    ),
    responses((status = 200, description = "The number", body = u64))
)]
pub async fn history_deals_total(call: Call, account: String) -> Outcome {
    total(call, &account, true).await
}
