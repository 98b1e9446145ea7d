//! The instruments of streams: atomic handles, as for HTTP.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Catalog;

/// The instruments of every account's streams.
pub struct StreamInstruments(Arc<Catalog>);

/// The instruments of one account's streams.
pub struct AccountStreams {
    /// Subscribers now.
    pub subscribers: IntGauge,
    /// Events that had left the buffer before a subscriber came to them.
    pub dropped: IntCounter,
    /// By the index of the event.
    sent: Vec<IntCounter>,
    polls: Vec<Histogram>,
}

impl StreamInstruments {
    /// The instruments that a catalog holds.
    pub fn new(catalog: Arc<Catalog>) -> StreamInstruments {
        StreamInstruments(catalog)
    }

    /// Those of one account, for these events.
    pub fn of(&self, account: &str, events: &[&str]) -> AccountStreams {
        let catalog = &self.0;
        let (sent, polls) = (
            &catalog.gateway_stream_events_sent_total,
            &catalog.gateway_stream_poll_duration_seconds,
        );
        AccountStreams {
            subscribers: catalog.gateway_stream_subscribers.with_label_values(&[account]),
            dropped: catalog.gateway_stream_events_dropped_total.with_label_values(&[account]),
            sent: events.iter().map(|event| sent.with_label_values(&[account, event])).collect(),
            polls: events.iter().map(|event| polls.with_label_values(&[event])).collect(),
        }
    }
}

impl AccountStreams {
    /// Counts an event that a subscriber was given, by the index of the event.
    pub fn sent(&self, event: usize) {
        self.sent[event].inc();
    }

    /// Records how long a poll of every topic took, by the index of the event.
    pub fn polled(&self, event: usize, duration: Duration) {
        self.polls[event].observe(duration.as_secs_f64());
    }
}
