//! How many of an account's sessions are ready, and since when.

use jiff::Timestamp;

/// How many sessions of an account are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Every one.
    All,
    /// Some, but not all.
    Some,
    /// None: every call is refused.
    None,
}

/// How many sessions of an account are ready, and since when that has been so. A session that is
/// replaced goes through several states; none of them begins this anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    /// How many are ready.
    pub ready: Ready,
    /// Since when.
    pub since: Timestamp,
}

impl Availability {
    /// Of an account whose sessions have yet to be started.
    pub fn new(now: Timestamp) -> Availability {
        Availability { ready: Ready::None, since: now }
    }

    /// What it becomes when so many of its sessions are ready.
    #[must_use]
    pub fn after(self, ready: usize, sessions: usize, now: Timestamp) -> Availability {
        let ready = match ready {
            0 => Ready::None,
            some if some < sessions => Ready::Some,
            _ => Ready::All,
        };
        if ready == self.ready { self } else { Availability { ready, since: now } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_begins_anew_only_when_all_some_or_none_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut availability = Availability::new(at(0));
        let steps = [
            (1, 0, 3, Ready::None, 0),
            (2, 1, 3, Ready::Some, 2),
            (3, 2, 3, Ready::Some, 2),
            (4, 3, 3, Ready::All, 4),
            (5, 3, 3, Ready::All, 4),
            (6, 1, 3, Ready::Some, 6),
            (7, 0, 3, Ready::None, 7),
            (8, 0, 3, Ready::None, 7),
            (9, 1, 1, Ready::All, 9),
        ];
        for (now, ready, sessions, expected, since) in steps {
            availability = availability.after(ready, sessions, at(now));
            assert_eq!(
                availability,
                Availability { ready: expected, since: at(since) },
                "at {now}"
            );
        }
    }
}
