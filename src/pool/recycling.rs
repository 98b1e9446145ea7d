//! When a terminal is replaced although it works: because of what it takes, or because its time has come.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::labels::RestartReason;
use crate::metrics::Figures;

/// The least age of a terminal that is replaced for its memory. One that takes too much as soon as it
/// works would otherwise be replaced again and again.
const LEAST_AGE: Duration = Duration::from_secs(600);

/// When the terminals of an account are replaced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recycling {
    /// Bytes that the worker and what it started may hold.
    pub memory: Option<u64>,
    /// A moment that comes again.
    pub schedule: Option<Schedule>,
}

/// A time of day, on each day or on one of the week.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    day: Option<Weekday>,
    time: Time,
    zone: TimeZone,
}

/// Why a terminal is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It holds so many bytes, of those that it may.
    Memory { held: u64, limit: u64 },
    /// It has run since before this moment.
    Schedule(Timestamp),
    /// Its template has changed.
    Template,
}

impl Recycling {
    /// Whether a terminal is to be replaced, and why.
    pub fn due(&self, running: Figures, now: Timestamp) -> Option<Due> {
        let age = Duration::try_from(now.duration_since(running.since)).unwrap_or_default();
        let above = |limit: &u64| running.memory.filter(|held| held > limit && age >= LEAST_AGE);
        if let Some((held, limit)) = self.memory.and_then(|limit| above(&limit).zip(Some(limit))) {
            return Some(Due::Memory { held, limit });
        }
        let last = self.schedule.as_ref()?.last(now)?;
        (last > running.since).then_some(Due::Schedule(last))
    }
}

impl Schedule {
    /// Reads a time of day, such as `03:00`, with a day of the week before it or for every day.
    pub fn parse(text: &str, zone: TimeZone) -> Option<Schedule> {
        let (day, time) = match text.trim().split_once(' ') {
            Some((day, time)) => (Some(weekday(day)?), time),
            None => (None, text),
        };
        let (hour, minute) = time.trim().split_once(':')?;
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.len() == 2)?;
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let time = Time::new(number(hour)?, number(minute)?, 0, 0).ok()?;
        Some(Schedule { day, time, zone })
    }

    /// The last such moment that is not after `now`.
    fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        // A week ago, if it is today, but later.
        (0..=7).find_map(|days| {
            let date = today.checked_sub(days.days()).ok()?;
            if self.day.is_some_and(|day| day != date.weekday()) {
                return None;
            }
            // An hour that the clocks skip is the one after it.
            let at = self.zone.to_timestamp(date.to_datetime(self.time)).ok()?;
            (at <= now).then_some(at)
        })
    }
}

fn weekday(name: &str) -> Option<Weekday> {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};

    match name.to_ascii_lowercase().as_str() {
        "mon" => Some(Monday),
        "tue" => Some(Tuesday),
        "wed" => Some(Wednesday),
        "thu" => Some(Thursday),
        "fri" => Some(Friday),
        "sat" => Some(Saturday),
        "sun" => Some(Sunday),
        _ => None,
    }
}

impl Due {
    /// What the replacement is counted as.
    pub fn reason(self) -> RestartReason {
        match self {
            Due::Memory { .. } | Due::Schedule(_) => RestartReason::Recycle,
            Due::Template => RestartReason::Template,
        }
    }
}

impl fmt::Display for Due {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Due::Memory { held, limit } => {
                write!(
                    formatter,
                    "its processes hold {held} bytes, above the {limit} of `recycle.memory`"
                )
            }
            Due::Template => formatter.write_str("its template has changed"),
            Due::Schedule(at) => {
                write!(formatter, "it has run since before {at}, which `recycle.at` names")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(text: &str, zone: &str) -> Option<Schedule> {
        Schedule::parse(text, TimeZone::get(zone).unwrap())
    }

    #[test]
    fn a_schedule_is_a_time_of_day_with_or_without_a_day_of_the_week() {
        for text in ["03:00", "Sat 03:00", "sun 23:59", "Mon  00:00"] {
            assert!(schedule(text, "UTC").is_some(), "{text}");
        }
        for text in
            ["", "3:00", "24:00", "03:60", "03", "Saturday 03:00", "Sat", "03:00:00", "+1:00"]
        {
            assert_eq!(schedule(text, "UTC"), None, "{text}");
        }
    }

    #[test]
    fn the_last_moment_of_a_schedule_is_not_after_now() {
        // 2026-11-28 is a Saturday.
        let cases = [
            ("Sat 03:00", "UTC", "2026-11-28T03:00:00Z", "2026-11-28T03:00:00Z"),
            ("Sat 03:00", "UTC", "2026-11-28T02:59:59Z", "2026-11-21T03:00:00Z"),
            ("Sat 03:00", "UTC", "2026-12-04T23:00:00Z", "2026-11-28T03:00:00Z"),
            ("03:00", "UTC", "2026-11-28T02:00:00Z", "2026-11-27T03:00:00Z"),
            ("Sat 03:00", "Europe/Athens", "2026-11-28T01:00:00Z", "2026-11-28T01:00:00Z"),
            // The day is that of the zone.
            ("Sat 03:00", "Asia/Tokyo", "2026-11-27T18:30:00Z", "2026-11-27T18:00:00Z"),
            // An hour that the clocks skip is the one after it.
            ("Sun 02:30", "America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T07:30:00Z"),
        ];
        for (text, zone, now, expected) in cases {
            let last = schedule(text, zone).unwrap().last(at(now));
            assert_eq!(last, Some(at(expected)), "{text} {zone} {now}");
        }
    }

    #[test]
    fn a_terminal_is_due_once_for_each_moment_and_while_it_holds_too_much() {
        let recycling = Recycling { memory: Some(1000), schedule: schedule("Sat 03:00", "UTC") };
        let saturday = at("2026-11-28T03:00:00Z");
        let now = at("2026-11-28T12:00:00Z");
        let cases = [
            ("2026-11-28T02:59:00Z", None, Some(Due::Schedule(saturday))),
            ("2026-11-28T03:00:00Z", None, None),
            ("2026-11-28T03:00:00Z", Some(1000), None),
            ("2026-11-28T03:00:00Z", Some(1001), Some(Due::Memory { held: 1001, limit: 1000 })),
            // It takes that much from the beginning.
            ("2026-11-28T11:51:00Z", Some(1001), None),
            ("2026-11-28T11:50:00Z", Some(1001), Some(Due::Memory { held: 1001, limit: 1000 })),
        ];
        for (since, memory, expected) in cases {
            let due = recycling.due(Figures { since: at(since), memory, files: None }, now);
            assert_eq!(due, expected, "{since} {memory:?}");
        }
        let never = Recycling::default();
        let since = at("1990-01-01T00:00:00Z");
        assert_eq!(never.due(Figures { since, memory: Some(u64::MAX), files: None }, now), None);
    }
}
