use super::*;
use crate::account_name::AccountName;
use crate::mt5::TradeAction;
use crate::trading::identifiers::TradeId;
use crate::trading::tag;

const SENT: i64 = 1_000_000;

fn of(operation: Operation, request: TradeRequest) -> Trade {
    Trade {
        server_time: SENT,
        request: Some(TradeRequest { symbol: "EURUSD".to_owned(), magic: 7, ..request }),
        ..Trade::new(TradeId::from_trusted("id"), AccountName::from_trusted("demo"), operation, 0)
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
    for (trade, comment) in [(buy(None), "bot"), (buy(Some(&own)), ""), (buy(Some(&own)), "bo")] {
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
    let pending = Order { r#type: OrderType::BuyLimit.value(), price_open: 1.2, ..order(1, "") };
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
    let part = Order { state: OrderState::Canceled.value(), volume_current: 0.06, ..order(3, "") };
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
    assert!(open_candidates(decide(&before, &bare, &none())).is_empty(), "it was closed before");
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
    let change =
        Trade { position_id: 5, before: Some(before), ..of(Operation::ModifyPosition, request) };
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
    let ended =
        |state: OrderState| history(vec![Order { state: state.value(), ..order(3, "") }], vec![]);
    let canceled = decide(&cancel, &ended(OrderState::Canceled), &none());
    assert_eq!(executed(&canceled), Some((3, 0.0)));
    assert!(matches!(decide(&cancel, &ended(OrderState::Filled), &none()), Finding::Void(_)));
    assert_eq!(decide(&cancel, &pending(at(1.4)), &none()), Finding::Unseen);
    assert!(open_candidates(decide(&cancel, &Evidence::default(), &none())).is_empty());
}
