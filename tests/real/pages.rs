//! Pages of other origins in a real browser: what a hostile one gets (nothing), what a listed one
//! gets, and that our own pages run under their policies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::common::Gateway;
use crate::console::Browser;

const DEMO: &str = "/api/v1/accounts/demo";

/// Serves an empty page on all paths, for as long as the test runs.
fn other_site() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A browser opens connections ahead, and sends nothing on them.
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let page = "<!doctype html><title>other</title><body></body>";
                let length = page.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\
                     connection: close\r\n\r\n{page}"
                );
            });
        }
    });
    address
}

/// Everything that a page can try. Gives what each attempt came to.
const ATTACK: &str = r#"
const [gateway, done] = arguments;
const account = gateway + '/api/v1/accounts/demo';
const order = JSON.stringify({ symbol: 'EURUSD', type: 'BUY', volume: 0.1 });
const outcomes = {};
const within = (promise) => Promise.race([promise, new Promise((end) => setTimeout(end, 3000, 'nothing'))]);
const attempt = async (name, act) => {
  try { outcomes[name] = await within(act()); } catch (error) { outcomes[name] = 'failed: ' + error; }
};
const asked = async (url, options) => {
  const answer = await fetch(url, options);
  return answer.type === 'opaque' ? 'opaque' : answer.status + ' ' + (await answer.text()).slice(0, 200);
};
const loaded = (element, attribute, url) => new Promise((end) => {
  element.onload = () => end('loaded ' + (element.naturalWidth ?? ''));
  element.onerror = () => end('failed');
  element[attribute] = url;
  document.body.append(element);
});
const submitted = (url, fields) => new Promise((end) => {
  const frame = document.createElement('iframe');
  frame.name = 'frame' + Math.random();
  document.body.append(frame);
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', action: url, target: frame.name, enctype: 'text/plain' });
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement('input');
    Object.assign(input, { name, value });
    form.append(input);
  }
  document.body.append(form);
  frame.onload = () => { try { end('readable ' + frame.contentDocument.body.textContent); } catch { end('unreadable'); } };
  form.submit();
});
(async () => {
  await attempt('read', () => asked(account + '/account'));
  await attempt('read without cors', () => asked(account + '/account', { mode: 'no-cors' }));
  await attempt('order', () => asked(account + '/orders', { method: 'POST', headers: { 'content-type': 'application/json' }, body: order }));
  await attempt('simple order', () => asked(account + '/orders', { method: 'POST', mode: 'no-cors', body: order }));
  await attempt('restart', () => asked(account + '/restart', { method: 'POST', mode: 'no-cors' }));
  await attempt('close', () => asked(account + '/positions/1', { method: 'DELETE' }));
  await attempt('beacon', async () => 'queued ' + navigator.sendBeacon(account + '/restart', ''));
  await attempt('form order', () => submitted(account + '/orders', { [order.slice(0, -1) + ',"x":"']: '"}' }));
  await attempt('form restart', () => submitted(account + '/restart', {}));
  await attempt('socket', () => new Promise((end) => {
    const socket = new WebSocket(account.replace('http', 'ws') + '/stream?events=account,positions');
    socket.onmessage = (message) => end('told ' + message.data);
    socket.onopen = () => setTimeout(end, 500, 'opened');
    socket.onerror = () => end('failed');
  }));
  await attempt('events', () => new Promise((end) => {
    const source = new EventSource(account + '/stream?events=account');
    source.addEventListener('account', (event) => end('told ' + event.data));
    source.onerror = () => end('failed');
  }));
  await attempt('image', () => loaded(document.createElement('img'), 'src', account + '/account'));
  await attempt('script', () => loaded(document.createElement('script'), 'src', account + '/account'));
  await attempt('frame', () => new Promise((end) => {
    const frame = document.createElement('iframe');
    frame.onload = () => { try { end('readable ' + frame.contentDocument.body.textContent); } catch { end('unreadable'); } };
    frame.src = gateway + '/console';
    document.body.append(frame);
  }));
  done(outcomes);
})();
"#;

fn attack(browser: &Browser, gateway: &str) -> Value {
    browser.command("/execute/async", &json!({ "script": ATTACK, "args": [gateway] }))
}

/// Nothing was changed, and nothing of the account was read.
fn unharmed(gateway: &Gateway, outcomes: &Value, by: &str) {
    let positions = gateway.get(&format!("{DEMO}/positions")).json();
    assert_eq!(positions, json!([]), "{by}: {outcomes:#}");
    assert_eq!(gateway.get(&format!("{DEMO}/trades")).json(), json!([]), "{by}");
    let restarts = r#"mt5_session_restarts_total{account="demo",reason="request"}"#;
    assert_eq!(gateway.metric(restarts), 0.0, "{by}: {outcomes:#}");
    for (name, outcome) in outcomes.as_object().unwrap() {
        let outcome = outcome.as_str().unwrap_or_default();
        let harmless = ["failed", "opaque", "unreadable", "queued", "421", "nothing"];
        // A script whose body is JSON loads only where it may not be read.
        let harmless = harmless.iter().any(|harmless| outcome.starts_with(harmless))
            || (name == "image" && outcome == "loaded 0")
            || outcome.starts_with("readable") && outcome.contains("host-not-allowed");
        assert!(harmless, "{by}: {name}: {outcome}");
        for secret in ["balance", "5001", "Demo-Server"] {
            assert!(!outcome.contains(secret), "{by}: {name}: {outcome}");
        }
    }
}

#[test]
fn a_hostile_page_gets_nothing() {
    let gateway = Gateway::ready("");
    let (site, own) = (other_site(), gateway.url(""));
    let browser = Browser::start_with(&["--host-resolver-rules=MAP evil.example 127.0.0.1"]);
    let pages = [
        format!("http://evil.example:{}/", site.port()),
        format!("http://localhost:{}/", site.port()),
        // The same site in a browser's eyes, but another origin.
        format!("http://127.0.0.1:{}/", site.port()),
        // A page without an origin, whose requests say `Origin: null`.
        "data:text/html,<body></body>".to_owned(),
    ];
    for page in pages {
        browser.open(&page);
        let outcomes = attack(&browser, &own);
        unharmed(&gateway, &outcomes, &page);
    }
    // After DNS rebinding the page and the gateway are one origin.
    let rebound = format!("http://evil.example:{}", gateway.address.port());
    browser.open(&format!("{rebound}/console"));
    let outcomes = attack(&browser, &rebound);
    unharmed(&gateway, &outcomes, &rebound);
    assert!(
        gateway.metric(r#"http_requests_total{handler="none",method="POST",status="403"}"#) > 0.0
    );
}

#[test]
fn a_listed_page_reads_trades_and_listens() {
    let site = other_site();
    let origin = format!("http://localhost:{}", site.port());
    let gateway = Gateway::ready(&format!("[server]\ncors_origins = ['{origin}']\n"));
    let browser = Browser::start();
    browser.open(&origin);
    let outcomes = attack(&browser, &gateway.url(""));
    let outcome = |name: &str| outcomes[name].as_str().unwrap_or_default().to_owned();
    assert!(outcome("read").starts_with("200 "), "{outcomes:#}");
    assert!(outcome("order").starts_with("201 "), "{outcomes:#}");
    assert!(outcome("close").starts_with("404 "), "{outcomes:#}");
    assert!(outcome("socket").starts_with("told "), "{outcomes:#}");
    assert!(outcome("events").starts_with("told "), "{outcomes:#}");
    let script = format!(
        "const done = arguments[0]; fetch('{}').then((answer) => done(answer.headers.get('x-request-id')))",
        gateway.url(&format!("{DEMO}/account"))
    );
    let id = browser.command("/execute/async", &json!({ "script": script, "args": [] }));
    assert!(id.as_str().is_some_and(|id| !id.is_empty()), "{id}");
}

#[test]
fn the_documents_run_under_their_policy() {
    let gateway = Gateway::ready("");
    let page = gateway.get("/docs/");
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let browser = Browser::start();
    browser.open(&gateway.url("/docs/"));
    gateway.eventually("the operations are shown", || {
        let shown = browser.run("return document.querySelectorAll('.opblock').length");
        (shown.as_u64()? > 20).then_some(())
    });
    let severe: Vec<Value> =
        browser.log("browser").into_iter().filter(|entry| entry["level"] == "SEVERE").collect();
    assert_eq!(severe, Vec::<Value>::new());
}
