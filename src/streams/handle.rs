//! The way to the streams of every account.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feed::Feed;
use super::hub::{self, Subscribe};
use super::poller::{self, Poll};
use super::subscriber::{Admission, Subscriber};
use super::supervisor;
use super::topic::{EventKind, Topic};
use crate::account_name::AccountName;
use crate::actor::{Address, Depths, Role};
use crate::metrics::Metrics;
use crate::metrics::streams::StreamInstruments;
use crate::pool::{Account, Accounts};

/// How changes are looked for and kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Streams that may be open at once.
    pub max: usize,
    /// How often ticks are asked for.
    pub tick_interval: Duration,
    /// How often books, positions, orders and the account are asked for.
    pub state_interval: Duration,
    /// After how long without an event a subscriber is told that the stream lives.
    pub heartbeat: Duration,
    /// Bytes of events that are kept for each account.
    pub buffer: u64,
    /// How long a terminal may take for what a poll asks.
    pub timeout: Duration,
}

/// The way to the streams of every account.
pub struct Streams {
    /// How changes are looked for and kept.
    pub options: Options,
    supervisor: supervisor::Args,
    instruments: Option<StreamInstruments>,
    poll: Poll,
    depths: Depths,
    open: Arc<AtomicUsize>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Streams {
    /// The way to actors that have yet to be started. Streams end with `stop`.
    pub fn new(
        accounts: &Accounts,
        options: Options,
        instruments: Option<StreamInstruments>,
        metrics: Metrics,
        depths: &Depths,
        stop: CancellationToken,
    ) -> Streams {
        let poll = poller::terminals();
        Streams::with_poll(accounts, options, instruments, metrics, depths, stop, poll)
    }

    /// The same with something else than terminals to poll.
    pub(super) fn with_poll(
        accounts: &Accounts,
        options: Options,
        instruments: Option<StreamInstruments>,
        metrics: Metrics,
        depths: &Depths,
        stop: CancellationToken,
        poll: Poll,
    ) -> Streams {
        let address = Address::new(Role::Streams, depths);
        let hubs = Arc::<RwLock<supervisor::Hubs>>::default();
        let supervisor = supervisor::Args { address, hubs, metrics };
        let depths = depths.clone();
        let (open, tasks) = (Arc::default(), TaskTracker::new());
        let streams = Streams { options, supervisor, instruments, poll, depths, open, stop, tasks };
        accounts.all().values().for_each(|account| streams.open(account));
        streams
    }

    /// Lets clients subscribe to an account that has come.
    pub fn open(&self, account: &Arc<Account>) {
        let name = account.name.clone();
        // Names this account's life in the ids of its events. An id of an account of the same name that
        // has gone must not be taken for one of this one's.
        let life = format!("{:x}-{:x}", Timestamp::now().as_millisecond(), account.id.0);
        let instruments = self.instruments.as_ref().map(|all| all.of(&name, EventKind::NAMES));
        let args = hub::Args {
            address: Address::of_account(Role::Hub, &name, &self.depths),
            account: account.clone(),
            feed: Arc::new(Feed::new(life.into(), self.options.buffer, instruments)),
            tick_interval: self.options.tick_interval,
            state_interval: self.options.state_interval,
            timeout: self.options.timeout,
            poll: self.poll.clone(),
        };
        self.supervisor.hubs.write().insert(name, args);
    }

    /// Ends the hub of an account that goes. Its streams have been told to end.
    pub async fn close(&self, account: &Account) {
        self.supervisor.hubs.write().remove(&account.name);
        let (reply, closed) = oneshot::channel();
        let message = supervisor::Msg::Close(account.name.clone(), reply);
        if self.supervisor.address.send(message).is_ok() {
            // An actor that fails ends the hub, and its successor starts none.
            let _ = closed.await;
        }
    }

    /// What the supervising actor needs.
    pub fn supervisor(&self) -> supervisor::Args {
        self.supervisor.clone()
    }

    /// Whether the supervising actor answers.
    pub async fn ping(&self) -> bool {
        self.supervisor.address.ping().await
    }

    /// Room for one more stream, if there is any.
    pub fn admit(&self) -> Option<Admission> {
        Admission::take(&self.open, self.options.max)
    }

    /// Subscribes to topics of an account: from the present on, or from what follows the event of an
    /// id. `None` while the actors for it are being restarted.
    pub async fn subscribe(
        &self,
        account: &AccountName,
        topics: Vec<Topic>,
        last_event_id: Option<String>,
        admission: Admission,
    ) -> Option<Subscriber> {
        let (reply, subscriber) = oneshot::channel();
        let subscribe = Subscribe { topics, last_event_id, admission, reply };
        let message = supervisor::Msg::Subscribe(account.clone(), subscribe);
        self.supervisor.address.send(message).ok()?;
        subscriber.await.ok()
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
