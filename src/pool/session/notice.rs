//! How others learn that a session has done what they asked for, or has failed.

use std::convert::Infallible;
use std::fmt;

use tokio::sync::mpsc;

/// Held by every session that is to stop, until it has. Nothing is ever sent: the receiver ends when
/// the last token is dropped.
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

impl fmt::Debug for Settled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Settled")
    }
}
