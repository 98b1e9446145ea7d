//! Start order, signals, and the order of the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use ractor::{Actor, ActorRef};
use strum::VariantNames;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::actor::{Depths, Envelope, Role};
use crate::administration::Administrator;
use crate::api::{self, App, LiveKeys, ScrapeLimit};
use crate::lifecycle::Lifecycle;
use crate::metrics::requests::HttpInstruments;
use crate::metrics::streams::StreamInstruments;
use crate::metrics::{Catalog, LabelSets, Metrics};
use crate::pool::{Accounts, Pool, Rejection, RestartReason, SessionState, TradeBlock};
use crate::root::{self, Gateway, Root};
use crate::sampler::{self, FirstSample};
use crate::service::{self, Manager};
use crate::settings::Settings;
pub use crate::signals::{hangups, signals};
use crate::streams::{self, Streams};
use crate::telemetry::Events;
use crate::trading::{self, Journal, JournalError, Left, NoJournal, Trading, TradingActor};

/// File descriptors that are asked for: one a connection, and a few a terminal.
#[cfg(unix)]
const FILE_DESCRIPTORS: u64 = 65_536;

/// How long a trading actor that was killed may take to end. It takes a moment.
const TRADING_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// How often an actor that is about to end is asked whether it still answers.
const PING_INTERVAL: Duration = Duration::from_millis(1);

/// The closed sets of label values, from the rooms that own them.
pub const LABEL_SETS: LabelSets = LabelSets {
    session_states: <SessionState as VariantNames>::VARIANTS,
    restart_reasons: RestartReason::VARIANTS,
    rejections: Rejection::VARIANTS,
    trade_blocks: TradeBlock::VARIANTS,
    opening_blocks: TradeBlock::OF_OPENING,
    trade_outcomes: trading::TradeState::OUTCOMES,
    stream_events: streams::EventKind::NAMES,
    sampler_groups: sampler::Group::NAMES,
};

/// Why the gateway could not run, or stopped running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {0}: {1}; choose another address with --listen or `server.listen`")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The families could not be made.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The root actor did not start.
    #[error("the actors cannot be started: {0}")]
    Actors(#[from] ractor::SpawnErr),
    /// An actor that the service cannot be without failed again and again.
    #[error("the {} actor failed again and again", .0.name())]
    GivenUp(Role),
    /// The root actor failed, and with it all others ended.
    #[error("the gateway actor failed")]
    RootFailed,
    /// Another gateway uses the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A second signal came.
    #[error("stopped at once by a second signal")]
    StoppedAtOnce,
}

/// Runs the service until a signal, and tells a service manager how far it is. `hangups`: whenever the
/// settings are to be read again.
///
/// # Errors
/// Why it could not start, or had to stop.
pub async fn run(
    settings: Settings,
    events: Events,
    manager: Box<dyn Manager>,
    signals: impl Stream<Item = &'static str> + Unpin,
    hangups: impl Stream<Item = ()>,
) -> Result<(), Error> {
    raise_file_descriptors();
    let cannot_listen = |error| Error::Listen(settings.listen, error);
    let listener = TcpListener::bind(settings.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let service = Service::start(settings, events).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        api = %format_args!("http://{address}/api/v1/accounts"),
        docs = %format_args!("http://{address}/docs"),
        metrics = %format_args!("http://{address}/metrics"),
        "listening"
    );
    let administration = service.app.administration.clone();
    let reloads = hangups.for_each(|()| {
        info!("SIGHUP, settings are read again");
        // It goes on by itself, and the log says what came of it. A later one must not wait for it.
        drop(administration.reload());
        std::future::ready(())
    });
    let reloads = reloads.then(|()| std::future::pending::<()>());
    let gateway = service.app.gateway.clone();
    let answers = async |within| gateway.silent(within).await.is_empty();
    let reports = service::report(manager, service.stop.clone(), service.shutdown_grace, answers);
    tokio::select! {
        ended = service.serve(api::connections(listener), signals) => ended,
        () = reports => unreachable!("reports never end"),
        () = reloads => unreachable!("it is pending for ever"),
    }
}

/// What the accounts are started for.
#[derive(PartialEq)]
enum Purpose {
    /// To serve them.
    Serving,
    /// To look at them, beside a gateway that may run: without the journal, and what is on disk stays.
    Looking,
}

/// Everything that runs, but for the connections.
pub struct Service {
    /// The accounts.
    pub accounts: Arc<Accounts>,
    app: Arc<App>,
    /// Cancelled when no new requests are taken.
    stop: CancellationToken,
    root: ActorRef<Envelope<root::Msg>>,
    root_task: JoinHandle<()>,
    given_up: mpsc::UnboundedReceiver<Role>,
    shutdown_grace: Duration,
}

impl Service {
    /// Starts the actors, and with them the terminals.
    ///
    /// # Errors
    /// Why that cannot be.
    pub async fn start(settings: Settings, events: Events) -> Result<Service, Error> {
        Service::start_for(Purpose::Serving, settings, events).await
    }

    /// The same without the journal, which another gateway may have. Nothing may trade.
    ///
    /// # Errors
    /// Why that cannot be.
    pub async fn start_to_look(settings: Settings, events: Events) -> Result<Service, Error> {
        Service::start_for(Purpose::Looking, settings, events).await
    }

    async fn start_for(
        purpose: Purpose,
        settings: Settings,
        events: Events,
    ) -> Result<Service, Error> {
        let depths = Depths::default();
        let keys = Arc::new(LiveKeys::new(settings.keys.clone()));
        let administered = settings.administered();
        let sessions: Vec<(String, usize)> = settings
            .accounts
            .iter()
            .map(|account| (account.name.to_string(), account.sessions))
            .collect();
        let catalog = Arc::new(Catalog::new(&settings.metrics, &sessions, &LABEL_SETS)?);
        let metrics = Metrics::new(&depths, settings.metrics.enabled);
        let accounts =
            Accounts::new(settings.accounts, settings.reads, &catalog, &metrics, &depths);
        let accounts = Arc::new(accounts);
        let journal = match purpose {
            Purpose::Serving => open_journal(&settings.trading, &accounts, &metrics, &depths)?,
            Purpose::Looking => Err(NoJournal::NotNeeded),
        };
        let trading = Trading::new(&depths, journal, settings.trading, &accounts, metrics.clone());
        let pool = Pool::new(accounts.clone(), &depths);
        let stop = CancellationToken::new();
        let measured = settings.metrics.enabled.then(|| StreamInstruments::new(catalog.clone()));
        let streams = Streams::new(
            &accounts,
            settings.streams,
            measured,
            metrics.clone(),
            &depths,
            stop.clone(),
        );
        let streams = Arc::new(streams);
        let gateway =
            Gateway::new(&depths, metrics.clone(), pool.clone(), trading.clone(), streams.clone());
        let (sampled_sender, first_sample) = FirstSample::new();
        let (given_up_sender, given_up) = mpsc::unbounded_channel();
        let args = root::Args {
            gateway: gateway.clone(),
            catalog: catalog.clone(),
            depths,
            pool_options: Arc::new(settings.pool),
            sampler_interval: settings.sampler_interval,
            disks: settings.disks,
            sampled: sampled_sender,
            given_up: given_up_sender,
        };
        let (root, root_task) = Actor::spawn(None, Root, args).await?;

        let instruments = settings
            .metrics
            .enabled
            .then(|| HttpInstruments::new(catalog, settings.metrics.status_labels));
        let lifecycle = Lifecycle {
            accounts: accounts.clone(),
            pool: pool.clone(),
            trading: trading.clone(),
            streams: streams.clone(),
            terminals: settings.terminals,
            grace: settings.shutdown_grace,
        };
        if purpose == Purpose::Serving {
            lifecycle.clear_terminals();
        }
        let administration =
            Administrator::new(administered, lifecycle, keys.clone(), stop.clone());
        let app = Arc::new(App {
            scrape_limit: ScrapeLimit::new(&settings.http),
            options: settings.http,
            keys,
            administration: Arc::new(administration),
            accounts: accounts.clone(),
            pool,
            trading,
            streams,
            gateway,
            metrics,
            instruments,
            first_sample,
            events,
            started: Timestamp::now(),
        });
        Ok(Service {
            accounts,
            app,
            stop,
            root,
            root_task,
            given_up,
            shutdown_grace: settings.shutdown_grace,
        })
    }

    /// What requests may use.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serves connections until a signal, or until an actor that the service cannot be without fails
    /// for good. Either way requests, trades and terminals may finish within the grace, as far as what
    /// they need still runs. Sessions and their terminals end with the root and with the pool: calls
    /// that were under way fail then, and trades that were written to a terminal become unknown.
    ///
    /// # Errors
    /// Why it had to stop.
    pub async fn serve<C>(
        self,
        connections: impl Stream<Item = (C, IpAddr)> + Send + 'static,
        mut signals: impl Stream<Item = &'static str> + Unpin,
    ) -> Result<(), Error>
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Service { app, stop, root, root_task, given_up, shutdown_grace: grace, .. } = self;
        let serving = tokio::spawn(api::serve(connections, app.clone(), stop.clone()));
        let mut failures = Failures::new(given_up, app.trading.clone());
        let (mut failure, mut is_signalled) = (None, false);
        tokio::select! {
            Some(signal) = signals.next() => {
                is_signalled = true;
                info!(signal, ?grace, "stopping");
            }
            first = failures.next() => {
                error!(reason = %first, ?grace, "stopping after a failure");
                failure = Some(first);
            }
        }
        stop.cancel();
        let mut second_signal = std::pin::pin!(second_signal(signals, is_signalled));
        let mut end = std::pin::pin!(end(&app, serving, grace));
        loop {
            tokio::select! {
                // First, so that no failure before the end is missed.
                biased;
                next = failures.next() => {
                    error!(reason = %next, "failed while stopping");
                    failure.get_or_insert(next);
                }
                () = &mut second_signal => return Err(Error::StoppedAtOnce),
                () = &mut end => break,
            }
        }
        root.stop(None);
        tokio::select! {
            // An actor that hangs must not make the process immune to signals.
            () = second_signal => return Err(Error::StoppedAtOnce),
            _ = root_task => {}
        }
        info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

/// Waits for a second signal. After a failure the first one cuts nothing: a service manager sends it by
/// itself when the gateway's health fails, and trades are still under way.
async fn second_signal(
    mut signals: impl Stream<Item = &'static str> + Unpin,
    mut is_signalled: bool,
) {
    while let Some(signal) = signals.next().await {
        if is_signalled {
            return error!(signal, "stopping at once");
        }
        is_signalled = true;
        info!(signal, "stopping already");
    }
    std::future::pending().await
}

/// Lets requests finish and streams end, then trades, then terminals, all within the grace.
async fn end(app: &App, serving: JoinHandle<()>, grace: Duration) {
    let orderly = async {
        let _ = serving.await;
        app.streams.drain().await;
        app.trading.drain().await;
        app.pool.stop().await;
    };
    if tokio::time::timeout(grace, orderly).await.is_err() {
        warn!(?grace, "grace is over, what is under way is cut");
        let Left { under_way, states: waiting } = app.trading.left();
        if !under_way.is_empty() || waiting > 0 {
            error!(
                trades = ?under_way,
                waiting_states = waiting,
                "trades are cut, the next start finds out what became of them"
            );
        }
    }
}

/// Tells which actors have failed for good.
struct Failures {
    given_up: mpsc::UnboundedReceiver<Role>,
    root_failed: bool,
    /// Until its actor has been replaced.
    trading: Option<Trading>,
}

impl Failures {
    fn new(given_up: mpsc::UnboundedReceiver<Role>, trading: Trading) -> Failures {
        Failures { given_up, root_failed: false, trading: Some(trading) }
    }

    /// Waits for the next failure. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Error {
        if self.root_failed {
            return std::future::pending().await;
        }
        let failure = self.given_up.recv().await.map_or(Error::RootFailed, Error::GivenUp);
        self.root_failed = matches!(failure, Error::RootFailed);
        if matches!(failure, Error::RootFailed | Error::GivenUp(Role::Trading))
            && let Some(trading) = self.trading.take()
        {
            tokio::spawn(replace_trading_actor(trading));
        }
        failure
    }
}

/// Starts a trading actor without a supervisor, for the end of the process. Without one no trade that
/// is under way would end, and what became of it would not be written to the journal.
async fn replace_trading_actor(trading: Trading) {
    let ended = async {
        while trading.ping().await {
            tokio::time::sleep(PING_INTERVAL).await;
        }
    };
    // A root that fails kills its children, this one a moment later.
    if tokio::time::timeout(TRADING_ENDS_WITHIN, ended).await.is_err() {
        let actor = Role::Trading.name();
        return error!(actor, "actor does not end, none is started for the last trades");
    }
    if let Err(fault) = Actor::spawn(None, TradingActor, trading.actor_args()).await {
        error!(actor = Role::Trading.name(), %fault, "actor cannot be started for the last trades");
    }
}

/// The journal, or why there is none; that another gateway uses it is no state
/// to run in.
fn open_journal(
    options: &trading::Options,
    accounts: &Accounts,
    metrics: &Metrics,
    depths: &Depths,
) -> Result<Result<Journal, NoJournal>, JournalError> {
    let accounts = accounts.all();
    let trades = accounts.values().any(|account| account.trade);
    if !trades && !options.journal.exists() {
        return Ok(Err(NoJournal::NotNeeded));
    }
    let owners: Vec<trading::Owner> = accounts
        .values()
        .map(|account| trading::Owner {
            account: account.name.clone(),
            login: account.login,
            server: account.server.clone(),
        })
        .collect();
    match Journal::open(&options.journal, &owners, metrics.clone(), depths) {
        Ok(journal) => Ok(Ok(journal)),
        Err(in_use @ JournalError::InUse(_)) => Err(in_use),
        Err(unusable) => {
            error!(reason = %unusable, "trading is off, reads go on");
            Ok(Err(NoJournal::Unusable(unusable.to_string())))
        }
    }
}

/// More connections than a usual limit of 1,024 allows.
#[cfg(unix)]
fn raise_file_descriptors() {
    if let Err(fault) = rlimit::increase_nofile_limit(FILE_DESCRIPTORS) {
        warn!(%fault, "limit of open files cannot be raised");
    }
}

#[cfg(not(unix))]
fn raise_file_descriptors() {}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;
    use crate::metrics;
    use crate::root::RootChild;

    const LONG: Duration = Duration::from_secs(30);

    /// A gateway with the simulated account `demo`, and one connection to it.
    struct Harness {
        app: Arc<App>,
        stop: CancellationToken,
        client: DuplexStream,
        signals: mpsc::UnboundedSender<&'static str>,
        serving: JoinHandle<Result<(), Error>>,
        directory: tempfile::TempDir,
    }

    impl Harness {
        async fn start(account: &str) -> Harness {
            Harness::with_grace("5s", account).await
        }

        async fn with_grace(grace: &str, account: &str) -> Harness {
            let directory = tempfile::tempdir().unwrap();
            let text = format!(
                "server.shutdown_grace = '{grace}'\ntrading.journal = '{}'\n[accounts.demo]\n\
                 login = 1\nserver = 'S'\nterminal.kind = 'simulator'\n{account}\n",
                Harness::journal(directory.path()).display()
            );
            let file = directory.path().join("settings.toml");
            std::fs::write(&file, text).unwrap();
            let settings = Settings::load(directory.path(), Some(&file), [], &[]);
            let settings = settings.unwrap_or_else(|faults| panic!("{faults:?}"));
            let service = Service::start(settings, Events::default()).await.unwrap();
            let (app, stop) = (service.app.clone(), service.stop.clone());
            let (client, server) = tokio::io::duplex(1 << 16);
            let one = futures_util::stream::iter([(server, Ipv4Addr::LOCALHOST.into())]);
            let connections = one.chain(futures_util::stream::pending());
            let (sender, mut told) = mpsc::unbounded_channel();
            let signals = futures_util::stream::poll_fn(move |context| told.poll_recv(context));
            let serving = tokio::spawn(service.serve(connections, signals));
            Harness { app, stop, client, signals: sender, serving, directory }
        }

        fn journal(directory: &Path) -> std::path::PathBuf {
            directory.join("journal")
        }

        /// Sends a request to a path of the account. The body may be shorter than its length.
        async fn send(&mut self, method: &str, path: &str, body: &str, length: usize) {
            let request = format!(
                "{method} /api/v1/accounts/demo/{path} HTTP/1.1\r\nhost: localhost\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            self.client.write_all(request.as_bytes()).await.unwrap();
        }

        /// Waits until the account is ready.
        async fn is_ready(&self) {
            let account = self.app.accounts.get("demo").unwrap();
            eventually("the account is ready", async || account.is_ready().then_some(())).await;
        }

        /// Sends a read, and waits until it is under way at the terminal.
        async fn read(&mut self) {
            self.send("GET", "positions", "", 0).await;
            let account = self.app.accounts.get("demo").unwrap();
            let depth = || account.status().sessions[0].queue_depth;
            eventually("the call is queued", async || (depth() > 0).then_some(())).await;
        }

        /// Sends a trade, and waits until its intent is on disk. Sends it again as long as the reconciler
        /// has not looked for trades of an earlier run, before which none is taken.
        async fn buy(&mut self) {
            let buy = r#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;
            let until = Instant::now() + LONG;
            self.send("POST", "orders", buy, buy.len()).await;
            while trade(self.directory.path(), "state").is_none() {
                assert!(Instant::now() < until, "never: the intent is on disk");
                let mut answer = [0; 1 << 10];
                let wait = Duration::from_millis(5);
                let read = tokio::time::timeout(wait, self.client.read(&mut answer)).await;
                if read.is_ok() {
                    let answer = String::from_utf8_lossy(&answer);
                    assert!(answer.contains("/problems/reconciling"), "{answer}");
                    self.send("POST", "orders", buy, buy.len()).await;
                }
            }
        }

        fn signal(&self) {
            self.signals.send("SIGTERM").unwrap();
        }

        /// Kills a child as often as it is restarted. The next time it is given up.
        async fn spend_restarts(&self, child: RootChild, role: Role) {
            for restart in 1..=5 {
                self.kill(Some(child));
                let actor = role.name();
                let counted =
                    format!("gateway_actor_restarts_total{{actor=\"{actor}\"}} {restart}");
                eventually("the restart is counted", async || {
                    let metrics = self.app.metrics.render().await.unwrap();
                    String::from_utf8_lossy(&metrics).contains(&counted).then_some(())
                })
                .await;
            }
        }

        fn kill(&self, child: Option<RootChild>) {
            self.app.gateway.kill(child);
        }

        /// Waits until the process would end, and gives why.
        async fn serving(&mut self) -> Result<(), Error> {
            let ended = tokio::time::timeout(LONG, &mut self.serving).await;
            ended.expect("the gateway has ended").unwrap()
        }

        /// The same, and gives what the client has received by then, too.
        async fn end(mut self) -> (Result<(), Error>, String, tempfile::TempDir) {
            let ended = self.serving().await;
            let mut received = String::new();
            let all = self.client.read_to_string(&mut received);
            tokio::time::timeout(LONG, all).await.expect("the connection has ended").unwrap();
            (ended, received, self.directory)
        }
    }

    fn trade(directory: &Path, column: &str) -> Option<String> {
        let journal = rusqlite::Connection::open(Harness::journal(directory)).ok()?;
        let query = format!("SELECT {column} FROM trades");
        journal.query_row(&query, [], |row| row.get(0)).ok()
    }

    /// What this thread logs while the guard lives.
    #[derive(Clone, Default)]
    struct Log(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl Log {
        fn begin() -> (Log, (tracing::subscriber::DefaultGuard, tracing::Dispatch)) {
            let log = Log::default();
            let writer = log.clone();
            let lines = tracing_subscriber::fmt().with_ansi(false);
            let lines = lines.with_writer(move || writer.clone()).finish();
            // If there were one subscriber only, tests on other threads would turn lines off.
            let other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
            (log, (tracing::subscriber::set_default(lines), other))
        }

        /// The first line that contains a text, or nothing.
        fn line(&self, text: &str) -> String {
            let lines = String::from_utf8_lossy(&self.0.lock()).into_owned();
            lines.lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
        }
    }

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
        let until = Instant::now() + LONG;
        loop {
            if let Some(found) = found().await {
                return found;
            }
            assert!(Instant::now() < until, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    // In real time: the window of the restart budget would pass while threads work.
    #[tokio::test]
    async fn a_gateway_that_gives_an_actor_up_ends_in_order_and_fails() {
        let mut harness = Harness::start("trade = false").await;
        harness.send("GET", "stream?events=account", "", 0).await;
        let mut head = [0; 15];
        harness.client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        harness.spend_restarts(RootChild::Pool, Role::Pool).await;
        harness.kill(Some(RootChild::Pool));
        let (ended, received, _) = harness.end().await;
        assert!(matches!(ended, Err(Error::GivenUp(Role::Pool))), "{ended:?}");
        assert!(received.contains("event: end"), "the stream was told: {received}");
    }

    #[tokio::test]
    async fn a_gateway_whose_root_fails_writes_what_became_of_its_trades_and_fails() {
        let mut harness = Harness::start("trade = true\nterminal.latency = '300ms'").await;
        let (log, _guard) = Log::begin();
        harness.is_ready().await;
        harness.buy().await;
        harness.kill(None);
        let (ended, received, directory) = harness.end().await;
        assert!(matches!(ended, Err(Error::RootFailed)), "{ended:?}");
        assert!(received.contains("trade_id"), "the client has its answer: {received}");
        assert_ne!(trade(directory.path(), "state").unwrap(), "sending");
        let line = log.line("stopping");
        assert!(line.contains("ERROR") && line.contains("stopping after a failure"), "{line}");
    }

    #[tokio::test]
    async fn a_grace_that_cuts_a_trade_says_which() {
        let hangs = "trade = true\nterminal.faults.order_send = { kind = 'hang' }";
        let mut harness = Harness::with_grace("500ms", hangs).await;
        let (log, _guard) = Log::begin();
        harness.is_ready().await;
        harness.buy().await;
        harness.signal();
        let ended = harness.serving().await;
        assert!(ended.is_ok(), "{ended:?}");
        let line = log.line("trades are cut");
        assert!(line.contains(&trade(harness.directory.path(), "trade_id").unwrap()), "{line}");
        assert!(line.contains("ERROR") && line.contains("waiting_states=0"), "{line}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_fails_while_the_gateway_stops_is_a_failure() {
        // A read that is under way holds the end up.
        let mut harness = Harness::start("trade = false\nterminal.latency = '1s'").await;
        harness.is_ready().await;
        harness.read().await;
        harness.signal();
        harness.stop.cancelled().await;
        harness.kill(None);
        let (ended, ..) = harness.end().await;
        assert!(matches!(ended, Err(Error::RootFailed)), "{ended:?}");
    }

    #[tokio::test]
    async fn a_first_signal_after_a_failure_cuts_nothing_and_a_second_one_does() {
        for signals in [1, 2] {
            let mut harness = Harness::start("trade = false\nterminal.latency = '300ms'").await;
            harness.is_ready().await;
            harness.spend_restarts(RootChild::Streams, Role::Streams).await;
            harness.read().await;
            harness.kill(Some(RootChild::Streams));
            harness.stop.cancelled().await;
            for _ in 0..signals {
                harness.signal();
            }
            let (ended, received, _) = harness.end().await;
            let is_answered = received.starts_with("HTTP/1.1 200 OK");
            match signals {
                1 => assert!(matches!(ended, Err(Error::GivenUp(Role::Streams))) && is_answered),
                _ => assert!(matches!(ended, Err(Error::StoppedAtOnce)), "{ended:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_a_gateway_whose_root_hangs() {
        let harness = Harness::start("trade = false").await;
        harness.app.gateway.hang();
        harness.signal();
        // By then nothing but the root is left, and the grace is over.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!harness.serving.is_finished());
        harness.signal();
        let (ended, ..) = harness.end().await;
        assert!(matches!(ended, Err(Error::StoppedAtOnce)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trading_actor_that_does_not_end_is_not_replaced() {
        let harness = Harness::start("trade = false").await;
        let (log, _guard) = Log::begin();
        replace_trading_actor(harness.app.trading.clone()).await;
        let line = log.line("for the last trades");
        assert!(line.contains("ERROR") && line.contains("actor=\"trading\""), "{line}");
        assert_eq!(log.line("actor started actor=\"trading\""), "");
    }

    #[test]
    fn every_child_of_a_closed_set_of_labels_is_there_from_the_start() {
        let options = metrics::Options::of_tests();
        let catalog = Catalog::new(&options, &[("demo".to_owned(), 1)], &LABEL_SETS).unwrap();
        let text = String::from_utf8(metrics::render::render(&catalog).to_vec()).unwrap();
        let labelled = text.lines().filter(|line| {
            let is_sample = !line.starts_with('#') && line.contains('{');
            let elsewhere = ["_bucket{", "revision=", "actor="];
            is_sample && elsewhere.iter().all(|part| !line.contains(part))
        });
        insta::assert_snapshot!(labelled.collect::<Vec<_>>().join("\n"));
    }
}
