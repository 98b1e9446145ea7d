//! Whether an account takes trades.
//!
//! It does once the trades of the last run have been searched for, and while the history of the primary
//! session's terminal contains the newest deal that the journal knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use super::snapshot;
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Mode;
use crate::trading::journal::Journal;
use crate::trading::now_msc;
use crate::trading::trade::TradeResult;

/// Age up to which the newest known deal is asked for, milliseconds.
const KNOWN_MSC: i64 = 7 * 86_400_000;

/// How long a terminal without the newest known deal keeps trades waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How soon a terminal whose history is behind may be asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The index of a session, and since when it is ready.
pub type Primary = (usize, Timestamp);

/// The gate of one account. The first caller after a change of the primary asks the terminal, which is
/// usually the reconciler.
#[derive(Debug, Default)]
pub struct Gate {
    reconciled: AtomicBool,
    verified: Mutex<Option<Verification>>,
}

/// What is known about a primary's history.
#[derive(Debug, Clone, Copy)]
struct Verification {
    primary: Primary,
    complete: bool,
    /// When it was asked first.
    first: Option<Instant>,
}

/// What a terminal's history shows of what the journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Whether it has the newest deal that the journal knows; `None`: the journal knows none.
    pub shows_known: Option<bool>,
    /// How many deals it has.
    pub deals: u64,
}

impl Gate {
    /// Whether the trades of the last run have been searched for.
    pub fn is_reconciled(&self) -> bool {
        self.reconciled.load(Ordering::Acquire)
    }

    /// Lets trades in.
    pub fn open(&self) {
        self.reconciled.store(true, Ordering::Release);
    }

    /// Makes sure that the terminal of the primary session shows the newest deal that the journal knows.
    ///
    /// A terminal that has just started or taken over may still be downloading its history. After
    /// [`LONGEST_WAIT`] trades go on without that deal, because an account that its broker opened anew
    /// never shows it.
    ///
    /// # Errors
    /// If it has not, or cannot be asked.
    pub async fn ensure_complete(
        &self,
        account: &Account,
        journal: &Journal,
        context: &CallContext,
    ) -> Result<(), CallError> {
        let primary = account.primary_since().ok_or(CallError::NotReady(account.ready_in()))?;
        let known = self.locked().filter(|known| known.primary == primary);
        if known.is_some_and(|known| known.complete) {
            return Ok(());
        }
        let mut verification =
            known.unwrap_or(Verification { primary, complete: false, first: None });
        let first = *verification.first.get_or_insert_with(Instant::now);
        let over = first.elapsed() >= LONGEST_WAIT;
        // The simulator's terminals share their books, and every start opens new ones.
        verification.complete = account.mode() == Mode::Simulated
            || match history(account, journal, context).await {
                Ok(history) => history.shows_known != Some(false) || over,
                Err(error) if !over => {
                    *self.locked() = Some(verification);
                    return Err(error);
                }
                Err(_) => true,
            };
        if verification.complete && over {
            let account = account.name.as_str();
            warn!(account, "terminal does not show the newest known deal, trades go on without");
        }
        if verification.complete && account.mode() == Mode::Live {
            // Without it there are more candidates for a lost trade, and nothing worse.
            let _ = snapshot::baseline(account, context).await;
        }
        *self.locked() = Some(verification);
        if verification.complete { Ok(()) } else { Err(CallError::NotReady(RETRY)) }
    }

    /// Whether the primary that there is now is known to be complete.
    pub fn is_complete(&self, account: &Account) -> bool {
        let known = *self.locked();
        known.is_some_and(|known| known.complete && Some(known.primary) == account.primary_since())
    }

    fn locked(&self) -> MutexGuard<'_, Option<Verification>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the primary's history shows.
///
/// # Errors
/// If the terminal cannot be asked, or the journal cannot be read.
pub async fn history(
    account: &Account,
    journal: &Journal,
    context: &CallContext,
) -> Result<History, CallError> {
    let shows_known = match last_known(account, journal).await? {
        None => None,
        Some(last) => {
            let deals = snapshot::deals_of(account, last.order, context).await?;
            Some(deals.iter().any(|deal| deal.ticket == last.deal))
        }
    };
    let now = account.server_time_floor();
    let period = (now - KNOWN_MSC / 1000, now + 2 * 86_400);
    Ok(History { shows_known, deals: snapshot::total(account, period, context).await? })
}

/// The newest result with a deal, if it is of the last days.
async fn last_known(
    account: &Account,
    journal: &Journal,
) -> Result<Option<TradeResult>, CallError> {
    let executed = journal.executed(&account.name, now_msc() - KNOWN_MSC).await;
    // If the journal cannot be read, it may have a deal that has to be waited for.
    let executed = executed.map_err(|_| CallError::NotReady(RETRY))?;
    let ours = executed
        .into_iter()
        .rev()
        .filter(|trade| account.is_of(&trade.identity) && !account.was_simulated(&trade.identity));
    Ok(ours.filter_map(|trade| trade.result).find(|result| result.deal != 0 && result.order != 0))
}
