//! The answer to a client, from the execution to the network.
//!
//! A key is free again only for a client that knows that its trade was not sent. So an answer that gets lost
//! on the way is written down: a client that hung up, a connection that broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::execution::{self, Submission};
use super::ledger::Ledger;
use super::reply::{Error, TradeReply};

/// What a client is told about its trade, on its way. Unless [`confirm`](Delivery::confirm) is called before
/// this is dropped, the client has learned nothing: a refusal is then recorded as not sent. Every other answer
/// is in the journal already.
pub struct Delivery {
    ledger: Arc<Ledger>,
    submission: Arc<Submission>,
    answer: oneshot::Receiver<Result<TradeReply, Error>>,
    /// The error that the client is told, once there is one.
    error: Option<Error>,
    confirmed: AtomicBool,
}

impl Delivery {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        submission: Arc<Submission>,
        answer: oneshot::Receiver<Result<TradeReply, Error>>,
    ) -> Delivery {
        let confirmed = AtomicBool::new(false);
        Delivery { ledger, submission, answer, error: None, confirmed }
    }

    /// Waits for the execution's answer, until the client's deadline.
    pub(super) async fn wait(&mut self) -> Result<TradeReply, Error> {
        let Submission { client, deadline, trade_id, origin, .. } = &*self.submission;
        let executions = &self.ledger.executions;
        let unknown = || {
            let has_trade = origin.key.is_none() || executions.is_deciding(trade_id);
            Error::OutcomeUnknown { trade_id: has_trade.then(|| trade_id.clone()) }
        };
        let answered = match tokio::time::timeout_at(*deadline, &mut self.answer).await {
            Ok(answered) => answered,
            Err(_) if client.leave() => return Err(unknown()),
            // The execution decided to answer first: the answer is on its way.
            Err(_) => (&mut self.answer).await,
        };
        match answered {
            Ok(answer) => answer,
            // The actor failed before it took the submission, so that nothing was sent.
            Err(_) if !client.was_admitted() => Err(actor_is_restarting()),
            Err(_) => Err(unknown()),
        }
    }

    /// Notes the answer that is on its way from here on.
    pub(super) fn set_answer(&mut self, answer: &Result<TradeReply, Error>) {
        self.error = answer.as_ref().err().cloned();
    }

    /// The client has the answer. If its trade was withdrawn, its key is free again.
    pub fn confirm(&self) {
        let was_confirmed = self.confirmed.swap(true, Ordering::AcqRel);
        if let (false, Some(Error::NotSent(not_sent))) = (was_confirmed, &self.error)
            && let Ok(journal) = self.ledger.journal()
        {
            journal.note_told(not_sent.trade.trade_id.clone());
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if *self.confirmed.get_mut() {
            return;
        }
        let lost = self.error.take().or_else(|| {
            // An execution that has not answered yet learns here that nobody listens.
            if self.submission.client.leave() {
                return None;
            }
            // It has. Either its answer is here already, or it learns by this that it comes too late.
            self.answer.close();
            self.answer.try_recv().ok()?.err()
        });
        if let Some(error) = lost {
            execution::record_unsent(&self.ledger, &self.submission, &error);
        }
    }
}

pub(super) fn actor_is_restarting() -> Error {
    Error::NoJournal("the trading actor is being restarted".to_owned())
}
