//! The time zone of an account's trade server.

use std::cmp::Ordering;

use crate::mt5::ServerClock;
use crate::settings::reader::Reader;

/// Takes the zone of the server's clock. Without one, times stay on that clock.
pub fn take(reader: &mut Reader, key: &str) -> ServerClock {
    let Some(name) = reader.optional::<String>(key) else {
        return ServerClock::RAW;
    };
    match ServerClock::parse(&name) {
        Ok(clock) => {
            if let Some(warning) = sign_warning(&name, &clock) {
                reader.warn(key, warning);
            }
            clock
        }
        Err(fault) => {
            reader.fault(key, fault);
            ServerClock::RAW
        }
    }
}

/// Explains a zone of the form `Etc/GMT+3`: the tz database counts it westwards, against common
/// usage. `UTC+3` and `GMT+3` mean what they commonly do, three hours ahead.
fn sign_warning(name: &str, clock: &ServerClock) -> Option<String> {
    let (area, _) = name.split_at(name.rfind(['+', '-'])?);
    if !area.eq_ignore_ascii_case("Etc/GMT") {
        return None;
    }
    let noon = 43_200;
    let ahead = (clock.from_utc()?(noon) - noon) / 3600;
    let hours = ahead.abs();
    let count = if hours == 1 { "1 hour".to_owned() } else { format!("{hours} hours") };
    match ahead.cmp(&0) {
        Ordering::Less => Some(format!(
            "`{name}` is {count} BEHIND UTC; write `Etc/GMT-{hours}` or, plainer, `UTC+{hours}` \
             for a server {count} ahead, and `UTC-{hours}` for one {count} behind"
        )),
        Ordering::Equal => None,
        Ordering::Greater => Some(format!(
            "`{name}` is {count} AHEAD of UTC; write, plainer, `UTC+{hours}` if that is meant, and \
             `UTC-{hours}` for a server {count} behind"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_warning_says_which_side_of_utc_a_zone_is_on() {
        let cases = [
            ("Etc/GMT+3", "3 hours BEHIND UTC; write `Etc/GMT-3` or, plainer, `UTC+3` for"),
            ("etc/gmt+1", "1 hour BEHIND UTC; write `Etc/GMT-1`"),
            ("Etc/GMT-2", "2 hours AHEAD of UTC; write, plainer, `UTC+2`"),
        ];
        for (name, expected) in cases {
            let warning = sign_warning(name, &ServerClock::parse(name).unwrap()).unwrap();
            assert!(warning.starts_with(&format!("`{name}` is {expected}")), "{warning}");
        }
        let plain =
            ["UTC+3", "GMT+3", "GMT-3", "Etc/GMT+0", "GMT-0", "New_York+7", "Europe/Athens", "UTC"];
        for name in plain {
            assert_eq!(sign_warning(name, &ServerClock::parse(name).unwrap()), None, "{name}");
        }
        // The proposed zone is what the warning says.
        for (name, hours) in [("UTC+3", 3), ("GMT+3", 3), ("UTC-3", -3), ("Etc/GMT-3", 3)] {
            let clock = ServerClock::parse(name).unwrap();
            assert_eq!(clock.from_utc().unwrap()(1_000_000) - 1_000_000, hours * 3600, "{name}");
        }
    }
}
