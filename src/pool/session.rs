//! The session actor: one terminal, from its start to its replacement.
//!
//! It never waits for its terminal: calls go out by [`Terminal::submit`] and
//! come back as messages, so health, stop and supervision are always answered.
//! It keeps the clock of the oldest call; a terminal that passes a call's limit
//! is ended, because a call that is stuck in C cannot be cancelled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Options;
use super::call::{Call, CallError, TradeCall, TradeError, Traded};
use super::directory::{Account, Slot};
use super::restart::{History, Verdict};
use crate::actor::{Address, Envelope, Role};
use crate::metrics::{EndedCall, ErrorLabel, Event, Outcome, RestartReason, SessionState};
use crate::mt5::{Answer, ErrorType, Method, Request};
use crate::terminal::{self, Answered, Ending, Failure, Terminal};

/// Calls that may be written ahead of the one that the terminal works on. Deep
/// enough to keep a pipe busy, shallow enough that few have to move.
const WINDOW: usize = 16;

/// What the package may overrun its own timeout by before it is ended for it.
const INITIALIZE_GRACE: Duration = Duration::from_secs(2);

/// How often a terminal that waits for its broker is asked.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// When a probe that came upon a trade is tried again.
const PROBE_AFTER_TRADE: Duration = Duration::from_millis(100);

/// What a session is told.
pub enum Msg {
    /// Make a call.
    Call(Call),
    /// Send a trade.
    Trade(TradeCall),
    /// The terminal of this generation reports.
    Terminal(u64, terminal::Event),
    /// Time to start a terminal, unless a newer generation has begun.
    Launch(u64),
    /// Time to look at the clock of the oldest call.
    CheckLimit(u64),
    /// Time to ask the terminal whether it is connected.
    Probe(u64),
    /// Replace the terminal; answered when the new one is ready or has failed.
    Restart(oneshot::Sender<()>),
    /// Let the terminal finish and end it; answered when it is gone.
    Stop(oneshot::Sender<()>),
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

/// What the actor knows.
pub struct State {
    args: Args,
    address: Address<Msg>,
    history: History,
    /// Grows with every start and end, so that what belongs to an earlier
    /// terminal is recognised.
    generation: u64,
    terminal: Option<Box<dyn Terminal>>,
    launched: Instant,
    login: Login,
    /// Written to the terminal, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Not written yet.
    waiting: VecDeque<Call>,
    /// Not sent yet. While one waits or is under way nothing else is written.
    trades: VecDeque<TradeCall>,
    next_id: u64,
    last_answer: Instant,
    /// When the clock of the oldest call is looked at next.
    limit_check: Option<Instant>,
    /// The next probe, so that there is never more than one to come.
    next_probe: Option<AbortHandle>,
    /// Somebody waits for the replacement of the terminal.
    restart: Option<oneshot::Sender<()>>,
    /// The running terminal answers what it has and is then replaced.
    replacing: bool,
    /// Somebody waits for the end.
    stop: Option<oneshot::Sender<()>>,
}

/// What is known about the login of the running terminal.
#[derive(Debug, Default)]
struct Login {
    began: Option<Instant>,
    initialized: bool,
    verified: bool,
    connected: bool,
    /// Whether the login was reported, which it is once a terminal.
    reported: bool,
}

struct InFlight {
    id: u64,
    method: Method,
    written: Instant,
    whose: Whose,
}

/// On whose behalf something was written to the terminal.
enum Whose {
    /// The session's own.
    Own,
    /// A client's read.
    Call(Call),
    /// The look at the login that precedes a trade.
    Check(TradeCall),
    /// The trade itself.
    Trade(TradeCall),
}

impl Whose {
    fn arrived(&self) -> Option<Instant> {
        match self {
            Whose::Own => None,
            Whose::Call(call) => Some(call.arrived),
            Whose::Check(trade) | Whose::Trade(trade) => Some(trade.arrived),
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
        let address = args.account.slots[args.index].address.clone();
        address.assign(myself);
        let _ = address.send(Msg::Launch(0));
        info!(
            actor = Role::Session.name(),
            account = args.account.name,
            session = args.index,
            "actor started"
        );
        let now = Instant::now();
        Ok(State {
            history: History::new(args.options.restart.clone()),
            args,
            address,
            generation: 0,
            terminal: None,
            launched: now,
            login: Login::default(),
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            trades: VecDeque::new(),
            next_id: 0,
            last_answer: now,
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
            Msg::Terminal(..) | Msg::Launch(_) | Msg::CheckLimit(_) | Msg::Probe(_) => {}
            Msg::Restart(done) => state.begin_restart(done),
            Msg::Stop(done) => {
                state.stop = Some(done);
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
        info!(
            actor = Role::Session.name(),
            account = state.args.account.name,
            session = state.args.index,
            "actor stopped"
        );
        Ok(())
    }
}

impl State {
    fn set_state(&self, to: SessionState, retry_at: Option<Instant>) {
        self.args.account.set_state(self.args.index, to, retry_at);
    }

    /// Whether no call of a client waits or is under way.
    fn serves_nobody(&self) -> bool {
        self.waiting.is_empty()
            && self.trades.is_empty()
            && self.in_flight.iter().all(|entry| matches!(entry.whose, Whose::Own))
    }

    fn slot(&self) -> &Slot {
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
        self.generation += 1;
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
        if !self.login.initialized {
            self.submit_own(Request::Initialize);
        } else if !self.login.verified {
            self.submit_own(Request::AccountInfo);
        } else if !self.login.connected {
            self.submit_own(Request::TerminalInfo);
        } else if !self.is_ready() && !self.replacing && self.stop.is_none() {
            self.history.ready();
            self.set_state(SessionState::Ready, None);
            let account = &self.args.account;
            info!(account = account.name, session = self.args.index, "session ready");
            self.restarted();
        }
    }

    /// Tells whoever waits for the replacement that it is over.
    fn restarted(&mut self) {
        if let Some(done) = self.restart.take() {
            let _ = done.send(());
        }
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
        }
    }

    fn probe_after(&mut self, delay: Duration) {
        let probe = self.address.send_after(delay, Msg::Probe(self.generation));
        if let Some(earlier) = self.next_probe.replace(probe) {
            earlier.abort();
        }
    }

    // Calls.

    fn take(&mut self, call: Call) {
        if self.is_ready() || (self.stop.is_some() && self.terminal.is_some()) {
            self.waiting.push_back(call);
            self.pump();
        } else {
            self.args.account.hand_over(call, self.args.index);
        }
    }

    /// A trade is taken only by the session that the others read from after it.
    fn take_trade(&mut self, trade: TradeCall) {
        let account = &self.args.account;
        if self.is_ready() && account.is_primary(self.args.index) {
            self.trades.push_back(trade);
            self.pump();
        } else {
            let error = account.not_ready();
            trade.finish(Err(TradeError::NotSent(error)));
        }
    }

    /// Whether a trade waits or is under way.
    fn is_trading(&self) -> bool {
        !self.trades.is_empty()
            || self
                .in_flight
                .iter()
                .any(|entry| matches!(entry.whose, Whose::Check(_) | Whose::Trade(_)))
    }

    /// Writes waiting calls, as far as the window allows; a trade only to an
    /// idle terminal, and after it was asked whose account it is logged in to.
    fn pump(&mut self) {
        if self.is_trading() {
            if self.in_flight.is_empty()
                && let Some(trade) = self.trades.pop_front()
            {
                self.submit(Request::AccountInfo, Whose::Check(trade));
            }
            return;
        }
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.in_flight.len() < WINDOW {
            let Some(mut call) = self.waiting.pop_front() else {
                return;
            };
            // Nobody would get the answer, so it need not cost the terminal anything.
            if !call.is_abandoned(now) {
                self.submit_at(now, call.request.clone(), Whose::Call(call));
            }
        }
    }

    fn submit_own(&mut self, request: Request) {
        self.submit(request, Whose::Own);
    }

    fn submit(&mut self, request: Request, whose: Whose) {
        self.submit_at(Instant::now(), request, whose);
    }

    fn submit_at(&mut self, written: Instant, request: Request, whose: Whose) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let (id, method) = (self.next_id, request.method());
        self.next_id += 1;
        terminal.submit(id, request);
        if self.in_flight.is_empty() {
            self.slot().set_busy_since(Some(written));
        }
        self.in_flight.push_back(InFlight { id, method, written, whose });
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
                Ok(_) => (Outcome::Success, None),
                Err(Failure::Mt5(error)) => (Outcome::Error, Some(error.error_type())),
                Err(Failure::Unusable(_)) => (Outcome::Error, Some(ErrorType::Other)),
            };
            calls.push(self.ended_call(&entry, at, outcome, error.map(ErrorLabel::Mt5)));
            self.last_answer = at;
            ended.push((entry, result));
        }
        let busy = (!self.in_flight.is_empty()).then_some(self.last_answer);
        self.slot().set_busy_since(busy);
        // Before anybody has an answer, so that who has one finds it counted.
        self.record(Event::Calls(calls));
        for (entry, result) in ended {
            if self.generation == generation {
                self.hand_out(entry, result);
            } else if let Whose::Call(call) = entry.whose {
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
        let ipc = matches!(&result, Err(Failure::Mt5(error)) if is_ipc(error.error_type()));
        match entry.whose {
            Whose::Own => return self.own_answered(entry.method, result),
            Whose::Call(call) => {
                call.finish_at(self.last_answer, result.map_err(CallError::Failed));
            }
            Whose::Check(trade) => self.checked(trade, result),
            // Nothing else is under way beside a trade, so nothing was found out before it.
            Whose::Trade(trade) => trade.finish(sent(result)),
        }
        if ipc {
            // The terminal behind the worker may be gone: find out now.
            self.probe();
        }
    }

    /// The terminal said whose account it is logged in to: the trade follows at
    /// once, or never.
    fn checked(&mut self, trade: TradeCall, result: Result<Answer, Failure>) {
        let expected = self.args.account.login;
        match result {
            Ok(Answer::AccountInfo(info)) if info.login == expected => {
                let request = trade.request.clone();
                self.submit(Request::OrderSend { request }, Whose::Trade(trade));
            }
            Ok(Answer::AccountInfo(info)) => {
                let error = self.args.account.not_ready();
                trade.finish(Err(TradeError::NotSent(error)));
                self.fail(RestartReason::Login, other_login(info.login, expected));
            }
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
                let expected = self.args.account.login;
                if info.login != expected {
                    return self.fail(RestartReason::Login, other_login(info.login, expected));
                }
                self.login.verified = true;
                self.report_login(true, "");
            }
            (Method::TerminalInfo, Ok(Answer::TerminalInfo(info))) => {
                return self.heard_connection(info.connected);
            }
            (Method::Initialize | Method::AccountInfo, Err(failure)) => {
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
            (_, Err(Failure::Unusable(detail))) => {
                return self.fail(RestartReason::Protocol, detail);
            }
            (method, Ok(_)) => {
                let detail = format!("the terminal's answer to {method} is of another kind");
                return self.fail(RestartReason::Protocol, detail);
            }
        }
        self.advance();
    }

    fn heard_connection(&mut self, connected: bool) {
        let account = &self.args.account;
        account.set_connected(self.args.index, connected);
        if connected {
            self.login.connected = true;
            self.probe_after(self.args.options.probe_interval);
            return self.advance();
        }
        if self.is_ready() {
            warn!(account = account.name, session = self.args.index, "terminal lost its broker");
            account
                .note_error(self.args.index, "the terminal is not connected to its broker".into());
            self.set_state(SessionState::LoggingIn, None);
            self.refuse_trades();
        }
        // Another account may be logged in when it is back.
        self.login.connected = false;
        self.login.verified = false;
        self.restarted();
        self.probe_after(self.args.options.probe_interval.min(RECONNECT_INTERVAL));
    }

    fn ended_call(
        &self,
        entry: &InFlight,
        at: Instant,
        outcome: Outcome,
        error: Option<ErrorLabel>,
    ) -> EndedCall {
        let began = entry.written.max(self.last_answer);
        let arrived = entry.whose.arrived().unwrap_or(began);
        EndedCall {
            account: self.args.account.id,
            method: entry.method,
            outcome,
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
        let limit = match oldest.method {
            Method::Initialize | Method::Login => init_timeout + INITIALIZE_GRACE,
            Method::OrderSend => self.args.options.trade_timeout,
            _ => self.args.options.call_timeout,
        };
        Some((oldest.written.max(self.last_answer) + limit, limit))
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
        let verdict = self.history.failed(Instant::now(), refused_login, chance);
        let (state, delay) = match verdict {
            Verdict::Retry(delay) => (SessionState::BackingOff, delay),
            Verdict::Quarantine(delay) => (SessionState::Quarantined, delay),
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
        self.record(Event::Restarted { account: account.id, reason });
        account.note_restart(session);
        self.fail_calls(reason, &detail);
        self.restarted();
        if self.stop.is_none() {
            self.address.send_after(delay, Msg::Launch(self.generation));
        }
    }

    /// Drops the terminal, which ends it at once.
    fn drop_terminal(&mut self) -> Option<Box<dyn Terminal>> {
        self.generation += 1;
        self.limit_check = None;
        self.replacing = false;
        self.args.account.set_connected(self.args.index, false);
        self.slot().set_busy_since(None);
        self.terminal.take()
    }

    fn fail_calls(&mut self, reason: RestartReason, detail: &str) {
        let account = self.args.account.clone();
        let hung = reason == RestartReason::Hang;
        let (outcome, error) = if hung {
            (Outcome::Timeout, ErrorLabel::Hang)
        } else {
            (Outcome::Died, ErrorLabel::TerminalDied)
        };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        // A failed login was counted when its answer came.
        if let Some(current) = in_flight.pop_front() {
            let call = self.ended_call(&current, Instant::now(), outcome, Some(error));
            self.record(Event::Calls(vec![call]));
            let error = || {
                if hung {
                    CallError::TimedOut(self.args.options.call_timeout)
                } else {
                    CallError::Died(detail.to_owned())
                }
            };
            match current.whose {
                Whose::Own => {}
                Whose::Call(call) => call.finish(Err(error())),
                Whose::Check(trade) => trade.finish(Err(TradeError::NotSent(error()))),
                Whose::Trade(trade) => {
                    trade.finish(Err(TradeError::Unanswered(detail.to_owned())));
                }
            }
        } else if self.login.began.is_none() {
            self.record(Event::Error { account: account.id, method: Method::Initialize, error });
        }
        self.refuse_trades();
        // Nothing but reads is ever written behind something else.
        let behind = in_flight.into_iter().filter_map(|entry| match entry.whose {
            Whose::Call(call) => Some(call),
            _ => None,
        });
        let now = Instant::now();
        for mut call in behind.chain(std::mem::take(&mut self.waiting)) {
            if !call.is_abandoned(now) {
                account.hand_over(call, self.args.index);
            }
        }
    }

    /// Trades that were not sent are given back: they are never moved.
    fn refuse_trades(&mut self) {
        for trade in std::mem::take(&mut self.trades) {
            let error = self.args.account.not_ready();
            trade.finish(Err(TradeError::NotSent(error)));
        }
    }

    fn begin_restart(&mut self, done: oneshot::Sender<()>) {
        if self.stop.is_some() {
            return;
        }
        self.restarted();
        self.restart = Some(done);
        self.replacing = true;
        self.set_state(SessionState::Starting, None);
        self.refuse_trades();
        for call in std::mem::take(&mut self.waiting) {
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
        self.record(Event::Restarted { account: account.id, reason: RestartReason::Request });
        account.note_restart(self.args.index);
        self.launch();
    }

    /// Lets the terminal go in peace; whoever stops us learns when it is gone.
    fn end(&mut self) {
        if let Some(terminal) = self.drop_terminal() {
            terminal.close();
        }
        let lease = self.args.account.slots[self.args.index].lease.clone();
        if let Some(done) = self.stop.take() {
            tokio::spawn(async move {
                let _gone = lease.lock().await;
                let _ = done.send(());
            });
        }
    }
}

fn sent(result: Result<Answer, Failure>) -> Traded {
    match result {
        Ok(Answer::OrderSend(result)) => Ok(*result),
        Ok(_) => {
            let detail = "the terminal's answer to order_send is of another kind";
            Err(TradeError::Failed(Failure::Unusable(detail.to_owned())))
        }
        Err(failure) => Err(TradeError::Failed(failure)),
    }
}

fn other_login(login: u64, expected: u64) -> String {
    format!("the terminal is logged in to account {login} instead of {expected}")
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
