//! The pool actor: supervises the sessions. Calls do not pass through it.
//!
//! A session whose actor fails, or cannot be started, is started again after the delays of
//! `[restart]`, the ones that a session has for its terminal: a session that fails whenever it
//! starts would otherwise start terminals as fast as the machine can.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{error, info};

use super::Options;
use super::accounts::{Account, Accounts};
use super::backoff::{History, Verdict};
use super::labels::SessionState;
use super::session::{self, Session};
use crate::actor::{Address, Depths, Envelope, Role};
use crate::metrics::{AccountId, Event, Metrics};

/// What the pool is told.
pub enum Msg {
    /// Start a session whose actor failed, unless it was started meanwhile.
    Start(SessionKey),
    /// Replace the terminals of an account, one at a time.
    Restart(Arc<Account>, oneshot::Sender<bool>),
    /// The replacements of an account are over.
    Restarted(Arc<Account>),
    /// Let every terminal finish and end it; answered when all are gone.
    Stop(oneshot::Sender<()>),
    /// Answers that it lives.
    Ping(oneshot::Sender<()>),
}

/// A session: its account, and which of the account's sessions it is.
pub type SessionKey = (AccountId, usize);

/// The way to the pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    address: Address<Msg>,
    /// Whether a pool actor has started before, which has reported the sessions' first state.
    announced: Arc<AtomicBool>,
}

impl Pool {
    /// A way to an actor that is still to be started.
    pub fn new(depths: &Depths) -> Pool {
        Pool { address: Address::new(Role::Pool, depths), announced: Arc::default() }
    }

    /// Begins to replace the terminals of an account. `false`: that is under way
    /// already. `None`: the pool is being restarted.
    pub async fn restart(&self, account: Arc<Account>) -> Option<bool> {
        let (reply, answer) = oneshot::channel();
        self.address.send(Msg::Restart(account, reply)).ok()?;
        answer.await.ok()
    }

    /// Lets every terminal finish and ends it.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.address.send(Msg::Stop(reply)).is_ok() {
            let _ = stopped.await;
        }
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.address.send(Msg::Ping(reply)).is_ok() && answer.await.is_ok()
    }
}

/// The actor.
pub struct Supervisor;

/// What the actor needs.
pub struct Args {
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// How sessions treat their terminals.
    pub options: Arc<Options>,
    /// Where to report.
    pub metrics: Metrics,
    /// Its own address.
    pub pool: Pool,
}

/// What the actor knows.
pub struct State {
    args: Args,
    sessions: HashMap<ActorId, Running>,
    /// Sessions without an actor, until their next start.
    delayed: HashMap<SessionKey, Delayed>,
    /// Failures of actors, not of terminals, which the sessions count themselves.
    failures: HashMap<SessionKey, History>,
    restarting: Vec<Arc<Account>>,
    stopping: bool,
}

/// A session that has an actor.
struct Running {
    args: session::Args,
    since: Instant,
}

/// A session whose actor failed.
struct Delayed {
    args: session::Args,
    /// Its next start, unless somebody is faster.
    start: AbortHandle,
}

impl Actor for Supervisor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.pool.address.assign(myself.clone());
        info!(actor = Role::Pool.name(), "actor started");
        Ok(State {
            args,
            sessions: HashMap::new(),
            delayed: HashMap::new(),
            failures: HashMap::new(),
            restarting: vec![],
            stopping: false,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let accounts = state.args.accounts.clone();
        let announced = state.args.pool.announced.swap(true, Ordering::Relaxed);
        for account in accounts.iter() {
            if announced {
                // The sessions of the pool that failed ended with it, in whatever state.
                for index in 0..account.slots.len() {
                    vacate(account, index, SessionState::Starting, None);
                }
            } else {
                account.announce();
            }
            for index in 0..account.slots.len() {
                let options = state.args.options.clone();
                let args = session::Args { account: account.clone(), index, options };
                state.start(&myself, args).await;
            }
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Start(key) => state.start_again(&myself, key).await,
            Msg::Restart(account, reply) => {
                let under_way = state.restarting.iter().any(|other| Arc::ptr_eq(other, &account));
                if !under_way && !state.stopping {
                    let started = state.start_delayed(&myself, &account).await;
                    state.restarting.push(account.clone());
                    tokio::spawn(restart_each(account, started, state.args.pool.clone()));
                }
                let _ = reply.send(!under_way);
            }
            Msg::Restarted(account) => {
                state.restarting.retain(|other| !Arc::ptr_eq(other, &account));
            }
            Msg::Stop(reply) => {
                state.stopping = true;
                for (_, delayed) in state.delayed.drain() {
                    delayed.start.abort();
                }
                tokio::spawn(stop_all(state.args.accounts.clone(), reply));
            }
            Msg::Ping(reply) => {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(actor, reason) => (actor, reason.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_else(|| "it was stopped".to_owned()))
            }
            _ => return Ok(()),
        };
        let Some(Running { args, since }) = state.sessions.remove(&actor.get_id()) else {
            return Ok(());
        };
        if !state.stopping {
            state.fail(args, since.elapsed(), &reason);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Otherwise the children would be killed without their own end.
        myself.stop_children_and_wait(None, None).await;
        info!(actor = Role::Pool.name(), "actor stopped");
        Ok(())
    }
}

impl State {
    /// Starts a session. `false`: its actor did not start, which is tried again later.
    async fn start(&mut self, myself: &ActorRef<Envelope<Msg>>, args: session::Args) -> bool {
        match Actor::spawn_linked(None, Session, args.clone(), myself.get_cell()).await {
            Ok((actor, _)) => {
                self.sessions.insert(actor.get_id(), Running { args, since: Instant::now() });
                true
            }
            Err(fault) => {
                self.fail(args, Duration::ZERO, &format!("the actor did not start: {fault}"));
                false
            }
        }
    }

    /// Starts a session whose actor failed, unless that has been done.
    async fn start_again(&mut self, myself: &ActorRef<Envelope<Msg>>, key: SessionKey) {
        let Some(Delayed { args, start }) = self.delayed.remove(&key) else {
            return;
        };
        start.abort();
        if self.start(myself, args).await {
            self.args.metrics.record(Event::ActorRestarted(Role::Session));
        }
    }

    /// Starts an account's sessions that wait for their next start, and tells which.
    async fn start_delayed(
        &mut self,
        myself: &ActorRef<Envelope<Msg>>,
        account: &Account,
    ) -> Vec<usize> {
        let keys = self.delayed.keys().filter(|(id, _)| *id == account.id);
        let keys: Vec<SessionKey> = keys.copied().collect();
        for key in &keys {
            self.start_again(myself, *key).await;
        }
        keys.into_iter().map(|(_, index)| index).collect()
    }

    /// Notes that a session's actor failed after it had run for a time, and schedules its next
    /// start. Until then the session takes no calls.
    fn fail(&mut self, args: session::Args, ran: Duration, reason: &str) {
        let (account, session) = (&args.account, args.index);
        let key = (account.id, session);
        let policy = &self.args.options.restart;
        let history = self.failures.entry(key).or_insert_with(|| History::new(policy.clone()));
        if ran >= policy.window {
            history.ready();
        }
        let verdict = history.failed(Instant::now(), false, rand::random_range(0.0..=1.0));
        let (to, delay, message) = match verdict {
            Verdict::Retry(delay) => (SessionState::BackingOff, delay, "actor restarting"),
            Verdict::Quarantine(delay) => (SessionState::Quarantined, delay, "actor quarantined"),
        };
        error!(
            actor = Role::Session.name(),
            account = account.name,
            session,
            reason,
            retry_in = ?delay,
            "{message}"
        );
        account.note_error(session, format!("the session's actor failed: {reason}"));
        vacate(account, session, to, Some(Instant::now() + delay));
        let start = self.args.pool.address.send_after(delay, Msg::Start(key));
        self.delayed.insert(key, Delayed { args, start });
    }
}

/// Notes that a session has no actor, and so no terminal.
fn vacate(account: &Account, index: usize, to: SessionState, retry_at: Option<Instant>) {
    account.set_connected(index, false);
    account.slots[index].set_busy_since(None, false);
    account.set_state(index, to, retry_at);
}

/// Replaces an account's terminals so that the others serve meanwhile, except those of sessions
/// that were started just now.
async fn restart_each(account: Arc<Account>, started: Vec<usize>, pool: Pool) {
    for (index, slot) in account.slots.iter().enumerate() {
        let (done, settled) = oneshot::channel();
        let skipped = started.contains(&index);
        if !skipped && slot.address.send(session::Msg::Restart(done)).is_ok() {
            // An error means that the session itself was restarted.
            let _ = settled.await;
        }
    }
    let _ = pool.address.send(Msg::Restarted(account));
}

async fn stop_all(accounts: Arc<Accounts>, reply: oneshot::Sender<()>) {
    let slots = accounts.iter().flat_map(|account| &account.slots);
    let stops = slots.filter_map(|slot| {
        let (done, gone) = oneshot::channel();
        slot.address.send(session::Msg::Stop(done)).ok().map(|()| gone)
    });
    futures_util::future::join_all(stops.collect::<Vec<_>>()).await;
    let _ = reply.send(());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicUsize;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::metrics::{self, Catalog, Collector, LabelSets, StatusLabels, collector};
    use crate::mt5::ServerClock;
    use crate::pool::{AccountOptions, Policy, Savings};
    use crate::terminal::simulator::{self, MarginMode};
    use crate::terminal::{EventSink, Launch, Lease, Mode, Terminal};

    const LOGIN: u64 = 1;

    /// Panics in the first launches, which ends the session actors that asked for them; after that
    /// it starts simulators.
    struct Faulty {
        panics: usize,
        launches: AtomicUsize,
        simulator: simulator::Launcher,
    }

    impl Launch for Faulty {
        fn launch(&self, lease: Lease, events: EventSink) -> Box<dyn Terminal> {
            let earlier = self.launches.fetch_add(1, Ordering::Relaxed);
            assert!(earlier >= self.panics, "injected");
            self.simulator.launch(lease, events)
        }

        fn mode(&self) -> Mode {
            self.simulator.mode()
        }

        fn init_timeout(&self) -> Duration {
            self.simulator.init_timeout()
        }
    }

    /// A pool with one session.
    struct Harness {
        launcher: Arc<Faulty>,
        catalog: Arc<Catalog>,
        metrics: Metrics,
        accounts: Arc<Accounts>,
        options: Arc<Options>,
        pool: Pool,
    }

    impl Harness {
        /// Nothing but the metrics actor is started.
        async fn new(panics: usize, restart: Policy) -> Harness {
            let measured = metrics::Options {
                enabled: true,
                status_labels: StatusLabels::Exact,
                duration_buckets: vec![1.0],
                call_buckets: vec![1.0],
            };
            let accounts = [("demo".to_owned(), 1)];
            let catalog = Catalog::new(&measured, &accounts, &LabelSets::default()).unwrap();
            let catalog = Arc::new(catalog);
            let depths = Depths::default();
            let metrics = Metrics::new(&depths, true);
            let args = collector::Args::new(catalog.clone(), depths.clone(), metrics.clone());
            Actor::spawn(None, Collector, args).await.unwrap();
            let simulator = simulator::Launcher::new(simulator::Options {
                login: LOGIN,
                server: "S".to_owned(),
                seed: 1,
                balance: 1_000.0,
                margin_mode: MarginMode::Hedging,
                commission: 0.0,
                bars: BTreeMap::new(),
                latency: Duration::ZERO,
                faults: BTreeMap::new(),
            });
            let launcher = Arc::new(Faulty { panics, launches: AtomicUsize::new(0), simulator });
            let account = AccountOptions {
                name: "demo".to_owned(),
                login: LOGIN,
                server: "S".to_owned(),
                sessions: 1,
                queue: 1,
                trade: false,
                send_within: Duration::from_secs(5),
                send_within_close: Duration::from_secs(30),
                clock: ServerClock::RAW,
                launcher: launcher.clone(),
            };
            let savings = Savings { share: false, cache: 0 };
            let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
            let options = Options {
                call_timeout: Duration::from_secs(5),
                trade_timeout: Duration::from_secs(5),
                probe_interval: Duration::from_secs(5),
                restart,
            };
            Harness {
                launcher,
                catalog,
                metrics,
                accounts: Arc::new(accounts),
                options: Arc::new(options),
                pool: Pool::new(&depths),
            }
        }

        async fn start_pool(&self) -> (ActorRef<Envelope<Msg>>, JoinHandle<()>) {
            let args = Args {
                accounts: self.accounts.clone(),
                options: self.options.clone(),
                metrics: self.metrics.clone(),
                pool: self.pool.clone(),
            };
            Actor::spawn(None, Supervisor, args).await.unwrap()
        }

        fn account(&self) -> &Arc<Account> {
            self.accounts.get("demo").unwrap()
        }

        fn state(&self) -> SessionState {
            self.account().status().sessions[0].state
        }

        fn launches(&self) -> usize {
            self.launcher.launches.load(Ordering::Relaxed)
        }

        async fn is_in(&self, state: SessionState) {
            eventually(state.name(), || self.state() == state).await;
        }

        /// Waits until so many restarts of session actors are counted.
        async fn counts_restarts(&self, expected: u64) {
            let restarts = &self.catalog.gateway_actor_restarts_total;
            let restarts = restarts.with_label_values(&[Role::Session.name()]);
            eventually("the restarts are counted", || restarts.get() == expected).await;
        }
    }

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < until, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn policy() -> Policy {
        Policy {
            backoff: Duration::from_millis(1),
            backoff_max: Duration::from_secs(60),
            budget: 1,
            window: Duration::from_secs(300),
            quarantine_retry: Duration::from_secs(3600),
        }
    }

    #[tokio::test]
    async fn a_session_actor_that_fails_is_started_again_after_a_delay() {
        let backoff = Duration::from_secs(2);
        let harness = Harness::new(1, Policy { backoff, ..policy() }).await;
        let began = Instant::now();
        harness.start_pool().await;
        harness.is_in(SessionState::BackingOff).await;
        assert_eq!(harness.launches(), 1);
        let status = harness.account().status();
        assert!(!status.ready);
        let error = status.sessions[0].last_error.as_ref().unwrap();
        assert_eq!(error.message, "the session's actor failed: injected");
        harness.is_in(SessionState::Ready).await;
        // The delay is spread over the second half of the backoff.
        assert!(began.elapsed() >= backoff / 2, "{:?}", began.elapsed());
        assert_eq!(harness.launches(), 2);
        harness.counts_restarts(1).await;
    }

    #[tokio::test]
    async fn past_the_budget_a_session_actor_is_started_once_in_a_long_while() {
        let quarantine_retry = Duration::from_secs(1);
        let harness = Harness::new(2, Policy { quarantine_retry, ..policy() }).await;
        let began = Instant::now();
        harness.start_pool().await;
        harness.is_in(SessionState::Quarantined).await;
        assert_eq!(harness.launches(), 2);
        harness.is_in(SessionState::Ready).await;
        assert!(began.elapsed() >= quarantine_retry, "{:?}", began.elapsed());
        assert_eq!(harness.launches(), 3);
        harness.counts_restarts(2).await;
    }

    #[tokio::test]
    async fn a_restart_of_the_account_starts_a_quarantined_session_at_once() {
        let harness = Harness::new(2, policy()).await;
        harness.start_pool().await;
        harness.is_in(SessionState::Quarantined).await;
        assert_eq!(harness.pool.restart(harness.account().clone()).await, Some(true));
        harness.is_in(SessionState::Ready).await;
        assert_eq!(harness.launches(), 3);
        harness.counts_restarts(2).await;
    }

    #[tokio::test]
    async fn a_pool_that_is_started_again_owns_every_session() {
        let harness = Harness::new(0, policy()).await;
        let (pool, ended) = harness.start_pool().await;
        harness.is_in(SessionState::Ready).await;
        pool.kill();
        ended.await.unwrap();
        harness.start_pool().await;
        eventually("the second terminal is started", || harness.launches() == 2).await;
        harness.is_in(SessionState::Ready).await;
        // Each session is in one state, whatever the first pool left behind.
        let sessions = |state: &SessionState| {
            let gauge = &harness.catalog.mt5_pool_sessions;
            gauge.with_label_values(&["demo", state.name()]).get()
        };
        let counted = || SessionState::ALL.iter().map(sessions).collect::<Vec<_>>();
        let expected: Vec<i64> = SessionState::ALL
            .iter()
            .map(|state| i64::from(*state == SessionState::Ready))
            .collect();
        eventually("the session is counted once", || counted() == expected).await;
        let connected = harness.catalog.mt5_terminal_connected.with_label_values(&["demo"]);
        eventually("one terminal is connected", || connected.get() == 1).await;
    }
}
