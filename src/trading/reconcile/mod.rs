//! The reconciler: finds out what became of trades whose answer was lost.
//!
//! One [`actor`] for each account looks at the primary session's terminal ([`snapshot`]). [`decide`] and
//! [`matching`] say what that shows of a trade, [`conclude`] what follows from it with time, and
//! [`schedule`] when to look again; these are pure. Each trade is looked for in its own period and fails
//! alone. [`gate`] keeps new trades out while that is worth something, and [`inspection`] is for operators
//! who settle what no look decides.

mod actor;
mod conclude;
mod decide;
mod gate;
mod inspection;
mod matching;
mod schedule;
mod snapshot;

use std::time::Duration;

use crate::pool::{Account, CallContext, CallError};
use crate::trading::identifiers::TradeId;

pub use self::actor::{Reconciler, ReconcilerArgs};
pub use self::gate::Gate;
pub use self::inspection::inspect;

/// How long one look may take: every call of it counts.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands for the request id in log lines of what no request asked for.
const REQUEST_ID: &str = "reconciliation";

/// What the reconciler is told.
pub enum Msg {
    /// Look for the trades that are due.
    Look,
    /// Look for a trade now, because somebody waits for it.
    Wake(TradeId),
    /// Fail the actor.
    #[cfg(test)]
    Fail,
}

/// The position that an order's deals opened or changed.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn position_of(
    account: &Account,
    order: u64,
    context: &CallContext,
) -> Result<u64, CallError> {
    let deals = snapshot::deals_of(account, order, context).await?;
    Ok(deals.first().map_or(0, |deal| deal.position_id))
}
