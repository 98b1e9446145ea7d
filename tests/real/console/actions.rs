//! What an operator does in the console, with a key.

use serde_json::json;

use super::{Browser, SETTINGS, give_key, key};
use crate::common::Gateway;

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
    assert!(browser.holds("document.getElementById('confirm').open"));
    assert!(browser.text("#confirm-title").contains("main"));
    assert!(browser.holds("document.activeElement.id === 'confirm-cancel'"), "Enter does no harm");
    browser.run("document.activeElement.click()");
    assert!(browser.holds("!document.getElementById('confirm').open"));
    browser.updated(&gateway);
    assert!(!gateway.log().contains("terminal restarting"));

    browser.run("document.querySelector('#account-main .restart').click()");
    browser.run("document.getElementById('confirm-go').click()");
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
fn a_trader_halts_an_account_and_an_admin_all_of_them_after_confirmation() {
    let keys = key("trader", "trade", "['trade']") + &key("operator", "mend", "['admin']");
    let gateway = Gateway::start(&format!("{SETTINGS}{keys}"));
    let browser = Browser::start();
    let enter = |key: &str| {
        browser.until(&gateway, "!document.getElementById('key-form').hidden");
        give_key(&browser, key);
        browser.until(&gateway, "document.querySelectorAll('.account .halt').length === 3");
    };
    let halted = |path: &str| {
        let headers = [("authorization", "Bearer mend")];
        gateway.get_with(path, &headers).json()
    };
    let main = || halted("/api/v1/accounts/main/halt")["halted"] == true;
    browser.open(&gateway.url("/console"));
    enter("trade");
    assert!(browser.holds("document.getElementById('halt-all').hidden"));
    browser.run("document.querySelector('#account-main .halt').click()");
    assert!(browser.text("#confirm-title").contains("Halt main"));
    browser.run("document.activeElement.click()");
    browser.updated(&gateway);
    assert!(!main());
    browser.run("document.querySelector('#account-main .halt').click()");
    browser.run("document.getElementById('confirm-go').click()");
    browser.until(
        &gateway,
        "document.querySelector('#account-main .halt').textContent === 'Lift halt…'",
    );
    assert!(main());
    assert!(browser.text("#account-main .notice").contains("halted"));
    assert!(browser.text("#account-main").contains("may not trade: halted"));
    browser.run("document.querySelector('#account-main .halt').click()");
    browser.run("document.getElementById('confirm-go').click()");
    browser
        .until(&gateway, "document.querySelector('#account-main .halt').textContent === 'Halt…'");
    assert!(!main());

    browser.run("document.getElementById('forget').click()");
    enter("mend");
    browser.run("document.getElementById('halt-all').click()");
    browser.run("document.getElementById('confirm-go').click()");
    browser.until(&gateway, "!document.getElementById('halted').hidden");
    assert_eq!(halted("/api/v1/halt")["halt_of_all"]["api_key"], "operator");
    browser.run("document.getElementById('halt-all').click()");
    browser.run("document.getElementById('confirm-go').click()");
    browser.until(&gateway, "document.getElementById('halted').hidden");
    assert!(halted("/api/v1/halt")["halt_of_all"].is_null());
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
