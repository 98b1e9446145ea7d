//! The settings of the REST service.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

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
