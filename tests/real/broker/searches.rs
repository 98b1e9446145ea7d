//! The search for a lost answer: what is proof, what is a candidate, and what an operator settles.

use serde_json::{Value, json};

use super::{ACCOUNT, Broker, QUICK, buy};

#[test]
fn an_order_of_another_program_is_only_a_candidate() {
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
fn a_trade_missing_from_an_incomplete_history_stays_unknown() {
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
fn a_terminal_logged_in_to_another_account_answers_no_read_and_no_search() {
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
fn a_login_on_another_server_is_not_accepted() {
    let broker = Broker::launch(QUICK, "", json!({"server": "Other-Live"}));
    broker.gateway.logs("Other-Live");
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 503);
    assert_eq!(broker.gateway.get(&format!("{ACCOUNT}/account")).status, 503);
}

#[test]
fn an_operator_settles_a_trade_that_the_search_cannot_decide() {
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

#[test]
fn a_failing_search_blocks_no_trade_and_restarts_no_terminal() {
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
fn queued_reads_fail_when_their_terminal_loses_the_broker() {
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
        broker.gateway.eventually("reads are waiting", || {
            let depth = broker.gateway.metric("mt5_session_queue_depth{account=\"real\"}");
            (depth >= 20.0).then_some(())
        });
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
