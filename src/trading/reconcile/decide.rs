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
mod tests {
    use super::*;
    use crate::mt5::TradeAction;
    use crate::trading::tag;

    const SENT: i64 = 1_000_000;

    fn of(operation: Operation, request: TradeRequest) -> Trade {
        Trade {
            server_time: SENT,
            request: Some(TradeRequest { symbol: "EURUSD".to_owned(), magic: 7, ..request }),
            ..Trade::new("id", "demo", operation, 0)
        }
    }

    /// A market order for 0.1 lots, with a tag or without.
    fn buy(tag: Option<&str>) -> Trade {
        let request = TradeRequest {
            action: TradeAction::Deal.value(),
            volume: 0.1,
            comment: format!("bot{}", tag.unwrap_or_default()),
            ..TradeRequest::default()
        };
        Trade { tag: tag.map(str::to_owned), ..of(Operation::Place, request) }
    }

    fn order(ticket: u64, comment: &str) -> Order {
        Order {
            ticket,
            symbol: "EURUSD".to_owned(),
            volume_initial: 0.1,
            magic: 7,
            time_setup: SENT,
            state: OrderState::Filled.value(),
            comment: comment.to_owned(),
            ..Order::default()
        }
    }

    fn deal(ticket: u64, order: u64, volume: f64) -> Deal {
        Deal {
            ticket,
            order,
            volume,
            price: 1.1,
            position_id: 5,
            time: SENT,
            magic: 7,
            symbol: "EURUSD".to_owned(),
            comment: "bot".to_owned(),
            ..Deal::default()
        }
    }

    fn none() -> HashSet<u64> {
        HashSet::new()
    }

    fn history(orders: Vec<Order>, deals: Vec<Deal>) -> Evidence {
        Evidence { history: orders, deals, ..Evidence::default() }
    }

    fn executed(finding: &Finding) -> Option<(u64, f64)> {
        match finding {
            Finding::Executed(result) => Some((result.order, result.volume)),
            _ => None,
        }
    }

    fn open_candidates(finding: Finding) -> Vec<u64> {
        match finding {
            Finding::Open { candidates, .. } => candidates,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_decides_among_twins_and_all_deals_of_its_order_count() {
        let (own, other) = (tag::random(), tag::random());
        let orders = vec![order(1, &format!("bot{other}")), order(2, &format!("bot{own}"))];
        let deals = vec![deal(11, 1, 0.1), deal(12, 2, 0.04), deal(13, 2, 0.06)];
        let finding = decide(&buy(Some(&own)), &history(orders, deals), &none());
        assert_eq!(executed(&finding), Some((2, 0.1)));
    }

    #[test]
    fn what_only_looks_like_it_is_never_a_verdict() {
        let own = tag::random();
        for (trade, comment) in [(buy(None), "bot"), (buy(Some(&own)), ""), (buy(Some(&own)), "bo")]
        {
            let alike = history(vec![order(1, comment)], vec![deal(11, 1, 0.1)]);
            assert_eq!(open_candidates(decide(&trade, &alike, &none())), [1], "{comment:?}");
            assert_eq!(decide(&trade, &alike, &HashSet::from([1])), Finding::Unseen);
            let older = Trade { order_floor: 1, ..trade };
            assert_eq!(decide(&older, &alike, &none()), Finding::Unseen, "it was there before");
        }
        // Brokers rewrite comments. The tag of another trade is its own.
        for comment in ["by hand", "web-api/12345 bot", "\u{fffd}"] {
            let rewritten = history(vec![order(1, comment)], vec![]);
            assert_eq!(open_candidates(decide(&buy(Some(&own)), &rewritten, &none())), [1]);
        }
        let others = history(vec![order(1, &tag::random())], vec![]);
        assert_eq!(decide(&buy(Some(&own)), &others, &none()), Finding::Unseen);
    }

    #[test]
    fn what_differs_is_no_candidate() {
        let differing: [fn(&mut Order); 6] = [
            |order| order.symbol = "GBPUSD".to_owned(),
            |order| order.r#type = 1,
            |order| order.volume_initial = 0.2,
            |order| order.magic = 8,
            |order| order.time_setup = SENT - 4 * 3_600,
            |order| order.reason = 4,
        ];
        for change in differing {
            let mut other = order(1, "bot");
            change(&mut other);
            assert_eq!(decide(&buy(None), &history(vec![other], vec![]), &none()), Finding::Unseen);
        }
        let limit = |price| Trade {
            request: Some(TradeRequest {
                r#type: OrderType::BuyLimit.value(),
                price,
                ..buy(None).request.unwrap()
            }),
            ..buy(None)
        };
        let pending =
            Order { r#type: OrderType::BuyLimit.value(), price_open: 1.2, ..order(1, "") };
        let evidence = Evidence { orders: vec![pending], ..Evidence::default() };
        // Brokers round prices.
        for price in [1.2, 1.200_01] {
            assert_eq!(open_candidates(decide(&limit(price), &evidence, &none())), [1]);
        }
    }

    #[test]
    fn an_open_position_is_a_candidate_before_its_order_is_in_the_history() {
        let position = Position {
            ticket: 9,
            identifier: 9,
            symbol: "EURUSD".to_owned(),
            volume: 0.1,
            magic: 7,
            // The last tick was ahead of the trade server.
            time: SENT - 2,
            comment: "bot".to_owned(),
            ..Position::default()
        };
        let evidence = Evidence { positions: vec![position], ..Evidence::default() };
        assert_eq!(open_candidates(decide(&buy(None), &evidence, &none())), [9]);
    }

    #[test]
    fn an_accepted_order_is_followed_by_its_ticket_to_its_end() {
        let accepted = Trade { accepted_order: 3, ..buy(None) };
        let working = Finding::Working { order: 3 };
        let active = Evidence { orders: vec![order(3, "")], ..Evidence::default() };
        assert_eq!(open_candidates(decide(&accepted, &Evidence::default(), &none())), [3]);
        assert_eq!(decide(&accepted, &active, &none()), working);
        let filling = Evidence { deals: vec![deal(1, 3, 0.04)], ..active };
        assert_eq!(decide(&accepted, &filling, &none()), working);
        let filled = history(vec![order(3, "")], vec![deal(1, 3, 0.04), deal(2, 3, 0.06)]);
        assert_eq!(executed(&decide(&accepted, &filled, &none())), Some((3, 0.1)));
        let part =
            Order { state: OrderState::Canceled.value(), volume_current: 0.06, ..order(3, "") };
        match decide(&accepted, &history(vec![part.clone()], vec![deal(1, 3, 0.04)]), &none()) {
            Finding::Executed(result) => {
                assert_eq!((result.retcode, result.volume), (10010, 0.04));
            }
            other => panic!("{other:?}"),
        }
        for (state, retcode) in [(OrderState::Rejected, 10006), (OrderState::Canceled, 10007)] {
            let ended = Order { state: state.value(), volume_current: 0.1, ..part.clone() };
            match decide(&accepted, &history(vec![ended], vec![]), &none()) {
                Finding::Refused(result) => assert_eq!(result.retcode, retcode),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_close_in_two_deals_is_one_order_and_a_position_closed_by_others_leaves_nothing_to_close() {
        let own = tag::random();
        let request = TradeRequest {
            volume: 0.1,
            r#type: 1,
            position: 5,
            comment: own.clone(),
            ..TradeRequest::default()
        };
        let close = Trade {
            position_id: 5,
            tag: Some(own.clone()),
            before: Some(Before { volume: 0.1, ..Before::default() }),
            ..of(Operation::Close, request)
        };
        let out = |ticket, order, volume, comment: &str| Deal {
            r#type: 1,
            entry: DealEntry::Out.value(),
            comment: comment.to_owned(),
            ..deal(ticket, order, volume)
        };
        let deals = vec![out(1, 8, 0.04, &own), out(2, 8, 0.06, &own)];
        let closing = Order { r#type: 1, ..order(8, &own) };
        match decide(&close, &history(vec![closing], deals), &none()) {
            Finding::Executed(result) => {
                assert_eq!((result.order, result.volume, result.position), (8, 0.1, 5));
                assert_eq!(result.deals, [1, 2]);
            }
            other => panic!("{other:?}"),
        }
        // The broker dropped the comment: it may be ours.
        let bare = history(vec![], vec![out(1, 8, 0.04, ""), out(2, 8, 0.06, "")]);
        assert_eq!(open_candidates(decide(&close, &bare, &none())), [8]);
        let before = Trade { order_floor: 8, ..close.clone() };
        assert!(
            open_candidates(decide(&before, &bare, &none())).is_empty(),
            "it was closed before"
        );
        let stopped = Deal { reason: 4, ..out(1, 8, 0.1, "[sl 1.0]") };
        let stopped = history(vec![], vec![stopped]);
        assert!(matches!(decide(&close, &stopped, &none()), Finding::Void(_)));
        let with = |volume, deals| {
            let position = Position { ticket: 5, identifier: 5, volume, ..Position::default() };
            Evidence { positions: vec![position], deals, ..Evidence::default() }
        };
        assert_eq!(decide(&close, &with(0.1, vec![]), &none()), Finding::Unseen);
        // It shrank, by a deal that is not shown, that has other words, or that is another trade's.
        assert!(open_candidates(decide(&close, &with(0.06, vec![]), &none())).is_empty());
        let other = || vec![out(1, 8, 0.04, "closed by broker")];
        assert_eq!(open_candidates(decide(&close, &with(0.06, other()), &none())), [8]);
        let owned = HashSet::from([8]);
        assert_eq!(decide(&close, &with(0.06, other()), &owned), Finding::Unseen);
        let half = Deal { reason: 4, ..out(1, 8, 0.05, "[sl 1.0]") };
        let half = decide(&close, &history(vec![], vec![half]), &none());
        assert!(open_candidates(half).is_empty(), "half of its end is still to come");
        assert!(open_candidates(decide(&close, &Evidence::default(), &none())).is_empty());
    }

    #[test]
    fn a_lost_change_of_stops_is_in_force_undone_or_superseded() {
        let request = TradeRequest { position: 5, sl: 1.5, tp: 2.0, ..TradeRequest::default() };
        let before = Before { sl: 1.4, tp: 2.0, updated_msc: 77, ..Before::default() };
        let change = Trade {
            position_id: 5,
            before: Some(before),
            ..of(Operation::ModifyPosition, request)
        };
        let with = |sl: f64, time_update_msc: i64| {
            let position = Position {
                ticket: 5,
                identifier: 5,
                sl,
                tp: 2.0,
                time_update_msc,
                ..Position::default()
            };
            Evidence { positions: vec![position], ..Evidence::default() }
        };
        match decide(&change, &with(1.5, 78), &none()) {
            Finding::Executed(result) => assert_eq!((result.position, result.order), (5, 0)),
            other => panic!("{other:?}"),
        }
        assert_eq!(decide(&change, &with(1.4, 77), &none()), Finding::Unseen);
        for (sl, updated) in [(1.4, 78), (1.45, 78)] {
            match decide(&change, &with(sl, updated), &none()) {
                Finding::Superseded { present, .. } => assert_eq!(present["sl"], sl),
                other => panic!("{other:?}"),
            }
        }
        let closing = Deal { entry: DealEntry::Out.value(), ..deal(1, 9, 0.1) };
        match decide(&change, &history(vec![], vec![closing]), &none()) {
            Finding::Superseded { present, .. } => assert_eq!(present, Value::Null),
            other => panic!("{other:?}"),
        }
        let nowhere = decide(&change, &Evidence::default(), &none());
        assert!(open_candidates(nowhere).is_empty(), "an empty answer proves nothing");
    }

    #[test]
    fn a_lost_change_or_cancellation_of_an_order_follows_the_order() {
        let request = TradeRequest { order: 3, price: 1.5, ..TradeRequest::default() };
        let before = Before { price: 1.4, ..Before::default() };
        let change = Trade { before: Some(before), ..of(Operation::ModifyOrder, request.clone()) };
        let at = |price_open| Order { price_open, ..order(3, "") };
        let pending = |order| Evidence { orders: vec![order], ..Evidence::default() };
        assert_eq!(executed(&decide(&change, &pending(at(1.5)), &none())), Some((3, 0.0)));
        assert_eq!(decide(&change, &pending(at(1.4)), &none()), Finding::Unseen);
        let asked = |type_time| {
            let request = TradeRequest { type_time, ..change.request.clone().unwrap() };
            Trade { request: Some(TradeRequest { price: 1.4, ..request }), ..change.clone() }
        };
        let lifetime = decide(&asked(1), &pending(at(1.4)), &none());
        assert_eq!(lifetime, Finding::Unseen, "only the lifetime was to change, and did not");
        let changing = Order { state: OrderState::RequestModify.value(), ..at(1.4) };
        let changing = decide(&change, &pending(changing), &none());
        assert!(open_candidates(changing).is_empty());
        let changed = decide(&change, &pending(at(1.3)), &none());
        assert!(matches!(changed, Finding::Superseded { .. }));
        let gone = decide(&change, &history(vec![at(1.4)], vec![]), &none());
        assert!(matches!(gone, Finding::Superseded { present: Value::Null, .. }));

        let cancel = of(Operation::Cancel, request);
        let ended = |state: OrderState| {
            history(vec![Order { state: state.value(), ..order(3, "") }], vec![])
        };
        let canceled = decide(&cancel, &ended(OrderState::Canceled), &none());
        assert_eq!(executed(&canceled), Some((3, 0.0)));
        assert!(matches!(decide(&cancel, &ended(OrderState::Filled), &none()), Finding::Void(_)));
        assert_eq!(decide(&cancel, &pending(at(1.4)), &none()), Finding::Unseen);
        assert!(open_candidates(decide(&cancel, &Evidence::default(), &none())).is_empty());
    }
}
