//! Subscribers that resume: they are backfilled, or get a gap.

use serde_json::{Value, json};

use super::{Client, Event, change_orders, sequence, simulator, wait_for_subscribers};

const EVERY: &str = "EURUSD,GBPUSD,USDJPY,AUDUSD,USDCHF,XAUUSD,BTCUSD,US500";

#[test]
fn a_subscriber_that_reconnects_gets_every_tick_once() {
    let gateway = simulator("streams.tick_interval = '20ms'");
    let query = format!("symbols={EVERY}");
    let mut told = Client::open(&gateway, &query).take(10);
    for _ in 0..2 {
        let last = told.last().unwrap().id.clone();
        let seen = told.last().unwrap().data.clone();
        wait_for_subscribers(&gateway, 0.0);
        // Something happens while nobody listens.
        gateway.eventually("another tick", || {
            let symbol = seen["symbol"].as_str().unwrap();
            let tick = gateway.get(&format!("/api/v1/accounts/demo/symbols/{symbol}/tick")).json();
            (tick["time_msc"] != seen["time_msc"]).then_some(())
        });
        told.extend(Client::resume(&gateway, &query, Some(&last)).take(4));
    }
    assert!(told.iter().all(|event| event.event == "ticks"), "{told:#?}");
    assert!(told.is_sorted_by_key(Event::sequence));
    for symbol in EVERY.split(',') {
        let times: Vec<i64> = told
            .iter()
            .filter(|event| event.data["symbol"] == symbol)
            .map(|event| event.data["time_msc"].as_i64().unwrap())
            .collect();
        let (from, to) = (times[0], times[times.len() - 1]);
        let path = format!("/api/v1/accounts/demo/symbols/{symbol}/ticks");
        let all = gateway.get(&format!("{path}?from={}&to={}", from / 1000, to / 1000 + 1)).json();
        let all = all.as_array().unwrap().iter().map(|tick| tick["time_msc"].as_i64().unwrap());
        let all: Vec<i64> = all.filter(|time| (from..=to).contains(time)).collect();
        assert_eq!(times, all, "{symbol}");
    }
}

#[test]
fn a_subscriber_that_resumes_too_late_gets_a_gap() {
    let mut gateway = simulator("streams.state_interval = '5ms'\nstreams.buffer = '8 KiB'");
    let position = json!({"symbol": "BTCUSD", "type": "BUY", "volume": 1.0});
    let mut client = Client::open(&gateway, "events=orders");
    let first = client.next().unwrap();
    // Each change of the orders is an event; more of them than the buffer has room for.
    for _ in 0..12 {
        let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
        assert_eq!(gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order)).status, 201);
        client.next().unwrap();
    }
    let mut late = Client::resume(&gateway, "events=orders", Some(&first.id));
    let gap = late.next().unwrap();
    assert_eq!((gap.event.as_str(), &gap.data["to"]), ("gap", &json!(gap.id)));
    assert_eq!(sequence(gap.data["from"].as_str().unwrap()), first.sequence() + 1);
    let next = late.next().unwrap();
    assert_eq!((next.event.as_str(), next.sequence()), ("orders", gap.sequence() + 1));
    assert!(gateway.metric("gateway_stream_events_dropped_total{account=\"demo\"}") >= 1.0);
    // Of an earlier run nothing is known but that there is a gap.
    drop((client, late));
    gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&position));
    gateway.kill_and_start(&[]);
    gateway.wait_ready();
    for unknown in [first.id.as_str(), "x", "18446744073709551615"] {
        let mut other = Client::resume(&gateway, "events=orders", Some(unknown));
        let gap = other.next().unwrap();
        assert_eq!((gap.event.as_str(), &gap.data["from"]), ("gap", &Value::Null), "{unknown}");
        assert_eq!(other.next().unwrap().data, json!([]));
    }
}

#[test]
fn a_gap_is_followed_by_the_states_that_changed_in_it() {
    let gateway = simulator("streams.state_interval = '5ms'\nstreams.buffer = '8 KiB'");
    let mut both = Client::open(&gateway, "events=orders,positions");
    let first = both.take(2).pop().unwrap();
    let position = json!({"symbol": "BTCUSD", "type": "BUY", "volume": 1.0});
    assert_eq!(gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&position)).status, 201);
    let opened = both.next().unwrap();
    assert_eq!(opened.event, "positions");
    // The profit of a position changes with each look; its stream is not read while orders change.
    drop(both);
    wait_for_subscribers(&gateway, 0.0);
    let mut orders = Client::open(&gateway, "events=orders");
    orders.next().unwrap();
    for _ in 0..12 {
        change_orders(&gateway);
        orders.next().unwrap();
    }
    let mut late = Client::resume(&gateway, "events=orders,positions", Some(&first.id));
    let gap = late.next().unwrap();
    assert_eq!(gap.event, "gap");
    // The profit may have changed once more before the gap was told, and then the orders are older.
    let states = [late.next().unwrap(), late.next().unwrap()];
    let standing = states.iter().find(|state| state.event == "positions").unwrap();
    assert!((first.sequence() + 1..=gap.sequence()).contains(&standing.sequence()));
    assert_eq!(standing.data[0]["symbol"], "BTCUSD");
}

#[test]
fn a_subscriber_that_resumes_after_a_new_one_began_gets_a_gap() {
    let gateway = simulator("streams.tick_interval = '20ms'");
    let last = Client::open(&gateway, "symbols=BTCUSD").take(2).pop().unwrap();
    wait_for_subscribers(&gateway, 0.0);
    // Begins with the present, and wants nothing of what was before.
    let mut new = Client::open(&gateway, "symbols=BTCUSD");
    assert_eq!(new.next().unwrap().event, "ticks");
    let mut back = Client::resume(&gateway, "symbols=BTCUSD", Some(&last.id));
    let gap = back.next().unwrap();
    assert_eq!((gap.event.as_str(), &gap.data["symbol"]), ("gap", &json!("BTCUSD")));
    assert_eq!(back.next().unwrap().event, "ticks");
}
