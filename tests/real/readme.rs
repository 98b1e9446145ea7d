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

/// Runs the README's loop, as printed, against the first order that a gateway gets.
fn place(gateway: &Gateway, key: &str) -> String {
    let readme = include_str!("../../README.md");
    let block = readme.split("```").find(|block| block.starts_with("python\n")).unwrap();
    let script = format!(
        "{}\nprint(place('{}', {{'symbol': 'EURUSD', 'type': 'BUY', 'volume': 0.1}}, '{key}')[0])",
        block.strip_prefix("python\n").unwrap(),
        gateway.url("/api/v1/accounts/demo"),
    );
    let output = Command::new(crate::tools::python()).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_one_loop_that_is_safe_tells_what_became_of_an_order() {
    let settings = |order_send: &str, more: &str| {
        format!(
            "[server]\ntrade_timeout = '300ms'\n[restart]\nbackoff = '10ms'\n\
             [trading]\nnot_found_after = '400ms'\nsend_within = '700ms'\n\
             [accounts.demo]\nlogin = 1\nserver = 'S'\n[accounts.demo.terminal]\n\
             kind = 'simulator'\n{more}\nfaults = {{ order_send = {order_send} }}\n"
        )
    };
    for (order_send, more, expected) in [
        ("{ kind = 'retcode', code = 10019 }", "", "trade-refused"),
        ("{ kind = 'hang', when = 'after' }", "", "executed"),
        ("{ kind = 'exit', when = 'before' }", "", "not-found"),
        ("{ kind = 'hang' }", "latency = '300ms'", "trade-not-sent"),
    ] {
        let gateway = Gateway::ready(&settings(order_send, more));
        assert_eq!(place(&gateway, "k"), expected, "{order_send}");
        let positions = gateway.eventually("positions are read", || {
            let reply = gateway.get("/api/v1/accounts/demo/positions/total");
            (reply.status == 200).then(|| reply.json())
        });
        assert_eq!(positions, u64::from(expected == "executed"), "{order_send}");
    }
    let gateway = Gateway::ready("");
    assert_eq!(place(&gateway, "k"), "executed");
    assert_eq!(place(&gateway, "k"), "executed", "the same order");
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 1);
}
