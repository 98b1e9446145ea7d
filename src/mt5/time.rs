//! Moments on two clocks: the broker's and UTC. They differ by hours, so they are two types.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

macro_rules! seconds {
    ($(#[$doc:meta])* $time:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $time(i64);

        impl $time {
            /// The moment of so many seconds.
            pub const fn from_seconds(seconds: i64) -> $time {
                $time(seconds)
            }

            /// Seconds since the beginning of 1970.
            pub const fn seconds(self) -> i64 {
                self.0
            }
        }

        impl Add<i64> for $time {
            type Output = $time;

            fn add(self, seconds: i64) -> $time {
                $time(self.0.saturating_add(seconds))
            }
        }

        impl Sub<i64> for $time {
            type Output = $time;

            fn sub(self, seconds: i64) -> $time {
                $time(self.0.saturating_sub(seconds))
            }
        }

        impl Sub for $time {
            type Output = i64;

            fn sub(self, earlier: $time) -> i64 {
                self.0.saturating_sub(earlier.0)
            }
        }
    };
}

seconds! {
    /// What the clock of a broker's server shows, written as unix seconds: its wall clock, not UTC.
    /// 0 means that there is no time.
    ServerTime
}

seconds! {
    /// A moment in UTC, unix seconds. Where the zone of the server's clock is not known, that clock
    /// is taken for UTC. 0 means that there is no time.
    UtcTime
}
