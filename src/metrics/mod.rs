//! What the gateway tells Prometheus.
//!
//! - [`catalog`] declares every family, whose [`children`] keep the text of their lines.
//! - [`collector`], the metrics actor, takes [events](event) about terminals and the machine, and
//!   renders snapshots on a thread of its own ([`render`]).
//! - [`requests`] and [`streams`] are atomic handles for what happens too often for a message each.
//! - [`watchlist`] has the terminals' processes, which sessions put there and the sampler measures.
//! - [`overview`] and [`history`] are what the console shows; they read the families back
//!   ([`reading`]).
//!
//! This room never waits for a terminal, and never takes a label value from a client.

pub mod catalog;
pub mod children;
pub mod collector;
pub mod event;
mod figures;
mod history;
mod overview;
mod reading;
pub mod render;
pub mod requests;
mod sample;
pub mod streams;
mod watch;
mod watchlist;

pub use catalog::{Catalog, LabelSets};
pub use collector::{Collector, Metrics};
pub use event::{AccountFigures, AccountId, EndedCall, Event};
pub use history::{Point, Restarts};
pub use overview::{Overview, Unknown};
pub use render::{RenderError, Rendered};
pub use sample::{Disk, Memory, ProcessSample, Sample, TerminalSample};
pub use watch::Watch;
pub use watchlist::{Figures, Watched, Watchlist};

/// Which buckets histograms have, and how statuses are written.
#[derive(Debug, Clone)]
pub struct Options {
    /// `false`: nothing is measured.
    pub enabled: bool,
    /// Whether the money of accounts is exported. `/metrics` asks for no key.
    pub account_values: bool,
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

#[cfg(test)]
impl Options {
    /// What tests measure: everything, in one bucket.
    pub fn of_tests() -> Options {
        Options {
            enabled: true,
            account_values: true,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![1.0],
            call_buckets: vec![1.0],
        }
    }
}
