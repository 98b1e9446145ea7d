//! When a child that failed starts again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How often, and after which delays, a child is restarted.
#[derive(Debug, Clone)]
pub struct RestartPolicy {
    /// The delay after the first failure. It doubles with each further failure in the window.
    pub backoff: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
    /// Failures within the window after which the child is still restarted.
    pub budget: u32,
    /// How long a failure counts.
    pub window: Duration,
}

impl RestartPolicy {
    /// Restarts a child for ever. For children whose supervisor can serve without them meanwhile.
    pub const UNLIMITED: RestartPolicy = RestartPolicy {
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(30),
        budget: u32::MAX,
        window: Duration::from_secs(300),
    };
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartVerdict {
    /// Start the child again after this time.
    Retry(Duration),
    /// The child failed too often. It stays so until [`RestartBudget::refill`].
    Spent,
}

impl RestartVerdict {
    /// The time after which a child that is never given up starts again.
    pub fn delay(self) -> Duration {
        match self {
            RestartVerdict::Retry(delay) => delay,
            RestartVerdict::Spent => RestartPolicy::UNLIMITED.backoff_max,
        }
    }
}

/// The failures of one child.
#[derive(Debug)]
pub struct RestartBudget {
    policy: RestartPolicy,
    /// Those within the window, oldest first.
    failures: VecDeque<Instant>,
    spent: bool,
}

impl RestartBudget {
    /// The budget of a child that has not failed yet.
    pub fn new(policy: RestartPolicy) -> RestartBudget {
        RestartBudget { policy, failures: VecDeque::new(), spent: false }
    }

    /// Notes a failure. `chance` (0 to 1) chooses from the upper half of the delay, so that
    /// children that failed together do not start together.
    pub fn fail(&mut self, now: Instant, chance: f64) -> RestartVerdict {
        let RestartPolicy { backoff, backoff_max, budget, window } = self.policy;
        while self.failures.front().is_some_and(|at| now.duration_since(*at) >= window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let count = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if self.spent || count > budget {
            self.spent = true;
            self.failures.clear();
            return RestartVerdict::Spent;
        }
        let doublings = (count - 1).min(31);
        let delay = backoff.saturating_mul(1 << doublings).min(backoff_max);
        RestartVerdict::Retry(delay.mul_f64(0.5 + chance / 2.0))
    }

    /// Notes that the child works: a spent budget is whole again. Failures within the window still
    /// count.
    pub fn refill(&mut self) {
        self.spent = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            budget: 3,
            window: Duration::from_secs(300),
        }
    }

    #[test]
    fn delays_double_until_the_budget_is_spent_and_stays_so_until_it_is_refilled() {
        let mut budget = RestartBudget::new(policy());
        let now = Instant::now();
        let retry = |milliseconds| RestartVerdict::Retry(Duration::from_millis(milliseconds));
        assert_eq!(budget.fail(now, 1.0), retry(500));
        assert_eq!(budget.fail(now, 1.0), retry(1_000));
        assert_eq!(budget.fail(now, 0.0), retry(1_000));
        assert_eq!(budget.fail(now, 1.0), RestartVerdict::Spent);
        let later = now + Duration::from_secs(3_600);
        assert_eq!(budget.fail(later, 1.0), RestartVerdict::Spent);
        budget.refill();
        assert_eq!(budget.fail(later, 1.0), retry(500));
    }

    #[test]
    fn a_failure_counts_for_the_window_only() {
        let mut budget = RestartBudget::new(policy());
        let began = Instant::now();
        for failure in 0..20 {
            let now = began + Duration::from_secs(100) * failure;
            assert!(matches!(budget.fail(now, 1.0), RestartVerdict::Retry(_)), "{failure}");
        }
        let now = began + Duration::from_secs(1_900);
        assert_eq!(budget.fail(now, 1.0), RestartVerdict::Spent);
    }

    proptest! {
        #[test]
        fn delays_keep_their_bounds(failures in 1u32..200, chance in 0.0f64..=1.0) {
            let mut budget = RestartBudget::new(RestartPolicy { budget: u32::MAX, ..policy() });
            let now = Instant::now();
            for _ in 0..failures {
                let RestartVerdict::Retry(delay) = budget.fail(now, chance) else {
                    panic!("the budget is unlimited");
                };
                prop_assert!((0.25..=30.0).contains(&delay.as_secs_f64()));
            }
        }

        /// However a child fails, no window contains more restarts than the budget.
        #[test]
        fn no_window_has_more_restarts_than_the_budget(gaps in prop::collection::vec(0u64..200, 1..60)) {
            let mut budget = RestartBudget::new(policy());
            let mut now = Instant::now();
            let mut restarts: Vec<Instant> = vec![];
            for gap in gaps {
                now += Duration::from_secs(gap);
                if let RestartVerdict::Retry(_) = budget.fail(now, 0.5) {
                    restarts.push(now);
                }
            }
            for at in &restarts {
                let within = restarts.iter().filter(|other| *other >= at && **other - *at < policy().window);
                prop_assert!(within.count() <= 3);
            }
        }
    }
}
