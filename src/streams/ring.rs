//! The last events of one account. Knows neither clock nor I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::topic::{Content, StreamEvent, Topic};

/// The last events of one account, at most so many bytes of them, and the present state of each topic.
pub struct Ring {
    capacity: u64,
    bytes: u64,
    /// Oldest first.
    events: VecDeque<Arc<StreamEvent>>,
    /// The number of the newest event; 0 before the first.
    newest: u64,
    /// Of every topic that is or was subscribed to, until it is removed.
    topics: BTreeMap<Topic, PresentState>,
    /// The newest event when a topic was last removed. `None`: none ever was.
    removed_at: Option<u64>,
}

#[derive(Default)]
struct PresentState {
    /// The last event with data.
    latest: Option<Arc<StreamEvent>>,
    /// The event that tells why the topic cannot be read now.
    failure: Option<Arc<StreamEvent>>,
}

/// What comes next at a position.
#[derive(Debug)]
pub enum RingRead {
    /// This event.
    Event(Arc<StreamEvent>),
    /// Events up to this number, which the ring no longer has.
    Missed {
        /// The last of them.
        up_to: u64,
    },
    /// Nothing yet. No event before this number is wanted.
    Nothing {
        /// Where to read on.
        next: u64,
    },
}

impl Ring {
    /// An empty ring for so many bytes. The newest event stays, however large it is.
    pub fn new(capacity: u64) -> Ring {
        Ring {
            capacity,
            bytes: 0,
            events: VecDeque::new(),
            newest: 0,
            topics: BTreeMap::new(),
            removed_at: None,
        }
    }

    /// The number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Appends an event, and drops the oldest ones for which there is no room.
    pub fn push(&mut self, topic: &Topic, content: Content) {
        self.newest += 1;
        let event = Arc::new(StreamEvent { sequence: self.newest, topic: topic.clone(), content });
        let state = self.topics.entry(topic.clone()).or_default();
        match &event.content {
            Content::Data(_) => state.latest = Some(event.clone()),
            Content::Failed(_) | Content::PollPanicked => state.failure = Some(event.clone()),
            Content::Gap => {}
        }
        self.bytes += event.size();
        self.events.push_back(event);
        while self.bytes > self.capacity
            && self.events.len() > 1
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.size();
        }
    }

    /// What comes next at a position, the number of the event to be read next. Takes time for each
    /// event in between that is not wanted.
    pub fn read(&self, position: u64, is_wanted: impl Fn(&Topic) -> bool) -> RingRead {
        let (next, oldest) = (self.newest + 1, self.oldest());
        if position < oldest {
            return RingRead::Missed { up_to: oldest - 1 };
        }
        let skipped = usize::try_from(position - oldest).unwrap_or(usize::MAX);
        let found = self.events.iter().skip(skipped).find(|event| is_wanted(&event.topic));
        found.map_or(RingRead::Nothing { next }, |event| RingRead::Event(event.clone()))
    }

    /// The number of the oldest event, or of the next one if there is none.
    fn oldest(&self) -> u64 {
        self.events.front().map_or(self.newest + 1, |event| event.sequence)
    }

    /// Whether somebody may come back for the events of a topic: it is known, or it may have been
    /// removed so lately that a subscriber which read it finds its position still in the ring. Which
    /// topics were removed is not remembered, so the removal of any topic counts.
    pub fn may_have_readers(&self, topic: &Topic) -> bool {
        let was_removed = self.removed_at.is_some_and(|newest| self.oldest() <= newest + 1);
        was_removed || self.topics.contains_key(topic)
    }

    /// Adds a topic, unless it is known.
    pub fn insert(&mut self, topic: &Topic) {
        self.topics.entry(topic.clone()).or_default();
    }

    /// Removes every topic but these. Its events stay.
    pub fn retain_topics(&mut self, is_kept: impl Fn(&Topic) -> bool) {
        let before = self.topics.len();
        self.topics.retain(|topic, _| is_kept(topic));
        if self.topics.len() < before {
            self.removed_at = Some(self.newest);
        }
    }

    /// How many topics it knows.
    #[cfg(test)]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// The event that says how a topic stands: why it cannot be read, or the last one with data.
    pub fn present(&self, topic: &Topic) -> Option<&Arc<StreamEvent>> {
        let state = self.topics.get(topic)?;
        state.failure.as_ref().or(state.latest.as_ref())
    }

    /// Whether the last data of a topic were these.
    pub fn is_latest(&self, topic: &Topic, data: &Bytes) -> bool {
        let latest = self.topics.get(topic).and_then(|state| state.latest.as_ref());
        latest
            .is_some_and(|event| matches!(&event.content, Content::Data(latest) if latest == data))
    }

    /// Why a topic cannot be read now.
    pub fn failure(&self, topic: &Topic) -> Option<&Content> {
        let event = self.topics.get(topic)?.failure.as_ref()?;
        Some(&event.content)
    }

    /// Notes that a topic can be read. Whether it could not be before.
    pub fn recover(&mut self, topic: &Topic) -> bool {
        self.topics.get_mut(topic).is_some_and(|state| state.failure.take().is_some())
    }

    /// Forgets how a topic stands, so that it is told anew. Its events stay.
    pub fn reset(&mut self, topic: &Topic) {
        self.topics.insert(topic.clone(), PresentState::default());
    }

    /// The latest state events among those that a subscriber of these topics missed, oldest first.
    /// Ticks are not state, so missed ticks are not replayed.
    pub fn latest_states(
        &self,
        topics: &BTreeSet<Topic>,
        missed: RangeInclusive<u64>,
    ) -> Vec<Arc<StreamEvent>> {
        let states = topics.iter().filter(|topic| topic.kind.is_state());
        let events = states.filter_map(|topic| self.present(topic));
        let mut events: Vec<_> =
            events.filter(|event| missed.contains(&event.sequence)).cloned().collect();
        events.sort_by_key(|event| event.sequence);
        events
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::streams::cursor::{Cursor, Item};
    use crate::streams::topic::EventKind;

    fn topic(index: usize) -> Topic {
        let (kind, symbol) = [
            (EventKind::Ticks, Some("EURUSD")),
            (EventKind::Book, Some("EURUSD")),
            (EventKind::Positions, None),
        ][index];
        Topic { kind, symbol: symbol.map(Arc::from) }
    }

    #[derive(Debug, Clone)]
    enum RingStep {
        /// Data of a topic and of so many bytes.
        Push(usize, usize),
        /// A failure of a topic.
        Fail(usize),
        Recover(usize),
        /// The subscriber reads until there is nothing.
        Read,
    }

    fn step() -> impl Strategy<Value = RingStep> {
        prop_oneof![
            4 => (0usize..3, 0usize..600).prop_map(|(topic, length)| RingStep::Push(topic, length)),
            1 => (0usize..3).prop_map(RingStep::Fail),
            1 => (0usize..3).prop_map(RingStep::Recover),
            1 => Just(RingStep::Read),
        ]
    }

    /// Everything that ever happened, without a limit.
    #[derive(Default)]
    struct Model {
        /// Topic, size and whether it is a failure; the sequence is the place plus one.
        events: Vec<(Topic, u64, bool)>,
        /// Sequences of failures that are over.
        recovered: BTreeSet<usize>,
    }

    impl Model {
        fn oldest(&self, capacity: u64) -> usize {
            let mut bytes = 0;
            let fits = |(_, size, _): &&(Topic, u64, bool)| {
                bytes += size;
                bytes <= capacity
            };
            let kept = self.events.iter().rev().take_while(fits).count();
            self.events.len() + 1 - kept.max(1).min(self.events.len())
        }

        /// The sequence of the event that says how a topic stands.
        fn present(&self, topic: &Topic) -> Option<usize> {
            let of = |failure: bool| {
                let is_wanted = |(of, _, is_failure): &(Topic, u64, bool)| {
                    of == topic && *is_failure == failure
                };
                self.events.iter().rposition(is_wanted).map(|place| place + 1)
            };
            of(true).filter(|failure| !self.recovered.contains(failure)).or(of(false))
        }

        /// What a subscriber of these topics at a position is told.
        fn told(
            &self,
            topics: &BTreeSet<Topic>,
            position: usize,
            capacity: u64,
        ) -> Vec<Vec<usize>> {
            let oldest = self.oldest(capacity);
            let mut told = Vec::new();
            if position < oldest {
                told.push(vec![position, oldest - 1]);
                let states = topics.iter().filter(|topic| topic.kind != EventKind::Ticks);
                let mut states: Vec<usize> = states
                    .filter_map(|topic| self.present(topic))
                    .filter(|sequence| (position..oldest).contains(sequence))
                    .collect();
                states.sort_unstable();
                told.extend(states.into_iter().map(|sequence| vec![sequence]));
            }
            let rest = position.max(oldest)..=self.events.len();
            let wanted = rest.filter(|sequence| topics.contains(&self.events[sequence - 1].0));
            told.extend(wanted.map(|sequence| vec![sequence]));
            told
        }
    }

    proptest! {
        #[test]
        fn a_subscriber_is_told_what_the_model_says(
            steps in proptest::collection::vec(step(), 1..80),
            capacity in 1u64..3_000,
            wanted in proptest::collection::btree_set(0usize..3, 1..3),
        ) {
            let topics: BTreeSet<Topic> = wanted.into_iter().map(topic).collect();
            let (mut ring, mut model) = (Ring::new(capacity), Model::default());
            let mut cursor = Cursor::new(topics.clone(), 1, vec![], false);
            let mut position = 1;
            for step in steps.into_iter().chain([RingStep::Read]) {
                match step {
                    RingStep::Push(index, length) => {
                        ring.push(&topic(index), Content::Data(vec![0; length].into()));
                        let size = ring.events.back().unwrap().size();
                        model.events.push((topic(index), size, false));
                    }
                    RingStep::Fail(index) => {
                        ring.push(&topic(index), Content::PollPanicked);
                        let size = ring.events.back().unwrap().size();
                        model.events.push((topic(index), size, true));
                    }
                    RingStep::Recover(index) => {
                        ring.recover(&topic(index));
                        let all = model.events.iter().zip(1..);
                        let failures = all.filter(|((of, _, failed), _)| *of == topic(index) && *failed);
                        let failures: Vec<usize> = failures.map(|(_, sequence)| sequence).collect();
                        model.recovered.extend(failures);
                    }
                    RingStep::Read => {
                        let expected = model.told(&topics, position, capacity);
                        let told: Vec<Vec<usize>> = std::iter::from_fn(|| cursor.next(&ring))
                            .map(|item| match item {
                                Item::Event(event) => vec![event.sequence as usize],
                                Item::Gap { from, to } => vec![from.unwrap() as usize, to as usize],
                            })
                            .collect();
                        prop_assert_eq!(told, expected);
                        position = model.events.len() + 1;
                        prop_assert_eq!(cursor.passed(), model.events.len() as u64);
                    }
                }
                let kept: u64 = ring.events.iter().map(|event| event.size()).sum();
                prop_assert_eq!(kept, ring.bytes);
                prop_assert!(ring.bytes <= capacity || ring.events.len() == 1);
            }
        }
    }

    #[test]
    fn a_removed_topic_may_be_known_for_as_long_as_its_readers_find_their_position() {
        let (mut ring, read, other) = (Ring::new(1), topic(0), topic(1));
        let push = |ring: &mut Ring| ring.push(&other, Content::Gap);
        assert!(!ring.may_have_readers(&read));
        ring.insert(&read);
        push(&mut ring);
        ring.retain_topics(|topic| *topic == other);
        assert_eq!(ring.topics.keys().collect::<Vec<_>>(), [&other]);
        // The position after event 1 is that of the next one.
        assert!(ring.may_have_readers(&read));
        for may_have_readers in [true, false] {
            push(&mut ring);
            assert_eq!(ring.may_have_readers(&read), may_have_readers, "{}", ring.newest());
        }
    }

    #[test]
    fn a_topic_that_is_reset_is_told_anew() {
        let (mut ring, topic) = (Ring::new(1_000), topic(2));
        let data = Bytes::from_static(b"[]");
        ring.push(&topic, Content::Data(data.clone()));
        assert!(ring.is_latest(&topic, &data));
        ring.reset(&topic);
        assert!(!ring.is_latest(&topic, &data) && ring.present(&topic).is_none());
        assert!(ring.may_have_readers(&topic), "it stays known");
    }
}
