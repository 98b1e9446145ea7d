//! What preparing a trade reads from the terminal.

use super::{Ready, Refused};
use crate::mt5::{
    ErrorType, Mt5Call, Order, Position, Selection, SymbolInfo, SymbolName, Tick, Ticket, UtcTime,
    calls,
};
use crate::pool::{Account, CallContext, CallError};
use crate::terminal::Failure;

/// The terminal that reads come from. Times are the server's.
pub struct Asker<'a> {
    pub account: &'a Account,
    pub context: &'a CallContext,
}

impl Asker<'_> {
    async fn call<C: Mt5Call>(&self, call: C) -> Ready<C::Reply> {
        Ok(self.account.call_raw(call, self.context).await?)
    }

    /// What the server's clock shows at a moment in UTC, both in unix seconds.
    pub fn server_seconds(&self, utc: i64) -> i64 {
        self.account.utc_to_server(UtcTime::from_seconds(utc)).seconds()
    }

    pub async fn symbol(&self, name: &str) -> Ready<SymbolInfo> {
        Ok(*self.call(calls::SymbolInfo { symbol: SymbolName::from_trusted(name) }).await?)
    }

    /// The symbol of an open position or order. `None`: the terminal no longer knows the symbol, which
    /// must not keep the position or order from being changed.
    pub async fn known_symbol(&self, name: &str) -> Ready<Option<SymbolInfo>> {
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

    pub async fn tick(&self, name: &str) -> Ready<Tick> {
        self.call(calls::SymbolInfoTick { symbol: SymbolName::from_trusted(name) }).await
    }

    pub async fn position(&self, ticket: Ticket) -> Ready<Position> {
        let selection = Selection::Ticket(ticket);
        let positions = self.call(calls::PositionsGet { selection }).await?;
        positions
            .into_iter()
            .find(|position| position.ticket == ticket.get())
            .ok_or_else(|| Refused::NotFound(format!("there is no open position {ticket}")))
    }

    /// The open positions of a symbol.
    pub async fn positions(&self, symbol: &str) -> Ready<Vec<Position>> {
        let selection = Selection::Symbol(symbol.to_owned());
        self.call(calls::PositionsGet { selection }).await
    }

    pub async fn order(&self, ticket: Ticket) -> Ready<Order> {
        let selection = Selection::Ticket(ticket);
        let orders = self.call(calls::OrdersGet { selection }).await?;
        orders
            .into_iter()
            .find(|order| order.ticket == ticket.get())
            .ok_or_else(|| Refused::NotFound(format!("there is no pending order {ticket}")))
    }
}
