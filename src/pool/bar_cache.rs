//! Bars of a past that does not change any more, kept within a memory bound.
//!
//! A terminal that is still downloading a history gives what it has, and gives the same a moment
//! later. So an answer is served from here only once it is known to be complete:
//!
//! - the range's last bar has closed, which the caller makes sure of;
//! - two reads at least [`APART`] apart gave the same rows, and these are not empty;
//! - some read of the same series gave a later bar than the last one of these rows.
//!
//! It is served for [`LONGEST`] at most, because brokers correct their history now and then.
//! Trading never looks here.

use std::time::Duration;

use tokio::time::Instant;

use super::history::HistoryPage;
use crate::metrics::AccountId;
use crate::mt5::{Rate, Rows, SymbolName, Timeframe, UtcTime};

/// How long ago the terminal may have given what is served.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// How much time has to pass between two equal answers for them to prove something.
const APART: Duration = Duration::from_secs(30);

/// What an entry takes beside its rows, roughly: its key and the cache's own.
const OVERHEAD: usize = 256;

/// Series whose newest bar is remembered. One that is forgotten costs a read.
const MOST_SERIES: u64 = 100_000;

/// The bars of one symbol and timeframe, as one account sees them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Series {
    pub account: AccountId,
    pub symbol: SymbolName,
    pub timeframe: Timeframe,
}

/// A range of bars: those that open from one moment to another, both included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub series: Series,
    pub from: UtcTime,
    pub to: UtcTime,
}

/// A range's rows, which every read gave since some moment.
#[derive(Debug, Clone)]
struct CachedRange {
    rows: Rows<Rate>,
    /// When the first of these reads was answered.
    first_answered: Instant,
    /// When the last of them was asked.
    last_asked: Instant,
}

/// The bars that are kept. Cheap to clone.
#[derive(Clone)]
pub struct BarCache {
    ranges: moka::sync::Cache<Key, CachedRange>,
    /// The opening time of the newest bar that any read of a series gave.
    newest: moka::sync::Cache<Series, UtcTime>,
}

impl BarCache {
    /// One whose bars take so many bytes at most.
    pub fn new(bytes: u64) -> BarCache {
        let weigh = |key: &Key, kept: &CachedRange| {
            let size = kept.rows.as_bytes().len() + key.series.symbol.len() + OVERHEAD;
            u32::try_from(size).unwrap_or(u32::MAX)
        };
        BarCache {
            ranges: moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            newest: moka::sync::Cache::new(MOST_SERIES),
        }
    }

    /// Notes that a read gave a bar that opened at this moment.
    pub fn see(&self, series: Series, opened: UtcTime) {
        if self.newest.get(&series).is_none_or(|newest| newest < opened) {
            self.newest.entry(series).and_upsert_with(|newest| {
                newest.map_or(opened, |known| known.into_value().max(opened))
            });
        }
    }

    /// The rows of a range, if they are known to be complete and are not too old.
    pub fn get(&self, key: &Key, now: Instant) -> Option<HistoryPage<Rows<Rate>>> {
        let kept = self.ranges.get(key)?;
        let age = now.saturating_duration_since(kept.last_asked);
        let is_served = age < LONGEST && kept.is_confirmed(self.newest.get(&key.series));
        is_served.then_some(HistoryPage { rows: kept.rows, age: Some(age) })
    }

    /// Takes note of a read of a range: when it was asked, and when it was answered.
    pub fn keep(&self, key: Key, rows: &Rows<Rate>, asked: Instant, answered: Instant) {
        match reread(self.ranges.get(&key), rows, asked, answered) {
            Some(kept) => self.ranges.insert(key, kept),
            None => self.ranges.invalidate(&key),
        }
    }
}

/// What is kept of a range after another read of it; `None`: nothing, as the answer was empty.
fn reread(
    earlier: Option<CachedRange>,
    rows: &Rows<Rate>,
    asked: Instant,
    answered: Instant,
) -> Option<CachedRange> {
    if rows.is_empty() {
        return None;
    }
    match earlier.filter(|earlier| earlier.rows.as_bytes() == rows.as_bytes()) {
        Some(earlier) => {
            let last_asked = earlier.last_asked.max(asked);
            Some(CachedRange { last_asked, ..earlier })
        }
        // A row's buffer may be part of a larger one.
        None => {
            Some(CachedRange { rows: rows.detached(), first_answered: answered, last_asked: asked })
        }
    }
}

impl CachedRange {
    /// Whether the rows are known to be complete. `newest`: the opening time of the newest bar
    /// of the series, unix seconds.
    fn is_confirmed(&self, newest: Option<UtcTime>) -> bool {
        let last = self.rows.iter().next_back().map(|bar| UtcTime::from_seconds(bar.time));
        let apart = self.last_asked.saturating_duration_since(self.first_answered);
        // `None` is less than any time.
        apart >= APART && last.is_some() && last < newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: AccountId = AccountId(0);

    fn series(symbol: &str) -> Series {
        Series {
            account: ACCOUNT,
            symbol: SymbolName::from_trusted(symbol),
            timeframe: Timeframe::H1,
        }
    }

    fn key() -> Key {
        Key { series: series("EURUSD"), from: at(0), to: at(10_000) }
    }

    fn at(seconds: i64) -> UtcTime {
        UtcTime::from_seconds(seconds)
    }

    /// Bars that open at these times, with this price.
    fn bars(times: &[i64], price: f64) -> Rows<Rate> {
        Rows::pack(times.iter().map(|time| Rate {
            time: *time,
            open: price,
            high: price,
            low: price,
            close: price,
            tick_volume: 1,
            spread: 0,
            real_volume: 0,
        }))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Makes reads of a range, each at some seconds after the first and answered at once.
    /// Gives whether a read a second after the last is served.
    fn is_served(newest: Option<i64>, reads: &[(u64, Rows<Rate>)]) -> bool {
        let (cache, start) = (BarCache::new(1 << 20), Instant::now());
        if let Some(newest) = newest {
            cache.see(series("EURUSD"), at(newest));
        }
        let mut now = start;
        for (at, rows) in reads {
            now = start + seconds(*at);
            cache.keep(key(), rows, now, now);
        }
        cache.get(&key(), now + seconds(1)).is_some()
    }

    #[test]
    fn rows_are_served_once_they_are_known_to_be_complete() {
        let some = || bars(&[0, 3_600, 7_200], 1.0);
        let fewer = || bars(&[0, 3_600], 1.0);
        let corrected = || bars(&[0, 3_600, 7_200], 2.0);
        let none = || bars(&[], 1.0);
        let later = Some(10_800);
        let cases = [
            ("read once", later, vec![(0, some())], false),
            ("twice alike at once", later, vec![(0, some()), (0, some())], false),
            ("twice alike too soon", later, vec![(0, some()), (29, some())], false),
            ("twice alike", later, vec![(0, some()), (30, some())], true),
            ("often alike", later, vec![(0, some()), (20, some()), (40, some())], true),
            ("still downloading", later, vec![(0, fewer()), (60, some())], false),
            (
                "downloaded",
                later,
                vec![(0, fewer()), (60, some()), (80, some()), (90, some())],
                true,
            ),
            ("corrected", later, vec![(0, some()), (60, some()), (90, corrected())], false),
            ("empty", later, vec![(0, none()), (60, none())], false),
            ("no later bar", Some(7_200), vec![(0, some()), (60, some())], false),
            ("no other read", None, vec![(0, some()), (60, some())], false),
        ];
        for (name, newest, reads, expected) in cases {
            assert_eq!(is_served(newest, &reads), expected, "{name}");
        }
        // An empty answer in between proves the earlier ones wrong.
        let reads = [(0, some()), (60, none()), (61, some())];
        assert!(!is_served(later, &reads));
    }

    #[test]
    fn a_later_bar_may_come_after_the_reads_and_counts_for_its_series_alone() {
        let (cache, start) = (BarCache::new(1 << 20), Instant::now());
        let rows = bars(&[0, 3_600], 1.0);
        cache.keep(key(), &rows, start, start);
        let now = start + seconds(60);
        cache.keep(key(), &rows, now, now);
        cache.see(series("GBPUSD"), at(7_200));
        cache.see(Series { timeframe: Timeframe::M1, ..series("EURUSD") }, at(7_200));
        cache.see(Series { account: AccountId(1), ..series("EURUSD") }, at(7_200));
        assert!(cache.get(&key(), now).is_none());
        cache.see(series("EURUSD"), at(7_200));
        // An older bar takes nothing back.
        cache.see(series("EURUSD"), at(3_600));
        let kept = cache.get(&key(), now + seconds(7)).unwrap();
        assert_eq!((kept.rows.as_bytes(), kept.age), (rows.as_bytes(), Some(seconds(7))));
    }

    #[test]
    fn the_time_between_two_reads_begins_when_the_first_is_answered() {
        let (cache, start) = (BarCache::new(1 << 20), Instant::now());
        let rows = bars(&[0], 1.0);
        cache.see(series("EURUSD"), at(3_600));
        cache.keep(key(), &rows, start, start + seconds(20));
        cache.keep(key(), &rows, start + seconds(40), start + seconds(60));
        assert!(cache.get(&key(), start + seconds(60)).is_none());
        cache.keep(key(), &rows, start + seconds(50), start + seconds(60));
        assert!(cache.get(&key(), start + seconds(60)).is_some());
    }

    #[test]
    fn rows_grow_too_old_and_one_more_read_renews_them() {
        let (cache, start) = (BarCache::new(1 << 20), Instant::now());
        let rows = bars(&[0], 1.0);
        cache.see(series("EURUSD"), at(3_600));
        cache.keep(key(), &rows, start, start);
        cache.keep(key(), &rows, start + APART, start + APART);
        let end = start + APART + LONGEST;
        assert!(cache.get(&key(), end - seconds(1)).is_some());
        assert!(cache.get(&key(), end).is_none());
        cache.keep(key(), &rows, end, end);
        assert!(cache.get(&key(), end + seconds(1)).is_some());
    }
}
