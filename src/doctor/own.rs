//! Accounts that doctor starts itself, because no gateway runs: without the journal and without the right
//! to trade, in a gateway that listens nowhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gateway;
use super::shown::{SessionShown, Status};
use crate::actor::RestartPolicy;
use crate::api::Keys;
use crate::app::{Error, Service};
use crate::control::Remote;
use crate::settings::Settings;
use crate::telemetry::Events;
use crate::terminal::provisioning::Terminals;

/// How long a terminal that has logged in may take to find its broker.
const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// From one look at the sessions to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long copies of terminals are waited for.
pub const COPIED_WITHIN: Duration = Duration::from_secs(600);

/// A session that failed is left as it is: its next start is after the end of doctor. Brokers lock
/// accounts that try to log in again and again.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A gateway of doctor's own.
pub struct OwnGateway {
    /// The way to it.
    pub remote: Remote,
    stop: oneshot::Sender<&'static str>,
    serving: JoinHandle<Result<(), Error>>,
    /// How long sessions may take until they are ready, once they have their terminals' files.
    patience: Duration,
    terminals: Arc<Terminals>,
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
        let terminals = settings.terminals.clone();
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
        Ok(OwnGateway { remote: Remote::within(sender), stop, serving, patience, terminals })
    }

    /// Waits until every session is ready or has failed, or has had the time for it, and gives the
    /// accounts.
    pub async fn settled(&self) -> BTreeMap<String, Status> {
        let mut wait = Wait::begin(self.patience, Instant::now());
        loop {
            let mut accounts = gateway::accounts(&self.remote).await.unwrap_or_default();
            for (name, account) in &mut accounts {
                for (index, session) in account.sessions.iter_mut().enumerate() {
                    session.is_being_copied = self.terminals.is_providing(name, index);
                }
            }
            let sessions = accounts.values().flat_map(|account| &account.sessions);
            if !wait.goes_on(sessions, Instant::now()) {
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

/// How long sessions are waited for.
struct Wait {
    patience: Duration,
    /// When nothing is waited for any longer, unless a terminal is being copied.
    until: Instant,
    /// When copies are not waited for any longer.
    copied_until: Instant,
    /// Since when a terminal has logged in and does not hear its broker.
    without_broker: Option<Instant>,
}

impl Wait {
    fn begin(patience: Duration, now: Instant) -> Wait {
        let (until, copied_until) = (now + patience, now + COPIED_WITHIN);
        Wait { patience, until, copied_until, without_broker: None }
    }

    /// Whether one of the sessions may still become ready.
    fn goes_on<'a>(
        &mut self,
        sessions: impl Iterator<Item = &'a SessionShown>,
        now: Instant,
    ) -> bool {
        let (mut starts, mut is_copied, mut waits) = (false, false, false);
        for session in sessions {
            starts |= matches!(session.state.as_str(), "starting" | "logging_in");
            is_copied |= session.is_being_copied;
            waits |= session.state == "disconnected";
        }
        // The start begins when the copy is there.
        if is_copied && now < self.copied_until {
            self.until = now + self.patience;
        }
        self.without_broker = self.without_broker.filter(|_| waits).or(waits.then_some(now));
        let waits_on = self.without_broker.is_some_and(|since| now - since < BROKER_WITHIN);
        // A copy that takes too long leaves no time for its start.
        let is_late = is_copied && now >= self.copied_until;
        (starts && !is_late || waits_on) && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(state: &str, is_being_copied: bool) -> SessionShown {
        let (state, since) = (state.to_owned(), String::new());
        SessionShown { state, is_being_copied, since, last_login: None, last_error: None }
    }

    #[tokio::test]
    async fn a_copy_is_waited_for_and_its_start_begins_after_it() {
        let (patience, second) = (Duration::from_secs(150), Duration::from_secs(1));
        let now = Instant::now();
        let goes_on = |wait: &mut Wait, session: SessionShown, after: Duration| {
            wait.goes_on([session].iter(), now + after)
        };
        let mut wait = Wait::begin(patience, now);
        assert!(goes_on(&mut wait, session("starting", false), patience - second));
        assert!(!goes_on(&mut wait, session("starting", false), patience));

        let mut wait = Wait::begin(patience, now);
        let copied = COPIED_WITHIN - second;
        assert!(goes_on(&mut wait, session("starting", true), copied));
        assert!(goes_on(&mut wait, session("logging_in", false), copied + patience - second));
        assert!(!goes_on(&mut wait, session("logging_in", false), copied + patience));

        // Not for ever.
        let mut wait = Wait::begin(patience, now);
        assert!(goes_on(&mut wait, session("starting", true), copied));
        assert!(!goes_on(&mut wait, session("starting", true), COPIED_WITHIN));
    }

    #[tokio::test]
    async fn what_is_ready_or_has_failed_is_not_waited_for_and_a_broker_shortly() {
        let now = Instant::now();
        let mut wait = Wait::begin(Duration::from_secs(150), now);
        for state in ["ready", "backing_off", "quarantined"] {
            assert!(!wait.goes_on([session(state, false)].iter(), now), "{state}");
        }
        assert!(wait.goes_on([session("disconnected", false)].iter(), now));
        let late = now + BROKER_WITHIN;
        assert!(!wait.goes_on([session("disconnected", false)].iter(), late));
    }
}
