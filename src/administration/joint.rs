//! Work that is done one at a time, and for which those that wait for its turn wait together.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::error;

use crate::api::Refusal;

type Outcome<T> = Shared<BoxFuture<'static, Result<T, Refusal>>>;

/// The work that waits for its turn.
pub struct Joint<T>(Mutex<Option<Outcome<T>>>);

impl<T> Default for Joint<T> {
    fn default() -> Joint<T> {
        Joint(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Joint<T> {
    /// Joins the work that waits for its turn, or has this one wait. It begins after everybody has come
    /// who joins it, on a task of its own, which goes on if nobody waits.
    pub fn join<G, F>(
        self: &Arc<Self>,
        turn: impl Future<Output = G> + Send + 'static,
        work: impl FnOnce(G) -> F + Send + 'static,
    ) -> Outcome<T>
    where
        G: Send,
        F: Future<Output = Result<T, Refusal>> + Send,
    {
        let mut waiting = self.0.lock();
        if let Some(waiting) = &*waiting {
            return waiting.clone();
        }
        let joint = self.clone();
        let task = tokio::spawn(async move {
            let turn = turn.await;
            joint.0.lock().take();
            work(turn).await
        });
        waiting.insert(finished(task).boxed().shared()).clone()
    }

    /// How many wait for the turn.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        let waiting = self.0.lock();
        // One is this one's own.
        waiting.as_ref().and_then(Outcome::strong_count).map_or(0, |count| count - 1)
    }
}

/// Waits for a task that makes a change.
pub async fn finished<T>(change: JoinHandle<Result<T, Refusal>>) -> Result<T, Refusal> {
    change.await.unwrap_or_else(|failure| {
        error!(%failure, "change of settings failed");
        Err(Refusal::Failed)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_that_wait_for_their_turn_share_it_and_later_ones_have_another() {
        let joint = Arc::new(Joint::default());
        let (turns, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::default()));
        let join = || {
            let begun = begun.clone();
            joint.join(turns.clone().acquire_owned(), async move |turn| {
                turn.unwrap().forget();
                match begun.fetch_add(1, Ordering::Relaxed) {
                    2 => panic!("injected"),
                    number => Ok(number),
                }
            })
        };
        let (first, abandoned, second) = (join(), join(), join());
        drop(abandoned);
        turns.add_permits(1);
        assert_eq!((first.await, second.await), (Ok(0), Ok(0)));
        let third = join();
        turns.add_permits(1);
        assert_eq!(third.await, Ok(1));
        let fails = join();
        turns.add_permits(1);
        assert_eq!(fails.await, Err(Refusal::Failed));
        let last = join();
        turns.add_permits(1);
        assert_eq!(last.await, Ok(3));
    }
}
