//! Which orders and deals at the broker may be a trade's. Pure functions.
//!
//! A ticket that the broker gave identifies the trade, and so does its tag. An order that only looks like
//! the trade is a candidate, which is shown to an operator, because somebody else may have made it. The
//! comparison is wide on purpose: an order that is left out would count as absence, and brokers cut,
//! rewrite and drop comments and round prices. Magic numbers, symbols, types and volumes survive.

use std::collections::{BTreeSet, HashSet};

use super::snapshot::{BACK, Evidence};
use crate::mt5::{Deal, DealEntry, Order, OrderType, Position, TradeRequest};
use crate::trading::tag::{self, Trace};
use crate::trading::trade::{Operation, Trade};

/// The reasons of orders and deals that are the server's own doing: stop loss, take profit, stop out.
const REASON_SERVER: std::ops::RangeInclusive<i64> = 4..=6;

/// Tolerance for rounding errors of doubles.
pub const NOISE: f64 = 1e-9;

/// Whether two prices or volumes are the same. NaN equals nothing.
pub fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= NOISE
}

/// The order that is the trade's for certain: by the ticket that the broker gave, or by the tag.
pub fn own_order(trade: &Trade, evidence: &Evidence) -> Option<u64> {
    if trade.accepted_order != 0 {
        return Some(trade.accepted_order);
    }
    let (request, tag) = (trade.request.as_ref()?, trade.tag.as_deref()?);
    let ours = |comment: &str| tag::trace(comment, &request.comment, tag) == Trace::Ours;
    let orders = evidence.history.iter().chain(&evidence.orders);
    let by_order = orders.filter(|order| ours(&order.comment)).map(|order| order.ticket);
    let by_deal = evidence.deals.iter().filter(|deal| ours(&deal.comment)).map(|deal| deal.order);
    let by_position = evidence.positions.iter().filter(|position| ours(&position.comment));
    by_order.chain(by_deal).chain(by_position.map(|position| position.identifier)).next()
}

/// Orders that look like the trade and belong to no other. For a position that was to be closed: every
/// order that has closed some of it since and could be the trade's.
pub fn candidates(trade: &Trade, evidence: &Evidence, owned: &HashSet<u64>) -> Vec<u64> {
    let Some(request) = &trade.request else {
        return vec![];
    };
    let like = Likeness { trade, request, owned };
    let tickets: BTreeSet<u64> = match trade.operation {
        Operation::Place if trade.position_id == 0 => {
            let orders = evidence.history.iter().chain(&evidence.orders);
            let orders = orders.filter(|order| like.order(order)).map(|order| order.ticket);
            let positions = evidence.positions.iter().filter(|position| like.position(position));
            orders.chain(positions.map(|position| position.identifier)).collect()
        }
        Operation::Place | Operation::Close | Operation::CloseBy => {
            let closings = closings(trade, evidence).filter(|deal| !is_explained(deal, owned));
            closings.map(|deal| deal.order).collect()
        }
        Operation::ModifyPosition | Operation::ModifyOrder | Operation::Cancel => BTreeSet::new(),
    };
    tickets.into_iter().collect()
}

/// Orders whose owner must be known: they are candidates if nobody owns them, or explain what became of the
/// trade's position if another trade does.
pub fn foreign_orders(trade: &Trade, evidence: &Evidence) -> Vec<u64> {
    let mut orders = candidates(trade, evidence, &HashSet::new());
    if trade.position_id != 0 {
        orders.extend(closings(trade, evidence).map(|deal| deal.order));
    }
    orders.sort_unstable();
    orders.dedup();
    orders
}

/// The deals that closed of the trade's position since the trade.
pub fn closings<'a>(
    trade: &'a Trade,
    evidence: &'a Evidence,
) -> impl Iterator<Item = &'a Deal> + 'a {
    evidence.deals.iter().filter(|deal| {
        let entry = DealEntry::from_value(deal.entry);
        deal.position_id == trade.position_id
            && matches!(entry, Some(DealEntry::Out | DealEntry::InOut | DealEntry::OutBy))
            && deal.order > trade.order_floor
    })
}

/// Whether a closing deal is certainly not the trade's: the server made it, or another trade, or
/// somebody whose tag it carries.
pub fn is_explained(deal: &Deal, owned: &HashSet<u64>) -> bool {
    REASON_SERVER.contains(&deal.reason)
        || owned.contains(&deal.order)
        || tag::find(&deal.comment).is_some()
}

struct Likeness<'a> {
    trade: &'a Trade,
    request: &'a TradeRequest,
    owned: &'a HashSet<u64>,
}

impl Likeness<'_> {
    /// Whether a ticket is newer than everything that was seen before the trade, and nobody's.
    fn ticket(&self, ticket: u64) -> bool {
        ticket > self.trade.order_floor && !self.owned.contains(&ticket)
    }

    /// A trade of which no floor is known can be no older than its time, less hours.
    fn time(&self, time: i64) -> bool {
        self.trade.order_floor > 0 || time >= self.trade.server_time - BACK
    }

    fn order(&self, order: &Order) -> bool {
        let request = self.request;
        let kind = OrderType::from_value(request.r#type);
        // A stop-limit order whose price was reached is a limit order.
        let reached = match kind {
            Some(OrderType::BuyStopLimit) => order.r#type == OrderType::BuyLimit.value(),
            Some(OrderType::SellStopLimit) => order.r#type == OrderType::SellLimit.value(),
            _ => false,
        };
        (order.r#type == request.r#type || reached)
            && order.symbol == request.symbol
            && same(order.volume_initial, request.volume)
            && order.magic == request.magic
            && self.time(order.time_setup)
            && !REASON_SERVER.contains(&order.reason)
            && self.ticket(order.ticket)
            && tag::find(&order.comment).is_none()
    }

    fn position(&self, position: &Position) -> bool {
        position.symbol == self.request.symbol
            && position.r#type == self.request.r#type
            && same(position.volume, self.request.volume)
            && position.magic == self.request.magic
            && self.time(position.time)
            && self.ticket(position.identifier)
            && tag::find(&position.comment).is_none()
    }
}
