//! When a terminal that failed is started again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Brokers lock accounts that try again faster.
const REFUSED_LOGIN_DELAY: Duration = Duration::from_secs(60);

/// The settings of `[restart]`.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The first delay; it doubles with each failure in the window.
    pub backoff: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
    /// Failures within the window before quarantine.
    pub budget: u32,
    /// How long a failure counts.
    pub window: Duration,
    /// The delay in quarantine.
    pub quarantine_retry: Duration,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after this time.
    Retry(Duration),
    /// Too often: try again only after this time.
    Quarantine(Duration),
}

/// The failures of one session.
#[derive(Debug)]
pub struct History {
    policy: Policy,
    failures: VecDeque<Instant>,
    quarantined: bool,
}

impl History {
    /// No failures yet.
    pub fn new(policy: Policy) -> History {
        History { policy, failures: VecDeque::new(), quarantined: false }
    }

    /// Notes a failure. `chance` (0 to 1) spreads the delays of sessions that
    /// failed together.
    pub fn failed(&mut self, now: Instant, refused_login: bool, chance: f64) -> Verdict {
        let policy = &self.policy;
        while self.failures.front().is_some_and(|at| now.duration_since(*at) >= policy.window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let count = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if self.quarantined || count > policy.budget {
            self.quarantined = true;
            self.failures.clear();
            return Verdict::Quarantine(policy.quarantine_retry);
        }
        if refused_login {
            return Verdict::Retry(REFUSED_LOGIN_DELAY.mul_f64(1.0 + chance / 10.0));
        }
        let doublings = (count - 1).min(31);
        let delay = policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max);
        Verdict::Retry(delay.mul_f64(0.5 + chance / 2.0))
    }

    /// Notes that the session became ready.
    pub fn ready(&mut self) {
        self.quarantined = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy {
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            budget: 3,
            window: Duration::from_secs(300),
            quarantine_retry: Duration::from_secs(600),
        }
    }

    #[test]
    fn past_the_budget_one_try_per_quarantine_until_ready() {
        let mut history = History::new(policy());
        let now = Instant::now();
        assert_eq!(history.failed(now, false, 1.0), Verdict::Retry(Duration::from_millis(500)));
        assert_eq!(history.failed(now, false, 1.0), Verdict::Retry(Duration::from_secs(1)));
        assert_eq!(history.failed(now, false, 0.0), Verdict::Retry(Duration::from_secs(1)));
        let quarantine = Verdict::Quarantine(Duration::from_secs(600));
        assert_eq!(history.failed(now, false, 1.0), quarantine);
        let later = now + Duration::from_secs(3600);
        assert_eq!(history.failed(later, false, 1.0), quarantine);
        history.ready();
        assert!(matches!(history.failed(later, false, 1.0), Verdict::Retry(_)));
    }

    proptest! {
        #[test]
        fn delays_keep_their_bounds(failures in 1u32..200, chance in 0.0f64..=1.0, refused: bool) {
            let mut history = History::new(Policy { budget: u32::MAX, ..policy() });
            let now = Instant::now();
            let mut verdict = history.failed(now, refused, chance);
            for _ in 1..failures {
                verdict = history.failed(now, refused, chance);
            }
            let Verdict::Retry(delay) = verdict else { panic!("budget is unlimited") };
            if refused {
                prop_assert!((60.0..=66.0).contains(&delay.as_secs_f64()));
            } else {
                prop_assert!((0.25..=30.0).contains(&delay.as_secs_f64()));
            }
        }
    }
}
