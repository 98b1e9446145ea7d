//! Accounts that cannot be served beside each other.

use crate::pool::AccountOptions;
use crate::settings::reader::Reader;
use crate::terminal::worker;

/// An account, and the terminal that it uses.
pub struct ParsedAccount {
    pub options: AccountOptions,
    /// `None`: a simulated terminal, which is never shared.
    pub terminal: Option<TerminalIdentity>,
    /// The profile that its terminal is of.
    pub profile: Option<String>,
}

/// Identifies the terminal that a worker reaches: equal ones are one terminal.
#[derive(PartialEq)]
pub enum TerminalIdentity {
    /// That of the package which an RPyC server has imported, once for all that connect.
    OfServer { host: String, port: u16 },
    /// Another.
    At {
        /// The machine, if it is not this one.
        machine: Option<worker::Address>,
        location: TerminalLocation,
    },
}

#[derive(PartialEq)]
pub enum TerminalLocation {
    /// The folder of the executable, where a portable terminal keeps its data.
    Folder(String),
    /// Copies of the account's own.
    Copies { account: String },
    /// The terminal that the Python package finds by itself.
    Found { python: Vec<String>, module: String },
}

impl TerminalIdentity {
    pub fn of(options: &worker::Options) -> TerminalIdentity {
        let machine = match &options.connect {
            Some(worker::Connect::Rpyc(address)) => {
                let host = address.host.to_lowercase();
                return TerminalIdentity::OfServer { host, port: address.port };
            }
            Some(worker::Connect::Attribute(address)) => Some(address.clone()),
            None => None,
        };
        let location = match &options.path {
            _ if options.template.is_some() => {
                TerminalLocation::Copies { account: options.account.clone() }
            }
            Some(path) => TerminalLocation::Folder(folder(&path.to_string_lossy())),
            None => TerminalLocation::Found {
                python: options.python.clone(),
                module: options.module.clone(),
            },
        };
        TerminalIdentity::At { machine, location }
    }
}

/// The folder of a terminal in a canonical form. Paths are Windows paths, under Wine too, so
/// neither case nor the kind of slash matters.
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

impl ParsedAccount {
    fn has_login_of(&self, other: &ParsedAccount) -> bool {
        let (account, other) = (&self.options, &other.options);
        let server = |account: &AccountOptions| account.server.to_lowercase();
        // A missing login or server has a fault of its own.
        let known = account.login != 0 && !account.server.is_empty();
        known && account.login == other.login && server(account) == server(other)
    }

    fn has_terminal_of(&self, other: &ParsedAccount) -> bool {
        self.terminal.is_some() && self.terminal == other.terminal
    }
}

/// Notes a conflict between two accounts as a fault of the later one.
pub fn refuse_conflicts(reader: &mut Reader, accounts: &[ParsedAccount]) {
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
            let other = &other.options.name;
            let (field, own) = match account.terminal {
                Some(TerminalIdentity::OfServer { .. }) => {
                    ("connect.rpyc", "the address of a server of its own, beside another terminal")
                }
                _ => ("path", "the executable of a terminal of its own"),
            };
            let mut key = format!("accounts.{name}.terminal.{field}");
            let remedy = match &account.profile {
                Some(profile) if field == "path" => {
                    key = format!("accounts.{name}.terminal.profile");
                    format!(
                        "give `terminal_profiles.{profile}` a `template` instead of `path`, of which each \
                         account gets a copy, or name a profile with a terminal of its own"
                    )
                }
                _ => format!("set `{key}` to {own}"),
            };
            let message = format!(
                "`accounts.{other}` uses the same terminal, which can be logged in to one account \
                 only: {remedy}"
            );
            reader.fault(&key, message);
        }
    }
}
