//! The processes of terminals: each worker, and what it started.

use std::collections::HashMap;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

use super::process_table::{families, processes};
use super::sensor::opened;
use crate::metrics::{TerminalSample, Watched, Watchlist};

/// Measures the workers on a list, with what it remembers between two measurements.
pub struct Terminals {
    list: Watchlist,
    system: Option<System>,
    /// The processor time of each worker's processes.
    used: HashMap<Watched, ProcessorTime>,
}

impl Terminals {
    pub fn new(list: Watchlist) -> Terminals {
        Terminals { list, system: None, used: HashMap::new() }
    }

    /// Measures every worker on the list. One that has ended meanwhile is left out.
    ///
    /// # Errors
    /// If the system does not show its processes.
    pub fn measure(&mut self) -> Result<Vec<TerminalSample>, String> {
        let workers = self.list.workers();
        self.used.retain(|watched, _| workers.contains(watched));
        if workers.is_empty() {
            // A gateway without workers looks at no process but its own.
            self.system = None;
            return Ok(vec![]);
        }
        let system = opened(&mut self.system)?;
        let pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
        let families = families(&processes(system)?, &pids);
        let all: Vec<Pid> = families.iter().flatten().map(|pid| Pid::from_u32(*pid)).collect();
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&all), true, kind);

        let mut samples = Vec::with_capacity(workers.len());
        for (watched, family) in workers.into_iter().zip(families) {
            let find = |pid: &u32| system.process(Pid::from_u32(*pid));
            let Some(worker) = find(&watched.pid) else {
                continue;
            };
            let times = family.iter().filter_map(find).map(|process| {
                let identity = (process.pid().as_u32(), process.start_time());
                (identity, process.accumulated_cpu_time())
            });
            let used = self.used.entry(watched).or_default().update(times.collect());
            let memory = family.iter().filter_map(find).map(Process::memory).sum();
            // One that left the list meanwhile has no series any more.
            if let Some(figures) = self.list.note_memory(&watched, memory) {
                samples.push(TerminalSample {
                    account: watched.account,
                    session: watched.session,
                    cpu_seconds: used as f64 / 1000.0,
                    resident_memory: memory,
                    files: figures.files,
                    start_time: worker.start_time() as f64,
                });
            }
        }
        Ok(samples)
    }
}

/// The processor time of processes that come and go. It never decreases.
#[derive(Default)]
struct ProcessorTime {
    /// Of processes that have ended, milliseconds, as far as it was seen.
    ended: u64,
    /// Of those that live, by process id and start.
    living: HashMap<(u32, u64), u64>,
}

impl ProcessorTime {
    /// Takes the present times of the processes, and gives the sum of all there ever were.
    fn update(&mut self, now: HashMap<(u32, u64), u64>) -> u64 {
        let gone = self.living.iter().filter(|(process, _)| !now.contains_key(*process));
        self.ended += gone.map(|(_, used)| used).sum::<u64>();
        self.living = now;
        self.ended + self.living.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_of_processes_that_ended_is_kept() {
        let mut time = ProcessorTime::default();
        // Process id, start and processor time of each that lives.
        let mut sum = |living: &[(u32, u64, u64)]| {
            time.update(living.iter().map(|(pid, start, used)| ((*pid, *start), *used)).collect())
        };
        assert_eq!(sum(&[(1, 7, 10)]), 10);
        assert_eq!(sum(&[(1, 7, 12), (2, 8, 100)]), 112);
        assert_eq!(sum(&[(1, 7, 13)]), 113);
        // The same number is another process.
        assert_eq!(sum(&[(1, 7, 13), (2, 9, 5)]), 118);
        assert_eq!(sum(&[(1, 7, 14), (2, 9, 6)]), 120);
    }
}
