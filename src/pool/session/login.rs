//! From a started terminal to a ready session: initialize, the account, the broker.

use tokio::time::Instant;

use crate::mt5::Request;

/// What is known about the login of the running terminal.
#[derive(Debug, Default)]
pub struct Login {
    /// When the terminal took its first call.
    pub began: Option<Instant>,
    /// Whether `initialize` worked.
    pub initialized: bool,
    /// Whether the terminal showed the configured account, and has not lost its broker since.
    pub verified: bool,
    /// Whether the terminal is connected to its broker.
    pub connected: bool,
    /// Whether the terminal has lost its broker. What it says about the account meanwhile does not
    /// count: another one may be logged in when the broker is back.
    pub lost: bool,
    /// Whether the login was reported, which happens once a terminal.
    pub reported: bool,
}

impl Login {
    /// The next call on the way to ready; `None`: nothing is missed.
    pub fn next(&self) -> Option<Request> {
        if !self.initialized {
            Some(Request::Initialize)
        } else if !self.verified {
            Some(Request::AccountInfo)
        } else if !self.connected {
            Some(Request::TerminalInfo)
        } else {
            None
        }
    }

    /// Whether answers are about the configured account, from a terminal that hears its broker.
    pub fn is_complete(&self) -> bool {
        self.next().is_none()
    }

    /// The broker is gone.
    pub fn lose_broker(&mut self) {
        self.connected = false;
        self.verified = false;
        self.lost = true;
    }

    /// The terminal is connected to its broker.
    pub fn find_broker(&mut self) {
        self.connected = true;
        self.lost = false;
    }

    /// The terminal showed the configured account.
    pub fn verify(&mut self) {
        self.verified = !self.lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_follows_the_one_before_and_a_lost_broker_means_looking_at_the_account_again() {
        let mut login = Login::default();
        assert_eq!(login.next(), Some(Request::Initialize));
        login.initialized = true;
        assert_eq!(login.next(), Some(Request::AccountInfo));
        login.verify();
        assert_eq!(login.next(), Some(Request::TerminalInfo));
        login.find_broker();
        assert!(login.is_complete());
        login.lose_broker();
        login.verify();
        assert_eq!(login.next(), Some(Request::AccountInfo), "looked at too early");
        login.find_broker();
        assert_eq!(login.next(), Some(Request::AccountInfo));
        login.verify();
        assert!(login.is_complete());
    }
}
