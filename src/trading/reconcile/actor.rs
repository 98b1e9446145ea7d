//! The reconciler actor: looks, and carries out what [`conclude`](super::conclude) says.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::conclude::{Conclusion, Look, conclude};
use super::decide::{Finding, decide};
use super::gate::{self, History};
use super::schedule::{RARELY, SOON, Schedule};
use super::snapshot::{self, Evidence};
use super::{LOOK_TIMEOUT, Msg, REQUEST_ID, matching};
use crate::actor::{Address, Envelope};
use crate::metrics::Event;
use crate::pool::{CallContext, CallError, TradeBlock};
use crate::terminal::Mode;
use crate::trading::identifiers::TradeId;
use crate::trading::journal::{Journal, Owner};
use crate::trading::ledger::{AccountLedger, Ledger};
use crate::trading::now_msc;
use crate::trading::permission;
use crate::trading::trade::{Trade, TradeState};

/// How long a trade that was not found is watched for a late fill, milliseconds.
const WATCHED_MSC: i64 = 86_400_000;

/// The shortest from one look to the next, however often somebody asks.
const PAUSE: Duration = Duration::from_millis(20);

/// From one check whether another session has become the primary to the next.
const NEXT_PRIMARY: Duration = Duration::from_secs(1);

/// From one look to the next while new trades wait for those from before the start.
const AT_START: Duration = Duration::from_millis(100);

/// How long new trades wait at most for those from before the start, beside `not_found_after`.
const LONGEST_START: Duration = Duration::from_secs(10);

/// Searches for the lost trades of one account.
pub struct Reconciler;

pub struct ReconcilerArgs {
    pub of_account: Arc<AccountLedger>,
    pub ledger: Arc<Ledger>,
}

pub struct State {
    ledger: Arc<Ledger>,
    of_account: Arc<AccountLedger>,
    /// Of this actor alone.
    address: Address<Msg>,
    /// Whether the account's trades bear its present name.
    named: bool,
    schedule: Schedule,
    /// Trades from before the start that are open; `None`: not asked for yet.
    inherited: Option<HashSet<TradeId>>,
    /// When a terminal was there first.
    began: Option<Instant>,
    /// The reason, already logged, why the open trades cannot be looked for.
    obstacle: Option<String>,
    /// Trades that somebody waits for.
    woken: HashSet<TradeId>,
    next: Option<AbortHandle>,
    looked: Option<Instant>,
    /// What was told last to keep the account from trading.
    announced: Option<Vec<TradeBlock>>,
    /// Whether it was said that trades belong to another account at the broker.
    warned: bool,
}

impl Actor for Reconciler {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = ReconcilerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: ReconcilerArgs,
    ) -> Result<State, ActorProcessingErr> {
        let ReconcilerArgs { of_account, ledger } = args;
        of_account.reconciler.started(myself);
        let address = of_account.reconciler.pinned();
        let _ = address.send(Msg::Look);
        Ok(State {
            ledger,
            of_account,
            address,
            named: false,
            schedule: Schedule::default(),
            inherited: None,
            began: None,
            obstacle: None,
            woken: HashSet::new(),
            next: None,
            looked: None,
            announced: None,
            warned: false,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Look => {}
            Msg::Wake(trade_id) => {
                state.woken.insert(trade_id);
                if state.looked.is_some_and(|at| at.elapsed() < PAUSE) {
                    state.look_after(PAUSE);
                    return Ok(());
                }
            }
            #[cfg(test)]
            Msg::Fail => return Err("on purpose".into()),
        }
        let wait = state.look().await;
        state.announce_blocks();
        state.looked = Some(Instant::now());
        state.look_after(wait.max(PAUSE));
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.address.stopped();
        Ok(())
    }
}

impl State {
    fn look_after(&mut self, wait: Duration) {
        let next = self.address.send_after(wait, Msg::Look);
        if let Some(earlier) = self.next.replace(next) {
            earlier.abort();
        }
    }

    /// Tells the metrics what keeps the account from trading, when that has changed.
    fn announce_blocks(&mut self) {
        let (ledger, account) = (&self.ledger, &self.of_account.account);
        let blocks = permission::blocks(ledger, account);
        if self.announced.as_ref() != Some(&blocks) {
            permission::announce(ledger, account);
            self.announced = Some(blocks);
        }
    }

    /// Looks once, and says when to look again.
    async fn look(&mut self) -> Duration {
        let (ledger, account) = (self.ledger.clone(), self.of_account.account.clone());
        let Ok(journal) = ledger.journal() else {
            return RARELY;
        };
        let lost_before = account.lost_trades();
        let Some(open) = self.open_trades(journal).await else {
            return SOON;
        };
        if open.is_empty() {
            self.obstacle = None;
        }
        let lost = open.iter().filter(|trade| trade.state == TradeState::Unknown);
        let lost: HashSet<TradeId> = lost.map(|trade| trade.trade_id.clone()).collect();
        let now = Instant::now();
        let due = self.schedule.take_due(open, &std::mem::take(&mut self.woken), now);
        if account.primary_since().is_some() {
            self.began.get_or_insert(now);
        }
        if !due.is_empty() {
            let obstacle =
                self.decide_all(journal, &due).await.err().map(|error| error.to_string());
            // Logged once, because it is tried again many times a second.
            if let Some(error) = obstacle.as_deref().filter(|_| obstacle != self.obstacle) {
                info!(account = account.name.as_str(), error, "trades cannot be looked for yet");
            }
            self.obstacle = obstacle;
        }
        let of_account = self.of_account.clone();
        let gate = &of_account.gate;
        let mut failed = false;
        if account.trade && !gate.is_complete(&account) {
            let context = CallContext::internal(REQUEST_ID, LOOK_TIMEOUT);
            failed = gate.ensure_complete(&account, journal, &context).await.is_err();
        }
        let now = Instant::now();
        for trade in &due {
            let age = now_msc().saturating_sub(trade.created_msc);
            let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
            self.schedule.again(trade, age, ledger.options.not_found_after, now);
        }
        account.set_searches(self.schedule.decidable(&lost), lost_before);
        self.open_gate();
        let ready = gate.is_reconciled() && (!account.trade || gate.is_complete(&account));
        let idle = if ready || failed { NEXT_PRIMARY } else { AT_START };
        self.schedule.next(now).unwrap_or(idle).min(idle)
    }

    /// Trades whose state is open and which no execution decides about. `None` if the journal cannot be used.
    async fn open_trades(&mut self, journal: &Journal) -> Option<Vec<Trade>> {
        let (ledger, account) = (self.ledger.clone(), self.of_account.account.clone());
        if !self.named {
            // Before its gate opens: under a new name it must not trade with a key again.
            journal.adopt(Owner::of(&account)).await.ok()?;
            ledger.halts.load(journal).await.ok()?;
            self.named = true;
        }
        let since = now_msc().saturating_sub(WATCHED_MSC);
        let found = journal.unfinished(&account.name, since).await.ok()?;
        let mut trades = vec![];
        for trade in found {
            if ledger.executions.is_deciding(&trade.trade_id) {
                continue;
            }
            if trade.state != TradeState::Sending {
                trades.push(trade);
                continue;
            }
            // Its task, or the gateway, ended while it was being sent. Nobody knows what its terminal
            // was doing then.
            let orphan = Trade {
                state: TradeState::Unknown,
                detail: Some("the gateway ended before the answer came".to_owned()),
                may_arrive: account.mode() == Mode::Live,
                ..trade
            };
            let settled = ledger.finish(&account, orphan, REQUEST_ID).await;
            if !settled.state.is_final() {
                trades.push(settled);
            }
        }
        if self.inherited.is_none() {
            let unknown = trades.iter().filter(|trade| trade.state == TradeState::Unknown);
            let inherited: HashSet<TradeId> = unknown.map(|trade| trade.trade_id.clone()).collect();
            if !inherited.is_empty() {
                let trades = inherited.len();
                info!(
                    account = account.name.as_str(),
                    trades, "looking for trades from before the start"
                );
            }
            self.inherited = Some(inherited);
            journal.count_unknown(account.id, &account.name);
        }
        self.leave_strangers(&mut trades);
        Some(trades)
    }

    /// Leaves alone what was traded at another login or server: this terminal cannot know.
    fn leave_strangers(&mut self, trades: &mut Vec<Trade>) {
        let all = trades.len();
        let account = &self.of_account.account;
        trades.retain(|trade| account.is_of(&trade.identity));
        let strangers = all - trades.len();
        if strangers > 0 && !self.warned {
            self.warned = true;
            let account = account.name.as_str();
            warn!(account, trades = strangers, "unfinished trades belong to another account");
        }
    }

    /// Lets new trades in once each trade from before the start is decided, or known not to be
    /// decided by looking, or was waited for long enough.
    fn open_gate(&mut self) {
        let (gate, account) = (&self.of_account.gate, self.of_account.account.name.as_str());
        let Some(inherited) = self.inherited.as_ref().filter(|_| !gate.is_reconciled()) else {
            return;
        };
        let undecided = self.schedule.decidable(inherited);
        let longest = self.ledger.options.not_found_after + LONGEST_START;
        if undecided == 0 || self.began.is_some_and(|began| began.elapsed() > longest) {
            gate.open();
            info!(account, undecided, "account accepts trades");
        }
    }

    /// Decides what one look decides.
    async fn decide_all(&mut self, journal: &Journal, trades: &[Trade]) -> Result<(), CallError> {
        let account = self.of_account.account.clone();
        let context = CallContext::internal(REQUEST_ID, LOOK_TIMEOUT);
        let not_ready = || CallError::NotReady(account.ready_in());
        let primary = account.primary_since().ok_or_else(not_ready)?;
        let seen = self.collect_evidence(trades, &context).await?;
        if account.primary_since() != Some(primary) {
            return Err(not_ready());
        }
        let mut history = None;
        for (trade, evidence) in seen {
            let alike = matching::foreign_orders(trade, &evidence);
            let owned = journal.owned(&account.name, alike, &trade.trade_id).await;
            let owned = owned.map_err(|_| not_ready())?.into_keys().collect();
            let finding = decide(trade, &evidence, &owned);
            let timed = matches!(finding, Finding::Unseen | Finding::Void(_));
            if timed && history.is_none() && trade.state == TradeState::Unknown {
                history = Some(match account.mode() {
                    Mode::Simulated => History { shows_known: Some(true), deals: 0 },
                    Mode::Live => gate::history(&account, journal, &context).await?,
                });
            }
            if let Some(search) = self.schedule.succeeded(&trade.trade_id) {
                let look = Look { at: Instant::now(), primary, history };
                let patience = self.ledger.options.not_found_after;
                let conclusion = conclude(search, trade.clone(), finding, look, patience);
                self.carry_out(journal, conclusion).await;
            }
        }
        Ok(())
    }

    /// What the terminal shows of each trade. Both ends of the look are sound, so that what is between
    /// them is about the configured account.
    async fn collect_evidence<'a>(
        &mut self,
        trades: &'a [Trade],
        context: &CallContext,
    ) -> Result<Vec<(&'a Trade, Evidence)>, CallError> {
        let account = &self.of_account.account;
        let standing = snapshot::standing(account, context).await?;
        let mut seen = vec![];
        for trade in trades {
            match standing.evidence(account, trade, context).await {
                Ok(evidence) => seen.push((trade, evidence)),
                Err(error) => {
                    let (account, trade_id) = (account.name.as_str(), &*trade.trade_id);
                    warn!(account, trade_id, %error, "trade cannot be looked for");
                    self.schedule.failed(&trade.trade_id);
                }
            }
        }
        snapshot::ensure_sound(account, context).await?;
        Ok(seen)
    }

    async fn carry_out(&mut self, journal: &Journal, conclusion: Conclusion) {
        let (ledger, account) = (&self.ledger, &self.of_account.account);
        let name = account.name.as_str();
        match conclusion {
            Conclusion::Nothing => {}
            Conclusion::Note(trade) => drop(journal.settle(account.id, trade, REQUEST_ID).await),
            Conclusion::End(trade) => {
                if let Some(inherited) = &mut self.inherited {
                    inherited.remove(&trade.trade_id);
                }
                ledger.finish(account, trade, REQUEST_ID).await;
            }
            Conclusion::LateFill(trade) => {
                let trade_id = &*trade.trade_id;
                error!(account = name, trade_id, "trade that was not found has happened after all");
                ledger.metrics.record(Event::TradeContradicted { account: account.id });
                ledger.finish(account, trade, REQUEST_ID).await;
            }
            Conclusion::Contradiction(trade) => {
                let (trade_id, detail) = (&*trade.trade_id, trade.contradicted.as_deref());
                error!(
                    account = name,
                    trade_id, detail, "trade contradicts how an operator settled it"
                );
                ledger.metrics.record(Event::TradeContradicted { account: account.id });
                let _ = journal.settle(account.id, trade, REQUEST_ID).await;
            }
        }
    }
}
