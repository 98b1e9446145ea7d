//! Who is ready: chooses a session for each call and admits it. Shared by all;
//! nothing here waits for an actor.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::bar_cache::{self, BarCache};
use super::call::{
    CallContext, CallError, QueuePermit, QueuedCall, QueuedTrade, TradeError, TradeOutcome,
};
use super::coalescing::{Coalescer, Waiter};
use super::history::{self, HistoryPage};
use super::labels::{Rejection, SessionState};
use super::server_time::ServerTime;
use super::{AccountOptions, Availability, Savings, session};
use crate::actor::{Address, Depths};
use crate::clock::BootInstant;
use crate::metrics::{AccountId, Catalog, Event, Metrics};
use crate::mt5::{
    AccountInfo, Affinity, Answer, Coalescing, Identity, Mt5Call, Rate, Reply, Request, Rows,
    ServerClock, Timeframe, TradeRequest, calls,
};
use crate::terminal::{Failure, Launch, Lease, Mode};

/// A server's clock of an unknown zone runs at most this far behind UTC, seconds.
const CLOCK_LAG: i64 = 12 * 3600;

/// After how long without an answer a session is passed over while there are others: its
/// terminal hangs, or is busy with something long.
const SLUGGISH: Duration = Duration::from_millis(100);

/// What clocks may be wrong by, seconds.
const CLOCK_ERROR: i64 = 60;

/// The part of `send_within` after which trades do not wait any longer for a primary session that
/// is on one call, while another one is idle.
const HAND_OVER_PART: u32 = 5;

/// `ACCOUNT_MARGIN_MODE_RETAIL_HEDGING`.
const MARGIN_MODE_HEDGING: i64 = 2;

/// How long a first tick is waited for, and how often it is looked for.
const FIRST_TICK_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_TICK_INTERVAL: Duration = Duration::from_millis(50);

/// Every configured account.
pub struct Accounts {
    accounts: BTreeMap<String, Arc<Account>>,
}

impl Accounts {
    /// The directory of these accounts, none of them ready.
    pub fn new(
        accounts: Vec<AccountOptions>,
        savings: Savings,
        catalog: &Catalog,
        metrics: &Metrics,
        depths: &Depths,
    ) -> Accounts {
        let cache = (savings.cache > 0).then(|| BarCache::new(savings.cache));
        let accounts = accounts.into_iter().enumerate().map(|(index, options)| {
            let id = AccountId(index);
            let slots = (0..options.sessions)
                .map(|index| {
                    let address = Address::of_session(&options.name, index, depths);
                    SessionSlot::new(options.queue, catalog.queue(id), address)
                })
                .collect();
            let account = Account {
                id,
                name: options.name,
                login: options.login,
                server: options.server,
                trade: options.trade,
                send_within: options.send_within,
                send_within_close: options.send_within_close,
                clock: options.clock,
                server_time: ServerTime::default(),
                trade_mode: Mutex::new(None),
                hedging: AtomicBool::new(false),
                highest: Highest::default(),
                sharing: savings.share.then(Coalescer::default),
                cache: cache.clone(),
                launcher: options.launcher,
                slots,
                primary: Mutex::new(None),
                availability: Mutex::new(Availability::new(Timestamp::now())),
                metrics: metrics.clone(),
            };
            (account.name.clone(), Arc::new(account))
        });
        Accounts { accounts: accounts.collect() }
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.get(name)
    }

    /// The account of this place in the configuration.
    pub(super) fn by_id(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.iter().find(|account| account.id == id)
    }

    /// Every account, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
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
    /// From a trade's arrival until `order_send` has to be called, at most.
    pub send_within: Duration,
    /// The same for trades that only reduce risk.
    pub send_within_close: Duration,
    /// The clock of its broker's server. Everything above this room is in UTC
    /// if its zone is known, but for what trading asks ([`Account::call_raw`]).
    clock: ServerClock,
    /// What the server's clock shows, as far as ticks have told.
    server_time: ServerTime,
    /// `ENUM_ACCOUNT_TRADE_MODE` as the first login showed it: part of who the account is.
    trade_mode: Mutex<Option<i64>>,
    hedging: AtomicBool,
    highest: Highest,
    /// `None`: each read is a call of its own.
    sharing: Option<Coalescer>,
    /// `None`: nothing is kept.
    cache: Option<BarCache>,
    pub(super) launcher: Arc<dyn Launch>,
    pub(super) slots: Vec<SessionSlot>,
    /// The first session that was ready, until it fails.
    primary: Mutex<Option<usize>>,
    availability: Mutex<Availability>,
    metrics: Metrics,
}

/// The highest tickets that any answer has shown. Brokers number orders and deals in ascending order,
/// so what a later trade makes lies above.
#[derive(Debug, Default)]
struct Highest {
    order: AtomicU64,
    deal: AtomicU64,
}

/// The place of one session; it outlives the session's actor.
pub(super) struct SessionSlot {
    pub address: Address<session::Msg>,
    pub lease: Lease,
    queue: usize,
    admission: Arc<Semaphore>,
    /// Trades are admitted apart, so that reads cannot keep them out.
    trade_admission: Arc<Semaphore>,
    depth: Arc<AtomicI64>,
    /// Since when its terminal has been on a call, in milliseconds since `made`; 0: it is on none.
    busy_since: AtomicU64,
    /// Whether that call is the gateway's own search.
    searched: AtomicBool,
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
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What went wrong with a session last.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorReport {
    /// In words.
    pub message: String,
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A session as `/api/v1/accounts` shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionStatus {
    /// Where it stands.
    pub state: SessionState,
    /// Since when, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
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
        self.slots.iter().any(SessionSlot::is_ready)
    }

    /// How many of its sessions are ready (all, some or none), and since when that has been so.
    pub fn availability(&self) -> Availability {
        *self.availability.lock().expect("no panic under this lock")
    }

    /// Where each session stands.
    pub fn status(&self) -> AccountStatus {
        let primary = self.primary();
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
    pub async fn call<C: Mt5Call>(
        &self,
        call: C,
        context: &CallContext,
    ) -> Result<C::Reply, CallError> {
        self.converted(call.into(), context).await
    }

    async fn converted<R: Reply>(
        &self,
        mut request: Request,
        context: &CallContext,
    ) -> Result<R, CallError> {
        if let Some(from_utc) = self.clock.from_utc() {
            request.convert_times(from_utc);
        }
        let mut reply: R = self.reply(request, context).await?;
        if let Some(mut to_utc) = self.clock.to_utc() {
            reply.convert_times(&mut to_utc);
        }
        Ok(reply)
    }

    /// Makes a call on the session that its method belongs to, with all times as the server's clock
    /// shows them, whether its zone is known or not.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call_raw<C: Mt5Call>(
        &self,
        call: C,
        context: &CallContext,
    ) -> Result<C::Reply, CallError> {
        self.reply(call.into(), context).await
    }

    async fn reply<R: Reply>(
        &self,
        request: Request,
        context: &CallContext,
    ) -> Result<R, CallError> {
        let method = request.method();
        R::from_answer(self.answer(request, context).await?).map_err(|_| {
            let detail = format!("the terminal's answer to {method} is of another kind");
            CallError::Failed(Failure::Unusable(detail))
        })
    }

    async fn answer(&self, request: Request, context: &CallContext) -> Result<Answer, CallError> {
        if !matches!(request, Request::SymbolInfoTick { .. }) {
            return self.ask(request, context).await;
        }
        let give_up = Instant::now() + FIRST_TICK_TIMEOUT;
        loop {
            let answer = self.ask(request.clone(), context).await?;
            // Right after a symbol was selected the terminal has zeros where there is no quote yet.
            match &answer {
                Answer::Tick(tick) if tick.time == 0 && tick.time_msc == 0 => {}
                _ => return Ok(answer),
            }
            if Instant::now() >= give_up {
                let Request::SymbolInfoTick { symbol } = request else {
                    return Ok(answer);
                };
                return Err(CallError::NoQuote(symbol));
            }
            tokio::time::sleep(FIRST_TICK_INTERVAL).await;
        }
    }

    async fn ask(&self, request: Request, context: &CallContext) -> Result<Answer, CallError> {
        let rules = request.method().rules();
        let chosen = match rules.affinity {
            Affinity::Primary => self.primary_that_answers(context.urgent),
            Affinity::Any => self.least_loaded(None),
        };
        let (waiter, answer) = Waiter::new(context.deadline);
        // What prepares a trade must not wait where another read waits.
        let may_join = !context.urgent && rules.coalescing == Coalescing::Shared;
        let sharing = self.sharing.as_ref().filter(|_| may_join);
        let alone = match sharing {
            Some(sharing) => sharing.join(&request, waiter),
            None => Some(waiter),
        };
        if let Some(waiter) = alone {
            self.submit(chosen, request, waiter, sharing, context)?;
        }
        let answer = told(answer, context.deadline).await?;
        self.observe(&answer);
        Ok(answer)
    }

    /// Remembers what an answer tells about the server's clock and about tickets.
    fn observe(&self, answer: &Answer) {
        let tick = match answer {
            Answer::Tick(tick) => tick.time_msc.max(tick.time.saturating_mul(1000)),
            Answer::SymbolInfo(symbol) => symbol.time.saturating_mul(1000),
            _ => 0,
        };
        if tick > 0 {
            self.server_time.observe(tick, BootInstant::now());
        }
        // What was repaired because it could not be read is no ticket.
        let possible = |ticket: &u64| i64::try_from(*ticket).is_ok();
        let (order, deal) = (&self.highest.order, &self.highest.deal);
        match answer {
            Answer::Orders(orders) => {
                let highest = orders.iter().map(|order| order.ticket).filter(possible).max();
                order.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            Answer::Positions(positions) => {
                let highest =
                    positions.iter().map(|position| position.identifier).filter(possible).max();
                order.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            Answer::Deals(deals) => {
                let orders = deals.iter().map(|deal| deal.order).filter(possible).max();
                order.fetch_max(orders.unwrap_or_default(), Ordering::Relaxed);
                let highest = deals.iter().map(|deal| deal.ticket).filter(possible).max();
                deal.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The highest tickets of an order (or position) and of a deal that were seen so far.
    pub fn highest_tickets(&self) -> (u64, u64) {
        let read = |ticket: &AtomicU64| ticket.load(Ordering::Relaxed);
        (read(&self.highest.order), read(&self.highest.deal))
    }

    /// A time that the server's clock has certainly reached, unix seconds of that clock.
    pub fn server_time_floor(&self) -> i64 {
        let seen = self.server_time.floor(BootInstant::now());
        seen.unwrap_or_else(|| Timestamp::now().as_second() - CLOCK_LAG - CLOCK_ERROR)
    }

    /// The clock of the broker's server.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Whether each deal opens a position of its own.
    pub fn is_hedging(&self) -> bool {
        self.hedging.load(Ordering::Relaxed)
    }

    /// The account's identity, as far as it is known.
    pub fn identity(&self) -> Identity {
        let trade_mode = self.trade_mode.lock().expect("no panic under this lock").unwrap_or(-1);
        Identity { login: self.login, server: self.server.clone(), trade_mode }
    }

    /// Whether an identity is this account's, as far as login and server tell. Rows from before servers
    /// were recorded have none.
    pub fn is_of(&self, identity: &Identity) -> bool {
        let server = &identity.server;
        identity.login == self.login
            && (server.is_empty() || server.eq_ignore_ascii_case(&self.server))
    }

    /// Compares what a terminal shows with the account. The mode of the first login is kept, so that
    /// the same number among another kind of accounts is recognised.
    ///
    /// # Errors
    /// What differs.
    pub fn check_identity(&self, info: &AccountInfo) -> Result<(), String> {
        let mut trade_mode = self.trade_mode.lock().expect("no panic under this lock");
        info.identity().check(self.login, &self.server, *trade_mode)?;
        *trade_mode = Some(info.trade_mode);
        self.hedging.store(info.margin_mode == MARGIN_MODE_HEDGING, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a call that is answered with bars, and remembers the newest of them: it shows that
    /// those before it are not the last.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn rates(
        &self,
        call: impl Into<Request>,
        context: &CallContext,
    ) -> Result<Rows<Rate>, CallError> {
        let request = call.into();
        let series = match &request {
            Request::CopyRatesFrom { symbol, timeframe, .. }
            | Request::CopyRatesFromPos { symbol, timeframe, .. }
            | Request::CopyRatesRange { symbol, timeframe, .. } => {
                self.cache.as_ref().map(|cache| (cache, self.series(symbol, *timeframe)))
            }
            _ => None,
        };
        let rows: Rows<Rate> = self.converted(request, context).await?;
        if let (Some((cache, series)), Some(newest)) = (series, rows.iter().next_back()) {
            cache.see(series, newest.time);
        }
        Ok(rows)
    }

    fn series(&self, symbol: &str, timeframe: Timeframe) -> bar_cache::Series {
        bar_cache::Series { account: self.id, symbol: symbol.to_owned(), timeframe }
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
        context: &CallContext,
    ) -> Result<HistoryPage<Rows<Rate>>, CallError> {
        let key = || bar_cache::Key { series: self.series(symbol, timeframe), from, to };
        let closed = self.has_closed(to, timeframe);
        let cache = self.cache.as_ref().filter(|_| closed).map(|cache| (cache, key()));
        let asked = Instant::now();
        if let Some((cache, key)) = &cache
            && let Some(kept) = cache.get(key, asked)
        {
            return Ok(kept);
        }
        let call = calls::CopyRatesRange {
            symbol: symbol.to_owned(),
            timeframe,
            date_from: from,
            date_to: to,
        };
        let rows = self.rates(call, context).await?;
        let rows = history::rates_within(self, &rows, from, to);
        if let Some((cache, key)) = cache {
            cache.keep(key, &rows, asked, Instant::now());
        }
        Ok(HistoryPage { rows, age: None })
    }

    /// Whether a bar that opens at a moment has certainly closed.
    pub fn has_closed(&self, opened: i64, timeframe: Timeframe) -> bool {
        // A month may be longer than its period says.
        self.is_past(opened + timeframe.seconds() + timeframe.seconds() / 16)
    }

    /// Whether a moment has certainly passed on the server's clock, as ticks have shown it; until one
    /// has, by the machine's clock and the zone, or the zone that is furthest behind.
    pub fn is_past(&self, moment: i64) -> bool {
        if let Some(floor) = self.server_time.floor(BootInstant::now()) {
            let shown = self.clock.from_utc().map_or(moment, |from_utc| from_utc(moment));
            return shown + CLOCK_ERROR < floor;
        }
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

    /// What the server's clock shows now, unix seconds: by its zone if that is known, else as ticks
    /// have shown it, and before the first tick the UTC of this machine.
    pub fn server_now(&self) -> i64 {
        let now = Timestamp::now().as_second();
        if self.is_utc() {
            return self.utc_to_server(now);
        }
        self.server_time.floor(BootInstant::now()).unwrap_or(now)
    }

    /// Makes a call on every session that is ready; what is set so is set in
    /// each terminal.
    ///
    /// # Errors
    /// The first session's reason for not answering.
    pub async fn call_all(
        &self,
        call: impl Into<Request>,
        context: &CallContext,
    ) -> Result<Answer, CallError> {
        let request = call.into();
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
        context: &CallContext,
    ) -> Result<Answer, CallError> {
        let (waiter, answer) = Waiter::new(context.deadline);
        self.submit(chosen, request, waiter, None, context)?;
        told(answer, context.deadline).await
    }

    /// Hands a call to a session, for others to join if they may.
    fn submit(
        &self,
        chosen: Option<usize>,
        request: Request,
        waiter: Waiter,
        sharing: Option<&Coalescer>,
        context: &CallContext,
    ) -> Result<(), CallError> {
        let Some(slot) = chosen.map(|index| &self.slots[index]) else {
            return Err(self.not_ready());
        };
        let Some(permit) = slot.admit() else {
            self.metrics
                .record(Event::Rejected { account: self.id, reason: Rejection::QueueFull.into() });
            return Err(CallError::QueueFull);
        };
        let shared = sharing.map(|sharing| sharing.open(&request));
        let (arrived, waiters) = (Instant::now(), vec![waiter]);
        let CallContext { internal, urgent, .. } = *context;
        let moved = false;
        let call =
            QueuedCall { request, arrived, permit, moved, internal, urgent, waiters, shared };
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
        Ok(())
    }

    /// Sends a trade on the primary session, once it is idle and its account was compared with the
    /// configured one, and not after `send_by`. Times in the request are the server's.
    ///
    /// # Errors
    /// Why there is no result, and whether the terminal may have taken it.
    pub async fn trade(&self, request: TradeRequest, send_by: BootInstant) -> TradeOutcome {
        let not_ready = || TradeError::NotSent(self.not_ready());
        let primary = self.primary_that_answers(true).ok_or_else(not_ready)?;
        let Some(permit) = self.slots[primary].admit_trade() else {
            self.metrics
                .record(Event::Rejected { account: self.id, reason: Rejection::QueueFull.into() });
            return Err(TradeError::NotSent(CallError::QueueFull));
        };
        let (reply, traded) = oneshot::channel();
        let (request, arrived) = (Box::new(request), Instant::now());
        let slot = &self.slots[primary];
        let trade = QueuedTrade::new(request, send_by, arrived, permit, reply);
        if let Err(session::Msg::Trade(trade)) = slot.address.send(session::Msg::Trade(trade)) {
            trade.finish(Err(not_ready()));
        }
        // A session that fails itself leaves its terminal, and with it this trade, to its fate.
        let lost = || TradeError::Unanswered("its session was restarted".to_owned());
        traded.await.unwrap_or_else(|_| Err(lost()))
    }

    fn primary(&self) -> Option<usize> {
        *self.primary.lock().expect("no panic under this lock")
    }

    /// The primary session, or the one that takes over from it because it has been on one call for too
    /// long. The gateway's own search counts only where a trade would wait for it. Trades that wait for it are given back by the session itself.
    fn primary_that_answers(&self, urgent: bool) -> Option<usize> {
        let primary = self.primary()?;
        let slot = &self.slots[primary];
        let stuck = self.slots.len() > 1
            && slot.has_no_trade()
            && slot.is_busy_for(self.hand_over_after())
            && (urgent || !slot.is_searched());
        if stuck && self.hand_primary_over(primary) { self.primary() } else { Some(primary) }
    }

    /// Whether another session can take over from the primary.
    pub fn has_several_sessions(&self) -> bool {
        self.slots.len() > 1
    }

    /// For how long a primary session may be on one call before trades go elsewhere.
    pub fn hand_over_after(&self) -> Duration {
        self.send_within / HAND_OVER_PART
    }

    /// Makes another session the primary if this one is, has been on one call for too long, and the
    /// other is ready and idle. Gives whether it did.
    pub(super) fn hand_primary_over(&self, from: usize) -> bool {
        if !self.slots[from].is_busy_for(self.hand_over_after()) {
            return false;
        }
        let mut primary = self.primary.lock().expect("no panic under this lock");
        let idle = (0..self.slots.len()).find(|index| {
            let slot = &self.slots[*index];
            *index != from && slot.is_ready() && slot.is_idle()
        });
        match idle {
            Some(to) if *primary == Some(from) => {
                *primary = Some(to);
                true
            }
            _ => false,
        }
    }

    /// Which session is the primary and since when it is ready: the same answer
    /// before and after means that its terminal was connected all the time.
    pub fn primary_since(&self) -> Option<(usize, Timestamp)> {
        let primary = self.primary()?;
        let status = self.slots[primary].lock();
        (status.state == SessionState::Ready).then_some((primary, status.since))
    }

    /// Whether a session is the one that trades.
    pub(super) fn is_primary(&self, index: usize) -> bool {
        self.primary() == Some(index)
    }

    /// Gives a read that its session cannot make to another one, once.
    pub(super) fn hand_over(&self, mut call: QueuedCall, from: usize) {
        let other = if call.moved { None } else { self.least_loaded(Some(from)) };
        let admitted = other.and_then(|index| {
            let slot = &self.slots[index];
            slot.admit().map(|permit| (slot, permit))
        });
        let Some((slot, permit)) = admitted else {
            let error = self.not_ready();
            return call.finish(Err(error));
        };
        call.moved = true;
        call.permit = permit;
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
    }

    /// Counts a refusal, and says when to try again.
    pub(super) fn not_ready(&self) -> CallError {
        self.metrics
            .record(Event::Rejected { account: self.id, reason: Rejection::NotReady.into() });
        CallError::NotReady(self.ready_in())
    }

    /// How long it takes until a session is expected to be ready: a second while one is ready or on
    /// its way, else until the next start.
    pub fn ready_in(&self) -> Duration {
        const SOON: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let delays = self.slots.iter().map(|slot| match slot.retry_at() {
            Some(at) => at.saturating_duration_since(now).max(SOON),
            None => SOON,
        });
        delays.min().unwrap_or(SOON)
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
        {
            let mut status = self.slots[index].lock();
            if status.state != to {
                status.since = Timestamp::now();
            }
            status.state = to;
            status.retry_at = retry_at;
        }
        self.announce();
        let mut primary = self.primary.lock().expect("no panic under this lock");
        if primary.is_none_or(|primary| !self.slots[primary].is_ready()) {
            *primary = (0..self.slots.len()).find(|index| self.slots[*index].is_ready());
        }
    }

    /// Notes that a session has no actor, and so no terminal.
    pub(super) fn vacate(&self, index: usize, to: SessionState, retry_at: Option<Instant>) {
        self.set_connected(index, false);
        self.slots[index].set_busy_since(None, false);
        self.set_state(index, to, retry_at);
    }

    /// Notes whether a session's terminal is connected to its broker.
    pub(super) fn set_connected(&self, index: usize, connected: bool) {
        self.slots[index].lock().connected = connected;
        self.announce();
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

impl SessionSlot {
    fn new(queue: usize, depth: Arc<AtomicI64>, address: Address<session::Msg>) -> SessionSlot {
        SessionSlot {
            address,
            lease: Lease::default(),
            queue,
            admission: Arc::new(Semaphore::new(queue)),
            trade_admission: Arc::new(Semaphore::new(queue)),
            depth,
            busy_since: AtomicU64::new(0),
            searched: AtomicBool::new(false),
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

    /// Whether the call that the terminal is on is the gateway's own search.
    fn is_searched(&self) -> bool {
        self.searched.load(Ordering::Relaxed)
    }

    /// Notes since when the terminal has been on a call, and whether that is the gateway's own search.
    pub fn set_busy_since(&self, since: Option<Instant>, searched: bool) {
        self.searched.store(searched, Ordering::Relaxed);
        let milliseconds = since.map_or(0, |since| {
            let since = since.saturating_duration_since(self.made).as_millis();
            u64::try_from(since).unwrap_or(u64::MAX).max(1)
        });
        self.busy_since.store(milliseconds, Ordering::Relaxed);
    }

    fn is_sluggish(&self) -> bool {
        self.is_busy_for(SLUGGISH)
    }

    /// Whether the terminal has been on one call for longer than this.
    fn is_busy_for(&self, long: Duration) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since > 0 && self.made.elapsed() > Duration::from_millis(since) + long
    }

    /// Whether no trade waits or is under way.
    fn has_no_trade(&self) -> bool {
        self.trade_admission.available_permits() == self.queue
    }

    /// Whether the terminal is on no call.
    fn is_idle(&self) -> bool {
        self.busy_since.load(Ordering::Relaxed) == 0
    }

    fn is_full(&self) -> bool {
        self.admission.available_permits() == 0
    }

    fn admit(&self) -> Option<QueuePermit> {
        let permit = self.admission.clone().try_acquire_owned().ok()?;
        Some(QueuePermit::new(permit, self.depth.clone()))
    }

    fn admit_trade(&self) -> Option<QueuePermit> {
        let permit = self.trade_admission.clone().try_acquire_owned().ok()?;
        Some(QueuePermit::new(permit, self.depth.clone()))
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
    /// Reports how many sessions are in each state, and how many terminals hear their broker. Whole
    /// states, so that a report that is lost is made good by the next.
    pub(super) fn announce(&self) {
        // Reports leave in the order of what they report.
        let mut availability = self.availability.lock().expect("no panic under this lock");
        let mut states: Vec<_> = SessionState::ALL.iter().map(|state| (state.name(), 0)).collect();
        let mut connected = 0;
        for slot in &self.slots {
            let status = slot.lock();
            states[status.state as usize].1 += 1;
            connected += i64::from(status.connected);
        }
        let ready = usize::try_from(states[SessionState::Ready as usize].1).unwrap_or_default();
        *availability = availability.after(ready, self.slots.len(), Timestamp::now());
        self.metrics.record(Event::Sessions { account: self.id, states, connected });
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
