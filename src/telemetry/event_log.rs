//! Warnings, errors, and the start and stop of a Windows service, for the Application log.

#[cfg(windows)]
use std::io::{self, Write};
#[cfg(windows)]
use std::ptr;

use tracing::{Level, Metadata};
#[cfg(windows)]
use windows_sys::Win32::Foundation::HANDLE;
#[cfg(windows)]
use windows_sys::Win32::System::EventLog::{
    EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, RegisterEventSourceW,
    ReportEventW,
};

/// The room whose events of level INFO are the start and stop of the gateway.
const STARTS_AND_STOPS: &str = "mt5_gateway::app";

/// The longest text of an event, in UTF-16 units. Windows takes 31,839.
const LONGEST_TEXT: usize = 31_000;

/// Whether an event is for the log of the machine.
pub fn is_for_the_machine(metadata: &Metadata<'_>) -> bool {
    let most = match metadata.target() {
        STARTS_AND_STOPS => Level::INFO,
        _ => Level::WARN,
    };
    metadata.is_event() && *metadata.level() <= most
}

/// A kind of event, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Information = 1,
    Warning = 2,
    Error = 3,
}

/// The kind and the text of a line that begins with its level.
fn event(line: &str) -> (Kind, Vec<u16>) {
    let line = line.trim();
    let (level, text) = line.split_once(' ').unwrap_or(("", line));
    let kind = match level {
        "ERROR" => Kind::Error,
        "WARN" => Kind::Warning,
        _ => Kind::Information,
    };
    let mut safe = String::new();
    for character in text.chars() {
        // The Event Viewer puts other texts in the place of `%1`, also in texts.
        if character.is_ascii_digit() && safe.ends_with('%') {
            safe.push(' ');
        }
        safe.push(if character == '\0' { char::REPLACEMENT_CHARACTER } else { character });
    }
    let mut text: Vec<u16> = safe.encode_utf16().take(LONGEST_TEXT).collect();
    text.push(0);
    (kind, text)
}

/// Writes lines that begin with their level to the Application log.
#[cfg(windows)]
pub struct EventLog(HANDLE);

// SAFETY: the handle of an event source may be used by any thread.
#[cfg(windows)]
unsafe impl Send for EventLog {}

#[cfg(windows)]
impl EventLog {
    /// Opens the log for a source. It stays open as long as the process lives.
    pub fn new(source: &str) -> EventLog {
        let source: Vec<u16> = source.encode_utf16().chain([0]).collect();
        // SAFETY: the name ends with a zero. Without a server it is the machine's own log.
        EventLog(unsafe { RegisterEventSourceW(ptr::null(), source.as_ptr()) })
    }

    /// Writes an error. If that fails, there is nobody left to tell.
    pub fn error(mut self, text: &str) {
        let _ = self.write(format!("ERROR {text}").as_bytes());
    }
}

#[cfg(windows)]
impl Write for EventLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (kind, text) = event(&String::from_utf8_lossy(line));
        let severity = match kind {
            Kind::Information => EVENTLOG_INFORMATION_TYPE,
            Kind::Warning => EVENTLOG_WARNING_TYPE,
            Kind::Error => EVENTLOG_ERROR_TYPE,
        };
        let texts = [text.as_ptr()];
        // SAFETY: there is one text, which ends with a zero and outlives the call. A handle that could
        // not be opened is null, which the function refuses.
        let reported = unsafe {
            ReportEventW(
                self.0,
                severity,
                0,
                kind as u32,
                ptr::null_mut(),
                1,
                0,
                texts.as_ptr(),
                ptr::null(),
            )
        };
        if reported == 0 { Err(io::Error::last_os_error()) } else { Ok(line.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<(&'static str, Level)>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
            let metadata = event.metadata();
            self.0.lock().push((metadata.target(), *metadata.level()));
        }
    }

    #[test]
    fn the_machine_hears_of_problems_and_of_starts_and_stops() {
        let seen = Seen::default();
        let layer = seen.clone().with_filter(filter_fn(is_for_the_machine));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: "mt5_gateway::app", "listening");
            tracing::debug!(target: "mt5_gateway::app", "detail");
            tracing::info!(target: "mt5_gateway::access", "request");
            tracing::warn!(target: "mt5_gateway::pool", "terminal restarting");
            tracing::error!(target: "ractor", "actor failed");
            let _span = tracing::error_span!(target: "ractor", "span").entered();
        });
        let expected = [
            ("mt5_gateway::app", Level::INFO),
            ("mt5_gateway::pool", Level::WARN),
            ("ractor", Level::ERROR),
        ];
        assert_eq!(*seen.0.lock(), expected);
    }

    #[test]
    fn an_event_has_the_kind_of_its_level_and_the_text_of_its_line() {
        let cases = [
            ("ERROR mt5_gateway::app: failed\n", Kind::Error, "mt5_gateway::app: failed\0"),
            (" WARN mt5_gateway: a\nb", Kind::Warning, "mt5_gateway: a\nb\0"),
            (" INFO mt5_gateway::app: stopped", Kind::Information, "mt5_gateway::app: stopped\0"),
            ("INFO fe80::1%1 \0", Kind::Information, "fe80::1% 1 \u{fffd}\0"),
        ];
        for (line, kind, text) in cases {
            let (actual, units) = event(line);
            assert_eq!((actual, String::from_utf16(&units).unwrap().as_str()), (kind, text));
        }
        let (_, units) = event(&format!("WARN {}", "a".repeat(100_000)));
        assert_eq!(units.len(), LONGEST_TEXT + 1);
    }
}
