//! Numbers that must not be taken for one another.

use serde::Serialize;

/// The ticket of an order, a deal or a position. Records have plain numbers, as the package gives them; what is asked
/// for by ticket, and what a client names, is a `Ticket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Ticket(u64);

/// A volume in lots, as a client or a rule states it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Lots(f64);

impl Ticket {
    /// The ticket of this number.
    pub const fn new(number: u64) -> Ticket {
        Ticket(number)
    }

    /// The number, for records and requests.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Lots {
    /// This many lots.
    pub const fn new(lots: f64) -> Lots {
        Lots(lots)
    }

    /// The number, for records and requests.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl std::fmt::Display for Lots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
