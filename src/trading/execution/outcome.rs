//! What the end of `order_send` says about a trade. Pure functions.

use std::time::Duration;

use crate::mt5::{ErrorType, OrderSendResult, Retcode, TradeAction, Verdict};
use crate::pool::{CallError, TradeError, TradeOutcome};
use crate::terminal::{Failure, Mode};
use crate::trading::build::StopRules;
use crate::trading::trade::{Trade, TradeResult, TradeState};

/// What is known of a trade after it was handed to a session.
pub enum Outcome {
    /// What came of it, or that nobody knows.
    Known(Box<Trade>),
    /// It was not sent in time.
    TooLate(Box<Trade>),
    /// It was not sent because of a halt.
    HeldBack(Box<Trade>),
    /// It certainly did not reach its broker.
    NotSent(Box<Trade>, CallError),
}

pub fn outcome(trade: Trade, traded: TradeOutcome, mode: Mode) -> Outcome {
    let unknown = |trade: Trade, detail: String, may_arrive: bool| {
        let may_arrive = may_arrive && mode == Mode::Live;
        let detail = Some(detail);
        Outcome::Known(Box::new(Trade { state: TradeState::Unknown, detail, may_arrive, ..trade }))
    };
    match traded {
        Ok(result) => Outcome::Known(Box::new(answered(trade, &result))),
        Err(TradeError::Withdrawn) => Outcome::TooLate(Box::new(trade)),
        Err(TradeError::HeldBack) => Outcome::HeldBack(Box::new(trade)),
        Err(TradeError::NotSent(error)) => Outcome::NotSent(Box::new(trade), error),
        Err(TradeError::Failed(Failure::Mt5(error))) => match error.error_type() {
            // The terminal took the request and has not answered: it may still deliver it.
            ErrorType::IpcTimeout | ErrorType::IpcReceive | ErrorType::IpcInternal => {
                unknown(trade, error.to_string(), true)
            }
            _ => unknown(trade, error.to_string(), false),
        },
        // An exception is no answer: behind a bridge the terminal may live and deliver.
        Err(TradeError::Failed(failure)) => unknown(trade, failure.to_string(), true),
        // Given back by a session that did not write it; whoever sends tries another one.
        Err(TradeError::Moved) => {
            Outcome::NotSent(Box::new(trade), CallError::NotReady(Duration::from_secs(1)))
        }
        Err(TradeError::Unanswered(detail)) => unknown(trade, detail, true),
    }
}

/// What the broker's answer says.
fn answered(trade: Trade, result: &OrderSendResult) -> Trade {
    let retcode = Retcode::from_code(result.retcode);
    let request = trade.request.as_ref();
    let action = request.and_then(|request| TradeAction::from_value(request.action));
    let requested = request.map_or(0.0, |request| request.volume);
    let known = |state| {
        let answered = Some(TradeResult::answered(result));
        Trade { state, result: answered, ..trade.clone() }
    };
    let open = || {
        let detail = format!("the broker answered {} ({})", result.retcode, retcode.name());
        Trade {
            state: TradeState::Unknown,
            accepted_order: result.order,
            detail: Some(detail),
            ..trade.clone()
        }
    };
    let deals = action == Some(TradeAction::Deal);
    match retcode.verdict() {
        // Of a deal the answer may be about its first part only; what its order made, deals say.
        Verdict::Executed if deals => {
            let whole = result.deal != 0 && result.volume > requested - 1e-9;
            if whole { known(TradeState::Executed) } else { open() }
        }
        Verdict::Executed => known(TradeState::Executed),
        // A pending order is placed by that.
        Verdict::Provisional if action == Some(TradeAction::Pending) && result.order != 0 => {
            known(TradeState::Executed)
        }
        Verdict::Provisional | Verdict::Unknown => open(),
        Verdict::Refused if result.deal != 0 => open(),
        Verdict::Refused => known(TradeState::Refused),
    }
}

/// A refusal of stops with what the symbol allows.
pub fn explained(trade: Trade, stop_rules: Option<&StopRules>) -> Trade {
    let stops = trade.result.as_ref().is_some_and(|result| {
        trade.state == TradeState::Refused && result.retcode == Retcode::InvalidStops.code()
    });
    match (stop_rules, &trade.request) {
        (Some(rules), Some(request)) if stops => {
            let detail = Some(rules.explain(request));
            Trade { detail, ..trade }
        }
        _ => trade,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_name::AccountName;
    use crate::mt5::{Error as Mt5Error, TradeRequest};
    use crate::trading::identifiers::TradeId;
    use crate::trading::trade::Operation;

    fn trade(action: TradeAction) -> Trade {
        let request =
            TradeRequest { action: action.value(), volume: 0.3, ..TradeRequest::default() };
        Trade {
            request: Some(request),
            ..Trade::new(
                TradeId::from_trusted("id"),
                AccountName::from_trusted("demo"),
                Operation::Place,
                0,
            )
        }
    }

    fn result(retcode: i64, order: u64, deal: u64, volume: f64) -> OrderSendResult {
        OrderSendResult { retcode, order, deal, volume, ..OrderSendResult::default() }
    }

    #[test]
    fn an_answer_is_final_only_if_it_says_all() {
        use TradeAction::{Deal, Modify, Pending, Remove, Sltp};
        let cases = [
            (Deal, result(10009, 7, 8, 0.3), TradeState::Executed, 0),
            // The first part of several, no deal yet, accepted, partly done.
            (Deal, result(10009, 7, 8, 0.1), TradeState::Unknown, 7),
            (Deal, result(10009, 7, 0, 0.3), TradeState::Unknown, 7),
            (Deal, result(10009, 0, 0, 0.3), TradeState::Unknown, 0),
            (Deal, result(10008, 7, 0, 0.3), TradeState::Unknown, 7),
            (Deal, result(10010, 7, 8, 0.2), TradeState::Unknown, 7),
            (Pending, result(10008, 7, 0, 0.3), TradeState::Executed, 0),
            (Pending, result(10009, 7, 0, 0.3), TradeState::Executed, 0),
            (Sltp, result(10009, 0, 0, 0.0), TradeState::Executed, 0),
            (Sltp, result(10025, 0, 0, 0.0), TradeState::Executed, 0),
            (Modify, result(10008, 7, 0, 0.0), TradeState::Unknown, 7),
            (Remove, result(10023, 0, 0, 0.0), TradeState::Unknown, 0),
            (Deal, result(10019, 0, 0, 0.0), TradeState::Refused, 0),
            // A deal beside a refusal contradicts it.
            (Deal, result(10019, 7, 8, 0.1), TradeState::Unknown, 7),
            (Deal, result(10012, 0, 0, 0.0), TradeState::Unknown, 0),
            (Deal, result(10011, 0, 0, 0.0), TradeState::Unknown, 0),
            (Deal, result(12345, 0, 0, 0.0), TradeState::Unknown, 0),
        ];
        for (action, result, state, accepted) in cases {
            let answered = answered(trade(action), &result);
            assert_eq!((answered.state, answered.accepted_order), (state, accepted), "{result:?}");
        }
    }

    #[test]
    fn what_a_silent_terminal_was_given_may_still_arrive() {
        let failed = |code| TradeError::Failed(Failure::Mt5(Mt5Error::new(code, "")));
        let cases = [
            (TradeError::Unanswered(String::new()), Some(true)),
            (failed(-10005), Some(true)),
            (failed(-10002), Some(true)),
            (failed(-10001), Some(false)),
            (failed(-1), Some(false)),
            (failed(-8), Some(false)),
            (failed(-2), Some(false)),
            (TradeError::Failed(Failure::Unusable(String::new())), Some(true)),
            (TradeError::NotSent(CallError::QueueFull), None),
            (TradeError::Withdrawn, None),
        ];
        for (error, expected) in cases {
            for mode in [Mode::Live, Mode::Simulated] {
                let name = format!("{error:?}");
                let known = match outcome(trade(TradeAction::Deal), Err(error.clone()), mode) {
                    Outcome::Known(trade) => {
                        assert_eq!(trade.state, TradeState::Unknown, "{name}");
                        Some(trade.may_arrive)
                    }
                    Outcome::TooLate(_) | Outcome::HeldBack(_) | Outcome::NotSent(..) => None,
                };
                let expected = expected.map(|arrives| arrives && mode == Mode::Live);
                assert_eq!(known, expected, "{name}");
            }
        }
    }
}
