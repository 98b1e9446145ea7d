//! The operator's console in a real browser: headless Chromium, driven by
//! chromedriver over WebDriver.

mod actions;
mod panels;

use std::process::Command;

use serde_json::{Value, json};

use crate::common::Gateway;
use crate::tools::{Server, free_port};

/// A browser with one window.
pub struct Browser {
    _driver: Server,
    agent: ureq::Agent,
    session: String,
}

impl Browser {
    pub fn start() -> Browser {
        Browser::start_with(&[])
    }

    /// A browser with more arguments.
    pub fn start_with(more: &[&str]) -> Browser {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).arg("--allowed-ips=127.0.0.1");
        let driver = Server::start(&mut command, port);
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut browser =
            Browser { _driver: driver, agent, session: format!("http://127.0.0.1:{port}/session") };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,1500",
        ];
        let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
        let begun = browser.command(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } }),
        );
        browser.session = format!("{}/{}", browser.session, begun["sessionId"].as_str().unwrap());
        browser
    }

    pub fn command(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{path}", self.session));
        let mut reply =
            request.header("content-type", "application/json").send(body.to_string()).unwrap();
        let answer: Value = serde_json::from_slice(
            &reply.body_mut().with_config().limit(1 << 28).read_to_vec().unwrap(),
        )
        .unwrap();
        assert_eq!(reply.status().as_u16(), 200, "{path}: {answer}");
        answer["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// The value of a script's `return`.
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// A command of the DevTools protocol.
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// What was logged since this was asked last.
    pub fn log(&self, kind: &str) -> Vec<Value> {
        self.command("/se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }

    /// Whether a script's expression is true.
    fn holds(&self, expression: &str) -> bool {
        self.run(&format!("return Boolean({expression})")) == true
    }

    /// Waits until an expression is true.
    fn until(&self, gateway: &Gateway, expression: &str) {
        gateway.eventually(expression, || self.holds(expression).then_some(()));
    }

    /// Waits until the page has been updated twice.
    fn updated(&self, gateway: &Gateway) {
        let asked =
            || self.run("return Number(document.body.dataset.asked ?? 0)").as_u64().unwrap();
        let before = asked();
        gateway.eventually("the page is updated", || (asked() >= before + 2).then_some(()));
    }

    fn text(&self, selector: &str) -> String {
        let script =
            format!("return document.querySelector({})?.textContent ?? ''", json!(selector));
        self.run(&script).as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
    }
}

/// `main` and `spare` work, but for one call that `main` hangs in; `frail` dies of a call and stays
/// away; of trades on `lost` the outcome is unknown.
const SETTINGS: &str = "
[server]
call_timeout = '300ms'
probe_interval = '60s'
[metrics]
sampler_interval = '500ms'
[restart]
backoff = '60s'
backoff_max = '60s'
[accounts.main]
login = 5001
server = 'Demo-Server'
sessions = 2
[accounts.main.terminal]
kind = 'simulator'
faults.symbols_get = { kind = 'hang' }
[accounts.frail]
login = 5002
server = 'Demo-Server'
[accounts.frail.terminal]
kind = 'simulator'
faults.version = { kind = 'exit' }
[accounts.lost]
login = 5003
server = 'Demo-Server'
[accounts.lost.terminal]
kind = 'simulator'
faults.order_send = { kind = 'code', code = -10005 }
";

fn open(gateway: &Gateway) -> Browser {
    let browser = Browser::start();
    browser.emulate("light", 1280, 1500);
    browser.open(&gateway.url("/console"));
    browser.until(gateway, "document.getElementById('accounts').children.length > 0");
    browser
}

fn buy(gateway: &Gateway, account: &str) -> u16 {
    let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.01});
    gateway.send("POST", &format!("/api/v1/accounts/{account}/orders"), Some(&order)).status
}

fn key(name: &str, secret: &str, scopes: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(secret);
    let sha: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[auth.keys.{name}]\nsha256 = '{sha}'\nscopes = {scopes}\n")
}

fn give_key(browser: &Browser, key: &str) {
    browser.run(&format!(
        "document.getElementById('key').value = {}; document.querySelector('form').requestSubmit()",
        json!(key)
    ));
}
