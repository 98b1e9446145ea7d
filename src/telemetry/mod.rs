//! Logs: one line an event, to standard error and to a file if one is configured, as text or JSON;
//! and the last events of each actor, for the console.

mod events;
mod file;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use self::events::{Events, Noted};
use self::file::RotatingFile;

/// Capacity of each log queue, in lines. When standard error blocks (for example while text is
/// selected in a Windows console) or the file does (a disk that hangs), further lines are dropped
/// instead of blocking the gateway.
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

/// Starts logging. Lines that wait are written when the guards are dropped.
///
/// # Errors
/// If the filter cannot be read.
pub fn start(options: &Options) -> Result<(Vec<WorkerGuard>, Events), ParseError> {
    let filter: EnvFilter = options.filter.parse()?;
    let (errors, guard) = queue("log", std::io::stderr());
    let mut guards = vec![guard];
    let writer = match &options.file {
        None => BoxMakeWriter::new(errors),
        // A queue each, so that neither waits for the other.
        Some(file) => {
            let (file, guard) = queue("log-file", RotatingFile::new(file.clone()));
            guards.push(guard);
            BoxMakeWriter::new(errors.and(file))
        }
    };
    // A line is made once for both, and a file wants no colours.
    let ansi = options.file.is_none() && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match options.format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let events = Events::default();
    tracing_subscriber::registry().with(lines).with(events.layer()).init();
    Ok((guards, events))
}

/// A writer that never blocks, and the thread behind it.
fn queue(thread: &str, writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    builder.thread_name(thread).finish(writer)
}
