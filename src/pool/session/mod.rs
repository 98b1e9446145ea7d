//! One terminal, from its start to its replacement.
//!
//! The [`actor`] turns decisions into calls and messages. [`login`] is the way from a started
//! terminal to a ready session, [`queue`] holds what waits, [`watchdog`] says when a terminal that
//! does not answer is given up. The last three are pure: they take time as an argument.

mod actor;
mod login;
mod queue;
mod watchdog;

pub use self::actor::{Args, Msg, Session};
