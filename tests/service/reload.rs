//! Settings that change while the gateway runs: accounts and keys come, go and change, and nobody else
//! notices.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::{Gateway, Reply, command};

/// A gateway without keys whose clients may change its settings.
const ANONYMOUS: &str = "[accounts_store]\nanonymous = true\n";

fn account(name: &str, login: u32, more: &str) -> String {
    format!(
        "[accounts.{name}]\nlogin = {login}\nserver = 'S'\nterminal.kind = 'simulator'\n{more}\n"
    )
}

fn write(gateway: &Gateway, settings: &str) {
    std::fs::write(gateway.directory.path().join("gateway.toml"), settings).unwrap();
}

fn reload(gateway: &Gateway) -> Reply {
    gateway.send("POST", "/api/v1/reload", None)
}

/// Writes these settings, and lets the gateway read them. Gives what was applied as `account change`,
/// and what needs a restart.
fn reloaded(gateway: &Gateway, settings: &str) -> (Vec<String>, Value) {
    write(gateway, settings);
    let reply = reload(gateway);
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    let applied = answer["applied"].as_array().unwrap().iter().map(|change| {
        let word = |name: &str| change[name].as_str().unwrap().to_owned();
        format!("{} {}", word("setting"), word("change"))
    });
    (applied.collect(), answer["restart_required"].clone())
}

fn names(gateway: &Gateway) -> Vec<String> {
    let accounts = gateway.get("/api/v1/accounts").json();
    let accounts = accounts.as_array().unwrap().iter();
    accounts.map(|account| account["name"].as_str().unwrap().to_owned()).collect()
}

fn path(account: &str, rest: &str) -> String {
    format!("/api/v1/accounts/{account}{rest}")
}

fn is_ready(gateway: &Gateway, account: &str) {
    gateway.eventually(&format!("{account} is ready"), || {
        let status = gateway.get(&path(account, ""));
        (status.status == 200 && status.json()["ready"] == true).then_some(())
    });
}

fn buy(gateway: &Gateway, account: &str, key: &str) -> Reply {
    let order = json!({ "symbol": "EURUSD", "type": "BUY", "volume": 0.1 });
    let key = [("idempotency-key", key)];
    gateway.send_with("POST", &path(account, "/orders"), Some(&order), &key)
}

/// Buys once the account takes trades.
fn bought(gateway: &Gateway, account: &str, key: &str) -> Value {
    gateway.eventually("the account trades", || {
        let reply = buy(gateway, account, key);
        (reply.status == 201).then(|| reply.json())
    })
}

/// Every series that names an account.
fn series(gateway: &Gateway, account: &str) -> usize {
    let label = format!("account=\"{account}\"");
    gateway.metrics().lines().filter(|line| line.contains(&label)).count()
}

#[test]
fn an_account_comes_serves_and_goes_and_the_others_do_not_notice() {
    let stays = account("stays", 1, "");
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{stays}"));
    let restarts =
        |account: &str| gateway.get(&path(account, "")).json()["sessions"][0]["since"].clone();
    let (since, before) = (restarts("stays"), series(&gateway, "stays"));
    let (_, mut stream) = gateway.open(&path("stays", "/stream?symbols=EURUSD"), &[]);
    bought(&gateway, "stays", "first");

    let both = format!("{ANONYMOUS}{stays}{}", account("comes", 2, "sessions = 2"));
    assert_eq!(reloaded(&gateway, &both), (vec!["accounts.comes added".to_owned()], json!([])));
    is_ready(&gateway, "comes");
    assert_eq!(names(&gateway), ["comes", "stays"]);
    assert_eq!(gateway.metric("mt5_pool_size{account=\"comes\"}"), 2.0);
    assert_eq!(gateway.get(&path("comes", "/positions/total")).json(), 0);
    bought(&gateway, "comes", "first");
    assert_eq!(gateway.get(&path("comes", "/positions/total")).json(), 1);
    let (_, mut ends) = gateway.open(&path("comes", "/stream?symbols=EURUSD"), &[]);

    let one = format!("{ANONYMOUS}{stays}");
    assert_eq!(reloaded(&gateway, &one), (vec!["accounts.comes removed".to_owned()], json!([])));
    let mut text = String::new();
    ends.read_to_string(&mut text).unwrap();
    let end = "event: end\ndata: {\"reason\":\"the account is removed\"}\n\n";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(gateway.get(&path("comes", "/positions")).problem(), (404, "not-found".into()));
    assert_eq!(buy(&gateway, "comes", "second").problem().0, 404);
    assert_eq!(names(&gateway), ["stays"]);
    assert_eq!(series(&gateway, "comes"), 0, "{}", gateway.metrics());
    assert_eq!(series(&gateway, "stays"), before + trade_series(&gateway));
    assert_eq!(restarts("stays"), since, "its session was not touched");
    // The stream goes on.
    for _ in 0..10 {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0);
        assert!(!line.contains("event: end"), "{line}");
    }
}

/// Series of the account `stays` that a trade and reads have added.
fn trade_series(gateway: &Gateway) -> usize {
    let text = gateway.metrics();
    let lazy = ["mt5_calls_total{", "mt5_errors_total{"];
    let added = text.lines().filter(|line| {
        line.contains("account=\"stays\"") && lazy.iter().any(|family| line.starts_with(family))
    });
    // Those of the login and of what a start asks were there before.
    added.count() - text.lines().filter(|line| is_of_start(line)).count()
}

fn is_of_start(line: &str) -> bool {
    let methods = ["\"account_info\"", "\"terminal_info\"", "\"version\"", "\"initialize\""];
    line.starts_with("mt5_calls_total{")
        && line.contains("account=\"stays\"")
        && methods.iter().any(|method| line.contains(method))
}

#[test]
fn a_changed_account_begins_anew_and_keeps_its_trades_and_counters() {
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{}", account("main", 1, "")));
    let trade = bought(&gateway, "main", "first");
    let changed = format!("{ANONYMOUS}{}", account("main", 1, "sessions = 3"));
    let expected = (vec!["accounts.main changed".to_owned()], json!([]));
    assert_eq!(reloaded(&gateway, &changed), expected);
    gateway.wait_ready();
    let status = gateway.get(&path("main", "")).json();
    assert_eq!(status["sessions"].as_array().unwrap().len(), 3);
    assert_eq!(gateway.metric("mt5_trades_total{account=\"main\",outcome=\"executed\"}"), 1.0);
    assert_eq!(gateway.metric("mt5_pool_sessions{account=\"main\",state=\"ready\"}"), 3.0);
    // The same key is the same order, also while earlier trades are still looked for.
    let again = buy(&gateway, "main", "first");
    assert_eq!(again.json()["trade_id"], trade["trade_id"], "{again:?}");
    // Without a change nothing happens.
    assert_eq!(reloaded(&gateway, &changed), (vec![], json!([])));
}

#[test]
fn an_account_under_another_name_does_not_trade_with_a_key_again() {
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{}", account("before", 1, "")));
    let trade = bought(&gateway, "before", "once");
    let renamed = format!("{ANONYMOUS}{}", account("after", 1, ""));
    let (applied, _) = reloaded(&gateway, &renamed);
    assert_eq!(applied, ["accounts.after added", "accounts.before removed"]);
    let again = gateway.eventually("the account trades", || {
        let reply = buy(&gateway, "after", "once");
        (reply.status != 503).then_some(reply)
    });
    assert_eq!(again.header("idempotent-replayed"), "true", "{again:?}");
    assert_eq!(again.json()["trade_id"], trade["trade_id"]);
}

#[test]
fn a_key_of_an_account_that_was_simulated_does_not_answer_for_the_real_one() {
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{}", account("main", 1, "")));
    bought(&gateway, "main", "once");
    let real = account("main", 1, "password = 'x'\ntrade = true\nterminal.python = 'no-such'")
        .replace("simulator", "worker");
    assert_eq!(reloaded(&gateway, &format!("{ANONYMOUS}{real}")).0, ["accounts.main changed"]);
    let again = buy(&gateway, "main", "once");
    assert_eq!(again.problem(), (422, "idempotency-key-reused".into()), "{again:?}");
    assert!(again.detail().contains("simulated"), "{again:?}");
    // Simulated again, it is the same trade.
    reloaded(&gateway, &format!("{ANONYMOUS}{}", account("main", 1, "")));
    let again = buy(&gateway, "main", "once");
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"), "{again:?}");
}

#[test]
fn faulty_settings_are_refused_as_a_whole_with_every_fault() {
    let good = format!("{ANONYMOUS}{}", account("main", 1, ""));
    let gateway = Gateway::ready(&good);
    let twice = format!("{good}{}{}", account("twin", 1, ""), account("third", 3, "queue = 0"));
    let nonsense = format!("{good}[accounts.broken\nlogin = = 7\nlogin 8\n");
    for (settings, faults) in [
        // Two accounts with one login: refused with the key, as at start. `third` does not come either.
        (twice, vec!["accounts.twin.login", "accounts.third.queue"]),
        (nonsense, vec!["line 8,", "line 9,", "line 10,", "gateway.toml"]),
    ] {
        write(&gateway, &settings);
        let reply = reload(&gateway);
        assert_eq!(reply.problem(), (422, "settings-refused".into()), "{reply:?}");
        let listed = reply.json()["faults"].clone();
        for fault in faults {
            assert!(listed.to_string().contains(fault), "{fault} is not in {listed}");
        }
        assert_eq!(names(&gateway), ["main"]);
        assert_eq!(gateway.get(&path("main", "/positions")).status, 200);
    }
}

#[test]
fn what_needs_a_restart_is_named_and_everything_else_is_applied() {
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{}", account("main", 1, "")));
    let more = format!(
        "[metrics]\ncall_buckets = [1, 2]\n[trading]\njournal = 'other'\n{ANONYMOUS}{}{}",
        account("main", 1, ""),
        account("new", 2, "")
    );
    let expected = json!(["metrics.call_buckets", "trading.journal"]);
    assert_eq!(
        reloaded(&gateway, &more),
        (vec!["accounts.new added".to_owned()], expected.clone())
    );
    // They stay different until then.
    assert_eq!(reloaded(&gateway, &more), (vec![], expected));
    is_ready(&gateway, "new");
    bought(&gateway, "new", "key");
    assert!(!gateway.directory.path().join("other").exists());
}

#[test]
fn demo_is_decided_when_the_gateway_starts() {
    let gateway = Gateway::ready(ANONYMOUS);
    let (applied, _) = reloaded(&gateway, &format!("{ANONYMOUS}{}", account("main", 1, "")));
    assert_eq!(applied, ["accounts.main added"]);
    assert_eq!(names(&gateway), ["demo", "main"]);
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{}", account("main", 1, "")));
    let (applied, _) = reloaded(&gateway, ANONYMOUS);
    assert_eq!(applied, ["accounts.main removed"]);
    assert_eq!(names(&gateway), [""; 0]);
    assert_eq!(gateway.get("/readyz").status, 200, "it does what it was told");
}

#[test]
fn a_journal_that_was_not_needed_is_opened_for_the_first_account_that_trades() {
    let reads = account("reads", 1, "trade = false");
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{reads}"));
    let journal = gateway.directory.path().join("data/journal.sqlite");
    assert!(!journal.exists());
    let both = format!("{ANONYMOUS}{reads}{}", account("trades", 2, ""));
    reloaded(&gateway, &both);
    let trade = bought(&gateway, "trades", "key");
    assert!(journal.exists());
    let shown =
        gateway.get(&path("trades", &format!("/trades/{}", trade["trade_id"].as_str().unwrap())));
    assert_eq!(shown.json()["state"], "executed");
    assert_eq!(buy(&gateway, "reads", "key").problem(), (403, "trading-not-allowed".into()));
}

#[test]
fn a_paused_account_refuses_what_is_new_and_says_what_became_of_its_trades() {
    let main = |more: &str| format!("{ANONYMOUS}{}", account("main", 1, more));
    let gateway = Gateway::ready(&main(""));
    let trade = bought(&gateway, "main", "first");
    let since = gateway.get(&path("main", "")).json()["sessions"][0]["since"].clone();
    let (_, mut stream) = gateway.open(&path("main", "/stream?symbols=EURUSD"), &[]);
    let (applied, _) = reloaded(&gateway, &main("paused = true"));
    assert_eq!(applied, ["accounts.main paused"]);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("data: {\"reason\":\"the account is paused\"}\n\n"), "{text}");
    let paused = (503, "account-paused".to_owned());
    for rest in ["/positions", "/symbols/EURUSD/tick", "/stream?symbols=EURUSD", "/version"] {
        assert_eq!(gateway.get(&path("main", rest)).problem(), paused, "{rest}");
    }
    assert_eq!(buy(&gateway, "main", "second").problem(), paused);
    // A repetition is a question: its answer must never read as if nothing had been sent.
    let again = buy(&gateway, "main", "first");
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"), "{again:?}");
    let listed = gateway.get(&path("main", "/trades")).json();
    assert_eq!(listed[0]["trade_id"], trade["trade_id"]);
    assert_eq!(gateway.get(&path("main", "")).json()["paused"], true);

    let (applied, _) = reloaded(&gateway, &main(""));
    assert_eq!(applied, ["accounts.main resumed"]);
    let status = gateway.get(&path("main", "")).json();
    assert_eq!((&status["paused"], &status["sessions"][0]["since"]), (&json!(false), &since));
    bought(&gateway, "main", "second");
    gateway.open(&path("main", "/stream?symbols=EURUSD"), &[]);
}

#[test]
fn a_removal_during_a_trade_lets_it_finish_and_writes_what_became_of_it() {
    let slow = account("slow", 1, "terminal.latency = '300ms'");
    let other = account("other", 2, "");
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{slow}{other}"));
    gateway.eventually("the account trades", || {
        let reply = buy(&gateway, "slow", "warm-up");
        (reply.status == 201).then_some(())
    });
    std::thread::scope(|scope| {
        let trade = scope.spawn(|| buy(&gateway, "slow", "last"));
        gateway.eventually("the trade is under way", || {
            let trades = gateway.get(&path("slow", "/trades?idempotency_key=last")).json();
            (!trades.as_array()?.is_empty()).then_some(())
        });
        let (applied, _) = reloaded(&gateway, &format!("{ANONYMOUS}{other}"));
        assert_eq!(applied, ["accounts.slow removed"]);
        // By then it has an answer, and its client has it soon.
        let answer = trade.join().unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    });
    assert_eq!(gateway.get(&path("slow", "")).status, 404);
    // It comes back, and knows.
    reloaded(&gateway, &format!("{ANONYMOUS}{slow}{other}"));
    let trades = gateway.get(&path("slow", "/trades?idempotency_key=last")).json();
    assert_eq!(trades[0]["state"], "executed", "{trades}");
}

#[test]
fn a_reload_while_terminals_start_ends_them_and_starts_the_ones_that_are_meant() {
    let starting = |login: u32| {
        let faults = "sessions = 3\nterminal.latency = '200ms'";
        format!("{ANONYMOUS}{}{}", account("main", login, faults), account("other", 9, ""))
    };
    let gateway = Gateway::start(&starting(1));
    for login in 2..5 {
        let (applied, _) = reloaded(&gateway, &starting(login));
        assert_eq!(applied, ["accounts.main changed"]);
    }
    gateway.wait_ready();
    assert_eq!(gateway.get(&path("main", "/account")).json()["login"], 4);
    let count = |text: &str| gateway.log().matches(text).count();
    let session = "actor=\"session\" account=\"main\"";
    let (begun, ended) =
        (count(&format!("actor started {session}")), count(&format!("actor stopped {session}")));
    assert_eq!((begun, ended), (12, 9), "{}", gateway.log());
    let reconciler = "actor=\"reconciler\" account=\"main\"";
    let (begun, ended) = (
        count(&format!("actor started {reconciler}")),
        count(&format!("actor stopped {reconciler}")),
    );
    assert_eq!((begun, ended), (4, 3), "{}", gateway.log());
}

fn key(name: &str, lines: &str) -> String {
    use sha2::Digest;
    let digest: String =
        sha2::Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[auth.keys.{name}]\nsha256 = '{digest}'\n{lines}\n")
}

#[test]
fn keys_are_applied_and_a_reload_needs_an_admin_that_is_not_limited_to_accounts() {
    let main = account("main", 1, "");
    let admin = key("admin", "scopes = ['admin']");
    let limited = key("limited", "scopes = ['admin']\naccounts = ['main']");
    let gateway = Gateway::start(&format!("{main}{admin}{limited}{}", key("old", "")));
    let reload =
        |key: &str| gateway.send_with("POST", "/api/v1/reload", None, &[("x-api-key", key)]);
    assert_eq!(reload("old").problem(), (403, "forbidden".into()));
    assert_eq!(reload("limited").problem(), (403, "forbidden".into()));
    assert_eq!(reload("nobody").problem(), (401, "unauthorized".into()));
    let get = |key: &str| gateway.get_with("/api/v1/accounts", &[("x-api-key", key)]).status;
    let header = [("x-api-key", "old")];
    gateway.eventually("the account is ready", || {
        (gateway.get("/readyz").status == 200).then_some(())
    });
    let (_, mut stream) = gateway.open(&path("main", "/stream?symbols=EURUSD"), &header);
    assert_eq!((get("old"), get("new")), (200, 401));
    write(&gateway, &format!("{main}{admin}{limited}{}", key("new", "")));
    let answer = reload("admin").json();
    assert_eq!(
        answer["applied"],
        json!([
            { "setting": "auth.keys.new", "change": "added" },
            { "setting": "auth.keys.old", "change": "removed" },
        ])
    );
    assert_eq!((get("old"), get("new"), get("admin")), (401, 200, 200));
    // What the key has opened ends with it.
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("the key is not valid any more"), "{text}");
}

#[test]
fn a_body_that_comes_after_its_key_was_removed_trades_nothing() {
    let main = account("main", 1, "");
    let admin = key("admin", "scopes = ['admin']");
    let gateway = Gateway::start(&format!("{main}{admin}{}", key("old", "scopes = ['trade']")));
    let body = br#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;
    let target = path("main", "/orders");
    let order: Value = serde_json::from_slice(body).unwrap();
    gateway.eventually("the key trades", || {
        let reply = gateway.send_with("POST", &target, Some(&order), &[("x-api-key", "old")]);
        (reply.status == 201).then_some(())
    });
    let mut held_back = TcpStream::connect(gateway.address).unwrap();
    write!(
        held_back,
        "POST {target} HTTP/1.1\r\nhost: localhost\r\nx-api-key: old\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    let under_way = format!(
        "http_requests_inprogress{{handler=\"{}\",method=\"POST\"}}",
        "/api/v1/accounts/{account}/orders"
    );
    gateway.eventually("its head has come", || (gateway.metric(&under_way) == 1.0).then_some(()));
    write(&gateway, &format!("{main}{admin}"));
    let header = [("x-api-key", "admin")];
    assert_eq!(gateway.send_with("POST", "/api/v1/reload", None, &header).status, 200);
    held_back.write_all(body).unwrap();
    let mut reply = String::new();
    held_back.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 401 "), "{reply}");
    let trades = gateway.get_with(&path("main", "/trades"), &header).json();
    assert_eq!(trades.as_array().unwrap().len(), 1, "{trades}");
}

#[test]
fn a_reading_without_keys_does_not_open_a_gateway_that_has_some() {
    let main = account("main", 1, "");
    let settings = format!("{main}{}", key("admin", "scopes = ['admin']"));
    let gateway = Gateway::start(&settings);
    let header = [("x-api-key", "admin")];
    let reload = || gateway.send_with("POST", "/api/v1/reload", None, &header);
    // Written by half: the keys stand at the end.
    write(&gateway, &main);
    let refused = reload();
    assert_eq!(refused.problem(), (422, "settings-refused".into()), "{}", refused.text());
    assert!(refused.detail().contains("keep a key"), "{}", refused.detail());
    assert_eq!(gateway.get("/api/v1/accounts").status, 401);
    write(&gateway, &format!("{main}[auth]\nallow_anonymous = true\n"));
    assert_eq!(reload().status, 200);
    assert_eq!(gateway.get("/api/v1/accounts").status, 200);
}

#[test]
fn a_gateway_without_keys_is_not_administered_unless_that_is_allowed() {
    let gateway = Gateway::ready("");
    let reply = reload(&gateway);
    assert_eq!(reply.problem(), (403, "forbidden".into()));
    assert!(reply.detail().contains("accounts_store.anonymous"), "{}", reply.detail());
}

#[test]
fn the_command_says_what_has_changed_and_fails_with_every_fault() {
    let main = account("main", 1, "");
    let gateway = Gateway::ready(&format!("{ANONYMOUS}{main}"));
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = command(gateway.directory.path());
        let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let url = format!("http://{}", gateway.address);
    write(&gateway, &format!("{ANONYMOUS}{main}{}", account("new", 2, "")));
    let added = "accounts.new: added\n".to_owned();
    assert_eq!(run(&["reload", "--url", &url], &[]), (0, added, String::new()));
    let variable = [("MT5_GATEWAY_URL", url.as_str())];
    let nothing = "nothing has changed\n".to_owned();
    assert_eq!(run(&["reload"], &variable), (0, nothing.clone(), String::new()));
    let listen = gateway.address.to_string();
    assert_eq!(run(&["reload", "--listen", &listen], &[]), (0, nothing, String::new()));

    write(&gateway, &format!("{ANONYMOUS}{main}{}", account("twin", 1, "queue = 0")));
    let (code, _, errors) = run(&["reload", "--url", &url], &[]);
    assert!(code == 1 && errors.contains("\n  accounts.twin.login: "), "{code} {errors}");
    assert!(errors.contains("\n  accounts.twin.queue: "), "{errors}");
    let (code, _, errors) = run(&["reload", "--url", "http://127.0.0.1:1"], &[]);
    assert!(code == 1 && errors.contains("does not answer"), "{code} {errors}");
    let (code, _, errors) = run(&["reload", "--url", "https://127.0.0.1"], &[]);
    assert!(code == 1 && errors.contains("TLS"), "{code} {errors}");
}

#[test]
fn the_command_sends_the_key_of_its_file() {
    let settings = format!("{}{}", account("main", 1, ""), key("admin", "scopes = ['admin']"));
    let gateway = Gateway::start(&settings);
    let url = format!("http://{}", gateway.address);
    std::fs::write(gateway.directory.path().join("key"), "admin\n").unwrap();
    let run = |environment: &[(&str, &str)]| {
        let mut command = command(gateway.directory.path());
        let output = command.args(["reload", "--url", &url]).envs(environment.iter().copied());
        output.output().unwrap().status.code()
    };
    assert_eq!(run(&[]), Some(1));
    assert_eq!(run(&[("MT5_GATEWAY_KEY_FILE", "key")]), Some(0));
}

#[cfg(unix)]
#[test]
fn sighup_reads_the_settings_again_and_says_what_came_of_it() {
    let main = account("main", 1, "");
    let gateway = Gateway::ready(&main);
    write(&gateway, &format!("{main}{}", account("new", 2, "")));
    gateway.signal("HUP");
    is_ready(&gateway, "new");
    gateway.logs("settings reloaded");
    write(&gateway, &format!("{main}{}", account("twin", 1, "")));
    gateway.signal("HUP");
    gateway.logs("settings have faults");
    assert!(gateway.log().contains("accounts.twin.login"), "{}", gateway.log());
    assert_eq!(names(&gateway), ["main", "new"]);
}
