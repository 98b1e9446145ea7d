//! What a gateway shows of an account: the evidence.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::mt5::{AccountInfo, TickLook, Version};
use crate::settings::PauseOrigin;
use crate::terminal::worker::Examination;

/// How an account is configured.
#[derive(Debug, Clone)]
pub struct Configured {
    /// Whether it is to trade.
    pub trade: bool,
    /// What has it paused. `None`: nothing.
    pub pause: Option<PauseOrigin>,
}

/// How an account's terminal is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// It is installed on this machine.
    Installed,
    /// It is copied from a template, or why that is none.
    Copied(Result<(), String>),
    /// It is on another machine, or behind a server.
    Remote,
    /// The settings do not tell.
    Unknown,
}

impl Reached {
    /// As it was found here.
    pub fn of(look: &Examination) -> Reached {
        match (&look.template, &look.remote) {
            (Some(template), _) => Reached::Copied(template.clone().map(drop)),
            (None, Some(_)) => Reached::Remote,
            (None, None) => Reached::Installed,
        }
    }
}

/// What could be seen of an account.
#[derive(Debug)]
pub enum Sight {
    /// A gateway shows it.
    Shown(Box<Shown>),
    /// A gateway shows what it shows without a key.
    Public(ReadyShown),
    /// The gateway does not have it, or the key may not see it.
    Absent,
    /// Nobody could be asked.
    Unseen {
        /// Why not.
        why: String,
        /// What to do about that.
        remedy: Option<String>,
    },
}

/// What a gateway shows of an account.
#[derive(Debug)]
pub struct Shown {
    pub status: Status,
    /// Whether doctor itself has started it, without the right to trade.
    pub is_own: bool,
    /// What its terminal says. `None`: it was not asked, because no session is ready.
    pub terminal: Option<TerminalShown>,
}

/// What `GET /api/v1/accounts` says of an account.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    pub name: String,
    pub trade: bool,
    pub paused: bool,
    pub ready: bool,
    pub server_time_zone: Option<String>,
    /// What the gateway has seen against that zone.
    #[serde(default)]
    pub server_time_warning: Option<String>,
    pub sessions: Vec<SessionShown>,
    pub trading: TradingShown,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SessionShown {
    pub state: String,
    /// Whether its terminal is being copied, as far as doctor itself has that done.
    #[serde(skip)]
    pub is_being_copied: bool,
    pub since: String,
    pub last_login: Option<LoginShown>,
    pub last_error: Option<ErrorShown>,
}

impl SessionShown {
    /// Whether it has failed since it was logged in last.
    pub fn has_failed(&self) -> bool {
        let logged_in = self.last_login.as_ref().filter(|login| login.outcome == "success");
        let error = self.last_error.as_ref();
        error.is_some_and(|error| logged_in.is_none_or(|login| login.at < error.at))
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct LoginShown {
    pub outcome: String,
    pub at: jiff::Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ErrorShown {
    pub message: String,
    pub at: jiff::Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TradingShown {
    pub open: ActionShown,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ActionShown {
    pub reasons: Vec<String>,
}

/// What `/readyz` says of an account, without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyShown {
    pub ready: usize,
    pub sessions: usize,
    /// Why it may not trade. `None`: that was not said.
    pub reasons: Option<Vec<String>>,
}

/// What an account's terminal says, or why it does not.
#[derive(Debug)]
pub struct TerminalShown {
    pub version: Result<Version, String>,
    pub account: Result<AccountInfo, String>,
    pub symbols: Result<MarketWatch, String>,
    /// Looks at the newest ticks of some symbols, in server time.
    pub looks: BTreeMap<String, Vec<TickLook>>,
}

/// The symbols of a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketWatch {
    /// How many it knows.
    pub known: usize,
    /// Those that are shown, with their last prices.
    pub shown: Vec<QuoteShown>,
}

/// A symbol in Market Watch.
#[derive(Debug, Clone, PartialEq)]
pub struct QuoteShown {
    pub symbol: String,
    pub bid: f64,
    pub ask: f64,
    /// Its last change in unix seconds: of UTC if the account's zone is known. 0: never.
    pub time: i64,
}

impl MarketWatch {
    /// Symbols with a price, the newest first.
    pub fn quotes(&self) -> Vec<&QuoteShown> {
        let has_price =
            |quote: &&QuoteShown| quote.time > 0 && (quote.bid > 0.0 || quote.ask > 0.0);
        let mut quotes: Vec<&QuoteShown> = self.shown.iter().filter(has_price).collect();
        quotes.sort_by_key(|quote| std::cmp::Reverse(quote.time));
        quotes
    }
}
