//! Asking terminals for what is new: when, for what, and what an answer says.
//!
//! The decisions are pure: [`PollSchedule`] says what to poll, [`TickCursor`] which ticks are new and
//! what to ask next. [`terminals`] carries a round out and reports topic by topic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::topic::{EventKind, Topic};
use crate::mt5::{
    BookEntry, CopyTicks, Mt5Call, Rows, Selection, SymbolName, Tick, UtcTime, calls,
};
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Failure;
use crate::trading::tag;

/// Ticks that are asked for at once, beside those of the last second that are known.
const BATCH: usize = 1_000;

/// Which topics of a kind a round polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that are subscribed to. The interval begins with this round.
    All,
    /// Those that are new since their last round.
    New,
}

/// When the topics of one kind are polled: every topic once in an interval, a new one at once, one
/// round after the other.
#[derive(Debug, Default)]
pub struct PollSchedule {
    /// A round is under way, or a panicked one is being waited out.
    busy: bool,
    /// The interval is running.
    timed: bool,
    /// The interval has passed.
    due: bool,
}

impl PollSchedule {
    /// Notes that the interval has passed.
    pub fn interval_over(&mut self) {
        (self.timed, self.due) = (false, true);
    }

    /// Notes that the round is over, and so is the pause after one that panicked.
    pub fn round_over(&mut self) {
        self.busy = false;
    }

    /// The round to begin now. `any`: whether a topic is subscribed to; `urgent`: whether one of
    /// them is new, or something is left behind of one that nobody subscribes to any more.
    pub fn next(&mut self, any: bool, urgent: bool) -> Option<Scope> {
        let scope = match self {
            PollSchedule { busy: true, .. } => return None,
            PollSchedule { timed, due, .. } if any && (*due || !*timed) => Scope::All,
            _ if urgent => Scope::New,
            _ => return None,
        };
        self.busy = true;
        if scope == Scope::All {
            (self.timed, self.due) = (true, false);
        }
        Some(scope)
    }
}

/// How far a symbol's ticks were read. The terminal takes whole seconds, so the ticks of the last
/// second come again; as many as are known are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickCursor {
    second: i64,
    seen: usize,
}

/// What an answer to a request for ticks says.
struct Page {
    /// The ticks that are new.
    fresh: Rows<Tick>,
    /// How far they reach.
    cursor: TickCursor,
    /// Whether there may be more now.
    more: bool,
}

impl TickCursor {
    /// A cursor before the first tick of a second.
    pub fn at(second: i64) -> TickCursor {
        TickCursor { second, seen: 0 }
    }

    /// How many ticks to ask for.
    fn count(self) -> usize {
        self.seen + BATCH
    }

    /// Reads ticks that were asked for with this cursor's second and [`count`](Self::count).
    fn read(self, ticks: &Rows<Tick>) -> Page {
        let known = ticks.iter().take(self.seen).take_while(|tick| tick.time == self.second);
        let fresh = ticks.slice(known.count()..ticks.len());
        let is_full = ticks.len() >= self.count();
        if fresh.is_empty() {
            // A terminal that gives nothing new for all that it gives is not asked again.
            return Page { fresh, cursor: self, more: false };
        }
        Page { cursor: self.after(ticks), fresh, more: is_full }
    }

    /// The cursor after these ticks.
    fn after(self, ticks: &Rows<Tick>) -> TickCursor {
        let Some(last) = ticks.iter().next_back() else {
            return self;
        };
        let seen = ticks.iter().rev().take_while(|tick| tick.time == last.time).count();
        TickCursor { second: last.time, seen }
    }
}

/// The tick with which a stream begins, the newest there is, and how far the ticks are read with it.
/// `last` is the symbol's last tick, `ticks` are those since its second, asked for later.
fn begin(last: Tick, ticks: &Rows<Tick>) -> (Tick, TickCursor) {
    let since = TickCursor::at(last.time);
    (ticks.iter().next_back().unwrap_or(last), since.after(ticks))
}

/// A terminal on which a symbol's book is open: a session, and since when it is ready. A terminal
/// that was replaced has forgotten the book.
pub type OpenBook = (usize, Timestamp);

/// What a round found out about a topic.
#[derive(Debug)]
pub enum Polled {
    /// Ticks, oldest first, and how far the symbol was read.
    Ticks(Vec<Bytes>, TickCursor),
    /// How it stands now.
    State(Bytes),
    /// The symbol's book was opened.
    BookOpened(Option<OpenBook>),
    /// The terminal could not be asked.
    Failed(CallError),
}

/// A topic to poll, and what is known of it.
#[derive(Debug)]
pub struct Ask {
    /// The topic.
    pub topic: Topic,
    /// How far its ticks were read. `None`: its stream begins with the last tick.
    pub ticks: Option<TickCursor>,
    /// Where its book is open.
    pub book: Option<OpenBook>,
}

/// Takes what a round found out.
pub type OnPolled = Box<dyn Fn(&Topic, Polled) + Send + Sync>;

/// One poll of the topics of a kind.
pub struct Round {
    /// Whose topics.
    pub account: Arc<Account>,
    /// How long a terminal may take for a call.
    pub timeout: Duration,
    /// What to poll, in this order.
    pub asks: Vec<Ask>,
    /// Topics whose books are to be closed.
    pub release: Vec<Topic>,
    /// Takes what was found out.
    pub report: OnPolled,
}

/// Carries out a round.
pub type Poll = Arc<dyn Fn(Round) -> BoxFuture<'static, ()> + Send + Sync>;

/// Carries out rounds by asking terminals.
pub fn terminals() -> Poll {
    Arc::new(|round| async move { round.run().await }.boxed())
}

impl Round {
    async fn run(&self) {
        for topic in &self.release {
            // A book that stays open costs the terminal little, and nobody waits for it.
            let _ = self.ask(calls::MarketBookRelease { symbol: symbol_of(topic) }).await;
        }
        for ask in &self.asks {
            if let Err(error) = self.poll(ask).await {
                (self.report)(&ask.topic, Polled::Failed(error));
            }
        }
    }

    async fn poll(&self, ask: &Ask) -> Result<(), CallError> {
        let topic = &ask.topic;
        let state = match topic.kind {
            EventKind::Ticks => return self.poll_ticks(topic, ask.ticks).await,
            EventKind::Book => self.book(topic, ask.book).await?,
            EventKind::Positions => {
                self.state(calls::PositionsGet { selection: Selection::All }).await?
            }
            EventKind::Orders => self.state(calls::OrdersGet { selection: Selection::All }).await?,
            EventKind::Account => self.state(calls::AccountInfo).await?,
        };
        (self.report)(topic, Polled::State(state));
        Ok(())
    }

    async fn book(&self, topic: &Topic, open: Option<OpenBook>) -> Result<Bytes, CallError> {
        let (symbol, primary) = (symbol_of(topic), self.account.primary_since());
        if open.is_none() || open != primary {
            self.ask(calls::MarketBookAdd { symbol: symbol.clone() }).await?;
            (self.report)(topic, Polled::BookOpened(primary));
        }
        let book = self.ask(calls::MarketBookGet { symbol: symbol.clone() }).await?;
        json(&SymbolBook { symbol: &symbol, book })
    }

    /// A state of the account, without the tags of our own trades.
    async fn state<C: Mt5Call<Reply: Serialize>>(&self, call: C) -> Result<Bytes, CallError> {
        let mut reply = self.ask(call).await?;
        tag::strip_answer(&mut reply);
        json(&reply)
    }

    async fn poll_ticks(&self, topic: &Topic, cursor: Option<TickCursor>) -> Result<(), CallError> {
        let symbol = topic.symbol.as_deref().unwrap_or_default();
        let event = |tick: Tick| json(&SymbolTick { symbol, tick });
        let Some(mut cursor) = cursor else {
            let last = self
                .ask(calls::SymbolInfoTick { symbol: SymbolName::from_trusted(symbol) })
                .await?;
            let ticks = self.ticks_from(symbol, TickCursor::at(last.time)).await?;
            let (newest, cursor) = begin(last, &ticks);
            (self.report)(topic, Polled::Ticks(vec![event(newest)?], cursor));
            return Ok(());
        };
        loop {
            let page = cursor.read(&self.ticks_from(symbol, cursor).await?);
            cursor = page.cursor;
            let events = page.fresh.iter().map(event).collect::<Result<_, _>>()?;
            (self.report)(topic, Polled::Ticks(events, cursor));
            if !page.more {
                if let Some(newest) = page.fresh.iter().next_back() {
                    self.account.see_newest_tick(symbol, newest);
                }
                return Ok(());
            }
        }
    }

    async fn ticks_from(&self, symbol: &str, since: TickCursor) -> Result<Rows<Tick>, CallError> {
        let count = u32::try_from(since.count()).unwrap_or(u32::MAX);
        let (symbol, flags) = (SymbolName::from_trusted(symbol), CopyTicks::All);
        let date_from = self.account.utc_to_server(UtcTime::from_seconds(since.second));
        self.ask(calls::CopyTicksFrom { symbol, date_from, count, flags }).await
    }

    async fn ask<C: Mt5Call>(&self, call: C) -> Result<C::Reply, CallError> {
        // Twice what the terminal may take, so that it is the session that says what went wrong.
        let deadline = Instant::now() + 2 * self.timeout;
        let context = CallContext::new("stream".into(), deadline);
        self.account.call(call, &context).await
    }
}

fn symbol_of(topic: &Topic) -> SymbolName {
    SymbolName::from_trusted(topic.symbol.as_deref().unwrap_or_default())
}

/// A symbol's tick.
#[derive(Serialize)]
struct SymbolTick<'a> {
    symbol: &'a str,
    #[serde(flatten)]
    tick: Tick,
}

/// A symbol's depth of market.
#[derive(Serialize)]
struct SymbolBook<'a> {
    symbol: &'a str,
    book: Vec<BookEntry>,
}

fn json(value: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Failure::Unusable(format!("an event cannot be written: {error}")).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tick(time: i64, flags: u32) -> Tick {
        let time_msc = time * 1000;
        Tick { time, bid: 1.0, ask: 1.0, last: 0.0, volume: 0, time_msc, flags, volume_real: 0.0 }
    }

    fn cursor(second: i64, seen: usize) -> TickCursor {
        TickCursor { second, seen }
    }

    proptest! {
        /// Whatever arrives between polls, each tick is told once and in order.
        #[test]
        fn no_tick_is_lost_or_doubled(
            steps in proptest::collection::vec(0i64..3, 1..200),
            polls in proptest::collection::vec(0usize..40, 1..50),
        ) {
            let mut time = 1000;
            let all: Vec<Tick> = steps
                .iter()
                .zip(0..)
                .map(|(step, number)| {
                    time += step;
                    tick(time, number)
                })
                .collect();
            let (mut since, mut there, mut told) = (TickCursor::at(0), 0, vec![]);
            for more in polls.into_iter().chain([all.len()]) {
                there = (there + more).min(all.len());
                let given = all[..there].iter().filter(|tick| tick.time >= since.second).copied();
                let page = since.read(&Rows::pack(given));
                told.extend(page.fresh.iter().map(|tick| tick.flags));
                since = page.cursor;
            }
            prop_assert_eq!(told, (0..all.len() as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn read_passes_over_what_is_known_and_asks_again_while_answers_are_full() {
        let full: Vec<i64> = std::iter::repeat_n(7, BATCH).collect();
        let too_full: Vec<i64> = std::iter::repeat_n(7, BATCH + 2).collect();
        let cases: [(TickCursor, &[i64], usize, TickCursor, bool); 7] = [
            (cursor(7, 2), &[], 0, cursor(7, 2), false),
            (cursor(7, 2), &[7, 7], 0, cursor(7, 2), false),
            (cursor(7, 2), &[7, 7, 7], 1, cursor(7, 3), false),
            (cursor(7, 2), &[7, 7, 8, 8], 2, cursor(8, 2), false),
            // The second is gone from the terminal's history.
            (cursor(7, 2), &[8], 1, cursor(8, 1), false),
            (cursor(7, 0), &full, BATCH, cursor(7, BATCH), true),
            (cursor(7, BATCH + 2), &too_full, 0, cursor(7, BATCH + 2), false),
        ];
        for (since, times, fresh, expected, more) in cases {
            let page = since.read(&Rows::pack(times.iter().map(|time| tick(*time, 0))));
            assert_eq!((page.fresh.len(), page.cursor, page.more), (fresh, expected, more));
        }
    }

    #[test]
    fn a_stream_begins_with_the_newest_tick() {
        let last = tick(7, 1);
        let cases = [
            (vec![], 1, cursor(7, 0)),
            (vec![tick(7, 0), tick(7, 1)], 1, cursor(7, 2)),
            // Another one came between the two answers.
            (vec![tick(7, 1), tick(8, 2)], 2, cursor(8, 1)),
        ];
        for (ticks, newest, expected) in cases {
            let ticks = Rows::pack(ticks);
            let (tick, cursor) = begin(last, &ticks);
            assert_eq!((tick.flags, cursor), (newest, expected));
        }
    }

    #[test]
    fn schedule_polls_all_once_in_an_interval_and_new_topics_at_once() {
        #[derive(Debug)]
        enum Happens {
            Nothing,
            IntervalOver,
            RoundOver,
        }
        use Happens::{IntervalOver, Nothing, RoundOver};
        use Scope::{All, New};
        let mut schedule = PollSchedule::default();
        // What happens, whether a topic is subscribed to, whether one is new or left; the round.
        let steps = [
            (Nothing, false, false, None),
            (Nothing, true, true, Some(All)),
            (Nothing, true, true, None), // one after the other
            (RoundOver, true, true, Some(New)),
            (RoundOver, true, false, None), // the interval is running
            (IntervalOver, true, true, Some(All)),
            (IntervalOver, true, false, None), // the round takes longer than the interval
            (RoundOver, true, false, Some(All)),
            (RoundOver, false, true, Some(New)), // the last book is closed
            (RoundOver, false, false, None),
            (IntervalOver, false, false, None),
            (Nothing, true, true, Some(All)),
        ];
        for (number, (happens, any, urgent, expected)) in steps.into_iter().enumerate() {
            match happens {
                Nothing => {}
                IntervalOver => schedule.interval_over(),
                RoundOver => schedule.round_over(),
            }
            assert_eq!(schedule.next(any, urgent), expected, "step {number}");
        }
    }
}
