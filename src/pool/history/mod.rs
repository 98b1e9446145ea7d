//! Histories that the package has no function for: bars forward from a date,
//! ticks from and to a millisecond, ticks backward, and ranges of more rows than a
//! terminal gives at once, which come in [`HistoryPages`].
//!
//! A terminal may give a row before the beginning or after the end of the range that it was
//! asked for. Such rows are dropped wherever ranges are joined, so that no row comes twice.

mod paging;

use std::sync::Arc;
use std::time::Duration;

use self::paging::{BackwardSearch, ForwardSearch, PAGE, Pages};
use super::accounts::Account;
use super::call::{CallContext, CallError};
use crate::mt5::{Answer, CopyTicks, Rate, Row, Rows, SymbolName, Tick, Timeframe, UtcTime, calls};
use crate::terminal::Failure;

/// Bars that every terminal gives at once. Asking for more is worth asking it first how
/// many it gives.
const CERTAIN: i64 = 5_000;

/// Milliseconds of ticks that one page asks for: a day, which may have half a million.
const TICKS_PAGE: i64 = 86_400_000;

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

/// A page of a history.
#[derive(Debug)]
pub struct HistoryPage<T> {
    /// Its rows, oldest first.
    pub rows: T,
    /// How long ago the terminal gave it, if it comes from the cache.
    pub age: Option<Duration>,
}

/// A history that comes in pages, without a gap and without a row that comes twice.
pub trait HistoryPages {
    /// What a page has.
    type Rows;

    /// The next page; `None` after the last.
    fn next(
        &mut self,
        context: &CallContext,
    ) -> impl Future<Output = Result<Option<HistoryPage<Self::Rows>>, CallError>> + Send;

    /// Whether no page is left.
    fn is_done(&self) -> bool;
}

/// A range of bars.
pub struct RateRange {
    account: Arc<Account>,
    symbol: SymbolName,
    timeframe: Timeframe,
    pages: Pages<UtcTime>,
    /// Whether the range ends before it begins, so that no bar is in it.
    is_reversed: bool,
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
        let is_whole = (to - from) / timeframe.seconds() < CERTAIN;
        let span = is_whole.then_some((to - from + 1).max(1));
        let pages = Pages { next: from.min(to), last: to };
        RateRange { account, symbol, timeframe, pages, is_reversed: from > to, span }
    }

    /// Seconds that a page asks for: as many bars as the terminal gives at once.
    async fn span(&mut self, context: &CallContext) -> Result<i64, CallError> {
        if let Some(span) = self.span {
            return Ok(span);
        }
        let info = self.account.call(calls::TerminalInfo, context).await?;
        // A terminal without a limit says 0.
        let most = if info.maxbars > 0 { info.maxbars } else { PAGE };
        Ok(*self.span.insert(most.clamp(1, PAGE) * self.timeframe.seconds()))
    }
}

impl HistoryPages for RateRange {
    type Rows = Rows<Rate>;

    async fn next(
        &mut self,
        context: &CallContext,
    ) -> Result<Option<HistoryPage<Rows<Rate>>>, CallError> {
        if self.is_done() {
            return Ok(None);
        }
        let span = self.span(context).await?;
        let mut pages = self.pages;
        let Some(range) = pages.next(span) else {
            return Ok(None);
        };
        let page = self.account.rates_range(&self.symbol, self.timeframe, range, context).await?;
        self.pages = pages;
        if self.is_reversed {
            return Ok(Some(HistoryPage { rows: page.rows.slice(0..0), ..page }));
        }
        Ok(Some(page))
    }

    fn is_done(&self) -> bool {
        self.pages.is_done()
    }
}

/// A range of ticks.
pub struct TickRange {
    account: Arc<Account>,
    symbol: SymbolName,
    flags: CopyTicks,
    /// In unix milliseconds.
    pages: Pages<i64>,
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
        TickRange { account, symbol, flags, pages: Pages { next: from, last: to } }
    }
}

impl HistoryPages for TickRange {
    type Rows = Rows<Tick>;

    async fn next(
        &mut self,
        context: &CallContext,
    ) -> Result<Option<HistoryPage<Rows<Tick>>>, CallError> {
        let mut pages = self.pages;
        // A whole day with both of its ends is one page.
        let is_last = pages.last - pages.next <= TICKS_PAGE;
        let span = if is_last { TICKS_PAGE + 1 } else { TICKS_PAGE };
        let Some(range) = pages.next(span) else {
            return Ok(None);
        };
        let rows = ticks_between(&self.account, context, &self.symbol, range, self.flags).await?;
        self.pages = pages;
        Ok(Some(HistoryPage { rows, age: None }))
    }

    fn is_done(&self) -> bool {
        self.pages.is_done()
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
/// Why a page has no answer.
pub async fn rates_forward(
    account: &Account,
    context: &CallContext,
    symbol: &SymbolName,
    timeframe: Timeframe,
    from: UtcTime,
    count: u32,
) -> Result<Rows<Rate>, CallError> {
    let now = UtcTime::from_seconds(jiff::Timestamp::now().as_second());
    let mut search = ForwardSearch {
        next: from,
        end: now + CLOCK_LEAD,
        period: timeframe.seconds(),
        missing: count as usize,
        empty_pages: 0,
        has_asked: false,
    };
    let mut pages = Vec::new();
    while let Some((first, last)) = search.range() {
        let call = calls::CopyRatesRange {
            symbol: symbol.clone(),
            timeframe,
            date_from: account.utc_to_server(first),
            date_to: account.utc_to_server(last),
        };
        let page = account.rates(call, context).await?;
        let page = rates_within(account, &page, first, last).slice(0..search.missing);
        search.found(page.len(), last);
        pages.push(page);
    }
    Ok(Rows::concat(&pages))
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
/// Why a page has no answer.
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
    let mut search = BackwardSearch::new(last, count);
    let mut pages = Vec::new();
    while let Some(range) = search.range() {
        let page = ticks_between(account, context, symbol, range, flags).await?;
        search.found(page.len(), range.0);
        pages.push(page);
    }
    pages.reverse();
    let all = Rows::concat(&pages);
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
        fn pages_with_rows_outside_of_them_join_without_gap_or_double(
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
            let (mut joined, mut pages) = (Vec::new(), Pages { next: from, last: to });
            while let Some((first, last)) = pages.next(span) {
                joined.push(within(&terminal(first, last), first, last, |bar| bar.time));
            }
            let expected: Vec<i64> =
                bars.iter().map(|bar| bar.time).filter(|time| (from..=to).contains(time)).collect();
            prop_assert_eq!(times(&Rows::concat(&joined)), expected);
        }
    }
}
