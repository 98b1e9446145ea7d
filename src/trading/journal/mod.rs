//! The journal: what was decided about each trade, in SQLite, on disk before anything is sent.
//!
//! One thread owns the file and the [`outbox`]; everybody else sends it work, in order. An intent is
//! on disk or an error. What became of a trade that was sent is accepted in any case: where the disk
//! does not take it, it waits in the outbox, and whoever reads sees it there. The [`Keeper`] actor
//! empties the outbox and removes what is past its retention.

mod keeper;
mod outbox;
mod rows;
mod schema;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;
use tracing::error;

use self::outbox::Outbox;
use self::schema::{FileIdentity, Opened};
use super::now_msc;
use super::trade::{State, Trade};
use crate::metrics::{Event, Metrics};
use crate::mt5::Identity;

pub use self::keeper::{Keeper, KeeperArgs};
pub use self::schema::Owner;

/// How long anybody waits for the journal's thread.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why the journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another gateway uses it.
    #[error("the journal {} is used by another gateway; give each its own `trading.journal`", .0.display())]
    InUse(PathBuf),
    /// It cannot be opened, read or written.
    #[error("the journal {} cannot be used: {detail}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// What the thread owns.
struct Books {
    connection: Connection,
    identity: FileIdentity,
    outbox: Outbox,
}

type Work = Box<dyn FnOnce(&mut Books) + Send>;

/// The way to the journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    file: PathBuf,
    work: mpsc::Sender<Work>,
    metrics: Metrics,
}

/// What one account's unknown trades come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    pub count: i64,
    /// Unix milliseconds.
    pub oldest_msc: Option<i64>,
}

/// What came of telling the journal about a trade.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// It is the trade's state now, with its time of change.
    Taken(Box<Trade>),
    /// The trade has changed meanwhile, or is in a state that does not change to this one any more.
    Kept(Box<Trade>),
}

impl Journal {
    /// Opens the journal and keeps every other gateway out of it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(file: &Path, owners: &[Owner], metrics: Metrics) -> Result<Journal, JournalError> {
        let unusable = |detail: String| JournalError::Unusable { file: file.to_owned(), detail };
        let Opened { connection, identity } = schema::open(file, owners)?;
        let mut books = Books { connection, identity, outbox: Outbox::default() };
        let (work, queue) = mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                while let Ok(work) = queue.recv() {
                    // Whoever waits for work that panics learns it by the reply that is dropped.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut books)));
                }
            })
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Journal { file: file.to_owned(), work, metrics })
    }

    fn unusable(&self, detail: impl Into<String>) -> JournalError {
        JournalError::Unusable { file: self.file.clone(), detail: detail.into() }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, String> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |books| {
            let _ = reply.send(work(books));
        });
        self.answer(work, answer).await
    }

    /// Like [`run`](Self::run), for work that is not to be done once nobody waits for it any more.
    async fn run_for_caller<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, String> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |books| {
            if !reply.is_closed() {
                let _ = reply.send(work(books));
            }
        });
        self.answer(work, answer).await
    }

    async fn answer<T>(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<T, String>>,
    ) -> Result<T, JournalError> {
        self.work.send(work).map_err(|_| self.unusable("its thread has ended"))?;
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok(result)) => result.map_err(|detail| self.unusable(detail)),
            Ok(Err(_)) => Err(self.unusable("its thread failed")),
            Err(_) => Err(self.unusable(format!("it did not answer within {TIMEOUT:?}"))),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, String> + Send + 'static,
    ) -> Result<T, JournalError> {
        let begun = Instant::now();
        let written = self.run_for_caller(work).await;
        self.metrics.record(Event::JournalWritten(begun.elapsed()));
        if let Err(error) = &written {
            error!(%error, "journal cannot be written");
        }
        written
    }

    /// Writes a trade's intent; it is on disk when this returns.
    ///
    /// Dropping the future before that takes the intent back, unless it is just being written: settle
    /// the trade then.
    ///
    /// # Errors
    /// If it is not on disk, or the file is not the one that was opened.
    pub async fn insert(&self, trade: Trade) -> Result<(), JournalError> {
        self.write(move |books| {
            books.identity.check()?;
            rows::insert(&books.connection, &trade).map_err(text)
        })
        .await
    }

    /// Tells what is known about a trade now, also of one that has no intent on disk. `trade` carries
    /// the time of change of the state that it follows; one that follows an older state than the
    /// present one, or a state that does not change any more, changes nothing. What the disk does not
    /// take is kept.
    ///
    /// # Errors
    /// If the journal's thread does not answer. It settles the trade all the same, once it can.
    pub async fn settle(&self, trade: Trade) -> Result<Settled, JournalError> {
        let begun = Instant::now();
        let settled = self
            .run(move |books| {
                if let Some(present) = books.state_of(&trade.trade_id) {
                    let same = present.state == trade.state;
                    let newer = present.updated_msc != trade.updated_msc;
                    if newer || (!same && !present.state.may_become(trade.state)) {
                        return Ok(Settled::Kept(Box::new(present)));
                    }
                }
                let updated_msc = now_msc().max(trade.updated_msc + 1);
                let trade = Trade { updated_msc, ..trade };
                books.put_or_keep(trade.clone());
                Ok(Settled::Taken(Box::new(trade)))
            })
            .await;
        self.metrics.record(Event::JournalWritten(begun.elapsed()));
        settled
    }

    /// Notes that a client was told that its trade was not sent, which frees its key.
    pub async fn note_told(&self, trade: Trade) {
        let _ = self
            .run(move |books| {
                let Some(present) = books.state_of(&trade.trade_id) else {
                    return Ok(());
                };
                let on_disk = rows::by_id(&books.connection, &trade.trade_id);
                if present.state != State::NotSent {
                    return Ok(());
                }
                if matches!(on_disk, Ok(None)) {
                    // It says nothing any more that would be worth the room.
                    books.outbox.remove(&trade.trade_id);
                } else {
                    books.put_or_keep(Trade { told: true, ..present });
                }
                Ok(())
            })
            .await;
    }

    /// Which of these orders belong to trades other than one.
    pub async fn owned(
        &self,
        account: &str,
        orders: Vec<u64>,
        except: &str,
    ) -> Result<HashMap<u64, String>, JournalError> {
        let (account, except) = (account.to_owned(), except.to_owned());
        self.run(move |books| {
            let mut owned = HashMap::new();
            for order in orders {
                let condition = "account = ?1 AND trade_id <> ?3
                    AND (order_ticket = ?2 OR accepted_order = ?2)
                    AND operation IN ('place', 'close', 'close-by') LIMIT 1";
                let parameters = params![account, order.cast_signed(), except];
                let mut owners =
                    rows::select(&books.connection, condition, parameters).map_err(text)?;
                books.overlay(&mut owners, |trade| {
                    trade.account == account
                        && trade.trade_id != except
                        && trade.own_orders().contains(&order)
                });
                owned.extend(owners.pop().map(|owner| (order, owner.trade_id)));
            }
            Ok(owned)
        })
        .await
    }

    /// Writes what waits in the outbox, as far as the disk takes it. Gives how many trades still wait.
    pub async fn flush(&self) -> usize {
        let flushed = self.run(|books| {
            books.flush();
            Ok(books.outbox.iter().count())
        });
        flushed.await.unwrap_or_default()
    }

    /// The trade that was made with a key, as it stands. Of several that were withdrawn, the newest.
    pub async fn by_key(
        &self,
        identity: &Identity,
        account: &str,
        key: &str,
    ) -> Result<Option<Trade>, JournalError> {
        let (identity, account, key) = (identity.clone(), account.to_owned(), key.to_owned());
        self.run(move |books| {
            let condition = "account = ?1 AND idempotency_key = ?2 ORDER BY created_msc, trade_id";
            let mut trades =
                rows::select(&books.connection, condition, params![account, key]).map_err(text)?;
            books.overlay(&mut trades, |trade| {
                trade.account == account && trade.idempotency_key.as_deref() == Some(&key)
            });
            // Rows of version 1 whose account is configured no more have no server.
            trades.retain(|trade| {
                let Identity { login, server, .. } = &trade.identity;
                *login == identity.login
                    && (server.is_empty() || server.eq_ignore_ascii_case(&identity.server))
            });
            trades.sort_by(|a, b| (a.created_msc, &a.trade_id).cmp(&(b.created_msc, &b.trade_id)));
            let newest = trades.pop();
            Ok(trades.into_iter().find(|trade| trade.state != State::NotSent).or(newest))
        })
        .await
    }

    /// The trade with an id.
    pub async fn by_id(&self, account: &str, id: &str) -> Result<Option<Trade>, JournalError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.run(move |books| {
            let trade = match books.outbox.get(&id) {
                Some(trade) => Some(trade.clone()),
                None => rows::by_id(&books.connection, &id).map_err(text)?,
            };
            Ok(trade.filter(|trade| trade.account == account))
        })
        .await
    }

    /// Trades of an account, the newest first.
    pub async fn list(&self, account: &str, wanted: Wanted) -> Result<Vec<Trade>, JournalError> {
        let account = account.to_owned();
        self.run(move |books| {
            let Wanted { state, key, api_key, limit } = &wanted;
            let condition = "account = ?1 AND (?2 IS NULL OR state = ?2)
                AND (?3 IS NULL OR idempotency_key = ?3) AND (?4 IS NULL OR api_key = ?4)
                ORDER BY created_msc DESC, trade_id DESC LIMIT ?5";
            let parameters = params![account, state.map(State::name), key, api_key, limit];
            let mut trades =
                rows::select(&books.connection, condition, parameters).map_err(text)?;
            books.overlay(&mut trades, |trade| trade.account == account && wanted.takes(trade));
            trades.sort_by(|a, b| (b.created_msc, &b.trade_id).cmp(&(a.created_msc, &a.trade_id)));
            trades.truncate(*limit as usize);
            Ok(trades)
        })
        .await
    }

    /// Trades whose state is open, and those that were not found or settled by an operator since a
    /// time (unix milliseconds), the oldest first.
    pub async fn unfinished(
        &self,
        account: &str,
        watched_since_msc: i64,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.to_owned();
        self.run(move |books| {
            let condition = "account = ?1 AND (state IN ('sending', 'unknown')
                OR ((state = 'not-found' OR resolved_by IS NOT NULL) AND updated_msc >= ?2))
                ORDER BY created_msc, trade_id";
            let parameters = params![account, watched_since_msc];
            let mut trades =
                rows::select(&books.connection, condition, parameters).map_err(text)?;
            books.overlay(&mut trades, |trade| {
                let watched = (trade.state == State::NotFound || trade.resolved_by.is_some())
                    && trade.updated_msc >= watched_since_msc;
                trade.account == account && (!trade.state.is_final() || watched)
            });
            trades.sort_by(|a, b| (a.created_msc, &a.trade_id).cmp(&(b.created_msc, &b.trade_id)));
            Ok(trades)
        })
        .await
    }

    /// Executed trades of an account that were made since a time (unix milliseconds).
    pub async fn executed(
        &self,
        account: &str,
        since_msc: i64,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.to_owned();
        self.run(move |books| {
            let condition = "account = ?1 AND created_msc >= ?2 AND state = 'executed'
                ORDER BY created_msc, trade_id";
            let parameters = params![account, since_msc];
            let mut trades =
                rows::select(&books.connection, condition, parameters).map_err(text)?;
            books.overlay(&mut trades, |trade| {
                trade.account == account
                    && trade.created_msc >= since_msc
                    && trade.state == State::Executed
            });
            Ok(trades)
        })
        .await
    }

    /// How many of an account's trades are unknown, and since when.
    pub async fn unknown(&self, account: &str) -> Result<Unknown, JournalError> {
        let trades = self.unfinished(account, i64::MAX).await?;
        let unknown = trades.iter().filter(|trade| trade.state == State::Unknown);
        let (mut count, mut oldest_msc) = (0, None);
        for trade in unknown {
            count += 1;
            oldest_msc = oldest_msc.or(Some(trade.created_msc));
        }
        Ok(Unknown { count, oldest_msc })
    }

    /// Removes the bodies of trades that ended before a time (unix milliseconds).
    pub async fn forget_bodies(&self, before_msc: i64) -> Result<(), JournalError> {
        // In pieces, so that no trade waits for all of them.
        while self
            .write(move |books| {
                books
                    .connection
                    .execute(
                        "UPDATE trades SET request = NULL, result = NULL, detail = NULL,
                            present = NULL
                         WHERE trade_id IN (SELECT trade_id FROM trades
                            WHERE updated_msc < ?1 AND state NOT IN ('sending', 'unknown')
                                AND (request IS NOT NULL OR result IS NOT NULL)
                            LIMIT 500)",
                        [before_msc],
                    )
                    .map_err(text)
            })
            .await?
            > 0
        {}
        Ok(())
    }
}

fn text(error: rusqlite::Error) -> String {
    error.to_string()
}

/// Which trades are listed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those with this Idempotency-Key.
    pub key: Option<String>,
    /// Only those of this API key.
    pub api_key: Option<String>,
    /// As many at most.
    pub limit: u32,
}

impl Wanted {
    /// Whether a trade is among them.
    pub fn takes(&self, trade: &Trade) -> bool {
        self.state.is_none_or(|state| trade.state == state)
            && (self.key.is_none() || trade.idempotency_key == self.key)
            && (self.api_key.is_none() || trade.api_key == self.api_key)
    }
}

impl Books {
    /// The trade as it stands; `None`: it is not known, or cannot be read.
    fn state_of(&self, trade_id: &str) -> Option<Trade> {
        match self.outbox.get(trade_id) {
            Some(trade) => Some(trade.clone()),
            None => rows::by_id(&self.connection, trade_id).ok().flatten(),
        }
    }

    fn put_or_keep(&mut self, trade: Trade) {
        // Behind what waits already, in its order, and without waiting for the disk once more.
        if !self.outbox.is_empty() {
            return self.outbox.put(trade);
        }
        if let Err(error) = rows::put(&self.connection, &trade) {
            error!(trade_id = trade.trade_id, %error, "trade's state waits to be written");
            self.outbox.put(trade);
        }
    }

    /// Writes what waits, in order, until something cannot be written.
    fn flush(&mut self) {
        while let Some(trade) = self.outbox.first().cloned() {
            if rows::put(&self.connection, &trade).is_err() {
                return;
            }
            self.outbox.remove(&trade.trade_id);
        }
    }

    /// Puts what waits in the place of the rows that were read, and leaves out what does not pass.
    fn overlay(&self, trades: &mut Vec<Trade>, passes: impl Fn(&Trade) -> bool) {
        if self.outbox.is_empty() {
            return;
        }
        trades.retain(|trade| self.outbox.get(&trade.trade_id).is_none());
        trades.extend(self.outbox.iter().filter(|trade| passes(trade)).cloned());
    }
}

#[cfg(test)]
mod tests {
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
}
