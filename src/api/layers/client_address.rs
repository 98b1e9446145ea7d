//! The address of a client behind proxies.

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use http::header::FORWARDED;
use ipnet::IpNet;

use crate::api::problem::Problem;
use crate::api::request_headers::RequestHeaders;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address. It is the connection's peer, unless that is a trusted proxy: then it is
/// the last address in `Forwarded` (RFC 7239) or `X-Forwarded-For` that does not belong to a
/// trusted proxy, because anybody may have written those before it. If a trusted proxy hides an
/// address, or writes nonsense, that proxy counts as the client.
///
/// # Errors
/// 400 if the two headers name different clients. A proxy that writes one of them may pass on the
/// other as the client sent it, so neither can be trusted then.
pub fn client_address(
    peer: IpAddr,
    headers: &RequestHeaders,
    trusted: &[IpNet],
) -> Result<IpAddr, Problem> {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|network| network.contains(&peer)) {
        return Ok(peer);
    }
    let named = |name: &HeaderName, backwards: fn(&str) -> Vec<Option<IpAddr>>| {
        let lines = headers.get_all(name).rev();
        let entries = lines.flat_map(|line| line.to_str().map_or(vec![None], backwards));
        let mut entries = entries.peekable();
        entries.peek()?;
        Some(last_untrusted(peer, entries, trusted))
    };
    let forwarded =
        named(&FORWARDED, |line| backwards(line, ',').filter_map(node).map(address).collect());
    let forwarded_for = named(&FORWARDED_FOR, |line| line.rsplit(',').map(address).collect());
    match (forwarded, forwarded_for) {
        (Some(one), Some(other)) if one != other => Err(Problem::invalid(
            "headers `Forwarded` and `X-Forwarded-For` name different clients: have the proxy write \
             one of them and remove the other",
        )),
        (Some(client), _) | (None, Some(client)) => Ok(client),
        (None, None) => Ok(peer),
    }
}

/// Follows the addresses back as long as trusted proxies wrote them.
fn last_untrusted(
    peer: IpAddr,
    backwards: impl Iterator<Item = Option<IpAddr>>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer;
    for address in backwards {
        let Some(address) = address else {
            return client;
        };
        client = address.to_canonical();
        if !trusted.iter().any(|network| network.contains(&client)) {
            return client;
        }
    }
    client
}

/// An address as proxies write it, some of them in brackets or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The parameter `for` of an element of `Forwarded`. An element without one names no client.
fn node(element: &str) -> Option<&str> {
    backwards(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// Splits at separators outside quotes, from the end: a quote that a client left open must not
/// swallow what a proxy wrote behind it.
fn backwards(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.rsplit(move |character: char| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, lines: &[(HeaderName, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            let value = http::HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(name.clone(), value);
        }
        let trusted = ["127.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        match client_address(peer.parse().unwrap(), &RequestHeaders::new(headers), &trusted) {
            Ok(client) => client.to_string(),
            Err(problem) => problem.into_response().status().as_str().to_owned(),
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let cases: [(&str, &[&str], &str); 16] = [
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["198.51.100.7, nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", &["198.51.100.7:54321"], "198.51.100.7"),
            ("127.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", &["\"198.51.100.7\""], "198.51.100.7"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, 10.1.2.3:80"], "198.51.100.7"),
            ("127.0.0.1", &["198.51.100.7", "ä"], "127.0.0.1"),
            ("127.0.0.1", &["ä", "198.51.100.7"], "198.51.100.7"),
        ];
        for (peer, forwarded, expected) in cases {
            let lines: Vec<_> = forwarded.iter().map(|line| (FORWARDED_FOR, *line)).collect();
            assert_eq!(client(peer, &lines), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (line, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=203.0.113.9, for=198.51.100.7;proto=http;by=10.0.0.1", "198.51.100.7"),
            ("proto=https; for=\"198.51.100.7:80\"", "198.51.100.7"),
            ("for=198.51.100.7, for=10.1.2.3", "198.51.100.7"),
            ("for=\"a,b\", for=198.51.100.7", "198.51.100.7"),
            ("for=_hidden", "127.0.0.1"),
            ("for=unknown", "127.0.0.1"),
            ("proto=https", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[(FORWARDED, line)]), expected, "{line}");
        }
    }

    #[test]
    fn a_header_that_a_proxy_passes_on_unread_cannot_contradict_the_one_it_writes() {
        let (one, other) = ((FORWARDED, "for=198.51.100.7"), (FORWARDED_FOR, "203.0.113.9"));
        assert_eq!(client("127.0.0.1", &[one.clone(), other.clone()]), "400");
        assert_eq!(client("127.0.0.1", &[one, (FORWARDED_FOR, "198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("192.0.2.1", &[other, (FORWARDED, "for=10.0.0.1")]), "192.0.2.1");
        // One that names no client contradicts nobody.
        let other = (FORWARDED_FOR, "203.0.113.9");
        assert_eq!(client("127.0.0.1", &[(FORWARDED, "proto=https"), other]), "203.0.113.9");
    }

    proptest! {
        #[test]
        fn a_forged_beginning_changes_nothing(forged in "[ -~]{0,40}") {
            for (name, written) in [(FORWARDED_FOR, "198.51.100.7"), (FORWARDED, "for=198.51.100.7")] {
                let forwarded = format!("{forged}, {written}");
                prop_assert_eq!(client("127.0.0.1", &[(name, &forwarded)]), "198.51.100.7");
            }
        }
    }
}
