//! What follows from a finding, with time. Pure functions.
//!
//! "Nothing shows it" becomes "it did not happen" only when a terminal that was sound and complete has
//! shown nothing for long enough, and only if the terminal answered the trade at all.

use std::time::Duration;

use tokio::time::Instant;

use super::decide::Finding;
use super::gate::{History, Primary};
use crate::trading::trade::{Trade, TradeResult, TradeState};

/// A look at a terminal that was sound at both ends of it.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub at: Instant,
    pub primary: Primary,
    /// What the terminal's history shows, if that was asked for.
    pub history: Option<History>,
}

/// What earlier looks have shown of an open trade.
#[derive(Debug, Default)]
pub struct Search {
    absence: Option<Absence>,
    /// Whether the last look has shown that no further look will tell.
    pub undecidable: bool,
}

/// That nothing shows a trade, without interruption.
#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    /// On which terminal.
    primary: Primary,
    /// What its history had then.
    history: History,
}

/// What is to be done about a trade.
#[derive(Debug, Clone, PartialEq)]
pub enum Conclusion {
    /// There is nothing that is not known already.
    Nothing,
    /// It stays open, and this is known of it now.
    Note(Trade),
    /// It has ended.
    End(Trade),
    /// It was not found before, and has happened after all.
    LateFill(Trade),
    /// What the terminal shows contradicts how an operator settled it.
    Contradiction(Trade),
}

/// Draws the conclusion from a finding. `patience`: how long nothing has to show a trade before it is
/// known not to have happened.
pub fn conclude(
    search: &mut Search,
    trade: Trade,
    finding: Finding,
    look: Look,
    patience: Duration,
) -> Conclusion {
    if !matches!(finding, Finding::Unseen | Finding::Void(_)) {
        search.absence = None;
    }
    search.undecidable = false;
    match finding {
        Finding::Executed(result) => end(trade, TradeState::Executed, Some(result), None),
        // What an operator settled is watched for what contradicts it.
        Finding::Refused(_) | Finding::Void(_) if trade.state == TradeState::Executed => {
            contradict(trade, "the terminal shows that it did not happen".to_owned())
        }
        // Only a fill changes a trade that is settled or was not found.
        _ if trade.state.is_final() => Conclusion::Nothing,
        Finding::Refused(result) => end(trade, TradeState::Refused, Some(result), None),
        Finding::Superseded { detail, present } => {
            let trade = Trade { present: Some(present), ..trade };
            end(trade, TradeState::Superseded, None, Some(detail))
        }
        Finding::Unseen => absent(search, trade, None, look, patience),
        Finding::Void(detail) => absent(search, trade, Some(detail), look, patience),
        Finding::Working { order } => {
            let detail = "the broker has the order and is executing it".to_owned();
            note(Trade { accepted_order: order, ..trade }, detail, vec![order])
        }
        Finding::Open { detail, candidates } => {
            search.undecidable = true;
            note(trade, detail, candidates)
        }
    }
}

/// Nothing shows the trade. `void`: why it cannot happen any more.
fn absent(
    search: &mut Search,
    trade: Trade,
    void: Option<String>,
    look: Look,
    patience: Duration,
) -> Conclusion {
    let Some(history) = look.history else {
        return Conclusion::Nothing;
    };
    let fresh = Absence { since: look.at, primary: look.primary, history };
    let absence = *search.absence.get_or_insert(fresh);
    let shows_known = history.shows_known == Some(true);
    if absence.primary != look.primary || (!shows_known && absence.history != history) {
        // Another terminal, or one that is still downloading its history: from the start.
        search.absence = Some(fresh);
        return Conclusion::Nothing;
    }
    if trade.may_arrive && void.is_none() {
        search.undecidable = true;
        let detail = "its terminal ended, or was ended, before it answered, and may still deliver it; \
            nothing shows it so far, and an operator can settle it";
        return note(trade, detail.to_owned(), vec![]);
    }
    let waited = look.at.duration_since(absence.since) >= patience;
    // A history without the known deal has to have something else at least.
    let empty = history.shows_known == Some(false) && history.deals == 0;
    if empty || !(waited || (shows_known && void.is_some())) {
        return Conclusion::Nothing;
    }
    let detail = void.unwrap_or_else(|| {
        format!(
            "nothing showed it for {patience:?} on a terminal that was connected, logged in to this \
             account, and whose history had caught up"
        )
    });
    end(trade, TradeState::NotFound, None, Some(detail))
}

fn note(trade: Trade, detail: String, candidates: Vec<u64>) -> Conclusion {
    if trade.detail.as_deref() == Some(&detail) && trade.candidates == candidates {
        return Conclusion::Nothing;
    }
    Conclusion::Note(Trade { detail: Some(detail), candidates, ..trade })
}

/// An operator's word is not written over: whoever reads the trade sees both.
fn contradict(trade: Trade, detail: String) -> Conclusion {
    if trade.contradicted.is_some() || trade.resolved_by.is_none() {
        return Conclusion::Nothing;
    }
    Conclusion::Contradiction(Trade { contradicted: Some(detail), ..trade })
}

fn end(
    trade: Trade,
    state: TradeState,
    result: Option<TradeResult>,
    detail: Option<String>,
) -> Conclusion {
    if trade.resolved_by.is_some() {
        let order = result.map_or(0, |result| result.order);
        let same = trade.own_orders().contains(&order);
        if trade.state == TradeState::Executed && (same || order == 0) {
            return Conclusion::Nothing;
        }
        return contradict(trade, format!("order {order} shows that it was {}", state.name()));
    }
    if trade.state == TradeState::NotFound {
        let detail = Some("it was filled late, after it was not found".to_owned());
        return Conclusion::LateFill(Trade { state, result, detail, candidates: vec![], ..trade });
    }
    Conclusion::End(Trade { state, result, detail, candidates: vec![], ..trade })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::account_name::AccountName;
    use crate::mt5::Retcode;
    use crate::trading::identifiers::TradeId;
    use crate::trading::trade::Operation;

    const PATIENCE: Duration = Duration::from_secs(60);
    const COMPLETE: History = History { shows_known: Some(true), deals: 7 };

    fn unknown() -> Trade {
        Trade {
            state: TradeState::Unknown,
            ..Trade::new(
                TradeId::from_trusted("id"),
                AccountName::from_trusted("demo"),
                Operation::Place,
                0,
            )
        }
    }

    fn filled(order: u64) -> Finding {
        Finding::Executed(TradeResult::found(Retcode::Done, order, 0.1, 1.1))
    }

    fn void() -> Finding {
        Finding::Void("its position was closed by other orders".to_owned())
    }

    fn open() -> Finding {
        Finding::Open { detail: "orders look like it".to_owned(), candidates: vec![3] }
    }

    struct Looks {
        search: Search,
        began: Instant,
    }

    impl Looks {
        fn new() -> Looks {
            Looks { search: Search::default(), began: Instant::now() }
        }

        /// Looks so many seconds after the first look, on a session.
        fn look(
            &mut self,
            trade: &Trade,
            finding: Finding,
            second: u64,
            session: usize,
            history: Option<History>,
        ) -> Conclusion {
            let at = self.began + Duration::from_secs(second);
            let look = Look { at, primary: (session, Timestamp::UNIX_EPOCH), history };
            conclude(&mut self.search, trade.clone(), finding, look, PATIENCE)
        }
    }

    fn state(conclusion: &Conclusion) -> Option<TradeState> {
        match conclusion {
            Conclusion::End(trade) => Some(trade.state),
            _ => None,
        }
    }

    #[test]
    fn what_nothing_shows_is_not_found_after_patience_without_interruption() {
        let mut looks = Looks::new();
        let mut not_found = |finding, second, session, history| {
            let conclusion = looks.look(&unknown(), finding, second, session, Some(history));
            state(&conclusion) == Some(TradeState::NotFound)
        };
        assert!(!not_found(Finding::Unseen, 0, 0, COMPLETE));
        assert!(!not_found(Finding::Unseen, 59, 0, COMPLETE));
        // Another terminal, a candidate: from the start.
        assert!(!not_found(Finding::Unseen, 60, 1, COMPLETE));
        assert!(!not_found(Finding::Unseen, 119, 1, COMPLETE));
        assert!(!not_found(open(), 119, 1, COMPLETE));
        assert!(!not_found(Finding::Unseen, 120, 1, COMPLETE));
        assert!(!not_found(Finding::Unseen, 179, 1, COMPLETE));
        assert!(not_found(Finding::Unseen, 180, 1, COMPLETE));
    }

    #[test]
    fn a_history_that_still_grows_or_is_empty_shows_no_absence() {
        let behind = |deals| History { shows_known: Some(false), deals };
        let strange = |deals| History { shows_known: None, deals };
        for history in [behind, strange] {
            let mut looks = Looks::new();
            for (second, deals) in [(0, 1), (60, 2), (119, 2)] {
                let conclusion =
                    looks.look(&unknown(), Finding::Unseen, second, 0, Some(history(deals)));
                assert_eq!(conclusion, Conclusion::Nothing, "{second}");
            }
            let conclusion = looks.look(&unknown(), Finding::Unseen, 120, 0, Some(history(2)));
            assert_eq!(state(&conclusion), Some(TradeState::NotFound));
        }
        let mut looks = Looks::new();
        for second in [0, 1_000] {
            let conclusion = looks.look(&unknown(), Finding::Unseen, second, 0, Some(behind(0)));
            assert_eq!(conclusion, Conclusion::Nothing);
        }
        let conclusion = looks.look(&unknown(), Finding::Unseen, 2_000, 0, None);
        assert_eq!(conclusion, Conclusion::Nothing, "the history was not asked for");
    }

    #[test]
    fn what_cannot_happen_any_more_is_not_found_at_once_on_a_complete_history() {
        let may_arrive = Trade { may_arrive: true, ..unknown() };
        for trade in [unknown(), may_arrive] {
            let conclusion = Looks::new().look(&trade, void(), 0, 0, Some(COMPLETE));
            assert_eq!(state(&conclusion), Some(TradeState::NotFound));
        }
        let without = History { shows_known: None, deals: 7 };
        let mut looks = Looks::new();
        let first = looks.look(&unknown(), void(), 0, 0, Some(without));
        let last = looks.look(&unknown(), void(), 60, 0, Some(without));
        assert_eq!((first, state(&last)), (Conclusion::Nothing, Some(TradeState::NotFound)));
    }

    #[test]
    fn what_may_still_arrive_stays_open_and_is_noted_once() {
        let mut looks = Looks::new();
        let trade = Trade { may_arrive: true, ..unknown() };
        let Conclusion::Note(noted) = looks.look(&trade, Finding::Unseen, 0, 0, Some(COMPLETE))
        else {
            panic!("not noted");
        };
        assert!(looks.search.undecidable);
        let later = looks.look(&noted, Finding::Unseen, 1_000_000, 0, Some(COMPLETE));
        assert_eq!((later, noted.state), (Conclusion::Nothing, TradeState::Unknown));
    }

    #[test]
    fn a_trade_that_was_not_found_can_only_be_filled_late() {
        let not_found = Trade { state: TradeState::NotFound, ..unknown() };
        for finding in [Finding::Unseen, void(), open(), Finding::Working { order: 3 }] {
            let conclusion = Looks::new().look(&not_found, finding, 0, 0, Some(COMPLETE));
            assert_eq!(conclusion, Conclusion::Nothing);
        }
        let late = Looks::new().look(&not_found, filled(3), 0, 0, Some(COMPLETE));
        assert!(matches!(late, Conclusion::LateFill(Trade { state: TradeState::Executed, .. })));
    }

    #[test]
    fn what_contradicts_an_operator_is_recorded_once_beside_the_decision() {
        let operator = Some("desk".to_owned());
        let executed = Trade {
            state: TradeState::Executed,
            result: Some(TradeResult::found(Retcode::Done, 3, 0.1, 1.1)),
            resolved_by: operator.clone(),
            ..unknown()
        };
        let not_found = Trade { state: TradeState::NotFound, resolved_by: operator, ..unknown() };
        let cases = [
            (&executed, filled(3), false),
            (&executed, filled(4), true),
            (&executed, void(), true),
            (&executed, Finding::Unseen, false),
            (&not_found, filled(3), true),
            (&not_found, void(), false),
        ];
        for (trade, finding, expected) in cases {
            let name = format!("{:?}, {finding:?}", trade.state);
            match Looks::new().look(trade, finding.clone(), 0, 0, Some(COMPLETE)) {
                Conclusion::Contradiction(recorded) => {
                    assert!(expected, "{name}");
                    assert_eq!((recorded.state, &recorded.result), (trade.state, &trade.result));
                    let again = Looks::new().look(&recorded, finding, 0, 0, Some(COMPLETE));
                    assert_eq!(again, Conclusion::Nothing, "{name}");
                }
                Conclusion::Nothing => assert!(!expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    fn findings() -> impl Strategy<Value = Finding> {
        let superseded = Finding::Superseded { detail: "changed".to_owned(), present: Value::Null };
        let refused = Finding::Refused(TradeResult::found(Retcode::Reject, 3, 0.0, 0.0));
        let all = vec![
            filled(3),
            refused,
            void(),
            superseded,
            Finding::Working { order: 3 },
            Finding::Unseen,
            Finding::Unseen,
            Finding::Unseen,
            open(),
        ];
        prop::sample::select(all)
    }

    proptest! {
        #[test]
        fn absence_is_never_taken_for_proof(
            may_arrive: bool,
            looks in prop::collection::vec((findings(), 1u64..50, 0usize..2, 0u64..3), 1..40),
        ) {
            let trade = Trade { may_arrive, ..unknown() };
            let (mut all, mut second) = (Looks::new(), 0);
            // Since when nothing has shown the trade on one terminal whose history is the same.
            let mut absent: Option<(u64, usize, u64)> = None;
            for (finding, step, session, deals) in looks {
                second += step;
                let history = History { shows_known: None, deals };
                absent = match (&finding, absent) {
                    (Finding::Unseen | Finding::Void(_), Some(since @ (_, on, with)))
                        if (on, with) == (session, deals) => Some(since),
                    (Finding::Unseen | Finding::Void(_), _) => Some((second, session, deals)),
                    _ => None,
                };
                let conclusion = all.look(&trade, finding.clone(), second, session, Some(history));
                if state(&conclusion) == Some(TradeState::NotFound) {
                    prop_assert!(!may_arrive || matches!(finding, Finding::Void(_)));
                    let (since, ..) = absent.expect("nothing shows it");
                    prop_assert!(second - since >= PATIENCE.as_secs());
                }
            }
        }
    }
}
