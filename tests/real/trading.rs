//! Trades through workers that fail in every way, clients that hang up, and a gateway that is killed.
//! The broker keeps its own books; at the end the gateway's word is compared with them: nothing was sent
//! twice, nothing later than `send_within`, and no final state is contradicted.
//!
//! `FAULT_TRADES` (300) is how many, `FAULT_SEED` (1) what goes wrong. The long run:
//! `FAULT_TRADES=10000 cargo test --release --all-features --test real faults -- --nocapture`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use mt5_gateway::clock::BootInstant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::common::{Gateway, Reply};
use crate::tools::{modules, python, worker, worker_of};

/// One trade in flight for each.
const CLIENTS: u64 = 8;

/// How often the gateway is killed.
const KILLS: u64 = 6;

/// How long one trade may take to its end, restarts included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a trade stays unknown before the operator looks.
const OPERATOR: Duration = Duration::from_secs(2);

const SEND_WITHIN: Duration = Duration::from_millis(250);
const SEND_WITHIN_CLOSE: Duration = Duration::from_secs(1);

/// What the far side's own first steps may take until it has noted the moment of a call.
const SLACK: Duration = Duration::from_millis(50);

const SETTINGS: &str = "
[server]
trade_timeout = '400ms'
probe_interval = '200ms'
[restart]
backoff = '10ms'
backoff_max = '40ms'
budget = 1000000
[trading]
not_found_after = '400ms'
send_within = '250ms'
send_within_close = '1s'
[log]
access = false
filter = 'warn,mt5_gateway::app=info,mt5_gateway::pool=error'
";

/// How a trade ended, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Executed,
    Refused,
    NotFound,
    Superseded,
}

/// Ends by operation and trade.
type Ends = HashMap<(&'static str, u64), Told>;

struct Run {
    seed: u64,
    directory: PathBuf,
    gateway: RwLock<Gateway>,
    told: Mutex<Ends>,
    /// When each key was sent.
    attempts: Mutex<HashMap<String, Vec<Duration>>>,
    hung_up: AtomicU64,
    retries: AtomicU64,
    withdrawn: AtomicU64,
    resolved: AtomicU64,
}

/// A worker with the test module that trades.
fn module(environment: &[(&str, &str)]) -> Gateway {
    let modules = modules().display().to_string();
    let mut all = vec![("PYTHONPATH", modules.as_str())];
    all.extend_from_slice(environment);
    let gateway = Gateway::start_with(&worker("real", "trade = true", ""), &all);
    gateway.wait_ready();
    gateway
}

fn order(gateway: &Gateway) -> Reply {
    let body =
        json!({"symbol": "TRADED", "type": "BUY", "volume": 0.1, "magic": -7, "comment": "Ünï"});
    gateway.send("POST", "/api/v1/accounts/real/orders", Some(&body))
}

#[test]
fn the_package_takes_a_dict_or_keywords_and_is_sent_to_once() {
    for environment in [&[][..], &[("FAKE_MT5_KEYWORDS", "1")]] {
        let gateway = module(environment);
        for _ in 0..2 {
            let placed = order(&gateway);
            assert_eq!(placed.status, 201, "{}", placed.text());
            let result = placed.json();
            let expected = json!({
                "trade_id": result["trade_id"], "retcode": 10009, "retcode_name": "done", "deal": 71,
                "order": 9_223_372_036_854_788_153_u64, "position": 9, "deals": [71], "volume": 0.1, "price": 1.2, "bid": 1.1, "ask": 1.2,
                "comment": "Ünï ☃", "request_id": 9, "retcode_external": -3,
            });
            assert_eq!(result, expected);
        }
        gateway.logs("'magic': -7");
        gateway.logs("'type_filling': 1");
        gateway.eventually("both arrived", || {
            (gateway.log().matches("order_send received").count() == 2).then_some(())
        });
        let check = json!({"symbol": "TRADED", "type": "SELL", "volume": 0.1});
        let checked =
            gateway.send("POST", "/api/v1/accounts/real/orders/check", Some(&check)).json();
        assert_eq!((&checked["margin"], &checked["margin_level"]), (&json!(4.5), &Value::Null));
        let margin = gateway
            .get("/api/v1/accounts/real/calc/margin?action=SELL&symbol=TRADED&volume=1.5&price=2");
        assert_eq!(margin.json(), json!({"margin": 1003.5}));
    }
}

#[test]
fn nothing_is_traded_on_a_terminal_that_is_logged_in_to_another_account() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("switched");
    let path = switch.display().to_string();
    let gateway = module(&[("FAKE_MT5_SWITCHED", &path)]);
    assert_eq!(order(&gateway).status, 201);
    std::fs::write(&switch, "").unwrap();
    assert_eq!(order(&gateway).problem(), (503, "not-ready".into()));
    gateway.logs("logged in to account 5002 instead of 5001");
    assert_eq!(gateway.log().matches("order_send received").count(), 1);
    let trades = gateway.get("/api/v1/accounts/real/trades").json();
    let states: Vec<&Value> =
        trades.as_array().unwrap().iter().map(|trade| &trade["state"]).collect();
    assert_eq!(states, ["not-sent", "executed"]);
    std::fs::remove_file(&switch).unwrap();
    gateway
        .eventually("the account trades again", || (order(&gateway).status == 201).then_some(()));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The account of a trade: two terminals work side by side.
fn account(trade: u64) -> &'static str {
    if trade.is_multiple_of(2) { "even" } else { "odd" }
}

/// One request of a trade, as it is repeated until its end is told.
struct Step<'a> {
    operation: &'static str,
    trade: u64,
    method: &'a str,
    path: String,
    body: Option<Value>,
}

impl Step<'_> {
    fn key(&self) -> String {
        format!("{}-{}", self.operation, self.trade)
    }
}

impl Run {
    fn random(&self, trade: u64, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (trade << 8) ^ purpose)
    }

    fn body(&self, trade: u64) -> Value {
        let mut random = self.random(trade, 1);
        // Short ones are tagged, a long one is sent as it is.
        let comment =
            "a comment of some length here"[..[0, 5, 20, 25][random.random_range(0..4)]].to_owned();
        let pending = random.random_ratio(1, 5);
        let volume = [0.01, 0.1][random.random_range(0..2)];
        let mut body = json!({
            "symbol": "EURUSD", "type": if pending { "BUY_LIMIT" } else { "SELL" },
            "volume": volume, "magic": trade, "comment": comment,
        });
        if pending {
            body["price"] = json!(1.0);
        }
        body
    }

    /// Sends until the gateway tells how the trade ended; settles as an operator what it cannot decide.
    fn until_told(&self, step: &Step<'_>) -> (Told, Value) {
        let key = step.key();
        let mut random = self.random(step.trade, key.len() as u64);
        let begun = Instant::now();
        let mut unknown_since = None;
        loop {
            if random.random_ratio(1, 10) {
                self.hang_up(step);
            }
            self.attempted(&key);
            let reply = {
                let gateway = self.gateway.read().unwrap();
                let headers = [("idempotency-key", key.as_str())];
                gateway.try_send_with(step.method, &step.path, step.body.as_ref(), &headers)
            };
            let problem = reply.as_ref().map(|reply| match reply.status {
                200 | 201 => String::new(),
                _ => reply.problem().1,
            });
            let told = match problem.as_deref() {
                Some("") => Some(Told::Executed),
                Some("trade-refused") => Some(Told::Refused),
                Some("trade-not-found") => Some(Told::NotFound),
                Some("trade-superseded") => Some(Told::Superseded),
                // A position that an earlier trade closed.
                Some("not-found") if step.operation != "place" => Some(Told::NotFound),
                Some("trade-not-sent") => {
                    self.withdrawn.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Some("outcome-unknown") => {
                    let since = *unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > OPERATOR {
                        self.resolve(step, &reply.as_ref().unwrap().json()["trade_id"]);
                    }
                    None
                }
                // Refused on the way, or no gateway there.
                None => None,
                Some(_) if matches!(reply.as_ref().unwrap().status, 409 | 502..=504) => None,
                Some(other) => panic!("{key}: {other}: {}", reply.unwrap().text()),
            };
            if let (Some(told), Some(reply)) = (told, reply) {
                self.told.lock().unwrap().insert((step.operation, step.trade), told);
                return (told, reply.json());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{key}: {problem:?}, {}",
                self.gateway.read().unwrap().log()
            );
            self.retries.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn attempted(&self, key: &str) {
        let now = BootInstant::now().since_boot();
        self.attempts.lock().unwrap().entry(key.to_owned()).or_default().push(now);
    }

    /// Compares an unknown trade with the broker's own books, as an operator would.
    fn resolve(&self, step: &Step<'_>, trade_id: &Value) {
        let gateway = self.gateway.read().unwrap();
        let path = format!(
            "/api/v1/accounts/{}/trades/{}",
            account(step.trade),
            trade_id.as_str().unwrap_or_default()
        );
        let Some(reply) = gateway.try_send_with("GET", &path, None, &[]) else {
            return;
        };
        let trade = reply.json();
        if reply.status != 200 || trade["state"] != "unknown" {
            return;
        }
        let happened = books(&self.directory, account(step.trade)).iter().any(|event| {
            let action = operation(event);
            event["magic"] == step.trade && action == step.operation
        });
        let candidate = trade["candidates"].get(0);
        let body = match (happened, candidate) {
            (true, Some(order)) => {
                json!({"state": "executed", "order": order, "reason": "in the broker's books"})
            }
            (false, _) => json!({"state": "not-found", "reason": "not in the broker's books"}),
            (true, None) => return,
        };
        let path = format!("{path}/resolve");
        let settled = gateway.try_send_with("POST", &path, Some(&body), &[]);
        if settled.is_some_and(|reply| reply.status == 200) {
            self.resolved.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends and does not wait for the answer.
    fn hang_up(&self, step: &Step<'_>) {
        use std::io::Write;
        let body = step.body.as_ref().map_or(String::new(), Value::to_string);
        let (method, path, key) = (step.method, &step.path, step.key());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.attempted(&key);
        let address = self.gateway.read().unwrap().address;
        if let Ok(mut stream) = std::net::TcpStream::connect(address) {
            let _ = stream.set_nodelay(true);
            let _ = stream.write_all(request.as_bytes());
            std::thread::sleep(Duration::from_millis(2));
            self.hung_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn trade(&self, trade: u64) {
        let path = format!("/api/v1/accounts/{}", account(trade));
        let body = self.body(trade);
        let is_market = body["type"] == "SELL";
        let (orders, body) = (format!("{path}/orders"), Some(body));
        let place = Step { operation: "place", trade, method: "POST", path: orders, body };
        let (told, result) = self.until_told(&place);
        if told != Told::Executed || !is_market {
            return;
        }
        // Some of what was opened is changed, and some is closed again.
        let ticket = result["order"].as_u64().unwrap();
        assert_ne!(ticket, 0, "{result}");
        let path = format!("{path}/positions/{ticket}");
        if self.random(trade, 3).random_ratio(1, 4) {
            let (path, body) = (path.clone(), Some(json!({"sl": 1.5})));
            self.until_told(&Step { operation: "change", trade, method: "PUT", path, body });
        }
        if self.random(trade, 2).random_ratio(1, 4) {
            self.until_told(&Step {
                operation: "close",
                trade,
                method: "DELETE",
                path,
                body: None,
            });
        }
    }
}

/// The settings of an account at the faulty broker, whose books are in a directory.
fn at_the_broker(account: &str, directory: &Path) -> String {
    let file = |name: &str| directory.join(format!("{account}.{name}")).display().to_string();
    std::fs::write(directory.join(format!("{account}.control")), "{}").unwrap();
    let command = [
        "env".to_owned(),
        format!("PYTHONPATH={}", modules().display()),
        format!("FAULTY_BROKER_BOOKS={}", file("books")),
        format!("FAULTY_BROKER_SENDS={}", file("sends")),
        format!("FAULTY_BROKER_CONTROL={}", file("control")),
        python().display().to_string(),
    ];
    worker_of(&command, account, "trade = true", "module = 'faulty_broker'")
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every request that the broker carried out.
fn books(directory: &Path, account: &str) -> Vec<Value> {
    let events = lines(&directory.join(format!("{account}.books")));
    events.into_iter().map(|event| event["request"].clone()).collect()
}

/// What a request at the broker was, in the words of this test.
fn operation(request: &Value) -> &'static str {
    match (request["action"].as_u64().unwrap(), request["position"].as_u64().unwrap_or(0)) {
        (6, _) => "change",
        (1 | 5, 0) => "place",
        (1, _) => "close",
        other => panic!("{other:?}"),
    }
}

#[test]
fn faults_never_lose_repeat_delay_or_invent_a_trade() {
    let (trades, seed) = (number("FAULT_TRADES", 300), number("FAULT_SEED", 1));
    let directory = tempfile::tempdir().unwrap();
    let mut settings = SETTINGS.to_owned();
    for account in ["even", "odd"] {
        settings += &at_the_broker(account, directory.path());
    }
    let seed_text = seed.to_string();
    let environment = [("FAULTY_BROKER_SEED", seed_text.as_str())];
    let gateway = Gateway::start_with(&settings, &environment);
    let run = Run {
        seed,
        directory: directory.path().to_owned(),
        gateway: RwLock::new(gateway),
        told: Mutex::default(),
        attempts: Mutex::default(),
        hung_up: AtomicU64::new(0),
        retries: AtomicU64::new(0),
        withdrawn: AtomicU64::new(0),
        resolved: AtomicU64::new(0),
    };
    let begun = Instant::now();
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let trade = next.fetch_add(1, Ordering::Relaxed);
                    if trade > trades {
                        return;
                    }
                    run.trade(trade);
                }
            });
        }
        // Killed with SIGKILL whenever another share of the trades has begun.
        for kill in 1..=KILLS {
            while next.load(Ordering::Relaxed) < trades * kill / (KILLS + 1) {
                std::thread::sleep(Duration::from_millis(1));
            }
            run.gateway.write().unwrap().kill_and_start(&environment);
        }
    });
    let gateway = run.gateway.into_inner().unwrap();
    let told = run.told.into_inner().unwrap();
    assert_eq!(told.keys().filter(|(operation, _)| *operation == "place").count() as u64, trades);

    // Nothing twice, nothing late.
    let attempts = run.attempts.into_inner().unwrap();
    let (mut sent, mut longest) = (HashSet::new(), Duration::ZERO);
    for account in ["even", "odd"] {
        for request in lines(&directory.path().join(format!("{account}.sends"))) {
            let (operation, trade) = (operation(&request), request["magic"].as_u64().unwrap());
            let at = Duration::from_secs_f64(request["at"].as_f64().unwrap());
            let tries = &attempts[&format!("{operation}-{trade}")];
            let arrived = tries.iter().rev().find(|attempt| **attempt <= at).unwrap();
            let limit = if operation == "close" { SEND_WITHIN_CLOSE } else { SEND_WITHIN };
            // The attempt that was sent may be an earlier one, which is then older still.
            longest = longest.max(at - *arrived);
            let first_possible = tries.iter().find(|attempt| **attempt + limit + SLACK >= at);
            assert!(first_possible.is_some(), "{operation}-{trade} was sent too late: {request}");
            sent.insert((operation, trade));
        }
    }
    let mut happened = HashSet::new();
    for account in ["even", "odd"] {
        for request in books(directory.path(), account) {
            let (operation, trade) = (operation(&request), request["magic"].as_u64().unwrap());
            assert!(happened.insert((operation, trade)), "carried out twice: {request}");
        }
    }
    // No word of the gateway is contradicted by the books.
    let mut counts: BTreeMap<Told, usize> = BTreeMap::new();
    for (of, told) in &told {
        *counts.entry(*told).or_default() += 1;
        let there = happened.contains(of);
        match told {
            Told::Executed => assert!(there, "{of:?} is not in the books"),
            Told::Refused | Told::NotFound => assert!(!there, "{of:?}: {told:?}, and in the books"),
            Told::Superseded => {}
        }
    }
    let journal = journal(gateway.directory.path());
    for (operation, trade) in &happened {
        let key = format!("{operation}-{trade}");
        assert_eq!(journal.get(&key).map(String::as_str), Some("executed"), "{key}");
    }
    println!(
        "seed {seed}: {trades} trades, {} ends in {:.1?}: {counts:?}; the broker was asked for {} and \
         carried out {}, none twice, the longest {longest:.0?} after its request; {} withdrawn, {} \
         settled by the operator, {} restarts of the gateway, {} hang-ups, {} retries",
        told.len(),
        begun.elapsed(),
        sent.len(),
        happened.len(),
        run.withdrawn.into_inner(),
        run.resolved.into_inner(),
        KILLS,
        run.hung_up.into_inner(),
        run.retries.into_inner(),
    );
}

/// State by key, as a tool of one's own reads the journal: the newest row counts.
fn journal(directory: &Path) -> HashMap<String, String> {
    let journal = rusqlite::Connection::open(directory.join("data/journal.sqlite")).unwrap();
    let mut rows = journal
        .prepare(
            "SELECT idempotency_key, state FROM trades WHERE idempotency_key IS NOT NULL
             ORDER BY created_msc, trade_id",
        )
        .unwrap();
    let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    pairs.collect::<Result<_, _>>().unwrap()
}
