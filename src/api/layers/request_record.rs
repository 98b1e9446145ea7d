//! The record of a request: one log line, and one set of measurements.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use tracing::info;

use crate::api::App;
use crate::api::context::{RequestContext, Route};
use crate::api::problem::OnSent;
use crate::metrics::requests::Ended;
use crate::telemetry::ACCESS;

/// The status that is recorded for a client that left before its response, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// The record of a request. It is written when this is dropped: the response has ended, or its
/// client has left.
pub struct RequestRecord {
    app: Arc<App>,
    unmatched: Arc<Route>,
    context: Arc<RequestContext>,
    pub status: StatusCode,
    /// Bytes of the response's body.
    pub sent: u64,
    /// Whether the connection took the body to its end.
    pub is_whole: bool,
    /// What happens once the response was sent whole.
    pub on_sent: Option<OnSent>,
}

impl RequestRecord {
    /// The record of a request that has no response yet. `unmatched` is its route if no other
    /// matches.
    pub fn new(
        app: Arc<App>,
        unmatched: Arc<Route>,
        context: Arc<RequestContext>,
    ) -> RequestRecord {
        let status = StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST);
        RequestRecord { app, unmatched, context, status, sent: 0, is_whole: false, on_sent: None }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if let (true, Some(on_sent)) = (self.is_whole, self.on_sent.take()) {
            on_sent();
        }
        let context = &self.context;
        let route = context.route().unwrap_or(&self.unmatched);
        let received = context.received.load(Ordering::Relaxed);
        if let Some(http) = &self.app.instruments {
            let ended = Ended {
                status: self.status,
                duration: context.duration(),
                request_bytes: received,
                response_bytes: self.sent,
            };
            route.instruments.end(http, &context.method, ended);
        }
        if self.app.options.access_log {
            info!(
                target: ACCESS,
                method = log_method(&context.method),
                route = route.template,
                status = self.status.as_u16(),
                duration_ms = context.arrived.elapsed().as_micros() as f64 / 1000.0,
                bytes = self.sent,
                request_id = &*context.request_id,
                account = context.account(),
                api_key = context.api_key(),
                client = %context.peer,
                "request"
            );
        }
    }
}

/// The method for the log. A client may make up a long one.
fn log_method(method: &Method) -> &str {
    let name = method.as_str();
    if name.len() <= 16 { name } else { "other" }
}
