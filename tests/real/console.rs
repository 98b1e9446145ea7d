//! The operator's console in a real browser: headless Chromium, driven by
//! chromedriver over WebDriver.

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

const SETTINGS: &str = "
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
[accounts.frail]
login = 5002
server = 'Demo-Server'
[accounts.frail.terminal]
kind = 'simulator'
faults.version = { kind = 'exit' }
";

#[test]
fn values_equal_the_metrics_and_a_dead_session_turns_red() {
    let gateway = Gateway::ready(SETTINGS);
    for _ in 0..20 {
        gateway.get("/api/v1/accounts/main/symbols/EURUSD/tick");
    }
    gateway.get("/api/v1/accounts/main/symbols/NOPE/tick");
    gateway.get("/api/v1/accounts/main/symbols/%3Cimg%20src=x%20onerror=alert(1)%3E/tick");
    let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.01});
    gateway.send("POST", "/api/v1/accounts/main/orders", Some(&order));

    let browser = Browser::start();
    browser.emulate("light", 1280, 1500);
    browser.open(&gateway.url("/console"));
    gateway.eventually("the page is live", || (browser.text("#status") == "Live").then_some(()));
    gateway.eventually("the page shows what /metrics says", || {
        let metrics = gateway.metrics();
        let value = |series: &str| crate::common::metric(&metrics, series);
        let number = |series: &str| format!("{}", value(series));
        let shown = |name: &str, column: usize| {
            browser.text(&format!("tr[data-name='{name}'] td:nth-child({column})"))
        };
        let ready = |account: &str| {
            value(&format!("mt5_pool_sessions{{account=\"{account}\",state=\"ready\"}}"))
        };
        let success = "mt5_logins_total{account=\"main\",outcome=\"success\"}";
        let not_found =
            "mt5_errors_total{account=\"main\",method=\"symbol_info_tick\",type=\"not_found\"}";
        let executed = "mt5_trades_total{account=\"main\",outcome=\"executed\"}";
        let all = [
            (browser.text("#now-ready"), format!("{} of 3", ready("main") + ready("frail"))),
            (shown("main", 2), number(success)),
            (shown("not_found", 2), number(not_found)),
            (shown("executed", 2), number(executed)),
            (browser.text("#now-restarts"), "0".to_owned()),
        ];
        let cpu = browser.text("#now-cpu").ends_with('%');
        let memory = value("system_memory_total_bytes") / 1e9;
        let memory = browser.text("#now-memory").ends_with(&format!("of {memory:.0} GB"))
            || browser.text("#now-memory").ends_with(&format!("of {memory:.1} GB"));
        (all.iter().all(|(shown, said)| shown == said) && cpu && memory).then_some(())
    });
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);

    gateway.get("/api/v1/accounts/frail/version");
    gateway.eventually("the dead session is red", || {
        (browser.text("tr.failing th") == "frail primary"
            || browser.text("tr.failing th") == "frail")
            .then_some(())
    });
    let red = "const [r, g, b] = getComputedStyle(document.querySelector('tr.failing .badge')).color\
               .match(/\\d+/g).map(Number); return r > 2 * g && r > 2 * b";
    assert_eq!(browser.run(red), true);
    assert!(browser.text("#status").contains("1 session failing"));
    assert!(browser.text("#events").contains("terminal restarting"));
    gateway.eventually("plots have points", || {
        browser
            .run("return [...document.querySelectorAll('svg path')].some((line) => line.getAttribute('d').includes('L'))")
            .as_bool()
            .filter(|drawn| *drawn)
    });

    let faults: Vec<Value> = browser.log("browser");
    assert!(faults.is_empty(), "{faults:?}");
    let origin = gateway.url("/");
    let requests: Vec<String> = browser
        .log("performance")
        .iter()
        .filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok())
        .filter(|event| event["message"]["method"] == "Network.requestWillBeSent")
        .map(|event| event["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
        .collect();
    assert!(requests.len() > 3);
    assert!(requests.iter().all(|url| url.starts_with(&origin)), "{requests:?}");
    let policy = gateway.get("/console");
    let policy = policy.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    looks(&browser);
}

/// Looks at both themes, and at a narrow window.
fn looks(browser: &Browser) {
    for scheme in ["light", "dark"] {
        browser.emulate(scheme, 1280, 1500);
        let lightness = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)\
                         .map(Number).reduce((a, b) => a + b) / 765";
        let lightness = browser.run(lightness).as_f64().unwrap();
        assert_eq!(lightness > 0.5, scheme == "light", "{scheme}: {lightness}");
    }
    browser.emulate("light", 360, 800);
    let overflow =
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(overflow), 0, "nothing is wider than 360 px");
    let unnamed = "return [...document.querySelectorAll('svg')]\
                   .filter((one) => !one.getAttribute('aria-label')).length";
    assert_eq!(browser.run(unnamed), 0);
    // Everything that takes the keyboard shows that it has it.
    let reached =
        "document.querySelector('.skip').focus(); return document.activeElement.className";
    assert_eq!(browser.run(reached), "skip");
}

#[test]
fn the_shell_needs_no_key_and_asks_for_one() {
    use sha2::Digest;
    let digest = sha2::Sha256::digest("secret");
    let sha: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("[auth.keys.operator]\nsha256 = '{sha}'\nscopes = ['read']");
    let gateway = Gateway::start(&keys);
    let browser = Browser::start();
    browser.open(&gateway.url("/console"));
    gateway.eventually("a key is asked for", || {
        browser
            .run("return !document.getElementById('key-form').hidden")
            .as_bool()
            .filter(|shown| *shown)
    });
    let give = |key: &str| {
        browser.run(&format!(
            "document.getElementById('key').value = {}; document.querySelector('form').requestSubmit()",
            json!(key)
        ));
    };
    give("wrong");
    gateway.eventually("the fault is told", || {
        browser.text("#key-fault").contains("unknown").then_some(())
    });
    give("secret");
    gateway.eventually("the page is live", || (browser.text("#status") == "Live").then_some(()));
    assert_eq!(gateway.get("/api/v1/console").status, 401);
}

#[test]
fn hostile_texts_stay_text() {
    let message = "<img src=x onerror=document.title='owned'><script>alert(1)</script>";
    let gateway = Gateway::start(&format!(
        "[accounts.hostile]\nlogin = 1\nserver = 'S'\n[accounts.hostile.terminal]\nkind = 'simulator'\n\
         faults.initialize = {{ kind = 'code', code = -6, message = \"{message}\" }}"
    ));
    let browser = Browser::start();
    browser.open(&gateway.url("/console"));
    gateway.eventually("the message is shown", || {
        browser.text("#sessions").contains(message).then_some(())
    });
    assert!(browser.text("#events").contains(message));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script').length"), 0);
    assert_eq!(browser.run("return document.title"), "mt5-gateway console");
    assert!(browser.log("browser").is_empty());
}
