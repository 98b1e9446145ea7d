//! What the integers in MT5's records are called, for documents and clients.
//!
//! The names and numbers are those of the package's constants. What the package has no
//! constants for, the bit masks of a symbol, is documented at
//! <https://www.mql5.com/en/docs/constants/environment_state/marketinfoconstants>.

use super::{DealEntry, Execution, Filling, OrderState, OrderTime, TradeAction};

/// The values of an enumeration, or the bits of a mask.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// What it is called here, such as `OrderType`.
    pub name: &'static str,
    /// What MT5's names begin with. A few of them do not.
    pub prefix: &'static str,
    /// Each value with MT5's name, in MT5's order.
    pub values: &'static [(i64, &'static str)],
    /// Whether a field may have several of them at once.
    pub are_bits: bool,
}

impl Names {
    /// Each value with its name, without the prefix.
    pub fn short(&self) -> impl Iterator<Item = (i64, &'static str)> {
        let prefix = self.prefix;
        self.values
            .iter()
            .map(move |(value, name)| (*value, name.strip_prefix(prefix).unwrap_or(name)))
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident $name:literal $prefix:literal [$($value:literal $short:literal),* $(,)?])*) => {
        $($(#[$doc])*
        pub const $constant: Names = Names {
            name: $name,
            prefix: $prefix,
            values: &[$(($value, concat!($prefix, $short)),)*],
            are_bits: false,
        };)*
    };
}

names! {
    /// `ENUM_ACCOUNT_TRADE_MODE`
    ACCOUNT_TRADE_MODE "AccountTradeMode" "ACCOUNT_TRADE_MODE_" [0 "DEMO", 1 "CONTEST", 2 "REAL"]
    /// `ENUM_ACCOUNT_STOPOUT_MODE`
    STOPOUT_MODE "StopoutMode" "ACCOUNT_STOPOUT_MODE_" [0 "PERCENT", 1 "MONEY"]
    /// `ENUM_ACCOUNT_MARGIN_MODE`
    MARGIN_MODE "MarginMode" "ACCOUNT_MARGIN_MODE_"
        [0 "RETAIL_NETTING", 1 "EXCHANGE", 2 "RETAIL_HEDGING"]
    /// `ENUM_SYMBOL_CHART_MODE`
    CHART_MODE "ChartMode" "SYMBOL_CHART_MODE_" [0 "BID", 1 "LAST"]
    /// `ENUM_SYMBOL_CALC_MODE`
    CALC_MODE "CalcMode" "SYMBOL_CALC_MODE_" [
        0 "FOREX", 1 "FUTURES", 2 "CFD", 3 "CFDINDEX", 4 "CFDLEVERAGE", 5 "FOREX_NO_LEVERAGE",
        32 "EXCH_STOCKS", 33 "EXCH_FUTURES", 34 "EXCH_OPTIONS", 36 "EXCH_OPTIONS_MARGIN",
        37 "EXCH_BONDS", 38 "EXCH_STOCKS_MOEX", 39 "EXCH_BONDS_MOEX", 64 "SERV_COLLATERAL",
    ]
    /// `ENUM_SYMBOL_TRADE_MODE`
    SYMBOL_TRADE_MODE "SymbolTradeMode" "SYMBOL_TRADE_MODE_"
        [0 "DISABLED", 1 "LONGONLY", 2 "SHORTONLY", 3 "CLOSEONLY", 4 "FULL"]
    /// `ENUM_SYMBOL_SWAP_MODE`
    SWAP_MODE "SwapMode" "SYMBOL_SWAP_MODE_" [
        0 "DISABLED", 1 "POINTS", 2 "CURRENCY_SYMBOL", 3 "CURRENCY_MARGIN", 4 "CURRENCY_DEPOSIT",
        5 "INTEREST_CURRENT", 6 "INTEREST_OPEN", 7 "REOPEN_CURRENT", 8 "REOPEN_BID",
    ]
    /// `ENUM_DAY_OF_WEEK`
    DAY_OF_WEEK "DayOfWeek" "DAY_OF_WEEK_" [
        0 "SUNDAY", 1 "MONDAY", 2 "TUESDAY", 3 "WEDNESDAY", 4 "THURSDAY", 5 "FRIDAY", 6 "SATURDAY",
    ]
    /// `ENUM_SYMBOL_ORDER_GTC_MODE`
    ORDER_GTC_MODE "OrderGtcMode" "SYMBOL_ORDERS_" [0 "GTC", 1 "DAILY", 2 "DAILY_NO_STOPS"]
    /// `ENUM_SYMBOL_OPTION_MODE`
    OPTION_MODE "OptionMode" "SYMBOL_OPTION_MODE_" [0 "EUROPEAN", 1 "AMERICAN"]
    /// `ENUM_SYMBOL_OPTION_RIGHT`
    OPTION_RIGHT "OptionRight" "SYMBOL_OPTION_RIGHT_" [0 "CALL", 1 "PUT"]
    /// `ENUM_BOOK_TYPE`
    BOOK_TYPE "BookType" "BOOK_TYPE_" [1 "SELL", 2 "BUY", 3 "SELL_MARKET", 4 "BUY_MARKET"]
    /// `ENUM_ORDER_TYPE`, with what the terminal alone makes.
    ANY_ORDER_TYPE "OrderType" "ORDER_TYPE_" [
        0 "BUY", 1 "SELL", 2 "BUY_LIMIT", 3 "SELL_LIMIT", 4 "BUY_STOP", 5 "SELL_STOP",
        6 "BUY_STOP_LIMIT", 7 "SELL_STOP_LIMIT", 8 "CLOSE_BY",
    ]
    /// `ENUM_ORDER_REASON`
    ORDER_REASON "OrderReason" "ORDER_REASON_"
        [0 "CLIENT", 1 "MOBILE", 2 "WEB", 3 "EXPERT", 4 "SL", 5 "TP", 6 "SO"]
    /// `ENUM_POSITION_TYPE`
    POSITION_TYPE "PositionType" "POSITION_TYPE_" [0 "BUY", 1 "SELL"]
    /// `ENUM_POSITION_REASON`
    POSITION_REASON "PositionReason" "POSITION_REASON_"
        [0 "CLIENT", 1 "MOBILE", 2 "WEB", 3 "EXPERT"]
    /// `ENUM_DEAL_REASON`
    DEAL_REASON "DealReason" "DEAL_REASON_" [
        0 "CLIENT", 1 "MOBILE", 2 "WEB", 3 "EXPERT", 4 "SL", 5 "TP", 6 "SO", 7 "ROLLOVER",
        8 "VMARGIN", 9 "SPLIT",
    ]
}

/// `ENUM_DEAL_TYPE`, the last three of which have another prefix.
pub const DEAL_TYPE: Names = Names {
    name: "DealType",
    prefix: "DEAL_TYPE_",
    values: &[
        (0, "DEAL_TYPE_BUY"),
        (1, "DEAL_TYPE_SELL"),
        (2, "DEAL_TYPE_BALANCE"),
        (3, "DEAL_TYPE_CREDIT"),
        (4, "DEAL_TYPE_CHARGE"),
        (5, "DEAL_TYPE_CORRECTION"),
        (6, "DEAL_TYPE_BONUS"),
        (7, "DEAL_TYPE_COMMISSION"),
        (8, "DEAL_TYPE_COMMISSION_DAILY"),
        (9, "DEAL_TYPE_COMMISSION_MONTHLY"),
        (10, "DEAL_TYPE_COMMISSION_AGENT_DAILY"),
        (11, "DEAL_TYPE_COMMISSION_AGENT_MONTHLY"),
        (12, "DEAL_TYPE_INTEREST"),
        (13, "DEAL_TYPE_BUY_CANCELED"),
        (14, "DEAL_TYPE_SELL_CANCELED"),
        (15, "DEAL_DIVIDEND"),
        (16, "DEAL_DIVIDEND_FRANKED"),
        (17, "DEAL_TAX"),
    ],
    are_bits: false,
};

macro_rules! bits {
    ($($(#[$doc:meta])* $constant:ident $prefix:literal [$($value:literal $short:literal),* $(,)?])*) => {
        $($(#[$doc])*
        pub const $constant: Names = Names {
            name: stringify!($constant),
            prefix: $prefix,
            values: &[$(($value, concat!($prefix, $short)),)*],
            are_bits: true,
        };)*
    };
}

bits! {
    /// The expirations that a symbol's orders may have.
    EXPIRATION_BITS "SYMBOL_EXPIRATION_" [1 "GTC", 2 "DAY", 4 "SPECIFIED", 8 "SPECIFIED_DAY"]
    /// The filling policies that a symbol's orders may have. Without a bit, RETURN.
    FILLING_BITS "SYMBOL_FILLING_" [1 "FOK", 2 "IOC", 4 "BOC"]
    /// The orders that a symbol takes.
    ORDER_BITS "SYMBOL_ORDER_"
        [1 "MARKET", 2 "LIMIT", 4 "STOP", 8 "STOP_LIMIT", 16 "SL", 32 "TP", 64 "CLOSEBY"]
    /// What changed with a tick.
    TICK_BITS "TICK_FLAG_" [2 "BID", 4 "ASK", 8 "LAST", 16 "VOLUME", 32 "BUY", 64 "SELL"]
}

/// Record, field, and what the field's integers are called. Return codes of trades are in
/// [`Retcode`](super::Retcode).
pub const FIELDS: &[(&str, &str, &Names)] = &[
    ("AccountInfo", "trade_mode", &ACCOUNT_TRADE_MODE),
    ("AccountInfo", "margin_so_mode", &STOPOUT_MODE),
    ("AccountInfo", "margin_mode", &MARGIN_MODE),
    ("SymbolInfo", "chart_mode", &CHART_MODE),
    ("SymbolInfo", "trade_calc_mode", &CALC_MODE),
    ("SymbolInfo", "trade_mode", &SYMBOL_TRADE_MODE),
    ("SymbolInfo", "trade_exemode", &Execution::NAMES),
    ("SymbolInfo", "swap_mode", &SWAP_MODE),
    ("SymbolInfo", "swap_rollover3days", &DAY_OF_WEEK),
    ("SymbolInfo", "expiration_mode", &EXPIRATION_BITS),
    ("SymbolInfo", "filling_mode", &FILLING_BITS),
    ("SymbolInfo", "order_mode", &ORDER_BITS),
    ("SymbolInfo", "order_gtc_mode", &ORDER_GTC_MODE),
    ("SymbolInfo", "option_mode", &OPTION_MODE),
    ("SymbolInfo", "option_right", &OPTION_RIGHT),
    ("BookEntry", "type", &BOOK_TYPE),
    ("Order", "type", &ANY_ORDER_TYPE),
    ("Order", "type_time", &OrderTime::NAMES),
    ("Order", "type_filling", &Filling::NAMES),
    ("Order", "state", &OrderState::NAMES),
    ("Order", "reason", &ORDER_REASON),
    ("Position", "type", &POSITION_TYPE),
    ("Position", "reason", &POSITION_REASON),
    ("Deal", "type", &DEAL_TYPE),
    ("Deal", "entry", &DealEntry::NAMES),
    ("Deal", "reason", &DEAL_REASON),
    ("TradeRequest", "action", &TradeAction::NAMES),
    ("TradeRequest", "type", &ANY_ORDER_TYPE),
    ("TradeRequest", "type_filling", &Filling::NAMES),
    ("TradeRequest", "type_time", &OrderTime::NAMES),
    ("Tick", "flags", &TICK_BITS),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::{ORDER_TYPE_CLOSE_BY, OrderType, tick_flag};

    #[test]
    fn names_of_one_thing_agree_wherever_they_are_kept() {
        let (close_by, placeable) = ANY_ORDER_TYPE.values.split_last().unwrap();
        assert_eq!(placeable, OrderType::NAMES.values);
        assert_eq!(*close_by, (ORDER_TYPE_CLOSE_BY, "ORDER_TYPE_CLOSE_BY"));
        let bits = [
            tick_flag::BID,
            tick_flag::ASK,
            tick_flag::LAST,
            tick_flag::VOLUME,
            tick_flag::BUY,
            tick_flag::SELL,
        ];
        assert_eq!(
            TICK_BITS.values.iter().map(|(bit, _)| *bit).collect::<Vec<_>>(),
            bits.map(i64::from)
        );
        assert_eq!(DEAL_TYPE.short().last(), Some((17, "DEAL_TAX")));
        assert_eq!(POSITION_TYPE.short().last(), Some((1, "SELL")));
    }
}
