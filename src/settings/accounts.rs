//! The settings of accounts and their terminals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Reader, Setting};
use super::{choice, duration, number, positive};
use crate::mt5::{Error, Method, Retcode, ServerClock};
use crate::pool::AccountOptions;
use crate::terminal::simulator::{self, Fault, FaultKind, MarginMode, Replay};
use crate::terminal::{Launch, worker};

/// The account that there is when nobody names one.
const DEMO: &str = "demo";

pub fn take(reader: &mut Reader) -> Vec<AccountOptions> {
    let mut names = reader.names("accounts");
    let demo = names.is_empty();
    if demo {
        names.insert(DEMO.to_owned());
    }
    names.iter().map(|name| account(reader, name, demo)).collect()
}

fn is_name(name: &str) -> bool {
    name.split('_').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

fn account(reader: &mut Reader, name: &str, demo: bool) -> AccountOptions {
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
        (reader.required(&field("login")), reader.required(&field("server")))
    };
    let password = password(reader, &section);
    let sessions = number(reader, &field("sessions"), 1, 1..=64) as usize;
    let queue = number(reader, &field("queue"), 64, 1..=100_000) as usize;
    let kind_key = field("terminal.kind");
    let kind = if demo {
        reader.value(&kind_key, "simulator".to_owned())
    } else {
        reader.required::<String>(&kind_key)
    };
    let trade = reader.value(&field("trade"), kind == "simulator");
    let clock = clock(reader, &field("server_time_zone"));
    let launcher: Arc<dyn Launch> = match kind.as_str() {
        "worker" => {
            if password.is_none() {
                reader.fault(
                    &field("password"),
                    "is missing: expected `password` or `password_file`",
                );
            }
            let password = password.unwrap_or_default();
            Arc::new(worker::Launcher(worker_options(
                reader,
                name,
                login,
                server.clone(),
                password,
            )))
        }
        other => {
            if other != "simulator" && !other.is_empty() {
                reader.fault(&kind_key, "expected one of simulator, worker");
            }
            let options = simulator_options(reader, &section, login, server.clone());
            Arc::new(simulator::Launcher::new(options))
        }
    };
    AccountOptions { name: name.to_owned(), login, server, sessions, queue, trade, clock, launcher }
}

fn clock(reader: &mut Reader, key: &str) -> ServerClock {
    let Some(name) = reader.optional::<String>(key) else {
        return ServerClock::RAW;
    };
    ServerClock::parse(&name).unwrap_or_else(|fault| {
        reader.fault(key, fault);
        ServerClock::RAW
    })
}

fn password(reader: &mut Reader, section: &str) -> Option<String> {
    let (key, file_key) = (format!("{section}.password"), format!("{section}.password_file"));
    let password = reader.secret(&key);
    let file: Option<PathBuf> = reader.optional(&file_key);
    match (password, file) {
        (Some(_), Some(_)) => {
            reader.fault(&file_key, "expected either `password` or `password_file`, not both");
            None
        }
        (password, None) => password,
        (None, Some(file)) => match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                reader.fault(&file_key, format!("{} cannot be read: {error}", file.display()));
                None
            }
        },
    }
}

fn worker_options(
    reader: &mut Reader,
    account: &str,
    login: u64,
    server: String,
    password: String,
) -> worker::Options {
    let field = |field: &str| format!("accounts.{account}.terminal.{field}");
    let python: Vec<String> = reader.value(&field("python"), vec!["python".to_owned()]);
    if python.is_empty() {
        reader.fault(
            &field("python"),
            "expected a command, such as \"python\" or [\"wine64\", \"python.exe\"]",
        );
    }
    let module = reader.value(&field("module"), "MetaTrader5".to_owned());
    let host: Option<String> = reader.optional(&field("connect.host"));
    let port: Option<u64> = reader.optional(&field("connect.port"));
    let connect = host.zip(port).map(|(host, port)| {
        let port = u16::try_from(port).unwrap_or_else(|_| {
            reader.fault(&field("connect.port"), "expected a port from 1 to 65535");
            0
        });
        worker::Connect { host, port }
    });
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
        init_timeout: positive(reader, &field("init_timeout"), Duration::from_secs(60)),
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
        latency: duration(reader, &field("latency"), Duration::ZERO),
        faults: faults(reader, &field("faults")),
    }
}

fn bars(reader: &mut Reader, section: &str) -> BTreeMap<String, Arc<Replay>> {
    let mut bars = BTreeMap::new();
    for name in reader.rest(section) {
        let key = format!("{section}.{name}");
        // Names from the environment come in lower case.
        let symbol = simulator::symbols().find(|symbol| symbol.eq_ignore_ascii_case(&name));
        let Some(path) = reader.optional::<PathBuf>(&key) else {
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

fn faults(reader: &mut Reader, section: &str) -> BTreeMap<Method, Fault> {
    let mut faults = BTreeMap::new();
    for name in reader.names(section) {
        let field = |field: &str| format!("{section}.{name}.{field}");
        let kind: String = reader.required(&field("kind"));
        let every = reader.value(&field("every"), 1u64);
        if every == 0 {
            reader.fault(&field("every"), format!("expected {} above 0", u64::EXPECTED));
        }
        let kind = match kind.as_str() {
            "hang" => FaultKind::Hang,
            "exit" => FaultKind::Exit,
            "retcode" => {
                let code: i64 = reader.required(&field("code"));
                let retcode = Retcode::from_code(code);
                if name != Method::OrderSend.name() || retcode == Retcode::Other {
                    reader.fault(
                        &field("code"),
                        "expected a return code of the trade server, such as 10018, for order_send",
                    );
                }
                FaultKind::Retcode(retcode)
            }
            other => {
                if other != "code" && !other.is_empty() {
                    reader.fault(&field("kind"), "expected one of code, hang, exit, retcode");
                }
                let code: i64 = reader.value(&field("code"), -1);
                let message = reader.value(&field("message"), "simulated fault".to_owned());
                FaultKind::Error(Error::new(code, message))
            }
        };
        let when = [("before", false), ("after", true)];
        let after = choice(reader, &field("when"), &when);
        match Method::from_name(&name) {
            Some(method) => {
                faults.insert(method, Fault { kind, every: every.max(1), after });
            }
            None => reader.fault(&field("kind"), format!("there is no MT5 method `{name}`")),
        }
    }
    faults
}
