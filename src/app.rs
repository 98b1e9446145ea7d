//! Start order, signals, and the order of the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
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
use crate::api::{self, App, ScrapeLimit};
use crate::metrics::requests::HttpInstruments;
use crate::metrics::streams::StreamInstruments;
use crate::metrics::{Catalog, LabelSets, Metrics};
use crate::pool::{Accounts, Pool, Rejection, RestartReason, SessionState};
use crate::root::{self, Gateway, Root};
use crate::sampler::{self, FirstSample};
use crate::settings::Settings;
pub use crate::signals::signals;
use crate::streams::{self, Streams};
use crate::telemetry::Events;
use crate::trading::{self, Journal, JournalError, NoJournal, Trading, TradingActor};

/// File descriptors that are asked for: one a connection, and a few a terminal.
#[cfg(unix)]
const FILE_DESCRIPTORS: u64 = 65_536;

/// The closed sets of label values, from the rooms that own them.
pub const LABEL_SETS: LabelSets = LabelSets {
    session_states: <SessionState as VariantNames>::VARIANTS,
    restart_reasons: RestartReason::VARIANTS,
    rejections: Rejection::VARIANTS,
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

/// Runs the service until a signal.
///
/// # Errors
/// Why it could not start, or had to stop.
pub async fn run(settings: Settings, events: Events) -> Result<(), Error> {
    // From the beginning: a signal ends a process that does not listen to it.
    let signals = signals();
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
    service.serve(api::connections(listener), signals).await
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
        let depths = Depths::default();
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
        let journal = open_journal(&settings.trading, &accounts, &metrics, &depths)?;
        let trading = Trading::new(&depths, journal, settings.trading, &accounts, metrics.clone());
        let pool = Pool::new(accounts.clone(), &depths);
        let stop = CancellationToken::new();
        let measured = settings.metrics.enabled.then(|| StreamInstruments::new(catalog.clone()));
        let streams = Streams::new(
            &accounts,
            settings.streams,
            measured.as_ref(),
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
        let app = Arc::new(App {
            scrape_limit: ScrapeLimit::new(&settings.http),
            options: settings.http,
            keys: settings.keys,
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
    /// for good. Either way requests, trades and terminals may finish within the grace.
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
                error!(reason = %first, ?grace, "stopping");
                failure = Some(first);
            }
        }
        stop.cancel();
        let mut end = std::pin::pin!(end(&app, serving, grace));
        loop {
            tokio::select! {
                // First, so that no failure before the end is missed.
                biased;
                next = failures.next() => {
                    error!(reason = %next, "failed while stopping");
                    failure.get_or_insert(next);
                }
                Some(signal) = signals.next() => {
                    if is_signalled {
                        error!(signal, "stopping at once");
                        return Err(Error::StoppedAtOnce);
                    }
                    is_signalled = true;
                    info!(signal, "stopping already");
                }
                () = &mut end => break,
            }
        }
        root.stop(None);
        let _ = root_task.await;
        info!("stopped");
        failure.map_or(Ok(()), Err)
    }
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
    // A root that fails kills its children, this one a moment later.
    while trading.ping().await {
        tokio::task::yield_now().await;
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
    let trades = accounts.iter().any(|account| account.trade);
    if !trades && !options.journal.exists() {
        return Ok(Err(NoJournal::NotNeeded));
    }
    let owners: Vec<trading::Owner> = accounts
        .iter()
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
    use crate::metrics::{self, StatusLabels};
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
            let directory = tempfile::tempdir().unwrap();
            let text = format!(
                "server.shutdown_grace = '5s'\ntrading.journal = '{}'\n[accounts.demo]\n\
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

        fn kill(&self, child: Option<RootChild>) {
            self.app.gateway.kill(child);
        }

        /// Waits until the process would end, and gives why and what the client has received by then.
        async fn end(mut self) -> (Result<(), Error>, String, tempfile::TempDir) {
            let ended = tokio::time::timeout(LONG, &mut self.serving).await;
            let ended = ended.expect("the gateway has ended").unwrap();
            let mut received = String::new();
            let all = self.client.read_to_string(&mut received);
            tokio::time::timeout(LONG, all).await.expect("the connection has ended").unwrap();
            (ended, received, self.directory)
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
        for restart in 1..=5 {
            harness.kill(Some(RootChild::Pool));
            let counted = format!("gateway_actor_restarts_total{{actor=\"pool\"}} {restart}");
            eventually("the restart is counted", async || {
                let metrics = harness.app.metrics.render().await.unwrap();
                String::from_utf8_lossy(&metrics).contains(&counted).then_some(())
            })
            .await;
        }
        harness.kill(Some(RootChild::Pool));
        let (ended, received, _) = harness.end().await;
        assert!(matches!(ended, Err(Error::GivenUp(Role::Pool))), "{ended:?}");
        assert!(received.contains("event: end"), "the stream was told: {received}");
    }

    #[tokio::test]
    async fn a_gateway_whose_root_fails_writes_what_became_of_its_trades_and_fails() {
        let mut harness = Harness::start("trade = true\nterminal.latency = '300ms'").await;
        let account = harness.app.accounts.get("demo").unwrap().clone();
        eventually("the account is ready", async || account.is_ready().then_some(())).await;
        let buy = r#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;
        harness.send("POST", "orders", buy, buy.len()).await;
        let journal = Harness::journal(harness.directory.path());
        let state = || {
            let journal = rusqlite::Connection::open(&journal).ok()?;
            journal.query_row("SELECT state FROM trades", [], |row| row.get::<_, String>(0)).ok()
        };
        eventually("the intent is on disk", async || state()).await;
        harness.kill(None);
        let (ended, received, _directory) = harness.end().await;
        assert!(matches!(ended, Err(Error::RootFailed)), "{ended:?}");
        assert!(received.contains("trade_id"), "the client has its answer: {received}");
        assert_ne!(state().unwrap(), "sending");
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_fails_while_the_gateway_stops_is_a_failure() {
        let mut harness = Harness::start("trade = false").await;
        // A request whose body never comes holds the end up.
        harness.send("POST", "orders/check", "{", 2).await;
        tokio::task::yield_now().await;
        harness.signals.send("SIGTERM").unwrap();
        harness.stop.cancelled().await;
        harness.kill(None);
        let (ended, ..) = harness.end().await;
        assert!(matches!(ended, Err(Error::RootFailed)), "{ended:?}");
    }

    #[test]
    fn every_child_of_a_closed_set_of_labels_is_there_from_the_start() {
        let options = metrics::Options {
            enabled: true,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![1.0],
            call_buckets: vec![1.0],
        };
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
