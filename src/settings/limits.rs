//! Takes settings whose values have limits. A value beyond them is a fault, and the default stands
//! in for it, so that the search for faults goes on.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::reader::Reader;
use super::types::Setting;

/// The shortest duration that is useful for any setting.
const SHORTEST: Duration = Duration::from_millis(1);

pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// The longest duration of any setting. Durations are added to the present, which must not
/// overflow.
pub const YEAR: Duration = Duration::from_secs(366 * 86_400);

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// Takes a duration of at least 1 ms.
pub fn positive(reader: &mut Reader, key: &str, default: Duration, most: Duration) -> Duration {
    bounded(reader, key, default, SHORTEST..=most)
}

/// Takes a duration that may be 0.
pub fn duration(reader: &mut Reader, key: &str, default: Duration, most: Duration) -> Duration {
    bounded(reader, key, default, Duration::ZERO..=most)
}

fn bounded(
    reader: &mut Reader,
    key: &str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let value = reader.value(key, default);
    if range.contains(&value) {
        return value;
    }
    let (least, most) = (range.start().show(), range.end().show());
    reader.fault(key, format!("expected a duration from {least} to {most}"));
    default
}

/// Takes a size in bytes within a range.
pub fn size(reader: &mut Reader, key: &str, default: ByteSize, range: RangeInclusive<u64>) -> u64 {
    let value = reader.value(key, default).as_u64();
    if range.contains(&value) {
        return value;
    }
    let (least, most) = (ByteSize(*range.start()).show(), ByteSize(*range.end()).show());
    reader.fault(key, format!("expected a size from {least} to {most}"));
    default.as_u64()
}

/// Refuses a directory where the gateway is to write a file.
pub fn refuse_directory(reader: &mut Reader, key: &str, path: &Path) {
    if path.is_dir() {
        let message = format!("{} is a directory, expected a file", path.display());
        reader.fault(key, message);
    }
}

/// Takes a whole number within a range.
pub fn number(reader: &mut Reader, key: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
    let value = reader.value(key, u64::from(default));
    let within = u32::try_from(value).ok().filter(|value| range.contains(value));
    if within.is_none() {
        let (least, most) = (range.start(), range.end());
        reader.fault(key, format!("expected a whole number from {least} to {most}"));
    }
    within.unwrap_or(default)
}

/// Takes one of a few words; the first is the default.
pub fn choice<T: Copy>(reader: &mut Reader, key: &str, choices: &[(&str, T)]) -> T {
    let (default, fallback) = choices[0];
    let word = reader.value(key, default.to_owned());
    chosen(reader, key, choices, &word).unwrap_or(fallback)
}

/// Takes one of a few words, which must be given. `None`: a fault was noted.
pub fn required_choice<T: Copy>(
    reader: &mut Reader,
    key: &str,
    choices: &[(&str, T)],
) -> Option<T> {
    if !reader.has(key) {
        reader.missing(key, &format!("one of {}", words(choices)));
    }
    let word: String = reader.optional(key)?;
    chosen(reader, key, choices, &word)
}

fn chosen<T: Copy>(reader: &mut Reader, key: &str, choices: &[(&str, T)], word: &str) -> Option<T> {
    let chosen = choices.iter().find(|(name, _)| *name == word);
    if chosen.is_none() {
        reader.fault(key, format!("expected one of {}", words(choices)));
    }
    chosen.map(|(_, choice)| *choice)
}

fn words<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
