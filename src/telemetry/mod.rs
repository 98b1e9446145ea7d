//! Logs: one line per event, as text or JSON, to standard error (or to journald) and to a file if one is
//! configured; and the latest events of each actor, for the console.

mod access_lines;
#[cfg(any(windows, test))]
mod event_log;
mod events;
mod file;
#[cfg(target_os = "linux")]
mod journald;

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use self::access_lines::ACCESS;
use self::access_lines::AccessLines;
#[cfg(windows)]
pub use self::event_log::EventLog;
pub use self::events::{Events, LoggedEvent};
use self::file::RotatingFile;

/// Capacity of each log queue, in lines. When standard error blocks (for example while text is
/// selected in a Windows console) or the file does (a disk that hangs), further lines are dropped
/// instead of blocking the gateway.
const WAITING_LINES: usize = 128_000;

/// Bytes that one write takes, about. A pipe takes as many.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// How to log.
#[derive(Debug, Clone)]
pub struct Options {
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go, beside the file.
    pub destination: Destination,
    /// Which events are logged, in the syntax of `tracing`'s `EnvFilter`.
    pub filter: String,
    /// A file to write lines to.
    pub file: Option<LogFile>,
}

/// A log file, and when it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// The size in bytes at which it is replaced.
    pub max_size: u64,
    /// How many replaced files are kept.
    pub keep: u32,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where lines go, beside a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    StandardError,
    /// The journal of systemd. It needs lines in JSON.
    #[cfg(target_os = "linux")]
    Journald,
    /// The Application log of Windows, for this source. It gets warnings, errors, and the start and
    /// stop; the file gets everything.
    #[cfg(windows)]
    EventLog(&'static str),
}

/// Checks a filter.
///
/// # Errors
/// Why it cannot be parsed.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    filter.parse::<EnvFilter>().map(|_| ())
}

/// Starts logging. Dropping the guards writes the queued lines.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(options: &Options) -> Result<(Vec<WorkerGuard>, Events), ParseError> {
    let filter: EnvFilter = options.filter.parse()?;
    // Its thread flushes when no line waits, so those that came together go in one write. The file has
    // no such buffer: it would hide which line could not be written.
    let errors = BufWriter::with_capacity(WRITTEN_AT_ONCE, std::io::stderr());
    let errors = match options.destination {
        Destination::StandardError => Some(queue("log", errors)),
        #[cfg(target_os = "linux")]
        Destination::Journald => Some(queue("log", journald::Journald::new(errors))),
        // A service has no standard error.
        #[cfg(windows)]
        Destination::EventLog(_) => None,
    };
    // Each has a queue of its own, so that neither waits for the other.
    let file = options.file.clone().map(|file| queue("log-file", RotatingFile::new(file)));
    let (mut writers, mut guards) = (vec![], vec![]);
    for (writer, guard) in errors.into_iter().chain(file) {
        writers.push(writer);
        guards.push(guard);
    }
    let writer = match (writers.pop(), writers.pop()) {
        (Some(file), Some(errors)) => BoxMakeWriter::new(errors.and(file)),
        (Some(only), None) => BoxMakeWriter::new(only),
        (None, _) => BoxMakeWriter::new(std::io::sink),
    };
    // A line is formatted once for both, and a file must not have colours.
    let ansi = options.file.is_none() && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let format = options.format;
    let lines = match format {
        LogFormat::Text => {
            let lines = lines.map_event_format(|others| AccessLines { format, others });
            lines.with_filter(filter).boxed()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.map_event_format(|others| AccessLines { format, others });
            lines.with_filter(filter).boxed()
        }
    };
    let events = Events::default();
    let registry = tracing_subscriber::registry().with(lines).with(events.layer());
    #[cfg(windows)]
    if let Destination::EventLog(source) = options.destination {
        let (writer, guard) = queue("event-log", EventLog::new(source));
        guards.push(guard);
        let lines = tracing_subscriber::fmt::layer().without_time().with_ansi(false);
        let wanted = tracing_subscriber::filter::filter_fn(event_log::is_for_the_machine);
        registry.with(lines.with_writer(writer).with_filter(wanted)).init();
        return Ok((guards, events));
    }
    registry.init();
    Ok((guards, events))
}

/// A writer that never blocks, and the guard of its thread.
fn queue(thread: &str, writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    builder.thread_name(thread).finish(writer)
}
