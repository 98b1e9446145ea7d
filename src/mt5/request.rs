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
}
