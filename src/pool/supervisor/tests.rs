//! What the pool does when sessions fail, hang, come and go.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use tokio::task::JoinHandle;

use super::*;
use crate::account_name::AccountName;
use crate::actor::RestartPolicy;
use crate::clock::BootInstant;
use crate::metrics::{self, Catalog, Collector, LabelSets, Watch, collector};
use crate::mt5::{ServerClock, TradeRequest, calls};
use crate::pool::{
    AccountOptions, CallContext, CallError, LastCheck, Recycling, Savings, TradeError,
};
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
    fn launch(&self, session: usize, lease: Lease, events: EventSink) -> Box<dyn Terminal> {
        let earlier = self.launches.fetch_add(1, Ordering::Relaxed);
        assert!(earlier >= self.panics, "injected");
        self.simulator.launch(session, lease, events)
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
    async fn new(panics: usize, options: Options) -> Harness {
        Harness::with_latency(panics, options, Duration::ZERO).await
    }

    async fn with_latency(panics: usize, options: Options, latency: Duration) -> Harness {
        let measured = metrics::Options::of_tests();
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
            latency,
            faults: BTreeMap::new(),
        });
        let launcher = Arc::new(Faulty { panics, launches: AtomicUsize::new(0), simulator });
        let account = AccountOptions {
            name: AccountName::from_trusted("demo"),
            login: LOGIN,
            server: "S".to_owned(),
            sessions: 1,
            queue: 1,
            trade: false,
            paused: false,
            send_within: Duration::from_secs(5),
            send_within_close: Duration::from_secs(30),
            clock: ServerClock::RAW,
            launcher: launcher.clone(),
            recycling: Recycling { memory: Some(1_000), schedule: None },
        };
        let savings = Savings { share: false, cache: 0 };
        let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
        let accounts = Arc::new(accounts);
        Harness {
            launcher,
            catalog,
            metrics,
            pool: Pool::new(accounts.clone(), &depths),
            accounts,
            options: Arc::new(options),
        }
    }

    async fn start_pool(&self) -> (ActorRef<Envelope<Msg>>, JoinHandle<()>) {
        let args = Args {
            options: self.options.clone(),
            metrics: self.metrics.clone(),
            pool: self.pool.clone(),
        };
        Actor::spawn(None, PoolActor, args).await.unwrap()
    }

    fn account(&self) -> Arc<Account> {
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

fn pool_fails(pool: &ActorRef<Envelope<Msg>>) -> bool {
    let address = Address::new(Role::Pool, &Depths::default());
    address.assign(pool.clone());
    address.send(Msg::Fail).is_ok()
}

fn options() -> Options {
    Options {
        call_timeout: Duration::from_secs(5),
        trade_timeout: Duration::from_secs(5),
        probe_interval: Duration::from_secs(5),
        count_holdings: true,
        restart: RestartPolicy {
            backoff: Duration::from_millis(1),
            backoff_max: Duration::from_secs(60),
            budget: 1,
            window: Duration::from_secs(300),
        },
        quarantine_retry: Duration::from_secs(3600),
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_actor_that_fails_is_started_again_after_a_delay() {
    let backoff = Duration::from_secs(2);
    let restart = RestartPolicy { backoff, ..options().restart };
    let harness = Harness::new(1, Options { restart, ..options() }).await;
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

#[tokio::test(start_paused = true)]
async fn past_the_budget_a_session_actor_is_started_once_in_a_long_while() {
    let quarantine_retry = Duration::from_secs(1);
    let harness = Harness::new(2, Options { quarantine_retry, ..options() }).await;
    let began = Instant::now();
    harness.start_pool().await;
    harness.is_in(SessionState::Quarantined).await;
    assert_eq!(harness.launches(), 2);
    harness.is_in(SessionState::Ready).await;
    assert!(began.elapsed() >= quarantine_retry, "{:?}", began.elapsed());
    assert_eq!(harness.launches(), 3);
    harness.counts_restarts(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_account_starts_a_quarantined_session_at_once() {
    let harness = Harness::new(2, options()).await;
    harness.start_pool().await;
    harness.is_in(SessionState::Quarantined).await;
    assert_eq!(harness.pool.restart(&harness.account()).await, Some(true));
    harness.is_in(SessionState::Ready).await;
    assert_eq!(harness.launches(), 3);
    harness.counts_restarts(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_holds_too_much_is_recycled_unless_a_trade_is_searched_for() {
    let harness = Harness::new(0, options()).await;
    harness.start_pool().await;
    harness.is_in(SessionState::Ready).await;
    let account = harness.account();
    // The simulator has no process.
    let _watch = Watch::begin(&harness.metrics, account.id, 0, 1);
    let watchlist = harness.metrics.watchlist();
    assert!(watchlist.note_memory(&watchlist.workers()[0], 1_001).is_some());
    let recycle = async || {
        let later = Timestamp::now() + Duration::from_secs(660);
        assert!(harness.pool.address.send(Msg::RecycleAt(later)).is_ok());
        // Until nothing is left to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let looked = account.lost_trades();
    account.note_search();
    // A look that began before knows nothing of it.
    account.set_searches(0, looked);
    recycle().await;
    account.set_searches(0, account.lost_trades());
    let trade = account.begin_trade();
    recycle().await;
    drop(trade);
    assert_eq!(harness.launches(), 1, "it was not replaced while a trade was lost");
    let restarts = &harness.catalog.mt5_session_restarts_total;
    let restarts = restarts.with_label_values(&["demo", "recycle"]);
    recycle().await;
    eventually("it is replaced", || restarts.get() == 1).await;
    harness.is_in(SessionState::Ready).await;
    assert_eq!(harness.launches(), 2);
    // Somebody may ask for a restart again.
    let free = async || harness.pool.restart(&account).await == Some(true);
    for _ in 0..1_000 {
        if free().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the replacement never ends");
}

#[tokio::test(start_paused = true)]
async fn a_session_actor_that_fails_answers_its_callers_and_gives_their_permits_back() {
    let latency = Duration::from_millis(500);
    let harness = Harness::with_latency(0, options(), latency).await;
    harness.start_pool().await;
    harness.is_in(SessionState::Ready).await;
    let account = harness.account();
    let read = |patience: u64| {
        let deadline = Instant::now() + Duration::from_secs(patience);
        let context = CallContext::new("test".into(), deadline);
        let account = account.clone();
        async move { account.call(calls::Version, &context).await }
    };
    // The session looks at the account for half a second, and then sends for another half.
    let trade = account.trade(
        TradeRequest::default(),
        BootInstant::now() + Duration::from_secs(3_600),
        LastCheck::none(),
    );
    let fail = async {
        tokio::time::sleep(latency * 3 / 2).await;
        let address = &account.slots[0].address;
        assert!(address.send(session::Msg::Fail).is_ok());
    };
    let (traded, waiting, ()) = tokio::join!(trade, read(60), fail);
    let lost = "its session was restarted".to_owned();
    assert_eq!(traded, Err(TradeError::Unanswered(lost.clone())));
    assert_eq!(waiting.unwrap_err(), CallError::Died(lost));
    harness.counts_restarts(1).await;
    harness.is_in(SessionState::Ready).await;
    assert_eq!(account.status().sessions[0].queue_depth, 0);
    assert_eq!(harness.catalog.queue_depths()["demo"], 0.0);
    assert!(read(60).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_stops_waits_until_every_terminal_is_gone() {
    let harness = Harness::with_latency(0, options(), Duration::from_millis(500)).await;
    harness.start_pool().await;
    harness.is_in(SessionState::Ready).await;
    let account = harness.account();
    let context = CallContext::new("test".into(), Instant::now() + Duration::from_secs(60));
    let read = account.call(calls::Version, &context);
    let stop = async {
        tokio::task::yield_now().await;
        harness.pool.stop().await;
        assert!(account.slots[0].lease.try_lock().is_ok());
    };
    let (answer, ()) = tokio::join!(read, stop);
    assert!(answer.is_ok(), "a call that was under way is finished: {answer:?}");
    assert_eq!(harness.launches(), 1, "no session is started again");
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_an_actor_stops_once_every_terminal_is_gone_and_starts_none() {
    let harness = Harness::new(0, options()).await;
    let terminal = harness.account().slots[0].lease.clone().lock_owned().await;
    let mut stop = std::pin::pin!(harness.pool.stop());
    let waited = tokio::time::timeout(Duration::from_secs(60), &mut stop).await;
    assert!(waited.is_err(), "the terminal still runs");
    drop(terminal);
    stop.await;
    harness.start_pool().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(harness.launches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_started_again_owns_every_session() {
    let harness = Harness::new(0, options()).await;
    let (pool, ended) = harness.start_pool().await;
    harness.is_in(SessionState::Ready).await;
    assert!(pool_fails(&pool), "it takes messages");
    ended.await.unwrap();
    assert_eq!(harness.pool.restart(&harness.account()).await, None);
    harness.start_pool().await;
    eventually("the second terminal is started", || harness.launches() == 2).await;
    harness.is_in(SessionState::Ready).await;
    // Each session is in one state, whatever the first pool left behind.
    let sessions = |state: &SessionState| {
        let gauge = &harness.catalog.mt5_pool_sessions;
        gauge.with_label_values(&["demo", state.name()]).get()
    };
    let counted = || SessionState::ALL.iter().map(sessions).collect::<Vec<_>>();
    let expected: Vec<i64> =
        SessionState::ALL.iter().map(|state| i64::from(*state == SessionState::Ready)).collect();
    eventually("the session is counted once", || counted() == expected).await;
    let connected = harness.catalog.mt5_terminal_connected.with_label_values(&["demo"]);
    eventually("one terminal is connected", || connected.get() == 1).await;
}
