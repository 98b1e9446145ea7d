//! Logs: one line an event, to standard error, as text or JSON; and the last
//! events of each actor, for the console.

mod events;

use std::io::IsTerminal;
use std::path::PathBuf;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use self::events::{Events, Noted};

/// Lines that may wait for a slow reader before further ones are lost: a
/// console that is being selected in must not stop the gateway.
const WAITING_LINES: usize = 128_000;

/// How to log.
#[derive(Debug, Clone)]
pub struct Options {
    /// How a line looks.
    pub format: Format,
    /// Which lines there are, in `tracing`'s syntax.
    pub filter: String,
    /// Where lines are written as well, beside standard error.
    pub file: Option<LogFile>,
}

/// A log file, and when it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that it may have before the next one is begun.
    pub max_size: u64,
    /// Older files that are kept.
    pub keep: u32,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// # Errors
/// Why a text is no filter.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    filter.parse::<EnvFilter>().map(|_| ())
}

/// Starts logging. Lines that wait are written when the guard is dropped.
///
/// # Errors
/// If the filter cannot be read.
pub fn start(options: &Options) -> Result<(WorkerGuard, Events), ParseError> {
    let filter: EnvFilter = options.filter.parse()?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    let (writer, guard) = builder.finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match options.format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let events = Events::default();
    tracing_subscriber::registry().with(lines).with(events.layer()).init();
    Ok((guard, events))
}
