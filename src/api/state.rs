//! What every request may use.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;

use super::Options;
use super::administration::Administration;
use super::auth::LiveKeys;
use crate::metrics::Metrics;
use crate::metrics::requests::HttpInstruments;
use crate::pool::{Accounts, Pool};
use crate::root::Gateway;
use crate::sampler::FirstSample;
use crate::streams::Streams;
use crate::telemetry::Events;
use crate::trading::Trading;

/// The application as its requests see it. Each request's context carries a reference to it.
pub struct App {
    /// How HTTP is served.
    pub options: Options,
    /// Who may do what.
    pub keys: Arc<LiveKeys>,
    /// For changes of the settings.
    pub administration: Arc<dyn Administration>,
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// For restarts.
    pub pool: Pool,
    /// For trades.
    pub trading: Trading,
    /// For changes as they happen.
    pub streams: Arc<Streams>,
    /// For health.
    pub gateway: Gateway,
    /// For snapshots.
    pub metrics: Metrics,
    /// `None`: nothing is measured.
    pub instruments: Option<HttpInstruments>,
    /// How often each client may scrape.
    pub scrape_limit: ScrapeLimit,
    /// Whether the machine was measured.
    pub first_sample: FirstSample,
    /// The last events of each actor.
    pub events: Events,
    /// When the process started.
    pub started: Timestamp,
}

/// Limits how often a client address may scrape `/metrics`.
pub struct ScrapeLimit(DefaultKeyedRateLimiter<IpAddr>);

impl ScrapeLimit {
    /// Addresses that the limit remembers before it forgets those at rest.
    const REMEMBERED: usize = 1_024;

    /// The limit of these options.
    pub fn new(options: &Options) -> ScrapeLimit {
        let quota = Quota::per_second(options.scrape_rate).allow_burst(options.scrape_burst);
        ScrapeLimit(RateLimiter::keyed(quota))
    }

    /// Counts a scrape.
    ///
    /// # Errors
    /// How long the client has to wait if it may not scrape now.
    pub fn check(&self, client: IpAddr) -> Result<(), Duration> {
        let checked = self.0.check_key(&client);
        if self.0.len() > Self::REMEMBERED {
            self.0.retain_recent();
        }
        checked.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}
