//! Whatever comes, changes, is paused and goes, in whatever order: nobody else notices, nothing is left
//! behind, and no trade is lost.

mod changes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::account_name::AccountName;
use crate::api::SettingChange;
use crate::app::Service;
use crate::clock::BootInstant;
use crate::mt5::{OrderType, calls};
use crate::pool::CallContext;
use crate::streams::{EventKind, Item, Topic};
use crate::telemetry::Events;
use crate::trading::{
    IdempotencyKey, NewOrder, Origin, TradeCommand, TradeFilter, TradeId, TradeState,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// How long a read of an account that nothing is done to may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// The account that nothing is done to.
const STEADY: &str = "steady";

/// The others.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// How an account is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Configured {
    sessions: usize,
    paused: bool,
}

/// The accounts beside the steady one, by their place in [`NAMES`].
type Configuration = BTreeMap<usize, Configured>;

/// A change: which account, and how it is configured from then on. `None`: it is not.
fn change() -> impl Strategy<Value = (usize, Option<Configured>)> {
    let configured =
        (1..=2usize, any::<bool>()).prop_map(|(sessions, paused)| Configured { sessions, paused });
    (0..NAMES.len(), proptest::option::weighted(0.7, configured))
}

/// What a reload is to report for an account.
fn expected(before: Option<&Configured>, after: Option<&Configured>) -> Option<ChangeKind> {
    match (before, after) {
        (None, None) => None,
        (None, Some(_)) => Some(ChangeKind::Added),
        (Some(_), None) => Some(ChangeKind::Removed),
        (Some(before), Some(after)) if before == after => None,
        (Some(before), Some(after)) if before.sessions != after.sessions => {
            Some(ChangeKind::Changed)
        }
        (Some(_), Some(Configured { paused: true, .. })) => Some(ChangeKind::Paused),
        (Some(_), Some(_)) => Some(ChangeKind::Resumed),
    }
}

fn write(directory: &Path, accounts: &Configuration) {
    let account = |name: &str, login: usize, Configured { sessions, paused }: Configured| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = 'S'\nsessions = {sessions}\n\
             paused = {paused}\nterminal.kind = 'simulator'\n"
        )
    };
    let journal = directory.join("journal").display().to_string();
    // Timers of what has gone run out soon.
    let mut text = format!(
        "trading.journal = '{journal}'\nserver.probe_interval = '100ms'\n\
         server.call_timeout = '5s'\nserver.trade_timeout = '5s'\n"
    );
    text += &account(STEADY, 9, Configured { sessions: 1, paused: false });
    for (index, configured) in accounts {
        text += &account(NAMES[*index], index + 1, *configured);
    }
    std::fs::write(directory.join("gateway.toml"), text).unwrap();
}

/// A gateway, without connections.
struct Harness {
    service: Service,
    directory: tempfile::TempDir,
    /// Trades that clients were told have been executed.
    executed: parking_lot::Mutex<Vec<(AccountName, TradeId)>>,
    orders: AtomicUsize,
    is_over: AtomicBool,
}

impl Harness {
    async fn start() -> Arc<Harness> {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &Configuration::new());
        let file = directory.path().join("gateway.toml");
        let settings = Settings::load(directory.path(), Some(&file), [], &[]);
        let settings = settings.unwrap_or_else(|faults| panic!("{faults:?}"));
        let service = Service::start(settings, Events::default()).await.unwrap();
        let harness = Harness {
            service,
            directory,
            executed: parking_lot::Mutex::default(),
            orders: AtomicUsize::default(),
            is_over: AtomicBool::default(),
        };
        eventually("the account trades", async || harness.order(STEADY).await).await;
        Arc::new(harness)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    async fn reload(&self, accounts: &Configuration) -> Reloaded {
        write(self.directory.path(), accounts);
        let reloaded = self.service.app().administration.reload();
        tokio::time::timeout(PATIENCE, reloaded).await.unwrap().unwrap()
    }

    /// Places an order, and notes it if it was executed. Gives whether it was.
    async fn order(&self, name: &str) -> bool {
        let app = self.service.app();
        let Some(account) = app.accounts.get(name) else {
            return false;
        };
        let number = self.orders.fetch_add(1, Ordering::Relaxed);
        let origin = Origin {
            key: IdempotencyKey::parse(&format!("key-{number}")),
            arrived: BootInstant::now(),
            send_within: Duration::from_secs(5),
            api_key: None,
            client: None,
        };
        let order = NewOrder::of("EURUSD", OrderType::Buy, 0.01);
        let context = CallContext::new("test".into(), Instant::now() + PATIENCE);
        let command = TradeCommand::Place(order);
        let (reply, delivery) = app.trading.execute(&account, command, origin, &context).await;
        delivery.confirm();
        let trade = reply.ok().map(|reply| reply.trade);
        let trade = trade.filter(|trade| trade.state == TradeState::Executed);
        let executed = trade.map(|trade| (account.name.clone(), trade.trade_id));
        let is_executed = executed.is_some();
        self.executed.lock().extend(executed);
        is_executed
    }

    /// Reads from the steady account without a pause. Every read is answered.
    async fn read_steadily(self: Arc<Harness>) -> usize {
        let account = self.service.accounts.get(STEADY).unwrap();
        let mut reads = 0;
        while !self.is_over() {
            let context = CallContext::new("test".into(), Instant::now() + READ_WITHIN);
            account.call(calls::AccountInfo, &context).await.unwrap();
            reads += 1;
            tokio::task::yield_now().await;
        }
        reads
    }

    /// Follows a stream of the steady account. Nothing of it is missing, and it does not end.
    async fn follow_steadily(self: Arc<Harness>) -> usize {
        let streams = &self.service.app().streams;
        let topic = Topic { kind: EventKind::Ticks, symbol: Some("EURUSD".into()) };
        let name = AccountName::from_trusted(STEADY);
        let admission = streams.admit().unwrap();
        let mut subscriber = streams.subscribe(&name, vec![topic], None, admission).await.unwrap();
        let mut events = 0;
        while !self.is_over() {
            let item = tokio::time::timeout(READ_WITHIN, subscriber.next()).await.unwrap();
            assert!(matches!(item, Item::Event(_)), "a gap");
            events += 1;
        }
        assert!(!subscriber.ended().is_cancelled());
        events
    }

    /// Trades at an account that comes and goes, as long as it does.
    async fn trade(self: Arc<Harness>, name: &'static str) {
        while !self.is_over() {
            self.order(name).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The lines of the metrics that name an account.
    async fn series(&self, name: &str) -> Vec<String> {
        let text = self.service.app().metrics.render().await.unwrap();
        let label = format!("account=\"{name}\"");
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains(&label)).map(str::to_owned).collect()
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Makes these changes one after the other, while clients read, stream and trade.
async fn live_through(changes: &[(usize, Option<Configured>)]) {
    let harness = Harness::start().await;
    let steady = harness.service.accounts.get(STEADY).unwrap();
    let since = steady.status().sessions[0].since;
    let before = tasks();
    let reading = tokio::spawn(harness.clone().read_steadily());
    let following = tokio::spawn(harness.clone().follow_steadily());
    let trading = NAMES.map(|name| tokio::spawn(harness.clone().trade(name)));

    let mut accounts = Configuration::new();
    for (index, configured) in changes {
        let earlier = accounts.remove(index);
        accounts.extend(configured.map(|configured| (*index, configured)));
        let reloaded = harness.reload(&accounts).await;
        let expected =
            expected(earlier.as_ref(), configured.as_ref()).map(|change| SettingChange {
                setting: format!("accounts.{}", NAMES[*index]),
                change,
                unknown_trades: 0,
            });
        let applied: Vec<SettingChange> = expected.into_iter().collect();
        assert_eq!(reloaded, Reloaded { applied, restart_required: vec![] });
        let served = harness.service.accounts.all();
        let named = accounts.keys().map(|index| NAMES[*index]).chain([STEADY]);
        assert!(served.keys().map(AccountName::as_str).eq(named), "{accounts:?}");
        for (index, configured) in &accounts {
            let account = &served[NAMES[*index]];
            assert_eq!(account.status().sessions.len(), configured.sessions);
            assert_eq!(account.door.is_open(), !configured.paused);
        }
        for (index, name) in NAMES.iter().enumerate() {
            let series = harness.series(name).await;
            assert_eq!(series.is_empty(), !accounts.contains_key(&index), "{series:?}");
        }
    }
    harness.reload(&Configuration::new()).await;
    harness.is_over.store(true, Ordering::Relaxed);
    let (reads, events) = (reading.await.unwrap(), following.await.unwrap());
    assert!(reads > 0 && events > 0, "{reads} {events}");
    for trading in trading {
        trading.await.unwrap();
    }

    // Nobody else has noticed.
    let status = steady.status();
    assert_eq!((status.sessions[0].since, status.sessions[0].restarts), (since, 0));
    assert!(harness.order(STEADY).await);
    // Nothing is left behind.
    for name in NAMES {
        assert_eq!(harness.series(name).await, [""; 0]);
    }
    // Those of the hub, which remembers what was subscribed to.
    let remembered = 4;
    eventually("what has gone has ended", async || tasks() <= before + remembered).await;
    // No trade is lost.
    let trading = &harness.service.app().trading;
    let executed = std::mem::take(&mut *harness.executed.lock());
    for (account, trade_id) in executed {
        let trade = trading.find(&account, &trade_id).await.unwrap().unwrap();
        assert_eq!(trade.state, TradeState::Executed, "{trade:?}");
    }
    for name in NAMES {
        for state in [TradeState::Sending, TradeState::Unknown] {
            let filter = TradeFilter { state: Some(state), limit: 10, ..TradeFilter::default() };
            let open = trading.list(&AccountName::from_trusted(name), filter).await.unwrap();
            assert!(open.is_empty(), "{open:?}");
        }
    }
}

proptest! {
    // Each case is a gateway that lives through some changes.
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 12, ..ProptestConfig::default() })]

    #[test]
    fn accounts_come_and_go_without_a_trace_for_the_others(
        changes in proptest::collection::vec(change(), 1..8),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(live_through(&changes));
    }
}
