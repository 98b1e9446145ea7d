//! The host that a request is for.

use http::header::HOST;
use http::request::Parts;

use crate::api::problem::Problem;
use crate::api::request_headers::RequestHeaders;

/// The host that a request is for.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// A name, or an address; of version 6 in brackets.
    pub host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The host that a request is for. `None`: HTTP/1.0 need not name it.
    ///
    /// # Errors
    /// 400 if the host is missing, ambiguous or malformed.
    pub fn of(
        head: &'a Parts,
        headers: &'a RequestHeaders,
    ) -> Result<Option<Authority<'a>>, Problem> {
        let mut given = headers.get_all(&HOST);
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
            (Some(header), Some(target)) if !header.eq_ignore_ascii_case(target) => {
                Err(Problem::invalid(
                    "header `Host`: expected the host that the request's target names",
                ))
            }
            (Some(authority), _) | (None, Some(authority)) => {
                Authority::parse(authority).map(Some).ok_or_else(invalid_host)
            }
        }
    }

    /// Takes an authority without user information apart. `None` if it is malformed.
    fn parse(authority: &'a str) -> Option<Authority<'a>> {
        let host_end = match authority.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_end);
        let is_plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'[' | b']' | b':')
        };
        if host.is_empty() || !host.bytes().all(is_plain) {
            return None;
        }
        match port.strip_prefix(':') {
            None if port.is_empty() => Some(Authority { host, port: None }),
            None => None,
            Some("") => Some(Authority { host, port: None }),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Authority { host, port: Some(digits.parse().ok()?) })
            }
            Some(_) => None,
        }
    }

    /// Whether an origin, in lower case, is that of the pages that this host serves. Behind a proxy
    /// that terminates TLS the gateway does not know its own scheme, so the origin's scheme gives
    /// the default port.
    pub fn has_origin(&self, origin: &str) -> bool {
        let (default, rest) = match origin.split_once("://") {
            Some(("http", rest)) => (80, rest),
            Some(("https", rest)) => (443, rest),
            _ => return false,
        };
        Authority::parse(rest).is_some_and(|origin| {
            origin.host.eq_ignore_ascii_case(self.host)
                && origin.port.unwrap_or(default) == self.port.unwrap_or(default)
        })
    }
}

fn invalid_host() -> Problem {
    Problem::invalid("header `Host`: expected a name or an address, with or without a port")
}
