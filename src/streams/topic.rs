//! What subscribers choose, and what they are given.

use std::sync::Arc;

use bytes::Bytes;
use strum::{EnumCount, IntoStaticStr, VariantArray, VariantNames};

use crate::pool::CallError;

/// A kind of event. Streams are asked for by kinds and symbols.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    EnumCount,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
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

impl EventKind {
    /// Every kind, in declaration order.
    pub const ALL: &'static [EventKind] = <EventKind as VariantArray>::VARIANTS;

    /// The names of all kinds.
    pub const NAMES: &'static [&'static str] = <EventKind as VariantNames>::VARIANTS;

    /// Its name in the query, in events and as a label value.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether each of its topics is about one symbol.
    pub fn needs_symbol(self) -> bool {
        matches!(self, EventKind::Ticks | EventKind::Book)
    }

    /// Whether its events are whole states, so that the latest one says everything. Ticks are not:
    /// each of them counts.
    pub fn is_state(self) -> bool {
        self != EventKind::Ticks
    }
}

/// What a subscription is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// Its kind.
    pub kind: EventKind,
    /// Its symbol, if the kind needs one.
    pub symbol: Option<Arc<str>>,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Content {
    /// JSON: a tick, or a state.
    Data(Bytes),
    /// The terminal could not be asked. Told once, until it can be again.
    Failed(CallError),
    /// The gateway's own poll panicked and is repeated. Told once, until a poll works.
    PollPanicked,
    /// Events about the topic are missing before this one.
    Gap,
}

/// Something that happened.
#[derive(Debug)]
pub struct StreamEvent {
    /// Its number among the account's events, from 1, without a hole.
    pub sequence: u64,
    /// What it is about.
    pub topic: Topic,
    /// What it says.
    pub content: Content,
}

impl StreamEvent {
    /// Roughly the bytes that keeping it takes.
    pub fn size(&self) -> u64 {
        let content = match &self.content {
            Content::Data(data) => data.len(),
            Content::Failed(_) | Content::PollPanicked | Content::Gap => 64,
        };
        (content + size_of::<StreamEvent>() + 64) as u64
    }
}
