//! Time passing: every tick since the last question is shown to pending orders,
//! stops, targets and the stop-out, in order.

use std::collections::BTreeSet;

use super::{Broker, Reason, STOP_OUT, level, money};
use crate::mt5::{Order, OrderState, OrderTime, OrderType, Position};
use crate::terminal::simulator::feed::Quote;
use crate::terminal::simulator::symbols::Spec;

const MINUTE_MSC: i64 = 60_000;
const DAY: i64 = 86_400;

impl Broker {
    /// Lets time pass until now (unix milliseconds); never backwards.
    pub fn pass(&mut self, now_msc: i64) {
        let symbols = self.symbols_in_use();
        for symbol in &symbols {
            if let Some((_, quote)) = self.feed(symbol) {
                self.quotes.insert(symbol, quote);
            }
        }
        let mut minute = self.now_msc / MINUTE_MSC;
        while !symbols.is_empty() && minute * MINUTE_MSC <= now_msc {
            let mut ticks: Vec<(&'static str, Quote)> = vec![];
            for symbol in &symbols {
                if let Some(feed) = self.feeds.get_mut(symbol) {
                    let quotes = feed.quotes(minute, self.now_msc, now_msc);
                    ticks.extend(quotes.into_iter().map(|quote| (*symbol, quote)));
                }
            }
            ticks.sort_by_key(|(_, quote)| quote.time_msc);
            for (symbol, quote) in ticks {
                self.see(symbol, quote);
            }
            minute += 1;
        }
        self.now_msc = self.now_msc.max(now_msc);
        self.expire();
    }

    /// The symbols that anything is open or waits for.
    fn symbols_in_use(&self) -> BTreeSet<&'static str> {
        let orders = self.orders.values().map(|order| order.symbol.as_str());
        let positions = self.positions.values().map(|position| position.symbol.as_str());
        orders
            .chain(positions)
            .filter_map(|name| self.feeds.get(name).map(|feed| feed.spec.name))
            .collect()
    }

    /// One tick comes.
    fn see(&mut self, symbol: &'static str, quote: Quote) {
        self.now_msc = quote.time_msc;
        self.quotes.insert(symbol, quote);
        let Some(spec) = self.feeds.get(symbol).map(|feed| feed.spec) else {
            return;
        };
        self.expire();
        self.trigger(spec, quote);
        self.stop(spec, quote);
        self.stop_out();
    }

    fn expire(&mut self) {
        let now = self.now_msc / 1000;
        let over: Vec<u64> = self
            .orders
            .values()
            .filter(|order| expires(order).is_some_and(|at| at <= now))
            .map(|order| order.ticket)
            .collect();
        for ticket in over {
            if let Some(order) = self.orders.remove(&ticket) {
                self.end_order(order, OrderState::Expired);
            }
        }
    }

    /// Pending orders whose price was reached.
    fn trigger(&mut self, spec: &'static Spec, quote: Quote) {
        let reached: Vec<Order> = self
            .orders
            .values()
            .filter(|order| order.symbol == spec.name && is_reached(spec, order, quote))
            .cloned()
            .collect();
        for mut order in reached {
            let Some(kind) = OrderType::from_value(order.r#type) else {
                continue;
            };
            if kind.is_stop_limit() {
                // From here on it is a limit order, looked at with the next tick.
                let limit = if kind.is_buy() { OrderType::BuyLimit } else { OrderType::SellLimit };
                order.r#type = limit.value();
                order.price_open = order.price_stoplimit;
                order.price_stoplimit = 0.0;
                self.orders.insert(order.ticket, order);
                continue;
            }
            self.orders.remove(&order.ticket);
            let price = spec.price(if kind.is_buy() { quote.ask } else { quote.bid });
            let steps = money::steps(order.volume_current);
            if self.check_money(spec, kind, steps, price).is_ok() {
                self.fill(spec, order, price, Reason::Expert);
            } else {
                self.end_order(order, OrderState::Rejected);
            }
        }
    }

    /// Positions whose stop or target was reached.
    fn stop(&mut self, spec: &'static Spec, quote: Quote) {
        let positions: Vec<Position> = self
            .positions
            .values()
            .filter(|position| position.symbol == spec.name)
            .cloned()
            .collect();
        for position in positions {
            let buy = position.r#type == 0;
            let side = if buy { 1 } else { -1 };
            let close = if buy { quote.bid } else { quote.ask };
            let passed = |limit: f64, direction: i64| {
                limit != 0.0 && (close - spec.points(limit)) * direction >= 0
            };
            let digits = spec.digits as usize;
            let (reason, comment) = if passed(position.sl, -side) {
                (Reason::StopLoss, format!("[sl {:.digits$}]", position.sl))
            } else if passed(position.tp, side) {
                (Reason::TakeProfit, format!("[tp {:.digits$}]", position.tp))
            } else {
                continue;
            };
            self.close(&position, spec.price(close), reason, comment);
        }
    }

    /// Closes the position with the largest loss until the margin level is enough.
    fn stop_out(&mut self) {
        loop {
            let margin = self.margin();
            let valued: Vec<(i64, f64, Position)> = self
                .positions
                .values()
                .filter_map(|position| {
                    let spec = self.feeds.get(position.symbol.as_str())?.spec;
                    let quote = self.quotes.get(spec.name)?;
                    let (price, profit) = money::value(spec, position, *quote);
                    Some((profit, price, position.clone()))
                })
                .collect();
            let floating: i64 = valued.iter().map(|(profit, ..)| profit).sum();
            let level = level(self.balance + floating, margin);
            if margin == 0 || level > STOP_OUT {
                return;
            }
            let Some((_, price, worst)) = valued.into_iter().min_by_key(|(profit, ..)| *profit)
            else {
                return;
            };
            self.close(&worst, price, Reason::StopOut, format!("[so {level:.2}%]"));
        }
    }
}

/// When an order expires, unix seconds.
fn expires(order: &Order) -> Option<i64> {
    let end_of_day = |time: i64| (time / DAY + 1) * DAY;
    match OrderTime::from_value(order.type_time)? {
        OrderTime::Gtc => None,
        OrderTime::Day => Some(end_of_day(order.time_setup)),
        OrderTime::Specified => Some(order.time_expiration),
        OrderTime::SpecifiedDay => Some(end_of_day(order.time_expiration)),
    }
}

fn is_reached(spec: &Spec, order: &Order, quote: Quote) -> bool {
    let price = spec.points(order.price_open);
    match OrderType::from_value(order.r#type) {
        Some(OrderType::BuyLimit) => quote.ask <= price,
        Some(OrderType::SellLimit) => quote.bid >= price,
        Some(OrderType::BuyStop | OrderType::BuyStopLimit) => quote.ask >= price,
        Some(OrderType::SellStop | OrderType::SellStopLimit) => quote.bid <= price,
        Some(OrderType::Buy | OrderType::Sell) | None => false,
    }
}
