//! The children of a family, each with the text of its lines, so that a rendering only adds values.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::core::{Atomic, Collector, GenericCounter, GenericGauge, Metric, Number};
use prometheus::proto::{self, LabelPair, MetricFamily};
use prometheus::{Histogram, HistogramOpts, Opts, TextEncoder};
use smallvec::SmallVec;

use super::render::Text;

/// What a child is: a metric of the package.
pub trait Instrument: Metric + Collector + 'static {
    /// A metric without labels. Only histograms have buckets.
    ///
    /// # Errors
    /// If the name is invalid, or the buckets are not in ascending order.
    fn new(options: &HistogramOpts) -> prometheus::Result<Self>;

    /// Adds the value of each of its lines.
    fn read(&self, values: &mut Vec<f64>);
}

impl<P: Atomic + 'static> Instrument for GenericCounter<P> {
    fn new(options: &HistogramOpts) -> prometheus::Result<Self> {
        GenericCounter::with_opts(options.common_opts.clone())
    }

    fn read(&self, values: &mut Vec<f64>) {
        values.push(self.get().into_f64());
    }
}

impl<P: Atomic + 'static> Instrument for GenericGauge<P> {
    fn new(options: &HistogramOpts) -> prometheus::Result<Self> {
        GenericGauge::with_opts(options.common_opts.clone())
    }

    fn read(&self, values: &mut Vec<f64>) {
        values.push(self.get().into_f64());
    }
}

impl Instrument for Histogram {
    fn new(options: &HistogramOpts) -> prometheus::Result<Self> {
        Histogram::with_opts(options.clone())
    }

    /// Buckets, sum and count agree: the package takes them from observations that have ended.
    fn read(&self, values: &mut Vec<f64>) {
        let metric = self.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        values.extend(buckets.map(|bucket| bucket.cumulative_count() as f64));
        let count = histogram.get_sample_count() as f64;
        values.extend([count, histogram.get_sample_sum(), count]);
    }
}

/// The children of a family. `HELP`, `TYPE` and all of a line but its value never change, so the
/// package's encoder writes them once.
pub struct Children<M> {
    options: HistogramOpts,
    /// The names of the labels and their places in the declaration, in the order in which they are
    /// shown.
    names: Vec<(&'static str, usize)>,
    /// `HELP` and `TYPE`.
    comments: String,
    /// In the order of their labels. A rendering goes on with those that it began with.
    list: RwLock<Arc<Vec<Child<M>>>>,
}

#[derive(Clone)]
struct Child<M> {
    /// The values of its labels, in the order of `names`.
    labels: Arc<[Box<str>]>,
    /// Its lines, up to where the value begins.
    lines: Arc<[Box<str>]>,
    metric: M,
}

impl<M: Instrument> Children<M> {
    /// No children yet.
    ///
    /// # Errors
    /// If the name is invalid, or the buckets are not in ascending order.
    pub(super) fn new(
        options: Opts,
        labels: &'static [&'static str],
        buckets: &[f64],
    ) -> prometheus::Result<Children<M>> {
        let options = HistogramOpts::from(options).buckets(buckets.to_vec());
        let text = encode(&M::new(&options)?, vec![]);
        let is_comment = |line: &&str| line.starts_with('#');
        let comments = text.split_inclusive('\n').take_while(is_comment).collect();
        let mut names: Vec<_> = labels.iter().copied().zip(0..).collect();
        names.sort_unstable();
        Ok(Children { options, names, comments, list: RwLock::default() })
    }

    /// The child with these values of the declared labels. It is made if there is none.
    ///
    /// # Panics
    /// If there are not as many values as labels.
    pub fn with_label_values<V: AsRef<str>>(&self, values: &[V]) -> M {
        assert_eq!(values.len(), self.names.len(), "{}", self.options.common_opts.name);
        let labels = self.names.iter().map(|(_, place)| values[*place].as_ref());
        let labels: SmallVec<[&str; 4]> = labels.collect();
        let find = |list: &[Child<M>]| {
            list.binary_search_by(|child| {
                child.labels.iter().map(|label| &**label).cmp(labels.iter().copied())
            })
        };
        let list = self.list.read();
        if let Ok(found) = find(&list) {
            return list[found].metric.clone();
        }
        drop(list);
        let mut list = self.list.write();
        match find(&list) {
            Ok(found) => list[found].metric.clone(),
            Err(place) => {
                let child = self.make(labels.iter().copied().map(Box::from).collect());
                let metric = child.metric.clone();
                Arc::make_mut(&mut list).insert(place, child);
                metric
            }
        }
    }

    fn make(&self, labels: Arc<[Box<str>]>) -> Child<M> {
        let metric = M::new(&self.options).expect("the options served for the comments");
        let text = encode(&metric, self.pairs(&labels));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // Behind the last space is the value.
        let lines = lines.map(|line| line.trim_end_matches(|end| end != ' ').into()).collect();
        Child { lines, labels, metric }
    }

    fn pairs(&self, labels: &[Box<str>]) -> Vec<LabelPair> {
        let pairs = self.names.iter().zip(labels).map(|((name, _), value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_string());
            pair
        });
        pairs.collect()
    }

    /// Every child with its labels, as the package shows it.
    pub fn metrics(&self) -> impl Iterator<Item = proto::Metric> {
        let list = self.list.read().clone();
        (0..list.len()).map(move |place| {
            let child = &list[place];
            let mut metric = child.metric.metric();
            metric.set_label(self.pairs(&child.labels));
            metric
        })
    }

    /// Removes the children with this value of a label. There are none where the family has no such
    /// label.
    pub fn remove(&self, label: &str, value: &str) {
        if let Some(place) = self.names.iter().position(|(name, _)| *name == label) {
            self.retain(|labels| *labels[place] != *value);
        }
    }

    /// Removes the children whose labels' values, in the order of the labels' names, are not wanted.
    pub fn retain(&self, is_wanted: impl Fn(&[Box<str>]) -> bool) {
        Arc::make_mut(&mut self.list.write()).retain(|child| is_wanted(&child.labels));
    }
}

/// A metric with these labels as the package writes it.
fn encode(metric: &impl Collector, labels: Vec<LabelPair>) -> String {
    let mut families = metric.collect();
    for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
        metric.set_label(labels.clone());
    }
    TextEncoder::new().encode_to_string(&families).expect("a metric has a name and a value")
}

/// A family, whatever its metrics are.
pub trait Render: Send + Sync {
    /// Writes its children. A family without children is left out.
    fn render(&self, text: &mut Text);

    /// Removes the children with this value of a label.
    fn remove(&self, label: &str, value: &str);

    /// The same as the package has it.
    #[cfg(test)]
    fn gather(&self) -> Option<MetricFamily>;
}

impl<M: Instrument> Render for Children<M> {
    fn render(&self, text: &mut Text) {
        let list = self.list.read().clone();
        if list.is_empty() {
            return;
        }
        // Writing pauses. What a scrape sees of a family is read before that, without a pause.
        let mut values = Vec::with_capacity(list.len());
        list.iter().for_each(|child| child.metric.read(&mut values));
        text.comments(&self.comments);
        let lines = list.iter().flat_map(|child| &*child.lines);
        lines.zip(values).for_each(|(line, value)| text.sample(line, value));
    }

    fn remove(&self, label: &str, value: &str) {
        Children::remove(self, label, value);
    }

    #[cfg(test)]
    fn gather(&self) -> Option<MetricFamily> {
        let metrics: Vec<_> = self.metrics().collect();
        let mut family = M::new(&self.options).unwrap().collect().remove(0);
        family.set_metric(metrics);
        Some(family).filter(|family| !family.get_metric().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};

    use super::*;

    fn children<M: Instrument>(labels: &'static [&'static str]) -> Children<M> {
        let options = Opts::new("it", "It is \\ \"it\".\nOr not.");
        Children::new(options, labels, &[0.5, 1.0, 2.5]).unwrap()
    }

    fn rendered<M: Instrument>(children: &Children<M>) -> String {
        let mut text = Text::default();
        children.render(&mut text);
        let (text, series) = text.finish();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(series, text.lines().filter(|line| !line.starts_with('#')).count());
        text
    }

    /// What the package makes of the same family: its vector, registry and encoder.
    macro_rules! assert_reads_like {
        ($vector:ty, $metric:ty, $options:expr, $values:expr, $set:expr) => {
            let labels = &["type", "account", "Zone"];
            let (ours, registry) = (children::<$metric>(labels), Registry::new());
            let theirs = <$vector>::new($options, labels).unwrap();
            registry.register(Box::new(theirs.clone())).unwrap();
            let values = ["", "a", "a b", "a\"b\\c\nd", "ä", "b", "a-b", "9 {} 1", "10"];
            for (place, value) in values.iter().enumerate() {
                let labels = [*value, values[place * 5 % 9], values[place * 7 % 9]];
                for number in $values {
                    $set(&ours.with_label_values(&labels), number);
                    $set(&theirs.with_label_values(&labels), number);
                    let expected = TextEncoder::new().encode_to_string(&registry.gather());
                    assert_eq!(rendered(&ours), expected.unwrap());
                }
            }
        };
    }

    #[test]
    fn children_read_as_the_package_writes_them() {
        let options = || Opts::new("it", "It is \\ \"it\".\nOr not.");
        let whole = [0, 1, 9, 10, 1 << 53, (1 << 53) + 1, 1 << 60];
        let float = [0.0, 1.0, 0.1, 1e-7, 1e21, 1_234_567.891, f64::MAX, f64::INFINITY, f64::NAN];
        let add = IntCounter::inc_by;
        assert_reads_like!(prometheus::IntCounterVec, IntCounter, options(), whole, add);
        let signed = whole.iter().flat_map(|value| [*value as i64, -(*value as i64)]);
        let signed: Vec<i64> = signed.chain([i64::MAX, i64::MIN]).collect();
        let set = |gauge: &IntGauge, value: &i64| gauge.set(*value);
        assert_reads_like!(prometheus::IntGaugeVec, IntGauge, options(), &signed, set);
        let positive = float.into_iter().filter(|value| *value >= 0.0);
        let add = |counter: &Counter, value| counter.inc_by(value);
        assert_reads_like!(prometheus::CounterVec, Counter, options(), positive.clone(), add);
        let signed: Vec<f64> = float.iter().flat_map(|value| [*value, -value]).collect();
        let set = |gauge: &Gauge, value: &f64| gauge.set(*value);
        assert_reads_like!(prometheus::GaugeVec, Gauge, options(), &signed, set);
        let options = HistogramOpts::from(options()).buckets(vec![0.5, 1.0, 2.5]);
        let observe = Histogram::observe;
        assert_reads_like!(prometheus::HistogramVec, Histogram, options.clone(), float, observe);
    }

    #[test]
    fn a_family_without_children_is_left_out() {
        let family = children::<IntGauge>(&["account"]);
        assert_eq!(rendered(&family), "");
        let gauge = family.with_label_values(&["a"]);
        gauge.set(1);
        assert!(rendered(&family).ends_with("\nit{account=\"a\"} 1\n"));
        family.retain(|labels| *labels[0] != *"a");
        assert_eq!(rendered(&family), "");
        // The old child is gone for good, whoever holds it.
        gauge.set(2);
        assert_eq!(family.with_label_values(&["a"]).get(), 0);
    }

    #[test]
    fn children_that_come_while_a_rendering_pauses_are_in_the_next_one() {
        let family = children::<IntGauge>(&["account"]);
        family.with_label_values(&["b"]);
        let begun = family.list.read().clone();
        family.with_label_values(&["a"]);
        assert_eq!(begun.iter().map(|child| &*child.labels[0]).collect::<Vec<_>>(), ["b"]);
        assert_eq!(family.metrics().count(), 2);
        assert!(rendered(&family).ends_with("it{account=\"a\"} 0\nit{account=\"b\"} 0\n"));
    }
}
