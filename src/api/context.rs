//! What is known about a request beside its path: made at the edge, filled by
//! the route that matches, read by handlers and by the log.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, Method, Uri};
use jiff::Timestamp;
use tokio::time::Instant;

use super::App;
use super::auth::{ApiKey, Scope};
use super::problem::{Problem, ProblemType};
use crate::clock::BootInstant;
use crate::metrics::requests::{InProgress, RouteInstruments};
use crate::mt5::Mt5Call;
use crate::pool::{Account, CallContext};
use crate::trading::tag;

/// How long a client waits at most, seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// A route: what its requests are called in logs and metrics.
pub struct Route {
    /// Its path template, or `none`.
    pub template: &'static str,
    pub instruments: RouteInstruments,
}

impl Route {
    pub const fn new(template: &'static str) -> Route {
        Route { template, instruments: RouteInstruments::new(template) }
    }
}

/// One request.
pub struct RequestContext {
    pub request_id: Arc<str>,
    pub arrived: Instant,
    /// The same on a clock that counts suspension, for what must not be late.
    pub arrived_at: BootInstant,
    /// The client's address, as far as it is known through trusted proxies.
    pub peer: IpAddr,
    pub method: Method,
    uri: Uri,
    pub headers: HeaderMap,
    /// Body bytes read so far.
    pub received: AtomicU64,
    received_whole: AtomicBool,
    /// The route whose path matched, and its count of requests under way.
    route: OnceLock<(Arc<Route>, Option<InProgress>)>,
    account: OnceLock<String>,
    api_key: OnceLock<Arc<ApiKey>>,
    /// How long its answer took, if that is a stream without end.
    begun_after: OnceLock<Duration>,
}

impl RequestContext {
    pub fn new(
        request_id: Arc<str>,
        peer: IpAddr,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
    ) -> RequestContext {
        RequestContext {
            request_id,
            arrived: Instant::now(),
            arrived_at: BootInstant::now(),
            peer,
            method,
            uri,
            headers,
            received: AtomicU64::new(0),
            received_whole: AtomicBool::new(false),
            route: OnceLock::new(),
            account: OnceLock::new(),
            api_key: OnceLock::new(),
            begun_after: OnceLock::new(),
        }
    }

    /// Notes that a route's path matches.
    pub fn matched(&self, app: &App, route: &Arc<Route>) {
        self.route.get_or_init(|| {
            let http = app.instruments.as_ref();
            let under_way = http.map(|http| route.instruments.begin(http, &self.method));
            (route.clone(), under_way)
        });
    }

    /// The route whose path matched.
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.get().map(|(route, _)| route)
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

    /// The account that the request is about, for the log.
    pub fn account(&self) -> Option<&str> {
        self.account.get().map(String::as_str)
    }

    /// Name of the API key that the client used, also where it did not suffice.
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.get().map(|key| key.name())
    }

    /// The one value of a header.
    ///
    /// # Errors
    /// 400 if it is given more than once, or is not visible ASCII: it is not as if it were not there.
    pub fn header(&self, name: &HeaderName) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text.trim())),
            _ => Err(Problem::invalid(format!(
                "header `{}`: expected one value of visible ASCII characters",
                written(name)
            ))),
        }
    }

    /// The elements of a header that is a list with commas.
    ///
    /// # Errors
    /// 400 if it is not visible ASCII.
    pub fn header_list(&self, name: &HeaderName) -> Result<Vec<&str>, Problem> {
        header_list(&self.headers, name)
    }

    /// A header of seconds above 0.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn seconds(&self, name: &HeaderName) -> Result<Option<f64>, Problem> {
        let Some(text) = self.header(name)? else {
            return Ok(None);
        };
        let seconds = text.parse::<f64>().ok();
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        seconds.map(Some).ok_or_else(|| {
            let name = written(name);
            Problem::invalid(format!("header `{name}`: expected seconds above 0, such as 2.5"))
        })
    }

    pub fn note_received_whole(&self) {
        self.received_whole.store(true, Ordering::Relaxed);
    }

    /// Whether the body was read to its end.
    pub fn is_received_whole(&self) -> bool {
        self.received_whole.load(Ordering::Relaxed)
    }

    pub fn note_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A request that its route has admitted.
#[derive(Clone)]
pub struct AuthorizedRequest {
    pub app: Arc<App>,
    pub context: Arc<RequestContext>,
    call_context: CallContext,
}

impl AuthorizedRequest {
    /// Admits a request to a route.
    ///
    /// # Errors
    /// If it lacks the scope, its key is used too often, or its `Request-Timeout` is wrong.
    pub fn admit(
        app: Arc<App>,
        context: Arc<RequestContext>,
        scope: Option<Scope>,
    ) -> Result<AuthorizedRequest, Problem> {
        if let Some(scope) = scope
            && let Some(key) = app.keys.identify(&context.headers)?
        {
            let key = context.api_key.get_or_init(|| key);
            key.count_request()?;
            key.check(context.peer, Timestamp::now())?;
            key.authorize(scope)?;
        }
        let longest = app.options.request_timeout;
        let timeout = match context.seconds(&REQUEST_TIMEOUT)? {
            None => longest,
            Some(seconds) => longest.mul_f64((seconds / longest.as_secs_f64()).min(1.0)),
        };
        let call_context = CallContext::new(context.request_id.clone(), context.arrived + timeout);
        Ok(AuthorizedRequest { app, context, call_context })
    }

    /// The accounts that the client may see.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.app.accounts.iter().filter(|account| self.may_see(&account.name))
    }

    /// Whether the client may see an account. What it may not see is as if it did not exist.
    pub fn may_see(&self, account: &str) -> bool {
        self.context.api_key.get().is_none_or(|key| key.covers(account))
    }

    /// Whether the client may see every account, also those to come, and what concerns none of
    /// them.
    pub fn sees_every_account(&self) -> bool {
        self.context.api_key.get().is_none_or(|key| key.covers_all())
    }

    /// Whether the client may do what needs a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.context.api_key.get().is_none_or(|key| key.authorize(scope).is_ok())
    }

    /// Whether the client's key is no longer valid, which it was when the request came.
    pub fn is_key_expired(&self) -> bool {
        let left = self.context.api_key.get().and_then(|key| key.valid_for(Timestamp::now()));
        left.is_some_and(|left| left.is_zero())
    }

    /// Returns when the client's key is no longer valid.
    pub async fn key_expired(&self) {
        // The clock may be set meanwhile.
        const LONGEST: Duration = Duration::from_secs(60);
        while let Some(left) =
            self.context.api_key.get().and_then(|key| key.valid_for(Timestamp::now()))
        {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST)).await;
        }
        std::future::pending().await
    }

    /// The account that the path names.
    ///
    /// # Errors
    /// 404 if there is none.
    pub fn account(&self, name: &str) -> Result<&Arc<Account>, Problem> {
        let account = self.app.accounts.get(name).filter(|account| self.may_see(&account.name));
        let account = account.ok_or_else(|| {
            let names: Vec<&str> = self.accounts().map(|account| account.name.as_str()).collect();
            Problem::not_found(format!(
                "there is no account {:?}; there are: {}",
                shorten(name),
                names.join(", ")
            ))
        })?;
        self.context.account.get_or_init(|| account.name.clone());
        Ok(account)
    }

    /// Name of the API key that the client used; `None` where there are no keys.
    pub fn api_key(&self) -> Option<&str> {
        self.context.api_key()
    }

    /// On whose behalf calls are made.
    pub fn call_context(&self) -> &CallContext {
        &self.call_context
    }

    /// Makes a call on a terminal of the account.
    ///
    /// # Errors
    /// The problem that the lack of an answer is.
    pub async fn ask<C: Mt5Call>(&self, account: &str, call: C) -> Result<C::Reply, Problem> {
        let mut reply = self.account(account)?.call(call, &self.call_context).await?;
        tag::strip_answer(&mut reply);
        Ok(reply)
    }

    /// The same with a deadline that begins now, for each part of an answer that
    /// comes in parts.
    pub fn renewed_context(&self) -> CallContext {
        let deadline = Instant::now() + (self.call_context.deadline - self.context.arrived);
        CallContext { deadline, ..self.call_context.clone() }
    }

    /// # Errors
    /// 406 if the client takes no such type.
    pub fn accepts(&self, media_type: &str) -> Result<(), Problem> {
        if self.quality(media_type)? > 0.0 {
            return Ok(());
        }
        Err(Problem::new(ProblemType::NotAcceptable, format!("this route answers {media_type}")))
    }

    /// How much the client likes a type, from 0 (not at all) to 1 (RFC 9110, 12.5.1).
    ///
    /// # Errors
    /// 400 if `Accept` cannot be read.
    pub fn quality(&self, media_type: &str) -> Result<f32, Problem> {
        if !self.context.headers.contains_key(ACCEPT) {
            return Ok(1.0);
        }
        let ranges = self.context.header_list(&ACCEPT)?;
        // The most specific range counts.
        let matching = ranges.into_iter().filter_map(|range| matching(range, media_type));
        Ok(matching.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality))
    }

    /// Whether the client prefers a page to JSON, as browsers do.
    pub fn prefers_html(&self) -> Result<bool, Problem> {
        Ok(self.context.headers.contains_key(ACCEPT)
            && self.quality("text/html")? > self.quality("application/json")?)
    }
}

/// The elements of a header that is a list with commas.
///
/// # Errors
/// 400 if it is not visible ASCII.
pub fn header_list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Vec<&'a str>, Problem> {
    let mut elements = vec![];
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| {
            let name = written(name);
            Problem::invalid(format!("header `{name}`: expected visible ASCII characters"))
        })?;
        elements.extend(text.split(',').map(str::trim).filter(|element| !element.is_empty()));
    }
    Ok(elements)
}

/// What an element of `Accept` or `Accept-Encoding` names, and its quality.
pub fn with_quality(element: &str) -> (&str, f32) {
    let mut parts = element.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    (name, quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0))
}

/// A header's name as documents write it, such as `Send-Within`.
fn written(name: &HeaderName) -> String {
    let parts = name.as_str().split('-').map(|part| {
        let (first, rest) = part.split_at(1.min(part.len()));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

/// How precisely a media range names a type, and its quality; `None` if it does not.
fn matching(range: &str, media_type: &str) -> Option<(u8, f32)> {
    let group = media_type.split('/').next().unwrap_or_default();
    let (name, quality) = with_quality(range);
    let precision = if name == "*/*" {
        0
    } else if name.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(group)) {
        1
    } else if name.eq_ignore_ascii_case(media_type) {
        2
    } else {
        return None;
    };
    Some((precision, quality))
}

/// The beginning of a client's text, for an error message.
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::matching;

    #[test]
    fn parameters_of_headers_are_read_in_any_case() {
        for (range, expected) in [
            ("application/json", Some((2, 1.0))),
            ("Application/JSON;Q=0", Some((2, 0.0))),
            ("application/json ; q = 0.5", Some((2, 0.5))),
            ("application/json;charset=utf-8;q=0", Some((2, 0.0))),
            ("APPLICATION/*;Q=0.1", Some((1, 0.1))),
            ("*/*", Some((0, 1.0))),
            ("text/html", None),
        ] {
            assert_eq!(matching(range, "application/json"), expected, "{range}");
        }
    }
}
