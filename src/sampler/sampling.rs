//! Which sources a sample still waits for, and which of them fail.

/// Takes one sample after the other. A machine over what happens: it knows neither what is measured
/// nor the time.
pub struct Sampling<T> {
    number: u64,
    sources: Vec<Progress<T>>,
    open: bool,
}

struct Progress<T> {
    /// A measurement is under way, of this sample or of an earlier one.
    busy: bool,
    /// What the present sample has of it.
    outcome: Option<Result<T, String>>,
    failing: bool,
}

/// How a source differs from the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It fails, and worked before or was never measured.
    Fails,
    /// It works, and failed before.
    Works,
}

/// What a sample has of a source, and whether that is a change.
pub type Finished<T> = (Result<T, String>, Option<Change>);

impl<T> Sampling<T> {
    /// For this many sources, none of which was measured yet.
    pub fn new(sources: usize) -> Sampling<T> {
        let idle = || Progress { busy: false, outcome: None, failing: false };
        Sampling { number: 0, sources: (0..sources).map(|_| idle()).collect(), open: false }
    }

    /// Begins a sample. Gives its number and the sources to measure. A source whose earlier
    /// measurement is still under way fails in this sample, too, and is not measured again.
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

    /// Notes a measurement for a sample. Gives whether it completes the present sample. One that
    /// comes too late for its own sample only shows that the source can be measured again.
    pub fn measured(&mut self, source: usize, sample: u64, result: Result<T, String>) -> bool {
        let late = !self.open || sample != self.number;
        let source = &mut self.sources[source];
        source.busy = false;
        if late {
            return false;
        }
        source.outcome = Some(result);
        self.is_complete()
    }

    /// Fails every source that is still being measured for a sample, for this reason. Gives whether
    /// that completes the present sample.
    pub fn time_up(&mut self, sample: u64, reason: &str) -> bool {
        if !self.open || sample != self.number {
            return false;
        }
        for source in &mut self.sources {
            source.outcome.get_or_insert_with(|| Err(reason.to_owned()));
        }
        true
    }

    /// Whether the present sample waits for no source any more.
    pub fn is_complete(&self) -> bool {
        self.open && self.sources.iter().all(|source| source.outcome.is_some())
    }

    /// Ends a complete sample, and gives what it has of each source.
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
        let mut sampling = Sampling::new(2);
        assert_eq!(sampling.begin(), (1, vec![OTHERS, HANGING]));
        assert!(!sampling.measured(OTHERS, 1, Ok(1)));
        assert!(sampling.time_up(1, "late"));
        let hangs = (failed("late"), Some(Change::Fails));
        assert_eq!(sampling.finish(), [(Ok(1), None), hangs]);

        // The others are not held up.
        for number in [2, 3] {
            assert_eq!(sampling.begin(), (number, vec![OTHERS]));
            assert!(sampling.measured(OTHERS, number, Ok(2)));
            let hangs = (failed("its measurement still hangs"), None);
            assert_eq!(sampling.finish(), [(Ok(2), None), hangs]);
            assert!(!sampling.time_up(number, "late"), "the sample has ended");
        }

        // What it measured is old, but it can be measured again.
        assert!(!sampling.measured(HANGING, 1, Ok(3)));
        assert_eq!(sampling.begin(), (4, vec![OTHERS, HANGING]));
        assert!(!sampling.measured(OTHERS, 4, Ok(4)));
        assert!(sampling.measured(HANGING, 4, Ok(5)));
        assert_eq!(sampling.finish(), [(Ok(4), None), (Ok(5), Some(Change::Works))]);
    }

    #[test]
    fn a_measurement_that_comes_during_a_later_sample_is_none_of_it() {
        let mut sampling = Sampling::new(2);
        sampling.begin();
        sampling.measured(OTHERS, 1, Ok(1));
        sampling.time_up(1, "late");
        sampling.finish();
        assert_eq!(sampling.begin(), (2, vec![OTHERS]));
        assert!(!sampling.measured(HANGING, 1, Ok(9)));
        assert!(!sampling.time_up(1, "the limit of the sample before"));
        assert!(sampling.measured(OTHERS, 2, Ok(2)));
        let hangs = (failed("its measurement still hangs"), None);
        assert_eq!(sampling.finish(), [(Ok(2), None), hangs]);
    }

    #[test]
    fn a_change_is_told_once() {
        let mut sampling = Sampling::new(1);
        let results = [Ok(1), failed("a"), failed("b"), Ok(2), Ok(3), failed("c")];
        let changes = results.map(|result| {
            let (number, _) = sampling.begin();
            assert!(sampling.measured(0, number, result));
            sampling.finish().remove(0).1
        });
        let (fails, works) = (Some(Change::Fails), Some(Change::Works));
        assert_eq!(changes, [None, fails, None, works, None, fails]);
    }
}
