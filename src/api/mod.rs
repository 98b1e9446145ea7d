//! The REST service.
//!
//! A request passes, from the outside in, the accept loop ([`server`]), its [`connection`], the
//! [`layers`], and the filter chain of [`routes`]. [`filters`] parse what it says, [`export`]
//! writes rows, and every error becomes a [`problem`]. This room reaches a terminal only through
//! the pool's accounts.

mod auth;
mod connection;
mod context;
pub mod export;
mod filters;
mod layers;
mod openapi;
mod problem;
mod reply;
mod routes;
mod server;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;

use crate::metrics::Metrics;
use crate::metrics::requests::HttpInstruments;
use crate::pool::{Accounts, Pool};
use crate::root::Gateway;
use crate::sampler::FirstSample;
use crate::streams::Streams;
use crate::telemetry::Events;
use crate::trading::Trading;

pub use self::auth::{Key, Keys, Scope};
pub use self::openapi::document as openapi_document;
pub use self::problem::{Problem, ProblemType};
pub use self::server::{connections, serve};

/// How HTTP is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a client waits at most.
    pub request_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// Bytes that a request's body may have.
    pub max_body: u64,
    /// Host names that requests may be addressed to, without a port, in lower case, beside
    /// loopback's names, the machine's own name and any address; `*` for all.
    pub allowed_hosts: Vec<String>,
    /// Origins that browsers may call from, in lower case and without a default port; `*` for all.
    /// Empty: no CORS.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// One log line a request.
    pub access_log: bool,
    /// Scrapes a second that a client address may make.
    pub scrape_rate: NonZeroU32,
    /// Scrapes that it may make at once.
    pub scrape_burst: NonZeroU32,
}

/// What every request may use.
pub struct App {
    options: Options,
    keys: Keys,
    accounts: Arc<Accounts>,
    pool: Pool,
    trading: Trading,
    streams: Arc<Streams>,
    gateway: Gateway,
    metrics: Metrics,
    instruments: Option<HttpInstruments>,
    scrape_limit: DefaultKeyedRateLimiter<IpAddr>,
    first_sample: FirstSample,
    events: Events,
}

/// What the service stands on.
pub struct Parts {
    /// How HTTP is served.
    pub options: Options,
    /// Who may do what.
    pub keys: Keys,
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
    /// Whether the machine was measured.
    pub first_sample: FirstSample,
    /// The last events of each actor.
    pub events: Events,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<App> {
        let Parts {
            options,
            keys,
            accounts,
            pool,
            trading,
            streams,
            gateway,
            metrics,
            instruments,
            first_sample,
            events,
        } = parts;
        let quota = Quota::per_second(options.scrape_rate).allow_burst(options.scrape_burst);
        let scrape_limit = RateLimiter::keyed(quota);
        Arc::new(App {
            options,
            keys,
            accounts,
            pool,
            trading,
            streams,
            gateway,
            metrics,
            instruments,
            scrape_limit,
            first_sample,
            events,
        })
    }
}
