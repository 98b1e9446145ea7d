//! The clients of the fault run: each follows one trade to its end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use mt5_gateway::clock::BootInstant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{account, books, operation};
use crate::common::Gateway;

/// How long one trade may take to its end, restarts included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a trade ended, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    Executed,
    Refused,
    NotFound,
    Superseded,
}

/// Ends by operation and trade.
pub type Ends = HashMap<(&'static str, u64), Told>;

pub struct Run {
    pub seed: u64,
    pub directory: PathBuf,
    /// How long a trade stays unknown before the operator looks.
    pub operator: Duration,
    pub gateway: RwLock<Gateway>,
    pub told: Mutex<Ends>,
    /// When each key was sent.
    pub attempts: Mutex<HashMap<String, Vec<Duration>>>,
    pub hung_up: AtomicU64,
    pub retries: AtomicU64,
    pub withdrawn: AtomicU64,
    pub resolved: AtomicU64,
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
                    if since.elapsed() > self.operator {
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

    pub fn trade(&self, trade: u64) {
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
