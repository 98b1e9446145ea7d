//! The rules that a request's head is checked against.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, ORIGIN, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::authority::Authority;
use crate::api::Options;
use crate::api::context::shorten;
use crate::api::problem::{Problem, ProblemType};
use crate::api::request_headers::RequestHeaders;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How many headers a request may have, and how many bytes of names and values. hyper has the first
/// limit for HTTP/1 only, and refuses too many bytes in HTTP/2 without a body.
const MOST_HEADERS: usize = 100;
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// The origin that browsers send for pages without one, such as files and sandboxed frames.
const OPAQUE: &str = "null";

/// Paths that scrapers and load balancers request by any name or address.
const FOR_ANY_HOST: [&str; 3] = ["/metrics", "/livez", "/readyz"];

/// Whether a path is for scrapers and load balancers. Such a path answers any host, and never has
/// CORS.
pub fn is_for_any_host(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    FOR_ANY_HOST.contains(&path)
}

/// Checks the number and the size of a request's headers, before anything copies them.
///
/// # Errors
/// 431.
pub fn check_size(headers: &HeaderMap) -> Result<(), Problem> {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if headers.len() > MOST_HEADERS || bytes.sum::<usize>() > MOST_HEADER_BYTES {
        return Err(Problem::header_too_large());
    }
    Ok(())
}

/// The rules that a request's head is checked against.
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
    /// The rules of these options. `own_name` is the machine's name, which is always allowed.
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
    /// The problem to answer with: 400, 403, 405, 413, 415 or 421.
    pub fn check(&self, head: &Parts, headers: &RequestHeaders) -> Result<(), Problem> {
        // A CONNECT's authority and the `*` of OPTIONS are no paths.
        if head.method == Method::CONNECT || !head.uri.path().starts_with('/') {
            return Err(Problem::method_not_allowed(&[Method::GET, Method::HEAD]));
        }
        let authority = Authority::of(head, headers)?;
        if !is_for_any_host(head.uri.path()) {
            if let Some(authority) = &authority {
                self.check_host(authority.host)?;
            }
            self.check_origin(&head.method, headers, authority.as_ref())?;
        }
        self.check_body(headers)
    }

    /// Refuses names that are not allowed. Every IP address is: DNS rebinding needs a name.
    fn check_host(&self, host: &str) -> Result<(), Problem> {
        let name = host.strip_suffix('.').unwrap_or(host);
        if self.any_host || name.eq_ignore_ascii_case("localhost") {
            return Ok(());
        }
        let is_address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => name.parse::<Ipv4Addr>().is_ok(),
        };
        if is_address {
            return Ok(());
        }
        let name = name.to_ascii_lowercase();
        if name.ends_with(".localhost") || self.hosts.contains(&name) {
            return Ok(());
        }
        let name = shorten(&name);
        let detail = format!(
            "the gateway is not called {name:?}; if clients reach it by this name, add it to \
             `allowed_hosts` in the section [server] of the settings: allowed_hosts = [\"{name}\"]"
        );
        Err(Problem::new(ProblemType::HostNotAllowed, detail))
    }

    /// Refuses pages of other sites that want to change something or to open a WebSocket, which
    /// CORS does not prevent.
    fn check_origin(
        &self,
        method: &Method,
        headers: &RequestHeaders,
        authority: Option<&Authority<'_>>,
    ) -> Result<(), Problem> {
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if is_safe && !headers.contains(&UPGRADE) {
            return Ok(());
        }
        let mut origins = headers.get_all(&ORIGIN);
        let foreign = match (origins.next(), origins.next()) {
            (None, _) => {
                let foreign = ["cross-site", "same-site"];
                let mut sites = headers.get_all(&SEC_FETCH_SITE);
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

    fn allows_origin(&self, origin: &str, authority: Option<&Authority<'_>>) -> bool {
        let lower = origin.to_ascii_lowercase();
        if self.origins.contains(&lower) {
            return true;
        }
        if lower == OPAQUE {
            return false;
        }
        self.any_origin || authority.is_some_and(|authority| authority.has_origin(&lower))
    }

    fn check_body(&self, headers: &RequestHeaders) -> Result<(), Problem> {
        let coded = headers.get_all(&CONTENT_ENCODING);
        let mut coded = coded.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if coded.next().is_some() {
            let detail = "header `Content-Encoding`: bodies are taken as they are; send the JSON \
                          uncompressed";
            let problem = Problem::new(ProblemType::UnsupportedMediaType, detail);
            return Err(problem.header(ACCEPT_ENCODING, "identity"));
        }
        let declared = headers.get(&CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|length| length.parse::<u64>().ok());
        match declared {
            Some(declared) if declared > self.max_body => {
                Err(Problem::body_too_large(self.max_body))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
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
        let head = head(request);
        match admission.check(&head, &RequestHeaders::new(head.headers.clone())) {
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
        assert!(admission.check(&old, &RequestHeaders::default()).is_ok());
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
        let number = |count: usize| "x: y\n".repeat(count);
        let size = |bytes: usize| format!("x: {}\n", "y".repeat(bytes));
        for (headers, expected) in
            [(number(99), true), (number(100), false), (size(60_000), true), (size(70_000), false)]
        {
            let head = head(&format!("GET / x\n{headers}Host: 127.0.0.1"));
            assert_eq!(check_size(&head.headers).is_ok(), expected, "{} bytes", headers.len());
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

    proptest! {
        #[test]
        fn no_host_passes_but_those_that_are_allowed(name in "[a-z0-9.-]{1,20}") {
            let admission = admission(&[], &[]);
            let passes = status(&admission, &format!("GET / x\nHost: {name}")) == 200;
            let bare = name.strip_suffix('.').unwrap_or(&name);
            let known = bare == "localhost" || bare.ends_with(".localhost") || bare == "trader-pc";
            prop_assert_eq!(passes, known || bare.parse::<std::net::IpAddr>().is_ok());
        }
    }
}
