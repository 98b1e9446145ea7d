//! The protocol of one trade: key, preparation, intent, sending, result.
//!
//! It runs on a task of its own, so that nothing that a client does changes what becomes of a trade.
//! From the arrival of its request until the moment in which the terminal calls `order_send` it has
//! one budget of time; what is not sent by then is withdrawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::info;

use super::actor::Shared;
use super::build::{self, Prepared, Refused, StopRules};
use super::command::TradeCommand;
use super::journal::{Journal, JournalError};
use super::trade::{Operation, State, Trade, TradeResult};
use super::{now_msc, reconcile};
use crate::clock::BootInstant;
use crate::metrics::Event;
use crate::mt5::{ErrorType, OrderSendResult, Retcode, TradeAction, TradeRequest, Verdict};
use crate::pool::{Account, CallContext, CallError, TradeError, Traded};
use crate::terminal::{Failure, Mode};

/// How often a trade is looked at again that the broker accepted and whose client still waits.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than a hung session keeps its place its answer is waited for.
const PREPARATION_SLACK: f64 = 1.2;

/// How long the name of the position is waited for that a netted deal changed.
const NAME_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a trade has no state to show.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It was refused before it was written down.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was withdrawn before it was sent.
    #[error("{0}")]
    NotSent(Box<NotSent>),
    /// The account may not trade.
    #[error("the account may not trade: set `accounts.{0}.trade = true` to allow it")]
    Disabled(String),
    /// The journal cannot be used, so nothing is sent.
    #[error("nothing is traded without a journal: {0}")]
    NoJournal(String),
    /// Trades from before the start are still being looked for.
    #[error("trades from before the gateway's start are still being looked for")]
    Reconciling,
    /// A trade with this key is under way.
    #[error("a trade with this Idempotency-Key is under way")]
    UnderWay,
    /// The key was used for something else.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The deadline passed while the trade was under way.
    #[error("the deadline passed while the trade was under way")]
    OutcomeUnknown {
        /// Under which its state can be asked for.
        trade_id: String,
    },
    /// An operator's word does not go with what is known.
    #[error("{0}")]
    NotResolvable(String),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Error {
        Error::NoJournal(error.to_string())
    }
}

/// A trade that was withdrawn before it was sent, on its way to its client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct NotSent {
    /// The trade.
    pub trade: Trade,
    /// Why, for the client.
    pub reason: String,
    /// Why it was not sent, if its time was not over.
    pub cause: Option<Cause>,
    /// Where its time went; `None`: another request with the same key made it.
    pub spent: Option<Spent>,
    /// When it may go better; `None`: waiting does not help.
    pub retry_after: Option<Duration>,
}

/// Why a trade was not sent although there was time.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// No terminal took it.
    Call(CallError),
    /// Its intent could not be written.
    Journal(String),
}

/// How a trade's time was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Before its request was complete and checked: the body, the key, reads of the terminal.
    pub preparation: Duration,
    /// Until its intent was on disk.
    pub journal: Duration,
    /// For the terminal.
    pub waiting: Duration,
}

/// A trade as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeReply {
    /// The trade.
    pub trade: Trade,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// What a client is told.
pub type Told = Result<TradeReply, Error>;

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its Idempotency-Key.
    pub key: Option<String>,
    /// When its request arrived.
    pub arrived: BootInstant,
    /// `Send-Within`, at most what the account allows.
    pub send_within: Duration,
    /// Name of the API key.
    pub api_key: Option<String>,
    /// The client's address.
    pub client: Option<String>,
}

/// Whether a trade was answered or its client stopped waiting: one of the two comes first.
#[derive(Debug, Default)]
pub struct Waiting(AtomicU8);

impl Waiting {
    const OPEN: u8 = 0;
    const ANSWERED: u8 = 1;
    const LEFT: u8 = 2;

    fn settle(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The trade's task is about to answer. Gives whether somebody waits.
    pub fn answer(&self) -> bool {
        self.settle(Self::ANSWERED)
    }

    /// The client stops waiting. Gives whether there was no answer yet.
    pub fn leave(&self) -> bool {
        self.settle(Self::LEFT)
    }

    fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::LEFT
    }
}

/// A command on its way.
pub struct Submission {
    pub account: Arc<Account>,
    pub command: TradeCommand,
    pub fingerprint: [u8; 32],
    pub origin: Origin,
    pub trade_id: String,
    pub request_id: Arc<str>,
    /// When its client stops waiting.
    pub deadline: Instant,
    pub waiting: Arc<Waiting>,
    pub reply: oneshot::Sender<Told>,
}

impl Submission {
    fn send_by(&self) -> BootInstant {
        self.origin.arrived + self.origin.send_within
    }

    /// The trade that it is to become.
    pub fn trade(&self) -> Trade {
        let operation = self.command.operation();
        Trade {
            identity: self.account.identity(),
            api_key: self.origin.api_key.clone(),
            client: self.origin.client.clone(),
            idempotency_key: self.origin.key.clone(),
            fingerprint: self.fingerprint,
            ..Trade::new(&self.trade_id, &self.account.name, operation, now_msc())
        }
    }

    /// On whose behalf the terminal is read: not longer than the trade may still be sent.
    fn context(&self) -> CallContext {
        let deadline = Instant::now() + self.send_by().left();
        CallContext { urgent: true, ..CallContext::new(self.request_id.clone(), deadline) }
    }
}

/// Carries a command through and gives what its client is told.
pub async fn run(shared: &Shared, submission: &Submission) -> Told {
    let told = Execution { shared, submission, spent: Spent::default() }.run().await;
    // A client that left would repeat its request: what it was not told is kept for that.
    if let (false, Err(error)) = (submission.waiting.answer(), &told) {
        record_unsent(shared, submission, error).await;
    }
    told
}

/// Settles a trade whose task panicked: without an intent in the journal nothing was sent; with one the
/// reconciler finds out.
pub async fn abandoned(shared: &Shared, submission: &Submission) {
    let Ok(journal) = shared.journal() else {
        return;
    };
    let known = journal.by_id(&submission.account.name, &submission.trade_id).await;
    if matches!(known, Ok(None)) {
        let detail = Some("it was not sent: its task failed".to_owned());
        let trade = Trade { state: State::NotSent, detail, ..submission.trade() };
        shared.finish(&submission.account, trade, &submission.request_id).await;
    }
}

/// Writes down that a trade was not sent, for a client that was told only that its outcome is
/// unknown, or nothing.
async fn record_unsent(shared: &Shared, submission: &Submission, error: &Error) {
    let why = match error {
        Error::Refused(_) | Error::Reconciling | Error::Disabled(_) | Error::NoJournal(_) => {
            error.to_string()
        }
        // Of these the journal has the trade itself, or another one with its key.
        Error::NotSent(_)
        | Error::UnderWay
        | Error::KeyReused
        | Error::OutcomeUnknown { .. }
        | Error::NotResolvable(_) => return,
    };
    let trade = Trade {
        state: State::NotSent,
        detail: Some(format!("it was not sent: {why}")),
        ..submission.trade()
    };
    shared.finish(&submission.account, trade, &submission.request_id).await;
}

struct Execution<'a> {
    shared: &'a Shared,
    submission: &'a Submission,
    spent: Spent,
}

impl Execution<'_> {
    async fn run(mut self) -> Told {
        let Submission { account, origin, request_id, .. } = self.submission;
        let (shared, send_by) = (self.shared, self.submission.send_by());
        let disabled = || Error::Disabled(account.name.clone());
        let journal =
            shared.journal().map_err(|error| if account.trade { error } else { disabled() })?;
        if let Some(key) = &origin.key
            && let Some(told) = self.replay(journal, key).await?
        {
            return told;
        }
        if !account.trade {
            return Err(disabled());
        }
        if !shared.is_reconciled(&account.name) {
            return Err(Error::Reconciling);
        }
        let _live = shared.enter(self.submission.trade());

        let prepared = match self.prepare(journal).await {
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

        let begun = BootInstant::now();
        let inserted = tokio::time::timeout(send_by.left(), journal.insert(trade.clone())).await;
        self.spent.journal = elapsed(begun);
        match inserted {
            Ok(Ok(())) => {}
            // Whether the row is on disk is not known, but that nothing was sent is.
            Ok(Err(error)) => {
                let cause = Cause::Journal(error.to_string());
                return Err(self.not_sent(trade, cause).await);
            }
            Err(_) => return Err(self.too_late(trade).await),
        }
        audit(&trade, "intent", request_id);

        let begun = BootInstant::now();
        let traded = self.send(journal, request, send_by).await;
        self.spent.waiting = elapsed(begun);
        if let Ok(result) = &traded {
            let retcode = Retcode::from_code(result.retcode);
            shared.metrics.record(Event::TradeResult { account: account.id, retcode });
        }
        let trade = match outcome(trade, traded, account.mode()) {
            Outcome::TooLate(trade) => return Err(self.too_late(*trade).await),
            Outcome::NotSent(trade, error) => {
                return Err(self.not_sent(*trade, Cause::Call(error)).await);
            }
            Outcome::Known(trade) => explained(*trade, stop_rules.as_ref()),
        };
        let trade = shared.finish(account, trade, request_id).await;
        let trade = self.name_position(journal, trade).await;
        let trade = self.follow(journal, trade).await;
        Ok(TradeReply { trade, replayed: false })
    }

    /// Sends the request on the primary session, and on its successor if it gave the request back.
    async fn send(&self, journal: &Journal, request: TradeRequest, send_by: BootInstant) -> Traded {
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
            let gate = self.shared.gate(&account.name);
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
    async fn replay(&self, journal: &Journal, key: &str) -> Result<Option<Told>, Error> {
        let Submission { account, fingerprint, .. } = self.submission;
        let found = journal.by_key(&account.identity(), &account.name, key).await?;
        let Some(trade) = found else {
            return Ok(None);
        };
        if trade.state == State::NotSent && trade.told {
            return Ok(None);
        }
        if trade.fingerprint != *fingerprint {
            return Err(Error::KeyReused);
        }
        if self.shared.is_live(&trade.trade_id) {
            return Err(Error::UnderWay);
        }
        if trade.state != State::NotSent {
            return Ok(Some(Ok(TradeReply { trade, replayed: true })));
        }
        // Its client does not know yet that it was not sent. A repetition is a question; only after
        // the answer is a further one an order.
        let reason = trade.detail.clone().unwrap_or_else(|| "it was not sent".to_owned());
        let not_sent =
            NotSent { trade, reason, cause: None, spent: None, retry_after: Some(Duration::ZERO) };
        Ok(Some(Err(Error::NotSent(Box::new(not_sent)))))
    }

    /// Reads what the request needs. Where another session could take over from a primary that hangs,
    /// its answer is waited for so long only; the second try is made on whoever is the primary then.
    async fn prepare(&self, journal: &Journal) -> Result<Prepared, Error> {
        let account = &self.submission.account;
        let mut context = self.submission.context();
        if account.has_several_sessions() {
            let soon = Instant::now() + account.hand_over_after().mul_f64(PREPARATION_SLACK);
            let whole = std::mem::replace(&mut context.deadline, soon);
            if soon < whole {
                match self.prepare_once(journal, &context).await {
                    Err(Error::Refused(Refused::Call(CallError::DeadlinePassed))) => {}
                    prepared => return prepared,
                }
            }
            context.deadline = whole;
        }
        self.prepare_once(journal, &context).await
    }

    async fn prepare_once(
        &self,
        journal: &Journal,
        context: &CallContext,
    ) -> Result<Prepared, Error> {
        let Submission { account, command, .. } = self.submission;
        let gate = self.shared.gate(&account.name);
        gate.ensure_complete(account, journal, context).await.map_err(Refused::from)?;
        let tag = self.shared.options.tag;
        Ok(build::prepare(account, command, context, tag).await?)
    }

    /// Withdraws a trade whose last moment has come.
    async fn too_late(&self, trade: Trade) -> Error {
        let Spent { preparation, journal, waiting } = self.spent;
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
    async fn not_sent(&self, trade: Trade, cause: Cause) -> Error {
        let reason = match &cause {
            Cause::Call(error) => format!("it was not sent: {error}"),
            Cause::Journal(detail) => format!("nothing is traded without a journal: {detail}"),
        };
        let trade = self.withdraw(trade, &reason).await;
        let (cause, spent) = (Some(cause), Some(self.spent));
        Error::NotSent(Box::new(NotSent { trade, reason, cause, spent, retry_after: None }))
    }

    async fn withdraw(&self, trade: Trade, reason: &str) -> Trade {
        let trade = Trade { state: State::NotSent, detail: Some(reason.to_owned()), ..trade };
        let Submission { account, request_id, .. } = self.submission;
        self.shared.finish(account, trade, request_id).await
    }

    /// Adds the position that a deal opened or changed, where the answer does not say it.
    async fn name_position(&self, journal: &Journal, mut trade: Trade) -> Trade {
        let account = &self.submission.account;
        let (Some(request), Some(result)) = (&trade.request, &mut trade.result) else {
            return trade;
        };
        if trade.state != State::Executed || result.position != 0 {
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
            let _ = journal.settle(trade.clone()).await;
        }
        trade
    }

    /// Waits for what becomes of an order that the broker has accepted, as long as the client does.
    async fn follow(&self, journal: &Journal, mut trade: Trade) -> Trade {
        let Submission { account, waiting, deadline, .. } = self.submission;
        while trade.state == State::Unknown
            && trade.accepted_order != 0
            && !waiting.has_left()
            && Instant::now() < *deadline
        {
            // From here on the reconciler is the one that decides.
            self.shared.leave(&trade.trade_id);
            self.shared.watch(&account.name, &trade.trade_id, FOLLOW_INTERVAL).await;
            match journal.by_id(&account.name, &trade.trade_id).await {
                Ok(Some(present)) => trade = present,
                _ => return trade,
            }
        }
        trade
    }
}

fn elapsed(since: BootInstant) -> Duration {
    BootInstant::now().saturating_duration_since(since)
}

/// What is known of a trade after it was handed to a session.
enum Outcome {
    /// What came of it, or that nobody knows.
    Known(Box<Trade>),
    /// It was not sent in time.
    TooLate(Box<Trade>),
    /// It certainly did not reach its broker.
    NotSent(Box<Trade>, CallError),
}

fn outcome(trade: Trade, traded: Traded, mode: Mode) -> Outcome {
    let unknown = |trade: Trade, detail: String, may_arrive: bool| {
        let may_arrive = may_arrive && mode == Mode::Live;
        let detail = Some(detail);
        Outcome::Known(Box::new(Trade { state: State::Unknown, detail, may_arrive, ..trade }))
    };
    match traded {
        Ok(result) => Outcome::Known(Box::new(answered(trade, &result))),
        Err(TradeError::Withdrawn) => Outcome::TooLate(Box::new(trade)),
        Err(TradeError::NotSent(error)) => Outcome::NotSent(Box::new(trade), error),
        Err(TradeError::Failed(Failure::Mt5(error))) => match error.error_type() {
            // The terminal took the request and has not answered: it may still deliver it.
            ErrorType::IpcTimeout | ErrorType::IpcReceive | ErrorType::IpcInternal => {
                unknown(trade, error.to_string(), true)
            }
            _ => unknown(trade, error.to_string(), false),
        },
        // An exception is no answer: behind a bridge the terminal may live and deliver.
        Err(TradeError::Failed(failure)) => unknown(trade, failure.to_string(), true),
        // Given back by a session that did not write it; whoever sends tries another one.
        Err(TradeError::Moved) => {
            Outcome::NotSent(Box::new(trade), CallError::NotReady(Duration::from_secs(1)))
        }
        Err(TradeError::Unanswered(detail)) => unknown(trade, detail, true),
    }
}

/// What the broker's answer says.
fn answered(trade: Trade, result: &OrderSendResult) -> Trade {
    let retcode = Retcode::from_code(result.retcode);
    let request = trade.request.as_ref();
    let action = request.and_then(|request| TradeAction::from_value(request.action));
    let requested = request.map_or(0.0, |request| request.volume);
    let known = |state| {
        let answered = Some(TradeResult::answered(result));
        Trade { state, result: answered, ..trade.clone() }
    };
    let open = || {
        let detail = format!("the broker answered {} ({})", result.retcode, retcode.name());
        Trade {
            state: State::Unknown,
            accepted_order: result.order,
            detail: Some(detail),
            ..trade.clone()
        }
    };
    let deals = action == Some(TradeAction::Deal);
    match retcode.verdict() {
        // Of a deal the answer may be about its first part only; what its order made, deals say.
        Verdict::Executed if deals => {
            let whole = result.deal != 0 && result.volume > requested - 1e-9;
            if whole { known(State::Executed) } else { open() }
        }
        Verdict::Executed => known(State::Executed),
        // A pending order is placed by that.
        Verdict::Provisional if action == Some(TradeAction::Pending) && result.order != 0 => {
            known(State::Executed)
        }
        Verdict::Provisional | Verdict::Unknown => open(),
        Verdict::Refused if result.deal != 0 => open(),
        Verdict::Refused => known(State::Refused),
    }
}

/// A refusal of stops with what the symbol allows.
fn explained(trade: Trade, stop_rules: Option<&StopRules>) -> Trade {
    let stops = trade.result.as_ref().is_some_and(|result| {
        trade.state == State::Refused && result.retcode == Retcode::InvalidStops.code()
    });
    match (stop_rules, &trade.request) {
        (Some(rules), Some(request)) if stops => {
            let detail = Some(rules.explain(request));
            Trade { detail, ..trade }
        }
        _ => trade,
    }
}

/// One line for each thing that happens to a trade. Comments may be private and
/// are not among the fields.
pub fn audit(trade: &Trade, event: &str, request_id: &str) {
    let request = trade.request.as_ref();
    let result = trade.result.as_ref();
    info!(
        target: "mt5_gateway::trading",
        event,
        trade_id = trade.trade_id,
        account = trade.account,
        operation = trade.operation.name(),
        symbol = request.map(|request| request.symbol.as_str()),
        r#type = request.map(|request| request.r#type),
        volume = request.map(|request| request.volume),
        price = request.map(|request| request.price),
        position = request.map(|request| request.position),
        retcode = result.map(|result| result.retcode),
        order = result.map(|result| result.order),
        deal = result.map(|result| result.deal),
        detail = trade.detail,
        api_key = trade.api_key,
        client = trade.client,
        resolved_by = trade.resolved_by,
        request_id,
        "trade"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::Error as Mt5Error;

    fn trade(action: TradeAction) -> Trade {
        let request =
            TradeRequest { action: action.value(), volume: 0.3, ..TradeRequest::default() };
        Trade { request: Some(request), ..Trade::new("id", "demo", Operation::Place, 0) }
    }

    fn result(retcode: i64, order: u64, deal: u64, volume: f64) -> OrderSendResult {
        OrderSendResult { retcode, order, deal, volume, ..OrderSendResult::default() }
    }

    #[test]
    fn an_answer_is_final_only_if_it_says_all() {
        use TradeAction::{Deal, Modify, Pending, Remove, Sltp};
        let cases = [
            (Deal, result(10009, 7, 8, 0.3), State::Executed, 0),
            // The first part of several, no deal yet, accepted, partly done.
            (Deal, result(10009, 7, 8, 0.1), State::Unknown, 7),
            (Deal, result(10009, 7, 0, 0.3), State::Unknown, 7),
            (Deal, result(10009, 0, 0, 0.3), State::Unknown, 0),
            (Deal, result(10008, 7, 0, 0.3), State::Unknown, 7),
            (Deal, result(10010, 7, 8, 0.2), State::Unknown, 7),
            (Pending, result(10008, 7, 0, 0.3), State::Executed, 0),
            (Pending, result(10009, 7, 0, 0.3), State::Executed, 0),
            (Sltp, result(10009, 0, 0, 0.0), State::Executed, 0),
            (Sltp, result(10025, 0, 0, 0.0), State::Executed, 0),
            (Modify, result(10008, 7, 0, 0.0), State::Unknown, 7),
            (Remove, result(10023, 0, 0, 0.0), State::Unknown, 0),
            (Deal, result(10019, 0, 0, 0.0), State::Refused, 0),
            // A deal beside a refusal contradicts it.
            (Deal, result(10019, 7, 8, 0.1), State::Unknown, 7),
            (Deal, result(10012, 0, 0, 0.0), State::Unknown, 0),
            (Deal, result(10011, 0, 0, 0.0), State::Unknown, 0),
            (Deal, result(12345, 0, 0, 0.0), State::Unknown, 0),
        ];
        for (action, result, state, accepted) in cases {
            let answered = answered(trade(action), &result);
            assert_eq!((answered.state, answered.accepted_order), (state, accepted), "{result:?}");
        }
    }

    #[test]
    fn what_a_silent_terminal_was_given_may_still_arrive() {
        let failed = |code| TradeError::Failed(Failure::Mt5(Mt5Error::new(code, "")));
        let cases = [
            (TradeError::Unanswered(String::new()), Some(true)),
            (failed(-10005), Some(true)),
            (failed(-10002), Some(true)),
            (failed(-10001), Some(false)),
            (failed(-1), Some(false)),
            (failed(-8), Some(false)),
            (failed(-2), Some(false)),
            (TradeError::Failed(Failure::Unusable(String::new())), Some(true)),
            (TradeError::NotSent(CallError::QueueFull), None),
            (TradeError::Withdrawn, None),
        ];
        for (error, expected) in cases {
            for mode in [Mode::Live, Mode::Simulated] {
                let name = format!("{error:?}");
                let known = match outcome(trade(TradeAction::Deal), Err(error.clone()), mode) {
                    Outcome::Known(trade) => {
                        assert_eq!(trade.state, State::Unknown, "{name}");
                        Some(trade.may_arrive)
                    }
                    Outcome::TooLate(_) | Outcome::NotSent(..) => None,
                };
                let expected = expected.map(|arrives| arrives && mode == Mode::Live);
                assert_eq!(known, expected, "{name}");
            }
        }
    }
}
