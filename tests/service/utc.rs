//! Times in true UTC, where the zone of the server's clock is known.

use serde_json::{Value, json};

use crate::common::Gateway;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/EURUSD_H1.csv");

/// 2017-11-05 06:00 UTC, when New York changed to winter time.
const WINTER: i64 = 1_509_861_600;

fn account(name: &str, zone: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = 5001\nserver = 'S-{name}'\n{zone}\n[accounts.{name}.terminal]\n\
         kind = 'simulator'\nbars = {{ EURUSD = '{FILE}' }}\n"
    )
}

fn times(rows: &Value) -> Vec<i64> {
    rows.as_array().unwrap().iter().map(|row| row["time"].as_i64().unwrap()).collect()
}

#[test]
fn times_are_utc_in_both_directions_across_summer_time() {
    let settings = account("raw", "") + &account("utc", "server_time_zone = 'New_York+7'");
    let gateway = Gateway::ready(&settings);
    let read = |account: &str, path: &str| {
        let reply = gateway.get(&format!("/api/v1/accounts/{account}{path}"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    };
    assert_eq!(read("raw", "")["server_time_zone"], Value::Null);
    assert_eq!(read("utc", "")["server_time_zone"], "New_York+7");
    let rates = "/symbols/EURUSD/rates?timeframe=H1&count=5000";
    let (raw, utc) = (times(&read("raw", rates)), times(&read("utc", rates)));
    assert_eq!((raw.len(), utc.len()), (5_000, 5_000));
    for (server, utc) in raw.iter().zip(&utc) {
        let ahead = if *utc < WINTER { 3 } else { 2 };
        assert_eq!(server - utc, ahead * 3600, "{server}");
    }
    assert!(utc.windows(2).all(|pair| pair[0] < pair[1]), "no hour is doubled");
    // What is asked for in UTC is what comes, to the row.
    for (from, to) in [(utc[10], utc[20]), (utc[4_000], utc[4_010])] {
        let range = format!("/symbols/EURUSD/rates?timeframe=H1&from={from}&to={to}");
        let rows = times(&read("utc", &range));
        assert_eq!((rows.first(), rows.last()), (Some(&from), Some(&to)));
        let forward = format!("/symbols/EURUSD/rates?timeframe=H1&from={from}&count=3");
        assert_eq!(times(&read("utc", &forward))[0], from);
        let backward = format!("/symbols/EURUSD/rates?timeframe=H1&from={to}&count=-3");
        assert_eq!(times(&read("utc", &backward))[2], to);
    }
    let tick = read("utc", "/symbols/EURUSD/tick");
    assert_eq!(tick["time_msc"].as_i64().unwrap() / 1000, tick["time"].as_i64().unwrap());
    assert_eq!(
        read("raw", "/symbols/EURUSD/tick")["time"].as_i64().unwrap()
            - tick["time"].as_i64().unwrap(),
        7200
    );
}

#[test]
fn a_date_is_midnight_on_the_servers_clock() {
    let settings = account("raw", "") + &account("utc", "server_time_zone = 'New_York+7'");
    let gateway = Gateway::ready(&settings);
    let first = |account: &str, from: &str| {
        let path = format!(
            "/api/v1/accounts/{account}/symbols/EURUSD/rates?timeframe=H1&from={from}&count=1"
        );
        let reply = gateway.get(&path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        times(&reply.json())[0]
    };
    // 2017-06-01 00:00; the server was three hours ahead of UTC.
    const MIDNIGHT: i64 = 1_496_275_200;
    for date in ["2017-06-01", "2017.06.01", "2017_06_01"] {
        assert_eq!(first("raw", date), MIDNIGHT, "{date}");
        assert_eq!(first("utc", date), MIDNIGHT - 3 * 3600, "{date}");
    }
    // What has a time is an instant.
    let spellings =
        ["1496286000", "2017-06-01T03:00:00Z", "2017-06-01T06:00:00%2B03:00", "2017.06.01%2003:00"];
    for time in spellings {
        assert_eq!(first("raw", time), MIDNIGHT + 3 * 3600, "{time}");
        assert_eq!(first("utc", time), MIDNIGHT + 3 * 3600, "{time}");
    }
}

#[test]
fn an_order_ends_on_its_day_where_the_server_is_behind_utc() {
    let gateway = Gateway::ready(&account("utc", "server_time_zone = 'America/New_York'"));
    let order = json!({
        "symbol": "GBPUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5,
        "type_time": "SPECIFIED_DAY", "expiration": "2099-07-01",
    });
    let path = "/api/v1/accounts/utc/orders";
    let placed = gateway.send("POST", path, Some(&order));
    assert_eq!(placed.status, 201, "{}", placed.text());
    // Midnight of New York is 04:00 UTC, so the server counts it to 1 July.
    assert_eq!(gateway.get(path).json()[0]["time_expiration"], 4_086_561_600_i64);
}

#[test]
fn an_expiration_is_returned_as_it_was_given() {
    let gateway = Gateway::ready(&account("utc", "server_time_zone = 'Europe/Athens'"));
    let order = json!({
        "symbol": "GBPUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5,
        "expiration": "2099-07-01T12:00:00Z",
    });
    let path = "/api/v1/accounts/utc/orders";
    let placed = gateway.send("POST", path, Some(&order));
    assert_eq!(placed.status, 201, "{}", placed.text());
    let orders = gateway.get(path).json();
    assert_eq!(orders[0]["time_expiration"], 4_086_590_400_i64);
    // A position or an order that has not ended has no time of its end, in any zone.
    assert_eq!(orders[0]["time_done"], 0);
}

#[test]
fn a_zone_that_does_not_exist_is_a_fault_of_the_settings() {
    let directory = tempfile::tempdir().unwrap();
    let settings = account("utc", "server_time_zone = 'Atlantis'");
    std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
    let output = crate::common::command(directory.path())
        .args(["--config", "gateway.toml", "check-config"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("accounts.utc.server_time_zone: expected an IANA time zone"), "{said}");
}

#[test]
fn a_zone_that_ticks_contradict_is_told_once_for_each_change() {
    // The simulated server's clock shows UTC, which New York's is behind.
    let zone = "server_time_zone = 'America/New_York'";
    let gateway = Gateway::ready(&(account("utc", zone) + &account("streamed", zone)));
    let path = "/api/v1/accounts/utc";
    let _stream = gateway.open("/api/v1/accounts/streamed/stream?symbols=GBPUSD&events=ticks", &[]);
    let warning = || gateway.get(path).json()["server_time_warning"].clone();
    assert_eq!(warning(), Value::Null, "nobody has asked for a tick");
    let read = || gateway.get(&format!("{path}/symbols/GBPUSD/tick")).status;
    assert_eq!(read(), 200);
    let text = warning().as_str().unwrap().to_owned();
    assert!(
        text.starts_with("the server's clock shows at least UTC, its configured zone"),
        "{text}"
    );
    let line = "server's clock contradicts its zone account=\"utc\"";
    gateway.logs(line);
    // Once it has moved twice, it is known exactly.
    let text = gateway.eventually("it is known", || {
        assert_eq!(read(), 200);
        let text = warning().as_str().unwrap().to_owned();
        (!text.contains("at least")).then_some(text)
    });
    assert!(
        text.ends_with(": set `server_time_zone = \"UTC\"` if the broker names no other zone"),
        "{text}"
    );
    gateway.eventually("a stream shows it, too", || {
        let account = gateway.get("/api/v1/accounts/streamed").json();
        let text = account["server_time_warning"].as_str()?.to_owned();
        (!text.contains("at least")).then_some(())
    });
    gateway.logs("remedy=\"set `server_time_zone = \\\"UTC\\\"`");
    assert_eq!(gateway.log().matches(line).count(), 2, "{}", gateway.log());
}
