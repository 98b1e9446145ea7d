//! Histories that the package has no function for: bars forward from a date,
//! ticks backward from one, and ranges of more rows than a terminal gives at
//! once, which come in [`Pieces`].

use std::sync::Arc;
use std::time::Duration;

use super::call::{CallError, Context};
use super::directory::Account;
use crate::mt5::{Answer, CopyTicks, Rate, Request, Rows, Tick, Timeframe};
use crate::terminal::Failure;

/// Bars that one piece asks for at most, below what terminals usually allow.
const PIECE: i64 = 50_000;

/// Bars that every terminal gives at once. Asking for more is worth asking it first how
/// many it gives.
const CERTAIN: i64 = 5_000;

/// Seconds of ticks that one piece asks for: a day, which may have half a million.
const TICKS_PIECE: i64 = 86_400;

/// What a range is padded with: a weekend and a holiday.
const PAUSE: i64 = 4 * 86_400;

/// How far back ticks are looked for, seconds: a year.
const TICKS_REACH: i64 = 366 * 86_400;

/// Servers' clocks run at most this far ahead of UTC, seconds.
const CLOCK_LEAD: i64 = 14 * 3600;

/// The bars of an answer.
///
/// # Errors
/// If it is of another kind.
pub fn rates(answer: Answer) -> Result<Rows<Rate>, CallError> {
    match answer {
        Answer::Rates(rows) => Ok(rows),
        _ => Err(unusable("bars")),
    }
}

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

/// A part of a history.
#[derive(Debug)]
pub struct Piece<T> {
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
        context: &Context,
    ) -> impl Future<Output = Result<Option<Piece<Self::Rows>>, CallError>> + Send;

    /// Whether no part is left.
    fn is_done(&self) -> bool;
}

/// A range of bars.
pub struct RateRange {
    account: Arc<Account>,
    symbol: String,
    timeframe: Timeframe,
    /// The first opening time that is still to be asked for.
    start: i64,
    /// The last one.
    to: i64,
    /// Seconds that a part asks for; `None`: not known yet.
    span: Option<i64>,
}

impl RateRange {
    /// The bars that open from one moment to another, both included.
    pub fn new(
        account: Arc<Account>,
        symbol: String,
        timeframe: Timeframe,
        from: i64,
        to: i64,
    ) -> RateRange {
        let whole = (to - from) / timeframe.seconds() < CERTAIN;
        let span = whole.then_some(to - from + 1);
        RateRange { account, symbol, timeframe, start: from, to, span }
    }
}

impl Pieces for RateRange {
    type Rows = Rows<Rate>;

    async fn next(&mut self, context: &Context) -> Result<Option<Piece<Rows<Rate>>>, CallError> {
        if self.is_done() {
            return Ok(None);
        }
        let span = match self.span {
            Some(span) => span,
            None => {
                let Answer::TerminalInfo(info) =
                    self.account.call(Request::TerminalInfo, context).await?
                else {
                    return Err(unusable("its settings"));
                };
                // A terminal without a limit says 0.
                let most = if info.maxbars > 0 { info.maxbars } else { PIECE };
                most.clamp(1, PIECE) * self.timeframe.seconds()
            }
        };
        self.span = Some(span);
        let end = self.to.min(self.start + span - 1);
        let piece = self
            .account
            .rates_range(&self.symbol, self.timeframe, (self.start, end), context)
            .await?;
        self.start = end + 1;
        Ok(Some(piece))
    }

    fn is_done(&self) -> bool {
        self.start > self.to
    }
}

/// A range of ticks.
pub struct TickRange {
    account: Arc<Account>,
    symbol: String,
    flags: CopyTicks,
    /// The first second that is still to be asked for.
    start: i64,
    /// The last one, of which only the first millisecond belongs to the range.
    to: i64,
}

impl TickRange {
    /// The ticks from one moment to another, both included.
    pub fn new(
        account: Arc<Account>,
        symbol: String,
        flags: CopyTicks,
        from: i64,
        to: i64,
    ) -> TickRange {
        TickRange { account, symbol, flags, start: from, to }
    }
}

impl Pieces for TickRange {
    type Rows = Rows<Tick>;

    async fn next(&mut self, context: &Context) -> Result<Option<Piece<Rows<Tick>>>, CallError> {
        if self.is_done() {
            return Ok(None);
        }
        let last = self.to - self.start <= TICKS_PIECE;
        let end = if last { self.to } else { self.start + TICKS_PIECE };
        let request = Request::CopyTicksRange {
            symbol: self.symbol.clone(),
            date_from: self.start,
            date_to: end,
            flags: self.flags,
        };
        let rows = ticks(self.account.call(request, context).await?)?;
        // The end of one part is the beginning of the next; only the terminal's own
        // rule decides what still belongs to the last.
        let too_late = |tick: &Tick| !last && tick.time_msc >= end * 1000;
        let late = rows.iter().rev().take_while(too_late).count();
        let rows = rows.slice(0..rows.len() - late);
        self.start = if last { self.to + 1 } else { end };
        Ok(Some(Piece { rows, age: None }))
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
    context: &Context,
    symbol: &str,
    timeframe: Timeframe,
    from: i64,
    count: u32,
) -> Result<Rows<Rate>, CallError> {
    let end = jiff::Timestamp::now().as_second() + CLOCK_LEAD;
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
        let request = Request::CopyRatesRange {
            symbol: symbol.to_owned(),
            timeframe,
            date_from: start,
            date_to: start + span - 1,
        };
        let piece = rates(account.call(request, context).await?)?;
        let piece = piece.slice(0..count - found);
        patience = if piece.is_empty() { patience.saturating_mul(2) } else { 1 };
        found += piece.len();
        pieces.push(piece);
        start += span;
        if found == count || start > end {
            return Ok(Rows::concat(&pieces));
        }
    }
}

/// The last `count` ticks at or before `to`, or the last there are. Looks back
/// over stretches that double until there are enough, at most a year.
///
/// # Errors
/// Why a piece has no answer.
pub async fn ticks_backward(
    account: &Account,
    context: &Context,
    symbol: &str,
    to: Option<i64>,
    count: u32,
    flags: CopyTicks,
) -> Result<Rows<Tick>, CallError> {
    // The first millisecond that is too late.
    let end = match to {
        Some(to) => to * 1000 + 1,
        None => {
            let request = Request::SymbolInfoTick { symbol: symbol.to_owned() };
            match account.call(request, context).await? {
                Answer::Tick(tick) => tick.time_msc + 1,
                _ => return Err(unusable("a tick")),
            }
        }
    };
    let count = count as usize;
    let (mut pieces, mut found) = (Vec::new(), 0);
    let (mut piece_end, mut span) = (end, 60i64.max(count as i64));
    while found < count && piece_end > 0 && end - piece_end < TICKS_REACH * 1000 {
        let start = (piece_end / 1000 - span).max(0);
        let request = Request::CopyTicksRange {
            symbol: symbol.to_owned(),
            date_from: start,
            // A range ends with its last second's first millisecond.
            date_to: piece_end / 1000 + 1,
            flags,
        };
        let piece = ticks(account.call(request, context).await?)?;
        let late = piece.iter().rev().take_while(|tick| tick.time_msc >= piece_end).count();
        let piece = piece.slice(0..piece.len() - late);
        found += piece.len();
        pieces.push(piece);
        piece_end = start * 1000;
        span = span.saturating_mul(2);
    }
    pieces.reverse();
    let all = Rows::concat(&pieces);
    Ok(all.slice(all.len().saturating_sub(count)..all.len()))
}
