//! The vocabulary of MetaTrader 5: its methods, requests, records, error codes,
//! timeframes and flags, under the names that its Python package gives them.
//!
//! This room is data and arithmetic only. It must never do I/O, and it knows
//! nothing of terminals, pools or HTTP.

mod account_values;
mod answer;
mod clock;
mod clock_offset;
mod error;
mod group;
mod identity;
mod method;
pub mod names;
mod quantity;
mod record;
mod request;
mod retcode;
mod rows;
mod symbol;
mod time;
mod timeframe;
mod trade;

pub use account_values::AccountValues;
pub use answer::{Answer, AnswerKind, Record, Reply, ReplyFields, ShownTickets, Version};
pub use clock::ServerClock;
pub use clock_offset::{
    ClockVerdict, Contradiction, TickLook, fitting_zone, judge, offset, seconds_ahead, to_quarter,
};
pub use error::{Error, ErrorType};
pub use group::{Group, wildcard};
pub use identity::{Identity, SIMULATED, is_other_account};
pub use method::{
    Affinity, CallRules, Coalescing, Effect, LoginCheck, Method, Request, SymbolUse, TimeLimit,
    calls,
};
pub use quantity::{Lots, Ticket};
pub use record::*;
pub use request::{Argument, Arguments, CallParameter, Mt5Call, ParameterKind, Selection};
pub use retcode::{Retcode, Verdict};
pub use rows::{Column, Rate, Row, RowField, RowFields, Rows, Tick};
pub use symbol::SymbolName;
pub use time::{ServerTime, UtcTime};
pub use timeframe::{CopyTicks, Timeframe, tick_flag};
pub use trade::{
    DealEntry, Execution, Filling, ORDER_TYPE_CLOSE_BY, OrderState, OrderTime, OrderType,
    TradeAction,
};
