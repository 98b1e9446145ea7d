//! The protocol of one trade: key, preparation, intent, sending, result.
//!
//! An execution runs on a task of its own, so a client that hangs up does not change what becomes of its
//! trade. It has one budget of time, from the arrival of the request until the worker calls `order_send`. A
//! trade that is not sent by then is withdrawn.

mod outcome;
mod submission;

use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
use futures_util::FutureExt;
use tokio::time::Instant;

use self::outcome::{Outcome, explained, outcome};
use super::audit::audit;
use super::build::{self, Exposure, Prepared, Refused};
use super::command::TradeCommand;
use super::identifiers::IdempotencyKey;
use super::journal::Journal;
use super::ledger::{AccountLedger, Ledger};
use super::reconcile::{self, Gate};
use super::reply::{Error, NotSent, NotSentCause, TimeSpent, TradeReply};
use super::trade::{Operation, Trade, TradeState};
use crate::clock::BootInstant;
use crate::metrics::Event;
use crate::mt5::{OrderCheckResult, Retcode, TradeAction, TradeRequest, calls};
use crate::pool::{
    Account, CallContext, CallError, LastCheck, TradeBlock, TradeError, TradeFlags, TradeOutcome,
};

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

/// What a command would be sent as.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// The request. Times are the server's.
    pub request: TradeRequest,
    /// What the terminal says about it. `None`: MT5 does not check closing by another position.
    pub check: Option<OrderCheckResult>,
}

/// Does all that an execution does before the intent is written, and sends nothing.
pub async fn rehearse(ledger: &Ledger, submission: &Submission) -> Result<Rehearsal, Error> {
    let execution = Execution { ledger, submission, spent: TimeSpent::default() };
    let journal = journal(ledger, &submission.account)?;
    let of_account = execution.account_that_trades()?;
    if ledger.journal_is_lost() {
        let lost = "its file is not the one that was opened; the log says what happened to it";
        return Err(Error::NoJournal(lost.to_owned()));
    }
    let Prepared { request, .. } = execution.prepare(journal, &of_account.gate).await?;
    if request.action == TradeAction::CloseBy.value() {
        return Ok(Rehearsal { request, check: None });
    }
    let check = calls::OrderCheck { request: Box::new(request.clone()) };
    let check = submission.account.call_raw(check, &submission.context()).await;
    Ok(Rehearsal { request, check: Some(*check.map_err(Refused::from)?) })
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
        let journal = journal(ledger, account)?;
        if let Some(key) = &origin.key
            && let Some(told) = self.replay(journal, key).await?
        {
            return told;
        }
        let of_account = self.account_that_trades()?;
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
        let check = self.last_check(prepared.exposure);
        let _sent = ledger.halts.forgetting(account.id, self.submission.trade_id.clone());
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
        let traded = self.send(journal, gate, request, check).await;
        self.spent.waiting = elapsed(begun);
        self.reached(Moment::Answered).await;
        if let Ok(result) = &traded {
            let retcode = Retcode::from_code(result.retcode);
            ledger.metrics.record(Event::TradeResult { account: account.id, retcode });
        }
        let trade = match outcome(trade, traded, account.mode()) {
            Outcome::TooLate(trade) => return Err(self.too_late(*trade).await),
            Outcome::HeldBack(trade) => {
                return Err(self.not_sent(*trade, NotSentCause::Halted).await);
            }
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

    /// What is known of the account, if it takes trades.
    fn account_that_trades(&self) -> Result<Arc<AccountLedger>, Error> {
        let account = &self.submission.account;
        if !account.door.is_open() {
            return Err(Error::Paused);
        }
        if !account.trade {
            return Err(not_configured());
        }
        let of_account = self.ledger.account(&account.name).ok_or(Error::Paused)?;
        if !of_account.gate.is_reconciled() {
            return Err(Error::Reconciling);
        }
        Ok(of_account)
    }

    /// Sends the request on the primary session, and on its successor if it gave the request back.
    async fn send(
        &self,
        journal: &Journal,
        gate: &Gate,
        request: TradeRequest,
        check: LastCheck,
    ) -> TradeOutcome {
        let (account, send_by) = (&self.submission.account, self.submission.send_by());
        loop {
            let traded = account.trade(request.clone(), send_by, check.clone()).await;
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
        let prepared = build::prepare(account, command, context, tag).await?;
        self.ensure_may_open(prepared, context).await
    }

    /// Refuses an opening trade of a halted account. On a netting account one that is against a position is made
    /// one that closes it.
    async fn ensure_may_open(
        &self,
        prepared: Prepared,
        context: &CallContext,
    ) -> Result<Prepared, Error> {
        let Submission { account, command, .. } = self.submission;
        if prepared.exposure == Exposure::Reduces || !self.ledger.halts.is_halted(account) {
            return Ok(prepared);
        }
        if let (Exposure::DependsOnPosition, TradeCommand::Place(order)) =
            (prepared.exposure, command)
        {
            let tag = self.ledger.options.tag;
            let closing = build::prepare_as_closing(account, order, context, tag).await?;
            if let Some(closing) = closing {
                return Ok(closing);
            }
        }
        Err(Error::NotAllowed(vec![TradeBlock::Halted]))
    }

    /// What a session asks before it sends the trade: whether a halt holds it back.
    fn last_check(&self, exposure: Exposure) -> LastCheck {
        if exposure == Exposure::Reduces {
            return LastCheck::none();
        }
        let Submission { account, trade_id, .. } = self.submission;
        let (halts, account, trade_id) =
            (self.ledger.halts.clone(), account.clone(), trade_id.clone());
        LastCheck::new(move || halts.pass(&account, &trade_id))
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
            NotSentCause::Halted => format!(
                "it was not sent, because the halt came first: {}. An order that only closes can be sent again",
                TradeBlock::Halted.remedy()
            ),
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

/// The journal. An account that is not to trade is told that, whatever the journal.
fn journal<'a>(ledger: &'a Ledger, account: &Account) -> Result<&'a Journal, Error> {
    ledger.journal().map_err(|error| if account.trade { error } else { not_configured() })
}

fn not_configured() -> Error {
    Error::NotAllowed(vec![TradeBlock::AccountSetting])
}

fn elapsed(since: BootInstant) -> Duration {
    BootInstant::now().saturating_duration_since(since)
}
