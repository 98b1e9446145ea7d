//! The loops that look for changes, one for each account and kind that is read.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::error;

use super::event::{Content, Kind, Topic};
use super::hub::Hub;
use crate::actor::panic_message;
use crate::mt5::{
    BookEntry, CopyTicks, Mt5Call, Rows, Selection, SymbolName, Tick, UtcTime, calls,
};
use crate::pool::{CallContext, CallError};
use crate::terminal::Failure;
use crate::trading::tag;

/// Ticks that are asked for at once, beside those of the last second that are known.
const BATCH: usize = 1_000;

/// When a loop that panicked is started again. The delay doubles with each panic in a row.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Polls a kind of event of a hub's account until nobody reads it.
pub(super) type Poll = Arc<dyn Fn(Arc<Hub>, Kind) -> BoxFuture<'static, ()> + Send + Sync>;

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

/// The loop that asks terminals. A test may have another.
pub(super) fn terminals() -> Poll {
    Arc::new(|hub, kind| run(hub, kind).boxed())
}

/// Runs the loop of a kind until nobody reads it, and starts it again if it panics. Without this its
/// readers would get heartbeats and never an event, because nobody awaits the loop's task.
pub(super) async fn supervise(hub: Arc<Hub>, kind: Kind) {
    let mut delay = FIRST_DELAY;
    loop {
        let began = Instant::now();
        let ended = AssertUnwindSafe((hub.poll)(hub.clone(), kind)).catch_unwind().await;
        let Err(panic) = ended else {
            return;
        };
        // A loop that ran for so long has nothing to do with the panic before.
        if began.elapsed() > LONGEST_DELAY {
            delay = FIRST_DELAY;
        }
        error!(
            task = kind.name(),
            account = hub.account.name,
            reason = panic_message(&*panic),
            retry_in = ?delay,
            "poll loop restarting"
        );
        hub.tell_panic(kind);
        tokio::time::sleep(delay).await;
        delay = LONGEST_DELAY.min(2 * delay);
    }
}

/// Polls a kind of event until nobody reads it.
async fn run(hub: Arc<Hub>, kind: Kind) {
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
                let _ = ask(&hub, calls::MarketBookRelease { symbol: symbol_of(&topic) }).await;
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
            instruments.polled(kind as usize, begun.elapsed());
        }
    }
}

async fn ask<C: Mt5Call>(hub: &Hub, call: C) -> Result<C::Reply, CallError> {
    // Twice what the terminal may take, so that it is the session that says what went wrong.
    let deadline = Instant::now() + 2 * hub.options.timeout;
    let context = CallContext::new("stream".into(), deadline);
    hub.account.call(call, &context).await
}

async fn look(
    hub: &Hub,
    topic: &Topic,
    state: &mut Watched,
    is_new: bool,
) -> Result<(), CallError> {
    let event = match topic.kind {
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
                ask(hub, calls::MarketBookAdd { symbol: symbol_of(topic) }).await?;
                state.book = primary;
            }
            let symbol = symbol_of(topic);
            let book = ask(hub, calls::MarketBookGet { symbol: symbol.clone() }).await?;
            json(&SymbolBook { symbol: &symbol, book })?
        }
        Kind::Positions => state_of(hub, calls::PositionsGet { selection: Selection::All }).await?,
        Kind::Orders => state_of(hub, calls::OrdersGet { selection: Selection::All }).await?,
        Kind::Account => state_of(hub, calls::AccountInfo).await?,
    };
    hub.tell_state(topic, event);
    Ok(())
}

/// Asks for a state of the account, without the tags of our own trades.
async fn state_of<C>(hub: &Hub, call: C) -> Result<Bytes, CallError>
where
    C: Mt5Call<Reply: Serialize>,
{
    let mut reply = ask(hub, call).await?;
    tag::strip_answer(&mut reply);
    json(&reply)
}

fn symbol_of(topic: &Topic) -> SymbolName {
    SymbolName::known(topic.symbol.as_deref().unwrap_or_default())
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
            let last =
                ask(hub, calls::SymbolInfoTick { symbol: SymbolName::known(symbol) }).await?;
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
    second: i64,
    count: usize,
) -> Result<Rows<Tick>, CallError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let (symbol, flags) = (SymbolName::known(symbol), CopyTicks::All);
    let date_from = hub.account.utc_to_server(UtcTime::from_seconds(second));
    ask(hub, calls::CopyTicksFrom { symbol, date_from, count, flags }).await
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
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::actor::Depths;
    use crate::metrics::{self, Catalog, LabelSets, Metrics, StatusLabels};
    use crate::mt5::ServerClock;
    use crate::pool::{AccountOptions, Accounts, Savings};
    use crate::streams::{Admission, Item, Options, Reader};
    use crate::terminal::{EventSink, Launch, Lease, Mode, Terminal};

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

    /// Starts nothing: no session is started in these tests.
    struct NoTerminal;

    impl Launch for NoTerminal {
        fn launch(&self, _: Lease, _: EventSink) -> Box<dyn Terminal> {
            unreachable!("no session is started")
        }

        fn mode(&self) -> Mode {
            Mode::Simulated
        }

        fn init_timeout(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// A hub of the account `demo`, none of whose sessions is ready.
    fn hub(poll: Poll) -> Arc<Hub> {
        let measured = metrics::Options {
            enabled: false,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![1.0],
            call_buckets: vec![1.0],
        };
        let catalog =
            Catalog::new(&measured, &[("demo".to_owned(), 1)], &LabelSets::default()).unwrap();
        let account = AccountOptions {
            name: "demo".to_owned(),
            login: 1,
            server: "S".to_owned(),
            sessions: 1,
            queue: 1,
            trade: false,
            send_within: Duration::from_secs(5),
            send_within_close: Duration::from_secs(30),
            clock: ServerClock::RAW,
            launcher: Arc::new(NoTerminal),
        };
        let depths = Depths::default();
        let savings = Savings { share: false, cache: 0 };
        let unmeasured = Metrics::new(&depths, false);
        let accounts = Accounts::new(vec![account], savings, &catalog, &unmeasured, &depths);
        let account = accounts.get("demo").unwrap().clone();
        let options = Options {
            max: 1,
            tick_interval: Duration::from_millis(10),
            state_interval: Duration::from_millis(10),
            heartbeat: Duration::from_secs(1),
            buffer: 1 << 20,
            timeout: Duration::from_secs(1),
        };
        Arc::new(Hub::new(account, "boot".into(), options, None, poll))
    }

    async fn next(reader: &mut Reader) -> Content {
        let item = tokio::time::timeout(Duration::from_secs(30), reader.next()).await.unwrap();
        match item {
            Item::Event(event) => event.content.clone(),
            Item::Gap { .. } => panic!("nothing was missed"),
        }
    }

    #[tokio::test]
    async fn a_reader_that_comes_in_the_middle_of_a_look_sees_no_hole() {
        let hub = hub(Arc::new(|_, _| std::future::pending().boxed()));
        let topic = Topic { kind: Kind::Ticks, symbol: Some("EURUSD".into()) };
        let subscribe = || hub.subscribe(vec![topic.clone()], None, Admission(Arc::default()));
        let tick = || Content::Data(Bytes::from_static(b"{}"));
        let cursor = TickCursor { second: 7, seen: 1 };

        let first = subscribe();
        assert_eq!(hub.begin_ticks(&topic), None);
        hub.tell_ticks(&topic, vec![tick()], cursor);
        drop(first);
        // The look that goes on tells the second reader a tick, so its stream goes on from there.
        let mut second = subscribe();
        hub.tell_ticks(&topic, vec![tick()], cursor);
        while !matches!(next(&mut second).await, Content::Data(_)) {}
        assert_eq!(hub.begin_ticks(&topic), Some(cursor));
        hub.tell_ticks(&topic, vec![], cursor);
        drop(second);
        // One that was told nothing begins with the last tick.
        let _third = subscribe();
        hub.tell_ticks(&topic, vec![], cursor);
        assert_eq!(hub.begin_ticks(&topic), None);
    }

    #[tokio::test]
    async fn a_loop_that_panics_is_told_once_and_goes_on_where_it_was() {
        let cursor = TickCursor { second: 7, seen: 1 };
        let begun = Arc::new(Mutex::new(Vec::new()));
        let runs = begun.clone();
        // The first run panics after a tick, the second one before it has told anything.
        let poll: Poll = Arc::new(move |hub: Arc<Hub>, kind: Kind| {
            let runs = runs.clone();
            async move {
                for topic in hub.topics(kind).keys() {
                    let since = hub.begin_ticks(topic);
                    let run = {
                        let mut runs = runs.lock().unwrap();
                        runs.push(since);
                        runs.len()
                    };
                    assert_ne!(run, 2, "injected");
                    let tick = Content::Data(Bytes::from_static(b"{}"));
                    hub.tell_ticks(topic, vec![tick], cursor);
                    if run == 1 {
                        // Called under the hub's lock, which is poisoned from now on.
                        hub.look(1, |_| panic!("injected"));
                    }
                }
                std::future::pending::<()>().await
            }
            .boxed()
        });
        let hub = hub(poll);
        let topic = Topic { kind: Kind::Ticks, symbol: Some("EURUSD".into()) };
        let mut reader = hub.subscribe(vec![topic], None, Admission(Arc::default()));
        assert!(matches!(next(&mut reader).await, Content::Data(_)));
        assert!(matches!(next(&mut reader).await, Content::PollPanicked));
        // What the second run had begun with is lost, so the third one says that ticks are missing.
        assert!(matches!(next(&mut reader).await, Content::Gap));
        assert!(matches!(next(&mut reader).await, Content::Data(_)));
        assert_eq!(*begun.lock().unwrap(), [None, Some(cursor), None]);
    }
}
