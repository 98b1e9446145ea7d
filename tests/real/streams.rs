//! Streams as Python's and Node's clients read them, over connections that break.

use std::process::Command;

use crate::common::Gateway;
use crate::tools::{modules, program, python, worker};

const PATH: &str = "/api/v1/accounts/real/stream?symbols=EURUSD";

/// A market of 500 ticks a second.
fn market() -> Gateway {
    let gateway = Gateway::start_with(
        &format!("streams.tick_interval = '20ms'\n{}", worker("real", "", "")),
        &[("PYTHONPATH", modules().to_str().unwrap()), ("FAKE_MT5_TICKS", "500")],
    );
    gateway.wait_ready();
    gateway
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (told, fault) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{fault}");
    told.into_owned()
}

#[test]
fn python_gets_every_tick_once() {
    let gateway = market();
    let script = modules().join("streams.py");
    let told = run(Command::new(python()).arg(script).args([&gateway.address.to_string(), PATH]));
    assert_eq!(told.matches("600 ticks in 3 visits").count(), 2, "{told}");
}

#[test]
fn node_gets_every_tick_once() {
    let gateway = market();
    let script = modules().with_file_name("node").join("streams.mjs");
    let (host, port) = (gateway.address.ip().to_string(), gateway.address.port().to_string());
    let told = run(Command::new("node")
        .current_dir(program("node"))
        .arg(script)
        .args([&host, &port, PATH]));
    assert!(told.contains("3 cuts each"), "{told}");
}
