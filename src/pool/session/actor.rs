//! The session actor.
//!
//! It never waits for its terminal: calls go out by [`Terminal::submit`] and
//! come back as messages, so health, stop and supervision are always answered.
//! It keeps the clock of the oldest call; a terminal that passes a call's limit
//! is ended, because a call that is stuck in C cannot be cancelled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::backoff::{Backoff, NextStart};
use super::login::Login;
use super::queue::Queue;
use super::watchdog::{self, Limits, Oldest};
use super::{Settled, StopToken};
use crate::actor::{Address, Envelope};
use crate::clock::BootInstant;
use crate::metrics::{EndedCall, Event};
use crate::mt5::{AccountInfo, Answer, ErrorType, Method, Request};
use crate::pool::Options;
use crate::pool::accounts::{Account, SessionSlot};
use crate::pool::call::{CallError, QueuedCall, QueuedTrade, TradeError, TradeOutcome};
use crate::pool::labels::{CallOutcome, RestartReason, SessionState};
use crate::terminal::{self, Answered, Ending, Failure, Terminal};

/// Calls that may be written ahead of the one that the terminal works on. Deep
/// enough to keep a pipe busy, shallow enough that few have to move.
const WINDOW: usize = 16;

/// How often a terminal that waits for its broker is asked.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// When a probe that came upon a trade is tried again.
const PROBE_AFTER_TRADE: Duration = Duration::from_millis(100);

/// What a session is told.
pub enum Msg {
    /// Make a call.
    Call(QueuedCall),
    /// Send a trade.
    Trade(QueuedTrade),
    /// The terminal of this generation reports.
    Terminal(u64, terminal::Event),
    /// Time to start a terminal, unless a newer generation has begun.
    Launch(u64),
    /// Time to look at the clock of the oldest call.
    CheckLimit(u64),
    /// Time to ask the terminal whether it is connected.
    Probe(u64),
    /// Time to withdraw trades whose last moment has come.
    Expire,
    /// Time to see whether another session should take the trades that wait here.
    HandOver,
    /// Replace the terminal. Dropped when the new one is ready or has failed.
    Restart(Settled),
    /// Let the terminal finish and end. Dropped when the actor has ended; the terminal is gone when
    /// its lease is free.
    Stop(StopToken),
    /// Fail.
    #[cfg(test)]
    Fail,
}

/// The actor.
pub struct Session;

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    pub account: Arc<Account>,
    /// Which of the account's sessions this is.
    pub index: usize,
    pub options: Arc<Options>,
}

/// The number of the next terminal: unique in the process, so that nothing that belongs to a terminal
/// of an earlier actor is taken for this one's.
fn next_generation() -> u64 {
    static GENERATIONS: AtomicU64 = AtomicU64::new(1);
    GENERATIONS.fetch_add(1, Ordering::Relaxed)
}

/// What the actor knows.
pub struct State {
    args: Args,
    /// Of this actor alone, so that nothing that an earlier one began is taken for this one's.
    address: Address<Msg>,
    backoff: Backoff,
    /// Changes with every start and end, so that what belongs to an earlier terminal is recognised.
    generation: u64,
    terminal: Option<Box<dyn Terminal>>,
    launched: Instant,
    login: Login,
    /// Written to the terminal, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Not written yet. While a trade waits or is under way nothing else is written.
    queue: Queue,
    next_id: u64,
    last_answer: Instant,
    /// Since when a client has waited behind the oldest call, if that is the gateway's own search.
    blocked_since: Option<Instant>,
    /// When the clock of the oldest call is looked at next.
    limit_check: Option<Instant>,
    /// The next probe, so that there is never more than one to come.
    next_probe: Option<AbortHandle>,
    /// Somebody waits for the replacement of the terminal.
    restart: Option<Settled>,
    /// The running terminal answers what it has and is then replaced.
    replacing: bool,
    /// Somebody waits for the end.
    stop: Option<StopToken>,
}

struct InFlight {
    id: u64,
    method: Method,
    written: Instant,
    owner: Owner,
}

/// On whose behalf something was written to the terminal.
enum Owner {
    /// The session's own.
    Own,
    /// A client's read.
    Call(QueuedCall),
    /// The look at the login that precedes a trade.
    Check(QueuedTrade),
    /// The trade itself.
    Trade(QueuedTrade),
}

impl Owner {
    /// Whether it is the gateway's own search.
    fn is_internal(&self) -> bool {
        matches!(self, Owner::Call(call) if call.internal)
    }

    fn arrived(&self) -> Option<Instant> {
        match self {
            Owner::Own => None,
            Owner::Call(call) => Some(call.arrived),
            Owner::Check(trade) | Owner::Trade(trade) => Some(trade.arrived),
        }
    }
}

/// Why a terminal is given up.
struct Fault {
    reason: RestartReason,
    detail: String,
    refused_login: bool,
}

impl Actor for Session {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let address = &args.account.slots[args.index].address;
        address.started(myself);
        let address = address.pinned();
        let generation = next_generation();
        let _ = address.send(Msg::Launch(generation));
        let now = Instant::now();
        Ok(State {
            backoff: Backoff::new(&args.options),
            args,
            address,
            generation,
            terminal: None,
            launched: now,
            login: Login::default(),
            in_flight: VecDeque::new(),
            queue: Queue::default(),
            next_id: 0,
            last_answer: now,
            blocked_since: None,
            limit_check: None,
            next_probe: None,
            restart: None,
            replacing: false,
            stop: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Call(call) => state.take(call),
            Msg::Trade(trade) => state.take_trade(trade),
            Msg::Terminal(generation, event) if generation == state.generation => {
                state.hear(event);
            }
            Msg::Launch(generation) if generation == state.generation => state.launch(),
            Msg::CheckLimit(generation) if generation == state.generation => state.check_limit(),
            Msg::Probe(generation) if generation == state.generation => state.probe(),
            Msg::Expire => state.withdraw_late_trades(),
            Msg::HandOver => state.hand_trades_over(),
            Msg::Terminal(..) | Msg::Launch(_) | Msg::CheckLimit(_) | Msg::Probe(_) => {}
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
            Msg::Restart(settled) => state.begin_restart(settled),
            Msg::Stop(token) => {
                state.stop = Some(token);
                state.set_state(SessionState::Starting, None);
                state.pump();
            }
        }
        if state.stop.is_some() && state.serves_nobody() {
            state.end();
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.address.stopped();
        Ok(())
    }
}

impl State {
    fn set_state(&self, to: SessionState, retry_at: Option<Instant>) {
        self.args.account.set_state(self.args.index, to, retry_at);
    }

    /// Whether no call of a client waits or is under way.
    fn serves_nobody(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.iter().all(|entry| matches!(entry.owner, Owner::Own))
    }

    fn slot(&self) -> &SessionSlot {
        &self.args.account.slots[self.args.index]
    }

    fn is_ready(&self) -> bool {
        self.args.account.state(self.args.index) == SessionState::Ready
    }

    fn record(&self, event: Event) {
        self.args.account.metrics().record(event);
    }

    // Starting and logging in.

    fn launch(&mut self) {
        self.generation = next_generation();
        self.launched = Instant::now();
        self.login = Login::default();
        self.set_state(SessionState::Starting, None);
        let (address, generation) = (self.address.clone(), self.generation);
        let sink = Arc::new(move |event| {
            // A session that is gone has dropped the terminal already.
            let _ = address.send(Msg::Terminal(generation, event));
        });
        let account = &self.args.account;
        let lease = account.slots[self.args.index].lease.clone();
        self.terminal = Some(account.launcher.launch(lease, sink));
        self.arm_limit();
    }

    /// The next step on the way to ready.
    fn advance(&mut self) {
        if let Some(request) = self.login.next() {
            self.submit_own(request);
        } else if !self.is_ready() && !self.replacing && self.stop.is_none() {
            self.backoff.ready();
            self.set_state(SessionState::Ready, None);
            let account = &self.args.account;
            info!(account = account.name, session = self.args.index, "session ready");
            self.restarted();
        }
    }

    /// Tells whoever waits for the replacement that it is over.
    fn restarted(&mut self) {
        drop(self.restart.take());
    }

    fn report_login(&mut self, success: bool, detail: &str) {
        if self.login.reported {
            return;
        }
        self.login.reported = true;
        let duration = self.login.began.map_or(Duration::ZERO, |began| began.elapsed());
        let account = &self.args.account;
        account.note_login(self.args.index, success);
        self.record(Event::Login { account: account.id, success, duration });
        let (name, session) = (&account.name, self.args.index);
        if success {
            info!(account = name, session, login = account.login, ?duration, "login succeeded");
        } else {
            warn!(account = name, session, login = account.login, detail, "login failed");
        }
    }

    fn probe(&mut self) {
        if self.is_trading() {
            return self.probe_after(PROBE_AFTER_TRADE);
        }
        if self.login.initialized && !self.replacing && self.stop.is_none() {
            self.submit_own(Request::TerminalInfo);
            // Somebody may have logged the terminal in to another account.
            self.submit_own(Request::AccountInfo);
        }
    }

    fn probe_after(&mut self, delay: Duration) {
        let probe = self.address.send_after(delay, Msg::Probe(self.generation));
        if let Some(earlier) = self.next_probe.replace(probe) {
            earlier.abort();
        }
    }

    // Calls.

    fn take(&mut self, call: QueuedCall) {
        let finishing = self.stop.is_some() && self.terminal.is_some() && self.is_trusted();
        if self.is_ready() || finishing {
            let internal = call.internal;
            self.queue.push(call);
            self.pump();
            if !internal {
                self.note_blocked_client();
            }
        } else {
            self.args.account.hand_over(call, self.args.index);
        }
    }

    /// A trade is taken only by the session that the others read from after it.
    fn take_trade(&mut self, trade: QueuedTrade) {
        let account = &self.args.account;
        if self.is_ready() && !account.is_primary(self.args.index) {
            trade.finish(Err(TradeError::Moved));
        } else if self.is_ready() {
            self.address.send_after(trade.send_by.left(), Msg::Expire);
            if account.has_several_sessions() && !self.is_trading() {
                self.address.send_after(account.hand_over_after(), Msg::HandOver);
            }
            self.queue.push_trade(trade);
            self.pump();
            self.note_blocked_client();
        } else {
            let error = account.not_ready();
            trade.finish(Err(TradeError::NotSent(error)));
        }
    }

    /// Whether a trade waits or is under way.
    fn is_trading(&self) -> bool {
        self.queue.has_trade() || self.has_trade_under_way()
    }

    /// Whether a trade was begun on the terminal.
    fn has_trade_under_way(&self) -> bool {
        self.in_flight.iter().any(|entry| matches!(entry.owner, Owner::Check(_) | Owner::Trade(_)))
    }

    /// Writes waiting calls, as far as the window allows; a trade only to an
    /// idle terminal, and after it was asked whose account it is logged in to.
    fn pump(&mut self) {
        if self.is_trading() {
            if self.in_flight.is_empty() {
                self.withdraw_late_trades();
                if let Some(trade) = self.queue.next_trade() {
                    self.submit(Request::AccountInfo, Owner::Check(trade));
                }
            }
            return;
        }
        // A terminal that has lost its broker would answer with what it knew last.
        if self.queue.is_empty() || !self.is_trusted() {
            return;
        }
        let now = Instant::now();
        while self.in_flight.len() < WINDOW {
            let Some(call) = self.queue.next_read(now) else {
                return;
            };
            self.submit_at(now, call.request.clone(), Owner::Call(call));
        }
    }

    /// Whether what the terminal says is about the configured account, and up to date.
    fn is_trusted(&self) -> bool {
        self.login.is_complete()
    }

    /// Gives the trades back whose last moment has come. One that is written already is decided by
    /// the terminal.
    fn withdraw_late_trades(&mut self) {
        let now = BootInstant::now();
        for trade in self.queue.take_late_trades(now) {
            trade.finish(Err(TradeError::Withdrawn));
        }
        for entry in &mut self.in_flight {
            let late = matches!(&entry.owner, Owner::Check(trade) if trade.send_by <= now);
            if late && let Owner::Check(trade) = std::mem::replace(&mut entry.owner, Owner::Own) {
                trade.finish(Err(TradeError::Withdrawn));
            }
        }
    }

    /// Gives the trades that wait here back, if this session has been on one call for too long and
    /// another one is idle. That one is the primary from then on, so that reads follow. A trade whose
    /// account is still being looked at was not sent; one that was sent keeps all others here.
    fn hand_trades_over(&mut self) {
        if !self.is_trading() {
            return;
        }
        let account = self.args.account.clone();
        let sent = self.in_flight.iter().any(|entry| matches!(entry.owner, Owner::Trade(_)));
        if sent || !account.hand_primary_over(self.args.index) {
            // Another session may become idle while these still wait.
            self.address.send_after(account.hand_over_after(), Msg::HandOver);
            return;
        }
        let name = &account.name;
        warn!(account = name, session = self.args.index, "session is slow, trades go to another");
        let checked = self.in_flight.iter_mut().filter_map(|entry| {
            let is_check = matches!(entry.owner, Owner::Check(_));
            is_check.then(|| std::mem::replace(&mut entry.owner, Owner::Own))
        });
        let checked: Vec<Owner> = checked.collect();
        let checked = checked.into_iter().filter_map(|owner| match owner {
            Owner::Check(trade) => Some(trade),
            _ => None,
        });
        for trade in checked.chain(self.queue.take_trades()) {
            trade.finish(Err(TradeError::Moved));
        }
        self.pump();
    }

    /// Notes that a client waits behind the gateway's own search, whose limit is another from then on.
    fn note_blocked_client(&mut self) {
        if self.in_flight.front().is_some_and(|oldest| oldest.owner.is_internal()) {
            self.blocked_since.get_or_insert_with(Instant::now);
            self.arm_limit();
        }
    }

    fn submit_own(&mut self, request: Request) {
        self.submit(request, Owner::Own);
    }

    fn submit(&mut self, request: Request, owner: Owner) {
        self.submit_at(Instant::now(), request, owner);
    }

    fn submit_at(&mut self, written: Instant, request: Request, owner: Owner) {
        let send_by = match &owner {
            Owner::Trade(trade) => Some(trade.send_by),
            _ => None,
        };
        let Some(terminal) = &self.terminal else {
            return;
        };
        let (id, method) = (self.next_id, request.method());
        self.next_id += 1;
        terminal.submit(id, request, send_by);
        let mut owner = owner;
        if let Owner::Trade(trade) = &mut owner {
            trade.written = true;
        }
        if self.in_flight.is_empty() {
            self.slot().set_busy_since(Some(written), owner.is_internal());
        }
        self.in_flight.push_back(InFlight { id, method, written, owner });
        self.arm_limit();
    }

    // What the terminal says.

    fn hear(&mut self, event: terminal::Event) {
        let account = &self.args.account;
        match event {
            terminal::Event::Started(versions) => {
                info!(
                    account = account.name,
                    session = self.args.index,
                    versions,
                    "terminal started"
                );
                self.login.began = Some(Instant::now());
                if !self.replacing {
                    self.set_state(SessionState::LoggingIn, None);
                }
                self.advance();
            }
            terminal::Event::Answered(answers) => self.answered(answers),
            terminal::Event::Ended(Ending::Exit(detail)) => self.fail(RestartReason::Exit, detail),
            terminal::Event::Ended(Ending::Protocol(detail)) => {
                self.fail(RestartReason::Protocol, detail);
            }
        }
    }

    fn answered(&mut self, answers: Vec<Answered>) {
        let generation = self.generation;
        let (mut calls, mut ended) = (Vec::new(), Vec::with_capacity(answers.len()));
        let mut out_of_turn = None;
        for Answered { id, at, result } in answers {
            let Some(entry) = self.in_flight.pop_front_if(|entry| entry.id == id) else {
                out_of_turn = Some(format!("the terminal answered call {id} out of turn"));
                break;
            };
            let (outcome, error) = match &result {
                Ok(_) => (CallOutcome::Success, None),
                Err(Failure::Mt5(error)) => (CallOutcome::Error, Some(error.error_type())),
                Err(Failure::Unusable(_) | Failure::OtherAccount(_)) => {
                    (CallOutcome::Error, Some(ErrorType::Other))
                }
                // The terminal did as it was told.
                Err(Failure::Withdrawn) => (CallOutcome::Success, None),
            };
            calls.push(self.ended_call(&entry, at, outcome, error.map(ErrorType::name)));
            self.last_answer = at;
            ended.push((entry, result));
        }
        // Whoever waited behind the call before waits behind another one now.
        self.blocked_since = None;
        let busy = (!self.in_flight.is_empty()).then_some(self.last_answer);
        let searched = self.in_flight.front().is_some_and(|oldest| oldest.owner.is_internal());
        self.slot().set_busy_since(busy, searched);
        let others = self.in_flight.iter().any(|entry| !entry.owner.is_internal());
        if searched && (others || !self.queue.is_empty()) {
            self.blocked_since = Some(self.last_answer);
        }
        // Before anybody has an answer, so that who has one finds it counted.
        self.record(Event::Calls(calls));
        for (entry, result) in ended {
            if self.generation == generation {
                self.hand_out(entry, result);
            } else if let Owner::Call(call) = entry.owner {
                // What a terminal said after it was found out is not believed.
                self.args.account.hand_over(call, self.args.index);
            }
        }
        if self.generation != generation {
            return;
        }
        if let Some(detail) = out_of_turn {
            return self.fail(RestartReason::Protocol, detail);
        }
        self.pump();
        if self.replacing && self.in_flight.is_empty() {
            self.replace();
        }
    }

    /// Gives an answer to whom it is for.
    fn hand_out(&mut self, entry: InFlight, result: Result<Answer, Failure>) {
        let doubtful = is_doubtful(&result);
        match entry.owner {
            Owner::Own => return self.own_answered(entry.method, result),
            Owner::Call(call) => {
                if let Err(Failure::OtherAccount(detail)) = result {
                    self.args.account.hand_over(call, self.args.index);
                    return self.fail(RestartReason::Login, detail);
                }
                if !self.is_trusted() {
                    // Asked before it was known that the terminal is out of touch with its broker.
                    return self.args.account.hand_over(call, self.args.index);
                }
                call.finish_at(self.last_answer, result.map_err(CallError::Failed));
            }
            Owner::Check(trade) => self.checked(trade, result),
            // Nothing else is under way beside a trade, so nothing was found out before it.
            Owner::Trade(trade) => trade.finish(sent(result)),
        }
        if doubtful {
            // The terminal behind the worker may be gone: find out now.
            self.probe();
        }
    }

    /// The terminal said whose account it is logged in to: the trade follows at
    /// once, or never.
    fn checked(&mut self, trade: QueuedTrade, result: Result<Answer, Failure>) {
        match result {
            Ok(Answer::AccountInfo(info)) => match self.args.account.check_identity(&info) {
                Ok(()) if trade.send_by.has_passed() => trade.finish(Err(TradeError::Withdrawn)),
                Ok(()) => {
                    let request = trade.request.clone();
                    self.submit(Request::OrderSend { request }, Owner::Trade(trade));
                }
                Err(detail) => {
                    let error = self.args.account.not_ready();
                    trade.finish(Err(TradeError::NotSent(error)));
                    self.fail(RestartReason::Login, detail);
                }
            },
            Ok(_) => {
                let error = self.args.account.not_ready();
                trade.finish(Err(TradeError::NotSent(error)));
            }
            Err(failure) => trade.finish(Err(TradeError::NotSent(CallError::Failed(failure)))),
        }
    }

    fn own_answered(&mut self, method: Method, result: Result<Answer, Failure>) {
        match (method, result) {
            (Method::Initialize, Ok(_)) => self.login.initialized = true,
            (Method::AccountInfo, Ok(Answer::AccountInfo(info))) => {
                return self.heard_account(&info);
            }
            (Method::TerminalInfo, Ok(Answer::TerminalInfo(info))) => {
                return self.heard_connection(info.connected);
            }
            (Method::Initialize | Method::AccountInfo, Err(failure)) if !self.is_ready() => {
                let refused_login =
                    matches!(&failure, Failure::Mt5(error) if error.is_refused_login());
                return self.give_up(Fault {
                    reason: RestartReason::Login,
                    detail: failure.to_string(),
                    refused_login,
                });
            }
            // Behind a worker that lives, the terminal itself is gone.
            (_, Err(Failure::Mt5(error))) => {
                return self.fail(RestartReason::Exit, error.to_string());
            }
            (_, Err(Failure::Unusable(detail) | Failure::OtherAccount(detail))) => {
                return self.fail(RestartReason::Protocol, detail);
            }
            (_, Err(Failure::Withdrawn)) => {}
            (method, Ok(_)) => {
                let detail = format!("the terminal's answer to {method} is of another kind");
                return self.fail(RestartReason::Protocol, detail);
            }
        }
        self.advance();
    }

    fn heard_account(&mut self, info: &AccountInfo) {
        if let Err(detail) = self.args.account.check_identity(info) {
            return self.fail(RestartReason::Login, detail);
        }
        self.login.verify();
        self.report_login(true, "");
        // Without its broker the next probe goes on.
        if !self.login.lost {
            self.advance();
        }
    }

    fn heard_connection(&mut self, connected: bool) {
        let account = &self.args.account;
        account.set_connected(self.args.index, connected);
        if connected {
            self.login.find_broker();
            self.probe_after(self.args.options.probe_interval);
            return self.advance();
        }
        self.login.lose_broker();
        if self.is_ready() {
            warn!(account = account.name, session = self.args.index, "terminal lost its broker");
            account
                .note_error(self.args.index, "the terminal is not connected to its broker".into());
            self.refuse_trades();
        }
        if !self.replacing && self.stop.is_none() {
            self.set_state(SessionState::Disconnected, None);
        }
        // Reads that wait move or fail: nobody gets prices of a terminal without its broker.
        for call in self.queue.take_reads() {
            self.args.account.hand_over(call, self.args.index);
        }
        self.restarted();
        self.probe_after(self.args.options.probe_interval.min(RECONNECT_INTERVAL));
    }

    fn ended_call(
        &self,
        entry: &InFlight,
        at: Instant,
        outcome: CallOutcome,
        error: Option<&'static str>,
    ) -> EndedCall {
        let began = entry.written.max(self.last_answer);
        let arrived = entry.owner.arrived().unwrap_or(began);
        EndedCall {
            account: self.args.account.id,
            method: entry.method,
            outcome: outcome.into(),
            error,
            duration: at.saturating_duration_since(began),
            queued: began.saturating_duration_since(arrived),
        }
    }

    // The clock of the oldest call.

    /// When the terminal is given up if nothing comes, and what for.
    fn limit(&self) -> Option<(Instant, Duration)> {
        self.terminal.as_ref()?;
        let init_timeout = self.args.account.launcher.init_timeout();
        let Some(oldest) = self.in_flight.front() else {
            let starting = self.login.began.is_none();
            return starting.then(|| (self.launched + init_timeout, init_timeout));
        };
        let limits = Limits {
            init_timeout,
            trade_timeout: self.args.options.trade_timeout,
            call_timeout: self.args.options.call_timeout,
        };
        let began = oldest.written.max(self.last_answer);
        let internal = oldest.owner.is_internal();
        let oldest = Oldest { method: oldest.method, began, internal };
        Some(watchdog::due(oldest, self.blocked_since, &limits))
    }

    /// One timer serves all calls: it looks again when it fires. A second one
    /// is needed only for a limit that ends before it does.
    fn arm_limit(&mut self) {
        let Some((due, _)) = self.limit() else {
            return;
        };
        if self.limit_check.is_none_or(|check| due < check) {
            self.limit_check = Some(due);
            let delay = due.saturating_duration_since(Instant::now());
            self.address.send_after(delay, Msg::CheckLimit(self.generation));
        }
    }

    fn check_limit(&mut self) {
        let now = Instant::now();
        self.limit_check = self.limit_check.filter(|check| *check > now);
        match self.limit() {
            Some((due, limit)) if due <= now => {
                let doing = self.in_flight.front().map_or("its start", |entry| entry.method.name());
                let detail = format!("the terminal did not answer within {limit:?} in {doing}");
                self.fail(RestartReason::Hang, detail);
            }
            _ => self.arm_limit(),
        }
    }

    // Failing and ending.

    fn fail(&mut self, reason: RestartReason, detail: String) {
        self.give_up(Fault { reason, detail, refused_login: false });
    }

    /// Ends the terminal, ends the call that it was on, lets the others move,
    /// and schedules the next start.
    fn give_up(&mut self, fault: Fault) {
        let Fault { reason, detail, refused_login } = fault;
        let account = self.args.account.clone();
        let (name, session) = (&account.name, self.args.index);
        if self.login.began.is_some() && !self.login.verified {
            self.report_login(false, &detail);
        }
        account.note_error(session, detail.clone());
        let chance = rand::random_range(0.0..=1.0);
        let next_start = self.backoff.fail(Instant::now(), refused_login, chance);
        let (state, delay) = match next_start {
            NextStart::BackingOff(delay) => (SessionState::BackingOff, delay),
            NextStart::Quarantined(delay) => (SessionState::Quarantined, delay),
        };
        match state {
            SessionState::Quarantined => {
                warn!(account = name, session, reason = reason.name(), detail, retry_in = ?delay, "session quarantined");
            }
            _ => {
                warn!(account = name, session, reason = reason.name(), detail, retry_in = ?delay, "terminal restarting");
            }
        }
        // Nothing that is still on its way from this terminal may count.
        self.drop_terminal();
        self.set_state(state, Some(Instant::now() + delay));
        self.record(Event::Restarted { account: account.id, reason: reason.name() });
        account.note_restart(session);
        self.fail_calls(reason, &detail);
        self.restarted();
        if self.stop.is_none() {
            self.address.send_after(delay, Msg::Launch(self.generation));
        }
    }

    /// Drops the terminal, which ends it at once.
    fn drop_terminal(&mut self) -> Option<Box<dyn Terminal>> {
        self.generation = next_generation();
        self.limit_check = None;
        self.replacing = false;
        self.args.account.set_connected(self.args.index, false);
        self.blocked_since = None;
        self.slot().set_busy_since(None, false);
        self.terminal.take()
    }

    fn fail_calls(&mut self, reason: RestartReason, detail: &str) {
        let account = self.args.account.clone();
        let hung = reason == RestartReason::Hang;
        let (outcome, error) = if hung {
            (CallOutcome::Timeout, "hang")
        } else {
            (CallOutcome::Died, "terminal_died")
        };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        // A terminal that shows another account did not fail its read, which can move like the others.
        let is_read = |entry: &InFlight| matches!(entry.owner, Owner::Call(_) | Owner::Own);
        let read_moves = reason == RestartReason::Login && in_flight.front().is_some_and(is_read);
        let failed = if read_moves { None } else { in_flight.pop_front() };
        let restarted_idle = failed.is_none() && !read_moves;
        if let Some(current) = failed {
            let call = self.ended_call(&current, Instant::now(), outcome, Some(error));
            self.record(Event::Calls(vec![call]));
            let error = || {
                if hung {
                    CallError::TimedOut(self.args.options.call_timeout)
                } else {
                    CallError::Died(detail.to_owned())
                }
            };
            match current.owner {
                Owner::Own => {}
                Owner::Call(call) => call.finish(Err(error())),
                Owner::Check(trade) => trade.finish(Err(TradeError::NotSent(error()))),
                Owner::Trade(trade) => {
                    trade.finish(Err(TradeError::Unanswered(detail.to_owned())));
                }
            }
        } else if restarted_idle && self.login.began.is_none() {
            // A failed login was counted when its answer came.
            self.record(Event::Error { account: account.id, method: Method::Initialize, error });
        }
        self.refuse_trades();
        // Nothing but reads is ever written behind something else.
        let behind = in_flight.into_iter().filter_map(|entry| match entry.owner {
            Owner::Call(call) => Some(call),
            _ => None,
        });
        let now = Instant::now();
        for mut call in behind.chain(self.queue.take_reads()) {
            if !call.is_abandoned(now) {
                account.hand_over(call, self.args.index);
            }
        }
    }

    /// Trades that were not sent are given back: they are never moved.
    fn refuse_trades(&mut self) {
        for trade in self.queue.take_trades() {
            let error = self.args.account.not_ready();
            trade.finish(Err(TradeError::NotSent(error)));
        }
    }

    fn begin_restart(&mut self, settled: Settled) {
        if self.stop.is_some() {
            return;
        }
        self.restarted();
        self.restart = Some(settled);
        self.replacing = true;
        self.set_state(SessionState::Starting, None);
        self.refuse_trades();
        for call in self.queue.take_reads() {
            self.args.account.hand_over(call, self.args.index);
        }
        if self.in_flight.is_empty() {
            self.replace();
        }
    }

    /// Lets the terminal go in peace and starts the next one.
    fn replace(&mut self) {
        let account = self.args.account.clone();
        info!(
            account = account.name,
            session = self.args.index,
            reason = RestartReason::Request.name(),
            "terminal restarting"
        );
        if let Some(terminal) = self.drop_terminal() {
            terminal.close();
        }
        self.in_flight.clear();
        self.record(Event::Restarted {
            account: account.id,
            reason: RestartReason::Request.name(),
        });
        account.note_restart(self.args.index);
        self.launch();
    }

    /// Lets the terminal go in peace.
    fn end(&mut self) {
        if let Some(terminal) = self.drop_terminal() {
            terminal.close();
        }
    }
}

fn sent(result: Result<Answer, Failure>) -> TradeOutcome {
    match result {
        Ok(Answer::OrderSend(result)) => Ok(*result),
        Err(Failure::Withdrawn) => Err(TradeError::Withdrawn),
        Ok(_) => {
            let detail = "the terminal's answer to order_send is of another kind";
            Err(TradeError::Failed(Failure::Unusable(detail.to_owned())))
        }
        Err(failure) => Err(TradeError::Failed(failure)),
    }
}

/// Whether an answer makes the terminal behind the worker doubtful: it cannot be reached, or the
/// package raised an exception.
fn is_doubtful(result: &Result<Answer, Failure>) -> bool {
    match result {
        Err(Failure::Mt5(error)) => is_ipc(error.error_type()),
        Err(Failure::Unusable(_)) => true,
        _ => false,
    }
}

fn is_ipc(error: ErrorType) -> bool {
    matches!(
        error,
        ErrorType::IpcInternal
            | ErrorType::IpcSend
            | ErrorType::IpcReceive
            | ErrorType::IpcInitialize
            | ErrorType::IpcNoConnection
            | ErrorType::IpcTimeout
    )
}
