//! The way to the trading actor, and to the journal.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;
use tracing::error;

use super::Options;
use super::actor::Msg;
use super::build::{self, Refused};
use super::command::{NewOrder, TradeCommand};
use super::execution::{Origin, Submission, Waiting};
use super::journal::{Journal, Wanted};
use super::ledger::{AccountTrading, NoJournal, Shared, locked};
use super::reconcile::{self, Gate};
use super::reply::{Error, Told};
use super::trade::{State as TradeState, Trade};
use crate::actor::{Address, Depths, Role};
use crate::metrics::Metrics;
use crate::mt5::{OrderCheckResult, calls};
use crate::pool::{Account, Accounts, CallContext};

/// The way to the trading actor, and to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Trading {
    pub(super) address: Address<Msg>,
    pub(super) depths: Depths,
    pub(super) shared: Arc<Shared>,
}

impl Trading {
    /// A way to an actor that is still to be started. `journal`: why there is
    /// none, if there is none.
    pub fn new(
        depths: &Depths,
        journal: Result<Journal, NoJournal>,
        options: Options,
        accounts: &Accounts,
        metrics: Metrics,
    ) -> Trading {
        let accounts = accounts.iter().map(|account| {
            let trading = AccountTrading {
                account: account.clone(),
                gate: Gate::default(),
                settled: Notify::new(),
                reconciler: Address::new(Role::Reconciler, depths),
            };
            (account.name.clone(), trading)
        });
        let shared = Shared {
            options,
            metrics,
            journal,
            tasks: TaskTracker::new(),
            keys: Mutex::default(),
            live: Mutex::default(),
            accounts: accounts.collect(),
        };
        Trading {
            address: Address::new(Role::Trading, depths),
            depths: depths.clone(),
            shared: Arc::new(shared),
        }
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        self.address.ping().await
    }

    /// Carries a command through and tells what became of it; waits until the
    /// context's deadline, and not for whatever comes after.
    ///
    /// # Errors
    /// Why there is no state to show.
    pub async fn execute(
        &self,
        account: &Arc<Account>,
        command: TradeCommand,
        origin: Origin,
        context: &CallContext,
    ) -> Told {
        let (reply, mut told) = oneshot::channel();
        let waiting = Arc::new(Waiting::default());
        // A client that hangs up drops this future: it was told nothing.
        let _leaves = Leaves(waiting.clone());
        let trade_id = uuid::Uuid::now_v7().simple().to_string();
        let submission = Submission {
            account: account.clone(),
            fingerprint: command.fingerprint(),
            command,
            origin,
            trade_id: trade_id.clone(),
            request_id: context.request_id.clone(),
            deadline: context.deadline,
            waiting: waiting.clone(),
            reply,
        };
        if self.address.send(Msg::Submit(Box::new(submission))).is_err() {
            return Err(Error::NoJournal("the trading actor is being restarted".to_owned()));
        }
        let waited = tokio::time::timeout_at(context.deadline, &mut told).await;
        // An answer that was settled first is on its way.
        let answered = match waited {
            Ok(told) => told.ok(),
            Err(_) if waiting.leave() => None,
            Err(_) => told.await.ok(),
        };
        answered.unwrap_or(Err(Error::OutcomeUnknown { trade_id }))
    }

    /// Notes that a client has been told that its trade was not sent, which frees its key.
    pub fn confirm_told(&self, trade: Trade) {
        // Lost while the actor is being restarted: then it is told once more.
        let _ = self.address.send(Msg::Told(Box::new(trade)));
    }

    /// Asks the broker what a new order would do, and sends nothing.
    ///
    /// # Errors
    /// If it breaks a rule, or the terminal cannot be asked.
    pub async fn check(
        &self,
        account: &Account,
        order: &NewOrder,
        context: &CallContext,
    ) -> Result<OrderCheckResult, Refused> {
        let request = Box::new(build::rehearse(account, order, context).await?);
        Ok(*account.call_raw(calls::OrderCheck { request }, context).await?)
    }

    /// The trade with an id.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn find(&self, account: &str, trade_id: &str) -> Result<Option<Trade>, Error> {
        if self.shared.was_never_needed() {
            return Ok(None);
        }
        let begun = locked(&self.shared.live).get(trade_id).cloned();
        let begun = begun.filter(|trade| trade.account == account);
        Ok(self.shared.journal()?.by_id(account, trade_id).await?.or(begun))
    }

    /// Trades of an account, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn list(&self, account: &str, wanted: Wanted) -> Result<Vec<Trade>, Error> {
        if self.shared.was_never_needed() {
            return Ok(vec![]);
        }
        let listed = self.shared.journal()?.list(account, wanted.clone()).await?;
        // Those that are still being prepared are not in the journal yet.
        let mut begun: Vec<Trade> = locked(&self.shared.live).values().cloned().collect();
        begun.retain(|trade| {
            trade.account == account
                && wanted.takes(trade)
                && !listed.iter().any(|listed| listed.trade_id == trade.trade_id)
        });
        begun.sort_by(|a, b| b.trade_id.cmp(&a.trade_id));
        begun.extend(listed);
        begun.truncate(wanted.limit as usize);
        Ok(begun)
    }

    /// Settles an unknown trade by an operator's word, as far as that goes with what the terminal
    /// shows. `None`: there is no such trade.
    ///
    /// # Errors
    /// If the trade is decided already, or the terminal shows otherwise, or cannot be asked.
    pub async fn resolve(
        &self,
        account: &Arc<Account>,
        trade_id: &str,
        resolution: Resolution,
        request_id: &str,
    ) -> Result<Option<Trade>, Error> {
        let shared = &self.shared;
        let Some(trade) = self.find(&account.name, trade_id).await? else {
            return Ok(None);
        };
        if trade.state != TradeState::Unknown || shared.is_live(trade_id) {
            let state = trade.state.name();
            let detail = format!("trade {trade_id} is {state}: only an unknown one can be settled");
            return Err(Error::NotResolvable(detail));
        }
        if !account.is_of(&trade.identity) {
            let detail = format!(
                "trade {trade_id} belongs to login {} on {:?}, which this account is not any more",
                trade.identity.login, trade.identity.server
            );
            return Err(Error::NotResolvable(detail));
        }
        let sight = reconcile::look_once(account, &trade).await.map_err(Refused::from)?;
        let Resolution { order, reason, operator } = resolution;
        let resolved = match order {
            Some(order) => {
                let request = trade.request.clone().unwrap_or_default();
                let result = sight.result_of(order, &request).ok_or_else(|| {
                    Error::NotResolvable(format!(
                        "the terminal shows no order {order} of {} lots of {} that was placed or filled",
                        request.volume, request.symbol
                    ))
                })?;
                let journal = shared.journal()?;
                let owned = journal.owned(&account.name, vec![order], trade_id).await?;
                if let Some(other) = owned.get(&order) {
                    let detail = format!("order {order} is the one of trade {other}");
                    return Err(Error::NotResolvable(detail));
                }
                Trade { state: TradeState::Executed, result: Some(result), ..trade }
            }
            None if sight.own => {
                let detail = format!(
                    "the terminal shows an order of trade {trade_id} by its ticket or tag, or the \
                     change itself: it cannot be called not found"
                );
                return Err(Error::NotResolvable(detail));
            }
            None => Trade { state: TradeState::NotFound, ..trade },
        };
        let resolved = Trade {
            detail: Some(reason),
            candidates: vec![],
            resolved_by: Some(operator),
            ..resolved
        };
        Ok(Some(shared.finish(account, resolved, request_id).await))
    }

    /// Waits until every trade that is under way has ended, and writes what still waits to be written.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        if let Ok(journal) = self.shared.journal() {
            let left = journal.flush().await;
            if left > 0 {
                error!(trades = left, "states of trades could not be written and are lost");
            }
        }
    }
}

/// An operator's word about an unknown trade.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The order that it is; `None`: it did not happen.
    pub order: Option<u64>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Name of the operator's API key, or the address.
    pub operator: String,
}

/// A client that stops waiting when this is dropped.
struct Leaves(Arc<Waiting>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let _ = self.0.leave();
    }
}
