//! What a call is made with.

use std::hash::{Hash, Hasher};

use serde::Serialize;
use smallvec::SmallVec;

use super::{CopyTicks, Reply, Request, ServerTime, SymbolName, Ticket, Timeframe, TradeRequest};

/// A call of the package whose reply has a type. [`calls`](super::calls) has one for each method.
pub trait Mt5Call: Into<Request> + Send {
    /// What the call gives back.
    type Reply: Reply;
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
    Ticket(Ticket),
    /// History only: those of this position.
    Position(Ticket),
}

/// The arguments of a call, as the package's function takes them.
#[derive(Debug, Default, PartialEq)]
pub struct Arguments<'a> {
    /// In the order of the function's parameters. No function has more than five, and
    /// `order_send` has the moment until which it may be called as well.
    pub positional: SmallVec<[Argument<'a>; 6]>,
    /// Given by its name.
    pub named: Option<(&'static str, Argument<'a>)>,
}

/// An argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Argument<'a> {
    Integer(i64),
    Unsigned(u64),
    Real(f64),
    Flag(bool),
    Text(&'a str),
    Trade(&'a TradeRequest),
}

// Only reads are joined by others, so a trade request needs no hash of its own.
impl Hash for Argument<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Argument::Integer(number) => number.hash(state),
            Argument::Unsigned(number) => number.hash(state),
            // 0 and -0 are equal.
            Argument::Real(number) => (number + 0.0).to_bits().hash(state),
            Argument::Flag(flag) => flag.hash(state),
            Argument::Text(text) => text.hash(state),
            Argument::Trade(request) => request.symbol.hash(state),
        }
    }
}

/// What has to be known of a parameter beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A time, which the package takes as a `datetime`.
    Time,
    /// The name of a symbol.
    Symbol,
    /// Anything else.
    Plain,
}

/// A type that calls have as a parameter.
pub trait CallParameter {
    /// What it is.
    const KIND: ParameterKind;

    /// Appends its argument.
    fn put<'a>(&'a self, arguments: &mut Arguments<'a>);
}

macro_rules! positional {
    ($($type:ty: $kind:ident, $value:ident => $argument:expr;)*) => {
        $(impl CallParameter for $type {
            const KIND: ParameterKind = ParameterKind::$kind;

            fn put<'a>(&'a self, arguments: &mut Arguments<'a>) {
                let $value = self;
                arguments.positional.push($argument);
            }
        })*
    };
}

positional! {
    SymbolName: Symbol, name => Argument::Text(name);
    ServerTime: Time, time => Argument::Integer(time.seconds());
    Timeframe: Plain, timeframe => Argument::Integer(timeframe.value());
    CopyTicks: Plain, flags => Argument::Integer(flags.value());
    u32: Plain, number => Argument::Unsigned((*number).into());
    i64: Plain, number => Argument::Integer(*number);
    f64: Plain, number => Argument::Real(*number);
    bool: Plain, flag => Argument::Flag(*flag);
    Box<TradeRequest>: Plain, request => Argument::Trade(request);
}

/// A group filter.
impl CallParameter for Option<String> {
    const KIND: ParameterKind = ParameterKind::Plain;

    fn put<'a>(&'a self, arguments: &mut Arguments<'a>) {
        arguments.named = self.as_deref().map(|group| ("group", Argument::Text(group)));
    }
}

impl CallParameter for Selection {
    const KIND: ParameterKind = ParameterKind::Plain;

    fn put<'a>(&'a self, arguments: &mut Arguments<'a>) {
        arguments.named = match self {
            Selection::All => None,
            Selection::Symbol(symbol) => Some(("symbol", Argument::Text(symbol))),
            Selection::Group(group) => Some(("group", Argument::Text(group))),
            Selection::Ticket(ticket) => Some(("ticket", Argument::Unsigned(ticket.get()))),
            Selection::Position(position) => Some(("position", Argument::Unsigned(position.get()))),
        };
        // The package takes a ticket or a position without dates.
        if matches!(self, Selection::Ticket(_) | Selection::Position(_)) {
            arguments.positional.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mt5::{Method, SymbolUse, calls};

    #[test]
    fn arguments_come_in_the_order_of_the_packages_parameters() {
        let (symbol, timeframe) = (SymbolName::from_trusted("EURUSD"), Timeframe::H1);
        let date_from = ServerTime::from_seconds(7);
        let request: Request =
            calls::CopyRatesFrom { symbol, timeframe, date_from, count: 9 }.into();
        let expected = [
            Argument::Text("EURUSD"),
            Argument::Integer(16385),
            Argument::Integer(7),
            Argument::Unsigned(9),
        ];
        assert_eq!(request.arguments().positional[..], expected);
        assert_eq!(request.arguments().named, None);
    }

    #[test]
    fn a_ticket_is_asked_for_without_dates() {
        let (date_from, date_to) = (ServerTime::from_seconds(7), ServerTime::from_seconds(8));
        let of = |selection| -> (usize, Option<&'static str>) {
            let request = Request::from(calls::HistoryDealsGet { date_from, date_to, selection });
            let arguments = request.arguments();
            (arguments.positional.len(), arguments.named.map(|(name, _)| name))
        };
        assert_eq!(of(Selection::All), (2, None));
        assert_eq!(of(Selection::Group("*USD*".to_owned())), (2, Some("group")));
        assert_eq!(of(Selection::Ticket(Ticket::new(7))), (0, Some("ticket")));
        assert_eq!(of(Selection::Position(Ticket::new(7))), (0, Some("position")));
    }

    #[test]
    fn a_method_whose_symbol_is_selected_has_one() {
        for method in Method::ALL {
            if method.rules().symbol == SymbolUse::Selected {
                assert!(method.parameters().contains(&ParameterKind::Symbol), "{method}");
            }
        }
    }
}
