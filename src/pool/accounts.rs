//! The accounts that are served: who each one is, how its sessions stand, and which of them is the primary.
//!
//! Shared by all; nothing here waits for an actor. [`dispatch`](super::dispatch) makes calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::account_status::{AccountMoney, AccountStatus, ErrorReport, LoginReport};
use super::bar_cache::BarCache;
use super::clock_watch::ClockWatch;
use super::coalescing::Coalescer;
use super::equity_history::EquityHistory;
use super::labels::{RestartReason, SessionState};
use super::recycling::Due;
use super::routing::{self, SessionLoad};
use super::server_time::ServerTimeFloor;
use super::session_slot::SessionSlot;
use super::standing::Door;
use super::tickets::HighestTickets;
use super::timers::Timers;
use super::trade_permission::{TradeBlock, TradeFlags};
use super::{AccountOptions, Availability, Recycling, Savings};
use crate::account_name::AccountName;
use crate::actor::{Address, Depths};
use crate::metrics::{AccountFigures, AccountId, Catalog, Event, Metrics};
use crate::mt5::{AccountInfo, AccountValues, Identity, Method, SIMULATED, ServerClock};
use crate::terminal::{Launch, Mode};

/// The part of `send_within` after which trades do not wait any longer for a primary session that
/// is on one call, while another one is idle.
const HAND_OVER_PART: u32 = 5;

/// The reasons against trading that this room finds.
const POOL_BLOCKS: [TradeBlock; 7] = [
    TradeBlock::AccountSetting,
    TradeBlock::AutotradingOff,
    TradeBlock::ApiTradingOff,
    TradeBlock::InvestorLogin,
    TradeBlock::AccountTradeDisabled,
    TradeBlock::ExpertsDisabled,
    TradeBlock::NotConnected,
];

/// `ACCOUNT_MARGIN_MODE_RETAIL_HEDGING`.
const MARGIN_MODE_HEDGING: i64 = 2;

/// The accounts at one moment, by name.
pub type Directory = BTreeMap<AccountName, Arc<Account>>;

/// The accounts that are served. They come and go; a reader sees those of one moment.
pub struct Accounts {
    directory: ArcSwap<Directory>,
    next_id: AtomicUsize,
    share: bool,
    cache: Option<BarCache>,
    catalog: Arc<Catalog>,
    metrics: Metrics,
    depths: Depths,
}

impl Accounts {
    /// The directory of these accounts, none of them ready. The catalog has them already.
    pub fn new(
        accounts: Vec<AccountOptions>,
        savings: Savings,
        catalog: &Arc<Catalog>,
        metrics: &Metrics,
        depths: &Depths,
    ) -> Accounts {
        let directory = Accounts {
            directory: ArcSwap::default(),
            next_id: AtomicUsize::default(),
            share: savings.share,
            cache: (savings.cache > 0).then(|| BarCache::new(savings.cache)),
            catalog: catalog.clone(),
            metrics: metrics.clone(),
            depths: depths.clone(),
        };
        for options in accounts {
            directory.insert(directory.make(options));
        }
        directory
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Account>> {
        self.directory.load().get(name).cloned()
    }

    /// The account of this id.
    pub(super) fn by_id(&self, id: AccountId) -> Option<Arc<Account>> {
        self.directory.load().values().find(|account| account.id == id).cloned()
    }

    /// Every account, by name.
    pub fn all(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Makes an account that clients do not see yet. Its metrics are there from now on.
    pub fn make(&self, options: AccountOptions) -> Arc<Account> {
        let id = AccountId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.catalog.add_account(id, &options.name, options.sessions);
        let slots = (0..options.sessions)
            .map(|index| {
                let address = Address::of_session(&options.name, index, &self.depths);
                SessionSlot::new(options.queue, self.catalog.queue(id), address)
            })
            .collect();
        Arc::new(Account {
            id,
            name: options.name,
            login: options.login,
            server: options.server,
            trade: options.trade,
            send_within: options.send_within,
            send_within_close: options.send_within_close,
            clock: options.clock,
            door: Door::new(options.paused),
            server_time: ServerTimeFloor::default(),
            clock_watch: ClockWatch::default(),
            trade_mode: Mutex::new(None),
            hedging: AtomicBool::new(false),
            highest: HighestTickets::default(),
            coalescer: self.share.then(Coalescer::default),
            timers: Timers::default(),
            cache: self.cache.clone(),
            launcher: options.launcher,
            recycling: options.recycling,
            searches: Mutex::default(),
            trades: AtomicUsize::new(0),
            slots,
            primary: Mutex::new(None),
            availability: Mutex::new(Availability::new(Timestamp::now())),
            equity: Mutex::default(),
            metrics: self.metrics.clone(),
        })
    }

    /// Shows an account to clients, in the place of the one of its name.
    pub fn insert(&self, account: Arc<Account>) {
        self.directory.rcu(|directory| {
            let mut directory = Directory::clone(directory);
            directory.insert(account.name.clone(), account.clone());
            directory
        });
    }

    /// Takes an account away, unless another one has its name by now.
    pub fn remove(&self, account: &Account) {
        self.directory.rcu(|directory| {
            let mut directory = Directory::clone(directory);
            if directory.get(&account.name).is_some_and(|present| present.id == account.id) {
                directory.remove(&account.name);
            }
            directory
        });
    }

    /// Removes the metrics of an account that has ended, unless another one has its name by now.
    pub fn forget(&self, account: &Account) {
        self.catalog.remove_account(account.id);
        self.metrics.record(Event::AccountGone(account.id));
    }
}

/// An account and its sessions.
pub struct Account {
    /// Distinguishes it from every other account that there ever was.
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
    /// Whether it takes requests, and which are under way.
    pub door: Door,
    /// What the server's clock shows, as far as ticks have told.
    pub(super) server_time: ServerTimeFloor,
    /// Whether that contradicts the zone.
    pub(super) clock_watch: ClockWatch,
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
    searches: Mutex<Searches>,
    /// Trades that are prepared, sent or written down now.
    trades: AtomicUsize,
    pub(super) slots: Vec<SessionSlot>,
    /// The session that trades. It changes when it stops being ready, or when it hangs and an idle one takes over.
    primary: Mutex<Option<usize>>,
    availability: Mutex<Availability>,
    equity: Mutex<EquityHistory>,
    pub(super) metrics: Metrics,
}

/// The lost trades of an account.
#[derive(Default)]
struct Searches {
    /// That are being searched for, and that a further look may decide.
    open: usize,
    /// That were ever lost.
    lost: u64,
}

/// A trade is under way at an account until this is dropped.
pub struct TradeUnderWay(Arc<Account>);

impl Drop for TradeUnderWay {
    fn drop(&mut self) {
        self.0.trades.fetch_sub(1, Ordering::Relaxed);
    }
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
            paused: !self.door.is_open(),
            ready: self.is_ready(),
            server_time_zone: self.clock.zone().map(str::to_owned),
            server_time_warning: self.server_time_warning(),
            sessions: sessions.map(|(index, slot)| slot.report(primary == Some(index))).collect(),
        }
    }

    /// The account's identity, as far as it is known.
    pub fn identity(&self) -> Identity {
        let trade_mode = match self.mode() {
            Mode::Live => self.trade_mode.lock().unwrap_or(-1),
            Mode::Simulated => SIMULATED,
        };
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

    /// Why nothing can be traded, as far as settings and the primary session's terminal tell.
    pub fn trade_blocks(&self) -> Vec<TradeBlock> {
        let mut blocks = vec![];
        if !self.trade || !self.door.is_open() {
            blocks.push(TradeBlock::AccountSetting);
        }
        match self.primary_since() {
            Some((primary, _)) => blocks.extend(self.slots[primary].status().trade_flags.blocks()),
            None => blocks.push(TradeBlock::NotConnected),
        }
        blocks
    }

    /// Whether an identity is this account's, as far as login and server tell. Rows from before servers
    /// were recorded have none.
    pub fn is_of(&self, identity: &Identity) -> bool {
        let server = &identity.server;
        identity.login == self.login
            && (server.is_empty() || server.eq_ignore_ascii_case(&self.server))
    }

    /// Whether an identity is of a time when this account was simulated, which it is not any more.
    pub fn was_simulated(&self, identity: &Identity) -> bool {
        identity.trade_mode == SIMULATED && self.mode() == Mode::Live
    }

    /// Notes that a trade is under way, until the guard is dropped.
    pub fn begin_trade(self: &Arc<Self>) -> TradeUnderWay {
        self.trades.fetch_add(1, Ordering::Relaxed);
        TradeUnderWay(self.clone())
    }

    /// How many trades were lost until now, to be given with what a look at them finds.
    pub fn lost_trades(&self) -> u64 {
        self.searches.lock().lost
    }

    /// Notes how many lost trades are being searched for that a further look may decide. `lost`: how many
    /// had been lost before the look, which knows nothing of later ones.
    pub fn set_searches(&self, open: usize, lost: u64) {
        let mut searches = self.searches.lock();
        let is_late = searches.lost != lost;
        searches.open = if is_late { open.max(1) } else { open };
    }

    /// Notes that a trade was lost, whose search begins.
    pub fn note_search(&self) {
        let mut searches = self.searches.lock();
        searches.lost += 1;
        searches.open = searches.open.max(1);
    }

    /// Whether a terminal may hold what becomes of a trade.
    fn has_open_trades(&self) -> bool {
        self.trades.load(Ordering::Relaxed) > 0 || self.searches.lock().open > 0
    }

    /// Whether it has this session, with a terminal whose files the gateway makes.
    pub fn has_files_of(&self, session: usize) -> bool {
        self.launcher.provides_files() && session < self.slots.len()
    }

    /// Counts the terminals that it has in the place of another account's of the same name.
    pub fn count_replaced(&self, before: &Account) {
        let reason = RestartReason::Settings.name();
        for _ in self.slots.iter().zip(&before.slots) {
            self.metrics.record(Event::Restarted { account: self.id, reason });
        }
    }

    /// The session whose terminal is to be replaced now although it works, and why. None while a trade
    /// waits, is under way or is searched for, or while another session does not serve.
    pub(super) fn due_for_recycling(&self, now: Timestamp) -> Option<(usize, Due)> {
        let recycles = self.recycling != Recycling::default() || self.launcher.provides_files();
        if !recycles || self.has_open_trades() {
            return None;
        }
        if !self.loads().all(|load| load.ready && !load.trading) {
            return None;
        }
        (0..self.slots.len()).find_map(|index| {
            if self.launcher.is_outdated(index) {
                return Some((index, Due::Template));
            }
            let running = self.metrics.watchlist().figures(self.id, index)?;
            Some((index, self.recycling.due(running, now)?))
        })
    }

    /// Reports how many sessions are in each state, and how many terminals hear their broker. Whole
    /// states, so that a report that is lost is made good by the next.
    pub fn announce(&self) {
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
        let blocks = self.trade_blocks();
        let blocked = POOL_BLOCKS.iter().map(|block| (block.name(), blocks.contains(block)));
        self.metrics.record(Event::TradeBlocked { account: self.id, blocked: blocked.collect() });
        self.announce_figures();
    }

    /// The account's money, as the primary session's terminal showed it last. `None`: no terminal is
    /// ready.
    pub fn money(&self) -> Option<AccountMoney> {
        let (primary, _) = self.primary_since()?;
        let (at, values) = self.slots[primary].status().values.clone()?;
        Some(AccountMoney { at, values, history: self.equity.lock().points() })
    }

    /// Reports what the account has, or that it is not known, and remembers its equity.
    fn announce_figures(&self) {
        let figures = self.primary_since().and_then(|(primary, _)| {
            let status = self.slots[primary].status();
            let (at, values) = status.values.clone()?;
            self.equity.lock().add(at, values.equity);
            let (positions, orders) = (status.positions, status.orders);
            Some(Box::new(AccountFigures { values, positions, orders }))
        });
        self.metrics.record(Event::AccountFigures { account: self.id, figures });
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
        drop(primary);
        // It was not asked for these while it was another session.
        {
            let mut status = self.slots[to].status();
            (status.positions, status.orders) = (None, None);
        }
        // Its terminal may have other switches.
        self.announce();
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
        let mut primary = self.primary.lock();
        *primary = routing::elect(*primary, self.slots.iter().map(SessionSlot::is_ready));
        drop(primary);
        self.announce();
    }

    /// Notes whether a session's terminal is connected to its broker.
    pub(super) fn set_connected(&self, index: usize, connected: bool) {
        self.slots[index].status().connected = connected;
        self.announce();
    }

    /// Notes whether a session's terminal lets the account trade.
    pub(super) fn set_trade_flags(&self, index: usize, flags: TradeFlags) {
        let before = std::mem::replace(&mut self.slots[index].status().trade_flags, flags);
        self.announce();
        let (before, now) = (before.blocks(), flags.blocks());
        if !self.trade || before == now {
            return;
        }
        let (account, session) = (self.name.as_str(), index);
        if now.is_empty() {
            info!(account, session, "terminal may trade");
        } else {
            let reasons: Vec<&str> = now.iter().map(|block| block.name()).collect();
            let remedy: Vec<&str> = now.iter().map(|block| block.remedy()).collect();
            let (reasons, remedy) = (reasons.join(", "), remedy.join("; "));
            warn!(account, session, reasons, remedy, "terminal may not trade");
        }
    }

    /// Notes the account's money as a session's terminal shows it.
    pub(super) fn show_values(&self, index: usize, values: AccountValues) {
        self.slots[index].status().values = Some((Timestamp::now(), values));
        if self.is_primary(index) {
            self.announce_figures();
        }
    }

    /// Notes how many positions or orders a session's terminal shows.
    pub(super) fn show_total(&self, index: usize, method: Method, total: u64) {
        let mut status = self.slots[index].status();
        match method {
            Method::PositionsTotal => status.positions = Some(total),
            _ => status.orders = Some(total),
        }
        drop(status);
        if self.is_primary(index) {
            self.announce_figures();
        }
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
