//! Whether the account may trade: as a state before an order, and as the refusal of one.

use serde_json::{Value, json};

use super::{ACCOUNT, Broker, QUICK, buy};

/// Everywhere that the state shows: the account, the load balancer's question, the metrics, the log.
fn assert_blocked(broker: &Broker, reason: &str) {
    let gateway = &broker.gateway;
    let trading = gateway.eventually(&format!("{reason} is noticed"), || {
        let trading = gateway.get(ACCOUNT).json()["trading"].clone();
        (trading["open"]["reasons"] == json!([reason])).then_some(trading)
    });
    let blocked = json!({"allowed": false, "reasons": [reason]});
    assert_eq!(trading, json!({"open": blocked, "close": blocked}));
    let readyz = gateway.get("/readyz?account=real&for=trade");
    assert_eq!(readyz.problem(), (503, "not-ready".into()));
    assert_eq!(readyz.json()["reasons"], json!({"real": [reason]}));
    assert_eq!(gateway.get("/readyz?account=real&for=read").status, 200);
    assert_eq!(blocked_by(broker, reason), 1.0);
    assert_eq!((allowed(broker, "open"), allowed(broker, "close")), (0.0, 0.0));
    gateway
        .logs(&format!("terminal may not trade account=\"real\" session=0 reasons=\"{reason}\""));
}

fn blocked_by(broker: &Broker, reason: &str) -> f64 {
    let labels = format!(r#"{{account="real",reason="{reason}"}}"#);
    broker.gateway.metric(&format!("mt5_account_trade_blocked{labels}"))
}

fn allowed(broker: &Broker, action: &str) -> f64 {
    let labels = format!(r#"{{account="real",action="{action}"}}"#);
    broker.gateway.metric(&format!("mt5_account_trade_allowed{labels}"))
}

#[test]
fn an_account_that_may_not_trade_says_why_and_sends_nothing() {
    let broker = Broker::start(QUICK, "", json!({}));
    let position = broker.position();
    assert_eq!((allowed(&broker, "open"), allowed(&broker, "close")), (1.0, 1.0));
    assert_eq!(broker.gateway.get("/readyz?account=real&for=trade").status, 200);
    let sent = broker.sends().len();
    let cases = [
        ("autotrading_off", json!({"terminal": {"trade_allowed": false}})),
        ("api_trading_off", json!({"terminal": {"tradeapi_disabled": true}})),
        ("investor_login", json!({"account": {"trade_allowed": false}})),
        (
            "account_trade_disabled",
            json!({"account": {"trade_allowed": false, "trade_expert": false}}),
        ),
        ("experts_disabled", json!({"account": {"trade_expert": false}})),
    ];
    for (reason, control) in cases {
        broker.control(control);
        assert_blocked(&broker, reason);
        let close = format!("/positions/{position}");
        let orders = [("POST", "/orders", buy(0.1)), ("DELETE", &*close, Value::Null)];
        for (method, path, body) in orders {
            let refused = broker.trade(method, path, body);
            assert_eq!(refused.problem(), (403, "trading-not-allowed".into()), "{reason}");
            assert_eq!(refused.json()["reasons"], json!([reason]));
        }
        assert_eq!(broker.sends().len(), sent, "{reason}");
    }
    broker.control(json!({}));
    broker.gateway.eventually("it may trade", || (allowed(&broker, "open") == 1.0).then_some(()));
    assert_eq!(blocked_by(&broker, "experts_disabled"), 0.0);
    broker.gateway.logs("terminal may trade account=\"real\" session=0");
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
}

#[test]
fn an_order_is_not_refused_for_what_the_last_probe_showed() {
    let settings = QUICK.replace("probe_interval = '100ms'", "probe_interval = '1h'");
    let control = json!({"terminal": {"trade_allowed": false}});
    let broker = Broker::start(&settings, "", control);
    assert_blocked(&broker, "autotrading_off");
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).problem().0, 403);
    // The operator has switched it on, and the gateway has not looked since.
    broker.control(json!({}));
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
}

#[test]
fn a_journal_that_is_deleted_shows_before_an_order_and_comes_back() {
    let broker = Broker::start(QUICK, "", json!({}));
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
    let journal = broker.gateway.directory.path().join("data/journal.sqlite");
    let away = journal.with_extension("away");
    std::fs::rename(&journal, &away).unwrap();
    let reasons = || broker.gateway.get(ACCOUNT).json()["trading"]["open"]["reasons"].clone();
    let noticed = |expected: Value, blocked: f64| {
        let what = format!("the reasons are {expected}");
        broker.gateway.eventually(&what, || {
            let found = reasons() == expected && blocked_by(&broker, "journal") == blocked;
            found.then_some(())
        });
    };
    noticed(json!(["journal"]), 1.0);
    broker.gateway.logs("journal is lost, nothing is traded");
    let refused = broker.trade("POST", "/orders", buy(0.1));
    assert_eq!(refused.problem(), (503, "journal-unavailable".into()));
    std::fs::rename(&away, &journal).unwrap();
    noticed(json!([]), 0.0);
    assert_eq!(broker.trade("POST", "/orders", buy(0.1)).status, 201);
}
