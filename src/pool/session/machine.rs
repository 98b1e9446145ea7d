//! The decisions of a session, without I/O: calls and trades, events of the terminal and timers go
//! in, with the time; [`Effect`]s come out.
//!
//! What it keeps, whatever happens in whatever order:
//!
//! - Everybody who waits gets one answer.
//! - A trade is written once at most, to a terminal that is on no other call and that has just shown
//!   the configured account, before its last moment. While a trade waits or is under way nothing
//!   else is written.
//! - Reads are written only to a terminal that shows the configured account and hears its broker.
//! - A call that its terminal died on ends; the reads behind it move.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::effect::{Effect, Generation, Now, Report, Surroundings, Timer};
use super::login::Login;
use super::notice::{Settled, StopToken};
use super::queue::Queue;
use super::watchdog::{self, Limits, Oldest};
use crate::metrics::AccountId;
use crate::mt5::{Method, Request};
use crate::pool::Options;
use crate::pool::call::{QueuedCall, QueuedTrade, TradeError};
use crate::pool::labels::{RestartReason, SessionState};
use crate::pool::trade_permission::TradeFlags;

/// When a probe that came upon a trade is tried again.
const PROBE_AFTER_TRADE: Duration = Duration::from_millis(100);

/// What a session is configured with.
pub struct Config {
    pub account: AccountId,
    /// How long starting and `initialize` may take.
    pub init_timeout: Duration,
    /// Whether the start counts from the start of the process, because what comes before may take long.
    pub provides_files: bool,
    pub options: Arc<Options>,
    /// A number between 0 and 1, by which starts after failures are spread.
    pub jitter: fn() -> f64,
}

/// The state of a session.
pub struct Machine {
    pub(super) config: Config,
    pub(super) state: SessionState,
    pub(super) backoff: Backoff,
    pub(super) generation: Generation,
    /// Whether a terminal runs.
    pub(super) running: bool,
    /// When the start of the terminal began, as far as it has a limit.
    pub(super) launched: Option<Instant>,
    pub(super) login: Login,
    /// What the terminal showed last.
    pub(super) trade_flags: TradeFlags,
    /// Written to the terminal, oldest first.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Not written yet. While a trade waits or is under way nothing else is written.
    pub(super) queue: Queue,
    pub(super) next_id: u64,
    pub(super) last_answer: Instant,
    /// Since when a client has waited behind the oldest call, if that is the gateway's own search.
    pub(super) blocked_since: Option<Instant>,
    /// When the clock of the oldest call is looked at next.
    pub(super) limit_check: Option<Instant>,
    /// Somebody waits for the replacement of the terminal.
    pub(super) restart: Option<Settled>,
    /// The running terminal answers what it has and is then replaced.
    pub(super) replacing: bool,
    /// Why it is, or was last.
    pub(super) replace_reason: RestartReason,
    /// Held while somebody waits for the end.
    stop: Option<StopToken>,
    pub(super) effects: Vec<Effect>,
}

/// A call that was written to the terminal and has no answer yet.
pub(super) struct InFlight {
    pub id: u64,
    pub method: Method,
    pub written: Instant,
    pub owner: Owner,
}

/// On whose behalf something was written to the terminal.
pub(super) enum Owner {
    /// The session itself.
    Session,
    /// Whoever waits for this read.
    Read(Box<QueuedCall>),
    /// The look at the account that precedes a trade.
    Check(QueuedTrade),
    /// The trade itself.
    Trade(QueuedTrade),
}

impl Owner {
    /// Whether it is the gateway's own search.
    pub fn is_internal(&self) -> bool {
        matches!(self, Owner::Read(call) if call.internal)
    }

    pub fn arrived(&self) -> Option<Instant> {
        match self {
            Owner::Session => None,
            Owner::Read(call) => Some(call.arrived),
            Owner::Check(trade) | Owner::Trade(trade) => Some(trade.arrived),
        }
    }

    /// Takes the trade out whose account is still being looked at: it was not sent.
    pub(super) fn take_unsent_trade(&mut self) -> Option<QueuedTrade> {
        match std::mem::replace(self, Owner::Session) {
            Owner::Check(trade) => Some(trade),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Machine {
    /// A session without a terminal. It starts one at the first [`Timer::Launch`].
    pub fn new(config: Config, now: Instant) -> Machine {
        Machine {
            backoff: Backoff::new(&config.options),
            config,
            state: SessionState::Starting,
            generation: 0,
            running: false,
            launched: None,
            login: Login::default(),
            trade_flags: TradeFlags::default(),
            in_flight: VecDeque::new(),
            queue: Queue::default(),
            next_id: 0,
            last_answer: now,
            blocked_since: None,
            limit_check: None,
            restart: None,
            replacing: false,
            replace_reason: RestartReason::Request,
            stop: None,
            effects: vec![],
        }
    }

    /// The present generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What was decided since the last time, in its order. Give the empty vector back by
    /// [`Machine::recycle`] to save its allocation.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes a vector back whose effects were carried out.
    pub fn recycle(&mut self, effects: Vec<Effect>) {
        debug_assert!(effects.is_empty() && self.effects.is_empty(), "effects are lost");
        self.effects = effects;
    }

    /// Takes a read, or passes it on if the session is not ready.
    pub fn take_call(&mut self, call: Box<QueuedCall>, now: Now) {
        let finishing = self.is_stopping() && self.is_trusted();
        if self.state != SessionState::Ready && !finishing {
            return self.emit(Effect::Move(call));
        }
        let internal = call.internal;
        self.queue.push(call);
        self.pump(now);
        if !internal {
            self.note_blocked_client(now);
        }
        self.stop_if_done();
    }

    /// Takes a trade, if this is the session that the account's other reads come from.
    pub fn take_trade(&mut self, trade: QueuedTrade, now: Now, around: &impl Surroundings) {
        if self.state != SessionState::Ready {
            return self.emit(Effect::RefuseTrade(trade));
        }
        if !around.is_primary() {
            return self.emit(Effect::EndTrade(trade, Err(TradeError::Moved)));
        }
        let left = trade.send_by.saturating_duration_since(now.boot);
        self.arm(Timer::WithdrawLateTrades, left);
        if around.has_several_sessions() && !self.is_trading() {
            self.arm(Timer::HandOver, around.hand_over_after());
        }
        self.queue.push_trade(trade);
        self.pump(now);
        self.note_blocked_client(now);
    }

    /// Does what it is time for.
    pub fn ring(
        &mut self,
        timer: Timer,
        generation: Generation,
        now: Now,
        around: &impl Surroundings,
    ) {
        match timer {
            // These two look at the trades that wait now, whichever terminal they were armed for.
            Timer::WithdrawLateTrades => self.withdraw_late_trades(now),
            Timer::HandOver => self.hand_trades_over(now, around),
            _ if generation != self.generation => {}
            Timer::Launch => self.launch(now),
            Timer::CheckLimit => self.check_limit(now),
            Timer::Probe => self.probe(now, around),
        }
        self.stop_if_done();
    }

    /// Begins to replace the terminal, once it has answered what it has. One that trades, or does not
    /// serve, is not recycled.
    pub fn restart(&mut self, reason: RestartReason, settled: Settled, now: Now) {
        let is_kept = matches!(reason, RestartReason::Recycle | RestartReason::Template)
            && (self.is_trading() || self.state != SessionState::Ready);
        if self.is_stopping() || is_kept {
            return self.emit(Effect::Settle(settled));
        }
        self.replace_reason = reason;
        self.settle();
        self.restart = Some(settled);
        self.replacing = true;
        self.set_state(SessionState::Starting, None);
        self.refuse_trades();
        self.move_waiting_reads();
        self.replace_if_done(now);
    }

    /// Begins to stop: finishes what it has, and lets the terminal end then.
    pub fn stop(&mut self, token: StopToken, now: Now) {
        self.stop = Some(token);
        self.set_state(SessionState::Starting, None);
        self.pump(now);
        self.stop_if_done();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Ends the session once no call of a client waits or is under way.
    pub(super) fn stop_if_done(&mut self) {
        let serves_nobody = self.queue.is_empty()
            && self.in_flight.iter().all(|entry| matches!(entry.owner, Owner::Session));
        if self.is_stopping() && serves_nobody {
            if self.drop_terminal() {
                self.emit(Effect::Close);
            }
            self.emit(Effect::Stop);
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn report(&mut self, report: Report) {
        self.emit(Effect::Report(report));
    }

    pub(super) fn arm(&mut self, timer: Timer, after: Duration) {
        self.emit(Effect::Arm(timer, after, self.generation));
    }

    pub(super) fn set_state(&mut self, to: SessionState, retry_at: Option<Instant>) {
        self.state = to;
        self.emit(Effect::SetState(to, retry_at));
    }

    pub(super) fn set_trade_flags(&mut self, flags: TradeFlags) {
        if flags != self.trade_flags {
            self.trade_flags = flags;
            self.emit(Effect::SetTradeFlags(flags));
        }
    }

    /// Whether what the terminal says is about the configured account, and up to date.
    pub(super) fn is_trusted(&self) -> bool {
        self.running && self.login.is_complete()
    }

    /// Whether a trade waits or is under way.
    pub(super) fn is_trading(&self) -> bool {
        let is_trade = |entry: &InFlight| matches!(entry.owner, Owner::Check(_) | Owner::Trade(_));
        self.queue.has_trade() || self.in_flight.iter().any(is_trade)
    }
}

// === starting a terminal

impl Machine {
    /// Starts a terminal.
    pub(super) fn launch(&mut self, now: Now) {
        self.generation += 1;
        self.running = true;
        self.launched = (!self.config.provides_files).then_some(now.at);
        self.login = Login::default();
        self.set_trade_flags(TradeFlags::default());
        self.set_state(SessionState::Starting, None);
        self.emit(Effect::Launch(self.generation));
        self.arm_limit(now);
    }

    /// The next step on the way to ready.
    pub(super) fn advance(&mut self, now: Now) {
        if let Some(request) = self.login.next() {
            self.submit_own(request, now);
        } else if self.state != SessionState::Ready && !self.replacing && !self.is_stopping() {
            self.backoff.ready();
            self.set_state(SessionState::Ready, None);
            self.report(Report::Ready);
            self.settle();
        }
    }

    /// Tells whoever waits for the replacement that it is over.
    pub(super) fn settle(&mut self) {
        if let Some(settled) = self.restart.take() {
            self.emit(Effect::Settle(settled));
        }
    }

    /// Asks the terminal whether it is connected, and whose account it shows: somebody may have
    /// logged it in to another one.
    pub(super) fn probe(&mut self, now: Now, around: &impl Surroundings) {
        if self.is_trading() {
            return self.arm(Timer::Probe, PROBE_AFTER_TRADE);
        }
        if self.login.initialized && !self.replacing && !self.is_stopping() {
            self.submit_own(Request::TerminalInfo, now);
            self.submit_own(Request::AccountInfo, now);
            if self.config.options.count_holdings && around.is_primary() {
                self.submit_own(Request::PositionsTotal, now);
                self.submit_own(Request::OrdersTotal, now);
            }
        }
    }
}

// === the clock of the oldest call

impl Machine {
    /// Notes that a client waits behind the gateway's own search, whose limit is another from then on.
    fn note_blocked_client(&mut self, now: Now) {
        if self.in_flight.front().is_some_and(|oldest| oldest.owner.is_internal()) {
            self.blocked_since.get_or_insert(now.at);
            self.arm_limit(now);
        }
    }

    /// When the terminal is given up if nothing comes, and the limit that it passes then.
    fn limit(&self) -> Option<(Instant, Duration)> {
        if !self.running {
            return None;
        }
        let init_timeout = self.config.init_timeout;
        let Some(oldest) = self.in_flight.front() else {
            let begun = self.launched.filter(|_| self.login.began.is_none());
            return begun.map(|begun| (begun + init_timeout, init_timeout));
        };
        let limits = Limits {
            init_timeout,
            trade_timeout: self.config.options.trade_timeout,
            call_timeout: self.config.options.call_timeout,
        };
        let began = oldest.written.max(self.last_answer);
        let internal = oldest.owner.is_internal();
        let oldest = Oldest { method: oldest.method, began, internal };
        Some(watchdog::due(oldest, self.blocked_since, &limits))
    }

    /// One timer serves all calls: it looks again when it rings. A second one is needed only for a
    /// limit that ends before it does.
    pub(super) fn arm_limit(&mut self, now: Now) {
        let Some((due, _)) = self.limit() else {
            return;
        };
        if self.limit_check.is_none_or(|check| due < check) {
            self.limit_check = Some(due);
            self.arm(Timer::CheckLimit, due.saturating_duration_since(now.at));
        }
    }

    fn check_limit(&mut self, now: Now) {
        self.limit_check = self.limit_check.filter(|check| *check > now.at);
        match self.limit() {
            Some((due, limit)) if due <= now.at => self.hang(limit, now),
            _ => self.arm_limit(now),
        }
    }
}
