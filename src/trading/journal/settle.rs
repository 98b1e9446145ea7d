//! Which reports about a trade are news. Pure functions.

use crate::trading::trade::{Trade, TradeState};

/// Whether a report changes what is known about a trade.
///
/// A report carries the time of change of the state that it follows. One that follows an older state
/// than the present one comes too late, and so does one that would change what is decided.
pub fn is_news(present: &Trade, report: &Trade) -> bool {
    let follows_present = present.updated_msc == report.updated_msc;
    let same = present.state == report.state;
    follows_present && (same || present.state.may_become(report.state))
}

/// The outcome that a change of state is counted as. What was decided before was counted then.
pub fn ended(before: Option<TradeState>, now: TradeState) -> Option<&'static str> {
    let decided = before.is_some_and(TradeState::is_final);
    now.outcome().filter(|_| !decided)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account_name::AccountName;
    use crate::trading::identifiers::TradeId;
    use crate::trading::trade::Operation;

    fn trade(state: TradeState, updated_msc: i64) -> Trade {
        Trade {
            state,
            updated_msc,
            ..Trade::new(
                TradeId::from_trusted("id"),
                AccountName::from_trusted("demo"),
                Operation::Place,
                0,
            )
        }
    }

    #[test]
    fn only_a_report_that_follows_the_present_state_is_news() {
        let cases = [
            (TradeState::Sending, TradeState::Executed, 5, true),
            (TradeState::Sending, TradeState::NotSent, 5, true),
            // The same state with more detail.
            (TradeState::Unknown, TradeState::Unknown, 5, true),
            (TradeState::Unknown, TradeState::Executed, 5, true),
            // It follows an older state.
            (TradeState::Unknown, TradeState::Executed, 4, false),
            (TradeState::Unknown, TradeState::Unknown, 4, false),
            // It was given to a terminal, so that nobody can say any more that it was not.
            (TradeState::Unknown, TradeState::NotSent, 5, false),
            (TradeState::Executed, TradeState::Refused, 5, false),
            (TradeState::NotFound, TradeState::Executed, 5, true),
            (TradeState::NotFound, TradeState::Refused, 5, false),
        ];
        for (present, state, follows, expected) in cases {
            let news = is_news(&trade(present, 5), &trade(state, follows));
            assert_eq!(news, expected, "{present:?} to {state:?}, following {follows}");
        }
    }

    #[test]
    fn a_trade_ends_once() {
        use TradeState::{Executed, NotFound, NotSent, Sending, Unknown};
        let cases = [
            (None, NotSent, Some("not_sent")),
            (Some(Sending), Unknown, None),
            (Some(Sending), Executed, Some("executed")),
            (Some(Unknown), Unknown, None),
            (Some(Unknown), NotFound, Some("not_found")),
            (Some(Executed), Executed, None),
            (Some(NotFound), Executed, None),
        ];
        for (before, now, expected) in cases {
            assert_eq!(ended(before, now), expected, "{before:?} to {now:?}");
        }
    }

    fn states() -> impl Strategy<Value = TradeState> {
        prop::sample::select(TradeState::ALL)
    }

    proptest! {
        /// Reports that come late, twice and in any order.
        #[test]
        fn what_is_decided_stays_decided_and_nothing_is_sending_twice(
            reports in prop::collection::vec((states(), 0i64..12), 1..30),
        ) {
            let mut present = trade(TradeState::Sending, 0);
            for (state, follows) in reports {
                let report = trade(state, follows);
                if !is_news(&present, &report) {
                    continue;
                }
                prop_assert_eq!(present.updated_msc, report.updated_msc);
                let late_fill = (present.state, state) == (TradeState::NotFound, TradeState::Executed);
                let same = present.state == state;
                prop_assert!(same || late_fill || !present.state.is_final());
                prop_assert!(same || state != TradeState::Sending);
                present = Trade { updated_msc: present.updated_msc + 1, ..report };
            }
        }
    }
}
