//! The period of a history that a client asks for: the rules of `count`, `from` and `to`.

use super::moment::{Moment, ResolvedMoment};
use super::query::{Count, Parameters};
use crate::api::problem::Problem;
use crate::pool::Account;

/// The rows of bars or ticks that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistorySpan {
    /// A number of rows from a moment on.
    Forward(ResolvedMoment, u32),
    /// A number of rows that end at a moment, or the latest ones.
    Backward(Option<ResolvedMoment>, u32),
    /// All rows from one moment to another, both included.
    Range(ResolvedMoment, ResolvedMoment),
}

impl HistorySpan {
    /// Takes `count`, `from` and `to`.
    ///
    /// # Errors
    /// 400 if one cannot be parsed, or they exclude each other.
    pub fn take(parameters: &mut Parameters, account: &Account) -> Result<HistorySpan, Problem> {
        HistorySpan::take_with(parameters, |moment| moment.resolve(account))
    }

    fn take_with(
        parameters: &mut Parameters,
        resolve: impl Fn(Moment) -> ResolvedMoment,
    ) -> Result<HistorySpan, Problem> {
        let count = parameters.optional::<Count>("count")?.map(|Count(count)| count);
        let from = parameters.optional::<Moment>("from")?.map(&resolve);
        let to = parameters.optional::<Moment>("to")?.map(&resolve);
        let rows = |count: i64| u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
        match (count, from, to) {
            (Some(_), _, Some(_)) => Err(Problem::invalid(
                "parameters `count` and `to` exclude each other: give `from` and `to`, or `count`",
            )),
            (None, None, Some(_)) => {
                Err(Problem::invalid("parameter `to` needs `from`: together they are a range"))
            }
            (None, Some(_), None) => {
                Err(Problem::invalid("parameter `from` needs `to` for a range, or `count`"))
            }
            (None, None, None) => {
                Err(Problem::invalid("parameter `count` is missing; or give `from` and `to`"))
            }
            (None, Some(from), Some(to)) if from > to => Err(reversed(from, to)),
            (None, Some(from), Some(to)) => Ok(HistorySpan::Range(from, to)),
            (Some(count), Some(from), None) if count > 0 => {
                Ok(HistorySpan::Forward(from, rows(count)))
            }
            (Some(count), from, None) => Ok(HistorySpan::Backward(from, rows(count))),
        }
    }
}

/// The problem of a range whose end is before its beginning.
pub fn reversed(from: ResolvedMoment, to: ResolvedMoment) -> Problem {
    Problem::invalid(format!("parameter `from` ({from}) is after `to` ({to})"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(query: &str) -> Result<HistorySpan, Problem> {
        let resolve = |moment: Moment| moment.resolve_with(|| 86_400, |seconds| seconds);
        HistorySpan::take_with(&mut Parameters::parse(query)?, resolve)
    }

    #[test]
    fn count_from_and_to_go_together_in_four_ways() {
        use HistorySpan::{Backward, Forward, Range};
        let at = |seconds: i64| ResolvedMoment::from_milliseconds(seconds * 1000);
        for (query, expected) in [
            ("count=5", Backward(None, 5)),
            ("count=-5", Backward(None, 5)),
            ("count=5&from=10", Forward(at(10), 5)),
            ("count=-5&from=10", Backward(Some(at(10)), 5)),
            ("from=10&to=20", Range(at(10), at(20))),
            ("from=10&to=10", Range(at(10), at(10))),
        ] {
            assert_eq!(span(query).unwrap(), expected, "{query}");
        }
        for query in [
            "",
            "from=10",
            "to=20",
            "count=5&to=20",
            "count=5&from=10&to=20",
            "from=20&to=10",
            "count=0",
        ] {
            assert!(span(query).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "((count|from|to)=[0-9a-z-]{0,8}&?){0,4}") {
            let _ = span(&query);
        }
    }
}
