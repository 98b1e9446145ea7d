//! Renders the families as Prometheus text, on a thread of its own.

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use tracing::error;

use super::Catalog;
use crate::actor::panic_message;

/// Samples that are written in one go.
const PIECE: usize = 512;

/// Why there is no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The rendering panicked. The next one may work.
    #[error("rendering the metrics panicked")]
    Panicked,
    /// The thread that renders ended, and is replaced.
    #[error("the thread that renders the metrics ended")]
    ThreadEnded,
    /// The metrics actor is being restarted.
    #[error("the metrics actor is being restarted")]
    Restarting,
}

/// A snapshot as Prometheus text 0.0.4, or why there is none.
pub type Rendered = Result<Bytes, RenderError>;

/// The thread that renders snapshots, one after the other. It ends when this is dropped.
pub(super) struct Renderer(mpsc::Sender<Job>);

/// A snapshot to render. Every job reports exactly once: one that is dropped because the thread ended
/// reports [`RenderError::ThreadEnded`].
struct Job(Option<Box<dyn FnOnce(Rendered) + Send>>);

impl Renderer {
    /// Starts the thread, which calls `render` for each snapshot.
    ///
    /// # Errors
    /// Why the system gives no thread.
    pub(super) fn start(render: impl Fn() -> Bytes + Send + 'static) -> std::io::Result<Renderer> {
        let (renderer, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                let rendered = std::panic::catch_unwind(AssertUnwindSafe(&render));
                let rendered = rendered.map_err(|panic| {
                    error!(reason = panic_message(&*panic), "metrics rendering panicked");
                    RenderError::Panicked
                });
                job.finish(rendered);
            }
        })?;
        Ok(Renderer(renderer))
    }

    /// Renders a snapshot that begins after now. `report` is called exactly once, on the thread, or
    /// on this one if the thread is gone.
    pub(super) fn render(&self, report: impl FnOnce(Rendered) + Send + 'static) {
        // A job that nobody takes is dropped here, and reports that.
        let _ = self.0.send(Job(Some(Box::new(report))));
    }
}

impl Job {
    fn finish(mut self, rendered: Rendered) {
        self.report(rendered);
    }

    fn report(&mut self, rendered: Rendered) {
        if let Some(report) = self.0.take() {
            report(rendered);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.report(Err(RenderError::ThreadEnded));
    }
}

/// Every family as Prometheus text 0.0.4.
pub fn render(catalog: &Catalog) -> Bytes {
    let begun = Instant::now();
    let none: &[&str] = &[];
    let gauge = catalog.gateway_metrics_series.with_label_values(none);
    let mut text = Text::default();
    catalog.render(&mut text);
    let (text, series) = text.finish();
    gauge.set(i64::try_from(series).unwrap_or(i64::MAX));
    let durations = catalog.gateway_scrape_duration_seconds.with_label_values(none);
    durations.observe(begun.elapsed().as_secs_f64());
    text.into()
}

/// The text of a rendering. Whoever writes it yields the processor after each piece.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    samples: usize,
}

impl Text {
    /// Adds what stands before the samples of a family.
    pub(super) fn comments(&mut self, comments: &str) {
        self.bytes.extend_from_slice(comments.as_bytes());
    }

    /// Adds a line: what stands before its value, and the value as the package writes it.
    pub(super) fn sample(&mut self, line: &str, value: f64) {
        self.bytes.extend_from_slice(line.as_bytes());
        let whole = value as i64;
        // Most values are such, and a larger one ends in zeros.
        let is_whole =
            (whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < 1 << 53;
        if is_whole {
            self.bytes.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        } else {
            // A vector takes what it is given.
            let _ = write!(self.bytes, "{value}");
        }
        self.bytes.push(b'\n');
        self.samples += 1;
        if self.samples.is_multiple_of(PIECE) {
            std::thread::yield_now();
        }
    }

    /// The text, and how many samples it has.
    pub(super) fn finish(self) -> (Vec<u8>, usize) {
        (self.bytes, self.samples)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::metrics::{LabelSets, Options, StatusLabels};

    #[test]
    fn a_rendering_reads_as_the_package_writes_the_families() {
        let options = Options {
            enabled: true,
            account_values: false,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![0.1, 1.0],
            call_buckets: vec![0.1, 1.0],
        };
        // So many that the larger families have several pieces.
        let accounts: Vec<_> = (0..200).map(|number| (format!("a{number}"), 1)).collect();
        let states = LabelSets { session_states: &["starting", "ready"], ..LabelSets::default() };
        let catalog = Catalog::new(&options, &accounts, &states).unwrap();
        let families = catalog.gather();
        assert!(families.iter().any(|family| family.get_metric().len() > 3 * PIECE));
        assert!(families.is_sorted_by_key(|family| family.name().to_owned()));
        let mut expected = Vec::new();
        TextEncoder::new().encode(&families, &mut expected).unwrap();
        assert!(render(&catalog) == expected);
        let series = expected.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let series = series.filter(|line| line[0] != b'#').count();
        let none: &[&str] = &[];
        assert_eq!(catalog.gateway_metrics_series.with_label_values(none).get(), series as i64);
    }
}
