//! What becomes of files of older gateways, and of files that are replaced.

use super::*;

#[test]
fn a_journal_of_version_1_keeps_its_rows_and_learns_their_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.sqlite");
    let old = Connection::open(&file).unwrap();
    old.execute_batch(TABLE).unwrap();
    old.execute_batch(
        "CREATE UNIQUE INDEX trades_by_key ON trades (account, idempotency_key)
                WHERE idempotency_key IS NOT NULL;
             INSERT INTO trades (trade_id, account, login, operation, idempotency_key, fingerprint,
                state, created_msc, updated_msc, server_time, position_id)
             VALUES ('a', 'main', 7, 'place', 'k', x'00', 'executed', 1, 1, 5, 0),
                    ('b', 'other', 8, 'place', 'k', x'00', 'unknown', 1, 1, 5, 0);",
    )
    .unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);

    let owner = Owner {
        account: AccountName::from_trusted("main"),
        login: 7,
        server: "Demo-Server".into(),
    };
    let connection = prepared(&file, &[owner]);
    let mut rows = connection
        .prepare("SELECT trade_id, server, idempotency_key, server_time FROM trades ORDER BY 1")
        .unwrap();
    let rows: Vec<(String, String, String, i64)> = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected = [("a", "Demo-Server", "k", 0), ("b", "", "k", 0)];
    let expected = expected
        .map(|(id, server, key, time)| (id.to_owned(), server.to_owned(), key.to_owned(), time));
    assert_eq!(rows, expected);
}

#[test]
fn a_long_journal_of_version_2_keeps_its_rows_and_takes_halts() {
    const ROWS: i64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.sqlite");
    let mut old = Connection::open(&file).unwrap();
    let change = old.transaction().unwrap();
    change.execute_batch(TABLE).unwrap();
    change.execute_batch(SECOND).unwrap();
    add_indexes(&change).unwrap();
    change
            .execute(
                "WITH RECURSIVE rows(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM rows WHERE n < ?1)
                 INSERT INTO trades (trade_id, account, login, server, operation, fingerprint, state,
                    created_msc, updated_msc, server_time, position_id)
                 SELECT printf('%06d', n), 'main', 7, 'S', 'place', x'00', 'executed', n, n, n, 0
                 FROM rows",
                [ROWS],
            )
            .unwrap();
    change.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    change.pragma_update(None, "user_version", 2).unwrap();
    change.commit().unwrap();
    drop(old);

    for _ in 0..2 {
        let connection = prepared(&file, &[]);
        let count = |table: &str| -> i64 {
            let query = format!("SELECT count(*) FROM {table}");
            connection.query_row(&query, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((count("trades"), count("halts")), (ROWS, 0));
        assert_eq!(check(&connection), Ok(3));
    }
}

#[test]
fn trades_follow_their_account_to_a_new_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.sqlite");
    let connection = prepared(&file, &[]);
    let row = |id: &str, account: &str, login: u64, key: &str| {
        format!(
            "INSERT INTO trades (trade_id, account, login, server, operation, idempotency_key,
                    fingerprint, state, created_msc, updated_msc, server_time, position_id)
                 VALUES ('{id}', '{account}', {login}, 'demo-server', 'place', '{key}', x'00',
                    'sending', 1, 1, 5, 0);"
        )
    };
    let rows = [
        row("a", "old", 7, "k"),
        row("b", "old", 8, "k"),
        row("c", "old", 7, "twice"),
        row("d", "new", 7, "twice"),
    ];
    connection.execute_batch(&rows.concat()).unwrap();
    drop(connection);

    let account = AccountName::from_trusted("new");
    let owner = Owner { account, login: 7, server: "Demo-Server".into() };
    let connection = prepared(&file, &[owner]);
    let mut names = connection.prepare("SELECT account FROM trades ORDER BY trade_id").unwrap();
    let names: rusqlite::Result<Vec<String>> =
        names.query_map([], |row| row.get(0)).unwrap().collect();
    assert_eq!(names.unwrap(), ["new", "old", "old", "new"]);
}

#[test]
fn a_journal_of_an_older_gateway_gets_indexes_and_statistics_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal");
    let older = prepared(&file, &[]);
    let without = "DROP INDEX trades_by_identity; DROP INDEX trades_by_decision;
            DROP INDEX trades_with_bodies; DROP TABLE sqlite_stat1";
    older.execute_batch(without).unwrap();
    drop(older);
    let changes = |connection: &Connection| -> i64 {
        connection.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap()
    };
    let connection = prepared(&file, &[]);
    let first = changes(&connection);
    assert!(plan(&connection, NEXT_NAME).contains("trades_by_identity"));
    drop(connection);
    assert_eq!(changes(&prepared(&file, &[])), first);
}

#[test]
fn renamed_accounts_are_found_by_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let connection = prepared(&directory.path().join("journal"), &[]);
    let by_identity = "trades_by_identity (login=? AND server=? AND account";
    for (statement, order) in [(NEXT_NAME, ">?)"), (RENAME, "=?)")] {
        let plan = plan(&connection, statement);
        assert!(plan.ends_with(&format!("{by_identity}{order}")), "{plan}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_is_the_file_that_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let (link, real) = (directory.path().join("link"), directory.path().join("real/journal"));
    std::fs::create_dir(directory.path().join("real")).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let opened = open(&link).unwrap();
    assert_eq!(opened.identity.check(), Ok(()));
    for name in [&link, &real] {
        assert!(matches!(open(name), Err(JournalError::InUse(_))), "{}", name.display());
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_what_was_traded() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/data/journal.sqlite");
    let _opened = open(&file).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&with_ending(&file, name)), 0o600, "{name}");
    }
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o700);
}

#[cfg(windows)]
#[test]
fn nobody_can_delete_a_journal_that_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.sqlite");
    let _opened = open(&file).unwrap();
    assert!(std::fs::remove_file(&file).is_err());
    assert!(std::fs::rename(&file, directory.path().join("other")).is_err());
}

#[cfg(unix)]
#[test]
fn a_file_that_is_deleted_or_replaced_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["journal", "journal.lock", "journal-wal"] {
        let file = directory.path().join("journal");
        let opened = open(&file).unwrap();
        assert_eq!(opened.identity.check(), Ok(()));
        let moved = directory.path().join("moved");
        std::fs::rename(directory.path().join(name), &moved).unwrap();
        assert!(opened.identity.check().unwrap_err().contains("is gone"));
        std::fs::write(directory.path().join(name), "").unwrap();
        assert!(opened.identity.check().unwrap_err().contains("another file"));
        std::fs::rename(&moved, directory.path().join(name)).unwrap();
        assert_eq!(opened.identity.check(), Ok(()));
    }
}
