//! Accounts that clients set, pause and remove while others are under load.

use std::io::BufRead;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use crate::common::{Gateway, Reply};

/// The account that nothing is done to. It is polled often, so that its stream has much to miss.
const SETTINGS: &str = "[accounts_store]\nanonymous = true\n[streams]\ntick_interval = '100ms'\n\
    [accounts.steady]\nlogin = 9\nserver = 'S'\nterminal.kind = 'simulator'\n";

/// The others.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Between two requests of a client: the machine has other tests to run.
const PAUSE: Duration = Duration::from_millis(10);

fn path(account: &str, rest: &str) -> String {
    format!("/api/v1/accounts/{account}{rest}")
}

/// What is done to an account.
#[derive(Debug, Clone, Copy)]
enum Change {
    Set { sessions: u32, paused: bool },
    Pause,
    Resume,
    Remove,
}

fn change() -> impl Strategy<Value = (usize, Change)> {
    let set = (1..=2u32, proptest::bool::weighted(0.2))
        .prop_map(|(sessions, paused)| Change::Set { sessions, paused });
    let change = prop_oneof![
        4 => set,
        1 => Just(Change::Pause),
        1 => Just(Change::Resume),
        2 => Just(Change::Remove),
    ];
    (0..NAMES.len(), change)
}

/// Clients of a gateway, who note what they were told.
struct Load<'a> {
    gateway: &'a Gateway,
    is_over: AtomicBool,
    orders: AtomicUsize,
    /// Trades that were executed, with their accounts.
    executed: Mutex<Vec<(&'static str, String)>>,
}

impl<'a> Load<'a> {
    fn new(gateway: &'a Gateway) -> Load<'a> {
        Load {
            gateway,
            is_over: AtomicBool::new(false),
            orders: AtomicUsize::new(0),
            executed: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Places an order, and notes it if it was executed.
    fn order(&self, account: &'static str) -> Reply {
        let order = json!({ "symbol": "EURUSD", "type": "BUY", "volume": 0.01 });
        let key = format!("key-{}", self.orders.fetch_add(1, Ordering::Relaxed));
        let key = [("idempotency-key", key.as_str())];
        let reply = self.gateway.send_with("POST", &path(account, "/orders"), Some(&order), &key);
        if reply.status == 201 {
            let trade = reply.json()["trade_id"].as_str().unwrap().to_owned();
            self.executed.lock().unwrap().push((account, trade));
        }
        reply
    }

    /// Reads and trades at the steady account. Each request is answered as if nothing happened elsewhere.
    fn use_steadily(&self) -> usize {
        let mut requests = 0;
        while !self.is_over() {
            for rest in ["/account", "/positions/total", "/symbols/EURUSD/tick"] {
                let reply = self.gateway.get(&path("steady", rest));
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            let reply = self.order("steady");
            assert_eq!(reply.status, 201, "{reply:?}");
            requests += 4;
            std::thread::sleep(PAUSE);
        }
        requests
    }

    /// Follows a stream of the steady account, of which nothing is missing.
    fn follow_steadily(&self) -> usize {
        let (_, mut stream) = self.gateway.open(&path("steady", "/stream?symbols=EURUSD"), &[]);
        let mut events = 0;
        while !self.is_over() {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(event) = line.strip_prefix("event: ") {
                assert!(!matches!(event.trim(), "end" | "gap" | "problem"), "{line}");
                events += 1;
            }
        }
        events
    }

    /// Trades at an account that comes and goes. What it cannot take it refuses.
    fn trade(&self, account: &'static str) {
        while !self.is_over() {
            let reply = self.order(account);
            assert!(matches!(reply.status, 201 | 404 | 503), "{reply:?}");
            std::thread::sleep(PAUSE);
        }
    }
}

/// The others, as far as they are there.
type Model = [Option<bool>; NAMES.len()];

/// Makes a change, and compares the answer with what is known of the account.
fn make(gateway: &Gateway, model: &mut Model, index: usize, change: Change) {
    let (name, present) = (NAMES[index], model[index]);
    let pause = |method: &str| gateway.send(method, &path(name, "/pause"), None);
    let (reply, expected, after) = match change {
        Change::Set { sessions, paused } => {
            let settings = json!({
                "login": index + 1, "server": "S", "sessions": sessions, "paused": paused,
                "terminal": { "kind": "simulator" },
            });
            let expected = if present.is_some() { 200 } else { 201 };
            (gateway.send("PUT", &path(name, ""), Some(&settings)), expected, Some(paused))
        }
        Change::Remove => {
            let expected = if present.is_some() { 204 } else { 404 };
            (gateway.send("DELETE", &path(name, ""), None), expected, None)
        }
        Change::Pause | Change::Resume => {
            let paused = matches!(change, Change::Pause);
            let reply = pause(if paused { "PUT" } else { "DELETE" });
            (reply, if present.is_some() { 200 } else { 404 }, present.map(|_| paused))
        }
    };
    assert_eq!(reply.status, expected, "{name} {change:?}: {reply:?}");
    model[index] = after;
    let shown = gateway.get(&path(name, ""));
    match after {
        Some(paused) => assert_eq!(shown.json()["paused"], paused, "{name} {change:?}"),
        None => assert_eq!(shown.status, 404, "{name} {change:?}"),
    }
}

/// How often the log says that actors of the others began and ended.
fn actors(gateway: &Gateway, what: &str) -> usize {
    let log = gateway.log();
    let of_others =
        |line: &&str| NAMES.iter().any(|name| line.contains(&format!("account=\"{name}\"")));
    log.lines().filter(|line| line.contains(what)).filter(of_others).count()
}

#[test]
fn accounts_come_change_and_go_without_a_trace_for_the_others() {
    let gateway = Gateway::ready(SETTINGS);
    let session = || gateway.get(&path("steady", "")).json()["sessions"][0].clone();
    let before = session();
    let load = Load::new(&gateway);
    gateway.eventually("the account trades", || (load.order("steady").status == 201).then_some(()));
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let changes = proptest::collection::vec(change(), 40);
    let changes = changes.new_tree(&mut runner).unwrap().current();

    std::thread::scope(|scope| {
        let steady = scope.spawn(|| load.use_steadily());
        let following = scope.spawn(|| load.follow_steadily());
        for name in NAMES {
            let load = &load;
            scope.spawn(move || load.trade(name));
        }
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut model = Model::default();
            for (index, change) in changes {
                make(&gateway, &mut model, index, change);
            }
            for index in 0..NAMES.len() {
                make(&gateway, &mut model, index, Change::Remove);
            }
        }));
        load.is_over.store(true, Ordering::Relaxed);
        let (requests, events) = (steady.join().unwrap(), following.join().unwrap());
        assert!(requests > 0 && events > 0, "{requests} {events}");
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    // Nobody else has noticed.
    let after = session();
    assert_eq!((&after["since"], &after["restarts"]), (&before["since"], &json!(0)));
    // Nothing is left behind.
    let names = gateway.get("/api/v1/accounts").json();
    assert_eq!((names.as_array().unwrap().len(), &names[0]["name"]), (1, &json!("steady")));
    let metrics = gateway.metrics();
    for name in NAMES {
        let label = format!("account=\"{name}\"");
        let left: Vec<&str> = metrics.lines().filter(|line| line.contains(&label)).collect();
        assert_eq!(left, [""; 0]);
    }
    for actor in ["session", "reconciler"] {
        let begun = actors(&gateway, &format!("actor started actor=\"{actor}\""));
        let ended = actors(&gateway, &format!("actor stopped actor=\"{actor}\""));
        assert!(begun > 0 && begun == ended, "{actor}: {begun} {ended}");
    }
    let store = gateway.directory.path().join("data/accounts");
    assert_eq!(std::fs::read_dir(store).unwrap().count(), 0);
    // No trade is lost.
    let mut model = Model::default();
    let set = Change::Set { sessions: 1, paused: false };
    (0..NAMES.len()).for_each(|index| make(&gateway, &mut model, index, set));
    let executed = load.executed.into_inner().unwrap();
    for name in NAMES {
        assert!(executed.iter().any(|(account, _)| *account == name), "{name} never traded");
    }
    for (account, trade) in executed {
        let trade = gateway.get(&path(account, &format!("/trades/{trade}"))).json();
        assert_eq!(trade["state"], "executed", "{account} {trade}");
    }
    for name in NAMES.into_iter().chain(["steady"]) {
        for state in ["sending", "unknown"] {
            let open = gateway.get(&path(name, &format!("/trades?state={state}"))).json();
            assert_eq!(open, json!([]));
        }
    }
}

#[test]
fn an_account_that_is_set_serves_and_trades_soon_while_others_are_under_load() {
    let gateway = Gateway::ready(SETTINGS);
    let load = Load::new(&gateway);
    gateway.eventually("the account trades", || (load.order("steady").status == 201).then_some(()));
    std::thread::scope(|scope| {
        let steady = [(); 3].map(|()| scope.spawn(|| load.use_steadily()));
        let set = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let begun = Instant::now();
            make(&gateway, &mut Model::default(), 0, Change::Set { sessions: 1, paused: false });
            gateway.eventually("it serves", || {
                (gateway.get(&path("a", "/symbols/EURUSD/tick")).status == 200).then_some(())
            });
            gateway.eventually("it trades", || (load.order("a").status == 201).then_some(()));
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }));
        load.is_over.store(true, Ordering::Relaxed);
        assert!(steady.map(|client| client.join().unwrap()).iter().all(|requests| *requests > 0));
        set.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
