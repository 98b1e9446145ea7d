//! Host names and origins, in the form in which browsers send them.

use std::net::IpAddr;

use http::uri::Authority;

use super::reader::Reader;

/// Takes `server.allowed_hosts`.
pub fn allowed_hosts(reader: &mut Reader) -> Vec<String> {
    each(reader, "server.allowed_hosts", host)
}

/// Takes `server.cors_origins`.
pub fn cors_origins(reader: &mut Reader) -> Vec<String> {
    each(reader, "server.cors_origins", origin)
}

/// Parses each entry of a list. A wrong one is a fault that names it.
fn each(
    reader: &mut Reader,
    key: &str,
    read: impl Fn(&str) -> Result<String, String>,
) -> Vec<String> {
    let mut entries = vec![];
    for text in reader.value(key, Vec::<String>::new()) {
        match read(text.trim()) {
            Ok(entry) => entries.push(entry),
            Err(fault) => reader.fault(key, format!("{text:?} {fault}")),
        }
    }
    entries
}

/// Parses a host name as it stands in `Host`, without the port.
fn host(text: &str) -> Result<String, String> {
    if text == "*" || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_ascii_lowercase());
    }
    let fault = |fault: &str| Err(format!("{fault}: expected a host name such as \"mt5.example\""));
    if text.contains("://") {
        return fault("has a scheme");
    }
    if text.contains('/') {
        return fault("has a path");
    }
    if text.contains(':') {
        return fault("has a port, but any port is allowed");
    }
    if text.contains('*') {
        return fault("has a wildcard, but only `[\"*\"]` is one");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if !name.is_ascii() {
        return fault("is not ASCII; write it as browsers send it (xn--…)");
    }
    if !is_host_name(name) {
        return fault("is not a host name");
    }
    Ok(name.to_ascii_lowercase())
}

/// Parses an origin, and formats it as browsers do: in lower case, without a default port.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" || text == "null" {
        return Ok(text.to_owned());
    }
    let expected = "expected an origin such as \"https://app.example\", `null` or `*`";
    let fault = |fault: &str| Err(format!("{fault}: {expected}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return fault("has no scheme");
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return fault("has a scheme that is none");
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        return Err(format!(
            "has a path, but an origin ends after host and port: write \"{scheme}://{}\"",
            &rest[..end]
        ));
    }
    if !rest.is_ascii() {
        return fault("is not ASCII; write it as browsers send it (xn--…)");
    }
    let authority: Authority = match rest.to_ascii_lowercase().parse() {
        Ok(authority) => authority,
        Err(_) => return fault("has a host or a port that is none"),
    };
    let host = authority.host();
    let after_host = authority.as_str().strip_prefix(host);
    let port = match after_host.map(|after| (after, after.strip_prefix(':'))) {
        Some(("", _)) => None,
        Some((_, Some(digits))) => match digits.parse::<u16>() {
            Ok(port) if port != 0 => Some(port),
            _ => return fault("has a port that is none"),
        },
        _ => return fault("has a user name"),
    };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match literal {
        Some(address) => match address.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => return fault("has an address that is none"),
        },
        None if is_host_name(host) => host.to_owned(),
        None => return fault("has a host that is none"),
    };
    let port =
        port.filter(|port| !matches!((scheme.as_str(), port), ("http", 80) | ("https", 443)));
    Ok(match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_name_without_scheme_port_or_path() {
        let good = [
            ("MT5.Example", "mt5.example"),
            ("mt5.example.", "mt5.example"),
            ("desk_1", "desk_1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("*", "*"),
        ];
        for (text, expected) in good {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        let bad = [
            ("https://mt5.example", "has a scheme"),
            ("mt5.example/console", "has a path"),
            ("mt5.example:8080", "has a port"),
            ("[::1]:8080", "has a port"),
            ("*.example", "has a wildcard"),
            ("börse.example", "is not ASCII"),
            ("mt5 example", "is not a host name"),
            ("mt5..example", "is not a host name"),
            ("", "is not a host name"),
        ];
        for (text, expected) in bad {
            let fault = host(text).unwrap_err();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }

    #[test]
    fn origin_is_written_as_browsers_send_it() {
        let good = [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
            ("*", "*"),
        ];
        for (text, expected) in good {
            assert_eq!(origin(text).as_deref(), Ok(expected), "{text}");
        }
        let bad = [
            ("https://app.example/", "has a path"),
            ("https://app.example/console", "has a path"),
            ("https://app.example?x", "has a path"),
            ("app.example", "has no scheme"),
            ("://app.example", "has a scheme that is none"),
            ("1s://app.example", "has a scheme that is none"),
            ("https://", "has a host"),
            ("https://app.example:0", "has a port that is none"),
            ("https://app.example:99999", "has a port that is none"),
            ("https://app.example:", "has a port that is none"),
            ("https://me@app.example", "has a user name"),
            ("https://*.example", "has a host that is none"),
            ("https://[::zz]", "has a"),
            ("https://börse.example", "is not ASCII"),
            ("https://app example", "has a host"),
        ];
        for (text, expected) in bad {
            let fault = origin(text).unwrap_err();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }
}
