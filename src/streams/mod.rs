//! What changes, as it changes: one polling loop for each account and kind of
//! event serves every reader.
//!
//! A [`hub`] keeps the last events of an account in a buffer of bounded size, in which
//! each [`reader`] has a place; a reader that falls behind the buffer is told
//! what it missed, and costs nothing more than its place. The loops of [`poll`]
//! run while somebody reads, and are started again if they panic. This room never
//! answers for a terminal: what it could not ask is an event too.

mod event;
mod hub;
mod poll;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::streams::StreamInstruments;
use crate::pool::Accounts;

pub use self::event::{Content, Event, Kind, Topic};
pub use self::hub::Hub;
pub use self::reader::{Item, Reader};

/// How changes are looked for and kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Streams at once.
    pub max: usize,
    /// How often ticks are asked for.
    pub tick_interval: Duration,
    /// How often books, positions, orders and the account are asked for.
    pub state_interval: Duration,
    /// After how long without an event a reader is told that the stream lives.
    pub heartbeat: Duration,
    /// Bytes of events that are kept for each account.
    pub buffer: u64,
    /// How long a terminal may take for what a loop asks.
    pub timeout: Duration,
}

/// Every account's hub.
pub struct Streams {
    /// How changes are looked for and kept.
    pub options: Options,
    hubs: BTreeMap<String, Arc<Hub>>,
    open: Arc<AtomicUsize>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Streams {
    /// A hub for each account, with no readers. They end with `stop`.
    pub fn new(
        accounts: &Accounts,
        options: Options,
        instruments: Option<&StreamInstruments>,
        stop: CancellationToken,
    ) -> Streams {
        // Tells this run's events from those of the one before.
        let boot: Arc<str> = format!("{:x}", jiff::Timestamp::now().as_millisecond()).into();
        let hubs = accounts.iter().map(|account| {
            let instruments = instruments.map(|all| all.of(&account.name, Kind::NAMES));
            let (account, boot, poll) = (account.clone(), boot.clone(), poll::terminals());
            let name = account.name.clone();
            (name, Arc::new(Hub::new(account, boot, options.clone(), instruments, poll)))
        });
        let hubs = hubs.collect();
        Streams { options, hubs, open: Arc::default(), stop, tasks: TaskTracker::new() }
    }

    /// The hub of an account.
    pub fn hub(&self, account: &str) -> Option<&Arc<Hub>> {
        self.hubs.get(account)
    }

    /// Room for one more stream, if there is any.
    pub fn admit(&self) -> Option<Admission> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admission = Admission(self.open.clone());
        (before < self.options.max).then_some(admission)
    }

    /// Runs a stream to its end, which is waited for when the gateway stops.
    pub fn spawn(&self, stream: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(stream);
    }

    /// Cancelled when the gateway stops.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until every stream has ended.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The room that a stream takes, until this is dropped.
#[derive(Debug)]
pub struct Admission(Arc<AtomicUsize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
