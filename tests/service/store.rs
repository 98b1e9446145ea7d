//! Accounts that clients set: routes, and the accounts store that keeps them.

mod files;

use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Gateway, Reply};

const ANONYMOUS: &str = "[accounts_store]\nanonymous = true\n";

const CONFIGURED: &str =
    "[accounts.configured]\nlogin = 1\nserver = 'S'\nterminal.kind = 'simulator'\n";

const PROFILE: &str = "[terminal_profiles.lab]\nkind = 'simulator'\nbalance = 777\n";

fn gateway() -> Gateway {
    Gateway::ready(&format!("{ANONYMOUS}{CONFIGURED}{PROFILE}"))
}

fn path(account: &str, rest: &str) -> String {
    format!("/api/v1/accounts/{account}{rest}")
}

fn set(gateway: &Gateway, account: &str, settings: &Value) -> Reply {
    gateway.send("PUT", &path(account, ""), Some(settings))
}

fn simulated(login: u32) -> Value {
    json!({ "login": login, "server": "S", "terminal": { "kind": "simulator" } })
}

fn is_ready(gateway: &Gateway, account: &str) {
    gateway.eventually(&format!("{account} is ready"), || {
        (gateway.get(&path(account, "")).json()["ready"] == true).then_some(())
    });
}

#[test]
fn an_account_that_a_client_sets_outlives_the_gateway_and_is_removed_for_good() {
    let mut gateway = gateway();
    let created = set(&gateway, "new", &simulated(2));
    assert_eq!(
        (created.status, created.json()["name"].clone()),
        (201, json!("new")),
        "{created:?}"
    );
    is_ready(&gateway, "new");
    let file = gateway.directory.path().join("data/accounts/new.toml");
    assert!(file.exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let settings = json!({ "login": 3, "server": "S", "terminal": { "profile": "lab" } });
    assert_eq!(set(&gateway, "new", &settings).status, 200);
    is_ready(&gateway, "new");
    let account = gateway.get(&path("new", "/account")).json();
    assert_eq!((&account["login"], &account["balance"]), (&json!(3), &json!(777.0)));

    gateway.kill_and_start(&[]);
    is_ready(&gateway, "new");
    assert_eq!(gateway.get(&path("new", "/account")).json()["login"], 3);
    assert_eq!(gateway.send("DELETE", &path("new", ""), None).status, 204);
    assert_eq!(gateway.get(&path("new", "")).status, 404);
    assert_eq!(gateway.send("DELETE", &path("new", ""), None).problem(), (404, "not-found".into()));
    assert!(!file.exists());
    gateway.kill_and_start(&[]);
    assert_eq!(gateway.get(&path("new", "")).status, 404);
}

#[test]
fn settings_with_a_fault_are_refused_and_nothing_is_kept() {
    let gateway = gateway();
    let refused = (422, "settings-refused".to_owned());
    let invalid = (400, "invalid-request".to_owned());
    let python =
        json!({ "login": 2, "server": "S", "terminal": { "kind": "worker", "python": "sh" } });
    let unknown = json!({ "login": 2, "server": "S", "terminal": { "profile": "none" } });
    for (account, settings, expected, text) in [
        // The login of another account.
        ("new", simulated(1), &refused, "accounts.new.login"),
        (
            "new",
            json!({ "login": 2, "terminal": { "kind": "simulator" } }),
            &refused,
            "accounts.new.server",
        ),
        ("new", json!({}), &refused, "accounts.new.login"),
        ("new", json!({}), &refused, "accounts.new.terminal.kind"),
        ("new", json!({ "nonsense": 1 }), &invalid, "nonsense"),
        ("new", json!({ "login": "1", "queue": "1" }), &invalid, "`queue`: expected a number"),
        ("new", json!({ "queue": 0 }), &refused, "accounts.new.queue"),
        ("new", json!({ "password": { "a": 1 } }), &invalid, "field `password`: expected a text"),
        ("new", unknown, &refused, "accounts.new.terminal.profile"),
        ("new", python, &invalid, "terminal"),
        ("new", json!({ "password_file": "/etc/passwd" }), &invalid, "password_file"),
        ("Bad", simulated(2), &invalid, "lower-case"),
        ("configured", json!({ "login": null }), &invalid, "login"),
    ] {
        let reply = set(&gateway, account, &settings);
        assert_eq!(reply.problem(), *expected, "{settings} {reply:?}");
        assert!(reply.text().contains(text), "{text} is not in {}", reply.text());
    }
    // What comes last would win.
    let repeated =
        r#"{ "login": 2, "server": "S", "terminal": { "kind": "simulator" }, "login": 3 }"#;
    let reply = gateway.raw(
        format!(
            "PUT {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{repeated}",
            path("new", ""),
            repeated.len()
        )
        .as_bytes(),
    );
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(reply.contains("field `login` is given more than once"), "{reply}");
    assert_eq!(gateway.get(&path("new", "")).status, 404);
    assert!(!gateway.directory.path().join("data/accounts").exists());
}

#[test]
fn accounts_are_set_by_an_admin_that_is_not_limited_to_accounts() {
    use sha2::Digest;
    let key = |name: &str, lines: &str| {
        let digest = sha2::Sha256::digest(name);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[auth.keys.{name}]\nsha256 = '{digest}'\n{lines}\n")
    };
    let keys = [
        key("admin", "scopes = ['admin']"),
        key("limited", "scopes = ['admin']\naccounts = ['configured', 'new']"),
        key("trader", "scopes = ['trade']"),
    ];
    let gateway = Gateway::start(&format!("{CONFIGURED}{}", keys.concat()));
    let settings = simulated(2);
    let send = |key: &str, method: &str, rest: &str| {
        let body = (method == "PUT" && rest.is_empty()).then_some(&settings);
        let header = [("x-api-key", key)];
        gateway.send_with(method, &path("new", rest), body, &header).status
    };
    let routes = [("PUT", ""), ("PUT", "/pause"), ("DELETE", "/pause"), ("DELETE", "")];
    for (key, expected) in [
        ("trader", [403; 4]),
        ("limited", [403; 4]),
        ("none", [401; 4]),
        ("admin", [201, 200, 200, 204]),
    ] {
        let answers = routes.map(|(method, rest)| send(key, method, rest));
        assert_eq!(answers, expected, "{key}");
    }
    // Nobody may where there are no keys, unless the settings say so.
    let gateway = Gateway::start(CONFIGURED);
    for (method, rest) in routes {
        let body = (method == "PUT" && rest.is_empty()).then_some(&settings);
        let reply = gateway.send(method, &path("configured", rest), body);
        assert_eq!(reply.problem(), (403, "forbidden".into()), "{method} {rest}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let gateway = gateway();
    let secret = "hunter2-hunter2";
    let mut settings = simulated(2);
    settings["password"] = secret.into();
    let answers = [set(&gateway, "new", &settings), gateway.get(&path("new", ""))];
    settings["password"] = json!({ secret: secret });
    let faulty = set(&gateway, "new", &settings);
    for reply in answers.iter().chain([&faulty]) {
        assert!(!reply.text().contains(secret), "{reply:?}");
    }
    assert!(!gateway.log().contains(secret));
}

#[test]
fn an_account_from_elsewhere_is_not_removed_by_the_route_and_can_be_paused() {
    let mut gateway = gateway();
    let reply = gateway.send("DELETE", &path("configured", ""), None);
    assert_eq!(reply.problem(), (409, "account-not-stored".into()));
    assert_eq!(reply.json()["sources"], json!(["gateway.toml"]));
    // Both have it.
    assert_eq!(set(&gateway, "configured", &json!({ "queue": 2 })).status, 200);
    let reply = gateway.send("DELETE", &path("configured", ""), None);
    assert_eq!(reply.problem(), (409, "account-not-stored".into()));
    let stored = Path::new("data/accounts").join("configured.toml");
    assert_eq!(reply.json()["sources"], json!(["gateway.toml", stored]));
    std::fs::remove_file(gateway.directory.path().join(stored)).unwrap();
    assert_eq!(gateway.send("POST", "/api/v1/reload", None).status, 200);
    let paused = |gateway: &Gateway| gateway.get(&path("configured", "")).json()["paused"].clone();
    for _ in 0..2 {
        let reply = gateway.send("PUT", &path("configured", "/pause"), None);
        assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(true)), "{reply:?}");
    }
    let refused = gateway.get(&path("configured", "/positions")).problem();
    assert_eq!(refused, (503, "account-paused".into()));
    gateway.kill_and_start(&[]);
    assert_eq!(paused(&gateway), true);
    for _ in 0..2 {
        let reply = gateway.send("DELETE", &path("configured", "/pause"), None);
        assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(false)), "{reply:?}");
    }
    assert!(!gateway.directory.path().join("data/accounts/configured.toml").exists());
    gateway.kill_and_start(&[]);
    assert_eq!(paused(&gateway), false);
    let nobody = gateway.send("PUT", &path("nobody", "/pause"), None);
    assert_eq!(nobody.problem(), (404, "not-found".into()));
}

#[test]
fn a_put_without_a_pause_resumes_an_account() {
    let gateway = gateway();
    let mut settings = simulated(2);
    assert_eq!(set(&gateway, "new", &settings).status, 201);
    for (in_body, paused) in [(None, false), (Some(true), true), (Some(false), false)] {
        assert_eq!(gateway.send("PUT", &path("new", "/pause"), None).status, 200);
        if let Some(in_body) = in_body {
            settings["paused"] = in_body.into();
        }
        let reply = set(&gateway, "new", &settings);
        assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(paused)), "{reply:?}");
    }
}

#[test]
fn a_pause_applies_nothing_else_of_what_files_have_meanwhile() {
    let other = "[accounts.other]\nlogin = 5\nserver = 'S'\nterminal.kind = 'simulator'\n";
    let text = format!("{ANONYMOUS}{CONFIGURED}{other}");
    let gateway = Gateway::ready(&text);
    // Both have each other's login there, which only a reload of both may apply.
    let swapped = text.replace("login = 1\n", "login = 0\n").replace("login = 5\n", "login = 1\n");
    let swapped = swapped.replace("login = 0\n", "login = 5\n");
    std::fs::write(gateway.directory.path().join("gateway.toml"), swapped).unwrap();
    let shown = || gateway.get(&path("configured", "")).json();
    let since = shown()["sessions"][0]["since"].clone();
    for (method, paused) in [("PUT", true), ("DELETE", false), ("PUT", true)] {
        let reply = gateway.send(method, &path("configured", "/pause"), None);
        assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(paused)), "{reply:?}");
        assert_eq!((&shown()["login"], &shown()["sessions"][0]["since"]), (&json!(1), &since));
    }
    let reply = gateway.send("POST", "/api/v1/reload", None).json();
    assert_eq!(reply["applied"].as_array().unwrap().len(), 2, "{reply}");
    assert_eq!((&shown()["login"], &shown()["paused"]), (&json!(5), &json!(true)));
}

#[test]
fn a_pause_of_another_source_is_not_lifted_by_the_route() {
    let settings = format!("{ANONYMOUS}{CONFIGURED}paused = true\n");
    let gateway = Gateway::start(&settings);
    let reply = gateway.send("DELETE", &path("configured", "/pause"), None);
    assert_eq!(reply.problem(), (409, "account-not-stored".into()));
    assert_eq!(reply.json()["sources"], json!(["gateway.toml"]));
}

#[test]
fn the_built_in_account_is_paused_also_for_later_runs() {
    let mut gateway = Gateway::ready(ANONYMOUS);
    let since = |gateway: &Gateway| gateway.get(&path("demo", "")).json()["sessions"][0].clone();
    let before = since(&gateway)["since"].clone();
    let reply = gateway.send("PUT", &path("demo", "/pause"), None);
    assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(true)), "{reply:?}");
    assert_eq!(since(&gateway)["since"], before, "nothing else has changed");
    // Whatever has it stopped.
    assert_eq!(gateway.send("POST", "/api/v1/reload", None).json()["applied"], json!([]));
    gateway.kill_and_start(&[]);
    let shown = gateway.get(&path("demo", "")).json();
    assert_eq!((&shown["paused"], &shown["login"]), (&json!(true), &json!(5001)));
    let reply = gateway.send("DELETE", &path("demo", "/pause"), None);
    assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(false)), "{reply:?}");
    is_ready(&gateway, "demo");
}

#[test]
fn an_account_with_an_unknown_trade_is_removed_only_by_force_and_the_trade_is_named() {
    let mut gateway = gateway();
    let mut settings = simulated(2);
    settings["terminal"] = json!({ "profile": "loses" });
    let loses = "[terminal_profiles.loses]\nkind = 'simulator'\n\
                 faults.order_send = { kind = 'exit', when = 'before' }\n";
    let text = |more: &str| {
        format!("[trading]\nnot_found_after = '1h'\n{ANONYMOUS}{CONFIGURED}{loses}{more}")
    };
    let write = |gateway: &Gateway, text: &str| {
        std::fs::write(gateway.directory.path().join("gateway.toml"), text).unwrap();
    };
    write(&gateway, &text(""));
    gateway.kill_and_start(&[]);
    assert_eq!(set(&gateway, "new", &settings).status, 201);
    let order = json!({ "symbol": "EURUSD", "type": "BUY", "volume": 0.1 });
    gateway.eventually("a trade is lost", || {
        let reply = gateway.send("POST", &path("new", "/orders"), Some(&order));
        (reply.status == 504).then_some(())
    });
    let reply = gateway.send("DELETE", &path("new", ""), None);
    assert_eq!(reply.problem(), (409, "trades-open".into()), "{reply:?}");
    assert_eq!((gateway.get(&path("new", "")).status, &reply.json()["count"]), (200, &json!(1)));
    let trades = gateway.get(&path("new", "/trades?state=unknown")).json();
    let trade = trades[0]["trade_id"].as_str().unwrap();
    let forced = gateway.send("DELETE", &path("new", "?force=true"), None);
    assert_eq!(forced.status, 204, "{forced:?}");
    gateway.logs("nobody looks for them");
    assert!(
        gateway.log().lines().any(|line| line.contains("nobody looks") && line.contains(trade))
    );

    // It comes back by a file, and the trade is still looked for. A reload says what it leaves behind.
    let again = "[accounts.new]\nlogin = 2\nserver = 'S'\nterminal.profile = 'loses'\n";
    write(&gateway, &text(again));
    assert_eq!(gateway.send("POST", "/api/v1/reload", None).status, 200);
    let trades = gateway.get(&path("new", "/trades?state=unknown")).json();
    assert_eq!(trades[0]["trade_id"], trade, "{trades}");
    // Under another name it is looked for, too.
    write(&gateway, &text(&again.replace("accounts.new", "accounts.renamed")));
    let renamed = gateway.send("POST", "/api/v1/reload", None).json();
    assert!(!renamed.to_string().contains("unknown_trades"), "{renamed}");
    gateway.eventually("the trade has followed", || {
        let trades = gateway.get(&path("renamed", "/trades?state=unknown")).json();
        (trades[0]["trade_id"] == trade).then_some(())
    });
    write(&gateway, &text(""));
    let removed = gateway.send("POST", "/api/v1/reload", None).json();
    let change = json!({ "setting": "accounts.renamed", "change": "removed", "unknown_trades": 1 });
    assert_eq!(removed["applied"], json!([change]));
}

#[test]
fn an_account_is_not_set_beside_one_that_runs_otherwise_than_its_file_says() {
    let gateway = gateway();
    let changed = CONFIGURED.replace("login = 1", "login = 7");
    let file = gateway.directory.path().join("gateway.toml");
    std::fs::write(&file, format!("{ANONYMOUS}{changed}{PROFILE}")).unwrap();
    // The login that still runs.
    let refused = set(&gateway, "new", &simulated(1));
    assert_eq!(refused.problem(), (422, "settings-refused".into()));
    assert!(refused.detail().contains("accounts.configured: "), "{refused:?}");
    // A pause concerns no other account.
    assert_eq!(gateway.send("PUT", &path("configured", "/pause"), None).status, 200);
    assert_eq!(gateway.send("POST", "/api/v1/reload", None).status, 200);
    assert_eq!(set(&gateway, "new", &simulated(1)).status, 201);
}

#[test]
fn a_reload_keeps_to_the_stores_directory_and_does_not_take_an_emptied_file_for_its_word() {
    let gateway = gateway();
    assert_eq!(set(&gateway, "new", &simulated(2)).status, 201);
    let file = gateway.directory.path().join("gateway.toml");
    let elsewhere = ANONYMOUS.replace("anonymous", "directory = 'elsewhere'\nanonymous");
    std::fs::write(&file, format!("{elsewhere}{CONFIGURED}{PROFILE}")).unwrap();
    let reply = gateway.send("POST", "/api/v1/reload", None).json();
    let expected = json!({ "applied": [], "restart_required": ["accounts_store.directory"] });
    assert_eq!(reply, expected);

    let pipe = gateway.directory.path().join("pipe");
    for (content, expected) in [
        (Some(""), "has no settings"),
        (Some("# half\n"), "has no settings"),
        (None, "does not exist"),
    ] {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::rename(&file, &pipe).unwrap(),
        }
        let reply = gateway.send("POST", "/api/v1/reload", None);
        assert_eq!(reply.problem(), (422, "settings-refused".into()), "{content:?}");
        assert!(reply.detail().contains(expected), "{reply:?}");
    }
    #[cfg(unix)]
    {
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let reply = gateway.send("POST", "/api/v1/reload", None);
        assert!(reply.detail().contains("expected a regular file"), "{reply:?}");
        std::fs::remove_file(&file).unwrap();
    }
    is_ready(&gateway, "configured");
    // Somebody means it.
    std::fs::write(&file, "[accounts]\n[accounts_store]\nanonymous = true\n").unwrap();
    let reply = gateway.send("POST", "/api/v1/reload", None).json();
    let removed = json!([{ "setting": "accounts.configured", "change": "removed" }]);
    assert_eq!(reply["applied"], removed);
}

#[test]
fn a_doubtful_setting_is_warned_of_once() {
    let gateway = Gateway::start(&format!("{ANONYMOUS}{CONFIGURED}terminal.latency = '9s'\n"));
    let warnings = || gateway.log().matches("accounts.configured.terminal.latency").count();
    assert_eq!(warnings(), 1, "{}", gateway.log());
    for account in ["a", "b"] {
        assert_eq!(gateway.send("POST", "/api/v1/reload", None).status, 200);
        let login = u32::from(account.as_bytes()[0]);
        assert_eq!(set(&gateway, account, &simulated(login)).status, 201);
    }
    gateway.logs("account=\"b\"");
    assert_eq!(warnings(), 1, "{}", gateway.log());
}
