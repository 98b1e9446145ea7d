//! The sampler actor: measures processor, memory, disks and its own process on
//! a schedule, off the async threads, and reports to the metrics actor.
//!
//! It re-arms itself after each measurement, so a stall costs ticks and never
//! causes a burst, and a source that fails stops neither the others nor the
//! next tick.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use sysinfo::{
    CpuRefreshKind, DiskRefreshKind, Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::actor::{Address, Depths, Envelope, Role};
use crate::metrics::{Disk, Event, Group, Memory, Metrics, ProcessSample, Sample};

/// The actor.
pub struct Sampler;

/// What the actor is told.
pub enum Msg {
    /// Time for a measurement.
    Tick,
    /// A measurement is done.
    Done(Box<Source>),
}

/// What the actor needs.
pub struct Args {
    /// From one measurement's beginning to the next.
    pub interval: Duration,
    /// Mount points to report; empty: the one that holds the working directory.
    pub disks: Vec<PathBuf>,
    /// Where to report.
    pub metrics: Metrics,
    /// Set once the first complete sample is in.
    pub sampled: watch::Sender<bool>,
    /// For its own address.
    pub depths: Depths,
}

/// What the actor knows.
pub struct State {
    args: Args,
    address: Address<Msg>,
    /// Here between measurements, with the measuring thread during one.
    source: Option<Box<Source>>,
    due: Instant,
    failing: Vec<Group>,
}

impl Actor for Sampler {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let address = Address::new(Role::Sampler, &args.depths);
        address.assign(myself);
        let _ = address.send(Msg::Tick);
        info!(actor = Role::Sampler.name(), interval = ?args.interval, "actor started");
        let source = Some(Box::new(Source::new(args.disks.clone())));
        Ok(State { args, address, source, due: Instant::now(), failing: vec![] })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Tick => {
                state.due = Instant::now();
                if let Some(mut source) = state.source.take() {
                    let address = state.address.clone();
                    tokio::task::spawn_blocking(move || {
                        source.measure();
                        let _ = address.send(Msg::Done(source));
                    });
                }
            }
            Msg::Done(mut source) => {
                if let Some((sample, failed)) = source.taken.take() {
                    state.report(sample, failed);
                }
                state.source = Some(source);
                let next = state.args.interval.saturating_sub(state.due.elapsed());
                state.address.send_after(next, Msg::Tick);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        info!(actor = Role::Sampler.name(), "actor stopped");
        Ok(())
    }
}

impl State {
    fn report(&mut self, sample: Sample, failed: Vec<(Group, String)>) {
        for (group, reason) in &failed {
            // Said when it begins; the counter goes on counting.
            if !self.failing.contains(group) {
                warn!(actor = Role::Sampler.name(), group = group.name(), reason, "sample failed");
            }
            self.args.metrics.record(Event::SampleFailed(*group));
        }
        self.failing = failed.into_iter().map(|(group, _)| group).collect();
        self.args.metrics.record(Event::Sampled(Box::new(sample)));
        // After the report: who waits for this sample scrapes behind it. A part
        // that fails must not keep the gateway from being ready.
        self.args.sampled.send_replace(true);
    }
}

/// What is measured, and what the measuring library remembers between readings.
pub struct Source {
    /// Opened at the first measurement.
    system: Option<System>,
    /// Listed anew after a disk was missing.
    disks: Option<Disks>,
    mountpoints: Vec<PathBuf>,
    working_directory: PathBuf,
    cpu_read: bool,
    taken: Option<(Sample, Vec<(Group, String)>)>,
}

impl Source {
    /// A source that was not read yet. Without mount points it reports the disk that holds the
    /// working directory.
    pub fn new(mountpoints: Vec<PathBuf>) -> Source {
        Source {
            system: None,
            disks: None,
            mountpoints,
            working_directory: std::env::current_dir().unwrap_or_default(),
            cpu_read: false,
            taken: None,
        }
    }

    /// Measures everything. The first time takes longer, because processors are read twice.
    pub fn measure(&mut self) {
        let mut failed = Vec::new();
        if !self.cpu_read {
            // The first reading has nothing to be compared with.
            attempt(&mut failed, Group::Cpu, || self.cpu());
            std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
            self.cpu_read = true;
            failed.clear();
        }
        let begun = Instant::now();
        let cpu_usage_ratio = attempt(&mut failed, Group::Cpu, || self.cpu());
        let memory = attempt(&mut failed, Group::Memory, || self.memory());
        let disks = attempt(&mut failed, Group::Disk, || self.disks());
        let process = attempt(&mut failed, Group::Process, || self.process());
        let (disks, missing) = disks.unwrap_or_default();
        failed.extend(missing.into_iter().map(|reason| (Group::Disk, reason)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sample = Sample {
            cpu_usage_ratio,
            memory,
            disks,
            process,
            duration: begun.elapsed(),
            timestamp: now.as_secs_f64(),
            complete: failed.is_empty(),
        };
        self.taken = Some((sample, failed));
    }

    fn system(&mut self) -> Result<&mut System, String> {
        match &mut self.system {
            Some(system) => Ok(system),
            none => Ok(none.insert(System::new().map_err(|error| error.to_string())?)),
        }
    }

    fn cpu(&mut self) -> Result<f64, String> {
        let system = self.system()?;
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        if system.cpus().is_empty() {
            return Err("no processor is visible".to_owned());
        }
        Ok(f64::from(system.global_cpu_usage()) / 100.0)
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let system = self.system()?;
        system.refresh_memory();
        let (used, total) = (system.used_memory(), system.total_memory());
        if total == 0 {
            return Err("the machine's memory is not visible".to_owned());
        }
        Ok(Memory { used, total })
    }

    fn process(&mut self) -> Result<ProcessSample, String> {
        let system = self.system()?;
        let pid = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
        let process = system.process(pid).ok_or("the own process is not visible")?;
        Ok(ProcessSample {
            cpu_seconds: process.accumulated_cpu_time() as f64 / 1000.0,
            resident_memory: process.memory(),
            start_time: process.start_time() as f64,
            threads: process.tasks().map(|tasks| tasks.len() as u64),
            open_fds: process.open_files().map(|count| count as u64),
            max_fds: process.open_files_limit().map(|count| count as u64),
        })
    }

    /// The disks that are found, and a reason for each that is not.
    fn disks(&mut self) -> Result<(Vec<Disk>, Vec<String>), String> {
        let kind = DiskRefreshKind::nothing().with_storage();
        let disks = match &mut self.disks {
            Some(disks) => disks,
            none => none.insert(
                Disks::new_with_refreshed_list_specifics(kind)
                    .map_err(|error| error.to_string())?,
            ),
        };
        if self.mountpoints.is_empty() {
            self.mountpoints.extend(holder(disks, &self.working_directory));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        if self.mountpoints.is_empty() {
            missing.push("no disk holds the working directory".to_owned());
        }
        for mountpoint in &self.mountpoints {
            let disk = disks.iter_mut().find(|disk| disk.mount_point() == mountpoint);
            let mountpoint = mountpoint.display().to_string();
            match disk {
                None => missing.push(format!("{mountpoint} is no mount point")),
                Some(disk) => {
                    if disk.refresh_specifics(kind) {
                        let (free, size) = (disk.available_space(), disk.total_space());
                        found.push(Disk { mountpoint, free, size });
                    } else {
                        missing.push(format!("{mountpoint} cannot be measured"));
                    }
                }
            }
        }
        if !missing.is_empty() {
            // A disk that is mounted later is found at the next tick.
            self.disks = None;
        }
        Ok((found, missing))
    }
}

/// The mount point with the longest path that holds a directory.
fn holder(disks: &Disks, directory: &std::path::Path) -> Option<PathBuf> {
    let holders = disks.iter().map(sysinfo::Disk::mount_point);
    let holders = holders.filter(|mountpoint| directory.starts_with(mountpoint));
    holders.max_by_key(|mountpoint| mountpoint.as_os_str().len()).map(PathBuf::from)
}

/// Runs a part of a measurement; if it fails or panics, notes why.
fn attempt<T>(
    failed: &mut Vec<(Group, String)>,
    group: Group,
    part: impl FnOnce() -> Result<T, String>,
) -> Option<T> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(part))
        .unwrap_or_else(|_| Err("the measuring library panicked".to_owned()));
    result.map_err(|reason| failed.push((group, reason))).ok()
}
