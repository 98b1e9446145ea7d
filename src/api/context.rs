//! What is known about a request. The outermost layer makes it, the chain of filters and
//! the route that matches add to it, and handlers and the log read it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, Method, Uri};
use tokio::time::Instant;

use super::auth::ApiKey;
use super::problem::Problem;
use super::state::App;
use crate::clock::BootInstant;
use crate::metrics::requests::{InProgress, RouteInstruments};
use crate::pool::Account;

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
    pub headers: HeaderMap,
    /// Body bytes read so far.
    pub received: AtomicU64,
    received_whole: AtomicBool,
    /// The segment of the path that names an account, decoded.
    account_segment: OnceLock<String>,
    /// The segment that names one of the account's things: a symbol, a ticket, a trade. Decoded.
    item_segment: OnceLock<String>,
    /// The route whose path matched, and its count of requests under way.
    route: OnceLock<(&'static Route, Option<InProgress>)>,
    account: OnceLock<Arc<Account>>,
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
        headers: HeaderMap,
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

    /// Notes the account that the request is about.
    pub fn note_account(&self, account: &Arc<Account>) {
        self.account.get_or_init(|| account.clone());
    }

    /// Name of the account that the request is about, for the log.
    pub fn account(&self) -> Option<&str> {
        self.account.get().map(|account| account.name.as_str())
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

    /// How much the client likes a media type, from 0 (not at all) to 1 (RFC 9110, 12.5.1).
    ///
    /// # Errors
    /// 400 if `Accept` cannot be read.
    pub fn quality(&self, media_type: &str) -> Result<f32, Problem> {
        if !self.headers.contains_key(ACCEPT) {
            return Ok(1.0);
        }
        let ranges = self.header_list(&ACCEPT)?;
        // The most specific range counts.
        let matching = ranges.into_iter().filter_map(|range| matching(range, media_type));
        Ok(matching.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality))
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
