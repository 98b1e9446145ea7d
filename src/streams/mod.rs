//! What changes, as it changes: one poll of an account's terminal serves every subscriber.
//!
//! - [`topic`]: what subscribers choose, and what they are given.
//! - [`ring`] and [`cursor`]: the last events of an account in a buffer of bounded size, and a
//!   position in it. A subscriber that falls behind the buffer is told that it missed something.
//! - [`feed`]: what a hub shares with its subscribers.
//! - [`poller`]: when to ask a terminal for what, and what an answer says.
//! - [`hub`]: the actor of one account. It admits subscribers, and polls while there are any.
//! - [`supervisor`]: the actor that starts hubs, and starts them again when they fail.
//!
//! A terminal that cannot be asked is an event like any other. A subscriber is never waited for, and
//! never misses something without being told.

mod cursor;
mod feed;
mod handle;
mod hub;
mod poller;
mod ring;
mod subscriber;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod topic;

pub use self::cursor::Item;
pub use self::handle::{Options, Streams};
pub use self::subscriber::{Admission, Subscriber};
pub use self::supervisor::StreamsActor;
pub use self::topic::{Content, EventKind, StreamEvent, Topic};
