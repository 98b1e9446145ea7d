//! The headers of a trade: `Idempotency-Key`, `Send-Within`, and `Idempotent-Replayed` of the answer.

use std::time::Duration;

use http::HeaderName;

use super::headers;
use crate::api::authorized::AccountRequest;
use crate::api::problem::Problem;
use crate::trading::{IdempotencyKey, TradeCommand};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEND_WITHIN: HeaderName = HeaderName::from_static("send-within");

/// Says that an answer repeats that of an earlier request with the same key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The client's key, with or without quotes.
///
/// # Errors
/// 400 if it is something else.
pub fn idempotency_key(request: &AccountRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(text) = headers::value(&request.context.headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let key = IdempotencyKey::parse(unquoted(text)).ok_or_else(|| {
        Problem::invalid(
            "header `Idempotency-Key`: expected one key of 1 to 255 visible ASCII characters",
        )
    })?;
    Ok(Some(key))
}

/// A key without the quotes that it may have: the header is a string in quotes by its draft, and most clients send none.
pub fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

/// How long the trade may take from its arrival until it is sent: the account's setting, which the
/// header may shorten.
///
/// # Errors
/// 400 if the header asks for more, or is no number of seconds above 0.
pub fn send_within(request: &AccountRequest, command: &TradeCommand) -> Result<Duration, Problem> {
    let account = &request.account;
    let (setting, longest) = if command.only_reduces_risk() {
        ("send_within_close", account.send_within_close)
    } else {
        ("send_within", account.send_within)
    };
    let Some(seconds) = headers::seconds(&request.context.headers, &SEND_WITHIN)? else {
        return Ok(longest);
    };
    let given = Duration::try_from_secs_f64(seconds).ok();
    given.filter(|given| *given <= longest).ok_or_else(|| {
        Problem::invalid(format!(
            "header `Send-Within`: expected at most {} seconds (`{setting}`), such as 2.5",
            longest.as_secs_f64()
        ))
    })
}
