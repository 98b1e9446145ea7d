//! Lines of the access log, written without `core::fmt` wherever that makes no difference.
//!
//! There is one for each request, and the general formatter takes as long for it as the request
//! itself. Only these lines are written here, as the general formatter would write them.

use std::cell::Cell;
use std::fmt::{self, Debug};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// The target of the access log.
pub const ACCESS: &str = "mt5_gateway::access";

/// Formats the access log, and lets another formatter write everything else.
pub struct AccessLines<F> {
    pub format: LogFormat,
    pub others: F,
}

impl<S, N, F> FormatEvent<S, N> for AccessLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let is_plain = !writer.has_ansi_escapes() && context.lookup_current().is_none();
        if event.metadata().target() != ACCESS || !is_plain {
            return self.others.format_event(context, writer, event);
        }
        match self.format {
            LogFormat::Text => text(writer, event),
            LogFormat::Json => json(writer, event),
        }
    }
}

fn text(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    write_time(&mut writer)?;
    let metadata = event.metadata();
    write!(writer, " {:>5} {}:", metadata.level().as_str(), metadata.target())?;
    let mut fields = TextFields { writer, result: Ok(()) };
    event.record(&mut fields);
    fields.result?;
    fields.writer.write_char('\n')
}

fn json(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    writer.write_str(r#"{"timestamp":""#)?;
    write_time(&mut writer)?;
    let metadata = event.metadata();
    writer.write_str(r#"","level":""#)?;
    writer.write_str(metadata.level().as_str())?;
    writer.write_char('"')?;
    let mut fields = JsonFields { writer, result: Ok(()) };
    event.record(&mut fields);
    fields.result?;
    let mut writer = fields.writer;
    writer.write_str(r#","target":""#)?;
    writer.write_str(metadata.target())?;
    writer.write_str("\"}\n")
}

/// The present moment, RFC 3339 with microseconds. The part that changes once a second is kept.
fn write_time(writer: &mut Writer<'_>) -> fmt::Result {
    thread_local! {
        static SECOND: Cell<(i64, [u8; 20])> = const { Cell::new((i64::MIN, [b'0'; 20])) };
    }
    let now = Timestamp::now();
    let (mut second, mut text) = SECOND.get();
    if second != now.as_second() {
        second = now.as_second();
        let written = now.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        text.copy_from_slice(written.as_bytes().first_chunk::<20>().ok_or(fmt::Error)?);
        SECOND.set((second, text));
    }
    writer.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)?;
    let mut micros = now.subsec_microsecond().unsigned_abs();
    let mut digits = [b'0'; 7];
    digits[6] = b'Z';
    for digit in digits[..6].iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    writer.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
}

/// Whether a text needs no escapes, in quotes of Rust or JSON.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

/// Fields as ` name=value`, and the message as it is.
struct TextFields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl TextFields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = match field.name() {
            "message" => "",
            name => name,
        };
        self.result = self.result.and_then(|()| {
            self.writer.write_char(' ')?;
            if !name.is_empty() {
                self.writer.write_str(name)?;
                self.writer.write_char('=')?;
            }
            value(&mut self.writer)
        });
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |writer| {
            if !is_plain(value) {
                return write!(writer, "{value:?}");
            }
            writer.write_char('"')?;
            writer.write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |writer| write!(writer, "{value:?}"));
    }
}

/// Fields as `,"name":value`.
struct JsonFields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl JsonFields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        self.result = self.result.and_then(|()| {
            self.writer.write_str(",\"")?;
            self.writer.write_str(field.name())?;
            self.writer.write_str("\":")?;
            value(&mut self.writer)
        });
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |writer| {
            if !is_plain(value) {
                return writer.write_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?);
            }
            writer.write_char('"')?;
            writer.write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, |writer| match value.is_finite() {
            true => writer.write_str(zmij::Buffer::new().format_finite(value)),
            false => writer.write_str("null"),
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |writer| writer.write_str(if value { "true" } else { "false" }));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use proptest::prelude::*;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{fmt as format, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What two subscribers write about the same event, ours first, without its time.
    fn lines(kind: LogFormat, log: impl Fn()) -> [String; 2] {
        [true, false].map(|ours| {
            let written = Written::default();
            let writer = written.clone();
            let layer = format::layer().with_ansi(false).with_writer(move || writer.clone());
            match (kind, ours) {
                (LogFormat::Text, false) => with_default(registry().with(layer), &log),
                (LogFormat::Json, false) => {
                    let layer = layer.json().flatten_event(true);
                    with_default(registry().with(layer), &log);
                }
                (LogFormat::Text, true) => {
                    let layer =
                        layer.map_event_format(|others| AccessLines { format: kind, others });
                    with_default(registry().with(layer), &log);
                }
                (LogFormat::Json, true) => {
                    let layer = layer.json().flatten_event(true);
                    let layer =
                        layer.map_event_format(|others| AccessLines { format: kind, others });
                    with_default(registry().with(layer), &log);
                }
            }
            let line = String::from_utf8(written.0.lock().clone()).unwrap();
            let time = line.find("20").unwrap();
            let moment: Timestamp = line[time..time + 27].parse().unwrap();
            assert!(moment.duration_until(Timestamp::now()).as_secs() < 60, "{line}");
            line.replace(&line[time..time + 27], "")
        })
    }

    proptest! {
        #[test]
        fn access_lines_look_as_the_general_formatter_writes_them(
            method in "[A-Z]{1,16}|\\PC{0,8}",
            route in "[ -~]{0,40}",
            account in proptest::option::of("\\PC{0,20}|[\\x00-\\x7f]{0,8}"),
            status in 100_u16..600,
            micros: u32,
            bytes: u64,
            client: std::net::IpAddr,
        ) {
            for kind in [LogFormat::Text, LogFormat::Json] {
                let [ours, theirs] = lines(kind, || tracing::info!(
                    target: ACCESS,
                    method = method.as_str(),
                    route,
                    status,
                    duration_ms = f64::from(micros) / 1000.0,
                    bytes,
                    change = -i64::from(micros),
                    whole = micros % 2 == 0,
                    account = account.as_deref(),
                    client = %client,
                    "request"
                ));
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn other_lines_are_left_to_the_general_formatter() {
        for kind in [LogFormat::Text, LogFormat::Json] {
            let [ours, theirs] = lines(kind, || tracing::warn!(account = "demo", "session ready"));
            assert_eq!(ours, theirs);
        }
    }
}
