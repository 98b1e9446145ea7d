//! Reads of symbols, prices and history.

use std::io::{Read, Write};
use std::net::TcpStream;
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
fn ticks_can_be_read_from_a_millisecond_on() {
    let gateway = Gateway::ready("");
    let ticks = |query: &str| {
        let path = format!("{DEMO}/symbols/XAUUSD/ticks?{query}");
        let reply = gateway.get(&path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json().as_array().unwrap().clone()
    };
    let msc = |tick: &Value| tick["time_msc"].as_i64().unwrap();
    let all = ticks("from=1709164800&to=1709165400");
    // One that does not come at a whole second, and one well behind it.
    let first = all.iter().position(|tick| msc(tick) % 1000 != 0).unwrap();
    let last = first + 30;
    let (from, to) = (msc(&all[first]), msc(&all[last]));
    let written = |msc: i64| jiff::Timestamp::from_millisecond(msc).unwrap().to_string();
    let within: Vec<Value> =
        all.iter().filter(|tick| (from..=to).contains(&msc(tick))).cloned().collect();
    assert_eq!(ticks(&format!("from={}&to={}", written(from), written(to))), within);
    let forward = ticks(&format!("from={}&count=5", written(from)));
    assert_eq!(forward, within[..5]);
    let later: Vec<Value> = all.iter().filter(|tick| msc(tick) > from).take(5).cloned().collect();
    assert_eq!(ticks(&format!("from={}&count=5", written(from + 1))), later);
    let backward = ticks(&format!("from={}&count=-5", written(to)));
    assert_eq!(backward, within[within.len() - 5..]);
    // As Python writes it, with the `+` encoded and not.
    let seconds = written(from / 1000 * 1000).replace('Z', "");
    let micro = format!("{seconds}.{:06}", from % 1000 * 1000);
    for zone in ["%2B00:00", "+00:00"] {
        assert_eq!(ticks(&format!("from={micro}{zone}&count=5")), within[..5], "{micro}{zone}");
    }
}

#[test]
fn parts_of_seconds_are_rounded_inwards_for_bars() {
    let gateway = Gateway::ready("");
    let rates = |query: &str| {
        let path = format!("{DEMO}/symbols/XAUUSD/rates?timeframe=M1&{query}");
        let reply = gateway.get(&path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let bars = reply.json();
        let bars = bars.as_array().unwrap().iter();
        bars.map(|bar| bar["time"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    // 2024-02-29 00:00
    let minute = |minute: i64| 1_709_164_800 + minute * 60;
    let day = "2024-02-29T00";
    let cases = [
        (format!("from={day}:00:00.000Z&count=1"), vec![minute(0)]),
        (format!("from={day}:00:00.001Z&count=1"), vec![minute(1)]),
        (format!("from={day}:02:00.000Z&count=-1"), vec![minute(2)]),
        (format!("from={day}:01:59.999Z&count=-1"), vec![minute(1)]),
        (format!("from={day}:00:00.001Z&to={day}:02:00.999Z"), vec![minute(1), minute(2)]),
        (format!("from={day}:00:00Z&to={day}:01:59.999Z"), vec![minute(0), minute(1)]),
        (format!("from={day}:00:00.200Z&to={day}:00:00.800Z"), vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(rates(&query), expected, "{query}");
    }
    let unknown =
        format!("{DEMO}/symbols/NOPE/rates?timeframe=M1&from={day}:00:00.200Z&to={day}:00:00.800Z");
    assert_eq!(gateway.get(&unknown).problem(), (404, "not-found".to_owned()));
}

#[test]
fn today_begins_at_midnight() {
    let gateway = Gateway::ready("");
    let midnight = || jiff::Timestamp::now().as_second().div_euclid(86_400) * 86_400;
    let before = midnight();
    let path = format!("{DEMO}/symbols/EURUSD/rates?timeframe=H1&from=today&count=1");
    let opened = gateway.get(&path).json()[0]["time"].as_i64().unwrap();
    assert!([before, midnight()].contains(&opened), "{opened} is not {before}");
}

#[test]
fn the_current_bar_closes_at_a_recent_tick() {
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
fn the_history_is_filtered_by_position_symbol_magic_and_dates() {
    let gateway = Gateway::ready("");
    let place = |symbol: &str, magic: i64| {
        let order = json!({"symbol": symbol, "type": "BUY", "volume": 0.1, "magic": magic});
        let placed = gateway.send("POST", &format!("{DEMO}/orders"), Some(&order));
        assert_eq!(placed.status, 201, "{}", placed.text());
        placed.json()["order"].as_u64().unwrap()
    };
    let (euro, pound, other) = (place("EURUSD", 7), place("GBPUSD", 7), place("EURUSD", -7));
    let read = |path: &str| {
        let reply = gateway.get(&format!("{DEMO}/history/{path}"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    };
    let cases = [
        // Without dates.
        (format!("position={euro}"), vec![euro]),
        (format!("ticket={pound}"), vec![pound]),
        (format!("position={euro}&ticket={pound}"), vec![]),
        (format!("position={euro}&symbol=GBPUSD"), vec![]),
        // Dates filter all the same.
        (format!("position={euro}&from=2020-01-01"), vec![euro]),
        (format!("position={euro}&from=2020-01-01&to=2020-01-02"), vec![]),
        (format!("ticket={pound}&to=2020-01-02"), vec![]),
        // Without an end.
        ("from=2020-01-01&symbol=EURUSD".to_owned(), vec![euro, other]),
        ("from=2020-01-01&magic=7".to_owned(), vec![euro, pound]),
        ("from=2020-01-01&symbol=EURUSD&magic=-7".to_owned(), vec![other]),
        ("from=2020-01-01&group=GBP*&magic=7".to_owned(), vec![pound]),
        ("from=2020-01-01&symbol=NOPE".to_owned(), vec![]),
        ("from=2020-01-01T00:00:00.5Z&magic=7".to_owned(), vec![euro, pound]),
    ];
    for (query, expected) in cases {
        for (list, field) in [("deals", "order"), ("orders", "ticket")] {
            let found = read(&format!("{list}?{query}"));
            let found = found.as_array().unwrap().iter();
            let found: Vec<u64> = found.map(|entry| entry[field].as_u64().unwrap()).collect();
            assert_eq!(found, expected, "{list}?{query}");
            assert_eq!(read(&format!("{list}/total?{query}")), expected.len(), "{list}?{query}");
        }
    }
    let deposit = &read("deals?from=0")[0];
    assert_eq!((&deposit["profit"], &deposit["symbol"]), (&json!(10_000.0), &json!("")));
}

#[test]
fn history_window_shows_the_applied_dates_when_the_zone_is_unknown() {
    let account = |name: &str, zone: &str| {
        format!(
            "[accounts.{name}]\nlogin = 5001\nserver = 'S-{name}'\n{zone}\n\
             [accounts.{name}.terminal]\nkind = 'simulator'\n"
        )
    };
    let settings = account("raw", "") + &account("utc", "server_time_zone = 'New_York+7'");
    let gateway = Gateway::ready(&settings);
    let window = |account: &str, path: &str| {
        let reply = gateway.get(&format!("/api/v1/accounts/{account}/history/{path}"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.header("history-window").to_owned()
    };
    let midnight = || jiff::Timestamp::now().as_second().div_euclid(86_400) * 86_400;
    for list in ["deals", "deals/total", "orders", "orders/total"] {
        let cases = [
            ("from=2017-04-19&to=2017.04.20", "1492560000/1492646400"),
            ("from=1492560000&symbol=EURUSD", "1492560000/*"),
            ("from=2017-04-19T00:00:00.25Z", "1492560000.250/*"),
            ("position=1", "*/*"),
            ("ticket=1&to=2017-04-20", "*/1492646400"),
        ];
        for (query, expected) in cases {
            assert_eq!(window("raw", &format!("{list}?{query}")), expected, "{list}?{query}");
            assert_eq!(window("utc", &format!("{list}?{query}")), "", "{list}?{query}");
        }
        let before = midnight();
        let today = window("raw", &format!("{list}?from=today"));
        assert!([before, midnight()].map(|from| format!("{from}/*")).contains(&today), "{today}");
    }
}

#[test]
fn a_symbol_is_selected_deselected_and_selected_again_by_use() {
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
fn identical_reads_that_wait_share_one_call() {
    // While the first call of the terminal takes its time, the others wait behind it.
    let account = |share: bool| {
        format!(
            "[reads]\nshare = {share}\n[accounts.demo]\nlogin = 1\nserver = 'S'\n\
             [accounts.demo.terminal]\nkind = 'simulator'\nlatency = '300ms'\n"
        )
    };
    for share in [true, false] {
        let gateway = Gateway::ready(&account(share));
        let path = "/api/v1/accounts/demo/symbols/EURUSD/tick";
        let series =
            "mt5_calls_total{account=\"demo\",method=\"symbol_info_tick\",outcome=\"success\"}";
        let before = gateway.metric(series);
        // As many calls as are written ahead, so that what follows waits unwritten. They come at once,
        // because their connections are there.
        let connect = |_| TcpStream::connect(gateway.address).unwrap();
        let mut ahead: Vec<TcpStream> = (0..16).map(connect).collect();
        for connection in &mut ahead {
            let target = "/api/v1/accounts/demo/account";
            let head =
                format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            connection.write_all(head.as_bytes()).unwrap();
        }
        std::thread::scope(|scope| {
            gateway.eventually("they wait", || {
                let status = gateway.get("/api/v1/accounts/demo").json();
                // Three seconds' worth of calls: at least four of the ten reads below wait unwritten.
                (status["sessions"][0]["queue_depth"].as_u64().unwrap() >= 10).then_some(())
            });
            let ticks: Vec<_> = (0..10).map(|_| scope.spawn(|| gateway.get(path))).collect();
            for tick in ticks {
                assert_eq!(tick.join().unwrap().status, 200);
            }
        });
        for mut connection in ahead {
            let mut reply = String::new();
            connection.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        }
        let calls = gateway.metric(series) - before;
        assert_eq!(calls < 10.0, share, "{calls} calls for 10 reads, share = {share}");
    }
}
