//! What a terminal shows of one trade, for an operator who settles it.

use std::collections::HashSet;

use super::decide::{Finding, decide};
use super::snapshot::{self, Evidence};
use super::{LOOK_TIMEOUT, REQUEST_ID, matching};
use crate::mt5::{OrderState, OrderType, Retcode, TradeRequest};
use crate::pool::{Account, CallContext, CallError};
use crate::trading::trade::{Trade, TradeResult};

/// What the primary's terminal shows about one trade, for an operator who settles it.
///
/// # Errors
/// If the terminal cannot be asked.
pub async fn inspect(account: &Account, trade: &Trade) -> Result<Inspection, CallError> {
    let context = CallContext::internal(REQUEST_ID, LOOK_TIMEOUT);
    let standing = snapshot::standing(account, &context).await?;
    let evidence = standing.evidence(account, trade, &context).await?;
    snapshot::ensure_sound(account, &context).await?;
    let finding = decide(trade, &evidence, &HashSet::new());
    let shows_trade = !matches!(finding, Finding::Unseen | Finding::Void(_) | Finding::Open { .. });
    Ok(Inspection { shows_trade, evidence })
}

/// What a terminal shows of one trade.
pub struct Inspection {
    /// Whether a ticket or a tag shows that it happened, or was refused.
    pub shows_trade: bool,
    evidence: Evidence,
}

impl Inspection {
    /// What the terminal shows of an order; `None`: it does not show it.
    ///
    /// An order that was rejected, or that ended without a deal, is none that was executed.
    /// Neither is one of another symbol or volume.
    pub fn result_of(&self, order: u64, request: &TradeRequest) -> Option<TradeResult> {
        let evidence = &self.evidence;
        let deals: Vec<_> = evidence.deals.iter().filter(|deal| deal.order == order).collect();
        let orders = evidence.history.iter().chain(&evidence.orders);
        let mut alike = orders.filter(|shown| shown.ticket == order).map(|shown| {
            shown.symbol == request.symbol
                && (request.volume == 0.0 || matching::same(shown.volume_initial, request.volume))
        });
        let volume: f64 = deals.iter().map(|deal| deal.volume).sum();
        let dealt = deals.iter().all(|deal| deal.symbol == request.symbol)
            && (request.volume == 0.0 || volume < request.volume + matching::NOISE);
        if !alike.next().unwrap_or(true) || !dealt {
            return None;
        }
        if !deals.is_empty() {
            return Some(TradeResult::of_deals(order, &deals, request.volume));
        }
        let mut orders = evidence.history.iter().chain(&evidence.orders);
        let shown = orders.find(|shown| shown.ticket == order)?;
        let market = OrderType::from_value(shown.r#type).is_some_and(OrderType::is_market);
        if market || shown.state == OrderState::Rejected.value() {
            return None;
        }
        let retcode = Retcode::Done;
        Some(TradeResult::found(retcode, order, shown.volume_initial, shown.price_open))
    }
}
