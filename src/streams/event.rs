//! What a stream is made of.

use std::sync::Arc;

use bytes::Bytes;
use strum::{IntoStaticStr, VariantNames};

use crate::pool::CallError;

/// What can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// Every tick of a symbol.
    Ticks,
    /// A symbol's depth of market.
    Book,
    /// The open positions.
    Positions,
    /// The pending orders.
    Orders,
    /// The account's balance, equity and margin.
    Account,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] =
        [Kind::Ticks, Kind::Book, Kind::Positions, Kind::Orders, Kind::Account];

    /// The names of all, in their order.
    pub const NAMES: &'static [&'static str] = <Kind as VariantNames>::VARIANTS;

    /// Its name in `events`, and that of its events.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it is about one symbol.
    pub fn is_of_symbol(self) -> bool {
        matches!(self, Kind::Ticks | Kind::Book)
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// Its kind.
    pub kind: Kind,
    /// Its symbol, for kinds that are about one.
    pub symbol: Option<Arc<str>>,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Content {
    /// JSON: the tick, or how things stand now.
    Data(Bytes),
    /// The terminal could not be asked; told once, until it can be.
    Failed(CallError),
    /// The gateway's own poll loop panicked and is started again; told once, until it reads the
    /// topic again.
    PollPanicked,
    /// What happened before this is not known.
    Gap,
}

/// Something that happened, as it is kept for readers.
#[derive(Debug)]
pub struct Event {
    /// Its place among the account's events, from 1.
    pub sequence: u64,
    /// What it is about.
    pub topic: Topic,
    /// What it says.
    pub content: Content,
}

impl Event {
    /// Bytes that keeping it takes, roughly.
    pub fn size(&self) -> usize {
        let content = match &self.content {
            Content::Data(data) => data.len(),
            Content::Failed(_) | Content::PollPanicked | Content::Gap => 64,
        };
        content + size_of::<Event>() + 64
    }
}
