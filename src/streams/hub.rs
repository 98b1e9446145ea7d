//! The events of one account, and who reads them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::event::{Content, Event, Kind, Topic};
use super::poll::{self, Poll, TickCursor};
use super::reader::Reader;
use super::{Admission, Options};
use crate::metrics::streams::AccountStreams;
use crate::pool::Account;

/// How long it is remembered how far ticks were read, for readers that come back.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The events of one account.
pub struct Hub {
    pub(super) account: Arc<Account>,
    boot: Arc<str>,
    pub(super) options: Options,
    pub(super) instruments: Option<AccountStreams>,
    /// What polls a kind of event while somebody reads it.
    pub(super) poll: Poll,
    state: Mutex<State>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    /// Told when the topics of a kind have changed.
    changed: [Notify; Kind::ALL.len()],
}

/// What the hub knows.
pub(super) struct State {
    /// The last events, without a hole in their numbers.
    events: VecDeque<Arc<Event>>,
    /// The number of the newest event.
    newest: u64,
    bytes: usize,
    topics: BTreeMap<Topic, TopicState>,
    /// Kinds whose loop runs.
    running: [bool; Kind::ALL.len()],
}

#[derive(Default)]
struct TopicState {
    readers: usize,
    /// Grows when somebody reads it again.
    generation: u64,
    /// The last event that had data.
    latest: Option<Arc<Event>>,
    /// That it cannot be asked about, until it can.
    failure: Option<Arc<Event>>,
    /// How far its ticks were read.
    cursor: Option<TickCursor>,
    /// Whether a reader came back to it and wants what it missed.
    resumed: bool,
    /// When its last reader left.
    left: Option<Instant>,
}

impl Hub {
    pub(super) fn new(
        account: Arc<Account>,
        boot: Arc<str>,
        options: Options,
        instruments: Option<AccountStreams>,
        poll: Poll,
    ) -> Hub {
        let state = State {
            events: VecDeque::new(),
            newest: 0,
            bytes: 0,
            topics: BTreeMap::new(),
            running: [false; Kind::ALL.len()],
        };
        Hub {
            account,
            boot,
            options,
            instruments,
            poll,
            state: Mutex::new(state),
            newest: watch::Sender::new(0),
            changed: std::array::from_fn(|_| Notify::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of an event: which run of the gateway, and which event of it.
    pub fn id(&self, sequence: u64) -> String {
        format!("{}-{sequence}", self.boot)
    }

    /// Reads the id of an event. `None`: it is of another run, or no id.
    fn sequence(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&*self.boot)?.strip_prefix('-')?.parse().ok()
    }

    /// A reader of topics: from the present, or from what follows the event of
    /// this id.
    pub fn subscribe(
        self: &Arc<Hub>,
        topics: Vec<Topic>,
        last_event_id: Option<&str>,
        admission: Admission,
    ) -> Reader {
        let mut state = self.lock();
        let before = state.newest;
        let last = last_event_id.and_then(|id| self.sequence(id));
        let last = last.filter(|last| *last <= before);
        // Of a run that is over, nothing is known but that there is a gap.
        let forgotten = last_event_id.is_some() && last.is_none();
        if last.is_none() {
            self.give_up_catching_up(&mut state, &topics);
        }
        let newest = state.newest;
        let mut initial = Vec::new();
        for topic in &topics {
            let known = state.topics.entry(topic.clone()).or_default();
            known.readers += 1;
            if known.readers == 1 {
                known.generation += 1;
                known.resumed = last.is_some();
                if known.left.is_some_and(|left| left.elapsed() > REMEMBERED) {
                    known.cursor = None;
                }
                known.failure = None;
                if last.is_none() {
                    // How it stands is asked for again, and told.
                    known.latest = None;
                }
            } else if last.is_none() {
                // Somebody reads it, so that this is how it stands.
                initial.extend(known.failure.as_ref().or(known.latest.as_ref()).cloned());
            }
        }
        state.topics.retain(|_, topic| {
            topic.readers > 0 || topic.left.is_none_or(|left| left.elapsed() <= REMEMBERED)
        });
        initial.sort_by_key(|event| event.sequence);
        for kind in Kind::ALL {
            if topics.iter().any(|topic| topic.kind == kind) {
                if std::mem::replace(&mut state.running[kind as usize], true) {
                    self.changed[kind as usize].notify_one();
                } else {
                    tokio::spawn(poll::supervise(self.clone(), kind));
                }
            }
        }
        drop(state);
        if let Some(instruments) = &self.instruments {
            instruments.subscribers.inc();
        }
        let cursor = last.unwrap_or(newest) + 1;
        let newest = self.newest.subscribe();
        Reader::new(self.clone(), topics, cursor, initial, forgotten, newest, admission)
    }

    /// Says that ticks are missing where nobody has read a symbol for a while and its next reader
    /// wants none of them: it goes on from the present, and who comes back later finds a hole.
    fn give_up_catching_up(&self, state: &mut State, topics: &[Topic]) {
        for topic in topics.iter().filter(|topic| topic.kind == Kind::Ticks) {
            let left = state.topics.get(topic).is_some_and(|known| known.readers == 0);
            if left {
                self.push(state, topic, Content::Gap);
            }
        }
    }

    /// How things stand that changed last among events that a reader has missed. Ticks are no
    /// such thing: they were, and are missed.
    pub(super) fn standing(
        &self,
        topics: &[Topic],
        missed: RangeInclusive<u64>,
    ) -> Vec<Arc<Event>> {
        let state = self.lock();
        let known = topics.iter().filter(|topic| topic.kind != Kind::Ticks);
        let known = known.filter_map(|topic| state.topics.get(topic));
        let events = known.filter_map(|known| known.failure.as_ref().or(known.latest.as_ref()));
        let mut events: Vec<_> =
            events.filter(|event| missed.contains(&event.sequence)).cloned().collect();
        events.sort_by_key(|event| event.sequence);
        events
    }

    /// Ends what a reader subscribed to.
    pub(super) fn leave(&self, topics: &[Topic]) {
        let mut state = self.lock();
        for topic in topics {
            if let Some(known) = state.topics.get_mut(topic) {
                known.readers -= 1;
                known.left = Some(Instant::now());
            }
            self.changed[topic.kind as usize].notify_one();
        }
        drop(state);
        if let Some(instruments) = &self.instruments {
            instruments.subscribers.dec();
        }
    }

    /// Waits until the topics of a kind may have changed.
    pub(super) async fn changed(&self, kind: Kind) {
        self.changed[kind as usize].notified().await;
    }

    /// The topics of a kind that are read, and their generations. Without any
    /// its loop is over.
    pub(super) fn topics(&self, kind: Kind) -> BTreeMap<Topic, u64> {
        let mut state = self.lock();
        let of_kind = state.topics.iter().filter(|(topic, _)| topic.kind == kind);
        let read = of_kind.filter(|(_, known)| known.readers > 0);
        let topics: BTreeMap<Topic, u64> =
            read.map(|(topic, known)| (topic.clone(), known.generation)).collect();
        if topics.is_empty() {
            state.running[kind as usize] = false;
        }
        topics
    }

    /// How far a symbol's ticks were read, for a loop that begins with it. What
    /// cannot be caught up with is told as a gap. `None`: the stream begins with the last tick.
    pub(super) fn begin_ticks(&self, topic: &Topic) -> Option<TickCursor> {
        let mut state = self.lock();
        let known = state.topics.get_mut(topic)?;
        let resumed = std::mem::take(&mut known.resumed);
        // A look that was under way when the reader came has told it ticks already, if there is a
        // latest one: to begin with the last tick then would leave a hole.
        let told = known.latest.is_some();
        let cursor = known.cursor.take().filter(|_| resumed || told);
        if resumed && cursor.is_none() {
            self.push(&mut state, topic, Content::Gap);
        }
        cursor
    }

    /// Appends ticks, and remembers how far they were read.
    pub(super) fn tell_ticks(&self, topic: &Topic, ticks: Vec<Content>, cursor: TickCursor) {
        let mut state = self.lock();
        if let Some(known) = state.topics.get_mut(topic) {
            known.cursor = Some(cursor);
            known.failure = None;
        }
        for tick in ticks {
            self.push(&mut state, topic, tick);
        }
    }

    /// Appends how things stand, unless they stand as before.
    pub(super) fn tell_state(&self, topic: &Topic, data: bytes::Bytes) {
        let mut state = self.lock();
        let Some(known) = state.topics.get_mut(topic) else {
            return;
        };
        // What ends a failure is told even if nothing has changed meanwhile.
        let failed = known.failure.take().is_some();
        let same = !failed
            && known.latest.as_ref().is_some_and(
                |latest| matches!(&latest.content, Content::Data(before) if *before == data),
            );
        if !same {
            self.push(&mut state, topic, Content::Data(data));
        }
    }

    /// Says once that a topic cannot be asked about.
    pub(super) fn tell_failure(&self, topic: &Topic, error: crate::pool::CallError) {
        let mut state = self.lock();
        if state.topics.get(topic).is_some_and(|known| known.failure.is_none()) {
            self.push(&mut state, topic, Content::Failed(error));
        }
    }

    /// Says that the loop of a kind has panicked. The next loop reads ticks from where this one was,
    /// or tells a gap.
    pub(super) fn tell_panic(&self, kind: Kind) {
        let mut state = self.lock();
        let mut topics = Vec::new();
        for (topic, known) in &mut state.topics {
            if topic.kind != kind || known.readers == 0 {
                continue;
            }
            known.resumed = true;
            let failure = known.failure.as_ref().map(|event| &event.content);
            if !matches!(failure, Some(Content::PollPanicked)) {
                topics.push(topic.clone());
            }
        }
        for topic in topics {
            self.push(&mut state, &topic, Content::PollPanicked);
        }
    }

    fn push(&self, state: &mut State, topic: &Topic, content: Content) {
        state.newest += 1;
        let sequence = state.newest;
        let event = Arc::new(Event { sequence, topic: topic.clone(), content });
        state.bytes += event.size();
        if let Some(known) = state.topics.get_mut(topic) {
            match &event.content {
                Content::Data(_) => known.latest = Some(event.clone()),
                Content::Failed(_) | Content::PollPanicked => known.failure = Some(event.clone()),
                Content::Gap => {}
            }
        }
        state.events.push_back(event);
        // The newest stays, however long it is.
        while state.bytes as u64 > self.options.buffer
            && state.events.len() > 1
            && let Some(oldest) = state.events.pop_front()
        {
            state.bytes -= oldest.size();
        }
        self.newest.send_replace(sequence);
    }

    /// What a reader at a place sees next: an event of its topics, or from where
    /// on there is nothing yet.
    pub(super) fn look(&self, place: u64, is_read: impl Fn(&Topic) -> bool) -> Look {
        let state = self.lock();
        let next = state.newest + 1;
        let oldest = state.events.front().map_or(next, |event| event.sequence);
        if place < oldest {
            return Look::Missed { up_to: oldest - 1 };
        }
        let skipped = usize::try_from(place - oldest).unwrap_or(usize::MAX);
        let found = state.events.iter().skip(skipped).find(|event| is_read(&event.topic));
        match found {
            Some(event) => Look::Event(event.clone()),
            None => Look::Nothing { next },
        }
    }
}

/// What a reader sees.
pub(super) enum Look {
    Event(Arc<Event>),
    /// Events up to this one are no longer there.
    Missed {
        up_to: u64,
    },
    /// Nothing before this one is for the reader.
    Nothing {
        next: u64,
    },
}
