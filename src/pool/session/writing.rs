//! How a session writes calls and trades to its terminal, and gives back those that it does not write.

use super::effect::{Effect, Now, Report, Surroundings, Timer};
use super::machine::{InFlight, Machine, Owner};
use crate::mt5::Request;
use crate::pool::call::TradeError;

/// Calls that may be written ahead of the one that the terminal works on. Deep enough to keep a pipe
/// busy, shallow enough that few have to move.
const WINDOW: usize = 16;

impl Machine {
    /// Writes waiting calls, as far as the window allows; a trade only to an idle terminal, and after
    /// it was asked whose account it is logged in to.
    pub(super) fn pump(&mut self, now: Now) {
        if self.is_trading() {
            if self.in_flight.is_empty() {
                self.withdraw_late_trades(now);
                if let Some(trade) = self.queue.next_trade() {
                    self.submit(Request::AccountInfo, Owner::Check(trade), now);
                }
            }
            return;
        }
        // A terminal that has lost its broker would answer with what it knew last.
        if self.queue.is_empty() || !self.is_trusted() {
            return;
        }
        while self.in_flight.len() < WINDOW {
            let Some(call) = self.queue.next_read(now.at) else {
                return;
            };
            self.submit(call.request.clone(), Owner::Read(call), now);
        }
    }

    pub(super) fn submit_own(&mut self, request: Request, now: Now) {
        self.submit(request, Owner::Session, now);
    }

    pub(super) fn submit(&mut self, request: Request, mut owner: Owner, now: Now) {
        if !self.running {
            return self.give_back(owner);
        }
        let mut send_by = None;
        if let Owner::Trade(trade) = &mut owner {
            trade.written = true;
            send_by = Some(trade.send_by);
        }
        let (id, method) = (self.next_id, request.method());
        self.next_id += 1;
        let idle = self.in_flight.is_empty();
        if idle {
            let internal = owner.is_internal();
            self.emit(Effect::SetBusy { since: Some(now.at), internal });
        }
        self.emit(Effect::Submit { id, request, send_by, idle });
        self.in_flight.push_back(InFlight { id, method, written: now.at, owner });
        self.arm_limit(now);
    }

    /// Gives back what was not written.
    fn give_back(&mut self, owner: Owner) {
        match owner {
            Owner::Session => {}
            Owner::Read(call) => self.emit(Effect::Move(call)),
            Owner::Check(trade) | Owner::Trade(trade) => self.emit(Effect::RefuseTrade(trade)),
        }
    }

    /// Gives late trades back. Whether one that is written already is late, its terminal decides.
    pub(super) fn withdraw_late_trades(&mut self, now: Now) {
        for trade in self.queue.take_late_trades(now.boot) {
            self.emit(Effect::EndTrade(trade, Err(TradeError::Withdrawn)));
        }
        for entry in &mut self.in_flight {
            let late = matches!(&entry.owner, Owner::Check(trade) if trade.is_late(now.boot));
            if late && let Some(trade) = entry.owner.take_unsent_trade() {
                self.effects.push(Effect::EndTrade(trade, Err(TradeError::Withdrawn)));
            }
        }
    }

    /// Gives the trades that wait here back, if this session has been on one call for too long and
    /// another one is idle. That one is the primary from then on, so that reads follow. A trade whose
    /// account is still being looked at was not sent; one that was sent keeps all others here.
    pub(super) fn hand_trades_over(&mut self, now: Now, around: &impl Surroundings) {
        if !self.is_trading() {
            return;
        }
        let sent = self.in_flight.iter().any(|entry| matches!(entry.owner, Owner::Trade(_)));
        if sent || (around.is_primary() && !around.hand_primary_over()) {
            // Another session may become idle while these still wait.
            return self.arm(Timer::HandOver, around.hand_over_after());
        }
        self.report(Report::TradesHandedOver);
        let checked = self.in_flight.iter_mut().find_map(|entry| entry.owner.take_unsent_trade());
        for trade in checked.into_iter().chain(self.queue.take_trades()) {
            self.emit(Effect::EndTrade(trade, Err(TradeError::Moved)));
        }
        self.pump(now);
    }

    /// Gives the trades back that were not sent. They never move by themselves.
    pub(super) fn refuse_trades(&mut self) {
        for trade in self.queue.take_trades() {
            self.emit(Effect::RefuseTrade(trade));
        }
    }

    /// Passes the reads on that were not written.
    pub(super) fn move_waiting_reads(&mut self) {
        for call in self.queue.take_reads() {
            self.emit(Effect::Move(call));
        }
    }
}
