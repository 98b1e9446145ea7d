//! The place of one session in its account. It outlives the session's actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::account_status::{ErrorReport, LoginReport, SessionStatus};
use super::call::QueuePermit;
use super::labels::SessionState;
use super::routing::SessionLoad;
use super::session;
use super::trade_permission::TradeFlags;
use crate::actor::Address;
use crate::mt5::AccountValues;
use crate::terminal::Lease;

/// The place of one session.
pub struct SessionSlot {
    pub address: Address<session::Msg>,
    pub lease: Lease,
    queue: usize,
    admission: Arc<Semaphore>,
    /// Trades are admitted apart, so that reads cannot keep them out.
    trade_admission: Arc<Semaphore>,
    depth: Arc<AtomicI64>,
    /// Since when its terminal has been on a call, in milliseconds since `made`; 0: it is on none.
    busy_since: AtomicU64,
    /// Whether that call is the gateway's own search.
    internal: AtomicBool,
    made: Instant,
    status: Mutex<Status>,
}

/// Where a session stands.
#[derive(Debug, Clone)]
pub struct Status {
    pub state: SessionState,
    pub since: Timestamp,
    /// When its next start is due.
    pub retry_at: Option<Instant>,
    pub connected: bool,
    pub trade_flags: TradeFlags,
    /// The account's money, and when the terminal showed it.
    pub values: Option<(Timestamp, AccountValues)>,
    /// How many positions are open.
    pub positions: Option<u64>,
    /// How many orders are pending.
    pub orders: Option<u64>,
    pub restarts: u64,
    pub last_login: Option<LoginReport>,
    pub last_error: Option<ErrorReport>,
}

impl SessionSlot {
    /// The slot of a session that has yet to be started. `queue`: how many reads, and how many trades,
    /// may wait or be under way. `depth` counts them.
    pub fn new(queue: usize, depth: Arc<AtomicI64>, address: Address<session::Msg>) -> SessionSlot {
        SessionSlot {
            address,
            lease: Lease::default(),
            queue,
            admission: Arc::new(Semaphore::new(queue)),
            trade_admission: Arc::new(Semaphore::new(queue)),
            depth,
            busy_since: AtomicU64::new(0),
            internal: AtomicBool::new(false),
            made: Instant::now(),
            status: Mutex::new(Status {
                state: SessionState::Starting,
                since: Timestamp::now(),
                retry_at: None,
                connected: false,
                trade_flags: TradeFlags::default(),
                values: None,
                positions: None,
                orders: None,
                restarts: 0,
                last_login: None,
                last_error: None,
            }),
        }
    }

    /// Its status, locked.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock()
    }

    /// Whether it takes calls.
    pub fn is_ready(&self) -> bool {
        self.status().state == SessionState::Ready
    }

    /// Notes its new state, and when its next start is due.
    pub fn set_state(&self, to: SessionState, retry_at: Option<Instant>) {
        let mut status = self.status();
        if status.state != to {
            status.since = Timestamp::now();
        }
        status.state = to;
        status.retry_at = retry_at;
        if to != SessionState::Ready {
            // Another terminal, or this one later, counts them anew.
            (status.positions, status.orders) = (None, None);
        }
    }

    /// Notes since when the terminal has been on a call, and whether that is the gateway's own search.
    pub fn set_busy_since(&self, since: Option<Instant>, internal: bool) {
        self.internal.store(internal, Ordering::Relaxed);
        let milliseconds = since.map_or(0, |since| {
            let since = since.saturating_duration_since(self.made).as_millis();
            u64::try_from(since).unwrap_or(u64::MAX).max(1)
        });
        self.busy_since.store(milliseconds, Ordering::Relaxed);
    }

    /// What routing has to know of it.
    pub fn load(&self) -> SessionLoad {
        SessionLoad {
            ready: self.is_ready(),
            full: self.admission.available_permits() == 0,
            in_use: self.in_use(),
            busy_for: self.busy_for(),
            internal: self.internal.load(Ordering::Relaxed),
            trading: self.trade_admission.available_permits() < self.queue,
        }
    }

    /// For how long the terminal has been on one call. `None`: it is on none.
    fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed);
        let busy = || self.made.elapsed().saturating_sub(Duration::from_millis(since));
        (since > 0).then(busy)
    }

    fn in_use(&self) -> usize {
        let free = self.admission.available_permits() + self.trade_admission.available_permits();
        2 * self.queue - free
    }

    /// A permit for a read, if there is room.
    pub fn admit(&self) -> Option<QueuePermit> {
        self.permit(&self.admission)
    }

    /// A permit for a trade, if there is room.
    pub fn admit_trade(&self) -> Option<QueuePermit> {
        self.permit(&self.trade_admission)
    }

    fn permit(&self, admission: &Arc<Semaphore>) -> Option<QueuePermit> {
        let permit = admission.clone().try_acquire_owned().ok()?;
        Some(QueuePermit::new(permit, self.depth.clone()))
    }

    /// How it stands, for clients.
    pub fn report(&self, primary: bool) -> SessionStatus {
        let status = self.status().clone();
        SessionStatus {
            state: status.state,
            since: status.since,
            primary,
            connected: status.connected,
            queue_depth: self.in_use(),
            restarts: status.restarts,
            last_login: status.last_login,
            last_error: status.last_error,
        }
    }
}
