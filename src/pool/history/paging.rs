//! Which pages of a history are asked for, and when a search for rows is over. Pure.

use std::ops::Add;

use crate::mt5::UtcTime;

/// Bars that one page asks for at most, below what terminals usually allow.
pub const PAGE: i64 = 50_000;

/// What a range is padded with: a weekend and a holiday.
const PAUSE: i64 = 4 * 86_400;

/// How far back ticks are looked for, milliseconds: a year.
const TICKS_REACH: i64 = 366 * 86_400_000;

/// What of a range is still to be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Pages<T> {
    pub next: T,
    /// Included.
    pub last: T,
}

impl<T: Copy + Ord + Add<i64, Output = T>> Pages<T> {
    /// The first and the last moment of the next page, which is `span` long (at least 1), or what is
    /// left. `None` after the last.
    pub fn next(&mut self, span: i64) -> Option<(T, T)> {
        if self.is_done() {
            return None;
        }
        let page = (self.next, self.last.min(self.next + (span - 1)));
        self.next = page.1 + 1;
        Some(page)
    }

    pub fn is_done(&self) -> bool {
        self.next > self.last
    }
}

/// A search for bars from a moment on.
#[derive(Debug)]
pub struct ForwardSearch {
    /// The first opening time that was not asked for.
    pub next: UtcTime,
    /// Where no bar can be any more.
    pub end: UtcTime,
    /// Seconds between two bars.
    pub period: i64,
    /// Bars that are still wanted.
    pub missing: usize,
    /// Pages in a row without a bar, as before the symbol was first traded.
    pub empty_pages: u32,
    /// Whether the terminal was asked. It is at least once, because only it knows whether the symbol
    /// exists.
    pub has_asked: bool,
}

impl ForwardSearch {
    /// The range to ask for next, both ends included; `None`: the search is over.
    pub fn range(&self) -> Option<(UtcTime, UtcTime)> {
        if self.missing == 0 || (self.has_asked && self.next > self.end) {
            return None;
        }
        // Five trading days a week.
        let padded = (self.missing as i64 * self.period * 7 / 5).saturating_add(PAUSE);
        let patience = 1i64.checked_shl(self.empty_pages).filter(|patience| *patience > 0);
        let span = padded.saturating_mul(patience.unwrap_or(i64::MAX));
        let span = span.clamp(self.period, PAGE * self.period);
        Some((self.next, self.next + (span - 1)))
    }

    /// Notes how many bars a range up to `last` had.
    pub fn found(&mut self, bars: usize, last: UtcTime) {
        self.empty_pages = if bars == 0 { self.empty_pages.saturating_add(1) } else { 0 };
        self.missing = self.missing.saturating_sub(bars);
        self.next = last + 1;
        self.has_asked = true;
    }
}

/// A search for ticks from a moment back. Times are unix milliseconds.
#[derive(Debug)]
pub struct BackwardSearch {
    last: i64,
    /// The last millisecond that was not asked for.
    next: i64,
    /// Whole seconds that the next range has.
    span: i64,
    /// Ticks that are still wanted.
    pub missing: usize,
}

impl BackwardSearch {
    pub fn new(last: i64, count: usize) -> BackwardSearch {
        BackwardSearch { last, next: last, span: 60i64.max(count as i64), missing: count }
    }

    /// The range to ask for next, both ends included; `None`: the search is over.
    pub fn range(&self) -> Option<(i64, i64)> {
        if self.missing == 0 || self.next < 0 || self.last - self.next >= TICKS_REACH {
            return None;
        }
        let first = ((self.next + 1) / 1000).saturating_sub(self.span).max(0) * 1000;
        Some((first, self.next))
    }

    /// Notes how many ticks a range from `first` on had.
    pub fn found(&mut self, ticks: usize, first: i64) {
        self.missing = self.missing.saturating_sub(ticks);
        self.next = first - 1;
        self.span = self.span.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Bars at these opening times, and a search that is given what each of its ranges has.
        #[test]
        fn a_forward_search_finds_the_first_bars(
            mut opens in proptest::collection::vec(0i64..2_000_000, 0..300),
            from in 0i64..2_000_000,
            wanted in 1usize..400,
        ) {
            opens.sort_unstable();
            opens.dedup();
            let expected: Vec<i64> =
                opens.iter().copied().filter(|open| *open >= from).take(wanted).collect();
            let at = UtcTime::from_seconds;
            let (next, end) = (at(from), at(2_000_000));
            let mut search = forward(next, end, wanted);
            let mut found = Vec::new();
            while let Some((first, last)) = search.range() {
                let inside = opens.iter().filter(|open| (first..=last).contains(&at(**open)));
                let page: Vec<i64> = inside.copied().take(search.missing).collect();
                search.found(page.len(), last);
                found.extend(page);
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_backward_search_finds_the_last_ticks(
            mut times in proptest::collection::vec(0i64..10_000_000, 0..300),
            to in 0i64..10_000_000,
            wanted in 1usize..400,
        ) {
            times.sort_unstable();
            let before: Vec<i64> = times.iter().copied().filter(|time| *time <= to).collect();
            let expected = &before[before.len().saturating_sub(wanted)..];
            let (mut search, mut found) = (BackwardSearch::new(to, wanted), Vec::new());
            while let Some((first, last)) = search.range() {
                let inside = times.iter().filter(|time| (first..=last).contains(time));
                let page: Vec<i64> = inside.copied().collect();
                search.found(page.len(), first);
                found.splice(0..0, page);
            }
            prop_assert_eq!(&found[found.len().saturating_sub(wanted)..], expected);
        }
    }

    #[test]
    fn a_search_without_anything_to_find_doubles_its_ranges_and_ends() {
        let at = UtcTime::from_seconds;
        let (next, end) = (at(0), at(40 * 365 * 86_400));
        let mut search = forward(next, end, 1);
        let mut lengths = Vec::new();
        while let Some((first, last)) = search.range() {
            lengths.push(last - first + 1);
            search.found(0, last);
        }
        assert_eq!(lengths[1], 2 * lengths[0]);
        assert_eq!(lengths.iter().max(), Some(&(PAGE * 60)));
        assert!(search.next > end);
    }

    #[test]
    fn a_search_from_the_future_asks_once() {
        let at = UtcTime::from_seconds;
        let mut search = forward(at(100), at(7), 1);
        let (_, last) = search.range().unwrap();
        search.found(0, last);
        assert_eq!(search.range(), None);
    }

    /// A search for bars of a minute.
    fn forward(next: UtcTime, end: UtcTime, missing: usize) -> ForwardSearch {
        ForwardSearch { next, end, period: 60, missing, empty_pages: 0, has_asked: false }
    }
}
