//! Files of bars, as MT5 exports them from its symbols window and its charts.

use std::borrow::Cow;
use std::str::FromStr;

use crate::mt5::Rate;

/// The symbols window's header; from D1 up it has no `<TIME>`. Charts write none.
const HEADER: &str = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>";
const BAR: &str = "2017.04.19,09:00,1.07160,1.07220,1.07083,1.07219,1413";
const DIALOG: &str = "Symbols > Bars > Export Bars";

/// A line is split at the first of these that the file's first line holds.
const SEPARATORS: [char; 3] = ['\t', ';', ','];

/// Reads the bars of a file, oldest first.
///
/// # Errors
/// What is wrong with it, in words that may follow the file's name.
pub fn read(bytes: &[u8]) -> Result<Vec<Rate>, String> {
    let text = decode(bytes);
    let mut lines = (1usize..)
        .zip(text.lines().map(str::trim_end))
        .filter(|(_, line)| !line.is_empty())
        .peekable();
    let &(number, first) = lines.peek().ok_or_else(empty)?;
    let layout = Layout::of(first).ok_or_else(|| refusal(number, first))?;
    if layout.headed {
        lines.next();
    }
    let mut bars: Vec<Rate> = Vec::new();
    for (number, line) in lines {
        let fault =
            |what: String| format!("line {number}: {what}; correct it or export the file again");
        let bar = layout.bar(line).map_err(fault)?;
        if bars.last().is_some_and(|last| last.time >= bar.time) {
            let got = quoted(line);
            return Err(fault(format!("its time has to be after the bar before, got {got}")));
        }
        bars.push(bar);
    }
    Ok(bars)
}

/// UTF-16 is told by its byte order mark. What is not UTF-8 either is taken for
/// a Windows code page: bars need no more of it than ASCII.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match bytes {
        [0xff, 0xfe, text @ ..] => Cow::Owned(utf16(text, u16::from_le_bytes)),
        [0xfe, 0xff, text @ ..] => Cow::Owned(utf16(text, u16::from_be_bytes)),
        [0xef, 0xbb, 0xbf, text @ ..] => eight_bit(text),
        text => eight_bit(text),
    }
}

fn eight_bit(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// Broken and cut characters are replaced, for their line to be refused.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, cut) = bytes.as_chunks::<2>();
    char::decode_utf16(pairs.iter().copied().map(unit))
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .chain((!cut.is_empty()).then_some(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn empty() -> String {
    format!("is empty: expected {}; export bars ({DIALOG})", first_line())
}

/// Why a file is no export of bars, told from its first line.
fn refusal(number: usize, first: &str) -> String {
    if holds_ticks(first) {
        return format!("is an export of ticks; export bars instead ({DIALOG})");
    }
    let (expected, got) = (first_line(), quoted(first));
    match kind(first) {
        Some(kind) => format!("is {kind}: expected {expected}; export bars ({DIALOG})"),
        None => format!("line {number}: expected {expected}, got {got}; export bars ({DIALOG})"),
    }
}

fn first_line() -> String {
    format!("a first line of {HEADER:?}, from D1 up without <TIME>, or of a bar such as {BAR:?}")
}

/// Ticks have a bid and an ask, or a time with milliseconds.
fn holds_ticks(first: &str) -> bool {
    let mut fields = first.split(SEPARATORS);
    let dated = first.get(..10).and_then(day).is_some();
    let fraction =
        |field: &str| field.rsplit_once(':').is_some_and(|(_, seconds)| seconds.contains('.'));
    (dated && fields.clone().take(2).any(fraction))
        || fields.any(|field| matches!(field, "<BID>" | "<ASK>"))
}

fn kind(first: &str) -> Option<&'static str> {
    let first = first.trim_start();
    let starts =
        |with: &str| first.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if starts("PK\u{3}\u{4}") {
        Some("a zip archive or a workbook")
    } else if starts("SQLite format 3") {
        Some("an SQLite database")
    } else if starts("<!DOCTYPE html") || starts("<html") {
        Some("an HTML page")
    } else {
        None
    }
}

/// How a file's lines are laid out, as its first line shows.
struct Layout {
    separator: char,
    headed: bool,
    /// Whether a time follows the date.
    timed: bool,
    fields: usize,
}

impl Layout {
    fn of(first: &str) -> Option<Layout> {
        let separator = SEPARATORS.into_iter().find(|separator| first.contains(*separator))?;
        let fields: Vec<&str> = first.split(separator).collect();
        let timed = fields[1] == "<TIME>" || fields[1].contains(':');
        let header = HEADER.split('\t').filter(|column| timed || *column != "<TIME>");
        let headed = header.eq(fields.iter().copied());
        let layout = Layout { separator, headed, timed, fields: fields.len() };
        (headed || layout.fits(&fields)).then_some(layout)
    }

    /// Whether a line without a header is that of a bar: it may lack volume and spread.
    fn fits(&self, fields: &[&str]) -> bool {
        let fewest = if self.timed { 7 } else { 6 };
        day(fields[0]).is_some()
            && (!self.timed || second_of_day(fields[1]).is_some())
            && (fewest..=fewest + 2).contains(&fields.len())
    }

    fn bar(&self, line: &str) -> Result<Rate, String> {
        let (expected, got) = (self.fields, line.split(self.separator).count());
        if got != expected {
            let line = quoted(line);
            return Err(format!(
                "expected {expected} fields as in the first line, got {got} in {line}"
            ));
        }
        let mut fields = line.split(self.separator);
        // Only the volume and the spread, which come last, may be left out.
        let mut next = || fields.next().unwrap_or("0");
        let day = parsed(next(), "a date from 1970.01.01 to 3000.12.31", day)?;
        let second = if self.timed {
            parsed(next(), "a whole minute such as 09:00 or 09:00:00", second_of_day)?
        } else {
            0
        };
        let mut price = || parsed(next(), "a price such as 1.07160", price);
        Ok(Rate {
            time: day + second,
            open: price()?,
            high: price()?,
            low: price()?,
            close: price()?,
            tick_volume: parsed(next(), "a number of ticks", |field| field.parse().ok())?,
            real_volume: parsed(next(), "a whole volume", |field| field.parse().ok())?,
            spread: parsed(next(), "a spread in points", |field| field.parse().ok())?,
        })
    }
}

fn parsed<T>(field: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    parse(field).ok_or_else(|| format!("expected {expected}, got {}", quoted(field)))
}

/// The first second of a date, within MT5's calendar.
fn day(date: &str) -> Option<i64> {
    let (year, rest) = date.split_once('.')?;
    let (month, day) = rest.split_once('.')?;
    let year = number::<i16>(year, 4).filter(|year| (1970..=3000).contains(year))?;
    let date = jiff::civil::Date::new(year, number(month, 2)?, number(day, 2)?).ok()?;
    let midnight = jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    Some(midnight.as_second())
}

/// No bar opens within a minute.
fn second_of_day(time: &str) -> Option<i64> {
    let (hour, rest) = time.split_once(':')?;
    let (minute, second) = rest.split_once(':').unwrap_or((rest, "00"));
    let hour = number::<i64>(hour, 2).filter(|hour| *hour < 24)?;
    let minute = number::<i64>(minute, 2).filter(|minute| *minute < 60)?;
    (second == "00").then_some(hour * 3600 + minute * 60)
}

fn number<T: FromStr>(digits: &str, length: usize) -> Option<T> {
    if digits.len() != length || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Larger ones would not fit a whole number of points.
fn price(field: &str) -> Option<f64> {
    field.parse().ok().filter(|price: &f64| price.abs() < 1e12)
}

/// A text in quotes, shortened, with what cannot be seen escaped.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{rest}")
}
