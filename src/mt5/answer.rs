//! What the calls give back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AccountInfo, BookEntry, Deal, Error, Order, OrderCheckResult, OrderSendResult, Position, Rate,
    Row, Rows, SymbolInfo, TerminalInfo, Tick,
};

/// The terminal's version, the tuple of `version()`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Version of the terminal, such as 500.
    pub version: i64,
    /// Build, such as 5260.
    pub build: i64,
    /// Release date as the terminal writes it, such as `20 Sep 2025`.
    pub release_date: String,
}

/// What one kind of call gives back.
pub trait Reply: ReplyFields + Sized + Send {
    /// Which answer it is.
    const KIND: AnswerKind;

    /// Takes the reply out of an answer.
    ///
    /// # Errors
    /// The answer, if it is of another kind.
    fn from_answer(answer: Answer) -> Result<Self, Answer>;
}

/// What the gateway changes in a reply before a client gets it.
pub trait ReplyFields {
    /// Converts every time, in unix seconds. A time of 0 means that there is none.
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64);

    /// Edits the comment of each order, position and deal. The gateway may have tagged it.
    fn edit_comments(&mut self, edit: &mut impl FnMut(&mut String));
}

macro_rules! answers {
    ($($kind:ident($reply:ty),)*) => {
        /// An answer to any call. Serialises as the bare record, list or number.
        #[derive(Debug, Clone, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "each variant is named after its content")]
        pub enum Answer {
            $($kind($reply),)*
        }

        /// Which answer a call has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "as `Answer`")]
        pub enum AnswerKind {
            $($kind,)*
        }

        impl Answer {
            /// Which one it is.
            pub fn kind(&self) -> AnswerKind {
                match self {
                    $(Answer::$kind(_) => AnswerKind::$kind,)*
                }
            }
        }

        $(
            impl From<$reply> for Answer {
                fn from(reply: $reply) -> Answer {
                    Answer::$kind(reply)
                }
            }

            impl Reply for $reply {
                const KIND: AnswerKind = AnswerKind::$kind;

                fn from_answer(answer: Answer) -> Result<Self, Answer> {
                    match answer {
                        Answer::$kind(reply) => Ok(reply),
                        other => Err(other),
                    }
                }
            }
        )*

        impl ReplyFields for Answer {
            fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
                match self {
                    $(Answer::$kind(reply) => reply.convert_times(convert),)*
                }
            }

            fn edit_comments(&mut self, edit: &mut impl FnMut(&mut String)) {
                match self {
                    $(Answer::$kind(reply) => reply.edit_comments(edit),)*
                }
            }
        }
    };
}

answers! {
    // Of `initialize`, `symbol_select`, `market_book_add`, `market_book_release`: they worked. A
    // `False` is an error.
    Done(()),
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

/// The highest tickets that an answer shows; 0: none. What cannot be a ticket, because it was repaired
/// on its way, does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShownTickets {
    /// Of an order or a position: an order's ticket is that of the position it opens.
    pub order: u64,
    /// Of a deal.
    pub deal: u64,
}

impl Answer {
    /// The time of the newest quote that the answer shows, unix milliseconds of the server's clock.
    pub fn quoted_msc(&self) -> Option<i64> {
        let time = match self {
            Answer::Tick(tick) => tick.time_msc.max(tick.time.saturating_mul(1000)),
            Answer::SymbolInfo(symbol) => symbol.time.saturating_mul(1000),
            // Of many rows and symbols the newest would have to be looked for.
            Answer::Symbols(_) | Answer::Rates(_) | Answer::Ticks(_) => 0,
            Answer::Done(())
            | Answer::Total(_)
            | Answer::Amount(_)
            | Answer::Version(_)
            | Answer::LastError(_)
            | Answer::TerminalInfo(_)
            | Answer::AccountInfo(_)
            | Answer::Book(_)
            | Answer::Orders(_)
            | Answer::Positions(_)
            | Answer::Deals(_)
            | Answer::OrderCheck(_)
            | Answer::OrderSend(_) => 0,
        };
        (time > 0).then_some(time)
    }

    /// The highest tickets that the answer shows.
    pub fn highest_tickets(&self) -> ShownTickets {
        fn highest(tickets: impl Iterator<Item = u64>) -> u64 {
            tickets.filter(|ticket| i64::try_from(*ticket).is_ok()).max().unwrap_or_default()
        }
        match self {
            Answer::Orders(orders) => {
                ShownTickets { order: highest(orders.iter().map(|order| order.ticket)), deal: 0 }
            }
            Answer::Positions(positions) => ShownTickets {
                order: highest(positions.iter().map(|position| position.identifier)),
                deal: 0,
            },
            Answer::Deals(deals) => ShownTickets {
                order: highest(deals.iter().map(|deal| deal.order)),
                deal: highest(deals.iter().map(|deal| deal.ticket)),
            },
            // The journal knows what a trade gave before anybody asks.
            Answer::OrderSend(_) => ShownTickets::default(),
            Answer::Done(())
            | Answer::Total(_)
            | Answer::Amount(_)
            | Answer::Version(_)
            | Answer::LastError(_)
            | Answer::TerminalInfo(_)
            | Answer::AccountInfo(_)
            | Answer::SymbolInfo(_)
            | Answer::Symbols(_)
            | Answer::Tick(_)
            | Answer::Book(_)
            | Answer::Rates(_)
            | Answer::Ticks(_)
            | Answer::OrderCheck(_) => ShownTickets::default(),
        }
    }
}

/// For calls whose method is known at run time alone.
impl Reply for Answer {
    const KIND: AnswerKind = AnswerKind::Done;

    fn from_answer(answer: Answer) -> Result<Self, Answer> {
        Ok(answer)
    }
}

impl<C: ReplyFields> ReplyFields for Box<C> {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        (**self).convert_times(convert);
    }

    fn edit_comments(&mut self, edit: &mut impl FnMut(&mut String)) {
        (**self).edit_comments(edit);
    }
}

impl<C: ReplyFields> ReplyFields for Vec<C> {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        self.iter_mut().for_each(|record| record.convert_times(convert));
    }

    fn edit_comments(&mut self, edit: &mut impl FnMut(&mut String)) {
        self.iter_mut().for_each(|record| record.edit_comments(edit));
    }
}

/// Converts the seconds and milliseconds of one moment.
fn convert_both(seconds: &mut i64, milliseconds: &mut i64, convert: &mut impl FnMut(i64) -> i64) {
    *seconds = convert(*seconds);
    let whole = milliseconds.div_euclid(1000);
    *milliseconds = milliseconds.saturating_add((convert(whole) - whole) * 1000);
}

/// A record of which lists and tables are made.
pub trait Record: ReplyFields {
    /// Its fields that are times in unix seconds.
    const SECONDS: &'static [&'static str];
    /// Its fields that are times in unix milliseconds.
    const MILLISECONDS: &'static [&'static str];
}

/// States which fields of a record are times (`moment`: seconds and milliseconds of the same one),
/// and which one is a comment that the gateway may have tagged.
macro_rules! records {
    ($($record:ident {
        $(moment $seconds:ident $milliseconds:ident;)*
        $(seconds $only_seconds:ident;)*
        $(comment $comment:ident;)?
    })*) => {
        $(
            impl Record for $record {
                const SECONDS: &'static [&'static str] =
                    &[$(stringify!($seconds),)* $(stringify!($only_seconds),)*];
                const MILLISECONDS: &'static [&'static str] = &[$(stringify!($milliseconds),)*];
            }

            #[allow(unused_variables, reason = "some records have no times, or no comment")]
            impl ReplyFields for $record {
                fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
                    $(convert_both(&mut self.$seconds, &mut self.$milliseconds, convert);)*
                    $(self.$only_seconds = convert(self.$only_seconds);)*
                }

                fn edit_comments(&mut self, edit: &mut impl FnMut(&mut String)) {
                    $(edit(&mut self.$comment);)?
                }
            }
        )*

        #[cfg(test)]
        fn check_records() {
            $(tests::check_record(<$record>::default());)*
        }
    };
}

records! {
    Version {}
    Error {}
    TerminalInfo {}
    AccountInfo {}
    BookEntry {}
    SymbolInfo { seconds time; seconds start_time; seconds expiration_time; }
    Order {
        moment time_setup time_setup_msc;
        moment time_done time_done_msc;
        seconds time_expiration;
        comment comment;
    }
    Position { moment time time_msc; moment time_update time_update_msc; comment comment; }
    Deal { moment time time_msc; comment comment; }
}

/// Numbers have neither times nor comments.
macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl ReplyFields for $number {
            fn convert_times(&mut self, _: &mut impl FnMut(i64) -> i64) {}
            fn edit_comments(&mut self, _: &mut impl FnMut(&mut String)) {}
        })*
    };
}

numbers!((), u64, f64);

impl<R: Row> ReplyFields for Rows<R> {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        let moved = self.iter().map(|row| row.moved(convert(row.time()) - row.time()));
        *self = Rows::pack(moved);
    }

    fn edit_comments(&mut self, _: &mut impl FnMut(&mut String)) {}
}

impl ReplyFields for Tick {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        *self = self.moved(convert(self.time) - self.time);
    }

    fn edit_comments(&mut self, _: &mut impl FnMut(&mut String)) {}
}

// The comments of results are the server's own words, and those of their requests are shown by
// whoever sent them.
impl ReplyFields for OrderCheckResult {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        self.request.expiration = convert(self.request.expiration);
    }

    fn edit_comments(&mut self, _: &mut impl FnMut(&mut String)) {}
}

impl ReplyFields for OrderSendResult {
    fn convert_times(&mut self, convert: &mut impl FnMut(i64) -> i64) {
        self.request.expiration = convert(self.request.expiration);
    }

    fn edit_comments(&mut self, _: &mut impl FnMut(&mut String)) {}
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Map, Value};

    use super::*;

    /// Fields whose names speak of times although they are none.
    const NO_TIMES: [&str; 2] = ["type_time", "expiration_mode"];

    fn is_time(name: &str) -> bool {
        (name.contains("time") || name.contains("expiration")) && !NO_TIMES.contains(&name)
    }

    fn fields(record: &impl Serialize) -> Map<String, Value> {
        match serde_json::to_value(record).unwrap() {
            Value::Object(fields) => fields,
            other => panic!("a record is no object: {other}"),
        }
    }

    /// Gives every time of a record a value, converts, and compares all of its fields.
    pub(super) fn check_record<T>(record: T)
    where
        T: Record + Serialize + DeserializeOwned,
    {
        let name = std::any::type_name::<T>();
        let mut before = fields(&record);
        for (field, value) in &mut before {
            if is_time(field) {
                *value = if field.ends_with("_msc") { 7_000_123 } else { 7_000 }.into();
            }
        }
        let mut record: T = serde_json::from_value(Value::Object(before.clone())).unwrap();
        record.convert_times(&mut |time| time - 3_600);
        record.edit_comments(&mut |comment| comment.push_str("edited"));
        for (field, value) in fields(&record) {
            let expected = match &before[&field] {
                Value::Number(time) if is_time(&field) => {
                    let hour = if field.ends_with("_msc") { 3_600_000 } else { 3_600 };
                    Value::from(time.as_i64().unwrap() - hour)
                }
                Value::String(_) if field == "comment" => Value::from("edited"),
                other => other.clone(),
            };
            assert_eq!(value, expected, "{name}.{field}");
        }
        let listed = |field: &str| T::SECONDS.contains(&field) || T::MILLISECONDS.contains(&field);
        let times: Vec<&String> = before.keys().filter(|field| is_time(field)).collect();
        assert!(times.iter().all(|field| listed(field)), "{name}: {times:?}");
        assert_eq!(times.len(), T::SECONDS.len() + T::MILLISECONDS.len(), "{name}: {times:?}");
    }

    #[test]
    fn whatever_is_named_like_a_time_or_a_comment_is_one() {
        check_records();
    }

    #[test]
    fn a_tick_is_moved_with_its_milliseconds() {
        let (bid, ask, last, volume, flags, volume_real) = (1.0, 2.0, 3.0, 4, 5, 6.0);
        let tick =
            |time, time_msc| Tick { time, bid, ask, last, volume, time_msc, flags, volume_real };
        let mut moved = tick(7_000, 7_000_123);
        moved.convert_times(&mut |time| time - 3_600);
        assert_eq!(moved, tick(3_400, 3_400_123));
    }

    #[test]
    fn requests_inside_results_are_converted() {
        let mut checked = OrderCheckResult::default();
        checked.request.expiration = 7_000;
        checked.convert_times(&mut |time| time - 1);
        assert_eq!(checked.request.expiration, 6_999);
        let mut sent = OrderSendResult::default();
        sent.request.expiration = 7_000;
        sent.convert_times(&mut |time| time - 1);
        assert_eq!(sent.request.expiration, 6_999);
    }

    #[test]
    fn a_reply_is_taken_out_of_its_own_kind_of_answer_only() {
        assert_eq!(u64::from_answer(Answer::from(7_u64)).ok(), Some(7));
        let other = u64::from_answer(Answer::from(7.0)).unwrap_err();
        assert_eq!(other.kind(), AnswerKind::Amount);
    }
}
