//! The types of problems.

use http::StatusCode;

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
