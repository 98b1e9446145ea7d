//! What the terminal says: answers to clients, and those that tell whether the session is ready.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::effect::{Effect, Generation, Now, Report, Surroundings, Timer};
use super::machine::{InFlight, Machine, Owner};
use crate::metrics::{EndedCall, Event};
use crate::mt5::{AccountInfo, Answer, ErrorType, Method, Request};
use crate::pool::call::{CallError, QueuedTrade, TradeError, TradeOutcome};
use crate::pool::labels::{CallOutcome, RestartReason, SessionState};
use crate::terminal::{self, Answered, Answers, Ending, Failure};

/// How often a terminal that waits for its broker is asked.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

impl Machine {
    /// Takes what the terminal of a generation reports.
    pub fn hear(
        &mut self,
        generation: Generation,
        event: terminal::Event,
        now: Now,
        around: &impl Surroundings,
    ) {
        if generation != self.generation {
            return;
        }
        match event {
            terminal::Event::Process(pid) => {
                self.emit(Effect::Watch(pid));
                if self.launched.is_none() {
                    self.launched = Some(now.at);
                    self.arm_limit(now);
                }
            }
            terminal::Event::Files(bytes) => self.emit(Effect::NoteFiles(bytes)),
            terminal::Event::Started(versions) => {
                self.report(Report::Started(versions));
                self.login.began = Some(now.at);
                if !self.replacing && !self.is_stopping() {
                    self.set_state(SessionState::LoggingIn, None);
                }
                self.advance(now);
            }
            terminal::Event::Answered(answers) => self.take_answers(answers, now, around),
            terminal::Event::Ended(Ending::Exit(detail)) => {
                self.fail(RestartReason::Exit, detail, now);
            }
            terminal::Event::Ended(Ending::Protocol(detail)) => {
                self.fail(RestartReason::Protocol, detail, now);
            }
        }
        self.stop_if_done();
    }

    fn take_answers(&mut self, answers: Answers, now: Now, around: &impl Surroundings) {
        let generation = self.generation;
        let mut ended: SmallVec<[_; 1]> = SmallVec::with_capacity(answers.len());
        let mut out_of_turn = None;
        for Answered { id, at, result } in answers {
            let Some(entry) = self.in_flight.pop_front_if(|entry| entry.id == id) else {
                out_of_turn = Some(format!("the terminal answered call {id} out of turn"));
                break;
            };
            let (outcome, error) = outcome(&result);
            // Before anybody has an answer, so that who has one finds it counted.
            let call = self.ended_call(&entry, at, outcome, error.map(ErrorType::name));
            self.emit(Effect::CountCall(call));
            self.last_answer = at;
            ended.push((entry, result));
        }
        self.note_next_oldest();
        for (entry, result) in ended {
            if self.generation == generation {
                self.hand_out(entry, result, now, around);
            } else {
                self.disbelieve(entry, result);
            }
        }
        if self.generation != generation {
            return;
        }
        if let Some(detail) = out_of_turn {
            return self.fail(RestartReason::Protocol, detail, now);
        }
        self.pump(now);
        self.replace_if_done(now);
    }

    /// Notes that another call is the oldest one now. Whoever waited behind the call before waits
    /// behind that one.
    fn note_next_oldest(&mut self) {
        let since = (!self.in_flight.is_empty()).then_some(self.last_answer);
        let internal = self.in_flight.front().is_some_and(|oldest| oldest.owner.is_internal());
        self.emit(Effect::SetBusy { since, internal });
        let others = self.in_flight.iter().any(|entry| !entry.owner.is_internal());
        let client_waits = internal && (others || !self.queue.is_empty());
        self.blocked_since = client_waits.then_some(self.last_answer);
    }

    /// Treats an answer that came together with one that ended the terminal: what a terminal said
    /// after it was found out is not believed.
    fn disbelieve(&mut self, entry: InFlight, result: Result<Answer, Failure>) {
        match entry.owner {
            Owner::Session => {}
            Owner::Read(call) => self.emit(Effect::Move(call)),
            Owner::Check(trade) => self.emit(Effect::RefuseTrade(trade)),
            // Nothing else is under way beside a trade, so this is the first of its answers.
            Owner::Trade(trade) => self.emit(Effect::EndTrade(trade, traded(result))),
        }
    }

    /// Gives an answer to whom it is for.
    fn hand_out(
        &mut self,
        entry: InFlight,
        result: Result<Answer, Failure>,
        now: Now,
        around: &impl Surroundings,
    ) {
        let doubtful = is_doubtful(&result);
        match entry.owner {
            Owner::Session => return self.own_answered(entry.method, result, now, around),
            Owner::Read(call) => {
                if let Err(Failure::OtherAccount(detail)) = result {
                    self.emit(Effect::Move(call));
                    return self.fail(RestartReason::Login, detail, now);
                }
                if !self.is_trusted() {
                    // Asked before it was known that the terminal is out of touch with its broker.
                    return self.emit(Effect::Move(call));
                }
                let result = result.map_err(CallError::Failed);
                self.emit(Effect::Answer(call, self.last_answer, result));
            }
            Owner::Check(trade) => self.checked(trade, result, now, around),
            Owner::Trade(trade) => self.emit(Effect::EndTrade(trade, traded(result))),
        }
        if doubtful {
            // The terminal behind the worker may be gone: find out now.
            self.probe(now, around);
        }
    }

    /// The terminal said whose account it is logged in to: the trade follows at once, or never.
    fn checked(
        &mut self,
        trade: QueuedTrade,
        result: Result<Answer, Failure>,
        now: Now,
        around: &impl Surroundings,
    ) {
        match result {
            Ok(Answer::AccountInfo(info)) => match around.check_identity(&info) {
                Ok(()) if trade.is_late(now.boot) => {
                    self.emit(Effect::EndTrade(trade, Err(TradeError::Withdrawn)));
                }
                // The account's other trades and its reads already go to another session, or will.
                Ok(()) if self.replacing || !around.is_primary() => {
                    self.emit(Effect::EndTrade(trade, Err(TradeError::Moved)));
                }
                Ok(()) if !trade.passes_last_check() => {
                    self.emit(Effect::EndTrade(trade, Err(TradeError::HeldBack)));
                }
                Ok(()) => {
                    let request = Request::OrderSend { request: trade.request.clone() };
                    self.submit(request, Owner::Trade(trade), now);
                }
                Err(detail) => {
                    self.emit(Effect::RefuseTrade(trade));
                    self.fail(RestartReason::Login, detail, now);
                }
            },
            Ok(_) => self.emit(Effect::RefuseTrade(trade)),
            Err(failure) => {
                let error = TradeError::NotSent(CallError::Failed(failure));
                self.emit(Effect::EndTrade(trade, Err(error)));
            }
        }
    }

    fn own_answered(
        &mut self,
        method: Method,
        result: Result<Answer, Failure>,
        now: Now,
        around: &impl Surroundings,
    ) {
        match (method, result) {
            (Method::Initialize, Ok(_)) => self.login.initialized = true,
            (Method::AccountInfo, Ok(Answer::AccountInfo(info))) => {
                return self.heard_account(info, now, around);
            }
            (Method::PositionsTotal | Method::OrdersTotal, Ok(Answer::Total(total))) => {
                return self.emit(Effect::ShowTotal(method, total));
            }
            // A figure is missed, and nothing else.
            (Method::PositionsTotal | Method::OrdersTotal, Err(Failure::Mt5(error)))
                if !is_ipc(error.error_type()) =>
            {
                return;
            }
            (Method::TerminalInfo, Ok(Answer::TerminalInfo(info))) => {
                let mut flags = self.trade_flags;
                flags.see_terminal(&info);
                self.set_trade_flags(flags);
                return self.heard_connection(info.connected, now);
            }
            (Method::Initialize | Method::AccountInfo, Err(failure))
                if self.state != SessionState::Ready =>
            {
                return self.fail_to_log_in(&failure, now);
            }
            // The worker answers, but the terminal behind it is gone.
            (_, Err(Failure::Mt5(error))) => {
                return self.fail(RestartReason::Exit, error.to_string(), now);
            }
            (_, Err(Failure::Unusable(detail) | Failure::OtherAccount(detail))) => {
                return self.fail(RestartReason::Protocol, detail, now);
            }
            (_, Err(Failure::Withdrawn)) => {}
            (method, Ok(_)) => {
                let detail = format!("the terminal's answer to {method} is of another kind");
                return self.fail(RestartReason::Protocol, detail, now);
            }
        }
        self.advance(now);
    }

    fn heard_account(&mut self, info: Box<AccountInfo>, now: Now, around: &impl Surroundings) {
        if let Err(detail) = around.check_identity(&info) {
            return self.fail(RestartReason::Login, detail, now);
        }
        self.see_account(&info);
        self.emit(Effect::ShowAccount(info));
        self.login.verify();
        self.report_login(Ok(()), now);
        // While the broker is lost, the login continues at the next probe.
        if !self.login.lost {
            self.advance(now);
        }
    }

    /// Notes whether the account may trade, as a terminal shows it that hears its broker.
    fn see_account(&mut self, info: &AccountInfo) {
        if !self.login.lost {
            let mut flags = self.trade_flags;
            flags.see_account(info);
            self.set_trade_flags(flags);
        }
    }

    fn heard_connection(&mut self, connected: bool, now: Now) {
        self.emit(Effect::SetConnected(connected));
        let interval = self.config.options.probe_interval;
        if connected {
            self.login.find_broker();
            self.arm(Timer::Probe, interval);
            return self.advance(now);
        }
        self.login.lose_broker();
        if self.state == SessionState::Ready {
            self.report(Report::BrokerLost);
        }
        self.refuse_trades();
        if !self.replacing && !self.is_stopping() {
            self.set_state(SessionState::Disconnected, None);
        }
        // Nobody gets prices of a terminal without its broker.
        self.move_waiting_reads();
        self.settle();
        self.arm(Timer::Probe, interval.min(RECONNECT_INTERVAL));
    }

    /// Reports how the login ended, once a terminal.
    pub(super) fn report_login(&mut self, result: Result<(), &str>, now: Now) {
        if self.login.reported {
            return;
        }
        self.login.reported = true;
        let began = self.login.began;
        let duration =
            began.map_or(Duration::ZERO, |began| now.at.saturating_duration_since(began));
        let (account, success) = (self.config.account, result.is_ok());
        self.emit(Effect::Count(Event::Login { account, success, duration }));
        self.report(match result {
            Ok(()) => Report::LoggedIn { after: duration },
            Err(detail) => Report::LoginFailed { detail: detail.to_owned() },
        });
    }

    pub(super) fn ended_call(
        &self,
        entry: &InFlight,
        at: Instant,
        outcome: CallOutcome,
        error: Option<&'static str>,
    ) -> EndedCall {
        let began = entry.written.max(self.last_answer);
        let arrived = entry.owner.arrived().unwrap_or(began);
        EndedCall {
            account: self.config.account,
            method: entry.method,
            outcome: outcome.into(),
            error,
            duration: at.saturating_duration_since(began),
            queued: began.saturating_duration_since(arrived),
        }
    }
}

fn outcome(result: &Result<Answer, Failure>) -> (CallOutcome, Option<ErrorType>) {
    match result {
        // Withdrawing a late trade is what the worker was asked to do.
        Ok(_) | Err(Failure::Withdrawn) => (CallOutcome::Success, None),
        Err(Failure::Mt5(error)) => (CallOutcome::Error, Some(error.error_type())),
        Err(Failure::Unusable(_) | Failure::OtherAccount(_)) => {
            (CallOutcome::Error, Some(ErrorType::Other))
        }
    }
}

/// What an answer to `order_send` says about the trade.
fn traded(result: Result<Answer, Failure>) -> TradeOutcome {
    match result {
        Ok(Answer::OrderSend(result)) => Ok(result),
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
