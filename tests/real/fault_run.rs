//! The fault run over Python workers. The long one:
//! `FAULT_TRADES=10000 cargo test --release --all-features --test real faults -- --nocapture`

use std::path::Path;
use std::time::Duration;

use crate::common::fault_run::{Plan, number, run};
use crate::tools::{modules, python, worker_of};

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

#[test]
fn faults_never_lose_repeat_delay_or_invent_a_trade() {
    let directory = tempfile::tempdir().unwrap();
    let seed = number("FAULT_SEED", 1);
    let mut settings = SETTINGS.to_owned();
    for account in ["even", "odd"] {
        settings += &at_the_broker(account, directory.path());
    }
    run(&Plan {
        settings: &settings,
        environment: &[("FAULTY_BROKER_SEED", &seed.to_string())],
        directory: directory.path(),
        trades: number("FAULT_TRADES", 300),
        seed,
        kills: 6,
        send_within: Duration::from_millis(250),
        send_within_close: Duration::from_secs(1),
        operator: Duration::from_secs(2),
    });
}
