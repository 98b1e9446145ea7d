//! What the README prints works as printed.

use std::process::Command;

use serde_json::Value;

use crate::common::Gateway;

/// The README's block of commands that contains a text, for this gateway's address.
fn commands(containing: &str, gateway: &Gateway) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let block =
        readme.split("```").find(|block| block.starts_with("sh") && block.contains(containing));
    let lines = block.unwrap().lines().skip(1).filter(|line| !line.is_empty());
    lines.map(|line| line.replace("localhost:8080", &gateway.address.to_string())).collect()
}

fn run(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_order_is_placed_repeated_safely_and_closed() {
    let gateway = Gateway::ready("");
    let lines = commands("my-first", &gateway);
    let [place, again, close] = lines.as_slice() else { panic!("{lines:?}") };
    let placed: Value = serde_json::from_str(&run(place)).unwrap();
    assert_eq!(placed["retcode_name"], "done");
    assert_eq!(run(again).trim(), "idempotent-replayed: true");
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 1);
    let closed: Value = serde_json::from_str(&run(close)).unwrap();
    assert_eq!(closed["retcode_name"], "done");
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 0);
}

#[test]
fn quotes_bars_and_metrics_are_read() {
    let gateway = Gateway::ready("");
    for command in commands("rates?timeframe", &gateway) {
        assert!(!run(&command.replace("curl ", "curl -sf ")).is_empty(), "{command}");
    }
}
