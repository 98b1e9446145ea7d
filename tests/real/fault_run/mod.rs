//! Trades through workers that fail in every way, clients that hang up, and a gateway that is killed.
//! The broker keeps its own books; at the end the gateway's word is compared with them: nothing was sent
//! twice, nothing later than `send_within`, and no final state is contradicted.
//!
//! `FAULT_TRADES` (300) is how many, `FAULT_SEED` (1) what goes wrong. The long run:
//! `FAULT_TRADES=10000 cargo test --release --all-features --test real faults -- --nocapture`

mod client;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Gateway;
use crate::tools::{modules, python, worker_of};
use client::{Run, Told};

/// One trade in flight for each.
const CLIENTS: u64 = 8;

/// How often the gateway is killed.
const KILLS: u64 = 6;

const SEND_WITHIN: Duration = Duration::from_millis(250);

const SEND_WITHIN_CLOSE: Duration = Duration::from_secs(1);

/// The longest that the broker module takes from the call of `order_send` until it has noted the moment.
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

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The account of a trade: two terminals work side by side.
fn account(trade: u64) -> &'static str {
    if trade.is_multiple_of(2) { "even" } else { "odd" }
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
