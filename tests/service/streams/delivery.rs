//! Which events subscribers get.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Client, Event, STREAM, simulator, subscribers, wait_for_subscribers};
use crate::common::metric;

#[test]
fn states_are_sent_at_subscription_and_on_change() {
    let gateway = simulator("streams.state_interval = '20ms'\nstreams.heartbeat = '100ms'");
    let mut client = Client::open(&gateway, "events=orders,positions");
    let first = client.take(2);
    assert_eq!(first[0].data, json!([]));
    assert_eq!(first[1].data, json!([]));
    // Nothing happens, and the stream lives.
    client.rest();
    // Another reader is told how things stand, though nothing has changed.
    let mut second = Client::open(&gateway, "events=orders");
    assert_eq!(second.next().unwrap().event, "orders");
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    let placed = gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order)).json();
    let changed = [client.next().unwrap(), second.next().unwrap()];
    assert_eq!(changed[0], changed[1]);
    assert_eq!(changed[0].event, "orders");
    assert_eq!(changed[0].data[0]["ticket"], placed["order"]);
    let listed = gateway.get("/api/v1/accounts/demo/orders").json();
    assert_eq!(changed[0].data, listed);
    // The account and a book, of which each kind is told apart.
    let mut third = Client::open(&gateway, "events=account,book&symbols=EURUSD");
    let mut both = third.take(2);
    both.sort_by(|one, other| one.event.cmp(&other.event));
    assert_eq!(both[0].data["login"], 1);
    assert_eq!(both[1].data["symbol"], "EURUSD");
    assert!(both[1].data["book"].as_array().is_some_and(|book| !book.is_empty()), "{both:?}");
}

#[test]
fn one_polling_loop_serves_all_subscribers_and_ends_with_the_last() {
    let gateway = simulator("streams.tick_interval = '5ms'\nmetrics.rate_limit_per_second = 1000");
    let calls = "mt5_calls_total{account=\"demo\",method=\"copy_ticks_from\",outcome=\"success\"}";
    let polls = "gateway_stream_poll_duration_seconds_count{event=\"ticks\"}";
    let mut readers: Vec<Client> =
        (0..20).map(|_| Client::open(&gateway, "symbols=BTCUSD")).collect();
    let first: Vec<Event> = readers.iter_mut().map(|reader| reader.next().unwrap()).collect();
    assert!(first.iter().all(|event| event.event == "ticks"));
    assert_eq!(subscribers(&gateway), 20.0);
    let metrics = gateway.eventually("some polls", || {
        let metrics = gateway.metrics();
        (metric(&metrics, polls) > 20.0).then_some(metrics)
    });
    // Families are read one after the other, so the polls of these calls are in the next scrape at
    // the latest, but for the one that is under way.
    assert!(metric(&metrics, calls) <= gateway.metric(polls) + 2.0, "{metrics}");
    assert!(
        metric(&metrics, "gateway_stream_events_sent_total{account=\"demo\",event=\"ticks\"}")
            >= 20.0
    );
    drop(readers);
    wait_for_subscribers(&gateway, 0.0);
    // Whatever is under way ends; then nothing is asked any more.
    let mut before = -1.0;
    gateway.eventually("no more calls", || {
        let now = gateway.metric(calls);
        std::thread::sleep(Duration::from_millis(100));
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
}

#[test]
fn a_failing_poll_sends_one_problem() {
    let gateway = simulator(
        "streams.state_interval = '20ms'\nstreams.heartbeat = '200ms'\n\
         [accounts.demo.terminal.faults.orders_get]\nkind = 'code'\ncode = -1\n\
         [accounts.demo.terminal.faults.positions_get]\nkind = 'code'\ncode = -1\nevery = 2",
    );
    let mut client = Client::open(&gateway, "events=orders");
    let told = client.next().unwrap();
    assert_eq!(told.event, "problem");
    assert_eq!(told.data["type"], "/problems/terminal-error");
    assert_eq!((&told.data["status"], &told.data["events"]), (&json!(502), &json!("orders")));
    assert_eq!(told.data["mt5"]["code"], -1);
    client.rest();
    client.rest();
    // The reconciliation of trades also asks for positions, so that either may come first.
    let events: Vec<String> = Client::open(&gateway, "events=positions")
        .take(4)
        .into_iter()
        .map(|event| event.event)
        .collect();
    assert!(events.iter().any(|event| event == "problem"), "{events:?}");
    assert!(events.windows(2).all(|pair| pair != ["problem", "problem"]), "{events:?}");
}

#[test]
fn invalid_stream_requests_are_refused() {
    let gateway = simulator("streams.max = 2");
    let refused = [
        ("", 400, "parameter `symbols` is missing: events `ticks` need one"),
        ("symbols=EURUSD&events=news", 400, "parameter `events`"),
        ("symbols=EURUSD&events=", 400, "parameter `events`"),
        ("symbols=EURUSD&event=ticks", 400, "parameter `event` is unknown"),
        ("symbols=EURUSD&events=account", 400, "only the events `ticks` and `book`"),
        ("symbols=NOPE", 404, "NOPE"),
        ("symbols=EURUSD,%00", 400, "control characters"),
    ];
    for (query, status, detail) in refused {
        let reply = gateway.get(&format!("{STREAM}?{query}"));
        assert_eq!(reply.problem().0, status, "{query}: {reply:?}");
        assert!(reply.detail().contains(detail), "{query}: {}", reply.detail());
    }
    let many: Vec<String> = (0..500).map(|number| format!("S{number}")).collect();
    let reply = gateway.get(&format!("{STREAM}?symbols={}", many.join(",")));
    assert_eq!(reply.problem(), (400, "invalid-request".into()));
    assert!(reply.detail().contains("at most 100, got 500"), "{}", reply.detail());
    let reply = gateway.get_with(&format!("{STREAM}?events=orders"), &[("accept", "text/html")]);
    assert_eq!(reply.problem().0, 406);
    assert_eq!(gateway.get("/api/v1/accounts/nope/stream?events=orders").problem().0, 404);
    let two = [Client::open(&gateway, "events=orders"), Client::open(&gateway, "events=orders")];
    let third = gateway.get(&format!("{STREAM}?events=orders"));
    assert_eq!(third.problem(), (503, "too-many-streams".into()));
    assert!(!third.header("retry-after").is_empty());
    drop(two);
    wait_for_subscribers(&gateway, 0.0);
    Client::open(&gateway, "events=orders").next().unwrap();
}

#[test]
fn a_streams_recorded_duration_ends_with_its_head() {
    let gateway = simulator("streams.heartbeat = '200ms'");
    let begun = Instant::now();
    let mut client = Client::open(&gateway, "events=orders");
    client.next().unwrap();
    let answered = begun.elapsed().as_secs_f64();
    client.rest();
    client.rest();
    drop(client);
    let sum = gateway.eventually("the stream is recorded", || {
        let metrics = gateway.metrics();
        let series = |name: &str| {
            let name = format!("http_request_duration_seconds_{name}{{");
            let lines = metrics.lines().filter(|line| line.starts_with(&name));
            let mut lines = lines.filter(|line| line.contains("accounts/{account}/stream\""));
            lines.next().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        };
        (series("count") == Some(1.0)).then(|| series("sum").unwrap())
    });
    assert!(sum <= answered, "{sum} s are recorded, the head came after {answered} s");
}
