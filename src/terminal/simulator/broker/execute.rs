//! Carrying out what was found to be in order: orders become deals, deals
//! change positions and the balance.

use super::check::Plan;
use super::{Broker, MarginMode, Reason, money};
use crate::mt5::{
    Deal, DealEntry, ORDER_TYPE_CLOSE_BY, Order, OrderState, OrderType, Position, TradeRequest,
};
use crate::terminal::simulator::symbols::Spec;

/// What a request led to, as `order_send` says it; 0: nothing of the kind.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Done {
    pub order: u64,
    pub deal: u64,
    pub volume: f64,
    pub price: f64,
}

/// A deal that is to be written down.
struct Fill<'a> {
    spec: &'static Spec,
    /// The order that it fills.
    order: &'a Order,
    /// Whether it buys.
    buy: bool,
    entry: DealEntry,
    position_id: u64,
    steps: i64,
    price: f64,
    /// Cents, before commission.
    profit: i64,
    reason: Reason,
}

impl Broker {
    /// Carries a plan out.
    pub fn execute(&mut self, plan: Plan) -> Done {
        match plan {
            Plan::Deal { spec, kind, price, request } => {
                let order = self.order(&request, kind.value());
                self.fill(spec, order, spec.price(price), Reason::Expert)
            }
            Plan::Place { request, kind } => {
                let order = self.order(&request, kind.value());
                let done =
                    Done { order: order.ticket, volume: order.volume_initial, ..Done::default() };
                self.orders.insert(order.ticket, order);
                Done { price: request.price, ..done }
            }
            Plan::Stops { ticket, sl, tp } => {
                let now_msc = self.now_msc;
                if let Some(position) = self.positions.get_mut(&ticket) {
                    (position.sl, position.tp) = (sl, tp);
                    touch(position, now_msc);
                }
                Done::default()
            }
            Plan::Change(order) => {
                let done = Done { order: order.ticket, price: order.price_open, ..Done::default() };
                self.orders.insert(order.ticket, *order);
                done
            }
            Plan::Remove(ticket) => {
                if let Some(order) = self.orders.remove(&ticket) {
                    self.end_order(order, OrderState::Canceled);
                }
                Done { order: ticket, ..Done::default() }
            }
            Plan::CloseBy { ticket, by, request } => self.close_by(ticket, by, &request),
        }
    }

    /// A new order, as a request describes it.
    fn order(&mut self, request: &TradeRequest, kind: i64) -> Order {
        Order {
            ticket: self.ticket(),
            time_setup: self.now_msc / 1000,
            time_setup_msc: self.now_msc,
            time_expiration: request.expiration,
            r#type: kind,
            type_time: request.type_time,
            type_filling: request.type_filling,
            state: OrderState::Placed.value(),
            magic: request.magic,
            position_id: request.position,
            position_by_id: request.position_by,
            reason: Reason::Expert as i64,
            volume_initial: request.volume,
            volume_current: request.volume,
            price_open: request.price,
            price_stoplimit: request.stoplimit,
            sl: request.sl,
            tp: request.tp,
            symbol: request.symbol.clone(),
            comment: request.comment.clone(),
            ..Order::default()
        }
    }

    /// Writes an order that has ended into the history.
    pub fn end_order(&mut self, order: Order, state: OrderState) {
        let volume_current = match state {
            OrderState::Filled => 0.0,
            _ => order.volume_current,
        };
        self.history.push(Order {
            state: state.value(),
            time_done: self.now_msc / 1000,
            time_done_msc: self.now_msc,
            volume_current,
            ..order
        });
    }

    /// Fills an order at a price.
    pub fn fill(
        &mut self,
        spec: &'static Spec,
        mut order: Order,
        price: f64,
        reason: Reason,
    ) -> Done {
        let buy = order.r#type % 2 == 0;
        let held = match self.options.margin_mode {
            MarginMode::Hedging => self.positions.get(&order.position_id).cloned(),
            MarginMode::Netting => {
                self.positions.values().find(|position| position.symbol == spec.name).cloned()
            }
        };
        let deal = match held {
            None => self.open(spec, &mut order, buy, price, reason),
            Some(position) if (position.r#type == 0) == buy => {
                self.increase(spec, &mut order, position, price, reason)
            }
            Some(position) => self.reduce(spec, &mut order, position, price, reason),
        };
        let done = Done { order: order.ticket, deal, volume: order.volume_initial, price };
        self.end_order(order, OrderState::Filled);
        done
    }

    fn open(
        &mut self,
        spec: &'static Spec,
        order: &mut Order,
        buy: bool,
        price: f64,
        reason: Reason,
    ) -> u64 {
        order.position_id = order.ticket;
        let position = Position {
            ticket: order.ticket,
            time: self.now_msc / 1000,
            time_msc: self.now_msc,
            time_update: self.now_msc / 1000,
            time_update_msc: self.now_msc,
            r#type: i64::from(!buy),
            magic: order.magic,
            identifier: order.ticket,
            reason: reason as i64,
            volume: order.volume_current,
            price_open: price,
            sl: order.sl,
            tp: order.tp,
            symbol: order.symbol.clone(),
            comment: order.comment.clone(),
            ..Position::default()
        };
        let steps = money::steps(position.volume);
        let position_id = position.identifier;
        self.positions.insert(position.ticket, position);
        let (entry, profit) = (DealEntry::In, 0);
        self.deal(Fill { spec, order, buy, entry, position_id, steps, price, profit, reason })
    }

    fn increase(
        &mut self,
        spec: &'static Spec,
        order: &mut Order,
        mut position: Position,
        price: f64,
        reason: Reason,
    ) -> u64 {
        let steps = money::steps(order.volume_current);
        let whole = money::steps(position.volume) + steps;
        let value = position.price_open * position.volume + price * order.volume_current;
        position.volume = money::lots(whole);
        position.price_open = value / position.volume;
        take_stops(&mut position, order);
        touch(&mut position, self.now_msc);
        order.position_id = position.identifier;
        let (position_id, buy) = (position.identifier, position.r#type == 0);
        self.positions.insert(position.ticket, position);
        let (entry, profit) = (DealEntry::In, 0);
        self.deal(Fill { spec, order, buy, entry, position_id, steps, price, profit, reason })
    }

    /// Closes a position, or a part of it; what a netted order has left turns it round.
    fn reduce(
        &mut self,
        spec: &'static Spec,
        order: &mut Order,
        mut position: Position,
        price: f64,
        reason: Reason,
    ) -> u64 {
        let was_buy = position.r#type == 0;
        let (held, steps) = (money::steps(position.volume), money::steps(order.volume_current));
        let closed = money::lots(held.min(steps));
        let profit = money::profit(spec, was_buy, closed, position.price_open, price);
        let position_id = position.identifier;
        order.position_id = position_id;
        self.positions.remove(&position.ticket);
        touch(&mut position, self.now_msc);
        let entry = if steps > held {
            position.ticket = order.ticket;
            position.r#type = i64::from(was_buy);
            position.volume = money::lots(steps - held);
            position.price_open = price;
            (position.sl, position.tp) = (order.sl, order.tp);
            DealEntry::InOut
        } else {
            position.volume = money::lots(held - steps);
            DealEntry::Out
        };
        if position.volume > 0.0 {
            self.positions.insert(position.ticket, position);
        }
        let buy = !was_buy;
        self.deal(Fill { spec, order, buy, entry, position_id, steps, price, profit, reason })
    }

    /// Closes a position at the market's price for the server's own reasons.
    pub fn close(&mut self, position: &Position, price: f64, reason: Reason, comment: String) {
        let Some(spec) = self.feeds.get(position.symbol.as_str()).map(|feed| feed.spec) else {
            return;
        };
        let opposite = if position.r#type == 0 { OrderType::Sell } else { OrderType::Buy };
        let request = TradeRequest {
            symbol: position.symbol.clone(),
            volume: position.volume,
            price,
            position: position.ticket,
            magic: position.magic,
            comment,
            ..TradeRequest::default()
        };
        let order = Order { reason: reason as i64, ..self.order(&request, opposite.value()) };
        self.fill(spec, order, price, reason);
    }

    fn close_by(&mut self, ticket: u64, by: u64, request: &TradeRequest) -> Done {
        let taken = (self.positions.remove(&ticket), self.positions.remove(&by));
        let (Some(mut position), Some(mut other)) = taken else {
            return Done::default();
        };
        let Some(spec) = self.feeds.get(position.symbol.as_str()).map(|feed| feed.spec) else {
            return Done::default();
        };
        let steps = money::steps(position.volume).min(money::steps(other.volume));
        let (volume, price) = (money::lots(steps), other.price_open);
        let order = Order {
            symbol: position.symbol.clone(),
            volume_initial: volume,
            volume_current: volume,
            price_open: price,
            ..self.order(request, ORDER_TYPE_CLOSE_BY)
        };
        let was_buy = position.r#type == 0;
        let profit = money::profit(spec, was_buy, volume, position.price_open, price);
        let (entry, reason) = (DealEntry::OutBy, Reason::Expert);
        // The profit is in the first deal: each position closes at the other's opening price.
        let fill = |position: &Position, price, profit| Fill {
            spec,
            order: &order,
            buy: position.r#type != 0,
            entry,
            position_id: position.identifier,
            steps,
            price,
            profit,
            reason,
        };
        let deal = self.deal(fill(&position, price, profit));
        self.deal(fill(&other, price, 0));
        for rest in [&mut position, &mut other] {
            rest.volume = money::lots(money::steps(rest.volume) - steps);
            touch(rest, self.now_msc);
            if rest.volume > 0.0 {
                self.positions.insert(rest.ticket, rest.clone());
            }
        }
        let done = Done { order: order.ticket, deal, volume, price };
        self.end_order(order, OrderState::Filled);
        done
    }

    /// Writes a deal down and books its money.
    fn deal(&mut self, fill: Fill<'_>) -> u64 {
        let volume = money::lots(fill.steps);
        let commission = money::cents(self.options.commission * volume);
        self.balance += fill.profit - commission;
        let ticket = self.ticket();
        self.deals.push(Deal {
            ticket,
            order: fill.order.ticket,
            time: self.now_msc / 1000,
            time_msc: self.now_msc,
            r#type: i64::from(!fill.buy),
            entry: fill.entry.value(),
            magic: fill.order.magic,
            position_id: fill.position_id,
            reason: fill.reason as i64,
            volume,
            price: fill.price,
            commission: money::amount(-commission),
            profit: money::amount(fill.profit),
            symbol: fill.spec.name.to_owned(),
            comment: fill.order.comment.clone(),
            ..Deal::default()
        });
        ticket
    }
}

/// A netted position takes the stops of the order that adds to it, where that has any.
fn take_stops(position: &mut Position, order: &Order) {
    if order.sl != 0.0 {
        position.sl = order.sl;
    }
    if order.tp != 0.0 {
        position.tp = order.tp;
    }
}

fn touch(position: &mut Position, now_msc: i64) {
    position.time_update = now_msc / 1000;
    position.time_update_msc = now_msc;
}
