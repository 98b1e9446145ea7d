//! The requests that the commands become.

use super::exposure::{self, Exposure};
use super::reads::Asker;
use super::rules::{self, StopRules};
use super::{Prepared, Ready, Refused};
use crate::mt5::{
    Execution, Filling, Lots, Order, OrderTime, OrderType, Position, SymbolInfo, Ticket,
    TradeAction, TradeRequest,
};
use crate::pool::CallError;
use crate::trading::command::{NewOrder, OrderChange};
use crate::trading::trade::Before;

pub async fn place(ask: &Asker<'_>, order: &NewOrder) -> Ready<Prepared> {
    rules::comment(&order.comment)?;
    if order.kind.is_stop_limit() != order.stoplimit.is_some() {
        let rule = "it belongs to BUY_STOP_LIMIT and SELL_STOP_LIMIT, which need it";
        return Err(Refused::Invalid(format!("field `stoplimit`: {rule}")));
    }
    if order.price.is_none() && !order.kind.is_market() {
        return Err(rules::missing("price", "a pending order needs its price"));
    }
    let expiration = order.expiration.map(|at| ask.server_seconds(at));
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
        volume: volume.get(),
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
        position: order.position.map_or(0, Ticket::get),
        position_by: 0,
    };
    let position_id = closed.as_ref().map_or(0, |position| position.identifier);
    let before = closed.as_ref().map(Before::of_position);
    let stop_rules = Some(StopRules::of(&symbol));
    let exposure = exposure::of_order(order, ask.account.is_hedging());
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, position_id, exposure) })
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
pub struct Closing {
    pub volume: Option<Lots>,
    pub price: Option<f64>,
    pub type_filling: Option<Filling>,
}

pub async fn close(ask: &Asker<'_>, position: &Position, wanted: Closing) -> Ready<Prepared> {
    let bought = position.r#type == OrderType::Buy.value();
    let kind = if bought { OrderType::Sell } else { OrderType::Buy };
    let symbol = ask.known_symbol(&position.symbol).await?;
    let mut volume = wanted.volume.unwrap_or(Lots::new(position.volume));
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
        volume: volume.get(),
        price,
        r#type: kind.value(),
        type_filling: filling.value(),
        position: position.ticket,
        ..TradeRequest::default()
    };
    let stop_rules = symbol.as_ref().map(StopRules::of);
    let before = Some(Before::of_position(position));
    Ok(Prepared {
        stop_rules,
        before,
        ..Prepared::of(request, position.identifier, Exposure::Reduces)
    })
}

pub async fn modify_position(
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
    let exposure = exposure::of_position_change(position, &request);
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, position.identifier, exposure) })
}

pub async fn modify_order(ask: &Asker<'_>, order: &Order, change: &OrderChange) -> Ready<Prepared> {
    let symbol = ask.known_symbol(&order.symbol).await?;
    let legal = |field, value: Option<f64>, present| match (&symbol, value) {
        (_, None) => rules::present(field, present),
        (Some(symbol), Some(value)) => rules::price(symbol, field, value),
        (None, Some(value)) => Ok(value),
    };
    let present = OrderTime::from_value(order.type_time).unwrap_or(OrderTime::Gtc);
    let expiration = change.expiration.map(|at| ask.server_seconds(at));
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
    let exposure = exposure::of_order_change(order, &request);
    Ok(Prepared { stop_rules, before, ..Prepared::of(request, 0, exposure) })
}
