//! The journal actor: owns the thread that reads and writes the file.
//!
//! The actor hands work to its thread in order and never waits for the disk itself. If the thread ends,
//! the actor fails, and its supervisor starts another one. What must not be lost by that is in
//! [`Retained`], which the thread holds locked for as long as it lives: two threads never work at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tracing::warn;

use super::store::{BODIES_AT_ONCE, Retained, Store};
use crate::actor::{Address, Envelope};
use crate::trading::now_msc;

/// From one attempt to write what waits in the outbox to the next.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// From one search for bodies past their retention to the next.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);

/// Work for the thread.
pub type Work = Box<dyn FnOnce(&mut Store) + Send>;

pub enum Msg {
    /// Do this on the thread.
    Run(Work),
    /// Try to settle the reports that are kept, and to write what waits in the outbox.
    Flush,
    /// The outbox was tried.
    Flushed,
    /// Remove some bodies of trades that ended before a time (unix milliseconds).
    ForgetBodies(i64),
    /// The thread ended by itself.
    ThreadEnded,
    /// Fail the actor.
    #[cfg(test)]
    Fail,
}

pub struct JournalActor;

#[derive(Clone)]
pub struct Args {
    /// The actor's own address.
    pub address: Address<Msg>,
    /// The file's name.
    pub file: PathBuf,
    pub retained: Arc<Retained>,
    /// How long requests and results are kept.
    pub retention: Duration,
}

pub struct State {
    args: Args,
    work: mpsc::Sender<Work>,
    /// When bodies past their retention are removed next.
    forget_at: Instant,
}

impl Actor for JournalActor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.address.started(myself);
        let args = Args { address: args.address.pinned(), ..args };
        let (work, queue) = mpsc::channel();
        let (retained, file) = (args.retained.clone(), args.file.clone());
        let thread = Thread { retained, file, queue, address: args.address.clone() };
        thread.start()?;
        let _ = args.address.send(Msg::Flush);
        Ok(State { args, work, forget_at: Instant::now() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Run(work) => state.run(work),
            Msg::Flush => {
                if state.forget_at <= Instant::now() {
                    state.forget_at = Instant::now() + RETENTION_INTERVAL;
                    let kept = i64::try_from(state.args.retention.as_millis()).unwrap_or(i64::MAX);
                    let before_msc = now_msc().saturating_sub(kept);
                    let _ = state.args.address.send(Msg::ForgetBodies(before_msc));
                }
                let flushed = FlushNotice(state.args.address.clone());
                state.run(Box::new(move |store| {
                    let _flushed = flushed;
                    store.flush();
                }))
            }
            Msg::Flushed => {
                state.args.address.send_after(FLUSH_INTERVAL, Msg::Flush);
                Ok(())
            }
            Msg::ForgetBodies(before_msc) => {
                let address = state.args.address.clone();
                // A few at a time, so that no trade waits for all of them.
                state.run(Box::new(move |store| match store.forget_bodies(before_msc) {
                    Ok(BODIES_AT_ONCE..) => drop(address.send(Msg::ForgetBodies(before_msc))),
                    Ok(_) => {}
                    Err(error) => warn!(%error, "bodies past their retention cannot be removed"),
                }))
            }
            Msg::ThreadEnded => Err("its thread has ended".into()),
            #[cfg(test)]
            Msg::Fail => Err("on purpose".into()),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.args.address.stopped();
        Ok(())
    }
}

impl State {
    fn run(&self, work: Work) -> Result<(), ActorProcessingErr> {
        // Work that is dropped answers its caller with an error.
        self.work.send(work).map_err(|_| "its thread has ended".into())
    }
}

struct Thread {
    retained: Arc<Retained>,
    file: PathBuf,
    queue: mpsc::Receiver<Work>,
    address: Address<Msg>,
}

impl Thread {
    /// Starts it. It works once every thread before it has ended, so that work is done in the order in
    /// which it came: the lock alone would let any of those in that wait for it.
    fn start(self) -> io::Result<()> {
        let retained = self.retained.clone();
        let mut last = retained.last_thread.lock();
        let before = Arc::new(Mutex::new(last.take()));
        let waits_for = before.clone();
        let started = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            let before = waits_for.lock().take();
            // One that panicked has ended, too.
            let _ = before.map(JoinHandle::join);
            self.run();
        });
        match started {
            Ok(thread) => *last = Some(thread),
            Err(error) => {
                *last = before.lock().take();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Works until the actor is gone and its work is done.
    fn run(self) {
        let notice = EndNotice(&self.address);
        #[cfg(test)]
        self.retained.delay_if_told();
        let mut store = self.retained.store.lock();
        if self.retained.prepare(&mut store, &self.file) {
            self.work(&mut store);
        } else {
            // Work that is dropped answers its caller with the reason.
            while self.queue.recv().is_ok() {
                self.retained.drop_reports();
            }
        }
        std::mem::forget(notice);
    }

    fn work(&self, store: &mut Store) {
        store.settle_kept();
        self.retained.settle_reports(store);
        while let Ok(work) = self.queue.recv() {
            #[cfg(test)]
            self.retained.fail_if_told();
            // First, because a read sees what was reported before it.
            self.retained.settle_reports(store);
            // The caller of work that panics learns it by the reply that is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| work(store)));
        }
    }
}

/// Tells the actor that the outbox was tried, also if that panicked: the next attempt follows.
struct FlushNotice(Address<Msg>);

impl Drop for FlushNotice {
    fn drop(&mut self) {
        let _ = self.0.send(Msg::Flushed);
    }
}

/// Tells the actor when its thread ends by a panic.
struct EndNotice<'a>(&'a Address<Msg>);

impl Drop for EndNotice<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(Msg::ThreadEnded);
    }
}
