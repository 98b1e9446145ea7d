//! The pool actor: supervises the sessions. Calls do not pass through it.
//!
//! A session whose actor fails, or cannot be started, is started again after the delays of
//! `[restart]`, the ones that a session has for its terminal: a session that fails whenever it
//! starts would otherwise start terminals as fast as the machine can.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{error, info};

use super::Options;
use super::accounts::{Account, Accounts};
use super::labels::{RestartReason, SessionState};
use super::session::{self, Session, Settled, StopToken};
use crate::actor::{Address, Children, Depths, Ended, Envelope, Ping, RestartVerdict, Role};
use crate::metrics::{AccountId, Event, Metrics};

/// From one look for terminals that are due for recycling to the next.
const RECYCLING_INTERVAL: Duration = Duration::from_secs(10);

/// What the pool is told.
pub enum Msg {
    /// Start a session whose actor failed, unless it was started meanwhile.
    Start(SessionKey),
    /// Replace the terminals of an account, one at a time. The answer is `false` if that is under
    /// way already.
    Restart(AccountId, oneshot::Sender<bool>),
    /// A session of the account has settled after its replacement, or its actor has failed.
    Settled(AccountId),
    /// Start the sessions of an account that has come, unless that was done.
    Open(AccountId),
    /// Let the terminals of an account that goes finish, and end them.
    Close(AccountId, StopToken),
    /// Time to look for terminals that are due for recycling.
    Recycle,
    /// Look for them as if it were that moment.
    #[cfg(test)]
    RecycleAt(Timestamp),
    /// Let every terminal finish and end it.
    Stop(StopToken),
    /// Answers that it lives.
    Ping(Ping),
    /// Fail.
    #[cfg(test)]
    Fail,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// A session: its account, and which of the account's sessions it is.
pub type SessionKey = (AccountId, usize);

/// The way to the pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    address: Address<Msg>,
    accounts: Arc<Accounts>,
    /// Whether a pool actor has started before, which has reported the sessions' first state.
    announced: Arc<AtomicBool>,
    /// Whether the pool was told to stop, after which no actor starts a terminal.
    stopping: Arc<AtomicBool>,
}

impl Pool {
    /// The way to an actor that has yet to be started.
    pub fn new(accounts: Arc<Accounts>, depths: &Depths) -> Pool {
        Pool {
            address: Address::new(Role::Pool, depths),
            accounts,
            announced: Arc::default(),
            stopping: Arc::default(),
        }
    }

    /// Begins to replace the terminals of an account. `false`: that is under way already. `None`: the
    /// pool is being restarted.
    pub async fn restart(&self, account: &Account) -> Option<bool> {
        let (reply, answer) = oneshot::channel();
        self.address.send(Msg::Restart(account.id, reply)).ok()?;
        answer.await.ok()
    }

    /// Lets every terminal finish, ends it, and waits until it is gone. Without the actor the sessions
    /// have ended, and their terminals are being killed.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let (token, mut sessions) = mpsc::channel(1);
        if self.address.send(Msg::Stop(token)).is_ok() {
            // Ends when the last session has dropped its token.
            let _ = sessions.recv().await;
        }
        for account in self.accounts.all().values() {
            terminals_gone(account).await;
        }
    }

    /// Starts the terminals of an account that has come to the directory. A pool that is being
    /// restarted does so by itself.
    pub fn open(&self, account: &Account) {
        account.announce();
        let _ = self.address.send(Msg::Open(account.id));
    }

    /// Lets the terminals of an account finish that is about to leave the directory, ends them, and
    /// waits until they are gone. None is started again.
    pub async fn close(&self, account: &Account) {
        let (token, mut sessions) = mpsc::channel(1);
        if self.address.send(Msg::Close(account.id, token)).is_ok() {
            let _ = sessions.recv().await;
        }
        terminals_gone(account).await;
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        self.address.ping().await
    }
}

async fn terminals_gone(account: &Account) {
    for slot in &account.slots {
        let _gone = slot.lease.lock().await;
    }
}

/// Supervises the sessions.
pub struct PoolActor;

/// What the actor needs.
pub struct Args {
    /// Its own address, and the accounts.
    pub pool: Pool,
    /// How sessions treat their terminals.
    pub options: Arc<Options>,
    /// Where to report.
    pub metrics: Metrics,
}

/// What the actor knows.
pub struct State {
    args: Args,
    /// Of this actor alone.
    address: Address<Msg>,
    /// Their failures are those of actors, not of terminals, which the sessions count themselves.
    sessions: Children<SessionKey>,
    /// Sessions whose actor failed, each with the timer of its next start.
    delayed: HashMap<SessionKey, AbortHandle>,
    /// Accounts whose terminals are being replaced.
    restarting: HashMap<AccountId, Restarting>,
}

/// How the terminals of an account are being replaced.
struct Restarting {
    reason: RestartReason,
    /// The sessions whose turn has yet to come.
    turns: VecDeque<usize>,
}

impl Actor for PoolActor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.pool.address.started(myself);
        Ok(State {
            address: args.pool.address.pinned(),
            sessions: Children::new(args.options.restart.clone()),
            args,
            delayed: HashMap::new(),
            restarting: HashMap::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let accounts = state.args.pool.accounts.all();
        let announced = state.args.pool.announced.swap(true, Ordering::Relaxed);
        for account in accounts.values() {
            if announced {
                // The sessions of the pool that failed ended with it, in whatever state.
                for index in 0..account.slots.len() {
                    account.vacate(index, SessionState::Starting, None);
                }
            } else {
                account.announce();
            }
            state.start_all(&myself, account).await;
        }
        state.address.send_after(RECYCLING_INTERVAL, Msg::Recycle);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Start(key) => state.start_again(&myself, key).await,
            Msg::Restart(account, reply) => {
                let begins = !state.restarting.contains_key(&account);
                if begins && !state.is_stopping() {
                    state.begin_restart(&myself, account).await;
                }
                let _ = reply.send(begins);
            }
            Msg::Settled(account) => {
                state.replace_next(account);
                // The next one that is due need not wait.
                state.recycle(Timestamp::now());
            }
            Msg::Open(account) => {
                if let Some(account) = state.account(account) {
                    state.start_all(&myself, &account).await;
                }
            }
            Msg::Close(account, token) => state.close(account, &token),
            Msg::Recycle => {
                state.recycle(Timestamp::now());
                state.address.send_after(RECYCLING_INTERVAL, Msg::Recycle);
            }
            #[cfg(test)]
            Msg::RecycleAt(now) => state.recycle(now),
            Msg::Stop(token) => state.stop(&token),
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(ended) = state.sessions.ended(event)
            && !state.is_stopping()
        {
            state.start_later(&ended);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.sessions.stop(myself.get_cell()).await;
        state.address.stopped();
        Ok(())
    }
}

impl State {
    /// Starts the sessions of an account that have not been started.
    async fn start_all(&mut self, myself: &ActorRef<Envelope<Msg>>, account: &Arc<Account>) {
        for index in 0..account.slots.len() {
            let key = (account.id, index);
            let is_started = self.sessions.is_running(&key) || self.delayed.contains_key(&key);
            if !is_started && !account.door.is_ending() && !self.is_stopping() {
                self.start(myself, account, index).await;
            }
        }
    }

    /// Starts a session. `false`: its actor did not start, which is tried again later.
    async fn start(
        &mut self,
        myself: &ActorRef<Envelope<Msg>>,
        account: &Arc<Account>,
        index: usize,
    ) -> bool {
        let (account, options) = (account.clone(), self.args.options.clone());
        let key = (account.id, index);
        let args = session::Args { account, index, options };
        match self.sessions.spawn(key, Session, args, myself.get_cell()).await {
            Ok(()) => true,
            Err(ended) => {
                self.start_later(&ended);
                false
            }
        }
    }

    /// Starts a session whose actor failed, unless that has been done.
    async fn start_again(&mut self, myself: &ActorRef<Envelope<Msg>>, key: SessionKey) {
        let Some(timer) = self.delayed.remove(&key) else {
            return;
        };
        timer.abort();
        let (id, index) = key;
        let Some(account) = self.account(id).filter(|account| !account.door.is_ending()) else {
            return;
        };
        if self.start(myself, &account, index).await {
            self.args.metrics.record(Event::ActorRestarted(Role::Session));
        }
    }

    /// Schedules the next start of a session whose actor failed. Until then the session takes no
    /// calls.
    fn start_later(&mut self, ended: &Ended<SessionKey>) {
        let Ended { key, reason, verdict } = ended;
        let (id, session) = *key;
        let Some(account) = self.account(id).filter(|account| !account.door.is_ending()) else {
            return self.sessions.forget(key);
        };
        let (to, delay, message) = match verdict {
            RestartVerdict::Retry(delay) => (SessionState::BackingOff, *delay, "actor restarting"),
            RestartVerdict::Spent => {
                let delay = self.args.options.quarantine_retry;
                (SessionState::Quarantined, delay, "actor quarantined")
            }
        };
        error!(
            actor = Role::Session.name(),
            account = account.name.as_str(),
            session,
            reason,
            retry_in = ?delay,
            "{message}"
        );
        account.note_error(session, format!("the session's actor failed: {reason}"));
        account.vacate(session, to, Some(Instant::now() + delay));
        self.delayed.insert(*key, self.address.send_after(delay, Msg::Start(*key)));
    }

    /// Begins to replace an account's terminals, one at a time, so that the others serve meanwhile.
    /// Sessions without an actor start at once instead.
    async fn begin_restart(&mut self, myself: &ActorRef<Envelope<Msg>>, id: AccountId) {
        let Some(account) = self.account(id).filter(|account| !account.door.is_ending()) else {
            return;
        };
        let delayed = self.delayed.keys().filter(|(account, _)| *account == id);
        let delayed: Vec<SessionKey> = delayed.copied().collect();
        for key in &delayed {
            self.start_again(myself, *key).await;
        }
        let running = (0..account.slots.len()).filter(|index| !delayed.contains(&(id, *index)));
        let reason = RestartReason::Request;
        self.restarting.insert(id, Restarting { reason, turns: running.collect() });
        self.replace_next(id);
    }

    /// Begins to replace terminals that are due for recycling, of each account one at most.
    fn recycle(&mut self, now: Timestamp) {
        let accounts = self.args.pool.accounts.all();
        // The terminals of an account that goes end by themselves.
        let idle = accounts.values().filter(|account| {
            !account.door.is_ending() && !self.restarting.contains_key(&account.id)
        });
        let due = idle.filter_map(|account| Some((account, account.due_for_recycling(now)?)));
        for (account, (session, due)) in due.collect::<Vec<_>>() {
            if self.is_stopping() {
                return;
            }
            let name = account.name.as_str();
            info!(account = name, session, reason = %due, "terminal is due for recycling");
            let reason = due.reason();
            self.restarting.insert(account.id, Restarting { reason, turns: [session].into() });
            self.replace_next(account.id);
        }
    }

    /// Replaces the terminal of the session whose turn it is.
    fn replace_next(&mut self, id: AccountId) {
        let restarting = self.restarting.get_mut(&id);
        let next = restarting.and_then(|of| Some((of.turns.pop_front()?, of.reason)));
        let (Some((index, reason)), Some(account)) = (next, self.account(id)) else {
            self.restarting.remove(&id);
            return;
        };
        let address = self.address.clone();
        let settled = Settled::new(move || {
            // A pool that has failed replaces nothing any more.
            let _ = address.send(Msg::Settled(id));
        });
        // A session without an actor gives the message back, which settles it.
        drop(account.slots[index].address.send(session::Msg::Restart(reason, settled)));
    }

    /// Stops every session, each of which holds the token until it has ended.
    fn stop(&mut self, token: &StopToken) {
        for (_, timer) in self.delayed.drain() {
            timer.abort();
        }
        for account in self.args.pool.accounts.all().values() {
            stop_sessions(account, token);
        }
    }

    /// Stops the sessions of an account that ends, and forgets what was to be done with them.
    fn close(&mut self, id: AccountId, token: &StopToken) {
        self.restarting.remove(&id);
        let of_account = self.delayed.extract_if(|(account, _), _| *account == id);
        for (key, timer) in of_account {
            timer.abort();
            self.sessions.forget(&key);
        }
        if let Some(account) = self.account(id) {
            stop_sessions(&account, token);
        }
    }

    fn is_stopping(&self) -> bool {
        self.args.pool.stopping.load(Ordering::Acquire)
    }

    fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        self.args.pool.accounts.by_id(id)
    }
}

/// Stops every session of an account, each of which holds the token until it has ended.
fn stop_sessions(account: &Account, token: &StopToken) {
    for slot in &account.slots {
        // A session without an actor has ended.
        drop(slot.address.send(session::Msg::Stop(token.clone())));
    }
}

#[cfg(test)]
mod tests;
