//! Trading against the simulated broker: what is placed, changed, closed and
//! refused, and what becomes of trades whose answer is lost.

mod dry_run;
mod halt;
mod idempotency;
mod lost_answers;
mod orders;
mod switches;

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};

const ACCOUNT: &str = "/api/v1/accounts/demo";

/// A simulated account with these additions to its terminal.
fn simulated(head: &str, terminal: &str) -> String {
    format!(
        "{head}\n[accounts.demo]\nlogin = 5001\nserver = 'S'\n\
         [accounts.demo.terminal]\nkind = 'simulator'\n{terminal}\n"
    )
}

impl Gateway {
    fn trade(&self, method: &str, path: &str, body: Value) -> Reply {
        self.send(method, &format!("{ACCOUNT}{path}"), (!body.is_null()).then_some(&body))
    }

    fn keyed(&self, key: &str, body: &Value) -> Reply {
        let headers = [("idempotency-key", key)];
        self.send_with("POST", &format!("{ACCOUNT}/orders"), Some(body), &headers)
    }

    /// The answer to a repeat as soon as the trade is not under way any more, which is a moment after
    /// the journal knows its end.
    fn repeated(&self, key: &str, body: &Value) -> Reply {
        self.eventually("the trade has ended", || {
            let reply = self.keyed(key, body);
            let under_way = reply.status == 409 && reply.problem().1 == "trade-under-way";
            (!under_way).then_some(reply)
        })
    }

    fn read(&self, path: &str) -> Value {
        let reply = self.get(&format!("{ACCOUNT}{path}"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// Waits until the trade has this state.
    fn fate(&self, trade_id: &Value, state: &str) -> Value {
        let path = format!("/trades/{}", trade_id.as_str().unwrap());
        self.eventually(&format!("the trade is {state}"), || {
            let trade = self.read(&path);
            (trade["state"] == state).then_some(trade)
        })
    }
}

fn buy(volume: f64) -> Value {
    json!({"symbol": "EURUSD", "type": "BUY", "volume": volume})
}

fn price(value: f64) -> f64 {
    (value * 100_000.0).round() / 100_000.0
}

/// Settings under which lost answers are decided soon.
const QUICK: &str = "[server]\ntrade_timeout = '300ms'\n[restart]\nbackoff = '10ms'\nbackoff_max = '50ms'\n\
                     [trading]\nnot_found_after = '400ms'";
