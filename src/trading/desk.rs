//! The trading actor: takes trades, one at a time per key, and carries each
//! through on a task of its own, so that nothing that a client does changes
//! what becomes of it. It owns the journal, and one [`Watch`] an account, which
//! finds out about trades whose answer was lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Options;
use super::journal::{Journal, JournalError};
use super::prepare::{self, Refused};
use super::trade::{State as Fated, Trade, TradeResult};
use super::watch::Watch;
use super::wish::{NewOrder, Wish};
use crate::actor::{Address, Depths, Envelope, Role};
use crate::metrics::{Event, Metrics, TradeOutcome};
use crate::mt5::{Answer, ErrorType, OrderCheckResult, Request, Retcode, Verdict};
use crate::pool::{Account, CallError, Context, Directory, TradeError, Traded};
use crate::terminal::Failure;

/// How long the reads before a trade may take.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a result that could not be written is tried again.
const REWRITE_INTERVAL: Duration = Duration::from_secs(1);

/// How often bodies past their retention are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);

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

/// Why a trade has no fate to show.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It was refused before it was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The account may not trade.
    #[error("the account may not trade: set `accounts.{0}.trade = true` to allow it")]
    Disabled(String),
    /// The journal cannot be used, so nothing is sent.
    #[error("nothing is traded without a journal: {0}")]
    NoJournal(String),
    /// Trades from before the start are still being looked for.
    #[error("trades from before the gateway's start are still being looked for")]
    Reconciling,
    /// A trade with this key is under way.
    #[error("a trade with this Idempotency-Key is under way")]
    UnderWay,
    /// The key was used for something else.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The deadline passed while the trade was under way.
    #[error("the deadline passed while the trade was under way")]
    OutcomeUnknown {
        /// Under which its fate can be asked for.
        trade_id: String,
    },
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Error {
        Error::NoJournal(error.to_string())
    }
}

/// A trade as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    /// The trade.
    pub trade: Trade,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

type Told = Result<Fate, Error>;

/// Whether a trade was answered or its client stopped waiting: one of the two
/// comes first.
#[derive(Debug, Default)]
struct Settlement(AtomicU8);

impl Settlement {
    const OPEN: u8 = 0;
    const ANSWERED: u8 = 1;
    const LEFT: u8 = 2;

    /// Whether nothing was settled before.
    fn settle(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A wish on its way.
pub struct Submission {
    account: Arc<Account>,
    wish: Wish,
    key: Option<String>,
    trade_id: String,
    request_id: Arc<str>,
    settlement: Arc<Settlement>,
    reply: oneshot::Sender<Told>,
}

/// What the actor is told.
pub enum Msg {
    /// Carry a wish through.
    Submit(Box<Submission>),
    /// A key is free: what was done with it is in the journal, or was not sent.
    Release(String, String),
}

/// The way to the trading actor, and to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Trading {
    address: Address<Msg>,
    shared: Arc<Shared>,
}

/// What tasks share with the actor.
pub struct Shared {
    pub journal: Result<Journal, NoJournal>,
    pub options: Options,
    pub metrics: Metrics,
    tasks: TaskTracker,
    /// Trades of this process whose task runs, as they began.
    live: Mutex<HashMap<String, Trade>>,
    /// Results that could not be written yet, by trade.
    unwritten: Mutex<HashMap<String, Trade>>,
    pub watches: BTreeMap<String, Arc<Watch>>,
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
        directory: &Directory,
        metrics: Metrics,
    ) -> Trading {
        let watches = directory
            .accounts()
            .map(|account| (account.name.clone(), Arc::new(Watch::new(account.clone()))))
            .collect();
        let shared = Shared {
            journal,
            options,
            metrics,
            tasks: TaskTracker::new(),
            live: Mutex::default(),
            unwritten: Mutex::default(),
            watches,
        };
        Trading { address: Address::new(Role::Trading, depths), shared: Arc::new(shared) }
    }

    /// Carries a wish through and tells what became of it; waits until the
    /// context's deadline, and not for whatever comes after.
    ///
    /// # Errors
    /// Why there is no fate to show.
    pub async fn execute(
        &self,
        account: &Arc<Account>,
        wish: Wish,
        key: Option<String>,
        context: &Context,
    ) -> Told {
        let (reply, mut told) = oneshot::channel();
        let settlement = Arc::new(Settlement::default());
        let trade_id = uuid::Uuid::now_v7().simple().to_string();
        let submission = Submission {
            account: account.clone(),
            wish,
            key,
            trade_id: trade_id.clone(),
            request_id: context.request_id.clone(),
            settlement: settlement.clone(),
            reply,
        };
        if self.address.send(Msg::Submit(Box::new(submission))).is_err() {
            return Err(Error::NoJournal("the trading actor is being restarted".to_owned()));
        }
        let waited = tokio::time::timeout_at(context.deadline, &mut told).await;
        // An answer that was settled first is on its way.
        let answered = match waited {
            Ok(told) => told.ok(),
            Err(_) if settlement.settle(Settlement::LEFT) => None,
            Err(_) => told.await.ok(),
        };
        answered.unwrap_or(Err(Error::OutcomeUnknown { trade_id }))
    }

    /// Asks the broker what a new order would do, and sends nothing.
    ///
    /// # Errors
    /// If it breaks a rule, or the terminal cannot be asked.
    pub async fn check(
        &self,
        account: &Account,
        order: &NewOrder,
        context: &Context,
    ) -> Result<OrderCheckResult, Refused> {
        let request = Box::new(prepare::rehearse(account, order, context).await?);
        match account.call(Request::OrderCheck { request }, context).await? {
            Answer::OrderCheck(result) => Ok(*result),
            _ => {
                let detail = "the terminal's answer to order_check is of another kind".to_owned();
                Err(CallError::Failed(Failure::Unusable(detail)).into())
            }
        }
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
        let trade = self.shared.journal()?.by_id(account, trade_id).await?;
        Ok(trade.map(|trade| self.shared.present(trade)).or(begun))
    }

    /// Trades of an account, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn list(
        &self,
        account: &str,
        state: Option<Fated>,
        limit: u32,
    ) -> Result<Vec<Trade>, Error> {
        if self.shared.was_never_needed() {
            return Ok(vec![]);
        }
        let trades = self.shared.journal()?.list(account, state, limit).await?;
        Ok(trades.into_iter().map(|trade| self.shared.present(trade)).collect())
    }

    /// Waits until every trade that is under way has ended.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// The actor.
pub struct Desk;

/// What the actor needs.
pub struct Args {
    /// Its own address.
    pub trading: Trading,
}

/// What the actor knows.
pub struct State {
    trading: Trading,
    /// Account and key of what is under way, with what is asked for.
    under_way: HashMap<(String, String), [u8; 32]>,
    /// Ended with the actor.
    background: Vec<AbortHandle>,
}

impl Drop for State {
    fn drop(&mut self) {
        for task in &self.background {
            task.abort();
        }
    }
}

impl Actor for Desk {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let trading = args.trading;
        trading.address.assign(myself);
        info!(actor = Role::Trading.name(), "actor started");
        let shared = &trading.shared;
        let mut background = vec![tokio::spawn(retain(shared.clone())).abort_handle()];
        for watch in shared.watches.values() {
            let watching = watch.clone().run(shared.clone());
            background.push(tokio::spawn(watching).abort_handle());
        }
        Ok(State { trading, under_way: HashMap::new(), background })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Submit(submission) => state.submit(*submission),
            Msg::Release(account, key) => {
                state.under_way.remove(&(account, key));
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        info!(actor = Role::Trading.name(), "actor stopped");
        Ok(())
    }
}

impl State {
    fn submit(&mut self, submission: Submission) {
        let fingerprint = submission.wish.fingerprint();
        let place = submission.key.clone().map(|key| (submission.account.name.clone(), key));
        if let Some(place) = &place {
            if let Some(other) = self.under_way.get(place) {
                let error = if *other == fingerprint { Error::UnderWay } else { Error::KeyReused };
                let _ = submission.reply.send(Err(error));
                return;
            }
            self.under_way.insert(place.clone(), fingerprint);
        }
        let reserved = Reserved { address: self.trading.address.clone(), place };
        let shared = self.trading.shared.clone();
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let told = shared.carry_through(&submission, fingerprint).await;
            let waited_for = submission.settlement.settle(Settlement::ANSWERED);
            if let (false, Err(error)) = (waited_for, &told) {
                shared.record_unsent(&submission, fingerprint, error).await;
            }
            // Whoever asks again after this answer finds the key free.
            drop(reserved);
            // A client that left needs no answer; the journal has it.
            let _ = submission.reply.send(told);
        });
    }
}

/// A key that is under way, until this is dropped.
struct Reserved {
    address: Address<Msg>,
    place: Option<(String, String)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some((account, key)) = self.place.take() {
            let _ = self.address.send(Msg::Release(account, key));
        }
    }
}

/// A trade whose task runs, until this is dropped.
struct Live<'a>(&'a Shared, &'a str);

impl Submission {
    /// The trade that it is to become.
    fn trade(&self, fingerprint: [u8; 32]) -> Trade {
        let now = now_msc();
        Trade {
            trade_id: self.trade_id.clone(),
            account: self.account.name.clone(),
            login: self.account.login,
            operation: self.wish.operation(),
            idempotency_key: self.key.clone(),
            fingerprint,
            tag: None,
            state: Fated::Sending,
            created_msc: now,
            updated_msc: now,
            server_time: 0,
            position_id: 0,
            detail: None,
            candidates: vec![],
            request: None,
            result: None,
        }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        locked(&self.0.live).remove(self.1);
    }
}

pub fn now_msc() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Shared {
    pub fn journal(&self) -> Result<&Journal, Error> {
        self.journal.as_ref().map_err(|reason| Error::NoJournal(reason.to_string()))
    }

    /// Whether nothing was ever traded, so that there is nothing to know.
    fn was_never_needed(&self) -> bool {
        matches!(self.journal, Err(NoJournal::NotNeeded))
    }

    /// A trade as this process knows it, which may be more than is on disk.
    pub fn present(&self, trade: Trade) -> Trade {
        locked(&self.unwritten).get(&trade.trade_id).cloned().unwrap_or(trade)
    }

    /// Whether the task that sends a trade runs still.
    pub fn is_live(&self, trade_id: &str) -> bool {
        locked(&self.live).contains_key(trade_id)
    }

    async fn carry_through(&self, submission: &Submission, fingerprint: [u8; 32]) -> Told {
        let Submission { account, wish, key, trade_id, request_id, .. } = submission;
        let disabled = || Error::Disabled(account.name.clone());
        let journal =
            self.journal().map_err(|error| if account.trade { error } else { disabled() })?;
        if let Some(key) = key
            && let Some(trade) = journal.by_key(&account.name, key).await?
        {
            return match self.present(trade) {
                trade if trade.fingerprint != fingerprint => Err(Error::KeyReused),
                trade if self.is_live(&trade.trade_id) => Err(Error::UnderWay),
                trade => Ok(Fate { trade, replayed: true }),
            };
        }
        if !account.trade {
            return Err(disabled());
        }
        if !self.watches.get(&account.name).is_some_and(|watch| watch.is_settled()) {
            return Err(Error::Reconciling);
        }
        let trade = submission.trade(fingerprint);
        locked(&self.live).insert(trade_id.clone(), trade.clone());
        let _live = Live(self, trade_id);
        // The client's deadline ends its wait, not the trade.
        let deadline = Instant::now() + PREPARE_TIMEOUT;
        let context = Context { request_id: request_id.clone(), deadline };
        let prepared = prepare::prepare(account, wish, &context, self.options.tag).await?;
        let request = prepared.request.clone();
        let trade = prepared.into_trade(trade);
        journal.insert(trade.clone()).await?;
        audit(&trade, "intent", request_id);
        let traded = account.trade(request).await;
        if let Some(error) = never_sent(&traded) {
            audit(&trade, "withdrawn", request_id);
            journal.withdraw(trade_id.clone()).await?;
            return Err(Refused::Call(error).into());
        }
        if let Ok(result) = &traded {
            let retcode = Retcode::from_code(result.retcode);
            self.metrics.record(Event::TradeResult { account: account.id, retcode });
        }
        let trade = self.finish(account, decided(trade, traded), request_id).await;
        Ok(Fate { trade, replayed: false })
    }

    /// Writes down that a trade was not sent, for a client that was told only
    /// that its outcome is unknown. Its key stays free.
    async fn record_unsent(&self, submission: &Submission, fingerprint: [u8; 32], error: &Error) {
        let Ok(journal) = self.journal() else {
            return;
        };
        let trade = Trade {
            idempotency_key: None,
            state: Fated::NotFound,
            detail: Some(format!("it was not sent: {error}")),
            ..submission.trade(fingerprint)
        };
        if journal.insert(trade.clone()).await.is_ok() {
            self.finish(&submission.account, trade, &submission.request_id).await;
        }
    }

    /// Writes down what became of a trade, and tells everybody who watches.
    pub async fn finish(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        let outcome = match trade.state {
            Fated::Executed => Some(TradeOutcome::Executed),
            Fated::Refused => Some(TradeOutcome::Refused),
            Fated::NotFound => Some(TradeOutcome::NotFound),
            Fated::Sending | Fated::Unknown => None,
        };
        if let Some(outcome) = outcome {
            self.metrics.record(Event::TradeEnded { account: account.id, outcome });
        }
        self.note(account, trade, request_id).await
    }

    /// Writes down a trade whose end was counted before.
    pub async fn note(&self, account: &Account, trade: Trade, request_id: &str) -> Trade {
        audit(&trade, trade.state.name(), request_id);
        self.write(trade.clone()).await;
        self.count_unknown(account).await;
        if let Some(watch) = self.watches.get(&account.name) {
            watch.wake();
        }
        trade
    }

    /// Writes a trade, however long that takes; until then it is kept here.
    pub async fn write(&self, trade: Trade) {
        let Ok(journal) = self.journal() else {
            return;
        };
        if journal.update(trade.clone()).await.is_ok() {
            return;
        }
        locked(&self.unwritten).insert(trade.trade_id.clone(), trade);
    }

    /// Tries again what could not be written.
    async fn rewrite(&self, journal: &Journal) {
        let unwritten: Vec<Trade> = locked(&self.unwritten).values().cloned().collect();
        for trade in unwritten {
            if journal.update(trade.clone()).await.is_ok() {
                locked(&self.unwritten).remove(&trade.trade_id);
            }
        }
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

/// Why a trade did certainly not reach its broker, if it did not.
fn never_sent(traded: &Traded) -> Option<CallError> {
    match traded {
        Err(TradeError::NotSent(error)) => Some(error.clone()),
        Err(TradeError::Failed(Failure::Mt5(error))) => {
            // The package looked at the request and did not pass it on.
            let before = matches!(
                error.error_type(),
                ErrorType::InvalidParams
                    | ErrorType::Unsupported
                    | ErrorType::AuthFailed
                    | ErrorType::AutoTradingDisabled
            );
            before.then(|| CallError::Failed(Failure::Mt5(error.clone())))
        }
        _ => None,
    }
}

/// A trade with what its answer, or the lack of one, says about its fate.
fn decided(trade: Trade, traded: Traded) -> Trade {
    let (state, detail, result) = match traded {
        Ok(result) => {
            let retcode = Retcode::from_code(result.retcode);
            let answered = Some(TradeResult::answered(&result));
            match retcode.verdict() {
                Verdict::Executed => (Fated::Executed, None, answered),
                Verdict::Refused => (Fated::Refused, None, answered),
                Verdict::Unknown => {
                    let (code, name) = (result.retcode, retcode.name());
                    let detail = format!("the broker answered {code} ({name})");
                    (Fated::Unknown, Some(detail), None)
                }
            }
        }
        Err(error) => (Fated::Unknown, Some(error.to_string()), None),
    };
    Trade { state, detail, result, updated_msc: now_msc(), ..trade }
}

/// One line for each thing that happens to a trade. Comments may be private and
/// are not among the fields.
fn audit(trade: &Trade, event: &str, request_id: &str) {
    let request = trade.request.as_ref();
    let result = trade.result.as_ref();
    info!(
        target: "mt5_gateway::trading",
        event,
        trade_id = trade.trade_id,
        account = trade.account,
        operation = trade.operation.name(),
        symbol = request.map(|request| request.symbol.as_str()),
        r#type = request.map(|request| request.r#type),
        volume = request.map(|request| request.volume),
        price = request.map(|request| request.price),
        position = request.map(|request| request.position),
        retcode = result.map(|result| result.retcode),
        order = result.map(|result| result.order),
        deal = result.map(|result| result.deal),
        detail = trade.detail,
        request_id,
        "trade"
    );
}

/// Keeps the journal in order: what could not be written, and what is kept too long.
async fn retain(shared: Arc<Shared>) {
    let Ok(journal) = shared.journal() else {
        return;
    };
    let mut forget_at = Instant::now();
    loop {
        shared.rewrite(journal).await;
        if forget_at <= Instant::now() {
            let kept = i64::try_from(shared.options.retention.as_millis()).unwrap_or(i64::MAX);
            if let Err(error) = journal.forget_bodies(now_msc().saturating_sub(kept)).await {
                warn!(%error, "bodies past their retention cannot be removed");
            }
            forget_at += RETENTION_INTERVAL;
        }
        tokio::time::sleep(REWRITE_INTERVAL).await;
    }
}
