//! Which sources a sample still waits for, and how each of them fares.

/// One sample after the other. It knows neither what is measured nor when.
pub struct Round<T> {
    number: u64,
    sources: Vec<Source<T>>,
    open: bool,
}

struct Source<T> {
    /// A measurement is under way, of this sample or of an earlier one.
    busy: bool,
    /// What this sample has of it.
    outcome: Option<Result<T, String>>,
    failing: bool,
}

/// What is new about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It worked, or was never measured before.
    Fails,
    /// It failed before.
    Works,
}

/// What a sample has of a source.
pub type Finished<T> = (Result<T, String>, Option<Change>);

impl<T> Round<T> {
    /// So many sources, none of which was measured.
    pub fn new(sources: usize) -> Round<T> {
        let idle = || Source { busy: false, outcome: None, failing: false };
        Round { number: 0, sources: (0..sources).map(|_| idle()).collect(), open: false }
    }

    /// Begins a sample: its number, and the sources to measure. One whose earlier measurement is
    /// still under way has failed in this sample, too, and is not to be measured.
    pub fn begin(&mut self) -> (u64, Vec<usize>) {
        self.number += 1;
        self.open = true;
        let mut started = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            if source.busy {
                source.outcome = Some(Err("its measurement still hangs".to_owned()));
            } else {
                source.busy = true;
                source.outcome = None;
                started.push(index);
            }
        }
        (self.number, started)
    }

    /// A source was measured for a sample. Whether the present sample is complete with it: what
    /// comes too late for its own sample only shows that the source can be measured again.
    pub fn measured(&mut self, source: usize, round: u64, result: Result<T, String>) -> bool {
        let late = !self.open || round != self.number;
        let source = &mut self.sources[source];
        source.busy = false;
        if late {
            return false;
        }
        source.outcome = Some(result);
        self.is_complete()
    }

    /// Time is up for a sample. What has not been measured has failed for this reason. Whether the
    /// present sample is complete with it.
    pub fn time_up(&mut self, round: u64, reason: &str) -> bool {
        if !self.open || round != self.number {
            return false;
        }
        for source in &mut self.sources {
            source.outcome.get_or_insert_with(|| Err(reason.to_owned()));
        }
        true
    }

    /// Whether the sample waits for nothing any more.
    pub fn is_complete(&self) -> bool {
        self.open && self.sources.iter().all(|source| source.outcome.is_some())
    }

    /// Ends a complete sample: what it has of each source, and what is new about it.
    pub fn finish(&mut self) -> Vec<Finished<T>> {
        self.open = false;
        let finished = self.sources.iter_mut().map(|source| {
            let outcome = source.outcome.take();
            let outcome = outcome.unwrap_or_else(|| Err("it was not measured".to_owned()));
            let failed_before = std::mem::replace(&mut source.failing, outcome.is_err());
            let change = match (failed_before, source.failing) {
                (false, true) => Some(Change::Fails),
                (true, false) => Some(Change::Works),
                _ => None,
            };
            (outcome, change)
        });
        finished.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: usize = 0;
    const HANGING: usize = 1;

    fn failed(reason: &str) -> Result<u8, String> {
        Err(reason.to_owned())
    }

    #[test]
    fn a_source_that_hangs_fails_at_each_tick_and_is_started_once() {
        let mut round = Round::new(2);
        assert_eq!(round.begin(), (1, vec![OTHERS, HANGING]));
        assert!(!round.measured(OTHERS, 1, Ok(1)));
        assert!(round.time_up(1, "late"));
        let hangs = (failed("late"), Some(Change::Fails));
        assert_eq!(round.finish(), [(Ok(1), None), hangs]);

        // The others are not held up.
        for number in [2, 3] {
            assert_eq!(round.begin(), (number, vec![OTHERS]));
            assert!(round.measured(OTHERS, number, Ok(2)));
            let hangs = (failed("its measurement still hangs"), None);
            assert_eq!(round.finish(), [(Ok(2), None), hangs]);
            assert!(!round.time_up(number, "late"), "the sample has ended");
        }

        // What it measured is old, but it can be measured again.
        assert!(!round.measured(HANGING, 1, Ok(3)));
        assert_eq!(round.begin(), (4, vec![OTHERS, HANGING]));
        assert!(!round.measured(OTHERS, 4, Ok(4)));
        assert!(round.measured(HANGING, 4, Ok(5)));
        assert_eq!(round.finish(), [(Ok(4), None), (Ok(5), Some(Change::Works))]);
    }

    #[test]
    fn a_measurement_that_comes_during_a_later_sample_is_none_of_it() {
        let mut round = Round::new(2);
        round.begin();
        round.measured(OTHERS, 1, Ok(1));
        round.time_up(1, "late");
        round.finish();
        assert_eq!(round.begin(), (2, vec![OTHERS]));
        assert!(!round.measured(HANGING, 1, Ok(9)));
        assert!(!round.time_up(1, "the limit of the sample before"));
        assert!(round.measured(OTHERS, 2, Ok(2)));
        let hangs = (failed("its measurement still hangs"), None);
        assert_eq!(round.finish(), [(Ok(2), None), hangs]);
    }

    #[test]
    fn a_change_is_told_once() {
        let mut round = Round::new(1);
        let results = [Ok(1), failed("a"), failed("b"), Ok(2), Ok(3), failed("c")];
        let changes = results.map(|result| {
            let (number, _) = round.begin();
            assert!(round.measured(0, number, result));
            round.finish().remove(0).1
        });
        let (fails, works) = (Some(Change::Fails), Some(Change::Works));
        assert_eq!(changes, [None, fails, None, works, None, fails]);
    }
}
