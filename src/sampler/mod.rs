//! The sampler actor: measures processors, memory, file systems, the gateway's own process and those of
//! its terminals on a schedule, and reports each sample to the metrics actor.
//!
//! Each source is measured on a blocking thread of its own within [`LIMIT`]. A source that takes
//! longer has failed in this sample, and is not measured again before its thread has ended. So a
//! file server that does not answer costs one thread and delays no other source. The actor schedules
//! the next sample when one is finished, so a stall skips samples and never causes a burst.

mod mounts;
mod process_table;
mod sampling;
mod sensor;
mod terminals;
#[cfg(windows)]
mod toolhelp;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tracing::{info, warn};

pub use self::mounts::free_space;
pub use self::sensor::{Group, Sensor, sensors};

use self::sampling::{Change, Sampling};
use self::sensor::Reading;
use crate::actor::{Address, Envelope, Ping, Role};
use crate::metrics::{Event, Metrics, Sample};

/// How long a source may take.
pub const LIMIT: Duration = Duration::from_secs(1);

/// How long readiness waits for the first sample. Above [`LIMIT`], the longest that the first sample
/// takes, so that it only ends the wait if the actor itself does not work.
pub const FIRST_SAMPLE_LIMIT: Duration = Duration::from_secs(2);

/// Measures the machine on a schedule.
pub struct Sampler;

/// What the actor is told.
pub enum Msg {
    /// Time for a sample.
    Tick,
    /// A source was measured.
    Measured(Box<Measured>),
    /// [`LIMIT`] has passed for the sample of this number.
    TimeUp(u64),
    /// Answers that it lives.
    Ping(Ping),
    /// Fails.
    #[cfg(test)]
    Fail,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// A source that was measured, and with what result.
pub struct Measured {
    /// Which one.
    source: usize,
    /// For which sample.
    sample: u64,
    sensor: Sensor,
    result: Result<Reading, String>,
    took: Duration,
}

/// What the actor needs.
pub struct Args {
    /// From one sample's beginning to the next.
    pub interval: Duration,
    /// Mount points to report; empty: the one that holds the working directory.
    pub disks: Vec<PathBuf>,
    /// Where to report.
    pub metrics: Metrics,
    /// Set once the first sample is in.
    pub sampled: watch::Sender<bool>,
    /// Its own address.
    pub address: Address<Msg>,
}

/// What the actor knows.
pub struct State {
    args: Args,
    /// Of this actor alone.
    address: Address<Msg>,
    sources: Vec<Source>,
    sampling: Sampling<(Reading, Duration)>,
    begun: Instant,
}

struct Source {
    /// As the log calls it.
    name: String,
    group: Group,
    /// Here between measurements, with the measuring thread during one.
    sensor: Option<Sensor>,
}

/// Tells whether readiness still has to wait for the first sample.
#[derive(Debug, Clone)]
pub struct FirstSample {
    sampled: watch::Receiver<bool>,
    waited_for_until: Instant,
}

impl FirstSample {
    /// Waits from now on for the sender to say that the sample is in.
    pub fn new() -> (watch::Sender<bool>, FirstSample) {
        let (sender, sampled) = watch::channel(false);
        (sender, FirstSample { sampled, waited_for_until: Instant::now() + FIRST_SAMPLE_LIMIT })
    }

    /// Whether the sample is not in yet, but is worth waiting for.
    pub fn is_awaited(&self, now: Instant) -> bool {
        !*self.sampled.borrow() && now < self.waited_for_until
    }
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
        args.address.assign(myself);
        // What an earlier sampler is still measuring belongs to none of this one's samples.
        let address = args.address.pinned();
        let _ = address.send(Msg::Tick);
        info!(actor = Role::Sampler.name(), interval = ?args.interval, "actor started");
        let sensors = sensors(&args.disks, args.metrics.watchlist());
        let sources: Vec<Source> = sensors.into_iter().map(Source::new).collect();
        let sampling = Sampling::new(sources.len());
        Ok(State { args, address, sources, sampling, begun: Instant::now() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Tick => state.begin(),
            Msg::Measured(measured) => state.measured(*measured),
            Msg::TimeUp(sample) => {
                if state.sampling.time_up(sample, &format!("no answer within {LIMIT:?}")) {
                    state.finish();
                }
            }
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
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
    fn begin(&mut self) {
        self.begun = Instant::now();
        let (number, started) = self.sampling.begin();
        for source in started {
            if let Some(sensor) = self.sources[source].sensor.take() {
                measure(source, number, sensor, self.address.clone());
            }
        }
        self.address.send_after(LIMIT, Msg::TimeUp(number));
        if self.sampling.is_complete() {
            self.finish();
        }
    }

    fn measured(&mut self, measured: Measured) {
        let Measured { source, sample, sensor, result, took } = measured;
        self.sources[source].sensor = Some(sensor);
        if self.sampling.measured(source, sample, result.map(|reading| (reading, took))) {
            self.finish();
        }
    }

    /// Reports the sample, and waits for the time of the next one.
    fn finish(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut sample = Sample { timestamp: now.as_secs_f64(), ..Sample::default() };
        for (source, (outcome, change)) in self.sources.iter().zip(self.sampling.finish()) {
            let (name, group) = (source.name.as_str(), source.group.name());
            match outcome {
                Ok((reading, took)) => {
                    sample.duration = sample.duration.max(took);
                    reading.add_to(&mut sample);
                    if change == Some(Change::Works) {
                        info!(actor = Role::Sampler.name(), group, name, "source works again");
                    }
                }
                Err(reason) => {
                    sample.failed.push(group);
                    // Said when it begins; the counter goes on counting.
                    if change == Some(Change::Fails) {
                        warn!(actor = Role::Sampler.name(), group, name, reason, "source failed");
                    }
                }
            }
        }
        self.args.metrics.record(Event::Sampled(Box::new(sample)));
        // After the report: who waits for this sample scrapes behind it. What fails must not keep
        // the gateway from being ready.
        self.args.sampled.send_replace(true);
        let next = self.args.interval.saturating_sub(self.begun.elapsed());
        self.address.send_after(next, Msg::Tick);
    }
}

impl Source {
    fn new(sensor: Sensor) -> Source {
        Source { name: sensor.to_string(), group: sensor.group(), sensor: Some(sensor) }
    }
}

/// Measures a source on a thread that may hang.
fn measure(source: usize, sample: u64, mut sensor: Sensor, address: Address<Msg>) {
    tokio::task::spawn_blocking(move || {
        sensor.prepare();
        let begun = Instant::now();
        let result = sensor.measure();
        let took = begun.elapsed();
        let measured = Measured { source, sample, sensor, result, took };
        // An actor that has ended wants no measurement.
        let _ = address.send(Msg::Measured(Box::new(measured)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_the_first_sample_for_a_limited_time() {
        let (sender, first) = FirstSample::new();
        let now = Instant::now();
        assert!(first.is_awaited(now));
        assert!(!first.is_awaited(now + FIRST_SAMPLE_LIMIT));
        sender.send_replace(true);
        assert!(!first.is_awaited(now));
    }
}
