//! The trading actor, the journal, the reconciler and executions are made to fail at the moments that
//! matter, on a simulated account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;
use crate::account_name::AccountName;
use crate::actor::Depths;
use crate::clock::BootInstant;
use crate::metrics::{self, Catalog, Collector, LabelSets, Metrics, collector};
use crate::mt5::{OrderType, Selection, ServerClock, calls};
use crate::pool::{
    self, Account, AccountOptions, Accounts, CallContext, Pool, Savings, TradeBlock, supervisor,
};
use crate::terminal::simulator::{Launcher, MarginMode, Options as Simulated};
use crate::trading::command::{NewOrder, TradeCommand};
use crate::trading::execution::{Moment, Origin};
use crate::trading::halt::{Halt, HaltScope};
use crate::trading::identifiers::{IdempotencyKey, TradeId};
use crate::trading::journal::{Journal, TradeFilter};
use crate::trading::reply::{Error, NotSentCause, TradeReply};
use crate::trading::trade::{Operation, Trade, TradeState};
use crate::trading::{Delivery, Left, Options, Trading};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Harness {
    trading: Trading,
    account: Arc<Account>,
    metrics: Metrics,
    catalog: Arc<Catalog>,
    _directory: tempfile::TempDir,
}

impl Harness {
    /// A simulated account that takes trades, and a journal.
    async fn start() -> Harness {
        let harness = Harness::new().await;
        harness.run_actor().await;
        harness.wait_until_open().await;
        harness
    }

    async fn new() -> Harness {
        let (depths, names) = (Depths::default(), [("demo".to_owned(), 1)]);
        let measured = metrics::Options::of_tests();
        let catalog = Arc::new(Catalog::new(&measured, &names, &LabelSets::default()).unwrap());
        let metrics = Metrics::new(&depths, true);
        let args = collector::Args::new(catalog.clone(), depths.clone(), metrics.clone());
        Actor::spawn(None, Collector, args).await.unwrap();
        let launcher = Launcher::new(Simulated {
            login: 1,
            server: "S".to_owned(),
            seed: 1,
            balance: 10_000.0,
            margin_mode: MarginMode::Hedging,
            commission: 0.0,
            bars: BTreeMap::new(),
            latency: Duration::ZERO,
            faults: BTreeMap::new(),
        });
        let account = AccountOptions {
            name: AccountName::from_trusted("demo"),
            login: 1,
            server: "S".to_owned(),
            sessions: 1,
            queue: 10,
            trade: true,
            paused: false,
            send_within: PATIENCE,
            send_within_close: PATIENCE,
            clock: ServerClock::RAW,
            launcher: Arc::new(launcher),
            recycling: crate::pool::Recycling::default(),
        };
        let savings = Savings { share: false, cache: 0 };
        let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            journal: directory.path().join("journal"),
            retention: PATIENCE,
            tag: true,
            not_found_after: Duration::from_millis(100),
        };
        let journal = Journal::open(&options.journal, &[], metrics.clone(), &depths).unwrap();
        let trading = Trading::new(&depths, Ok(journal), options, &accounts, metrics.clone());
        let account = accounts.get("demo").unwrap().clone();
        let pool = supervisor::Args {
            options: Arc::new(pool::Options {
                call_timeout: PATIENCE,
                trade_timeout: PATIENCE,
                probe_interval: PATIENCE,
                count_holdings: true,
                restart: RestartPolicy::UNLIMITED,
                quarantine_retry: PATIENCE,
            }),
            metrics: metrics.clone(),
            pool: Pool::new(Arc::new(accounts), &depths),
        };
        Actor::spawn(None, supervisor::PoolActor, pool).await.unwrap();
        Harness { trading, account, metrics, catalog, _directory: directory }
    }

    async fn run_actor(&self) -> ActorRef<Envelope<Msg>> {
        Actor::spawn(None, TradingActor, self.trading.actor_args()).await.unwrap().0
    }

    fn ledger(&self) -> Arc<Ledger> {
        self.trading.actor_args().ledger
    }

    fn journal(&self) -> Journal {
        self.ledger().journal().unwrap().clone()
    }

    async fn wait_until_open(&self) {
        let ledger = self.ledger();
        let of_account = ledger.account(&self.account.name).unwrap();
        until(|| self.account.is_ready() && of_account.gate.is_complete(&self.account)).await;
        until(|| of_account.gate.is_reconciled()).await;
    }

    /// Buys, on a task of its own. Lots that the symbol does not allow are refused.
    fn buy(&self, key: &str, volume: f64) -> Client {
        Client(tokio::spawn(self.order(key, volume)))
    }

    fn order(
        &self,
        key: &str,
        volume: f64,
    ) -> impl Future<Output = (Result<TradeReply, Error>, Delivery)> + use<> {
        self.order_within(PATIENCE, key, volume)
    }

    /// Buys, and stops waiting after some time.
    fn order_within(
        &self,
        patience: Duration,
        key: &str,
        volume: f64,
    ) -> impl Future<Output = (Result<TradeReply, Error>, Delivery)> + use<> {
        let order = NewOrder::of("EURUSD", OrderType::Buy, volume);
        let origin = Origin {
            key: IdempotencyKey::parse(key),
            arrived: BootInstant::now(),
            send_within: PATIENCE,
            api_key: None,
            client: None,
        };
        let (trading, account) = (self.trading.clone(), self.account.clone());
        async move {
            let context = CallContext::new("test".into(), Instant::now() + patience);
            trading.execute(&account, TradeCommand::Place(order), origin, &context).await
        }
    }

    /// Lets something happen at the next execution that reaches a moment.
    fn at(&self, moment: Moment, happens: impl FnOnce(&Harness) + Send + 'static, fails: bool) {
        let harness = Harness {
            trading: self.trading.clone(),
            account: self.account.clone(),
            metrics: self.metrics.clone(),
            catalog: self.catalog.clone(),
            _directory: tempfile::tempdir().unwrap(),
        };
        self.ledger().faults.at(moment, move || {
            async move {
                happens(&harness);
                assert!(!fails, "on purpose");
            }
            .boxed()
        });
    }

    /// Stops the next execution that reaches a moment until the second channel is sent to.
    fn stop_at(&self, moment: Moment) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, wait_for_it), (resume, resumed)) = (oneshot::channel(), oneshot::channel());
        self.ledger().faults.at(moment, move || {
            async move {
                let _ = reached.send(());
                let _ = resumed.await;
            }
            .boxed()
        });
        (wait_for_it, resume)
    }

    fn fail_actor(&self) {
        assert!(self.trading.actor_args().address.send(Msg::Fail).is_ok());
    }

    fn fail_reconciler(&self) {
        let of_account = self.ledger().account(&self.account.name).unwrap();
        let _ = of_account.reconciler.send(crate::trading::reconcile::Msg::Fail);
    }

    /// How many positions the broker shows: how often an order was sent.
    async fn positions(&self) -> usize {
        let context = CallContext::new("test".into(), Instant::now() + PATIENCE);
        let call = calls::PositionsGet { selection: Selection::All };
        self.account.call_raw(call, &context).await.unwrap().len()
    }

    /// The only trade, once it is in a state.
    async fn wait_for(&self, state: TradeState) -> Trade {
        let begun = Instant::now();
        loop {
            let filter = TradeFilter { limit: 10, ..TradeFilter::default() };
            let trades = self.trading.list(&self.account.name, filter).await.unwrap_or_default();
            match &trades[..] {
                [trade] if trade.state == state => return trade.clone(),
                _ => assert!(begun.elapsed() < PATIENCE, "no {state:?}: {trades:?}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn restarts(&self, role: Role) -> u64 {
        assert!(self.metrics.ping().await);
        self.catalog.gateway_actor_restarts_total.with_label_values(&[role.name()]).get()
    }

    async fn ended(&self, outcome: &str) -> u64 {
        assert!(self.metrics.ping().await);
        self.catalog.mt5_trades_total.with_label_values(&["demo", outcome]).get()
    }

    async fn unknown(&self) -> i64 {
        assert!(self.metrics.ping().await);
        self.catalog.mt5_trades_unknown.with_label_values(&["demo"]).get()
    }
}

struct Client(tokio::task::JoinHandle<(Result<TradeReply, Error>, Delivery)>);

impl Client {
    /// What the client is told.
    async fn reply(self) -> Result<TradeReply, Error> {
        let (reply, delivery) = self.undelivered().await;
        delivery.confirm();
        reply
    }

    async fn undelivered(self) -> (Result<TradeReply, Error>, Delivery) {
        tokio::time::timeout(PATIENCE, self.0).await.unwrap().unwrap()
    }

    async fn state(self) -> (TradeState, bool) {
        let reply = self.reply().await.unwrap();
        (reply.trade.state, reply.replayed)
    }
}

async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.unwrap();
}

fn children(actor: &ActorRef<Envelope<Msg>>) -> BTreeSet<String> {
    actor.get_cell().get_children().iter().map(|child| child.get_id().to_string()).collect()
}

#[tokio::test]
async fn a_child_that_fails_is_started_again() {
    let harness = Harness::new().await;
    let actor = harness.run_actor().await;
    let before = children(&actor);
    assert_eq!(before.len(), 2, "the journal and one reconciler");
    for child in actor.get_cell().get_children() {
        child.kill();
    }
    until(|| {
        let now = children(&actor);
        now.len() == 2 && now.is_disjoint(&before)
    })
    .await;
    assert_eq!(harness.restarts(Role::Journal).await, 1);
    assert_eq!(harness.restarts(Role::Reconciler).await, 1);
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn a_key_stays_under_way_when_the_actor_is_restarted() {
    let harness = Harness::start().await;
    let (reached, resume) = harness.stop_at(Moment::IntentWritten);
    let first = harness.buy("k", 0.1);
    reached.await.unwrap();
    for _ in 0..2 {
        harness.fail_actor();
        harness.run_actor().await;
        assert_eq!(harness.buy("k", 0.1).reply().await, Err(Error::UnderWay));
        assert_eq!(harness.buy("k", 0.2).reply().await, Err(Error::KeyReused));
    }
    resume.send(()).unwrap();
    assert_eq!(first.state().await, (TradeState::Executed, false));
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, true));
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn an_execution_that_ends_while_there_is_no_actor_is_answered_by_the_next_one() {
    let harness = Harness::start().await;
    for (moment, key) in [(Moment::IntentWritten, "a"), (Moment::Answered, "b")] {
        let (reached, resume) = harness.stop_at(moment);
        let client = harness.buy(key, 0.1);
        reached.await.unwrap();
        harness.fail_actor();
        until(|| harness.trading.actor_args().address.send(Msg::ExecutionEnded).is_err()).await;
        assert!(matches!(harness.buy("other", 0.1).reply().await, Err(Error::NoJournal(_))));
        resume.send(()).unwrap();
        // The journal is gone with the actor, too: the outcome waits for both.
        harness.run_actor().await;
        let (state, _) = client.state().await;
        assert!(matches!(state, TradeState::Executed), "{moment:?}: {state:?}");
        harness.wait_until_open().await;
    }
    assert_eq!(harness.positions().await, 2);
    assert_eq!(harness.unknown().await, 0);
}

#[tokio::test]
async fn a_submission_that_the_actor_loses_was_not_sent_and_says_so() {
    let harness = Harness::start().await;
    // Both messages are in the mailbox before the actor runs.
    harness.fail_actor();
    let mut lost = std::pin::pin!(harness.order("k", 0.1));
    assert!(futures_util::poll!(&mut lost).is_pending());
    let (lost, delivery) = lost.await;
    delivery.confirm();
    assert!(matches!(lost, Err(Error::NoJournal(_))), "{lost:?}");
    harness.run_actor().await;
    harness.wait_until_open().await;
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false));
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn a_repetition_that_is_given_up_names_no_trade_of_its_own() {
    let harness = Harness::start().await;
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false));
    let (reply, delivery) = harness.order_within(Duration::ZERO, "k", 0.1).await;
    delivery.confirm();
    assert!(!matches!(reply, Err(Error::OutcomeUnknown { trade_id: Some(_) })), "{reply:?}");
    // One whose trade has begun names it.
    let (prepared, resume) = harness.stop_at(Moment::Prepared);
    let order = harness.order_within(Duration::from_millis(200), "l", 0.1);
    let given_up = tokio::spawn(order);
    prepared.await.unwrap();
    let (reply, _delivery) = given_up.await.unwrap();
    let Err(Error::OutcomeUnknown { trade_id: Some(trade_id) }) = reply else {
        panic!("{reply:?}");
    };
    resume.send(()).unwrap();
    harness.trading.drain().await;
    let found = harness.trading.find(&harness.account.name, &trade_id).await.unwrap();
    assert_eq!(found.map(|trade| trade.state), Some(TradeState::Executed));
}

#[tokio::test]
async fn an_execution_that_panics_before_its_intent_has_sent_nothing() {
    let harness = Harness::start().await;
    harness.at(Moment::Prepared, |_| {}, true);
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::OutcomeUnknown { .. })), "{reply:?}");
    harness.wait_for(TradeState::NotSent).await;
    // The client does not know yet: a repetition is a question.
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::NotSent(_))), "{reply:?}");
    assert_eq!(harness.positions().await, 0);
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false));
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn an_execution_that_panics_before_it_sends_is_found_not_to_have_happened() {
    let harness = Harness::start().await;
    harness.at(Moment::IntentWritten, |_| {}, true);
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::OutcomeUnknown { .. })), "{reply:?}");
    harness.wait_for(TradeState::NotFound).await;
    assert_eq!(harness.unknown().await, 0);
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::NotFound, true));
    assert_eq!(harness.positions().await, 0);
}

#[tokio::test]
async fn an_execution_that_panics_after_the_answer_is_found_to_be_executed() {
    let harness = Harness::start().await;
    harness.at(Moment::Answered, |_| {}, true);
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::OutcomeUnknown { .. })), "{reply:?}");
    harness.wait_for(TradeState::Executed).await;
    assert_eq!(harness.unknown().await, 0);
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, true));
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn a_journal_that_fails_before_the_intent_refuses_the_trade() {
    let harness = Harness::start().await;
    harness.at(Moment::Prepared, |harness| harness.journal().fail_actor(), false);
    match harness.buy("k", 0.1).reply().await {
        Err(Error::NotSent(not_sent)) => {
            assert!(matches!(not_sent.cause, Some(NotSentCause::Journal(_))), "{not_sent:?}");
        }
        other => panic!("{other:?}"),
    }
    harness.wait_for(TradeState::NotSent).await;
    assert_eq!(harness.positions().await, 0);
    assert_eq!(harness.restarts(Role::Journal).await, 1);
    assert_eq!(harness.buy("other", 0.1).state().await, (TradeState::Executed, false));
}

#[tokio::test]
async fn a_journal_that_fails_while_a_trade_is_under_way_loses_nothing() {
    let failures: [fn(&Harness); 2] =
        [|harness| harness.journal().fail_actor(), |harness| harness.journal().fail_thread()];
    for moment in [Moment::IntentWritten, Moment::Answered] {
        for fail in failures {
            let harness = Harness::start().await;
            harness.at(moment, fail, false);
            let reply = harness.buy("k", 0.1).reply().await.unwrap();
            assert_eq!(reply.trade.state, TradeState::Executed);
            let kept = harness.wait_for(TradeState::Executed).await;
            assert_eq!(kept.trade_id, reply.trade.trade_id);
            assert_eq!(harness.restarts(Role::Journal).await, 1);
            assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, true));
            assert_eq!(harness.positions().await, 1);
            assert_eq!(harness.unknown().await, 0);
        }
    }
}

#[tokio::test]
async fn a_reconciler_that_fails_comes_back_and_finds_out() {
    let harness = Harness::start().await;
    harness.at(Moment::Answered, Harness::fail_reconciler, true);
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::OutcomeUnknown { .. })), "{reply:?}");
    harness.wait_for(TradeState::Executed).await;
    assert_eq!(harness.restarts(Role::Reconciler).await, 1);
    assert_eq!(harness.unknown().await, 0);
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn drain_waits_for_what_is_under_way_and_writes_it() {
    let harness = Harness::start().await;
    let (reached, resume) = harness.stop_at(Moment::Answered);
    let client = harness.buy("k", 0.1);
    reached.await.unwrap();
    let mut drained = std::pin::pin!(harness.trading.drain());
    assert!(futures_util::poll!(&mut drained).is_pending());
    let Left { states, under_way } = harness.trading.left();
    assert_eq!((states, under_way.len()), (0, 1));
    let disk = harness.journal().stall().await;
    resume.send(()).unwrap();
    until(|| harness.trading.left().states == 1).await;
    assert_eq!(harness.trading.left().under_way, under_way);
    drop(disk);
    tokio::time::timeout(PATIENCE, drained).await.unwrap();
    let trade = client.reply().await.unwrap().trade;
    assert_eq!((trade.state, &under_way[..]), (TradeState::Executed, &[trade.trade_id][..]));
    assert_eq!(harness.trading.left(), Left { states: 0, under_way: vec![] });
    assert!(harness.trading.ping().await);
}

/// Lots that no symbol allows.
const REFUSED: f64 = 1e9;

/// After an answer that reached nobody, the next request with the key asks, and the one after it trades.
async fn assert_told_once(harness: &Harness, case: &str) {
    harness.wait_for(TradeState::NotSent).await;
    for _ in 0..2 {
        let (reply, _lost_again) = harness.buy("k", REFUSED).undelivered().await;
        assert!(matches!(reply, Err(Error::NotSent(_))), "{case}: {reply:?}");
    }
    let reply = harness.buy("k", REFUSED).reply().await;
    assert!(matches!(reply, Err(Error::NotSent(_))), "{case}: {reply:?}");
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false), "{case}");
}

#[tokio::test]
async fn a_refusal_that_reaches_nobody_is_recorded() {
    // Its client hangs up between the end of its execution and the answer.
    let harness = Harness::start().await;
    {
        let mut order = std::pin::pin!(harness.order("k", REFUSED));
        assert!(futures_util::poll!(&mut order).is_pending());
        harness.fail_actor();
        until(|| harness.ledger().executions.has_ended()).await;
    }
    harness.run_actor().await;
    harness.wait_until_open().await;
    assert_told_once(&harness, "before the answer").await;

    // The answer is there, and nobody looks.
    let harness = Harness::start().await;
    {
        let mut order = std::pin::pin!(harness.order("k", REFUSED));
        assert!(futures_util::poll!(&mut order).is_pending());
        // Once the actor has answered, it has admitted the order.
        assert!(harness.trading.ping().await);
        let ledger = harness.ledger();
        tokio::time::timeout(PATIENCE, ledger.executions.wait_until_idle()).await.unwrap();
    }
    assert_told_once(&harness, "before it was read").await;

    // The connection breaks under the answer.
    let harness = Harness::start().await;
    let (reply, delivery) = harness.buy("k", REFUSED).undelivered().await;
    assert!(matches!(reply, Err(Error::Refused(_))), "{reply:?}");
    drop(delivery);
    assert_told_once(&harness, "before it was sent").await;
}

#[tokio::test]
async fn the_record_of_a_refusal_is_timed() {
    let harness = Harness::start().await;
    let written = async || {
        assert!(harness.metrics.ping().await);
        let labels: &[&str] = &[];
        let durations = &harness.catalog.gateway_journal_write_duration_seconds;
        durations.with_label_values(labels).get_sample_count()
    };
    let before = written().await;
    drop(harness.buy("k", REFUSED).undelivered().await);
    harness.wait_for(TradeState::NotSent).await;
    assert_eq!(written().await, before + 1);
}

#[tokio::test]
async fn a_refusal_that_its_client_has_is_not_recorded() {
    let harness = Harness::start().await;
    for _ in 0..2 {
        let reply = harness.buy("k", REFUSED).reply().await;
        assert!(matches!(reply, Err(Error::Refused(_))), "{reply:?}");
    }
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false));
}

#[tokio::test]
async fn a_key_is_free_although_a_panicked_execution_cannot_be_settled() {
    let harness = Harness::start().await;
    let fail_again = |harness: &Harness| harness.at(Moment::Settling, |_| {}, true);
    harness.at(Moment::Prepared, fail_again, true);
    let reply = harness.buy("k", 0.1).reply().await;
    assert!(matches!(reply, Err(Error::OutcomeUnknown { .. })), "{reply:?}");
    assert_eq!(harness.buy("k", 0.1).state().await, (TradeState::Executed, false));
    assert_eq!(harness.positions().await, 1);
}

#[tokio::test]
async fn an_end_is_counted_although_whoever_reported_it_is_stopped() {
    let harness = Harness::start().await;
    let (ledger, journal) = (harness.ledger(), harness.journal());
    let executed = harness.buy("k", 0.1).reply().await.unwrap().trade;
    let unknown =
        Trade { trade_id: TradeId::from_trusted("lost"), idempotency_key: None, ..executed };
    let unknown = Trade { state: TradeState::Sending, accepted_order: 1, ..unknown };
    let guard = ledger.executions.decide(unknown.clone());
    journal.insert(unknown.clone()).await.unwrap();
    let disk = journal.stall().await;
    {
        let refused = Trade { state: TradeState::Refused, ..unknown };
        let finished = std::pin::pin!(ledger.finish(&harness.account, refused, "test"));
        assert!(futures_util::poll!(finished).is_pending());
    }
    drop(disk);
    let settled = journal
        .by_id(&harness.account.name, &TradeId::from_trusted("lost"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(settled.state, TradeState::Refused);
    assert_eq!(harness.ended("refused").await, 1);
    assert_eq!(harness.ended("executed").await, 1);
    drop(guard);
}

impl Harness {
    async fn halt(&self, scope: HaltScope) -> Halt {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let halt = Halt { since, api_key: Some("ops".to_owned()), client: None };
        let in_force = self.trading.halt(scope, halt).await;
        assert_eq!(in_force.not_kept, None);
        in_force.halt
    }
}

#[tokio::test]
async fn a_halt_holds_back_what_is_on_its_way_and_names_what_was_sent() {
    for of_all in [false, true] {
        let harness = Harness::start().await;
        let scope = if of_all { HaltScope::All } else { HaltScope::of(&harness.account) };
        for moment in [Moment::Prepared, Moment::IntentWritten] {
            let (reached, resume) = harness.stop_at(moment);
            let client = harness.buy("k", 0.1);
            reached.await.unwrap();
            harness.halt(scope.clone()).await;
            assert_eq!(harness.trading.may_still_open(&harness.account).await, (vec![], None));
            resume.send(()).unwrap();
            let Err(Error::NotSent(not_sent)) = client.reply().await else {
                panic!("{moment:?}: it was sent");
            };
            assert_eq!(not_sent.cause, Some(NotSentCause::Halted), "{moment:?}");
            assert_eq!(harness.positions().await, 0);
            // The next one is refused before anything is written.
            let refused = Err(Error::NotAllowed(vec![TradeBlock::Halted]));
            assert_eq!(harness.buy("later", 0.1).reply().await, refused);
            assert!(harness.trading.lift_halt(scope.clone()).await.unwrap());
        }
        let (reached, resume) = harness.stop_at(Moment::Answered);
        let client = harness.buy("k", 0.1);
        reached.await.unwrap();
        harness.halt(scope.clone()).await;
        assert_eq!(harness.trading.may_still_open(&harness.account).await.0.len(), 1);
        resume.send(()).unwrap();
        assert_eq!(client.state().await, (TradeState::Executed, false));
        until(|| harness.ledger().halts.sent(&harness.account).is_empty()).await;
    }
}

#[tokio::test]
async fn a_halt_that_the_disk_does_not_take_is_in_force_and_is_written_by_another_attempt() {
    let harness = Harness::start().await;
    let scope = HaltScope::of(&harness.account);
    let halt = Halt { since: jiff::Timestamp::UNIX_EPOCH, api_key: None, client: None };
    harness.journal().fail_thread();
    let kept = harness.trading.halt(scope.clone(), halt.clone()).await;
    assert!(harness.ledger().halts.is_halted(&harness.account));
    assert!(kept.not_kept.is_some());
    let keeps = async || harness.journal().halts().await.is_ok_and(|halts| halts.len() == 1);
    while !keeps().await {
        let _ = harness.trading.halt(scope.clone(), halt.clone()).await;
        tokio::task::yield_now().await;
    }
    harness.journal().remove_halt(scope.clone()).await.unwrap();
    assert!(harness.trading.lift_halt(scope.clone()).await.unwrap());
    assert!(!harness.trading.lift_halt(scope).await.unwrap());
}

#[tokio::test]
async fn a_halt_names_what_a_panic_or_a_lost_answer_has_left_also_under_another_name() {
    let harness = Harness::start().await;
    harness.at(Moment::Answered, |_| {}, true);
    assert!(harness.buy("k", 0.1).reply().await.is_err());
    let halt = harness.halt(HaltScope::All).await;
    assert_eq!(halt.api_key.as_deref(), Some("ops"));
    let (named, error) = harness.trading.may_still_open(&harness.account).await;
    let trade = harness
        .trading
        .list(&harness.account.name, TradeFilter { limit: 9, ..TradeFilter::default() });
    let trade = trade.await.unwrap().remove(0);
    // It is named until it is found out that it was executed.
    assert!(error.is_none() && (named == [trade.trade_id] || trade.state == TradeState::Executed));

    let sent = Trade {
        identity: harness.account.identity(),
        ..Trade::new(TradeId::random(), AccountName::from_trusted("earlier"), Operation::Place, 1)
    };
    harness.journal().insert(sent.clone()).await.unwrap();
    let (named, _) = harness.trading.may_still_open(&harness.account).await;
    assert!(named.contains(&sent.trade_id), "{named:?}");
}
