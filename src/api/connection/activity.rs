//! What is under way on one connection: the facts that its time limits are judged by.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The activity of one connection, shared by its stream, its requests, their bodies and its limits.
#[derive(Debug)]
pub struct Activity {
    pub opened: Instant,
    /// Requests whose responses the connection has not taken yet, and chunks of bodies that it has
    /// taken but not written.
    under_way: AtomicUsize,
    /// When the client stopped reading what is written to it, in milliseconds after `opened`, or
    /// [`READING`].
    blocked_since: AtomicU64,
    /// When the last request or chunk ended, in milliseconds after `opened`.
    last_end: AtomicU64,
    /// HTTP/2 streams whose flow-control window the client keeps shut, in the order of their
    /// beginnings, each with its last progress. A blocked stream does not block the connection.
    blocked_streams: Mutex<BTreeMap<u64, Instant>>,
    next_stream: AtomicU64,
}

/// A request, or a chunk of a body, that is under way until this is dropped.
#[derive(Debug)]
pub struct ActivityGuard(Arc<Activity>);

/// An HTTP/2 stream that waits for its client to open its window, until this is dropped.
#[derive(Debug)]
pub struct BlockedStream {
    activity: Arc<Activity>,
    id: u64,
}

/// A chunk of a response's body on its way to the client. It counts as under way until it is
/// written.
#[derive(Debug)]
pub struct BodyChunk<B> {
    data: B,
    stream: Option<Arc<BlockedStream>>,
    _under_way: ActivityGuard,
}

/// The client reads what is written to it.
const READING: u64 = u64::MAX;

// === impl Activity ===

impl Activity {
    pub fn new() -> Arc<Activity> {
        Arc::new(Activity {
            opened: Instant::now(),
            under_way: AtomicUsize::new(0),
            blocked_since: AtomicU64::new(READING),
            last_end: AtomicU64::new(0),
            blocked_streams: Mutex::default(),
            next_stream: AtomicU64::new(0),
        })
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn begin(self: &Arc<Activity>) -> ActivityGuard {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        ActivityGuard(self.clone())
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        // Pairs with the end of a request, which notes when that was.
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Notes whether the client took what was written to it.
    pub fn wrote(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        if blocked && since == READING {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !blocked && since != READING {
            self.note_end();
            self.blocked_since.store(READING, Ordering::Relaxed);
        }
    }

    /// Returns once nothing has been under way for `limit`, counted from `since` at the earliest.
    pub async fn quiet(&self, limit: Duration, since: Instant) {
        loop {
            let quiet = self.quiet_for().min(since.elapsed());
            if quiet >= limit {
                return;
            }
            tokio::time::sleep(limit - quiet).await;
        }
    }

    /// Returns once the client has read nothing for `limit` of what waits for it.
    pub async fn stuck(&self, limit: Duration) {
        loop {
            let stuck = self.stuck_for();
            if stuck >= limit {
                return;
            }
            tokio::time::sleep(limit - stuck).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(READING - 1)
    }

    fn note_end(&self) {
        self.last_end.store(self.now(), Ordering::Relaxed);
    }

    fn quiet_for(&self) -> Duration {
        if !self.is_idle() || self.blocked_since.load(Ordering::Relaxed) != READING {
            return Duration::ZERO;
        }
        let last_end = Duration::from_millis(self.last_end.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last_end)
    }

    fn stuck_for(&self) -> Duration {
        let connection = match self.blocked_since.load(Ordering::Relaxed) {
            READING => Duration::ZERO,
            since => self.opened.elapsed().saturating_sub(Duration::from_millis(since)),
        };
        let streams = self.blocked_streams.lock();
        let stream = streams.values().min().map_or(Duration::ZERO, Instant::elapsed);
        connection.max(stream)
    }
}

// === impl ActivityGuard ===

impl ActivityGuard {
    /// Notes that an HTTP/2 stream waits for its client.
    pub fn blocked_stream(&self) -> Arc<BlockedStream> {
        let id = self.0.next_stream.fetch_add(1, Ordering::Relaxed);
        let stream = BlockedStream { activity: self.0.clone(), id };
        stream.progress();
        Arc::new(stream)
    }

    /// Counts a chunk of the response's body as under way, too, until it is written.
    pub fn chunk<B>(&self, data: B, stream: Option<Arc<BlockedStream>>) -> BodyChunk<B> {
        BodyChunk { data, stream, _under_way: self.0.begin() }
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.0.note_end();
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

// === impl BlockedStream ===

impl BlockedStream {
    fn progress(&self) {
        self.activity.blocked_streams.lock().insert(self.id, Instant::now());
    }
}

impl Drop for BlockedStream {
    fn drop(&mut self) {
        self.activity.blocked_streams.lock().remove(&self.id);
    }
}

// === impl BodyChunk ===

impl<B: Buf> Buf for BodyChunk<B> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(stream) = &self.stream {
            stream.progress();
        }
    }
}
