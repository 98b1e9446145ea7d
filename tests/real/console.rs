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

#[test]
fn values_equal_the_metrics_and_sessions_have_the_numbers_of_the_log() {
    let gateway = Gateway::ready(SETTINGS);
    for _ in 0..20 {
        gateway.get("/api/v1/accounts/main/symbols/EURUSD/tick");
    }
    gateway.get("/api/v1/accounts/main/symbols/NOPE/tick");
    gateway.get("/api/v1/accounts/main/symbols/%3Cimg%20src=x%20onerror=alert(1)%3E/tick");
    assert_eq!(buy(&gateway, "main"), 201);

    let browser = open(&gateway);
    assert_eq!(browser.text("#status"), "Live");
    gateway.eventually("the page shows what /metrics says", || {
        let metrics = gateway.metrics();
        let value = |series: &str| crate::common::metric(&metrics, series);
        let number = |series: &str| format!("{}", value(series));
        let shown =
            |table: &str, name: &str| browser.text(&format!("#{table} tr[data-name='{name}'] td"));
        let not_found =
            "mt5_errors_total{account=\"main\",method=\"symbol_info_tick\",type=\"not_found\"}";
        let all = [
            (browser.text("#now-ready"), "4 of 4".to_owned()),
            (
                shown("logins", "main"),
                number("mt5_logins_total{account=\"main\",outcome=\"success\"}"),
            ),
            (shown("errors", "not_found"), number(not_found)),
            (
                shown("trades", "executed"),
                number("mt5_trades_total{account=\"main\",outcome=\"executed\"}"),
            ),
            (browser.text("#now-restarts"), "0".to_owned()),
        ];
        let cpu = browser.text("#now-cpu").ends_with('%');
        let memory = value("system_memory_total_bytes") / 1e9;
        let memory = browser.text("#now-memory").ends_with(&format!("of {memory:.0} GB"))
            || browser.text("#now-memory").ends_with(&format!("of {memory:.1} GB"));
        (all.iter().all(|(shown, said)| shown == said) && cpu && memory).then_some(())
    });
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    assert!(browser.text("#about").contains(env!("CARGO_PKG_VERSION")));
    assert!(!browser.text("#host").is_empty());
    assert!(!browser.text("#uptime").is_empty());
    let links = "return [...document.querySelectorAll('#about a')].map((link) => link.pathname)";
    assert_eq!(browser.run(links), json!(["/docs", "/metrics", "/readyz"]));

    gateway.get("/api/v1/accounts/main/symbols");
    gateway.logs("terminal restarting");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("terminal restarting")).unwrap();
    let index = if line.contains("session=0") { 0 } else { 1 };
    let failing = "#account-main .sessions li.failing";
    let name = gateway.eventually("the session fails", || {
        Some(browser.text(&format!("{failing} b"))).filter(|name| !name.is_empty())
    });
    assert_eq!(name, format!("session {index}"));
    assert!(browser.text(failing).contains("symbols_get"));
    let source = format!("main session {index}");
    assert!(browser.text("#events .warn .source").contains(&source));
    let red = "return (() => { const [r, g, b] = getComputedStyle(document.querySelector(\
               '.sessions .failing .badge')).color.match(/\\d+/g).map(Number); \
               return r > 2 * g && r > 2 * b; })()";
    assert_eq!(browser.run(red), true);

    let faults: Vec<Value> = browser.log("browser");
    assert!(faults.is_empty(), "{faults:?}");
    stays_at_home(&gateway, &browser);
    looks(&browser);
}

/// The page loads from its gateway alone, and its policy allows nothing else.
fn stays_at_home(gateway: &Gateway, browser: &Browser) {
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
    let open = "for (const part of document.querySelectorAll('details')) part.open = true";
    browser.run(open);
    browser.emulate("light", 360, 800);
    let wide = "return [...document.querySelectorAll('body, body *')].filter((one) => \
                !one.closest('svg') && !one.matches('.skip, .unseen') && one.getBoundingClientRect().right > 360)\
                .map((one) => one.outerHTML.slice(0, 80))";
    assert_eq!(browser.run(wide), json!([]), "nothing is wider than 360 px");
    let unnamed = "return [...document.querySelectorAll('svg')]\
                   .filter((one) => !one.getAttribute('aria-label')).length";
    assert_eq!(browser.run(unnamed), 0);
    // Everything that takes the keyboard shows that it has it.
    let reached =
        "document.querySelector('.skip').focus(); return document.activeElement.className";
    assert_eq!(browser.run(reached), "skip");
}

#[test]
fn an_update_keeps_what_is_selected_and_what_has_the_focus() {
    let gateway = Gateway::ready(SETTINGS);
    let browser = open(&gateway);
    browser.until(&gateway, "document.getElementById('events').children.length > 0");
    let select = |selector: &str| {
        let script = format!(
            "window.chosen = document.querySelector({}); \
             getSelection().selectAllChildren(window.chosen); return String(getSelection())",
            json!(selector)
        );
        browser.run(&script).as_str().unwrap().to_owned()
    };
    // What holds a relative time is no exception.
    for selector in ["#events li", "#account-main .sessions li", "#about"] {
        let selected = select(selector);
        let focus =
            "document.querySelector('#account-main summary').focus({ preventScroll: true })";
        browser.run(focus);
        assert!(selected.len() > 10, "{selected:?}");
        gateway.get("/api/v1/accounts/main/symbols/EURUSD/tick");
        gateway.get("/api/v1/accounts/frail/version");
        browser.updated(&gateway);
        assert_eq!(browser.run("return String(getSelection())"), selected, "{selector}");
        assert!(browser.holds("window.chosen.isConnected"), "{selector}");
        assert!(browser.holds("document.activeElement.matches('#account-main summary')"));
    }
    // New events came meanwhile, above what was selected.
    assert!(browser.text("#events li.warn").contains("frail session 0"));
}

#[test]
fn events_are_one_list_by_account_and_severity() {
    let gateway = Gateway::ready(SETTINGS);
    gateway.get("/api/v1/accounts/main/symbols");
    gateway.get("/api/v1/accounts/frail/version");
    let browser = open(&gateway);
    browser.until(&gateway, "document.querySelectorAll('#events li.warn').length >= 2");
    let choose = |id: &str, value: &str| {
        browser.run(&format!(
            "const select = document.getElementById('{id}'); select.value = '{value}'; \
             select.dispatchEvent(new Event('change'))"
        ));
        browser.run(
            "return [...document.querySelectorAll('#events li')].map((one) => \
             [one.className, one.querySelector('.source').textContent, \
              one.querySelector('time').dateTime])",
        )
    };
    let rows = |value: Value| -> Vec<[String; 3]> { serde_json::from_value(value).unwrap() };
    let all = rows(choose("events-level", "INFO"));
    assert!(all.is_sorted_by(|later, earlier| later[2] >= earlier[2]), "{all:?}");
    for source in ["main session 0", "frail session 0", "gateway", "sampler"] {
        assert!(all.iter().any(|row| row[1] == source), "{source} is not in {all:?}");
    }
    let warnings = rows(choose("events-level", "WARN"));
    assert!(warnings.len() >= 2 && warnings.iter().all(|row| row[0] != "info"), "{warnings:?}");
    let of_frail = rows(choose("events-account", "frail"));
    assert!(!of_frail.is_empty() && of_frail.len() < warnings.len());
    assert!(of_frail.iter().all(|row| row[1].starts_with("frail ")), "{of_frail:?}");
    browser.updated(&gateway);
    assert!(browser.text("#events-count").contains(" of "), "the choice outlives an update");
    let of_gateway = rows(choose("events-account", "/"));
    assert!(of_gateway.iter().all(|row| !row[1].contains("session")), "{of_gateway:?}");

    let console = gateway.get("/api/v1/console").json();
    let newest = console["events"][0]["id"].as_u64().unwrap();
    let later = gateway.get(&format!("/api/v1/console?after={newest}")).json();
    assert!(
        later["events"].as_array().unwrap().iter().all(|one| one["id"].as_u64() > Some(newest))
    );
    assert_eq!(gateway.get("/api/v1/console?after=x").status, 400);
}

#[test]
fn title_icon_and_cards_tell_how_accounts_are() {
    let gateway = Gateway::ready(SETTINGS);
    let browser = open(&gateway);
    let tab = || {
        let script = "return [document.title, document.getElementById('icon').href]";
        let [title, icon]: [String; 2] = serde_json::from_value(browser.run(script)).unwrap();
        (title, icon.rsplit('/').next().unwrap().to_owned())
    };
    let becomes = |title: &str, icon: &str| {
        gateway.eventually(&format!("{title}, {icon}"), || {
            let (shown, shown_icon) = tab();
            (shown.starts_with(title) && shown_icon == icon).then_some(())
        });
        let image = gateway.get(&format!("/console/{icon}"));
        assert_eq!((image.status, image.header("content-type")), (200, "image/svg+xml"));
    };
    let card = |account: &str, part: &str| browser.text(&format!("#account-{account} {part}"));
    becomes("up: ", "up.svg");
    assert_eq!((card("main", ".health"), card("main", ".reason")), ("✓up".into(), String::new()));

    assert_eq!(buy(&gateway, "lost"), 504);
    becomes("degraded: lost ", "degraded.svg");
    assert!(card("lost", ".unknown").starts_with("1 unknown trade, the oldest from "));
    let unknown = "return document.querySelector('#account-lost .unknown a').getAttribute('href')";
    assert_eq!(browser.run(unknown), "/api/v1/accounts/lost/trades?state=unknown");

    gateway.get("/api/v1/accounts/main/symbols");
    becomes("degraded: lost, main ", "degraded.svg");
    let reason = card("main", ".reason");
    assert!(reason.contains("waits for its next start: the terminal did not answer"), "{reason}");
    gateway.get("/api/v1/accounts/main/symbols");
    becomes("down: main ", "down.svg");
    assert_eq!(card("main", ".health"), "✕down");
    let reason = card("main", ".reason");
    assert!(reason.contains("session 0") && reason.contains("session 1"), "{reason}");
    assert_eq!(browser.text("#status"), "Live: 1 down, 1 degraded, 1 up");
    let titled = "[...document.querySelectorAll('main time')].every((one) => \
                  !one.dateTime || one.title.includes(new Date(one.dateTime).toISOString()))";
    assert!(browser.holds(titled), "every relative time has its absolute one");
    let health = gateway.get("/api/v1/console").json()["accounts"][2]["health"].clone();
    assert_eq!((&health["state"], &health["reason"]), (&json!("down"), &json!(reason)));
}

#[test]
fn old_numbers_look_old_while_the_gateway_does_not_answer() {
    let gateway = Gateway::ready(SETTINGS);
    let browser = open(&gateway);
    let opacity = "Number(getComputedStyle(document.querySelector('main')).opacity)";
    assert!(browser.holds(&format!("{opacity} === 1")));
    let ready_for = "#account-main .sessions .line time";
    for (signal, why) in [("STOP", "does not answer"), ("KILL", "cannot be reached")] {
        gateway.signal(signal);
        browser.until(&gateway, &format!("{opacity} < 0.5"));
        gateway.eventually("why it is old", || {
            let banner = browser.text("#stale-text");
            (banner.starts_with("Last answer at ") && banner.contains(why)).then_some(())
        });
        assert!(
            browser.run("return document.title").as_str().unwrap().starts_with("no answer since ")
        );
        assert!(browser.holds("document.getElementById('icon').href.endsWith('/stale.svg')"));
        assert_eq!(browser.text("#status"), "Not connected");
        // Nobody knows whether it is still so.
        let stopped = browser.text(ready_for);
        let age = browser.text("#stale-age");
        gateway.eventually("time goes on", || (browser.text("#stale-age") != age).then_some(()));
        assert_eq!(browser.text(ready_for), stopped);
        if signal == "STOP" {
            gateway.signal("CONT");
            browser.until(&gateway, &format!("{opacity} === 1"));
            browser.until(&gateway, "document.title.startsWith('up: ')");
        }
    }
}

#[test]
fn plots_show_lone_points_values_at_a_moment_and_restarts() {
    let gateway = Gateway::ready(SETTINGS);
    gateway.get("/api/v1/accounts/main/symbols/EURUSD/tick");
    let browser = open(&gateway);
    browser.run(
        "window.figure = (title) => [...document.querySelectorAll('figure')]\
         .find((one) => one.querySelector('b').textContent === title)",
    );
    // No other call follows, so the point has no neighbours to draw a line to.
    browser.until(
        &gateway,
        "window.figure('Time on the terminal')?.querySelector('.dot.line0').getBBox().width > 2",
    );
    assert!(browser.holds(
        "!window.figure('Time on the terminal').querySelector('path.line').getAttribute('d')"
    ));
    browser.until(&gateway, "window.figure('Sessions ready').querySelector('path.line').getAttribute('d').includes('L')");
    let axes = "[...document.querySelectorAll('figure')].every((one) => \
                /^0( |$)/.test(one.querySelector('.grid text').textContent))";
    assert!(browser.holds(axes), "every axis says that it starts at 0");

    assert_eq!(gateway.post("/api/v1/accounts/main/restart", "application/json", b"").status, 202);
    browser.until(&gateway, "[...document.querySelectorAll('.marks title')].some((one) => one.textContent.includes('restarted (request)'))");
    assert!(browser.text(".marks title").contains("gateway started"));
    let hovered = "(() => { const svg = window.figure('CPU').querySelector('svg'); const box = svg.getBoundingClientRect(); \
                   svg.dispatchEvent(new PointerEvent('pointermove', { clientX: box.right - 1, clientY: box.top + 9 })); \
                   const [when, value] = [...window.figure('Sessions ready').querySelectorAll('figcaption > span')]; \
                   return /\\d\\d:\\d\\d:\\d\\d/.test(when.textContent) && when.lastChild.title.includes('Z)') && /\\d/.test(value.textContent); })()";
    assert!(browser.holds(hovered), "a moment is chosen in all plots at once");
    let keyboard = "(() => { const svg = window.figure('Queue').querySelector('svg'); svg.focus(); \
                    const text = () => svg.getAttribute('aria-valuetext'); const last = text(); \
                    svg.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' })); return last !== text(); })()";
    assert!(browser.holds(keyboard), "the arrow keys do the same");
    assert!(browser.log("browser").is_empty());
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

#[test]
fn an_admin_restarts_after_confirmation_and_a_reader_has_no_button() {
    let keys =
        key("reader", "look", "['read']") + &key("operator", "mend", "['read', 'trade', 'admin']");
    let gateway = Gateway::start(&format!("{SETTINGS}{keys}"));
    let browser = Browser::start();
    browser.open(&gateway.url("/console"));
    browser.until(&gateway, "!document.getElementById('key-form').hidden");
    give_key(&browser, "look");
    browser.until(&gateway, "document.querySelectorAll('.account').length === 3");
    browser.updated(&gateway);
    assert!(browser.holds("document.querySelectorAll('.account button').length === 0"));

    browser.run("document.getElementById('forget').click()");
    browser.until(&gateway, "!document.getElementById('key-form').hidden");
    give_key(&browser, "mend");
    browser.until(&gateway, "document.querySelectorAll('.account .restart').length === 3");
    browser.until(&gateway, "document.querySelectorAll('#account-main .badge.ready').length === 2");
    browser.run("document.querySelector('#account-main .restart').click()");
    assert!(browser.holds("document.getElementById('restart').open"));
    assert!(browser.text("#restart-title").contains("main"));
    assert!(browser.holds("document.activeElement.id === 'restart-cancel'"), "Enter does no harm");
    browser.run("document.activeElement.click()");
    assert!(browser.holds("!document.getElementById('restart').open"));
    browser.updated(&gateway);
    assert!(!gateway.log().contains("terminal restarting"));

    browser.run("document.querySelector('#account-main .restart').click()");
    browser.run("document.getElementById('restart-go').click()");
    gateway.logs("terminal restarting");
    gateway.eventually("the page tells that it has begun", || {
        let notice = browser.text("#account-main .notice");
        notice.contains("the restart of 2 terminals has begun").then_some(())
    });
    gateway.eventually("both were replaced", || {
        browser.text("#account-main .sessions").matches("1 restart").nth(1).map(|_| ())
    });
    assert!(browser.text("#account-frail .sessions").contains("0 restarts"));
}

#[test]
fn positions_and_trades_are_shown_with_their_json() {
    let keys = key("operator", "mend", "['read', 'trade', 'admin']");
    let gateway = Gateway::start(&format!("{SETTINGS}{keys}"));
    let headers = [("authorization", "Bearer mend")];
    gateway.eventually("the order is executed", || {
        let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.02});
        let path = "/api/v1/accounts/main/orders";
        (gateway.send_with("POST", path, Some(&order), &headers).status == 201).then_some(())
    });
    let browser = Browser::start();
    browser.open(&gateway.url("/console"));
    browser.until(&gateway, "!document.getElementById('key-form').hidden");
    give_key(&browser, "mend");
    browser.until(&gateway, "document.querySelectorAll('.account').length === 3");
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true");
    for (part, says) in [("positions", "BUY 0.02 EURUSD"), ("trades", "place BUY 0.02 EURUSD")] {
        let row = format!("#account-main .{part} li");
        gateway.eventually(part, || browser.text(&row).starts_with(says).then_some(()));
        let link = format!("document.querySelector('{row} a')");
        let path = browser.run(&format!("return {link}.getAttribute('href')"));
        let path = path.as_str().unwrap().to_owned();
        assert_eq!(gateway.get_with(&path, &headers).status, 200, "{path}");
        browser.run(&format!("{link}.click()"));
        gateway.eventually("the JSON is shown", || {
            browser.text("#json-text").contains("\"volume\": 0.02").then_some(())
        });
        assert_eq!(browser.text("#json-title"), path);
        browser.run("document.getElementById('json-close').click()");
    }
    browser.until(&gateway, "document.querySelector('#account-lost .positions .note')?.textContent.startsWith('none, at ')");
    // What cannot be read is not shown as nothing.
    gateway.get_with("/api/v1/accounts/frail/version", &headers);
    browser.until(&gateway, "document.querySelector('#account-frail .positions .note')?.textContent.startsWith('not known now: ')");
}

#[test]
fn the_shell_needs_no_key_and_asks_for_one() {
    let gateway = Gateway::start(&key("operator", "secret", "['read']"));
    let browser = Browser::start();
    browser.open(&gateway.url("/console"));
    browser.until(&gateway, "!document.getElementById('key-form').hidden");
    give_key(&browser, "wrong");
    gateway.eventually("the fault is told", || {
        browser.text("#key-fault").contains("unknown").then_some(())
    });
    give_key(&browser, "secret");
    browser.until(&gateway, "!document.getElementById('main').hidden");
    assert!(browser.holds("document.getElementById('key').value === ''"));
    assert_eq!(gateway.get("/api/v1/console").status, 401);
}

#[test]
fn what_is_not_measured_is_not_shown_as_nothing() {
    let gateway = Gateway::ready(&SETTINGS.replace("[metrics]", "[metrics]\nenabled = false"));
    let browser = open(&gateway);
    assert!(browser.holds("document.getElementById('measured').hidden"));
    assert!(browser.holds("!document.getElementById('unmeasured').hidden"));
    assert_eq!(browser.text("#account-main .unknown a"), "unknown trades: not measured");
    assert_eq!(browser.text("#now"), "Sessions ready4 of 4");
}

#[test]
fn hostile_texts_stay_text() {
    let message = "<img src=x onerror=document.title='owned'><script>alert(1)</script>";
    let gateway = Gateway::start(&format!(
        "[accounts.hostile]\nlogin = 1\nserver = '<b>S</b>'\n[accounts.hostile.terminal]\nkind = 'simulator'\n\
         faults.initialize = {{ kind = 'code', code = -6, message = \"{message}\" }}"
    ));
    let browser = open(&gateway);
    gateway.eventually("the message is shown", || {
        browser.text("#account-hostile .sessions").contains(message).then_some(())
    });
    assert!(browser.text("#account-hostile .reason").contains(message));
    assert!(browser.text("#events").contains(message));
    let made = "return document.querySelectorAll('main img, main script, main .facts b').length";
    assert_eq!(browser.run(made), 0);
    assert_eq!(browser.run("return document.title"), "down: hostile – mt5-gateway");
    assert!(browser.log("browser").is_empty());
}
