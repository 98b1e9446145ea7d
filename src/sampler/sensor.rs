//! What is measured, and how. Every function here may block its thread.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use strum::{IntoStaticStr, VariantNames};
use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::mounts::{self, FileSystem};
use super::terminals::Terminals;
use crate::actor::panic_message;
use crate::metrics::{Disk, Memory, ProcessSample, Sample, TerminalSample, Watchlist};

/// What a source measures, as errors are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Group {
    /// Processor time of the machine.
    Cpu,
    /// Memory of the machine.
    Memory,
    /// The reported disks.
    Disk,
    /// The gateway's own process.
    Process,
    /// The processes of its terminals.
    Terminals,
}

impl Group {
    /// The names of all groups.
    pub const NAMES: &'static [&'static str] = <Group as VariantNames>::VARIANTS;

    /// Its name in logs and labels.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A source of measurements, with what the measuring library remembers between two of them.
pub enum Sensor {
    /// Processors.
    Cpu(Cpu),
    /// Memory of the machine, and the limit of the gateway's.
    Memory,
    /// The gateway's own process.
    Process(Option<System>),
    /// The processes of its terminals.
    Terminals(Terminals),
    /// A file system.
    Disk(FileSystem),
}

/// Processors. Their usage is what they did since the reading before.
#[derive(Default)]
pub struct Cpu {
    system: Option<System>,
    /// There is a reading to compare the next one with.
    read: bool,
}

/// What a sensor read.
#[derive(Debug)]
pub enum Reading {
    /// Used share of all processors' time, 0 to 1.
    Cpu(f64),
    Memory(Memory),
    Process(ProcessSample),
    Terminals(Vec<TerminalSample>),
    Disk(Disk),
}

/// The sensors of everything that is measured, with the terminals on this list and the file systems at
/// these mount points. Without mount points it is the file system that holds the working directory.
pub fn sensors(mountpoints: &[PathBuf], watchlist: &Watchlist) -> Vec<Sensor> {
    let terminals = Sensor::Terminals(Terminals::new(watchlist.clone()));
    let mut sensors =
        vec![Sensor::Cpu(Cpu::default()), Sensor::Memory, Sensor::Process(None), terminals];
    if mountpoints.is_empty() {
        sensors.push(Sensor::Disk(FileSystem::WorkingDirectory));
    }
    let file_systems =
        mountpoints.iter().map(|mountpoint| FileSystem::Mountpoint(mountpoint.clone()));
    sensors.extend(file_systems.map(Sensor::Disk));
    sensors
}

impl Sensor {
    /// Which errors count as its own.
    pub fn group(&self) -> Group {
        match self {
            Sensor::Cpu(_) => Group::Cpu,
            Sensor::Memory => Group::Memory,
            Sensor::Process(_) => Group::Process,
            Sensor::Terminals(_) => Group::Terminals,
            Sensor::Disk(_) => Group::Disk,
        }
    }

    /// Reads processors for a first time, which takes a fifth of a second.
    pub(super) fn prepare(&mut self) {
        if let Sensor::Cpu(cpu) = self
            && !cpu.read
            && caught(|| cpu.usage()).is_ok()
        {
            std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
            cpu.read = true;
        }
    }

    /// Measures.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn measure(&mut self) -> Result<Reading, String> {
        caught(|| match self {
            Sensor::Cpu(cpu) => cpu.usage().map(Reading::Cpu),
            Sensor::Memory => memory().map(Reading::Memory),
            Sensor::Process(system) => process(opened(system)?).map(Reading::Process),
            Sensor::Terminals(terminals) => terminals.measure().map(Reading::Terminals),
            Sensor::Disk(file_system) => mounts::measure(file_system).map(Reading::Disk),
        })
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sensor::Disk(file_system) => file_system.fmt(formatter),
            other => formatter.write_str(other.group().name()),
        }
    }
}

impl Reading {
    /// Makes it a part of a sample.
    pub fn add_to(self, sample: &mut Sample) {
        match self {
            Reading::Cpu(ratio) => sample.cpu_usage_ratio = Some(ratio),
            Reading::Memory(memory) => sample.memory = Some(memory),
            Reading::Process(process) => sample.process = Some(process),
            Reading::Terminals(terminals) => sample.terminals = terminals,
            Reading::Disk(disk) => sample.disks.push(disk),
        }
    }
}

/// Makes a panic of the measuring library a failure.
fn caught<T>(part: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|panic| {
        Err(format!("the measuring library panicked: {}", panic_message(&*panic)))
    })
}

pub(super) fn opened(system: &mut Option<System>) -> Result<&mut System, String> {
    match system {
        Some(system) => Ok(system),
        none => Ok(none.insert(System::new().map_err(|error| error.to_string())?)),
    }
}

impl Cpu {
    fn usage(&mut self) -> Result<f64, String> {
        // Where it cannot be read the library keeps the reading before, and does not say so.
        #[cfg(target_os = "linux")]
        std::fs::read("/proc/stat").map_err(|fault| format!("/proc/stat: {fault}"))?;
        let system = opened(&mut self.system)?;
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        if system.cpus().is_empty() {
            return Err("no processor is visible".to_owned());
        }
        Ok(f64::from(system.global_cpu_usage()) / 100.0)
    }
}

fn own_pid() -> Pid {
    Pid::from_u32(std::process::id())
}

fn memory() -> Result<Memory, String> {
    // Opened each time, because the library keeps what it read before where it cannot read.
    let mut system = System::new().map_err(|error| error.to_string())?;
    system.refresh_memory();
    let (used, total) = (system.used_memory(), system.total_memory());
    if total == 0 {
        return Err("the machine's memory is not visible".to_owned());
    }
    let nothing = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own_pid()]), true, nothing);
    let process = system.process(own_pid()).ok_or("the own process is not visible")?;
    // Those of the process, not of the system: a service has a control group below the root.
    let limit = process.cgroup_limits().map(|limits| limits.total_memory);
    Ok(Memory { used, total, limit })
}

fn process(system: &mut System) -> Result<ProcessSample, String> {
    let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own_pid()]), true, kind);
    let process = system.process(own_pid()).ok_or("the own process is not visible")?;
    let threads = threads(process)?;
    let open_fds = process.open_files().map(|count| count as u64);
    // Linux tells both unless it cannot, which is so when no file can be opened any more.
    if cfg!(target_os = "linux") && (threads.is_none_or(|count| count == 0) || open_fds.is_none()) {
        return Err("the own threads and open files cannot be listed".to_owned());
    }
    Ok(ProcessSample {
        cpu_seconds: process.accumulated_cpu_time() as f64 / 1000.0,
        resident_memory: process.memory(),
        start_time: process.start_time() as f64,
        threads,
        open_fds,
        // On Windows it is the limit of the C library's descriptors, which does not limit handles.
        max_fds: process.open_files_limit().filter(|_| cfg!(unix)).map(|count| count as u64),
    })
}

/// The number of the own threads, where the system tells it.
#[cfg(not(windows))]
fn threads(process: &sysinfo::Process) -> Result<Option<u64>, String> {
    Ok(process.tasks().map(|tasks| tasks.len() as u64))
}

#[cfg(windows)]
fn threads(process: &sysinfo::Process) -> Result<Option<u64>, String> {
    let threads = super::toolhelp::threads(process.pid().as_u32());
    threads.map(Some).map_err(|fault| format!("the own threads cannot be counted: {fault}"))
}
