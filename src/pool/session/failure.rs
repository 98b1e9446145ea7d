//! How a session gives its terminal up: because it failed, or because somebody wants another one.

use std::time::Duration;

use super::backoff::NextStart;
use super::effect::{Effect, Now, Report, Timer};
use super::machine::{InFlight, Machine, Owner};
use crate::metrics::Event;
use crate::mt5::Method;
use crate::pool::call::{CallError, TradeError};
use crate::pool::labels::{CallOutcome, RestartReason, SessionState};
use crate::terminal::Failure;

/// Why a terminal is given up.
struct Fault {
    reason: RestartReason,
    detail: String,
    refused_login: bool,
}

impl Machine {
    pub(super) fn fail(&mut self, reason: RestartReason, detail: String, now: Now) {
        self.give_up(Fault { reason, detail, refused_login: false }, now);
    }

    /// The login failed: with an error of the terminal, or without an answer of use.
    pub(super) fn fail_to_log_in(&mut self, failure: &Failure, now: Now) {
        let refused_login = matches!(failure, Failure::Mt5(error) if error.is_refused_login());
        let (reason, detail) = (RestartReason::Login, failure.to_string());
        self.give_up(Fault { reason, detail, refused_login }, now);
    }

    /// The terminal passed the limit of the oldest call, or of its start.
    pub(super) fn hang(&mut self, limit: Duration, now: Now) {
        let doing = self.in_flight.front().map_or("its start", |entry| entry.method.name());
        let detail = format!("the terminal did not answer within {limit:?} in {doing}");
        self.fail(RestartReason::Hang, detail, now);
    }

    /// Ends the terminal, ends the call that it was on, lets the others move, and schedules the next
    /// start.
    fn give_up(&mut self, fault: Fault, now: Now) {
        let Fault { reason, detail, refused_login } = fault;
        if self.login.began.is_some() && !self.login.verified {
            self.report_login(Err(&detail), now);
        }
        let chance = (self.config.jitter)();
        let next_start = self.backoff.fail(now.at, refused_login, chance);
        let (state, delay) = match next_start {
            NextStart::BackingOff(delay) => (SessionState::BackingOff, delay),
            NextStart::Quarantined(delay) => (SessionState::Quarantined, delay),
        };
        let request_id = self.in_flight.front().and_then(|oldest| match &oldest.owner {
            Owner::Read(call) => Some(call.request_id.clone()),
            Owner::Session | Owner::Check(_) | Owner::Trade(_) => None,
        });
        let failed = Report::Failed { reason, detail: detail.clone(), next_start, request_id };
        self.report(failed);
        // Nothing that is still on its way from this terminal may count.
        if self.drop_terminal() {
            self.emit(Effect::Kill);
        }
        self.set_state(state, Some(now.at + delay));
        self.emit(Effect::Count(Event::Restarted {
            account: self.config.account,
            reason: reason.name(),
        }));
        self.fail_calls(reason, &detail, now);
        self.settle();
        if !self.is_stopping() {
            self.arm(Timer::Launch, delay);
        }
    }

    /// Forgets the terminal. Gives whether there was one, which has to be ended.
    pub(super) fn drop_terminal(&mut self) -> bool {
        self.generation += 1;
        self.limit_check = None;
        self.replacing = false;
        self.blocked_since = None;
        self.emit(Effect::SetConnected(false));
        self.emit(Effect::SetBusy { since: None, internal: false });
        std::mem::replace(&mut self.running, false)
    }

    fn fail_calls(&mut self, reason: RestartReason, detail: &str, now: Now) {
        let hung = reason == RestartReason::Hang;
        let (outcome, label) = if hung {
            (CallOutcome::Timeout, "hang")
        } else {
            (CallOutcome::Died, "terminal_died")
        };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        // A terminal that shows another account did not fail its read, which can move like the others.
        let is_read = |entry: &InFlight| matches!(entry.owner, Owner::Read(_) | Owner::Session);
        let read_moves = reason == RestartReason::Login && in_flight.front().is_some_and(is_read);
        let failed = if read_moves { None } else { in_flight.pop_front() };
        let failed_idle = failed.is_none() && !read_moves;
        if let Some(current) = failed {
            let call = self.ended_call(&current, now.at, outcome, Some(label));
            self.emit(Effect::CountCall(call));
            let error = if hung {
                CallError::TimedOut(self.config.options.call_timeout)
            } else {
                CallError::Died(detail.to_owned())
            };
            match current.owner {
                Owner::Session => {}
                Owner::Read(call) => self.emit(Effect::Answer(call, now.at, Err(error))),
                Owner::Check(trade) => {
                    self.emit(Effect::EndTrade(trade, Err(TradeError::NotSent(error))));
                }
                Owner::Trade(trade) => {
                    let unanswered = TradeError::Unanswered(detail.to_owned());
                    self.emit(Effect::EndTrade(trade, Err(unanswered)));
                }
            }
        } else if failed_idle && self.login.began.is_none() {
            // A failed login was counted when its answer came.
            let (account, method) = (self.config.account, Method::Initialize);
            self.emit(Effect::Count(Event::Error { account, method, error: label }));
        }
        self.refuse_trades();
        // Nothing but reads is ever written behind something else.
        let behind = in_flight.into_iter().filter_map(|entry| match entry.owner {
            Owner::Read(call) => Some(call),
            Owner::Session | Owner::Check(_) | Owner::Trade(_) => None,
        });
        for mut call in behind.chain(self.queue.take_reads()) {
            if !call.is_abandoned(now.at) {
                self.emit(Effect::Move(call));
            }
        }
    }

    /// Replaces the terminal if somebody wants that and it has answered what it had.
    pub(super) fn replace_if_done(&mut self, now: Now) {
        if !self.replacing || !self.in_flight.is_empty() || self.is_stopping() {
            return;
        }
        let reason = self.replace_reason;
        self.report(Report::Replaced(reason));
        if self.drop_terminal() {
            self.emit(Effect::Close);
        }
        let (account, reason) = (self.config.account, reason.name());
        self.emit(Effect::Count(Event::Restarted { account, reason }));
        self.launch(now);
    }
}
