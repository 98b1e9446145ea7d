//! What trading needs: the account's switch, the key's scope and a journal.

use serde_json::json;

use super::{ACCOUNT, buy};
use crate::common::Gateway;

#[test]
fn trading_needs_the_switch_and_the_scope() {
    let sha = |key: &str| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(key);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let settings = format!(
        "[auth.keys.r]\nsha256 = '{}'\nscopes = ['read']\n[auth.keys.t]\nsha256 = '{}'\n\
         scopes = ['read', 'trade']\n[accounts.demo]\nlogin = 1\nserver = 'S'\n\
         terminal.kind = 'simulator'\n[accounts.off]\nlogin = 2\nserver = 'S'\ntrade = false\n\
         terminal.kind = 'simulator'",
        sha("reader"),
        sha("trader"),
    );
    let gateway = Gateway::start(&settings);
    let order = |account: &str, key: &str| {
        let path = format!("/api/v1/accounts/{account}/orders");
        gateway.send_with("POST", &path, Some(&buy(0.1)), &[("x-api-key", key)])
    };
    gateway
        .eventually("the account trades", || (order("demo", "trader").status == 201).then_some(()));
    assert_eq!(order("demo", "reader").problem(), (403, "forbidden".into()));
    assert_eq!(order("demo", "nobody").status, 401);
    assert_eq!(order("off", "trader").problem(), (403, "trading-not-allowed".into()));
}

#[test]
fn without_trading_accounts_no_journal_is_created() {
    let gateway = Gateway::ready(
        "[accounts.demo]\nlogin = 1\nserver = 'S'\ntrade = false\nterminal.kind = 'simulator'",
    );
    assert_eq!(
        gateway.trade("POST", "/orders", buy(0.1)).problem(),
        (403, "trading-not-allowed".into())
    );
    assert_eq!(gateway.read("/trades"), json!([]));
    assert_eq!(gateway.get(&format!("{ACCOUNT}/trades/x")).status, 404);
    assert!(!gateway.directory.path().join("data").exists());
}

#[test]
fn an_unusable_journal_stops_trading_and_no_reads() {
    let file = |content: &str| {
        let gateway = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(gateway.path(), content).unwrap();
        gateway
    };
    let corrupt = file(&"this is no journal ".repeat(500));
    let journals = ["/proc/journal.sqlite".to_owned(), corrupt.path().display().to_string()];
    for journal in journals {
        let gateway = Gateway::ready(&format!("[trading]\njournal = '{journal}'"));
        let reply = gateway.trade("POST", "/orders", buy(0.1));
        assert_eq!(reply.problem(), (503, "journal-unavailable".into()), "{journal}");
        assert!(reply.detail().contains(&journal), "{}", reply.detail());
        gateway.logs("trading is off, reads go on");
        assert_eq!(gateway.read("/positions"), json!([]));
        let trades = gateway.get(&format!("{ACCOUNT}/trades"));
        assert_eq!(trades.problem(), (503, "journal-unavailable".into()));
    }
}

#[test]
fn a_damaged_journal_stops_trading_and_no_reads() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal.sqlite");
    let settings = format!("[trading]\njournal = '{}'", journal.display());
    let mut gateway = Gateway::ready(&settings);
    assert_eq!(gateway.trade("POST", "/orders", buy(0.1)).status, 201);
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    // Under load the process may end before SQLite has put its log back, which would hide the damage.
    drop(rusqlite::Connection::open(&journal).unwrap().query_row(
        "PRAGMA wal_checkpoint(TRUNCATE)",
        [],
        |_| Ok(()),
    ));
    // The root of the table, behind the page with the schema.
    let mut damaged = std::fs::read(&journal).unwrap();
    damaged[4096..4196].fill(0xff);
    std::fs::write(&journal, &damaged).unwrap();

    let gateway = Gateway::ready(&settings);
    gateway.logs("trading is off, reads go on");
    let reply = gateway.trade("POST", "/orders", buy(0.1));
    assert_eq!(reply.problem(), (503, "journal-unavailable".into()));
    assert!(reply.detail().contains("it is damaged"), "{}", reply.detail());
    let trades = gateway.get(&format!("{ACCOUNT}/trades"));
    assert_eq!(trades.problem(), (503, "journal-unavailable".into()));
    assert_eq!(gateway.read("/positions"), json!([]));
}

#[test]
fn two_gateways_do_not_share_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("shared.sqlite");
    let settings = format!("[trading]\njournal = '{}'", journal.display());
    let _first = Gateway::ready(&settings);
    std::fs::write(directory.path().join("second.toml"), &settings).unwrap();
    let second = crate::common::command(directory.path())
        .args(["--config", "second.toml"])
        .env("MT5_GATEWAY__SERVER__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another gateway"), "{said}");
}
