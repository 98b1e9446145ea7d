//! What streams measure: direct handles, as for HTTP.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Catalog;

/// Names of the kinds of event, a closed set.
pub const EVENTS: [&str; 5] = ["ticks", "book", "positions", "orders", "account"];

/// The instruments of every account's streams.
pub struct StreamInstruments(Arc<Catalog>);

/// The instruments of one account's streams.
pub struct AccountStreams {
    /// Readers now.
    pub subscribers: IntGauge,
    /// Events that readers were too slow for.
    pub dropped: IntCounter,
    sent: [IntCounter; EVENTS.len()],
    polls: [Histogram; EVENTS.len()],
}

impl StreamInstruments {
    /// The instruments that a catalog holds.
    pub fn new(catalog: Arc<Catalog>) -> StreamInstruments {
        StreamInstruments(catalog)
    }

    /// Those of one account.
    pub fn of(&self, account: &str) -> AccountStreams {
        let catalog = &self.0;
        AccountStreams {
            subscribers: catalog.gateway_stream_subscribers.with_label_values(&[account]),
            dropped: catalog.gateway_stream_events_dropped_total.with_label_values(&[account]),
            sent: EVENTS.map(|event| {
                catalog.gateway_stream_events_sent_total.with_label_values(&[account, event])
            }),
            polls: EVENTS.map(|event| {
                catalog.gateway_stream_poll_duration_seconds.with_label_values(&[event])
            }),
        }
    }
}

impl AccountStreams {
    /// Counts an event that a reader was given.
    pub fn sent(&self, event: &str) {
        if let Some(index) = EVENTS.iter().position(|name| *name == event) {
            self.sent[index].inc();
        }
    }

    /// Records how long a look at every topic of a kind took.
    pub fn polled(&self, event: &str, duration: Duration) {
        if let Some(index) = EVENTS.iter().position(|name| *name == event) {
            self.polls[index].observe(duration.as_secs_f64());
        }
    }
}
