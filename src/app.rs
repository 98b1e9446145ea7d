//! Start order, signals, and the order of the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use jiff::Timestamp;
use ractor::{Actor, ActorRef};
use strum::VariantNames;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
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
use crate::streams::{self, Streams};
use crate::telemetry::Events;
use crate::trading::{self, Journal, JournalError, NoJournal, Trading};

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
    let signals = Signals::new();
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
    streams: Arc<Streams>,
    trading: Trading,
    pool: Pool,
    root: ActorRef<Envelope<root::Msg>>,
    root_task: JoinHandle<()>,
    given_up: oneshot::Receiver<Role>,
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
        let (given_up_sender, given_up) = oneshot::channel();
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
            pool: pool.clone(),
            trading: trading.clone(),
            streams: streams.clone(),
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
            streams,
            trading,
            pool,
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

    /// Serves connections until a signal.
    ///
    /// # Errors
    /// Why it had to stop.
    pub async fn serve<C>(
        mut self,
        connections: impl Stream<Item = (C, IpAddr)> + Send + 'static,
        mut signals: Signals,
    ) -> Result<(), Error>
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let serving = tokio::spawn(api::serve(connections, self.app.clone(), self.stop.clone()));
        tokio::select! {
            signal = signals.next() => info!(signal, grace = ?self.shutdown_grace, "stopping"),
            given_up = &mut self.given_up => {
                return Err(given_up.map_or(Error::RootFailed, Error::GivenUp));
            }
        }
        tokio::select! {
            () = self.end(serving) => {}
            signal = signals.next() => {
                error!(signal, "stopping at once");
                return Err(Error::StoppedAtOnce);
            }
        }
        self.root.stop(None);
        let _ = self.root_task.await;
        info!("stopped");
        Ok(())
    }

    /// Lets requests finish and streams end, then trades, then terminals, all within the grace.
    async fn end(&self, serving: JoinHandle<()>) {
        self.stop.cancel();
        let orderly = async {
            let _ = serving.await;
            self.streams.drain().await;
            self.trading.drain().await;
            self.pool.stop().await;
        };
        let grace = self.shutdown_grace;
        if tokio::time::timeout(grace, orderly).await.is_err() {
            warn!(?grace, "grace is over, what is under way is cut");
        }
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

/// The signals that ask the process to end.
pub struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
    #[cfg(windows)]
    interrupt: Option<tokio::signal::windows::CtrlC>,
    #[cfg(windows)]
    close: Option<tokio::signal::windows::CtrlClose>,
    #[cfg(windows)]
    logoff: Option<tokio::signal::windows::CtrlLogoff>,
    #[cfg(windows)]
    shutdown: Option<tokio::signal::windows::CtrlShutdown>,
}

/// Waits for a signal, for ever if it cannot be listened to.
macro_rules! received {
    ($signal:expr) => {
        async {
            match &mut $signal {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        }
    };
}

impl Signals {
    /// Listens to them from now on.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Signals {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Signals {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate()).ok(),
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).ok(),
            #[cfg(unix)]
            hangup: signal(SignalKind::hangup()).ok(),
            #[cfg(windows)]
            interrupt: tokio::signal::windows::ctrl_c().ok(),
            #[cfg(windows)]
            close: tokio::signal::windows::ctrl_close().ok(),
            #[cfg(windows)]
            logoff: tokio::signal::windows::ctrl_logoff().ok(),
            #[cfg(windows)]
            shutdown: tokio::signal::windows::ctrl_shutdown().ok(),
        }
    }

    /// Waits for one of them. SIGHUP, which the end of a shell sends, is none.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = received!(self.terminate) => return "SIGTERM",
                _ = received!(self.interrupt) => return "interrupt",
                _ = received!(self.hangup) => {
                    warn!("SIGHUP ignored, the settings are read at start only");
                }
            }
        }
    }

    /// Waits for one of them.
    #[cfg(windows)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = received!(self.close) => "CTRL_CLOSE",
            _ = received!(self.logoff) => "CTRL_LOGOFF",
            _ = received!(self.shutdown) => "CTRL_SHUTDOWN",
            _ = received!(self.interrupt) => "interrupt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{self, StatusLabels};

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
