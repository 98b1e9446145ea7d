//! From a command to a request: fills in what the client left out, and checks prices and volumes
//! against the symbol before anything is written down.
//!
//! At most two calls of the terminal: what is asked for here is part of the time within which a
//! trade has to be sent. What takes risk off asks for no quote, because a symbol that is hidden,
//! delisted or without ticks must not keep a position open.

mod rules;

use super::Trade;
use super::command::{NewOrder, OrderChange, TradeCommand};
use super::tag;
use super::trade::{Before, Operation};
use crate::mt5::{
    ErrorType, Execution, Filling, Mt5Call, Order, OrderTime, OrderType, Position, Selection,
    SymbolInfo, Tick, TradeAction, TradeRequest, calls,
};
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Failure;

pub use self::rules::StopRules;

/// Why a command was not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It breaks a rule, which is named.
    #[error("{0}")]
    Invalid(String),
    /// There is no such position or order.
    #[error("{0}")]
    NotFound(String),
    /// The terminal could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A request that is ready to be sent, and what finding out about it may need.
pub struct Prepared {
    pub request: TradeRequest,
    pub tag: Option<String>,
    pub position_id: u64,
    pub before: Option<Before>,
    /// What the symbol asks of stops; `None`: the symbol was not asked about.
    pub stop_rules: Option<StopRules>,
}

type Ready<T> = Result<T, Refused>;

/// Prepares a command. Calls the terminal for reads alone.
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
            Prepared::of(request, one.identifier)
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
            Prepared { before: Some(Before::of_order(&order)), ..Prepared::of(request, 0) }
        }
    };
    if tagged && makes_an_order(command.operation()) {
        put_tag(&mut prepared);
    }
    Ok(prepared)
}

/// What would be sent, for `order_check`.
pub async fn rehearse(
    account: &Account,
    order: &NewOrder,
    context: &CallContext,
) -> Ready<TradeRequest> {
    let ask = Asker { account, context };
    Ok(place(&ask, order).await?.request)
}

/// Whether a trade leaves an order with a comment behind.
fn makes_an_order(operation: Operation) -> bool {
    matches!(operation, Operation::Place | Operation::Close | Operation::CloseBy)
}

fn put_tag(prepared: &mut Prepared) {
    let comment = &mut prepared.request.comment;
    if comment.chars().count() <= tag::LONGEST_COMMENT {
        let tag = tag::random();
        comment.push_str(&tag);
        prepared.tag = Some(tag);
    }
}

async fn place(ask: &Asker<'_>, order: &NewOrder) -> Ready<Prepared> {
    rules::comment(&order.comment)?;
    if order.kind.is_stop_limit() != order.stoplimit.is_some() {
        let rule = "it belongs to BUY_STOP_LIMIT and SELL_STOP_LIMIT, which need it";
        return Err(Refused::Invalid(format!("field `stoplimit`: {rule}")));
    }
    if order.price.is_none() && !order.kind.is_market() {
        return Err(rules::missing("price", "a pending order needs its price"));
    }
    let expiration = order.expiration.map(|at| ask.account.utc_to_server(at));
    let (type_time, expiration) = rules::lifetime(order.type_time, expiration)?;
    let closed = match order.position {
        None => None,
        Some(ticket) => Some(ask.position(ticket).await?),
    };
    let symbol = ask.symbol(&order.symbol).await?;
    let volume = rules::volume(&symbol, order.volume)?;
    let legal = |field, value: Option<f64>| -> Ready<Option<f64>> {
        value.map(|value| rules::price(&symbol, field, value)).transpose()
    };
    let (price, stoplimit) = (legal("price", order.price)?, legal("stoplimit", order.stoplimit)?);
    let (sl, tp) = (legal("sl", order.sl)?, legal("tp", order.tp)?);
    if let Some(position) = &closed {
        rules::closing(position, order, volume)?;
    }
    let price = match price {
        Some(price) => price,
        None if closed.is_some() => closing_price(&symbol, order.kind)?,
        None => {
            let tick = ask.tick(&order.symbol).await?;
            let price = if order.kind.is_buy() { tick.ask } else { tick.bid };
            Some(price).filter(|price| *price > 0.0).ok_or_else(|| no_quote(&order.symbol))?
        }
    };
    let rests = !order.kind.is_market();
    let filling = order.type_filling.unwrap_or_else(|| filling_of(&symbol, rests));
    let action = if rests { TradeAction::Pending } else { TradeAction::Deal };
    let request = TradeRequest {
        action: action.value(),
        magic: order.magic,
        order: 0,
        symbol: order.symbol.clone(),
        volume,
        price,
        stoplimit: stoplimit.unwrap_or_default(),
        sl: sl.unwrap_or_default(),
        tp: tp.unwrap_or_default(),
        deviation: order.deviation,
        r#type: order.kind.value(),
        type_filling: filling.value(),
        type_time: type_time.value(),
        expiration,
        comment: order.comment.clone(),
        position: order.position.unwrap_or_default(),
        position_by: 0,
    };
    let position_id = closed.as_ref().map_or(0, |position| position.identifier);
    let before = closed.as_ref().map(Before::of_position);
    let stop_rules = Some(StopRules::of(&symbol));
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, position_id) })
}

fn filling_of(symbol: &SymbolInfo, rests: bool) -> Filling {
    let execution = Execution::from_value(symbol.trade_exemode);
    Filling::for_symbol(execution, rests, symbol.filling_mode)
}

/// The price of a deal that closes: the symbol's, or none where the server takes its own anyway.
fn closing_price(symbol: &SymbolInfo, kind: OrderType) -> Ready<f64> {
    let price = if kind.is_buy() { symbol.ask } else { symbol.bid };
    let needed = Execution::from_value(symbol.trade_exemode).is_none_or(Execution::needs_price);
    match price {
        price if price.is_finite() && price > 0.0 => Ok(price),
        _ if !needed => Ok(0.0),
        _ => Err(no_quote(&symbol.name)),
    }
}

fn no_quote(symbol: &str) -> Refused {
    CallError::NoQuote(symbol.to_owned()).into()
}

/// What a client wants of a closing deal.
struct Closing {
    volume: Option<f64>,
    price: Option<f64>,
    type_filling: Option<Filling>,
}

async fn close(ask: &Asker<'_>, position: &Position, wanted: Closing) -> Ready<Prepared> {
    let bought = position.r#type == OrderType::Buy.value();
    let kind = if bought { OrderType::Sell } else { OrderType::Buy };
    let symbol = ask.known_symbol(&position.symbol).await?;
    let mut volume = wanted.volume.unwrap_or(position.volume);
    let mut price = wanted.price.unwrap_or_default();
    let mut filling = wanted.type_filling.unwrap_or(Filling::Fok);
    if let Some(symbol) = &symbol {
        if wanted.volume.is_some() {
            volume = rules::volume(symbol, volume)?;
        }
        price = match wanted.price {
            Some(price) => rules::price(symbol, "price", price)?,
            None => closing_price(symbol, kind)?,
        };
        filling = wanted.type_filling.unwrap_or_else(|| filling_of(symbol, false));
    }
    if wanted.volume.is_some() {
        rules::within(position, volume)?;
    }
    let request = TradeRequest {
        action: TradeAction::Deal.value(),
        magic: position.magic,
        symbol: position.symbol.clone(),
        volume,
        price,
        r#type: kind.value(),
        type_filling: filling.value(),
        position: position.ticket,
        ..TradeRequest::default()
    };
    let stop_rules = symbol.as_ref().map(StopRules::of);
    let before = Some(Before::of_position(position));
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, position.identifier) })
}

async fn modify_position(
    ask: &Asker<'_>,
    position: &Position,
    sl: Option<f64>,
    tp: Option<f64>,
) -> Ready<Prepared> {
    let symbol = ask.known_symbol(&position.symbol).await?;
    let legal = |field, value: Option<f64>, present| match (&symbol, value) {
        (_, None) => rules::present(field, present),
        (Some(symbol), Some(value)) => rules::price(symbol, field, value),
        (None, Some(value)) => Ok(value),
    };
    let request = TradeRequest {
        action: TradeAction::Sltp.value(),
        symbol: position.symbol.clone(),
        position: position.ticket,
        magic: position.magic,
        sl: legal("sl", sl, position.sl)?,
        tp: legal("tp", tp, position.tp)?,
        ..TradeRequest::default()
    };
    let stop_rules = symbol.as_ref().map(StopRules::of);
    let before = Some(Before::of_position(position));
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, position.identifier) })
}

async fn modify_order(ask: &Asker<'_>, order: &Order, change: &OrderChange) -> Ready<Prepared> {
    let symbol = ask.known_symbol(&order.symbol).await?;
    let legal = |field, value: Option<f64>, present| match (&symbol, value) {
        (_, None) => rules::present(field, present),
        (Some(symbol), Some(value)) => rules::price(symbol, field, value),
        (None, Some(value)) => Ok(value),
    };
    let present = OrderTime::from_value(order.type_time).unwrap_or(OrderTime::Gtc);
    let expiration = change.expiration.map(|at| ask.account.utc_to_server(at));
    let (type_time, expiration) = match (change.type_time, expiration) {
        (None, None) => (present, order.time_expiration),
        // Without an end it is good till cancelled.
        (None, Some(0)) => (OrderTime::Gtc, 0),
        (Some(OrderTime::Specified | OrderTime::SpecifiedDay), None)
            if order.time_expiration != 0 =>
        {
            (change.type_time.unwrap_or(present), order.time_expiration)
        }
        (type_time, expiration) => rules::lifetime(type_time, expiration.filter(|at| *at != 0))?,
    };
    let request = TradeRequest {
        action: TradeAction::Modify.value(),
        order: order.ticket,
        symbol: order.symbol.clone(),
        magic: order.magic,
        price: legal("price", change.price, order.price_open)?,
        stoplimit: legal("stoplimit", change.stoplimit, order.price_stoplimit)?,
        sl: legal("sl", change.sl, order.sl)?,
        tp: legal("tp", change.tp, order.tp)?,
        r#type: order.r#type,
        type_filling: order.type_filling,
        type_time: type_time.value(),
        expiration,
        ..TradeRequest::default()
    };
    let stop_rules = symbol.as_ref().map(StopRules::of);
    let before = Some(Before::of_order(order));
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, 0) })
}

/// The terminal that reads come from. Times are the server's.
struct Asker<'a> {
    account: &'a Account,
    context: &'a CallContext,
}

impl Asker<'_> {
    async fn call<C: Mt5Call>(&self, call: C) -> Ready<C::Reply> {
        Ok(self.account.call_raw(call, self.context).await?)
    }

    async fn symbol(&self, name: &str) -> Ready<SymbolInfo> {
        Ok(*self.call(calls::SymbolInfo { symbol: name.to_owned() }).await?)
    }

    /// The symbol of something that exists. `None`: the terminal does not know it any more, which
    /// says nothing about the position or the order.
    async fn known_symbol(&self, name: &str) -> Ready<Option<SymbolInfo>> {
        match self.symbol(name).await {
            Ok(symbol) => Ok(Some(symbol)),
            Err(Refused::Call(CallError::Failed(Failure::Mt5(error))))
                if matches!(error.error_type(), ErrorType::NotFound | ErrorType::Fail) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn tick(&self, name: &str) -> Ready<Tick> {
        self.call(calls::SymbolInfoTick { symbol: name.to_owned() }).await
    }

    async fn position(&self, ticket: u64) -> Ready<Position> {
        let selection = Selection::Ticket(ticket);
        let positions = self.call(calls::PositionsGet { selection }).await?;
        positions
            .into_iter()
            .find(|position| position.ticket == ticket)
            .ok_or_else(|| Refused::NotFound(format!("there is no open position {ticket}")))
    }

    async fn order(&self, ticket: u64) -> Ready<Order> {
        let selection = Selection::Ticket(ticket);
        let orders = self.call(calls::OrdersGet { selection }).await?;
        orders
            .into_iter()
            .find(|order| order.ticket == ticket)
            .ok_or_else(|| Refused::NotFound(format!("there is no pending order {ticket}")))
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
    fn of(request: TradeRequest, position_id: u64) -> Prepared {
        Prepared { request, tag: None, position_id, before: None, stop_rules: None }
    }

    /// Puts what was prepared into a trade's record, with what was known of the account before it.
    pub fn into_trade(self, trade: Trade, account: &Account) -> Trade {
        let (order_floor, deal_floor) = account.highest_tickets();
        Trade {
            identity: account.identity(),
            tag: self.tag,
            server_time: account.server_time_floor(),
            position_id: self.position_id,
            order_floor,
            deal_floor,
            before: self.before,
            request: Some(self.request),
            ..trade
        }
    }
}
