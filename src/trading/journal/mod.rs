//! The journal: what was decided about each trade, in SQLite, on disk before anything is sent.
//!
//! An intent is on disk, or [`Journal::insert`] is an error. What became of a trade that was sent is
//! accepted in any case: [`Journal::settle`] leaves its report where the journal's thread finds it even if
//! thread and [`actor`] have to be replaced first, [`settle`] says whether it is news, and the [`outbox`]
//! keeps what the disk does not take. Everything else fails while the actor is being restarted.

mod actor;
mod halts;
mod inspect;
mod outbox;
mod queries;
mod reports;
mod rows;
mod schema;
mod settle;
mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::error;

use self::actor::{Msg, Work};
use self::reports::Report;
use self::store::{Retained, Store};
use super::halt::{Halt, HaltScope};
use super::identifiers::{IdempotencyKey, TradeId};
use super::trade::Trade;
use crate::account_name::AccountName;
use crate::actor::{Address, Depths, Role};
use crate::metrics::{AccountId, Event, Metrics};
use crate::mt5::Identity;

pub use self::actor::{Args, JournalActor};
pub use self::inspect::{JournalLook, inspect};
pub use self::queries::TradeFilter;
pub use self::reports::Settlement;
pub use self::schema::Owner;

/// How long a caller waits for the journal's thread.
const TIMEOUT: Duration = Duration::from_secs(15);

/// From one attempt to write the outbox to the next while the process ends.
const LAST_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Why the journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another gateway uses it.
    #[error("the journal {} is used by another gateway, or by an earlier one that is still stopping; wait for its end, or give each its own `trading.journal`", .0.display())]
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

/// A handle on the journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    file: PathBuf,
    address: Address<Msg>,
    retained: Arc<Retained>,
    metrics: Metrics,
}

impl Journal {
    /// Opens the file and keeps every other gateway out of it. Nothing is answered before the actor of
    /// [`Journal::actor_args`] runs and has [prepared](schema::prepare) the file, which takes longer the more
    /// trades there are.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(
        file: &Path,
        owners: &[Owner],
        metrics: Metrics,
        depths: &Depths,
    ) -> Result<Journal, JournalError> {
        let opened = schema::open(file)?;
        Ok(Journal {
            file: file.to_owned(),
            address: Address::new(Role::Journal, depths),
            retained: Arc::new(Retained::new(opened, owners, metrics.clone())),
            metrics,
        })
    }

    /// What the journal's actor is started with. `retention`: how long requests and results are kept.
    pub fn actor_args(&self, retention: Duration) -> Args {
        let (address, file) = (self.address.clone(), self.file.clone());
        Args { address, file, retained: self.retained.clone(), retention }
    }

    /// Why the file is not used: the actor has found that it is damaged, or cannot bring it up to date.
    pub fn refusal(&self) -> Option<&JournalError> {
        self.retained.refusal.get()
    }

    /// Whether the file is not the one that was opened, as when it was deleted. Found out every second.
    pub fn is_lost(&self) -> bool {
        self.retained.lost.load(Ordering::Relaxed)
    }

    /// Writes a trade's intent; it is on disk when this returns.
    ///
    /// Dropping the future before that takes the intent back, unless it is just being written: settle
    /// the trade then.
    ///
    /// # Errors
    /// If it is not on disk, or the file is not the one that was opened.
    pub async fn insert(&self, trade: Trade) -> Result<(), JournalError> {
        let begun = Instant::now();
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |store| {
            // An intent that nobody waits for any more was given up.
            if !reply.is_closed() {
                let _ = reply.send(store.insert(&trade));
            }
        });
        let written = self.answer(work, answer).await;
        self.metrics.record(Event::JournalWritten(begun.elapsed()));
        if let Err(error) = &written {
            error!(%error, "journal cannot be written");
        }
        written
    }

    /// Tells what is known about a trade now, also of one that has no intent on disk. `trade` carries
    /// the time of change of the state that it follows; one that follows an older state than the
    /// present one, or a state that does not change any more, changes nothing. What the disk does not
    /// take is kept. A change is logged and counted here, with the request that led to it.
    ///
    /// # Errors
    /// If the journal does not answer in time. It settles the trade all the same, once it can.
    pub async fn settle(
        &self,
        account: AccountId,
        trade: Trade,
        request_id: impl Into<Arc<str>>,
    ) -> Result<Settlement, JournalError> {
        self.wait(self.report(account, trade, request_id.into(), false)).await
    }

    /// Like [`settle`](Self::settle), for what counts only if the journal does not know the trade. Does
    /// not wait: whoever asks the journal afterwards sees it, or an error.
    pub fn settle_unless_known(
        &self,
        account: AccountId,
        trade: Trade,
        request_id: impl Into<Arc<str>>,
    ) {
        drop(self.report(account, trade, request_id.into(), true));
    }

    fn report(
        &self,
        account: AccountId,
        trade: Trade,
        request_id: Arc<str>,
        unless_known: bool,
    ) -> oneshot::Receiver<Settlement> {
        let (reply, answer) = oneshot::channel();
        let report = Report { trade, account, request_id, unless_known };
        self.retained.inbox.put(report, reply);
        // The thread settles what was reported before it does any work. A thread that is being replaced
        // begins with that.
        let _ = self.address.send(Msg::Run(Box::new(|_| {})));
        answer
    }

    /// Gives the trades of an account, which is its login and server, its present name.
    ///
    /// # Errors
    /// If the journal does not answer, or cannot be written.
    pub async fn adopt(&self, owner: Owner) -> Result<(), JournalError> {
        self.run(move |store| store.adopt(owner)).await
    }

    /// Notes that a client was told that its trade was not sent, which frees its key. Lost if the actor
    /// is being restarted; the client is told once more then.
    pub fn note_told(&self, trade_id: TradeId) {
        let _ = self.address.send(Msg::Run(Box::new(move |store| store.note_told(&trade_id))));
    }

    /// Tells the metrics how many of an account's trades are unknown.
    pub fn count_unknown(&self, account: AccountId, name: &AccountName) {
        let name = name.clone();
        let work = move |store: &mut Store| store.count_unknown(account, &name);
        let _ = self.address.send(Msg::Run(Box::new(work)));
    }

    /// Writes what waits before the process ends. Gives how many states could not be written in time.
    pub async fn flush(&self) -> usize {
        let flushed = async {
            let flush = |store: &mut Store| {
                store.flush();
                Ok(())
            };
            // The disk may be full for the moment, and the actor may be being restarted. A file that is
            // not used takes nothing.
            while (self.run(flush).await.is_err() || self.waiting() > 0) && self.refusal().is_none()
            {
                tokio::time::sleep(LAST_FLUSH_INTERVAL).await;
            }
        };
        // What is left says whether it succeeded.
        let _ = tokio::time::timeout(TIMEOUT, flushed).await;
        self.waiting()
    }

    /// How many states wait to be written. Does not wait for the thread.
    pub fn waiting(&self) -> usize {
        self.retained.waiting()
    }

    /// The trade that was made with a key, as it stands. Of several that were withdrawn, the newest.
    pub async fn by_key(
        &self,
        identity: &Identity,
        account: &AccountName,
        key: &IdempotencyKey,
    ) -> Result<Option<Trade>, JournalError> {
        let (identity, account, key) = (identity.clone(), account.clone(), key.clone());
        self.run(move |store| store.by_key(&identity, &account, &key)).await
    }

    /// The trade with an id.
    pub async fn by_id(
        &self,
        account: &AccountName,
        id: &TradeId,
    ) -> Result<Option<Trade>, JournalError> {
        let (account, id) = (account.clone(), id.clone());
        self.run(move |store| store.by_id(&account, &id)).await
    }

    /// Trades of an account, the newest first.
    pub async fn list(
        &self,
        account: &AccountName,
        filter: TradeFilter,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.clone();
        self.run(move |store| store.list(&account, &filter)).await
    }

    /// Trades whose state is open, and those that were not found or settled by an operator since a
    /// time (unix milliseconds), the oldest first.
    pub async fn unfinished(
        &self,
        account: &AccountName,
        watched_since_msc: i64,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.clone();
        self.run(move |store| store.unfinished(&account, watched_since_msc)).await
    }

    /// Executed trades of an account that were made since a time (unix milliseconds).
    pub async fn executed(
        &self,
        account: &AccountName,
        since_msc: i64,
    ) -> Result<Vec<Trade>, JournalError> {
        let account = account.clone();
        self.run(move |store| store.executed(&account, since_msc)).await
    }

    /// Which of these orders belong to trades other than one.
    pub async fn owned(
        &self,
        account: &AccountName,
        orders: Vec<u64>,
        except: &TradeId,
    ) -> Result<HashMap<u64, TradeId>, JournalError> {
        let (account, except) = (account.clone(), except.clone());
        self.run(move |store| store.owned(&account, orders, &except)).await
    }

    /// Every halt that is on disk.
    pub async fn halts(&self) -> Result<Vec<(HaltScope, Halt)>, JournalError> {
        self.run(|store| store.halts()).await
    }

    /// Writes a halt, unless there is one with its scope; it is on disk when this returns.
    pub async fn add_halt(&self, scope: HaltScope, halt: Halt) -> Result<(), JournalError> {
        self.run(move |store| store.add_halt(&scope, &halt)).await
    }

    /// Forgets a halt.
    pub async fn remove_halt(&self, scope: HaltScope) -> Result<(), JournalError> {
        self.run(move |store| store.remove_halt(&scope)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, String> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |store| {
            let _ = reply.send(work(store));
        });
        self.answer(work, answer).await
    }

    async fn answer<T>(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<T, String>>,
    ) -> Result<T, JournalError> {
        let sent = self.address.send(Msg::Run(work));
        sent.map_err(|_| self.unusable("its actor is being restarted"))?;
        self.wait(answer).await?.map_err(|detail| self.unusable(detail))
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, JournalError> {
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                let failed = || self.unusable("its thread failed");
                Err(self.refusal().cloned().unwrap_or_else(failed))
            }
            Err(_) => Err(self.unusable(format!("it did not answer within {TIMEOUT:?}"))),
        }
    }

    fn unusable(&self, detail: impl Into<String>) -> JournalError {
        JournalError::Unusable { file: self.file.clone(), detail: detail.into() }
    }

    /// Makes the actor fail, and answers when it has the message.
    #[cfg(test)]
    pub fn fail_actor(&self) {
        let _ = self.address.send(Msg::Fail);
    }

    /// Makes the thread fail before its next work.
    #[cfg(test)]
    pub fn fail_thread(&self) {
        self.retained.fail_thread.store(true, std::sync::atomic::Ordering::Release);
        let _ = self.address.send(Msg::Run(Box::new(|_| {})));
    }

    /// Keeps the thread from working until the guard is dropped.
    #[cfg(test)]
    pub async fn stall(&self) -> std::sync::mpsc::Sender<()> {
        let (release, stalled) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let work = move |_: &mut Store| {
            let _ = began.send(());
            let _ = stalled.recv();
        };
        let _ = self.address.send(Msg::Run(Box::new(work)));
        let _ = begun.await;
        release
    }
}

#[cfg(test)]
mod tests;
