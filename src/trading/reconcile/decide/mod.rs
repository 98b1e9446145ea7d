//! What the terminal's evidence says about a trade. A pure function.
//!
//! Absence is no proof: that nothing shows a trade is [`Finding::Unseen`], and only time, on a
//! terminal that is known to be up to date, makes more of it.

use std::collections::HashSet;

use serde_json::Value;

use super::matching::{NOISE, candidates, closings, is_explained, own_order, same};
use super::snapshot::Evidence;
use crate::mt5::{Deal, DealEntry, Order, OrderState, OrderType, Position, Retcode, TradeRequest};
use crate::trading::trade::{Before, Operation, Trade, TradeResult};

/// What the evidence says.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It was carried out.
    Executed(TradeResult),
    /// The broker refused it.
    Refused(TradeResult),
    /// It did not take effect, and cannot any more.
    Void(String),
    /// What it was to change has changed otherwise: nobody can tell whether it took effect before.
    /// Carries what there is now, `null` if nothing.
    Superseded {
        /// Why.
        detail: String,
        /// The position or order.
        present: Value,
    },
    /// The broker has the order and is executing it.
    Working {
        /// Its ticket.
        order: u64,
    },
    /// Nothing shows it. What it was to change, if anything, is as it was before.
    Unseen,
    /// It cannot be told; it may be one of these orders.
    Open {
        /// Why.
        detail: String,
        /// Tickets of orders.
        candidates: Vec<u64>,
    },
}

impl Finding {
    fn open(detail: &str, candidates: Vec<u64>) -> Finding {
        Finding::Open { detail: detail.to_owned(), candidates }
    }
}

/// What the evidence says about a trade. `owned`: tickets of orders that are other trades'.
pub fn decide(trade: &Trade, evidence: &Evidence, owned: &HashSet<u64>) -> Finding {
    let Some(request) = &trade.request else {
        return Finding::open("what was sent is not known any more", vec![]);
    };
    match trade.operation {
        Operation::Place | Operation::Close | Operation::CloseBy => {
            match own_order(trade, evidence) {
                Some(order) => of_order(trade, request, order, evidence),
                None => unmarked(trade, request, evidence, owned),
            }
        }
        Operation::ModifyPosition => modified_position(trade, request, evidence),
        Operation::ModifyOrder => modified_order(trade, request, evidence),
        Operation::Cancel => cancelled(request, evidence),
    }
}

/// What became of the order that is the trade's.
fn of_order(trade: &Trade, request: &TradeRequest, ticket: u64, evidence: &Evidence) -> Finding {
    let deals: Vec<&Deal> = evidence
        .deals
        .iter()
        .filter(|deal| deal.order == ticket)
        // Closing by each other makes a deal for either position.
        .filter(|deal| {
            trade.operation != Operation::CloseBy || deal.position_id == trade.position_id
        })
        .collect();
    let ended = evidence.history.iter().find(|order| order.ticket == ticket);
    let active = evidence.orders.iter().find(|order| order.ticket == ticket);
    let market = OrderType::from_value(request.r#type).is_none_or(OrderType::is_market);
    let filled = || {
        let result = TradeResult::of_deals(ticket, &deals, request.volume);
        Finding::Executed(named(result, trade, request))
    };
    let volume: f64 = deals.iter().map(|deal| deal.volume).sum();
    match (ended, active) {
        (Some(order), _) => {
            let filled_volume = order.volume_initial - order.volume_current;
            let whole = request.volume == 0.0 || same(volume, filled_volume);
            match OrderState::from_value(order.state) {
                // Deals may come into the history one by one, and after their order.
                Some(OrderState::Filled | OrderState::Partial) | None
                    if !whole || deals.is_empty() =>
                {
                    Finding::Working { order: ticket }
                }
                _ if !deals.is_empty() && whole => filled(),
                _ if !deals.is_empty() || filled_volume > NOISE => {
                    Finding::Working { order: ticket }
                }
                _ => of_unfilled(order, market, trade, request),
            }
        }
        (None, Some(order)) if !market => match OrderState::from_value(order.state) {
            Some(OrderState::Started | OrderState::RequestAdd) => {
                Finding::Working { order: ticket }
            }
            _ => Finding::Executed(placed(order)),
        },
        (None, Some(_)) => Finding::Working { order: ticket },
        // The history may be behind the deals: wait for the order unless the deals are all of it.
        (None, None) => {
            let whole = volume > 0.0 && (same(volume, request.volume) || request.volume == 0.0);
            let position = evidence.positions.iter().find(|position| position.identifier == ticket);
            match position {
                _ if whole => filled(),
                Some(position) if same(position.volume, request.volume) => {
                    Finding::Executed(opened(position))
                }
                None if deals.is_empty() => Finding::open(
                    "the broker named an order that the terminal does not show",
                    vec![ticket],
                ),
                _ => Finding::Working { order: ticket },
            }
        }
    }
}

/// An order in the history of which nothing was filled.
fn of_unfilled(order: &Order, market: bool, trade: &Trade, request: &TradeRequest) -> Finding {
    let found = |retcode| {
        let result = TradeResult::found(retcode, order.ticket, 0.0, order.price_open);
        named(result, trade, request)
    };
    match OrderState::from_value(order.state) {
        Some(OrderState::Rejected) => Finding::Refused(found(Retcode::Reject)),
        Some(OrderState::Canceled | OrderState::Expired) if market => {
            Finding::Refused(found(Retcode::Cancel))
        }
        Some(OrderState::Canceled | OrderState::Expired) => Finding::Executed(placed(order)),
        _ => Finding::Working { order: order.ticket },
    }
}

/// A pending order that was placed, whatever became of it later.
fn placed(order: &Order) -> TradeResult {
    TradeResult::found(Retcode::Done, order.ticket, order.volume_initial, order.price_open)
}

fn opened(position: &Position) -> TradeResult {
    let Position { identifier, volume, price_open, ticket, .. } = position;
    TradeResult {
        position: *ticket,
        ..TradeResult::found(Retcode::Done, *identifier, *volume, *price_open)
    }
}

/// A result with the position that the trade was about.
fn named(result: TradeResult, trade: &Trade, request: &TradeRequest) -> TradeResult {
    let position = match (request.position, trade.position_id) {
        (0, 0) => result.position,
        (0, identifier) => identifier,
        (ticket, _) => ticket,
    };
    TradeResult { position, ..result }
}

/// A trade of which no ticket and no tag is to be seen.
fn unmarked(
    trade: &Trade,
    request: &TradeRequest,
    evidence: &Evidence,
    owned: &HashSet<u64>,
) -> Finding {
    let candidates = candidates(trade, evidence, owned);
    if !candidates.is_empty() {
        let detail = "orders that look like it may be it, or somebody else's";
        return Finding::open(detail, candidates);
    }
    if trade.position_id == 0 {
        return Finding::Unseen;
    }
    // It was to close a position. No closing since could be it, so what closed must be all that closed.
    let closed: f64 = closings(trade, evidence)
        .filter(|deal| is_explained(deal, owned))
        .map(|deal| deal.volume)
        .sum();
    let left = position_of(trade, request, evidence).map_or(0.0, |position| position.volume);
    let Some(before) = trade.before else {
        return Finding::open("how the position stood before is not known", vec![]);
    };
    match (same(before.volume - closed, left), left > 0.0) {
        (true, true) => Finding::Unseen,
        (true, false) => Finding::Void("its position was closed by other orders".to_owned()),
        (false, _) => Finding::open("what became of its position is not shown in full", vec![]),
    }
}

fn position_of<'a>(
    trade: &Trade,
    request: &TradeRequest,
    evidence: &'a Evidence,
) -> Option<&'a Position> {
    evidence.positions.iter().find(|position| {
        position.ticket == request.position || position.identifier == trade.position_id
    })
}

fn closes(deal: &Deal, position_id: u64) -> bool {
    let entry = DealEntry::from_value(deal.entry);
    deal.position_id == position_id
        && matches!(entry, Some(DealEntry::Out | DealEntry::InOut | DealEntry::OutBy))
}

fn modified_position(trade: &Trade, request: &TradeRequest, evidence: &Evidence) -> Finding {
    let Some(position) = position_of(trade, request, evidence) else {
        let mut deals = evidence.deals.iter();
        return if deals.any(|deal| closes(deal, trade.position_id)) {
            superseded("the position has closed since", Value::Null)
        } else {
            Finding::open("the position is neither open nor shown as closed", vec![])
        };
    };
    if !position.sl.is_finite() || !position.tp.is_finite() {
        return Finding::open("the position's stops cannot be read", vec![]);
    }
    if same(position.sl, request.sl) && same(position.tp, request.tp) {
        return Finding::Executed(TradeResult {
            position: position.ticket,
            ..TradeResult::found(Retcode::Done, 0, 0.0, 0.0)
        });
    }
    let unchanged = |before: Before| {
        same(position.sl, before.sl)
            && same(position.tp, before.tp)
            && position.time_update_msc == before.updated_msc
    };
    match trade.before {
        Some(before) if unchanged(before) => Finding::Unseen,
        Some(_) => superseded("the position was changed otherwise since", shown(position)),
        None => Finding::open("how the position stood before is not known", vec![]),
    }
}

fn modified_order(trade: &Trade, request: &TradeRequest, evidence: &Evidence) -> Finding {
    let ticket = request.order;
    let active = evidence.orders.iter().find(|order| order.ticket == ticket);
    let ended = evidence.history.iter().find(|order| order.ticket == ticket);
    let Some(order) = active.or(ended) else {
        return Finding::open("the order is neither pending nor in the history", vec![]);
    };
    let numbers = [order.price_open, order.price_stoplimit, order.sl, order.tp];
    if numbers.iter().any(|number| !number.is_finite()) {
        return Finding::open("the order's prices cannot be read", vec![]);
    }
    let prices_as_asked = same(order.price_open, request.price)
        && same(order.price_stoplimit, request.stoplimit)
        && same(order.sl, request.sl)
        && same(order.tp, request.tp);
    let ends_as_asked =
        order.type_time == request.type_time && order.time_expiration == request.expiration;
    if prices_as_asked && ends_as_asked {
        return Finding::Executed(TradeResult::found(Retcode::Done, ticket, 0.0, order.price_open));
    }
    let unchanged = |before: Before| {
        same(order.price_open, before.price)
            && same(order.price_stoplimit, before.stoplimit)
            && same(order.sl, before.sl)
            && same(order.tp, before.tp)
            && order.type_time == before.type_time
            && order.time_expiration == before.expiration
    };
    let changing = matches!(
        active.and_then(|order| OrderState::from_value(order.state)),
        Some(OrderState::RequestModify | OrderState::RequestCancel)
    );
    match (active, trade.before) {
        _ if changing => Finding::open("the order is being changed", vec![]),
        // Servers may round an expiration to the end of a day.
        (Some(_), Some(before)) if prices_as_asked && !unchanged(before) => {
            Finding::open("the order's prices are as asked for, its expiration is not", vec![])
        }
        (None, _) => superseded("the order has ended since", Value::Null),
        (Some(_), Some(before)) if unchanged(before) => Finding::Unseen,
        (Some(order), Some(_)) => superseded("the order was changed otherwise since", shown(order)),
        (Some(_), None) => Finding::open("how the order stood before is not known", vec![]),
    }
}

fn cancelled(request: &TradeRequest, evidence: &Evidence) -> Finding {
    let ticket = request.order;
    let ended = evidence.history.iter().find(|order| order.ticket == ticket);
    if let Some(order) = ended {
        let state = OrderState::from_value(order.state);
        return match state {
            Some(OrderState::Canceled) => {
                Finding::Executed(TradeResult::found(Retcode::Done, ticket, 0.0, 0.0))
            }
            Some(OrderState::Filled | OrderState::Expired | OrderState::Rejected) => {
                let state = state.map_or("ended", OrderState::name).to_lowercase();
                Finding::Void(format!("the order was {state} before it could be cancelled"))
            }
            _ => Finding::open("the order is in the history without having ended", vec![]),
        };
    }
    let active = evidence.orders.iter().find(|order| order.ticket == ticket);
    match active.map(|order| OrderState::from_value(order.state)) {
        Some(Some(OrderState::RequestCancel)) => {
            Finding::open("the order is being cancelled", vec![])
        }
        Some(_) => Finding::Unseen,
        None => Finding::open("the order is neither pending nor in the history", vec![]),
    }
}

fn superseded(detail: &str, present: Value) -> Finding {
    Finding::Superseded { detail: detail.to_owned(), present }
}

fn shown(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests;
