//! Watches one account's trades whose fate is open, and for a day those that
//! were not found, until the terminal shows what became of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::desk::{Shared, now_msc};
use super::journal::Journal;
use super::reconcile::{Claims, Finding, Snapshot, decide};
use super::trade::{State, Trade, TradeResult};
use crate::pool::{Account, Context};

/// How long a trade that was not found is watched for a late fill, milliseconds.
const WATCHED_MSC: i64 = 86_400_000;

/// How often it is looked for at least; that takes a look at the whole day.
const WATCH_INTERVAL: Duration = Duration::from_secs(30);

/// The longest from one look to the next while a fate is open.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// How long one call of a look may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The request id in log lines of what nobody asked for.
const OWN: &str = "reconciliation";

/// Watches one account.
pub struct Watch {
    account: Arc<Account>,
    /// Whether everything from before the start is decided.
    settled: AtomicBool,
    wake: Notify,
}

/// Since when nothing shows that a trade happened, on a terminal that was
/// connected all the time.
struct Absence {
    since: Instant,
    terminal: (usize, Timestamp),
}

/// What a watch remembers from look to look.
#[derive(Default)]
struct Memory {
    absent: HashMap<String, Absence>,
    /// Trades that several things could be, since when.
    ambiguous: HashMap<String, Instant>,
    /// Trades from before the start; `None`: not asked for yet.
    inherited: Option<HashSet<String>>,
    /// When trades that were not found were looked for last.
    watched: Option<Instant>,
    /// Whether it was said that trades belong to another login.
    warned: bool,
}

impl Watch {
    pub fn new(account: Arc<Account>) -> Watch {
        Watch { account, settled: AtomicBool::new(false), wake: Notify::new() }
    }

    /// Whether everything from before the start is decided, as far as it can be.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// A trade's fate has changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Looks until the end.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        if shared.journal.is_err() {
            return;
        }
        let mut memory = Memory::default();
        loop {
            let wait = self.look(&shared, &mut memory).await;
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
        }
    }

    /// Looks once, and says when to look again.
    async fn look(&self, shared: &Shared, memory: &mut Memory) -> Duration {
        let patience = shared.options.not_found_after;
        let soon = (patience / 10).clamp(Duration::from_millis(50), LONGEST_INTERVAL);
        let later = (patience * 10).min(WATCH_INTERVAL);
        let Ok(journal) = shared.journal() else {
            return later;
        };
        let watched_since = now_msc().saturating_sub(WATCHED_MSC);
        let Ok(mut trades) = journal.unfinished(&self.account.name, watched_since).await else {
            return LONGEST_INTERVAL;
        };
        trades.retain(|trade| {
            !shared.is_live(&trade.trade_id) && is_open_still(&shared.present(trade.clone()).state)
        });
        let Some(mut trades) = self.adopt(shared, journal, trades).await else {
            return LONGEST_INTERVAL;
        };
        if memory.inherited.is_none() {
            let unknown = trades.iter().filter(|trade| trade.state == State::Unknown);
            let inherited: HashSet<String> = unknown.map(|trade| trade.trade_id.clone()).collect();
            if !inherited.is_empty() {
                let (account, trades) = (&self.account.name, inherited.len());
                info!(account, trades, "looking for trades from before the start");
            }
            memory.inherited = Some(inherited);
            shared.count_unknown(&self.account).await;
        }
        self.leave_strangers(&mut trades, memory);
        let watching = memory.watched.is_none_or(|at| at.elapsed() >= later);
        if watching {
            memory.watched = Some(Instant::now());
        } else {
            trades.retain(|trade| trade.state == State::Unknown);
        }
        memory.absent.retain(|id, _| trades.iter().any(|trade| trade.trade_id == *id));
        memory.ambiguous.retain(|id, _| trades.iter().any(|trade| trade.trade_id == *id));
        let decided = match trades.iter().map(|trade| trade.server_time).min() {
            Some(since) => self.decide_all(shared, memory, trades, since).await,
            None => Some(vec![]),
        };
        let Some(left) = decided else {
            // Without a look at a connected terminal, no time counts as one.
            memory.absent.clear();
            return soon;
        };
        self.settle(memory, &left, patience);
        let urgent = left.iter().any(|trade| {
            let stuck = memory.ambiguous.get(&trade.trade_id);
            trade.state == State::Unknown && stuck.is_none_or(|since| since.elapsed() < patience)
        });
        if urgent { soon } else { later }
    }

    /// Makes unknown what was being sent when its task, or the gateway, ended.
    /// `None` if the journal cannot be written.
    async fn adopt(
        &self,
        shared: &Shared,
        journal: &Journal,
        found: Vec<Trade>,
    ) -> Option<Vec<Trade>> {
        let mut trades = vec![];
        for mut trade in found {
            if trade.state == State::Sending {
                trade.state = State::Unknown;
                trade.detail = Some("the gateway ended before the answer came".to_owned());
                trade.updated_msc = now_msc();
                // Its task may have ended in good order since the journal was asked.
                if !journal.orphan(&trade).await.ok()? {
                    continue;
                }
                trade = shared.finish(&self.account, trade, OWN).await;
            }
            trades.push(trade);
        }
        Some(trades)
    }

    /// Leaves alone what was traded under another login: this terminal cannot know.
    fn leave_strangers(&self, trades: &mut Vec<Trade>, memory: &mut Memory) {
        let all = trades.len();
        trades.retain(|trade| trade.login == self.account.login);
        let strangers = all - trades.len();
        if strangers > 0 && !memory.warned {
            memory.warned = true;
            let account = &self.account.name;
            warn!(account, trades = strangers, "unfinished trades belong to another login");
        }
    }

    /// Opens the account once nothing from before the start is left to find out.
    fn settle(&self, memory: &Memory, left: &[Trade], patience: Duration) {
        if self.is_settled() {
            return;
        }
        let Some(inherited) = &memory.inherited else {
            return;
        };
        let undecided = left.iter().filter(|trade| {
            // What several orders could be stays so, however long one looks.
            let stuck = memory.ambiguous.get(&trade.trade_id);
            trade.state == State::Unknown
                && inherited.contains(&trade.trade_id)
                && stuck.is_none_or(|since| since.elapsed() < patience)
        });
        if undecided.count() == 0 {
            self.settled.store(true, Ordering::Release);
            info!(account = self.account.name, "account accepts trades");
        }
    }

    /// Decides what one snapshot decides. Gives what is left; `None` without a
    /// terminal that was connected all the while.
    async fn decide_all(
        &self,
        shared: &Shared,
        memory: &mut Memory,
        trades: Vec<Trade>,
        since: i64,
    ) -> Option<Vec<Trade>> {
        let journal = shared.journal().ok()?;
        let terminal = self.account.primary_since()?;
        let context = Context { request_id: OWN.into(), deadline: Instant::now() + CALL_TIMEOUT };
        let snapshot = Snapshot::take(&self.account, since, &context).await;
        let snapshot = match snapshot {
            Ok(snapshot) if self.account.primary_since() == Some(terminal) => snapshot,
            Ok(_) => return None,
            Err(error) => {
                info!(account = self.account.name, %error, "trades cannot be looked for yet");
                return None;
            }
        };
        // What began or ended meanwhile may own what the snapshot shows.
        let oldest = trades.iter().map(|trade| trade.created_msc).min()?;
        let owned = journal.owned(&self.account.name, oldest - WATCHED_MSC).await.ok()?;
        let mut owned: HashSet<u64> = owned.into_iter().collect();
        let open = journal.unfinished(&self.account.name, i64::MAX).await.ok()?;
        let mut left = vec![];
        for trade in trades {
            let contested = open
                .iter()
                .any(|other| other.trade_id != trade.trade_id && other.looks_like(&trade));
            let claims = Claims { owned: owned.clone(), contested };
            let finding = decide(&trade, &snapshot, &claims);
            let decided = self.weigh(shared, memory, trade, finding, terminal).await;
            if let (State::Executed, Some(result)) = (decided.state, &decided.result) {
                owned.extend([result.order, result.deal].into_iter().filter(|ticket| *ticket != 0));
            }
            left.push(decided);
        }
        Some(left)
    }

    /// Draws the conclusion from a finding.
    async fn weigh(
        &self,
        shared: &Shared,
        memory: &mut Memory,
        trade: Trade,
        finding: Finding,
        terminal: (usize, Timestamp),
    ) -> Trade {
        let now = Instant::now();
        let id = trade.trade_id.clone();
        if finding != Finding::Absent {
            memory.absent.remove(&id);
        }
        if !matches!(finding, Finding::Open { .. }) {
            memory.ambiguous.remove(&id);
        }
        match finding {
            Finding::Executed(result) => {
                self.end(shared, trade, State::Executed, Some(result)).await
            }
            // A late refusal tells nothing that "not found" did not.
            Finding::Refused(_) if trade.state == State::NotFound => trade,
            Finding::Refused(result) => self.end(shared, trade, State::Refused, Some(result)).await,
            Finding::Absent if trade.state == State::NotFound => trade,
            Finding::Absent => {
                let absence = memory.absent.entry(id).or_insert(Absence { since: now, terminal });
                if absence.terminal != terminal {
                    *absence = Absence { since: now, terminal };
                }
                if now.duration_since(absence.since) < shared.options.not_found_after {
                    return trade;
                }
                self.end(shared, trade, State::NotFound, None).await
            }
            Finding::Open { detail, candidates } => {
                memory.ambiguous.entry(id).or_insert(now);
                let known = trade.detail.as_deref() == Some(&*detail);
                if trade.state == State::NotFound || (known && trade.candidates == candidates) {
                    return trade;
                }
                let open = Trade { detail: Some(detail), candidates, ..trade };
                shared.write(open.clone()).await;
                open
            }
        }
    }

    async fn end(
        &self,
        shared: &Shared,
        trade: Trade,
        state: State,
        result: Option<TradeResult>,
    ) -> Trade {
        let late = trade.state == State::NotFound;
        let detail = match state {
            State::NotFound => Some(format!(
                "nothing showed it while the terminal was connected for {:?}",
                shared.options.not_found_after
            )),
            _ if late => Some("it was filled late, after it was not found".to_owned()),
            _ => None,
        };
        if late {
            let (account, trade_id) = (&self.account.name, &trade.trade_id);
            warn!(account, trade_id, "trade that was not found has happened after all");
        }
        let trade =
            Trade { state, result, detail, candidates: vec![], updated_msc: now_msc(), ..trade };
        if late {
            shared.note(&self.account, trade, OWN).await
        } else {
            shared.finish(&self.account, trade, OWN).await
        }
    }
}

fn is_open_still(state: &State) -> bool {
    matches!(state, State::Sending | State::Unknown | State::NotFound)
}
