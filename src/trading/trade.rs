//! A trade as the journal keeps it, and as clients see it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tag;
use crate::mt5::{OrderSendResult, Retcode, TradeRequest};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)*
        }

        impl $type {
            /// Every one.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// Its name in the journal and in answers.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// The one with this name.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

words! {
    /// What is known about a trade's fate.
    State {
        /// It is on disk and on its way.
        Sending = "sending",
        /// The broker carried it out.
        Executed = "executed",
        /// The broker refused it.
        Refused = "refused",
        /// Nobody knows yet.
        Unknown = "unknown",
        /// It did not happen.
        NotFound = "not-found",
    }
}

words! {
    /// What a trade does.
    Operation {
        /// Places an order, pending or at the market.
        Place = "place",
        /// Closes two positions by each other.
        CloseBy = "close-by",
        /// Closes a position, or a part of it.
        Close = "close",
        /// Changes a position's stops.
        ModifyPosition = "modify-position",
        /// Changes a pending order.
        ModifyOrder = "modify-order",
        /// Cancels a pending order.
        Cancel = "cancel",
    }
}

/// What became of a trade, in MT5's fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TradeResult {
    /// `TRADE_RETCODE_*`.
    #[schema(example = 10009)]
    pub retcode: i64,
    /// Its name.
    #[schema(example = "done")]
    pub retcode_name: String,
    /// Ticket of the deal, 0 if there was none.
    pub deal: u64,
    /// Ticket of the order, 0 if there was none.
    pub order: u64,
    /// Lots.
    #[schema(example = 0.1)]
    pub volume: f64,
    /// Price of the deal or order.
    pub price: f64,
    /// The broker's bid; `null` if the trade was found by looking for it.
    pub bid: Option<f64>,
    /// The broker's ask; `null` if the trade was found by looking for it.
    pub ask: Option<f64>,
    /// The broker's words.
    pub comment: String,
    /// Number that the terminal gave the request; 0 if it is not known.
    pub request_id: u64,
    /// The exchange's own code.
    pub retcode_external: i64,
}

impl TradeResult {
    /// What the terminal answered.
    pub fn answered(result: &OrderSendResult) -> TradeResult {
        TradeResult {
            retcode: result.retcode,
            retcode_name: Retcode::from_code(result.retcode).name().to_owned(),
            deal: result.deal,
            order: result.order,
            volume: result.volume,
            price: result.price,
            bid: Some(result.bid),
            ask: Some(result.ask),
            comment: tag::strip(&result.comment).into_owned(),
            request_id: result.request_id,
            retcode_external: result.retcode_external,
        }
    }

    /// What was found at the broker after the answer was lost.
    pub fn found(retcode: Retcode, order: u64, deal: u64, volume: f64, price: f64) -> TradeResult {
        TradeResult {
            retcode: retcode.code(),
            retcode_name: retcode.name().to_owned(),
            deal,
            order,
            volume,
            price,
            bid: None,
            ask: None,
            comment: "found by reconciliation".to_owned(),
            request_id: 0,
            retcode_external: 0,
        }
    }
}

/// A trade, as it stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    /// The gateway's own id.
    pub trade_id: String,
    /// Name of the account.
    pub account: String,
    /// The account's number at the broker.
    pub login: u64,
    /// What it does.
    pub operation: Operation,
    /// The client's key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of what the client asked for.
    pub fingerprint: [u8; 32],
    /// By which it is recognised at the broker.
    pub tag: Option<String>,
    /// What is known about its fate.
    pub state: State,
    /// When its intent was written, unix milliseconds.
    pub created_msc: i64,
    /// When its state changed last, unix milliseconds.
    pub updated_msc: i64,
    /// The time of the last tick before it was sent, unix seconds of the server's clock.
    pub server_time: i64,
    /// The position that it changes or closes, by `POSITION_IDENTIFIER`; else 0.
    pub position_id: u64,
    /// Why it stands where it stands, if there is more to say.
    pub detail: Option<String>,
    /// Orders any of which could be it.
    pub candidates: Vec<u64>,
    /// What was sent. Removed by retention.
    pub request: Option<TradeRequest>,
    /// What came of it. Removed by retention, but for its codes and tickets.
    pub result: Option<TradeResult>,
}

impl Trade {
    /// Whether another trade would look just like it at the broker.
    pub fn looks_like(&self, other: &Trade) -> bool {
        let shape = |trade: &Trade| {
            let request = trade.request.as_ref()?;
            let (symbol, volume) = (request.symbol.clone(), request.volume.to_bits());
            Some((symbol, request.r#type, volume, request.magic, trade.position_id))
        };
        shape(self) == shape(other)
    }
}
