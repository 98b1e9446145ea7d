//! The actors of streams, with tests in the place of terminals.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use jiff::Timestamp;
use ractor::{Actor, ActorRef};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::poller::{Poll, Polled, Round, TickCursor};
use super::*;
use crate::account_name::AccountName;
use crate::actor::{Depths, Envelope, Role};
use crate::metrics::streams::StreamInstruments;
use crate::metrics::{self, Catalog, Collector, LabelSets, Metrics, collector};
use crate::mt5::ServerClock;
use crate::pool::{AccountOptions, Accounts, Savings};
use crate::terminal::{EventSink, Launch, Lease, Mode, Terminal};

/// Starts nothing: these tests start no session.
struct NoTerminal;

impl Launch for NoTerminal {
    fn launch(&self, _: usize, _: Lease, _: EventSink) -> Box<dyn Terminal> {
        unreachable!("no session is started")
    }

    fn mode(&self) -> Mode {
        Mode::Simulated
    }

    fn init_timeout(&self) -> Duration {
        Duration::ZERO
    }
}

/// A round that the test carries out.
struct Held {
    round: Round,
    panics: oneshot::Sender<bool>,
}

impl Held {
    fn topic(&self) -> &Topic {
        &self.round.asks[0].topic
    }

    fn ticks(&self) -> Option<TickCursor> {
        self.round.asks[0].ticks
    }

    /// Reports these ticks of the first topic, read up to a second.
    fn tell_ticks(&self, ticks: &[&'static str], second: i64) {
        let ticks = ticks.iter().map(|tick| Bytes::from_static(tick.as_bytes())).collect();
        (self.round.report)(self.topic(), Polled::Ticks(ticks, TickCursor::at(second)));
    }

    fn tell_state(&self, state: &'static str) {
        (self.round.report)(self.topic(), Polled::State(Bytes::from_static(state.as_bytes())));
    }

    fn end(self) {
        self.panics.send(false).unwrap();
    }

    fn panic(self) {
        self.panics.send(true).unwrap();
    }
}

/// The streams of the account `demo`.
struct Harness {
    streams: Streams,
    catalog: Arc<Catalog>,
    rounds: mpsc::UnboundedReceiver<Held>,
}

impl Harness {
    /// Nothing but the metrics actor is started.
    async fn new() -> Harness {
        let measured = metrics::Options::of_tests();
        let accounts = [("demo".to_owned(), 1)];
        let catalog = Catalog::new(&measured, &accounts, &LabelSets::default()).unwrap();
        let (catalog, depths) = (Arc::new(catalog), Depths::default());
        let metrics = Metrics::new(&depths, true);
        let args = collector::Args::new(catalog.clone(), depths.clone(), metrics.clone());
        Actor::spawn(None, Collector, args).await.unwrap();
        let account = AccountOptions {
            name: AccountName::from_trusted("demo"),
            login: 1,
            server: "S".to_owned(),
            sessions: 1,
            queue: 1,
            trade: false,
            paused: false,
            send_within: Duration::from_secs(5),
            send_within_close: Duration::from_secs(30),
            clock: ServerClock::RAW,
            launcher: Arc::new(NoTerminal),
            recycling: crate::pool::Recycling::default(),
        };
        let savings = Savings { share: false, cache: 0 };
        let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
        let options = Options {
            max: 10,
            tick_interval: Duration::from_secs(1),
            state_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            buffer: 1 << 20,
            timeout: Duration::from_secs(1),
        };
        let (sender, rounds) = mpsc::unbounded_channel();
        let poll: Poll = Arc::new(move |round| {
            let (panics, told) = oneshot::channel();
            let _ = sender.send(Held { round, panics });
            async move { assert!(!told.await.unwrap_or(false), "injected") }.boxed()
        });
        let instruments = StreamInstruments::new(catalog.clone());
        let stop = CancellationToken::new();
        let streams =
            Streams::with_poll(&accounts, options, Some(instruments), metrics, &depths, stop, poll);
        Harness { streams, catalog, rounds }
    }

    /// The same with the supervisor started.
    async fn started() -> Harness {
        let harness = Harness::new().await;
        harness.start().await;
        harness
    }

    async fn start(&self) -> (ActorRef<Envelope<supervisor::Msg>>, JoinHandle<()>) {
        Actor::spawn(None, StreamsActor, self.streams.supervisor()).await.unwrap()
    }

    async fn try_subscribe(&self, topics: &[Topic], id: Option<&str>) -> Option<Subscriber> {
        let (admission, id) = (self.streams.admit().unwrap(), id.map(str::to_owned));
        let demo = AccountName::from_trusted("demo");
        self.streams.subscribe(&demo, topics.to_vec(), id, admission).await
    }

    async fn subscribe(&self, topics: &[Topic], id: Option<&str>) -> Subscriber {
        self.try_subscribe(topics, id).await.unwrap()
    }

    async fn round(&mut self) -> Held {
        let round = tokio::time::timeout(Duration::from_secs(3_600), self.rounds.recv());
        round.await.unwrap().unwrap()
    }

    fn fail_hub(&self) {
        let hubs = self.streams.supervisor().hubs;
        let hub = &hubs.read()["demo"];
        assert!(hub.address.send(hub::Msg::Fail).is_ok());
    }

    /// How many topics are remembered.
    fn remembered(&self) -> usize {
        self.streams.supervisor().hubs.read()["demo"].feed.remembered()
    }

    fn subscribers(&self) -> i64 {
        self.catalog.gateway_stream_subscribers.with_label_values(&["demo"]).get()
    }

    fn restarts_of_hubs(&self) -> u64 {
        let restarts = &self.catalog.gateway_actor_restarts_total;
        restarts.with_label_values(&[Role::Hub.name()]).get()
    }
}

fn ticks() -> Topic {
    Topic { kind: EventKind::Ticks, symbol: Some("EURUSD".into()) }
}

fn book() -> Topic {
    Topic { kind: EventKind::Book, symbol: Some("EURUSD".into()) }
}

fn orders() -> Topic {
    Topic { kind: EventKind::Orders, symbol: None }
}

/// What comes next, in short.
async fn next(subscriber: &mut Subscriber) -> String {
    match tokio::time::timeout(Duration::from_secs(3_600), subscriber.next()).await.unwrap() {
        Item::Gap { from, to } => format!("gap {from:?} {to}"),
        Item::Event(event) => match &event.content {
            Content::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
            Content::Failed(error) => format!("failed: {error}"),
            Content::PollPanicked => "panicked".to_owned(),
            Content::Gap => format!("gap of {}", event.topic.kind.name()),
        },
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_comes_in_the_middle_of_a_round_sees_no_hole() {
    let mut harness = Harness::started().await;
    let first = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    assert_eq!(round.ticks(), None);
    round.tell_ticks(&["1"], 7);
    drop(first);
    // The round that goes on tells the second subscriber a tick, so its stream goes on from there.
    let mut second = harness.subscribe(&[ticks()], None).await;
    round.tell_ticks(&["2"], 8);
    assert_eq!(next(&mut second).await, "2");
    round.end();
    let round = harness.round().await;
    assert_eq!(round.ticks(), Some(TickCursor::at(8)));
    drop(second);
    // One that the round tells nothing begins with the last tick.
    let _third = harness.subscribe(&[ticks()], None).await;
    round.tell_ticks(&[], 8);
    round.end();
    assert_eq!(harness.round().await.ticks(), None);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_comes_back_in_time_is_backfilled_and_later_told_a_gap() {
    let mut harness = Harness::started().await;
    let mut subscriber = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    round.tell_ticks(&["1"], 7);
    round.end();
    assert_eq!(next(&mut subscriber).await, "1");
    let id = subscriber.id(None);
    drop(subscriber);
    tokio::time::sleep(Duration::from_secs(299)).await;
    let subscriber = harness.subscribe(&[ticks()], Some(&id)).await;
    let round = harness.round().await;
    assert_eq!(round.ticks(), Some(TickCursor::at(7)));
    round.end();
    drop(subscriber);
    tokio::time::sleep(Duration::from_secs(301)).await;
    let mut subscriber = harness.subscribe(&[ticks()], Some(&id)).await;
    assert_eq!(next(&mut subscriber).await, "gap of ticks");
    assert_eq!(harness.round().await.ticks(), None);
    // The id of another run is not understood.
    let mut stranger = harness.subscribe(&[ticks()], Some("0-1")).await;
    assert_eq!(next(&mut stranger).await, "gap None 2");
}

#[tokio::test(start_paused = true)]
async fn a_hole_between_two_subscriptions_is_a_gap_for_those_who_come_back() {
    let mut harness = Harness::started().await;
    let mut first = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    round.tell_ticks(&["1"], 7);
    round.end();
    assert_eq!(next(&mut first).await, "1");
    let id = first.id(None);
    drop(first);
    // It wants nothing of what was missed, and begins with the last tick.
    let mut second = harness.subscribe(&[ticks()], None).await;
    harness.round().await.tell_ticks(&["9"], 9);
    assert_eq!(next(&mut second).await, "9");
    let mut back = harness.subscribe(&[ticks()], Some(&id)).await;
    assert_eq!(next(&mut back).await, "gap of ticks");
    assert_eq!(next(&mut back).await, "9");
}

#[tokio::test(start_paused = true)]
async fn topics_without_subscribers_are_forgotten_after_a_while() {
    let mut harness = Harness::started().await;
    let _stays = harness.subscribe(&[orders()], None).await;
    harness.round().await.end();
    for symbol in ["A", "B", "C"] {
        let topic = Topic { kind: EventKind::Ticks, symbol: Some(symbol.into()) };
        drop(harness.subscribe(&[topic], None).await);
    }
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(harness.remembered(), 4, "somebody may come back");
    // The round of the first topic is under way all the time, and may report something about it.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(harness.remembered(), 2);
    while harness.round().await.topic().kind != EventKind::Ticks {}
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(harness.remembered(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_comes_back_forgets_topics_without_subscribers() {
    let harness = Harness::started().await;
    let mut stays = harness.subscribe(&[orders()], None).await;
    drop(harness.subscribe(&[ticks()], None).await);
    assert_eq!(harness.remembered(), 2);
    harness.fail_hub();
    assert_eq!(next(&mut stays).await, "gap of orders");
    eventually("the topic is forgotten", || harness.remembered() == 1).await;
    // Its readers find a gap all the same.
    let mut back = harness.subscribe(&[ticks()], Some(&stays.id(Some(0)))).await;
    assert_eq!(next(&mut back).await, "gap of ticks");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_for_a_forgotten_topic_is_told_a_gap_also_behind_others() {
    let mut harness = Harness::started().await;
    let mut first = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    round.tell_ticks(&["1"], 7);
    round.end();
    assert_eq!(next(&mut first).await, "1");
    let id = first.id(None);
    drop(first);
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(harness.remembered(), 0);
    let mut second = harness.subscribe(&[ticks()], None).await;
    harness.round().await.tell_ticks(&["9"], 9);
    assert_eq!(next(&mut second).await, "9");
    let mut back = harness.subscribe(&[ticks()], Some(&id)).await;
    assert_eq!(next(&mut back).await, "gap of ticks");
    assert_eq!(next(&mut back).await, "9");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_whose_predecessor_left_just_now_is_backfilled() {
    let mut harness = Harness::started().await;
    let mut first = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    round.tell_ticks(&["1"], 7);
    round.end();
    assert_eq!(next(&mut first).await, "1");
    let id = first.id(None);
    drop(first);
    let second = harness.subscribe(&[ticks()], Some(&id)).await;
    harness.round().await.end();
    tokio::time::sleep(Duration::from_secs(301)).await;
    // It has left, but the hub has yet to be told so.
    harness.streams.supervisor().hubs.read()["demo"].feed.leave(&[ticks()].into());
    std::mem::forget(second);
    let _third = harness.subscribe(&[ticks()], Some(&id)).await;
    // The round that was under way; the next one is for the third.
    harness.round().await.end();
    let round = harness.round().await;
    assert_eq!(round.ticks(), Some(TickCursor::at(7)));
}

#[tokio::test(start_paused = true)]
async fn a_state_is_told_at_first_and_when_it_changes() {
    let mut harness = Harness::started().await;
    let mut first = harness.subscribe(&[orders()], None).await;
    for state in ["[]", "[]", "[1]"] {
        let round = harness.round().await;
        round.tell_state(state);
        round.end();
    }
    assert_eq!(next(&mut first).await, "[]");
    assert_eq!(next(&mut first).await, "[1]");
    let mut second = harness.subscribe(&[orders()], None).await;
    assert_eq!(next(&mut second).await, "[1]");
}

#[tokio::test(start_paused = true)]
async fn a_book_is_closed_with_its_last_subscriber() {
    let mut harness = Harness::started().await;
    let subscriber = harness.subscribe(&[book()], None).await;
    let round = harness.round().await;
    let open = Some((0, Timestamp::UNIX_EPOCH));
    (round.round.report)(&book(), Polled::BookOpened(open));
    round.end();
    let round = harness.round().await;
    assert_eq!(round.round.asks[0].book, open);
    drop(subscriber);
    round.end();
    let round = harness.round().await;
    assert_eq!((round.round.release.as_slice(), round.round.asks.len()), (&[book()][..], 0));
}

#[tokio::test(start_paused = true)]
async fn a_round_that_panics_is_told_once_and_the_next_goes_on_where_it_was() {
    let mut harness = Harness::started().await;
    let mut subscriber = harness.subscribe(&[ticks()], None).await;
    let round = harness.round().await;
    round.tell_ticks(&["1"], 7);
    let mut before = Instant::now();
    round.panic();
    for delay in [100, 200, 400] {
        let round = harness.round().await;
        assert_eq!(before.elapsed(), Duration::from_millis(delay));
        assert_eq!(round.ticks(), Some(TickCursor::at(7)));
        before = Instant::now();
        round.panic();
    }
    let round = harness.round().await;
    round.tell_ticks(&["2"], 8);
    for expected in ["1", "panicked", "2"] {
        assert_eq!(next(&mut subscriber).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_fails_comes_back_and_its_subscribers_are_told_a_gap() {
    let mut harness = Harness::started().await;
    let mut subscriber = harness.subscribe(&[ticks(), orders()], None).await;
    for _ in 0..2 {
        let round = harness.round().await;
        match round.topic().kind {
            EventKind::Ticks => round.tell_ticks(&["1"], 7),
            _ => round.tell_state("[]"),
        }
        round.end();
        next(&mut subscriber).await;
    }
    harness.fail_hub();
    assert!(harness.try_subscribe(&[ticks()], None).await.is_none(), "it is away");
    let mut told = vec![next(&mut subscriber).await, next(&mut subscriber).await];
    told.sort_unstable();
    assert_eq!(told, ["gap of orders", "gap of ticks"]);
    // Ticks begin with the last one, and states are told although they have not changed.
    for _ in 0..2 {
        let round = harness.round().await;
        let expected = match round.topic().kind {
            EventKind::Ticks => {
                assert_eq!(round.ticks(), None);
                round.tell_ticks(&["9"], 9);
                "9"
            }
            _ => {
                round.tell_state("[]");
                "[]"
            }
        };
        round.end();
        assert_eq!(next(&mut subscriber).await, expected);
    }
    eventually("the restart is counted", || harness.restarts_of_hubs() == 1).await;
    let second = harness.subscribe(&[ticks()], None).await;
    assert_eq!(harness.subscribers(), 2);
    drop((subscriber, second));
    assert_eq!(harness.subscribers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hub_without_subscribers_is_started_by_the_next_one() {
    let mut harness = Harness::started().await;
    drop(harness.subscribe(&[ticks()], None).await);
    harness.round().await.end();
    harness.fail_hub();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(harness.rounds.try_recv().is_err() && harness.restarts_of_hubs() == 0);
    let _subscriber = harness.subscribe(&[ticks()], None).await;
    assert_eq!(harness.round().await.topic(), &ticks());
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_fails_leaves_its_subscribers_to_the_next_one() {
    let mut harness = Harness::new().await;
    let (_, ended) = harness.start().await;
    assert!(harness.streams.ping().await);
    let mut subscriber = harness.subscribe(&[orders()], None).await;
    let round = harness.round().await;
    round.tell_state("[]");
    assert_eq!(next(&mut subscriber).await, "[]");
    assert!(harness.streams.supervisor().address.send(supervisor::Msg::Fail).is_ok());
    ended.await.unwrap();
    assert!(!harness.streams.ping().await);
    assert!(harness.try_subscribe(&[orders()], None).await.is_none(), "it is away");
    harness.start().await;
    assert!(harness.streams.ping().await);
    assert_eq!(next(&mut subscriber).await, "gap of orders");
    harness.round().await.tell_state("[]");
    assert_eq!(next(&mut subscriber).await, "[]");
    assert_eq!(harness.subscribers(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_streams_are_admitted_than_allowed() {
    let harness = Harness::new().await;
    let admitted: Vec<Option<Admission>> = (0..11).map(|_| harness.streams.admit()).collect();
    assert!(admitted[..10].iter().all(Option::is_some) && admitted[10].is_none());
    drop(admitted);
    assert!(harness.streams.admit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hub_whose_account_goes_leaves_no_timer_behind() {
    let mut harness = Harness::started().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // Actors start tasks of their own a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tasks();
    drop(harness.subscribe(&[ticks()], None).await);
    harness.round().await.end();
    // The intervals are over, and the topic is remembered for minutes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(harness.remembered(), 1);
    let account = harness.streams.supervisor().hubs.read()["demo"].account.clone();
    harness.streams.close(&account).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tasks(), before);
}
