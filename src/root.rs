//! The root actor: supervises the metrics actor, the sampler, the pool, the trading actor and streams.
//!
//! It restarts each of them up to five times within a minute. After that it gives the child up, and
//! the process ends with 1; without the sampler alone it goes on, because a gateway that does not
//! measure its machine still serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::actor::{
    Address, Children, Depths, Ended, Envelope, Ping, RestartPolicy, RestartVerdict, Role,
};
use crate::metrics::{Catalog, Collector, Event, Metrics, collector};
use crate::pool::{self, Pool, supervisor};
use crate::sampler::{self, Sampler};
use crate::streams::{self, Streams};
use crate::trading::{Trading, TradingActor};

/// The first delays are short: while the trading actor is away, trades are refused.
const RESTARTS: RestartPolicy = RestartPolicy {
    backoff: Duration::from_millis(10),
    backoff_max: Duration::from_secs(1),
    budget: 5,
    window: Duration::from_secs(60),
};

/// What the root supervises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RootChild {
    /// The metrics actor.
    Metrics,
    /// The sampler.
    Sampler,
    /// The pool.
    Pool,
    /// The trading actor.
    Trading,
    /// The supervisor of streams.
    Streams,
}

impl RootChild {
    /// Every child, in the order of their start.
    const ALL: [RootChild; 5] = [
        RootChild::Metrics,
        RootChild::Sampler,
        RootChild::Pool,
        RootChild::Trading,
        RootChild::Streams,
    ];

    fn role(self) -> Role {
        match self {
            RootChild::Metrics => Role::Metrics,
            RootChild::Sampler => Role::Sampler,
            RootChild::Pool => Role::Pool,
            RootChild::Trading => Role::Trading,
            RootChild::Streams => Role::Streams,
        }
    }
}

/// What the root is told.
pub enum Msg {
    /// Answers that it lives.
    Ping(Ping),
    /// Time to start a child again.
    Start(RootChild),
    /// Kill a child, or, without one, fail.
    #[cfg(test)]
    Kill(Option<RootChild>),
    /// Take no message any more, and do not end.
    #[cfg(test)]
    Hang,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// The way to the root actor and its children. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    address: Address<Msg>,
    metrics: Metrics,
    sampler: Address<sampler::Msg>,
    sampler_given_up: Arc<AtomicBool>,
    pool: Pool,
    trading: Trading,
    streams: Arc<Streams>,
}

impl Gateway {
    /// The way to actors that have yet to be started.
    pub fn new(
        depths: &Depths,
        metrics: Metrics,
        pool: Pool,
        trading: Trading,
        streams: Arc<Streams>,
    ) -> Gateway {
        Gateway {
            address: Address::new(Role::Gateway, depths),
            metrics,
            sampler: Address::new(Role::Sampler, depths),
            sampler_given_up: Arc::default(),
            pool,
            trading,
            streams,
        }
    }

    /// The root actor and its children, as far as they do not answer within a time. Leaves the
    /// sampler out once it was given up.
    pub async fn silent(&self, within: Duration) -> Vec<Role> {
        let sampler_given_up = self.sampler_given_up.load(Ordering::Relaxed);
        let pings: [(Role, BoxFuture<'_, bool>); 6] = [
            (Role::Gateway, self.address.ping().boxed()),
            (Role::Metrics, self.metrics.ping().boxed()),
            (Role::Sampler, async { sampler_given_up || self.sampler.ping().await }.boxed()),
            (Role::Pool, self.pool.ping().boxed()),
            (Role::Trading, self.trading.ping().boxed()),
            (Role::Streams, self.streams.ping().boxed()),
        ];
        let silent = pings.map(|(role, ping)| async move {
            let answers = tokio::time::timeout(within, ping).await.unwrap_or(false);
            (!answers).then_some(role)
        });
        join_all(silent).await.into_iter().flatten().collect()
    }

    /// Kills a child, or, without one, makes the root fail.
    #[cfg(test)]
    pub fn kill(&self, child: Option<RootChild>) {
        assert!(self.address.send(Msg::Kill(child)).is_ok());
    }

    /// Makes the root hang.
    #[cfg(test)]
    pub fn hang(&self) {
        assert!(self.address.send(Msg::Hang).is_ok());
    }
}

/// The root of all actors.
pub struct Root;

/// What the actor needs.
pub struct Args {
    /// Its own address and those of its children.
    pub gateway: Gateway,
    /// Every family.
    pub catalog: Arc<Catalog>,
    /// How many messages wait.
    pub depths: Depths,
    /// How sessions treat their terminals.
    pub pool_options: Arc<pool::Options>,
    /// From one measurement of the machine to the next.
    pub sampler_interval: Duration,
    /// Mount points to report.
    pub disks: Vec<PathBuf>,
    /// Set once the machine was measured.
    pub sampled: watch::Sender<bool>,
    /// Told which actor was given up, after which the process has to end. Closed when the root ends.
    pub given_up: mpsc::UnboundedSender<Role>,
}

/// What the actor knows.
pub struct State {
    args: Args,
    children: Children<RootChild>,
}

impl Actor for Root {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.gateway.address.started(myself.clone());
        let children = Children::new(RESTARTS);
        let mut state = State { args, children };
        for child in RootChild::ALL {
            // Here a failure ends the process, as it should: the gateway has not started.
            state.spawn(child, &myself).await.map_err(|ended| ended.reason)?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Kill(Some(child)) => state.children.kill(&child),
            #[cfg(test)]
            Msg::Kill(None) => return Err("injected".into()),
            #[cfg(test)]
            Msg::Hang => std::future::pending().await,
            Msg::Start(child) => match state.spawn(child, &myself).await {
                Ok(()) => {
                    state.args.gateway.metrics.record(Event::ActorRestarted(child.role()));
                }
                Err(ended) => state.restart_or_give_up(ended),
            },
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(ended) = state.children.ended(event) {
            state.restart_or_give_up(ended);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop(myself.get_cell()).await;
        state.args.gateway.address.stopped();
        Ok(())
    }
}

impl State {
    async fn spawn(
        &mut self,
        child: RootChild,
        myself: &ActorRef<Envelope<Msg>>,
    ) -> Result<(), Ended<RootChild>> {
        let (args, gateway, myself) = (&self.args, &self.args.gateway, myself.get_cell());
        let (metrics, depths) = (gateway.metrics.clone(), args.depths.clone());
        match child {
            RootChild::Metrics => {
                let args = collector::Args::new(args.catalog.clone(), depths, metrics);
                self.children.spawn(child, Collector, args, myself).await
            }
            RootChild::Sampler => {
                let args = sampler::Args {
                    interval: args.sampler_interval,
                    disks: args.disks.clone(),
                    metrics,
                    sampled: args.sampled.clone(),
                    address: gateway.sampler.clone(),
                };
                self.children.spawn(child, Sampler, args, myself).await
            }
            RootChild::Pool => {
                let args = supervisor::Args {
                    options: args.pool_options.clone(),
                    metrics,
                    pool: gateway.pool.clone(),
                };
                self.children.spawn(child, supervisor::PoolActor, args, myself).await
            }
            RootChild::Trading => {
                let args = gateway.trading.actor_args();
                self.children.spawn(child, TradingActor, args, myself).await
            }
            RootChild::Streams => {
                let args = gateway.streams.supervisor();
                self.children.spawn(child, streams::StreamsActor, args, myself).await
            }
        }
    }

    fn restart_or_give_up(&mut self, ended: Ended<RootChild>) {
        let (child, role) = (ended.key, ended.key.role());
        let gateway = &self.args.gateway;
        match ended.verdict {
            RestartVerdict::Retry(_) => {
                ended.retry(role, None, &gateway.address, Msg::Start(child));
            }
            RestartVerdict::Spent => {
                error!(actor = role.name(), reason = ended.reason, "actor given up");
                if child == RootChild::Sampler {
                    gateway.sampler_given_up.store(true, Ordering::Relaxed);
                    gateway.metrics.record(Event::SamplerGone);
                } else {
                    let _ = self.args.given_up.send(role);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::metrics;
    use crate::pool::{Accounts, Savings};
    use crate::trading::{self, NoJournal};

    const SOON: Duration = Duration::from_secs(1);

    /// A gateway without accounts.
    struct Harness {
        gateway: Gateway,
        catalog: Arc<Catalog>,
        given_up: mpsc::UnboundedReceiver<Role>,
    }

    impl Harness {
        async fn start() -> Harness {
            let depths = Depths::default();
            let measured = metrics::Options::of_tests();
            let catalog =
                Arc::new(Catalog::new(&measured, &[], &metrics::LabelSets::default()).unwrap());
            let metrics = Metrics::new(&depths, true);
            let savings = Savings { share: false, cache: 0 };
            let accounts = Accounts::new(vec![], savings, &catalog, &metrics, &depths);
            let accounts = Arc::new(accounts);
            let directory = std::env::temp_dir();
            let options = trading::Options {
                journal: directory.join("none"),
                retention: SOON,
                tag: true,
                not_found_after: SOON,
            };
            let journal = Err(NoJournal::NotNeeded);
            let trading = Trading::new(&depths, journal, options, &accounts, metrics.clone());
            let options = streams::Options {
                max: 1,
                tick_interval: SOON,
                state_interval: SOON,
                heartbeat: SOON,
                buffer: 1,
                timeout: SOON,
            };
            let stop = CancellationToken::new();
            let streams = Streams::new(&accounts, options, None, metrics.clone(), &depths, stop);
            let pool = Pool::new(accounts, &depths);
            let gateway = Gateway::new(&depths, metrics, pool, trading, Arc::new(streams));
            let (sender, given_up) = mpsc::unbounded_channel();
            let args = Args {
                gateway: gateway.clone(),
                catalog: catalog.clone(),
                depths,
                pool_options: Arc::new(pool::Options {
                    call_timeout: SOON,
                    trade_timeout: SOON,
                    probe_interval: SOON,
                    count_holdings: true,
                    restart: RESTARTS,
                    quarantine_retry: SOON,
                }),
                sampler_interval: SOON,
                disks: vec![],
                sampled: watch::channel(false).0,
                given_up: sender,
            };
            Actor::spawn(None, Root, args).await.unwrap();
            Harness { gateway, catalog, given_up }
        }

        fn restarts(&self, child: RootChild) -> u64 {
            let restarts = &self.catalog.gateway_actor_restarts_total;
            restarts.with_label_values(&[child.role().name()]).get()
        }

        /// Waits until a child has been restarted so often, which the metrics count.
        async fn restarted(&self, child: RootChild, times: u64) {
            eventually(|| self.restarts(child) == times).await;
        }
    }

    async fn eventually(mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < until, "it never holds");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_ends_is_restarted_and_answers_again() {
        let harness = Harness::start().await;
        for child in RootChild::ALL {
            assert!(harness.gateway.silent(SOON).await.is_empty());
            harness.gateway.kill(Some(child));
            harness.restarted(child, 1).await;
        }
        assert!(harness.gateway.silent(SOON).await.is_empty());
        assert_eq!(RootChild::ALL.map(|child| harness.restarts(child)), [1; RootChild::ALL.len()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_ends_more_than_five_times_within_a_minute_is_given_up() {
        for child in [RootChild::Metrics, RootChild::Pool, RootChild::Trading, RootChild::Streams] {
            let mut harness = Harness::start().await;
            for restart in 1..=5 {
                harness.gateway.kill(Some(child));
                harness.restarted(child, restart).await;
                assert!(harness.given_up.try_recv().is_err());
            }
            harness.gateway.kill(Some(child));
            assert_eq!(harness.given_up.recv().await, Some(child.role()));
            assert_eq!(harness.gateway.silent(SOON).await, [child.role()]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sampler_that_fails_comes_back_and_measures_again() {
        let harness = Harness::start().await;
        let none: &[&str] = &[];
        let samples = harness.catalog.gateway_sampler_duration_seconds.with_label_values(none);
        let count = || samples.get_sample_count();
        eventually(|| count() > 0).await;
        assert!(harness.gateway.sampler.send(sampler::Msg::Fail).is_ok());
        harness.restarted(RootChild::Sampler, 1).await;
        let before = count();
        harness.catalog.process_resident_memory_bytes.with_label_values(none).set(0);
        eventually(|| count() > before).await;
        let memory = harness.catalog.process_resident_memory_bytes.with_label_values(none);
        assert!(memory.get() > 0, "it is measured anew");
        assert!(harness.gateway.silent(SOON).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateway_goes_on_without_its_sampler() {
        let mut harness = Harness::start().await;
        for restart in 1..=5 {
            harness.gateway.kill(Some(RootChild::Sampler));
            harness.restarted(RootChild::Sampler, restart).await;
        }
        harness.gateway.kill(Some(RootChild::Sampler));
        eventually(|| harness.gateway.sampler_given_up.load(Ordering::Relaxed)).await;
        assert!(harness.gateway.silent(SOON).await.is_empty());
        assert!(harness.given_up.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_fails_ends_the_process() {
        let mut harness = Harness::start().await;
        harness.gateway.kill(None);
        // Which `app` waits for.
        assert_eq!(harness.given_up.recv().await, None);
        let roles =
            [Role::Gateway, Role::Metrics, Role::Sampler, Role::Pool, Role::Trading, Role::Streams];
        assert_eq!(harness.gateway.silent(SOON).await, roles);
    }
}
