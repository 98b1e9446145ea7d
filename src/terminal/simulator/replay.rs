//! A symbol whose history is a real MT5 bar export.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::mt5::{Rate, Timeframe};

const HEADER: &str = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>";

/// The bars of a file, and of the timeframes above the file's own.
#[derive(Debug)]
pub struct Replay {
    bars: Arc<Vec<Rate>>,
    /// The file's own timeframe.
    timeframe: Timeframe,
    higher: Mutex<BTreeMap<i64, Arc<Vec<Rate>>>>,
}

impl Replay {
    /// Reads a file as MT5's *Symbols → Bars → Export Bars* writes it.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn load(path: &Path) -> Result<Replay, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|fault| format!("{}: {fault}", path.display()))
    }

    fn parse(text: &str) -> Result<Replay, String> {
        let mut lines = text.lines();
        if lines.next().map(|line| line.trim_start_matches('\u{feff}').trim_end()) != Some(HEADER) {
            return Err(format!("line 1: expected the header {HEADER:?} with tabs between"));
        }
        let mut bars: Vec<Rate> = Vec::new();
        for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fault = |what: &str| format!("line {}: {what}", index + 2);
            let bar = parse_bar(line).ok_or_else(|| {
                fault("expected date, time, open, high, low, close, tick volume, volume, spread")
            })?;
            if bars.last().is_some_and(|last| last.time >= bar.time) {
                return Err(fault("its time is not after the line before"));
            }
            bars.push(bar);
        }
        if bars.len() < 2 {
            return Err("it needs at least two bars, which tell the timeframe".to_owned());
        }
        let timeframe = timeframe_of(&bars);
        Ok(Replay { bars: Arc::new(bars), timeframe, higher: Mutex::default() })
    }

    /// The bars of a timeframe, oldest first. `None` below the file's own.
    pub fn bars(&self, timeframe: Timeframe) -> Option<Arc<Vec<Rate>>> {
        if timeframe == self.timeframe {
            return Some(self.bars.clone());
        }
        if timeframe.seconds() < self.timeframe.seconds() {
            return None;
        }
        let mut higher = self.higher.lock().expect("no panic under this lock");
        let bars = higher
            .entry(timeframe.value())
            .or_insert_with(|| Arc::new(aggregate(&self.bars, timeframe)));
        Some(bars.clone())
    }

    /// The last bar of the file, and the second in which it closes.
    pub fn last(&self) -> (Rate, i64) {
        let last = self.bars[self.bars.len() - 1];
        (last, self.timeframe.next_open(last.time) - 1)
    }
}

/// The largest timeframe of which every opening is one.
fn timeframe_of(bars: &[Rate]) -> Timeframe {
    Timeframe::ALL
        .iter()
        .rev()
        .copied()
        .find(|timeframe| bars.iter().all(|bar| timeframe.open_of(bar.time) == bar.time))
        .unwrap_or(Timeframe::M1)
}

fn parse_bar(line: &str) -> Option<Rate> {
    let mut fields = line.trim_end().split('\t');
    let moment = format!("{} {}", fields.next()?, fields.next()?);
    let time = jiff::civil::DateTime::strptime("%Y.%m.%d %H:%M:%S", moment).ok()?;
    let mut price = || fields.next()?.parse::<f64>().ok().filter(|price| price.is_finite());
    let (open, high, low, close) = (price()?, price()?, price()?, price()?);
    let bar = Rate {
        time: jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second(),
        open,
        high,
        low,
        close,
        tick_volume: fields.next()?.parse().ok()?,
        real_volume: fields.next()?.parse().ok()?,
        spread: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(bar)
}

/// First open, highest high, lowest low, last close, summed volumes, least spread.
fn aggregate(bars: &[Rate], timeframe: Timeframe) -> Vec<Rate> {
    bars.chunk_by(|a, b| timeframe.open_of(a.time) == timeframe.open_of(b.time))
        .map(|inside| {
            inside[1..].iter().fold(
                Rate { time: timeframe.open_of(inside[0].time), ..inside[0] },
                |bar, next| Rate {
                    high: bar.high.max(next.high),
                    low: bar.low.min(next.low),
                    close: next.close,
                    tick_volume: bar.tick_volume.saturating_add(next.tick_volume),
                    real_volume: bar.real_volume.saturating_add(next.real_volume),
                    spread: bar.spread.min(next.spread),
                    ..bar
                },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Replay};

    #[test]
    fn faults_name_their_line() {
        let good = "2017.04.19\t09:00:00\t1.0\t1.2\t0.9\t1.1\t10\t0\t10";
        let cases = [
            ("nonsense".to_owned(), "line 1"),
            (format!("{HEADER}\r\n{good}\r\nrubbish\r\n"), "line 3"),
            (format!("{HEADER}\r\n{good}\r\n{good}\r\n"), "line 3: its time"),
            (format!("{HEADER}\r\n{good}\r\n"), "at least two bars"),
            (format!("{HEADER}\r\n{good}\textra\r\n"), "line 2"),
        ];
        for (text, expected) in cases {
            let fault = Replay::parse(&text).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
