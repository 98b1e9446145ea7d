//! A measurement of the machine, as the sampler reports it.

use std::time::Duration;

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
