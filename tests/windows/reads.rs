//! Every read route gives what the simulator says, through the package and the pipe.

use mt5_gateway::mt5::CopyTicks;
use mt5_gateway::mt5::{Request, Selection, ServerTime, SymbolName, Ticket, Timeframe, calls};
use serde_json::{Value, json};

use crate::stage::Stage;

fn symbol() -> SymbolName {
    SymbolName::parse("EURUSD").unwrap()
}

fn at(seconds: i64) -> ServerTime {
    ServerTime::from_seconds(seconds)
}

/// Asks the simulator before and after the route, until it says the same both times: prices move.
fn compare(stage: &Stage, path: &str, request: impl Into<Request>) -> Value {
    let request = request.into();
    let ask = || serde_json::to_value(stage.double.ask(request.clone()).unwrap()).unwrap();
    stage.gateway.eventually(path, || {
        let (before, answer, after) = (ask(), stage.read(path), ask());
        if before != after {
            return None;
        }
        assert_eq!(answer, before, "{path}");
        Some(answer)
    })
}

#[test]
#[ignore = "needs Wine: tests/windows/run"]
fn every_read_route_gives_what_the_simulator_says() {
    let stage = Stage::ready("");
    let (timeframe, flags) = (Timeframe::H1, CopyTicks::All);
    let (date_from, date_to) = (at(1_700_000_000), at(1_700_500_000));

    assert_eq!(stage.read("/ping")["status"], "ok");
    let version = stage.read("/version");
    assert_eq!((&version["version"], &version["build"]), (&json!(500), &json!(6231)));
    assert_eq!(version["release_date"], "1 Jan 2026");
    let terminal = stage.read("/terminal");
    assert!(terminal["path"].as_str().unwrap().ends_with("Program Files\\Börse"), "{terminal}");
    assert_eq!(terminal["company"], "mt5-gateway");

    compare(&stage, "/account", calls::AccountInfo);
    compare(&stage, "/symbols/total", calls::SymbolsTotal);
    let names = stage.read("/symbols");
    assert_eq!(stage.read("/symbols/total"), json!(names.as_array().unwrap().len()));
    assert_eq!(stage.read("/symbols?group=EUR%2A"), json!(["EURUSD"]));
    compare(&stage, "/symbols/EURUSD", calls::SymbolInfo { symbol: symbol() });
    compare(&stage, "/symbols/EURUSD/tick", calls::SymbolInfoTick { symbol: symbol() });
    compare(&stage, "/symbols/EURUSD/book", calls::MarketBookGet { symbol: symbol() });
    assert_eq!(stage.get("/symbols/NOSUCH").problem(), (404, "not-found".to_owned()));
    assert_eq!(stage.get("/symbols/NOSUCH/tick").problem(), (404, "not-found".to_owned()));

    let rates = "/symbols/EURUSD/rates?timeframe=H1";
    let range = format!("{rates}&from={}&to={}", date_from.seconds(), date_to.seconds());
    let bars = compare(
        &stage,
        &range,
        calls::CopyRatesRange { symbol: symbol(), timeframe, date_from, date_to },
    );
    assert!(bars.as_array().unwrap().len() > 100);
    compare(
        &stage,
        &format!("{rates}&count=5"),
        calls::CopyRatesFromPos { symbol: symbol(), timeframe, start_pos: 0, count: 5 },
    );
    compare(
        &stage,
        &format!("{rates}&count=-7&from={}", date_from.seconds()),
        calls::CopyRatesFrom { symbol: symbol(), timeframe, date_from, count: 7 },
    );
    let ticks = "/symbols/EURUSD/ticks";
    compare(
        &stage,
        &format!("{ticks}?from={}&count=1000", date_from.seconds()),
        calls::CopyTicksFrom { symbol: symbol(), date_from, count: 1_000, flags },
    );
    let date_to = date_from + 600;
    compare(
        &stage,
        &format!("{ticks}?from={}&to={}", date_from.seconds(), date_to.seconds()),
        calls::CopyTicksRange { symbol: symbol(), date_from, date_to, flags },
    );
    let many = stage.read("/symbols/EURUSD/rates?timeframe=M1&count=100000");
    assert_eq!(many.as_array().unwrap().len(), 100_000);

    // Something to read: a position, a pending order, and their history.
    let market =
        json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1, "magic": -7, "comment": "Ünï"});
    let placed = stage.trade("POST", "/orders", market);
    assert_eq!(placed.status, 201, "{}", placed.text());
    let position = placed.json()["position"].as_u64().unwrap();
    let limit = json!({"symbol": "GBPUSD", "type": "BUY_LIMIT", "volume": 0.2, "price": 0.5});
    let order = stage.trade("POST", "/orders", limit).json()["order"].as_u64().unwrap();

    compare(&stage, "/positions/total", calls::PositionsTotal);
    compare(&stage, "/orders/total", calls::OrdersTotal);
    let all = || Selection::All;
    // The gateway takes its tag off the comments that it shows.
    let shown = stage.read("/positions");
    assert_eq!((&shown[0]["ticket"], &shown[0]["comment"]), (&json!(position), &json!("Ünï")));
    assert_eq!(shown[0]["magic"], -7);
    for (path, request) in [
        ("/positions".to_owned(), Request::PositionsGet { selection: all() }),
        (
            "/positions?symbol=EURUSD".into(),
            Request::PositionsGet { selection: Selection::Symbol("EURUSD".into()) },
        ),
        (
            "/positions?group=EUR%2A".into(),
            Request::PositionsGet { selection: Selection::Group("EUR*".into()) },
        ),
        ("/orders".into(), Request::OrdersGet { selection: all() }),
        (
            "/orders?symbol=GBPUSD".into(),
            Request::OrdersGet { selection: Selection::Symbol("GBPUSD".into()) },
        ),
        (
            "/orders?group=GBP%2A".into(),
            Request::OrdersGet { selection: Selection::Group("GBP*".into()) },
        ),
    ] {
        compare_records(&stage, &path, request, 1);
    }
    assert_eq!(stage.read(&format!("/positions/{position}"))["ticket"], position);
    assert_eq!(stage.read(&format!("/orders/{order}"))["ticket"], order);
    let (from, to) = (at(1_700_000_000), at(4_000_000_000));
    let span = format!("from={}&to={}", from.seconds(), to.seconds());
    let (date_from, date_to) = (from, to);
    compare(
        &stage,
        &format!("/history/orders/total?{span}"),
        calls::HistoryOrdersTotal { date_from, date_to },
    );
    compare(
        &stage,
        &format!("/history/deals/total?{span}"),
        calls::HistoryDealsTotal { date_from, date_to },
    );
    for (query, selection) in [
        (span.clone(), all()),
        (format!("ticket={position}"), Selection::Ticket(Ticket::new(position))),
        (format!("position={position}"), Selection::Position(Ticket::new(position))),
        (format!("{span}&group=EUR%2A"), Selection::Group("EUR*".into())),
    ] {
        let orders = Request::HistoryOrdersGet { date_from, date_to, selection: selection.clone() };
        compare_records(&stage, &format!("/history/orders?{query}"), orders, 1);
        let deals = Request::HistoryDealsGet { date_from, date_to, selection };
        compare_records(&stage, &format!("/history/deals?{query}"), deals, 1);
    }
    let (action, volume) = (1, 0.5);
    let query = "action=SELL&symbol=EURUSD&volume=0.5";
    let margin = stage.double.ask(Request::OrderCalcMargin {
        action,
        symbol: symbol(),
        volume,
        price: 1.25,
    });
    let margin = serde_json::to_value(margin.unwrap()).unwrap();
    assert_eq!(stage.read(&format!("/calc/margin?{query}&price=1.25"))["margin"], margin);
    let (price_open, price_close) = (1.25, 1.5);
    let profit =
        Request::OrderCalcProfit { action, symbol: symbol(), volume, price_open, price_close };
    let profit = serde_json::to_value(stage.double.ask(profit).unwrap()).unwrap();
    let path = format!("/calc/profit?{query}&price_open=1.25&price_close=1.5");
    assert_eq!(stage.read(&path)["profit"], profit);
    let check = json!({"symbol": "EURUSD", "type": "SELL", "volume": 0.1});
    let checked = stage.trade("POST", "/orders/check", check);
    assert_eq!(
        (checked.status, &checked.json()["retcode"]),
        (200, &json!(0)),
        "{}",
        checked.text()
    );
    for enable in [false, true] {
        let selected = stage.trade("POST", "/symbols/USDJPY/select", json!({"enable": enable}));
        assert_eq!(selected.status, 200, "{}", selected.text());
        assert_eq!(stage.read("/symbols/USDJPY")["select"], enable);
    }
}

/// As [`compare`], for records whose comments the gateway has tagged, at least so many of them.
fn compare_records(stage: &Stage, path: &str, request: Request, least: usize) {
    let ask = || serde_json::to_value(stage.double.ask(request.clone()).unwrap()).unwrap();
    stage.gateway.eventually(path, || {
        let (mut before, mut answer, mut after) = (ask(), stage.read(path), ask());
        for records in [&mut before, &mut answer, &mut after] {
            for record in records.as_array_mut().unwrap() {
                record["comment"] = Value::Null;
            }
        }
        if before != after {
            return None;
        }
        assert_eq!(answer, before, "{path}");
        assert!(answer.as_array().unwrap().len() >= least, "{path}: {answer}");
        Some(())
    });
}
