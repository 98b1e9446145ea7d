//! Accounts that doctor starts itself, because no gateway runs: without the journal and without the right
//! to trade, in a gateway that listens nowhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gateway;
use super::shown::Status;
use crate::actor::RestartPolicy;
use crate::api::Keys;
use crate::app::{Error, Service};
use crate::control::Remote;
use crate::settings::Settings;
use crate::telemetry::Events;

/// How long a terminal that has logged in may take to find its broker.
const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// From one look at the sessions to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A session that failed is left as it is: its next start is after the end of doctor. Brokers lock
/// accounts that try to log in again and again.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A gateway of doctor's own.
pub struct OwnGateway {
    /// The way to it.
    pub remote: Remote,
    stop: oneshot::Sender<&'static str>,
    serving: JoinHandle<Result<(), Error>>,
    /// How long sessions may take until they are ready.
    patience: Duration,
}

impl OwnGateway {
    /// Starts the accounts of these settings.
    ///
    /// # Errors
    /// Why that cannot be.
    pub async fn start(mut settings: Settings, events: Events) -> Result<OwnGateway, Error> {
        for account in &mut settings.accounts {
            account.trade = false;
            account.paused = false;
        }
        settings.keys = Keys::default();
        settings.pool.restart =
            RestartPolicy { backoff: NEVER, backoff_max: NEVER, budget: 0, window: NEVER };
        settings.pool.quarantine_retry = NEVER;
        // A start, a login, and the first answers after that.
        let init_timeouts = settings.accounts.iter().map(|account| account.launcher.init_timeout());
        let init_timeout = init_timeouts.max().unwrap_or_default();
        let patience = 2 * init_timeout + settings.pool.call_timeout;
        let service = Service::start_to_look(settings, events).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let connections = futures_util::stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        });
        let connections = connections.map(move |connection| (connection, client));
        // It would stop if there were no further connections.
        let connections = connections.chain(futures_util::stream::pending());
        let (stop, stopped) = oneshot::channel();
        let signals =
            Box::pin(futures_util::stream::once(async { stopped.await.unwrap_or("end") }));
        let serving = tokio::spawn(service.serve(connections, signals));
        Ok(OwnGateway { remote: Remote::within(sender), stop, serving, patience })
    }

    /// Waits until every session is ready or has failed, or has had the time for it, and gives the
    /// accounts.
    pub async fn settled(&self) -> BTreeMap<String, Status> {
        let until = Instant::now() + self.patience;
        let mut without_broker: Option<Instant> = None;
        loop {
            let accounts = gateway::accounts(&self.remote).await.unwrap_or_default();
            let states = accounts.values().flat_map(|account| &account.sessions);
            let states: Vec<&str> = states.map(|session| session.state.as_str()).collect();
            let starts = states.iter().any(|state| matches!(*state, "starting" | "logging_in"));
            let waits = states.contains(&"disconnected");
            without_broker = without_broker.filter(|_| waits).or(waits.then(Instant::now));
            let waits_on = without_broker.is_some_and(|since| since.elapsed() < BROKER_WITHIN);
            if !starts && !waits_on || Instant::now() >= until {
                return accounts;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends the terminals, and waits until they are gone.
    pub async fn end(self) {
        let OwnGateway { remote, stop, serving, .. } = self;
        drop(remote);
        let _ = stop.send("end");
        let _ = serving.await;
    }
}
