use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::actor::Depths;
use crate::clock::BootInstant;
use crate::metrics::{self, Catalog, LabelSets, Metrics, StatusLabels};
use crate::mt5::ServerClock;
use crate::pool::{Account, AccountOptions, Accounts, CallContext, Savings};
use crate::terminal::simulator::{Launcher, MarginMode, Options as Simulated};
use crate::trading::Options;
use crate::trading::command::TradeCommand;
use crate::trading::execution::Origin;
use crate::trading::journal::Journal;
use crate::trading::reply::Told;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

struct Harness {
    trading: Trading,
    account: Arc<Account>,
    _directory: tempfile::TempDir,
}

impl Harness {
    /// An account whose sessions were never started, and a journal.
    fn new() -> Harness {
        let (depths, names) = (Depths::default(), [("demo".to_owned(), 1)]);
        let measured = metrics::Options {
            enabled: false,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![1.0],
            call_buckets: vec![1.0],
        };
        let catalog = Catalog::new(&measured, &names, &LabelSets::default()).unwrap();
        let metrics = Metrics::new(&depths, false);
        let launcher = Launcher::new(Simulated {
            login: 1,
            server: "S".to_owned(),
            seed: 1,
            balance: 1_000.0,
            margin_mode: MarginMode::Hedging,
            commission: 0.0,
            bars: BTreeMap::new(),
            latency: Duration::ZERO,
            faults: BTreeMap::new(),
        });
        let account = AccountOptions {
            name: "demo".to_owned(),
            login: 1,
            server: "S".to_owned(),
            sessions: 1,
            queue: 1,
            trade: true,
            send_within: Duration::from_secs(5),
            send_within_close: Duration::from_secs(30),
            clock: ServerClock::RAW,
            launcher: Arc::new(launcher),
        };
        let savings = Savings { share: false, cache: 0 };
        let accounts = Accounts::new(vec![account], savings, &catalog, &metrics, &depths);
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            journal: directory.path().join("journal"),
            retention: SOON,
            tag: true,
            not_found_after: SOON,
        };
        let journal = Journal::open(&options.journal, &[], metrics.clone()).unwrap();
        let trading = Trading::new(&depths, Ok(journal), options, &accounts, metrics);
        let account = accounts.get("demo").unwrap().clone();
        Harness { trading, account, _directory: directory }
    }

    async fn start(&self) -> ActorRef<Envelope<Msg>> {
        let args = Args { trading: self.trading.clone() };
        Actor::spawn(None, TradingActor, args).await.unwrap().0
    }

    async fn cancel(&self, key: &str, ticket: u64) -> Told {
        let origin = Origin {
            key: Some(key.to_owned()),
            arrived: BootInstant::now(),
            send_within: SOON,
            api_key: None,
            client: None,
        };
        let context = CallContext::new("test".into(), Instant::now() + SOON);
        let command = TradeCommand::Cancel { ticket };
        self.trading.execute(&self.account, command, origin, &context).await
    }
}

fn children(actor: &ActorRef<Envelope<Msg>>) -> BTreeSet<String> {
    actor.get_cell().get_children().iter().map(|child| child.get_id().to_string()).collect()
}

#[tokio::test]
async fn a_child_that_fails_is_started_again() {
    let harness = Harness::new();
    let actor = harness.start().await;
    let before = children(&actor);
    assert_eq!(before.len(), 2, "the journal's keeper and one reconciler");
    for child in actor.get_cell().get_children() {
        child.kill();
    }
    let restarted = async {
        loop {
            let now = children(&actor);
            if now.len() == 2 && now.is_disjoint(&before) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, restarted).await.unwrap();
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn a_key_stays_under_way_when_the_actor_is_restarted() {
    let harness = Harness::new();
    let command = TradeCommand::Cancel { ticket: 7 };
    let place = ("demo".to_owned(), "k".to_owned());
    locked(&harness.trading.shared.keys).insert(place, command.fingerprint());
    for _ in 0..2 {
        let actor = harness.start().await;
        assert_eq!(harness.cancel("k", 7).await, Err(Error::UnderWay));
        assert_eq!(harness.cancel("k", 8).await, Err(Error::KeyReused));
        actor.stop_and_wait(None, None).await.unwrap();
    }
}
