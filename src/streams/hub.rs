//! The hub of one account: admits subscribers, polls for them, and writes what is new into the feed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use strum::EnumCount;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use super::cursor::Cursor;
use super::feed::Feed;
use super::poller::{Ask, OpenBook, Poll, PollSchedule, Polled, Round, Scope, TickCursor};
use super::subscriber::{Admission, Subscriber};
use super::topic::{Content, EventKind, Topic};
use crate::actor::{Address, Envelope, RestartBudget, RestartPolicy, panic_message};
use crate::pool::Account;

/// How long a topic without subscribers is remembered, for those that come back: how far its ticks
/// were read, and how it stands.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long subscribers wait for the rest of a round at most. One that is woken once for all symbols costs
/// a fraction of one that is woken for each, and a terminal that hangs must not hold back what came before.
const GATHERING: Duration = Duration::from_millis(5);

/// Admits subscribers to the events of one account.
pub struct Hub;

/// What a hub is told.
pub enum Msg {
    /// Somebody subscribes.
    Subscribe(Subscribe),
    /// A subscriber of these topics has left.
    Left(Vec<Topic>),
    /// The interval of a kind has passed.
    IntervalOver(EventKind),
    /// A round found this out.
    Polled(Topic, Polled),
    /// Time to wake subscribers for what the round under way has found so far.
    Announce,
    /// A round is over. The reason, if it panicked.
    RoundOver(EventKind, Result<(), String>),
    /// The pause after a round that panicked is over.
    PauseOver(EventKind),
    /// Time to forget topics that were left long ago.
    Forget,
    /// Fails.
    #[cfg(test)]
    Fail,
}

/// A request to be told of some topics.
pub struct Subscribe {
    /// The topics.
    pub topics: Vec<Topic>,
    /// The id of the event after which to go on. `None`: from the present on.
    pub last_event_id: Option<String>,
    /// Counts the stream among those that are open.
    pub admission: Admission,
    /// Takes the subscriber.
    pub reply: oneshot::Sender<Subscriber>,
}

/// What a hub needs.
#[derive(Clone)]
pub struct Args {
    /// Its own address.
    pub address: Address<Msg>,
    /// Whose events.
    pub account: Arc<Account>,
    /// Where it writes them.
    pub feed: Arc<Feed>,
    /// How often ticks are asked for.
    pub tick_interval: Duration,
    /// How often everything else is asked for.
    pub state_interval: Duration,
    /// How long a terminal may take for a call.
    pub timeout: Duration,
    /// Carries out rounds. A test may answer instead of terminals.
    pub poll: Poll,
}

/// What a hub knows.
pub struct State {
    args: Args,
    /// Of this hub alone: timers and rounds of one that failed must not reach its successor.
    address: Address<Msg>,
    topics: BTreeMap<Topic, TopicProgress>,
    /// [`Msg::Forget`] is on its way.
    forgetting: Option<Timer>,
    /// [`Msg::Announce`] is on its way.
    announcement_is_scheduled: bool,
    pollers: [Poller; EventKind::COUNT],
}

#[derive(Default)]
struct TopicProgress {
    /// It was not polled since it was subscribed to.
    is_new: bool,
    /// How far its ticks were read. `None`: its stream begins with the last tick.
    ticks: Option<TickCursor>,
    /// The session on which its order book is subscribed to.
    book: Option<OpenBook>,
    /// When its last subscriber left. `None`: it has subscribers, or the hub was not told yet that
    /// the last one left.
    left: Option<Instant>,
}

impl TopicProgress {
    /// Whether nobody has come back for it in time.
    fn is_over(&self, now: Instant) -> bool {
        self.left.is_some_and(|left| now.duration_since(left) > REMEMBERED)
    }
}

/// A message to come, which ends with the hub.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The polling of one kind.
struct Poller {
    schedule: PollSchedule,
    round: Option<RoundUnderWay>,
    panics: RestartBudget,
}

/// A round under way, which ends with the hub.
struct RoundUnderWay {
    began: Instant,
    polls: bool,
    /// What it may still report about.
    topics: BTreeSet<Topic>,
    _task: AbortOnDropHandle<()>,
}

impl Actor for Hub {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.address.started(myself);
        let mut state = State {
            address: args.address.pinned(),
            args,
            topics: BTreeMap::new(),
            forgetting: None,
            announcement_is_scheduled: false,
            pollers: std::array::from_fn(|_| Poller::new()),
        };
        if state.args.feed.begin_hub() {
            state.tell_gap();
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Subscribe(subscribe) => state.subscribe(subscribe),
            Msg::Left(topics) => state.left(&topics),
            Msg::IntervalOver(kind) => {
                state.pollers[kind as usize].schedule.interval_over();
                state.poll(kind);
            }
            Msg::Polled(topic, polled) => state.polled(&topic, polled),
            Msg::Announce => {
                state.announcement_is_scheduled = false;
                state.args.feed.announce();
            }
            Msg::RoundOver(kind, result) => state.round_over(kind, result),
            Msg::PauseOver(kind) => {
                state.pollers[kind as usize].schedule.round_over();
                state.poll(kind);
            }
            Msg::Forget => state.forget(),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.args.address.stopped();
        Ok(())
    }
}

// === Subscribers ===

impl State {
    /// Goes on after a hub that ended, and with it how far topics were read: every subscriber is told
    /// that events may be missing, and then how its topics stand.
    fn tell_gap(&mut self) {
        let feed = self.args.feed.clone();
        for kind in EventKind::ALL {
            let subscribed: BTreeSet<Topic> = feed.subscribed(*kind).into_iter().collect();
            feed.write(|ring| {
                for topic in &subscribed {
                    ring.push(topic, Content::Gap);
                    ring.reset(topic);
                }
            });
            for topic in subscribed {
                self.topics
                    .insert(topic, TopicProgress { is_new: true, ..TopicProgress::default() });
            }
            self.poll(*kind);
        }
        // A subscriber that comes back for one of the topics that go here is told a gap when it does.
        feed.write(|ring| ring.retain_topics(|topic| self.topics.contains_key(topic)));
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { topics, last_event_id, admission, reply } = subscribe;
        let door = &self.args.account.door;
        let ended = door.streams_end();
        // Dropped, which the subscriber sees.
        if !door.is_open() {
            return;
        }
        let (feed, now) = (self.args.feed.clone(), Instant::now());
        let topics: BTreeSet<Topic> = topics.into_iter().collect();
        let cursor = feed.write(|ring| {
            let last = last_event_id.as_ref().and_then(|id| feed.sequence(id));
            let last = last.filter(|last| *last <= ring.newest());
            let is_from_earlier_run = last_event_id.is_some() && last.is_none();
            let mut states = Vec::new();
            for topic in &topics {
                let may_have_readers = ring.may_have_readers(topic);
                ring.insert(topic);
                let state = self.topics.entry(topic.clone()).or_default();
                let is_over = state.is_over(now);
                state.left = None;
                if feed.is_subscribed(topic) {
                    states.extend(ring.present(topic).filter(|_| last.is_none()).cloned());
                    continue;
                }
                state.is_new = true;
                if last.is_none() || is_over {
                    state.ticks = None;
                }
                // Ticks go on from the present. A subscriber that comes back for those in between,
                // now or later, finds a gap.
                let was_read = may_have_readers || last.is_some();
                if !topic.kind.is_state() && state.ticks.is_none() && was_read {
                    ring.push(topic, Content::Gap);
                }
                match last {
                    Some(_) => _ = ring.recover(topic),
                    None => ring.reset(topic),
                }
            }
            states.sort_by_key(|event| event.sequence);
            let position = last.unwrap_or(ring.newest()) + 1;
            Cursor::new(topics.clone(), position, states, is_from_earlier_run)
        });
        feed.join(&topics);
        let hub = self.args.address.clone();
        let on_leave = Box::new(move |topics| {
            // Without a hub nothing is polled that could end.
            let _ = hub.send(Msg::Left(topics));
        });
        // One that nobody takes is dropped, and leaves.
        let _ = reply.send(Subscriber::new(feed, cursor, on_leave, admission, ended));
        for kind in topics.iter().map(|topic| topic.kind).collect::<BTreeSet<_>>() {
            self.poll(kind);
        }
    }

    fn left(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(state) = self.topics.get_mut(topic)
                && !self.args.feed.is_subscribed(topic)
            {
                state.left = Some(Instant::now());
                self.poll(topic.kind);
                self.forget_later();
            }
        }
    }

    fn forget_later(&mut self) {
        if self.forgetting.is_none() {
            self.forgetting = Some(Timer(self.address.send_after(REMEMBERED, Msg::Forget)));
        }
    }

    /// Forgets topics that were left long ago, so that memory does not grow with every topic that
    /// was ever subscribed to.
    fn forget(&mut self) {
        let now = Instant::now();
        self.topics.retain(|topic, state| {
            // What a round under way reports belongs to the topic, such as a book to be closed.
            let round = self.pollers[topic.kind as usize].round.as_ref();
            let is_polled = round.is_some_and(|round| round.topics.contains(topic));
            !state.is_over(now) || state.book.is_some() || is_polled
        });
        self.args.feed.write(|ring| ring.retain_topics(|topic| self.topics.contains_key(topic)));
        self.forgetting = None;
        if self.topics.values().any(|state| state.left.is_some()) {
            self.forget_later();
        }
    }
}

// === Polling ===

impl Poller {
    fn new() -> Poller {
        let panics = RestartBudget::new(RestartPolicy::UNLIMITED);
        Poller { schedule: PollSchedule::default(), round: None, panics }
    }
}

impl State {
    /// Begins a round of a kind, if it is time for one.
    fn poll(&mut self, kind: EventKind) {
        let args = &self.args;
        let subscribed = args.feed.subscribed(kind);
        let is_new = |topic: &Topic| self.topics.get(topic).is_some_and(|state| state.is_new);
        let of_kind = self.topics.iter().filter(|(topic, _)| topic.kind == kind);
        let left_open = of_kind.filter(|(topic, state)| {
            state.book.is_some() && subscribed.binary_search(topic).is_err()
        });
        let release: Vec<Topic> = left_open.map(|(topic, _)| topic.clone()).collect();
        let urgent = !release.is_empty() || subscribed.iter().any(is_new);
        let poller = &mut self.pollers[kind as usize];
        let Some(scope) = poller.schedule.next(!subscribed.is_empty(), urgent) else {
            return;
        };
        if scope == Scope::All {
            let is_state = kind.is_state();
            let interval = if is_state { args.state_interval } else { args.tick_interval };
            self.address.send_after(interval, Msg::IntervalOver(kind));
        }
        for topic in &release {
            if let Some(state) = self.topics.get_mut(topic) {
                state.book = None;
            }
        }
        let mut asks = Vec::with_capacity(subscribed.len());
        for topic in subscribed {
            let state = self.topics.entry(topic.clone()).or_default();
            if std::mem::take(&mut state.is_new) || scope == Scope::All {
                asks.push(Ask { topic, ticks: state.ticks, book: state.book });
            }
        }
        let address = self.address.clone();
        let polls = !asks.is_empty();
        let topics = asks.iter().map(|ask| &ask.topic).chain(&release).cloned().collect();
        let round = Round {
            account: args.account.clone(),
            timeout: args.timeout,
            asks,
            release,
            report: Box::new(move |topic, polled| {
                let _ = address.send(Msg::Polled(topic.clone(), polled));
            }),
        };
        let (address, round) = (self.address.clone(), (args.poll)(round));
        let task = tokio::spawn(async move {
            let result = AssertUnwindSafe(round).catch_unwind().await;
            let result = result.map_err(|panic| panic_message(&*panic).to_owned());
            let _ = address.send(Msg::RoundOver(kind, result));
        });
        let _task = AbortOnDropHandle::new(task);
        poller.round = Some(RoundUnderWay { began: Instant::now(), polls, topics, _task });
    }

    fn polled(&mut self, topic: &Topic, polled: Polled) {
        let state = self.topics.entry(topic.clone()).or_default();
        self.args.feed.append(|ring| match polled {
            Polled::Ticks(ticks, cursor) => {
                // A subscriber that came during the round begins with what the round still finds. If
                // that is nothing, its stream begins with the last tick.
                if !ticks.is_empty() || state.ticks.is_some() {
                    state.ticks = Some(cursor);
                }
                ring.recover(topic);
                for tick in ticks {
                    ring.push(topic, Content::Data(tick));
                }
            }
            Polled::State(data) => {
                // What ends a failure is told even if nothing has changed meanwhile.
                if ring.recover(topic) || !ring.is_latest(topic, &data) {
                    ring.push(topic, Content::Data(data));
                }
            }
            Polled::BookOpened(book) => state.book = book,
            Polled::Failed(error) => {
                if ring.failure(topic).is_none() {
                    ring.push(topic, Content::Failed(error));
                }
            }
        });
        if !std::mem::replace(&mut self.announcement_is_scheduled, true) {
            self.address.send_after(GATHERING, Msg::Announce);
        }
    }

    fn round_over(&mut self, kind: EventKind, result: Result<(), String>) {
        self.args.feed.announce();
        let poller = &mut self.pollers[kind as usize];
        let round = poller.round.take();
        let Err(reason) = result else {
            if let (Some(round), Some(instruments)) = (round, self.args.feed.instruments())
                && round.polls
            {
                instruments.polled(kind as usize, round.began.elapsed());
            }
            poller.schedule.round_over();
            return self.poll(kind);
        };
        let pause = poller.panics.fail(Instant::now(), 1.0).delay();
        error!(
            task = kind.name(),
            account = self.args.account.name.as_str(),
            reason,
            retry_in = ?pause,
            "poll loop restarting"
        );
        self.address.send_after(pause, Msg::PauseOver(kind));
        let subscribed = self.args.feed.subscribed(kind);
        self.args.feed.write(|ring| {
            for topic in &subscribed {
                if !matches!(ring.failure(topic), Some(Content::PollPanicked)) {
                    ring.push(topic, Content::PollPanicked);
                }
            }
        });
        // The next round reads ticks from where this one was, and polls what it did not come to.
        for topic in subscribed {
            self.topics.entry(topic).or_default().is_new = true;
        }
    }
}
