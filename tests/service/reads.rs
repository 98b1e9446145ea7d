//! What clients read.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::Gateway;

const DEMO: &str = "/api/v1/accounts/demo";

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/EURUSD_H1.csv")
}

fn replay() -> Gateway {
    Gateway::ready(&format!(
        "[accounts.demo]\nlogin = 5001\nserver = 'S'\n[accounts.demo.terminal]\nkind = 'simulator'\n\
         bars = {{ EURUSD = '{}' }}\n",
        file().display()
    ))
}

/// The file's rows: time, prices, tick volume, spread; read without the gateway's help.
fn rows() -> Vec<(i64, [f64; 4], u64, i64)> {
    let text = std::fs::read_to_string(file()).unwrap();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.trim().split('\t').collect();
        let time = format!("{}T{}Z", fields[0].replace('.', "-"), fields[1]);
        let time = time.parse::<jiff::Timestamp>().unwrap().as_second();
        let price = |index: usize| fields[index].parse::<f64>().unwrap();
        let prices = [price(2), price(3), price(4), price(5)];
        (time, prices, fields[6].parse().unwrap(), fields[8].parse().unwrap())
    };
    text.lines().skip(1).map(parse).collect()
}

fn bar((time, [open, high, low, close], tick_volume, spread): (i64, [f64; 4], u64, i64)) -> Value {
    json!({ "time": time, "open": open, "high": high, "low": low, "close": close,
            "tick_volume": tick_volume, "spread": spread, "real_volume": 0 })
}

#[test]
fn a_replay_gives_the_rows_of_its_file() {
    let gateway = replay();
    let rates = format!("{DEMO}/symbols/EURUSD/rates");
    let rows = rows();

    let first = gateway.get(&format!("{rates}?timeframe=H1&from=2017-01-01&count=1")).json();
    assert_eq!(first, json!([bar(rows[0])]));
    let all = gateway.get(&format!("{rates}?timeframe=H1&from=2017-01-01&to=2018-12-31")).json();
    assert_eq!(all, Value::Array(rows.iter().copied().map(bar).collect()));
    let last = gateway.get(&format!("{rates}?timeframe=H1&count=2")).json();
    assert_eq!(last, json!([bar(rows[4998]), bar(rows[4999])]));
    let forward =
        gateway.get(&format!("{rates}?timeframe=H1&from={}&count=300", rows[17].0)).json();
    assert_eq!(forward, Value::Array(rows[17..317].iter().copied().map(bar).collect()));
    let backward =
        gateway.get(&format!("{rates}?timeframe=H1&from={}&count=-3", rows[17].0 + 5)).json();
    assert_eq!(backward, Value::Array(rows[15..18].iter().copied().map(bar).collect()));

    let tick = gateway.get(&format!("{DEMO}/symbols/EURUSD/tick")).json();
    assert_eq!(tick["bid"], json!(rows[4999].1[3]));
    let lower = gateway.get(&format!("{rates}?timeframe=M30&count=2"));
    assert_eq!(lower.problem(), (404, "not-found".to_owned()));
    assert_eq!(lower.json()["mt5"]["code"], -4);
}

#[test]
fn days_of_a_replay_are_the_aggregate_of_its_hours() {
    let gateway = replay();
    let mut days: Vec<(i64, [f64; 4], u64, i64)> = Vec::new();
    for (time, [open, high, low, close], volume, spread) in rows() {
        let day = time - time.rem_euclid(86_400);
        match days.last_mut() {
            Some(last) if last.0 == day => {
                last.1[1] = last.1[1].max(high);
                last.1[2] = last.1[2].min(low);
                last.1[3] = close;
                last.2 += volume;
                last.3 = last.3.min(spread);
            }
            _ => days.push((day, [open, high, low, close], volume, spread)),
        }
    }
    let path = format!("{DEMO}/symbols/EURUSD/rates?timeframe=D1&from=2017-01-01&to=2018-12-31");
    let expected = Value::Array(days.into_iter().map(bar).collect());
    assert_eq!(gateway.get(&path).json(), expected);
}

#[test]
fn two_simulators_with_one_seed_agree_and_ticks_lie_in_their_bars() {
    let (one, other) = (Gateway::ready(""), Gateway::ready(""));
    let bars = format!("{DEMO}/symbols/XAUUSD/rates?timeframe=M1&from=2024-02-29&count=30");
    let ticks = format!("{DEMO}/symbols/XAUUSD/ticks?from=1709164800&to=1709166599");
    let (bars, ticks) = (
        (one.get(&bars).json(), other.get(&bars).json()),
        (one.get(&ticks).json(), other.get(&ticks).json()),
    );
    assert_eq!(bars.0, bars.1);
    assert_eq!(ticks.0, ticks.1);
    let bars = bars.0.as_array().unwrap().clone();
    assert_eq!(bars.len(), 30);
    for tick in ticks.0.as_array().unwrap() {
        let minute = tick["time"].as_i64().unwrap() / 60 * 60;
        let bar = bars.iter().find(|bar| bar["time"] == minute).unwrap();
        let bid = tick["bid"].as_f64().unwrap();
        assert!(bar["low"].as_f64().unwrap() <= bid && bid <= bar["high"].as_f64().unwrap());
    }
}

#[test]
fn the_last_tick_closes_the_bar_that_forms() {
    let gateway = Gateway::ready("");
    let bars = gateway.get(&format!("{DEMO}/symbols/EURUSD/rates?timeframe=MN1&count=3")).json();
    let ticks = gateway.get(&format!("{DEMO}/symbols/EURUSD/ticks?count=100")).json();
    let ticks = ticks.as_array().unwrap();
    assert_eq!(ticks.len(), 100);
    assert!(ticks.is_sorted_by_key(|tick| tick["time_msc"].as_i64()));
    let closes = ticks.iter().map(|tick| tick["bid"].clone());
    assert!(closes.into_iter().any(|bid| bid == bars[2]["close"]), "{bars}");
    assert_eq!(bars[0]["close"], bars[1]["open"]);
}

#[test]
fn every_simulated_symbol_and_record_is_there() {
    let gateway = Gateway::ready("");
    let names = gateway.get(&format!("{DEMO}/symbols")).json();
    for name in ["EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF", "XAUUSD", "BTCUSD", "US500"] {
        assert!(names.as_array().unwrap().contains(&json!(name)));
        assert_eq!(gateway.get(&format!("{DEMO}/symbols/{name}/tick")).status, 200);
        assert_eq!(gateway.get(&format!("{DEMO}/symbols/{name}")).json()["name"], name);
        assert_eq!(gateway.get(&format!("{DEMO}/symbols/{name}/book")).json()[0]["type"], 1);
    }
    assert_eq!(
        gateway.get(&format!("{DEMO}/symbols/total")).json(),
        names.as_array().unwrap().len()
    );
    let group = gateway.get(&format!("{DEMO}/symbols?group=*USD*,!EUR*,!*USD")).json();
    assert_eq!(group, json!(["USDCHF", "USDJPY"]));
    for empty in ["positions", "orders", "history/orders?from=2020-01-01&to=2020-01-02"] {
        assert_eq!(gateway.get(&format!("{DEMO}/{empty}")).json(), json!([]));
    }
    let deals = gateway.get(&format!("{DEMO}/history/deals?from=0&to=2030-01-01")).json();
    assert_eq!(deals[0]["profit"], 10_000.0);
    assert_eq!(
        gateway.get(&format!("{DEMO}/ping")).json(),
        json!({"status":"ok","mode":"simulated"})
    );
    assert_eq!(gateway.get(&format!("{DEMO}/error")).json(), json!({"code":1,"message":"Success"}));
    assert_eq!(
        gateway.get(&format!("{DEMO}/positions/1")).problem(),
        (404, "not-found".to_owned())
    );
}

#[test]
fn a_symbol_is_hidden_and_shown_and_shown_by_use() {
    let gateway = Gateway::ready("");
    let symbol = format!("{DEMO}/symbols/GBPUSD");
    let select =
        |body: &str| gateway.post(&format!("{symbol}/select"), "application/json", body.as_bytes());
    assert_eq!(select(r#"{"enable":false}"#).json(), json!({"enable": false}));
    assert_eq!(gateway.get(&symbol).json()["select"], false);
    assert_eq!(gateway.get(&format!("{symbol}/tick")).status, 200);
    assert_eq!(gateway.get(&symbol).json()["select"], true);
    for body in ["", "{}", "[]", r#"{"enable":1}"#, r#"{"enable":true,"x":1}"#] {
        assert_eq!(select(body).problem(), (400, "invalid-request".to_owned()), "{body}");
    }
    assert!(select("{}").detail().contains("enable"));
    let unknown = gateway.post(
        &format!("{DEMO}/symbols/NOPE/select"),
        "application/json",
        b"{\"enable\":true}",
    );
    assert_eq!(unknown.problem(), (404, "not-found".to_owned()));
    let typed = gateway.post(&format!("{symbol}/select"), "text/plain", b"{\"enable\":true}");
    assert_eq!(typed.problem(), (415, "unsupported-media-type".to_owned()));
}

#[test]
fn answers_are_compressed_for_those_who_ask() {
    let gateway = Gateway::ready("");
    let path = format!("{DEMO}/symbols/EURUSD/rates?timeframe=M1&count=1000");
    let plain = gateway.get(&path);
    let packed = gateway.get_with(&path, &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() * 3 < plain.body.len());
    assert_eq!(plain.header("content-encoding"), "");
}

#[test]
fn origins_are_allowed_only_as_configured() {
    let origin = [("origin", "https://app.example")];
    let closed = Gateway::ready("");
    assert_eq!(closed.get_with("/livez", &origin).header("access-control-allow-origin"), "");
    let open = Gateway::ready("[server]\ncors_origins = ['https://app.example']\n");
    let reply = open.get_with("/livez", &origin);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
}

#[test]
fn identical_reads_that_wait_share_one_call() {
    // While the first call of the terminal takes its time, the others wait behind it.
    let account = |share: bool| {
        format!(
            "[reads]\nshare = {share}\n[accounts.demo]\nlogin = 1\nserver = 'S'\n\
             [accounts.demo.terminal]\nkind = 'simulator'\nlatency = '150ms'\n"
        )
    };
    for share in [true, false] {
        let gateway = Gateway::ready(&account(share));
        let path = "/api/v1/accounts/demo/symbols/EURUSD/tick";
        let series =
            "mt5_calls_total{account=\"demo\",method=\"symbol_info_tick\",outcome=\"success\"}";
        let before = gateway.metric(series);
        std::thread::scope(|scope| {
            // More calls than are written ahead, so that some wait unwritten.
            for _ in 0..16 {
                scope
                    .spawn(|| assert_eq!(gateway.get("/api/v1/accounts/demo/account").status, 200));
            }
            gateway.eventually("they wait", || {
                let status = gateway.get("/api/v1/accounts/demo").json();
                (status["sessions"][0]["queue_depth"].as_u64().unwrap() >= 14).then_some(())
            });
            let ticks: Vec<_> = (0..10).map(|_| scope.spawn(|| gateway.get(path))).collect();
            for tick in ticks {
                assert_eq!(tick.join().unwrap().status, 200);
            }
        });
        let calls = gateway.metric(series) - before;
        assert_eq!(calls < 10.0, share, "{calls} calls for 10 reads, share = {share}");
    }
}
