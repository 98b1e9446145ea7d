//! What the hub of an account shares with its subscribers.
//!
//! The hub alone writes events and admits subscribers. It shares them here for two reasons. A
//! thousand subscribers that read through the hub's mailbox would cost it a thousand messages for
//! each tick; here they read side by side, under a lock that the hub takes for an instant per batch.
//! And both outlive a hub that fails, so that its successor finds the subscribers and the numbers of
//! events where they were.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

use super::cursor::{Cursor, Item};
use super::ring::Ring;
use super::topic::{EventKind, Topic};
use crate::metrics::streams::AccountStreams;

/// The events of one account, and how many subscribers each topic has.
pub struct Feed {
    /// Names this run of the gateway in the ids of events.
    boot: Arc<str>,
    ring: RwLock<Ring>,
    /// The number of the newest event, for subscribers that wait.
    newest: watch::Sender<u64>,
    audience: Mutex<Audience>,
    /// A hub has served before.
    had_hub: AtomicBool,
    instruments: Option<AccountStreams>,
}

#[derive(Default)]
struct Audience {
    subscribers: i64,
    /// Topics that have subscribers, and how many.
    topics: BTreeMap<Topic, usize>,
}

impl Feed {
    /// A feed without events, for at most so many bytes of them.
    pub fn new(boot: Arc<str>, buffer: u64, instruments: Option<AccountStreams>) -> Feed {
        Feed {
            boot,
            ring: RwLock::new(Ring::new(buffer)),
            newest: watch::Sender::new(0),
            audience: Mutex::default(),
            had_hub: AtomicBool::new(false),
            instruments,
        }
    }

    /// The id of an event: the run of the gateway, and the event's number.
    pub fn id(&self, sequence: u64) -> String {
        format!("{}-{sequence}", self.boot)
    }

    /// Reads the id of an event. `None`: it belongs to another run, or is no id.
    pub fn sequence(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&*self.boot)?.strip_prefix('-')?.parse().ok()
    }

    /// Notes that a hub serves. Whether another one did before.
    pub fn begin_hub(&self) -> bool {
        self.had_hub.swap(true, Ordering::Relaxed)
    }

    /// Changes the events, and wakes the subscribers if there are new ones.
    pub fn write<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        let result = self.append(change);
        self.announce();
        result
    }

    /// Changes the events. Subscribers that wait find new ones at the next
    /// [`announce`](Self::announce).
    pub fn append<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        change(&mut self.ring.write())
    }

    /// Wakes the subscribers if there are events that they were not woken for.
    pub fn announce(&self) {
        let newest = self.ring.read().newest();
        self.newest.send_if_modified(|announced| std::mem::replace(announced, newest) != newest);
    }

    /// Gives what is next at a cursor, without waiting.
    pub fn read(&self, cursor: &mut Cursor) -> Option<Item> {
        cursor.next(&self.ring.read())
    }

    /// Tells of new events from now on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// How many topics are remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.ring.read().topics()
    }

    /// Whether a topic has subscribers.
    pub fn is_subscribed(&self, topic: &Topic) -> bool {
        self.audience.lock().topics.contains_key(topic)
    }

    /// The topics of a kind that have subscribers.
    pub fn subscribed(&self, kind: EventKind) -> Vec<Topic> {
        let audience = self.audience.lock();
        audience.topics.keys().filter(|topic| topic.kind == kind).cloned().collect()
    }

    /// Whether there is any subscriber.
    pub fn has_subscribers(&self) -> bool {
        self.audience.lock().subscribers > 0
    }

    /// Counts a subscriber in.
    pub fn join(&self, topics: &BTreeSet<Topic>) {
        let mut audience = self.audience.lock();
        for topic in topics {
            *audience.topics.entry(topic.clone()).or_default() += 1;
        }
        self.count(&mut audience, 1);
    }

    /// Counts a subscriber out.
    pub fn leave(&self, topics: &BTreeSet<Topic>) {
        let mut audience = self.audience.lock();
        for topic in topics {
            if let Some(subscribers) = audience.topics.get_mut(topic) {
                *subscribers -= 1;
                if *subscribers == 0 {
                    audience.topics.remove(topic);
                }
            }
        }
        self.count(&mut audience, -1);
    }

    fn count(&self, audience: &mut Audience, change: i64) {
        audience.subscribers += change;
        if let Some(instruments) = &self.instruments {
            instruments.subscribers.set(audience.subscribers);
        }
    }

    /// What is measured of the account's streams. `None`: nothing is.
    pub fn instruments(&self) -> Option<&AccountStreams> {
        self.instruments.as_ref()
    }
}
