//! Errors as clients see them: `application/problem+json` (RFC 9457).
//!
//! A handler returns a [`Problem`]; it travels in the response's extensions to
//! the edge, which alone knows the request id and writes the body. What the
//! pool, a terminal or MT5 says becomes a status here and nowhere else. Each
//! [`ProblemType`] is a `type`, described in `docs/errors.md`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use warp::reply::Response;

use crate::mt5::{self, ErrorType};
use crate::pool::CallError;
use crate::terminal::Failure;
use crate::trading::{self, Cause, NotSent, Refused};

macro_rules! kinds {
    ($($variant:ident $status:literal $slug:literal $title:literal),* $(,)?) => {
        /// The kinds of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemType {
            $(#[doc = $title] $variant,)*
        }

        impl ProblemType {
            /// Every kind.
            pub const ALL: &'static [ProblemType] = &[$(ProblemType::$variant,)*];

            /// The last part of its `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(ProblemType::$variant => $slug,)* }
            }

            /// Its `title`.
            pub const fn title(self) -> &'static str {
                match self { $(ProblemType::$variant => $title,)* }
            }

            /// Its status.
            pub fn status(self) -> StatusCode {
                let status = match self { $(ProblemType::$variant => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    };
}

kinds! {
    InvalidRequest 400 "invalid-request" "The request is malformed",
    InvalidParams 400 "invalid-params" "The terminal refused the parameters",
    Unauthorized 401 "unauthorized" "A key is needed",
    Forbidden 403 "forbidden" "The key does not allow this",
    OriginNotAllowed 403 "origin-not-allowed" "Pages of this origin may not do this",
    AutoTradingDisabled 403 "auto-trading-disabled" "Auto-trading is disabled",
    TradingDisabled 403 "trading-disabled" "The account may not trade",
    NotFound 404 "not-found" "There is no such thing",
    MethodNotAllowed 405 "method-not-allowed" "The method is not allowed here",
    NotAcceptable 406 "not-acceptable" "No acceptable representation",
    RequestTimeout 408 "request-timeout" "The request did not arrive in time",
    RestartUnderWay 409 "restart-under-way" "A restart is under way",
    TradeUnderWay 409 "trade-under-way" "A trade with this key is under way",
    TradeNotFound 409 "trade-not-found" "The trade with this key did not happen",
    TradeSuperseded 409 "trade-superseded" "What the trade was to change has changed otherwise",
    TradeNotResolvable 409 "trade-not-resolvable" "The trade cannot be settled so",
    BodyTooLarge 413 "body-too-large" "The body is too large",
    UriTooLong 414 "uri-too-long" "The request's target is too long",
    UnsupportedMediaType 415 "unsupported-media-type" "The body's type is not supported",
    HostNotAllowed 421 "host-not-allowed" "The gateway does not answer for this host",
    TradeRefused 422 "trade-refused" "The broker refused the trade",
    IdempotencyKeyReused 422 "idempotency-key-reused" "The key was used for another request",
    TooManyRequests 429 "too-many-requests" "Too many requests",
    HeaderTooLarge 431 "header-too-large" "The request's headers are too large",
    Internal 500 "internal" "The gateway failed",
    Unsupported 501 "unsupported" "The terminal does not support this",
    TerminalError 502 "terminal-error" "The terminal answered with an error",
    TerminalAnswerUnusable 502 "terminal-answer-unusable" "The terminal's answer is unusable",
    TerminalDied 502 "terminal-died" "The terminal died in this call",
    NotReady 503 "not-ready" "No terminal is ready",
    QueueFull 503 "queue-full" "The terminal's queue is full",
    NoQuote 503 "no-quote" "The terminal has no quote yet",
    TradeNotSent 503 "trade-not-sent" "The trade was withdrawn before it was sent",
    AuthFailed 503 "auth-failed" "The terminal is not logged in",
    JournalUnavailable 503 "journal-unavailable" "Trading is off without a journal",
    Reconciling 503 "reconciling" "Earlier trades are still being looked for",
    TooManyStreams 503 "too-many-streams" "As many streams as allowed are open",
    TerminalTimeout 504 "terminal-timeout" "The terminal did not answer in time",
    DeadlinePassed 504 "deadline-passed" "The deadline passed",
    OutcomeUnknown 504 "outcome-unknown" "The outcome of the trade is not known yet",
}

/// An error on its way to the client.
#[derive(Clone)]
pub struct Problem {
    kind: ProblemType,
    detail: String,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    sent: Option<OnSent>,
}

/// What is to be done once a response was sent whole.
pub type OnSent = Arc<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl Problem {
    /// A problem of a kind; the detail says what was wrong, with what, and what to do.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), extra: Map::new(), headers: vec![], sent: None }
    }

    /// A request that is wrong by itself.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(ProblemType::InvalidRequest, detail)
    }

    /// Something in the path that does not exist.
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

    /// Tells the client when to try again; whole seconds, at least one.
    pub fn retry_after(self, delay: Duration) -> Problem {
        let seconds = delay.as_secs_f64().ceil().max(1.0);
        self.header(RETRY_AFTER, &format!("{seconds:.0}"))
    }

    /// Adds a member to the body.
    pub fn with(mut self, name: &str, value: Value) -> Problem {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// Has something done once the response was sent whole: only then its client knows.
    pub fn on_sent(self, sent: OnSent) -> Problem {
        Problem { sent: Some(sent), ..self }
    }

    /// What is to be done once the response was sent whole.
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

    /// A response that carries the problem to the edge.
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

    /// Writes the body and the headers.
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

impl From<mt5::Error> for Problem {
    fn from(error: mt5::Error) -> Problem {
        let kind = match error.error_type() {
            ErrorType::InvalidParams => ProblemType::InvalidParams,
            ErrorType::NotFound => ProblemType::NotFound,
            ErrorType::AuthFailed => ProblemType::AuthFailed,
            ErrorType::Unsupported => ProblemType::Unsupported,
            ErrorType::AutoTradingDisabled => ProblemType::AutoTradingDisabled,
            ErrorType::IpcTimeout => ProblemType::TerminalTimeout,
            _ => ProblemType::TerminalError,
        };
        let name = error.error_type().name();
        let mt5 = json!({ "code": error.code, "name": name, "message": error.message });
        let problem = Problem::new(kind, error.to_string()).with("mt5", mt5);
        if kind == ProblemType::AuthFailed {
            problem.retry_after(Duration::from_secs(60))
        } else {
            problem
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        let detail = error.to_string();
        match error {
            CallError::Failed(Failure::Mt5(error)) => error.into(),
            CallError::Failed(Failure::Unusable(detail)) => {
                Problem::new(ProblemType::TerminalAnswerUnusable, detail)
            }
            CallError::Failed(Failure::OtherAccount(_)) => {
                Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1))
            }
            CallError::Failed(Failure::Withdrawn) => {
                Problem::new(ProblemType::TradeNotSent, detail)
            }
            CallError::TimedOut(_) => Problem::new(ProblemType::TerminalTimeout, detail),
            CallError::Died(_) => Problem::new(ProblemType::TerminalDied, detail),
            CallError::NotReady(delay) => {
                Problem::new(ProblemType::NotReady, detail).retry_after(delay)
            }
            CallError::QueueFull => {
                Problem::new(ProblemType::QueueFull, detail).retry_after(Duration::from_secs(1))
            }
            CallError::NoQuote(_) => {
                Problem::new(ProblemType::NoQuote, detail).retry_after(Duration::from_secs(1))
            }
            CallError::DeadlinePassed => Problem::new(ProblemType::DeadlinePassed, detail),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Invalid(rule) => Problem::invalid(rule),
            Refused::NotFound(detail) => Problem::not_found(detail),
            Refused::Call(error) => error.into(),
        }
    }
}

impl From<trading::Error> for Problem {
    fn from(error: trading::Error) -> Problem {
        let detail = error.to_string();
        let soon = Duration::from_secs(1);
        match error {
            trading::Error::Refused(refused) => {
                let problem = Problem::from(refused);
                if problem.kind.status() == StatusCode::GATEWAY_TIMEOUT {
                    // To a client of a trade 504 means that its outcome is not known.
                    let detail = format!("nothing was sent: {}", problem.detail);
                    return Problem::new(ProblemType::TradeNotSent, detail).retry_after(soon);
                }
                problem
            }
            trading::Error::NotSent(not_sent) => (*not_sent).into(),
            trading::Error::NotResolvable(_) => {
                Problem::new(ProblemType::TradeNotResolvable, detail)
            }
            trading::Error::Disabled(_) => Problem::new(ProblemType::TradingDisabled, detail),
            trading::Error::NoJournal(_) => {
                Problem::new(ProblemType::JournalUnavailable, detail).retry_after(soon)
            }
            trading::Error::Reconciling => {
                Problem::new(ProblemType::Reconciling, detail).retry_after(soon)
            }
            trading::Error::UnderWay => {
                Problem::new(ProblemType::TradeUnderWay, detail).retry_after(soon)
            }
            trading::Error::KeyReused => Problem::new(ProblemType::IdempotencyKeyReused, detail),
            trading::Error::OutcomeUnknown { trade_id } => {
                let detail = format!(
                    "{detail}: ask for trade {trade_id}, or send the same request with the same \
                     Idempotency-Key if it had one; without it or with a new one it could trade twice"
                );
                Problem::new(ProblemType::OutcomeUnknown, detail).with("trade_id", trade_id.into())
            }
        }
    }
}

impl From<NotSent> for Problem {
    fn from(not_sent: NotSent) -> Problem {
        let NotSent { trade, reason, cause, spent, retry_after } = not_sent;
        let trade_id = trade.trade_id;
        let too_late = || {
            let detail = format!("nothing was sent of trade {trade_id}: {reason}");
            Problem::new(ProblemType::TradeNotSent, detail)
        };
        let problem = match cause {
            // Why no terminal took it says more than that none did.
            Some(Cause::Call(error)) => match Problem::from(error) {
                // To a client of a trade 504 means that its outcome is not known.
                timeout if timeout.kind.status() == StatusCode::GATEWAY_TIMEOUT => too_late(),
                other => other,
            },
            Some(Cause::Journal(_)) => {
                let soon = Duration::from_secs(1);
                Problem::new(ProblemType::JournalUnavailable, reason.clone()).retry_after(soon)
            }
            None => too_late(),
        };
        let problem = match retry_after {
            Some(delay) => problem.retry_after(delay),
            None => problem,
        };
        let problem = match spent {
            Some(spent) => {
                let seconds = |duration: Duration| (duration.as_secs_f64() * 1e3).round() / 1e3;
                let spent = json!({
                    "preparation": seconds(spent.preparation),
                    "journal": seconds(spent.journal),
                    "waiting": seconds(spent.waiting),
                });
                problem.with("spent_seconds", spent)
            }
            None => problem,
        };
        problem.with("trade_id", trade_id.into())
    }
}
