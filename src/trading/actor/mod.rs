//! The trading actor: admits trades, one at a time for each key, and observes their executions.
//!
//! Each trade is carried out by a task of its own, so that a slow terminal or disk never keeps the mailbox
//! waiting. The actor learns of each end, answers the client, and settles a trade whose execution panicked.
//! It supervises the journal and the reconcilers. Executions do not end with the actor: what they and their
//! clients need is in [`Executions`](super::executions::Executions), where its successor finds it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tracing::error;

use super::execution::{self, Submission};
use super::executions::{End, Reply};
use super::journal::JournalActor;
use super::ledger::Ledger;
use super::permission;
use super::reconcile::{Reconciler, ReconcilerArgs};
use crate::account_name::AccountName;
use crate::actor::{Address, Children, Ended, Envelope, Ping, RestartPolicy, Role};
use crate::metrics::Event;

pub enum Msg {
    /// Carry a command through.
    Submit(Arc<Submission>, Reply),
    /// An execution has ended; [`Executions`](super::executions::Executions) knows which.
    ExecutionEnded,
    /// Start a child again.
    Start(TradingChild),
    /// Start the children that are not there yet: an account, or the journal, has come.
    Open,
    /// End the reconciler of an account that goes. The answer comes when it has.
    Close(AccountName, oneshot::Sender<()>),
    /// Answers that it lives.
    Ping(Ping),
    /// Fail the actor.
    #[cfg(test)]
    Fail,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// What the actor supervises.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TradingChild {
    Journal,
    /// The reconciler of an account.
    Reconciler(AccountName),
}

/// Admits trades and observes their executions.
pub struct TradingActor;

/// What the actor is started with, from [`Trading::actor_args`](super::Trading::actor_args).
pub struct Args {
    /// The actor's own address.
    pub(super) address: Address<Msg>,
    pub(super) ledger: Arc<Ledger>,
}

pub struct State {
    address: Address<Msg>,
    ledger: Arc<Ledger>,
    children: Children<TradingChild>,
    /// Who waits for the end of which reconciler.
    closing: HashMap<TradingChild, oneshot::Sender<()>>,
}

impl Actor for TradingActor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        Args { address, ledger }: Args,
    ) -> Result<State, ActorProcessingErr> {
        address.started(myself.clone());
        let children = Children::new(RestartPolicy::UNLIMITED);
        let mut state = State { address, ledger, children, closing: HashMap::new() };
        state.start_all(&myself.get_cell()).await;
        // Executions that ended while there was no actor.
        state.end_executions();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Submit(submission, reply) => state.submit(submission, reply),
            Msg::ExecutionEnded => state.end_executions(),
            Msg::Start(child) => {
                let role = child.role();
                if state.start(child, &myself.get_cell()).await {
                    state.ledger.metrics.record(Event::ActorRestarted(role));
                }
            }
            Msg::Open => state.start_all(&myself.get_cell()).await,
            Msg::Close(account, closed) => state.close(account, closed),
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Fail => return Err("on purpose".into()),
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
            match state.closing.remove(&ended.key) {
                // Its account goes.
                Some(closed) => {
                    state.children.forget(&ended.key);
                    let _ = closed.send(());
                }
                None => state.restart(&ended),
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop(myself.get_cell()).await;
        state.address.stopped();
        Ok(())
    }
}

impl TradingChild {
    fn role(&self) -> Role {
        match self {
            TradingChild::Journal => Role::Journal,
            TradingChild::Reconciler(_) => Role::Reconciler,
        }
    }

    fn account(&self) -> Option<&str> {
        match self {
            TradingChild::Journal => None,
            TradingChild::Reconciler(account) => Some(account),
        }
    }
}

impl State {
    fn submit(&self, submission: Arc<Submission>, reply: Reply) {
        if let Err((error, reply)) = self.ledger.executions.admit(&submission, reply) {
            submission.client.answer();
            let _ = reply.send(Err(error));
            return;
        }
        let ledger = self.ledger.clone();
        let execution = tokio::spawn({
            let (ledger, submission) = (ledger.clone(), submission.clone());
            async move { execution::run(&ledger, &submission).await }
        });
        // Reaches a successor of this actor, too.
        let address = self.address.clone();
        tokio::spawn(async move {
            let reply = execution.await.ok();
            ledger.executions.ended(End { submission, reply });
            // An actor that is being restarted looks for ends by itself.
            let _ = address.send(Msg::ExecutionEnded);
        });
    }

    /// Answers the clients of executions that have ended, and settles those that panicked.
    fn end_executions(&self) {
        let (ledger, executions) = (&self.ledger, &self.ledger.executions);
        while let Some(End { submission, reply }) = executions.next_end() {
            let (account, trade_id) = (submission.account.name.as_str(), &submission.trade_id);
            let name: &str = trade_id;
            match reply {
                Some(reply) => {
                    // Before the next submission is admitted, which may be a repetition.
                    if let Some(Err(untold)) = executions.answer(trade_id, reply) {
                        execution::record_unsent(ledger, &submission, &untold);
                    }
                }
                None => {
                    error!(account, trade_id = name, "trade's execution panicked");
                    let settle = || execution::settle_panicked(ledger, &submission);
                    // Its key must not stay reserved, whatever happens.
                    if catch_unwind(AssertUnwindSafe(settle)).is_err() {
                        error!(
                            account,
                            trade_id = name,
                            "trade whose execution panicked cannot be settled"
                        );
                    }
                }
            }
            executions.remove(trade_id);
        }
    }

    /// Starts the journal and the reconcilers that do not run, if there is a journal.
    async fn start_all(&mut self, myself: &ActorCell) {
        let accounts = self.ledger.accounts();
        for of_account in &accounts {
            permission::announce(&self.ledger, &of_account.account);
        }
        if self.ledger.journal().is_err() {
            return;
        }
        let accounts = accounts.iter().map(|ledger| ledger.account.name.clone());
        for child in
            [TradingChild::Journal].into_iter().chain(accounts.map(TradingChild::Reconciler))
        {
            self.start(child, myself).await;
        }
    }

    /// Ends a reconciler. One that is not there is not started again, because its account goes.
    fn close(&mut self, account: AccountName, closed: oneshot::Sender<()>) {
        let child = TradingChild::Reconciler(account);
        if self.children.stop_one(&child) {
            self.closing.insert(child, closed);
        } else {
            self.children.forget(&child);
            let _ = closed.send(());
        }
    }

    /// Starts a child unless it runs, or does so later. Gives whether it started.
    async fn start(&mut self, child: TradingChild, myself: &ActorCell) -> bool {
        if self.children.is_running(&child) {
            return false;
        }
        let ledger = self.ledger.clone();
        let started = match &child {
            TradingChild::Journal => {
                let Ok(journal) = ledger.journal() else {
                    return false;
                };
                let args = journal.actor_args(ledger.options.retention);
                self.children.spawn(child, JournalActor, args, myself.clone()).await
            }
            TradingChild::Reconciler(name) => {
                let of_account = ledger.account(name);
                let of_account = of_account.filter(|of| !of.account.door.is_ending());
                let Some(of_account) = of_account else {
                    return false;
                };
                let args = ReconcilerArgs { of_account, ledger: ledger.clone() };
                self.children.spawn(child, Reconciler, args, myself.clone()).await
            }
        };
        match started {
            Ok(()) => true,
            Err(ended) => {
                self.restart(&ended);
                false
            }
        }
    }

    /// Without its children the actor refuses trades, and with them it goes on: it never gives them up.
    fn restart(&self, ended: &Ended<TradingChild>) {
        let child = &ended.key;
        ended.retry(child.role(), child.account(), &self.address, Msg::Start(child.clone()));
    }
}

#[cfg(test)]
mod tests;
