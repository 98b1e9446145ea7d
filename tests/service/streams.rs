//! Streams: nothing lost, nothing doubled, nobody slowed, and an end to each.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::common::{Body, Gateway, PATIENCE, metric};

const STREAM: &str = "/api/v1/accounts/demo/stream";
const EVERY: &str = "EURUSD,GBPUSD,USDJPY,AUDUSD,USDCHF,XAUUSD,BTCUSD,US500";

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

#[test]
fn every_tick_is_told_once_to_a_reader_that_comes_back() {
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
fn states_are_told_at_first_and_when_they_change() {
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
fn one_poll_serves_everybody_and_ends_with_the_last_reader() {
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
fn who_comes_back_too_late_is_told_what_was_missed() {
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
fn who_missed_how_things_stand_is_told() {
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
    let standing = late.next().unwrap();
    assert_eq!(standing.event, "positions");
    assert!((first.sequence() + 1..=gap.sequence()).contains(&standing.sequence()));
    assert_eq!(standing.data[0]["symbol"], "BTCUSD");
}

#[test]
fn who_comes_back_behind_somebody_new_is_told_of_the_gap() {
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

/// Changes the list of orders, which is longer each time.
fn change_orders(gateway: &Gateway) {
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    let placed = gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
    assert_eq!(placed.status, 201, "{placed:?}");
}

#[test]
fn a_slow_reader_slows_nobody_and_is_told() {
    let gateway = simulator("streams.state_interval = '2ms'\nstreams.buffer = '256 KiB'");
    let mut slow = Client::open(&gateway, "events=orders");
    let first = slow.next().unwrap();
    // The other one reads until the first has no more room in its connection's buffers.
    let mut quick = Client::open(&gateway, "events=orders");
    let mut place = quick.next().unwrap().sequence();
    let mut bytes = 0;
    while bytes < 20_000_000 {
        change_orders(&gateway);
        let event = quick.next().unwrap();
        assert_eq!((event.event.as_str(), event.sequence()), ("orders", place + 1));
        place += 1;
        bytes += event.data.to_string().len();
    }
    let mut place = first.sequence();
    let gap = loop {
        let event = slow.next().unwrap();
        if event.event == "gap" {
            break event;
        }
        assert_eq!(event.sequence(), place + 1);
        place += 1;
    };
    assert_eq!(sequence(gap.data["from"].as_str().unwrap()), place + 1);
    assert_eq!(slow.next().unwrap().sequence(), gap.sequence() + 1);
    let dropped = gateway.metric("gateway_stream_events_dropped_total{account=\"demo\"}");
    assert_eq!(dropped, (gap.sequence() - place) as f64);
}

#[test]
fn who_takes_nothing_is_cut_off() {
    let gateway = simulator("streams.state_interval = '2ms'\nserver.write_timeout = '200ms'");
    let address = gateway.address;
    let never_read = |head: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {STREAM}?events=orders HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")
            .unwrap();
        stream
    };
    let connections = [
        never_read(""),
        never_read(
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
    ];
    wait_for_subscribers(&gateway, 2.0);
    gateway.eventually("both are cut off", || {
        (0..20).for_each(|_| change_orders(&gateway));
        (subscribers(&gateway) == 0.0).then_some(())
    });
    drop(connections);
}

#[test]
fn what_cannot_be_asked_is_told_once() {
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
fn bad_streams_are_refused() {
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
fn thousands_of_streams_are_told_no_and_the_rest_goes_on() {
    let gateway = simulator("streams.max = 100");
    let mut asked = Vec::new();
    for _ in 0..5_000 {
        let Ok(mut stream) = TcpStream::connect(gateway.address) else { break };
        let request = format!("GET {STREAM}?events=account HTTP/1.1\r\nhost: localhost\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
        asked.push(stream);
        // As many as this process may have open.
        if asked.len() == 900 {
            asked.drain(..800);
        }
    }
    assert_eq!(gateway.get("/api/v1/accounts/demo/symbols/EURUSD/tick").status, 200);
    assert!(subscribers(&gateway) <= 100.0);
    drop(asked);
    wait_for_subscribers(&gateway, 0.0);
    Client::open(&gateway, "events=orders").next().unwrap();
}

#[test]
fn streams_end_cleanly_when_the_gateway_stops() {
    let mut gateway = simulator("");
    let mut client = Client::open(&gateway, "events=orders");
    client.next().unwrap();
    let mut socket = web_socket(&gateway, "events=orders");
    assert_eq!(message(&mut socket)["event"], "orders");
    gateway.signal("TERM");
    assert_eq!(client.next().unwrap().event, "end");
    assert_eq!(client.next(), None);
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Away);
    assert!(gateway.wait().success());
}

#[test]
fn a_stream_is_no_slow_answer() {
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

fn web_socket(gateway: &Gateway, query: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://{}{STREAM}?{query}", gateway.address);
    tungstenite::client(url, stream).unwrap().0
}

fn message(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_web_socket_tells_the_same_and_takes_nothing() {
    let gateway = simulator("streams.state_interval = '20ms'\nstreams.heartbeat = '100ms'");
    let mut socket = web_socket(&gateway, "events=orders");
    let first = message(&mut socket);
    assert_eq!((&first["event"], &first["data"]), (&json!("orders"), &json!([])));
    // A heartbeat is a ping.
    assert!(matches!(socket.read().unwrap(), Message::Ping(_)));
    let mut again = web_socket(
        &gateway,
        &format!("events=orders&last_event_id={}", first["id"].as_str().unwrap()),
    );
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
    let changed = message(&mut socket);
    assert_eq!(changed["data"].as_array().unwrap().len(), 1);
    assert_eq!(message(&mut again), changed);
    let mut sse = Client::open(&gateway, "events=orders");
    let same = sse.next().unwrap();
    assert_eq!((&json!(same.id), &same.data), (&changed["id"], &changed["data"]));
    // A stream has nothing to be told.
    socket.send(Message::text("hello")).unwrap();
    let close = loop {
        if let Message::Close(Some(close)) = socket.read().unwrap() {
            break close;
        }
    };
    assert_eq!(close.code, CloseCode::Policy);
    // A client that closes is answered.
    again.close(None).unwrap();
    while let Ok(message) = again.read() {
        assert!(!message.is_text());
    }
    drop(sse);
    wait_for_subscribers(&gateway, 0.0);
}

#[test]
fn garbage_and_huge_frames_end_a_web_socket() {
    let gateway = simulator("");
    // A huge frame is announced, with nothing behind it; then bytes that are no frame.
    let huge = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[1, 2, 3, 4]].concat();
    for sent in [huge, b"\xff\xff garbage of some length".to_vec()] {
        let mut socket = web_socket(&gateway, "events=account");
        message(&mut socket);
        let stream = socket.get_mut();
        stream.write_all(&sent).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        wait_for_subscribers(&gateway, 0.0);
    }
    // An upgrade that is none.
    let reply = gateway.raw(
        format!("GET {STREAM}?events=orders HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .as_bytes(),
    );
    assert!(reply.starts_with("HTTP/1.1 4") || reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(gateway.get("/livez").status, 200);
}
