//! What is promised about trades (docs/trading.md), against a broker that goes wrong on demand. Each test
//! is one kind of fault; `tests/python/faulty_broker.py` is the far side.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Gateway, Reply, signal};
use crate::tools::{children, modules, worker};

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

    /// The trade stays unknown although everything that could decide it has happened.
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

// Never late.

#[test]
fn a_trade_is_withdrawn_when_its_time_is_over_and_the_answer_says_where_it_went() {
    let settings = "[trading]\nsend_within = '600ms'\n";
    let broker = Broker::start(settings, "", json!({}));
    broker.control(json!({"slow": {"symbol_info": 0.4, "account_info": 0.4}}));
    let late = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(late.problem(), (503, "trade-not-sent".into()), "{}", late.text());
    assert!(late.json()["spent_seconds"]["preparation"].as_f64().unwrap() >= 0.4);
    assert_ne!(late.header("retry-after"), "");
    let trade = broker.read(&format!("/trades/{}", late.json()["trade_id"].as_str().unwrap()));
    assert_eq!(trade["state"], "not-sent");
    assert_eq!(broker.sends(), [] as [Value; 0]);
    let counted = "mt5_trades_total{account=\"real\",outcome=\"not_sent\"}";
    assert_eq!(broker.gateway.metric(counted), 1.0);
    // Its client knows, so that the key is free.
    broker.control(json!({}));
    let again = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, ""), "{}", again.text());
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_header_shortens_the_time_and_what_takes_risk_off_has_more() {
    let settings = "[trading]\nsend_within = '1s'\nsend_within_close = '5s'\n";
    let broker = Broker::start(settings, "", json!({}));
    let ticket = broker.position();
    for bad in ["", "0", "-1", "1.1", "soon", "nan", "inf"] {
        let reply = broker.keyed("bad", &buy(0.1), &[("send-within", bad)]);
        assert_eq!(reply.status, 400, "{bad}");
        assert!(reply.detail().contains("Send-Within"), "{}", reply.detail());
    }
    broker.control(json!({"slow": {"symbol_info": 0.5}}));
    let short = broker.keyed("short", &buy(0.1), &[("send-within", "0.3")]);
    assert_eq!(short.problem(), (503, "trade-not-sent".into()));
    broker.control(json!({"slow": {"symbol_info": 1.2}}));
    assert_eq!(broker.keyed("long", &buy(0.1), &[]).status, 503);
    let path = format!("/positions/{ticket}");
    assert_eq!(broker.trade("DELETE", &path, Value::Null).status, 200);
}

#[test]
fn a_worker_that_reads_a_trade_too_late_sends_nothing() {
    let broker = Broker::start("[trading]\nsend_within = '500ms'\n", "", json!({"stalls": 1}));
    let late = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(late.problem(), (503, "trade-not-sent".into()), "{}", late.text());
    assert_eq!(broker.sends(), [] as [Value; 0]);
}

#[test]
fn what_was_stopped_meanwhile_sends_nothing_late() {
    let slow = json!({"slow": {"account_info": 0.3}});
    let broker = Broker::start("[trading]\nsend_within = '1s'\n", "", json!({}));
    let gateway = broker.gateway.pid();
    let worker = children(gateway)[0];
    broker.control(slow);
    for stopped in [vec![worker], vec![gateway], vec![gateway, worker]] {
        let reply = std::thread::scope(|scope| {
            let client = scope.spawn(|| broker.trade("POST", "/orders", buy(0.1)));
            std::thread::sleep(Duration::from_millis(150));
            stopped.iter().for_each(|pid| signal(*pid, "STOP"));
            std::thread::sleep(Duration::from_millis(1_200));
            stopped.iter().for_each(|pid| signal(*pid, "CONT"));
            client.join().unwrap()
        });
        assert_eq!(reply.problem(), (503, "trade-not-sent".into()), "{}", reply.text());
        broker.gateway.eventually("the terminal answers", || {
            (broker.gateway.get(&format!("{ACCOUNT}/positions")).status == 200).then_some(())
        });
    }
    assert_eq!(broker.sends(), [] as [Value; 0]);
}

#[test]
fn a_repetition_never_turns_a_question_into_an_order() {
    let settings = "[trading]\nsend_within = '500ms'\n";
    let broker = Broker::start(settings, "", json!({}));
    broker.control(json!({"slow": {"symbol_info": 0.8}}));
    let asked = broker.keyed("k", &buy(0.1), &[("request-timeout", "0.2")]);
    assert_eq!(asked.problem(), (504, "outcome-unknown".into()));
    broker.state(&asked.json()["trade_id"], "not-sent");
    broker.control(json!({}));
    let by_key = broker.read("/trades?idempotency_key=k");
    assert_eq!((&by_key[0]["state"], by_key.as_array().unwrap().len()), (&json!("not-sent"), 1));
    // The client does not know yet, so this is a question, an hour later as well.
    let told = broker.keyed("k", &buy(0.1), &[]);
    assert_eq!(told.problem(), (503, "trade-not-sent".into()));
    assert_eq!(told.header("idempotent-replayed"), "true");
    assert_eq!(told.json()["trade_id"], asked.json()["trade_id"]);
    assert_eq!(broker.sends(), [] as [Value; 0]);
    let order = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!((order.status, order.header("idempotent-replayed")), (201, ""));
    assert_ne!(order.json()["trade_id"], asked.json()["trade_id"]);
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_trade_does_not_wait_for_a_hung_primary_while_another_session_is_idle() {
    let broker = Broker::start("[server]\ncall_timeout = '20s'\n", "sessions = 2", json!({}));
    broker.control(json!({"hangs_once": "positions_get"}));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let headers = [("request-timeout", "3")];
            broker.gateway.get_with(&format!("{ACCOUNT}/positions"), &headers)
        });
        broker.gateway.eventually("the primary hangs", || {
            let control: Value =
                serde_json::from_slice(&std::fs::read(&broker.control).unwrap()).unwrap();
            control["hangs_once"].is_null().then_some(())
        });
        let begun = Instant::now();
        let placed = broker.trade("POST", "/orders", buy(0.1));
        assert_eq!(placed.status, 201, "{}", placed.text());
        assert!(begun.elapsed() < Duration::from_secs(4), "within its time");
        // A read after the trade sees it.
        assert_eq!(broker.read("/positions").as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_journal_that_another_program_holds_delays_no_trade_beyond_its_time() {
    let broker = Broker::start("[trading]\nsend_within = '700ms'\n", "", json!({}));
    let file = broker.gateway.directory.path().join("data/journal.sqlite");
    let holder = rusqlite::Connection::open(file).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let statuses: Vec<(u16, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let broker = &broker;
                scope.spawn(move || {
                    broker.keyed(&format!("k{number}"), &buy(0.1), &[("request-timeout", "4")])
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(1_500));
        holder.execute_batch("ROLLBACK").unwrap();
        clients.into_iter().map(|client| client.join().unwrap().problem()).collect()
    });
    let not_sent = |problem: &(u16, String)| {
        matches!(problem.1.as_str(), "trade-not-sent" | "journal-unavailable")
    };
    assert!(statuses.iter().all(not_sent), "{statuses:?}");
    assert_eq!(broker.sends(), [] as [Value; 0]);
    // No key is burnt by what was not sent.
    let again = broker.gateway.eventually("the key is free", || {
        Some(broker.keyed("k0", &buy(0.1), &[])).filter(|reply| reply.status != 503)
    });
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_journal_that_is_gone_takes_no_trade() {
    let broker = Broker::start("", "", json!({}));
    assert_eq!(broker.keyed("one", &buy(0.1), &[]).status, 201);
    let file = broker.gateway.directory.path().join("data/journal.sqlite");
    std::fs::remove_file(file).unwrap();
    let refused = broker.keyed("two", &buy(0.1), &[]);
    assert_eq!(refused.problem(), (503, "journal-unavailable".into()));
    assert!(refused.detail().contains("is gone"), "{}", refused.detail());
    assert_eq!(broker.sends().len(), 1);
}

// Never wrong.

#[test]
fn a_lost_change_is_superseded_if_its_position_closed_or_changed_since() {
    let broker = Broker::start(QUICK, "", json!({}));
    let (closed, changed) = (broker.position(), broker.position());
    broker.control(json!({"fault": "timeout before", "connected": true}));
    for (ticket, mut request, present) in [
        (
            closed,
            json!({"action": 1, "symbol": "EURUSD", "type": 1, "volume": 0.1, "price": 1.1}),
            Value::Null,
        ),
        (changed, json!({"action": 6, "symbol": "EURUSD", "sl": 1.05, "tp": 0.0}), json!(1.05)),
    ] {
        request["position"] = json!(ticket);
        let body = json!({"sl": 1.0});
        let path = format!("{ACCOUNT}/positions/{ticket}");
        let key = format!("change-{ticket}");
        let headers = [("idempotency-key", key.as_str())];
        let lost = broker.gateway.send_with("PUT", &path, Some(&body), &headers);
        assert_eq!(lost.status, 504, "{}", lost.text());
        broker.happens(request, json!({}));
        let trade = broker.state(&lost.json()["trade_id"], "superseded");
        assert_eq!(trade["present"].get("sl").unwrap_or(&Value::Null), &present, "{trade}");
        let told = broker.gateway.send_with("PUT", &path, Some(&body), &headers);
        assert_eq!(told.problem(), (409, "trade-superseded".into()));
        assert_eq!(told.json()["intended"]["sl"], 1.0);
    }
    let counted = "mt5_trades_total{account=\"real\",outcome=\"superseded\"}";
    assert_eq!(broker.gateway.metric(counted), 2.0);
}

#[test]
fn a_lost_change_that_did_not_take_effect_is_not_found_only_if_the_terminal_answered() {
    let broker = Broker::start(QUICK, "", json!({}));
    let path = format!("/positions/{}", broker.position());
    broker.control(json!({"fault": "connection before"}));
    let answered = broker.lose("PUT", &path, json!({"sl": 1.0}));
    broker.state(&answered, "not-found");
    broker.control(json!({"fault": "dies before"}));
    let died = broker.lose("PUT", &path, json!({"sl": 1.01}));
    let trade = broker.stays_unknown(&died);
    assert!(trade["detail"].as_str().unwrap().contains("may still deliver"), "{trade}");
    // It does, whoever did it: the change is in force.
    let ticket: u64 = path.rsplit('/').next().unwrap().parse().unwrap();
    broker.happens(
        json!({"action": 6, "symbol": "EURUSD", "position": ticket, "sl": 1.01, "tp": 0.0}),
        json!({}),
    );
    broker.state(&died, "executed");
}

#[test]
fn an_order_that_a_killed_terminal_delivers_late_was_never_called_not_found() {
    let broker = Broker::start(QUICK, "", json!({"fault": "fills late"}));
    let lost = broker.keyed("late", &buy(0.1), &[]);
    assert_eq!(lost.problem(), (504, "outcome-unknown".into()));
    let trade_id = lost.json()["trade_id"].clone();
    broker.when(&trade_id, "it is executed", |trade| {
        assert_ne!(trade["state"], "not-found", "{trade}");
        trade["state"] == "executed"
    });
    let told = broker.keyed("late", &buy(0.1), &[]);
    assert_eq!((told.status, told.header("idempotent-replayed")), (201, "true"));
    assert_eq!(broker.sends().len(), 1);
}

#[test]
fn a_close_in_two_deals_is_told_whole_or_shown_as_a_candidate() {
    let control = json!({"fills": [0.4, 0.6]});
    let broker = Broker::start(QUICK, "", control.clone());
    let (tagged, bare) = (broker.position(), broker.position());
    broker.control(json!({"fills": [0.4, 0.6], "fault": "dies after"}));
    let lost = broker.lose("DELETE", &format!("/positions/{tagged}"), Value::Null);
    let trade = broker.state(&lost, "executed");
    let result = &trade["result"];
    assert_eq!((&result["volume"], &result["position"]), (&json!(0.1), &json!(tagged)), "{trade}");
    assert_eq!(result["deals"].as_array().unwrap().len(), 2);
    broker.control(json!({"fills": [0.4, 0.6], "fault": "dies after", "closes": "drop"}));
    let lost = broker.lose("DELETE", &format!("/positions/{bare}"), Value::Null);
    let trade = broker.stays_unknown(&lost);
    assert_eq!(trade["candidates"].as_array().unwrap().len(), 1, "{trade}");
}

#[test]
fn what_somebody_else_did_is_a_candidate_and_never_a_verdict() {
    let by_hand = json!({"action": 1, "symbol": "EURUSD", "type": 0, "volume": 0.1, "price": 1.1});
    // Half an hour before, under a symbol whose last tick is an hour old.
    let half_an_hour_ago = jiff::Timestamp::now().as_second() - 1_800;
    let before = json!([{"time": half_an_hour_ago, "request": by_hand}]);
    let control = json!({"before": before, "quiet": 3_600, "fault": "dies before"});
    let broker = Broker::start(&format!("{QUICK}tag = false\n"), "", control);
    let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1, "comment": "bot"});
    let before = broker.lose("POST", "/orders", order.clone());
    assert_eq!(broker.stays_unknown(&before)["candidates"], json!([]));
    // Right after, by another program.
    let after = broker.lose("POST", "/orders", order);
    broker.happens(by_hand, json!({"comment": "bot"}));
    let trade = broker.when(&after, "a candidate is shown", |trade| {
        trade["candidates"].as_array().is_some_and(|candidates| candidates.len() == 1)
    });
    assert_eq!(trade["state"], "unknown");
}

#[test]
fn an_accepted_order_is_followed_until_it_is_filled() {
    let broker = Broker::start(QUICK, "", json!({"fault": "accepts"}));
    let placed = broker.trade("POST", "/orders", buy(0.1));
    assert_eq!(placed.status, 201, "{}", placed.text());
    assert_eq!((&placed.json()["retcode"], &placed.json()["volume"]), (&json!(10009), &json!(0.1)));
    broker.control(json!({"fault": "parts", "fills": [0.4, 0.6]}));
    let parts = broker.trade("POST", "/orders", buy(0.1)).json();
    assert_eq!((&parts["volume"], parts["deals"].as_array().unwrap().len()), (&json!(0.1), 2));
    // Only a part is done, and the rest is cancelled.
    broker.control(json!({"fault": "parts", "fills": [0.4]}));
    broker.control(json!({"fills": [0.4], "retcode": 10010}));
    let part = broker.trade("POST", "/orders", buy(0.1)).json();
    assert_eq!((&part["retcode"], &part["volume"]), (&json!(10010), &json!(0.04)), "{part}");
}

#[test]
fn a_code_that_promises_nothing_is_no_refusal() {
    let broker = Broker::start(QUICK, "", json!({}));
    for code in [10007, 10011, 10012, 10023, 10028, 10031, 10041, 10047] {
        broker.control(json!({"retcode": code}));
        let placed = broker.trade("POST", "/orders", buy(0.1));
        assert_eq!(placed.status, 201, "{code}: {}", placed.text());
        assert_eq!(placed.json()["retcode"], 10009, "the order is found by its ticket");
    }
}

#[test]
fn absence_in_a_history_that_is_still_being_downloaded_is_no_proof() {
    let broker = Broker::start(QUICK, "", json!({}));
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
    broker.control(json!({"fault": "connection after", "hides": 2, "keeps": 0}));
    let position = json!({"action": 1, "symbol": "EURUSD", "type": 1, "volume": 0.1, "price": 1.1});
    let lost =
        broker.lose("POST", "/orders", json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.2}));
    // What it opened is closed at once by hand, so that only the history could show it.
    let opened = broker.read("/positions")[1]["ticket"].clone();
    let mut close = position;
    close["position"] = opened;
    close["volume"] = json!(0.2);
    broker.control(json!({"hides": 4}));
    broker.happens(close, json!({}));
    broker.stays_unknown(&lost);
    broker.control(json!({}));
    broker.when(&lost, "it is a candidate", |trade| trade["candidates"] != json!([]));
}

#[test]
fn a_terminal_that_shows_another_account_answers_nobody() {
    for switch in
        [json!({"login": 5002}), json!({"server": "Other-Live"}), json!({"trade_mode": 2})]
    {
        let settings = QUICK.replace("probe_interval = '100ms'", "probe_interval = '10s'");
        let broker = Broker::start(&settings, "", json!({}));
        broker.position();
        broker.control(json!({"fault": "connection before"}));
        let lost = broker.lose("POST", "/orders", buy(0.3));
        broker.control(switch.clone());
        // Between two probes, and not one answer is about the other account.
        for path in ["/positions", "/orders", "/positions/total", "/history/deals?from=2020-01-01"]
        {
            let reply = broker.gateway.get(&format!("{ACCOUNT}{path}"));
            assert_eq!(reply.status, 503, "{switch} {path}: {}", reply.text());
        }
        assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 503);
        broker.stays_unknown(&lost);
        broker.control(json!({}));
        broker.state(&lost, "not-found");
    }
}

#[test]
fn a_login_on_another_server_is_none() {
    let broker = Broker::launch(QUICK, "", json!({"server": "Other-Live"}));
    broker.gateway.logs("Other-Live");
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 503);
    assert_eq!(broker.gateway.get(&format!("{ACCOUNT}/account")).status, 503);
}

#[test]
fn an_operator_settles_what_looking_cannot_decide() {
    let broker = Broker::start(QUICK, "", json!({"fault": "dies after", "keeps": 0}));
    let resolve = |trade_id: &Value, body: Value| {
        broker.trade("POST", &format!("/trades/{}/resolve", trade_id.as_str().unwrap()), body)
    };
    let lost = broker.lose("POST", "/orders", buy(0.1));
    let trade =
        broker.when(&lost, "a candidate is shown", |trade| trade["candidates"] != json!([]));
    let order = trade["candidates"][0].clone();
    broker.control(json!({}));
    for (body, status) in [
        (json!({"state": "executed", "reason": "x"}), 400),
        (json!({"state": "refused", "reason": "x"}), 400),
        (json!({"state": "not-found"}), 400),
        (json!({"state": "executed", "order": 1, "reason": "x"}), 409),
    ] {
        let reply = resolve(&lost, body.clone());
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
    }
    let body = json!({"state": "executed", "order": order, "reason": "seen in the terminal"});
    let settled = resolve(&lost, body);
    assert_eq!(settled.status, 200, "{}", settled.text());
    let settled = settled.json();
    assert_eq!(
        (&settled["state"], &settled["result"]["volume"]),
        (&json!("executed"), &json!(0.1))
    );
    assert_eq!(settled["resolved_by"], "127.0.0.1");
    broker.gateway.logs("resolved_by=\"127.0.0.1\"");

    // The same order is nobody else's, and what the terminal shows by its tag happened.
    broker.control(json!({"fault": "dies before"}));
    let other = broker.lose("POST", "/orders", buy(0.1));
    broker.when(&other, "it is undecidable", |trade| {
        trade["detail"].as_str().is_some_and(|detail| detail.contains("may still deliver"))
    });
    broker.control(json!({}));
    let body = json!({"state": "executed", "order": order, "reason": "x"});
    assert_eq!(resolve(&other, body).problem(), (409, "trade-not-resolvable".into()));
    let body = json!({"state": "not-found", "reason": "the broker says so"});
    assert_eq!(resolve(&other, body.clone()).status, 200);
    assert_eq!(resolve(&other, body).problem(), (409, "trade-not-resolvable".into()));
}

// What takes risk off needs no quote.

#[test]
fn risk_is_taken_off_without_a_quote_or_a_symbol() {
    for control in [json!({"quiet": "never"}), json!({"symbol": null})] {
        let broker = Broker::start(QUICK, "", json!({}));
        let ticket = broker.position();
        let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 1.0, "magic": 9});
        let order = broker.trade("POST", "/orders", limit).json()["order"].clone();
        broker.control(control.clone());
        let position = format!("/positions/{ticket}");
        let pending = format!("/orders/{order}");
        for (method, path, body) in [
            ("PUT", &position, json!({"sl": 1.0})),
            ("PUT", &pending, json!({"price": 0.9})),
            ("DELETE", &pending, Value::Null),
            ("DELETE", &position, Value::Null),
        ] {
            let reply = broker.trade(method, path, body);
            assert_eq!(reply.status, 200, "{control} {method} {path}: {}", reply.text());
        }
        let sends = broker.sends();
        assert_eq!(sends[3]["magic"], 9, "a change keeps the order's own magic");
        assert!(sends[5]["price"] == 0.0 || control["symbol"].is_null(), "{}", sends[5]);
    }
}

#[test]
fn zeros_are_no_quote() {
    let broker = Broker::start(QUICK, "", json!({"quiet": "never"}));
    let tick = broker.gateway.get(&format!("{ACCOUNT}/symbols/EURUSD/tick"));
    assert_eq!(tick.problem(), (503, "no-quote".into()));
    let order = broker.trade("POST", "/orders", buy(0.1));
    assert_eq!(order.problem(), (503, "no-quote".into()), "{}", order.text());
    assert_eq!(broker.sends(), [] as [Value; 0]);
    // Where the server wants a price, a close without one is not sent.
    broker.control(json!({}));
    let ticket = broker.position();
    broker.control(json!({"quiet": "never", "symbol": {"trade_exemode": 1}}));
    let close = broker.trade("DELETE", &format!("/positions/{ticket}"), Value::Null);
    assert_eq!(close.problem(), (503, "no-quote".into()), "{}", close.text());
}

#[test]
fn a_resting_order_on_an_exchange_stays_with_its_remainder() {
    let broker = Broker::start(QUICK, "", json!({"symbol": {"trade_exemode": 3}}));
    let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 1.0});
    assert_eq!(broker.trade("POST", "/orders", limit).status, 201);
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
    let policies: Vec<Value> =
        broker.sends().into_iter().map(|sent| sent["type_filling"].clone()).collect();
    assert_eq!(policies, [2, 0]);
}

#[test]
fn a_search_that_fails_hurts_neither_others_nor_the_terminal() {
    let broker = Broker::start(QUICK, "", json!({"fault": "dies before"}));
    let lost = broker.lose("POST", "/orders", buy(0.1));
    // The history takes longer than a call may.
    broker.control(json!({"slow": {"history_orders_get": 1.0}}));
    let restarts =
        broker.gateway.metric("mt5_session_restarts_total{account=\"real\",reason=\"hang\"}");
    let placed = broker.gateway.eventually("the account trades on", || {
        Some(broker.trade("POST", "/orders", buy(0.1))).filter(|reply| reply.status == 201)
    });
    assert_eq!(placed.json()["retcode"], 10009);
    broker.stays_unknown(&lost);
    let after =
        broker.gateway.metric("mt5_session_restarts_total{account=\"real\",reason=\"hang\"}");
    assert_eq!(after, restarts, "the search ends no terminal");
}

#[test]
fn reads_that_wait_for_a_terminal_without_its_broker_fail() {
    let broker = Broker::start(QUICK, "", json!({}));
    broker.control(json!({"slow": {"symbol_info_tick": 0.1}}));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|number| {
                let broker = &broker;
                // So that none shares another's call.
                let path = format!("{ACCOUNT}/symbols/S{number}/tick");
                scope.spawn(move || broker.gateway.get(&path).status)
            })
            .collect();
        std::thread::sleep(Duration::from_millis(150));
        broker.control(json!({"slow": {"symbol_info_tick": 0.1}, "connected": false}));
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    // What was written before the next probe is answered; nothing after it is.
    let answered = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(answered + refused, 40, "{statuses:?}");
    assert!(refused >= 10, "{statuses:?}");
    let sessions = broker.gateway.get("/api/v1/accounts").json()[0]["sessions"].clone();
    assert_eq!(sessions[0]["state"], "disconnected");
    let gauge = "mt5_pool_sessions{account=\"real\",state=\"disconnected\"}";
    assert_eq!(broker.gateway.metric(gauge), 1.0);
    assert_eq!(broker.gateway.metric("mt5_terminal_connected{account=\"real\"}"), 0.0);
}
