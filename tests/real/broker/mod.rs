//! What is promised about trades (docs/trading.md), against a broker that goes wrong on demand. Each test
//! is one kind of fault; `tests/python/faulty_broker.py` is the broker.

mod closing;
mod deadlines;
mod outcomes;
mod permission;
mod searches;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};
use crate::tools::{modules, worker};

const ACCOUNT: &str = "/api/v1/accounts/real";

/// Settings under which lost answers are decided soon.
const QUICK: &str = "[server]\ntrade_timeout = '400ms'\nprobe_interval = '100ms'\n\
                     [restart]\nbackoff = '10ms'\nbackoff_max = '40ms'\nbudget = 1000\n\
                     [trading]\nnot_found_after = '500ms'\n";

/// A gateway with a worker account whose broker does what the test says.
pub struct Broker {
    pub gateway: Gateway,
    books: PathBuf,
    sends: PathBuf,
    control: PathBuf,
    _directory: tempfile::TempDir,
}

impl Broker {
    pub fn start(settings: &str, account: &str, control: Value) -> Broker {
        let broker = Broker::launch(settings, account, control);
        broker.gateway.wait_ready();
        broker.wait_trading();
        broker
    }

    fn launch(settings: &str, account: &str, control: Value) -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (books, sends, file) = (path("books"), path("sends"), path("control"));
        std::fs::write(&file, control.to_string()).unwrap();
        for event in control["before"].as_array().into_iter().flatten() {
            std::fs::write(&books, format!("{event}\n")).unwrap();
        }
        let text = |path: &PathBuf| path.display().to_string();
        let environment = [
            ("PYTHONPATH", modules().display().to_string()),
            ("FAULTY_BROKER_BOOKS", text(&books)),
            ("FAULTY_BROKER_SENDS", text(&sends)),
            ("FAULTY_BROKER_CONTROL", text(&file)),
        ];
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let account = format!("trade = true\n{account}");
        let settings =
            format!("{settings}{}", worker("real", &account, "module = 'faulty_broker'"));
        let gateway = Gateway::start_with(&settings, &environment);
        Broker { gateway, books, sends, control: file, _directory: directory }
    }

    fn wait_trading(&self) {
        self.gateway.logs("account accepts trades");
    }

    /// Sets what goes wrong from now on.
    fn control(&self, control: Value) {
        let new = self.control.with_extension("test");
        std::fs::write(&new, control.to_string()).unwrap();
        std::fs::rename(new, &self.control).unwrap();
    }

    /// Something happens at the broker that is not the gateway's doing.
    fn happens(&self, request: Value, more: Value) {
        use std::io::Write;
        let mut event = json!({"time": jiff::Timestamp::now().as_millisecond() as f64 / 1e3});
        event["request"] = request;
        for (name, value) in more.as_object().unwrap() {
            event[name] = value.clone();
        }
        let mut books = std::fs::File::options().append(true).create(true).open(&self.books);
        writeln!(books.as_mut().unwrap(), "{event}").unwrap();
    }

    /// Every request that `order_send` was called with.
    pub fn sends(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.sends).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn trade(&self, method: &str, path: &str, body: Value) -> Reply {
        self.gateway.send(method, &format!("{ACCOUNT}{path}"), (!body.is_null()).then_some(&body))
    }

    fn keyed(&self, key: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut all = vec![("idempotency-key", key)];
        all.extend_from_slice(headers);
        self.gateway.send_with("POST", &format!("{ACCOUNT}/orders"), Some(body), &all)
    }

    fn read(&self, path: &str) -> Value {
        self.gateway.eventually(&format!("{path} is read"), || {
            let reply = self.gateway.get(&format!("{ACCOUNT}{path}"));
            (reply.status == 200).then(|| reply.json())
        })
    }

    /// The trade with this id, once it passes.
    fn when(&self, trade_id: &Value, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/trades/{}", trade_id.as_str().unwrap());
        self.gateway.eventually(what, || Some(self.read(&path)).filter(|trade| passes(trade)))
    }

    fn state(&self, trade_id: &Value, state: &str) -> Value {
        self.when(trade_id, &format!("the trade is {state}"), |trade| trade["state"] == state)
    }

    /// The trade stays unknown although everything that could decide it has happened. Only time can
    /// show that: three times `not_found_after`.
    fn stays_unknown(&self, trade_id: &Value) -> Value {
        std::thread::sleep(Duration::from_millis(1_500));
        let trade = self.read(&format!("/trades/{}", trade_id.as_str().unwrap()));
        assert_eq!(trade["state"], "unknown", "{trade}");
        trade
    }

    /// A position that is open, and its ticket.
    fn position(&self) -> u64 {
        let placed = self.trade("POST", "/orders", buy(0.1));
        assert_eq!(placed.status, 201, "{}", placed.text());
        placed.json()["order"].as_u64().unwrap()
    }

    fn lose(&self, method: &str, path: &str, body: Value) -> Value {
        let lost = self.trade(method, path, body);
        assert_eq!(lost.problem(), (504, "outcome-unknown".into()), "{}", lost.text());
        lost.json()["trade_id"].clone()
    }
}

fn buy(volume: f64) -> Value {
    json!({"symbol": "EURUSD", "type": "BUY", "volume": volume})
}
