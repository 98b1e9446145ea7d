//! The types of problems: the last part of each `type` URI, its status and its title.

use http::StatusCode;
use strum::{IntoStaticStr, VariantArray};

/// The type of a problem. Its slug is the variant's name in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[expect(missing_docs, reason = "the titles below say it")]
pub enum ProblemType {
    InvalidRequest,
    InvalidParams,
    Unauthorized,
    Forbidden,
    OriginNotAllowed,
    TradingNotAllowed,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    RestartUnderWay,
    TradeUnderWay,
    TradeNotFound,
    TradeSuperseded,
    TradeNotResolvable,
    TradesOpen,
    AccountNotStored,
    BodyTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    HostNotAllowed,
    TradeRefused,
    IdempotencyKeyReused,
    SettingsRefused,
    TooManyRequests,
    HeaderTooLarge,
    Internal,
    Unsupported,
    TerminalError,
    TerminalAnswerUnusable,
    TerminalDied,
    NotReady,
    AccountPaused,
    SettingsUnavailable,
    QueueFull,
    NoQuote,
    TradeNotSent,
    AuthFailed,
    JournalUnavailable,
    Reconciling,
    TooManyStreams,
    TerminalTimeout,
    DeadlinePassed,
    OutcomeUnknown,
}

impl ProblemType {
    /// Every type, by status.
    pub const ALL: &'static [ProblemType] = ProblemType::VARIANTS;

    /// The last part of its `type` URI.
    pub fn slug(self) -> &'static str {
        self.into()
    }

    /// Its `title`.
    pub const fn title(self) -> &'static str {
        match self {
            ProblemType::InvalidRequest => "The request is malformed",
            ProblemType::InvalidParams => "The terminal refused the parameters",
            ProblemType::Unauthorized => "A key is needed",
            ProblemType::Forbidden => "The key does not allow this",
            ProblemType::OriginNotAllowed => "Pages of this origin may not do this",
            ProblemType::TradingNotAllowed => "The account may not trade",
            ProblemType::NotFound => "There is no such thing",
            ProblemType::MethodNotAllowed => "The method is not allowed here",
            ProblemType::NotAcceptable => "No acceptable representation",
            ProblemType::RequestTimeout => "The request did not arrive in time",
            ProblemType::RestartUnderWay => "A restart is under way",
            ProblemType::TradeUnderWay => "A trade with this key is under way",
            ProblemType::TradeNotFound => "The trade with this key did not happen",
            ProblemType::TradeSuperseded => "What the trade was to change has changed otherwise",
            ProblemType::TradeNotResolvable => "The trade cannot be settled so",
            ProblemType::TradesOpen => "The outcome of a trade of the account is unknown",
            ProblemType::AccountNotStored => "The account is not from the accounts store",
            ProblemType::BodyTooLarge => "The body is too large",
            ProblemType::UriTooLong => "The request's target is too long",
            ProblemType::UnsupportedMediaType => "The body's type is not supported",
            ProblemType::HostNotAllowed => "The gateway does not answer for this host",
            ProblemType::TradeRefused => "The broker refused the trade",
            ProblemType::IdempotencyKeyReused => "The key was used for another request",
            ProblemType::SettingsRefused => "The settings have faults",
            ProblemType::TooManyRequests => "Too many requests",
            ProblemType::HeaderTooLarge => "The request's headers are too large",
            ProblemType::Internal => "The gateway failed",
            ProblemType::Unsupported => "The terminal does not support this",
            ProblemType::TerminalError => "The terminal answered with an error",
            ProblemType::TerminalAnswerUnusable => "The terminal's answer is unusable",
            ProblemType::TerminalDied => "The terminal died in this call",
            ProblemType::NotReady => "No terminal is ready",
            ProblemType::AccountPaused => "The account takes no requests for now",
            ProblemType::SettingsUnavailable => "The settings cannot be read or written",
            ProblemType::QueueFull => "The terminal's queue is full",
            ProblemType::NoQuote => "The terminal has no quote yet",
            ProblemType::TradeNotSent => "The trade was withdrawn before it was sent",
            ProblemType::AuthFailed => "The terminal is not logged in",
            ProblemType::JournalUnavailable => "Trading is off without a journal",
            ProblemType::Reconciling => "Earlier trades are still being looked for",
            ProblemType::TooManyStreams => "As many streams as allowed are open",
            ProblemType::TerminalTimeout => "The terminal did not answer in time",
            ProblemType::DeadlinePassed => "The deadline passed",
            ProblemType::OutcomeUnknown => "The outcome of the trade is not known yet",
        }
    }

    /// Its status.
    pub const fn status(self) -> StatusCode {
        match self {
            ProblemType::InvalidRequest | ProblemType::InvalidParams => StatusCode::BAD_REQUEST,
            ProblemType::Unauthorized => StatusCode::UNAUTHORIZED,
            ProblemType::Forbidden
            | ProblemType::OriginNotAllowed
            | ProblemType::TradingNotAllowed => StatusCode::FORBIDDEN,
            ProblemType::NotFound => StatusCode::NOT_FOUND,
            ProblemType::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ProblemType::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            ProblemType::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ProblemType::RestartUnderWay
            | ProblemType::TradeUnderWay
            | ProblemType::TradeNotFound
            | ProblemType::TradeSuperseded
            | ProblemType::TradeNotResolvable
            | ProblemType::TradesOpen
            | ProblemType::AccountNotStored => StatusCode::CONFLICT,
            ProblemType::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProblemType::UriTooLong => StatusCode::URI_TOO_LONG,
            ProblemType::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ProblemType::HostNotAllowed => StatusCode::MISDIRECTED_REQUEST,
            ProblemType::TradeRefused
            | ProblemType::IdempotencyKeyReused
            | ProblemType::SettingsRefused => StatusCode::UNPROCESSABLE_ENTITY,
            ProblemType::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ProblemType::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ProblemType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ProblemType::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ProblemType::TerminalError
            | ProblemType::TerminalAnswerUnusable
            | ProblemType::TerminalDied => StatusCode::BAD_GATEWAY,
            ProblemType::NotReady
            | ProblemType::AccountPaused
            | ProblemType::SettingsUnavailable
            | ProblemType::QueueFull
            | ProblemType::NoQuote
            | ProblemType::TradeNotSent
            | ProblemType::AuthFailed
            | ProblemType::JournalUnavailable
            | ProblemType::Reconciling
            | ProblemType::TooManyStreams => StatusCode::SERVICE_UNAVAILABLE,
            ProblemType::TerminalTimeout
            | ProblemType::DeadlinePassed
            | ProblemType::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
