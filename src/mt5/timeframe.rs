//! Timeframes of bars and flags of ticks.

macro_rules! timeframes {
    ($($variant:ident = $value:literal, $seconds:literal, $name:literal);* $(;)?) => {
        /// The period of a bar.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Timeframe {
            $(#[doc = concat!("`TIMEFRAME_", $name, "`")] $variant,)*
        }

        impl Timeframe {
            /// Every timeframe, shortest first.
            pub const ALL: &'static [Timeframe] = &[$(Timeframe::$variant,)*];

            /// The name without its prefix, such as `H1`.
            pub const fn name(self) -> &'static str {
                match self { $(Timeframe::$variant => $name,)* }
            }

            /// The package's constant `TIMEFRAME_*`.
            pub const fn value(self) -> i64 {
                match self { $(Timeframe::$variant => $value,)* }
            }

            /// The period in seconds; for a month, that of the longest.
            pub const fn seconds(self) -> i64 {
                match self { $(Timeframe::$variant => $seconds,)* }
            }
        }
    };
}

timeframes! {
    M1 = 1, 60, "M1";
    M2 = 2, 120, "M2";
    M3 = 3, 180, "M3";
    M4 = 4, 240, "M4";
    M5 = 5, 300, "M5";
    M6 = 6, 360, "M6";
    M10 = 10, 600, "M10";
    M12 = 12, 720, "M12";
    M15 = 15, 900, "M15";
    M20 = 20, 1_200, "M20";
    M30 = 30, 1_800, "M30";
    H1 = 16385, 3_600, "H1";
    H2 = 16386, 7_200, "H2";
    H3 = 16387, 10_800, "H3";
    H4 = 16388, 14_400, "H4";
    H6 = 16390, 21_600, "H6";
    H8 = 16392, 28_800, "H8";
    H12 = 16396, 43_200, "H12";
    D1 = 16408, 86_400, "D1";
    W1 = 32769, 604_800, "W1";
    MN1 = 49153, 2_678_400, "MN1";
}

/// 1970-01-04, the first Sunday of unix time, in seconds.
const FIRST_SUNDAY: i64 = 3 * 86_400;

impl Timeframe {
    /// Reads a name (`H1` or `TIMEFRAME_H1`, in any case) or MT5's integer.
    pub fn parse(text: &str) -> Option<Timeframe> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("TIMEFRAME_").unwrap_or(&upper);
        Timeframe::ALL
            .iter()
            .copied()
            .find(|timeframe| timeframe.name() == name || timeframe.value().to_string() == name)
    }

    /// The opening time of the bar that holds `time` (unix seconds). Weeks
    /// open on Sunday and months on their first day, as in the terminal.
    pub fn open_of(self, time: i64) -> i64 {
        match self {
            Timeframe::MN1 => month_start(time),
            Timeframe::W1 => {
                FIRST_SUNDAY + (time - FIRST_SUNDAY).div_euclid(self.seconds()) * self.seconds()
            }
            _ => time.div_euclid(self.seconds()) * self.seconds(),
        }
    }

    /// The opening time of the bar after the one that opens at `open`.
    pub fn next_open(self, open: i64) -> i64 {
        // A month's longest length always lands inside the next month's first days.
        self.open_of(open + self.seconds())
    }

    /// The opening time of the bar before the one that opens at `open`.
    pub fn previous_open(self, open: i64) -> i64 {
        self.open_of(open - 1)
    }
}

fn month_start(time: i64) -> i64 {
    let utc = jiff::tz::TimeZone::UTC;
    let moment = jiff::Timestamp::from_second(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let first = utc.to_datetime(moment).date().first_of_month();
    utc.to_timestamp(first.at(0, 0, 0, 0)).map_or(0, jiff::Timestamp::as_second)
}

/// Which ticks to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyTicks {
    /// `COPY_TICKS_ALL`
    All,
    /// `COPY_TICKS_INFO`: changes of bid or ask.
    Info,
    /// `COPY_TICKS_TRADE`: changes of last or volume.
    Trade,
}

impl CopyTicks {
    /// Every one.
    pub const ALL: [CopyTicks; 3] = [CopyTicks::All, CopyTicks::Info, CopyTicks::Trade];

    /// The name without its prefix, such as `ALL`.
    pub const fn name(self) -> &'static str {
        match self {
            CopyTicks::All => "ALL",
            CopyTicks::Info => "INFO",
            CopyTicks::Trade => "TRADE",
        }
    }

    /// Reads a name (`ALL` or `COPY_TICKS_ALL`, in any case) or MT5's integer.
    pub fn parse(text: &str) -> Option<CopyTicks> {
        let upper = text.to_ascii_uppercase();
        match upper.strip_prefix("COPY_TICKS_").unwrap_or(&upper) {
            "ALL" | "-1" => Some(CopyTicks::All),
            "INFO" | "1" => Some(CopyTicks::Info),
            "TRADE" | "2" => Some(CopyTicks::Trade),
            _ => None,
        }
    }

    /// The package's constant `COPY_TICKS_*`.
    pub const fn value(self) -> i64 {
        match self {
            CopyTicks::All => -1,
            CopyTicks::Info => 1,
            CopyTicks::Trade => 2,
        }
    }
}

/// The bits of a tick's `flags`: what changed with it.
pub mod tick_flag {
    /// `TICK_FLAG_BID`
    pub const BID: u32 = 2;
    /// `TICK_FLAG_ASK`
    pub const ASK: u32 = 4;
    /// `TICK_FLAG_LAST`
    pub const LAST: u32 = 8;
    /// `TICK_FLAG_VOLUME`
    pub const VOLUME: u32 = 16;
    /// `TICK_FLAG_BUY`
    pub const BUY: u32 = 32;
    /// `TICK_FLAG_SELL`
    pub const SELL: u32 = 64;
}

#[cfg(test)]
mod tests {
    use super::Timeframe;
    use proptest::prelude::*;

    #[test]
    fn names_and_integers_are_read() {
        assert_eq!(Timeframe::parse("h1"), Some(Timeframe::H1));
        assert_eq!(Timeframe::parse("TIMEFRAME_MN1"), Some(Timeframe::MN1));
        assert_eq!(Timeframe::parse("16408"), Some(Timeframe::D1));
        assert_eq!(Timeframe::parse("H5"), None);
        assert_eq!(Timeframe::parse(""), None);
    }

    #[test]
    fn weeks_open_on_sunday_and_months_on_the_first() {
        let wednesday = 1_492_592_400; // 2017-04-19 09:00
        assert_eq!(Timeframe::W1.open_of(wednesday), 1_492_300_800); // 2017-04-16
        assert_eq!(Timeframe::MN1.open_of(wednesday), 1_491_004_800); // 2017-04-01
        assert_eq!(Timeframe::MN1.next_open(1_491_004_800), 1_493_596_800); // 2017-05-01
    }

    proptest! {
        #[test]
        fn a_bar_holds_its_time(time in 0i64..32_000_000_000, index in 0usize..21) {
            let timeframe = Timeframe::ALL[index];
            let open = timeframe.open_of(time);
            prop_assert!(open <= time && time < timeframe.next_open(open));
            prop_assert_eq!(timeframe.next_open(timeframe.previous_open(open)), open);
        }
    }
}
