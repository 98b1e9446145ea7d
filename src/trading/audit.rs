//! The record of what happened to each trade.

use tracing::info;

use super::trade::Trade;

/// Logs what happened to a trade. Comments may be private and are not among the fields.
pub fn audit(trade: &Trade, event: &str, request_id: &str) {
    let request = trade.request.as_ref();
    let result = trade.result.as_ref();
    info!(
        target: "mt5_gateway::trading",
        event,
        trade_id = &*trade.trade_id,
        account = trade.account.as_str(),
        operation = trade.operation.name(),
        symbol = request.map(|request| request.symbol.as_str()),
        r#type = request.map(|request| request.r#type),
        volume = request.map(|request| request.volume),
        price = request.map(|request| request.price),
        position = request.map(|request| request.position),
        retcode = result.map(|result| result.retcode),
        order = result.map(|result| result.order),
        deal = result.map(|result| result.deal),
        detail = trade.detail,
        api_key = trade.api_key,
        client = trade.client,
        resolved_by = trade.resolved_by,
        request_id,
        "trade"
    );
}
