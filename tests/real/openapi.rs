//! The OpenAPI document as other programs read it, and the gateway as they then call it.

use std::path::Path;
use std::process::Command;

use mt5_gateway::api::openapi_document;
use serde_json::{Value, json};

use crate::common::Gateway;
use crate::tools::{modules, program};

const KEY: &str = "let me in";

/// A gateway with a key that may do everything, and the simulated accounts `demo` and these.
fn guarded(accounts: &[&str]) -> Gateway {
    // Of `KEY`.
    let sha256 = "992db5e2595725ef68eb5066e014da8c7f6baca0afa96f1021b56b66782133f2";
    let account = |name: &&str| {
        format!(
            "[accounts.{name}]\nlogin = 5001\nserver = 'S-{name}'\n\
             [accounts.{name}.terminal]\nkind = 'simulator'\n"
        )
    };
    let accounts: Vec<String> = ["demo"].iter().chain(accounts).map(account).collect();
    let gateway = Gateway::start(&format!(
        "[metrics]\nrate_limit_per_second = 1000\nrate_limit_burst = 1000\n[log]\naccess = false\n\
         [auth.keys.tester]\nsha256 = '{sha256}'\nscopes = ['read', 'trade', 'admin']\n{}",
        accounts.concat()
    ));
    gateway.eventually("every account accepts trades", || {
        let accepting = gateway.log().matches("account accepts trades").count();
        (accepting == accounts.len() && gateway.get("/readyz").status == 200).then_some(())
    });
    gateway
}

/// Runs a program to its end; gives what it printed.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (told, fault) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{fault}");
    told.into_owned()
}

fn python(name: &str) -> Command {
    Command::new(program("openapi/bin").join(name))
}

fn write_document(folder: &Path) {
    std::fs::write(folder.join("openapi.json"), openapi_document()).unwrap();
}

#[test]
fn the_openapi_document_passes_redocly() {
    let folder = tempfile::tempdir().unwrap();
    write_document(folder.path());
    let told = told(
        Command::new(program("node/node_modules/.bin/redocly"))
            .args(["lint", "openapi.json", "--extends=recommended-strict"])
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .env("HOME", folder.path())
            .current_dir(folder.path()),
    );
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn a_generated_client_understands_an_answer_of_every_operation() {
    let gateway = guarded(&[]);
    let folder = tempfile::tempdir().unwrap();
    write_document(folder.path());
    // Its hooks would format the client.
    std::fs::write(folder.path().join("generator.yml"), "post_hooks: []\n").unwrap();
    told(
        python("openapi-python-client")
            .args(["generate", "--path", "openapi.json", "--output-path", "client"])
            .args(["--meta", "none", "--config", "generator.yml", "--fail-on-warning"])
            .current_dir(folder.path()),
    );
    let script = modules().join("generated_client.py");
    told(python("python").arg(script).arg(folder.path()).args([&gateway.url(""), KEY]));
}

#[test]
fn every_answer_matches_the_openapi_document() {
    let gateway = guarded(&["spare"]);
    let order = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.9});
    let place = || {
        let (path, key) = ("/api/v1/accounts/demo/orders", [("x-api-key", KEY)]);
        let placed = gateway.send_with("POST", path, Some(&order), &key).json();
        placed["order"].to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let told = told(
        python("schemathesis")
            .arg("--config-file")
            .arg(modules().join("schemathesis.toml"))
            .args(["run", "--url", &gateway.url(""), &gateway.url("/openapi.json")])
            .env("PYTHONPATH", modules())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GATEWAY_KEY", KEY)
            .env("GATEWAY_ORDERS", format!("{},{}", place(), place()))
            .current_dir(folder.path()),
    );
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let items = document["paths"].as_object().unwrap().values();
    let operations: usize = items.map(|item| item.as_object().unwrap().len()).sum();
    // All but the endless one, and the halt of all accounts.
    assert!(told.contains(&format!("Tested: {}", operations - 2)), "{told}");
}
