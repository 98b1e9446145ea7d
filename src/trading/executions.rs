//! Which trades are under way.
//!
//! The trading actor admits and ends executions. What it knows of them is here, and not in its state,
//! because it must outlive the actor: a key stays under way, and an execution goes on, while the actor is
//! being restarted. The locks are held for a lookup, never for work.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::execution::Submission;
use super::identifiers::{IdempotencyKey, TradeId};
use super::reply::{Error, TradeReply};
use super::trade::Trade;
use crate::account_name::AccountName;
use crate::metrics::AccountId;
use crate::pool::TradeUnderWay;

/// Where the answer to a client goes.
pub type Reply = oneshot::Sender<Result<TradeReply, Error>>;

/// An execution that has ended.
pub struct End {
    pub submission: Arc<Submission>,
    /// What its client is told; `None`: the execution panicked.
    pub reply: Option<Result<TradeReply, Error>>,
}

/// A client's key at an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReservedKey {
    account: AccountName,
    key: IdempotencyKey,
}

#[derive(Default)]
pub struct Executions {
    state: Mutex<State>,
    /// Notified when an execution is removed.
    idle: Notify,
}

#[derive(Default)]
struct State {
    under_way: HashMap<TradeId, UnderWay>,
    /// Keys of trades that are under way, with the fingerprint of their command.
    keys: HashMap<ReservedKey, [u8; 32]>,
    /// Ends that the actor has not looked at. A message to an actor that fails is lost, these are not.
    ended: VecDeque<End>,
}

struct UnderWay {
    account: AccountId,
    /// Keeps the account's terminals from being recycled.
    _trade: TradeUnderWay,
    key: Option<ReservedKey>,
    /// `None`: it was answered.
    reply: Option<Reply>,
    /// The trade, as it began, while its execution decides about it.
    decides: Option<Trade>,
}

impl Executions {
    /// Reserves a submission's key.
    ///
    /// # Errors
    /// If a trade with its key is under way. Gives the reply back.
    pub fn admit(&self, submission: &Submission, reply: Reply) -> Result<(), (Error, Reply)> {
        let mut state = self.state.lock();
        let name = &submission.account.name;
        let key = submission.origin.key.clone();
        let key = key.map(|key| ReservedKey { account: name.clone(), key });
        if let Some(key) = &key {
            if let Some(other) = state.keys.get(key) {
                let same = *other == submission.fingerprint;
                return Err((if same { Error::UnderWay } else { Error::KeyReused }, reply));
            }
            state.keys.insert(key.clone(), submission.fingerprint);
        }
        let account = submission.account.id;
        let trade = submission.account.begin_trade();
        let under_way = UnderWay { account, _trade: trade, key, reply: Some(reply), decides: None };
        state.under_way.insert(submission.trade_id.clone(), under_way);
        submission.client.admit();
        Ok(())
    }

    /// Notes that an execution decides about its trade, until the guard is dropped.
    pub fn decide(&self, trade: Trade) -> Deciding<'_> {
        let trade_id = trade.trade_id.clone();
        if let Some(under_way) = self.state.lock().under_way.get_mut(&trade_id) {
            under_way.decides = Some(trade);
        }
        Deciding { executions: self, trade_id }
    }

    /// Leaves a trade to the reconciler.
    pub fn leave(&self, trade_id: &TradeId) {
        if let Some(under_way) = self.state.lock().under_way.get_mut(trade_id) {
            under_way.decides = None;
        }
    }

    /// Whether an execution decides about a trade.
    pub fn is_deciding(&self, trade_id: &TradeId) -> bool {
        self.deciding(trade_id).is_some()
    }

    /// The trade that an execution decides about, as it began.
    pub fn deciding(&self, trade_id: &TradeId) -> Option<Trade> {
        self.state.lock().under_way.get(trade_id)?.decides.clone()
    }

    /// Every trade that an execution decides about, as it began.
    pub fn all_deciding(&self) -> Vec<Trade> {
        let state = self.state.lock();
        state.under_way.values().filter_map(|under_way| under_way.decides.clone()).collect()
    }

    /// The trades that are under way, in the order of their ids.
    pub fn under_way(&self) -> Vec<TradeId> {
        let mut trade_ids: Vec<TradeId> = self.state.lock().under_way.keys().cloned().collect();
        trade_ids.sort_unstable();
        trade_ids
    }

    /// Notes that an execution has ended, for the actor.
    pub fn ended(&self, end: End) {
        self.state.lock().ended.push_back(end);
    }

    /// An end that the actor has not looked at.
    pub fn next_end(&self) -> Option<End> {
        self.state.lock().ended.pop_front()
    }

    /// Frees a trade's key and answers its client. Gives the answer back if the client has left.
    pub fn answer(
        &self,
        trade_id: &TradeId,
        answer: Result<TradeReply, Error>,
    ) -> Option<Result<TradeReply, Error>> {
        let reply = {
            let mut state = self.state.lock();
            let under_way = state.under_way.get_mut(trade_id)?;
            let (key, reply) = (under_way.key.take(), under_way.reply.take());
            if let Some(key) = key {
                state.keys.remove(&key);
            }
            reply
        };
        // After the key is free, so that a client that asks again finds it so.
        reply?.send(answer).err()
    }

    /// Notes that an execution is under way no more, and frees its key. A client that was not answered
    /// learns that the outcome is unknown.
    pub fn remove(&self, trade_id: &TradeId) {
        let removed = {
            let mut state = self.state.lock();
            let removed = state.under_way.remove(trade_id);
            if let Some(key) = removed.as_ref().and_then(|removed| removed.key.as_ref()) {
                state.keys.remove(key);
            }
            removed
        };
        // Its reply is dropped after the key is free.
        drop(removed);
        self.idle.notify_waiters();
    }

    /// Whether an execution has ended that the actor has not looked at.
    #[cfg(test)]
    pub fn has_ended(&self) -> bool {
        !self.state.lock().ended.is_empty()
    }

    /// Waits until no execution is under way.
    pub async fn wait_until_idle(&self) {
        self.wait_until(|state| state.under_way.is_empty()).await;
    }

    /// Waits until no execution of an account is under way.
    pub async fn wait_until_account_idle(&self, account: AccountId) {
        self.wait_until(|state| state.under_way.values().all(|trade| trade.account != account))
            .await;
    }

    async fn wait_until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.idle.notified());
            changed.as_mut().enable();
            if holds(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// An execution decides about its trade until this is dropped.
pub struct Deciding<'a> {
    executions: &'a Executions,
    trade_id: TradeId,
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.executions.leave(&self.trade_id);
    }
}
