//! A command to trade, as a client stated it.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::trade::Operation;
use crate::mt5::{Filling, Lots, OrderTime, OrderType, Ticket};

/// A command to trade. Times are unix seconds as clients give them: UTC where the server's zone is
/// known, else the server's own.
#[derive(Debug, Clone, PartialEq)]
pub enum TradeCommand {
    /// A new order.
    Place(NewOrder),
    /// Two opposite positions are to close each other.
    CloseBy {
        /// One position's ticket.
        position: Ticket,
        /// The other's.
        position_by: Ticket,
        /// The symbol of both.
        symbol: String,
        /// Lots, which have to be those of the smaller one.
        volume: Option<Lots>,
        /// The order's magic number.
        magic: i64,
        /// The order's comment.
        comment: String,
    },
    /// A position is to be closed.
    Close {
        /// Its ticket.
        ticket: Ticket,
        /// Lots; `None`: all.
        volume: Option<Lots>,
        /// Points that the price may have moved.
        deviation: u64,
        /// `None`: the market's.
        price: Option<f64>,
        /// The closing order's comment.
        comment: String,
        /// `None`: one that the symbol has.
        type_filling: Option<Filling>,
    },
    /// A position's stops are to change. `None`: as it is; 0: none.
    ModifyPosition {
        /// Its ticket.
        ticket: Ticket,
        /// Stop loss.
        sl: Option<f64>,
        /// Take profit.
        tp: Option<f64>,
    },
    /// A pending order is to change.
    ModifyOrder {
        /// Its ticket.
        ticket: Ticket,
        /// What is to change.
        change: OrderChange,
    },
    /// A pending order is to be cancelled.
    Cancel {
        /// Its ticket.
        ticket: Ticket,
    },
}

/// A new order.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of MqlTradeRequest")]
pub struct NewOrder {
    pub symbol: String,
    pub kind: OrderType,
    pub volume: Lots,
    /// `None`: the market's.
    pub price: Option<f64>,
    pub stoplimit: Option<f64>,
    pub sl: Option<f64>,
    pub tp: Option<f64>,
    pub deviation: u64,
    pub magic: i64,
    pub comment: String,
    /// `None`: one that the symbol has.
    pub type_filling: Option<Filling>,
    pub type_time: Option<OrderTime>,
    pub expiration: Option<i64>,
    pub position: Option<Ticket>,
}

#[cfg(test)]
impl NewOrder {
    /// An order of some lots with nothing else stated.
    pub fn of(symbol: &str, kind: OrderType, volume: f64) -> NewOrder {
        NewOrder {
            symbol: symbol.to_owned(),
            kind,
            volume: Lots::new(volume),
            price: None,
            stoplimit: None,
            sl: None,
            tp: None,
            deviation: 20,
            magic: 0,
            comment: String::new(),
            type_filling: None,
            type_time: None,
            expiration: None,
            position: None,
        }
    }
}

/// What is to change about a pending order. `None`: as it is; 0: none.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of MqlTradeRequest")]
pub struct OrderChange {
    pub price: Option<f64>,
    pub stoplimit: Option<f64>,
    pub sl: Option<f64>,
    pub tp: Option<f64>,
    pub type_time: Option<OrderTime>,
    pub expiration: Option<i64>,
}

impl TradeCommand {
    /// What it does.
    pub fn operation(&self) -> Operation {
        match self {
            TradeCommand::Place(_) => Operation::Place,
            TradeCommand::CloseBy { .. } => Operation::CloseBy,
            TradeCommand::Close { .. } => Operation::Close,
            TradeCommand::ModifyPosition { .. } => Operation::ModifyPosition,
            TradeCommand::ModifyOrder { .. } => Operation::ModifyOrder,
            TradeCommand::Cancel { .. } => Operation::Cancel,
        }
    }

    /// Whether it can only reduce risk, so that it may be sent later than others.
    pub fn only_reduces_risk(&self) -> bool {
        match self {
            TradeCommand::Close { .. }
            | TradeCommand::CloseBy { .. }
            | TradeCommand::Cancel { .. } => true,
            TradeCommand::Place(order) => order.position.is_some(),
            TradeCommand::ModifyPosition { .. } | TradeCommand::ModifyOrder { .. } => false,
        }
    }

    /// SHA-256 of the parsed command. Equal commands have equal fingerprints, whatever the spelling of
    /// their bodies.
    pub fn fingerprint(&self) -> [u8; 32] {
        let canonical = match self {
            TradeCommand::Place(order) => written(&(
                "place",
                (&order.symbol, order.kind.value(), order.volume, order.price),
                (order.stoplimit, order.sl, order.tp, order.deviation),
                (order.magic, &order.comment, order.type_filling.map(Filling::value)),
                (order.type_time.map(OrderTime::value), order.expiration, order.position),
            )),
            TradeCommand::CloseBy { position, position_by, symbol, volume, magic, comment } => {
                written(&("close-by", position, position_by, symbol, volume, magic, comment))
            }
            // As before there were prices, comments and policies, so that keys of then still match.
            TradeCommand::Close {
                ticket,
                volume,
                deviation,
                price: None,
                comment,
                type_filling: None,
            } if comment.is_empty() => written(&("close", ticket, volume, deviation)),
            TradeCommand::Close { ticket, volume, deviation, price, comment, type_filling } => {
                let type_filling = type_filling.map(Filling::value);
                written(&("close", ticket, volume, deviation, price, comment, type_filling))
            }
            TradeCommand::ModifyPosition { ticket, sl, tp } => {
                written(&("modify-position", ticket, sl, tp))
            }
            TradeCommand::ModifyOrder { ticket, change } => written(&(
                "modify-order",
                ticket,
                (change.price, change.stoplimit, change.sl, change.tp),
                (change.type_time.map(OrderTime::value), change.expiration),
            )),
            TradeCommand::Cancel { ticket } => written(&("cancel", ticket)),
        };
        Sha256::digest(canonical).into()
    }
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and texts can be written")
}
