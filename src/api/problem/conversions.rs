//! What the pool, a terminal, MT5 or the trading actor reports, as problems. This happens here and
//! nowhere else, so that one failure has one status on every route.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Problem, ProblemType};
use crate::mt5::{self, ErrorType};
use crate::pool::{CallError, TradeBlock};
use crate::terminal::Failure;
use crate::trading::{self, NotSent, NotSentCause, Refused};

impl From<mt5::Error> for Problem {
    fn from(error: mt5::Error) -> Problem {
        let kind = match error.error_type() {
            ErrorType::InvalidParams => ProblemType::InvalidParams,
            ErrorType::NotFound => ProblemType::NotFound,
            ErrorType::AuthFailed => ProblemType::AuthFailed,
            ErrorType::Unsupported => ProblemType::Unsupported,
            ErrorType::AutoTradingDisabled => ProblemType::TradingNotAllowed,
            ErrorType::IpcTimeout => ProblemType::TerminalTimeout,
            _ => ProblemType::TerminalError,
        };
        let name = error.error_type().name();
        let mt5 = json!({ "code": error.code, "name": name, "message": error.message });
        let problem = Problem::new(kind, error.to_string()).with("mt5", mt5);
        match kind {
            ProblemType::AuthFailed => problem.retry_after(Duration::from_secs(60)),
            ProblemType::TradingNotAllowed => {
                problem.with("reasons", json!([TradeBlock::AutotradingOff]))
            }
            _ => problem,
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
                if problem.status() == StatusCode::GATEWAY_TIMEOUT {
                    // To a client of a trade 504 means that its outcome is not known.
                    let detail = format!("nothing was sent: {}", problem.detail());
                    return Problem::new(ProblemType::TradeNotSent, detail).retry_after(soon);
                }
                problem
            }
            trading::Error::NotSent(not_sent) => (*not_sent).into(),
            trading::Error::NotResolvable(_) => {
                Problem::new(ProblemType::TradeNotResolvable, detail)
            }
            trading::Error::NotAllowed(blocks) => {
                Problem::new(ProblemType::TradingNotAllowed, detail).with("reasons", json!(blocks))
            }
            trading::Error::NoJournal(_) => {
                Problem::new(ProblemType::JournalUnavailable, detail).retry_after(soon)
            }
            trading::Error::Paused => {
                Problem::new(ProblemType::AccountPaused, detail).retry_after(soon)
            }
            trading::Error::Reconciling => {
                Problem::new(ProblemType::Reconciling, detail).retry_after(soon)
            }
            trading::Error::UnderWay => {
                Problem::new(ProblemType::TradeUnderWay, detail).retry_after(soon)
            }
            trading::Error::KeyReused | trading::Error::KeyOfSimulation => {
                Problem::new(ProblemType::IdempotencyKeyReused, detail)
            }
            trading::Error::OutcomeUnknown { trade_id: None } => {
                let detail = format!(
                    "{detail}: send the same request with the same Idempotency-Key; with a new one it \
                     could trade twice"
                );
                Problem::new(ProblemType::OutcomeUnknown, detail)
            }
            trading::Error::OutcomeUnknown { trade_id: Some(trade_id) } => {
                let detail = format!(
                    "{detail}: ask for trade {trade_id}, or send the same request with the same \
                     Idempotency-Key if it had one; without it or with a new one it could trade twice"
                );
                Problem::new(ProblemType::OutcomeUnknown, detail)
                    .with("trade_id", (&*trade_id).into())
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
            Some(NotSentCause::Call(error)) => match Problem::from(error) {
                // To a client of a trade 504 means that its outcome is not known.
                timeout if timeout.status() == StatusCode::GATEWAY_TIMEOUT => too_late(),
                other => other,
            },
            Some(NotSentCause::Halted) => Problem::new(ProblemType::TradingNotAllowed, reason)
                .with("reasons", json!([TradeBlock::Halted])),
            Some(NotSentCause::Journal(_)) => {
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
        problem.with("trade_id", (&*trade_id).into())
    }
}
