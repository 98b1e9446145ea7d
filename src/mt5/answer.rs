//! What the calls give back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AccountInfo, BookEntry, Deal, Error, Order, OrderCheckResult, OrderSendResult, Position, Rate,
    Row, Rows, SymbolInfo, TerminalInfo, Tick,
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

/// Seconds and milliseconds of one moment.
fn convert_both(seconds: &mut i64, milliseconds: &mut i64, convert: &mut impl FnMut(i64) -> i64) {
    *seconds = convert(*seconds);
    let whole = milliseconds.div_euclid(1000);
    *milliseconds = milliseconds.saturating_add((convert(whole) - whole) * 1000);
}

fn convert_rows<R: Row>(rows: &mut Rows<R>, convert: &mut impl FnMut(i64) -> i64) {
    let moved = rows.iter().map(|row| row.moved(convert(row.time()) - row.time()));
    *rows = Rows::pack(moved);
}

impl Answer {
    /// Converts every time. A time of 0 means that there is none.
    pub fn convert_times(&mut self, mut convert: impl FnMut(i64) -> i64) {
        let convert = &mut convert;
        match self {
            Answer::SymbolInfo(symbol) => symbol.convert_times(convert),
            Answer::Symbols(symbols) => {
                symbols.iter_mut().for_each(|symbol| symbol.convert_times(convert));
            }
            Answer::Tick(tick) => *tick = tick.moved(convert(tick.time) - tick.time),
            Answer::Rates(rows) => convert_rows(rows, convert),
            Answer::Ticks(rows) => convert_rows(rows, convert),
            Answer::Orders(orders) => orders.iter_mut().for_each(|order| {
                convert_both(&mut order.time_setup, &mut order.time_setup_msc, convert);
                convert_both(&mut order.time_done, &mut order.time_done_msc, convert);
                order.time_expiration = convert(order.time_expiration);
            }),
            Answer::Positions(positions) => positions.iter_mut().for_each(|position| {
                convert_both(&mut position.time, &mut position.time_msc, convert);
                convert_both(&mut position.time_update, &mut position.time_update_msc, convert);
            }),
            Answer::Deals(deals) => deals.iter_mut().for_each(|deal| {
                convert_both(&mut deal.time, &mut deal.time_msc, convert);
            }),
            Answer::OrderCheck(result) => {
                result.request.expiration = convert(result.request.expiration);
            }
            Answer::OrderSend(result) => {
                result.request.expiration = convert(result.request.expiration);
            }
            Answer::Done
            | Answer::Total(_)
            | Answer::Amount(_)
            | Answer::Version(_)
            | Answer::LastError(_)
            | Answer::TerminalInfo(_)
            | Answer::AccountInfo(_)
            | Answer::Book(_) => {}
        }
    }
}

impl SymbolInfo {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        for time in [&mut self.time, &mut self.start_time, &mut self.expiration_time] {
            *time = convert(*time);
        }
    }
}
