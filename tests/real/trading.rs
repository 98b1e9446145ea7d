//! Trades through workers that fail in every way, clients that hang up, and a
//! gateway that is killed. The far side keeps its own list of what it received;
//! at the end the gateway's word is compared with it.
//!
//! `FAULT_TRADES` (300) is how many, `FAULT_SEED` (1) what goes wrong. The long run:
//! `FAULT_TRADES=10000 cargo test --release --all-features --test real faults -- --nocapture`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

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

const SETTINGS: &str = "
[server]
trade_timeout = '400ms'
[restart]
backoff = '10ms'
backoff_max = '40ms'
budget = 1000000
[trading]
not_found_after = '400ms'
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
}

struct Run {
    seed: u64,
    gateway: RwLock<Gateway>,
    told: Mutex<HashMap<u64, Told>>,
    closed: Mutex<HashMap<u64, Told>>,
    hung_up: AtomicU64,
    retries: AtomicU64,
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
                "order": 9_223_372_036_854_788_153_u64, "volume": 0.1, "price": 1.2, "bid": 1.1, "ask": 1.2,
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
    assert_eq!(gateway.get("/api/v1/accounts/real/trades").json().as_array().unwrap().len(), 1);
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

fn list(directory: &Path, account: &str) -> std::path::PathBuf {
    directory.join(format!("{account}.list"))
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
        let mut body = json!({
            "symbol": "EURUSD", "type": if pending { "BUY_LIMIT" } else { "SELL" },
            "volume": 0.01, "magic": trade, "comment": comment,
        });
        if pending {
            body["price"] = json!(1.0);
        }
        body
    }

    /// Sends until the gateway tells how the trade ended.
    fn until_told(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
        trade: u64,
    ) -> (Told, Value) {
        let mut random = self.random(trade, key.len() as u64);
        let begun = Instant::now();
        loop {
            if random.random_ratio(1, 10) {
                self.hang_up(method, path, key, body);
            }
            let reply = {
                let gateway = self.gateway.read().unwrap();
                gateway.try_send_with(method, path, body, &[("idempotency-key", key)])
            };
            let status = reply.as_ref().map_or(0, |reply| reply.status);
            let told = match status {
                200 | 201 => Some(Told::Executed),
                422 => Some(Told::Refused),
                409 if reply.as_ref().unwrap().problem().1 == "trade-not-found" => {
                    Some(Told::NotFound)
                }
                // Refused on the way, unknown, or no gateway there.
                0 | 409 | 502 | 503 | 504 => None,
                404 if method == "DELETE" => Some(Told::NotFound),
                _ => panic!("{method} {path} {key}: {}", reply.unwrap().text()),
            };
            if let (Some(told), Some(reply)) = (told, reply) {
                return (told, reply.json());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{key}: {status}, {}",
                self.gateway.read().unwrap().log()
            );
            self.retries.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends and does not wait for the answer.
    fn hang_up(&self, method: &str, path: &str, key: &str, body: Option<&Value>) {
        use std::io::Write;
        let body = body.map_or(String::new(), Value::to_string);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
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
        let (told, result) = self.until_told(
            "POST",
            &format!("{path}/orders"),
            &format!("place-{trade}"),
            Some(&body),
            trade,
        );
        self.told.lock().unwrap().insert(trade, told);
        // Some of what was opened is closed again.
        let opened = told == Told::Executed && body["type"] == "SELL";
        if opened && self.random(trade, 2).random_ratio(1, 4) {
            let ticket = result["order"].as_u64().unwrap();
            assert_ne!(ticket, 0, "{result}");
            let path = format!("{path}/positions/{ticket}");
            let (told, _) =
                self.until_told("DELETE", &path, &format!("close-{trade}"), None, trade);
            self.closed.lock().unwrap().insert(trade, told);
        }
    }
}

/// The settings of an account at the far side, whose list is in a directory.
fn far_side(account: &str, directory: &Path) -> String {
    let command = [
        "env".to_owned(),
        format!("FAR_SIDE_LIST={}", list(directory, account).display()),
        python().display().to_string(),
        modules().join("far_side.py").display().to_string(),
    ];
    worker_of(&command, account, "trade = true", "")
}

#[test]
fn a_trade_that_was_not_found_is_watched_and_found_when_it_is_filled_late() {
    let directory = tempfile::tempdir().unwrap();
    let environment =
        [("FAR_SIDE_SEED", "1"), ("FAR_SIDE_LATE", "2"), ("FAR_SIDE_FAULT", "fills late")];
    let settings = SETTINGS.to_owned() + &far_side("late", directory.path());
    let gateway = Gateway::start_with(&settings, &environment);
    gateway.wait_ready();
    let body = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1});
    let place = || {
        let headers = [("idempotency-key", "late")];
        gateway.send_with("POST", "/api/v1/accounts/late/orders", Some(&body), &headers)
    };
    assert_eq!(place().problem(), (504, "outcome-unknown".into()));
    gateway
        .eventually("it is known not to have happened", || (place().status == 409).then_some(()));
    let told = gateway.eventually("it has happened after all", || {
        Some(place()).filter(|reply| reply.status == 201)
    });
    assert_eq!(told.header("idempotent-replayed"), "true");
    let ended = |outcome: &str| {
        gateway.metric(&format!("mt5_trades_total{{account=\"late\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((ended("not_found"), ended("executed")), (1.0, 0.0), "an end is counted once");
    assert_eq!(std::fs::read_to_string(list(directory.path(), "late")).unwrap().lines().count(), 1);
}

#[test]
fn faults_never_lose_repeat_or_invent_a_trade() {
    let (trades, seed) = (number("FAULT_TRADES", 300), number("FAULT_SEED", 1));
    let directory = tempfile::tempdir().unwrap();
    let mut settings = SETTINGS.to_owned();
    for account in ["even", "odd"] {
        settings += &far_side(account, directory.path());
    }
    let seed_text = seed.to_string();
    let environment = [("FAR_SIDE_SEED", seed_text.as_str()), ("FAR_SIDE_LATE", "0.8")];
    let gateway = Gateway::start_with(&settings, &environment);
    let run = Run {
        seed,
        gateway: RwLock::new(gateway),
        told: Mutex::default(),
        closed: Mutex::default(),
        hung_up: AtomicU64::new(0),
        retries: AtomicU64::new(0),
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
    gateway.eventually("nothing is unknown", || {
        let open = ["even", "odd"].iter().any(|account| {
            ["unknown", "sending"].iter().any(|state| {
                let path = format!("/api/v1/accounts/{account}/trades?state={state}");
                gateway.get(&path).json() != json!([])
            })
        });
        (!open).then_some(())
    });
    let told = run.told.into_inner().unwrap();
    let closed = run.closed.into_inner().unwrap();
    assert_eq!(told.len() as u64, trades);

    let mut received = HashSet::new();
    let mut closes = HashSet::new();
    let mut lines = 0;
    for account in ["even", "odd"] {
        let text = std::fs::read_to_string(list(directory.path(), account)).unwrap();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let magic = entry["magic"].as_u64().unwrap();
            lines += 1;
            let set = if entry["position"] != 0 { &mut closes } else { &mut received };
            assert!(set.insert(magic), "sent twice: {line}");
        }
    }
    let mut counts: BTreeMap<Told, usize> = BTreeMap::new();
    for (trade, told) in &told {
        *counts.entry(*told).or_default() += 1;
        let there = received.contains(trade);
        assert_eq!(there, *told == Told::Executed, "trade {trade}: told {told:?}, there {there}");
    }
    for (trade, told) in &closed {
        let there = closes.contains(trade);
        assert_eq!(there, *told == Told::Executed, "close {trade}: told {told:?}, there {there}");
    }
    let journal = journal(gateway.directory.path());
    for (set, operation) in [(&received, "place"), (&closes, "close")] {
        for trade in set {
            let key = format!("{operation}-{trade}");
            assert_eq!(journal.get(&key).map(String::as_str), Some("executed"), "{key}");
        }
    }
    println!(
        "seed {seed}: {trades} trades and {} closes in {:.1?}: {counts:?}; the far side received \
         {lines}, none twice; {} restarts of the gateway, {} hang-ups, {} retries",
        closed.len(),
        begun.elapsed(),
        KILLS,
        run.hung_up.into_inner(),
        run.retries.into_inner(),
    );
}

/// State by key, as a tool of one's own reads the journal.
fn journal(directory: &Path) -> HashMap<String, String> {
    let journal = rusqlite::Connection::open(directory.join("data/journal.sqlite")).unwrap();
    let mut rows = journal
        .prepare("SELECT idempotency_key, state FROM trades WHERE idempotency_key IS NOT NULL")
        .unwrap();
    let pairs = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    pairs.collect::<Result<_, _>>().unwrap()
}
