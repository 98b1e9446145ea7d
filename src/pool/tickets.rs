//! The highest tickets of an account that any answer has shown.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mt5::ShownTickets;

/// The highest tickets that any answer has shown. Brokers number orders and deals in ascending order,
/// so what a later trade makes lies above.
#[derive(Debug, Default)]
pub struct HighestTickets {
    order: AtomicU64,
    deal: AtomicU64,
}

impl HighestTickets {
    /// Remembers the tickets that an answer shows.
    pub fn observe(&self, shown: ShownTickets) {
        for (ticket, highest) in [(shown.order, &self.order), (shown.deal, &self.deal)] {
            // Most answers show none.
            if ticket > 0 {
                highest.fetch_max(ticket, Ordering::Relaxed);
            }
        }
    }

    /// The highest ticket of an order (or position), and of a deal.
    pub fn get(&self) -> (u64, u64) {
        let read = |ticket: &AtomicU64| ticket.load(Ordering::Relaxed);
        (read(&self.order), read(&self.deal))
    }
}
