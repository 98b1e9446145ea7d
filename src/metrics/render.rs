//! Renders the families as Prometheus text, on a thread of its own with a low priority.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use tracing::{error, info};

use super::Catalog;
use crate::actor::panic_message;

/// Samples that are written in one go, about a tenth of a millisecond.
const PIECE: usize = 128;

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
            give_way();
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

/// Lowers the thread's priority: a scrape can wait a millisecond, requests go first.
#[cfg(target_os = "linux")]
fn give_way() {
    // On Linux this changes the calling thread alone.
    if let Err(fault) = rustix::process::setpriority_process(None, 10) {
        info!(%fault, "rendering keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

/// Every family as Prometheus text 0.0.4.
pub fn render(catalog: &Catalog) -> Bytes {
    let begun = Instant::now();
    let (text, series) = write(catalog.gather());
    let none: &[&str] = &[];
    let gauge = catalog.gateway_metrics_series.with_label_values(none);
    gauge.set(i64::try_from(series).unwrap_or(i64::MAX));
    let durations = catalog.gateway_scrape_duration_seconds.with_label_values(none);
    durations.observe(begun.elapsed().as_secs_f64());
    text.into()
}

/// Writes families, and counts their series. One that cannot be written is left out.
fn write(families: impl Iterator<Item = MetricFamily>) -> (Vec<u8>, usize) {
    let mut text = Vec::with_capacity(64 << 10);
    for family in families {
        let start = text.len();
        if let Err(fault) = write_family(family, &mut text) {
            error!(%fault, "metrics cannot be rendered");
            text.truncate(start);
        }
    }
    // A line each, beside comments.
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let series = lines.filter(|line| line[0] != b'#').count();
    (text, series)
}

/// Writes a family in pieces, and yields the processor between them.
fn write_family(mut family: MetricFamily, text: &mut Vec<u8>) -> prometheus::Result<()> {
    let mut metrics = family.take_metric().into_iter().peekable();
    let mut is_first = true;
    while metrics.peek().is_some() {
        family.set_metric(metrics.by_ref().take(PIECE).collect());
        let start = text.len();
        TextEncoder::new().encode(std::slice::from_ref(&family), text)?;
        if !std::mem::take(&mut is_first) {
            // The comments of the family, which stand before its first piece.
            let lines = text[start..].split_inclusive(|byte| *byte == b'\n');
            let comments = lines.take_while(|line| line[0] == b'#').map(<[u8]>::len).sum::<usize>();
            text.drain(start..start + comments);
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;
    use prometheus::proto::Metric;

    use super::*;
    use crate::metrics::{LabelSets, Options, StatusLabels};

    #[test]
    fn a_family_that_cannot_be_written_is_left_out_and_the_others_are_counted() {
        let mut broken = MetricFamily::default();
        broken.set_metric(vec![Metric::default(), Metric::default()]);
        let empty = MetricFamily::default();
        let gauge = prometheus::IntGauge::new("up", "It is.").unwrap();
        let families = [broken, empty].into_iter().chain(gauge.collect());
        let (text, series) = write(families);
        assert_eq!(String::from_utf8(text).unwrap(), "# HELP up It is.\n# TYPE up gauge\nup 0\n");
        assert_eq!(series, 1);
    }

    #[test]
    fn pieces_of_a_family_without_help_read_as_if_written_at_once() {
        let gauges =
            prometheus::IntGaugeVec::new(prometheus::Opts::new("up", "It is."), &["number"]);
        let gauges = gauges.unwrap();
        for number in 0..3 * PIECE {
            gauges.with_label_values(&[number.to_string()]).set(1);
        }
        let mut families = gauges.collect();
        families[0].set_help(String::new());
        let mut expected = Vec::new();
        TextEncoder::new().encode(&families, &mut expected).unwrap();
        let (text, series) = write(families.into_iter());
        assert!(text == expected, "{}", String::from_utf8_lossy(&text));
        assert_eq!(series, 3 * PIECE);
    }

    #[test]
    fn pieces_read_as_if_written_at_once() {
        let options = Options {
            enabled: true,
            status_labels: StatusLabels::Exact,
            duration_buckets: vec![0.1, 1.0],
            call_buckets: vec![0.1, 1.0],
        };
        // So many that the larger families have several pieces.
        let accounts: Vec<_> = (0..20).map(|number| (format!("a{number}"), 1)).collect();
        let states = LabelSets { session_states: &["starting", "ready"], ..LabelSets::default() };
        let catalog = Catalog::new(&options, &accounts, &states).unwrap();
        let families: Vec<MetricFamily> = catalog.gather().collect();
        assert!(families.iter().any(|family| family.get_metric().len() > 3 * PIECE));
        let mut expected = Vec::new();
        TextEncoder::new().encode(&families, &mut expected).unwrap();
        assert_eq!(render(&catalog), expected);
        let series = expected.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let series = series.filter(|line| line[0] != b'#').count();
        let none: &[&str] = &[];
        assert_eq!(catalog.gateway_metrics_series.with_label_values(none).get(), series as i64);
    }
}
