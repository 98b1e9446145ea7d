//! One terminal, from its start to its replacement.
//!
//! The [`actor`] turns decisions into calls and messages. [`login`] is the way from a started
//! terminal to a ready session, [`queue`] holds what waits, [`watchdog`] says when a terminal that
//! does not answer is given up, and [`backoff`] when the next one is started. The last four are pure:
//! they take time as an argument.

mod actor;
mod backoff;
mod login;
mod queue;
mod watchdog;

use std::convert::Infallible;

use tokio::sync::mpsc;

pub use self::actor::{Args, Msg, Session};

/// Held by everybody whose end somebody waits for; nothing is ever sent. The receiver ends when the
/// last one has dropped it, in good order or not.
pub type StopToken = mpsc::Sender<Infallible>;

/// Calls a function when it is dropped: when a session has settled after the replacement of its
/// terminal, or its actor has failed.
pub struct Settled(Option<Box<dyn FnOnce() + Send>>);

impl Settled {
    /// Calls this once.
    pub fn new(call: impl FnOnce() + Send + 'static) -> Settled {
        Settled(Some(Box::new(call)))
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
