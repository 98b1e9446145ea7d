//! The values of headers.

use http::HeaderName;
use http::header::ACCEPT;

use crate::api::problem::Problem;
use crate::api::request_headers::RequestHeaders;

/// The one value of a header.
///
/// # Errors
/// 400 if it is given more than once, or is not visible ASCII. A wrong header is refused, never ignored.
pub fn value<'a>(
    headers: &'a RequestHeaders,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
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

/// A header of seconds above 0.
///
/// # Errors
/// 400 if it is something else.
pub fn seconds(headers: &RequestHeaders, name: &HeaderName) -> Result<Option<f64>, Problem> {
    let Some(text) = value(headers, name)? else {
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
pub fn quality(headers: &RequestHeaders, media_type: &str) -> Result<f32, Problem> {
    if !headers.contains(&ACCEPT) {
        return Ok(1.0);
    }
    let ranges = list(headers, &ACCEPT)?;
    // The most specific range counts.
    let matching = ranges.into_iter().filter_map(|range| matching(range, media_type));
    Ok(matching.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality))
}

/// The elements of a header that is a list with commas.
///
/// # Errors
/// 400 if it is not visible ASCII.
pub fn list<'a>(headers: &'a RequestHeaders, name: &HeaderName) -> Result<Vec<&'a str>, Problem> {
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
