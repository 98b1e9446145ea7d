//! What the gateway tells Prometheus.
//!
//! [`catalog`] declares every family; the [`collector`] actor owns them and takes
//! events about terminals and the machine; [`render`] writes snapshots; [`overview`] is
//! what the console shows of them; [`http`] are the handles that the HTTP room moves
//! itself, because a message a request would cost more than it tells. This room must never wait for a terminal, and
//! never take a label value from a client.

pub mod catalog;
pub mod collector;
pub mod event;
mod overview;
pub mod render;
pub mod requests;
mod sample;
pub mod streams;

pub use catalog::{Catalog, LabelSets};
pub use collector::{Collector, Metrics};
pub use event::{AccountId, EndedCall, Event};
pub use overview::{Overview, Point, Restarts, Unknown};
pub use render::{RenderError, Rendered};
pub use sample::{Disk, Memory, ProcessSample, Sample};

/// Which buckets histograms have, and how statuses are written.
#[derive(Debug, Clone)]
pub struct Options {
    /// `false`: nothing is measured.
    pub enabled: bool,
    /// How a response's status is labelled.
    pub status_labels: StatusLabels,
    /// Upper bounds of request durations, seconds.
    pub duration_buckets: Vec<f64>,
    /// Upper bounds of call, queue and login durations, seconds.
    pub call_buckets: Vec<f64>,
}

/// How a response's status is labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusLabels {
    /// `404`
    Exact,
    /// `4xx`
    Class,
}
