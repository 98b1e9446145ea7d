//! The pool actor: supervises the sessions. Calls do not pass through it.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::Options;
use super::directory::{Account, Directory};
use super::session::{self, Session};
use crate::actor::{Address, Depths, Envelope, Role};
use crate::metrics::{Event, Metrics};

/// What the pool is told.
pub enum Msg {
    /// Replace the terminals of an account, one at a time.
    Restart(Arc<Account>, oneshot::Sender<bool>),
    /// The replacements of an account are over.
    Restarted(Arc<Account>),
    /// Let every terminal finish and end it; answered when all are gone.
    Stop(oneshot::Sender<()>),
    /// Answers that it lives.
    Ping(oneshot::Sender<()>),
}

/// The way to the pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    address: Address<Msg>,
}

impl Pool {
    /// A way to an actor that is still to be started.
    pub fn new(depths: &Depths) -> Pool {
        Pool { address: Address::new(Role::Pool, depths) }
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
    pub directory: Arc<Directory>,
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
    sessions: HashMap<ActorId, session::Args>,
    restarting: Vec<Arc<Account>>,
    stopping: bool,
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
        Ok(State { args, sessions: HashMap::new(), restarting: vec![], stopping: false })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let directory = state.args.directory.clone();
        for account in directory.accounts() {
            account.announce();
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
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Restart(account, reply) => {
                let under_way = state.restarting.iter().any(|other| Arc::ptr_eq(other, &account));
                if !under_way && !state.stopping {
                    state.restarting.push(account.clone());
                    tokio::spawn(restart_each(account, state.args.pool.clone()));
                }
                let _ = reply.send(!under_way);
            }
            Msg::Restarted(account) => {
                state.restarting.retain(|other| !Arc::ptr_eq(other, &account));
            }
            Msg::Stop(reply) => {
                state.stopping = true;
                tokio::spawn(stop_all(state.args.directory.clone(), reply));
            }
            Msg::Ping(reply) => {
                let _ = reply.send(());
            }
        }
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
        let Some(args) = state.sessions.remove(&actor.get_id()) else {
            return Ok(());
        };
        if !state.stopping {
            let (account, session) = (&args.account.name, args.index);
            error!(actor = Role::Session.name(), account, session, reason, "actor restarting");
            state.args.metrics.record(Event::ActorRestarted(Role::Session));
            state.start(&myself, args).await;
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
    async fn start(&mut self, myself: &ActorRef<Envelope<Msg>>, args: session::Args) {
        match Actor::spawn_linked(None, Session, args.clone(), myself.get_cell()).await {
            Ok((actor, _)) => {
                self.sessions.insert(actor.get_id(), args);
            }
            Err(fault) => {
                let (account, session) = (&args.account.name, args.index);
                error!(actor = Role::Session.name(), account, session, %fault, "actor did not start");
            }
        }
    }
}

/// Replaces an account's terminals so that the others serve meanwhile.
async fn restart_each(account: Arc<Account>, pool: Pool) {
    for slot in &account.slots {
        let (done, settled) = oneshot::channel();
        if slot.address.send(session::Msg::Restart(done)).is_ok() {
            // An error means that the session itself was restarted.
            let _ = settled.await;
        }
    }
    let _ = pool.address.send(Msg::Restarted(account));
}

async fn stop_all(directory: Arc<Directory>, reply: oneshot::Sender<()>) {
    let slots = directory.accounts().flat_map(|account| &account.slots);
    let stops = slots.filter_map(|slot| {
        let (done, gone) = oneshot::channel();
        slot.address.send(session::Msg::Stop(done)).ok().map(|()| gone)
    });
    futures_util::future::join_all(stops.collect::<Vec<_>>()).await;
    let _ = reply.send(());
}
