//! What a call is made with.

use super::{Answer, Reply, Request};

/// A call of the package whose reply has a type. [`calls`](super::calls) has one for each method.
pub trait Mt5Call: Into<Request> + Send {
    /// What the call gives back.
    type Reply: Reply;
}

/// A call whose method is known at run time alone.
impl Mt5Call for Request {
    type Reply = Answer;
}

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

impl Request {
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
