//! Timers that are used again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// Timers at rest that are kept. Until it rings, each keeps the memory of the task that used it last.
const MOST_KEPT: usize = 64;

/// Timers for calls, nearly all of which end long before their deadline. Arming a timer and disarming
/// it takes a lock each; putting off one that is armed takes none. So timers stay armed at rest.
#[derive(Debug, Default)]
pub struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Timers {
    /// What a future gives; `None` if it has given nothing at its deadline.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut timer = self.take(deadline);
        let output = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => timer.as_mut().poll(context).map(|()| None),
        })
        .await;
        self.put_back(timer);
        output
    }

    fn take(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        let at_rest = self.0.lock().pop();
        match at_rest {
            Some(mut timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => Box::pin(sleep_until(deadline)),
        }
    }

    fn put_back(&self, timer: Pin<Box<Sleep>>) {
        let mut at_rest = self.0.lock();
        if at_rest.len() < MOST_KEPT {
            at_rest.push(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_used_again_rings_at_its_new_deadline() {
        let timers = Timers::default();
        let begun = Instant::now();
        // Later, earlier, and after it has rung at rest.
        for (seconds, pause) in [(10, 0), (20, 0), (5, 0), (30, 60), (1, 0)] {
            let now = Instant::now();
            let patience = Duration::from_secs(seconds);
            assert_eq!(timers.timeout_at(now + patience, ready(7)).await, Some(7));
            assert_eq!(timers.timeout_at(now + patience, pending::<()>()).await, None);
            assert_eq!(now.elapsed(), patience);
            assert_eq!(timers.0.lock().len(), 1);
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(126));
    }
}
