//! The books hold whatever is traded, and each mistake has its return code.

use proptest::prelude::*;

use super::*;
use crate::mt5::{DealEntry, Filling, OrderState, OrderTime, OrderType, TradeAction};

/// 2026-01-05 12:00 UTC, in milliseconds.
const NOON: i64 = 1_767_614_400_000;
const MINUTE: i64 = 60_000;

fn options(margin_mode: MarginMode, commission: f64) -> Arc<Options> {
    Arc::new(Options {
        login: 5001,
        server: "Demo-Server".to_owned(),
        seed: 1,
        balance: 10_000.0,
        margin_mode,
        commission,
        bars: BTreeMap::new(),
        latency: std::time::Duration::ZERO,
        faults: BTreeMap::new(),
    })
}

fn broker(margin_mode: MarginMode) -> Broker {
    Broker::new(options(margin_mode, 0.0), NOON)
}

fn market(kind: OrderType, volume: f64) -> TradeRequest {
    TradeRequest {
        action: TradeAction::Deal.value(),
        symbol: "EURUSD".to_owned(),
        r#type: kind.value(),
        volume,
        ..TradeRequest::default()
    }
}

/// A price so many points from the market's, on the side that the order is filled at.
fn away(broker: &mut Broker, symbol: &str, buy: bool, points: i64) -> f64 {
    let (spec, quote) = broker.feed(symbol).unwrap();
    spec.price(if buy { quote.ask } else { quote.bid } + points)
}

fn pending(broker: &mut Broker, kind: OrderType, points: i64) -> TradeRequest {
    TradeRequest {
        action: TradeAction::Pending.value(),
        price: away(broker, "EURUSD", kind.is_buy(), points),
        type_filling: Filling::Return.value(),
        ..market(kind, 0.1)
    }
}

fn send(broker: &mut Broker, request: &TradeRequest) -> OrderSendResult {
    broker.order_send(request, broker.now_msc)
}

fn retcode(broker: &mut Broker, request: &TradeRequest) -> &'static str {
    Retcode::from_code(send(broker, request).retcode).name()
}

#[test]
fn each_mistake_has_its_return_code() {
    let mut broker = broker(MarginMode::Hedging);
    let buy = market(OrderType::Buy, 0.1);
    let stop = pending(&mut broker, OrderType::BuyStop, 500);
    let ask = away(&mut broker, "EURUSD", true, 0);
    let with = |change: fn(&mut TradeRequest)| {
        let mut request = buy.clone();
        change(&mut request);
        request
    };
    let changed = |change: &dyn Fn(&mut TradeRequest)| {
        let mut request = stop.clone();
        change(&mut request);
        request
    };
    let cases = [
        ("invalid", with(|request| request.action = 99)),
        ("invalid", with(|request| request.symbol = "NOSUCH".to_owned())),
        ("invalid_order", with(|request| request.r#type = 99)),
        ("invalid_volume", with(|request| request.volume = 0.0)),
        ("invalid_volume", with(|request| request.volume = -0.1)),
        ("invalid_volume", with(|request| request.volume = 0.015)),
        ("invalid_volume", with(|request| request.volume = 501.0)),
        ("invalid_volume", with(|request| request.volume = f64::NAN)),
        ("no_money", with(|request| request.volume = 500.0)),
        ("invalid_fill", with(|request| request.type_filling = 2)),
        ("invalid_stops", with(|request| request.sl = 3.0)),
        ("invalid_stops", with(|request| request.tp = 0.5)),
        ("position_closed", with(|request| request.position = 77)),
        ("invalid_price", changed(&|request| request.price = ask)),
        ("invalid_price", changed(&|request| request.price += 0.000_001)),
        ("invalid_price", changed(&|request| request.r#type = 2)),
        ("invalid_stops", changed(&|request| request.sl = request.price)),
        (
            "invalid_expiration",
            changed(&|request| {
                request.type_time = OrderTime::Specified.value();
                request.expiration = 1_600_000_000;
            }),
        ),
        ("invalid_expiration", changed(&|request| request.type_time = 9)),
        ("invalid_fill", changed(&|request| request.type_filling = 3)),
    ];
    for (expected, request) in cases {
        assert_eq!(retcode(&mut broker, &request), expected, "{request:?}");
    }
    assert!(broker.positions.is_empty() && broker.orders.is_empty());
    assert_eq!(broker.deals.len(), 1, "a refused request books nothing");
}

#[test]
fn limits_may_lie_half_the_price_away_and_a_placed_order_is_done() {
    let mut broker = broker(MarginMode::Hedging);
    let half = away(&mut broker, "EURUSD", true, 0) / 2.0;
    let far = (half * 100.0).round() / 100.0;
    let request = TradeRequest { price: far, ..pending(&mut broker, OrderType::BuyLimit, -500) };
    let placed = send(&mut broker, &request);
    assert_eq!((placed.retcode, placed.deal), (10009, 0));
    let order = &broker.orders(&Selection::All, NOON)[0];
    assert_eq!((order.ticket, order.price_open), (placed.order, far));

    let change = TradeRequest {
        action: TradeAction::Modify.value(),
        order: placed.order,
        ..request.clone()
    };
    assert_eq!(retcode(&mut broker, &change), "no_changes");
    assert_eq!(retcode(&mut broker, &TradeRequest { sl: far - 0.1, ..change }), "done");
    let remove = TradeRequest {
        action: TradeAction::Remove.value(),
        order: placed.order,
        ..TradeRequest::default()
    };
    assert_eq!(retcode(&mut broker, &remove), "done");
    assert_eq!(retcode(&mut broker, &remove), "invalid");
    assert_eq!(broker.history[0].state, OrderState::Canceled.value());
}

#[test]
fn stops_and_targets_fire_as_the_price_moves_whenever_one_looks() {
    for (kind, sl, tp) in [(OrderType::Buy, -60, 60), (OrderType::Sell, 60, -60)] {
        let mut broker = broker(MarginMode::Hedging);
        let close =
            |points| move |broker: &mut Broker| away(broker, "EURUSD", !kind.is_buy(), points);
        let request = TradeRequest {
            sl: close(sl)(&mut broker),
            tp: close(tp)(&mut broker),
            ..market(kind, 0.1)
        };
        let opened = send(&mut broker, &request);
        let mut other = broker.clone();
        for minute in 1..=24 * 60 {
            broker.pass(NOON + minute * MINUTE);
        }
        other.pass(NOON + 24 * 60 * MINUTE);
        assert_eq!(broker.deals, other.deals, "it does not matter how often one looks");
        let closing = &broker.deals[2];
        assert!(broker.positions.is_empty());
        assert_eq!((closing.position_id, closing.entry), (opened.order, DealEntry::Out.value()));
        let expected = if closing.reason == 4 { request.sl } else { request.tp };
        assert!((closing.price - expected).abs() < 0.002, "{closing:?}");
        assert!(closing.comment.starts_with(if closing.reason == 4 { "[sl " } else { "[tp " }));
        assert_eq!(closing.profit > 0.0, closing.reason == 5);
    }
}

#[test]
fn pending_orders_trigger_or_expire() {
    let mut filled = std::collections::BTreeSet::new();
    // Whichever way the price goes in these weeks, each kind is reached in one of them.
    for week in 0..6 {
        let start = NOON + week * 7 * 24 * 60 * MINUTE;
        filled.extend(pending_orders_from(Broker::new(options(MarginMode::Hedging, 0.0), start)));
    }
    let kinds: Vec<i64> = filled.into_iter().collect();
    assert_eq!(kinds, [2, 3, 4, 5], "a stop-limit order is filled as a limit order");
}

/// Places one of each kind and gives those that were filled within two days.
fn pending_orders_from(mut broker: Broker) -> Vec<i64> {
    let start = broker.now_msc;
    let kinds = [
        (OrderType::BuyLimit, -20),
        (OrderType::SellLimit, 20),
        (OrderType::BuyStop, 20),
        (OrderType::SellStop, -20),
    ];
    for (kind, points) in kinds {
        let request = pending(&mut broker, kind, points);
        assert_eq!(retcode(&mut broker, &request), "done");
    }
    let mut stop_limit = pending(&mut broker, OrderType::BuyStopLimit, 40);
    stop_limit.stoplimit = away(&mut broker, "EURUSD", true, 20);
    assert_eq!(retcode(&mut broker, &stop_limit), "done");
    let far = pending(&mut broker, OrderType::SellLimit, 50_000);
    let far = TradeRequest {
        type_time: OrderTime::Specified.value(),
        expiration: start / 1000 + 3_600,
        ..far
    };
    let expiring = send(&mut broker, &far).order;
    broker.pass(start + 2 * 24 * 60 * MINUTE);
    let ended = |ticket| broker.history.iter().find(|order| order.ticket == ticket).unwrap();
    assert_eq!(ended(expiring).state, OrderState::Expired.value());
    assert!((0..60).contains(&(ended(expiring).time_done - start / 1000 - 3_600)));
    let filled: Vec<&Order> =
        broker.history.iter().filter(|order| order.state == OrderState::Filled.value()).collect();
    for order in &filled {
        let deal = broker.deals.iter().find(|deal| deal.order == order.ticket).unwrap();
        let better = if order.r#type == OrderType::SellLimit.value() {
            deal.price >= order.price_open
        } else if order.r#type == OrderType::BuyLimit.value() {
            deal.price <= order.price_open
        } else {
            true
        };
        assert!(better, "a limit order is filled at its price or a better one: {order:?} {deal:?}");
    }
    filled.iter().map(|order| order.r#type).collect()
}

#[test]
fn an_account_without_money_is_stopped_out() {
    let mut broker = broker(MarginMode::Hedging);
    let buy = TradeRequest { symbol: "BTCUSD".to_owned(), ..market(OrderType::Buy, 14.0) };
    let sell = TradeRequest { r#type: 1, volume: 1.0, ..buy.clone() };
    assert_eq!(retcode(&mut broker, &buy), "done");
    assert_eq!(retcode(&mut broker, &sell), "done", "the dearer side counts");
    broker.pass(NOON + 30 * 24 * 60 * MINUTE);
    let stopped = broker.deals.iter().find(|deal| deal.reason == Reason::StopOut as i64);
    assert!(stopped.is_some_and(|deal| deal.comment.starts_with("[so ")), "{:?}", broker.deals);
}

#[test]
fn netting_adds_reduces_and_turns_one_position() {
    let mut broker = broker(MarginMode::Netting);
    let volume_and_side = |broker: &mut Broker| {
        let positions = broker.positions(&Selection::All, broker.now_msc);
        assert!(positions.len() <= 1);
        positions.first().map(|position| (position.r#type, position.volume, position.identifier))
    };
    let first = send(&mut broker, &market(OrderType::Buy, 0.3)).order;
    send(&mut broker, &market(OrderType::Buy, 0.2));
    assert_eq!(volume_and_side(&mut broker), Some((0, 0.5, first)));
    send(&mut broker, &market(OrderType::Sell, 0.1));
    assert_eq!(volume_and_side(&mut broker), Some((0, 0.4, first)));
    send(&mut broker, &market(OrderType::Sell, 1.0));
    assert_eq!(volume_and_side(&mut broker), Some((1, 0.6, first)));
    send(&mut broker, &market(OrderType::Buy, 0.6));
    assert_eq!(volume_and_side(&mut broker), None);
    let entries: Vec<i64> = broker.deals[1..].iter().map(|deal| deal.entry).collect();
    assert_eq!(entries, [0, 0, 1, 2, 1]);
}

#[test]
fn two_positions_close_each_other() {
    let mut broker = broker(MarginMode::Hedging);
    let long = send(&mut broker, &market(OrderType::Buy, 0.3)).order;
    let short = send(&mut broker, &market(OrderType::Sell, 0.1)).order;
    let request = TradeRequest {
        action: TradeAction::CloseBy.value(),
        position: long,
        position_by: short,
        ..TradeRequest::default()
    };
    assert_eq!(retcode(&mut broker, &request), "done");
    let left = broker.positions(&Selection::All, NOON);
    assert_eq!((left.len(), left[0].ticket, left[0].volume), (1, long, 0.2));
    let profits: Vec<f64> = broker.deals[3..].iter().map(|deal| deal.profit).collect();
    assert_eq!(profits, [-1.0, 0.0], "the spread of ten points on a tenth of a lot");
    assert_eq!(retcode(&mut broker, &request), "position_closed");
}

#[test]
fn a_check_says_what_would_be_and_changes_nothing() {
    let mut broker = broker(MarginMode::Hedging);
    let request = market(OrderType::Buy, 0.1);
    let check = broker.order_check(&request, NOON);
    assert_eq!((check.retcode, check.balance, check.profit), (0, 10_000.0, -1.0));
    assert!(check.margin > 100.0 && check.margin_free < 9_900.0, "{check:?}");
    assert!(broker.positions.is_empty());
    let too_much = TradeRequest { volume: 400.0, ..request };
    assert_eq!(broker.order_check(&too_much, NOON).retcode, 10019);
}

#[derive(Debug, Clone)]
enum Step {
    Deal { symbol: usize, buy: bool, steps: i64 },
    Pending { symbol: usize, kind: usize, points: i64 },
    Close { which: usize, share: i64 },
    CloseBy { one: usize, other: usize },
    Stops { which: usize, sl: i64, tp: i64 },
    Remove { which: usize },
    Wait { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8usize, any::<bool>(), 1..80i64).prop_map(|(symbol, buy, steps)| Step::Deal {
            symbol,
            buy,
            steps
        }),
        (0..8usize, 2..8usize, 30..400i64).prop_map(|(symbol, kind, points)| Step::Pending {
            symbol,
            kind,
            points
        }),
        (0..9usize, 1..=4i64).prop_map(|(which, share)| Step::Close { which, share }),
        (0..9usize, 0..9usize).prop_map(|(one, other)| Step::CloseBy { one, other }),
        (0..9usize, 30..300i64, 30..300i64).prop_map(|(which, sl, tp)| Step::Stops {
            which,
            sl,
            tp
        }),
        (0..9usize).prop_map(|which| Step::Remove { which }),
        (1..20_000i64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn take(broker: &mut Broker, step: &Step) {
    let nth = |count: usize, which: usize| (count > 0).then(|| which % count);
    let position = |broker: &Broker, which: usize| {
        nth(broker.positions.len(), which).and_then(|at| broker.positions.values().nth(at).cloned())
    };
    let request = match *step {
        Step::Wait { seconds } => return broker.pass(broker.now_msc + seconds * 1000),
        Step::Deal { symbol, buy, steps } => Some(TradeRequest {
            symbol: SPECS[symbol].name.to_owned(),
            ..market(if buy { OrderType::Buy } else { OrderType::Sell }, money::lots(steps))
        }),
        Step::Pending { symbol, kind, points } => {
            let kind = OrderType::ALL[kind];
            let name = SPECS[symbol].name;
            let limit = matches!(kind, OrderType::BuyLimit | OrderType::SellLimit);
            let above = if kind.is_buy() != limit { 1 } else { -1 };
            let points = points + 4 * SPECS[symbol].spread;
            Some(TradeRequest {
                symbol: name.to_owned(),
                price: away(broker, name, kind.is_buy(), above * points),
                stoplimit: away(broker, name, kind.is_buy(), above * points / 2),
                ..pending(broker, kind, 0)
            })
        }
        Step::Close { which, share } => position(broker, which).map(|position| TradeRequest {
            symbol: position.symbol,
            position: position.ticket,
            r#type: 1 - position.r#type,
            volume: money::lots((money::steps(position.volume) * share / 4).max(1)),
            ..market(OrderType::Buy, 0.0)
        }),
        Step::CloseBy { one, other } => {
            let both = position(broker, one).zip(position(broker, other));
            both.map(|(one, other)| TradeRequest {
                action: TradeAction::CloseBy.value(),
                position: one.ticket,
                position_by: other.ticket,
                ..TradeRequest::default()
            })
        }
        Step::Stops { which, sl, tp } => position(broker, which).map(|position| {
            let buy = position.r#type == 0;
            let side = if buy { 1 } else { -1 };
            TradeRequest {
                action: TradeAction::Sltp.value(),
                position: position.ticket,
                sl: away(broker, &position.symbol, !buy, -side * (sl + 2_000)),
                tp: away(broker, &position.symbol, !buy, side * (tp + 2_000)),
                ..TradeRequest::default()
            }
        }),
        Step::Remove { which } => {
            let at = nth(broker.orders.len(), which);
            at.and_then(|at| broker.orders.keys().nth(at).copied()).map(|order| TradeRequest {
                action: TradeAction::Remove.value(),
                order,
                ..TradeRequest::default()
            })
        }
    };
    if let Some(request) = request {
        let known = Retcode::from_code(send(broker, &request).retcode);
        assert_ne!(known, Retcode::Other, "{request:?}");
    }
}

/// Volumes of a position's deals: what came in less what went out, in steps.
fn net(broker: &Broker, position_id: u64) -> i64 {
    let deals = broker.deals.iter().filter(|deal| deal.position_id == position_id);
    deals
        .map(|deal| {
            let sign = if deal.r#type == 0 { 1 } else { -1 };
            sign * money::steps(deal.volume)
        })
        .sum()
}

fn check_books(broker: &mut Broker) -> Result<(), TestCaseError> {
    let sum = |part: fn(&Deal) -> f64| {
        broker.deals[1..].iter().map(|deal| money::cents(part(deal))).sum::<i64>()
    };
    let (realised, commission) = (sum(|deal| deal.profit), sum(|deal| deal.commission));
    let info = broker.account_info(broker.now_msc);
    prop_assert_eq!(money::cents(info.balance), 1_000_000 + realised + commission);
    let positions = broker.positions(&Selection::All, broker.now_msc);
    let floating: i64 = positions.iter().map(|position| money::cents(position.profit)).sum();
    prop_assert_eq!(money::cents(info.equity), money::cents(info.balance) + floating);
    prop_assert_eq!(
        money::cents(info.margin_free),
        money::cents(info.equity) - money::cents(info.margin)
    );
    for position in &positions {
        let sign = if position.r#type == 0 { 1 } else { -1 };
        prop_assert_eq!(
            net(broker, position.identifier),
            sign * money::steps(position.volume),
            "{:?}",
            position
        );
        let opened = broker.deals.iter().any(|deal| {
            deal.position_id == position.identifier && deal.entry == DealEntry::In.value()
        });
        prop_assert!(opened, "no position without its deal");
    }
    let open: Vec<u64> = positions.iter().map(|position| position.identifier).collect();
    for deal in &broker.deals[1..] {
        if !open.contains(&deal.position_id) {
            prop_assert_eq!(net(broker, deal.position_id), 0, "closed means evened out");
        }
        let order = broker.history.iter().find(|order| order.ticket == deal.order);
        prop_assert_eq!(order.map(|order| order.state), Some(OrderState::Filled.value()));
    }
    if broker.options.margin_mode == MarginMode::Netting {
        let mut symbols: Vec<&str> = positions.iter().map(|position| &*position.symbol).collect();
        symbols.sort_unstable();
        prop_assert!(symbols.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", symbols);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_books_balance(steps in proptest::collection::vec(step(), 1..40), netting: bool, commission in 0..700i64) {
        let mode = if netting { MarginMode::Netting } else { MarginMode::Hedging };
        let mut broker = Broker::new(options(mode, commission as f64 / 100.0), NOON);
        for step in &steps {
            take(&mut broker, step);
            check_books(&mut broker)?;
        }
    }
}
