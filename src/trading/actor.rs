//! The trading actor: admits trades, one at a time for each key, and supervises the journal's keeper and
//! the reconcilers. Each trade is a task; one that panics is settled by what the journal knows of it.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::Options;
use super::build::{self, Refused};
use super::command::{NewOrder, TradeCommand};
use super::execution::{self, Error, Origin, Submission, Told, Waiting, audit};
use super::journal::{Journal, Keeper, KeeperArgs, Settled, Wanted};
use super::reconcile::{self, Gate, Reconciler, ReconcilerArgs};
use super::trade::{State as TradeState, Trade};
use crate::actor::{Address, Backoff, Depths, Envelope, Ping, Role};
use crate::metrics::{Event, Metrics};
use crate::mt5::{OrderCheckResult, calls};
use crate::pool::{Account, Accounts, CallContext};

/// Why there is no journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoJournal {
    /// No account may trade, and none ever did.
    #[error("no account may trade")]
    NotNeeded,
    /// It cannot be used.
    #[error("{0}")]
    Unusable(String),
}

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

/// The way to the trading actor, and to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Trading {
    address: Address<Msg>,
    depths: Depths,
    shared: Arc<Shared>,
}

/// What executions, reconcilers and the actor share. It outlives each of them, so that a key that is
/// under way stays so when the actor is restarted.
pub struct Shared {
    pub options: Options,
    pub metrics: Metrics,
    journal: Result<Journal, NoJournal>,
    tasks: TaskTracker,
    /// Keys of which a trade is under way, with the fingerprint of its command.
    keys: Mutex<HashMap<(String, String), [u8; 32]>>,
    /// Trades whose task decides, as they began.
    live: Mutex<HashMap<String, Trade>>,
    accounts: BTreeMap<String, AccountTrading>,
}

/// What the room knows of one account.
struct AccountTrading {
    account: Arc<Account>,
    gate: Gate,
    /// Told when a trade was settled.
    settled: Notify,
    reconciler: Address<reconcile::Msg>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trading {
    /// A way to an actor that is still to be started. `journal`: why there is
    /// none, if there is none.
    pub fn new(
        depths: &Depths,
        journal: Result<Journal, NoJournal>,
        options: Options,
        accounts: &Accounts,
        metrics: Metrics,
    ) -> Trading {
        let accounts = accounts.iter().map(|account| {
            let trading = AccountTrading {
                account: account.clone(),
                gate: Gate::default(),
                settled: Notify::new(),
                reconciler: Address::new(Role::Reconciler, depths),
            };
            (account.name.clone(), trading)
        });
        let shared = Shared {
            options,
            metrics,
            journal,
            tasks: TaskTracker::new(),
            keys: Mutex::default(),
            live: Mutex::default(),
            accounts: accounts.collect(),
        };
        Trading {
            address: Address::new(Role::Trading, depths),
            depths: depths.clone(),
            shared: Arc::new(shared),
        }
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        self.address.ping().await
    }

    /// Carries a command through and tells what became of it; waits until the
    /// context's deadline, and not for whatever comes after.
    ///
    /// # Errors
    /// Why there is no state to show.
    pub async fn execute(
        &self,
        account: &Arc<Account>,
        command: TradeCommand,
        origin: Origin,
        context: &CallContext,
    ) -> Told {
        let (reply, mut told) = oneshot::channel();
        let waiting = Arc::new(Waiting::default());
        // A client that hangs up drops this future: it was told nothing.
        let _leaves = Leaves(waiting.clone());
        let trade_id = uuid::Uuid::now_v7().simple().to_string();
        let submission = Submission {
            account: account.clone(),
            fingerprint: command.fingerprint(),
            command,
            origin,
            trade_id: trade_id.clone(),
            request_id: context.request_id.clone(),
            deadline: context.deadline,
            waiting: waiting.clone(),
            reply,
        };
        if self.address.send(Msg::Submit(Box::new(submission))).is_err() {
            return Err(Error::NoJournal("the trading actor is being restarted".to_owned()));
        }
        let waited = tokio::time::timeout_at(context.deadline, &mut told).await;
        // An answer that was settled first is on its way.
        let answered = match waited {
            Ok(told) => told.ok(),
            Err(_) if waiting.leave() => None,
            Err(_) => told.await.ok(),
        };
        answered.unwrap_or(Err(Error::OutcomeUnknown { trade_id }))
    }

    /// Notes that a client has been told that its trade was not sent, which frees its key.
    pub fn confirm_told(&self, trade: Trade) {
        // Lost while the actor is being restarted: then it is told once more.
        let _ = self.address.send(Msg::Told(Box::new(trade)));
    }

    /// Asks the broker what a new order would do, and sends nothing.
    ///
    /// # Errors
    /// If it breaks a rule, or the terminal cannot be asked.
    pub async fn check(
        &self,
        account: &Account,
        order: &NewOrder,
        context: &CallContext,
    ) -> Result<OrderCheckResult, Refused> {
        let request = Box::new(build::rehearse(account, order, context).await?);
        Ok(*account.call_raw(calls::OrderCheck { request }, context).await?)
    }

    /// The trade with an id.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn find(&self, account: &str, trade_id: &str) -> Result<Option<Trade>, Error> {
        if self.shared.was_never_needed() {
            return Ok(None);
        }
        let begun = locked(&self.shared.live).get(trade_id).cloned();
        let begun = begun.filter(|trade| trade.account == account);
        Ok(self.shared.journal()?.by_id(account, trade_id).await?.or(begun))
    }

    /// Trades of an account, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn list(&self, account: &str, wanted: Wanted) -> Result<Vec<Trade>, Error> {
        if self.shared.was_never_needed() {
            return Ok(vec![]);
        }
        let listed = self.shared.journal()?.list(account, wanted.clone()).await?;
        // Those that are still being prepared are not in the journal yet.
        let mut begun: Vec<Trade> = locked(&self.shared.live).values().cloned().collect();
        begun.retain(|trade| {
            trade.account == account
                && wanted.takes(trade)
                && !listed.iter().any(|listed| listed.trade_id == trade.trade_id)
        });
        begun.sort_by(|a, b| b.trade_id.cmp(&a.trade_id));
        begun.extend(listed);
        begun.truncate(wanted.limit as usize);
        Ok(begun)
    }

    /// Settles an unknown trade by an operator's word, as far as that goes with what the terminal
    /// shows. `None`: there is no such trade.
    ///
    /// # Errors
    /// If the trade is decided already, or the terminal shows otherwise, or cannot be asked.
    pub async fn resolve(
        &self,
        account: &Arc<Account>,
        trade_id: &str,
        resolution: Resolution,
        request_id: &str,
    ) -> Result<Option<Trade>, Error> {
        let shared = &self.shared;
        let Some(trade) = self.find(&account.name, trade_id).await? else {
            return Ok(None);
        };
        if trade.state != TradeState::Unknown || shared.is_live(trade_id) {
            let state = trade.state.name();
            let detail = format!("trade {trade_id} is {state}: only an unknown one can be settled");
            return Err(Error::NotResolvable(detail));
        }
        if !account.is_of(&trade.identity) {
            let detail = format!(
                "trade {trade_id} belongs to login {} on {:?}, which this account is not any more",
                trade.identity.login, trade.identity.server
            );
            return Err(Error::NotResolvable(detail));
        }
        let sight = reconcile::look_once(account, &trade).await.map_err(Refused::from)?;
        let Resolution { order, reason, operator } = resolution;
        let resolved = match order {
            Some(order) => {
                let request = trade.request.clone().unwrap_or_default();
                let result = sight.result_of(order, &request).ok_or_else(|| {
                    Error::NotResolvable(format!(
                        "the terminal shows no order {order} of {} lots of {} that was placed or filled",
                        request.volume, request.symbol
                    ))
                })?;
                let journal = shared.journal()?;
                let owned = journal.owned(&account.name, vec![order], trade_id).await?;
                if let Some(other) = owned.get(&order) {
                    let detail = format!("order {order} is the one of trade {other}");
                    return Err(Error::NotResolvable(detail));
                }
                Trade { state: TradeState::Executed, result: Some(result), ..trade }
            }
            None if sight.own => {
                let detail = format!(
                    "the terminal shows an order of trade {trade_id} by its ticket or tag, or the \
                     change itself: it cannot be called not found"
                );
                return Err(Error::NotResolvable(detail));
            }
            None => Trade { state: TradeState::NotFound, ..trade },
        };
        let resolved = Trade {
            detail: Some(reason),
            candidates: vec![],
            resolved_by: Some(operator),
            ..resolved
        };
        Ok(Some(shared.finish(account, resolved, request_id).await))
    }

    /// Waits until every trade that is under way has ended, and writes what still waits to be written.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        if let Ok(journal) = self.shared.journal() {
            let left = journal.flush().await;
            if left > 0 {
                error!(trades = left, "states of trades could not be written and are lost");
            }
        }
    }
}

/// An operator's word about an unknown trade.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The order that it is; `None`: it did not happen.
    pub order: Option<u64>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Name of the operator's API key, or the address.
    pub operator: String,
}

/// A client that stops waiting when this is dropped.
struct Leaves(Arc<Waiting>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let _ = self.0.leave();
    }
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

/// A key that is under way, until this is dropped.
struct Reserved {
    shared: Arc<Shared>,
    place: Option<(String, String)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            locked(&self.shared.keys).remove(&place);
        }
    }
}

/// A trade whose task decides, until this is dropped.
pub struct Live<'a> {
    shared: &'a Shared,
    trade_id: String,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.shared.leave(&self.trade_id);
    }
}

impl Shared {
    /// The journal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn journal(&self) -> Result<&Journal, Error> {
        self.journal.as_ref().map_err(|reason| Error::NoJournal(reason.to_string()))
    }

    /// Whether nothing was ever traded, so that there is nothing to know.
    fn was_never_needed(&self) -> bool {
        matches!(self.journal, Err(NoJournal::NotNeeded))
    }

    /// Notes that a trade's task decides about it.
    pub fn enter(&self, trade: Trade) -> Live<'_> {
        let trade_id = trade.trade_id.clone();
        locked(&self.live).insert(trade_id.clone(), trade);
        Live { shared: self, trade_id }
    }

    /// Notes that a trade's task does not decide about it any more.
    pub fn leave(&self, trade_id: &str) {
        locked(&self.live).remove(trade_id);
    }

    /// Whether a trade's task decides about it.
    pub fn is_live(&self, trade_id: &str) -> bool {
        locked(&self.live).contains_key(trade_id)
    }

    /// Whether an account's trades from before the start were looked for.
    pub fn is_reconciled(&self, account: &str) -> bool {
        self.accounts.get(account).is_some_and(|trading| trading.gate.is_reconciled())
    }

    /// The gate of an account.
    ///
    /// # Panics
    /// If there is no such account, which nobody has who comes here.
    pub fn gate(&self, account: &str) -> &Gate {
        &self.accounts[account].gate
    }

    /// Lets an account's trades in.
    pub fn open_gate(&self, account: &str) {
        self.gate(account).open();
    }

    /// Waits until a trade of an account was settled, or for so long; the reconciler looks for one
    /// meanwhile.
    pub async fn watch(&self, account: &str, trade_id: &str, longest: Duration) {
        if let Some(trading) = self.accounts.get(account) {
            let settled = trading.settled.notified();
            let _ = trading.reconciler.send(reconcile::Msg::Wake(trade_id.to_owned()));
            let _ = tokio::time::timeout(longest, settled).await;
        }
    }

    /// Writes down what became of a trade, counts its end, and tells everybody who waits. Gives the
    /// trade as it stands then.
    pub async fn finish(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let outcome = trade.state.outcome();
        let (wanted, id) = (trade.state, trade.trade_id.clone());
        let trade = self.settle(account, trade, request_id).await;
        if let Some(outcome) = outcome
            && (trade.state, &trade.trade_id) == (wanted, &id)
        {
            self.metrics.record(Event::TradeEnded { account: account.id, outcome });
        }
        trade
    }

    /// Writes down what became of a trade whose end was counted before.
    pub async fn settle(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let Ok(journal) = self.journal() else {
            return trade;
        };
        let trade = match journal.settle(trade.clone()).await {
            Ok(Settled::Kept(present)) => *present,
            Ok(Settled::Taken(trade)) => *trade,
            // The journal settles it as soon as it can.
            Err(_) => trade,
        };
        audit(&trade, trade.state.name(), request_id);
        self.count_unknown(account).await;
        if let Some(trading) = self.accounts.get(&account.name) {
            trading.settled.notify_waiters();
            if trade.state == TradeState::Unknown {
                let _ = trading.reconciler.send(reconcile::Msg::Wake(trade.trade_id.clone()));
            }
        }
        trade
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub async fn count_unknown(&self, account: &Account) {
        let Ok(journal) = self.journal() else {
            return;
        };
        if let Ok(unknown) = journal.unknown(&account.name).await {
            let oldest = unknown.oldest_msc.map_or(0.0, |msc| msc as f64 / 1000.0);
            let (account, count) = (account.id, unknown.count);
            self.metrics.record(Event::TradesUnknown { account, count, oldest });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::clock::BootInstant;
    use crate::metrics::{self, Catalog, LabelSets, StatusLabels};
    use crate::mt5::ServerClock;
    use crate::pool::{AccountOptions, Savings};
    use crate::terminal::simulator::{Launcher, MarginMode, Options as Simulated};

    const SOON: Duration = Duration::from_secs(10);

    struct Harness {
        trading: Trading,
        account: Arc<Account>,
        _directory: tempfile::TempDir,
    }

    impl Harness {
        /// An account whose sessions were never started, and a journal.
        fn new() -> Harness {
            let (depths, names) = (Depths::default(), [("demo".to_owned(), 1)]);
            let measured = metrics::Options {
                enabled: false,
                status_labels: StatusLabels::Exact,
                duration_buckets: vec![1.0],
                call_buckets: vec![1.0],
            };
            let catalog = Catalog::new(&measured, &names, &LabelSets::default()).unwrap();
            let metrics = Metrics::new(&depths, false);
            let launcher = Launcher::new(Simulated {
                login: 1,
                server: "S".to_owned(),
                seed: 1,
                balance: 1_000.0,
                margin_mode: MarginMode::Hedging,
                commission: 0.0,
                bars: BTreeMap::new(),
                latency: Duration::ZERO,
                faults: BTreeMap::new(),
            });
            let account = AccountOptions {
                name: "demo".to_owned(),
                login: 1,
                server: "S".to_owned(),
                sessions: 1,
                queue: 1,
                trade: true,
                send_within: Duration::from_secs(5),
                send_within_close: Duration::from_secs(30),
                clock: ServerClock::RAW,
                launcher: Arc::new(launcher),
            };
            let savings = Savings { share: false, cache: 0 };
            let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
            let directory = tempfile::tempdir().unwrap();
            let options = Options {
                journal: directory.path().join("journal"),
                retention: SOON,
                tag: true,
                not_found_after: SOON,
            };
            let journal = Journal::open(&options.journal, &[], metrics.clone()).unwrap();
            let trading = Trading::new(&depths, Ok(journal), options, &accounts, metrics);
            let account = accounts.get("demo").unwrap().clone();
            Harness { trading, account, _directory: directory }
        }

        async fn start(&self) -> ActorRef<Envelope<Msg>> {
            let args = Args { trading: self.trading.clone() };
            Actor::spawn(None, TradingActor, args).await.unwrap().0
        }

        async fn cancel(&self, key: &str, ticket: u64) -> Told {
            let origin = Origin {
                key: Some(key.to_owned()),
                arrived: BootInstant::now(),
                send_within: SOON,
                api_key: None,
                client: None,
            };
            let context = CallContext::new("test".into(), Instant::now() + SOON);
            let command = TradeCommand::Cancel { ticket };
            self.trading.execute(&self.account, command, origin, &context).await
        }
    }

    fn children(actor: &ActorRef<Envelope<Msg>>) -> BTreeSet<String> {
        actor.get_cell().get_children().iter().map(|child| child.get_id().to_string()).collect()
    }

    #[tokio::test]
    async fn a_child_that_fails_is_started_again() {
        let harness = Harness::new();
        let actor = harness.start().await;
        let before = children(&actor);
        assert_eq!(before.len(), 2, "the journal's keeper and one reconciler");
        for child in actor.get_cell().get_children() {
            child.kill();
        }
        let restarted = async {
            loop {
                let now = children(&actor);
                if now.len() == 2 && now.is_disjoint(&before) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, restarted).await.unwrap();
        actor.stop_and_wait(None, None).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_stays_under_way_when_the_actor_is_restarted() {
        let harness = Harness::new();
        let command = TradeCommand::Cancel { ticket: 7 };
        let place = ("demo".to_owned(), "k".to_owned());
        locked(&harness.trading.shared.keys).insert(place, command.fingerprint());
        for _ in 0..2 {
            let actor = harness.start().await;
            assert_eq!(harness.cancel("k", 7).await, Err(Error::UnderWay));
            assert_eq!(harness.cancel("k", 8).await, Err(Error::KeyReused));
            actor.stop_and_wait(None, None).await.unwrap();
        }
    }
}
