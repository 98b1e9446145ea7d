//! Prices as a function of seed, symbol and time, so that any stretch of
//! history can be asked for without storing one.
//!
//! A day's bar follows from the day alone. It is split into 24 hours, an hour
//! into 60 minutes, a minute into ticks; each split keeps open, high, low, close
//! and tick volume of what it splits. So a bar of any timeframe is the aggregate
//! of the minutes inside it, and never costs more than its few largest pieces.
//! All arithmetic on prices is in whole points.

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
const MINUTE: i64 = 60;

/// The least number of ticks a minute has.
const MINUTE_TICKS: u64 = 8;

/// Octaves of the daily price: the slowest swing takes 2⁹ days.
const OCTAVES: u32 = 10;

/// Open, high, low and close in points, and the number of ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub open: i64,
    pub high: i64,
    pub low: i64,
    pub close: i64,
    pub ticks: u64,
}

impl Span {
    fn then(self, next: Span) -> Span {
        Span {
            open: self.open,
            high: self.high.max(next.high),
            low: self.low.min(next.low),
            close: next.close,
            ticks: self.ticks + next.ticks,
        }
    }
}

/// The generator of one symbol.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    seed: u64,
    /// The price around which everything swings, in points.
    base: f64,
    /// A typical day's move, as a ratio of the price.
    volatility: f64,
}

impl Prices {
    /// Prices around `base` points that move by about `volatility` a day.
    pub fn new(seed: u64, symbol: &str, base: i64, volatility: f64) -> Prices {
        let seed = symbol.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)));
        Prices { seed, base: base as f64, volatility }
    }

    fn random(&self, stream: Stream, index: i64, item: u64) -> f64 {
        let hash = mix(mix(self.seed ^ stream as u64) ^ index as u64) ^ mix(item);
        (mix(hash) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The price at the start of a day: a sum of swings, each twice as slow and
    /// √2 as wide as the one before.
    fn day_open(&self, day: i64) -> i64 {
        let mut swing = 0.0;
        let mut amplitude = self.volatility / 2.0;
        for octave in 0..OCTAVES {
            let cell = day >> octave;
            let at = (day - (cell << octave)) as f64 / f64::from(1u32 << octave);
            let left = self.random(Stream::Day, cell, octave.into()) * 2.0 - 1.0;
            let right = self.random(Stream::Day, cell + 1, octave.into()) * 2.0 - 1.0;
            swing += amplitude * (left + (right - left) * at);
            amplitude *= std::f64::consts::SQRT_2;
        }
        let factor = if swing >= 0.0 { 1.0 + swing } else { 1.0 / (1.0 - swing) };
        (self.base * factor).round() as i64
    }

    fn day(&self, day: i64) -> Span {
        let (open, close) = (self.day_open(day), self.day_open(day + 1));
        let reach = |item| {
            let part = 0.1 + 0.6 * self.random(Stream::Reach, day, item);
            (open as f64 * self.volatility * part).ceil() as i64
        };
        Span {
            open,
            close,
            high: open.max(close) + reach(0),
            low: (open.min(close) - reach(1)).max(1),
            ticks: (DAY / MINUTE) as u64 * MINUTE_TICKS
                + 20_000
                + (self.random(Stream::Ticks, day, 0) * 40_000.0) as u64,
        }
    }

    /// Splits a span into `parts` that aggregate to it. `index` is unique
    /// within the stream; each part has at least `least` ticks.
    fn split(
        &self,
        whole: Span,
        parts: usize,
        stream: Stream,
        index: i64,
        least: u64,
    ) -> Vec<Span> {
        let range = (whole.high - whole.low) as f64;
        let step = range / (parts as f64).sqrt();
        let item = |kind: u64, part: usize| self.random(stream, index, kind << 32 | part as u64);

        // A random walk from zero, bent so that it ends where the span closes.
        let mut walk = vec![0.0; parts + 1];
        for part in 0..parts {
            walk[part + 1] = walk[part] + (item(0, part) * 2.0 - 1.0) * step;
        }
        let drift = (whole.close - whole.open) as f64 - walk[parts];
        let price = |part: usize| {
            let bent = walk[part] + drift * part as f64 / parts as f64;
            (whole.open + bent.round() as i64).clamp(whole.low, whole.high)
        };

        let mut spans: Vec<Span> = (0..parts)
            .map(|part| {
                let open = if part == 0 { whole.open } else { price(part) };
                let close = if part + 1 == parts { whole.close } else { price(part + 1) };
                let reach = |kind| (item(kind, part) * step * 0.7).round() as i64;
                Span {
                    open,
                    close,
                    high: (open.max(close) + reach(1)).min(whole.high),
                    low: (open.min(close) - reach(2)).max(whole.low),
                    ticks: 0,
                }
            })
            .collect();
        if let Some(highest) = spans.iter_mut().max_by_key(|span| span.high) {
            highest.high = whole.high;
        }
        if let Some(lowest) = spans.iter_mut().min_by_key(|span| span.low) {
            lowest.low = whole.low;
        }

        let spare = whole.ticks.saturating_sub(least * parts as u64) as f64;
        let weights: Vec<f64> = (0..parts).map(|part| 1.0 + 3.0 * item(3, part)).collect();
        let sum: f64 = weights.iter().sum();
        let (mut weight, mut given) = (0.0, 0);
        for (part, span) in spans.iter_mut().enumerate() {
            weight += weights[part];
            let upto = if part + 1 == parts { spare } else { spare * weight / sum } as u64;
            span.ticks = least + upto - given;
            given = upto;
        }
        spans
    }

    /// The ticks of a minute: milliseconds within it, and the bid in points.
    /// The first is at its start and opens it, the last closes it.
    fn minute_ticks(&self, minute: i64, whole: Span) -> Vec<(i64, i64)> {
        let count = whole.ticks as usize;
        let pick =
            |kind: u64, item: usize| self.random(Stream::Tick, minute, kind << 32 | item as u64);
        // Two different places between the first and the last tick.
        let inner = count - 2;
        let high = 1 + (pick(0, 0) * inner as f64) as usize;
        let low = 1 + (high + (pick(0, 1) * (inner - 1) as f64) as usize) % inner;
        let mut anchors =
            [(0, whole.open), (high, whole.high), (low, whole.low), (count - 1, whole.close)];
        anchors.sort_unstable();

        let noise = ((whole.high - whole.low) as f64 / 6.0).max(1.0);
        let slot = 60_000 / count as i64;
        let mut leg = 0;
        (0..count)
            .map(|tick| {
                while tick > anchors[leg + 1].0 {
                    leg += 1;
                }
                let (from, to) = (anchors[leg], anchors[leg + 1]);
                let bid = if tick == from.0 {
                    from.1
                } else if tick == to.0 {
                    to.1
                } else {
                    let at = (tick - from.0) as f64 / (to.0 - from.0) as f64;
                    let line = from.1 as f64 + (to.1 - from.1) as f64 * at;
                    let bent = line + (pick(1, tick) * 2.0 - 1.0) * noise;
                    (bent.round() as i64).clamp(whole.low, whole.high)
                };
                let jitter = if tick == 0 { 0.0 } else { pick(2, tick) };
                (tick as i64 * slot + (jitter * slot as f64) as i64, bid)
            })
            .collect()
    }
}

/// Keeps the random numbers of different purposes apart.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Day = 1,
    Reach,
    Ticks,
    Hour,
    Minute,
    Tick,
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
/// Source: <https://prng.di.unimi.it/splitmix64.c>.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Reads prices, remembering the day, hour, minute and forming bar that it read
/// last: the next question is usually about the same or the following ones.
#[derive(Debug, Clone)]
pub struct Reader {
    prices: Prices,
    hours: (i64, Vec<Span>),
    minutes: (i64, Vec<Span>),
    ticks: (i64, Vec<(i64, i64)>),
    /// The start of a bar, the minute that was forming, and the bar until then. Adding its
    /// pieces up for each question would cost more the longer an hour has lasted.
    begun: ((i64, i64), Option<Span>),
}

impl Reader {
    /// A reader that remembers nothing yet.
    pub fn new(prices: Prices) -> Reader {
        let nothing = i64::MIN;
        Reader {
            prices,
            hours: (nothing, vec![]),
            minutes: (nothing, vec![]),
            ticks: (nothing, vec![]),
            begun: ((nothing, nothing), None),
        }
    }

    fn hour(&mut self, hour: i64) -> Span {
        let day = hour.div_euclid(DAY / HOUR);
        if self.hours.0 != day {
            let least = MINUTE_TICKS * (HOUR / MINUTE) as u64;
            let whole = self.prices.day(day);
            self.hours = (day, self.prices.split(whole, 24, Stream::Hour, day, least));
        }
        self.hours.1[hour.rem_euclid(DAY / HOUR) as usize]
    }

    fn minute(&mut self, minute: i64) -> Span {
        let hour = minute.div_euclid(HOUR / MINUTE);
        if self.minutes.0 != hour {
            let whole = self.hour(hour);
            self.minutes = (hour, self.prices.split(whole, 60, Stream::Minute, hour, MINUTE_TICKS));
        }
        self.minutes.1[minute.rem_euclid(HOUR / MINUTE) as usize]
    }

    /// The ticks of a minute (counted from the epoch): unix milliseconds and bid in points.
    pub fn ticks(&mut self, minute: i64) -> &[(i64, i64)] {
        if self.ticks.0 != minute {
            let whole = self.minute(minute);
            let mut ticks = self.prices.minute_ticks(minute, whole);
            for tick in &mut ticks {
                tick.0 += minute * MINUTE * 1000;
            }
            self.ticks = (minute, ticks);
        }
        &self.ticks.1
    }

    /// The last tick at or before a time in unix milliseconds.
    pub fn last_tick(&mut self, now_msc: i64) -> (i64, i64) {
        let ticks = self.ticks(now_msc.div_euclid(MINUTE * 1000));
        let after = ticks.partition_point(|tick| tick.0 <= now_msc);
        // A minute's first tick is at its start, so one has always passed.
        ticks[after.saturating_sub(1)]
    }

    /// The bar of the whole minutes from `start` to before `end` (unix seconds),
    /// as far as it had come at `now_msc`. `None` if it had not begun.
    pub fn bar(&mut self, start: i64, end: i64, now_msc: i64) -> Option<Span> {
        let forming = now_msc.div_euclid(MINUTE * 1000) * MINUTE;
        if end <= forming {
            return self.whole(start, end);
        }
        if start > forming {
            return None;
        }
        if self.begun.0 != (start, forming) {
            self.begun = ((start, forming), self.whole(start, forming));
        }
        let begun = self.begun.1;
        let last = self.forming(forming / MINUTE, now_msc);
        Some(begun.map_or(last, |bar| bar.then(last)))
    }

    /// The bar of the whole minutes from `start` to before `end`, which have all passed.
    fn whole(&mut self, start: i64, end: i64) -> Option<Span> {
        let mut bar: Option<Span> = None;
        let mut time = start;
        while time < end {
            let fits = |length: i64| time % length == 0 && time + length <= end;
            let (span, length) = if fits(DAY) {
                (self.prices.day(time / DAY), DAY)
            } else if fits(HOUR) {
                (self.hour(time / HOUR), HOUR)
            } else {
                (self.minute(time / MINUTE), MINUTE)
            };
            bar = Some(bar.map_or(span, |bar| bar.then(span)));
            time += length;
        }
        bar
    }

    /// A minute as far as its ticks had come.
    fn forming(&mut self, minute: i64, now_msc: i64) -> Span {
        let ticks = self.ticks(minute);
        let passed = ticks.partition_point(|tick| tick.0 <= now_msc).max(1);
        let single = |bid| Span { open: bid, high: bid, low: bid, close: bid, ticks: 1 };
        ticks[1..passed].iter().fold(single(ticks[0].1), |bar, tick| bar.then(single(tick.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(seed: u64) -> Reader {
        Reader::new(Prices::new(seed, "EURUSD", 110_000, 0.006))
    }

    proptest! {
        #[test]
        fn bars_aggregate_their_minutes_and_hold_their_ticks(seed: u64, hours in 0i64..500_000, length in 1i64..48) {
            let mut reader = reader(seed);
            let (start, end) = (hours * HOUR, (hours + length) * HOUR);
            let bar = reader.bar(start, end, i64::MAX).unwrap();
            let minutes: Vec<Span> = (start / MINUTE..end / MINUTE).map(|minute| reader.minute(minute)).collect();
            let sum = minutes.iter().copied().reduce(Span::then).unwrap();
            prop_assert_eq!(bar, sum);
            let minute = start / MINUTE + hours % 60;
            let span = reader.minute(minute);
            let ticks = reader.ticks(minute).to_vec();
            prop_assert_eq!(ticks.len() as u64, span.ticks);
            prop_assert!(ticks.is_sorted_by(|a, b| a.0 <= b.0));
            prop_assert_eq!(ticks.iter().map(|tick| tick.1).max(), Some(span.high));
            prop_assert_eq!(ticks.iter().map(|tick| tick.1).min(), Some(span.low));
            prop_assert_eq!((ticks[0].1, ticks[ticks.len() - 1].1), (span.open, span.close));
            prop_assert!(ticks[ticks.len() - 1].0 < (minute + 1) * MINUTE * 1000);
            prop_assert!(ticks[0].0 == minute * MINUTE * 1000);
        }

        #[test]
        fn a_forming_bar_ends_with_the_last_tick(seed: u64, now in 1_000_000_000_000i64..2_000_000_000_000) {
            let mut reader = reader(seed);
            let start = now / 1000 / DAY * DAY;
            let bar = reader.bar(start, start + DAY, now).unwrap();
            let (time, bid) = reader.last_tick(now);
            prop_assert!(time <= now && time > now - 60_000);
            prop_assert_eq!(bar.close, bid);
            prop_assert!(bar.low <= bid && bid <= bar.high);
            prop_assert!(reader.bar(start + DAY, start + 2 * DAY, now).is_none());
        }

        #[test]
        fn a_forming_bar_follows_the_clock(seed: u64, from in 1_000_000_000_000i64..2_000_000_000_000, steps in prop::collection::vec(0i64..3_000_000, 1..8)) {
            let mut reader = reader(seed);
            let mut now = from;
            for step in steps {
                now += step;
                for length in [DAY, HOUR] {
                    let start = now / 1000 / length * length;
                    let minutes = start / MINUTE..now / 1000 / MINUTE;
                    let passed: Vec<Span> = minutes.map(|minute| reader.minute(minute)).collect();
                    let forming = reader.forming(now / 1000 / MINUTE, now);
                    let sum = passed.into_iter().chain([forming]).reduce(Span::then);
                    prop_assert_eq!(reader.bar(start, start + length, now), sum);
                }
            }
        }

        #[test]
        fn what_was_read_before_changes_nothing(seed: u64, one in 0i64..30_000_000, other in 0i64..30_000_000) {
            let mut fresh = reader(seed);
            let mut used = reader(seed);
            used.minute(other);
            used.ticks(other);
            prop_assert_eq!(fresh.ticks(one), used.ticks(one));
        }
    }
}
