//! Streams: no event is lost or repeated, nobody is delayed, and each stream ends cleanly.

mod delivery;
mod gaps;
mod limits;
mod websockets;

use std::io::BufRead;

use serde_json::{Value, json};

use crate::common::{Body, Gateway};

const STREAM: &str = "/api/v1/accounts/demo/stream";

fn simulator(more: &str) -> Gateway {
    Gateway::ready(&format!(
        "{more}\n[accounts.demo]\nlogin = 1\nserver = 'S'\n[accounts.demo.terminal]\n\
         kind = 'simulator'\n"
    ))
}

/// One event as a client of Server-Sent Events sees it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    event: String,
    data: Value,
}

impl Event {
    fn sequence(&self) -> u64 {
        sequence(&self.id)
    }
}

fn sequence(id: &str) -> u64 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

/// A client of Server-Sent Events.
struct Client {
    body: Body,
    id: String,
    heartbeats: usize,
}

impl Client {
    fn open(gateway: &Gateway, query: &str) -> Client {
        Self::resume(gateway, query, None)
    }

    fn resume(gateway: &Gateway, query: &str, id: Option<&str>) -> Client {
        let headers: Vec<_> = id.iter().map(|id| ("last-event-id", *id)).collect();
        let (head, body) = gateway.open(&format!("{STREAM}?{query}"), &headers);
        assert_eq!(head["content-type"], "text/event-stream");
        assert_eq!(head["cache-control"], "no-store");
        Client { body, id: String::new(), heartbeats: 0 }
    }

    /// The next event. `None`: the stream has ended as it should.
    fn next(&mut self) -> Option<Event> {
        let (mut event, mut data) = (None, None);
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => self.id = id.to_owned(),
                Some(("event", name)) => event = Some(name.to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                Some(("", "quiet")) => self.heartbeats += 1,
                Some(("retry", _)) => {}
                Some(other) => panic!("{other:?}"),
                None if event.is_some() => {
                    let (event, data) = (event.take().unwrap(), data.take().unwrap());
                    return Some(Event { id: self.id.clone(), event, data });
                }
                None => return None.or_else(|| self.next()),
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.next().unwrap()).collect()
    }

    /// Reads until a heartbeat.
    fn rest(&mut self) {
        let before = self.heartbeats;
        while self.heartbeats == before {
            let mut line = String::new();
            assert!(self.body.read_line(&mut line).unwrap() > 0);
            self.heartbeats += usize::from(line.trim_end() == ": quiet");
        }
    }
}

fn subscribers(gateway: &Gateway) -> f64 {
    gateway.metric("gateway_stream_subscribers{account=\"demo\"}")
}

fn wait_for_subscribers(gateway: &Gateway, count: f64) {
    gateway.eventually(&format!("{count} subscribers"), || {
        (subscribers(gateway) == count).then_some(())
    });
}

/// Changes the list of orders, which is longer each time.
fn change_orders(gateway: &Gateway) {
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    let placed = gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
    assert_eq!(placed.status, 201, "{placed:?}");
}
