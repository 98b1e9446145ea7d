//! Builds the request of a command: fills in what the client left out, and checks prices and volumes
//! against the symbol, before anything is written to the journal.
//!
//! The reads here count towards the time within which a trade must be sent, so there are at most two. A
//! command that reduces risk needs no quote, because a symbol that is hidden, delisted or without ticks
//! must not keep a position open.

mod exposure;
mod reads;
mod requests;
mod rules;

use self::reads::Asker;
use self::requests::{Closing, close, modify_order, modify_position, place};
use super::Trade;
use super::command::{NewOrder, TradeCommand};
use super::tag;
use super::trade::{Before, Operation};
use crate::mt5::{Order, Position, Ticket, TradeAction, TradeRequest};
use crate::pool::{Account, CallContext, CallError};

pub use self::exposure::Exposure;
pub use self::rules::StopRules;

/// Why a command was not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It breaks a rule. Names the field and the rule.
    #[error("{0}")]
    Invalid(String),
    /// There is no such position or order.
    #[error("{0}")]
    NotFound(String),
    /// The terminal could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A request that is ready to be sent, and what a search for it may need.
pub struct Prepared {
    pub request: TradeRequest,
    pub tag: Option<String>,
    pub position_id: u64,
    pub before: Option<Before>,
    pub exposure: Exposure,
    /// What the symbol asks of stops; `None`: the symbol was not asked about.
    pub stop_rules: Option<StopRules>,
}

type Ready<T> = Result<T, Refused>;

/// Prepares a command. Only reads from the terminal.
pub async fn prepare(
    account: &Account,
    command: &TradeCommand,
    context: &CallContext,
    tagged: bool,
) -> Ready<Prepared> {
    let ask = Asker { account, context };
    let mut prepared = match command {
        TradeCommand::Place(order) => place(&ask, order).await?,
        TradeCommand::CloseBy { position, position_by, symbol, volume, magic, comment } => {
            let (one, other) = (ask.position(*position).await?, ask.position(*position_by).await?);
            rules::comment(comment)?;
            rules::pair(&one, &other, symbol, *volume)?;
            let request = TradeRequest {
                action: TradeAction::CloseBy.value(),
                symbol: one.symbol.clone(),
                position: one.ticket,
                position_by: other.ticket,
                magic: *magic,
                comment: comment.clone(),
                ..TradeRequest::default()
            };
            Prepared::of(request, one.identifier, Exposure::Reduces)
        }
        TradeCommand::Close { ticket, volume, deviation, price, comment, type_filling } => {
            let position = ask.position(*ticket).await?;
            let wanted = Closing { volume: *volume, price: *price, type_filling: *type_filling };
            let mut prepared = close(&ask, &position, wanted).await?;
            rules::comment(comment)?;
            prepared.request.deviation = *deviation;
            prepared.request.comment.clone_from(comment);
            prepared
        }
        TradeCommand::ModifyPosition { ticket, sl, tp } => {
            let position = ask.position(*ticket).await?;
            modify_position(&ask, &position, *sl, *tp).await?
        }
        TradeCommand::ModifyOrder { ticket, change } => {
            let order = ask.order(*ticket).await?;
            modify_order(&ask, &order, change).await?
        }
        TradeCommand::Cancel { ticket } => {
            let order = ask.order(*ticket).await?;
            let request = TradeRequest {
                action: TradeAction::Remove.value(),
                symbol: order.symbol.clone(),
                order: order.ticket,
                magic: order.magic,
                ..TradeRequest::default()
            };
            Prepared {
                before: Some(Before::of_order(&order)),
                ..Prepared::of(request, 0, Exposure::Reduces)
            }
        }
    };
    if tagged && makes_an_order(command.operation()) {
        put_tag(&mut prepared);
    }
    Ok(prepared)
}

/// The request that an order would be sent with, for `order_check`.
pub async fn rehearse(
    account: &Account,
    order: &NewOrder,
    context: &CallContext,
) -> Ready<TradeRequest> {
    let ask = Asker { account, context };
    Ok(place(&ask, order).await?.request)
}

/// Prepares an order on a netting account as one that closes the position which it is against, so that its broker
/// refuses it if that is gone or smaller by then. `None`: it is against none, or larger.
pub async fn prepare_as_closing(
    account: &Account,
    order: &NewOrder,
    context: &CallContext,
    tagged: bool,
) -> Ready<Option<Prepared>> {
    let positions = Asker { account, context }.positions(&order.symbol).await?;
    let Some(position) = exposure::closed_by(order, &positions) else {
        return Ok(None);
    };
    let closing = NewOrder { position: Some(Ticket::new(position)), ..order.clone() };
    prepare(account, &TradeCommand::Place(closing), context, tagged).await.map(Some)
}

/// Whether a trade leaves an order with a comment behind.
fn makes_an_order(operation: Operation) -> bool {
    matches!(operation, Operation::Place | Operation::Close | Operation::CloseBy)
}

fn put_tag(prepared: &mut Prepared) {
    let comment = &mut prepared.request.comment;
    if rules::length(comment) <= tag::LONGEST_COMMENT {
        let tag = tag::random();
        comment.push_str(&tag);
        prepared.tag = Some(tag);
    }
}
impl Before {
    fn of_position(position: &Position) -> Before {
        Before {
            sl: position.sl,
            tp: position.tp,
            volume: position.volume,
            updated_msc: position.time_update_msc,
            ..Before::default()
        }
    }

    fn of_order(order: &Order) -> Before {
        Before {
            sl: order.sl,
            tp: order.tp,
            price: order.price_open,
            stoplimit: order.price_stoplimit,
            type_time: order.type_time,
            expiration: order.time_expiration,
            volume: order.volume_current,
            updated_msc: 0,
        }
    }
}

impl Prepared {
    fn of(request: TradeRequest, position_id: u64, exposure: Exposure) -> Prepared {
        Prepared { request, tag: None, position_id, before: None, exposure, stop_rules: None }
    }

    /// Puts what was prepared into a trade's record, with what was known of the account before it.
    pub fn into_trade(self, trade: Trade, account: &Account) -> Trade {
        let (order_floor, deal_floor) = account.highest_tickets();
        Trade {
            identity: account.identity(),
            tag: self.tag,
            server_time: account.server_time_floor().seconds(),
            position_id: self.position_id,
            order_floor,
            deal_floor,
            before: self.before,
            request: Some(self.request),
            ..trade
        }
    }
}
