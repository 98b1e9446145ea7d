//! What the clock of an account's server shows, and how its times relate to UTC.

use jiff::Timestamp;

use super::accounts::Account;
use crate::clock::BootInstant;
use crate::mt5::{ServerClock, Timeframe};

/// A server's clock of an unknown zone runs at most this far behind UTC, seconds.
const CLOCK_LAG: i64 = 12 * 3600;

/// What clocks may be wrong by, seconds.
const CLOCK_ERROR: i64 = 60;

impl Account {
    /// A time that the server's clock has certainly reached, unix seconds of that clock.
    pub fn server_time_floor(&self) -> i64 {
        let seen = self.server_time.floor(BootInstant::now());
        seen.unwrap_or_else(|| Timestamp::now().as_second() - CLOCK_LAG - CLOCK_ERROR)
    }

    /// The clock of the broker's server.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Whether a bar that opens at a moment has certainly closed.
    pub fn has_closed(&self, opened: i64, timeframe: Timeframe) -> bool {
        // A month may be longer than its period says.
        self.is_past(opened + timeframe.seconds() + timeframe.seconds() / 16)
    }

    /// Whether a moment has certainly passed on the server's clock, as ticks have shown it; until one
    /// has, by the machine's clock and the zone, or the zone that is furthest behind.
    pub fn is_past(&self, moment: i64) -> bool {
        if let Some(floor) = self.server_time.floor(BootInstant::now()) {
            let shown = self.clock.from_utc().map_or(moment, |from_utc| from_utc(moment));
            return shown + CLOCK_ERROR < floor;
        }
        let behind = if self.clock.zone().is_some() { 0 } else { CLOCK_LAG };
        moment + behind + CLOCK_ERROR < Timestamp::now().as_second()
    }

    /// Whether times are UTC, and not the server's as they come.
    pub fn is_utc(&self) -> bool {
        self.clock.zone().is_some()
    }

    /// The UTC of a time that the server's clock shows, both in unix seconds. The same time
    /// where the zone of that clock is not known.
    pub fn server_to_utc(&self, server_seconds: i64) -> i64 {
        self.clock.to_utc().map_or(server_seconds, |mut to_utc| to_utc(server_seconds))
    }

    /// What the server's clock shows at a time in UTC, both in unix seconds. The same time where
    /// the zone of that clock is not known.
    pub fn utc_to_server(&self, utc_seconds: i64) -> i64 {
        self.clock.from_utc().map_or(utc_seconds, |from_utc| from_utc(utc_seconds))
    }

    /// What the server's clock shows now, unix seconds: by its zone if that is known, else as ticks
    /// have shown it, and before the first tick the UTC of this machine.
    pub fn server_now(&self) -> i64 {
        let now = Timestamp::now().as_second();
        if self.is_utc() {
            return self.utc_to_server(now);
        }
        self.server_time.floor(BootInstant::now()).unwrap_or(now)
    }
}
