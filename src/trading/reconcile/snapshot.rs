//! What the primary session's terminal shows, asked for in bounded requests.

use crate::mt5::{Deal, Order, Position, Selection, ServerTime, Ticket, calls};
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Failure;
use crate::trading::trade::{Operation, Trade};

/// Seconds before a trade from which on the history is asked for where there is no ticket to ask
/// by. Hours, because servers' clocks change by one, and ticks run ahead of trade servers.
pub const BACK: i64 = 3 * 3_600;

/// The same for trades of the journal's first version, whose time was of an unknown clock: a day on
/// either side of the machine's.
const BACK_UNKNOWN: i64 = 86_400;

/// Seconds after a trade up to which the history is asked for. A trade is looked for for a day.
const AHEAD: i64 = 27 * 3_600;

/// Rows of one answer.
const MOST_ROWS: u64 = 20_000;

/// What one look shows about a trade. Times are the server's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    pub orders: Vec<Order>,
    pub positions: Vec<Position>,
    /// Orders that have ended, as far as the trade could be among them.
    pub history: Vec<Order>,
    /// Deals, likewise.
    pub deals: Vec<Deal>,
}

/// What is the same for all trades of one look.
pub struct Standing {
    orders: Vec<Order>,
    positions: Vec<Position>,
}

/// Asks for what is open now.
///
/// # Errors
/// If the terminal cannot be asked, is not connected to its broker, or shows another account.
pub async fn standing(account: &Account, context: &CallContext) -> Result<Standing, CallError> {
    ensure_sound(account, context).await?;
    // In this order nothing is missed that moves on meanwhile: an order becomes a deal and a
    // position, and then history.
    let (selection, all) = (Selection::All, Selection::All);
    let orders = account.call_raw(calls::OrdersGet { selection }, context).await?;
    let positions = account.call_raw(calls::PositionsGet { selection: all }, context).await?;
    Ok(Standing { orders, positions })
}

/// Makes sure that the terminal is connected and shows the configured account. At both ends of a
/// look, so that what is between is about that account.
///
/// # Errors
/// If it is not.
pub async fn ensure_sound(account: &Account, context: &CallContext) -> Result<(), CallError> {
    if !account.call_raw(calls::TerminalInfo, context).await?.connected {
        return Err(CallError::NotReady(std::time::Duration::ZERO));
    }
    let info = account.call_raw(calls::AccountInfo, context).await?;
    account.check_identity(&info).map_err(|detail| CallError::Failed(Failure::OtherAccount(detail)))
}

impl Standing {
    /// Adds what the history has about one trade: by ticket or position where there is one, else
    /// within the time in which it can have happened.
    ///
    /// # Errors
    /// If the terminal cannot be asked.
    pub async fn evidence(
        &self,
        account: &Account,
        trade: &Trade,
        context: &CallContext,
    ) -> Result<Evidence, CallError> {
        let (history, deals) = match selection(trade) {
            Selection::All => window(account, trade, context).await?,
            selection => history(account, Default::default(), selection, context).await?,
        };
        let (orders, positions) = (self.orders.clone(), self.positions.clone());
        Ok(Evidence { orders, positions, history, deals })
    }
}

/// By what the history is asked about a trade.
fn selection(trade: &Trade) -> Selection {
    let order = trade.request.as_ref().map_or(0, |request| request.order);
    match trade.operation {
        _ if trade.accepted_order != 0 => Selection::Ticket(Ticket::new(trade.accepted_order)),
        Operation::ModifyOrder | Operation::Cancel => Selection::Ticket(Ticket::new(order)),
        _ if trade.position_id != 0 => Selection::Position(Ticket::new(trade.position_id)),
        _ => Selection::All,
    }
}

/// What the server's clock showed when a trade was made. Of trades of the journal's first version
/// only the machine's clock is known, which is off by hours.
fn made_at(trade: &Trade) -> ServerTime {
    let known = trade.server_time > 0;
    ServerTime::from_seconds(if known { trade.server_time } else { trade.created_msc / 1000 })
}

/// The time in which a trade can be found.
fn period(trade: &Trade) -> (ServerTime, ServerTime) {
    let at = made_at(trade);
    if trade.server_time > 0 {
        return (at - BACK, at + AHEAD);
    }
    (at - BACK_UNKNOWN, at + BACK_UNKNOWN + AHEAD)
}

async fn window(
    account: &Account,
    trade: &Trade,
    context: &CallContext,
) -> Result<(Vec<Order>, Vec<Deal>), CallError> {
    let (mut date_from, mut date_to) = period(trade);
    // An account with more than that in hours is looked at closer around the trade.
    while total(account, (date_from, date_to), context).await? > MOST_ROWS
        && date_to - date_from > 60
    {
        let at = made_at(trade);
        date_from = at - (at - date_from) / 4;
        date_to = at + (date_to - at) / 4;
    }
    let selection = Selection::All;
    history(account, (date_from, date_to), selection, context).await
}

/// Asks for what the account has now and had in the last day, so that its highest tickets are known
/// before the next trade: what exists already cannot be that trade's.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn baseline(account: &Account, context: &CallContext) -> Result<(), CallError> {
    let now = account.server_time_floor();
    let (date_from, date_to) = (now - 86_400, now + 3 * 86_400);
    // What the answers show is remembered where they come in.
    standing(account, context).await?;
    if total(account, (date_from, date_to), context).await? <= MOST_ROWS {
        let selection = Selection::All;
        history(account, (date_from, date_to), selection, context).await?;
    }
    Ok(())
}

/// How many deals there are in a period.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn total(
    account: &Account,
    (date_from, date_to): (ServerTime, ServerTime),
    context: &CallContext,
) -> Result<u64, CallError> {
    account.call_raw(calls::HistoryDealsTotal { date_from, date_to }, context).await
}

/// The deals of one order.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn deals_of(
    account: &Account,
    order: u64,
    context: &CallContext,
) -> Result<Vec<Deal>, CallError> {
    let selection = Selection::Ticket(Ticket::new(order));
    let (date_from, date_to) = Default::default();
    let call = calls::HistoryDealsGet { date_from, date_to, selection };
    account.call_raw(call, context).await
}

/// The orders and deals of the history.
async fn history(
    account: &Account,
    (date_from, date_to): (ServerTime, ServerTime),
    selection: Selection,
    context: &CallContext,
) -> Result<(Vec<Order>, Vec<Deal>), CallError> {
    let orders = calls::HistoryOrdersGet { date_from, date_to, selection: selection.clone() };
    let orders = account.call_raw(orders, context).await?;
    let deals = calls::HistoryDealsGet { date_from, date_to, selection };
    Ok((orders, account.call_raw(deals, context).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account_name::AccountName;
    use crate::mt5::TradeRequest;
    use crate::trading::identifiers::TradeId;

    #[test]
    fn where_there_is_a_ticket_it_is_asked_by() {
        let of = |operation, position_id, accepted_order, order| {
            let request = TradeRequest { order, ..TradeRequest::default() };
            selection(&Trade {
                position_id,
                accepted_order,
                request: Some(request),
                ..Trade::new(
                    TradeId::from_trusted("id"),
                    AccountName::from_trusted("demo"),
                    operation,
                    0,
                )
            })
        };
        assert_eq!(of(Operation::Place, 0, 0, 0), Selection::All);
        assert_eq!(of(Operation::Place, 0, 9, 0), Selection::Ticket(Ticket::new(9)));
        assert_eq!(of(Operation::Close, 5, 0, 0), Selection::Position(Ticket::new(5)));
        assert_eq!(of(Operation::ModifyPosition, 5, 0, 0), Selection::Position(Ticket::new(5)));
        assert_eq!(of(Operation::ModifyOrder, 0, 0, 3), Selection::Ticket(Ticket::new(3)));
        assert_eq!(of(Operation::Cancel, 0, 0, 3), Selection::Ticket(Ticket::new(3)));
    }

    #[test]
    fn a_trade_is_looked_for_in_its_own_time_which_does_not_grow() {
        let at = |server_time| Trade {
            server_time,
            ..Trade::new(
                TradeId::from_trusted("id"),
                AccountName::from_trusted("demo"),
                Operation::Place,
                1_700_000_000_000,
            )
        };
        let seconds = |(from, to): (ServerTime, ServerTime)| (from.seconds(), to.seconds());
        let (from, to) = seconds(period(&at(1_700_010_000)));
        assert!(from < 1_700_010_000 - 3_600 && to > 1_700_010_000 + 86_400);
        assert!(to - from < 2 * 86_400);
        let (from, to) = seconds(period(&at(0)));
        assert!(from <= 1_700_000_000 - 86_400 && to - from < 4 * 86_400);
    }
}
