//! One simulated symbol: its quotes, bars, ticks and book, whether made up or replayed.

use std::sync::Arc;

use super::prices::{Prices, Reader};
use super::replay::Replay;
use super::symbols::Spec;
use crate::mt5::{BookEntry, CopyTicks, Error, Rate, Rows, SymbolInfo, Tick, Timeframe, tick_flag};

/// Bars that one call may give, as a terminal's "max bars in chart".
pub const MAX_BARS: usize = 100_000;

/// What is offered and asked, in points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Unix milliseconds.
    pub time_msc: i64,
    /// What a seller gets.
    pub bid: i64,
    /// What a buyer pays.
    pub ask: i64,
}

/// A symbol's source of prices. Clones share replayed files.
#[derive(Clone)]
pub struct Feed {
    /// What does not move.
    pub spec: &'static Spec,
    reader: Reader,
    replay: Option<Arc<Replay>>,
}

impl Feed {
    /// The source of a symbol's prices.
    pub fn new(spec: &'static Spec, seed: u64, replay: Option<Arc<Replay>>) -> Feed {
        let prices = Prices::new(seed, spec.name, spec.base, spec.volatility);
        Feed { spec, reader: Reader::new(prices), replay }
    }

    /// The quote as of a time.
    pub fn last_quote(&mut self, now_msc: i64) -> Quote {
        if let Some(replay) = &self.replay {
            let (bar, second) = replay.last();
            let bid = self.spec.points(bar.close);
            return Quote { time_msc: second * 1000, bid, ask: bid + i64::from(bar.spread) };
        }
        let (time_msc, bid) = self.reader.last_tick(now_msc);
        Quote { time_msc, bid, ask: bid + self.spec.spread }
    }

    /// The quotes after one time up to another, within the minute that the latter is in
    /// (counted from the epoch). A replayed symbol has none.
    pub fn quotes(&mut self, minute: i64, after_msc: i64, until_msc: i64) -> Vec<Quote> {
        if self.replay.is_some() {
            return vec![];
        }
        let spread = self.spec.spread;
        let ticks = self.reader.ticks(minute).iter();
        ticks
            .filter(|(time_msc, _)| *time_msc > after_msc && *time_msc <= until_msc)
            .map(|&(time_msc, bid)| Quote { time_msc, bid, ask: bid + spread })
            .collect()
    }

    /// The last tick as of a time.
    pub fn tick(&mut self, now_msc: i64) -> Tick {
        let quote = self.last_quote(now_msc);
        self.as_tick(quote)
    }

    fn as_tick(&self, quote: Quote) -> Tick {
        Tick {
            time: quote.time_msc / 1000,
            bid: self.spec.price(quote.bid),
            ask: self.spec.price(quote.ask),
            last: 0.0,
            volume: 0,
            time_msc: quote.time_msc,
            flags: tick_flag::BID | tick_flag::ASK,
            volume_real: 0.0,
        }
    }

    pub fn info(&mut self, now_msc: i64) -> SymbolInfo {
        let tick = self.tick(now_msc);
        let day = match &self.replay {
            Some(replay) => replay.bars(Timeframe::D1).and_then(|days| days.last().copied()),
            None => self.bar(Timeframe::D1, Timeframe::D1.open_of(now_msc / 1000), now_msc),
        };
        let (high, low, open) = day.map_or((0.0, 0.0, 0.0), |day| (day.high, day.low, day.open));
        let spread = tick.ask - tick.bid;
        let tick_value = self.spec.tick_value(tick.bid);
        let scale = 10f64.powi(self.spec.digits as i32);
        let asked = |bid: f64| ((bid + spread) * scale).round() / scale;
        SymbolInfo {
            time: tick.time,
            bid: tick.bid,
            bidhigh: high,
            bidlow: low,
            ask: tick.ask,
            askhigh: asked(high),
            asklow: asked(low),
            session_open: open,
            price_change: if open == 0.0 { 0.0 } else { (tick.bid / open - 1.0) * 100.0 },
            trade_tick_value: tick_value,
            trade_tick_value_profit: tick_value,
            trade_tick_value_loss: tick_value,
            ..self.spec.info()
        }
    }

    /// Five levels a side, ten points apart, deeper further out.
    pub fn book(&mut self, now_msc: i64) -> Vec<BookEntry> {
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
    pub fn rates_back(
        &mut self,
        timeframe: Timeframe,
        from: i64,
        skip: usize,
        count: usize,
        now_msc: i64,
    ) -> Result<Rows<Rate>, Error> {
        if count > MAX_BARS {
            return Err(too_many(count, MAX_BARS, "bars"));
        }
        if let Some(replay) = &self.replay {
            let bars = replayed(replay, timeframe)?;
            let end = bars.partition_point(|bar| bar.time <= from).saturating_sub(skip);
            let rows = &bars[end.saturating_sub(count)..end];
            return Ok(Rows::pack(rows.iter().copied()));
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
        Ok(Rows::pack(bars))
    }

    /// The bars that opened from `from` to `to`.
    pub fn rates_range(
        &mut self,
        timeframe: Timeframe,
        from: i64,
        to: i64,
        now_msc: i64,
    ) -> Result<Rows<Rate>, Error> {
        if let Some(replay) = &self.replay {
            let bars = replayed(replay, timeframe)?;
            let start = bars.partition_point(|bar| bar.time < from);
            let end = bars.partition_point(|bar| bar.time <= to).max(start);
            return Ok(Rows::pack(bars[start..end].iter().copied()));
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
        Ok(Rows::pack(bars))
    }

    /// The first `count` ticks from `from` to `to` (unix seconds).
    pub fn ticks(
        &mut self,
        from: i64,
        to: i64,
        count: usize,
        flags: CopyTicks,
        now_msc: i64,
    ) -> Result<Rows<Tick>, Error> {
        if self.replay.is_some() {
            return Err(Error::not_found(format!(
                "{} is replayed from bars and has no ticks",
                self.spec.name
            )));
        }
        // Simulated deals are quotes only: no last price ever changes.
        if flags == CopyTicks::Trade {
            return Ok(Rows::pack([]));
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
            ticks.extend(inside.into_iter().map(|(time_msc, bid)| {
                self.as_tick(Quote { time_msc, bid, ask: bid + self.spec.spread })
            }));
            minute += 1;
        }
        Ok(Rows::pack(ticks))
    }
}

fn replayed(replay: &Replay, timeframe: Timeframe) -> Result<Arc<Vec<Rate>>, Error> {
    replay.bars(timeframe).ok_or_else(|| {
        Error::not_found(format!("the replayed file has no bars as short as {}", timeframe.name()))
    })
}

/// A call asked for more rows than it may give.
pub fn too_many(count: usize, limit: usize, what: &str) -> Error {
    Error::invalid_params(format!(
        "{count} {what} are more than the {limit} that one call may give"
    ))
}
