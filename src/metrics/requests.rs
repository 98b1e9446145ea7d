//! The instruments of HTTP: atomic handles, resolved once for each route and method.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Catalog, StatusLabels};

/// The nine methods of HTTP, and any other.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// The statuses of HTTP begin at 100 and have three digits.
const STATUSES: usize = 500;

/// The instruments of every route. Lives as long as the server.
pub struct HttpInstruments {
    catalog: Arc<Catalog>,
    status_labels: StatusLabels,
    highr: Histogram,
    connections_active: IntGauge,
    connections_total: IntCounter,
    scrapes_rejected: IntCounter,
}

impl HttpInstruments {
    /// The instruments that a catalog holds.
    pub fn new(catalog: Arc<Catalog>, status_labels: StatusLabels) -> HttpInstruments {
        let none: &[&str] = &[];
        HttpInstruments {
            highr: catalog.http_request_duration_highr_seconds.with_label_values(none),
            connections_active: catalog.http_connections_active.with_label_values(none),
            connections_total: catalog.http_connections_total.with_label_values(none),
            scrapes_rejected: catalog.gateway_scrapes_rejected_total.with_label_values(none),
            catalog,
            status_labels,
        }
    }

    /// Counts a connection; it is active until the guard is dropped.
    pub fn connection(&self) -> InProgress {
        self.connections_total.inc();
        InProgress::new(&self.connections_active)
    }

    /// Counts a scrape that the rate limit refused.
    pub fn scrape_rejected(&self) {
        self.scrapes_rejected.inc();
    }
}

/// Raises a gauge while it lives.
pub struct InProgress(IntGauge);

impl InProgress {
    fn new(gauge: &IntGauge) -> InProgress {
        gauge.inc();
        InProgress(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The instruments of one route, by method. A child appears on first use.
pub struct RouteInstruments {
    handler: &'static str,
    methods: [OnceLock<Box<MethodInstruments>>; METHODS.len()],
}

struct MethodInstruments {
    method: &'static str,
    duration: Histogram,
    inprogress: IntGauge,
    request_size: Histogram,
    response_size: Histogram,
    statuses: Box<[OnceLock<IntCounter>]>,
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The response's status; of a client that left before there was one, 499.
    pub status: StatusCode,
    /// From arrival to the end of the response.
    pub duration: Duration,
    /// Body bytes received.
    pub request_bytes: u64,
    /// Body bytes sent.
    pub response_bytes: u64,
}

impl RouteInstruments {
    /// The instruments of a route, by its template.
    pub const fn new(handler: &'static str) -> RouteInstruments {
        RouteInstruments { handler, methods: [const { OnceLock::new() }; METHODS.len()] }
    }

    fn of(&self, http: &HttpInstruments, method: &Method) -> &MethodInstruments {
        let index =
            METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        self.methods[index].get_or_init(|| {
            let (catalog, method, handler) = (&http.catalog, METHODS[index], self.handler);
            Box::new(MethodInstruments {
                method,
                duration: catalog
                    .http_request_duration_seconds
                    .with_label_values(&[method, handler]),
                inprogress: catalog.http_requests_inprogress.with_label_values(&[method, handler]),
                request_size: catalog.http_request_size_bytes.with_label_values(&[handler]),
                response_size: catalog.http_response_size_bytes.with_label_values(&[handler]),
                statuses: (0..STATUSES).map(|_| OnceLock::new()).collect(),
            })
        })
    }

    /// Counts a request as under way while the guard lives.
    pub fn begin(&self, http: &HttpInstruments, method: &Method) -> InProgress {
        InProgress::new(&self.of(http, method).inprogress)
    }

    /// Counts a request that ended.
    pub fn end(&self, http: &HttpInstruments, method: &Method, ended: Ended) {
        let instruments = self.of(http, method);
        let seconds = ended.duration.as_secs_f64();
        instruments.duration.observe(seconds);
        http.highr.observe(seconds);
        instruments.request_size.observe(ended.request_bytes as f64);
        instruments.response_size.observe(ended.response_bytes as f64);
        let status = ended.status.as_u16();
        let index = usize::from(status).saturating_sub(100).min(STATUSES - 1);
        instruments.statuses[index]
            .get_or_init(|| {
                let status = match http.status_labels {
                    StatusLabels::Exact => status.to_string(),
                    StatusLabels::Class => format!("{}xx", status / 100),
                };
                let labels = [instruments.method, status.as_str(), self.handler];
                http.catalog.http_requests_total.with_label_values(&labels)
            })
            .inc();
    }
}
