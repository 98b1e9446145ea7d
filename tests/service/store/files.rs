//! Files of the accounts store that are missing, faulty, or left half written.

use serde_json::json;

use super::{gateway, is_ready, path, set, simulated};

#[test]
fn a_store_that_is_missing_removes_no_account() {
    let gateway = gateway();
    assert_eq!(set(&gateway, "new", &simulated(2)).status, 201);
    let store = gateway.directory.path().join("data/accounts");
    let elsewhere = store.with_file_name("elsewhere");
    std::fs::rename(&store, &elsewhere).unwrap();
    let reload = || gateway.send("POST", "/api/v1/reload", None);
    for reply in [reload(), set(&gateway, "more", &simulated(3))] {
        assert_eq!(reply.problem(), (422, "settings-refused".into()));
        assert!(reply.text().contains("was there and is missing"), "{}", reply.text());
    }
    assert_eq!(gateway.get(&path("new", "")).status, 200);
    std::fs::rename(&elsewhere, &store).unwrap();
    assert_eq!(reload().json()["applied"], json!([]));
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    assert_eq!(reload().status, 200);
    assert_eq!(gateway.get(&path("new", "")).status, 404);
}

#[test]
fn an_account_that_cannot_be_removed_goes_on() {
    let gateway = gateway();
    assert_eq!(set(&gateway, "new", &simulated(2)).status, 201);
    is_ready(&gateway, "new");
    // What a killed gateway has left there cannot be taken away.
    std::fs::create_dir(gateway.directory.path().join("data/accounts/new.new")).unwrap();
    let reply = gateway.send("DELETE", &path("new", ""), None);
    assert_eq!(reply.problem(), (503, "settings-unavailable".into()));
    assert_eq!(gateway.get(&path("new", "")).json()["paused"], false);
    assert_eq!(gateway.get(&path("new", "/positions")).status, 200);
}

#[test]
fn what_a_gateway_left_that_was_killed_while_it_wrote_does_no_harm() {
    let mut gateway = gateway();
    assert_eq!(set(&gateway, "new", &simulated(2)).status, 201);
    let file = gateway.directory.path().join("data/accounts/new.toml");
    // Before the new file took its place.
    std::fs::write(file.with_extension("new"), "login = 3\nserv").unwrap();
    std::fs::write(file.with_file_name("other.new"), "login = 4\n").unwrap();
    gateway.kill_and_start(&[]);
    assert_eq!(gateway.get(&path("new", "")).json()["login"], 2);
    assert_eq!(gateway.get(&path("other", "")).status, 404);
    assert_eq!(set(&gateway, "new", &simulated(3)).status, 200);
    assert!(!file.with_extension("new").exists());
    // After it did, and before it was applied.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace('3', "5")).unwrap();
    gateway.kill_and_start(&[]);
    assert_eq!(gateway.get(&path("new", "")).json()["login"], 5);
}

#[test]
fn a_faulty_file_of_the_store_stops_no_pause_of_another_account_and_is_mended_by_routes() {
    let mut gateway = gateway();
    for (account, login) in [("broken", 2), ("good", 3)] {
        assert_eq!(set(&gateway, account, &simulated(login)).status, 201);
        is_ready(&gateway, account);
    }
    let file =
        |account: &str| gateway.directory.path().join(format!("data/accounts/{account}.toml"));
    let pauses = |account: &str| {
        for (method, paused) in [("PUT", true), ("DELETE", false)] {
            let reply = gateway.send(method, &path(account, "/pause"), None);
            assert_eq!((reply.status, &reply.json()["paused"]), (200, &json!(paused)), "{reply:?}");
        }
    };
    let nonsense: [&[u8]; 4] = [
        b"nonsense",
        b"\xff",
        b"login = 2\nqueue = 0\n",
        // The login of the account that is paused.
        b"login = 3\nserver = 'S'\nterminal.kind = 'simulator'\n",
    ];
    for text in nonsense {
        std::fs::write(file("broken"), text).unwrap();
        pauses("good");
        pauses("configured");
        assert_eq!(std::fs::read(file("broken")).unwrap(), text, "a pause changed it");
        for account in ["good", "new"] {
            assert_eq!(set(&gateway, account, &simulated(3)).problem().0, 422, "{account}");
        }
        if !text.starts_with(b"login = 3") {
            // Its own pause would be kept in it.
            assert_ne!(gateway.send("PUT", &path("broken", "/pause"), None).status, 200);
        }
        assert_eq!(gateway.get(&path("broken", "")).json()["login"], 2);
        assert_eq!(set(&gateway, "broken", &simulated(2)).status, 200);
    }
    // Several at once, of which one was never in force.
    for account in ["broken", "good", "never"] {
        std::fs::write(file(account), "nonsense").unwrap();
    }
    for account in ["broken", "never"] {
        let removed = gateway.send("DELETE", &path(account, ""), None);
        assert_eq!((removed.status, file(account).exists()), (204, false), "{removed:?}");
        assert_eq!(gateway.get(&path(account, "")).status, 404);
        let again = gateway.send("DELETE", &path(account, ""), None);
        assert_eq!(again.problem(), (404, "not-found".into()));
    }
    assert_eq!(set(&gateway, "good", &simulated(3)).status, 200);
    assert_eq!(gateway.send("POST", "/api/v1/reload", None).json()["applied"], json!([]));
    gateway.kill_and_start(&[]);
    is_ready(&gateway, "good");
}

#[test]
fn a_file_of_the_store_that_was_edited_into_nonsense_changes_nothing() {
    let gateway = gateway();
    assert_eq!(set(&gateway, "new", &simulated(2)).status, 201);
    let file = gateway.directory.path().join("data/accounts/new.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}queue = 0\nnonsense = 1\n")).unwrap();
    std::fs::write(file.with_file_name("Not A Name.toml"), "").unwrap();
    let reply = gateway.send("POST", "/api/v1/reload", None);
    assert_eq!(reply.problem(), (422, "settings-refused".into()));
    assert!(reply.text().contains("Not A Name.toml"), "{}", reply.text());
    std::fs::remove_file(file.with_file_name("Not A Name.toml")).unwrap();
    let reply = gateway.send("POST", "/api/v1/reload", None);
    for fault in ["accounts.new.queue", "accounts.new.nonsense", "new.toml)"] {
        assert!(reply.text().contains(fault), "{fault} is not in {}", reply.text());
    }
    is_ready(&gateway, "new");
}
