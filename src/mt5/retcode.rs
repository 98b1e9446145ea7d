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

/// What a return code promises about a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Executed,
    /// The server accepted it; what came of it is still to be read from its orders and deals.
    Provisional,
    /// Nothing was done.
    Refused,
    /// The code promises neither.
    Unknown,
}

impl Retcode {
    /// What the code promises, as `docs/trading.md` lists it with MetaQuotes' own words.
    ///
    /// Refused is a closed list: only codes whose description says that the request was not carried
    /// out. A code that nobody has documented promises nothing.
    pub const fn verdict(self) -> Verdict {
        match self {
            Retcode::Done | Retcode::NoChanges => Verdict::Executed,
            Retcode::Placed | Retcode::DonePartial => Verdict::Provisional,
            // An error "in processing", a request "locked for processing" or "canceled by trader", an
            // order whose state "changed" or that was cancelled on its activation: each may have been
            // carried out in part, or by somebody else.
            Retcode::Cancel
            | Retcode::Error
            | Retcode::Timeout
            | Retcode::OrderChanged
            | Retcode::Locked
            | Retcode::Connection
            | Retcode::RejectCancel
            | Retcode::Other => Verdict::Unknown,
            Retcode::Requote
            | Retcode::Reject
            | Retcode::Invalid
            | Retcode::InvalidVolume
            | Retcode::InvalidPrice
            | Retcode::InvalidStops
            | Retcode::TradeDisabled
            | Retcode::MarketClosed
            | Retcode::NoMoney
            | Retcode::PriceChanged
            | Retcode::PriceOff
            | Retcode::InvalidExpiration
            | Retcode::TooManyRequests
            | Retcode::ServerDisablesAt
            | Retcode::ClientDisablesAt
            | Retcode::Frozen
            | Retcode::InvalidFill
            | Retcode::OnlyReal
            | Retcode::LimitOrders
            | Retcode::LimitVolume
            | Retcode::InvalidOrder
            | Retcode::PositionClosed
            | Retcode::InvalidCloseVolume
            | Retcode::CloseOrderExist
            | Retcode::LimitPositions
            | Retcode::LongOnly
            | Retcode::ShortOnly
            | Retcode::CloseOnly
            | Retcode::FifoClose
            | Retcode::HedgeProhibited => Verdict::Refused,
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
    fn a_code_promises_what_its_description_says() {
        let with = |verdict| -> Vec<i64> {
            let codes = Retcode::ALL.iter().filter(|retcode| retcode.verdict() == verdict);
            codes.map(|retcode| retcode.code()).collect()
        };
        assert_eq!(with(Verdict::Executed), [10009, 10025]);
        assert_eq!(with(Verdict::Provisional), [10008, 10010]);
        assert_eq!(with(Verdict::Unknown), [10007, 10011, 10012, 10023, 10028, 10031, 10041, 0]);
    }
}
