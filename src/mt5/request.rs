//! The 32 calls with their parameters.

use super::{CopyTicks, Method, Timeframe, TradeRequest};

/// Which orders, positions or history entries are asked for. The package takes
/// one of these at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// Those of one symbol.
    Symbol(String),
    /// Those whose symbol passes a group filter.
    Group(String),
    /// The one with this ticket; in a history of deals, those of this order.
    Ticket(u64),
    /// History only: those of this position.
    Position(u64),
}

/// A call of the package with its parameters. Times are unix seconds of the
/// server's clock; both ends of a range are included.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants and fields are the package's functions and parameters"
)]
pub enum Request {
    Initialize,
    Login,
    Shutdown,
    Version,
    LastError,
    AccountInfo,
    TerminalInfo,
    SymbolsTotal,
    SymbolsGet { group: Option<String> },
    SymbolInfo { symbol: String },
    SymbolInfoTick { symbol: String },
    SymbolSelect { symbol: String, enable: bool },
    MarketBookAdd { symbol: String },
    MarketBookGet { symbol: String },
    MarketBookRelease { symbol: String },
    CopyRatesFrom { symbol: String, timeframe: Timeframe, date_from: i64, count: u32 },
    CopyRatesFromPos { symbol: String, timeframe: Timeframe, start_pos: u32, count: u32 },
    CopyRatesRange { symbol: String, timeframe: Timeframe, date_from: i64, date_to: i64 },
    CopyTicksFrom { symbol: String, date_from: i64, count: u32, flags: CopyTicks },
    CopyTicksRange { symbol: String, date_from: i64, date_to: i64, flags: CopyTicks },
    OrdersTotal,
    OrdersGet { selection: Selection },
    OrderCalcMargin { action: i64, symbol: String, volume: f64, price: f64 },
    OrderCalcProfit { action: i64, symbol: String, volume: f64, price_open: f64, price_close: f64 },
    OrderCheck { request: Box<TradeRequest> },
    OrderSend { request: Box<TradeRequest> },
    PositionsTotal,
    PositionsGet { selection: Selection },
    HistoryOrdersTotal { date_from: i64, date_to: i64 },
    HistoryOrdersGet { date_from: i64, date_to: i64, selection: Selection },
    HistoryDealsTotal { date_from: i64, date_to: i64 },
    HistoryDealsGet { date_from: i64, date_to: i64, selection: Selection },
}

impl Request {
    /// The function that is called.
    pub fn method(&self) -> Method {
        match self {
            Request::Initialize => Method::Initialize,
            Request::Login => Method::Login,
            Request::Shutdown => Method::Shutdown,
            Request::Version => Method::Version,
            Request::LastError => Method::LastError,
            Request::AccountInfo => Method::AccountInfo,
            Request::TerminalInfo => Method::TerminalInfo,
            Request::SymbolsTotal => Method::SymbolsTotal,
            Request::SymbolsGet { .. } => Method::SymbolsGet,
            Request::SymbolInfo { .. } => Method::SymbolInfo,
            Request::SymbolInfoTick { .. } => Method::SymbolInfoTick,
            Request::SymbolSelect { .. } => Method::SymbolSelect,
            Request::MarketBookAdd { .. } => Method::MarketBookAdd,
            Request::MarketBookGet { .. } => Method::MarketBookGet,
            Request::MarketBookRelease { .. } => Method::MarketBookRelease,
            Request::CopyRatesFrom { .. } => Method::CopyRatesFrom,
            Request::CopyRatesFromPos { .. } => Method::CopyRatesFromPos,
            Request::CopyRatesRange { .. } => Method::CopyRatesRange,
            Request::CopyTicksFrom { .. } => Method::CopyTicksFrom,
            Request::CopyTicksRange { .. } => Method::CopyTicksRange,
            Request::OrdersTotal => Method::OrdersTotal,
            Request::OrdersGet { .. } => Method::OrdersGet,
            Request::OrderCalcMargin { .. } => Method::OrderCalcMargin,
            Request::OrderCalcProfit { .. } => Method::OrderCalcProfit,
            Request::OrderCheck { .. } => Method::OrderCheck,
            Request::OrderSend { .. } => Method::OrderSend,
            Request::PositionsTotal => Method::PositionsTotal,
            Request::PositionsGet { .. } => Method::PositionsGet,
            Request::HistoryOrdersTotal { .. } => Method::HistoryOrdersTotal,
            Request::HistoryOrdersGet { .. } => Method::HistoryOrdersGet,
            Request::HistoryDealsTotal { .. } => Method::HistoryDealsTotal,
            Request::HistoryDealsGet { .. } => Method::HistoryDealsGet,
        }
    }

    /// Converts every time that is asked with.
    pub fn convert_times(&mut self, convert: impl Fn(i64) -> i64) {
        match self {
            Request::CopyRatesFrom { date_from, .. } | Request::CopyTicksFrom { date_from, .. } => {
                *date_from = convert(*date_from);
            }
            Request::CopyRatesRange { date_from, date_to, .. }
            | Request::CopyTicksRange { date_from, date_to, .. }
            | Request::HistoryOrdersTotal { date_from, date_to }
            | Request::HistoryOrdersGet { date_from, date_to, .. }
            | Request::HistoryDealsTotal { date_from, date_to }
            | Request::HistoryDealsGet { date_from, date_to, .. } => {
                *date_from = convert(*date_from);
                *date_to = convert(*date_to);
            }
            Request::OrderCheck { request } | Request::OrderSend { request } => {
                request.expiration = convert(request.expiration);
            }
            _ => {}
        }
    }
}
