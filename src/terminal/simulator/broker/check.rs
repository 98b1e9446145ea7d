//! What is wrong with a trade request, and what it would do if nothing is.

use super::{Broker, LIMIT_ORDERS, MarginMode, money};
use crate::mt5::{
    Filling, Order, OrderTime, OrderType, Position, Retcode, TradeAction, TradeRequest,
};
use crate::terminal::simulator::feed::Quote;
use crate::terminal::simulator::symbols::Spec;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub retcode: Retcode,
}

impl From<Retcode> for Refusal {
    fn from(retcode: Retcode) -> Refusal {
        Refusal { retcode }
    }
}

/// A request that can be carried out.
pub enum Plan {
    /// A deal at the market, which may close (part of) a position.
    Deal { spec: &'static Spec, kind: OrderType, price: i64, request: TradeRequest },
    /// A pending order.
    Place { request: TradeRequest, kind: OrderType },
    /// New stops for a position.
    Stops { ticket: u64, sl: f64, tp: f64 },
    /// A pending order as it is to be.
    Change(Box<Order>),
    /// A pending order is to go.
    Remove(u64),
    /// Two opposite positions close each other.
    CloseBy { ticket: u64, by: u64, request: TradeRequest },
}

type Checked<T = ()> = Result<T, Refusal>;

fn ensure(holds: bool, retcode: Retcode) -> Checked {
    if holds { Ok(()) } else { Err(retcode.into()) }
}

impl Broker {
    /// What a request would do.
    ///
    /// # Errors
    /// The return code that a server answers to such a request.
    pub fn check(&mut self, request: &TradeRequest) -> Checked<Plan> {
        match TradeAction::from_value(request.action) {
            Some(TradeAction::Deal) => self.check_deal(request),
            Some(TradeAction::Pending) => self.check_pending(request),
            Some(TradeAction::Sltp) => self.check_stops(request),
            Some(TradeAction::Modify) => self.check_change(request),
            Some(TradeAction::Remove) => {
                ensure(self.orders.contains_key(&request.order), Retcode::Invalid)?;
                Ok(Plan::Remove(request.order))
            }
            Some(TradeAction::CloseBy) => self.check_close_by(request),
            None => Err(Retcode::Invalid.into()),
        }
    }

    fn symbol(&mut self, name: &str) -> Checked<(&'static Spec, Quote)> {
        self.feed(name).ok_or_else(|| Retcode::Invalid.into())
    }

    fn check_deal(&mut self, request: &TradeRequest) -> Checked<Plan> {
        let (spec, quote) = self.symbol(&request.symbol)?;
        let kind = OrderType::from_value(request.r#type).filter(|kind| kind.is_market());
        let kind = kind.ok_or(Retcode::InvalidOrder)?;
        check_volume(spec, request.volume)?;
        let filling = Filling::from_value(request.type_filling);
        ensure(matches!(filling, Some(Filling::Fok | Filling::Ioc)), Retcode::InvalidFill)?;
        // Market execution: the server takes its own price, but not nonsense.
        ensure(request.price >= 0.0 && request.price.is_finite(), Retcode::InvalidPrice)?;
        let price = if kind.is_buy() { quote.ask } else { quote.bid };
        let close = if kind.is_buy() { quote.bid } else { quote.ask };
        if request.position == 0 {
            check_limits(spec, kind.is_buy(), close, request.sl, request.tp)?;
            self.check_money(spec, kind, money::steps(request.volume), spec.price(price))?;
        } else {
            let position = self.positions.get(&request.position).ok_or(Retcode::PositionClosed)?;
            let opposite = position.r#type != kind.value() && position.symbol == spec.name;
            ensure(opposite, Retcode::Invalid)?;
            let within = money::steps(request.volume) <= money::steps(position.volume);
            ensure(within, Retcode::InvalidCloseVolume)?;
        }
        Ok(Plan::Deal { spec, kind, price, request: request.clone() })
    }

    /// Whether the account can carry a further deal: what reduces a netted
    /// position costs nothing.
    pub fn check_money(
        &mut self,
        spec: &'static Spec,
        kind: OrderType,
        steps: i64,
        price: f64,
    ) -> Checked {
        let mut positions: Vec<Position> = self.positions.values().cloned().collect();
        let netted = self.options.margin_mode == MarginMode::Netting;
        let held = positions.iter_mut().find(|position| netted && position.symbol == spec.name);
        match held {
            Some(position) => {
                let sign = |buy: bool| if buy { 1 } else { -1 };
                let now = sign(position.r#type == 0) * money::steps(position.volume);
                let after = now + sign(kind.is_buy()) * steps;
                if after.abs() <= now.abs() {
                    return Ok(());
                }
                position.volume = money::lots(after.abs());
            }
            None => positions.push(Position {
                symbol: spec.name.to_owned(),
                r#type: i64::from(!kind.is_buy()),
                volume: money::lots(steps),
                price_open: price,
                ..Position::default()
            }),
        }
        let equity = self.balance + self.floating();
        let margin = money::margin_of(positions.iter(), &self.feeds);
        ensure(margin <= equity, Retcode::NoMoney)
    }

    fn check_pending(&mut self, request: &TradeRequest) -> Checked<Plan> {
        let (spec, quote) = self.symbol(&request.symbol)?;
        let kind = OrderType::from_value(request.r#type).filter(|kind| !kind.is_market());
        let kind = kind.ok_or(Retcode::InvalidOrder)?;
        check_volume(spec, request.volume)?;
        let filling = Filling::from_value(request.type_filling);
        let taken = matches!(filling, Some(Filling::Fok | Filling::Ioc | Filling::Return));
        ensure(taken, Retcode::InvalidFill)?;
        check_pending_price(spec, quote, kind, request)?;
        self.check_expiration(request.type_time, request.expiration)?;
        ensure(self.orders.len() < LIMIT_ORDERS, Retcode::LimitOrders)?;
        Ok(Plan::Place { request: request.clone(), kind })
    }

    fn check_expiration(&self, type_time: i64, expiration: i64) -> Checked {
        let now = self.now_msc / 1000;
        let good = match OrderTime::from_value(type_time) {
            Some(OrderTime::Gtc | OrderTime::Day) => true,
            Some(OrderTime::Specified | OrderTime::SpecifiedDay) => expiration > now,
            None => false,
        };
        ensure(good, Retcode::InvalidExpiration)
    }

    fn check_stops(&mut self, request: &TradeRequest) -> Checked<Plan> {
        let position = self.positions.get(&request.position).ok_or(Retcode::PositionClosed)?;
        let position = position.clone();
        let (spec, quote) = self.symbol(&position.symbol)?;
        let (sl, tp) = (request.sl, request.tp);
        ensure((sl, tp) != (position.sl, position.tp), Retcode::NoChanges)?;
        let buy = position.r#type == 0;
        check_limits(spec, buy, if buy { quote.bid } else { quote.ask }, sl, tp)?;
        Ok(Plan::Stops { ticket: position.ticket, sl, tp })
    }

    fn check_change(&mut self, request: &TradeRequest) -> Checked<Plan> {
        let order = self.orders.get(&request.order).cloned().ok_or(Retcode::Invalid)?;
        let (spec, quote) = self.symbol(&order.symbol)?;
        let kind = OrderType::from_value(order.r#type).ok_or(Retcode::Invalid)?;
        let changed = Order {
            price_open: request.price,
            price_stoplimit: request.stoplimit,
            sl: request.sl,
            tp: request.tp,
            type_time: request.type_time,
            time_expiration: request.expiration,
            ..order.clone()
        };
        ensure(changed != order, Retcode::NoChanges)?;
        check_pending_price(spec, quote, kind, request)?;
        self.check_expiration(request.type_time, request.expiration)?;
        Ok(Plan::Change(Box::new(changed)))
    }

    fn check_close_by(&mut self, request: &TradeRequest) -> Checked<Plan> {
        ensure(self.options.margin_mode == MarginMode::Hedging, Retcode::Invalid)?;
        let (ticket, by) = (request.position, request.position_by);
        let position = self.positions.get(&ticket).ok_or(Retcode::PositionClosed)?;
        let other = self.positions.get(&by).ok_or(Retcode::PositionClosed)?;
        let opposite = position.r#type != other.r#type && position.symbol == other.symbol;
        ensure(opposite, Retcode::Invalid)?;
        Ok(Plan::CloseBy { ticket, by, request: request.clone() })
    }
}

fn check_volume(spec: &Spec, volume: f64) -> Checked {
    let steps = money::steps(volume);
    let whole = (money::lots(steps) - volume).abs() < 1e-9;
    let within = steps >= 1 && volume <= spec.volume_max;
    ensure(volume.is_finite() && whole && within, Retcode::InvalidVolume)
}

/// Whether a price is a whole number of points above zero.
fn is_price(spec: &Spec, price: f64) -> bool {
    price.is_finite() && price > 0.0 && spec.price(spec.points(price)) == price
}

/// Stops have to lie on their side of a price, beyond the stops level.
fn check_limits(spec: &Spec, buy: bool, from: i64, sl: f64, tp: f64) -> Checked {
    let side = if buy { 1 } else { -1 };
    let beyond = |limit: f64, direction: i64| {
        limit == 0.0
            || (is_price(spec, limit)
                && (spec.points(limit) - from) * direction >= spec.stops_level())
    };
    ensure(beyond(sl, -side) && beyond(tp, side), Retcode::InvalidStops)
}

fn check_pending_price(
    spec: &Spec,
    quote: Quote,
    kind: OrderType,
    request: &TradeRequest,
) -> Checked {
    ensure(is_price(spec, request.price), Retcode::InvalidPrice)?;
    let price = spec.points(request.price);
    let market = if kind.is_buy() { quote.ask } else { quote.bid };
    // A buyer's limit lies below the market, a buyer's stop above; a seller's the other way.
    let limit = matches!(kind, OrderType::BuyLimit | OrderType::SellLimit);
    let above = if kind.is_buy() != limit { 1 } else { -1 };
    ensure((price - market) * above >= spec.stops_level(), Retcode::InvalidPrice)?;
    let mut open = price;
    if kind.is_stop_limit() {
        ensure(is_price(spec, request.stoplimit), Retcode::InvalidPrice)?;
        open = spec.points(request.stoplimit);
        ensure((price - open) * above >= spec.stops_level(), Retcode::InvalidPrice)?;
    }
    check_limits(spec, kind.is_buy(), open, request.sl, request.tp)
}
