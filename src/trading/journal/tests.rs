use parking_lot::Mutex;
use ractor::Actor;
use rusqlite::Connection;

use super::store::text;
use super::*;
use crate::account_name::AccountName;
use crate::mt5::{Retcode, TradeRequest};
use crate::trading::trade::{Operation, TradeResult, TradeState};

fn metrics() -> Metrics {
    Metrics::new(&Depths::default(), false)
}

fn identity() -> Identity {
    Identity { login: 5001, server: "Demo-Server".to_owned(), trade_mode: 0 }
}

fn trade(key: &str) -> Trade {
    Trade {
        idempotency_key: IdempotencyKey::parse(key),
        tag: Some("~abcdefgh".to_owned()),
        position_id: u64::MAX - 1,
        request: Some(TradeRequest { volume: 0.1, ..TradeRequest::default() }),
        identity: identity(),
        ..Trade::new(
            TradeId::from_trusted(&format!("id-{key}")),
            AccountName::from_trusted("demo"),
            Operation::Place,
            1_000,
        )
    }
}

async fn by_key(journal: &Journal, key: &str) -> Option<Trade> {
    journal
        .by_key(&identity(), &AccountName::from_trusted("demo"), &IdempotencyKey::from_trusted(key))
        .await
        .unwrap()
}

const ACCOUNT: AccountId = AccountId(0);

const RETENTION: Duration = Duration::from_secs(1_000_000_000);

fn closed(file: &Path) -> Result<Journal, JournalError> {
    Journal::open(file, &[], metrics(), &Depths::default())
}

async fn run_actor(journal: &Journal) {
    Actor::spawn(None, JournalActor, journal.actor_args(RETENTION)).await.unwrap();
}

/// A journal with its actor.
async fn open(file: &Path) -> Journal {
    let journal = closed(file).unwrap();
    run_actor(&journal).await;
    journal
}

async fn settled(journal: &Journal, trade: Trade) -> Trade {
    match journal.settle(ACCOUNT, trade, "test").await.unwrap() {
        Settlement::Applied(trade) => *trade,
        Settlement::Ignored(present) => panic!("{present:?}"),
    }
}

#[tokio::test]
async fn a_trade_is_read_as_it_was_written_and_its_key_outlives_its_body() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deeper/journal.sqlite");
    let journal = open(&file).await;
    let mut trade = trade("one");
    journal.insert(trade.clone()).await.unwrap();
    assert_eq!(by_key(&journal, "one").await.as_ref(), Some(&trade));
    let others = Identity { server: "Other-Live".to_owned(), ..identity() };
    assert_eq!(
        journal
            .by_key(
                &others,
                &AccountName::from_trusted("demo"),
                &IdempotencyKey::from_trusted("one")
            )
            .await
            .unwrap(),
        None
    );
    assert!(journal.insert(trade.clone()).await.is_err(), "a key is written once");

    trade.state = TradeState::Executed;
    trade.result =
        Some(TradeResult { deal: 8, ..TradeResult::found(Retcode::Done, u64::MAX, 0.1, 1.5) });
    let trade = settled(&journal, trade).await;
    assert!(trade.updated_msc > 1_000);
    assert_eq!(
        journal
            .by_id(&AccountName::from_trusted("demo"), &TradeId::from_trusted("id-one"))
            .await
            .unwrap()
            .as_ref(),
        Some(&trade)
    );
    let owned = journal
        .owned(
            &AccountName::from_trusted("demo"),
            vec![7, u64::MAX],
            &TradeId::from_trusted("other"),
        )
        .await
        .unwrap();
    assert_eq!(owned, HashMap::from([(u64::MAX, TradeId::from_trusted("id-one"))]));
    assert!(
        journal
            .owned(
                &AccountName::from_trusted("demo"),
                vec![u64::MAX],
                &TradeId::from_trusted("id-one")
            )
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        journal
            .by_id(&AccountName::from_trusted("other"), &TradeId::from_trusted("id-one"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        journal.executed(&AccountName::from_trusted("demo"), 0).await.unwrap(),
        std::slice::from_ref(&trade)
    );

    journal.run(|store| store.forget_bodies(i64::MAX)).await.unwrap();
    let kept = by_key(&journal, "one").await.unwrap();
    let result = kept.result.as_ref().unwrap();
    assert_eq!((kept.state, kept.fingerprint, kept.request), (TradeState::Executed, [0; 32], None));
    assert_eq!((result.retcode, result.order, result.deal), (10009, u64::MAX, 8));
    let shown = serde_json::to_value(result).unwrap();
    assert_eq!(
        (&shown["volume"], &shown["price"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!(result.deals, [8]);
}

#[tokio::test]
async fn a_key_of_a_withdrawn_trade_can_be_used_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    journal.insert(trade("k")).await.unwrap();
    let withdrawn = Trade { state: TradeState::NotSent, ..trade("k") };
    let withdrawn = settled(&journal, withdrawn).await;
    assert_eq!(by_key(&journal, "k").await, Some(withdrawn));
    let second =
        Trade { trade_id: TradeId::from_trusted("second"), created_msc: 2_000, ..trade("k") };
    journal.insert(second.clone()).await.unwrap();
    assert_eq!(by_key(&journal, "k").await, Some(second));
}

#[tokio::test]
async fn a_full_disk_is_an_error_for_intents_and_keeps_results_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let pages = |count: i64| {
        let pragma = format!("PRAGMA max_page_count = {count}");
        journal.run(move |store| store.connection.query_row(&pragma, [], |_| Ok(())).map_err(text))
    };
    journal.insert(trade("sent")).await.unwrap();
    pages(1).await.unwrap();
    let mut full = None;
    for index in 0..1_000 {
        full = journal.insert(trade(&index.to_string())).await.err();
        if full.is_some() {
            break;
        }
    }
    assert!(full.unwrap().to_string().contains("full"));

    // The result needs room that there is not: everybody sees it all the same.
    let long = "x".repeat(20_000);
    let executed = Trade { state: TradeState::Executed, detail: Some(long), ..trade("sent") };
    let unknown = Trade { state: TradeState::Unknown, ..executed.clone() };
    let unknown = settled(&journal, unknown).await;
    assert_eq!(by_key(&journal, "sent").await, Some(unknown.clone()));
    let executed = Trade { updated_msc: unknown.updated_msc, ..executed };
    let executed = settled(&journal, executed).await;
    // What follows an older state comes too late, although the newer one is not on disk.
    for late in [unknown.clone(), Trade { state: TradeState::Refused, ..unknown }] {
        let kept = journal.settle(ACCOUNT, late, "test").await.unwrap();
        assert_eq!(kept, Settlement::Ignored(Box::new(executed.clone())));
    }
    let listed =
        TradeFilter { state: Some(TradeState::Executed), limit: 10, ..TradeFilter::default() };
    assert_eq!(
        journal.list(&AccountName::from_trusted("demo"), listed).await.unwrap(),
        std::slice::from_ref(&executed)
    );

    // A withdrawal without an intent is known until its client is told.
    let unsent = settled(&journal, Trade { state: TradeState::NotSent, ..trade("unsent") }).await;
    assert_eq!(by_key(&journal, "unsent").await, Some(unsent.clone()));
    journal.note_told(unsent.trade_id);
    assert_eq!(by_key(&journal, "unsent").await, None);

    assert_eq!(journal.flush().await, 1);
    pages(100_000).await.unwrap();
    assert_eq!(journal.flush().await, 0, "everything is on disk");
    assert_eq!(by_key(&journal, "sent").await, Some(executed));
    journal.insert(trade("later")).await.unwrap();
}

// Windows lets nobody delete a file that is open.
#[cfg(unix)]
#[tokio::test]
async fn a_journal_that_is_gone_takes_no_intent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal");
    let journal = open(&file).await;
    journal.insert(trade("before")).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = journal.insert(trade("after")).await.unwrap_err();
    assert!(refused.to_string().contains("is gone"), "{refused}");
    // What was sent before is still settled and told.
    let executed = Trade { state: TradeState::Executed, ..trade("before") };
    let executed = settled(&journal, executed).await;
    assert_eq!(by_key(&journal, "before").await, Some(executed));
}

#[tokio::test]
async fn work_that_panics_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let failed = journal.run::<()>(|_| panic!("on purpose")).await.unwrap_err();
    assert!(failed.to_string().contains("its thread failed"), "{failed}");
    journal.insert(trade("one")).await.unwrap();
}

#[test]
fn what_is_no_journal_of_ours_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |name: &str| {
        let error = closed(&directory.path().join(name)).err().unwrap();
        error.to_string()
    };
    std::fs::write(directory.path().join("text"), "x".repeat(5_000)).unwrap();
    assert!(refusal("text").contains("not a database"), "{}", refusal("text"));

    std::fs::create_dir(directory.path().join("folder")).unwrap();
    assert!(refusal("folder").contains("unable to open"), "{}", refusal("folder"));

    let newer = directory.path().join("newer");
    drop(closed(&newer).unwrap());
    let change = "PRAGMA user_version = 9";
    Connection::open(&newer).unwrap().execute_batch(change).unwrap();
    let refused = refusal("newer");
    assert!(refused.contains("version 9"), "{refused}");

    let other = directory.path().join("other");
    let schema = "CREATE TABLE t (x); PRAGMA user_version = 3";
    Connection::open(&other).unwrap().execute_batch(schema).unwrap();
    assert!(refusal("other").contains("another program"), "{}", refusal("other"));

    let held = closed(&directory.path().join("held")).unwrap();
    assert!(refusal("held").contains("another gateway"), "{}", refusal("held"));
    drop(held);
}

#[tokio::test]
async fn a_damaged_file_answers_everything_with_the_reason_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal");
    drop(schema::prepared(&file, &[]));
    // The root of the table, behind the page with the schema.
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[4096..4196].fill(0xff);
    std::fs::write(&file, &damaged).unwrap();

    let journal = open(&file).await;
    let damage = |error: JournalError| {
        let error = error.to_string();
        assert!(error.contains("journal cannot be used: it is damaged"), "{error}");
    };
    damage(journal.insert(trade("one")).await.unwrap_err());
    let account = AccountName::from_trusted("demo");
    damage(journal.unfinished(&account, 0).await.unwrap_err());
    let report = Trade { state: TradeState::Refused, ..trade("one") };
    damage(journal.settle(ACCOUNT, report, "test").await.unwrap_err());
    assert_eq!(journal.waiting(), 0);
    assert!(journal.refusal().is_some());
    drop(journal);
    assert_eq!(std::fs::read(&file).unwrap(), damaged);
}

#[tokio::test]
async fn what_is_reported_while_there_is_no_actor_is_settled_by_the_next_one_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    journal.insert(trade("one")).await.unwrap();
    journal.fail_actor();
    while journal
        .by_id(&AccountName::from_trusted("demo"), &TradeId::from_trusted("id-one"))
        .await
        .is_ok()
    {}
    let restarting = journal.insert(trade("two")).await.unwrap_err();
    assert!(restarting.to_string().contains("is being restarted"), "{restarting}");

    let unknown = Trade { state: TradeState::Unknown, ..trade("one") };
    let executed = Trade { state: TradeState::Executed, ..trade("one") };
    let ((first, second), ()) = tokio::join!(
        async {
            tokio::join!(
                journal.settle(ACCOUNT, unknown, "test"),
                journal.settle(ACCOUNT, executed, "test")
            )
        },
        run_actor(&journal),
    );
    let Ok(Settlement::Applied(first)) = first else { panic!("{first:?}") };
    // It follows the state before, so that it comes too late.
    assert_eq!(second, Ok(Settlement::Ignored(first.clone())));
    assert_eq!(by_key(&journal, "one").await, Some(*first));
    assert_eq!(by_key(&journal, "two").await, None);
}

#[tokio::test]
async fn a_thread_that_ends_fails_its_actor_and_the_outbox_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let waits = trade("waits");
    let put = waits.clone();
    let put = journal.run(move |store| {
        store.outbox.put(put);
        Ok(())
    });
    put.await.unwrap();
    journal.fail_thread();
    while journal
        .by_id(&AccountName::from_trusted("demo"), &TradeId::from_trusted("id-waits"))
        .await
        .is_ok()
    {}
    // The actor has failed, too; a supervisor starts another one.
    let gone = async {
        while journal.address.send(Msg::Flushed).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.unwrap();
    run_actor(&journal).await;
    assert_eq!(by_key(&journal, "waits").await, Some(waits));
    assert_eq!(journal.flush().await, 0);
}

#[tokio::test]
async fn work_that_waits_behind_a_slow_disk_is_done_once_and_in_order_although_the_actor_fails() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let disk = journal.stall().await;
    let (first, second) = (journal.insert(trade("one")), journal.insert(trade("two")));
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    journal.fail_actor();
    while journal.address.send(Msg::Flushed).is_ok() {
        tokio::task::yield_now().await;
    }
    // The next thread waits until the one before has done its work.
    run_actor(&journal).await;
    drop(disk);
    assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    let settled = journal
        .settle(ACCOUNT, Trade { state: TradeState::Executed, ..trade("one") }, "test")
        .await;
    assert!(matches!(settled, Ok(Settlement::Applied(_))));
}

#[tokio::test]
async fn an_intent_that_its_caller_gave_up_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let disk = journal.stall().await;
    {
        let intent = std::pin::pin!(journal.insert(trade("one")));
        assert!(futures_util::poll!(intent).is_pending());
    }
    drop(disk);
    assert_eq!(by_key(&journal, "one").await, None);
}

#[tokio::test]
async fn a_trade_that_is_known_is_not_called_unsent() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    journal.insert(trade("one")).await.unwrap();
    for (key, applied) in [("one", false), ("two", true)] {
        let unsent = Trade { state: TradeState::NotSent, ..trade(key) };
        let settled = journal.report(ACCOUNT, unsent, "test".into(), true).await.unwrap();
        assert_eq!(matches!(settled, Settlement::Applied(_)), applied, "{key}");
    }
}

#[tokio::test]
async fn a_flush_that_the_disk_does_not_let_end_says_how_many_states_are_left() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    journal.insert(trade("reported")).await.unwrap();
    let put = trade("kept");
    let put = journal.run(move |store| {
        store.outbox.put(put);
        Ok(())
    });
    put.await.unwrap();
    let disk = journal.stall().await;
    let reported = Trade { state: TradeState::Executed, ..trade("reported") };
    {
        let reported = std::pin::pin!(journal.settle(ACCOUNT, reported, "test"));
        assert!(futures_util::poll!(reported).is_pending());
    }
    // Nothing else runs, so the time passes at once.
    tokio::time::pause();
    assert_eq!(journal.flush().await, 2);
    tokio::time::resume();
    drop(disk);
    assert_eq!(journal.flush().await, 0);
}

#[tokio::test]
async fn a_flush_tries_again_until_a_full_disk_has_room() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let pages = |count: i64| {
        let pragma = format!("PRAGMA max_page_count = {count}");
        journal.run(move |store| store.connection.query_row(&pragma, [], |_| Ok(())).map_err(text))
    };
    pages(1).await.unwrap();
    let large = Trade { detail: Some("x".repeat(100_000)), ..trade("kept") };
    let put = journal.run(move |store| {
        store.outbox.put(large);
        Ok(())
    });
    put.await.unwrap();
    let mut flushing = std::pin::pin!(journal.flush());
    assert!(futures_util::poll!(&mut flushing).is_pending());
    // Behind the first attempt, which has found no room.
    pages(1 << 20).await.unwrap();
    assert_eq!(flushing.await, 0);
    assert!(by_key(&journal, "kept").await.is_some());
}

#[tokio::test]
async fn nothing_is_settled_while_its_trade_cannot_be_read_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let run = |sql: &'static str| {
        journal.run(move |store| store.connection.execute_batch(sql).map_err(text))
    };
    journal.insert(trade("sent")).await.unwrap();
    journal.insert(trade("known")).await.unwrap();
    let known = settled(&journal, Trade { state: TradeState::Executed, ..trade("known") }).await;
    run("ALTER TABLE trades RENAME TO hidden").await.unwrap();

    let state = |key: &str, state| Trade { state, ..trade(key) };
    for key in ["new", "sent"] {
        journal.settle_unless_known(ACCOUNT, state(key, TradeState::NotSent), "test");
    }
    let mut executed =
        std::pin::pin!(journal.settle(ACCOUNT, state("sent", TradeState::Executed), "test"));
    let mut late =
        std::pin::pin!(journal.settle(ACCOUNT, state("known", TradeState::Unknown), "test"));
    assert!(futures_util::poll!(&mut executed).is_pending());
    assert!(futures_util::poll!(&mut late).is_pending());
    assert!(
        journal
            .by_id(&AccountName::from_trusted("demo"), &TradeId::from_trusted("id-sent"))
            .await
            .is_err()
    );
    assert_eq!(journal.flush().await, 4);

    run("ALTER TABLE hidden RENAME TO trades").await.unwrap();
    assert_eq!(journal.flush().await, 0);
    assert_eq!(by_key(&journal, "new").await.unwrap().state, TradeState::NotSent);
    assert_eq!(by_key(&journal, "sent").await.unwrap().state, TradeState::Executed);
    assert!(matches!(executed.await, Ok(Settlement::Applied(_))));
    assert_eq!(late.await, Ok(Settlement::Ignored(Box::new(known))));
}

/// A report whose answer the test looks at.
fn reported(journal: &Journal, key: &str, state: TradeState) -> oneshot::Receiver<Settlement> {
    journal.report(ACCOUNT, Trade { state, ..trade(key) }, "test".into(), false)
}

/// A journal without an actor, whose thread the test is.
fn without_thread(directory: &tempfile::TempDir) -> Journal {
    closed(&directory.path().join("journal")).unwrap()
}

/// The errors that are logged meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let written = Arc::<Mutex<Vec<u8>>>::default();
    let log = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(move || Log(log.clone()))
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let written = written.lock();
    String::from_utf8_lossy(&written).lines().map(str::to_owned).collect()
}

#[test]
fn a_report_that_waits_is_tried_by_a_flush_and_hidden_by_no_read() {
    let directory = tempfile::tempdir().unwrap();
    let journal = without_thread(&directory);
    let store = &mut *journal.retained.store.lock();
    store.insert(&trade("sent")).unwrap();
    store.insert(&trade("other")).unwrap();
    store.connection.execute_batch("ALTER TABLE trades RENAME TO hidden").unwrap();
    let _executed = reported(&journal, "sent", TradeState::Executed);
    let _unsent = reported(&journal, "new", TradeState::NotSent);
    journal.retained.settle_reports(store);
    store.connection.execute_batch("ALTER TABLE hidden RENAME TO trades").unwrap();

    // The file can be read again, and what was reported is not settled.
    let (account, other_account) =
        (AccountName::from_trusted("demo"), AccountName::from_trusted("other"));
    let by_id = |store: &Store, key| store.by_id(&account, &trade(key).trade_id);
    let by_key = |store: &Store, key| {
        store.by_key(&identity(), &account, &IdempotencyKey::from_trusted(key))
    };
    let list = |store: &Store, state| {
        store.list(&account, &TradeFilter { state, limit: 10, ..TradeFilter::default() })
    };
    journal.retained.settle_reports(store);
    assert_eq!(journal.waiting(), 2);
    for key in ["sent", "new"] {
        assert!(by_id(store, key).unwrap_err().contains(&format!("trade id-{key} is not settled")));
        assert!(by_key(store, key).is_err(), "{key}");
    }
    assert!(store.unfinished(&account, 0).is_err());
    assert!(store.executed(&account, 0).is_err());
    for state in [None, Some(TradeState::Sending), Some(TradeState::Executed)] {
        assert!(list(store, state).is_err(), "{state:?}");
    }
    // What they cannot change is read.
    assert_eq!(by_id(store, "other"), Ok(Some(trade("other"))));
    assert_eq!(by_key(store, "other"), Ok(Some(trade("other"))));
    assert_eq!(by_key(store, "never used"), Ok(None));
    assert_eq!(list(store, Some(TradeState::Refused)), Ok(vec![]));
    assert_eq!(store.unfinished(&other_account, 0), Ok(vec![]));

    store.flush();
    assert_eq!(journal.waiting(), 0);
    for (key, state) in [("sent", TradeState::Executed), ("new", TradeState::NotSent)] {
        assert_eq!(by_id(store, key).unwrap().unwrap().state, state);
        assert_eq!(by_key(store, key).unwrap().unwrap().state, state);
    }
    assert_eq!(list(store, None).unwrap().len(), 3);
}

#[test]
fn every_report_that_waits_is_logged_once() {
    let directory = tempfile::tempdir().unwrap();
    let journal = without_thread(&directory);
    let store = &mut *journal.retained.store.lock();
    store.insert(&trade("one")).unwrap();
    store.insert(&trade("two")).unwrap();
    store.connection.execute_batch("ALTER TABLE trades RENAME TO hidden").unwrap();
    let _reports = [("one", TradeState::Unknown), ("two", TradeState::Unknown)]
        .map(|(key, state)| reported(&journal, key, state));
    let lines = logged(|| {
        journal.retained.settle_reports(store);
        store.flush();
        let _later = reported(&journal, "one", TradeState::Executed);
        journal.retained.settle_reports(store);
        store.flush();
    });
    let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(said("the trade cannot be read"), 2, "{lines:?}");
    assert_eq!(said("waits behind an earlier one"), 1, "{lines:?}");
}

#[test]
fn a_report_on_which_settling_panics_is_tried_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let journal = without_thread(&directory);
    let store = &mut *journal.retained.store.lock();
    store.insert(&trade("one")).unwrap();
    let mut unknown = reported(&journal, "one", TradeState::Unknown);
    store.panics = 1;
    journal.retained.settle_reports(store);
    assert_eq!(journal.waiting(), 1);
    store.flush();
    assert!(matches!(unknown.try_recv(), Ok(Settlement::Applied(_))));
    assert_eq!(journal.waiting(), 0);

    store.insert(&trade("two")).unwrap();
    let mut lost = reported(&journal, "two", TradeState::Unknown);
    let mut next = reported(&journal, "two", TradeState::Executed);
    store.panics = 2;
    let lines = logged(|| {
        journal.retained.settle_reports(store);
        store.flush();
    });
    assert_eq!(lost.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(matches!(next.try_recv(), Ok(Settlement::Applied(_))));
    assert_eq!(journal.waiting(), 0);
    assert!(lines.last().unwrap().contains("is lost"), "{lines:?}");
}

#[tokio::test]
async fn a_thread_works_after_all_those_that_were_started_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal")).await;
    let gone = || async {
        journal.fail_actor();
        while journal.address.send(Msg::Flushed).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    // The first thread has the disk, the second is slow to come, the third is not.
    let disk = journal.stall().await;
    gone().await;
    let (overtaken, wait) = std::sync::mpsc::channel::<()>();
    let longest = Duration::from_millis(300);
    *journal.retained.before_lock.lock() = Some(Box::new(move || {
        let _ = wait.recv_timeout(longest);
    }));
    run_actor(&journal).await;
    let mut second = std::pin::pin!(journal.insert(trade("one")));
    assert!(futures_util::poll!(&mut second).is_pending());
    gone().await;
    run_actor(&journal).await;
    drop(disk);
    let third = journal.run(move |store| {
        let found =
            store.by_id(&AccountName::from_trusted("demo"), &TradeId::from_trusted("id-one"));
        let _ = overtaken.send(());
        found
    });
    let (second, third) = tokio::join!(second, third);
    assert_eq!(second, Ok(()));
    assert_eq!(third, Ok(Some(trade("one"))));
}
