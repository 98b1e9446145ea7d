//! A measurement of the machine, as the sampler reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prometheus::IntGauge;
use prometheus::core::{Atomic, GenericGauge};

use super::children::Children;
use super::{AccountId, Catalog};

/// A measurement. What failed is `None` or missing, and its series are removed.
#[derive(Debug, Default)]
pub struct Sample {
    /// Used share of all processors' time, 0 to 1.
    pub cpu_usage_ratio: Option<f64>,
    /// Memory of the machine.
    pub memory: Option<Memory>,
    /// The reported disks.
    pub disks: Vec<Disk>,
    /// The gateway itself.
    pub process: Option<ProcessSample>,
    /// The terminals that have a process.
    pub terminals: Vec<TerminalSample>,
    /// The groups of the sources that failed, one for each source.
    pub failed: Vec<&'static str>,
    /// What the slowest part took that did not fail.
    pub duration: Duration,
    /// When it was made, unix seconds.
    pub timestamp: f64,
}

/// Memory, in bytes.
#[derive(Debug)]
pub struct Memory {
    /// In use.
    pub used: u64,
    /// In all.
    pub total: u64,
    /// What the gateway and those who share its control group may use; `None`: as much as there is.
    pub limit: Option<u64>,
}

/// A file system, in bytes.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted.
    pub mountpoint: String,
    /// Free for those without privileges.
    pub free: u64,
    /// In all.
    pub size: u64,
}

/// The gateway's own process. `None`: this system does not tell.
#[derive(Debug)]
pub struct ProcessSample {
    /// Processor time used since the start, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_memory: u64,
    /// Unix seconds of the start.
    pub start_time: f64,
    /// Number of threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open.
    pub max_fds: Option<u64>,
}

/// The processes of a terminal: its worker, and what that started.
#[derive(Debug, Clone, PartialEq)]
pub struct TerminalSample {
    /// Whose terminal it is.
    pub account: AccountId,
    /// Which of the account's sessions has it.
    pub session: usize,
    /// Processor time that the processes have used, those that ended included, seconds.
    pub cpu_seconds: f64,
    /// Resident memory of the processes, bytes.
    pub resident_memory: u64,
    /// Bytes of the terminal's files, if the gateway made them.
    pub files: Option<u64>,
    /// Unix seconds of the worker's start.
    pub start_time: f64,
}

impl Sample {
    /// Shows what the sample has, and removes the series of what it lacks: an old figure would be
    /// taken for a new one.
    pub(super) fn show(&self, catalog: &Catalog) {
        show(&catalog.system_cpu_usage_ratio, self.cpu_usage_ratio);
        let memory = self.memory.as_ref();
        show(&catalog.system_memory_used_bytes, memory.map(|memory| bytes(memory.used)));
        show(&catalog.system_memory_total_bytes, memory.map(|memory| bytes(memory.total)));
        let limit = memory.and_then(|memory| memory.limit);
        show(&catalog.system_memory_limit_bytes, limit.map(bytes));

        let free = self.disks.iter().map(|disk| (disk.mountpoint.as_str(), bytes(disk.free)));
        show_each(&catalog.system_disk_free_bytes, &free.collect());
        let size = self.disks.iter().map(|disk| (disk.mountpoint.as_str(), bytes(disk.size)));
        show_each(&catalog.system_disk_size_bytes, &size.collect());

        let process = self.process.as_ref();
        match process {
            Some(process) => {
                let cpu = catalog.process_cpu_seconds_total.with_label_values(NONE);
                cpu.inc_by((process.cpu_seconds - cpu.get()).max(0.0));
            }
            None => catalog.process_cpu_seconds_total.retain(|_| false),
        }
        let resident = process.map(|process| bytes(process.resident_memory));
        show(&catalog.process_resident_memory_bytes, resident);
        show(&catalog.process_start_time_seconds, process.map(|process| process.start_time));
        let threads = process.and_then(|process| process.threads);
        show(&catalog.process_threads, threads.map(bytes));
        let open = process.and_then(|process| process.open_fds);
        show(&catalog.process_open_fds, open.map(bytes));
        let max = process.and_then(|process| process.max_fds);
        show(&catalog.process_max_fds, max.map(bytes));

        self.show_terminals(catalog);
    }

    fn show_terminals(&self, catalog: &Catalog) {
        let labels = |terminal: &TerminalSample| {
            let account = catalog.with_account(terminal.account, str::to_owned)?;
            Some([account, terminal.session.to_string()])
        };
        let there: BTreeSet<[String; 2]> = self.terminals.iter().filter_map(labels).collect();
        let is_there = |values: &[Box<str>]| {
            there.iter().any(|labels| labels.iter().zip(values).all(|(a, b)| **a == **b))
        };
        retain_terminals(catalog, is_there);
        for terminal in &self.terminals {
            catalog.with_account(terminal.account, |account| {
                let session = terminal.session.to_string();
                let labels = [account, &session];
                let start = &catalog.mt5_terminal_start_time_seconds;
                // Another worker counts from 0.
                if start.with_label_values(&labels).get() != terminal.start_time {
                    retain_terminals(catalog, |of| *of[0] != *account || *of[1] != *session);
                }
                let memory = &catalog.mt5_terminal_resident_memory_bytes;
                memory.with_label_values(&labels).set(bytes(terminal.resident_memory));
                if let Some(files) = terminal.files {
                    let disk = &catalog.mt5_terminal_disk_bytes;
                    disk.with_label_values(&labels).set(bytes(files));
                }
                let cpu = catalog.mt5_terminal_cpu_seconds_total.with_label_values(&labels);
                cpu.inc_by((terminal.cpu_seconds - cpu.get()).max(0.0));
                start.with_label_values(&labels).set(terminal.start_time);
            });
        }
    }

    /// Counts the sample, and what failed in it.
    pub(super) fn count(&self, catalog: &Catalog) {
        let durations = catalog.gateway_sampler_duration_seconds.with_label_values(NONE);
        durations.observe(self.duration.as_secs_f64());
        for group in &self.failed {
            catalog.gateway_sampler_errors_total.with_label_values(&[group]).inc();
        }
        if self.failed.is_empty() {
            let last =
                catalog.gateway_sampler_last_success_timestamp_seconds.with_label_values(NONE);
            last.set(self.timestamp);
        }
    }
}

/// Removes the series of a terminal whose process is measured no more.
pub(super) fn forget_terminal(catalog: &Catalog, account: AccountId, session: usize) {
    let session = session.to_string();
    catalog.with_account(account, |account| {
        retain_terminals(catalog, |labels| *labels[0] != *account || *labels[1] != *session);
    });
}

/// Removes the series of terminals whose account and session are not wanted.
fn retain_terminals(catalog: &Catalog, is_wanted: impl Fn(&[Box<str>]) -> bool) {
    catalog.mt5_terminal_resident_memory_bytes.retain(&is_wanted);
    catalog.mt5_terminal_disk_bytes.retain(&is_wanted);
    catalog.mt5_terminal_cpu_seconds_total.retain(&is_wanted);
    catalog.mt5_terminal_start_time_seconds.retain(&is_wanted);
}

/// No labels.
const NONE: &[&str] = &[];

fn bytes(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Sets the one series of a family without labels, or removes it.
fn show<P: Atomic + 'static>(family: &Children<GenericGauge<P>>, value: Option<P::T>) {
    match value {
        Some(value) => family.with_label_values(NONE).set(value),
        None => family.retain(|_| false),
    }
}

/// Sets the series of a family with one label, and removes those that have no value.
fn show_each(family: &Children<IntGauge>, values: &BTreeMap<&str, i64>) {
    family.retain(|labels| values.contains_key(&*labels[0]));
    for (label, value) in values {
        family.with_label_values(&[label]).set(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render::render;
    use crate::metrics::{LabelSets, Options};

    #[test]
    fn without_a_sampler_the_machine_has_no_series() {
        let options = Options::of_tests();
        let catalog = Catalog::new(&options, &[], &LabelSets::default()).unwrap();
        let disk = Disk { mountpoint: "/".to_owned(), free: 1, size: 2 };
        let sample = Sample { cpu_usage_ratio: Some(0.5), disks: vec![disk], ..Sample::default() };
        let machine = |catalog: &Catalog| {
            let text = String::from_utf8(render(catalog).to_vec()).unwrap();
            text.lines().filter(|line| line.starts_with("system_")).count()
        };
        sample.show(&catalog);
        assert_eq!(machine(&catalog), 3);
        Sample::default().show(&catalog);
        assert_eq!(machine(&catalog), 0);
    }

    #[test]
    fn a_terminal_has_series_while_its_process_is_measured() {
        let options = Options::of_tests();
        let accounts = [("a".to_owned(), 2), ("b".to_owned(), 1)];
        let catalog = Catalog::new(&options, &accounts, &LabelSets::default()).unwrap();
        let terminals = || {
            let text = String::from_utf8(render(&catalog).to_vec()).unwrap();
            let is_process = |line: &&str| {
                ["resident", "disk", "cpu", "start"]
                    .iter()
                    .any(|what| line.starts_with(&format!("mt5_terminal_{what}")))
            };
            text.lines().filter(is_process).map(str::to_owned).collect::<Vec<_>>()
        };
        let terminal = |account, session, cpu_seconds| TerminalSample {
            account: AccountId(account),
            session,
            cpu_seconds,
            resident_memory: 7,
            files: (session == 0).then_some(8),
            start_time: 9.0,
        };
        let show = |terminals: &[TerminalSample]| {
            let terminals = terminals.to_vec();
            Sample { terminals, ..Sample::default() }.show(&catalog);
        };
        assert_eq!(terminals(), [""; 0]);
        show(&[terminal(0, 0, 1.5), terminal(0, 1, 2.5), terminal(1, 0, 3.5)]);
        assert_eq!(terminals().len(), 11);
        forget_terminal(&catalog, AccountId(0), 1);
        assert_eq!(terminals().len(), 8);
        // A worker that was replaced begins at its own time.
        forget_terminal(&catalog, AccountId(0), 0);
        show(&[terminal(0, 0, 0.5)]);
        let expected = [
            r#"mt5_terminal_cpu_seconds_total{account="a",session="0"} 0.5"#,
            r#"mt5_terminal_disk_bytes{account="a",session="0"} 8"#,
            r#"mt5_terminal_resident_memory_bytes{account="a",session="0"} 7"#,
            r#"mt5_terminal_start_time_seconds{account="a",session="0"} 9"#,
        ];
        assert_eq!(terminals(), expected);
    }
}
