//! The simulated terminal: answers each call at a given time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Options;
use super::broker::Broker;
use super::feed::{Feed, MAX_BARS, too_many};
use super::symbols::{SPECS, Spec};
use crate::mt5::{
    Answer, Error, Group, Request, Retcode, Selection, SymbolInfo, TerminalInfo, TradeRequest,
    Version,
};

/// Ticks that one call may give.
const MAX_TICKS: usize = 1_000_000;

/// One simulated terminal: its view of the market, and the account's server behind it.
pub struct Market {
    broker: Arc<Mutex<Broker>>,
    symbols: BTreeMap<&'static str, Feed>,
    hidden: HashSet<&'static str>,
}

impl Market {
    /// A terminal of the account that a server keeps.
    pub fn new(options: &Options, broker: Arc<Mutex<Broker>>) -> Market {
        let feed = |spec: &'static Spec| {
            let replay = options.bars.get(spec.name).cloned();
            (spec.name, Feed::new(spec, options.seed, replay))
        };
        let symbols = SPECS.iter().map(feed).collect();
        Market { broker, symbols, hidden: HashSet::new() }
    }

    /// Answers a call as of `now_msc` (unix milliseconds).
    ///
    /// # Errors
    /// What `last_error()` would say.
    pub fn answer(&mut self, request: &Request, now_msc: i64) -> Result<Answer, Error> {
        match request {
            Request::Initialize
            | Request::MarketBookAdd { .. }
            | Request::MarketBookRelease { .. } => Ok(Answer::Done(())),
            Request::Version => Ok(Answer::Version(Version {
                version: 500,
                build: 5_600,
                release_date: "1 Jan 2026".to_owned(),
            })),
            Request::LastError => Ok(Answer::LastError(Error::new(1, "Success"))),
            Request::TerminalInfo => Ok(Answer::TerminalInfo(Box::new(terminal_info()))),
            Request::AccountInfo => {
                Ok(Answer::AccountInfo(Box::new(self.broker().account_info(now_msc))))
            }
            Request::SymbolsTotal => Ok(Answer::Total(self.symbols.len() as u64)),
            Request::SymbolsGet { group } => Ok(Answer::Symbols(self.symbols_get(group, now_msc))),
            Request::SymbolInfo { symbol } => {
                let name = self.find(symbol)?;
                Ok(Answer::SymbolInfo(Box::new(self.symbol_info(name, now_msc))))
            }
            Request::SymbolSelect { symbol, enable } => {
                let name = self.find(symbol)?;
                if *enable {
                    self.hidden.remove(name);
                } else {
                    self.hidden.insert(name);
                }
                Ok(Answer::Done(()))
            }
            Request::SymbolInfoTick { symbol } => {
                Ok(Answer::Tick(self.used(symbol)?.tick(now_msc)))
            }
            Request::MarketBookGet { symbol } => Ok(Answer::Book(self.used(symbol)?.book(now_msc))),
            Request::CopyRatesFrom { symbol, timeframe, date_from, count } => {
                let from = date_from.seconds().min(now_msc / 1000);
                let count = *count as usize;
                let bars = self.used(symbol)?.rates_back(*timeframe, from, 0, count, now_msc)?;
                Ok(Answer::Rates(bars))
            }
            Request::CopyRatesFromPos { symbol, timeframe, start_pos, count } => {
                let (skip, count) = (*start_pos as usize, *count as usize);
                let (feed, from) = (self.used(symbol)?, now_msc / 1000);
                Ok(Answer::Rates(feed.rates_back(*timeframe, from, skip, count, now_msc)?))
            }
            Request::CopyRatesRange { symbol, timeframe, date_from, date_to } => {
                let (from, to) = (date_from.seconds(), date_to.seconds());
                let bars = self.used(symbol)?.rates_range(*timeframe, from, to, now_msc)?;
                Ok(Answer::Rates(bars))
            }
            Request::CopyTicksFrom { symbol, date_from, count, flags } => {
                let count = *count as usize;
                if count > MAX_TICKS {
                    return Err(too_many(count, MAX_TICKS, "ticks"));
                }
                let from = date_from.seconds();
                let ticks = self.used(symbol)?.ticks(from, i64::MAX, count, *flags, now_msc)?;
                Ok(Answer::Ticks(ticks))
            }
            Request::CopyTicksRange { symbol, date_from, date_to, flags } => {
                let (from, to) = (date_from.seconds(), date_to.seconds());
                let feed = self.used(symbol)?;
                let ticks = feed.ticks(from, to, MAX_TICKS + 1, *flags, now_msc)?;
                if ticks.len() > MAX_TICKS {
                    return Err(too_many(ticks.len(), MAX_TICKS, "ticks"));
                }
                Ok(Answer::Ticks(ticks))
            }
            Request::OrdersTotal => {
                let orders = self.broker().orders(&Selection::All, now_msc);
                Ok(Answer::Total(orders.len() as u64))
            }
            Request::OrdersGet { selection } => {
                Ok(Answer::Orders(self.broker().orders(selection, now_msc)))
            }
            Request::PositionsTotal => {
                let positions = self.broker().positions(&Selection::All, now_msc);
                Ok(Answer::Total(positions.len() as u64))
            }
            Request::PositionsGet { selection } => {
                Ok(Answer::Positions(self.broker().positions(selection, now_msc)))
            }
            Request::HistoryOrdersTotal { date_from, date_to } => {
                let period = (date_from.seconds(), date_to.seconds());
                let orders = self.broker().history_orders(period, &Selection::All, now_msc);
                Ok(Answer::Total(orders.len() as u64))
            }
            Request::HistoryOrdersGet { date_from, date_to, selection } => {
                let period = (date_from.seconds(), date_to.seconds());
                Ok(Answer::Orders(self.broker().history_orders(period, selection, now_msc)))
            }
            Request::HistoryDealsTotal { date_from, date_to } => {
                let period = (date_from.seconds(), date_to.seconds());
                let deals = self.broker().history_deals(period, &Selection::All, now_msc);
                Ok(Answer::Total(deals.len() as u64))
            }
            Request::HistoryDealsGet { date_from, date_to, selection } => {
                let period = (date_from.seconds(), date_to.seconds());
                Ok(Answer::Deals(self.broker().history_deals(period, selection, now_msc)))
            }
            Request::OrderCalcMargin { action, symbol, volume, price } => {
                let spec = self.used(symbol)?.spec;
                Broker::calc_margin(*action, spec, *volume, *price).map(Answer::Amount)
            }
            Request::OrderCalcProfit { action, symbol, volume, price_open, price_close } => {
                let spec = self.used(symbol)?.spec;
                Broker::calc_profit(*action, spec, *volume, *price_open, *price_close)
                    .map(Answer::Amount)
            }
            Request::OrderCheck { request } => {
                Ok(Answer::OrderCheck(Box::new(self.broker().order_check(request, now_msc))))
            }
            Request::OrderSend { request } => {
                Ok(Answer::OrderSend(Box::new(self.broker().order_send(request, now_msc))))
            }
        }
    }

    /// The answer to an `order_send` that the server refuses without looking at it.
    pub fn refuse(&mut self, request: &TradeRequest, retcode: Retcode, now_msc: i64) -> Answer {
        Answer::OrderSend(Box::new(self.broker().refuse(request, retcode, now_msc)))
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock()
    }

    fn find(&self, symbol: &str) -> Result<&'static str, Error> {
        match self.symbols.get_key_value(symbol) {
            Some((name, _)) => Ok(name),
            None => Err(Error::not_found(format!("symbol {symbol:?} does not exist"))),
        }
    }

    /// A symbol that is being used, and so in Market Watch from now on.
    fn used(&mut self, symbol: &str) -> Result<&mut Feed, Error> {
        let name = self.find(symbol)?;
        self.hidden.remove(name);
        self.symbols
            .get_mut(name)
            .ok_or_else(|| Error::not_found(format!("symbol {symbol:?} does not exist")))
    }

    fn symbols_get(&mut self, group: &Option<String>, now_msc: i64) -> Vec<SymbolInfo> {
        let group = group.as_deref().map(Group::parse);
        let names: Vec<&'static str> = self.symbols.keys().copied().collect();
        names
            .into_iter()
            .filter(|name| group.as_ref().is_none_or(|group| group.matches(name)))
            .map(|name| self.symbol_info(name, now_msc))
            .collect()
    }

    fn symbol_info(&mut self, name: &'static str, now_msc: i64) -> SymbolInfo {
        let shown = !self.hidden.contains(name);
        let Some(symbol) = self.symbols.get_mut(name) else {
            return SymbolInfo::default();
        };
        SymbolInfo { select: shown, visible: shown, ..symbol.info(now_msc) }
    }
}

fn terminal_info() -> TerminalInfo {
    TerminalInfo {
        connected: true,
        trade_allowed: true,
        build: 5_600,
        maxbars: MAX_BARS as i64,
        ping_last: 1_000,
        company: "mt5-gateway".to_owned(),
        name: "mt5-gateway simulator".to_owned(),
        language: "English".to_owned(),
        ..TerminalInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::mt5::{CopyTicks, Method, ServerTime, SymbolName, Timeframe, calls};
    use crate::terminal::simulator::MarginMode;

    /// One request of each method.
    fn requests() -> Vec<Request> {
        let symbol = || SymbolName::from_trusted("EURUSD");
        let (timeframe, flags, count) = (Timeframe::H1, CopyTicks::All, 3);
        let (start_pos, action, volume, price) = (0, 0, 0.1, 1.1);
        let (price_open, price_close) = (1.1, 1.2);
        let date_from = ServerTime::from_seconds(1_700_000_000);
        let date_to = date_from + 60;
        let selection = || Selection::All;
        let request = || Box::new(TradeRequest::default());
        vec![
            calls::Initialize.into(),
            calls::Version.into(),
            calls::LastError.into(),
            calls::AccountInfo.into(),
            calls::TerminalInfo.into(),
            calls::SymbolsTotal.into(),
            calls::SymbolsGet { group: None }.into(),
            calls::SymbolInfo { symbol: symbol() }.into(),
            calls::SymbolInfoTick { symbol: symbol() }.into(),
            calls::SymbolSelect { symbol: symbol(), enable: true }.into(),
            calls::MarketBookAdd { symbol: symbol() }.into(),
            calls::MarketBookGet { symbol: symbol() }.into(),
            calls::MarketBookRelease { symbol: symbol() }.into(),
            calls::CopyRatesFrom { symbol: symbol(), timeframe, date_from, count }.into(),
            calls::CopyRatesFromPos { symbol: symbol(), timeframe, start_pos, count }.into(),
            calls::CopyRatesRange { symbol: symbol(), timeframe, date_from, date_to }.into(),
            calls::CopyTicksFrom { symbol: symbol(), date_from, count, flags }.into(),
            calls::CopyTicksRange { symbol: symbol(), date_from, date_to, flags }.into(),
            calls::OrdersTotal.into(),
            calls::OrdersGet { selection: selection() }.into(),
            calls::OrderCalcMargin { action, symbol: symbol(), volume, price }.into(),
            calls::OrderCalcProfit { action, symbol: symbol(), volume, price_open, price_close }
                .into(),
            calls::OrderCheck { request: request() }.into(),
            calls::OrderSend { request: request() }.into(),
            calls::PositionsTotal.into(),
            calls::PositionsGet { selection: selection() }.into(),
            calls::HistoryOrdersTotal { date_from, date_to }.into(),
            calls::HistoryOrdersGet { date_from, date_to, selection: selection() }.into(),
            calls::HistoryDealsTotal { date_from, date_to }.into(),
            calls::HistoryDealsGet { date_from, date_to, selection: selection() }.into(),
        ]
    }

    #[test]
    fn every_method_has_an_answer_of_its_kind() {
        let options = Arc::new(Options {
            login: 1,
            server: "S".to_owned(),
            seed: 1,
            balance: 10_000.0,
            margin_mode: MarginMode::Hedging,
            commission: 0.0,
            bars: BTreeMap::new(),
            latency: Duration::ZERO,
            faults: BTreeMap::new(),
        });
        let now_msc = 1_700_000_100_000;
        let broker = Arc::new(Mutex::new(Broker::new(options.clone(), now_msc)));
        let mut market = Market::new(&options, broker);
        let requests = requests();
        let methods: Vec<Method> = requests.iter().map(Request::method).collect();
        assert_eq!(methods, Method::called().collect::<Vec<_>>());
        for request in requests {
            let method = request.method();
            let answer = market.answer(&request, now_msc).unwrap();
            assert_eq!(answer.kind(), method.reply(), "{method}");
        }
    }
}
