//! Bulk formats as pandas, polars and DuckDB read them.

use std::process::Command;

use serde_json::json;

use crate::common::Gateway;
use crate::tools::{modules, python, worker};

fn read(gateway: &Gateway, account: &str, paths: &[&str]) -> String {
    let base = format!("http://{}/api/v1/accounts/{account}", gateway.address);
    let output = Command::new(python())
        .arg(modules().join("bulk.py"))
        .arg(base)
        .args(paths)
        .output()
        .unwrap();
    let (told, fault) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{fault}");
    told.into_owned()
}

#[test]
fn tables_equal_their_json_in_pandas_polars_and_duckdb() {
    let gateway = Gateway::ready(
        "[accounts.demo]\nlogin = 1\nserver = 'S'\nserver_time_zone = 'New_York+7'\n\
         [accounts.demo.terminal]\nkind = 'simulator'\n",
    );
    for volume in [0.1, 0.2] {
        let order =
            json!({"symbol": "EURUSD", "type": "BUY", "volume": volume, "comment": "Ünï ☃"});
        let placed = gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
        assert_eq!(placed.status, 201);
    }
    let told = read(
        &gateway,
        "demo",
        &[
            "/symbols/EURUSD/rates?timeframe=M1&from=1700000000&to=1703600000",
            "/symbols/USDJPY/rates?timeframe=H4&from=1690000000&to=1700000000",
            "/symbols/EURUSD/ticks?from=1700000000&to=1700007200",
            "/history/deals?from=0&to=2000000000",
            "/history/orders?from=0&to=2000000000",
        ],
    );
    assert!(told.contains("60000 rows") && told.contains("tz=UTC"), "{told}");
}

#[test]
fn tables_of_odd_values_equal_their_json() {
    let gateway = Gateway::start_with(
        &worker("real", "", ""),
        &[("PYTHONPATH", modules().to_str().unwrap())],
    );
    gateway.wait_ready();
    let told = read(
        &gateway,
        "real",
        &[
            "/symbols/EURUSD/rates?timeframe=M1&count=50",
            "/symbols/EURUSD/ticks?from=1700000000&to=1700000040",
            "/history/deals?from=1700000000&to=1700000200",
            "/history/orders?from=1700000000&to=1700000200",
            "/symbols?group=*",
        ],
    );
    assert!(told.contains("40 rows") && !told.contains("tz="), "{told}");
}
