//! The configured accounts: who each one is, how its sessions stand, and which of them is the primary.
//!
//! Shared by all; nothing here waits for an actor. [`dispatch`](super::dispatch) makes calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::account_status::{AccountStatus, ErrorReport, LoginReport};
use super::bar_cache::BarCache;
use super::coalescing::Coalescer;
use super::labels::SessionState;
use super::recycling::Due;
use super::routing::{self, SessionLoad};
use super::server_time::ServerTimeFloor;
use super::session_slot::SessionSlot;
use super::tickets::HighestTickets;
use super::timers::Timers;
use super::{AccountOptions, Availability, Recycling, Savings};
use crate::account_name::AccountName;
use crate::actor::{Address, Depths};
use crate::metrics::{AccountId, Catalog, Event, Metrics};
use crate::mt5::{AccountInfo, Identity, ServerClock};
use crate::terminal::{Launch, Mode};

/// The part of `send_within` after which trades do not wait any longer for a primary session that
/// is on one call, while another one is idle.
const HAND_OVER_PART: u32 = 5;

/// `ACCOUNT_MARGIN_MODE_RETAIL_HEDGING`.
const MARGIN_MODE_HEDGING: i64 = 2;

/// Every configured account.
pub struct Accounts {
    accounts: BTreeMap<AccountName, Arc<Account>>,
}

impl Accounts {
    /// The directory of these accounts, none of them ready.
    pub fn new(
        accounts: Vec<AccountOptions>,
        savings: Savings,
        catalog: &Catalog,
        metrics: &Metrics,
        depths: &Depths,
    ) -> Accounts {
        let cache = (savings.cache > 0).then(|| BarCache::new(savings.cache));
        let accounts = accounts.into_iter().enumerate().map(|(index, options)| {
            let id = AccountId(index);
            let slots = (0..options.sessions)
                .map(|index| {
                    let address = Address::of_session(&options.name, index, depths);
                    SessionSlot::new(options.queue, catalog.queue(id), address)
                })
                .collect();
            let account = Account {
                id,
                name: options.name,
                login: options.login,
                server: options.server,
                trade: options.trade,
                send_within: options.send_within,
                send_within_close: options.send_within_close,
                clock: options.clock,
                server_time: ServerTimeFloor::default(),
                trade_mode: Mutex::new(None),
                hedging: AtomicBool::new(false),
                highest: HighestTickets::default(),
                coalescer: savings.share.then(Coalescer::default),
                timers: Timers::default(),
                cache: cache.clone(),
                launcher: options.launcher,
                recycling: options.recycling,
                searches: AtomicUsize::new(0),
                slots,
                primary: Mutex::new(None),
                availability: Mutex::new(Availability::new(Timestamp::now())),
                metrics: metrics.clone(),
            };
            (account.name.clone(), Arc::new(account))
        });
        Accounts { accounts: accounts.collect() }
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.get(name)
    }

    /// The account of this place in the configuration.
    pub(super) fn by_id(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.iter().find(|account| account.id == id)
    }

    /// Every account, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }
}

/// An account and its sessions.
pub struct Account {
    /// Its place in the configuration.
    pub id: AccountId,
    /// Its name in URLs.
    pub name: AccountName,
    /// Its number at the broker.
    pub login: u64,
    /// Its broker's server.
    pub server: String,
    /// Whether it may trade.
    pub trade: bool,
    /// From a trade's arrival until `order_send` has to be called, at most.
    pub send_within: Duration,
    /// The same for trades that only reduce risk.
    pub send_within_close: Duration,
    /// The clock of its broker's server. Everything above this room is in UTC
    /// if its zone is known, but for what trading asks ([`Account::call_raw`]).
    pub(super) clock: ServerClock,
    /// What the server's clock shows, as far as ticks have told.
    pub(super) server_time: ServerTimeFloor,
    /// `ENUM_ACCOUNT_TRADE_MODE` as the first login showed it: part of who the account is.
    trade_mode: Mutex<Option<i64>>,
    hedging: AtomicBool,
    pub(super) highest: HighestTickets,
    /// `None`: each read is a call of its own.
    pub(super) coalescer: Option<Coalescer>,
    pub(super) timers: Timers,
    /// `None`: nothing is kept.
    pub(super) cache: Option<BarCache>,
    pub(super) launcher: Arc<dyn Launch>,
    recycling: Recycling,
    /// Lost trades that are being searched for and may be found.
    searches: AtomicUsize,
    pub(super) slots: Vec<SessionSlot>,
    /// The session that trades. It changes when it stops being ready, or when it hangs and an idle one takes over.
    primary: Mutex<Option<usize>>,
    availability: Mutex<Availability>,
    pub(super) metrics: Metrics,
}

impl Account {
    /// Whether its terminals are real.
    pub fn mode(&self) -> Mode {
        self.launcher.mode()
    }

    /// Whether a session is ready.
    pub fn is_ready(&self) -> bool {
        self.slots.iter().any(SessionSlot::is_ready)
    }

    /// How many of its sessions are ready (all, some or none), and since when that has been so.
    pub fn availability(&self) -> Availability {
        *self.availability.lock()
    }

    /// Where each session stands.
    pub fn status(&self) -> AccountStatus {
        let primary = self.primary();
        let sessions = self.slots.iter().enumerate();
        AccountStatus {
            name: self.name.clone(),
            login: self.login,
            server: self.server.clone(),
            mode: self.mode(),
            trade: self.trade,
            ready: self.is_ready(),
            server_time_zone: self.clock.zone().map(str::to_owned),
            sessions: sessions.map(|(index, slot)| slot.report(primary == Some(index))).collect(),
        }
    }

    /// The account's identity, as far as it is known.
    pub fn identity(&self) -> Identity {
        let trade_mode = self.trade_mode.lock().unwrap_or(-1);
        Identity { login: self.login, server: self.server.clone(), trade_mode }
    }

    /// Compares what a terminal shows with the account. The mode of the first login is kept, so that
    /// the same number among another kind of accounts is recognised.
    ///
    /// # Errors
    /// What differs.
    pub fn check_identity(&self, info: &AccountInfo) -> Result<(), String> {
        let mut trade_mode = self.trade_mode.lock();
        info.identity().check(self.login, &self.server, *trade_mode)?;
        *trade_mode = Some(info.trade_mode);
        self.hedging.store(info.margin_mode == MARGIN_MODE_HEDGING, Ordering::Relaxed);
        Ok(())
    }

    /// How long it takes until a session is expected to be ready: a second while one is ready or on
    /// its way, else until the next start.
    pub fn ready_in(&self) -> Duration {
        const SOON: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let delays = self.slots.iter().map(|slot| match slot.status().retry_at {
            Some(at) => at.saturating_duration_since(now).max(SOON),
            None => SOON,
        });
        delays.min().unwrap_or(SOON)
    }

    /// Whether each deal opens a position of its own.
    pub fn is_hedging(&self) -> bool {
        self.hedging.load(Ordering::Relaxed)
    }

    /// Whether an identity is this account's, as far as login and server tell. Rows from before servers
    /// were recorded have none.
    pub fn is_of(&self, identity: &Identity) -> bool {
        let server = &identity.server;
        identity.login == self.login
            && (server.is_empty() || server.eq_ignore_ascii_case(&self.server))
    }

    /// Notes how many lost trades are being searched for that a further look may decide.
    pub fn set_searches(&self, open: usize) {
        self.searches.store(open, Ordering::Relaxed);
    }

    /// Notes that a trade was lost, whose search begins.
    pub fn note_search(&self) {
        self.searches.fetch_max(1, Ordering::Relaxed);
    }

    /// The session whose terminal is to be replaced now although it works, and why. None while a trade
    /// waits, is under way or is searched for, or while another session does not serve.
    pub(super) fn due_for_recycling(&self, now: Timestamp) -> Option<(usize, Due)> {
        if self.recycling == Recycling::default() || self.searches.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if !self.loads().all(|load| load.ready && !load.trading) {
            return None;
        }
        (0..self.slots.len()).find_map(|index| {
            let running = self.metrics.watchlist().figures(self.id, index)?;
            Some((index, self.recycling.due(running, now)?))
        })
    }

    /// Reports how many sessions are in each state, and how many terminals hear their broker. Whole
    /// states, so that a report that is lost is made good by the next.
    pub(super) fn announce(&self) {
        // Reports leave in the order of what they report.
        let mut availability = self.availability.lock();
        let mut states: Vec<_> = SessionState::ALL.iter().map(|state| (state.name(), 0)).collect();
        let mut connected = 0;
        for slot in &self.slots {
            let status = slot.status();
            states[status.state as usize].1 += 1;
            connected += i64::from(status.connected);
        }
        let ready = usize::try_from(states[SessionState::Ready as usize].1).unwrap_or_default();
        *availability = availability.after(ready, self.slots.len(), Timestamp::now());
        self.metrics.record(Event::Sessions { account: self.id, states, connected });
    }
}

// === the primary session, and others

impl Account {
    /// The session for a read that any terminal may answer.
    pub(super) fn least_loaded(&self, except: Option<usize>) -> Option<usize> {
        routing::least_loaded(self.loads(), except)
    }

    fn primary(&self) -> Option<usize> {
        *self.primary.lock()
    }

    /// The primary session, or the one that takes over from it because it has been on one call for
    /// too long.
    pub(super) fn primary_or_successor(&self, urgent: bool) -> Option<usize> {
        let primary = self.primary()?;
        let stuck = self.has_several_sessions()
            && routing::is_stuck(&self.slots[primary].load(), self.hand_over_after(), urgent);
        if stuck && self.hand_primary_over(primary) { self.primary() } else { Some(primary) }
    }

    /// Makes another session the primary if this one is, has been on one call for too long, and the
    /// other is ready and idle. Gives whether it did.
    pub(super) fn hand_primary_over(&self, from: usize) -> bool {
        let mut primary = self.primary.lock();
        if *primary != Some(from) {
            return false;
        }
        let Some(to) = routing::successor(from, self.loads(), self.hand_over_after()) else {
            return false;
        };
        *primary = Some(to);
        true
    }

    /// Which session is the primary and since when it is ready: the same answer before and after
    /// means that its terminal was connected all the time.
    pub fn primary_since(&self) -> Option<(usize, Timestamp)> {
        let primary = self.primary()?;
        let status = self.slots[primary].status();
        (status.state == SessionState::Ready).then_some((primary, status.since))
    }

    fn loads(&self) -> impl Iterator<Item = SessionLoad> {
        self.slots.iter().map(SessionSlot::load)
    }

    /// Whether another session can take over from the primary.
    pub fn has_several_sessions(&self) -> bool {
        self.slots.len() > 1
    }

    /// For how long a primary session may be on one call before trades go elsewhere.
    pub fn hand_over_after(&self) -> Duration {
        self.send_within / HAND_OVER_PART
    }

    /// Whether a session is the one that trades.
    pub(super) fn is_primary(&self, index: usize) -> bool {
        self.primary() == Some(index)
    }

    /// Notes that a session has no actor, and so no terminal.
    pub(super) fn vacate(&self, index: usize, to: SessionState, retry_at: Option<Instant>) {
        self.set_connected(index, false);
        self.slots[index].set_busy_since(None, false);
        self.set_state(index, to, retry_at);
    }

    /// Notes a session's new state and keeps the primary right.
    pub(super) fn set_state(&self, index: usize, to: SessionState, retry_at: Option<Instant>) {
        self.slots[index].set_state(to, retry_at);
        self.announce();
        let mut primary = self.primary.lock();
        *primary = routing::elect(*primary, self.slots.iter().map(SessionSlot::is_ready));
    }

    /// Notes whether a session's terminal is connected to its broker.
    pub(super) fn set_connected(&self, index: usize, connected: bool) {
        self.slots[index].status().connected = connected;
        self.announce();
    }

    pub(super) fn note_restart(&self, index: usize) {
        self.slots[index].status().restarts += 1;
    }

    pub(super) fn note_login(&self, index: usize, success: bool) {
        let outcome = if success { "success" } else { "failure" };
        let report = LoginReport { outcome, at: Timestamp::now() };
        self.slots[index].status().last_login = Some(report);
    }

    pub(super) fn note_error(&self, index: usize, message: String) {
        let report = ErrorReport { message, at: Timestamp::now() };
        self.slots[index].status().last_error = Some(report);
    }
}
