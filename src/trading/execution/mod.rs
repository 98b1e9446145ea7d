//! The protocol of one trade: key, preparation, intent, sending, result.
//!
//! An execution runs on a task of its own, so a client that hangs up does not change what becomes of its
//! trade. It has one budget of time, from the arrival of the request until the worker calls `order_send`. A
//! trade that is not sent by then is withdrawn.

mod outcome;
mod submission;

use std::time::Duration;

#[cfg(test)]
use futures_util::FutureExt;
use tokio::time::Instant;

use self::outcome::{Outcome, explained, outcome};
use super::audit::audit;
use super::build::{self, Prepared, Refused};
use super::identifiers::IdempotencyKey;
use super::journal::Journal;
use super::ledger::Ledger;
use super::reconcile::{self, Gate};
use super::reply::{Error, NotSent, NotSentCause, TimeSpent, TradeReply};
use super::trade::{Operation, Trade, TradeState};
use crate::clock::BootInstant;
use crate::metrics::Event;
use crate::mt5::{Retcode, TradeRequest, calls};
use crate::pool::{CallContext, CallError, TradeBlock, TradeError, TradeFlags, TradeOutcome};

pub use self::submission::{ClientWait, Origin, Submission};

/// From one look at an order that the broker has accepted to the next, while the client waits.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// How long to wait for a primary that hangs, as a multiple of the time after which it hands over.
const PREPARATION_SLACK: f64 = 1.2;

/// How long to search for the position that a deal changed on a netting account.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries a command through and gives what its client is told.
pub async fn run(ledger: &Ledger, submission: &Submission) -> Result<TradeReply, Error> {
    let reply = Execution { ledger, submission, spent: TimeSpent::default() }.run().await;
    // A client that left will repeat its request, which then finds what it was not told.
    if let (false, Err(error)) = (submission.client.answer(), &reply) {
        record_unsent(ledger, submission, error);
    }
    reply
}

/// Settles a trade whose execution panicked: it was not sent unless its intent is on disk, and then the
/// reconciler finds out.
pub fn settle_panicked(ledger: &Ledger, submission: &Submission) {
    #[cfg(test)]
    let _ = ledger.faults.reached(Moment::Settling).now_or_never();
    finish_unsent(ledger, submission, "it was not sent: its execution failed".to_owned());
    ledger.wake_reconciler(&submission.account.name, &submission.trade_id);
}

/// Writes down that a trade was not sent, for a client that was told only that its outcome is
/// unknown, or nothing.
pub fn record_unsent(ledger: &Ledger, submission: &Submission, error: &Error) {
    match error {
        Error::Refused(_)
        | Error::Paused
        | Error::Reconciling
        | Error::NotAllowed(_)
        | Error::NoJournal(_) => {
            finish_unsent(ledger, submission, format!("it was not sent: {error}"));
        }
        // Of these the journal has the trade itself, or another one with its key.
        Error::NotSent(_)
        | Error::UnderWay
        | Error::KeyReused
        | Error::KeyOfSimulation
        | Error::OutcomeUnknown { .. }
        | Error::NotResolvable(_) => {}
    }
}

fn finish_unsent(ledger: &Ledger, submission: &Submission, detail: String) {
    let trade = Trade { state: TradeState::NotSent, detail: Some(detail), ..submission.trade() };
    ledger.record_unsent(&submission.account, trade, submission.request_id.clone());
}

struct Execution<'a> {
    ledger: &'a Ledger,
    submission: &'a Submission,
    spent: TimeSpent,
}

impl Execution<'_> {
    async fn run(mut self) -> Result<TradeReply, Error> {
        let Submission { account, origin, request_id, .. } = self.submission;
        let (ledger, send_by) = (self.ledger, self.submission.send_by());
        let disabled = || Error::NotAllowed(vec![TradeBlock::AccountSetting]);
        let journal =
            ledger.journal().map_err(|error| if account.trade { error } else { disabled() })?;
        if let Some(key) = &origin.key
            && let Some(told) = self.replay(journal, key).await?
        {
            return told;
        }
        if !account.door.is_open() {
            return Err(Error::Paused);
        }
        if !account.trade {
            return Err(disabled());
        }
        let Some(of_account) = ledger.account(&account.name) else {
            return Err(Error::Paused);
        };
        if !of_account.gate.is_reconciled() {
            return Err(Error::Reconciling);
        }
        let _deciding = ledger.executions.decide(self.submission.trade());

        let gate = &of_account.gate;
        let prepared = match self.prepare(journal, gate).await {
            Err(Error::Refused(Refused::Call(CallError::DeadlinePassed))) => {
                self.spent.preparation = elapsed(origin.arrived);
                return Err(self.too_late(self.submission.trade()).await);
            }
            prepared => prepared?,
        };
        self.spent.preparation = elapsed(origin.arrived);
        let request = prepared.request.clone();
        let stop_rules = prepared.stop_rules.clone();
        let trade = prepared.into_trade(self.submission.trade(), account);

        self.reached(Moment::Prepared).await;
        let begun = BootInstant::now();
        let inserted = tokio::time::timeout(send_by.left(), journal.insert(trade.clone())).await;
        self.spent.journal = elapsed(begun);
        match inserted {
            Ok(Ok(())) => {}
            // Whether the row is on disk is not known, but that nothing was sent is.
            Ok(Err(error)) => {
                let cause = NotSentCause::Journal(error.to_string());
                return Err(self.not_sent(trade, cause).await);
            }
            Err(_) => return Err(self.too_late(trade).await),
        }
        audit(&trade, "intent", request_id);
        self.reached(Moment::IntentWritten).await;

        let begun = BootInstant::now();
        let traded = self.send(journal, gate, request, send_by).await;
        self.spent.waiting = elapsed(begun);
        self.reached(Moment::Answered).await;
        if let Ok(result) = &traded {
            let retcode = Retcode::from_code(result.retcode);
            ledger.metrics.record(Event::TradeResult { account: account.id, retcode });
        }
        let trade = match outcome(trade, traded, account.mode()) {
            Outcome::TooLate(trade) => return Err(self.too_late(*trade).await),
            Outcome::NotSent(trade, error) => {
                return Err(self.not_sent(*trade, NotSentCause::Call(error)).await);
            }
            Outcome::Known(trade) => explained(*trade, stop_rules.as_ref()),
        };
        let trade = ledger.finish(account, trade, request_id.clone()).await;
        let trade = self.name_position(journal, trade).await;
        let trade = self.follow(journal, trade).await;
        Ok(TradeReply { trade, replayed: false })
    }

    /// Sends the request on the primary session, and on its successor if it gave the request back.
    async fn send(
        &self,
        journal: &Journal,
        gate: &Gate,
        request: TradeRequest,
        send_by: BootInstant,
    ) -> TradeOutcome {
        let account = &self.submission.account;
        loop {
            let traded = account.trade(request.clone(), send_by).await;
            if traded != Err(TradeError::Moved) {
                return traded;
            }
            if send_by.has_passed() {
                return Err(TradeError::Withdrawn);
            }
            // The new primary has to know what the journal knows.
            let context = self.submission.context();
            let known = gate.ensure_complete(account, journal, &context).await;
            if let Err(error) = known {
                return Err(match error {
                    CallError::DeadlinePassed => TradeError::Withdrawn,
                    error => TradeError::NotSent(error),
                });
            }
        }
    }

    /// What an earlier request with the key came to. `None`: the key is free.
    async fn replay(
        &self,
        journal: &Journal,
        key: &IdempotencyKey,
    ) -> Result<Option<Result<TradeReply, Error>>, Error> {
        let Submission { account, fingerprint, .. } = self.submission;
        let found = journal.by_key(&account.identity(), &account.name, key).await?;
        let Some(trade) = found else {
            return Ok(None);
        };
        if trade.state == TradeState::NotSent && trade.told {
            return Ok(None);
        }
        if account.was_simulated(&trade.identity) {
            return Err(Error::KeyOfSimulation);
        }
        if trade.fingerprint != *fingerprint {
            return Err(Error::KeyReused);
        }
        if self.ledger.executions.is_deciding(&trade.trade_id) {
            return Err(Error::UnderWay);
        }
        if trade.state != TradeState::NotSent {
            return Ok(Some(Ok(TradeReply { trade, replayed: true })));
        }
        // Its client does not know yet that it was not sent. A repetition is a question; only after
        // the answer is a further one an order.
        let reason = trade.detail.clone().unwrap_or_else(|| "it was not sent".to_owned());
        let not_sent =
            NotSent { trade, reason, cause: None, spent: None, retry_after: Some(Duration::ZERO) };
        Ok(Some(Err(Error::NotSent(Box::new(not_sent)))))
    }

    /// Reads what the request needs. With several sessions, a primary that hangs hands over soon, and a
    /// second attempt is made on its successor.
    async fn prepare(&self, journal: &Journal, gate: &Gate) -> Result<Prepared, Error> {
        let account = &self.submission.account;
        let mut context = self.submission.context();
        if account.has_several_sessions() {
            let soon = Instant::now() + account.hand_over_after().mul_f64(PREPARATION_SLACK);
            let whole = std::mem::replace(&mut context.deadline, soon);
            if soon < whole {
                match self.prepare_once(journal, gate, &context).await {
                    Err(Error::Refused(Refused::Call(CallError::DeadlinePassed))) => {}
                    prepared => return prepared,
                }
            }
            context.deadline = whole;
        }
        self.prepare_once(journal, gate, &context).await
    }

    async fn prepare_once(
        &self,
        journal: &Journal,
        gate: &Gate,
        context: &CallContext,
    ) -> Result<Prepared, Error> {
        let Submission { account, command, .. } = self.submission;
        self.ensure_allowed(context).await?;
        gate.ensure_complete(account, journal, context).await.map_err(Refused::from)?;
        let tag = self.ledger.options.tag;
        Ok(build::prepare(account, command, context, tag).await?)
    }

    /// Refuses a trade that the terminal would refuse, if the terminal still shows what the last probe
    /// showed: somebody may have switched trading on since.
    async fn ensure_allowed(&self, context: &CallContext) -> Result<(), Error> {
        let account = &self.submission.account;
        if account.trade_blocks().iter().all(|block| *block == TradeBlock::NotConnected) {
            return Ok(());
        }
        let terminal = account.call_raw(calls::TerminalInfo {}, context);
        let terminal = terminal.await.map_err(Refused::from)?;
        let info = account.call_raw(calls::AccountInfo {}, context);
        let info = info.await.map_err(Refused::from)?;
        let blocks = TradeFlags::of(&terminal, &info).blocks();
        if blocks.is_empty() { Ok(()) } else { Err(Error::NotAllowed(blocks)) }
    }

    /// Withdraws a trade whose last moment has come.
    async fn too_late(&self, trade: Trade) -> Error {
        let TimeSpent { preparation, journal, waiting } = self.spent;
        let [preparation, journal, waiting] =
            [preparation, journal, waiting].map(|spent| spent.as_secs_f64());
        let within = self.submission.origin.send_within;
        let reason = format!(
            "it could not be sent within {within:?} of its arrival and was withdrawn: preparation took \
             {preparation:.1} s, the journal {journal:.1} s, waiting for the terminal {waiting:.1} s"
        );
        let trade = self.withdraw(trade, &reason).await;
        let retry_after = Some(self.submission.account.ready_in());
        let spent = Some(self.spent);
        Error::NotSent(Box::new(NotSent { trade, reason, cause: None, spent, retry_after }))
    }

    /// Withdraws a trade that could not be sent although there was time.
    async fn not_sent(&self, trade: Trade, cause: NotSentCause) -> Error {
        let reason = match &cause {
            NotSentCause::Call(error) => format!("it was not sent: {error}"),
            NotSentCause::Journal(detail) => {
                format!("nothing is traded without a journal: {detail}")
            }
        };
        let trade = self.withdraw(trade, &reason).await;
        let (cause, spent) = (Some(cause), Some(self.spent));
        Error::NotSent(Box::new(NotSent { trade, reason, cause, spent, retry_after: None }))
    }

    async fn withdraw(&self, trade: Trade, reason: &str) -> Trade {
        let trade = Trade { state: TradeState::NotSent, detail: Some(reason.to_owned()), ..trade };
        let Submission { account, request_id, .. } = self.submission;
        self.ledger.finish(account, trade, request_id.clone()).await
    }

    /// Adds the position that a deal opened or changed, where the answer does not say it.
    async fn name_position(&self, journal: &Journal, mut trade: Trade) -> Trade {
        let Submission { account, request_id, .. } = self.submission;
        let (Some(request), Some(result)) = (&trade.request, &mut trade.result) else {
            return trade;
        };
        if trade.state != TradeState::Executed || result.position != 0 {
            return trade;
        }
        let closes = request.position != 0;
        result.position = if closes {
            request.position
        } else if trade.operation != Operation::Place || result.deal == 0 {
            0
        } else if account.is_hedging() {
            result.order
        } else {
            let context = CallContext::internal("position", NAME_TIMEOUT);
            reconcile::position_of(account, result.order, &context).await.unwrap_or_default()
        };
        if result.position != 0 {
            let _ = journal.settle(account.id, trade.clone(), request_id.clone()).await;
        }
        trade
    }

    /// Gives tests the opportunity to fail the execution at a moment.
    async fn reached(&self, moment: Moment) {
        #[cfg(test)]
        self.ledger.faults.reached(moment).await;
        #[cfg(not(test))]
        let _ = moment;
    }

    /// Waits for what becomes of an order that the broker has accepted, as long as the client does.
    async fn follow(&self, journal: &Journal, mut trade: Trade) -> Trade {
        let Submission { account, client, deadline, .. } = self.submission;
        while trade.state == TradeState::Unknown
            && trade.accepted_order != 0
            && !client.has_left()
            && Instant::now() < *deadline
        {
            // From here on the reconciler is the one that decides.
            self.ledger.executions.leave(&trade.trade_id);
            self.ledger.wait_for_settlement(&account.name, &trade.trade_id, FOLLOW_INTERVAL).await;
            match journal.by_id(&account.name, &trade.trade_id).await {
                Ok(Some(present)) => trade = present,
                _ => return trade,
            }
        }
        trade
    }
}

/// A moment of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is on disk.
    Prepared,
    /// The intent is on disk, and no terminal has the trade.
    IntentWritten,
    /// The broker has answered, and the journal does not know.
    Answered,
    /// It has panicked, and the journal does not know.
    #[cfg(test)]
    Settling,
}

fn elapsed(since: BootInstant) -> Duration {
    BootInstant::now().saturating_duration_since(since)
}
