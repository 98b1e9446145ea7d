//! Histories that the package has no function for: bars forward from a date,
//! ticks from and to a millisecond, ticks backward, and ranges of more rows than a
//! terminal gives at once, which come in [`Pieces`].
//!
//! A terminal may give a row before the beginning or after the end of the range that it was
//! asked for. Such rows are dropped wherever ranges are joined, so that no row comes twice.

use std::sync::Arc;
use std::time::Duration;

use super::accounts::Account;
use super::call::{CallContext, CallError};
use crate::mt5::{Answer, CopyTicks, Rate, Row, Rows, SymbolName, Tick, Timeframe, UtcTime, calls};
use crate::terminal::Failure;

/// Bars that one piece asks for at most, below what terminals usually allow.
const PIECE: i64 = 50_000;

/// Bars that every terminal gives at once. Asking for more is worth asking it first how
/// many it gives.
const CERTAIN: i64 = 5_000;

/// Milliseconds of ticks that one piece asks for: a day, which may have half a million.
const TICKS_PIECE: i64 = 86_400_000;

/// What a range is padded with: a weekend and a holiday.
const PAUSE: i64 = 4 * 86_400;

/// How far back ticks are looked for, milliseconds: a year.
const TICKS_REACH: i64 = 366 * 86_400_000;

/// Ticks that are asked for beside those that are wanted when these begin within a second: the
/// terminal begins with the whole second.
const TICKS_OF_A_SECOND: usize = 500;

/// Ticks forward that a terminal is asked for at most, whatever it gave before.
const TICKS_AT_ONCE: usize = 1_000_000;

/// Later than every tick: the end of the year 3000, unix milliseconds.
const END_OF_TIME: i64 = 32_535_215_999_999;

/// Servers' clocks run at most this far ahead of UTC, seconds.
const CLOCK_LEAD: i64 = 14 * 3600;

/// The ticks of an answer.
///
/// # Errors
/// If it is of another kind.
pub fn ticks(answer: Answer) -> Result<Rows<Tick>, CallError> {
    match answer {
        Answer::Ticks(rows) => Ok(rows),
        _ => Err(unusable("ticks")),
    }
}

/// The rows whose time lies from `first` to `last`, both included. Rows are in time's order, so
/// those outside are at the ends.
fn within<R: Row, T: Ord>(rows: &Rows<R>, first: T, last: T, time: impl Fn(&R) -> T) -> Rows<R> {
    let early = rows.iter().take_while(|row| time(row) < first).count();
    let late = rows.iter().rev().take_while(|row| time(row) > last).count();
    rows.slice(early..rows.len().saturating_sub(late))
}

/// The bars that open from `from` to `to`, both included.
///
/// They are compared on the server's clock: in the hour that it shows twice, the UTC of a bar
/// does not tell whether the terminal counts it to the range.
pub(super) fn rates_within(
    account: &Account,
    rows: &Rows<Rate>,
    from: UtcTime,
    to: UtcTime,
) -> Rows<Rate> {
    let server = |at: UtcTime| account.utc_to_server(at);
    within(rows, server(from), server(to), |bar| server(UtcTime::from_seconds(bar.time)))
}

/// The ticks from one time to another, unix milliseconds, both included. Compared as bars are.
fn ticks_within(account: &Account, rows: &Rows<Tick>, from: i64, to: i64) -> Rows<Tick> {
    let server = |milliseconds: i64| {
        let seconds = milliseconds.div_euclid(1000);
        let shown = account.utc_to_server(UtcTime::from_seconds(seconds));
        milliseconds + (shown.seconds() - seconds) * 1000
    };
    within(rows, server(from), server(to), |tick| server(tick.time_msc))
}

/// Asks for the ticks from one time to another, unix milliseconds, both included.
async fn ticks_between(
    account: &Account,
    context: &CallContext,
    symbol: &SymbolName,
    (from, to): (i64, i64),
    flags: CopyTicks,
) -> Result<Rows<Tick>, CallError> {
    let server = |seconds| account.utc_to_server(UtcTime::from_seconds(seconds));
    let call = calls::CopyTicksRange {
        symbol: symbol.clone(),
        date_from: server(from.div_euclid(1000)),
        // The terminal's range ends with the first millisecond of its last second.
        date_to: server((to + 999).div_euclid(1000)),
        flags,
    };
    let rows = account.call(call, context).await?;
    Ok(ticks_within(account, &rows, from, to))
}

/// A part of a history.
#[derive(Debug)]
pub struct HistoryPage<T> {
    /// Its rows, oldest first.
    pub rows: T,
    /// How long ago the terminal gave it, if it was kept since.
    pub age: Option<Duration>,
}

/// A history that comes in parts, without gap or double.
pub trait Pieces {
    /// What a part has.
    type Rows;

    /// The next part; `None` after the last.
    fn next(
        &mut self,
        context: &CallContext,
    ) -> impl Future<Output = Result<Option<HistoryPage<Self::Rows>>, CallError>> + Send;

    /// Whether no part is left.
    fn is_done(&self) -> bool;
}

/// A range of bars.
pub struct RateRange {
    account: Arc<Account>,
    symbol: SymbolName,
    timeframe: Timeframe,
    /// The first opening time.
    from: UtcTime,
    /// The first opening time that is still to be asked for.
    start: UtcTime,
    /// The last one.
    to: UtcTime,
    /// Seconds that a page asks for; `None`: not known yet.
    span: Option<i64>,
}

impl RateRange {
    /// The bars that open from one moment to another, both included. There is none
    /// if `from` is after `to`; the terminal is asked all the same, so that the client learns
    /// when the symbol does not exist.
    pub fn new(
        account: Arc<Account>,
        symbol: SymbolName,
        timeframe: Timeframe,
        from: UtcTime,
        to: UtcTime,
    ) -> RateRange {
        let whole = (to - from) / timeframe.seconds() < CERTAIN;
        let span = whole.then_some((to - from + 1).max(1));
        RateRange { account, symbol, timeframe, from, start: from.min(to), to, span }
    }
}

impl Pieces for RateRange {
    type Rows = Rows<Rate>;

    async fn next(
        &mut self,
        context: &CallContext,
    ) -> Result<Option<HistoryPage<Rows<Rate>>>, CallError> {
        if self.is_done() {
            return Ok(None);
        }
        let span = match self.span {
            Some(span) => span,
            None => {
                let info = self.account.call(calls::TerminalInfo, context).await?;
                // A terminal without a limit says 0.
                let most = if info.maxbars > 0 { info.maxbars } else { PIECE };
                most.clamp(1, PIECE) * self.timeframe.seconds()
            }
        };
        self.span = Some(span);
        let end = self.to.min(self.start + (span - 1));
        let piece = self
            .account
            .rates_range(&self.symbol, self.timeframe, (self.start, end), context)
            .await?;
        self.start = end + 1;
        if self.from > self.to {
            return Ok(Some(HistoryPage { rows: piece.rows.slice(0..0), ..piece }));
        }
        Ok(Some(piece))
    }

    fn is_done(&self) -> bool {
        self.start > self.to
    }
}

/// A range of ticks.
pub struct TickRange {
    account: Arc<Account>,
    symbol: SymbolName,
    flags: CopyTicks,
    /// The first millisecond that is still to be asked for.
    start: i64,
    /// The last one.
    to: i64,
}

impl TickRange {
    /// The ticks from one moment to another, unix milliseconds, both included.
    pub fn new(
        account: Arc<Account>,
        symbol: SymbolName,
        flags: CopyTicks,
        from: i64,
        to: i64,
    ) -> TickRange {
        TickRange { account, symbol, flags, start: from, to }
    }
}

impl Pieces for TickRange {
    type Rows = Rows<Tick>;

    async fn next(
        &mut self,
        context: &CallContext,
    ) -> Result<Option<HistoryPage<Rows<Tick>>>, CallError> {
        if self.is_done() {
            return Ok(None);
        }
        let is_last = self.to - self.start <= TICKS_PIECE;
        let end = if is_last { self.to } else { self.start + TICKS_PIECE - 1 };
        let part = (self.start, end);
        let rows = ticks_between(&self.account, context, &self.symbol, part, self.flags).await?;
        self.start = end + 1;
        Ok(Some(HistoryPage { rows, age: None }))
    }

    fn is_done(&self) -> bool {
        self.start > self.to
    }
}

fn unusable(what: &str) -> CallError {
    Failure::Unusable(format!("the terminal answered with something else than {what}")).into()
}

/// The first `count` bars that open at or after `from`. Asks for ranges, each
/// padded for the hours in which nothing is traded, until there are enough or
/// the present is reached.
///
/// # Errors
/// Why a piece has no answer.
pub async fn rates_forward(
    account: &Account,
    context: &CallContext,
    symbol: &SymbolName,
    timeframe: Timeframe,
    from: UtcTime,
    count: u32,
) -> Result<Rows<Rate>, CallError> {
    let end = UtcTime::from_seconds(jiff::Timestamp::now().as_second()) + CLOCK_LEAD;
    let period = timeframe.seconds();
    let count = count as usize;
    let (mut pieces, mut found, mut start) = (Vec::new(), 0, from);
    // Grows while there is nothing, as before the symbol was first traded.
    let mut patience = 1;
    loop {
        let missing = (count - found) as i64;
        // Five trading days a week.
        let span = (missing * period * 7 / 5 + PAUSE).saturating_mul(patience);
        let span = span.clamp(period, PIECE * period);
        let call = calls::CopyRatesRange {
            symbol: symbol.clone(),
            timeframe,
            date_from: account.utc_to_server(start),
            date_to: account.utc_to_server(start + (span - 1)),
        };
        let piece = account.rates(call, context).await?;
        let piece = rates_within(account, &piece, start, start + (span - 1));
        let piece = piece.slice(0..count - found);
        patience = if piece.is_empty() { patience.saturating_mul(2) } else { 1 };
        found += piece.len();
        pieces.push(piece);
        start = start + span;
        if found == count || start > end {
            return Ok(Rows::concat(&pieces));
        }
    }
}

/// The first `count` ticks at or after `from`, unix milliseconds. The terminal counts from a
/// whole second on, so it is asked for more until there are enough or it has no more.
///
/// # Errors
/// Why there is no answer.
pub async fn ticks_forward(
    account: &Account,
    context: &CallContext,
    symbol: &SymbolName,
    from: i64,
    count: u32,
    flags: CopyTicks,
) -> Result<Rows<Tick>, CallError> {
    let count = count as usize;
    let begins_within = from.rem_euclid(1000) != 0;
    let mut asked = if begins_within { count + TICKS_OF_A_SECOND } else { count };
    loop {
        let call = calls::CopyTicksFrom {
            symbol: symbol.clone(),
            date_from: account.utc_to_server(UtcTime::from_seconds(from.div_euclid(1000))),
            count: u32::try_from(asked).unwrap_or(u32::MAX),
            flags,
        };
        let rows = account.call(call, context).await?;
        let found = ticks_within(account, &rows, from, END_OF_TIME);
        let has_no_more = rows.len() < asked || asked >= TICKS_AT_ONCE;
        if found.len() >= count || has_no_more {
            return Ok(found.slice(0..count));
        }
        asked = (2 * asked).min(TICKS_AT_ONCE);
    }
}

/// The last `count` ticks at or before `to`, unix milliseconds, or the last there are. Looks
/// back over stretches that double until there are enough, at most a year.
///
/// # Errors
/// Why a piece has no answer.
pub async fn ticks_backward(
    account: &Account,
    context: &CallContext,
    symbol: &SymbolName,
    to: Option<i64>,
    count: u32,
    flags: CopyTicks,
) -> Result<Rows<Tick>, CallError> {
    let last = match to {
        Some(to) => to,
        None => {
            let call = calls::SymbolInfoTick { symbol: symbol.clone() };
            account.call(call, context).await?.time_msc
        }
    };
    let count = count as usize;
    let (mut pieces, mut found) = (Vec::new(), 0);
    // The last millisecond that is still to be asked for, and the seconds before it.
    let (mut end, mut span) = (last, 60i64.max(count as i64));
    while found < count && end >= 0 && last - end < TICKS_REACH {
        let start = ((end + 1) / 1000 - span).max(0) * 1000;
        let piece = ticks_between(account, context, symbol, (start, end), flags).await?;
        found += piece.len();
        pieces.push(piece);
        end = start - 1;
        span = span.saturating_mul(2);
    }
    pieces.reverse();
    let all = Rows::concat(&pieces);
    Ok(all.slice(all.len().saturating_sub(count)..all.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bar(time: i64) -> Rate {
        Rate {
            time,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            tick_volume: 1,
            spread: 0,
            real_volume: 0,
        }
    }

    fn times(rows: &Rows<Rate>) -> Vec<i64> {
        rows.iter().map(|bar| bar.time).collect()
    }

    #[test]
    fn within_includes_both_ends_and_nothing_else() {
        let rows = Rows::pack([10, 20, 30, 40].map(bar));
        let cases: [(i64, i64, &[i64]); 8] = [
            (10, 40, &[10, 20, 30, 40]),
            (20, 30, &[20, 30]),
            (11, 39, &[20, 30]),
            (21, 29, &[]),
            (41, 50, &[]),
            (0, 9, &[]),
            (30, 20, &[]),
            (0, 20, &[10, 20]),
        ];
        for (first, last, expected) in cases {
            let found = within(&rows, first, last, |bar| bar.time);
            assert_eq!(times(&found), expected, "{first} to {last}");
        }
        assert!(within(&Rows::<Rate>::pack([]), 0, 9, |bar| bar.time).is_empty());
    }

    proptest! {
        /// A terminal that gives some bars too many at both ends of whatever it is asked for.
        #[test]
        fn pieces_with_rows_outside_of_them_join_without_gap_or_double(
            from in 0i64..5_000,
            length in 0i64..5_000,
            span in 1i64..700,
            before in 0usize..3,
            after in 0usize..3,
        ) {
            let bars: Vec<Rate> = (0..100).map(|index| bar(index * 100)).collect();
            let terminal = |from: i64, to: i64| {
                let start = bars.partition_point(|bar| bar.time < from).saturating_sub(before);
                let end = bars.partition_point(|bar| bar.time <= to) + after;
                Rows::pack(bars[start..end.min(bars.len())].iter().copied())
            };
            let to = from + length;
            let (mut pieces, mut start) = (Vec::new(), from);
            while start <= to {
                let end = to.min(start + span - 1);
                pieces.push(within(&terminal(start, end), start, end, |bar| bar.time));
                start = end + 1;
            }
            let expected: Vec<i64> =
                bars.iter().map(|bar| bar.time).filter(|time| (from..=to).contains(time)).collect();
            prop_assert_eq!(times(&Rows::concat(&pieces)), expected);
        }
    }
}
