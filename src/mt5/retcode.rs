//! What a broker answers to a trade.

macro_rules! retcodes {
    ($($code:literal $variant:ident = $name:literal),* $(,)?) => {
        /// The return codes of the trade server, `TRADE_RETCODE_*`. Source:
        /// <https://www.mql5.com/en/docs/constants/errorswarnings/enum_trade_return_codes>.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Retcode {
            $(#[doc = concat!("Code ", stringify!($code), ".")] $variant,)*
            /// A code that is not in MT5's documentation.
            Other,
        }

        impl Retcode {
            /// Every code, in declaration order: `ALL[retcode as usize] == retcode`.
            pub const ALL: &'static [Retcode] = &[$(Retcode::$variant,)* Retcode::Other];

            /// MT5's name without its prefix, in snake case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Retcode::$variant => $name,)*
                    Retcode::Other => "other",
                }
            }

            /// The return code with this number.
            pub const fn from_code(code: i64) -> Retcode {
                match code {
                    $($code => Retcode::$variant,)*
                    _ => Retcode::Other,
                }
            }

            /// The number; 0 if it is not a documented one.
            pub const fn code(self) -> i64 {
                match self {
                    $(Retcode::$variant => $code,)*
                    Retcode::Other => 0,
                }
            }
        }
    };
}

retcodes! {
    10004 Requote = "requote",
    10006 Reject = "reject",
    10007 Cancel = "cancel",
    10008 Placed = "placed",
    10009 Done = "done",
    10010 DonePartial = "done_partial",
    10011 Error = "error",
    10012 Timeout = "timeout",
    10013 Invalid = "invalid",
    10014 InvalidVolume = "invalid_volume",
    10015 InvalidPrice = "invalid_price",
    10016 InvalidStops = "invalid_stops",
    10017 TradeDisabled = "trade_disabled",
    10018 MarketClosed = "market_closed",
    10019 NoMoney = "no_money",
    10020 PriceChanged = "price_changed",
    10021 PriceOff = "price_off",
    10022 InvalidExpiration = "invalid_expiration",
    10023 OrderChanged = "order_changed",
    10024 TooManyRequests = "too_many_requests",
    10025 NoChanges = "no_changes",
    10026 ServerDisablesAt = "server_disables_at",
    10027 ClientDisablesAt = "client_disables_at",
    10028 Locked = "locked",
    10029 Frozen = "frozen",
    10030 InvalidFill = "invalid_fill",
    10031 Connection = "connection",
    10032 OnlyReal = "only_real",
    10033 LimitOrders = "limit_orders",
    10034 LimitVolume = "limit_volume",
    10035 InvalidOrder = "invalid_order",
    10036 PositionClosed = "position_closed",
    10038 InvalidCloseVolume = "invalid_close_volume",
    10039 CloseOrderExist = "close_order_exist",
    10040 LimitPositions = "limit_positions",
    10041 RejectCancel = "reject_cancel",
    10042 LongOnly = "long_only",
    10043 ShortOnly = "short_only",
    10044 CloseOnly = "close_only",
    10045 FifoClose = "fifo_close",
    10046 HedgeProhibited = "hedge_prohibited",
}

/// What a return code says about the fate of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It happened, at least in part.
    Executed,
    /// It did not happen.
    Refused,
    /// It may have happened.
    Unknown,
}

impl Retcode {
    /// What the code says about the fate of a trade. A code that nobody has
    /// documented says nothing.
    pub const fn verdict(self) -> Verdict {
        match self {
            Retcode::Placed | Retcode::Done | Retcode::DonePartial | Retcode::NoChanges => {
                Verdict::Executed
            }
            Retcode::Timeout | Retcode::Connection | Retcode::Other => Verdict::Unknown,
            _ => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Retcode, Verdict};

    #[test]
    fn a_code_is_found_by_its_number_and_indexed_in_order() {
        for (index, retcode) in Retcode::ALL.iter().enumerate() {
            assert_eq!(*retcode as usize, index);
            assert_eq!(Retcode::from_code(retcode.code()), *retcode);
        }
    }

    #[test]
    fn only_four_codes_are_success_and_only_three_leave_the_fate_open() {
        let with = |verdict| {
            Retcode::ALL.iter().filter(move |retcode| retcode.verdict() == verdict).count()
        };
        assert_eq!((with(Verdict::Executed), with(Verdict::Unknown)), (4, 3));
    }
}
