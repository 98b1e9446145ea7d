//! Equity of the last quarter of an hour.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// For how long equity is remembered.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The shortest from one remembered equity to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// Equity at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct EquityPoint {
    /// Unix seconds.
    pub time: f64,
    /// Money with the result of open positions.
    pub equity: f64,
}

/// Equity of the last quarter of an hour, oldest first.
#[derive(Debug, Default)]
pub struct EquityHistory(VecDeque<(Timestamp, f64)>);

impl EquityHistory {
    /// Remembers equity, unless the last one is too young, and forgets what is old.
    pub fn add(&mut self, at: Timestamp, equity: f64) {
        let age = |earlier: &(Timestamp, f64)| at.duration_since(earlier.0).unsigned_abs();
        if let Some(last) = self.0.back() {
            let goes_back = at < last.0;
            if goes_back && age(last) > REMEMBERED {
                // Somebody has set the clock.
                self.0.clear();
            } else if goes_back || age(last) < INTERVAL {
                return;
            }
        }
        while self.0.front().is_some_and(|first| age(first) > REMEMBERED) {
            self.0.pop_front();
        }
        self.0.push_back((at, equity));
    }

    /// What is remembered, oldest first.
    pub fn points(&self) -> Vec<EquityPoint> {
        let point = |&(at, equity): &(Timestamp, f64)| EquityPoint {
            time: at.as_millisecond() as f64 / 1e3,
            equity,
        };
        self.0.iter().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equity_is_remembered_every_five_seconds_for_a_quarter_of_an_hour() {
        let mut history = EquityHistory::default();
        for second in 0..2_000 {
            history.add(Timestamp::from_second(second).unwrap(), second as f64);
        }
        let points = history.points();
        assert_eq!(points.len(), 181);
        let at = |second: f64| EquityPoint { time: second, equity: second };
        assert_eq!((points[0], points[180]), (at(1_095.0), at(1_995.0)));
    }
}
