//! Whether a trade can raise what its account risks. Pure functions.

use crate::mt5::{Order, OrderTime, OrderType, Position, TradeRequest};
use crate::trading::command::NewOrder;

/// What prices may be off by without being another price.
const PRICE_NOISE: f64 = 1e-9;

/// What volumes may be off by, lots.
const VOLUME_NOISE: f64 = 1e-9;

/// What a trade can do to what its account risks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// It can raise it.
    Opens,
    /// It can only reduce it.
    Reduces,
    /// On a netting account the position of the symbol tells.
    DependsOnPosition,
}

/// Of a new order.
pub fn of_order(order: &NewOrder, is_hedging: bool) -> Exposure {
    if order.position.is_some() {
        Exposure::Reduces
    } else if is_hedging || !order.kind.is_market() {
        Exposure::Opens
    } else {
        Exposure::DependsOnPosition
    }
}

/// The ticket of the position of a netting account that a market order is against, and not larger than.
pub fn closed_by(order: &NewOrder, positions: &[Position]) -> Option<u64> {
    let closed = positions.iter().find(|position| {
        position.symbol == order.symbol
            && position.r#type != order.kind.value()
            && order.volume.get() <= position.volume + VOLUME_NOISE
    });
    closed.map(|position| position.ticket)
}

/// Of a change of a position's stops.
pub fn of_position_change(position: &Position, request: &TradeRequest) -> Exposure {
    let bought = position.r#type == OrderType::Buy.value();
    of_stops(bought, (position.sl, position.tp), request)
}

/// Of a change of a pending order. One that stays longer can be filled by what it would have missed.
pub fn of_order_change(order: &Order, request: &TradeRequest) -> Exposure {
    let before = (order.type_time, order.time_expiration);
    let is_moved = !is_same(order.price_open, request.price)
        || !is_same(order.price_stoplimit, request.stoplimit)
        || may_stay_longer(before, (request.type_time, request.expiration));
    let Some(kind) = OrderType::from_value(order.r#type).filter(|_| !is_moved) else {
        return Exposure::Opens;
    };
    of_stops(kind.is_buy(), (order.sl, order.tp), request)
}

/// Whether an order that stayed for one time may stay longer with another one. Each is `ORDER_TIME_*` and the moment of
/// the expiration, 0 for none.
fn may_stay_longer(before: (i64, i64), after: (i64, i64)) -> bool {
    let [(before_kind, before_end), (after_kind, after_end)] = [before, after];
    let ends_earlier = after_kind == before_kind && after_end != 0 && after_end <= before_end;
    // What stays until it is cancelled cannot stay longer.
    before != after && before_kind != OrderTime::Gtc.value() && !ends_earlier
}

fn of_stops(bought: bool, (sl, tp): (f64, f64), request: &TradeRequest) -> Exposure {
    // A stop loss of what was bought is below the price, and its take profit above.
    if is_wider(bought, sl, request.sl) || is_wider(!bought, tp, request.tp) {
        Exposure::Opens
    } else {
        Exposure::Reduces
    }
}

/// Whether a stop is gone or farther away. `below`: on which side of the price it is.
fn is_wider(below: bool, before: f64, after: f64) -> bool {
    let is_farther = if below { after < before } else { after > before };
    before != 0.0 && !is_same(before, after) && (after == 0.0 || is_farther)
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() < PRICE_NOISE
}

#[cfg(test)]
mod tests {
    use super::*;
    use Exposure::{Opens, Reduces};

    #[test]
    fn stops_that_are_removed_or_farther_away_open() {
        for (bought, before, after, expected) in [
            (true, (1.1, 1.3), (1.1, 1.3), Reduces),
            (true, (1.1, 1.3), (1.1 + 1e-12, 1.3), Reduces),
            (true, (0.0, 0.0), (1.1, 1.3), Reduces),
            (true, (1.1, 1.3), (1.15, 1.25), Reduces),
            (true, (1.1, 1.3), (0.0, 1.3), Opens),
            (true, (1.1, 1.3), (1.05, 1.3), Opens),
            (true, (1.1, 1.3), (1.1, 0.0), Opens),
            (true, (1.1, 1.3), (1.1, 1.35), Opens),
            (false, (1.3, 1.1), (1.25, 1.15), Reduces),
            (false, (1.3, 1.1), (1.35, 1.1), Opens),
            (false, (1.3, 1.1), (0.0, 1.1), Opens),
            (false, (1.3, 1.1), (1.3, 1.05), Opens),
        ] {
            let kind = if bought { OrderType::Buy } else { OrderType::Sell };
            let (sl, tp) = before;
            let position = Position { r#type: kind.value(), sl, tp, ..Position::default() };
            let request = TradeRequest { sl: after.0, tp: after.1, ..TradeRequest::default() };
            let found = of_position_change(&position, &request);
            assert_eq!(found, expected, "{bought} {before:?} {after:?}");
        }
    }

    #[test]
    fn a_pending_order_that_is_moved_or_stays_longer_opens() {
        let order = Order {
            r#type: OrderType::BuyLimit.value(),
            price_open: 1.2,
            sl: 1.1,
            type_time: 2,
            time_expiration: 100,
            ..Order::default()
        };
        let same = TradeRequest {
            price: 1.2,
            sl: 1.1,
            type_time: 2,
            expiration: 100,
            ..TradeRequest::default()
        };
        assert_eq!(of_order_change(&order, &same), Reduces);
        for reduced in [
            TradeRequest { sl: 1.15, tp: 1.3, ..same.clone() },
            TradeRequest { expiration: 50, ..same.clone() },
        ] {
            assert_eq!(of_order_change(&order, &reduced), Reduces, "{reduced:?}");
        }
        let endless = Order { type_time: 0, time_expiration: 0, ..order.clone() };
        assert_eq!(of_order_change(&endless, &same), Reduces);
        for moved in [
            TradeRequest { price: 1.21, ..same.clone() },
            TradeRequest { stoplimit: 1.19, ..same.clone() },
            TradeRequest { expiration: 200, ..same.clone() },
            TradeRequest { expiration: 0, ..same.clone() },
            TradeRequest { type_time: 3, ..same.clone() },
            TradeRequest { type_time: 0, ..same.clone() },
            TradeRequest { sl: 1.05, ..same.clone() },
        ] {
            assert_eq!(of_order_change(&order, &moved), Opens, "{moved:?}");
        }
    }

    #[test]
    fn a_netting_order_closes_up_to_the_opposite_position() {
        let position = Position {
            ticket: 7,
            symbol: "EURUSD".to_owned(),
            r#type: OrderType::Buy.value(),
            volume: 0.3,
            ..Position::default()
        };
        for (symbol, kind, volume, expected) in [
            ("EURUSD", OrderType::Sell, 0.1, Some(7)),
            ("EURUSD", OrderType::Sell, 0.1 + 0.2, Some(7)),
            ("EURUSD", OrderType::Sell, 0.31, None),
            ("EURUSD", OrderType::Buy, 0.1, None),
            ("GBPUSD", OrderType::Sell, 0.1, None),
        ] {
            let order = NewOrder::of(symbol, kind, volume);
            let found = closed_by(&order, std::slice::from_ref(&position));
            assert_eq!(found, expected, "{symbol} {kind:?} {volume}");
        }
    }
}
