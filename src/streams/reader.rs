//! One reader's place among the events of an account.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::Admission;
use super::event::{Event, Topic};
use super::hub::{Hub, Look};

/// What a reader is given.
#[derive(Debug, Clone)]
pub enum Item {
    /// Something happened.
    Event(Arc<Event>),
    /// Events were missed, up to this one.
    Gap {
        /// The first that was missed; `None`: they were of an earlier run.
        from: Option<u64>,
        /// The last that was missed.
        to: u64,
    },
}

/// A reader. What it subscribed to ends with it.
pub struct Reader {
    hub: Arc<Hub>,
    topics: Vec<Topic>,
    read: BTreeSet<Topic>,
    /// The number of the event that it looks at next.
    place: u64,
    /// How things stand, for a reader that has just come.
    initial: std::vec::IntoIter<Arc<Event>>,
    /// It comes from an earlier run.
    forgotten: bool,
    newest: watch::Receiver<u64>,
    _admission: Admission,
}

impl Reader {
    pub(super) fn new(
        hub: Arc<Hub>,
        topics: Vec<Topic>,
        place: u64,
        initial: Vec<Arc<Event>>,
        forgotten: bool,
        newest: watch::Receiver<u64>,
        admission: Admission,
    ) -> Reader {
        Reader {
            hub,
            read: topics.iter().cloned().collect(),
            topics,
            place,
            initial: initial.into_iter(),
            forgotten,
            newest,
            _admission: admission,
        }
    }

    /// The id of an event, or of the last one that this reader has passed.
    pub fn id(&self, sequence: Option<u64>) -> String {
        self.hub.id(sequence.unwrap_or(self.place - 1))
    }

    /// The next thing for this reader. Can be dropped and asked again.
    pub async fn next(&mut self) -> Item {
        if std::mem::take(&mut self.forgotten) {
            return Item::Gap { from: None, to: self.place - 1 };
        }
        if let Some(event) = self.initial.next() {
            return self.sent(event);
        }
        loop {
            self.newest.mark_unchanged();
            match self.hub.look(self.place, |topic| self.read.contains(topic)) {
                Look::Event(event) => {
                    self.place = event.sequence + 1;
                    return self.sent(event);
                }
                Look::Missed { up_to } => {
                    let from = self.place;
                    self.place = up_to + 1;
                    self.initial = self.hub.standing(&self.topics, from..=up_to).into_iter();
                    if let Some(instruments) = &self.hub.instruments {
                        instruments.dropped.inc_by(up_to + 1 - from);
                    }
                    return Item::Gap { from: Some(from), to: up_to };
                }
                Look::Nothing { next } => {
                    self.place = next;
                    // The hub lives as long as its readers.
                    let _ = self.newest.changed().await;
                }
            }
        }
    }

    fn sent(&self, event: Arc<Event>) -> Item {
        if let Some(instruments) = &self.hub.instruments {
            instruments.sent(event.topic.kind as usize);
        }
        Item::Event(event)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.hub.leave(&self.topics);
    }
}
