//! Trades through workers that fail in every way, clients that hang up, and a gateway that is killed.
//! The broker keeps its own books; at the end the gateway's word is compared with them: nothing was sent
//! twice, nothing later than `send_within`, and no final state is contradicted.
//!
//! `FAULT_TRADES` is how many, `FAULT_SEED` (1) what goes wrong.

mod client;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Gateway;
use client::{Run, Told};

/// One trade in flight for each.
const CLIENTS: u64 = 8;

/// A run at a broker that keeps its books as `ACCOUNT.books` and `ACCOUNT.sends`, JSON lines of the
/// requests that were carried out and that were asked for.
pub struct Plan<'a> {
    /// The settings, with the accounts `even` and `odd`.
    pub settings: &'a str,
    pub environment: &'a [(&'a str, &'a str)],
    /// Where the books are.
    pub directory: &'a Path,
    pub trades: u64,
    pub seed: u64,
    /// How often the gateway is killed.
    pub kills: u64,
    /// As in the settings.
    pub send_within: Duration,
    /// As in the settings.
    pub send_within_close: Duration,
    /// How long a trade stays unknown before the operator looks.
    pub operator: Duration,
}

/// The longest that a broker takes from the call of `order_send` until it has noted the moment.
const SLACK: Duration = Duration::from_millis(50);

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The account of a trade: two terminals work side by side.
fn account(trade: u64) -> &'static str {
    if trade.is_multiple_of(2) { "even" } else { "odd" }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last one may be being written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
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

/// Carries the plan out and compares.
pub fn run(plan: &Plan<'_>) {
    let Plan { environment, directory, trades, seed, kills, .. } = *plan;
    let gateway = Gateway::start_with(plan.settings, environment);
    let run = Run {
        seed,
        directory: directory.to_owned(),
        operator: plan.operator,
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
        for kill in 1..=kills {
            while next.load(Ordering::Relaxed) < trades * kill / (kills + 1) {
                std::thread::sleep(Duration::from_millis(1));
            }
            run.gateway.write().unwrap().kill_and_start(environment);
        }
    });
    let gateway = run.gateway.into_inner().unwrap();
    let told = run.told.into_inner().unwrap();
    assert_eq!(told.keys().filter(|(operation, _)| *operation == "place").count() as u64, trades);

    // Nothing twice, nothing late.
    let attempts = run.attempts.into_inner().unwrap();
    let (mut sent, mut longest) = (HashSet::new(), Duration::ZERO);
    for account in ["even", "odd"] {
        for request in lines(&directory.join(format!("{account}.sends"))) {
            let (operation, trade) = (operation(&request), request["magic"].as_u64().unwrap());
            let at = Duration::from_secs_f64(request["at"].as_f64().unwrap());
            let tries = &attempts[&format!("{operation}-{trade}")];
            let arrived = tries.iter().rev().find(|attempt| **attempt <= at).unwrap();
            let limit =
                if operation == "close" { plan.send_within_close } else { plan.send_within };
            // The attempt that was sent may be an earlier one, which is then older still.
            longest = longest.max(at - *arrived);
            let first_possible = tries.iter().find(|attempt| **attempt + limit + SLACK >= at);
            assert!(first_possible.is_some(), "{operation}-{trade} was sent too late: {request}");
            sent.insert((operation, trade));
        }
    }
    let mut happened = HashSet::new();
    for account in ["even", "odd"] {
        for request in books(directory, account) {
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
        kills,
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
