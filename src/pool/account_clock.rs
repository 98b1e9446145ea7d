//! What the clock of an account's server shows, and how its times relate to UTC.

use jiff::Timestamp;
use tracing::{info, warn};

use super::accounts::Account;
use crate::clock::BootInstant;
use crate::mt5::{
    ClockVerdict, ServerClock, ServerTime, SymbolName, Tick, TickLook, Timeframe, UtcTime,
};

/// A server's clock of an unknown zone runs at most this far behind UTC, seconds.
const CLOCK_LAG: i64 = 12 * 3600;

/// What clocks may be wrong by, seconds.
const CLOCK_ERROR: i64 = 60;

impl Account {
    /// A time that the server's clock has certainly reached.
    pub fn server_time_floor(&self) -> ServerTime {
        let seen = self.server_time.floor(BootInstant::now());
        seen.unwrap_or_else(|| {
            ServerTime::from_seconds(Timestamp::now().as_second()) - CLOCK_LAG - CLOCK_ERROR
        })
    }

    /// Learns what a tick tells about the server's clock, and logs when that contradicts the configured
    /// zone, once for each change. `tick_msc`: unix milliseconds of the server's clock.
    pub(super) fn see_tick(&self, symbol: &SymbolName, tick_msc: i64) {
        let now = BootInstant::now();
        self.server_time.observe(tick_msc, now);
        if self.is_utc() && self.clock_watch.is_due(now) {
            self.compare_clock(symbol, tick_msc);
        }
    }

    /// Learns the same from a symbol's newest tick whose times are UTC already, if its account's zone is
    /// known.
    pub fn see_newest_tick(&self, symbol: &str, tick: Tick) {
        if !self.is_utc() || !self.clock_watch.is_due(BootInstant::now()) {
            return;
        }
        let ahead = self.utc_to_server(UtcTime::from_seconds(tick.time)).seconds() - tick.time;
        let tick_msc = tick.time_msc.saturating_add(ahead.saturating_mul(1000));
        self.compare_clock(&SymbolName::from_trusted(symbol), tick_msc);
    }

    fn compare_clock(&self, symbol: &SymbolName, tick_msc: i64) {
        let look = TickLook { tick_msc, at_msc: Timestamp::now().as_millisecond() };
        let account = self.name.as_str();
        match self.clock_watch.see(&self.clock, symbol, look) {
            None | Some(ClockVerdict::Silent) => {}
            Some(ClockVerdict::Fits) => info!(account, "server's clock fits its zone"),
            Some(ClockVerdict::Contradicts(contradiction)) => {
                let (found, remedy) = (contradiction.to_string(), contradiction.remedy());
                warn!(account, found, remedy, "server's clock contradicts its zone");
            }
        }
    }

    /// What ticks show against the configured zone, and what to do.
    pub(super) fn server_time_warning(&self) -> Option<String> {
        let contradiction = self.clock_watch.contradiction()?;
        Some(format!("{contradiction}: {}", contradiction.remedy()))
    }

    /// The clock of the broker's server.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Whether a bar that opens at a moment has certainly closed.
    pub fn has_closed(&self, opened: UtcTime, timeframe: Timeframe) -> bool {
        // A month may be longer than its period says.
        self.is_past(opened + timeframe.seconds() + timeframe.seconds() / 16)
    }

    /// Whether a moment has certainly passed on the server's clock, as ticks have shown it; until one
    /// has, by the machine's clock and the zone, or the zone that is furthest behind.
    pub fn is_past(&self, moment: UtcTime) -> bool {
        if let Some(floor) = self.server_time.floor(BootInstant::now()) {
            return self.utc_to_server(moment) + CLOCK_ERROR < floor;
        }
        let behind = if self.clock.zone().is_some() { 0 } else { CLOCK_LAG };
        moment + behind + CLOCK_ERROR < UtcTime::from_seconds(Timestamp::now().as_second())
    }

    /// Whether times are UTC, and not the server's as they come.
    pub fn is_utc(&self) -> bool {
        self.clock.zone().is_some()
    }

    /// The UTC of a time that the server's clock shows.
    pub fn server_to_utc(&self, shown: ServerTime) -> UtcTime {
        self.clock.read(shown)
    }

    /// What the server's clock shows at a moment.
    pub fn utc_to_server(&self, at: UtcTime) -> ServerTime {
        self.clock.show(at)
    }

    /// What the server's clock shows now: by its zone if that is known, else as ticks have shown it,
    /// and before the first tick the UTC of this machine.
    pub fn server_now(&self) -> ServerTime {
        let now = UtcTime::from_seconds(Timestamp::now().as_second());
        let seen = if self.is_utc() { None } else { self.server_time.floor(BootInstant::now()) };
        seen.unwrap_or_else(|| self.utc_to_server(now))
    }
}
