//! Which requests are refused by their head alone, before a route is looked for.
//!
//! A browser lets every page of the world send requests to addresses that only its user can reach.
//! Two headers tell such requests apart, because a page cannot set them: `Host` names the site that
//! the browser believes to talk to, which differs from ours after DNS rebinding, and `Origin` names
//! the page that asks. Where there is no `Origin`, `Sec-Fetch-Site` says how the page relates to us.
//!
//! [`Admission`] decides, [`AdmissionService`] asks it. The service also chooses the coding of the
//! answer, before anything acts, and turns what fails below it into problems, so that the layers above
//! it, CORS among them, see one kind of response.

use std::collections::HashSet;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HOST, HeaderName, HeaderValue, ORIGIN,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response};
use tower_service::Service;
use tracing::error;

use super::Options;
use super::context::{RequestContext, header_list, shorten, with_quality};
use super::problem::{Problem, ProblemType};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that a request may have, and bytes of their names and values. hyper has the first limit
/// for HTTP/1 only, and answers by itself where HTTP/2 has too much.
const MOST_HEADERS: usize = 100;
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// The origin that browsers send for pages that have none, such as files and sandboxed frames.
const OPAQUE: &str = "null";

/// Scrapers and load balancers ask for these by whatever name or address they have.
const FOR_ANY_HOST: [&str; 3] = ["/metrics", "/livez", "/readyz"];

/// Whether a path is for scrapers and load balancers: it answers any host, and never has CORS.
pub fn is_for_any_host(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    FOR_ANY_HOST.contains(&path)
}

/// What a request's head is checked against.
#[derive(Debug)]
pub struct Admission {
    any_host: bool,
    /// In lower case.
    hosts: HashSet<String>,
    any_origin: bool,
    origins: HashSet<String>,
    max_body: u64,
}

impl Admission {
    /// The rules of these options, on a machine of this name.
    pub fn new(options: &Options, own_name: Option<String>) -> Admission {
        let listed = options.allowed_hosts.iter().cloned();
        Admission {
            any_host: options.allowed_hosts.iter().any(|host| host == "*"),
            hosts: listed.chain(own_name).map(|host| host.to_ascii_lowercase()).collect(),
            any_origin: options.cors_origins.iter().any(|origin| origin == "*"),
            origins: options.cors_origins.iter().cloned().collect(),
            max_body: options.max_body,
        }
    }

    /// Checks a request's head.
    ///
    /// # Errors
    /// The problem to answer with: 400, 403, 405, 413, 415, 421 or 431.
    pub fn check(&self, head: &Parts) -> Result<(), Problem> {
        // A CONNECT's authority and the `*` of OPTIONS are no paths.
        if head.method == Method::CONNECT || !head.uri.path().starts_with('/') {
            return Err(Problem::method_not_allowed(&[Method::GET, Method::HEAD]));
        }
        let bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        if head.headers.len() > MOST_HEADERS || bytes.sum::<usize>() > MOST_HEADER_BYTES {
            return Err(Problem::header_too_large());
        }
        let authority = authority(head)?;
        if !is_for_any_host(head.uri.path()) {
            if let Some(authority) = authority {
                self.check_host(authority)?;
            }
            self.check_origin(head, authority)?;
        }
        self.check_body(head)
    }

    /// Any IP address is allowed: rebinding needs a name.
    fn check_host(&self, authority: &str) -> Result<(), Problem> {
        let (name, _) = split(authority).ok_or_else(invalid_host)?;
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => name.parse::<IpAddr>().is_ok(),
        };
        if self.any_host || is_address {
            return Ok(());
        }
        let name = name.to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") || self.hosts.contains(&name) {
            return Ok(());
        }
        let name = shorten(&name);
        let detail = format!(
            "the gateway is not called {name:?}; if clients reach it by this name, add it to \
             `allowed_hosts` in the section [server] of the settings: allowed_hosts = [\"{name}\"]"
        );
        Err(Problem::new(ProblemType::HostNotAllowed, detail))
    }

    /// Pages of other sites may not change anything, nor open a WebSocket, which browsers do not
    /// keep from them by CORS.
    fn check_origin(&self, head: &Parts, authority: Option<&str>) -> Result<(), Problem> {
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method);
        if is_safe && !head.headers.contains_key(UPGRADE) {
            return Ok(());
        }
        let mut origins = head.headers.get_all(ORIGIN).iter();
        let foreign = match (origins.next(), origins.next()) {
            (None, _) => {
                let foreign = ["cross-site", "same-site"];
                let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter();
                sites
                    .any(|site| {
                        foreign
                            .iter()
                            .any(|foreign| site.as_bytes().eq_ignore_ascii_case(foreign.as_bytes()))
                    })
                    .then(|| "`Sec-Fetch-Site` says that another site's page asks".to_owned())
            }
            (Some(origin), None) => {
                let text = origin.to_str().ok();
                let allowed = text.is_some_and(|origin| self.allows_origin(origin, authority));
                let text = text.map_or_else(|| "that is not ASCII".to_owned(), shorten);
                (!allowed).then(|| format!("a page of the origin {text} asks"))
            }
            (Some(_), Some(_)) => Some("there is more than one header `Origin`".to_owned()),
        };
        let Some(why) = foreign else {
            return Ok(());
        };
        let detail = format!(
            "{why}, which may neither change anything nor open a WebSocket: list its origin in \
             `server.cors_origins` if it is yours"
        );
        Err(Problem::new(ProblemType::OriginNotAllowed, detail))
    }

    fn allows_origin(&self, origin: &str, authority: Option<&str>) -> bool {
        let lower = origin.to_ascii_lowercase();
        if self.origins.contains(&lower) {
            return true;
        }
        if lower == OPAQUE {
            return false;
        }
        self.any_origin || authority.is_some_and(|authority| is_own(&lower, authority))
    }

    fn check_body(&self, head: &Parts) -> Result<(), Problem> {
        let coded = head.headers.get_all(CONTENT_ENCODING).iter();
        let mut coded = coded.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if coded.next().is_some() {
            let detail = "header `Content-Encoding`: bodies are taken as they are; send the JSON \
                          uncompressed";
            let problem = Problem::new(ProblemType::UnsupportedMediaType, detail);
            return Err(problem.header(ACCEPT_ENCODING, "identity"));
        }
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|length| length.parse::<u64>().ok());
        match declared {
            Some(declared) if declared > self.max_body => {
                Err(Problem::body_too_large(self.max_body))
            }
            _ => Ok(()),
        }
    }
}

/// The host that a request is for, with its port if it gives one; `None` for HTTP/1.0, whose
/// requests need not say.
fn authority(head: &Parts) -> Result<Option<&str>, Problem> {
    let mut given = head.headers.get_all(HOST).iter();
    let header = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().map_err(|_| invalid_host())?),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("header `Host`: expected one, got more"));
        }
    };
    let target = head.uri.authority().map(http::uri::Authority::as_str);
    match (header, target) {
        (None, None) if head.version <= http::Version::HTTP_10 => Ok(None),
        (None, None) => Err(Problem::invalid("header `Host` is missing")),
        // HTTP/1.1 asks for the header even where the target names the host (RFC 9112, 3.2).
        (None, Some(_)) if head.version == http::Version::HTTP_11 => {
            Err(Problem::invalid("header `Host` is missing"))
        }
        (Some(header), Some(target)) if !header.eq_ignore_ascii_case(target) => Err(
            Problem::invalid("header `Host`: expected the host that the request's target names"),
        ),
        (Some(authority), _) | (None, Some(authority)) => {
            split(authority).ok_or_else(invalid_host)?;
            Ok(Some(authority))
        }
    }
}

fn invalid_host() -> Problem {
    Problem::invalid("header `Host`: expected a name or an address, with or without a port")
}

/// The host and the port of an authority without user information. `None` if it is none.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// Whether an origin, in lower case, is that of the pages that the host itself serves. Its scheme
/// cannot be told behind a proxy that ends TLS, so the origin's own one gives the default port.
fn is_own(origin: &str, authority: &str) -> bool {
    let (default, rest) = match origin.split_once("://") {
        Some(("http", rest)) => (80, rest),
        Some(("https", rest)) => (443, rest),
        _ => return false,
    };
    let (Some((name, port)), Some((own, own_port))) = (split(rest), split(authority)) else {
        return false;
    };
    name.eq_ignore_ascii_case(own) && port.unwrap_or(default) == own_port.unwrap_or(default)
}

/// The service that refuses, around one that answers.
#[derive(Clone)]
pub struct AdmissionService<S> {
    pub admission: Arc<Admission>,
    pub inner: S,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, Q, B> Service<Request<Q>> for AdmissionService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: std::fmt::Display,
    S::Future: Send + 'static,
    B: Default + Send + 'static,
{
    type Response = Response<B>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Result<Response<B>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The layers below are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let context = head.extensions.get::<Arc<RequestContext>>();
        let request_id = context.map(|context| context.request_id.clone());
        // One that the edge found comes first.
        let found = head.extensions.remove::<Problem>();
        let checked = found.map_or_else(|| self.admission.check(&head), Err);
        if let Err(problem) = checked.and_then(|()| choose_coding(&mut head)) {
            return Box::pin(std::future::ready(Ok(problem.into_response_of())));
        }
        let answer = self.inner.call(Request::from_parts(head, body));
        Box::pin(async move {
            Ok(match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => with_etag_of_encoding(response),
                Ok(Err(fault)) => {
                    error!(request_id = request_id.as_deref(), %fault, "service failed");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
                Err(_) => {
                    error!(request_id = request_id.as_deref(), "handler panicked");
                    Problem::from(ProblemType::Internal).into_response_of()
                }
            })
        })
    }
}

/// The codings of an answer, the preferred one first.
const CODINGS: [&str; 3] = ["zstd", "gzip", "identity"];

/// Leaves the one coding in `Accept-Encoding` that the answer is to have. What compresses the answer
/// would notice only afterwards that the client takes none, when an order may be placed already.
///
/// # Errors
/// 406 if the client takes none, 400 if the header cannot be read.
fn choose_coding(head: &mut Parts) -> Result<(), Problem> {
    let headers = &mut head.headers;
    if !headers.contains_key(ACCEPT_ENCODING) {
        return Ok(());
    }
    let accepted = header_list(headers, &ACCEPT_ENCODING)?;
    let quality_of = |coding: &str| {
        let named = |wanted: &str| {
            let mut elements = accepted.iter().map(|element| with_quality(element));
            elements.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, quality)| quality)
        };
        // Identity is acceptable unless it is excluded (RFC 9110, 12.5.3), but asked for last.
        let unnamed = if coding == "identity" { f32::MIN_POSITIVE } else { 0.0 };
        named(coding).or_else(|| named("*")).unwrap_or(unnamed)
    };
    let mut chosen = (0.0, None);
    for coding in CODINGS {
        let quality = quality_of(coding);
        if quality > chosen.0 {
            chosen = (quality, Some(coding));
        }
    }
    let coding = chosen.1.ok_or_else(|| {
        let detail = format!("header `Accept-Encoding`: expected one of {}", CODINGS.join(", "));
        Problem::new(ProblemType::NotAcceptable, detail)
    })?;
    // A compressed answer has no length, and in HTTP/1.0 no end that could be told from a break.
    let coding = if head.version < http::Version::HTTP_11 { "identity" } else { coding };
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
    Ok(())
}

/// A strong `ETag` stands for the bytes of one encoding; a compressed answer keeps it as a weak one.
fn with_etag_of_encoding<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(tag) = headers.get(ETAG).map(HeaderValue::as_bytes)
        && !tag.starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat())
    {
        headers.insert(ETAG, weak);
    }
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admission(hosts: &[&str], origins: &[&str]) -> Admission {
        let owned = |text: &&str| (*text).to_owned();
        Admission {
            any_host: hosts.contains(&"*"),
            hosts: hosts.iter().chain(&["trader-pc"]).map(owned).collect(),
            any_origin: origins.contains(&"*"),
            origins: origins.iter().map(owned).collect(),
            max_body: 10,
        }
    }

    fn head(request: &str) -> Parts {
        let mut lines = request.lines();
        let mut first = lines.next().unwrap().split(' ');
        let mut builder =
            Request::builder().method(first.next().unwrap()).uri(first.next().unwrap());
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            builder = builder.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn status(admission: &Admission, request: &str) -> u16 {
        match admission.check(&head(request)) {
            Ok(()) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    #[test]
    fn names_that_are_not_listed_are_refused_and_addresses_are_not() {
        let admission = admission(&["gateway.example"], &[]);
        for (host, expected) in [
            ("127.0.0.1:8080", 200),
            ("192.0.2.7", 200),
            ("[::1]:8080", 200),
            ("[2001:db8::7]", 200),
            ("localhost:8080", 200),
            ("LocalHost", 200),
            ("localhost.:80", 200),
            ("a.localhost", 200),
            ("trader-pc:1", 200),
            ("TRADER-PC.", 200),
            ("gateway.example", 200),
            ("Gateway.Example:443", 200),
            ("evil.example:8080", 421),
            ("gateway.example.evil.example", 421),
            ("xlocalhost", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("[::1", 400),
            ("[localhost]", 421),
            ("127.0.0.1:99999", 400),
            ("user@127.0.0.1", 400),
            ("127.0.0.1:80:80", 400),
            ("127.0.0.1:+80", 400),
            ("a b", 400),
            ("gatewäy.example", 400),
        ] {
            let request = format!("GET /api/v1/accounts HTTP/1.1\nHost: {host}");
            assert_eq!(status(&admission, &request), expected, "{host}");
            let scrape = format!("GET /metrics/ HTTP/1.1\nHost: {host}");
            let scraped = if expected == 421 { 200 } else { expected };
            assert_eq!(status(&admission, &scrape), scraped, "{host}");
        }
        assert_eq!(
            status(&super::tests::admission(&["*"], &[]), "GET / x\nHost: evil.example"),
            200
        );
    }

    #[test]
    fn a_request_names_one_host() {
        let admission = admission(&[], &[]);
        for (request, expected) in [
            ("GET /docs x", 400),
            ("GET /docs x\nHost: 127.0.0.1\nHost: 127.0.0.1", 400),
            ("GET http://127.0.0.1/docs x", 400),
            ("GET http://127.0.0.1/docs x\nHost: 127.0.0.1", 200),
            ("GET http://evil.example/docs x\nHost: evil.example", 421),
            ("GET http://evil.example/docs x\nHost: 127.0.0.1", 400),
            ("GET http://127.0.0.1/docs x\nHost: evil.example", 400),
            ("GET /livez x", 400),
        ] {
            assert_eq!(status(&admission, request), expected, "{request}");
        }
        let mut old = head("GET /docs x");
        old.version = http::Version::HTTP_10;
        assert!(admission.check(&old).is_ok());
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing_and_opens_no_socket() {
        let listed = admission(&["gateway.example"], &["https://app.example"]);
        let own = "Host: 127.0.0.1:8080";
        for (headers, expected) in [
            ("", 200),
            ("Origin: http://127.0.0.1:8080", 200),
            ("Origin: https://127.0.0.1:8080", 200),
            ("Origin: http://127.0.0.1", 403),
            ("Origin: http://localhost:8080", 403),
            ("Origin: https://evil.example", 403),
            ("Origin: https://app.example", 200),
            ("Origin: https://app.example\nSec-Fetch-Site: cross-site", 200),
            ("Origin: http://127.0.0.1:8080\nSec-Fetch-Site: cross-site", 200),
            ("Origin: http://app.example", 403),
            ("Origin: https://app.example.evil.example", 403),
            ("Origin: https://app.example\nOrigin: https://app.example", 403),
            ("Origin: null", 403),
            ("Origin: ", 403),
            ("Origin: http://127.0.0.1:8080ü", 403),
            ("Sec-Fetch-Site: cross-site", 403),
            ("Sec-Fetch-Site: same-site", 403),
            ("Sec-Fetch-Site: none\nSec-Fetch-Site: Cross-Site", 403),
            ("Sec-Fetch-Site: same-origin", 200),
            ("Sec-Fetch-Site: none", 200),
        ] {
            let headers =
                if headers.is_empty() { own.to_owned() } else { format!("{own}\n{headers}") };
            for (method, extra, safe) in [
                ("POST", "", false),
                ("PUT", "", false),
                ("DELETE", "", false),
                ("PATCH", "", false),
                ("BREW", "", false),
                ("GET", "\nUpgrade: websocket", false),
                ("GET", "", true),
                ("HEAD", "", true),
            ] {
                let request = format!("{method} /api/v1/accounts/demo/restart x\n{headers}{extra}");
                let expected = if safe { 200 } else { expected };
                assert_eq!(status(&listed, &request), expected, "{request}");
            }
        }
        let own_name = "POST / x\nHost: gateway.example\nOrigin: https://gateway.example";
        assert_eq!(status(&listed, own_name), 200);
        let any = admission(&[], &["*"]);
        let foreign = format!("POST / x\n{own}\nOrigin: https://evil.example");
        assert_eq!(status(&any, &foreign), 200);
        let opaque = format!("POST / x\n{own}\nOrigin: null");
        assert_eq!(status(&any, &opaque), 403);
        assert_eq!(status(&admission(&[], &["null"]), &opaque), 200);
    }

    #[test]
    fn headers_have_a_limit_in_number_and_in_size() {
        let admission = admission(&[], &[]);
        let number = |count: usize| "x: y\n".repeat(count);
        let size = |bytes: usize| format!("x: {}\n", "y".repeat(bytes));
        for (headers, expected) in
            [(number(99), 200), (number(100), 431), (size(60_000), 200), (size(70_000), 431)]
        {
            let request = format!("GET / x\n{headers}Host: 127.0.0.1");
            assert_eq!(status(&admission, &request), expected, "{} bytes", headers.len());
        }
    }

    #[test]
    fn bodies_that_are_coded_or_too_large_are_refused_unread() {
        let admission = admission(&[], &[]);
        for (header, expected) in [
            ("Content-Encoding: gzip", 415),
            ("Content-Encoding: identity", 200),
            ("Content-Encoding: ", 415),
            ("Content-Length: 11", 413),
            ("Content-Length: 10", 200),
        ] {
            let request = format!("POST / x\nHost: 127.0.0.1\n{header}");
            assert_eq!(status(&admission, &request), expected, "{request}");
        }
    }

    #[test]
    fn the_coding_of_an_answer_is_chosen_before_anything_acts() {
        for (given, expected) in [
            (None, Ok(None)),
            (Some("gzip"), Ok(Some("gzip"))),
            (Some("gzip, deflate, br, zstd"), Ok(Some("zstd"))),
            (Some("GZIP;Q=0.5, zstd;q=0.4"), Ok(Some("gzip"))),
            (Some("br"), Ok(Some("identity"))),
            (Some(""), Ok(Some("identity"))),
            (Some("*"), Ok(Some("zstd"))),
            (Some("gzip;q=0"), Ok(Some("identity"))),
            (Some("identity;q=1, gzip;q=0.5"), Ok(Some("identity"))),
            (Some("identity;q=0, gzip"), Ok(Some("gzip"))),
            (Some("identity;q=0"), Err(406)),
            (Some("identity;q=0, br"), Err(406)),
            (Some("*;q=0"), Err(406)),
            (Some("gzip;q=0, *;q=0"), Err(406)),
            (Some("ä"), Err(400)),
        ] {
            let header = given.map_or(String::new(), |given| format!("\nAccept-Encoding: {given}"));
            let mut head = head(&format!("GET / x{header}"));
            let chosen = match choose_coding(&mut head) {
                Ok(()) => {
                    let chosen = head.headers.get(ACCEPT_ENCODING);
                    Ok(chosen.map(|value| value.to_str().unwrap()))
                }
                Err(problem) => Err(problem.into_response().status().as_u16()),
            };
            assert_eq!(chosen, expected, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn no_host_passes_but_those_that_are_allowed(name in "[a-z0-9.-]{1,20}") {
            let admission = admission(&[], &[]);
            let passes = status(&admission, &format!("GET / x\nHost: {name}")) == 200;
            let bare = name.strip_suffix('.').unwrap_or(&name);
            let known = bare == "localhost" || bare.ends_with(".localhost") || bare == "trader-pc";
            prop_assert_eq!(passes, known || bare.parse::<IpAddr>().is_ok());
        }
    }
}
