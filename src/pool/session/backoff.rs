//! When a terminal that failed is started again.

use std::time::Duration;

use tokio::time::Instant;

use crate::actor::{RestartBudget, RestartVerdict};
use crate::pool::Options;

/// Brokers lock accounts that try to log in more often.
const REFUSED_LOGIN_DELAY: Duration = Duration::from_secs(60);

/// When the next terminal is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStart {
    /// After this time.
    BackingOff(Duration),
    /// The budget is spent: only after this time, and likewise after each further failure until the
    /// session has been ready.
    Quarantined(Duration),
}

/// The failures of one session's terminals.
#[derive(Debug)]
pub struct Backoff {
    budget: RestartBudget,
    quarantine_retry: Duration,
}

impl Backoff {
    /// No failures yet.
    pub fn new(options: &Options) -> Backoff {
        Backoff {
            budget: RestartBudget::new(options.restart.clone()),
            quarantine_retry: options.quarantine_retry,
        }
    }

    /// Notes a failure. `chance` (0 to 1) spreads the starts of sessions that failed together.
    pub fn fail(&mut self, now: Instant, refused_login: bool, chance: f64) -> NextStart {
        match self.budget.fail(now, chance) {
            RestartVerdict::Spent => NextStart::Quarantined(self.quarantine_retry),
            RestartVerdict::Retry(_) if refused_login => {
                NextStart::BackingOff(REFUSED_LOGIN_DELAY.mul_f64(1.0 + chance / 10.0))
            }
            RestartVerdict::Retry(delay) => NextStart::BackingOff(delay),
        }
    }

    /// Notes that the session became ready.
    pub fn ready(&mut self) {
        self.budget.refill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::RestartPolicy;

    fn backoff() -> Backoff {
        let restart = RestartPolicy {
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            budget: 3,
            window: Duration::from_secs(300),
        };
        let quarantine_retry = Duration::from_secs(600);
        Backoff { budget: RestartBudget::new(restart), quarantine_retry }
    }

    #[test]
    fn past_the_budget_one_start_per_quarantine_until_ready() {
        let mut backoff = backoff();
        let now = Instant::now();
        for delay in [500, 1_000, 2_000] {
            let delay = NextStart::BackingOff(Duration::from_millis(delay));
            assert_eq!(backoff.fail(now, false, 1.0), delay);
        }
        let quarantined = NextStart::Quarantined(Duration::from_secs(600));
        assert_eq!(backoff.fail(now, false, 1.0), quarantined);
        let later = now + Duration::from_secs(3_600);
        assert_eq!(backoff.fail(later, true, 1.0), quarantined);
        backoff.ready();
        assert!(matches!(backoff.fail(later, false, 1.0), NextStart::BackingOff(_)));
    }

    #[test]
    fn a_refused_login_is_repeated_after_a_minute() {
        let now = Instant::now();
        let seconds = |seconds| NextStart::BackingOff(Duration::from_secs(seconds));
        assert_eq!(backoff().fail(now, true, 0.0), seconds(60));
        assert_eq!(backoff().fail(now, true, 1.0), seconds(66));
    }
}
