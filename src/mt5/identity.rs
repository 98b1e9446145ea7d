//! Which account a terminal is logged in to.

use super::AccountInfo;

/// An account at a broker: the same number on another server, or a demo account beside a live one,
/// is another account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The account's number.
    pub login: u64,
    /// The broker's server.
    pub server: String,
    /// `ENUM_ACCOUNT_TRADE_MODE`: 0 demo, 1 contest, 2 real. Or [`SIMULATED`]; another negative number is
    /// not known yet.
    pub trade_mode: i64,
}

/// The mode of an account that is simulated, which is none at a broker, whatever its login and server.
pub const SIMULATED: i64 = -2;

/// How the words begin in which a terminal that shows another login or server is reported, here and in
/// the worker.
const OTHER_ACCOUNT: &str = "the terminal is logged in to account ";

/// What is said of an account of another kind.
const OTHER_MODE: &str = " has trade mode ";

/// Whether an error of a session says that its terminal shows another account than the configured one.
pub fn is_other_account(message: &str) -> bool {
    message.starts_with(OTHER_ACCOUNT) || message.contains(OTHER_MODE)
}

impl AccountInfo {
    /// The account that the terminal shows.
    pub fn identity(&self) -> Identity {
        let (login, trade_mode) = (self.login, self.trade_mode);
        Identity { login, server: self.server.clone(), trade_mode }
    }
}

impl Identity {
    /// Compares what a terminal shows with the configured login and server and, if it is known from
    /// an earlier login, with the mode.
    ///
    /// A server that is configured by its address (`host:443`) cannot be compared: terminals show
    /// names.
    ///
    /// # Errors
    /// What differs, for the log and for clients.
    pub fn check(&self, login: u64, server: &str, trade_mode: Option<i64>) -> Result<(), String> {
        if self.login != login {
            return Err(format!("{OTHER_ACCOUNT}{} instead of {login}", self.login));
        }
        let by_name = !server.contains(':') && server.parse::<std::net::IpAddr>().is_err();
        if by_name && !self.server.trim().eq_ignore_ascii_case(server.trim()) {
            return Err(format!(
                "{OTHER_ACCOUNT}{login} on server {:?} instead of {server:?}",
                self.server
            ));
        }
        match trade_mode {
            Some(expected) if expected != self.trade_mode => Err(format!(
                "account {login}{OTHER_MODE}{} instead of {expected} (0 demo, 1 contest, 2 real)",
                self.trade_mode
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, is_other_account};

    #[test]
    fn the_worker_says_it_in_the_same_words() {
        let worker = include_str!("../terminal/worker/worker.py");
        assert!(worker.contains(&format!("\"{}%s", super::OTHER_ACCOUNT)));
        assert!(!is_other_account("Authorization failed (-6)"));
    }

    #[test]
    fn an_account_is_its_number_server_and_mode() {
        let shown = Identity { login: 7, server: "Demo-Server".to_owned(), trade_mode: 0 };
        let cases = [
            (7, "Demo-Server", None, None),
            (7, "demo-server ", Some(0), None),
            (7, "mt5.example.org:443", Some(0), None),
            (7, "10.0.0.1", None, None),
            (8, "Demo-Server", None, Some("account 7 instead of 8")),
            (7, "Other-Live", None, Some("instead of \"Other-Live\"")),
            (7, "Demo-Server", Some(2), Some("trade mode 0 instead of 2")),
        ];
        for (login, server, mode, expected) in cases {
            match (shown.check(login, server, mode), expected) {
                (Ok(()), None) => {}
                (Err(fault), Some(expected)) => {
                    assert!(fault.contains(expected) && is_other_account(&fault), "{fault}");
                }
                (result, expected) => panic!("{login} {server}: {result:?}, not {expected:?}"),
            }
        }
    }
}
