//! The simulated trade server: one account's orders, positions, deals and
//! money, shared by all of the account's terminals and outliving each.
//!
//! Time passes when it is asked: [`clock`] replays every tick since the last
//! question, so what stops, targets, pending orders and the stop-out did does
//! not depend on when anyone looked. [`check`] says what is wrong with a
//! request, [`execute`] carries it out, [`money`] is the arithmetic. Swaps are
//! left out; the market never closes, and has any volume at its price.

mod check;
mod clock;
mod execute;
mod money;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use super::feed::{Feed, Quote};
use super::symbols::{SPECS, Spec};
use crate::mt5::{
    AccountInfo, Deal, Error, Group, Order, OrderCheckResult, OrderSendResult, Position, Retcode,
    Selection, TradeRequest,
};

/// Money of the account for one lot's worth of margin.
pub const LEVERAGE: i64 = 100;

/// The margin level in per cent at which positions are closed by force.
const STOP_OUT: f64 = 30.0;

/// Pending orders that the account may have.
const LIMIT_ORDERS: usize = 500;

/// When the simulated account was opened, 2020-01-01, in unix seconds.
const OPENED: i64 = 1_577_836_800;

/// `DEAL_TYPE_BALANCE`.
const DEAL_TYPE_BALANCE: i64 = 2;

/// How an account holds positions of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarginMode {
    /// As many as there were deals, in both directions.
    Hedging,
    /// One, which every deal changes.
    Netting,
}

impl MarginMode {
    /// `ENUM_ACCOUNT_MARGIN_MODE`.
    const fn value(self) -> i64 {
        match self {
            MarginMode::Netting => 0,
            MarginMode::Hedging => 2,
        }
    }
}

/// Why something was done, `ENUM_DEAL_REASON` and `ENUM_ORDER_REASON`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Expert = 3,
    StopLoss = 4,
    TakeProfit = 5,
    StopOut = 6,
}

/// An account at the simulated server.
#[derive(Clone)]
pub struct Broker {
    options: Arc<Options>,
    feeds: BTreeMap<&'static str, Feed>,
    /// The last quote that each symbol's positions and orders have seen.
    quotes: BTreeMap<&'static str, Quote>,
    /// Cents.
    balance: i64,
    orders: BTreeMap<u64, Order>,
    positions: BTreeMap<u64, Position>,
    history: Vec<Order>,
    deals: Vec<Deal>,
    next_ticket: u64,
    requests: u64,
    /// How far time has passed, unix milliseconds.
    now_msc: i64,
}

impl Broker {
    /// The account, opened with its deposit. Tickets follow from the login and
    /// the time, so that accounts share none and one opened anew repeats none;
    /// they stay whole numbers for clients that only know doubles.
    pub fn new(options: Arc<Options>, now_msc: i64) -> Broker {
        let feed = |spec: &'static Spec| {
            let replay = options.bars.get(spec.name).cloned();
            (spec.name, Feed::new(spec, options.seed, replay))
        };
        let feeds = SPECS.iter().map(feed).collect();
        let balance = money::cents(options.balance);
        let deposit = Deal {
            ticket: 1,
            time: OPENED,
            time_msc: OPENED * 1000,
            r#type: DEAL_TYPE_BALANCE,
            profit: money::amount(balance),
            comment: "deposit".to_owned(),
            ..Deal::default()
        };
        Broker {
            feeds,
            quotes: BTreeMap::new(),
            balance,
            orders: BTreeMap::new(),
            positions: BTreeMap::new(),
            history: vec![],
            deals: vec![deposit],
            next_ticket: options.login % 900 * 10_000_000_000_000
                + u64::try_from(now_msc).unwrap_or_default(),
            requests: 0,
            now_msc,
            options,
        }
    }

    /// `account_info()` as of now.
    pub fn account_info(&mut self, now_msc: i64) -> AccountInfo {
        self.pass(now_msc);
        let (floating, margin) = (self.floating(), self.margin());
        let equity = self.balance + floating;
        AccountInfo {
            login: self.options.login,
            leverage: LEVERAGE,
            limit_orders: LIMIT_ORDERS as i64,
            trade_allowed: true,
            trade_expert: true,
            margin_mode: self.options.margin_mode.value(),
            currency_digits: 2,
            balance: money::amount(self.balance),
            profit: money::amount(floating),
            equity: money::amount(equity),
            margin: money::amount(margin),
            margin_free: money::amount(equity - margin),
            margin_level: level(equity, margin),
            margin_so_call: 50.0,
            margin_so_so: STOP_OUT,
            name: "Demo".to_owned(),
            server: self.options.server.clone(),
            currency: "USD".to_owned(),
            company: "mt5-gateway simulator".to_owned(),
            ..AccountInfo::default()
        }
    }

    /// `order_check()`.
    pub fn order_check(&mut self, request: &TradeRequest, now_msc: i64) -> OrderCheckResult {
        self.pass(now_msc);
        let checked = self.check(request);
        let mut after = self.clone();
        let retcode = match checked.map(|plan| after.execute(plan)) {
            // `order_check` says 0 where `order_send` would say "done".
            Ok(_) => 0,
            Err(refusal) => {
                after = self.clone();
                refusal.retcode.code()
            }
        };
        let (floating, margin) = (after.floating(), after.margin());
        let equity = after.balance + floating;
        OrderCheckResult {
            retcode,
            balance: money::amount(after.balance),
            equity: money::amount(equity),
            profit: money::amount(floating),
            margin: money::amount(margin),
            margin_free: money::amount(equity - margin),
            margin_level: level(equity, margin),
            comment: comment_of(retcode),
            request: request.clone(),
        }
    }

    /// `order_send()`.
    pub fn order_send(&mut self, request: &TradeRequest, now_msc: i64) -> OrderSendResult {
        self.pass(now_msc);
        let done = self.check(request).map(|plan| self.execute(plan));
        let (retcode, done) = match done {
            Ok(done) => (Retcode::Done, done),
            Err(refusal) => (refusal.retcode, execute::Done::default()),
        };
        self.result(request, retcode, done)
    }

    /// The answer to a request that the server refuses without looking at it.
    pub fn refuse(
        &mut self,
        request: &TradeRequest,
        retcode: Retcode,
        now_msc: i64,
    ) -> OrderSendResult {
        self.pass(now_msc);
        self.result(request, retcode, execute::Done::default())
    }

    fn result(
        &mut self,
        request: &TradeRequest,
        retcode: Retcode,
        done: execute::Done,
    ) -> OrderSendResult {
        self.requests += 1;
        let quote = self
            .feed(&request.symbol)
            .map(|(spec, quote)| (spec.price(quote.bid), spec.price(quote.ask)));
        let (bid, ask) = quote.unwrap_or_default();
        OrderSendResult {
            retcode: retcode.code(),
            deal: done.deal,
            order: done.order,
            volume: done.volume,
            price: done.price,
            bid,
            ask,
            comment: comment_of(retcode.code()),
            request_id: self.requests,
            retcode_external: 0,
            request: request.clone(),
        }
    }

    /// `orders_get()`.
    pub fn orders(&mut self, selection: &Selection, now_msc: i64) -> Vec<Order> {
        self.pass(now_msc);
        let orders: Vec<Order> = self.orders.values().cloned().collect();
        let shown = orders.into_iter().map(|order| {
            let price_current = self.feed(&order.symbol).map_or(0.0, |(spec, quote)| {
                spec.price(if order.r#type % 2 == 0 { quote.ask } else { quote.bid })
            });
            Order { price_current, ..order }
        });
        shown.filter(|order| selected(selection, &order.symbol, order.ticket)).collect()
    }

    /// `positions_get()`.
    pub fn positions(&mut self, selection: &Selection, now_msc: i64) -> Vec<Position> {
        self.pass(now_msc);
        let positions: Vec<Position> = self.positions.values().cloned().collect();
        let shown = positions.into_iter().map(|position| {
            let (price_current, profit) = self.valued(&position);
            Position { price_current, profit: money::amount(profit), ..position }
        });
        shown.filter(|position| selected(selection, &position.symbol, position.ticket)).collect()
    }

    /// `history_orders_get()`.
    pub fn history_orders(
        &mut self,
        (from, to): (i64, i64),
        selection: &Selection,
        now_msc: i64,
    ) -> Vec<Order> {
        self.pass(now_msc);
        let asked = |order: &&Order| match selection {
            Selection::Ticket(ticket) => order.ticket == ticket.get(),
            Selection::Position(position) => order.position_id == position.get(),
            _ => {
                (from..=to).contains(&order.time_done)
                    && selected(selection, &order.symbol, order.ticket)
            }
        };
        self.history.iter().filter(asked).cloned().collect()
    }

    /// `history_deals_get()`.
    pub fn history_deals(
        &mut self,
        (from, to): (i64, i64),
        selection: &Selection,
        now_msc: i64,
    ) -> Vec<Deal> {
        self.pass(now_msc);
        let asked = |deal: &&Deal| match selection {
            Selection::Ticket(ticket) => deal.order == ticket.get(),
            Selection::Position(position) => deal.position_id == position.get(),
            _ => (from..=to).contains(&deal.time) && selected(selection, &deal.symbol, deal.ticket),
        };
        self.deals.iter().filter(asked).cloned().collect()
    }

    /// `order_calc_margin()`.
    ///
    /// # Errors
    /// If a parameter makes no sense.
    pub fn calc_margin(action: i64, spec: &Spec, volume: f64, price: f64) -> Result<f64, Error> {
        calculable(action, volume, &[price])?;
        Ok(money::amount(money::margin(spec, volume, price)))
    }

    /// `order_calc_profit()`.
    ///
    /// # Errors
    /// If a parameter makes no sense.
    pub fn calc_profit(
        action: i64,
        spec: &Spec,
        volume: f64,
        open: f64,
        close: f64,
    ) -> Result<f64, Error> {
        calculable(action, volume, &[open, close])?;
        Ok(money::amount(money::profit(spec, action == 0, volume, open, close)))
    }

    /// A symbol and its quote as of now.
    fn feed(&mut self, symbol: &str) -> Option<(&'static Spec, Quote)> {
        let feed = self.feeds.get_mut(symbol)?;
        Some((feed.spec, feed.last_quote(self.now_msc)))
    }

    /// What a position would be closed at, and its profit then, in cents.
    fn valued(&mut self, position: &Position) -> (f64, i64) {
        let Some((spec, quote)) = self.feed(&position.symbol) else {
            return (position.price_open, 0);
        };
        money::value(spec, position, quote)
    }

    /// Profit of all positions if they were closed now, in cents.
    fn floating(&mut self) -> i64 {
        let positions: Vec<Position> = self.positions.values().cloned().collect();
        positions.iter().map(|position| self.valued(position).1).sum()
    }

    /// Margin of all positions, in cents.
    fn margin(&self) -> i64 {
        money::margin_of(self.positions.values(), &self.feeds)
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

/// Equity in per cent of margin; 0 without margin, as MT5 shows it.
fn level(equity: i64, margin: i64) -> f64 {
    if margin == 0 { 0.0 } else { equity as f64 / margin as f64 * 100.0 }
}

fn selected(selection: &Selection, symbol: &str, ticket: u64) -> bool {
    match selection {
        Selection::All | Selection::Position(_) => true,
        Selection::Symbol(name) => name == symbol,
        Selection::Group(group) => Group::parse(group).matches(symbol),
        Selection::Ticket(wanted) => wanted.get() == ticket,
    }
}

fn calculable(action: i64, volume: f64, prices: &[f64]) -> Result<(), Error> {
    if !matches!(action, 0 | 1) {
        return Err(Error::invalid_params(format!(
            "action {action} is neither buy (0) nor sell (1)"
        )));
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if positive(volume) && prices.iter().all(|price| positive(*price)) {
        return Ok(());
    }
    Err(Error::invalid_params("volume and prices have to be above 0"))
}

/// What the terminal writes beside a return code.
fn comment_of(retcode: i64) -> String {
    match Retcode::from_code(retcode) {
        _ if retcode == 0 => "Done".to_owned(),
        Retcode::Done => "Request executed".to_owned(),
        other => {
            let words = other.name().replace('_', " ");
            let mut letters = words.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}
