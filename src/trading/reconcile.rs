//! Finding out what became of a trade whose answer was lost: from what the
//! terminal shows, and nothing else.

use std::collections::HashSet;

use super::tag;
use super::trade::{Operation, Trade, TradeResult};
use crate::mt5::{
    Answer, Deal, DealEntry, Order, OrderState, OrderType, Position, Request, Retcode, Selection,
    TradeRequest,
};
use crate::pool::{Account, CallError, Context};

/// Seconds before a trade from which on its traces are looked for.
const MARGIN: i64 = 10;

/// How far a server's clock may be ahead, seconds: two days cover every zone.
const AHEAD: i64 = 2 * 86_400;

/// The first of `DEAL_REASON_*` that are the server's own doing: stop loss,
/// take profit, stop out.
const REASON_SERVER: std::ops::RangeInclusive<i64> = 4..=6;

/// What the terminal shows.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub orders: Vec<Order>,
    pub positions: Vec<Position>,
    pub history: Vec<Order>,
    pub deals: Vec<Deal>,
}

impl Snapshot {
    /// Asks the primary session's terminal for everything since a time (unix
    /// seconds of the server's clock).
    ///
    /// # Errors
    /// If it cannot be asked, or is not connected to its broker.
    pub async fn take(
        account: &Account,
        since: i64,
        context: &Context,
    ) -> Result<Snapshot, CallError> {
        let mut snapshot = Snapshot::default();
        let (date_from, date_to) = ((since - MARGIN).max(0), now() + AHEAD);
        let all = || Selection::All;
        match account.call(Request::TerminalInfo, context).await? {
            Answer::TerminalInfo(info) if info.connected => {}
            _ => return Err(CallError::NotReady(std::time::Duration::ZERO)),
        }
        // In this order nothing is missed that moves on meanwhile: an order becomes
        // a deal and a position, and then history.
        let orders = Request::OrdersGet { selection: all() };
        if let Answer::Orders(orders) = account.call(orders, context).await? {
            snapshot.orders = orders;
        }
        let positions = Request::PositionsGet { selection: all() };
        if let Answer::Positions(positions) = account.call(positions, context).await? {
            snapshot.positions = positions;
        }
        let history = Request::HistoryOrdersGet { date_from, date_to, selection: all() };
        if let Answer::Orders(orders) = account.call(history, context).await? {
            snapshot.history = orders;
        }
        let deals = Request::HistoryDealsGet { date_from, date_to, selection: all() };
        if let Answer::Deals(deals) = account.call(deals, context).await? {
            snapshot.deals = deals;
        }
        Ok(snapshot)
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What a snapshot says about a trade.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It was carried out.
    Executed(TradeResult),
    /// The broker refused it.
    Refused(TradeResult),
    /// Nothing shows that it happened.
    Absent,
    /// It may be one of these.
    Open { detail: String, candidates: Vec<u64> },
}

impl Finding {
    fn open(detail: &str, candidates: Vec<u64>) -> Finding {
        Finding::Open { detail: detail.to_owned(), candidates }
    }
}

/// What else has a claim on what the snapshot shows.
pub struct Claims {
    /// Tickets that other trades own.
    pub owned: HashSet<u64>,
    /// Whether another trade that looks the same is still undecided.
    pub contested: bool,
}

/// What a snapshot says about a trade.
pub fn decide(trade: &Trade, snapshot: &Snapshot, claims: &Claims) -> Finding {
    let Some(request) = &trade.request else {
        return Finding::open("what was sent is not known any more", vec![]);
    };
    match trade.operation {
        Operation::Place | Operation::Close | Operation::CloseBy => {
            if let Some(finding) = trade.tag.as_deref().and_then(|tag| by_tag(tag, snapshot)) {
                return finding;
            }
            let found = match trade.operation {
                Operation::Place if trade.position_id == 0 => orders_like(trade, request, snapshot),
                _ => closings_like(trade, request, snapshot),
            };
            by_shape(found, snapshot, claims)
        }
        Operation::ModifyPosition => {
            let position =
                snapshot.positions.iter().find(|position| position.ticket == request.position);
            match position {
                Some(position) if (position.sl, position.tp) == (request.sl, request.tp) => {
                    in_force(0)
                }
                _ => Finding::Absent,
            }
        }
        Operation::ModifyOrder => {
            let mut orders = snapshot.orders.iter().chain(&snapshot.history);
            match orders.find(|order| order.ticket == request.order) {
                Some(order) if is_as_asked(order, request) => in_force(order.ticket),
                _ => Finding::Absent,
            }
        }
        Operation::Cancel => {
            let done = snapshot.history.iter().find(|order| order.ticket == request.order);
            let canceled = OrderState::Canceled.value();
            match done {
                Some(order) if order.state == canceled => in_force(order.ticket),
                Some(_) => Finding::Absent,
                None if snapshot.orders.iter().any(|order| order.ticket == request.order) => {
                    Finding::Absent
                }
                None => Finding::open("the order is neither pending nor in the history", vec![]),
            }
        }
    }
}

/// A change that is in force.
fn in_force(order: u64) -> Finding {
    Finding::Executed(TradeResult::found(Retcode::Done, order, 0, 0.0, 0.0))
}

fn is_as_asked(order: &Order, request: &TradeRequest) -> bool {
    (order.price_open, order.price_stoplimit) == (request.price, request.stoplimit)
        && (order.sl, order.tp) == (request.sl, request.tp)
        && order.time_expiration == request.expiration
}

fn by_tag(tag: &str, snapshot: &Snapshot) -> Option<Finding> {
    let ours = |comment: &str| comment.ends_with(tag);
    let deal = snapshot.deals.iter().find(|deal| ours(&deal.comment));
    if let Some(order) = snapshot.history.iter().find(|order| ours(&order.comment)) {
        return Some(of_order(order, true, snapshot));
    }
    if let Some(deal) = deal {
        return Some(of_deal(deal));
    }
    if let Some(order) = snapshot.orders.iter().find(|order| ours(&order.comment)) {
        return Some(of_order(order, false, snapshot));
    }
    let position = snapshot.positions.iter().find(|position| ours(&position.comment))?;
    let result = TradeResult::found(
        Retcode::Done,
        position.identifier,
        0,
        position.volume,
        position.price_open,
    );
    Some(Finding::Executed(result))
}

fn of_deal(deal: &Deal) -> Finding {
    let (order, ticket) = (deal.order, deal.ticket);
    Finding::Executed(TradeResult::found(Retcode::Done, order, ticket, deal.volume, deal.price))
}

/// What an order that is ours says.
fn of_order(order: &Order, done: bool, snapshot: &Snapshot) -> Finding {
    if let Some(deal) = snapshot.deals.iter().find(|deal| deal.order == order.ticket) {
        return of_deal(deal);
    }
    let found = |retcode| TradeResult::found(retcode, order.ticket, 0, 0.0, order.price_open);
    let market = matches!(order.r#type, 0 | 1);
    let state = OrderState::from_value(order.state);
    match state {
        Some(OrderState::Rejected) => Finding::Refused(found(Retcode::Reject)),
        _ if done && market && order.volume_current == order.volume_initial => {
            Finding::Refused(found(Retcode::Cancel))
        }
        _ if !done && market => Finding::open("the order is being executed", vec![order.ticket]),
        _ => {
            let volume = order.volume_initial;
            Finding::Executed(TradeResult { volume, ..found(Retcode::Done) })
        }
    }
}

/// An order or a deal that could be a trade's.
enum Trace<'a> {
    Order(&'a Order, bool),
    Deal(&'a Deal),
}

impl Trace<'_> {
    fn tickets(&self) -> [u64; 2] {
        match self {
            Trace::Order(order, _) => [order.ticket, 0],
            Trace::Deal(deal) => [deal.order, deal.ticket],
        }
    }
}

/// Whether a comment carries some trade's whole tag.
fn is_tagged(comment: &str) -> bool {
    tag::find(comment).is_some()
}

fn orders_like<'a>(
    trade: &Trade,
    request: &TradeRequest,
    snapshot: &'a Snapshot,
) -> Vec<Trace<'a>> {
    // A stop-limit order that was reached is a limit order.
    let kinds = match OrderType::from_value(request.r#type) {
        Some(OrderType::BuyStopLimit) => [request.r#type, OrderType::BuyLimit.value()],
        Some(OrderType::SellStopLimit) => [request.r#type, OrderType::SellLimit.value()],
        _ => [request.r#type; 2],
    };
    let like = |order: &Order| {
        order.symbol == request.symbol
            && kinds.contains(&order.r#type)
            && order.volume_initial == request.volume
            && order.magic == request.magic
            && order.time_setup >= trade.server_time
            && !REASON_SERVER.contains(&order.reason)
            && !is_tagged(&order.comment)
    };
    let open = snapshot.orders.iter().map(|order| (order, false));
    let done = snapshot.history.iter().map(|order| (order, true));
    let mut seen = HashSet::new();
    done.chain(open)
        .filter(|(order, _)| like(order) && seen.insert(order.ticket))
        .map(|(order, done)| Trace::Order(order, done))
        .collect()
}

fn closings_like<'a>(
    trade: &Trade,
    request: &TradeRequest,
    snapshot: &'a Snapshot,
) -> Vec<Trace<'a>> {
    let by = trade.operation == Operation::CloseBy;
    let like = |deal: &&Deal| {
        let entry = DealEntry::from_value(deal.entry);
        deal.position_id == trade.position_id
            && deal.time >= trade.server_time
            && !REASON_SERVER.contains(&deal.reason)
            && !is_tagged(&deal.comment)
            && if by {
                entry == Some(DealEntry::OutBy)
            } else {
                matches!(entry, Some(DealEntry::Out | DealEntry::InOut))
                    && deal.volume == request.volume
                    && deal.r#type == request.r#type
            }
    };
    snapshot.deals.iter().filter(like).map(Trace::Deal).collect()
}

fn by_shape(mut traces: Vec<Trace<'_>>, snapshot: &Snapshot, claims: &Claims) -> Finding {
    traces.retain(|trace| !trace.tickets().iter().any(|ticket| claims.owned.contains(ticket)));
    let candidates = || traces.iter().map(|trace| trace.tickets()[0]).collect();
    match traces.as_slice() {
        [] => Finding::Absent,
        _ if claims.contested => {
            Finding::open("another trade that looks the same is undecided, too", candidates())
        }
        [Trace::Order(order, done)] => of_order(order, *done, snapshot),
        [Trace::Deal(deal)] => of_deal(deal),
        _ => Finding::open("several orders or deals look like it", candidates()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::TradeAction;
    use crate::trading::State;

    const SENT: i64 = 1_000_000;

    fn trade(tag: Option<&str>) -> Trade {
        let request = TradeRequest {
            action: TradeAction::Deal.value(),
            symbol: "EURUSD".to_owned(),
            volume: 0.1,
            magic: 7,
            comment: tag.unwrap_or_default().to_owned(),
            ..TradeRequest::default()
        };
        Trade {
            trade_id: "id".to_owned(),
            account: "demo".to_owned(),
            login: 1,
            operation: Operation::Place,
            idempotency_key: None,
            fingerprint: [0; 32],
            tag: tag.map(str::to_owned),
            state: State::Unknown,
            created_msc: 0,
            updated_msc: 0,
            server_time: SENT,
            position_id: 0,
            detail: None,
            candidates: vec![],
            request: Some(request),
            result: None,
        }
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

    fn free() -> Claims {
        Claims { owned: HashSet::new(), contested: false }
    }

    fn ticket(finding: &Finding) -> Option<u64> {
        match finding {
            Finding::Executed(result) => Some(result.order),
            _ => None,
        }
    }

    fn history(orders: Vec<Order>) -> Snapshot {
        Snapshot { history: orders, ..Snapshot::default() }
    }

    #[test]
    fn a_tag_decides_among_twins() {
        let (own, other) = (tag::random(), tag::random());
        let snapshot = history(vec![order(1, &other), order(2, &format!("x{own}")), order(3, "")]);
        assert_eq!(ticket(&decide(&trade(Some(&own)), &snapshot, &free())), Some(2));
        let gone = history(vec![order(1, &other)]);
        assert_eq!(decide(&trade(Some(&own)), &gone, &free()), Finding::Absent);
    }

    #[test]
    fn a_cut_tag_leaves_the_shape_and_several_leave_it_open() {
        let own = tag::random();
        let cut = &own[..5];
        let one = history(vec![order(1, cut)]);
        assert_eq!(ticket(&decide(&trade(Some(&own)), &one, &free())), Some(1));
        let owned = Claims { owned: HashSet::from([1]), contested: false };
        assert_eq!(decide(&trade(Some(&own)), &one, &owned), Finding::Absent);
        let contested = Claims { contested: true, ..free() };
        assert!(matches!(decide(&trade(Some(&own)), &one, &contested), Finding::Open { .. }));
        let two = history(vec![order(1, cut), order(2, "")]);
        match decide(&trade(None), &two, &free()) {
            Finding::Open { candidates, .. } => assert_eq!(candidates, [1, 2]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_differs_is_not_it() {
        let differing: [fn(&mut Order); 6] = [
            |order| order.symbol = "GBPUSD".to_owned(),
            |order| order.r#type = 1,
            |order| order.volume_initial = 0.2,
            |order| order.magic = 8,
            |order| order.time_setup = SENT - 1,
            |order| order.reason = 4,
        ];
        for change in differing {
            let mut other = order(1, "");
            change(&mut other);
            let snapshot = history(vec![other]);
            assert_eq!(decide(&trade(None), &snapshot, &free()), Finding::Absent);
        }
    }

    #[test]
    fn a_rejected_order_is_a_refusal_and_an_unfilled_one_did_not_happen() {
        for (state, retcode) in [(OrderState::Rejected, 10006), (OrderState::Canceled, 10007)] {
            let refused = Order { state: state.value(), volume_current: 0.1, ..order(1, "") };
            match decide(&trade(None), &history(vec![refused]), &free()) {
                Finding::Refused(result) => assert_eq!(result.retcode, retcode),
                other => panic!("{other:?}"),
            }
        }
        let started = Order { state: OrderState::Started.value(), ..order(1, "") };
        let snapshot = Snapshot { orders: vec![started], ..Snapshot::default() };
        assert!(matches!(decide(&trade(None), &snapshot, &free()), Finding::Open { .. }));
    }

    #[test]
    fn closes_changes_and_cancels_are_decided_by_state() {
        let close = Trade { operation: Operation::Close, position_id: 5, ..trade(None) };
        let deal = |change: fn(&mut Deal)| {
            let mut deal = Deal {
                ticket: 9,
                order: 8,
                position_id: 5,
                entry: DealEntry::Out.value(),
                volume: 0.1,
                time: SENT,
                ..Deal::default()
            };
            change(&mut deal);
            Snapshot { deals: vec![deal], ..Snapshot::default() }
        };
        assert_eq!(ticket(&decide(&close, &deal(|_| ()), &free())), Some(8));
        let others: [fn(&mut Deal); 4] = [
            |deal| deal.position_id = 6,
            |deal| deal.reason = 4,
            |deal| deal.volume = 0.05,
            |deal| deal.entry = DealEntry::In.value(),
        ];
        for other in others {
            assert_eq!(decide(&close, &deal(other), &free()), Finding::Absent);
        }

        let request = TradeRequest { position: 5, sl: 1.5, order: 3, ..TradeRequest::default() };
        let change = |operation| Trade { operation, request: Some(request.clone()), ..trade(None) };
        let position = |sl| Snapshot {
            positions: vec![Position { ticket: 5, sl, ..Position::default() }],
            ..Snapshot::default()
        };
        let stops = change(Operation::ModifyPosition);
        assert_eq!(ticket(&decide(&stops, &position(1.5), &free())), Some(0));
        assert_eq!(decide(&stops, &position(1.4), &free()), Finding::Absent);
        assert_eq!(decide(&stops, &Snapshot::default(), &free()), Finding::Absent);

        let cancel = change(Operation::Cancel);
        let ended =
            |state: OrderState| history(vec![Order { state: state.value(), ..order(3, "") }]);
        assert_eq!(ticket(&decide(&cancel, &ended(OrderState::Canceled), &free())), Some(3));
        assert_eq!(decide(&cancel, &ended(OrderState::Filled), &free()), Finding::Absent);
        let pending = Snapshot { orders: vec![order(3, "")], ..Snapshot::default() };
        assert_eq!(decide(&cancel, &pending, &free()), Finding::Absent);
        assert!(matches!(decide(&cancel, &Snapshot::default(), &free()), Finding::Open { .. }));
    }
}
