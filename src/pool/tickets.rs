//! The highest tickets of an account that any answer has shown.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mt5::Answer;

/// The highest tickets that any answer has shown. Brokers number orders and deals in ascending order,
/// so what a later trade makes lies above.
#[derive(Debug, Default)]
pub struct HighestTickets {
    order: AtomicU64,
    deal: AtomicU64,
}

impl HighestTickets {
    /// Remembers the tickets of an answer.
    pub fn observe(&self, answer: &Answer) {
        // What was repaired because it could not be read is no ticket.
        let possible = |ticket: &u64| i64::try_from(*ticket).is_ok();
        let (order, deal) = (&self.order, &self.deal);
        match answer {
            Answer::Orders(orders) => {
                let highest = orders.iter().map(|order| order.ticket).filter(possible).max();
                order.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            Answer::Positions(positions) => {
                let highest =
                    positions.iter().map(|position| position.identifier).filter(possible).max();
                order.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            Answer::Deals(deals) => {
                let orders = deals.iter().map(|deal| deal.order).filter(possible).max();
                order.fetch_max(orders.unwrap_or_default(), Ordering::Relaxed);
                let highest = deals.iter().map(|deal| deal.ticket).filter(possible).max();
                deal.fetch_max(highest.unwrap_or_default(), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The highest ticket of an order (or position), and of a deal.
    pub fn get(&self) -> (u64, u64) {
        let read = |ticket: &AtomicU64| ticket.load(Ordering::Relaxed);
        (read(&self.order), read(&self.deal))
    }
}
