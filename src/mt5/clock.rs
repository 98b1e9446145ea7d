//! The clock of a broker's server. MT5 writes its wall clock as unix seconds;
//! knowing its zone turns them into UTC and back.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{ServerTime, UtcTime};

/// How a server's clock is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerClock(Option<Zone>);

#[derive(Debug, Clone, PartialEq)]
struct Zone {
    /// As it was configured.
    name: String,
    zone: TimeZone,
    /// What the server's clock is ahead of the zone's, seconds.
    ahead: i64,
}

impl ServerClock {
    /// A clock that is passed on as it is.
    pub const RAW: ServerClock = ServerClock(None);

    /// Reads a name from the IANA database, or one with hours that the server is
    /// ahead of it: `New_York+7` is seven hours ahead of New York, the whole year
    /// round, and changes to summer time when New York does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<ServerClock, String> {
        let found = |name: &str| {
            let city = format!("America/{name}");
            TimeZone::get(name).or_else(|_| TimeZone::get(&city)).ok()
        };
        let (zone, ahead) = match (found(name), name.rfind(['+', '-'])) {
            (Some(zone), _) => (Some(zone), 0),
            (None, Some(at)) => {
                let hours: Option<i64> = name[at..].parse().ok();
                let hours = hours.filter(|hours| hours.abs() <= 14);
                (hours.and_then(|_| found(&name[..at])), hours.unwrap_or(0) * 3600)
            }
            (None, None) => (None, 0),
        };
        let zone = zone.ok_or(
            "expected an IANA time zone such as \"Europe/Athens\", or hours ahead of one such as \
             \"New_York+7\"",
        )?;
        Ok(ServerClock(Some(Zone { name: name.to_owned(), zone, ahead })))
    }

    /// Its zone as it was configured; `None`: times are passed on as they are.
    pub fn zone(&self) -> Option<&str> {
        self.0.as_ref().map(|zone| zone.name.as_str())
    }

    /// What the server's clock shows at a moment.
    pub fn show(&self, at: UtcTime) -> ServerTime {
        let convert = self.from_utc();
        ServerTime::from_seconds(convert.map_or(at.seconds(), |convert| convert(at.seconds())))
    }

    /// The moment at which the server's clock shows a time; the first one in the hour that it shows
    /// twice.
    pub fn read(&self, shown: ServerTime) -> UtcTime {
        let convert = self.to_utc();
        let seconds = convert.map_or(shown.seconds(), |mut convert| convert(shown.seconds()));
        UtcTime::from_seconds(seconds)
    }

    /// What turns times of the server into UTC. `None`: they are taken for UTC.
    pub fn to_utc(&self) -> Option<impl FnMut(i64) -> i64 + '_> {
        let zone = self.0.as_ref()?;
        // Rows come in order, so most have the offset of the one before.
        let mut last: Option<(i64, i64)> = None;
        Some(move |time: i64| {
            if time == 0 {
                return 0;
            }
            let quarter = time.div_euclid(QUARTER);
            if let Some((of, offset)) = last
                && of == quarter
            {
                return time.saturating_sub(offset);
            }
            let offset = zone.offset_of_server(time);
            last = Some((quarter, offset));
            time.saturating_sub(offset)
        })
    }

    /// What turns UTC into times of the server.
    pub fn from_utc(&self) -> Option<impl Fn(i64) -> i64 + '_> {
        let zone = self.0.as_ref()?;
        Some(move |time: i64| if time == 0 { 0 } else { time + zone.offset_at(time) })
    }
}

/// Clocks change at full quarters of an hour.
const QUARTER: i64 = 900;

impl Zone {
    /// What the server's clock is ahead of UTC at a moment, seconds.
    fn offset_at(&self, utc: i64) -> i64 {
        let moment = Timestamp::from_second(utc).unwrap_or(Timestamp::UNIX_EPOCH);
        i64::from(self.zone.to_offset(moment).seconds()) + self.ahead
    }

    /// The same, when the server's clock shows a time. Where it shows that twice
    /// the first is meant; where never, what it would show without the change.
    fn offset_of_server(&self, server: i64) -> i64 {
        let wall: Option<DateTime> = Timestamp::from_second(server.saturating_sub(self.ahead))
            .ok()
            .map(|at| Offset::UTC.to_datetime(at));
        let utc = wall.and_then(|wall| {
            self.zone.to_ambiguous_timestamp(wall).compatible().ok().map(Timestamp::as_second)
        });
        utc.map_or(0, |utc| server - utc)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(clock: &str, server: &str) -> String {
        let clock = ServerClock::parse(clock).unwrap();
        let time = server.parse::<Timestamp>().unwrap().as_second();
        let mut convert = clock.to_utc().unwrap();
        Timestamp::from_second(convert(time)).unwrap().to_string()
    }

    #[test]
    fn summer_time_is_that_of_the_zone() {
        let cases = [
            ("Europe/Athens", "2017-01-10T12:00:00Z", "2017-01-10T10:00:00Z"),
            ("Europe/Athens", "2017-07-10T12:00:00Z", "2017-07-10T09:00:00Z"),
            ("New_York+7", "2017-01-10T12:00:00Z", "2017-01-10T10:00:00Z"),
            ("New_York+7", "2017-07-10T12:00:00Z", "2017-07-10T09:00:00Z"),
            // New York changes on 12 March, Athens on the 26th.
            ("New_York+7", "2017-03-20T12:00:00Z", "2017-03-20T09:00:00Z"),
            ("Europe/Athens", "2017-03-20T12:00:00Z", "2017-03-20T10:00:00Z"),
            ("Etc/GMT-2", "2017-07-10T12:00:00Z", "2017-07-10T10:00:00Z"),
            ("UTC", "2017-07-10T12:00:00Z", "2017-07-10T12:00:00Z"),
        ];
        for (clock, server, expected) in cases {
            assert_eq!(utc(clock, server), expected, "{clock}");
        }
    }

    #[test]
    fn hours_that_come_twice_are_the_first_and_those_that_never_come_are_moved() {
        // Athens, 2017-10-29: 04:00 becomes 03:00. 03:30 comes twice.
        assert_eq!(utc("Europe/Athens", "2017-10-29T03:30:00Z"), "2017-10-29T00:30:00Z");
        // 2017-03-26: 03:00 becomes 04:00. 03:30 never comes.
        assert_eq!(utc("Europe/Athens", "2017-03-26T03:30:00Z"), "2017-03-26T01:30:00Z");
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for name in ["", "Athens", "New_York+", "New_York+99", "New_York+x", "+7", "Mars/Base"] {
            assert!(ServerClock::parse(name).is_err(), "{name}");
        }
        assert!(ServerClock::RAW.to_utc().is_none());
    }

    #[test]
    fn a_time_outside_of_the_calendar_is_passed_on() {
        for clock in ["Europe/Athens", "New_York+7"] {
            let clock = ServerClock::parse(clock).unwrap();
            for time in [i64::MIN, i64::MAX] {
                assert_eq!(clock.to_utc().unwrap()(time), time);
            }
        }
    }

    proptest! {
        #[test]
        fn a_time_survives_the_way_there_and_back(time in 1i64..4_000_000_000, athens: bool) {
            let clock = ServerClock::parse(if athens { "Europe/Athens" } else { "New_York+7" }).unwrap();
            let server = clock.from_utc().unwrap()(time);
            let back = clock.to_utc().unwrap()(server);
            // In the hour that comes twice the first is meant.
            prop_assert!(back == time || back == time - 3600, "{} {}", time, back);
        }

        #[test]
        fn remembering_the_offset_changes_nothing(mut times in proptest::collection::vec(1i64..4_000_000_000, 2..50)) {
            times.sort_unstable();
            let clock = ServerClock::parse("Europe/Athens").unwrap();
            let mut used = clock.to_utc().unwrap();
            for time in times {
                prop_assert_eq!(used(time), clock.to_utc().unwrap()(time));
            }
        }
    }
}
