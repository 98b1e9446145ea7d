//! The content coding of an answer.

use http::Version;
use http::header::{ACCEPT_ENCODING, HeaderValue};

use crate::api::filters::headers::{self, with_quality};
use crate::api::problem::{Problem, ProblemType};
use crate::api::request_headers::RequestHeaders;

/// The codings that the gateway offers, the preferred one first.
const CODINGS: [&str; 3] = ["zstd", "gzip", "identity"];

/// Chooses the coding of the answer. `None`: the client does not ask for one. The compression layer
/// would find out that the client accepts none only after the handler ran, when an order may have
/// been placed.
///
/// # Errors
/// 406 if the client accepts none, 400 if the header cannot be parsed.
pub fn choose_coding(
    version: Version,
    headers: &RequestHeaders,
) -> Result<Option<HeaderValue>, Problem> {
    if !headers.contains(&ACCEPT_ENCODING) {
        return Ok(None);
    }
    let accepted = headers::list(headers, &ACCEPT_ENCODING)?;
    let quality_of = |coding: &str| {
        let named = |wanted: &str| {
            let mut elements = accepted.iter().map(|element| with_quality(element));
            elements.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, quality)| quality)
        };
        // Identity is acceptable unless it is excluded (RFC 9110, 12.5.3), but the last choice.
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
    // A compressed answer has no length, and HTTP/1.0 cannot tell its end from a broken connection.
    let coding = if version < Version::HTTP_11 { "identity" } else { coding };
    Ok(Some(HeaderValue::from_static(coding)))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

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
            let chosen = choose_coding(Version::HTTP_11, &headers(given));
            let chosen = match &chosen {
                Ok(chosen) => Ok(chosen.as_ref().map(|value| value.to_str().unwrap())),
                Err(problem) => Err(problem.status().as_u16()),
            };
            assert_eq!(chosen, expected, "{given:?}");
        }
    }

    fn headers(accept_encoding: Option<&str>) -> RequestHeaders {
        let mut headers = HeaderMap::new();
        if let Some(value) = accept_encoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        RequestHeaders::new(headers)
    }
}
