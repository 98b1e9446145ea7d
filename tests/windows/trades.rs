//! Orders through MetaQuotes' package.

use std::time::Duration;

use mt5_gateway::mt5::{Method, Request, Selection, Ticket, TradeRequest, calls};
use serde_json::{Value, json};

use crate::common::fault_run::{Plan, number, run};
use crate::double::{Double, Fault};
use crate::stage::{LOGIN, SERVER, Stage, account, environment, installed};

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn orders_are_placed_changed_closed_and_cancelled() {
    let stage = Stage::ready("");
    let market =
        |side: &str, volume: f64| json!({"symbol": "EURUSD", "type": side, "volume": volume});
    let placed = stage.trade("POST", "/orders", market("BUY", 0.3));
    assert_eq!(placed.status, 201, "{}", placed.text());
    let result = placed.json();
    assert_eq!(result["retcode_name"], "done");
    let path = format!("/positions/{}", result["position"]);
    let price = result["price"].as_f64().unwrap();
    let target = (price * 1.1 * 1e5).round() / 1e5;
    let changed = stage.trade("PUT", &path, json!({"tp": target}));
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(stage.read(&path)["tp"], target);
    let part = stage.trade("POST", &format!("{path}/close"), json!({"volume": 0.1}));
    assert_eq!(part.status, 200, "{}", part.text());
    assert_eq!(stage.read(&path)["volume"], 0.2);
    let opposite = stage.trade("POST", "/orders", market("SELL", 0.2)).json();
    let both = json!({"symbol": "EURUSD", "position": result["position"], "position_by": opposite["position"]});
    let closed = stage.trade("POST", "/orders", both);
    assert!(matches!(closed.status, 200 | 201), "{}", closed.text());
    // Both positions' deals, although the package reads one for a ticket.
    let deals = stage.read(&format!("/history/deals?ticket={}", closed.json()["order"]));
    assert_eq!(deals.as_array().unwrap().len(), 2, "{deals}");
    assert_eq!(stage.read("/positions"), json!([]));

    let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.9});
    let order = stage.trade("POST", "/orders", limit);
    assert_eq!(order.status, 201, "{}", order.text());
    let path = format!("/orders/{}", order.json()["order"]);
    assert_eq!(stage.trade("PUT", &path, json!({"price": 0.8})).status, 200);
    assert_eq!(stage.read(&path)["price_open"], 0.8);
    assert_eq!(stage.trade("DELETE", &path, Value::Null).status, 200);
    assert_eq!(stage.read("/orders"), json!([]));

    // Every field of a request, and an expiration that has more than 32 bits.
    for expiration in [2_000_000_000_i64, 5_000_000_000] {
        let order = json!({
            "symbol": "EURUSD", "type": "BUY_STOP_LIMIT", "volume": 0.1, "price": 1.5, "stoplimit": 1.4,
            "sl": 1.3, "tp": 1.6, "type_time": "SPECIFIED", "expiration": expiration, "magic": -7,
        });
        let placed = stage.trade("POST", "/orders", order);
        assert_eq!(placed.status, 201, "{}", placed.text());
        let path = format!("/orders/{}", placed.json()["order"]);
        let order = stage.read(&path);
        let ticket = Selection::Ticket(Ticket::new(order["ticket"].as_u64().unwrap()));
        let known = stage.double.ask(Request::OrdersGet { selection: ticket }).unwrap();
        let known = &serde_json::to_value(known).unwrap()[0];
        for field in
            ["price_open", "price_stoplimit", "sl", "tp", "type_time", "type_filling", "magic"]
        {
            assert_eq!(order[field], known[field], "{field}");
        }
        assert_eq!(
            (&order["time_expiration"], &known["time_expiration"]),
            (&json!(expiration), &json!(expiration))
        );
        assert_eq!((&order["price_stoplimit"], &order["magic"]), (&json!(1.4), &json!(-7)));
        assert_eq!(stage.trade("DELETE", &path, Value::Null).status, 200);
    }

    let states = stage.read("/trades");
    let states = states.as_array().unwrap();
    assert_eq!(states.len(), 12);
    assert!(states.iter().all(|trade| trade["state"] == "executed"), "{states:#?}");
    let refused =
        stage.trade("POST", "/orders", json!({"symbol": "EURUSD", "type": "BUY", "volume": 400.0}));
    assert_eq!(refused.problem(), (422, "trade-refused".into()), "{}", refused.text());
    assert_eq!(refused.json()["mt5"]["name"], "no_money");
    let total = stage.double.ask(calls::PositionsTotal.into()).unwrap();
    assert_eq!(serde_json::to_value(total).unwrap(), 0);
}

/// What goes wrong with a trade follows from its number, so that a run can be repeated.
fn planned(request: &TradeRequest) -> Option<Fault> {
    let trade = if request.magic == 0 { request.position } else { request.magic.cast_unsigned() };
    let mixed =
        trade.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ request.action.cast_unsigned();
    match mixed % 100 {
        0..4 => Some(Fault::DiesBefore),
        4..9 => Some(Fault::DiesAfter),
        9..11 => Some(Fault::Never),
        11..14 => Some(Fault::Late(Duration::from_secs(4))),
        14..17 => Some(Fault::Error(-10_002)),
        17..21 => Some(Fault::Retcode(10_019)),
        21..23 => Some(Fault::Retcode(10_012)),
        _ => None,
    }
}

/// The trade fault run over MetaQuotes' package. Its limits are wider than those of the run over Linux
/// workers, because Windows Python takes seconds to start under Wine.
#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn faults_never_lose_repeat_delay_or_invent_a_trade() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = "[server]\ntrade_timeout = '2s'\nprobe_interval = '500ms'\n\
                        [restart]\nbackoff = '10ms'\nbackoff_max = '40ms'\nbudget = 1000000\n\
                        [trading]\nnot_found_after = '2s'\nsend_within = '2s'\nsend_within_close = '4s'\n\
                        [log]\naccess = false\nfilter = 'warn,mt5_gateway::app=info,mt5_gateway::pool=error'\n"
        .to_owned();
    let mut doubles = Vec::new();
    for (login, name) in [(LOGIN, "even"), (LOGIN + 1, "odd")] {
        let double = Double::start(login, SERVER, 7);
        let folder = directory.path().join(name);
        double.install(&folder, &installed("terminal64.exe"));
        double.change(|switches| {
            switches.books = Some(folder.clone());
            switches.trade_fault = Some(planned);
        });
        let settings_of = account(name, &folder.join("terminal64.exe"), "trade = true", "");
        settings += &settings_of.replace(&LOGIN.to_string(), &login.to_string());
        doubles.push(double);
    }
    let environment = environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(&Plan {
        settings: &settings,
        environment: &environment,
        directory: directory.path(),
        trades: number("FAULT_TRADES", 120),
        seed: number("FAULT_SEED", 1),
        kills: 2,
        send_within: Duration::from_secs(2),
        send_within_close: Duration::from_secs(4),
        operator: Duration::from_secs(8),
    });
    drop(doubles);
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn a_terminal_that_dies_on_a_trade_leaves_its_outcome_to_be_found() {
    // What a dead terminal may still have delivered is for the operator to decide.
    for (fault, state) in [(Fault::DiesAfter, "executed"), (Fault::DiesBefore, "unknown")] {
        let stage = Stage::ready("[trading]\nnot_found_after = '1s'\n");
        stage.double.change(|switches| switches.faults.insert(Method::OrderSend, fault));
        let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1});
        let lost = stage.trade("POST", "/orders", order);
        assert_eq!(lost.problem(), (504, "outcome-unknown".into()), "{}", lost.text());
        let path = format!("/trades/{}", lost.json()["trade_id"].as_str().unwrap());
        stage.double.change(|switches| switches.faults.clear());
        stage.gateway.wait_ready();
        stage.gateway.eventually("it is found out", || {
            let trade = stage.get(&path);
            (trade.status == 200 && trade.json()["state"] == state).then_some(())
        });
        let positions = stage.double.ask(calls::PositionsTotal.into()).unwrap();
        let executed = u64::from(state == "executed");
        assert_eq!(serde_json::to_value(positions).unwrap(), executed, "{fault:?}");
    }
}
