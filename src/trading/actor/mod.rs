//! The trading actor: admits trades, one at a time for each key, and supervises the journal's keeper and
//! the reconcilers. Each trade is a task; one that panics is settled by what the journal knows of it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::time::Instant;
use tracing::{error, info};

use super::execution::{self, Submission};
use super::handle::Trading;
use super::journal::{Keeper, KeeperArgs};
use super::ledger::{Reserved, locked};
use super::reconcile::{Reconciler, ReconcilerArgs};
use super::reply::Error;
use super::trade::Trade;
use crate::actor::{Backoff, Envelope, Ping, Role};
use crate::metrics::Event;

/// What the actor is told.
pub enum Msg {
    /// Carry a command through.
    Submit(Box<Submission>),
    /// A client has been told that its trade was not sent.
    Told(Box<Trade>),
    /// Time to start a child again.
    Start(Child),
    /// Answers that it lives.
    Ping(Ping),
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// What the actor supervises.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Child {
    /// The journal's keeper.
    Keeper,
    /// The reconciler of an account.
    Reconciler(String),
}

/// The actor.
pub struct TradingActor;

/// What the actor needs.
pub struct Args {
    /// Its own address.
    pub trading: Trading,
}

/// What the actor knows.
pub struct State {
    trading: Trading,
    children: HashMap<ActorId, Child>,
    failures: HashMap<Child, Backoff>,
}

impl Actor for TradingActor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let trading = args.trading;
        trading.address.assign(myself.clone());
        info!(actor = Role::Trading.name(), "actor started");
        let mut state = State { trading, children: HashMap::new(), failures: HashMap::new() };
        if state.trading.shared.journal.is_ok() {
            let names: Vec<String> = state.trading.shared.accounts.keys().cloned().collect();
            let reconcilers = names.into_iter().map(Child::Reconciler);
            for child in [Child::Keeper].into_iter().chain(reconcilers) {
                state.start(child, &myself.get_cell()).await?;
            }
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
            Msg::Submit(submission) => state.submit(*submission),
            Msg::Told(trade) => {
                let shared = state.trading.shared.clone();
                let tasks = shared.tasks.clone();
                // A slow disk must not keep other trades out.
                tasks.spawn(async move {
                    if let Ok(journal) = shared.journal() {
                        journal.note_told(*trade).await;
                    }
                });
            }
            Msg::Ping(ping) => ping.answer(),
            Msg::Start(child) => {
                if let Err(fault) = state.start(child.clone(), &myself.get_cell()).await {
                    state.start_later(child, &fault.to_string());
                }
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
        if let Some(child) = state.children.remove(&actor.get_id()) {
            let role = child.role();
            state.start_later(child, &reason);
            state.trading.shared.metrics.record(Event::ActorRestarted(role));
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
        info!(actor = Role::Trading.name(), "actor stopped");
        Ok(())
    }
}

impl Child {
    fn role(&self) -> Role {
        match self {
            Child::Keeper => Role::Journal,
            Child::Reconciler(_) => Role::Reconciler,
        }
    }

    fn account(&self) -> Option<&str> {
        match self {
            Child::Keeper => None,
            Child::Reconciler(account) => Some(account),
        }
    }
}

impl State {
    async fn start(&mut self, child: Child, myself: &ActorCell) -> Result<(), SpawnErr> {
        let shared = &self.trading.shared;
        let cell = match &child {
            Child::Keeper => {
                let Ok(journal) = shared.journal() else {
                    return Ok(());
                };
                let args = KeeperArgs {
                    journal: journal.clone(),
                    retention: shared.options.retention,
                    depths: self.trading.depths.clone(),
                };
                Actor::spawn_linked(None, Keeper, args, myself.clone()).await?.0.get_cell()
            }
            Child::Reconciler(name) => {
                let Some(trading) = shared.accounts.get(name) else {
                    return Ok(());
                };
                let args = ReconcilerArgs {
                    account: trading.account.clone(),
                    address: trading.reconciler.clone(),
                    shared: shared.clone(),
                };
                Actor::spawn_linked(None, Reconciler, args, myself.clone()).await?.0.get_cell()
            }
        };
        self.children.insert(cell.get_id(), child);
        Ok(())
    }

    fn start_later(&mut self, child: Child, reason: &str) {
        let failures = self.failures.entry(child.clone()).or_default();
        let delay = failures.next(Instant::now());
        let (actor, account) = (child.role().name(), child.account());
        error!(actor, account, reason, retry_in = ?delay, "actor restarting");
        self.trading.address.send_after(delay, Msg::Start(child));
    }

    fn submit(&mut self, submission: Submission) {
        let shared = self.trading.shared.clone();
        let key = submission.origin.key.clone();
        let place = key.map(|key| (submission.account.name.clone(), key));
        if let Some(place) = &place {
            let mut keys = locked(&shared.keys);
            if let Some(other) = keys.get(place) {
                let same = *other == submission.fingerprint;
                let error = if same { Error::UnderWay } else { Error::KeyReused };
                submission.waiting.answer();
                let _ = submission.reply.send(Err(error));
                return;
            }
            keys.insert(place.clone(), submission.fingerprint);
        }
        let reserved = Reserved { shared: shared.clone(), place };
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let execution = AssertUnwindSafe(execution::run(&shared, &submission));
            let told = execution.catch_unwind().await;
            // Whoever asks again after this answer finds the key free.
            drop(reserved);
            match told {
                // A client that left needs no answer; the journal has it.
                Ok(told) => drop(submission.reply.send(told)),
                Err(_) => {
                    let (account, trade_id) = (&submission.account.name, &submission.trade_id);
                    error!(account, trade_id, "trade's task panicked");
                    execution::abandoned(&shared, &submission).await;
                    shared.leave(&submission.trade_id);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
