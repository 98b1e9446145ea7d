//! Who is ready: chooses a session for each call and admits it. Shared by all;
//! nothing here waits for an actor.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::bars::{self, Piece};
use super::cache::{self, Cache};
use super::call::{Call, CallError, Context, Place, TradeCall, TradeError, Traded};
use super::sharing::{Sharing, Waiter, is_shareable};
use super::{AccountOptions, Savings, session};
use crate::actor::{Address, Depths, Role};
use crate::metrics::{AccountId, Catalog, Event, Metrics, Rejection, SessionState};
use crate::mt5::{Answer, Method, Rate, Request, Rows, ServerClock, Timeframe, TradeRequest};
use crate::terminal::{Launch, Lease, Mode};

/// A server's clock of an unknown zone runs at most this far behind UTC, seconds.
const CLOCK_LAG: i64 = 12 * 3600;

/// After how long without an answer a session is passed over while there are others: its
/// terminal hangs, or is busy with something long.
const SLUGGISH: Duration = Duration::from_millis(100);

/// What clocks may be wrong by, seconds.
const CLOCK_ERROR: i64 = 60;

/// Every configured account.
pub struct Directory {
    accounts: BTreeMap<String, Arc<Account>>,
}

impl Directory {
    /// The directory of these accounts, none of them ready.
    pub fn new(
        accounts: Vec<AccountOptions>,
        savings: Savings,
        catalog: &Catalog,
        metrics: &Metrics,
        depths: &Depths,
    ) -> Directory {
        let cache = (savings.cache > 0).then(|| Cache::new(savings.cache));
        let accounts = accounts.into_iter().enumerate().map(|(index, options)| {
            let id = AccountId(index);
            let slots = (0..options.sessions)
                .map(|_| Slot::new(options.queue, catalog.queue(id), depths))
                .collect();
            let account = Account {
                id,
                name: options.name,
                login: options.login,
                server: options.server,
                trade: options.trade,
                clock: options.clock,
                sharing: savings.share.then(Sharing::default),
                cache: cache.clone(),
                launcher: options.launcher,
                slots,
                primary: Mutex::new(None),
                metrics: metrics.clone(),
            };
            (account.name.clone(), Arc::new(account))
        });
        Directory { accounts: accounts.collect() }
    }

    /// The account of this name.
    pub fn account(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.get(name)
    }

    /// Every account, by name.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }
}

/// An account and its sessions.
pub struct Account {
    /// Its place in the configuration.
    pub id: AccountId,
    /// Its name in URLs.
    pub name: String,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
    /// Whether it may trade.
    pub trade: bool,
    /// The clock of its broker's server. Everything above this room is in UTC
    /// if its zone is known.
    clock: ServerClock,
    /// `None`: each read is a call of its own.
    sharing: Option<Sharing>,
    /// `None`: nothing is kept.
    cache: Option<Cache>,
    pub(super) launcher: Arc<dyn Launch>,
    pub(super) slots: Vec<Slot>,
    /// The first session that was ready, until it fails.
    primary: Mutex<Option<usize>>,
    metrics: Metrics,
}

/// The place of one session; it outlives the session's actor.
pub(super) struct Slot {
    pub address: Address<session::Msg>,
    pub lease: Lease,
    queue: usize,
    admission: Arc<Semaphore>,
    /// Trades are admitted apart, so that reads cannot keep them out.
    trade_admission: Arc<Semaphore>,
    depth: Arc<AtomicI64>,
    /// Since when its terminal has been on a call, in milliseconds since `made`; 0: it is on none.
    busy_since: AtomicU64,
    made: Instant,
    status: Mutex<Status>,
}

#[derive(Debug, Clone)]
struct Status {
    state: SessionState,
    since: Timestamp,
    retry_at: Option<Instant>,
    connected: bool,
    restarts: u64,
    last_login: Option<LoginReport>,
    last_error: Option<ErrorReport>,
}

/// How the last login of a session ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoginReport {
    /// `success` or `failure`.
    pub outcome: &'static str,
    /// When, RFC 3339.
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// What went wrong with a session last.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorReport {
    /// In words.
    pub message: String,
    /// When, RFC 3339.
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// A session as `/api/v1/accounts` shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionStatus {
    /// Where it stands.
    pub state: SessionState,
    /// Since when, RFC 3339.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// Whether account, positions, orders and history are read from it.
    pub primary: bool,
    /// Whether its terminal is connected to the broker.
    pub connected: bool,
    /// Calls that wait or are under way.
    pub queue_depth: usize,
    /// How often its terminal was replaced.
    pub restarts: u64,
    /// How its last login ended.
    pub last_login: Option<LoginReport>,
    /// What went wrong last.
    pub last_error: Option<ErrorReport>,
}

/// An account as `/api/v1/accounts` shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountStatus {
    /// Its name in URLs.
    pub name: String,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
    /// `live` or `simulated`.
    pub mode: Mode,
    /// Whether it may trade.
    pub trade: bool,
    /// Whether a session is ready.
    pub ready: bool,
    /// The zone of its server's clock. `null`: times are the server's, as they come; else they
    /// are UTC, in and out.
    pub server_time_zone: Option<String>,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
}

impl Account {
    /// Whether its terminals are real.
    pub fn mode(&self) -> Mode {
        self.launcher.mode()
    }

    /// Whether a session is ready.
    pub fn is_ready(&self) -> bool {
        self.slots.iter().any(Slot::is_ready)
    }

    /// Where each session stands.
    pub fn status(&self) -> AccountStatus {
        let primary = *self.primary.lock().expect("no panic under this lock");
        let sessions = self.slots.iter().enumerate();
        AccountStatus {
            name: self.name.clone(),
            login: self.login,
            server: self.server.clone(),
            mode: self.mode(),
            trade: self.trade,
            ready: self.is_ready(),
            server_time_zone: self.clock.zone().map(str::to_owned),
            sessions: sessions.map(|(index, slot)| slot.report(primary == Some(index))).collect(),
        }
    }

    /// Makes a call on the session that its method belongs to.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(&self, mut request: Request, context: &Context) -> Result<Answer, CallError> {
        if let Some(from_utc) = self.clock.from_utc() {
            request.convert_times(from_utc);
        }
        let chosen = if uses_primary(request.method()) {
            *self.primary.lock().expect("no panic under this lock")
        } else {
            self.least_loaded(None)
        };
        let (waiter, answer) = Waiter::new(context.deadline);
        let sharing = self.sharing.as_ref().filter(|_| is_shareable(request.method()));
        let alone = match sharing {
            Some(sharing) => sharing.join(&request, waiter),
            None => Some(waiter),
        };
        if let Some(waiter) = alone {
            self.submit(chosen, request, waiter, sharing)?;
        }
        let mut answer = told(answer, context.deadline).await?;
        if let Some(to_utc) = self.clock.to_utc() {
            answer.convert_times(to_utc);
        }
        Ok(answer)
    }

    /// Makes a call that is answered with bars, and remembers the newest of them: it shows that
    /// those before it are not the last.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn rates(
        &self,
        request: Request,
        context: &Context,
    ) -> Result<Rows<Rate>, CallError> {
        let series = match &request {
            Request::CopyRatesFrom { symbol, timeframe, .. }
            | Request::CopyRatesFromPos { symbol, timeframe, .. }
            | Request::CopyRatesRange { symbol, timeframe, .. } => {
                self.cache.as_ref().map(|cache| (cache, self.series(symbol, *timeframe)))
            }
            _ => None,
        };
        let rows = bars::rates(self.call(request, context).await?)?;
        if let (Some((cache, series)), Some(newest)) = (series, rows.iter().next_back()) {
            cache.see(series, newest.time);
        }
        Ok(rows)
    }

    fn series(&self, symbol: &str, timeframe: Timeframe) -> cache::Series {
        cache::Series { account: self.id, symbol: symbol.to_owned(), timeframe }
    }

    /// The bars that open within a range, both ends included, in one call or none.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn rates_range(
        &self,
        symbol: &str,
        timeframe: Timeframe,
        (from, to): (i64, i64),
        context: &Context,
    ) -> Result<Piece<Rows<Rate>>, CallError> {
        let key = || cache::Key { series: self.series(symbol, timeframe), from, to };
        let closed = self.has_closed(to, timeframe);
        let cache = self.cache.as_ref().filter(|_| closed).map(|cache| (cache, key()));
        let asked = Instant::now();
        if let Some((cache, key)) = &cache
            && let Some(kept) = cache.get(key, asked)
        {
            return Ok(kept);
        }
        let request = Request::CopyRatesRange {
            symbol: symbol.to_owned(),
            timeframe,
            date_from: from,
            date_to: to,
        };
        let rows = self.rates(request, context).await?;
        let rows = bars::rates_within(self, &rows, from, to);
        if let Some((cache, key)) = cache {
            cache.keep(key, &rows, asked, Instant::now());
        }
        Ok(Piece { rows, age: None })
    }

    /// Whether a bar that opens at a moment has certainly closed.
    pub fn has_closed(&self, opened: i64, timeframe: Timeframe) -> bool {
        // A month may be longer than its period says.
        self.is_past(opened + timeframe.seconds() + timeframe.seconds() / 16)
    }

    /// Whether a moment has certainly passed on the server's clock.
    pub fn is_past(&self, moment: i64) -> bool {
        let behind = if self.clock.zone().is_some() { 0 } else { CLOCK_LAG };
        moment + behind + CLOCK_ERROR < Timestamp::now().as_second()
    }

    /// Whether times are UTC, and not the server's as they come.
    pub fn is_utc(&self) -> bool {
        self.clock.zone().is_some()
    }

    /// The UTC of a time that the server's clock shows, both in unix seconds. The same time
    /// where the zone of that clock is not known.
    pub fn server_to_utc(&self, server_seconds: i64) -> i64 {
        self.clock.to_utc().map_or(server_seconds, |mut to_utc| to_utc(server_seconds))
    }

    /// What the server's clock shows at a time in UTC, both in unix seconds. The same time where
    /// the zone of that clock is not known.
    pub fn utc_to_server(&self, utc_seconds: i64) -> i64 {
        self.clock.from_utc().map_or(utc_seconds, |from_utc| from_utc(utc_seconds))
    }

    /// What the server's clock shows now, unix seconds. Where its zone is not known this is the
    /// UTC of this machine.
    pub fn server_now(&self) -> i64 {
        self.utc_to_server(Timestamp::now().as_second())
    }

    /// Makes a call on every session that is ready; what is set so is set in
    /// each terminal.
    ///
    /// # Errors
    /// The first session's reason for not answering.
    pub async fn call_all(&self, request: Request, context: &Context) -> Result<Answer, CallError> {
        let ready = (0..self.slots.len()).filter(|index| self.slots[*index].is_ready());
        let calls: Vec<_> =
            ready.map(|index| self.call_on(Some(index), request.clone(), context)).collect();
        let answers = futures_util::future::try_join_all(calls).await?;
        answers.into_iter().next().ok_or_else(|| self.not_ready())
    }

    async fn call_on(
        &self,
        chosen: Option<usize>,
        request: Request,
        context: &Context,
    ) -> Result<Answer, CallError> {
        let (waiter, answer) = Waiter::new(context.deadline);
        self.submit(chosen, request, waiter, None)?;
        told(answer, context.deadline).await
    }

    /// Hands a call to a session, for others to join if they may.
    fn submit(
        &self,
        chosen: Option<usize>,
        request: Request,
        waiter: Waiter,
        sharing: Option<&Sharing>,
    ) -> Result<(), CallError> {
        let Some(slot) = chosen.map(|index| &self.slots[index]) else {
            return Err(self.not_ready());
        };
        let Some(place) = slot.admit() else {
            self.metrics.record(Event::Rejected { account: self.id, reason: Rejection::QueueFull });
            return Err(CallError::QueueFull);
        };
        let shared = sharing.map(|sharing| sharing.open(&request));
        let (arrived, waiters) = (Instant::now(), vec![waiter]);
        let call = Call { request, arrived, place, moved: false, waiters, shared };
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
        Ok(())
    }

    /// Sends a trade on the primary session, once it is idle and its login was
    /// compared with the configured one. Waits as long as that takes.
    ///
    /// # Errors
    /// Why there is no result, and whether the terminal may have taken it.
    pub async fn trade(&self, mut request: TradeRequest) -> Traded {
        if let Some(from_utc) = self.clock.from_utc() {
            request.expiration = from_utc(request.expiration);
        }
        let not_ready = || TradeError::NotSent(self.not_ready());
        let primary = *self.primary.lock().expect("no panic under this lock");
        let slot = primary.map(|index| &self.slots[index]).ok_or_else(not_ready)?;
        let Some(place) = slot.admit_trade() else {
            self.metrics.record(Event::Rejected { account: self.id, reason: Rejection::QueueFull });
            return Err(TradeError::NotSent(CallError::QueueFull));
        };
        let (reply, traded) = oneshot::channel();
        let request = Box::new(request);
        let call = TradeCall { request, arrived: Instant::now(), place, reply };
        if slot.address.send(session::Msg::Trade(call)).is_err() {
            return Err(not_ready());
        }
        // A session that fails itself leaves its terminal, and with it this trade, to its fate.
        let lost = || TradeError::Unanswered("its session was restarted".to_owned());
        traded.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Which session is the primary and since when it is ready: the same answer
    /// before and after means that its terminal was connected all the time.
    pub fn primary_since(&self) -> Option<(usize, Timestamp)> {
        let primary = (*self.primary.lock().expect("no panic under this lock"))?;
        let status = self.slots[primary].lock();
        (status.state == SessionState::Ready).then_some((primary, status.since))
    }

    /// Whether a session is the one that trades.
    pub(super) fn is_primary(&self, index: usize) -> bool {
        *self.primary.lock().expect("no panic under this lock") == Some(index)
    }

    /// Gives a read that its session cannot make to another one, once.
    pub(super) fn hand_over(&self, mut call: Call, from: usize) {
        let other = if call.moved { None } else { self.least_loaded(Some(from)) };
        let admitted = other.and_then(|index| {
            let slot = &self.slots[index];
            slot.admit().map(|place| (slot, place))
        });
        let Some((slot, place)) = admitted else {
            let error = self.not_ready();
            return call.finish(Err(error));
        };
        call.moved = true;
        call.place = place;
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
    }

    /// Counts a refusal, and says when to try again.
    pub(super) fn not_ready(&self) -> CallError {
        self.metrics.record(Event::Rejected { account: self.id, reason: Rejection::NotReady });
        let retry_at = self.slots.iter().filter_map(Slot::retry_at).min();
        let delay = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        CallError::NotReady(delay.unwrap_or_default().max(Duration::from_secs(1)))
    }

    fn least_loaded(&self, except: Option<usize>) -> Option<usize> {
        let ready = self.slots.iter().enumerate();
        ready
            .filter(|(index, slot)| Some(*index) != except && slot.is_ready())
            .min_by_key(|(_, slot)| (slot.is_full(), slot.is_sluggish(), slot.in_use()))
            .map(|(index, _)| index)
    }

    /// Notes a session's new state and keeps the primary right.
    pub(super) fn set_state(&self, index: usize, to: SessionState, retry_at: Option<Instant>) {
        let slot = &self.slots[index];
        let from = {
            let mut status = slot.lock();
            let from = std::mem::replace(&mut status.state, to);
            if from != to {
                status.since = Timestamp::now();
            }
            status.retry_at = retry_at;
            from
        };
        if from != to {
            self.metrics.record(Event::Session { account: self.id, from: Some(from), to });
        }
        let mut primary = self.primary.lock().expect("no panic under this lock");
        if primary.is_none_or(|primary| !self.slots[primary].is_ready()) {
            *primary = (0..self.slots.len()).find(|index| self.slots[*index].is_ready());
        }
    }

    pub(super) fn state(&self, index: usize) -> SessionState {
        self.slots[index].lock().state
    }

    /// Notes whether a session's terminal is connected to its broker.
    pub(super) fn set_connected(&self, index: usize, connected: bool) {
        let before = std::mem::replace(&mut self.slots[index].lock().connected, connected);
        if before != connected {
            self.metrics.record(Event::Connected { account: self.id, connected });
        }
    }

    pub(super) fn note_restart(&self, index: usize) {
        self.slots[index].lock().restarts += 1;
    }

    pub(super) fn note_login(&self, index: usize, success: bool) {
        let outcome = if success { "success" } else { "failure" };
        let report = LoginReport { outcome, at: Timestamp::now() };
        self.slots[index].lock().last_login = Some(report);
    }

    pub(super) fn note_error(&self, index: usize, message: String) {
        let report = ErrorReport { message, at: Timestamp::now() };
        self.slots[index].lock().last_error = Some(report);
    }
}

impl Slot {
    fn new(queue: usize, depth: Arc<AtomicI64>, depths: &Depths) -> Slot {
        Slot {
            address: Address::new(Role::Session, depths),
            lease: Lease::default(),
            queue,
            admission: Arc::new(Semaphore::new(queue)),
            trade_admission: Arc::new(Semaphore::new(queue)),
            depth,
            busy_since: AtomicU64::new(0),
            made: Instant::now(),
            status: Mutex::new(Status {
                state: SessionState::Starting,
                since: Timestamp::now(),
                retry_at: None,
                connected: false,
                restarts: 0,
                last_login: None,
                last_error: None,
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().expect("no panic under this lock")
    }

    fn is_ready(&self) -> bool {
        self.lock().state == SessionState::Ready
    }

    fn retry_at(&self) -> Option<Instant> {
        self.lock().retry_at
    }

    fn in_use(&self) -> usize {
        let free = self.admission.available_permits() + self.trade_admission.available_permits();
        2 * self.queue - free
    }

    /// Notes since when the terminal has been on a call.
    pub fn set_busy_since(&self, since: Option<Instant>) {
        let milliseconds = since.map_or(0, |since| {
            let since = since.saturating_duration_since(self.made).as_millis();
            u64::try_from(since).unwrap_or(u64::MAX).max(1)
        });
        self.busy_since.store(milliseconds, Ordering::Relaxed);
    }

    fn is_sluggish(&self) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since > 0 && self.made.elapsed() > Duration::from_millis(since) + SLUGGISH
    }

    fn is_full(&self) -> bool {
        self.admission.available_permits() == 0
    }

    fn admit(&self) -> Option<Place> {
        let permit = self.admission.clone().try_acquire_owned().ok()?;
        Some(Place::new(permit, self.depth.clone()))
    }

    fn admit_trade(&self) -> Option<Place> {
        let permit = self.trade_admission.clone().try_acquire_owned().ok()?;
        Some(Place::new(permit, self.depth.clone()))
    }

    fn report(&self, primary: bool) -> SessionStatus {
        let status = self.lock().clone();
        SessionStatus {
            state: status.state,
            since: status.since,
            primary,
            connected: status.connected,
            queue_depth: self.in_use(),
            restarts: status.restarts,
            last_login: status.last_login,
            last_error: status.last_error,
        }
    }
}

impl Account {
    /// Reports every session in its first state, for the gauge of states.
    pub(super) fn announce(&self) {
        for _ in &self.slots {
            let to = SessionState::Starting;
            self.metrics.record(Event::Session { account: self.id, from: None, to });
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Waits for an answer until a deadline.
async fn told(
    answer: oneshot::Receiver<Result<Answer, CallError>>,
    deadline: Instant,
) -> Result<Answer, CallError> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(result)) => result,
        // Whoever's deadline has passed is forgotten, which may be seen before the time is.
        Ok(Err(_)) if deadline <= Instant::now() => Err(CallError::DeadlinePassed),
        Ok(Err(_)) => Err(CallError::Died("its session was restarted".to_owned())),
        Err(_) => Err(CallError::DeadlinePassed),
    }
}

/// Whether a method's answer depends on what was traded or subscribed to, so that
/// all of them come from one terminal; and those that speak about that terminal itself.
fn uses_primary(method: Method) -> bool {
    !matches!(
        method,
        Method::SymbolsTotal
            | Method::SymbolsGet
            | Method::SymbolInfo
            | Method::SymbolInfoTick
            | Method::SymbolSelect
            | Method::CopyRatesFrom
            | Method::CopyRatesFromPos
            | Method::CopyRatesRange
            | Method::CopyTicksFrom
            | Method::CopyTicksRange
    )
}
