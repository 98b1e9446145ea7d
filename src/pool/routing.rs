//! Which session serves: decided from a snapshot of an account's sessions.
//!
//! The first session that becomes ready is the account's *primary* until it fails, or until it has
//! been on one call for too long while another one is idle. Reads that must see each other, and all
//! trades, go to the primary; prices go to whoever is least loaded.

use std::time::Duration;

/// After how long on one call a session is passed over while there are others: its terminal hangs, or
/// is busy with something long.
const SLUGGISH: Duration = Duration::from_millis(100);

/// What routing knows of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionLoad {
    /// Whether it takes calls.
    pub ready: bool,
    /// Whether it admits no further read.
    pub full: bool,
    /// Calls that wait or are under way.
    pub in_use: usize,
    /// For how long its terminal has been on one call. `None`: it is idle.
    pub busy_for: Option<Duration>,
    /// Whether that call is the gateway's own search.
    pub internal: bool,
    /// Whether a trade waits or is under way.
    pub trading: bool,
}

impl SessionLoad {
    fn is_busy_for(&self, limit: Duration) -> bool {
        self.busy_for.is_some_and(|busy| busy > limit)
    }
}

/// The session for a read that any terminal may answer: one that is ready, has room, answers
/// quickly, and has the fewest calls, in this order.
pub fn least_loaded(
    sessions: impl IntoIterator<Item = SessionLoad>,
    except: Option<usize>,
) -> Option<usize> {
    let sessions = sessions.into_iter().enumerate();
    sessions
        .filter(|(index, session)| Some(*index) != except && session.ready)
        .min_by_key(|(_, session)| (session.full, session.is_busy_for(SLUGGISH), session.in_use))
        .map(|(index, _)| index)
}

/// The primary after some session changed its state: `ready` says of each whether it is. The primary
/// stays until it is not ready any more; the first ready one follows.
pub fn elect(primary: Option<usize>, ready: impl IntoIterator<Item = bool>) -> Option<usize> {
    let mut first = None;
    for (index, _) in ready.into_iter().enumerate().filter(|(_, ready)| *ready) {
        if primary == Some(index) {
            return primary;
        }
        first = first.or(Some(index));
    }
    first
}

/// Whether a call should look for another primary: this one has been on one call for longer than the
/// limit. The gateway's own search counts only for calls that prepare a trade. Trades that wait
/// behind the call are given back by the session itself.
pub fn is_stuck(primary: &SessionLoad, limit: Duration, urgent: bool) -> bool {
    !primary.trading && primary.is_busy_for(limit) && (urgent || !primary.internal)
}

/// The session that takes over from a primary which has been on one call for longer than the limit:
/// the first one that is ready and idle.
pub fn successor(
    primary: usize,
    sessions: impl IntoIterator<Item = SessionLoad>,
    limit: Duration,
) -> Option<usize> {
    let mut idle = None;
    let mut overdue = false;
    for (index, session) in sessions.into_iter().enumerate() {
        if index == primary {
            overdue = session.is_busy_for(limit);
        } else if idle.is_none() && session.ready && session.busy_for.is_none() {
            idle = Some(index);
        }
    }
    idle.filter(|_| overdue)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    const IDLE: SessionLoad = SessionLoad {
        ready: true,
        full: false,
        in_use: 0,
        busy_for: None,
        internal: false,
        trading: false,
    };

    fn busy(milliseconds: u64) -> SessionLoad {
        let busy_for = Some(Duration::from_millis(milliseconds));
        SessionLoad { in_use: 1, busy_for, ..IDLE }
    }

    #[test]
    fn least_loaded_passes_full_and_sluggish_sessions_over() {
        let away = SessionLoad { ready: false, ..IDLE };
        let full = SessionLoad { full: true, ..IDLE };
        let loaded = SessionLoad { in_use: 9, ..busy(1) };
        let cases: [(&[SessionLoad], Option<usize>, Option<usize>); 9] = [
            (&[], None, None),
            (&[away], None, None),
            (&[IDLE, IDLE], None, Some(0)),
            (&[IDLE, IDLE], Some(0), Some(1)),
            (&[IDLE], Some(0), None),
            (&[away, busy(1), IDLE], None, Some(2)),
            (&[busy(101), loaded], None, Some(1)),
            (&[full, busy(101)], None, Some(1)),
            (&[full, away], None, Some(0)),
        ];
        for (sessions, except, expected) in cases {
            let chosen = least_loaded(sessions.iter().copied(), except);
            assert_eq!(chosen, expected, "{sessions:?} except {except:?}");
        }
    }

    #[test]
    fn is_stuck_spares_trades_and_searches_that_no_trade_waits_for() {
        let search = SessionLoad { internal: true, ..busy(1_001) };
        let cases = [
            (busy(1_001), false, true),
            (busy(1_000), false, false),
            (IDLE, true, false),
            (search, false, false),
            (search, true, true),
            (SessionLoad { trading: true, ..busy(9_000) }, true, false),
        ];
        for (primary, urgent, expected) in cases {
            assert_eq!(is_stuck(&primary, LIMIT, urgent), expected, "{primary:?} {urgent}");
        }
    }

    #[test]
    fn successor_is_ready_and_idle_and_only_of_a_primary_that_is_overdue() {
        let away = SessionLoad { ready: false, ..IDLE };
        let overdue = busy(1_001);
        let cases: [(&[SessionLoad], Option<usize>); 5] = [
            (&[overdue], None),
            (&[overdue, away, IDLE], Some(2)),
            (&[overdue, busy(1)], None),
            (&[busy(1_000), IDLE], None),
            (&[IDLE, IDLE], None),
        ];
        for (sessions, expected) in cases {
            assert_eq!(successor(0, sessions.iter().copied(), LIMIT), expected, "{sessions:?}");
        }
    }

    fn sessions() -> impl Strategy<Value = Vec<SessionLoad>> {
        let session = (
            any::<bool>(),
            any::<bool>(),
            0usize..4,
            prop::option::of(0u64..2_000),
            any::<bool>(),
            any::<bool>(),
        );
        let session = session.prop_map(|(ready, full, in_use, busy, internal, trading)| {
            let busy_for = busy.map(Duration::from_millis);
            SessionLoad { ready, full, in_use, busy_for, internal, trading }
        });
        prop::collection::vec(session, 1..5)
    }

    proptest! {
        #[test]
        fn the_primary_stays_until_it_fails_and_is_always_ready(
            history in prop::collection::vec(sessions(), 1..20),
        ) {
            let mut primary = None;
            for sessions in history {
                let before = primary;
                primary = elect(primary, sessions.iter().map(|session| session.ready));
                prop_assert!(primary.is_none_or(|index| sessions[index].ready));
                prop_assert_eq!(primary.is_none(), sessions.iter().all(|session| !session.ready));
                let holds = |index: usize| sessions.get(index).is_some_and(|old| old.ready);
                if before.is_some_and(holds) {
                    prop_assert_eq!(primary, before);
                }
            }
        }

        #[test]
        fn least_loaded_gives_a_ready_session_and_none_better_is_left(
            sessions in sessions(),
            except in prop::option::of(0usize..5),
        ) {
            let rank = |session: &SessionLoad| {
                (session.full, session.is_busy_for(SLUGGISH), session.in_use)
            };
            let mut others = sessions.iter().enumerate();
            match least_loaded(sessions.iter().copied(), except) {
                Some(chosen) => {
                    prop_assert!(sessions[chosen].ready && Some(chosen) != except);
                    let best = others.all(|(index, other)| {
                        !other.ready || Some(index) == except
                            || rank(other) >= rank(&sessions[chosen])
                    });
                    prop_assert!(best);
                }
                None => prop_assert!(others.all(|(index, other)| !other.ready || Some(index) == except)),
            }
        }

        #[test]
        fn a_successor_is_another_session_that_is_ready_and_idle(
            sessions in sessions(),
            primary in 0usize..5,
        ) {
            if let Some(next) = successor(primary, sessions.iter().copied(), LIMIT) {
                prop_assert!(next != primary && sessions[next].ready);
                prop_assert_eq!(sessions[next].busy_for, None);
                prop_assert!(sessions[primary].is_busy_for(LIMIT));
            }
        }
    }
}
