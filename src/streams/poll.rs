//! The loops that look for changes, one for each account and kind that is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::event::{Content, Kind, Topic};
use super::hub::Hub;
use crate::mt5::{Answer, BookEntry, CopyTicks, Request, Rows, Selection, Tick};
use crate::pool::{CallError, Context, bars};
use crate::terminal::Failure;
use crate::trading::tag;

/// Ticks that are asked for at once, beside those of the last second that are known.
const BATCH: usize = 1_000;

/// How far a symbol's ticks were read. The package takes whole seconds, so the
/// ticks of the last second come again; as many as are known are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TickCursor {
    second: i64,
    seen: usize,
}

/// What a loop knows of a topic beside what the hub knows.
#[derive(Default)]
struct Watched {
    generation: u64,
    ticks: Option<TickCursor>,
    /// Since when the session on which the book is open has been ready.
    book: Option<(usize, jiff::Timestamp)>,
}

/// Polls a kind of event until nobody reads it.
pub(super) async fn run(hub: Arc<Hub>, kind: Kind) {
    let options = &hub.options;
    let every = if kind == Kind::Ticks { options.tick_interval } else { options.state_interval };
    let mut ticking = tokio::time::interval(every);
    ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched: BTreeMap<Topic, Watched> = BTreeMap::new();
    loop {
        // A new topic is asked about at once.
        let mut look_all = false;
        tokio::select! {
            _ = ticking.tick() => look_all = true,
            () = hub.changed(kind) => {}
        }
        let topics = hub.topics(kind);
        let gone: Vec<Topic> =
            watched.keys().filter(|topic| !topics.contains_key(topic)).cloned().collect();
        for topic in gone {
            if let Some(Watched { book: Some(_), .. }) = watched.remove(&topic) {
                let _ = ask(&hub, book_request(&topic, BookStep::Release)).await;
            }
        }
        if topics.is_empty() {
            return;
        }
        let begun = Instant::now();
        for (topic, generation) in topics {
            let state = watched.entry(topic.clone()).or_default();
            let is_new = std::mem::replace(&mut state.generation, generation) != generation;
            if !is_new && !look_all {
                continue;
            }
            if let Err(error) = look(&hub, &topic, state, is_new).await {
                hub.tell_failure(&topic, error);
            }
        }
        if let Some(instruments) = &hub.instruments {
            instruments.polled(kind.name(), begun.elapsed());
        }
    }
}

async fn ask(hub: &Hub, request: Request) -> Result<Answer, CallError> {
    // Twice what the terminal may take, so that it is the session that says what went wrong.
    let deadline = Instant::now() + 2 * hub.options.timeout;
    let context = Context { request_id: "stream".into(), deadline };
    hub.account.call(request, &context).await
}

async fn look(
    hub: &Hub,
    topic: &Topic,
    state: &mut Watched,
    is_new: bool,
) -> Result<(), CallError> {
    let answer = match topic.kind {
        Kind::Ticks => {
            if is_new {
                state.ticks = hub.begin_ticks(topic);
            }
            return look_for_ticks(hub, topic, &mut state.ticks).await;
        }
        Kind::Book => {
            // A terminal that was replaced has forgotten its subscriptions.
            let primary = hub.account.primary_since();
            if state.book.is_none() || state.book != primary {
                ask(hub, book_request(topic, BookStep::Add)).await?;
                state.book = primary;
            }
            ask(hub, book_request(topic, BookStep::Get)).await?
        }
        Kind::Positions => ask(hub, Request::PositionsGet { selection: Selection::All }).await?,
        Kind::Orders => ask(hub, Request::OrdersGet { selection: Selection::All }).await?,
        Kind::Account => ask(hub, Request::AccountInfo).await?,
    };
    hub.tell_state(topic, written(topic, answer)?);
    Ok(())
}

enum BookStep {
    Add,
    Get,
    Release,
}

fn book_request(topic: &Topic, step: BookStep) -> Request {
    let symbol = topic.symbol.as_deref().unwrap_or_default().to_owned();
    match step {
        BookStep::Add => Request::MarketBookAdd { symbol },
        BookStep::Get => Request::MarketBookGet { symbol },
        BookStep::Release => Request::MarketBookRelease { symbol },
    }
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

fn written(topic: &Topic, mut answer: Answer) -> Result<Bytes, CallError> {
    tag::strip_answer(&mut answer);
    match answer {
        Answer::Book(book) => {
            json(&SymbolBook { symbol: topic.symbol.as_deref().unwrap_or_default(), book })
        }
        other => json(&other),
    }
}

/// Ticks since the last look; for a topic without one, the last tick.
async fn look_for_ticks(
    hub: &Hub,
    topic: &Topic,
    cursor: &mut Option<TickCursor>,
) -> Result<(), CallError> {
    let symbol = topic.symbol.as_deref().unwrap_or_default();
    let event = |tick: Tick| json(&SymbolTick { symbol, tick }).map(Content::Data);
    let since = match *cursor {
        Some(since) => since,
        None => {
            let request = Request::SymbolInfoTick { symbol: symbol.to_owned() };
            let Answer::Tick(last) = ask(hub, request).await? else {
                return Err(Failure::Unusable("the terminal gave no tick".to_owned()).into());
            };
            let second = last.time;
            let ticks = ticks_from(hub, symbol, second, BATCH).await?;
            // The stream begins with the tick that is the last now.
            let (first, known) = match ticks.iter().next_back() {
                Some(newest) => (newest, after(&ticks, TickCursor { second, seen: 0 })),
                None => (last, TickCursor { second, seen: 0 }),
            };
            *cursor = Some(known);
            hub.tell_ticks(topic, vec![event(first)?], known);
            return Ok(());
        }
    };
    let mut since = since;
    loop {
        let asked = since.seen + BATCH;
        let ticks = ticks_from(hub, symbol, since.second, asked).await?;
        let fresh = ticks.slice(known_of(&ticks, since)..ticks.len());
        let events = fresh.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let is_all = ticks.len() < asked;
        if !fresh.is_empty() {
            since = after(&ticks, since);
        }
        *cursor = Some(since);
        hub.tell_ticks(topic, events, since);
        if is_all || fresh.is_empty() {
            return Ok(());
        }
    }
}

async fn ticks_from(
    hub: &Hub,
    symbol: &str,
    date_from: i64,
    count: usize,
) -> Result<Rows<Tick>, CallError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let (symbol, flags) = (symbol.to_owned(), CopyTicks::All);
    bars::ticks(ask(hub, Request::CopyTicksFrom { symbol, date_from, count, flags }).await?)
}

/// How many of these ticks, which begin with the cursor's second, are known.
fn known_of(ticks: &Rows<Tick>, since: TickCursor) -> usize {
    ticks.iter().take(since.seen).take_while(|tick| tick.time == since.second).count()
}

/// Where the reading of these ticks has come to.
fn after(ticks: &Rows<Tick>, since: TickCursor) -> TickCursor {
    let Some(last) = ticks.iter().next_back() else {
        return since;
    };
    let seen = ticks.iter().rev().take_while(|tick| tick.time == last.time).count();
    TickCursor { second: last.time, seen }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tick(time: i64, flags: u32) -> Tick {
        let time_msc = time * 1000;
        Tick { time, bid: 1.0, ask: 1.0, last: 0.0, volume: 0, time_msc, flags, volume_real: 0.0 }
    }

    proptest! {
        /// Whatever arrives between looks, each tick is told once and in order.
        #[test]
        fn no_tick_is_lost_or_doubled(
            steps in proptest::collection::vec(0i64..3, 1..200),
            looks in proptest::collection::vec(0usize..40, 1..50),
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
            let (mut since, mut there, mut told) = (TickCursor { second: 0, seen: 0 }, 0, vec![]);
            for more in looks.into_iter().chain([all.len()]) {
                there = (there + more).min(all.len());
                let given = all[..there].iter().filter(|tick| tick.time >= since.second).copied();
                let given = Rows::pack(given);
                let fresh = given.slice(known_of(&given, since)..given.len());
                told.extend(fresh.iter().map(|tick| tick.flags));
                since = after(&given, since);
            }
            prop_assert_eq!(told, (0..all.len() as u32).collect::<Vec<_>>());
        }
    }
}
