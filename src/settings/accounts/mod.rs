//! `[accounts]`: the accounts and their terminals.

mod clock;
mod conflicts;
mod kind;
mod password;
mod profiles;
mod recycle;
mod simulator;
mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::conflicts::{ParsedAccount, TerminalIdentity, refuse_conflicts};
use self::kind::{KINDS, TerminalKind};
pub use self::password::read_password_file;
use super::limits::{HOUR, choice, number, positive, required_choice};
use super::reader::Reader;
use super::sections::{KeptTerminals, SendLimits};
use super::types::has_format;
use crate::account_name::AccountName;
use crate::pool::{AccountOptions, Recycling};
use crate::terminal::{self, Launch};

/// The account that exists when no source names one.
const DEMO: &str = "demo";

/// Its login and server.
const DEMO_LOGIN: u64 = 5001;
const DEMO_SERVER: &str = "Demo-Server";

/// Its settings, as a file names them that is to have the same account.
pub const BUILT_IN_ACCOUNT: &str =
    "login = 5001\nserver = \"Demo-Server\"\nterminal.kind = \"simulator\"\n";

/// Whether there is the built-in account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    /// If no source names an account.
    IfAlone,
    /// As it was decided when the gateway started.
    Decided(bool),
}

/// The most characters of a server: MetaTrader 5 keeps its name in a field of 64, whose last one ends it.
const LONGEST_SERVER: usize = 63;

/// Takes every account. Gives also whether there is the built-in one.
pub fn take(
    reader: &mut Reader,
    send_within: SendLimits,
    demo: Demo,
    terminals: &KeptTerminals,
) -> (Vec<AccountOptions>, bool) {
    let mut names = reader.names("accounts");
    let has_demo = match demo {
        Demo::IfAlone => names.is_empty(),
        Demo::Decided(has_demo) => has_demo,
    };
    // Settings of an account of this name are those of an account like any other.
    let is_built_in = has_demo && !names.contains(DEMO);
    if is_built_in {
        names.insert(DEMO.to_owned());
    }
    let is_demo = |name: &str| is_built_in && name == DEMO;
    let mut used = BTreeSet::new();
    let accounts: Vec<ParsedAccount> = names
        .iter()
        .filter_map(|name| account(reader, name, is_demo(name), send_within, terminals, &mut used))
        .collect();
    refuse_conflicts(reader, &accounts);
    profiles::take(reader, &used, terminals);
    (accounts.into_iter().map(|account| account.options).collect(), has_demo)
}

/// Takes an account. `None`: its name is none, which was noted, beside what else is wrong with it.
fn account(
    reader: &mut Reader,
    name: &str,
    demo: bool,
    send_within: SendLimits,
    terminals: &KeptTerminals,
    used_profiles: &mut BTreeSet<String>,
) -> Option<ParsedAccount> {
    let section = format!("accounts.{name}");
    let field = |field: &str| format!("{section}.{field}");
    let parsed_name = AccountName::parse(name);
    if parsed_name.is_none() {
        reader.fault(&section, format!("expected {}", AccountName::EXPECTED));
    }
    let (login, server) = if demo {
        (
            reader.value(&field("login"), DEMO_LOGIN),
            reader.value(&field("server"), DEMO_SERVER.to_owned()),
        )
    } else {
        (login(reader, &field("login")), server(reader, &field("server")))
    };
    let has_password = reader.has(&field("password")) || reader.has(&field("password_file"));
    let password = password::take(reader, &section);
    let sessions = number(reader, &field("sessions"), 1, 1..=64) as usize;
    let queue = number(reader, &field("queue"), 64, 1..=100_000) as usize;
    let kind_key = field("terminal.kind");
    let profile = profiles::inherit(reader, &field("terminal"), used_profiles);
    refuse_password_of_terminal(reader, &section);
    let kind = match &profile {
        Ok(_) if demo => Some(choice(reader, &kind_key, &KINDS)),
        Ok(_) => required_choice(reader, &kind_key, &KINDS),
        Err(()) => None,
    };
    let profile = profile.ok().flatten();
    let trade = reader.value(&field("trade"), kind == Some(TerminalKind::Simulator));
    let paused = reader.value(&field("paused"), false);
    let send_within_close = positive(reader, &field("send_within_close"), send_within.close, HOUR);
    let send_within = positive(reader, &field("send_within"), send_within.any, HOUR);
    let clock = clock::take(reader, &field("server_time_zone"));
    if kind.is_none() {
        // The kind decides which settings are allowed there.
        reader.skip(&field("terminal"));
    }
    let mut recycling = Recycling::default();
    let (launcher, terminal): (Arc<dyn Launch>, _) = match kind {
        Some(TerminalKind::Worker) => {
            if !has_password {
                reader.missing(&field("password"), "`password` or `password_file`");
            }
            let password = password.unwrap_or_default();
            let whose = (name.to_owned(), login, server.clone(), password);
            let options = worker::options(reader, &field("terminal"), whose, terminals);
            worker::warn_of_python(reader, &field("terminal.python"), &options.python);
            worker::check_sessions(reader, &field("sessions"), sessions, &options);
            recycling = recycle::take(reader, &field("terminal.recycle"));
            let terminal = TerminalIdentity::of(&options);
            if let Some(template) = &options.template {
                worker::warn_of_template(reader, &field("terminal.template"), template);
            }
            (Arc::new(terminal::worker::Launcher::new(options)), Some(terminal))
        }
        Some(TerminalKind::Simulator) | None => {
            let options = simulator::options(reader, &field("terminal"), login, server.clone());
            if trade && let Some(warning) = simulator::latency_warning(send_within, options.latency)
            {
                reader.warn(&field("terminal.latency"), warning);
            }
            (Arc::new(terminal::simulator::Launcher::new(options)), None)
        }
    };
    let options = AccountOptions {
        name: parsed_name?,
        login,
        server,
        sessions,
        queue,
        trade,
        paused,
        send_within,
        send_within_close,
        clock,
        launcher,
        recycling,
    };
    Some(ParsedAccount { options, terminal, profile })
}

/// Refuses a password beside the terminal, or in its profile, which is of several accounts.
fn refuse_password_of_terminal(reader: &mut Reader, section: &str) {
    for name in ["password", "password_file"] {
        let key = format!("{section}.terminal.{name}");
        if reader.has(&key) {
            let _ = reader.secret(&key);
            let message =
                format!("belongs to the account, not to its terminal: write `{section}.{name}`");
            reader.fault(&key, message);
        }
    }
}

/// Takes the account's number. 0: a fault was noted.
fn login(reader: &mut Reader, key: &str) -> u64 {
    let login = reader.required(key);
    if login == Some(0) {
        reader.fault(key, "expected the account's number at its broker, which is above 0");
    }
    login.unwrap_or_default()
}

/// Takes the broker's server, without the blanks around it. Empty: a fault was noted.
fn server(reader: &mut Reader, key: &str) -> String {
    let Some(server): Option<String> = reader.required(key) else {
        return String::new();
    };
    let server = server.trim();
    let length = server.encode_utf16().count();
    if server.is_empty() {
        reader.fault(key, "is empty: expected the broker's server, such as \"Broker-Live\"");
    } else if has_format(server) {
        let message = "has an invisible character, such as a zero-width space or a mark of the direction \
                       of writing: type it anew";
        reader.fault(key, message);
    } else if length > LONGEST_SERVER {
        let message = format!("has {length} characters: expected {LONGEST_SERVER} at most");
        reader.fault(key, message);
    }
    server.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::AccountName;
    use crate::settings::{Settings, to_toml};

    #[test]
    fn a_file_can_have_the_same_account_as_the_built_in_one() {
        let directory = tempfile::tempdir().unwrap();
        let values = |text: Option<&str>| {
            let file = directory.path().join("settings.toml");
            std::fs::write(&file, text.unwrap_or_default()).unwrap();
            let settings = Settings::load(directory.path(), Some(&file), [], &[]);
            settings.unwrap_or_else(|faults| panic!("{faults:?}")).values()
        };
        let named = format!("[accounts.demo]\n{}", super::BUILT_IN_ACCOUNT);
        assert_eq!(values(Some(&named)), values(None));
    }

    #[test]
    fn a_server_is_a_visible_text_that_a_terminal_can_keep() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.toml");
        let longest = "s".repeat(63);
        for (server, expected) in [
            ("S", None),
            ("  Ünï-Server 1 ", None),
            (longest.as_str(), None),
            ("", Some("is empty")),
            (" \u{A0} ", Some("is empty")),
            ("a\tb", Some("a control character")),
            ("S\u{200B}", Some("an invisible character")),
            ("S\u{200D}1", Some("an invisible character")),
            ("\u{FEFF}S", Some("an invisible character")),
            ("\u{202E}S", Some("an invisible character")),
            ("S\u{AD}", Some("an invisible character")),
            ("S\u{E0020}", Some("an invisible character")),
            (&"s".repeat(64), Some("has 64 characters: expected 63 at most")),
        ] {
            let server_setting = json!({ "server": server });
            let server_setting = to_toml(server_setting.as_object().unwrap());
            let others = "login = 1\nterminal.kind = 'simulator'\n";
            std::fs::write(&file, format!("[accounts.a]\n{server_setting}{others}")).unwrap();
            let faults = match Settings::load(directory.path(), Some(&file), [], &[]) {
                Ok(settings) => {
                    assert_eq!(settings.accounts[0].server, server.trim());
                    None
                }
                Err(faults) => Some(format!("{faults:?}")),
            };
            assert_eq!(faults.is_some(), expected.is_some(), "{server:?} {faults:?}");
            let (faults, expected) = (faults.unwrap_or_default(), expected.unwrap_or_default());
            assert!(faults.contains(expected), "{expected:?} is not in {faults}");
        }
    }

    #[test]
    fn an_account_whose_name_is_none_has_its_own_faults_and_is_not_compared() {
        let account = |name: &str| {
            format!(
                "[accounts.{name}]\nlogin = 1\nserver = 'S'\nqueue = 0\nterminal.kind = 'simulator'\n"
            )
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.toml");
        std::fs::write(&file, account("Bad") + &account("good")).unwrap();
        let faults = match Settings::load(directory.path(), Some(&file), [], &[]) {
            Ok(_) => panic!("the name is accepted"),
            Err(faults) => format!("{faults:?}"),
        };
        for expected in [AccountName::EXPECTED, "accounts.Bad.queue", "accounts.good.queue"] {
            assert!(faults.contains(expected), "{expected:?} is not in {faults}");
        }
        assert!(!faults.contains("has the same login"), "{faults}");
    }
}
