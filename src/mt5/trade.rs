//! The enumerations of trading, as MT5 numbers them.

use super::names::Names;

macro_rules! enumeration {
    ($(#[$doc:meta])* $type:ident $prefix:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* #[doc = concat!("`", $prefix, $name, "`")] $variant,)*
        }

        impl $type {
            /// Every value, in MT5's order.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The values with MT5's full names.
            pub const NAMES: Names = Names {
                name: stringify!($type),
                prefix: $prefix,
                values: &[$(($value, concat!($prefix, $name)),)*],
                are_bits: false,
            };

            /// MT5's name without its prefix.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// MT5's integer.
            pub const fn value(self) -> i64 {
                match self { $($type::$variant => $value,)* }
            }

            /// The one with this integer.
            pub fn from_value(value: i64) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.value() == value)
            }

            /// Reads a name, with or without its prefix and in any case, or the integer.
            pub fn parse(text: &str) -> Option<$type> {
                let upper = text.to_ascii_uppercase();
                let name = upper.strip_prefix($prefix).unwrap_or(&upper);
                $type::ALL
                    .iter()
                    .copied()
                    .find(|one| one.name() == name || one.value().to_string() == name)
            }
        }
    };
}

enumeration! {
    /// What a trade request does, `ENUM_TRADE_REQUEST_ACTIONS`.
    TradeAction "TRADE_ACTION_" {
        Deal = 1 "DEAL",
        Pending = 5 "PENDING",
        Sltp = 6 "SLTP",
        Modify = 7 "MODIFY",
        Remove = 8 "REMOVE",
        CloseBy = 10 "CLOSE_BY",
    }
}

enumeration! {
    /// The type of an order that a client may place, `ENUM_ORDER_TYPE`.
    OrderType "ORDER_TYPE_" {
        Buy = 0 "BUY",
        Sell = 1 "SELL",
        BuyLimit = 2 "BUY_LIMIT",
        SellLimit = 3 "SELL_LIMIT",
        BuyStop = 4 "BUY_STOP",
        SellStop = 5 "SELL_STOP",
        BuyStopLimit = 6 "BUY_STOP_LIMIT",
        SellStopLimit = 7 "SELL_STOP_LIMIT",
    }
}

/// `ORDER_TYPE_CLOSE_BY`: what the terminal makes of a close-by.
pub const ORDER_TYPE_CLOSE_BY: i64 = 8;

enumeration! {
    /// How much of an order has to be filled, `ENUM_ORDER_TYPE_FILLING`.
    Filling "ORDER_FILLING_" {
        /// All or nothing.
        Fok = 0 "FOK",
        /// What is there, the rest is cancelled.
        Ioc = 1 "IOC",
        /// What is there, the rest stays.
        Return = 2 "RETURN",
        /// Nothing at once.
        Boc = 3 "BOC",
    }
}

enumeration! {
    /// How long an order stays, `ENUM_ORDER_TYPE_TIME`.
    OrderTime "ORDER_TIME_" {
        Gtc = 0 "GTC",
        Day = 1 "DAY",
        Specified = 2 "SPECIFIED",
        SpecifiedDay = 3 "SPECIFIED_DAY",
    }
}

enumeration! {
    /// Where an order stands, `ENUM_ORDER_STATE`.
    OrderState "ORDER_STATE_" {
        Started = 0 "STARTED",
        Placed = 1 "PLACED",
        Canceled = 2 "CANCELED",
        Partial = 3 "PARTIAL",
        Filled = 4 "FILLED",
        Rejected = 5 "REJECTED",
        Expired = 6 "EXPIRED",
        RequestAdd = 7 "REQUEST_ADD",
        RequestModify = 8 "REQUEST_MODIFY",
        RequestCancel = 9 "REQUEST_CANCEL",
    }
}

enumeration! {
    /// What a deal did to its position, `ENUM_DEAL_ENTRY`.
    DealEntry "DEAL_ENTRY_" {
        In = 0 "IN",
        Out = 1 "OUT",
        InOut = 2 "INOUT",
        OutBy = 3 "OUT_BY",
    }
}

/// `SYMBOL_FILLING_FOK` in a symbol's `filling_mode`.
pub const SYMBOL_FILLING_FOK: i64 = 1;
/// `SYMBOL_FILLING_IOC` in a symbol's `filling_mode`.
pub const SYMBOL_FILLING_IOC: i64 = 2;

impl OrderType {
    /// Whether it buys.
    pub const fn is_buy(self) -> bool {
        self.value() % 2 == 0
    }

    /// Whether it is executed at once, at the market's price.
    pub const fn is_market(self) -> bool {
        matches!(self, OrderType::Buy | OrderType::Sell)
    }

    /// Whether it becomes a limit order once its price is reached.
    pub const fn is_stop_limit(self) -> bool {
        matches!(self, OrderType::BuyStopLimit | OrderType::SellStopLimit)
    }
}

enumeration! {
    /// How a symbol's orders are executed, `ENUM_SYMBOL_TRADE_EXECUTION`.
    Execution "SYMBOL_TRADE_EXECUTION_" {
        /// At a price that is asked for first.
        Request = 0 "REQUEST",
        /// At the price of the order, within its deviation.
        Instant = 1 "INSTANT",
        /// At the server's price.
        Market = 2 "MARKET",
        /// At the exchange's price.
        Exchange = 3 "EXCHANGE",
    }
}

impl Execution {
    /// Whether a deal needs a price in its request.
    pub const fn needs_price(self) -> bool {
        matches!(self, Execution::Request | Execution::Instant)
    }
}

impl Filling {
    /// The policy for an order that names none. `rests`: whether it is a pending order.
    ///
    /// | execution | at the market | pending |
    /// |---|---|---|
    /// | request, instant | FOK, which the server applies whatever is sent | RETURN |
    /// | market, exchange | what `filling_mode` has: FOK, else IOC, else RETURN | RETURN |
    ///
    /// Source: <https://www.mql5.com/en/docs/constants/tradingconstants/orderproperties>, "in case of
    /// pending orders, the ORDER_FILLING_RETURN filling type should be used regardless of an execution
    /// type".
    pub const fn for_symbol(
        execution: Option<Execution>,
        rests: bool,
        filling_mode: i64,
    ) -> Filling {
        let priced = matches!(execution, Some(Execution::Request | Execution::Instant));
        if rests {
            Filling::Return
        } else if priced || filling_mode & SYMBOL_FILLING_FOK != 0 {
            Filling::Fok
        } else if filling_mode & SYMBOL_FILLING_IOC != 0 {
            Filling::Ioc
        } else {
            Filling::Return
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Execution, Filling, OrderTime, OrderType};

    #[test]
    fn names_have_three_spellings() {
        for text in ["BUY_LIMIT", "buy_limit", "ORDER_TYPE_BUY_LIMIT", "2"] {
            assert_eq!(OrderType::parse(text), Some(OrderType::BuyLimit), "{text}");
        }
        for text in ["", "8", "-1", "LONG", "ORDER_TYPE_", "2.0", "ORDER_TYPE_CLOSE_BY"] {
            assert_eq!(OrderType::parse(text), None, "{text}");
        }
        assert_eq!(OrderTime::parse("ORDER_TIME_GTC"), Some(OrderTime::Gtc));
    }

    #[test]
    fn the_filling_policy_follows_execution_resting_and_what_the_symbol_has() {
        let of =
            |execution, rests| [0, 1, 2, 3].map(|mode| Filling::for_symbol(execution, rests, mode));
        let had = [Filling::Return, Filling::Fok, Filling::Ioc, Filling::Fok];
        let (fok, stays) = ([Filling::Fok; 4], [Filling::Return; 4]);
        for (execution, at_the_market) in [
            (None, had),
            (Some(Execution::Request), fok),
            (Some(Execution::Instant), fok),
            (Some(Execution::Market), had),
            (Some(Execution::Exchange), had),
        ] {
            assert_eq!(of(execution, false), at_the_market, "{execution:?}");
            assert_eq!(of(execution, true), stays, "{execution:?}");
        }
    }
}
