//! A terminal behind a Python worker: `terminal.kind = "worker"`.

use std::net::Ipv6Addr;
use std::time::Duration;

use secrecy::SecretString;

use crate::settings::limits::{HOUR, number, positive};
use crate::settings::reader::Reader;
use crate::settings::sections::KeptTerminals;
use crate::terminal::worker;

/// The package that MetaQuotes publishes.
const MODULE: &str = "MetaTrader5";

/// Takes a terminal of an account, which has a name, a login, a server and a password.
pub fn options(
    reader: &mut Reader,
    section: &str,
    (account, login, server, password): (String, u64, String, SecretString),
    terminals: &KeptTerminals,
) -> worker::Options {
    let field = |field: &str| format!("{section}.{field}");
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
    let template = template(reader, section, terminals);
    let connect = connect(reader, &field("connect"));
    if matches!(connect, Some(worker::Connect::Attribute(_))) && !module.contains(':') {
        let message = format!(
            "`{}` names no attribute that it is passed to, such as \"mt5linux:MetaTrader5\"; an RPyC \
             server needs none: write `connect = {{ rpyc = \"HOST:PORT\" }}`",
            field("module")
        );
        reader.fault(&field("connect.host"), message);
    }
    worker::Options {
        account,
        login,
        password,
        server,
        python,
        module,
        connect,
        path: reader.optional(&field("path")),
        portable: reader.value(&field("portable"), false),
        init_timeout: positive(reader, &field("init_timeout"), Duration::from_secs(60), HOUR),
        template,
    }
}

/// Takes what the account's terminals are copied from. `None`: nothing, or a fault was noted.
fn template(
    reader: &mut Reader,
    section: &str,
    terminals: &KeptTerminals,
) -> Option<worker::Template> {
    let field = |field: &str| format!("{section}.{field}");
    let (key, bars_key) = (field("template"), field("max_bars"));
    if !reader.has(&key) {
        if reader.has(&bars_key) {
            let _: Option<u64> = reader.optional(&bars_key);
            reader.fault(&bars_key, "is for copies of a `template`, which is not set");
        }
        return None;
    }
    for other in ["path", "portable"] {
        if reader.has(&field(other)) {
            let message = format!("expected either `template`, or `{other}`: a copy has its own");
            reader.fault(&key, message);
        }
    }
    if reader.has_section(&field("connect")) {
        let message = "expected either `template`, or `connect`: a terminal on another machine cannot be \
                       copied from here";
        reader.fault(&key, message);
    }
    let max_bars = number(reader, &bars_key, 100_000, 1_000..=100_000_000);
    let folder = reader.file(&key)?;
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let directory = terminals.shared.directory();
    if folder.starts_with(directory) || directory.starts_with(&folder) {
        let message = format!(
            "expected a folder beside `terminals.directory` ({}), neither in it nor around it",
            directory.display()
        );
        reader.fault(&key, message);
    }
    Some(worker::Template {
        folder,
        max_bars,
        terminals: terminals.shared.clone(),
        interval: terminals.interval,
    })
}

fn is_module(module: &str) -> bool {
    let is_identifier = |name: &str| {
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let (path, attribute) = module.split_once(':').unwrap_or((module, "attribute"));
    path.split('.').all(is_identifier) && is_identifier(attribute)
}

/// Takes how a remote terminal is reached. `None`: there is none, or a fault was noted.
fn connect(reader: &mut Reader, section: &str) -> Option<worker::Connect> {
    if !reader.has_section(section) {
        return None;
    }
    let [host_key, port_key, rpyc_key] =
        ["host", "port", "rpyc"].map(|name| format!("{section}.{name}"));
    if reader.has(&rpyc_key) {
        if reader.has(&host_key) || reader.has(&port_key) {
            let _: Option<String> = reader.optional(&rpyc_key);
            reader.skip(section);
            reader.fault(&rpyc_key, "expected either `rpyc`, or `host` and `port`, not both");
            return None;
        }
        return rpyc(reader, &rpyc_key);
    }
    let host: Option<String> = reader.required(&host_key);
    if host.as_ref().is_some_and(|host| !is_host(host)) {
        reader.fault(&host_key, "expected a host name or an address, such as \"127.0.0.1\"");
    }
    let port: Option<u64> = reader.required(&port_key);
    let (host, port) = host.zip(port)?;
    match u16::try_from(port) {
        Ok(port) if port != 0 => Some(worker::Connect::Attribute(worker::Address { host, port })),
        _ => {
            reader.fault(&port_key, "expected a port from 1 to 65535");
            None
        }
    }
}

/// Takes the address of an RPyC server. `None`: a fault was noted.
fn rpyc(reader: &mut Reader, key: &str) -> Option<worker::Connect> {
    let text: String = reader.optional(key)?;
    let address = address(&text);
    if address.is_none() {
        let expected = "expected a host and a port, such as \"127.0.0.1:18812\" or \"[::1]:18812\"";
        reader.fault(key, expected);
    }
    address.map(worker::Connect::Rpyc)
}

/// Reads a host and a port. An IPv6 address stands in brackets.
fn address(text: &str) -> Option<worker::Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
        None => Some(host).filter(|host| is_host(host) && !host.contains(':'))?.to_owned(),
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(worker::Address { host, port })
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/')
}

/// Warns if Python cannot be found. It is no fault, because it may still be installed.
pub fn warn_of_python(reader: &mut Reader, key: &str, python: &[String]) {
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

/// Refuses more sessions than there are terminals: MT5 runs one terminal per data directory.
pub fn check_sessions(reader: &mut Reader, key: &str, sessions: usize, options: &worker::Options) {
    if sessions < 2 || options.template.is_some() {
        return;
    }
    if options.portable && options.path.is_some() {
        reader.fault(
            key,
            "a portable terminal is one terminal: expected 1, or a `terminal.module` that reaches \
             several without `terminal.path`",
        );
    } else if let Some(worker::Connect::Rpyc(address)) = &options.connect {
        let message = format!(
            "the RPyC server at {address} has one terminal, which all {sessions} sessions would \
             share: probably 1 is meant"
        );
        reader.warn(key, message);
    } else if options.module == MODULE {
        let message = format!(
            "`{MODULE}` reaches one terminal, which all {sessions} sessions would share: probably 1 \
             is meant, or `terminal.template`, of which each has a copy"
        );
        reader.warn(key, message);
    }
}

/// Warns if there is no terminal to be copied. It is no fault, because a disk may not be there yet, and
/// copies of before still work.
pub fn warn_of_template(reader: &mut Reader, key: &str, template: &worker::Template) {
    if let Some(warning) = template.fault() {
        reader.warn(key, warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_with_ipv6_in_brackets() {
        let right = [
            ("127.0.0.1:18812", "127.0.0.1", 18812, "127.0.0.1:18812"),
            ("terminal-main:1", "terminal-main", 1, "terminal-main:1"),
            ("[::1]:65535", "::1", 65535, "[::1]:65535"),
            ("[0:0::1]:8001", "::1", 8001, "[::1]:8001"),
        ];
        for (text, host, port, shown) in right {
            let read = address(text).unwrap_or_else(|| panic!("{text} is refused"));
            assert_eq!((read.host.as_str(), read.port), (host, port));
            assert_eq!(read.to_string(), shown);
        }
        let wrong = [
            "",
            ":",
            "h",
            "h:",
            ":1",
            "h:0",
            "h:65536",
            "h:x",
            "h:-1",
            "::1:18812",
            "[::1]",
            "[h]:1",
            "[::1:1",
            "a b:1",
            "tcp://h:1",
            "h:1:2",
        ];
        for text in wrong {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
