//! Errors as clients see them: `application/problem+json` (RFC 9457).
//!
//! A handler returns a [`Problem`]. It travels in the response's extensions to the outermost layer,
//! which alone knows the request id and writes the body. `conversions` turns the errors of lower
//! rooms into problems, and nothing else does, so that one failure has one status on every route.
//!
//! # Which status an error gets
//!
//! A status answers the question that a program asks first: may I send this again, and would that
//! help? The `type` answers the question of a person: what happened, and what do I do about it?
//! `docs/errors.md` describes each type.
//!
//! | status | what it means | the client | the operator |
//! |---|---|---|---|
//! | 400, 406, 413, 414, 415, 431 | the request is wrong | changes it; the same one fails again | nothing |
//! | 401, 403 | the key, the page or the account may not do this | uses another key | gives scopes, or enables trading |
//! | 404, 405 | no such thing, or not for this key | changes the path or the method | nothing |
//! | 408 | the body came too slowly; nothing was done | sends it again | looks at the network |
//! | 409 | the state forbids it, such as a trade under way | reads the state, then decides | settles a trade if asked to |
//! | 421 | the name in `Host` is not allowed | uses an allowed name | adds it to `server.allowed_hosts` |
//! | 422 | the broker refused, a key stands for another trade, or settings have faults | changes the order, the key or the settings | corrects the settings |
//! | 429 | over the key's rate | waits for `Retry-After` | raises the rate, if it is meant |
//! | 500 | a bug in the gateway | may repeat a read | reports it with the request id |
//! | 501 | the terminal does not support it | does without | updates the terminal or its module |
//! | 502 | the terminal answered with an error, or died | may repeat a read once | looks at the log of the account |
//! | 503 | not now; nothing was sent | waits for `Retry-After` and sends it again | looks at `/readyz` and the log |
//! | 504 | no answer in time | repeats a read; of a trade, asks for its outcome | looks for slow terminals |
//!
//! Three rules follow from money being at stake:
//!
//! - 503 promises that nothing was sent, so repeating a trade cannot double it.
//! - To a client of a trade, 504 means that the outcome is not known, so a trade that certainly was
//!   not sent is 503 even if a timeout was the cause.
//! - What a key may not see does not exist: 404, with the same body as for a name that was never
//!   used.

mod conversions;
mod problem_type;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use warp::reply::Response;

pub use self::problem_type::ProblemType;

/// An error on its way to the client.
#[derive(Clone)]
pub struct Problem {
    kind: ProblemType,
    detail: String,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    sent: Option<OnSent>,
}

/// What happens once a response was sent whole.
pub type OnSent = Arc<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl Problem {
    /// A problem of a type. The detail says what was wrong with which value, and what to do about
    /// it.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), extra: Map::new(), headers: vec![], sent: None }
    }

    /// A request that is wrong whatever the state of the gateway.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemType::InvalidRequest, detail)
    }

    /// Something in the path that does not exist, or that the client's key may not see.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemType::NotFound, detail)
    }

    /// A method that the route does not have.
    pub fn method_not_allowed(allowed: &[Method]) -> Problem {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let allowed = allowed.join(", ");
        let detail = format!("this route takes {allowed}");
        Problem::new(ProblemType::MethodNotAllowed, detail).header(ALLOW, &allowed)
    }

    /// A body over the limit.
    pub fn body_too_large(limit: u64) -> Problem {
        let detail = format!("the body has more than the {limit} bytes of `server.max_body`");
        Problem::new(ProblemType::BodyTooLarge, detail)
    }

    /// More headers than are read.
    pub fn header_too_large() -> Problem {
        let detail = "the request has more than 100 headers, or more than 64 KiB of them";
        Problem::new(ProblemType::HeaderTooLarge, detail)
    }

    /// Missing or unknown credentials.
    pub fn unauthorized(detail: &str) -> Problem {
        Problem::new(ProblemType::Unauthorized, detail).header(WWW_AUTHENTICATE, "Bearer")
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// What was wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Tells the client when to try again, in whole seconds, at least one.
    pub fn retry_after(self, delay: Duration) -> Problem {
        let seconds = delay.as_secs_f64().ceil().max(1.0);
        self.header(RETRY_AFTER, &format!("{seconds:.0}"))
    }

    /// Adds a member to the body.
    pub fn with(mut self, name: &str, value: Value) -> Problem {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// Runs something once the response was sent whole: only then can its client know of it.
    pub fn on_sent(self, sent: OnSent) -> Problem {
        Problem { sent: Some(sent), ..self }
    }

    /// Takes what happens once the response was sent whole.
    pub fn take_on_sent(&mut self) -> Option<OnSent> {
        self.sent.take()
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Problem {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// A response that carries the problem to the outermost layer.
    pub fn into_response(self) -> Response {
        self.into_response_of()
    }

    /// The same with a body of any type.
    pub fn into_response_of<B: Default>(self) -> http::Response<B> {
        let mut response = http::Response::<B>::default();
        *response.status_mut() = self.kind.status();
        response.extensions_mut().insert(self);
        response
    }

    /// The body.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let body = Body {
            r#type: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            request_id,
            extra: &self.extra,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Sets the headers of a response, and returns its body.
    pub fn render(self, response: &mut http::response::Parts, request_id: &str) -> Vec<u8> {
        let written = self.body(request_id);
        response.headers.extend(self.headers);
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        written
    }
}

/// The members in the order of RFC 9457.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

impl From<ProblemType> for Problem {
    fn from(kind: ProblemType) -> Problem {
        Problem::new(kind, kind.title())
    }
}
