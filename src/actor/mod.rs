//! The one place for how actors are addressed, started, linked and restarted.
//!
//! - [`Address`] takes messages for an actor, also after its supervisor has restarted it, and counts
//!   those that wait ([`Depths`]).
//! - [`Children`] is what a supervising actor knows of its children. It spawns them, and says which
//!   one ended, why, and whether to start it again.
//! - [`RestartBudget`] decides that: a delay that doubles, or that the budget is spent.
//!
//! A supervisor starts a child again by a message to itself, and never fails because a child could
//! not be spawned: that is a failure of the child like any other.

mod address;
mod children;
mod restarts;

use std::any::Any;

pub use self::address::{Address, Depths, Envelope, Ping, Role};
pub use self::children::{Children, Ended};
pub use self::restarts::{RestartBudget, RestartPolicy, RestartVerdict};

/// The text of a panic that was caught, for the log.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_message_reads_literals_and_formatted_texts() {
        let cases: [(Box<dyn Any + Send>, &str); 3] = [
            (Box::new("literal"), "literal"),
            (Box::new("formatted".to_owned()), "formatted"),
            (Box::new(7), "a panic without a text"),
        ];
        for (panic, expected) in cases {
            assert_eq!(panic_message(&*panic), expected);
        }
    }
}
