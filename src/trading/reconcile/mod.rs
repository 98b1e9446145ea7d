//! The reconciler: one actor for each account finds out what became of trades whose answer was lost.
//!
//! It looks at the primary session's terminal ([`snapshot`]), lets [`decide()`] say what that shows, and
//! draws the conclusion here, because "nothing shows it" becomes "it did not happen" only with time, on
//! a terminal that was sound and complete all the while. Each trade is looked for in its own period and
//! fails alone. [`gate`] keeps new trades out until that is worth something.

mod decide;
mod gate;
mod matching;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::decide::{Finding, decide};
use self::gate::{History, Primary};
use super::journal::Journal;
use super::ledger::Shared;
use super::now_msc;
use super::trade::{State, Trade, TradeResult};
use crate::actor::{Address, Envelope, Role};
use crate::metrics::Event;
use crate::mt5::{OrderState, OrderType, TradeRequest};
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Mode;

pub use self::gate::Gate;

/// How long a trade that was not found is watched for a late fill, milliseconds.
const WATCHED_MSC: i64 = 86_400_000;

/// The longest from one look to the next while a trade is young.
const SOON: Duration = Duration::from_secs(1);

/// The longest from one look to the next within a trade's first day.
const SELDOM: Duration = Duration::from_secs(30);

/// From one look to the next after that.
const RARELY: Duration = Duration::from_secs(600);

/// The shortest from one look to the next, however often somebody asks.
const PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether another session has become the primary.
const NEXT_PRIMARY: Duration = Duration::from_secs(1);

/// From one look to the next while new trades wait for those from before the start.
const AT_START: Duration = Duration::from_millis(100);

/// How long one look may take: every call of it counts.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// Trades that one look looks for. Others wait for the next, so that no look takes long.
const BATCH: usize = 16;

/// How long new trades wait at most for those from before the start, beside `not_found_after`.
const PATIENCE: Duration = Duration::from_secs(10);

/// The request id in log lines of what nobody asked for.
const OWN: &str = "reconciliation";

/// What the actor is told.
pub enum Msg {
    /// Time to look.
    Look,
    /// Somebody waits for a trade.
    Wake(String),
}

/// The actor.
pub struct Reconciler;

/// What the actor needs.
#[derive(Clone)]
pub struct ReconcilerArgs {
    /// The account.
    pub account: Arc<Account>,
    /// Its own address.
    pub address: Address<Msg>,
    /// The trading room's common knowledge.
    pub shared: Arc<Shared>,
}

/// What the actor knows.
pub struct Reconciliation {
    args: ReconcilerArgs,
    /// What is remembered of each open trade.
    trades: HashMap<String, Memory>,
    /// Trades from before the start; `None`: not asked for yet.
    inherited: Option<HashSet<String>>,
    /// When a terminal was there first.
    began: Option<Instant>,
    /// Trades that somebody waits for.
    woken: HashSet<String>,
    next: Option<AbortHandle>,
    looked: Option<Instant>,
    /// Whether it was said that trades belong to another account at the broker.
    warned: bool,
}

/// What is remembered of an open trade.
struct Memory {
    /// When it is looked for next.
    due: Instant,
    /// Since when nothing shows it.
    unseen: Option<Unseen>,
    /// Whether a look has shown that no further look will tell.
    undecidable: bool,
    /// Looks for it that failed in a row: a question that a terminal does not survive must not keep
    /// the others from being asked.
    failures: u32,
}

/// That nothing shows a trade.
#[derive(Clone, Copy)]
struct Unseen {
    since: Instant,
    /// On which terminal.
    primary: Primary,
    /// What its history had then.
    history: History,
}

/// A terminal that was sound at both ends of a look.
#[derive(Clone, Copy)]
struct Sound {
    primary: Primary,
    /// What its history shows, if that was asked for.
    history: Option<History>,
}

impl Actor for Reconciler {
    type Msg = Envelope<Msg>;
    type State = Reconciliation;
    type Arguments = ReconcilerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: ReconcilerArgs,
    ) -> Result<Reconciliation, ActorProcessingErr> {
        args.address.assign(myself);
        let _ = args.address.send(Msg::Look);
        info!(actor = Role::Reconciler.name(), account = args.account.name, "actor started");
        Ok(Reconciliation {
            args,
            trades: HashMap::new(),
            inherited: None,
            began: None,
            woken: HashSet::new(),
            next: None,
            looked: None,
            warned: false,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Reconciliation,
    ) -> Result<(), ActorProcessingErr> {
        if let Msg::Wake(trade_id) = message.open() {
            state.woken.insert(trade_id);
            if state.looked.is_some_and(|at| at.elapsed() < PAUSE) {
                state.look_after(PAUSE);
                return Ok(());
            }
        }
        let wait = state.look().await;
        state.looked = Some(Instant::now());
        state.look_after(wait.max(PAUSE));
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Reconciliation,
    ) -> Result<(), ActorProcessingErr> {
        let account = &state.args.account.name;
        info!(actor = Role::Reconciler.name(), account, "actor stopped");
        Ok(())
    }
}

impl Reconciliation {
    fn look_after(&mut self, wait: Duration) {
        let next = self.args.address.send_after(wait, Msg::Look);
        if let Some(earlier) = self.next.replace(next) {
            earlier.abort();
        }
    }

    /// Looks once, and says when to look again.
    async fn look(&mut self) -> Duration {
        let shared = self.args.shared.clone();
        let Ok(journal) = shared.journal() else {
            return RARELY;
        };
        let Some(trades) = self.open_trades(journal).await else {
            return SOON;
        };
        let now = Instant::now();
        self.trades.retain(|id, _| trades.iter().any(|trade| trade.trade_id == *id));
        let mut due: Vec<(Option<Instant>, Trade)> = vec![];
        let woken = std::mem::take(&mut self.woken);
        for trade in trades {
            let fresh = Memory { due: now, unseen: None, undecidable: false, failures: 0 };
            let memory = self.trades.entry(trade.trade_id.clone()).or_insert(fresh);
            if woken.contains(&trade.trade_id) {
                due.push((None, trade));
            } else if memory.due <= now {
                due.push((Some(memory.due), trade));
            }
        }
        // Those that somebody waits for come first, then those that have waited longest.
        due.sort_by_key(|(due, _)| *due);
        due.truncate(BATCH);
        let due: Vec<Trade> = due.into_iter().map(|(_, trade)| trade).collect();
        if self.args.account.primary_since().is_some() {
            self.began.get_or_insert(now);
        }
        if !due.is_empty()
            && let Err(error) = self.decide_all(journal, &due).await
        {
            info!(account = self.args.account.name, %error, "trades cannot be looked for yet");
        }
        let gate = shared.gate(&self.args.account.name);
        let mut failed = false;
        if self.args.account.trade && !gate.is_complete(&self.args.account) {
            let context = CallContext::internal(OWN, LOOK_TIMEOUT);
            let asked = gate.ensure_complete(&self.args.account, journal, &context).await;
            failed = asked.is_err();
        }
        let now = Instant::now();
        for trade in &due {
            let wait = self.interval(trade);
            if let Some(memory) = self.trades.get_mut(&trade.trade_id) {
                memory.due = now + wait.saturating_mul(1 << memory.failures.min(16)).min(RARELY);
            }
        }
        self.open_gate();
        let next = self.trades.values().map(|memory| memory.due.saturating_duration_since(now));
        let account = &self.args.account;
        let ready = shared.is_reconciled(&account.name)
            && (!account.trade || shared.gate(&account.name).is_complete(account));
        let idle = if ready || failed { NEXT_PRIMARY } else { AT_START };
        next.min().unwrap_or(idle).min(idle)
    }

    /// How soon a trade is looked for again: the longer nobody knows, the more seldom.
    fn interval(&self, trade: &Trade) -> Duration {
        let patience = self.args.shared.options.not_found_after;
        let soon = (patience / 10).clamp(Duration::from_millis(50), SOON);
        let age = now_msc().saturating_sub(trade.created_msc);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
        interval(age, trade.state, patience, soon)
    }

    /// Trades whose state is open and of which no task knows. `None` if the journal cannot be used.
    async fn open_trades(&mut self, journal: &Journal) -> Option<Vec<Trade>> {
        let shared = self.args.shared.clone();
        let account = self.args.account.clone();
        let since = now_msc().saturating_sub(WATCHED_MSC);
        let found = journal.unfinished(&account.name, since).await.ok()?;
        let mut trades = vec![];
        for trade in found {
            if shared.is_live(&trade.trade_id) {
                continue;
            }
            if trade.state != State::Sending {
                trades.push(trade);
                continue;
            }
            // Its task, or the gateway, ended while it was being sent. Nobody knows what its terminal
            // was doing then.
            let orphan = Trade {
                state: State::Unknown,
                detail: Some("the gateway ended before the answer came".to_owned()),
                may_arrive: account.mode() == Mode::Live,
                ..trade
            };
            let settled = shared.finish(&account, orphan, OWN).await;
            if !settled.state.is_final() {
                trades.push(settled);
            }
        }
        if self.inherited.is_none() {
            let unknown = trades.iter().filter(|trade| trade.state == State::Unknown);
            let inherited: HashSet<String> = unknown.map(|trade| trade.trade_id.clone()).collect();
            if !inherited.is_empty() {
                let trades = inherited.len();
                info!(account = account.name, trades, "looking for trades from before the start");
            }
            self.inherited = Some(inherited);
            shared.count_unknown(&account).await;
        }
        self.leave_strangers(&mut trades);
        Some(trades)
    }

    /// Leaves alone what was traded at another login or server: this terminal cannot know.
    fn leave_strangers(&mut self, trades: &mut Vec<Trade>) {
        let all = trades.len();
        let account = &self.args.account;
        trades.retain(|trade| account.is_of(&trade.identity));
        let strangers = all - trades.len();
        if strangers > 0 && !self.warned {
            self.warned = true;
            let account = &account.name;
            warn!(account, trades = strangers, "unfinished trades belong to another account");
        }
    }

    /// Lets new trades in once each trade from before the start is decided, or known not to be
    /// decided by looking, or was waited for long enough.
    fn open_gate(&mut self) {
        let shared = &self.args.shared;
        if shared.is_reconciled(&self.args.account.name) {
            return;
        }
        let Some(inherited) = &self.inherited else {
            return;
        };
        let open = self
            .trades
            .iter()
            .filter(|(id, memory)| inherited.contains(*id) && !memory.undecidable);
        let open = open.count();
        let longest = shared.options.not_found_after + PATIENCE;
        let waited = self.began.is_some_and(|began| began.elapsed() > longest);
        if open == 0 || waited {
            shared.open_gate(&self.args.account.name);
            info!(account = self.args.account.name, undecided = open, "account accepts trades");
        }
    }

    /// Decides what one look decides.
    async fn decide_all(&mut self, journal: &Journal, trades: &[Trade]) -> Result<(), CallError> {
        let account = self.args.account.clone();
        let context = CallContext::internal(OWN, LOOK_TIMEOUT);
        let not_ready = || CallError::NotReady(account.ready_in());
        let primary = account.primary_since().ok_or_else(not_ready)?;
        let standing = snapshot::standing(&account, &context).await?;
        let mut seen = vec![];
        for trade in trades {
            match standing.evidence(&account, trade, &context).await {
                Ok(evidence) => seen.push((trade, evidence)),
                Err(error) => {
                    let (account, trade_id) = (&account.name, &trade.trade_id);
                    warn!(account, trade_id, %error, "trade cannot be looked for");
                    if let Some(memory) = self.trades.get_mut(trade_id) {
                        memory.failures += 1;
                    }
                }
            }
        }
        // What is between two sound ends of one terminal is about the configured account.
        snapshot::ensure_sound(&account, &context).await?;
        if account.primary_since() != Some(primary) {
            return Err(not_ready());
        }
        let mut sound = Sound { primary, history: None };
        for (trade, evidence) in seen {
            let unavailable = |_| CallError::NotReady(account.ready_in());
            let alike = matching::foreign_orders(trade, &evidence);
            let owned = journal.owned(&account.name, alike, &trade.trade_id).await;
            let owned = owned.map_err(unavailable)?.into_keys().collect();
            let finding = decide(trade, &evidence, &owned);
            let timed = matches!(finding, Finding::Unseen | Finding::Void(_));
            if timed && sound.history.is_none() && trade.state == State::Unknown {
                sound.history = match account.mode() {
                    Mode::Simulated => Some(History { shows_known: Some(true), deals: 0 }),
                    Mode::Live => Some(gate::history(&account, journal, &context).await?),
                };
            }
            self.conclude(trade.clone(), finding, sound).await;
        }
        Ok(())
    }

    /// Draws the conclusion from a finding on a terminal that was sound while it was looked.
    async fn conclude(&mut self, trade: Trade, finding: Finding, sound: Sound) -> Trade {
        let Some(memory) = self.trades.get_mut(&trade.trade_id) else {
            return trade;
        };
        if !matches!(finding, Finding::Unseen | Finding::Void(_)) {
            memory.unseen = None;
        }
        memory.undecidable = false;
        memory.failures = 0;
        match finding {
            Finding::Executed(result) => self.end(trade, State::Executed, Some(result), None).await,
            // What an operator settled is watched for what contradicts it.
            Finding::Refused(_) | Finding::Void(_) if trade.state == State::Executed => {
                self.contradict(trade, "the terminal shows that it did not happen").await
            }
            _ if trade.state.is_final() && trade.state != State::NotFound => trade,
            // Of one that was not found these tell nothing that is new.
            Finding::Refused(_) | Finding::Void(_) | Finding::Superseded { .. }
                if trade.state == State::NotFound =>
            {
                trade
            }
            Finding::Refused(result) => self.end(trade, State::Refused, Some(result), None).await,
            Finding::Superseded { detail, present } => {
                let trade = Trade { present: Some(present), ..trade };
                self.end(trade, State::Superseded, None, Some(detail)).await
            }
            Finding::Unseen if trade.state == State::NotFound => trade,
            Finding::Unseen | Finding::Void(_) => {
                let Some(history) = sound.history else {
                    return trade;
                };
                let fresh = Unseen { since: Instant::now(), primary: sound.primary, history };
                let unseen = *memory.unseen.get_or_insert(fresh);
                let known = history.shows_known == Some(true);
                if unseen.primary != sound.primary || (!known && unseen.history != history) {
                    // Another terminal, or one that is still downloading its history: from the start.
                    memory.unseen = Some(fresh);
                    return trade;
                }
                let void = match finding {
                    Finding::Void(detail) => Some(detail),
                    _ => None,
                };
                if trade.may_arrive && void.is_none() {
                    memory.undecidable = true;
                    let detail = "its terminal ended, or was ended, before it answered, and may \
                        still deliver it; nothing shows it so far, and an operator can settle it";
                    return self.note(trade, detail, vec![]).await;
                }
                let patience = self.args.shared.options.not_found_after;
                let waited = unseen.since.elapsed();
                // A history without the known deal has to have something else at least.
                let empty = history.shows_known == Some(false) && history.deals == 0;
                if empty || (waited < patience && !(known && void.is_some())) {
                    return trade;
                }
                let detail = void.unwrap_or_else(|| {
                    format!(
                        "nothing showed it for {patience:?} on a terminal that was connected, logged \
                         in to this account, and whose history had caught up"
                    )
                });
                self.end(trade, State::NotFound, None, Some(detail)).await
            }
            Finding::Working { order } => {
                let detail = "the broker has the order and is executing it";
                let trade = Trade { accepted_order: order, ..trade };
                self.note(trade, detail, vec![order]).await
            }
            Finding::Open { detail, candidates } => {
                memory.undecidable = true;
                self.note(trade, &detail, candidates).await
            }
        }
    }

    /// Writes down what is known of a trade that stays open.
    async fn note(&self, trade: Trade, detail: &str, candidates: Vec<u64>) -> Trade {
        let known = trade.detail.as_deref() == Some(detail) && trade.candidates == candidates;
        if trade.state == State::NotFound || known {
            return trade;
        }
        let noted = Trade { detail: Some(detail.to_owned()), candidates, ..trade };
        if let Ok(journal) = self.args.shared.journal() {
            let _ = journal.settle(noted.clone()).await;
        }
        noted
    }

    /// Records what contradicts an operator's word. That is not written over; whoever reads the trade
    /// sees both.
    async fn contradict(&self, trade: Trade, detail: &str) -> Trade {
        if trade.contradicted.is_some() || trade.resolved_by.is_none() {
            return trade;
        }
        let (shared, account) = (&self.args.shared, &self.args.account);
        let (name, trade_id) = (&account.name, &trade.trade_id);
        error!(account = name, trade_id, detail, "trade contradicts how an operator settled it");
        shared.metrics.record(Event::TradeContradicted { account: account.id });
        let contradicted = Trade { contradicted: Some(detail.to_owned()), ..trade };
        if let Ok(journal) = shared.journal() {
            let _ = journal.settle(contradicted.clone()).await;
        }
        contradicted
    }

    async fn end(
        &self,
        trade: Trade,
        state: State,
        result: Option<TradeResult>,
        detail: Option<String>,
    ) -> Trade {
        let (shared, account) = (&self.args.shared, &self.args.account);
        let late = trade.state == State::NotFound;
        if trade.resolved_by.is_some() {
            let order = result.map_or(0, |result| result.order);
            let same = trade.own_orders().contains(&order);
            if trade.state == State::Executed && (same || order == 0) {
                return trade;
            }
            let detail = format!("order {order} shows that it was {}", state.name());
            return self.contradict(trade, &detail).await;
        }
        if late {
            let (name, trade_id) = (&account.name, &trade.trade_id);
            error!(account = name, trade_id, "trade that was not found has happened after all");
            shared.metrics.record(Event::TradeContradicted { account: account.id });
        }
        let detail = if late {
            Some("it was filled late, after it was not found".to_owned())
        } else {
            detail
        };
        let trade = Trade { state, result, detail, candidates: vec![], ..trade };
        if late {
            shared.settle(account, trade, OWN).await
        } else {
            shared.finish(account, trade, OWN).await
        }
    }
}

fn interval(age: Duration, state: State, patience: Duration, soon: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let watched = (patience * 10).min(SELDOM);
    if state == State::NotFound {
        watched
    } else if age > DAY {
        RARELY
    } else if age < watched.max(patience * 2) {
        soon
    } else {
        (age / 10).clamp(soon, SELDOM)
    }
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

/// What the primary's terminal shows about one trade, for an operator who settles it.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn look_once(account: &Account, trade: &Trade) -> Result<Sight, CallError> {
    let context = CallContext::internal(OWN, LOOK_TIMEOUT);
    let standing = snapshot::standing(account, &context).await?;
    let evidence = standing.evidence(account, trade, &context).await?;
    snapshot::ensure_sound(account, &context).await?;
    let finding = decide(trade, &evidence, &HashSet::new());
    let own = !matches!(finding, Finding::Unseen | Finding::Void(_) | Finding::Open { .. });
    Ok(Sight { own, evidence })
}

/// What was seen of one trade.
pub struct Sight {
    /// Whether a ticket or a tag shows that it happened, or was refused.
    pub own: bool,
    evidence: snapshot::Evidence,
}

impl Sight {
    /// What the terminal shows of an order; `None`: it does not show it.
    ///
    /// An order that was rejected, or that ended without a deal, is none that was executed.
    /// Neither is one of another symbol or volume.
    pub fn result_of(&self, order: u64, request: &TradeRequest) -> Option<TradeResult> {
        let evidence = &self.evidence;
        let deals: Vec<_> = evidence.deals.iter().filter(|deal| deal.order == order).collect();
        let orders = evidence.history.iter().chain(&evidence.orders);
        let mut alike = orders.filter(|shown| shown.ticket == order).map(|shown| {
            shown.symbol == request.symbol
                && (request.volume == 0.0 || matching::same(shown.volume_initial, request.volume))
        });
        let volume: f64 = deals.iter().map(|deal| deal.volume).sum();
        let dealt = deals.iter().all(|deal| deal.symbol == request.symbol)
            && (request.volume == 0.0 || volume < request.volume + matching::NOISE);
        if !alike.next().unwrap_or(true) || !dealt {
            return None;
        }
        if !deals.is_empty() {
            return Some(TradeResult::of_deals(order, &deals, request.volume));
        }
        let mut orders = evidence.history.iter().chain(&evidence.orders);
        let shown = orders.find(|shown| shown.ticket == order)?;
        let market = OrderType::from_value(shown.r#type).is_some_and(OrderType::is_market);
        if market || shown.state == OrderState::Rejected.value() {
            return None;
        }
        let retcode = crate::mt5::Retcode::Done;
        Some(TradeResult::found(retcode, order, shown.volume_initial, shown.price_open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_trade_is_looked_for_soon_then_seldom_then_rarely() {
        let seconds = Duration::from_secs;
        let patience = seconds(60);
        let of = |age, state| interval(seconds(age), state, patience, SOON);
        assert_eq!(of(0, State::Unknown), SOON);
        assert_eq!(of(100, State::Unknown), SOON);
        assert_eq!(of(200, State::Unknown), seconds(20));
        assert_eq!(of(3_600, State::Unknown), SELDOM);
        assert_eq!(of(90_000, State::Unknown), RARELY);
        assert_eq!(of(5, State::NotFound), SELDOM);
    }
}
