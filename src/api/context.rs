//! What is known about a request. The outermost layer makes it, the chain of filters and
//! the route that matches add to it, and handlers and the log read it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, Uri};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::auth::ApiKey;
use super::request_headers::RequestHeaders;
use super::state::App;
use crate::clock::BootInstant;
use crate::metrics::requests::{InProgress, RouteInstruments};
use crate::pool::{Account, RequestUnderWay};

/// What the requests of a path are called in logs and metrics.
pub struct Route {
    /// The path template, or `none`.
    pub template: &'static str,
    pub instruments: RouteInstruments,
}

impl Route {
    pub const fn new(template: &'static str) -> Route {
        Route { template, instruments: RouteInstruments::new(template) }
    }
}

tokio::task_local! {
    /// The request that the task is serving.
    static CURRENT: Arc<RequestContext>;
}

/// One request.
pub struct RequestContext {
    pub app: Arc<App>,
    pub request_id: Arc<str>,
    pub arrived: Instant,
    /// The same on a clock that counts suspension, for what must not be late.
    pub arrived_at: BootInstant,
    /// The client's address, as far as it is known through trusted proxies.
    pub peer: IpAddr,
    pub method: Method,
    uri: Uri,
    pub headers: RequestHeaders,
    /// Until its handler takes it.
    body: Mutex<Option<Incoming>>,
    /// Body bytes read so far.
    pub received: AtomicU64,
    received_whole: AtomicBool,
    /// The segment of the path that names an account, decoded.
    account_segment: OnceLock<String>,
    /// The segment that names one of the account's things: a symbol, a ticket, a trade. Decoded.
    item_segment: OnceLock<String>,
    /// The route whose path matched, and its count of requests under way.
    route: OnceLock<(&'static Route, Option<InProgress>)>,
    /// With the account's count of requests under way, until the response has ended.
    account: OnceLock<(Arc<Account>, RequestUnderWay)>,
    api_key: OnceLock<Arc<ApiKey>>,
    /// How long a stream, which has no end of its own, took to begin.
    begun_after: OnceLock<Duration>,
}

impl RequestContext {
    pub fn new(
        app: Arc<App>,
        request_id: Arc<str>,
        peer: IpAddr,
        method: Method,
        uri: Uri,
        headers: RequestHeaders,
        body: Option<Incoming>,
    ) -> RequestContext {
        RequestContext {
            app,
            request_id,
            arrived: Instant::now(),
            arrived_at: BootInstant::now(),
            peer,
            method,
            uri,
            headers,
            body: Mutex::new(body),
            received: AtomicU64::new(0),
            received_whole: AtomicBool::new(false),
            account_segment: OnceLock::new(),
            item_segment: OnceLock::new(),
            route: OnceLock::new(),
            account: OnceLock::new(),
            api_key: OnceLock::new(),
            begun_after: OnceLock::new(),
        }
    }

    /// Runs what serves a request. Everything in it finds the request by [`RequestContext::current`].
    pub fn scope<F: Future>(
        self: Arc<RequestContext>,
        serving: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self, serving)
    }

    /// The request that is being served.
    ///
    /// # Panics
    /// Outside of [`RequestContext::scope`].
    pub fn current() -> Arc<RequestContext> {
        CURRENT.get()
    }

    /// The id of the request that is being served, for the log. `None` outside of
    /// [`RequestContext::scope`].
    pub fn current_id() -> Option<Arc<str>> {
        CURRENT.try_with(|context| context.request_id.clone()).ok()
    }

    /// Takes the body, of which nothing was read yet.
    pub fn take_body(&self) -> Option<Incoming> {
        self.body.lock().take()
    }

    /// Notes the segment of the path that names an account.
    pub fn note_account_segment(&self, segment: String) {
        self.account_segment.get_or_init(|| segment);
    }

    /// Notes the segment of the path that names a symbol, a ticket, a trade or a file.
    pub fn note_item_segment(&self, segment: String) {
        self.item_segment.get_or_init(|| segment);
    }

    /// The noted name of an account; empty if the path names none.
    pub fn account_segment(&self) -> &str {
        self.account_segment.get().map_or("", String::as_str)
    }

    /// The noted name of a symbol, a ticket, a trade or a file; empty if the path names none.
    pub fn item_segment(&self) -> &str {
        self.item_segment.get().map_or("", String::as_str)
    }

    /// Notes that a route's path matches. From here on the request counts as one of the route,
    /// however it ends.
    pub fn note_route(&self, route: &'static Route) {
        self.route.get_or_init(|| {
            let http = self.app.instruments.as_ref();
            (route, http.map(|http| route.instruments.begin(http, &self.method)))
        });
    }

    /// The route whose path matched.
    pub fn route(&self) -> Option<&'static Route> {
        self.route.get().map(|(route, _)| *route)
    }

    /// Notes that the answer is a stream, whose length says nothing of its speed.
    pub fn begin_stream(&self) {
        self.begun_after.get_or_init(|| self.arrived.elapsed());
    }

    /// How long the answer took; of a stream, until it began.
    pub fn duration(&self) -> Duration {
        self.begun_after.get().copied().unwrap_or_else(|| self.arrived.elapsed())
    }

    /// The path, as it was sent.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// What follows the path behind a `?`.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// Notes the account that the request is about. From here on an account that goes waits for the
    /// end of the response.
    pub fn note_account(&self, account: &Arc<Account>) {
        self.account.get_or_init(|| (account.clone(), account.door.enter()));
    }

    /// Name of the account that the request is about, for the log.
    pub fn account(&self) -> Option<&str> {
        self.account.get().map(|(account, _)| account.name.as_str())
    }

    /// Notes the client's API key, also if it does not suffice.
    pub fn note_key(&self, key: Arc<ApiKey>) -> &ApiKey {
        self.api_key.get_or_init(|| key)
    }

    /// The API key that the client used; `None` where no keys are configured.
    pub fn key(&self) -> Option<&ApiKey> {
        self.api_key.get().map(Arc::as_ref)
    }

    /// Name of the API key that the client used, also if it did not suffice.
    pub fn api_key(&self) -> Option<&str> {
        self.key().map(ApiKey::name)
    }

    /// Notes that the body was read to its end.
    pub fn note_received_whole(&self) {
        self.received_whole.store(true, Ordering::Relaxed);
    }

    /// Whether the body was read to its end.
    pub fn is_received_whole(&self) -> bool {
        self.received_whole.load(Ordering::Relaxed)
    }

    /// Counts bytes of the body that were read.
    pub fn note_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The beginning of a client's text, for an error message.
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
