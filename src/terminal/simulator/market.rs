//! The simulated broker: answers each call at a given time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Options;
use super::prices::{Prices, Reader};
use super::replay::Replay;
use super::symbols::{SPECS, Spec};
use crate::mt5::{
    AccountInfo, Answer, BookEntry, CopyTicks, Deal, Error, Group, Rate, Request, Rows, Selection,
    SymbolInfo, TerminalInfo, Tick, Timeframe, Version, tick_flag,
};

/// Bars that one call may give, as a terminal's "max bars in chart".
const MAX_BARS: usize = 100_000;

/// Ticks that one call may give.
const MAX_TICKS: usize = 1_000_000;

/// When the simulated account was opened, 2020-01-01, in unix seconds.
const OPENED: i64 = 1_577_836_800;

type Reply = Result<Answer, Error>;

/// One simulated terminal's view of the market. Clones share replayed files.
pub struct Market {
    options: Arc<Options>,
    symbols: BTreeMap<&'static str, Symbol>,
    hidden: HashSet<&'static str>,
}

struct Symbol {
    spec: &'static Spec,
    reader: Reader,
    replay: Option<Arc<Replay>>,
}

impl Market {
    /// The market that an account's options describe.
    pub fn new(options: Arc<Options>) -> Market {
        let symbols = SPECS
            .iter()
            .map(|spec| {
                let prices = Prices::new(options.seed, spec.name, spec.base, spec.volatility);
                let replay = options.bars.get(spec.name).cloned();
                (spec.name, Symbol { spec, reader: Reader::new(prices), replay })
            })
            .collect();
        Market { options, symbols, hidden: HashSet::new() }
    }

    /// Answers a call as of `now_msc` (unix milliseconds).
    ///
    /// # Errors
    /// What `last_error()` would say.
    pub fn answer(&mut self, request: &Request, now_msc: i64) -> Reply {
        match request {
            Request::Initialize
            | Request::Login
            | Request::Shutdown
            | Request::MarketBookAdd { .. }
            | Request::MarketBookRelease { .. } => Ok(Answer::Done),
            Request::Version => Ok(Answer::Version(Version {
                version: 500,
                build: 5_600,
                release_date: "1 Jan 2026".to_owned(),
            })),
            Request::LastError => Ok(Answer::LastError(Error::new(1, "Success"))),
            Request::TerminalInfo => Ok(Answer::TerminalInfo(Box::new(terminal_info()))),
            Request::AccountInfo => Ok(Answer::AccountInfo(Box::new(self.account_info()))),
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
                Ok(Answer::Done)
            }
            Request::SymbolInfoTick { symbol } => {
                Ok(Answer::Tick(self.used(symbol)?.tick(now_msc)))
            }
            Request::MarketBookGet { symbol } => Ok(Answer::Book(self.used(symbol)?.book(now_msc))),
            Request::CopyRatesFrom { symbol, timeframe, date_from, count } => {
                let from = (*date_from).min(now_msc / 1000);
                self.used(symbol)?.rates_back(*timeframe, from, 0, *count as usize, now_msc)
            }
            Request::CopyRatesFromPos { symbol, timeframe, start_pos, count } => {
                let (skip, count) = (*start_pos as usize, *count as usize);
                self.used(symbol)?.rates_back(*timeframe, now_msc / 1000, skip, count, now_msc)
            }
            Request::CopyRatesRange { symbol, timeframe, date_from, date_to } => {
                self.used(symbol)?.rates_range(*timeframe, *date_from, *date_to, now_msc)
            }
            Request::CopyTicksFrom { symbol, date_from, count, flags } => {
                let count = *count as usize;
                if count > MAX_TICKS {
                    return Err(too_many(count, MAX_TICKS, "ticks"));
                }
                self.used(symbol)?.ticks(*date_from, i64::MAX, count, *flags, now_msc)
            }
            Request::CopyTicksRange { symbol, date_from, date_to, flags } => {
                let ticks = self.used(symbol)?.ticks(
                    *date_from,
                    *date_to,
                    MAX_TICKS + 1,
                    *flags,
                    now_msc,
                )?;
                match &ticks {
                    Answer::Ticks(rows) if rows.len() > MAX_TICKS => {
                        Err(too_many(rows.len(), MAX_TICKS, "ticks"))
                    }
                    _ => Ok(ticks),
                }
            }
            Request::OrdersTotal | Request::PositionsTotal | Request::HistoryOrdersTotal { .. } => {
                Ok(Answer::Total(0))
            }
            Request::OrdersGet { .. } | Request::HistoryOrdersGet { .. } => {
                Ok(Answer::Orders(vec![]))
            }
            Request::PositionsGet { .. } => Ok(Answer::Positions(vec![])),
            Request::HistoryDealsTotal { date_from, date_to } => {
                let deals = self.deals(*date_from, *date_to, &Selection::All);
                Ok(Answer::Total(deals.len() as u64))
            }
            Request::HistoryDealsGet { date_from, date_to, selection } => {
                Ok(Answer::Deals(self.deals(*date_from, *date_to, selection)))
            }
            Request::OrderCalcMargin { .. }
            | Request::OrderCalcProfit { .. }
            | Request::OrderCheck { .. }
            | Request::OrderSend { .. } => Err(Error::new(-7, "the simulator does not trade yet")),
        }
    }

    fn find(&self, symbol: &str) -> Result<&'static str, Error> {
        match self.symbols.get_key_value(symbol) {
            Some((name, _)) => Ok(name),
            None => Err(Error::not_found(format!("symbol {symbol:?} does not exist"))),
        }
    }

    /// A symbol that is being used, and so in Market Watch from now on.
    fn used(&mut self, symbol: &str) -> Result<&mut Symbol, Error> {
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

    fn account_info(&self) -> AccountInfo {
        let balance = self.options.balance;
        AccountInfo {
            login: self.options.login,
            leverage: 100,
            limit_orders: 500,
            trade_allowed: true,
            trade_expert: true,
            // ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
            margin_mode: 2,
            currency_digits: 2,
            balance,
            equity: balance,
            margin_free: balance,
            margin_so_call: 50.0,
            margin_so_so: 30.0,
            name: "Demo".to_owned(),
            server: self.options.server.clone(),
            currency: "USD".to_owned(),
            company: "mt5-gateway simulator".to_owned(),
            ..AccountInfo::default()
        }
    }

    /// The account's history: the deposit that opened it.
    fn deals(&self, from: i64, to: i64, selection: &Selection) -> Vec<Deal> {
        let deposit = Deal {
            ticket: 1,
            time: OPENED,
            time_msc: OPENED * 1000,
            // DEAL_TYPE_BALANCE
            r#type: 2,
            profit: self.options.balance,
            comment: "deposit".to_owned(),
            ..Deal::default()
        };
        let asked = match selection {
            Selection::All => (from..=to).contains(&OPENED),
            Selection::Group(group) => {
                (from..=to).contains(&OPENED) && Group::parse(group).matches(&deposit.symbol)
            }
            Selection::Symbol(_) | Selection::Ticket(_) | Selection::Position(_) => false,
        };
        if asked { vec![deposit] } else { vec![] }
    }
}

fn too_many(count: usize, limit: usize, what: &str) -> Error {
    Error::invalid_params(format!(
        "{count} {what} are more than the {limit} that one call may give"
    ))
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

impl Symbol {
    fn tick(&mut self, now_msc: i64) -> Tick {
        if let Some(replay) = &self.replay {
            let (bar, second) = replay.last();
            let ask = bar.close + f64::from(bar.spread) * self.spec.point();
            return quote(second * 1000, bar.close, ask);
        }
        let (time_msc, bid) = self.reader.last_tick(now_msc);
        self.quote(time_msc, bid)
    }

    fn quote(&self, time_msc: i64, bid: i64) -> Tick {
        quote(time_msc, self.spec.price(bid), self.spec.price(bid + self.spec.spread))
    }

    fn info(&mut self, now_msc: i64) -> SymbolInfo {
        let tick = self.tick(now_msc);
        let day = match &self.replay {
            Some(replay) => replay.bars(Timeframe::D1).and_then(|days| days.last().copied()),
            None => self.bar(Timeframe::D1, Timeframe::D1.open_of(now_msc / 1000), now_msc),
        };
        let (high, low, open) = day.map_or((0.0, 0.0, 0.0), |day| (day.high, day.low, day.open));
        let spread = tick.ask - tick.bid;
        SymbolInfo {
            time: tick.time,
            bid: tick.bid,
            bidhigh: high,
            bidlow: low,
            ask: tick.ask,
            askhigh: high + spread,
            asklow: low + spread,
            session_open: open,
            price_change: if open == 0.0 { 0.0 } else { (tick.bid / open - 1.0) * 100.0 },
            ..self.spec.info()
        }
    }

    /// Five levels a side, ten points apart, deeper further out.
    fn book(&mut self, now_msc: i64) -> Vec<BookEntry> {
        let tick = self.tick(now_msc);
        let level = |side: i64, price: f64, depth: i64| BookEntry {
            r#type: side,
            price,
            volume: 5 * depth as u64,
            volume_dbl: 5.0 * depth as f64,
        };
        let scale = 10f64.powi(self.spec.digits as i32);
        let away = |price: f64, points: i64| ((price * scale).round() + points as f64) / scale;
        // BOOK_TYPE_SELL 1, BOOK_TYPE_BUY 2, highest price first as in the terminal.
        let sells = (1..=5).rev().map(|depth| level(1, away(tick.ask, 10 * (depth - 1)), depth));
        let buys = (1..=5).map(|depth| level(2, away(tick.bid, -10 * (depth - 1)), depth));
        sells.chain(buys).collect()
    }

    fn bar(&mut self, timeframe: Timeframe, open: i64, now_msc: i64) -> Option<Rate> {
        let span = self.reader.bar(open, timeframe.next_open(open), now_msc)?;
        Some(Rate {
            time: open,
            open: self.spec.price(span.open),
            high: self.spec.price(span.high),
            low: self.spec.price(span.low),
            close: self.spec.price(span.close),
            tick_volume: span.ticks,
            spread: i32::try_from(self.spec.spread).unwrap_or(i32::MAX),
            real_volume: 0,
        })
    }

    /// The `count` bars that opened last at or before `from`, after skipping some.
    fn rates_back(
        &mut self,
        timeframe: Timeframe,
        from: i64,
        skip: usize,
        count: usize,
        now_msc: i64,
    ) -> Reply {
        if count > MAX_BARS {
            return Err(too_many(count, MAX_BARS, "bars"));
        }
        if let Some(replay) = &self.replay {
            let bars = replayed(replay, timeframe)?;
            let end = bars.partition_point(|bar| bar.time <= from).saturating_sub(skip);
            let rows = &bars[end.saturating_sub(count)..end];
            return Ok(Answer::Rates(Rows::pack(rows.iter().copied())));
        }
        let mut opens = Vec::with_capacity(count);
        let mut open = timeframe.open_of(from);
        for index in 0..skip + count {
            if open < 0 {
                break;
            }
            if index >= skip {
                opens.push(open);
            }
            open = timeframe.previous_open(open);
        }
        let bars = opens.into_iter().rev().filter_map(|open| self.bar(timeframe, open, now_msc));
        Ok(Answer::Rates(Rows::pack(bars)))
    }

    /// The bars that opened from `from` to `to`.
    fn rates_range(&mut self, timeframe: Timeframe, from: i64, to: i64, now_msc: i64) -> Reply {
        if let Some(replay) = &self.replay {
            let bars = replayed(replay, timeframe)?;
            let start = bars.partition_point(|bar| bar.time < from);
            let end = bars.partition_point(|bar| bar.time <= to).max(start);
            return Ok(Answer::Rates(Rows::pack(bars[start..end].iter().copied())));
        }
        let to = to.min(now_msc / 1000);
        let mut open = timeframe.open_of(from.max(0));
        if open < from {
            open = timeframe.next_open(open);
        }
        let mut bars = Vec::new();
        while open <= to {
            if bars.len() == MAX_BARS {
                return Err(too_many(MAX_BARS + 1, MAX_BARS, "bars"));
            }
            bars.extend(self.bar(timeframe, open, now_msc));
            open = timeframe.next_open(open);
        }
        Ok(Answer::Rates(Rows::pack(bars)))
    }

    /// The first `count` ticks from `from` to `to` (unix seconds).
    fn ticks(&mut self, from: i64, to: i64, count: usize, flags: CopyTicks, now_msc: i64) -> Reply {
        if self.replay.is_some() {
            return Err(Error::not_found(format!(
                "{} is replayed from bars and has no ticks",
                self.spec.name
            )));
        }
        // Simulated deals are quotes only: no last price ever changes.
        if flags == CopyTicks::Trade {
            return Ok(Answer::Ticks(Rows::pack([])));
        }
        let from_msc = from.max(0) * 1000;
        let end_msc = now_msc.min(to.saturating_mul(1000));
        let mut ticks = Vec::new();
        let mut minute = from_msc / 60_000;
        while minute * 60_000 <= end_msc && ticks.len() < count {
            let inside: Vec<(i64, i64)> = self
                .reader
                .ticks(minute)
                .iter()
                .copied()
                .filter(|(time_msc, _)| (from_msc..=end_msc).contains(time_msc))
                .take(count - ticks.len())
                .collect();
            ticks.extend(inside.into_iter().map(|(time_msc, bid)| self.quote(time_msc, bid)));
            minute += 1;
        }
        Ok(Answer::Ticks(Rows::pack(ticks)))
    }
}

fn quote(time_msc: i64, bid: f64, ask: f64) -> Tick {
    Tick {
        time: time_msc / 1000,
        bid,
        ask,
        last: 0.0,
        volume: 0,
        time_msc,
        flags: tick_flag::BID | tick_flag::ASK,
        volume_real: 0.0,
    }
}

fn replayed(replay: &Replay, timeframe: Timeframe) -> Result<Arc<Vec<Rate>>, Error> {
    replay.bars(timeframe).ok_or_else(|| {
        Error::not_found(format!("the replayed file has no bars as short as {}", timeframe.name()))
    })
}
