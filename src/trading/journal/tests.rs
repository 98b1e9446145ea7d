use super::*;
use crate::actor::Depths;
use crate::mt5::{Retcode, TradeRequest};
use crate::trading::trade::{Operation, TradeResult};

fn metrics() -> Metrics {
    Metrics::new(&Depths::default(), false)
}

fn identity() -> Identity {
    Identity { login: 5001, server: "Demo-Server".to_owned(), trade_mode: 0 }
}

fn trade(key: &str) -> Trade {
    Trade {
        idempotency_key: Some(key.to_owned()),
        tag: Some("~abcdefgh".to_owned()),
        position_id: u64::MAX - 1,
        request: Some(TradeRequest { volume: 0.1, ..TradeRequest::default() }),
        identity: identity(),
        ..Trade::new(&format!("id-{key}"), "demo", Operation::Place, 1_000)
    }
}

async fn by_key(journal: &Journal, key: &str) -> Option<Trade> {
    journal.by_key(&identity(), "demo", key).await.unwrap()
}

async fn settled(journal: &Journal, trade: Trade) -> Trade {
    match journal.settle(trade).await.unwrap() {
        Settled::Taken(trade) => *trade,
        Settled::Kept(present) => panic!("{present:?}"),
    }
}

#[tokio::test]
async fn a_trade_is_read_as_it_was_written_and_its_key_outlives_its_body() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deeper/journal.sqlite");
    let journal = Journal::open(&file, &[], metrics()).unwrap();
    let mut trade = trade("one");
    journal.insert(trade.clone()).await.unwrap();
    assert_eq!(by_key(&journal, "one").await.as_ref(), Some(&trade));
    let others = Identity { server: "Other-Live".to_owned(), ..identity() };
    assert_eq!(journal.by_key(&others, "demo", "one").await.unwrap(), None);
    assert!(journal.insert(trade.clone()).await.is_err(), "a key is written once");

    trade.state = State::Executed;
    trade.result =
        Some(TradeResult { deal: 8, ..TradeResult::found(Retcode::Done, u64::MAX, 0.1, 1.5) });
    let trade = settled(&journal, trade).await;
    assert!(trade.updated_msc > 1_000);
    assert_eq!(journal.by_id("demo", "id-one").await.unwrap().as_ref(), Some(&trade));
    let owned = journal.owned("demo", vec![7, u64::MAX], "other").await.unwrap();
    assert_eq!(owned, HashMap::from([(u64::MAX, "id-one".to_owned())]));
    assert!(journal.owned("demo", vec![u64::MAX], "id-one").await.unwrap().is_empty());
    assert_eq!(journal.by_id("other", "id-one").await.unwrap(), None);
    assert_eq!(journal.executed("demo", 0).await.unwrap(), std::slice::from_ref(&trade));

    journal.forget_bodies(i64::MAX).await.unwrap();
    let kept = by_key(&journal, "one").await.unwrap();
    let result = kept.result.as_ref().unwrap();
    assert_eq!((kept.state, kept.fingerprint, kept.request), (State::Executed, [0; 32], None));
    assert_eq!((result.retcode, result.order, result.deal), (10009, u64::MAX, 8));
}

#[tokio::test]
async fn a_key_of_a_withdrawn_trade_can_be_used_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&directory.path().join("journal"), &[], metrics()).unwrap();
    journal.insert(trade("k")).await.unwrap();
    let withdrawn = Trade { state: State::NotSent, ..trade("k") };
    let withdrawn = settled(&journal, withdrawn).await;
    assert_eq!(by_key(&journal, "k").await, Some(withdrawn));
    let second = Trade { trade_id: "second".to_owned(), created_msc: 2_000, ..trade("k") };
    journal.insert(second.clone()).await.unwrap();
    assert_eq!(by_key(&journal, "k").await, Some(second));
}

#[tokio::test]
async fn a_full_disk_is_an_error_for_intents_and_keeps_results_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&directory.path().join("journal"), &[], metrics()).unwrap();
    let pages = |count: i64| {
        let pragma = format!("PRAGMA max_page_count = {count}");
        journal
            .run(move |books| books.connection.query_row(&pragma, [], |_| Ok(())).map_err(text))
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
    let executed = Trade { state: State::Executed, detail: Some(long), ..trade("sent") };
    let unknown = Trade { state: State::Unknown, ..executed.clone() };
    let unknown = settled(&journal, unknown).await;
    assert_eq!(by_key(&journal, "sent").await, Some(unknown.clone()));
    let executed = Trade { updated_msc: unknown.updated_msc, ..executed };
    let executed = settled(&journal, executed).await;
    // What follows an older state comes too late, although the newer one is not on disk.
    for late in [unknown.clone(), Trade { state: State::Refused, ..unknown }] {
        let kept = journal.settle(late).await.unwrap();
        assert_eq!(kept, Settled::Kept(Box::new(executed.clone())));
    }
    let listed = Wanted { state: Some(State::Executed), limit: 10, ..Wanted::default() };
    assert_eq!(journal.list("demo", listed).await.unwrap(), std::slice::from_ref(&executed));

    // A withdrawal without an intent is known until its client is told.
    let unsent = settled(&journal, Trade { state: State::NotSent, ..trade("unsent") }).await;
    assert_eq!(by_key(&journal, "unsent").await, Some(unsent.clone()));
    journal.note_told(unsent).await;
    assert_eq!(by_key(&journal, "unsent").await, None);

    assert_eq!(journal.flush().await, 1);
    pages(100_000).await.unwrap();
    assert_eq!(journal.flush().await, 0, "everything is on disk");
    assert_eq!(by_key(&journal, "sent").await, Some(executed));
    journal.insert(trade("later")).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_is_gone_takes_no_intent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal");
    let journal = Journal::open(&file, &[], metrics()).unwrap();
    journal.insert(trade("before")).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = journal.insert(trade("after")).await.unwrap_err();
    assert!(refused.to_string().contains("is gone"), "{refused}");
    // What was sent before is still settled and told.
    let executed = Trade { state: State::Executed, ..trade("before") };
    let executed = settled(&journal, executed).await;
    assert_eq!(by_key(&journal, "before").await, Some(executed));
}

#[tokio::test]
async fn work_that_panics_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&directory.path().join("journal"), &[], metrics()).unwrap();
    let failed = journal.run::<()>(|_| panic!("on purpose")).await.unwrap_err();
    assert!(failed.to_string().contains("its thread failed"), "{failed}");
    journal.insert(trade("one")).await.unwrap();
}

#[test]
fn what_is_no_journal_of_ours_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |name: &str| {
        let error = Journal::open(&directory.path().join(name), &[], metrics()).err().unwrap();
        error.to_string()
    };
    std::fs::write(directory.path().join("text"), "x".repeat(5_000)).unwrap();
    assert!(refusal("text").contains("not a database"), "{}", refusal("text"));

    std::fs::create_dir(directory.path().join("folder")).unwrap();
    assert!(refusal("folder").contains("unable to open"), "{}", refusal("folder"));

    let newer = directory.path().join("newer");
    drop(Journal::open(&newer, &[], metrics()).unwrap());
    let change = "PRAGMA user_version = 9";
    Connection::open(&newer).unwrap().execute_batch(change).unwrap();
    let refused = loop {
        // The thread lets go of the file a moment after the last handle is gone.
        let refused = refusal("newer");
        if !refused.contains("another gateway") {
            break refused;
        }
    };
    assert!(refused.contains("version 9"), "{refused}");

    let other = directory.path().join("other");
    let schema = "CREATE TABLE t (x); PRAGMA user_version = 3";
    Connection::open(&other).unwrap().execute_batch(schema).unwrap();
    assert!(refusal("other").contains("another program"), "{}", refusal("other"));

    let held = Journal::open(&directory.path().join("held"), &[], metrics()).unwrap();
    assert!(refusal("held").contains("another gateway"), "{}", refusal("held"));
    drop(held);
}
