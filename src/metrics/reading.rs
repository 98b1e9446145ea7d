//! Reading families back: sums over their series, and quantiles of their histograms.

use std::collections::BTreeMap;

use prometheus::proto::Metric;

use super::children::{Children, Instrument};

/// A quantile of cumulative buckets, as PromQL's `histogram_quantile` gives it:
/// linear within a bucket, the last finite bound beyond it.
pub fn quantile(buckets: &[(f64, u64)], quantile: f64) -> Option<f64> {
    let count = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = quantile * count as f64;
    let at = buckets.iter().position(|(_, cumulative)| *cumulative as f64 >= rank)?;
    let (start, below) = if at == 0 { (0.0, 0) } else { buckets[at - 1] };
    let (end, cumulative) = buckets[at];
    if end.is_infinite() {
        return Some(start);
    }
    let inside = (cumulative - below) as f64;
    Some(if inside == 0.0 { end } else { start + (end - start) * (rank - below as f64) / inside })
}

/// The value of a label; empty if the series has no such label.
pub fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let labels = metric.get_label().iter();
    labels.filter(|label| label.name() == name).map(|label| label.value()).next().unwrap_or("")
}

/// A counter's or gauge's value; the other one is 0.
pub fn value(metric: &Metric) -> f64 {
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

/// A sum, unless there is nothing to sum.
pub fn measured(family: &Children<impl Instrument>) -> Option<f64> {
    let mut values = family.metrics().map(|metric| value(&metric)).peekable();
    values.peek().is_some().then(|| values.sum())
}

/// The sum over all series.
pub fn total(family: &Children<impl Instrument>) -> f64 {
    family.metrics().map(|metric| value(&metric)).sum()
}

/// The sums over the series by the value of a label.
pub fn sums(family: &Children<impl Instrument>, by: &str) -> BTreeMap<String, f64> {
    sums_where(family, by, |_| true)
}

/// The same over the series that count.
pub fn sums_where(
    family: &Children<impl Instrument>,
    by: &str,
    counts: impl Fn(&Metric) -> bool,
) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for metric in family.metrics().filter(counts) {
        *sums.entry(label(&metric, by).to_owned()).or_default() += value(&metric);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantile_is_where_prometheus_puts_it() {
        let buckets = [(0.1, 50), (0.5, 90), (1.0, 100), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.1));
        assert_eq!(quantile(&buckets, 0.95), Some(0.75));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 4)], 0.5), Some(0.1));
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn quantiles_ascend_and_stay_within_the_bounds(counts in proptest::collection::vec(0u64..50, 1..8)) {
            let mut cumulative = 0;
            let mut buckets: Vec<(f64, u64)> = counts.iter().enumerate().map(|(index, count)| {
                cumulative += count;
                (index as f64 + 1.0, cumulative)
            }).collect();
            buckets.push((f64::INFINITY, cumulative));
            let [low, middle, high] = [0.5, 0.95, 0.99].map(|at| quantile(&buckets, at));
            prop_assert!(low <= middle && middle <= high);
            prop_assert!(high.is_none_or(|high| high <= counts.len() as f64));
            prop_assert_eq!(low.is_none(), cumulative == 0);
        }
    }
}
