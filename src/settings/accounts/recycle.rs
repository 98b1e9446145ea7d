//! When the terminals of an account are replaced although they work: `terminal.recycle`.

use bytesize::ByteSize;
use jiff::tz::TimeZone;

use crate::pool::{Recycling, Schedule};
use crate::settings::reader::Reader;

/// The least that a worker with its terminal may hold. A worker alone holds 26 MB.
const LEAST: ByteSize = ByteSize::mib(64);

/// Takes the section. Without it no terminal is replaced while it works.
pub fn take(reader: &mut Reader, section: &str) -> Recycling {
    if !reader.has_section(section) {
        return Recycling::default();
    }
    let [memory_key, at_key, zone_key] =
        ["memory", "at", "zone"].map(|name| format!("{section}.{name}"));
    if !reader.has(&memory_key) && !reader.has(&at_key) {
        reader.skip(section);
        reader.fault(section, "expected `memory`, `at` or both");
        return Recycling::default();
    }
    let memory: Option<ByteSize> = reader.optional(&memory_key);
    if memory.is_some_and(|memory| memory < LEAST) {
        reader.fault(&memory_key, "expected a size of at least \"64.0 MiB\"");
    }
    let at: Option<String> = reader.optional(&at_key);
    let zone = zone(reader, &zone_key);
    let schedule = at.and_then(|at| {
        let schedule = Schedule::parse(&at, zone);
        if schedule.is_none() {
            let expected =
                "expected a time such as \"03:00\", or \"Sat 03:00\" for one day of the week";
            reader.fault(&at_key, expected);
        }
        schedule
    });
    Recycling { memory: memory.map(|memory| memory.as_u64()), schedule }
}

fn zone(reader: &mut Reader, key: &str) -> TimeZone {
    let name = reader.value(key, "UTC".to_owned());
    TimeZone::get(&name).unwrap_or_else(|_| {
        reader.fault(key, "expected an IANA time zone, such as \"UTC\" or \"Europe/Athens\"");
        TimeZone::UTC
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn an_account_is_recycled_as_its_terminal_says_and_else_never() {
        let account = |name: &str, login: u8, terminal: &str| {
            format!(
                "[accounts.{name}]\nlogin = {login}\nserver = 'S'\npassword = 'p'\n\
                 [accounts.{name}.terminal]\nkind = 'worker'\nmodule = 'm{login}'\n{terminal}\n"
            )
        };
        let athens = TimeZone::get("Europe/Athens").unwrap();
        let cases = [
            ("", None, None),
            ("recycle.memory = '1 GiB'", Some(1 << 30), None),
            ("recycle.at = '03:00'", None, Schedule::parse("03:00", TimeZone::UTC)),
            (
                "recycle = { memory = '64 MiB', at = 'Sat 03:00', zone = 'Europe/Athens' }",
                Some(64 << 20),
                Schedule::parse("Sat 03:00", athens),
            ),
        ];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.toml");
        let accounts = ["a", "b", "c", "d"].iter().zip(1..).zip(&cases);
        let text: String = accounts
            .map(|((name, login), (terminal, ..))| account(name, login, terminal))
            .collect();
        std::fs::write(&file, text).unwrap();
        let settings = match Settings::load(directory.path(), Some(&file), [], &[]) {
            Ok(settings) => settings,
            Err(faults) => panic!("{faults:?}"),
        };
        for (account, (terminal, memory, schedule)) in settings.accounts.iter().zip(cases) {
            assert_eq!(account.recycling, Recycling { memory, schedule }, "{terminal}");
        }
    }
}
