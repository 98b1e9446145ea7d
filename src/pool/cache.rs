//! Bars of a past that does not change any more, kept within a memory bound.
//!
//! Only answers to ranges whose last bar has closed are kept, for an hour at most: brokers correct
//! their history now and then. A terminal that is still downloading a history gives what it has, so
//! an answer is believed when it was the same twice. Trading never looks here.

use std::time::Duration;

use tokio::time::Instant;

use super::bars::Piece;
use crate::metrics::AccountId;
use crate::mt5::{Rate, Rows, Timeframe};

/// How old what is kept may become.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// What an entry takes beside its rows, roughly: its key and the cache's own.
const OVERHEAD: usize = 256;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub account: AccountId,
    pub symbol: String,
    pub timeframe: Timeframe,
    pub from: i64,
    pub to: i64,
}

#[derive(Clone)]
struct Kept {
    rows: Rows<Rate>,
    at: Instant,
    /// Whether the terminal gave it twice.
    confirmed: bool,
}

/// The bars that are kept. Cheap to clone.
#[derive(Clone)]
pub struct Cache(moka::sync::Cache<Key, Kept>);

impl Cache {
    /// One that takes so many bytes at most.
    pub fn new(bytes: u64) -> Cache {
        let weigh = |key: &Key, kept: &Kept| {
            let size = kept.rows.as_bytes().len() + key.symbol.len() + OVERHEAD;
            u32::try_from(size).unwrap_or(u32::MAX)
        };
        Cache(moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }

    /// What was kept, unless it is too old or was given once only.
    pub fn get(&self, key: &Key) -> Option<Piece<Rows<Rate>>> {
        let kept = self.0.get(key)?;
        let age = kept.at.elapsed();
        (kept.confirmed && age < LONGEST).then_some(Piece { rows: kept.rows, age: Some(age) })
    }

    /// Keeps what a terminal gave at a moment.
    pub fn keep(&self, key: Key, rows: &Rows<Rate>, at: Instant) {
        let earlier = self.0.get(&key);
        let confirmed = earlier.is_some_and(|kept| kept.rows.as_bytes() == rows.as_bytes());
        // A row's buffer may be part of a larger one.
        self.0.insert(key, Kept { rows: rows.detached(), at, confirmed });
    }
}
