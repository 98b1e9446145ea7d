//! The handle through which the API trades and asks what became of trades.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::error;

use super::Options;
use super::actor::{Args, Msg};
use super::build::{self, Refused};
use super::command::{NewOrder, TradeCommand};
use super::delivery::{self, Delivery};
use super::execution::{self, ClientWait, Origin, Rehearsal, Submission};
use super::identifiers::TradeId;
use super::journal::{Journal, JournalError, Owner, TradeFilter};
use super::ledger::{Ledger, NoJournal};
use super::permission::TradePermission;
use super::reconcile;
use super::reply::{Error, TradeReply};
use super::trade::{Trade, TradeState};
use crate::account_name::AccountName;
use crate::actor::{Address, Depths, Role};
use crate::metrics::Metrics;
use crate::mt5::{OrderCheckResult, calls};
use crate::pool::{Account, Accounts, CallContext, CallError};

/// A handle on the trading actor and on the journal. Cheap to clone.
#[derive(Clone)]
pub struct Trading {
    address: Address<Msg>,
    pub(super) ledger: Arc<Ledger>,
}

impl Trading {
    /// A handle on an actor that is still to be started. `journal`: why there is none, if there is none.
    pub fn new(
        depths: &Depths,
        journal: Result<Journal, NoJournal>,
        options: Options,
        accounts: &Accounts,
        metrics: Metrics,
    ) -> Trading {
        let ledger = Ledger::new(depths, journal, options, accounts, metrics);
        Trading { address: Address::new(Role::Trading, depths), ledger: Arc::new(ledger) }
    }

    /// What the actor is started with.
    pub fn actor_args(&self) -> Args {
        Args { address: self.address.clone(), ledger: self.ledger.clone() }
    }

    /// Whether the actor answers.
    pub async fn ping(&self) -> bool {
        self.address.ping().await
    }

    /// Whether an account may trade now.
    pub fn permission(&self, account: &Account) -> TradePermission {
        TradePermission::of(&self.ledger, account)
    }

    /// Carries a command through and gives what its client is to be told. Waits until the context's deadline,
    /// which ends the wait and not the trade. A client that hangs up drops the future: it was told nothing.
    pub async fn execute(
        &self,
        account: &Arc<Account>,
        command: TradeCommand,
        origin: Origin,
        context: &CallContext,
    ) -> (Result<TradeReply, Error>, Delivery) {
        let submission = Arc::new(submission(account, command, origin, context));
        let (reply, answer) = oneshot::channel();
        let mut delivery = Delivery::new(self.ledger.clone(), submission.clone(), answer);
        let submitted = self.address.send(Msg::Submit(submission, reply)).is_ok();
        let answer =
            if submitted { delivery.wait().await } else { Err(delivery::actor_is_restarting()) };
        delivery.set_answer(&answer);
        (answer, delivery)
    }

    /// Does everything for a command but sending it.
    ///
    /// # Errors
    /// Why it would not be sent.
    pub async fn rehearse(
        &self,
        account: &Arc<Account>,
        command: TradeCommand,
        origin: Origin,
        context: &CallContext,
    ) -> Result<Rehearsal, Error> {
        let submission = submission(account, command, origin, context);
        let rehearsal = execution::rehearse(&self.ledger, &submission);
        let too_late = || Err(Refused::from(CallError::DeadlinePassed).into());
        tokio::time::timeout_at(context.deadline, rehearsal).await.unwrap_or_else(|_| too_late())
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
    pub async fn find(
        &self,
        account: &AccountName,
        trade_id: &TradeId,
    ) -> Result<Option<Trade>, Error> {
        if self.ledger.was_never_needed() {
            return Ok(None);
        }
        let begun = self.ledger.executions.deciding(trade_id);
        let begun = begun.filter(|trade| trade.account == *account);
        Ok(self.ledger.journal()?.by_id(account, trade_id).await?.or(begun))
    }

    /// Trades of an account, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn list(
        &self,
        account: &AccountName,
        filter: TradeFilter,
    ) -> Result<Vec<Trade>, Error> {
        if self.ledger.was_never_needed() {
            return Ok(vec![]);
        }
        let listed = self.ledger.journal()?.list(account, filter.clone()).await?;
        // Those that are still being prepared are not in the journal yet.
        let mut begun = self.ledger.executions.all_deciding();
        begun.retain(|trade| {
            trade.account == *account
                && filter.passes(trade)
                && !listed.iter().any(|listed| listed.trade_id == trade.trade_id)
        });
        begun.sort_by(|a, b| b.trade_id.cmp(&a.trade_id));
        begun.extend(listed);
        begun.truncate(filter.limit as usize);
        Ok(begun)
    }

    /// Settles an unknown trade by an operator's decision, unless the terminal shows otherwise. `None`:
    /// there is no such trade.
    ///
    /// # Errors
    /// If the trade is decided already, or the terminal shows otherwise, or cannot be asked.
    pub async fn resolve(
        &self,
        account: &Arc<Account>,
        trade_id: &TradeId,
        resolution: Resolution,
        request_id: &Arc<str>,
    ) -> Result<Option<Trade>, Error> {
        let ledger = &self.ledger;
        let Some(trade) = self.find(&account.name, trade_id).await? else {
            return Ok(None);
        };
        if trade.state != TradeState::Unknown || ledger.executions.is_deciding(trade_id) {
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
        let inspection = reconcile::inspect(account, &trade).await.map_err(Refused::from)?;
        let Resolution { order, reason, operator } = resolution;
        let resolved = match order {
            Some(order) => {
                let request = trade.request.clone().unwrap_or_default();
                let result = inspection.result_of(order, &request).ok_or_else(|| {
                    Error::NotResolvable(format!(
                        "the terminal shows no order {order} of {} lots of {} that was placed or filled",
                        request.volume, request.symbol
                    ))
                })?;
                let journal = ledger.journal()?;
                let owned = journal.owned(&account.name, vec![order], trade_id).await?;
                if let Some(other) = owned.get(&order) {
                    let detail = format!("order {order} is the one of trade {other}");
                    return Err(Error::NotResolvable(detail));
                }
                Trade { state: TradeState::Executed, result: Some(result), ..trade }
            }
            None if inspection.shows_trade => {
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
        Ok(Some(ledger.finish(account, resolved, request_id.clone()).await))
    }

    /// The trades of an account whose outcome is unknown, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn unknown(&self, account: &Account) -> Result<Vec<TradeId>, Error> {
        let state = Some(TradeState::Unknown);
        let filter = TradeFilter { state, limit: u32::MAX, ..TradeFilter::default() };
        let mut unknown = self.list(&account.name, filter).await?;
        unknown.retain(|trade| account.is_of(&trade.identity));
        Ok(unknown.into_iter().map(|trade| trade.trade_id).collect())
    }

    /// Opens the journal if an account is to trade and there was no need for one until now.
    ///
    /// # Errors
    /// Why it cannot be used. Nothing has changed then.
    pub fn open_journal(&self, owners: &[Owner]) -> Result<(), JournalError> {
        if self.ledger.open_journal(owners)? {
            let _ = self.address.send(Msg::Open);
        }
        Ok(())
    }

    /// Admits an account that has come. It takes trades once those of an earlier time are looked for.
    pub fn open(&self, account: &Arc<Account>) {
        self.ledger.add(account);
        // An actor that is being restarted starts every child by itself.
        let _ = self.address.send(Msg::Open);
    }

    /// Waits until no trade of an account that takes no new ones is under way.
    pub async fn finish_trades(&self, account: &Account) {
        // Once the actor has answered, it has admitted every command that was sent before.
        self.ping().await;
        self.ledger.executions.wait_until_account_idle(account.id).await;
    }

    /// Ends the search for trades of an account that goes. Those that are open stay in the journal,
    /// for when it comes back.
    pub async fn close(&self, account: &Account) {
        let (reply, closed) = oneshot::channel();
        if self.address.send(Msg::Close(account.name.clone(), reply)).is_ok() {
            // An actor that fails ends the reconciler, and its successor starts none.
            let _ = closed.await;
        }
        self.ledger.remove(account);
    }

    /// Waits until every trade that is under way has ended, and writes what still waits to be written.
    pub async fn drain(&self) {
        // Once the actor has answered, it has admitted every command that was sent before.
        self.ping().await;
        self.ledger.executions.wait_until_idle().await;
        if let Ok(journal) = self.ledger.journal() {
            journal.flush().await;
        }
        let Left { states, under_way } = self.left();
        if states > 0 {
            error!(
                trades = states,
                ?under_way,
                "states of trades could not be written and are lost"
            );
        }
    }

    /// What is lost if the process ends now. Waits for nothing.
    pub fn left(&self) -> Left {
        let states = self.ledger.journal().map_or(0, Journal::waiting);
        Left { states, under_way: self.ledger.executions.under_way() }
    }
}

fn submission(
    account: &Arc<Account>,
    command: TradeCommand,
    origin: Origin,
    context: &CallContext,
) -> Submission {
    Submission {
        account: account.clone(),
        fingerprint: command.fingerprint(),
        command,
        origin,
        trade_id: TradeId::random(),
        request_id: context.request_id.clone(),
        deadline: context.deadline,
        client: ClientWait::default(),
    }
}

/// What trading has not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// How many states of trades wait to be written to the journal.
    pub states: usize,
    /// Trades that are under way. What becomes of them is not known yet.
    pub under_way: Vec<TradeId>,
}

/// An operator's decision about an unknown trade.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The order that the trade became; `None`: the trade did not happen.
    pub order: Option<u64>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Name of the operator's API key, or the address.
    pub operator: String,
}
