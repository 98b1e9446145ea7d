//! A subscriber's position among the events of an account. Knows neither clock nor I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ring::{Ring, RingRead};
use super::topic::{StreamEvent, Topic};

/// What a subscriber is given.
#[derive(Debug, Clone)]
pub enum Item {
    /// Something happened.
    Event(Arc<StreamEvent>),
    /// The subscriber missed events.
    Gap {
        /// The first of them. `None`: they belong to an earlier run of the gateway.
        from: Option<u64>,
        /// The last of them.
        to: u64,
    },
}

/// A position among the events of an account, for a subscriber of some topics.
pub struct Cursor {
    topics: BTreeSet<Topic>,
    /// The number of the event to read next.
    position: u64,
    /// What is given before the event at the position: how topics stand.
    states: std::vec::IntoIter<Arc<StreamEvent>>,
    /// The subscriber comes from an earlier run of the gateway and has not been told so yet.
    is_from_earlier_run: bool,
}

impl Cursor {
    /// A cursor that gives these states first, and goes on at a position.
    pub fn new(
        topics: BTreeSet<Topic>,
        position: u64,
        states: Vec<Arc<StreamEvent>>,
        is_from_earlier_run: bool,
    ) -> Cursor {
        Cursor { topics, position, states: states.into_iter(), is_from_earlier_run }
    }

    /// The topics that it reads.
    pub fn topics(&self) -> &BTreeSet<Topic> {
        &self.topics
    }

    /// The number of the last event that it has passed.
    pub fn passed(&self) -> u64 {
        self.position - 1
    }

    /// The next thing to give. `None`: nothing yet.
    pub fn next(&mut self, ring: &Ring) -> Option<Item> {
        if std::mem::take(&mut self.is_from_earlier_run) {
            return Some(Item::Gap { from: None, to: self.passed() });
        }
        if let Some(event) = self.states.next() {
            return Some(Item::Event(event));
        }
        match ring.read(self.position, |topic| self.topics.contains(topic)) {
            RingRead::Event(event) => {
                self.position = event.sequence + 1;
                Some(Item::Event(event))
            }
            RingRead::Missed { up_to } => {
                let from = std::mem::replace(&mut self.position, up_to + 1);
                self.states = ring.latest_states(&self.topics, from..=up_to).into_iter();
                Some(Item::Gap { from: Some(from), to: up_to })
            }
            RingRead::Nothing { next } => {
                self.position = next;
                None
            }
        }
    }
}
