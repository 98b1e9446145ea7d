//! What the calls give back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AccountInfo, BookEntry, Deal, Error, Order, OrderCheckResult, OrderSendResult, Position, Rate,
    Rows, SymbolInfo, TerminalInfo, Tick,
};

/// The terminal's version, the tuple of `version()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Version of the terminal, such as 500.
    pub version: i64,
    /// Build, such as 5260.
    pub build: i64,
    /// Release date as the terminal writes it, such as `20 Sep 2025`.
    pub release_date: String,
}

/// An answer to a call. Serialises as the bare record, list or number.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Answer {
    /// `initialize`, `login`, `shutdown`, `symbol_select`, `market_book_add`,
    /// `market_book_release`: they worked. A `False` is an error.
    Done,
    Total(u64),
    Amount(f64),
    Version(Version),
    LastError(Error),
    TerminalInfo(Box<TerminalInfo>),
    AccountInfo(Box<AccountInfo>),
    SymbolInfo(Box<SymbolInfo>),
    Symbols(Vec<SymbolInfo>),
    Tick(Tick),
    Book(Vec<BookEntry>),
    Rates(Rows<Rate>),
    Ticks(Rows<Tick>),
    Orders(Vec<Order>),
    Positions(Vec<Position>),
    Deals(Vec<Deal>),
    OrderCheck(Box<OrderCheckResult>),
    OrderSend(Box<OrderSendResult>),
}
