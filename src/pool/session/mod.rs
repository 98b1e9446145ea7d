//! One terminal, from its start to its replacement.
//!
//! The [`actor`] hands what comes in to the [`machine`] and carries out the [`effect`]s that it
//! decides. The machine is pure: it takes time as an argument. Parts of it are in files of their own:
//! [`writing`] asks the terminal, [`answers`] takes what it says, and [`failure`] is its end. The
//! machine is built of [`login`], the way from a started terminal to a ready session; [`queue`], what
//! waits; [`watchdog`], when a terminal that does not answer is given up; and [`backoff`], when the
//! next one is started.

mod actor;
mod answers;
mod backoff;
mod effect;
mod failure;
mod login;
mod machine;
#[cfg(test)]
mod machine_tests;
mod notice;
mod queue;
mod watchdog;
mod writing;

pub use self::actor::{Args, Msg, Session};
pub use self::notice::{Settled, StopToken};
