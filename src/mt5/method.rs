//! The 32 functions of the `MetaTrader5` package, in one table.
//!
//! A row states what a function is called, takes and gives back, and what the gateway may do with
//! a call of it. Everything else follows from the table: [`Method`], the typed calls in [`calls`],
//! [`Request`], coalescing, the choice of a session, time limits, and what the Python worker does
//! around a call.

use super::{
    AccountInfo, AnswerKind, Arguments, BookEntry, CallParameter, CopyTicks, Deal, Error, Mt5Call,
    Order, OrderCheckResult, OrderSendResult, ParameterKind, Position, Rate, Reply, Rows,
    Selection, ServerTime, SymbolInfo, SymbolName, TerminalInfo, Tick, Timeframe, TradeRequest,
    Version,
};

/// What the gateway may do with a call of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRules {
    /// Whether it changes something.
    pub effect: Effect,
    /// Which sessions of an account may serve it.
    pub affinity: Affinity,
    /// Whether one answer may serve everybody who asks for the same at the same moment.
    pub coalescing: Coalescing,
    /// Which time limit applies.
    pub limit: TimeLimit,
    /// Whether its symbol has to be in Market Watch.
    pub symbol: SymbolUse,
    /// Whose answers it gives.
    pub login: LoginCheck,
}

/// Whether a call changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It leaves terminal and account as they were.
    Read,
    /// It changes the terminal, the connection to it, or the account.
    Mutate,
}

/// Which sessions of an account may serve a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Every session gives the same answer.
    Any,
    /// The answer depends on what was traded or subscribed to, or is about the terminal itself.
    Primary,
}

/// Whether identical calls may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coalescing {
    /// The answer depends on the parameters alone.
    Shared,
    /// Each call is made.
    Alone,
}

/// Which time limit applies to a call. A terminal that exceeds it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// `init_timeout` of the terminal.
    Init,
    /// `call_timeout`.
    Call,
    /// `trade_timeout`.
    Trade,
}

/// Whether the symbol of a call has to be in Market Watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolUse {
    /// The terminal answers for symbols of Market Watch only, so the worker selects it first.
    Selected,
    /// The call has no symbol, or any will do.
    Any,
}

/// Whose answers a method gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCheck {
    /// Those of whichever account the terminal is logged in to. The worker compares that account
    /// with the configured one after the call.
    Compared,
    /// The answer does not depend on the account, or names it.
    None,
}

macro_rules! methods {
    (
        $(
            $call:ident = $name:literal $({ $($field:ident: $type:ty),* $(,)? })? -> $reply:ty:
                $effect:ident $affinity:ident $coalescing:ident $limit:ident
                symbol $symbol:ident login $login:ident;
        )*
        [never called] $($uncalled:ident = $uncalled_name:literal),* $(,)?
    ) => {
        /// A function of the `MetaTrader5` package. The names are those of
        /// <https://www.mql5.com/en/docs/python_metatrader5>.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $call,)*
            $(#[doc = concat!("`", $uncalled_name, "`")] $uncalled,)*
        }

        impl Method {
            /// Every method, in declaration order: `ALL[method as usize] == method`.
            pub const ALL: &'static [Method] = &[$(Method::$call,)* $(Method::$uncalled,)*];

            /// Those that are called.
            pub fn called() -> impl Iterator<Item = Method> {
                [$(Method::$call,)*].into_iter()
            }

            /// The function's name in the package.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Method::$call => $name,)*
                    $(Method::$uncalled => $uncalled_name,)*
                }
            }

            /// What the gateway may do with a call of it.
            pub const fn rules(self) -> CallRules {
                match self {
                    $(Method::$call => CallRules {
                        effect: Effect::$effect,
                        affinity: Affinity::$affinity,
                        coalescing: Coalescing::$coalescing,
                        limit: TimeLimit::$limit,
                        symbol: SymbolUse::$symbol,
                        login: LoginCheck::$login,
                    },)*
                    $(Method::$uncalled => UNCALLED,)*
                }
            }

            /// What its parameters are, in the package's order.
            pub const fn parameters(self) -> &'static [ParameterKind] {
                match self {
                    $(Method::$call => &[$($(<$type as CallParameter>::KIND),*)?],)*
                    $(Method::$uncalled => &[],)*
                }
            }

            /// What its answer is.
            pub const fn reply(self) -> AnswerKind {
                match self {
                    $(Method::$call => <$reply as Reply>::KIND,)*
                    $(Method::$uncalled => AnswerKind::Done,)*
                }
            }
        }

        /// A call of any method with its parameters, as it travels to a terminal. Times are unix
        /// seconds of the server's clock; both ends of a range are included.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "variants and fields are the package's functions and parameters")]
        pub enum Request {
            $($call $({ $($field: $type),* })?,)*
        }

        impl Request {
            /// The function that is called.
            pub const fn method(&self) -> Method {
                match self {
                    $(Request::$call $({ $($field: _),* })? => Method::$call,)*
                }
            }

            /// What the function is called with.
            pub fn arguments(&self) -> Arguments<'_> {
                #[allow(unused_mut, reason = "some functions take nothing")]
                let mut arguments = Arguments::default();
                match self {
                    $(Request::$call $({ $($field),* })? => {
                        $($($field.put(&mut arguments);)*)?
                    })*
                }
                arguments
            }
        }

        $(
            impl From<calls::$call> for Request {
                fn from(call: calls::$call) -> Request {
                    let calls::$call $({ $($field),* })? = call;
                    Request::$call $({ $($field),* })?
                }
            }

            impl Mt5Call for calls::$call {
                type Reply = $reply;
            }
        )*

        /// One type for each method that is called: its parameters. [`Mt5Call::Reply`] is what it
        /// gives back.
        #[expect(missing_docs, reason = "types and fields are the package's functions and parameters")]
        pub mod calls {
            use super::{CopyTicks, Selection, ServerTime, SymbolName, Timeframe, TradeRequest};

            $(methods! { @call $call $({ $($field: $type),* })? })*
        }
    };
    (@call $call:ident) => {
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $call;
    };
    (@call $call:ident { $($field:ident: $type:ty),* }) => {
        #[derive(Debug, Clone, PartialEq)]
        pub struct $call {
            $(pub $field: $type,)*
        }
    };
}

/// What holds for a method that nobody calls: as little as possible.
const UNCALLED: CallRules = CallRules {
    effect: Effect::Mutate,
    affinity: Affinity::Primary,
    coalescing: Coalescing::Alone,
    limit: TimeLimit::Init,
    symbol: SymbolUse::Any,
    login: LoginCheck::None,
};

methods! {
    Initialize = "initialize" -> ():
        Mutate Primary Alone Init symbol Any login None;
    Version = "version" -> Version:
        Read Primary Shared Call symbol Any login None;
    // Its answer depends on the call before it.
    LastError = "last_error" -> Error:
        Read Primary Alone Call symbol Any login None;
    AccountInfo = "account_info" -> Box<AccountInfo>:
        Read Primary Shared Call symbol Any login None;
    TerminalInfo = "terminal_info" -> Box<TerminalInfo>:
        Read Primary Shared Call symbol Any login None;

    SymbolsTotal = "symbols_total" -> u64:
        Read Any Shared Call symbol Any login None;
    SymbolsGet = "symbols_get" { group: Option<String> } -> Vec<SymbolInfo>:
        Read Any Shared Call symbol Any login None;
    SymbolInfo = "symbol_info" { symbol: SymbolName } -> Box<SymbolInfo>:
        Read Any Shared Call symbol Any login None;
    SymbolInfoTick = "symbol_info_tick" { symbol: SymbolName } -> Tick:
        Read Any Shared Call symbol Selected login None;
    SymbolSelect = "symbol_select" { symbol: SymbolName, enable: bool } -> ():
        Mutate Any Alone Call symbol Any login None;

    MarketBookAdd = "market_book_add" { symbol: SymbolName } -> ():
        Mutate Primary Alone Call symbol Selected login None;
    // Without a subscription it subscribes for the one call.
    MarketBookGet = "market_book_get" { symbol: SymbolName } -> Vec<BookEntry>:
        Mutate Primary Alone Call symbol Selected login None;
    MarketBookRelease = "market_book_release" { symbol: SymbolName } -> ():
        Mutate Primary Alone Call symbol Any login None;

    CopyRatesFrom = "copy_rates_from"
        { symbol: SymbolName, timeframe: Timeframe, date_from: ServerTime, count: u32 } -> Rows<Rate>:
        Read Any Shared Call symbol Selected login None;
    CopyRatesFromPos = "copy_rates_from_pos"
        { symbol: SymbolName, timeframe: Timeframe, start_pos: u32, count: u32 } -> Rows<Rate>:
        Read Any Shared Call symbol Selected login None;
    CopyRatesRange = "copy_rates_range"
        { symbol: SymbolName, timeframe: Timeframe, date_from: ServerTime, date_to: ServerTime } -> Rows<Rate>:
        Read Any Shared Call symbol Selected login None;
    CopyTicksFrom = "copy_ticks_from"
        { symbol: SymbolName, date_from: ServerTime, count: u32, flags: CopyTicks } -> Rows<Tick>:
        Read Any Shared Call symbol Selected login None;
    CopyTicksRange = "copy_ticks_range"
        { symbol: SymbolName, date_from: ServerTime, date_to: ServerTime, flags: CopyTicks } -> Rows<Tick>:
        Read Any Shared Call symbol Selected login None;

    OrdersTotal = "orders_total" -> u64:
        Read Primary Shared Call symbol Any login Compared;
    OrdersGet = "orders_get" { selection: Selection } -> Vec<Order>:
        Read Primary Shared Call symbol Any login Compared;
    OrderCalcMargin = "order_calc_margin"
        { action: i64, symbol: SymbolName, volume: f64, price: f64 } -> f64:
        Read Primary Shared Call symbol Selected login None;
    OrderCalcProfit = "order_calc_profit"
        { action: i64, symbol: SymbolName, volume: f64, price_open: f64, price_close: f64 } -> f64:
        Read Primary Shared Call symbol Selected login None;
    // A trade belongs to whoever sends it, and so does its check.
    OrderCheck = "order_check" { request: Box<TradeRequest> } -> Box<OrderCheckResult>:
        Read Primary Alone Call symbol Any login None;
    OrderSend = "order_send" { request: Box<TradeRequest> } -> Box<OrderSendResult>:
        Mutate Primary Alone Trade symbol Any login None;

    PositionsTotal = "positions_total" -> u64:
        Read Primary Shared Call symbol Any login Compared;
    PositionsGet = "positions_get" { selection: Selection } -> Vec<Position>:
        Read Primary Shared Call symbol Any login Compared;
    HistoryOrdersTotal = "history_orders_total" { date_from: ServerTime, date_to: ServerTime } -> u64:
        Read Primary Shared Call symbol Any login Compared;
    HistoryOrdersGet = "history_orders_get"
        { date_from: ServerTime, date_to: ServerTime, selection: Selection } -> Vec<Order>:
        Read Primary Shared Call symbol Any login Compared;
    HistoryDealsTotal = "history_deals_total" { date_from: ServerTime, date_to: ServerTime } -> u64:
        Read Primary Shared Call symbol Any login Compared;
    HistoryDealsGet = "history_deals_get"
        { date_from: ServerTime, date_to: ServerTime, selection: Selection } -> Vec<Deal>:
        Read Primary Shared Call symbol Any login Compared;

    // `initialize` logs in, and a worker shuts down when its input closes.
    [never called] Login = "login", Shutdown = "shutdown",
}

impl Method {
    /// The method with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.iter().copied().find(|method| method.name() == name)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(which: impl Fn(CallRules) -> bool) -> Vec<&'static str> {
        let methods = Method::ALL.iter().filter(|method| which(method.rules()));
        methods.map(|method| method.name()).collect()
    }

    #[test]
    fn the_package_has_32_functions_and_each_is_found_by_its_name() {
        assert_eq!(Method::ALL.len(), 32);
        for (index, method) in Method::ALL.iter().enumerate() {
            assert_eq!(*method as usize, index);
            assert_eq!(Method::from_name(method.name()), Some(*method));
        }
    }

    /// The table says it in another order; who adds a method has to think of it twice.
    #[test]
    fn calls_that_are_no_plain_reads_are_never_coalesced() {
        let alone = names(|rules| rules.coalescing == Coalescing::Alone);
        assert_eq!(
            alone,
            [
                "initialize",
                "last_error",
                "symbol_select",
                "market_book_add",
                "market_book_get",
                "market_book_release",
                "order_check",
                "order_send",
                "login",
                "shutdown",
            ]
        );
        let mutating = names(|rules| rules.effect == Effect::Mutate);
        assert!(mutating.iter().all(|name| alone.contains(name)), "{mutating:?}");
    }

    #[test]
    fn only_prices_and_symbols_are_read_from_any_session() {
        assert_eq!(
            names(|rules| rules.affinity == Affinity::Any),
            [
                "symbols_total",
                "symbols_get",
                "symbol_info",
                "symbol_info_tick",
                "symbol_select",
                "copy_rates_from",
                "copy_rates_from_pos",
                "copy_rates_range",
                "copy_ticks_from",
                "copy_ticks_range",
            ]
        );
    }

    #[test]
    fn answers_about_whichever_account_is_logged_in_come_from_the_primary_and_are_compared() {
        let compared = names(|rules| rules.login == LoginCheck::Compared);
        let of_account = |method: &&Method| {
            let name = method.name();
            name.starts_with("history")
                || name.starts_with("orders")
                || name.starts_with("positions")
        };
        let expected: Vec<&str> =
            Method::ALL.iter().filter(of_account).map(|method| method.name()).collect();
        assert_eq!(compared, expected);
        let primary = names(|rules| rules.affinity == Affinity::Primary);
        assert!(compared.iter().all(|name| primary.contains(name)), "{compared:?}");
    }

    #[test]
    fn trades_alone_have_the_limit_of_trades() {
        assert_eq!(names(|rules| rules.limit == TimeLimit::Trade), ["order_send"]);
        let starting = names(|rules| rules.limit == TimeLimit::Init);
        assert_eq!(starting, ["initialize", "login", "shutdown"]);
    }
}
