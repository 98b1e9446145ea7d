//! One subscriber of an account's events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cursor::{Cursor, Item};
use super::feed::Feed;
use super::topic::Topic;

/// The room that a stream takes, until this is dropped.
#[derive(Debug)]
pub struct Admission(Arc<AtomicUsize>);

impl Admission {
    /// Takes room if fewer than `max` streams are open.
    pub(super) fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Admission> {
        let before = open.fetch_add(1, Ordering::Relaxed);
        let admission = Admission(open.clone());
        (before < max).then_some(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Told which topics a subscriber had that has left.
pub(super) type OnLeave = Box<dyn FnOnce(Vec<Topic>) + Send + Sync>;

/// A subscriber. Its subscription ends when it is dropped. It costs its topics and a position: what
/// it is too slow for, it misses and is told so.
pub struct Subscriber {
    feed: Arc<Feed>,
    cursor: Cursor,
    newest: watch::Receiver<u64>,
    on_leave: Option<OnLeave>,
    ended: CancellationToken,
    _admission: Admission,
}

impl Subscriber {
    /// A subscriber that was counted in.
    pub(super) fn new(
        feed: Arc<Feed>,
        cursor: Cursor,
        on_leave: OnLeave,
        admission: Admission,
        ended: CancellationToken,
    ) -> Subscriber {
        let newest = feed.watch();
        Subscriber { feed, cursor, newest, on_leave: Some(on_leave), ended, _admission: admission }
    }

    /// The id of an event. `None`: of the last one that the subscriber has passed.
    pub fn id(&self, sequence: Option<u64>) -> String {
        self.feed.id(sequence.unwrap_or(self.cursor.passed()))
    }

    /// Cancelled when the account stops serving, and with it this subscription.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Waits for the next thing to tell. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Item {
        loop {
            self.newest.mark_unchanged();
            if let Some(item) = self.try_next() {
                return item;
            }
            // The feed lives as long as its subscribers.
            let _ = self.newest.changed().await;
        }
    }

    /// The next thing to tell, if there is one.
    pub fn try_next(&mut self) -> Option<Item> {
        let item = self.feed.read(&mut self.cursor)?;
        self.count(&item);
        Some(item)
    }

    fn count(&self, item: &Item) {
        let Some(instruments) = self.feed.instruments() else {
            return;
        };
        match item {
            Item::Event(event) => instruments.sent(event.topic.kind as usize),
            Item::Gap { from: Some(from), to } => instruments.dropped.inc_by(to + 1 - from),
            Item::Gap { from: None, .. } => {}
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.feed.leave(self.cursor.topics());
        if let Some(on_leave) = self.on_leave.take() {
            on_leave(self.cursor.topics().iter().cloned().collect());
        }
    }
}
