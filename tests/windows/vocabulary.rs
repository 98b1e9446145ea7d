//! The gateway's vocabulary is that of MetaQuotes' package, whose own is kept in `vocabulary.json`.
//! `tests/windows/run` asks the package again and compares.

use std::collections::{BTreeMap, BTreeSet};

use mt5_gateway::mt5::names::FIELDS;
use mt5_gateway::mt5::{
    AccountInfo, BookEntry, CopyTicks, Deal, Error, ErrorType, Method, Order, OrderCheckResult,
    OrderSendResult, Position, Rate, Request, Retcode, Row, Selection, ServerTime, SymbolInfo,
    SymbolName, TerminalInfo, Tick, Ticket, Timeframe, TradeRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
struct Vocabulary {
    constants: BTreeMap<String, i64>,
    records: BTreeMap<String, Vec<String>>,
    functions: BTreeMap<String, String>,
}

fn vocabulary() -> Vocabulary {
    serde_json::from_str(include_str!("vocabulary.json")).unwrap()
}

#[test]
fn constants_have_the_packages_names_and_numbers() {
    let mut ours: BTreeMap<String, i64> = FIELDS
        .iter()
        .flat_map(|(_, _, names)| names.values)
        .map(|(value, name)| ((*name).to_owned(), *value))
        .collect();
    ours.extend(Timeframe::ALL.iter().map(|it| (format!("TIMEFRAME_{}", it.name()), it.value())));
    ours.extend(CopyTicks::ALL.iter().map(|it| (format!("COPY_TICKS_{}", it.name()), it.value())));
    for retcode in Retcode::ALL.iter().filter(|retcode| **retcode != Retcode::Other) {
        ours.insert(format!("TRADE_RETCODE_{}", retcode.name().to_uppercase()), retcode.code());
    }
    let theirs = vocabulary().constants;
    for (name, value) in &theirs {
        // Errors are named after what happens to whom, so numbers are compared.
        if name.starts_with("RES_E_") {
            assert_ne!(Error::new(*value, "").error_type(), ErrorType::Other, "{name}");
        } else if name != "RES_S_OK" {
            assert_eq!(ours.get(name), Some(value), "{name}");
        }
    }
    let errors = ErrorType::ALL.iter().filter(|error| **error != ErrorType::Other);
    for code in errors.map(|error| error.code()) {
        assert!(theirs.values().any(|value| *value == code), "{code}");
    }
    // What the package has no constants for, MetaQuotes documents.
    let documented = ["SYMBOL_EXPIRATION_", "SYMBOL_FILLING_", "SYMBOL_ORDER_", "TRADE_RETCODE_"];
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        assert!(documented.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

/// The names of a record's fields, in their order.
fn fields<T: Serialize + Default>() -> Vec<String> {
    let text = serde_json::to_string(&T::default()).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let mut names: Vec<String> = record.as_object().unwrap().keys().cloned().collect();
    // The last field of a trade's result is a record of its own, with fields of the same names.
    names.sort_by_key(|name| text.find(&format!("\"{name}\":")));
    names
}

#[test]
fn records_have_the_packages_fields_in_its_order() {
    let columns = Tick::COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let ours = BTreeMap::from([
        ("AccountInfo", fields::<AccountInfo>()),
        ("BookInfo", fields::<BookEntry>()),
        ("OrderCheckResult", fields::<OrderCheckResult>()),
        ("OrderSendResult", fields::<OrderSendResult>()),
        ("SymbolInfo", fields::<SymbolInfo>()),
        ("TerminalInfo", fields::<TerminalInfo>()),
        ("Tick", columns),
        ("TradeDeal", fields::<Deal>()),
        ("TradeOrder", fields::<Order>()),
        ("TradePosition", fields::<Position>()),
        ("TradeRequest", fields::<TradeRequest>()),
    ]);
    for (name, theirs) in vocabulary().records {
        assert_eq!(ours[name.as_str()], theirs, "{name}");
    }
    // Of an array's rows; that the package's arrays are these is seen where they are read.
    assert_eq!((Rate::SIZE, Tick::SIZE), (60, 60));
}

/// One request of each method that takes arguments.
fn requests() -> Vec<Request> {
    let symbol = || SymbolName::parse("EURUSD").unwrap();
    let (timeframe, flags, count) = (Timeframe::H1, CopyTicks::All, 3);
    let (action, volume, price) = (0, 0.1, 1.1);
    let (date_from, date_to) = (ServerTime::from_seconds(1), ServerTime::from_seconds(2));
    let ticket = || Selection::Ticket(Ticket::new(7));
    let position = || Selection::Position(Ticket::new(7));
    let group = || Selection::Group("*".to_owned());
    let of_symbol = || Selection::Symbol("EURUSD".to_owned());
    let mut requests = vec![
        Request::SymbolsGet { group: Some("*".to_owned()) },
        Request::SymbolInfo { symbol: symbol() },
        Request::SymbolInfoTick { symbol: symbol() },
        Request::SymbolSelect { symbol: symbol(), enable: true },
        Request::MarketBookAdd { symbol: symbol() },
        Request::MarketBookGet { symbol: symbol() },
        Request::MarketBookRelease { symbol: symbol() },
        Request::CopyRatesFrom { symbol: symbol(), timeframe, date_from, count },
        Request::CopyRatesFromPos { symbol: symbol(), timeframe, start_pos: 1, count },
        Request::CopyRatesRange { symbol: symbol(), timeframe, date_from, date_to },
        Request::CopyTicksFrom { symbol: symbol(), date_from, count, flags },
        Request::CopyTicksRange { symbol: symbol(), date_from, date_to, flags },
        Request::OrderCalcMargin { action, symbol: symbol(), volume, price },
        Request::OrderCalcProfit {
            action,
            symbol: symbol(),
            volume,
            price_open: price,
            price_close: price,
        },
        Request::OrderCheck { request: Box::default() },
        Request::OrderSend { request: Box::default() },
        Request::HistoryOrdersTotal { date_from, date_to },
        Request::HistoryDealsTotal { date_from, date_to },
    ];
    for selection in [ticket(), group(), of_symbol()] {
        requests.push(Request::OrdersGet { selection: selection.clone() });
        requests.push(Request::PositionsGet { selection });
    }
    for selection in [ticket(), position(), group()] {
        requests.push(Request::HistoryOrdersGet {
            date_from,
            date_to,
            selection: selection.clone(),
        });
        requests.push(Request::HistoryDealsGet { date_from, date_to, selection });
    }
    requests
}

#[test]
fn functions_and_their_arguments_are_the_packages() {
    let theirs = vocabulary().functions;
    let names: BTreeSet<&str> = Method::ALL.iter().map(|method| method.name()).collect();
    assert_eq!(names, theirs.keys().map(String::as_str).collect());
    for request in requests() {
        let signature = &theirs[request.method().name()];
        let arguments = request.arguments();
        // `name(one, two, [three])`
        let (_, inside) = signature.trim_end_matches(')').split_once('(').unwrap();
        let parameters: Vec<&str> = inside
            .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect();
        if let Some((name, _)) = arguments.named {
            assert!(parameters.contains(&name), "{name} in {signature}");
        }
        // The variant's fields are called like the function's parameters.
        let text = format!("{request:?}");
        for (index, name) in parameters.iter().enumerate().take(arguments.positional.len()) {
            assert!(text.contains(&format!("{name}: ")), "{index}: {name} in {text}");
        }
        assert!(parameters.len() >= arguments.positional.len(), "{signature}: {text}");
    }
}
