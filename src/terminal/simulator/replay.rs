//! A symbol whose history is a real MT5 bar export.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::bar_file;
use crate::files::open_regular;
use crate::mt5::{Rate, Timeframe};

/// The bars of a file, and of the timeframes above the file's own.
#[derive(Debug)]
pub struct Replay {
    bars: Arc<Vec<Rate>>,
    /// The file's own timeframe.
    timeframe: Timeframe,
    higher: Mutex<BTreeMap<i64, Arc<Vec<Rate>>>>,
}

impl Replay {
    /// Reads a file of bars that MT5 exported, of any timeframe.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn load(path: &Path) -> Result<Replay, String> {
        let mut file = vec![];
        open_regular(path)
            .and_then(|mut opened| opened.read_to_end(&mut file))
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(file).map_err(|fault| format!("{} {fault}", path.display()))
    }

    fn parse(file: impl AsRef<[u8]>) -> Result<Replay, String> {
        let bars = bar_file::read(file.as_ref())?;
        if bars.len() < 2 {
            return Err(format!(
                "has too few bars: expected at least two bars, which tell the timeframe, got {}; \
                 export a longer time",
                bars.len()
            ));
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
        // The reader has seen to whole minutes.
        .unwrap_or(Timeframe::M1)
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
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::Replay;
    use crate::mt5::{Rate, Timeframe};

    const HEADER: &str =
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>";
    const DAYS: &str = "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>";

    /// How an export writes its bars.
    #[derive(Debug, Clone, Copy)]
    struct Format {
        header: Option<&'static str>,
        separator: &'static str,
        moment: &'static str,
        /// Up to the spread, the ninth.
        fields: usize,
        end: &'static str,
    }

    const WINDOW: Format = Format {
        header: Some(HEADER),
        separator: "\t",
        moment: "%Y.%m.%d\t%H:%M:%S",
        fields: 9,
        end: "\r\n",
    };
    const CHART: Format =
        Format { header: None, separator: ",", moment: "%Y.%m.%d,%H:%M", fields: 9, end: "\r\n" };

    /// Of every timeframe.
    const FORMATS: &[Format] = &[
        WINDOW,
        Format { end: "\n", ..WINDOW },
        Format { moment: "%Y.%m.%d\t%H:%M", ..WINDOW },
        CHART,
        Format { end: "\n", ..CHART },
        Format { fields: 8, ..CHART },
        Format { fields: 7, ..CHART },
        Format { separator: "\t", moment: "%Y.%m.%d\t%H:%M", ..CHART },
        Format { separator: ";", moment: "%Y.%m.%d;%H:%M:%S", fields: 7, ..CHART },
    ];

    /// Of days and longer.
    const DATED: &[Format] = &[
        Format { header: Some(DAYS), moment: "%Y.%m.%d", ..WINDOW },
        Format { moment: "%Y.%m.%d", ..CHART },
        Format { moment: "%Y.%m.%d", fields: 7, ..CHART },
        Format { separator: ";", moment: "%Y.%m.%d", fields: 8, ..CHART },
    ];

    impl Format {
        fn write(self, bars: &[Rate]) -> String {
            let header = self.header.map(|header| format!("{header}{}", self.end));
            let lines = bars.iter().map(|bar| self.line(bar) + self.end);
            header.into_iter().chain(lines).collect()
        }

        fn line(self, bar: &Rate) -> String {
            let moment = jiff::Timestamp::from_second(bar.time).unwrap().strftime(self.moment);
            let mut line = moment.to_string();
            let prices =
                [bar.open, bar.high, bar.low, bar.close].map(|price| format!("{price:.5}"));
            let counts = [bar.tick_volume.to_string(), bar.real_volume.to_string()];
            let rest = prices.into_iter().chain(counts).chain([bar.spread.to_string()]);
            for field in rest.take(self.fields - 2) {
                line += self.separator;
                line += &field;
            }
            line
        }

        /// What can be known of a bar that was written so.
        fn kept(self, bar: &Rate) -> Rate {
            Rate {
                real_volume: if self.fields > 7 { bar.real_volume } else { 0 },
                spread: if self.fields > 8 { bar.spread } else { 0 },
                ..*bar
            }
        }
    }

    /// 20 bars with gaps, from a Sunday that begins a month: 2017-01-01.
    fn bars(timeframe: Timeframe) -> Vec<Rate> {
        let opens =
            std::iter::successors(Some(1_483_228_800), |open| Some(timeframe.next_open(*open)));
        let price = |points: i32| f64::from(points) / 100_000.0;
        let bar = |(time, index): (i64, i32)| Rate {
            time,
            open: price(107_160 + index),
            high: price(107_220 + index),
            low: price(107_083 - index),
            close: price(107_219 - index),
            tick_volume: 1_413 + u64::from(index.unsigned_abs()),
            real_volume: 7,
            spread: index % 12,
        };
        opens.zip(0..25i32).filter(|(_, index)| index % 5 != 3).map(bar).collect()
    }

    fn encodings(text: &str) -> [(&'static str, Vec<u8>); 4] {
        let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            std::iter::once(0xfeff_u16).chain(text.encode_utf16()).flat_map(order).collect()
        };
        [
            ("UTF-8 or ANSI", text.as_bytes().to_vec()),
            ("UTF-8 with its mark", format!("\u{feff}{text}").into_bytes()),
            ("UTF-16LE", wide(u16::to_le_bytes)),
            ("UTF-16BE", wide(u16::to_be_bytes)),
        ]
    }

    #[test]
    fn what_mt5_exports_is_read_in_every_timeframe_and_encoding() {
        for timeframe in Timeframe::ALL.iter().copied() {
            let longer = timeframe.seconds() >= Timeframe::D1.seconds();
            let dated: &[Format] = if longer { DATED } else { &[] };
            let bars = bars(timeframe);
            for format in FORMATS.iter().chain(dated) {
                let kept: Vec<Rate> = bars.iter().map(|bar| format.kept(bar)).collect();
                for (encoding, file) in encodings(&format.write(&bars)) {
                    let case = format!("{} as {format:?} in {encoding}", timeframe.name());
                    let replay =
                        Replay::parse(file).unwrap_or_else(|fault| panic!("{case}: {fault}"));
                    assert_eq!(replay.timeframe, timeframe, "{case}");
                    assert_eq!(*replay.bars, kept, "{case}");
                }
            }
        }
    }

    #[test]
    fn gaps_do_not_hide_a_timeframe() {
        let cases = [
            (&["2017.04.20,00:00", "2017.04.21,00:00", "2017.04.24,00:00"], Timeframe::D1),
            (&["2017.04.19,09:00", "2017.04.19,12:00", "2017.04.19,13:00"], Timeframe::H1),
            (&["2017.04.19,00:00", "2017.04.19,00:12", "2017.04.19,01:00"], Timeframe::M12),
            (&["2017.04.16,00:00", "2017.04.23,00:00", "2017.05.14,00:00"], Timeframe::W1),
            (&["2017.02.01,00:00", "2017.03.01,00:00", "2017.12.01,00:00"], Timeframe::MN1),
        ];
        for (moments, timeframe) in cases {
            let line = |moment: &&str| format!("{moment},1.0,1.2,0.9,1.1,10\n");
            let text: String = moments.iter().map(line).collect();
            assert_eq!(Replay::parse(text).unwrap().timeframe, timeframe, "{moments:?}");
        }
    }

    #[test]
    fn faults_name_their_line() {
        let good = "2017.04.19\t09:00:00\t1.0\t1.2\t0.9\t1.1\t10\t0\t10";
        let chart = "2017.04.19,09:00,1.0,1.2,0.9,1.1,10";
        let cases = [
            ("nonsense".to_owned(), "line 1"),
            (format!("{HEADER}\r\n{good}\r\nrubbish\r\n"), "line 3"),
            (format!("{HEADER}\r\n{good}\r\n{good}\r\n"), "line 3: its time"),
            (format!("{HEADER}\r\n{good}\r\n"), "at least two bars"),
            (format!("{HEADER}\r\n{good}\textra\r\n"), "line 2"),
            (HEADER.to_owned(), "at least two bars"),
            (format!("{DAYS}\n{good}\n"), "line 2: expected 8 fields as in the first line, got 9"),
            (format!("{chart}\n{chart},0\n"), "line 2: expected 7 fields"),
            (format!("{chart}\n2017.02.30{}\n", &chart[10..]), "got \"2017.02.30\""),
            (format!("{chart}\n1969.12.31{}\n", &chart[10..]), "from 1970.01.01 to 3000.12.31"),
            (chart.replace("09:00", "09:00:30"), "line 1: expected a first line of \"<DATE>"),
            (format!("{chart}\n{}", chart.replace("09:00", "24:00")), "line 2: expected a whole"),
            (chart.replace("1.2", "inf"), "line 1: expected a price such as 1.07160, got \"inf\""),
            (chart.replace("1.2", "1e12"), "line 1: expected a price"),
            (chart.replace(",10", ",-1"), "line 1: expected a number of ticks, got \"-1\""),
        ];
        for (text, expected) in cases {
            let fault = Replay::parse(&text).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_a_fault_of_its_line() {
        let cases: &[(&[u8], &str)] = &[
            (b"2017.04.19,09:00,1,1,1,1,1\n2017.04.19,09:01,1,1,1,1,1\xe9", "got \"1\u{e9}\""),
            (b"\xff\xfe1\0,\x00\x00\xd8\n\0", "line 1: expected a first line"),
            (b"\xfe\xff\x001\0\n\0", "line 1: expected a first line"),
        ];
        for (file, expected) in cases {
            let fault = Replay::parse(file).unwrap_err();
            assert!(fault.contains(*expected), "{fault}");
        }
    }

    #[test]
    fn what_is_no_export_of_bars_is_refused_as_what_it_is() {
        let ticks = "is an export of ticks; export bars instead (Symbols > Bars > Export Bars)";
        let cases: &[(&[u8], &str)] = &[
            (b"<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n", ticks),
            (b"<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\n", ticks),
            (b"2017.04.19,09:00:00.123,1.07160,1.07170,0,0,6\n", ticks),
            (b"2017.04.19 09:00:00.123;1.07160;1.07170;;\n", ticks),
            (b"PK\x03\x04\x14\x00\x06\x00\n", "is a zip archive or a workbook: expected a first"),
            (b"SQLite format 3\x00\x10\x00", "is an SQLite database: expected a first line"),
            (b"\n <!doctype HTML>\n<html>", "is an HTML page: expected a first line of"),
            (b"\xf5\x01\x00\x00C\x00", "got \"\u{f5}\\u{1}\\0\\0C\\0\"; export bars (Symbols >"),
            (b"\r\n", "is empty: expected a first line of"),
        ];
        for (file, expected) in cases {
            let fault = Replay::parse(file).unwrap_err();
            assert!(fault.contains(*expected), "{fault}");
        }
    }

    #[test]
    fn a_fault_begins_with_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "2017.04.19,09:00:00.123,1.07160,1.07170\n").unwrap();
        let expected = format!("{} is an export of ticks", file.path().display());
        assert!(Replay::load(file.path()).unwrap_err().starts_with(&expected));
    }

    const PIECES: &[&str] = &[
        HEADER,
        DAYS,
        "2017.04.19",
        "3000.12.31",
        "1970.01.01",
        "09:00",
        "10:00:00",
        "1.07160",
        "-1",
        "18446744073709551615",
        "\t",
        ",",
        ";",
        "\n",
        "\r\n",
        "é",
    ];

    fn file_of_pieces() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..8);
        let piece = prop_oneof![
            9 => select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => bytes,
        ];
        proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
    }

    /// An export with a byte changed and its end cut off.
    fn damaged_file() -> impl Strategy<Value = Vec<u8>> {
        let export = (select(Timeframe::ALL), select(FORMATS), 0..4usize);
        (export, any::<Index>(), any::<u8>(), any::<Index>()).prop_map(
            |((timeframe, format, encoding), at, byte, end)| {
                let mut bars = bars(timeframe);
                bars[1].tick_volume = u64::MAX;
                let (_, mut file) = encodings(&format.write(&bars))[encoding].clone();
                let at = at.index(file.len());
                file[at] = byte;
                file.truncate(end.index(file.len()) + 1);
                file
            },
        )
    }

    proptest! {
        #[test]
        fn no_file_breaks_it(
            file in prop_oneof![any::<Vec<u8>>(), file_of_pieces(), damaged_file()],
        ) {
            if let Ok(replay) = Replay::parse(&file) {
                prop_assert!(replay.bars.is_sorted_by(|one, next| one.time < next.time));
                prop_assert!(replay.last().1 > replay.last().0.time);
                for timeframe in Timeframe::ALL {
                    let bars = replay.bars(*timeframe);
                    prop_assert!(bars.is_none_or(|bars| !bars.is_empty()));
                }
            }
        }
    }
}
