//! The root actor: supervises the metrics actor, the sampler, the pool and the
//! trading actor, and gives up when one of them cannot be kept alive.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info};

use crate::actor::{Address, Depths, Envelope, Role};
use crate::metrics::{Catalog, Collector, Event, Metrics, collector};
use crate::pool::{self, Accounts, Pool, supervisor};
use crate::sampler::{self, Sampler};
use crate::trading::{self, Trading, TradingActor};

/// Restarts of one actor within [`WINDOW`] before it is given up.
const BUDGET: usize = 5;

/// How long a restart counts.
const WINDOW: Duration = Duration::from_secs(60);

/// What the root is told.
pub enum Msg {
    /// Answers that it lives.
    Ping(oneshot::Sender<()>),
}

/// The way to the root actor. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    address: Address<Msg>,
}

impl Gateway {
    /// A way to an actor that is still to be started.
    pub fn new(depths: &Depths) -> Gateway {
        Gateway { address: Address::new(Role::Gateway, depths) }
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.address.send(Msg::Ping(reply)).is_ok() && answer.await.is_ok()
    }
}

/// The actor.
pub struct Root;

/// What the actor needs.
pub struct Args {
    /// Its own address.
    pub gateway: Gateway,
    /// Every family.
    pub catalog: Arc<Catalog>,
    /// How many messages wait.
    pub depths: Depths,
    /// The metrics actor's address.
    pub metrics: Metrics,
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// The pool's address.
    pub pool: Pool,
    /// How sessions treat their terminals.
    pub pool_options: Arc<pool::Options>,
    /// The trading actor's address.
    pub trading: Trading,
    /// From one measurement of the machine to the next.
    pub sampler_interval: Duration,
    /// Mount points to report.
    pub disks: Vec<PathBuf>,
    /// Set once the machine was measured.
    pub sampled: watch::Sender<bool>,
    /// Told which actor was given up, after which the process has to end.
    pub given_up: oneshot::Sender<Role>,
}

/// What the actor knows.
pub struct State {
    args: Args,
    children: HashMap<ActorId, Role>,
    restarts: HashMap<Role, Vec<Instant>>,
    given_up: Option<oneshot::Sender<Role>>,
}

impl Actor for Root {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        mut args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.gateway.address.assign(myself.clone());
        info!(actor = Role::Gateway.name(), "actor started");
        let given_up = std::mem::replace(&mut args.given_up, oneshot::channel().0);
        let mut state = State {
            args,
            children: HashMap::new(),
            restarts: HashMap::new(),
            given_up: Some(given_up),
        };
        for role in [Role::Metrics, Role::Sampler, Role::Pool, Role::Trading] {
            state.start(role, &myself.get_cell()).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Msg::Ping(reply) = message.open();
        let _ = reply.send(());
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
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
        if let Some(role) = state.children.remove(&actor.get_id()) {
            state.restart(role, &reason, &myself.get_cell()).await;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.children.clear();
        // Otherwise the children would be killed without their own end.
        myself.stop_children_and_wait(None, None).await;
        info!(actor = Role::Gateway.name(), "actor stopped");
        Ok(())
    }
}

impl State {
    async fn start(&mut self, role: Role, myself: &ActorCell) -> Result<(), SpawnErr> {
        let args = &self.args;
        let (metrics, depths) = (args.metrics.clone(), args.depths.clone());
        let child = match role {
            Role::Metrics => {
                let catalog = args.catalog.clone();
                let args = collector::Args::new(catalog, depths, metrics);
                Actor::spawn_linked(None, Collector, args, myself.clone()).await?.0.get_cell()
            }
            Role::Sampler => {
                let args = sampler::Args {
                    interval: args.sampler_interval,
                    disks: args.disks.clone(),
                    metrics,
                    sampled: args.sampled.clone(),
                    depths,
                };
                Actor::spawn_linked(None, Sampler, args, myself.clone()).await?.0.get_cell()
            }
            Role::Trading => {
                let args = trading::Args { trading: args.trading.clone() };
                Actor::spawn_linked(None, TradingActor, args, myself.clone()).await?.0.get_cell()
            }
            _ => {
                let args = supervisor::Args {
                    accounts: args.accounts.clone(),
                    options: args.pool_options.clone(),
                    metrics,
                    pool: args.pool.clone(),
                };
                let supervisor = supervisor::Supervisor;
                Actor::spawn_linked(None, supervisor, args, myself.clone()).await?.0.get_cell()
            }
        };
        self.children.insert(child.get_id(), role);
        Ok(())
    }

    async fn restart(&mut self, role: Role, reason: &str, myself: &ActorCell) {
        let now = Instant::now();
        let restarts = self.restarts.entry(role).or_default();
        restarts.retain(|at| now.duration_since(*at) < WINDOW);
        restarts.push(now);
        if restarts.len() <= BUDGET {
            error!(actor = role.name(), reason, "actor restarting");
            match self.start(role, myself).await {
                Ok(()) => return self.args.metrics.record(Event::ActorRestarted(role)),
                Err(fault) => error!(actor = role.name(), %fault, "actor did not start"),
            }
        }
        error!(actor = role.name(), reason, "actor given up");
        // Without measurements of the machine the service is still one.
        if role == Role::Sampler {
            self.args.metrics.record(Event::SamplerGone);
        } else if let Some(given_up) = self.given_up.take() {
            let _ = given_up.send(role);
        }
    }
}
