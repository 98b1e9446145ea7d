//! The settings of accounts and their terminals.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Reader, Setting, has_control};
use super::{HOUR, SendWithin, choice, duration, files, number, positive, required_choice};
use crate::mt5::{Error, Method, Retcode, ServerClock};
use crate::pool::AccountOptions;
use crate::terminal::simulator::{self, FaultKind, InjectedFault, MarginMode, Replay};
use crate::terminal::{Launch, worker};

/// The account that there is when nobody names one.
const DEMO: &str = "demo";

/// Calls that take their time before a simulated trade is carried out: two reads that prepare it, the
/// check of the login, and `order_send` itself.
const CALLS_BEFORE_SENDING: u32 = 4;

pub fn take(reader: &mut Reader, send_within: SendWithin) -> Vec<AccountOptions> {
    let mut names = reader.names("accounts");
    let demo = names.is_empty();
    if demo {
        names.insert(DEMO.to_owned());
    }
    let accounts: Vec<Taken> =
        names.iter().map(|name| account(reader, name, demo, send_within)).collect();
    refuse_conflicts(reader, &accounts);
    accounts.into_iter().map(|account| account.options).collect()
}

/// An account, and what tells whether it would get in another one's way.
struct Taken {
    options: AccountOptions,
    /// `None`: a simulated terminal, which is not shared.
    terminal: Option<TerminalChoice>,
}

/// What decides which terminal a worker reaches: equal choices reach the same one.
#[derive(PartialEq)]
struct TerminalChoice {
    /// The machine, if it is another one.
    connect: Option<worker::Connect>,
    place: Place,
}

#[derive(PartialEq)]
enum Place {
    /// The folder of the executable, which holds a portable terminal's data.
    Folder(String),
    /// The terminal that the package finds by itself.
    Found { python: Vec<String>, module: String },
}

impl TerminalChoice {
    fn of(options: &worker::Options) -> TerminalChoice {
        let place = match &options.path {
            Some(path) => Place::Folder(folder(&path.to_string_lossy())),
            None => Place::Found { python: options.python.clone(), module: options.module.clone() },
        };
        TerminalChoice { connect: options.connect.clone(), place }
    }
}

/// The folder of a terminal, written in one way. Paths are Windows paths, under Wine too: case and
/// the kind of slash make no difference.
fn folder(path: &str) -> String {
    let path = path.to_lowercase().replace('\\', "/");
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    if parts.len() > 1 && parts.last().is_some_and(|last| last.ends_with(".exe")) {
        parts.pop();
    }
    parts.join("/")
}

impl Taken {
    fn has_login_of(&self, other: &Taken) -> bool {
        let (account, other) = (&self.options, &other.options);
        let server = |account: &AccountOptions| account.server.trim().to_lowercase();
        // A login or server that is missing has a fault of its own.
        let known = account.login != 0 && !account.server.is_empty();
        known && account.login == other.login && server(account) == server(other)
    }

    fn has_terminal_of(&self, other: &Taken) -> bool {
        self.terminal.is_some() && self.terminal == other.terminal
    }
}

/// Accounts that cannot be served beside each other are a fault of the later one.
fn refuse_conflicts(reader: &mut Reader, accounts: &[Taken]) {
    for (index, account) in accounts.iter().enumerate() {
        let (name, earlier) = (&account.options.name, &accounts[..index]);
        if let Some(other) = earlier.iter().find(|other| account.has_login_of(other)) {
            let other = &other.options.name;
            reader.fault(
                &format!("accounts.{name}.login"),
                format!(
                    "`accounts.{other}` has the same login on the same server: two accounts with \
                     one login would claim each other's trades: remove one"
                ),
            );
        }
        if let Some(other) = earlier.iter().find(|other| account.has_terminal_of(other)) {
            let (other, key) = (&other.options.name, format!("accounts.{name}.terminal.path"));
            let message = format!(
                "`accounts.{other}` uses the same terminal, which can be logged in to one account \
                 only: set `{key}` to the executable of a terminal of its own"
            );
            reader.fault(&key, message);
        }
    }
}

fn is_name(name: &str) -> bool {
    name.split('_').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// What a terminal is.
#[derive(Clone, Copy, PartialEq)]
enum TerminalKind {
    Simulator,
    Worker,
}

const KINDS: [(&str, TerminalKind); 2] =
    [("simulator", TerminalKind::Simulator), ("worker", TerminalKind::Worker)];

fn account(reader: &mut Reader, name: &str, demo: bool, send_within: SendWithin) -> Taken {
    let section = format!("accounts.{name}");
    let field = |field: &str| format!("{section}.{field}");
    if !is_name(name) {
        reader.fault(
            &section,
            "expected a name of lower-case letters and digits, with single underscores between",
        );
    }
    let (login, server) = if demo {
        (
            reader.value(&field("login"), 5001),
            reader.value(&field("server"), "Demo-Server".to_owned()),
        )
    } else {
        (login(reader, &field("login")), server(reader, &field("server")))
    };
    let has_password = reader.has(&field("password")) || reader.has(&field("password_file"));
    let password = password(reader, &section);
    let sessions = number(reader, &field("sessions"), 1, 1..=64) as usize;
    let queue = number(reader, &field("queue"), 64, 1..=100_000) as usize;
    let kind_key = field("terminal.kind");
    let kind = if demo {
        Some(choice(reader, &kind_key, &KINDS))
    } else {
        required_choice(reader, &kind_key, &KINDS)
    };
    let trade = reader.value(&field("trade"), kind == Some(TerminalKind::Simulator));
    let send_within_close = positive(reader, &field("send_within_close"), send_within.close, HOUR);
    let send_within = positive(reader, &field("send_within"), send_within.any, HOUR);
    let clock = clock(reader, &field("server_time_zone"));
    if kind.is_none() {
        // What may stand there is not known.
        reader.skip(&field("terminal"));
    }
    let (launcher, terminal): (Arc<dyn Launch>, _) = match kind {
        Some(TerminalKind::Worker) => {
            if !has_password {
                reader.missing(&field("password"), "`password` or `password_file`");
            }
            let password = password.unwrap_or_default();
            let options = worker_options(reader, name, login, server.clone(), password);
            warn_of_python(reader, &field("terminal.python"), &options.python);
            check_sessions(reader, &field("sessions"), sessions, &options);
            let terminal = TerminalChoice::of(&options);
            (Arc::new(worker::Launcher(options)), Some(terminal))
        }
        Some(TerminalKind::Simulator) | None => {
            let options = simulator_options(reader, &section, login, server.clone());
            if trade && let Some(warning) = latency_warning(send_within, options.latency) {
                reader.warn(&field("terminal.latency"), warning);
            }
            (Arc::new(simulator::Launcher::new(options)), None)
        }
    };
    let options = AccountOptions {
        name: name.to_owned(),
        login,
        server,
        sessions,
        queue,
        trade,
        send_within,
        send_within_close,
        clock,
        launcher,
    };
    Taken { options, terminal }
}

/// The account's number, or 0 if there is a fault already.
fn login(reader: &mut Reader, key: &str) -> u64 {
    let login = reader.required(key);
    if login == Some(0) {
        reader.fault(key, "expected the account's number at its broker, which is above 0");
    }
    login.unwrap_or_default()
}

/// The broker's server, or nothing if there is a fault already.
fn server(reader: &mut Reader, key: &str) -> String {
    let server: Option<String> = reader.required(key);
    if server.as_ref().is_some_and(|server| server.trim().is_empty()) {
        reader.fault(key, "is empty: expected the broker's server, such as \"Broker-Live\"");
    }
    server.unwrap_or_default()
}

/// The terminal's worker does not start without it; it may still be installed.
fn warn_of_python(reader: &mut Reader, key: &str, python: &[String]) {
    let Some(program) = python.first() else {
        return;
    };
    if let Err(fault) = which::which(program) {
        let message = format!(
            "{program:?} cannot be run ({fault}): install it, or write where it is, such as \
             'C:\\Python\\python.exe'"
        );
        reader.warn(key, message);
    }
}

/// MT5 allows one terminal a data directory.
fn check_sessions(reader: &mut Reader, key: &str, sessions: usize, options: &worker::Options) {
    if sessions < 2 {
        return;
    }
    if options.portable && options.path.is_some() {
        reader.fault(
            key,
            "a portable terminal is one terminal: expected 1, or a `terminal.module` that reaches \
             several without `terminal.path`",
        );
    } else if options.module == MODULE {
        let message = format!(
            "`{MODULE}` reaches one terminal, which all {sessions} sessions would share: probably 1 \
             is meant"
        );
        reader.warn(key, message);
    }
}

fn clock(reader: &mut Reader, key: &str) -> ServerClock {
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

/// Says what a zone of the form `Etc/GMT+3` means: the tz database counts it westwards, against
/// common usage. `UTC+3` and `GMT+3` are read as they are commonly meant, three hours ahead.
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

/// Says that a simulated terminal is too slow for trades: with `latency` for each of the calls
/// that precede it, a trade cannot be sent within `send_within` of its arrival.
fn latency_warning(send_within: Duration, latency: Duration) -> Option<String> {
    let before_sending = latency.saturating_mul(CALLS_BEFORE_SENDING);
    if before_sending < send_within {
        return None;
    }
    let limit = (send_within / CALLS_BEFORE_SENDING).as_millis();
    let limit = Duration::from_millis(u64::try_from(limit).unwrap_or(u64::MAX));
    Some(format!(
        "no trade can be sent in time: {CALLS_BEFORE_SENDING} calls before it take {}, and it must \
         be sent within {}; write less than {}",
        before_sending.show(),
        send_within.show(),
        limit.show(),
    ))
}

/// `None`: there is none, or there is a fault already.
fn password(reader: &mut Reader, section: &str) -> Option<String> {
    let (key, file_key) = (format!("{section}.password"), format!("{section}.password_file"));
    if reader.has(&key) && reader.has(&file_key) {
        reader.fault(&file_key, "expected either `password` or `password_file`, not both");
    }
    let file = reader.file(&file_key);
    if let Some(password) = reader.password(&key) {
        if password.is_empty() {
            reader.fault(&key, "is empty");
        }
        return Some(password);
    }
    let file = file?;
    let text = match files::read(&file) {
        Ok(text) => text,
        Err(fault) => {
            reader.fault(&file_key, format!("{} {fault}", file.display()));
            return None;
        }
    };
    if let Some(mode) = crate::files::exposed_mode(&file) {
        let file = file.display();
        let message = format!("others can read {file}, which has mode {mode:04o}: `chmod 600` it");
        reader.warn(&file_key, message);
    }
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        reader.fault(&file_key, format!("{} is empty", file.display()));
    } else if has_control(password) {
        let message = format!(
            "{} has more than one line or a control character: expected the password alone",
            file.display()
        );
        reader.fault(&file_key, message);
    }
    Some(password.to_owned())
}

/// The package that MetaQuotes publishes.
const MODULE: &str = "MetaTrader5";

fn worker_options(
    reader: &mut Reader,
    account: &str,
    login: u64,
    server: String,
    password: String,
) -> worker::Options {
    let field = |field: &str| format!("accounts.{account}.terminal.{field}");
    let python = reader.value(&field("python"), vec!["python".to_owned()]);
    if python.first().is_none_or(String::is_empty) {
        reader.fault(
            &field("python"),
            "expected a command, such as \"python\" or [\"wine64\", \"python.exe\"]",
        );
    }
    let module = reader.value(&field("module"), MODULE.to_owned());
    if !is_module(&module) {
        reader.fault(
            &field("module"),
            "expected a Python module such as \"MetaTrader5\", or \"package:Attribute\"",
        );
    }
    let connect = connect(reader, &field("connect"));
    if connect.is_some() && !module.contains(':') {
        let message = format!(
            "`{}` names no attribute that it is passed to, such as \"mt5linux:MetaTrader5\"",
            field("module")
        );
        reader.fault(&field("connect.host"), message);
    }
    worker::Options {
        account: account.to_owned(),
        login,
        password,
        server,
        python,
        module,
        connect,
        path: reader.optional(&field("path")),
        portable: reader.value(&field("portable"), false),
        init_timeout: positive(reader, &field("init_timeout"), Duration::from_secs(60), HOUR),
    }
}

fn is_module(module: &str) -> bool {
    let is_identifier = |name: &str| {
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let (path, attribute) = module.split_once(':').unwrap_or((module, "attribute"));
    path.split('.').all(is_identifier) && is_identifier(attribute)
}

/// `None`: there is none, or there is a fault already.
fn connect(reader: &mut Reader, section: &str) -> Option<worker::Connect> {
    if !reader.has_section(section) {
        return None;
    }
    let (host_key, port_key) = (format!("{section}.host"), format!("{section}.port"));
    let host: Option<String> = reader.required(&host_key);
    let is_host =
        |host: &String| !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    if host.as_ref().is_some_and(|host| !is_host(host)) {
        reader.fault(&host_key, "expected a host name or an address, such as \"127.0.0.1\"");
    }
    let port: Option<u64> = reader.required(&port_key);
    let (host, port) = host.zip(port)?;
    match u16::try_from(port) {
        Ok(port) if port != 0 => Some(worker::Connect { host, port }),
        _ => {
            reader.fault(&port_key, "expected a port from 1 to 65535");
            None
        }
    }
}

fn simulator_options(
    reader: &mut Reader,
    section: &str,
    login: u64,
    server: String,
) -> simulator::Options {
    let field = |field: &str| format!("{section}.terminal.{field}");
    let balance = reader.value(&field("balance"), 10_000.0);
    if balance < 0.0 {
        reader.fault(&field("balance"), "expected an amount from 0 up");
    }
    let commission = reader.value(&field("commission"), 0.0);
    if commission < 0.0 {
        reader.fault(&field("commission"), "expected an amount from 0 up");
    }
    let margin_mode = choice(
        reader,
        &field("margin_mode"),
        &[("hedging", MarginMode::Hedging), ("netting", MarginMode::Netting)],
    );
    simulator::Options {
        login,
        server,
        seed: reader.value(&field("seed"), 1),
        balance,
        margin_mode,
        commission,
        bars: bars(reader, &field("bars")),
        latency: duration(reader, &field("latency"), Duration::ZERO, HOUR),
        faults: faults(reader, &field("faults")),
    }
}

fn bars(reader: &mut Reader, section: &str) -> BTreeMap<String, Arc<Replay>> {
    let mut bars = BTreeMap::new();
    for name in reader.rest(section) {
        let key = format!("{section}.{name}");
        // Names from the environment come in lower case.
        let symbol = simulator::symbols().find(|symbol| symbol.eq_ignore_ascii_case(&name));
        let Some(path) = reader.file(&key) else {
            continue;
        };
        let Some(symbol) = symbol else {
            let known: Vec<&str> = simulator::symbols().collect();
            reader.fault(&key, format!("expected a simulated symbol: {}", known.join(", ")));
            continue;
        };
        match Replay::load(&path) {
            Ok(replay) => {
                bars.insert(symbol.to_owned(), Arc::new(replay));
            }
            Err(fault) => reader.fault(&key, fault),
        }
    }
    bars
}

fn faults(reader: &mut Reader, section: &str) -> BTreeMap<Method, InjectedFault> {
    let mut faults = BTreeMap::new();
    for name in reader.names(section) {
        let field = |field: &str| format!("{section}.{name}.{field}");
        let every = reader.value(&field("every"), 1u64);
        if every == 0 {
            reader.fault(&field("every"), format!("expected {} above 0", u64::EXPECTED));
        }
        let kinds = ["code", "hang", "exit", "retcode"].map(|kind| (kind, kind));
        let kind = match required_choice(reader, &field("kind"), &kinds) {
            None => {
                reader.skip(&format!("{section}.{name}"));
                continue;
            }
            Some("hang") => FaultKind::Hang,
            Some("exit") => FaultKind::Exit,
            Some("retcode") => {
                let code: Option<i64> = reader.required(&field("code"));
                let retcode = Retcode::from_code(code.unwrap_or_default());
                let fits = name == Method::OrderSend.name() && retcode != Retcode::Other;
                if code.is_some() && !fits {
                    reader.fault(
                        &field("code"),
                        "expected a return code of the trade server, such as 10018, for order_send",
                    );
                }
                FaultKind::Retcode(retcode)
            }
            Some(_) => {
                let code: i64 = reader.value(&field("code"), -1);
                let message = reader.value(&field("message"), "simulated fault".to_owned());
                FaultKind::Error(Error::new(code, message))
            }
        };
        let when = [("before", false), ("after", true)];
        let after = choice(reader, &field("when"), &when);
        match Method::from_name(&name) {
            Some(method) => {
                faults.insert(method, InjectedFault { kind, every: every.max(1), after });
            }
            None => reader.fault(&field("kind"), format!("there is no MT5 method `{name}`")),
        }
    }
    faults
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
        // What the warning proposes means what it says.
        for (name, hours) in [("UTC+3", 3), ("GMT+3", 3), ("UTC-3", -3), ("Etc/GMT-3", 3)] {
            let clock = ServerClock::parse(name).unwrap();
            assert_eq!(clock.from_utc().unwrap()(1_000_000) - 1_000_000, hours * 3600, "{name}");
        }
    }

    #[test]
    fn latency_warning_is_about_four_calls_that_take_as_long_as_a_trade_has() {
        let milliseconds = Duration::from_millis;
        let cases = [
            (5_000, 0, false),
            (5_000, 1_249, false),
            (5_000, 1_250, true),
            (3_000, 749, false),
            (3_000, 750, true),
            (60_000, 5_000, false),
        ];
        for (send_within, latency, warns) in cases {
            let warning = latency_warning(milliseconds(send_within), milliseconds(latency));
            assert_eq!(warning.is_some(), warns, "{send_within} {latency}");
        }
        assert_eq!(
            latency_warning(milliseconds(3_000), milliseconds(1_500)).unwrap(),
            "no trade can be sent in time: 4 calls before it take \"6s\", and it must be sent \
             within \"3s\"; write less than \"750ms\""
        );
        assert!(latency_warning(Duration::from_secs(5), Duration::MAX).is_some());
    }
}
