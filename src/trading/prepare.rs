//! From a wish to a request: fills in what the client left out, and checks
//! prices and volumes against the symbol before anything is sent.

use super::trade::Operation;
use super::wish::{NewOrder, OrderChange, Wish};
use super::{Trade, tag};
use crate::mt5::{
    Answer, Filling, Order, OrderTime, OrderType, Position, Request, Selection, SymbolInfo, Tick,
    TradeAction, TradeRequest,
};
use crate::pool::{Account, CallError, Context};
use crate::terminal::Failure;

/// Characters from which on the package refuses a comment or a symbol.
const TOO_LONG: usize = 30;

/// Why a wish was not sent.
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

/// A request that is ready to be sent, and what reconciliation will need.
pub struct Prepared {
    pub request: TradeRequest,
    pub tag: Option<String>,
    pub server_time: i64,
    pub position_id: u64,
}

type Ready<T> = Result<T, Refused>;

/// Prepares a wish. Calls the terminal for reads alone.
pub async fn prepare(
    account: &Account,
    wish: &Wish,
    context: &Context,
    tagged: bool,
) -> Ready<Prepared> {
    let ask = Asker { account, context };
    let mut prepared = match wish {
        Wish::Place(order) => place(&ask, order).await?,
        Wish::CloseBy { position, position_by, symbol, volume, magic, comment } => {
            let (one, other) = (ask.position(*position).await?, ask.position(*position_by).await?);
            check_comment(comment)?;
            check_pair(&one, &other, symbol, *volume)?;
            let request = TradeRequest {
                action: TradeAction::CloseBy.value(),
                symbol: one.symbol.clone(),
                position: one.ticket,
                position_by: other.ticket,
                magic: *magic,
                comment: comment.clone(),
                ..TradeRequest::default()
            };
            ask.ready(request, one.identifier).await?
        }
        Wish::Close { ticket, volume, deviation } => {
            let position = ask.position(*ticket).await?;
            close(&ask, &position, *volume, *deviation).await?
        }
        Wish::ModifyPosition { ticket, sl, tp } => {
            let position = ask.position(*ticket).await?;
            let (symbol, _) = ask.symbol(&position.symbol).await?;
            let request = TradeRequest {
                action: TradeAction::Sltp.value(),
                symbol: position.symbol.clone(),
                position: position.ticket,
                sl: sl.unwrap_or(position.sl),
                tp: tp.unwrap_or(position.tp),
                ..TradeRequest::default()
            };
            check_prices(&symbol, &[("sl", *sl), ("tp", *tp)])?;
            ask.ready(request, position.identifier).await?
        }
        Wish::ModifyOrder { ticket, change } => {
            let order = ask.order(*ticket).await?;
            modify_order(&ask, &order, change).await?
        }
        Wish::Cancel { ticket } => {
            let order = ask.order(*ticket).await?;
            let request = TradeRequest {
                action: TradeAction::Remove.value(),
                symbol: order.symbol.clone(),
                order: order.ticket,
                ..TradeRequest::default()
            };
            ask.ready(request, 0).await?
        }
    };
    if tagged && makes_an_order(wish.operation()) {
        put_tag(&mut prepared);
    }
    Ok(prepared)
}

/// What would be sent, for `order_check`.
pub async fn rehearse(
    account: &Account,
    order: &NewOrder,
    context: &Context,
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
    check_comment(&order.comment)?;
    let (symbol, tick) = ask.symbol(&order.symbol).await?;
    check_volume(&symbol, order.volume)?;
    let given = [
        ("price", order.price),
        ("stoplimit", order.stoplimit),
        ("sl", order.sl),
        ("tp", order.tp),
    ];
    check_prices(&symbol, &given)?;
    let price = match (order.price, order.kind.is_market()) {
        (Some(price), _) => price,
        (None, true) if order.kind.is_buy() => tick.ask,
        (None, true) => tick.bid,
        (None, false) => return Err(missing("price", "a pending order needs its price")),
    };
    if order.kind.is_stop_limit() != order.stoplimit.is_some() {
        let rule = "it belongs to BUY_STOP_LIMIT and SELL_STOP_LIMIT, which need it";
        return Err(Refused::Invalid(format!("field `stoplimit`: {rule}")));
    }
    let (type_time, expiration) = lifetime(order.type_time, order.expiration)?;
    let position_id = match order.position {
        None => 0,
        Some(ticket) => {
            let position = ask.position(ticket).await?;
            check_closing(&position, order)?;
            position.identifier
        }
    };
    let filling = order.type_filling.unwrap_or_else(|| Filling::for_symbol(symbol.filling_mode));
    let action = if order.kind.is_market() { TradeAction::Deal } else { TradeAction::Pending };
    let request = TradeRequest {
        action: action.value(),
        magic: order.magic,
        order: 0,
        symbol: order.symbol.clone(),
        volume: order.volume,
        price,
        stoplimit: order.stoplimit.unwrap_or_default(),
        sl: order.sl.unwrap_or_default(),
        tp: order.tp.unwrap_or_default(),
        deviation: order.deviation,
        r#type: order.kind.value(),
        type_filling: filling.value(),
        type_time: type_time.value(),
        expiration,
        comment: order.comment.clone(),
        position: order.position.unwrap_or_default(),
        position_by: 0,
    };
    Ok(Prepared { request, tag: None, server_time: tick.time, position_id })
}

async fn close(
    ask: &Asker<'_>,
    position: &Position,
    volume: Option<f64>,
    deviation: u64,
) -> Ready<Prepared> {
    let (symbol, tick) = ask.symbol(&position.symbol).await?;
    if let Some(volume) = volume {
        check_volume(&symbol, volume)?;
        check_within(position, volume)?;
    }
    let bought = position.r#type == OrderType::Buy.value();
    let kind = if bought { OrderType::Sell } else { OrderType::Buy };
    let request = TradeRequest {
        action: TradeAction::Deal.value(),
        magic: position.magic,
        symbol: position.symbol.clone(),
        volume: volume.unwrap_or(position.volume),
        price: if bought { tick.bid } else { tick.ask },
        deviation,
        r#type: kind.value(),
        type_filling: Filling::for_symbol(symbol.filling_mode).value(),
        position: position.ticket,
        ..TradeRequest::default()
    };
    let position_id = position.identifier;
    Ok(Prepared { request, tag: None, server_time: tick.time, position_id })
}

async fn modify_order(ask: &Asker<'_>, order: &Order, change: &OrderChange) -> Ready<Prepared> {
    let (symbol, _) = ask.symbol(&order.symbol).await?;
    let given = [
        ("price", change.price),
        ("stoplimit", change.stoplimit),
        ("sl", change.sl),
        ("tp", change.tp),
    ];
    check_prices(&symbol, &given)?;
    let present = OrderTime::from_value(order.type_time).unwrap_or(OrderTime::Gtc);
    let (type_time, expiration) = match (change.type_time, change.expiration) {
        (None, None) => (present, order.time_expiration),
        // Without an end it is good till cancelled.
        (None, Some(0)) => (OrderTime::Gtc, 0),
        (Some(OrderTime::Specified | OrderTime::SpecifiedDay), None)
            if order.time_expiration != 0 =>
        {
            (change.type_time.unwrap_or(present), order.time_expiration)
        }
        (type_time, expiration) => lifetime(type_time, expiration.filter(|at| *at != 0))?,
    };
    let request = TradeRequest {
        action: TradeAction::Modify.value(),
        order: order.ticket,
        symbol: order.symbol.clone(),
        price: change.price.unwrap_or(order.price_open),
        stoplimit: change.stoplimit.unwrap_or(order.price_stoplimit),
        sl: change.sl.unwrap_or(order.sl),
        tp: change.tp.unwrap_or(order.tp),
        r#type: order.r#type,
        type_filling: order.type_filling,
        type_time: type_time.value(),
        expiration,
        ..TradeRequest::default()
    };
    ask.ready(request, 0).await
}

/// The terminal that reads come from.
struct Asker<'a> {
    account: &'a Account,
    context: &'a Context,
}

impl Asker<'_> {
    async fn call(&self, request: Request) -> Ready<Answer> {
        Ok(self.account.call(request, self.context).await?)
    }

    async fn symbol(&self, name: &str) -> Ready<(SymbolInfo, Tick)> {
        let (symbol, tick) = (name.to_owned(), name.to_owned());
        let info = self.call(Request::SymbolInfo { symbol }).await?;
        let tick = self.call(Request::SymbolInfoTick { symbol: tick }).await?;
        match (info, tick) {
            (Answer::SymbolInfo(info), Answer::Tick(tick)) => Ok((*info, tick)),
            _ => Err(unusable("symbol_info")),
        }
    }

    async fn position(&self, ticket: u64) -> Ready<Position> {
        let selection = Selection::Ticket(ticket);
        match self.call(Request::PositionsGet { selection }).await? {
            Answer::Positions(positions) => positions
                .into_iter()
                .find(|position| position.ticket == ticket)
                .ok_or_else(|| Refused::NotFound(format!("there is no open position {ticket}"))),
            _ => Err(unusable("positions_get")),
        }
    }

    async fn order(&self, ticket: u64) -> Ready<Order> {
        let selection = Selection::Ticket(ticket);
        match self.call(Request::OrdersGet { selection }).await? {
            Answer::Orders(orders) => orders
                .into_iter()
                .find(|order| order.ticket == ticket)
                .ok_or_else(|| Refused::NotFound(format!("there is no pending order {ticket}"))),
            _ => Err(unusable("orders_get")),
        }
    }

    /// A request whose symbol was not asked about yet: the server's time is still needed.
    async fn ready(&self, request: TradeRequest, position_id: u64) -> Ready<Prepared> {
        let (_, tick) = self.symbol(&request.symbol).await?;
        Ok(Prepared { request, tag: None, server_time: tick.time, position_id })
    }
}

fn unusable(method: &str) -> Refused {
    let detail = format!("the terminal's answer to {method} is of another kind");
    CallError::Failed(Failure::Unusable(detail)).into()
}

fn missing(field: &str, why: &str) -> Refused {
    Refused::Invalid(format!("field `{field}` is missing: {why}"))
}

fn check_comment(comment: &str) -> Ready<()> {
    let length = comment.chars().count();
    if length < TOO_LONG {
        return Ok(());
    }
    let longest = TOO_LONG - 1;
    Err(Refused::Invalid(format!(
        "field `comment`: MT5 takes at most {longest} characters, got {length}"
    )))
}

/// When an order ends.
fn lifetime(type_time: Option<OrderTime>, expiration: Option<i64>) -> Ready<(OrderTime, i64)> {
    let invalid = |rule: &str| Err(Refused::Invalid(rule.to_owned()));
    match (type_time, expiration) {
        (None | Some(OrderTime::Gtc), None) => Ok((OrderTime::Gtc, 0)),
        (Some(OrderTime::Day), None) => Ok((OrderTime::Day, 0)),
        (None, Some(at)) => Ok((OrderTime::Specified, at)),
        (Some(OrderTime::Specified | OrderTime::SpecifiedDay), None) => invalid(
            "field `expiration` is missing: `type_time` SPECIFIED and SPECIFIED_DAY need it",
        ),
        (Some(kind @ (OrderTime::Specified | OrderTime::SpecifiedDay)), Some(at)) => Ok((kind, at)),
        (Some(OrderTime::Gtc | OrderTime::Day), Some(_)) => {
            invalid("field `expiration`: `type_time` GTC and DAY have none; use SPECIFIED")
        }
    }
}

/// The decimals of a number as it is written, `None` beyond what any broker uses.
fn scaled(value: f64) -> Option<i128> {
    const PLACES: usize = 12;
    if !value.is_finite() || value.abs() >= 1e15 {
        return None;
    }
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    (fraction.len() <= PLACES).then(|| format!("{whole}{fraction:0<PLACES$}").parse().ok())?
}

fn check_volume(symbol: &SymbolInfo, volume: f64) -> Ready<()> {
    let SymbolInfo { name, volume_min, volume_max, volume_step, .. } = symbol;
    let invalid =
        |rule: String| Err(Refused::Invalid(format!("field `volume`: {rule}, got {volume}")));
    if volume.is_nan() || volume <= 0.0 || volume < *volume_min {
        return invalid(format!("{name} takes at least {volume_min} lots (volume_min)"));
    }
    if *volume_max > 0.0 && volume > *volume_max {
        return invalid(format!("{name} takes at most {volume_max} lots (volume_max)"));
    }
    let step = scaled(*volume_step).filter(|step| *step > 0);
    let whole = step.is_none_or(|step| scaled(volume).is_some_and(|volume| volume % step == 0));
    if !whole {
        return invalid(format!("{name} takes steps of {volume_step} lots (volume_step)"));
    }
    Ok(())
}

/// Prices are above zero and have no more decimals than the symbol; 0 means none.
fn check_prices(symbol: &SymbolInfo, prices: &[(&str, Option<f64>)]) -> Ready<()> {
    let digits = usize::try_from(symbol.digits).unwrap_or(0).min(12);
    for (field, price) in prices {
        let Some(price) = price else {
            continue;
        };
        let name = &symbol.name;
        if price.is_nan() || *price < 0.0 {
            let rule = format!("field `{field}`: a price is above 0, got {price}");
            return Err(Refused::Invalid(rule));
        }
        let written = format!("{price:.digits$}");
        if !price.is_finite() || *price >= 1e12 || written.parse() != Ok(*price) {
            let rule = format!("{name} has prices of {digits} decimal places (digits)");
            return Err(Refused::Invalid(format!("field `{field}`: {rule}, got {price}")));
        }
    }
    Ok(())
}

fn check_within(position: &Position, volume: f64) -> Ready<()> {
    if volume <= position.volume {
        return Ok(());
    }
    let (ticket, has) = (position.ticket, position.volume);
    Err(Refused::Invalid(format!("field `volume`: position {ticket} has {has} lots, got {volume}")))
}

/// A deal that names a position has to close it.
fn check_closing(position: &Position, order: &NewOrder) -> Ready<()> {
    let ticket = position.ticket;
    if !order.kind.is_market() {
        let rule = format!("field `position`: {} is not executed at once", order.kind.name());
        return Err(Refused::Invalid(rule));
    }
    if position.symbol != order.symbol {
        let rule = format!("field `symbol`: position {ticket} is in {}", position.symbol);
        return Err(Refused::Invalid(rule));
    }
    if position.r#type == order.kind.value() {
        let rule = format!("field `type`: position {ticket} is closed by the opposite type");
        return Err(Refused::Invalid(rule));
    }
    check_within(position, order.volume)
}

fn check_pair(one: &Position, other: &Position, symbol: &str, volume: Option<f64>) -> Ready<()> {
    for position in [one, other] {
        if position.symbol != symbol {
            let (ticket, has) = (position.ticket, &position.symbol);
            let rule = format!("field `symbol`: position {ticket} is in {has}");
            return Err(Refused::Invalid(rule));
        }
    }
    if one.r#type == other.r#type {
        let rule = "field `position_by`: the two positions have the same direction";
        return Err(Refused::Invalid(rule.to_owned()));
    }
    let smaller = one.volume.min(other.volume);
    match volume {
        Some(volume) if volume != smaller => Err(Refused::Invalid(format!(
            "field `volume`: closing by each other takes the smaller one's {smaller} lots, got {volume}"
        ))),
        _ => Ok(()),
    }
}

impl Prepared {
    /// Puts what was prepared into a trade's record.
    pub fn into_trade(self, trade: Trade) -> Trade {
        Trade {
            tag: self.tag,
            server_time: self.server_time,
            position_id: self.position_id,
            request: Some(self.request),
            ..trade
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn symbol(volume_step: f64) -> SymbolInfo {
        SymbolInfo {
            name: "EURUSD".to_owned(),
            digits: 5,
            volume_min: volume_step,
            volume_max: 500.0,
            volume_step,
            ..SymbolInfo::default()
        }
    }

    proptest! {
        #[test]
        fn whole_steps_pass_and_others_do_not(steps in 1..50_000i64) {
            let volume = steps as f64 / 100.0;
            prop_assert_eq!(check_volume(&symbol(0.01), volume), Ok(()));
            prop_assert!(check_volume(&symbol(0.01), volume + 0.001).is_err());
            prop_assert!(check_volume(&symbol(0.01), volume + 1e-9).is_err());
            prop_assert_eq!(check_volume(&symbol(1.0), volume).is_ok(), steps % 100 == 0);
        }

        #[test]
        fn prices_have_the_symbols_digits(points in 1..1_000_000i64) {
            let price = points as f64 / 100_000.0;
            prop_assert_eq!(check_prices(&symbol(0.01), &[("price", Some(price))]), Ok(()));
            let finer = price + 0.000_001;
            prop_assert!(check_prices(&symbol(0.01), &[("price", Some(finer))]).is_err());
        }

        #[test]
        fn no_number_breaks_a_check(value: f64) {
            let _ = check_volume(&symbol(0.01), value);
            let _ = check_prices(&symbol(0.01), &[("sl", Some(value))]);
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused_with_the_rule() {
        for volume in [0.0, -0.1, f64::NAN, f64::INFINITY, 0.123_456_789_012_345_67, 500.01] {
            let rule = check_volume(&symbol(0.01), volume).unwrap_err().to_string();
            assert!(rule.contains("(volume_"), "{rule}");
        }
        for price in [-1.0, f64::NAN, f64::INFINITY, 1.085_000_1, 1e300] {
            let refused = check_prices(&symbol(0.01), &[("sl", Some(price))]).unwrap_err();
            assert!(refused.to_string().starts_with("field `sl`: "), "{refused}");
        }
    }
}
