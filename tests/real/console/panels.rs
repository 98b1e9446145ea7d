//! What the console shows.

use serde_json::{Value, json};

use super::{Browser, SETTINGS, buy, open};
use crate::common::Gateway;

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
fn events_are_filtered_by_account_and_severity() {
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
fn title_icon_and_cards_show_each_accounts_health() {
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
fn stale_values_are_dimmed_while_the_gateway_does_not_answer() {
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
fn plots_show_single_points_hovered_values_and_restarts() {
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

#[test]
fn without_metrics_the_console_shows_no_zeros() {
    let gateway = Gateway::ready(&SETTINGS.replace("[metrics]", "[metrics]\nenabled = false"));
    let browser = open(&gateway);
    assert!(browser.holds("document.getElementById('measured').hidden"));
    assert!(browser.holds("!document.getElementById('unmeasured').hidden"));
    assert_eq!(browser.text("#account-main .unknown a"), "unknown trades: not measured");
    assert_eq!(browser.text("#now"), "Sessions ready4 of 4");
}

#[test]
fn html_in_a_brokers_text_is_shown_as_text() {
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

#[test]
fn cards_show_money_and_whether_the_account_may_trade() {
    let quiet =
        "[accounts.quiet]\nlogin = 9\nserver = 'S'\ntrade = false\nterminal.kind = 'simulator'\n";
    let gateway = Gateway::ready(&format!("{SETTINGS}\n{quiet}"));
    let browser = open(&gateway);
    let card = |account: &str, part: &str| browser.text(&format!("#account-{account} {part}"));
    gateway.eventually("the card shows money", || {
        let shown = card("main", ".money .value");
        let money = gateway.get("/api/v1/console").json()["accounts"].clone();
        let main = money.as_array().unwrap().iter().find(|account| account["name"] == "main");
        let equity = main.unwrap()["money"]["equity"].as_f64()?;
        let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
        let cents = format!("{:.0}", equity * 100.0);
        (shown.ends_with(" USD") && digits == cents).then_some(())
    });
    assert!(card("main", ".money .facts").starts_with("balance "), "{}", card("main", ".money"));
    browser
        .until(&gateway, "document.querySelector('#account-main .equity path').getAttribute('d')");
    assert!(card("main", ".facts").contains("may trade"));
    let facts = "[...document.querySelectorAll('#account-quiet > .facts')].map((one) => one.textContent).join()";
    let facts = browser.run(&format!("return {facts}"));
    let facts = facts.as_str().unwrap();
    assert!(facts.contains("may not trade: account setting"), "{facts}");
}
