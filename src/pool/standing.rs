//! Whether an account takes requests, and which of them are under way.

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether an account takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Serving,
    /// It does not, until somebody lifts that. Its terminals stay logged in.
    Paused,
    /// Its settings have changed: it finishes what is under way and ends, and an account of the same
    /// name takes its place.
    Changing,
    /// It finishes what is under way and ends.
    Leaving,
}

/// Counts a request of an account as under way until it is dropped.
pub type RequestUnderWay = TaskTrackerToken;

/// How an account stands with its clients.
#[derive(Debug)]
pub struct Door {
    standing: Mutex<Standing>,
    requests: TaskTracker,
    /// Cancelled, and replaced, whenever the account stops serving.
    streams: Mutex<CancellationToken>,
}

impl Door {
    /// The door of an account that takes requests, or is paused.
    pub fn new(paused: bool) -> Door {
        let standing = if paused { Standing::Paused } else { Standing::Serving };
        Door {
            standing: Mutex::new(standing),
            requests: TaskTracker::new(),
            streams: Mutex::default(),
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// Whether the account takes requests.
    pub fn is_open(&self) -> bool {
        self.standing() == Standing::Serving
    }

    /// Whether the account ends, so that no terminal is started for it any more.
    pub fn is_ending(&self) -> bool {
        matches!(self.standing(), Standing::Changing | Standing::Leaving)
    }

    /// Changes how it stands, and ends the account's streams unless it serves. An end is for good.
    pub fn set(&self, to: Standing) {
        {
            let mut standing = self.standing.lock();
            if matches!(*standing, Standing::Changing | Standing::Leaving) {
                return;
            }
            *standing = to;
        }
        if to != Standing::Serving {
            std::mem::take(&mut *self.streams.lock()).cancel();
        }
    }

    /// Notes that a request is under way. Whoever asks how the account stands after this is waited
    /// for by [`requests_ended`](Self::requests_ended), or finds it closed.
    pub fn enter(&self) -> RequestUnderWay {
        self.requests.token()
    }

    /// Cancelled when the streams that are opened now have to end. To be taken before asking how the
    /// account stands.
    pub fn streams_end(&self) -> CancellationToken {
        self.streams.lock().clone()
    }

    /// Waits until no request is under way.
    pub async fn requests_ended(&self) {
        self.requests.close();
        self.requests.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_whenever_the_account_stops_serving_and_an_end_is_for_good() {
        let door = Door::new(false);
        let first = door.streams_end();
        door.set(Standing::Paused);
        assert!(first.is_cancelled() && !door.is_open() && !door.is_ending());
        door.set(Standing::Serving);
        let second = door.streams_end();
        assert!(!second.is_cancelled() && door.is_open());
        door.set(Standing::Leaving);
        assert!(second.is_cancelled() && door.is_ending());
        door.set(Standing::Serving);
        assert_eq!(door.standing(), Standing::Leaving);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_waited_for_until_it_has_ended() {
        let door = Door::new(false);
        let request = door.enter();
        let mut ended = std::pin::pin!(door.requests_ended());
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(60), &mut ended);
        assert!(waiting.await.is_err());
        drop(request);
        ended.await;
    }
}
