//! When each open trade is looked for. A pure machine over time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::conclude::Search;
use crate::trading::identifiers::TradeId;
use crate::trading::trade::{Trade, TradeState};

/// The longest from one look to the next while a trade is young.
pub const SOON: Duration = Duration::from_secs(1);

/// The longest from one look to the next within a trade's first day.
const SELDOM: Duration = Duration::from_secs(30);

/// From one look to the next after that, and the longest after looks that failed.
pub const RARELY: Duration = Duration::from_secs(600);

/// Trades that one look looks for. Others wait for the next, so that no look takes long.
const BATCH: usize = 16;

/// The open trades of an account.
#[derive(Debug, Default)]
pub struct Schedule {
    trades: HashMap<TradeId, Scheduled>,
}

#[derive(Debug)]
struct Scheduled {
    due: Instant,
    /// Looks for it that failed in a row: a question that a terminal does not survive must not keep
    /// the others from being asked.
    failures: u32,
    search: Search,
}

impl Schedule {
    /// The trades to look for now, of all that are open. Those that somebody waits for come first, then
    /// those that have waited longest.
    pub fn take_due(
        &mut self,
        open: Vec<Trade>,
        woken: &HashSet<TradeId>,
        now: Instant,
    ) -> Vec<Trade> {
        self.trades.retain(|id, _| open.iter().any(|trade| trade.trade_id == *id));
        let mut due: Vec<(Option<Instant>, Trade)> = vec![];
        for trade in open {
            let fresh = || Scheduled { due: now, failures: 0, search: Search::default() };
            let scheduled = self.trades.entry(trade.trade_id.clone()).or_insert_with(fresh);
            if woken.contains(&trade.trade_id) {
                due.push((None, trade));
            } else if scheduled.due <= now {
                due.push((Some(scheduled.due), trade));
            }
        }
        due.sort_by_key(|(due, _)| *due);
        due.truncate(BATCH);
        due.into_iter().map(|(_, trade)| trade).collect()
    }

    /// Notes that a look for a trade has failed.
    pub fn failed(&mut self, trade_id: &TradeId) {
        if let Some(scheduled) = self.trades.get_mut(trade_id) {
            scheduled.failures += 1;
        }
    }

    /// Notes that a look for a trade has succeeded. Gives what earlier looks have shown.
    pub fn succeeded(&mut self, trade_id: &TradeId) -> Option<&mut Search> {
        let scheduled = self.trades.get_mut(trade_id)?;
        scheduled.failures = 0;
        Some(&mut scheduled.search)
    }

    /// Sets when a trade of this age is looked for again.
    pub fn again(&mut self, trade: &Trade, age: Duration, patience: Duration, now: Instant) {
        if let Some(scheduled) = self.trades.get_mut(&trade.trade_id) {
            let wait = interval(age, trade.state, patience);
            let doubled = wait.saturating_mul(1 << scheduled.failures.min(16));
            scheduled.due = now + doubled.min(RARELY);
        }
    }

    /// How long until a trade is due.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        let due = self.trades.values().map(|scheduled| scheduled.due);
        due.min().map(|due| due.saturating_duration_since(now))
    }

    /// How many of these trades are open, and may be decided by a further look.
    pub fn decidable(&self, trade_ids: &HashSet<TradeId>) -> usize {
        let open = self
            .trades
            .iter()
            .filter(|(id, scheduled)| trade_ids.contains(*id) && !scheduled.search.undecidable);
        open.count()
    }
}

/// From one look for a trade to the next: the longer nobody knows, the more seldom.
fn interval(age: Duration, state: TradeState, patience: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let soon = (patience / 10).clamp(Duration::from_millis(50), SOON);
    let watched = (patience * 10).min(SELDOM);
    if state == TradeState::NotFound {
        watched
    } else if age > DAY {
        RARELY
    } else if age < watched.max(patience * 2) {
        soon
    } else {
        (age / 10).clamp(soon, SELDOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_name::AccountName;
    use crate::trading::trade::Operation;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn trade(id: &str) -> Trade {
        Trade {
            state: TradeState::Unknown,
            ..Trade::new(
                TradeId::from_trusted(id),
                AccountName::from_trusted("demo"),
                Operation::Place,
                0,
            )
        }
    }

    fn ids(trades: &[Trade]) -> Vec<&str> {
        trades.iter().map(|trade| &*trade.trade_id).collect()
    }

    #[test]
    fn an_open_trade_is_looked_for_soon_then_seldom_then_rarely() {
        let seconds = Duration::from_secs;
        let of = |age, state| interval(seconds(age), state, PATIENCE);
        assert_eq!(of(0, TradeState::Unknown), SOON);
        assert_eq!(of(100, TradeState::Unknown), SOON);
        assert_eq!(of(200, TradeState::Unknown), seconds(20));
        assert_eq!(of(3_600, TradeState::Unknown), SELDOM);
        assert_eq!(of(90_000, TradeState::Unknown), RARELY);
        assert_eq!(of(5, TradeState::NotFound), SELDOM);
    }

    #[test]
    fn a_trade_that_somebody_waits_for_goes_before_those_that_have_waited_longest() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let all = || vec![trade("a"), trade("b"), trade("c")];
        let nobody = HashSet::new();
        assert_eq!(ids(&schedule.take_due(all(), &nobody, now)), ["a", "b", "c"]);
        for (id, age) in [("a", 200), ("b", 0), ("c", 3_600)] {
            schedule.again(&trade(id), Duration::from_secs(age), PATIENCE, now);
        }
        assert_eq!(schedule.next(now), Some(SOON));
        let later = now + Duration::from_secs(20);
        assert_eq!(ids(&schedule.take_due(all(), &nobody, later)), ["b", "a"]);
        let woken = HashSet::from([TradeId::from_trusted("c")]);
        assert_eq!(ids(&schedule.take_due(all(), &woken, later)), ["c", "b", "a"]);
        assert!(schedule.take_due(vec![], &nobody, later).is_empty());
        assert_eq!(schedule.next(later), None, "what is decided is forgotten");
    }

    #[test]
    fn a_question_that_fails_is_asked_ever_more_seldom_and_delays_no_other() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let all = vec![trade("bad"), trade("good")];
        schedule.take_due(all, &HashSet::new(), now);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            schedule.failed(&TradeId::from_trusted("bad"));
            schedule.again(&trade("bad"), Duration::ZERO, PATIENCE, now);
            let due = schedule.trades["bad"].due - now;
            assert!(due > last || due == RARELY, "{due:?}");
            last = due;
        }
        assert_eq!(last, RARELY);
        schedule.again(&trade("good"), Duration::ZERO, PATIENCE, now);
        assert_eq!(schedule.next(now), Some(SOON));
        schedule.succeeded(&TradeId::from_trusted("bad")).unwrap().undecidable = true;
        schedule.again(&trade("bad"), Duration::ZERO, PATIENCE, now);
        assert_eq!(schedule.trades["bad"].due, now + SOON);
        let both = HashSet::from(["bad", "good"].map(TradeId::from_trusted));
        assert_eq!(schedule.decidable(&both), 1);
    }

    #[test]
    fn one_look_looks_for_a_few_trades_and_the_next_for_the_others() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let all = || (0..40).map(|id| trade(&format!("{id:02}"))).collect::<Vec<_>>();
        let mut looked = HashSet::new();
        for _ in 0..3 {
            let due = schedule.take_due(all(), &HashSet::new(), now);
            assert!(due.len() <= BATCH);
            for trade in due {
                schedule.again(&trade, Duration::ZERO, PATIENCE, now);
                assert!(looked.insert(trade.trade_id));
            }
        }
        assert_eq!(looked.len(), 40);
    }
}
