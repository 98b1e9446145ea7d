//! The metrics actor: owns the catalog, takes events, renders snapshots.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::history::{self, History};
use super::render::{self, RenderError, Rendered, Renderer};
use super::sample;
use super::{AccountFigures, AccountId, Catalog, EndedCall, Event, Overview, Sample, Watchlist};
use crate::actor::{Address, Depths, Envelope, Ping, Role};
use crate::mt5::Method;

/// Ended calls for which the actor is woken. Fewer wait for its next message.
const MANY_CALLS: usize = 64;

/// Renders a catalog as Prometheus text 0.0.4. A test may fail instead.
pub type Render = Arc<dyn Fn(&Catalog) -> Bytes + Send + Sync>;

/// What the metrics actor is told.
pub enum Msg {
    /// Something happened.
    Event(Event),
    /// Many calls have ended.
    CountCalls,
    /// Render a snapshot that begins after this message.
    Render(oneshot::Sender<Rendered>),
    /// The rendering that was under way is over.
    Rendered(Rendered),
    /// Tell where everything stands that belongs to these accounts.
    Overview(BTreeSet<String>, oneshot::Sender<Overview>),
    /// Time for the next point of the history.
    Tick,
    /// Answers that it lives.
    Ping(Ping),
    /// Fails.
    #[cfg(test)]
    Fail,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// The way to the metrics actor. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    address: Address<Msg>,
    /// Calls that ended and are not counted yet. A message for each would cost as much as the rest of
    /// a call. The actor counts them before it does anything else, so that nobody sees that they wait.
    ended_calls: Arc<Mutex<Vec<EndedCall>>>,
    watchlist: Watchlist,
    enabled: bool,
}

impl Metrics {
    /// A way to an actor that is still to be started.
    pub fn new(depths: &Depths, enabled: bool) -> Metrics {
        let address = Address::new(Role::Metrics, depths);
        Metrics { address, ended_calls: Arc::default(), watchlist: Watchlist::default(), enabled }
    }

    /// Whether anything is measured.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The workers to measure.
    pub fn watchlist(&self) -> &Watchlist {
        &self.watchlist
    }

    /// Reports an event without waiting. Lost while the actor is being restarted.
    pub fn record(&self, event: Event) {
        if self.enabled {
            let _ = self.address.send(Msg::Event(event));
        }
    }

    /// Reports a call that ended, without waiting. Whatever the actor is asked later includes it.
    pub fn count_call(&self, call: EndedCall) {
        if !self.enabled {
            return;
        }
        let mut ended = self.ended_calls.lock();
        ended.push(call);
        let many = ended.len().is_multiple_of(MANY_CALLS);
        drop(ended);
        if many {
            // While the actor is being restarted they wait for its successor.
            let _ = self.address.send(Msg::CountCalls);
        }
    }

    /// The metrics as Prometheus text 0.0.4, no older than this call. A rendering that hangs is
    /// waited for without limit: callers set their own.
    ///
    /// # Errors
    /// Why there is no text now.
    pub async fn render(&self) -> Rendered {
        let (reply, rendered) = oneshot::channel();
        self.address.send(Msg::Render(reply)).map_err(|_| RenderError::Restarting)?;
        rendered.await.unwrap_or(Err(RenderError::Restarting))
    }

    /// Where everything stands that belongs to these accounts, or to none. `None` while the actor is
    /// being restarted.
    pub async fn overview(&self, accounts: BTreeSet<String>) -> Option<Overview> {
        let (reply, overview) = oneshot::channel();
        self.address.send(Msg::Overview(accounts, reply)).ok()?;
        overview.await.ok()
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        self.address.ping().await
    }
}

/// Takes events, and renders snapshots.
pub struct Collector;

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    /// The families.
    pub catalog: Arc<Catalog>,
    /// Mailbox depths, which it reads when it renders.
    pub depths: Depths,
    /// Its own address.
    pub metrics: Metrics,
    /// How a snapshot is rendered.
    pub render: Render,
}

impl Args {
    /// What the actor needs to render every family of the catalog.
    pub fn new(catalog: Arc<Catalog>, depths: Depths, metrics: Metrics) -> Args {
        Args { catalog, depths, metrics, render: Arc::new(render::render) }
    }
}

/// The counters of an account's calls of one method, by outcome.
type CallCounters = Vec<(&'static str, IntCounter)>;

/// What the actor knows.
pub struct State {
    args: Args,
    /// Of this actor alone: timers and renderings of one that failed must not reach its successor.
    address: Address<Msg>,
    /// By account, then by method, then by outcome.
    calls: HashMap<AccountId, Box<[CallCounters]>>,
    methods: Vec<Option<(Histogram, Histogram)>>,
    /// Empty. Its room takes the next calls that end.
    counted: Vec<EndedCall>,
    /// Take the rendering that is under way.
    served: Vec<oneshot::Sender<Rendered>>,
    /// Came after it began, and take the next one.
    waiting: Vec<oneshot::Sender<Rendered>>,
    /// Whether a rendering is under way. It ends with exactly one report.
    is_rendering: bool,
    /// `None`: there was no thread for it, which is tried again for the next scrape.
    renderer: Option<Renderer>,
    history: History,
}

impl Actor for Collector {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.metrics.address.assign(myself);
        let address = args.metrics.address.pinned();
        let _ = address.send(Msg::Tick);
        info!(actor = Role::Metrics.name(), "actor started");
        Ok(State {
            renderer: start_renderer(&args),
            args,
            address,
            calls: HashMap::new(),
            methods: vec![None; Method::ALL.len()],
            counted: vec![],
            served: vec![],
            waiting: vec![],
            is_rendering: false,
            history: History::default(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.count_calls();
        match message.open() {
            Msg::Event(event) => state.record(event),
            Msg::CountCalls => {}
            Msg::Render(reply) => {
                state.waiting.push(reply);
                state.render();
            }
            Msg::Rendered(rendered) => state.rendered(&rendered),
            Msg::Overview(accounts, reply) => {
                let _ = reply.send(Overview::read(&state.args.catalog, &state.history, &accounts));
            }
            Msg::Tick => {
                state.history.tick(&state.args.catalog);
                state.address.send_after(history::INTERVAL, Msg::Tick);
            }
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        info!(actor = Role::Metrics.name(), "actor stopped");
        Ok(())
    }
}

impl State {
    /// Counts the calls that have ended since the message before.
    fn count_calls(&mut self) {
        let mut ended = std::mem::take(&mut self.counted);
        std::mem::swap(&mut ended, &mut *self.args.metrics.ended_calls.lock());
        for EndedCall { account, method, outcome, error, duration, queued } in ended.drain(..) {
            if let Some(calls) = self.calls(account, method, outcome) {
                calls.inc();
            }
            let (durations, queues) = self.durations(method);
            durations.observe(duration.as_secs_f64());
            queues.observe(queued.as_secs_f64());
            if let Some(error) = error {
                self.args.catalog.count_error(account, method, error);
            }
        }
        // More have room only while they come faster than the actor counts.
        ended.shrink_to(4 * MANY_CALLS);
        self.counted = ended;
    }

    fn record(&mut self, event: Event) {
        let catalog = self.args.catalog.clone();
        match event {
            Event::Error { account, method, error } => catalog.count_error(account, method, error),
            Event::Login { account, success, duration } => {
                let outcome = if success { "success" } else { "failure" };
                catalog.with_account(account, |account| {
                    catalog.mt5_logins_total.with_label_values(&[account, outcome]).inc();
                });
                let none: &[&str] = &[];
                let durations = catalog.mt5_login_duration_seconds.with_label_values(none);
                durations.observe(duration.as_secs_f64());
            }
            Event::Sessions { account, states, connected } => {
                catalog.with_account(account, |account| {
                    for (state, count) in states {
                        let labels = [account, state];
                        catalog.mt5_pool_sessions.with_label_values(&labels).set(count);
                    }
                    catalog.mt5_terminal_connected.with_label_values(&[account]).set(connected);
                });
            }
            Event::AccountFigures { account, figures } => {
                if catalog.account_values {
                    catalog.with_account(account, |account| {
                        AccountFigures::show(figures.as_deref(), &catalog, account);
                    });
                }
            }
            Event::TradeBlocked { account, blocked } => {
                catalog.show_trade_blocks(account, &blocked);
            }
            Event::Restarted { account, reason } => {
                catalog.with_account(account, |account| {
                    catalog.mt5_session_restarts_total.with_label_values(&[account, reason]).inc();
                });
            }
            Event::Rejected { account, reason } => {
                catalog.with_account(account, |account| {
                    catalog.mt5_calls_rejected_total.with_label_values(&[account, reason]).inc();
                });
            }
            Event::TradeResult { account, retcode } => {
                catalog.with_account(account, |account| {
                    let labels = [account, retcode.name()];
                    catalog.mt5_trade_results_total.with_label_values(&labels).inc();
                });
            }
            Event::TradeEnded { account, outcome } => {
                catalog.with_account(account, |account| {
                    catalog.mt5_trades_total.with_label_values(&[account, outcome]).inc();
                });
            }
            Event::TradesUnknown { account, count, oldest } => {
                catalog.with_account(account, |account| {
                    catalog.mt5_trades_unknown.with_label_values(&[account]).set(count);
                    let since = &catalog.mt5_trades_unknown_oldest_timestamp_seconds;
                    since.with_label_values(&[account]).set(oldest);
                });
            }
            Event::TradeContradicted { account } => {
                catalog.with_account(account, |account| {
                    catalog.mt5_trades_contradicted_total.with_label_values(&[account]).inc();
                });
            }
            Event::AccountGone(account) => drop(self.calls.remove(&account)),
            Event::JournalWritten(duration) => {
                let none: &[&str] = &[];
                let durations =
                    catalog.gateway_journal_write_duration_seconds.with_label_values(none);
                durations.observe(duration.as_secs_f64());
            }
            Event::ActorRestarted(role) => {
                catalog.gateway_actor_restarts_total.with_label_values(&[role.name()]).inc();
            }
            Event::Sampled(sample) => {
                sample.show(&catalog);
                sample.count(&catalog);
            }
            Event::TerminalGone { account, session } => {
                sample::forget_terminal(&catalog, account, session);
            }
            Event::SamplerGone => Sample::default().show(&catalog),
        }
    }

    /// The counter of such calls, looked up once. `None`: the account is not served any more.
    fn calls(
        &mut self,
        account: AccountId,
        method: Method,
        outcome: &'static str,
    ) -> Option<&IntCounter> {
        if !self.calls.contains_key(&account) {
            self.args.catalog.with_account(account, |_| ())?;
        }
        let of_account = self.calls.entry(account);
        let of_account = of_account.or_insert_with(|| vec![vec![]; Method::ALL.len()].into());
        let known = &mut of_account[method as usize];
        let position = match known.iter().position(|(of, _)| *of == outcome) {
            Some(position) => position,
            None => {
                known.push((outcome, self.args.catalog.calls(account, method, outcome)?));
                known.len() - 1
            }
        };
        Some(&known[position].1)
    }

    /// The histograms of a method's durations and of its queueing, looked up once.
    fn durations(&mut self, method: Method) -> &(Histogram, Histogram) {
        let catalog = &self.args.catalog;
        self.methods[method as usize].get_or_insert_with(|| {
            let labels = [method.name()];
            (
                catalog.mt5_call_duration_seconds.with_label_values(&labels),
                catalog.mt5_call_queue_seconds.with_label_values(&labels),
            )
        })
    }

    /// Starts a rendering for all who wait, unless one is under way: what
    /// happened before they asked has been recorded by now.
    fn render(&mut self) {
        // Behind a rendering that hangs, scrapers come and give up.
        self.waiting.retain(|reply| !reply.is_closed());
        if self.is_rendering || self.waiting.is_empty() {
            return;
        }
        if self.renderer.is_none() {
            self.renderer = start_renderer(&self.args);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let Some(renderer) = &self.renderer else {
            return answer(waiting, &Err(RenderError::ThreadEnded));
        };
        self.is_rendering = true;
        self.served = waiting;
        let catalog = &self.args.catalog;
        for role in Role::ALL {
            catalog
                .gateway_actor_mailbox_depth
                .with_label_values(&[role.name()])
                .set(self.args.depths.get(*role));
        }
        let address = self.address.clone();
        renderer.render(move |rendered| {
            // Without an actor nobody waits any more.
            let _ = address.send(Msg::Rendered(rendered));
        });
    }

    /// Answers those who wait for a rendering, replaces the thread if it ended, and begins the next
    /// rendering if somebody waits for it.
    fn rendered(&mut self, rendered: &Rendered) {
        self.is_rendering = false;
        if matches!(rendered, Err(RenderError::ThreadEnded)) {
            error!("metrics rendering thread ended, starting another");
            self.renderer = start_renderer(&self.args);
        }
        answer(std::mem::take(&mut self.served), rendered);
        self.render();
    }
}

fn start_renderer(args: &Args) -> Option<Renderer> {
    let (render, catalog) = (args.render.clone(), args.catalog.clone());
    Renderer::start(move || render(&catalog))
        .inspect_err(|fault| error!(%fault, "metrics rendering thread cannot be started"))
        .ok()
}

fn answer(replies: Vec<oneshot::Sender<Rendered>>, rendered: &Rendered) {
    for reply in replies {
        // A scraper that left needs no answer.
        let _ = reply.send(rendered.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use parking_lot::Mutex;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::metrics::{LabelSets, Options};

    /// A metrics actor whose `n`th rendering, from 0, does this.
    async fn start(render: impl Fn(u64) -> Bytes + Send + Sync + 'static) -> Metrics {
        spawn(render).await.0
    }

    /// The same, with what a successor needs, and the actor's end.
    async fn spawn(
        render: impl Fn(u64) -> Bytes + Send + Sync + 'static,
    ) -> (Metrics, Args, JoinHandle<()>) {
        let options = Options::of_tests();
        let catalog = Arc::new(Catalog::new(&options, &[], &LabelSets::default()).unwrap());
        let depths = Depths::default();
        let metrics = Metrics::new(&depths, true);
        let count = AtomicU64::new(0);
        let render: Render =
            Arc::new(move |_: &Catalog| render(count.fetch_add(1, Ordering::Relaxed)));
        let args = Args { render, ..Args::new(catalog, depths, metrics.clone()) };
        let (_, ended) = Actor::spawn(None, Collector, args.clone()).await.unwrap();
        (metrics, args, ended)
    }

    #[tokio::test]
    async fn a_rendering_that_panics_is_an_error_and_the_next_one_works() {
        let metrics = start(|number| {
            assert!(number > 0, "injected");
            Bytes::from_static(b"up 1\n")
        })
        .await;
        assert_eq!(metrics.render().await, Err(RenderError::Panicked));
        assert_eq!(metrics.render().await.unwrap(), "up 1\n");
    }

    /// Panics when it is dropped. As the payload of a panic, it ends the thread that caught it.
    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("injected");
        }
    }

    #[tokio::test]
    async fn a_thread_that_ends_is_an_error_and_is_replaced() {
        let metrics = start(|number| match number {
            0 => std::panic::panic_any(PanicsInDrop),
            _ => Bytes::from_static(b"up 1\n"),
        })
        .await;
        // The second waits for a rendering of its own, which another thread makes.
        let (first, second) = tokio::join!(metrics.render(), metrics.render());
        assert_eq!(first, Err(RenderError::ThreadEnded));
        assert_eq!(second.unwrap(), "up 1\n");
        assert_eq!(metrics.render().await.unwrap(), "up 1\n");
    }

    #[tokio::test]
    async fn what_the_thread_of_an_actor_that_failed_rendered_does_not_reach_its_successor() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (thread, mut thread_ended) = oneshot::channel::<()>();
        let (wait, thread) = (Mutex::new(wait), Mutex::new(thread));
        let (metrics, mut args, ended) = spawn(move |_| {
            let _ends_with_the_thread = &thread;
            let _ = wait.lock().recv();
            Bytes::from_static(b"stale 1\n")
        })
        .await;
        let fail = async { assert!(metrics.address.send(Msg::Fail).is_ok()) };
        let (_, ()) = tokio::join!(metrics.render(), fail);
        ended.await.unwrap();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        args.render = Arc::new(move |_: &Catalog| {
            let _ = wait.lock().recv();
            Bytes::from_static(b"up 1\n")
        });
        Actor::spawn(None, Collector, args).await.unwrap();
        let stale = async {
            drop(go);
            // It has reported by then.
            assert!((&mut thread_ended).await.is_err());
            assert!(metrics.ping().await);
            drop(go_on);
        };
        let (rendered, ()) = tokio::join!(metrics.render(), stale);
        assert_eq!(rendered.unwrap(), "up 1\n");
    }

    #[tokio::test]
    async fn an_actor_that_fails_answers_those_who_wait_and_its_successor_renders() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let (metrics, args, ended) = spawn(move |_| {
            let _ = wait.lock().recv();
            Bytes::from_static(b"up 1\n")
        })
        .await;
        let fail = async { assert!(metrics.address.send(Msg::Fail).is_ok()) };
        let (first, second, ()) = tokio::join!(metrics.render(), metrics.render(), fail);
        assert_eq!((first, second), (Err(RenderError::Restarting), Err(RenderError::Restarting)));
        ended.await.unwrap();
        assert_eq!(metrics.render().await, Err(RenderError::Restarting));
        assert!(metrics.overview(BTreeSet::new()).await.is_none() && !metrics.ping().await);
        // What the first actor counted is there, and what its thread still renders is not taken for
        // the rendering of the second one.
        let role = Role::Metrics;
        let catalog = args.catalog.clone();
        Actor::spawn(None, Collector, args).await.unwrap();
        metrics.record(Event::ActorRestarted(role));
        drop(go);
        assert_eq!(metrics.render().await.unwrap(), "up 1\n");
        let restarts = catalog.gateway_actor_restarts_total.with_label_values(&[role.name()]);
        assert_eq!(restarts.get(), 1);
    }
}
