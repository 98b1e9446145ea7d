//! Whether an account may trade now, with what the trading room knows beside its terminal.

use serde::Serialize;
use utoipa::ToSchema;

use super::ledger::Ledger;
use crate::metrics::Event;
use crate::pool::{Account, TradeBlock};

/// The reasons against trading that this room finds.
const TRADING_BLOCKS: [TradeBlock; 2] = [TradeBlock::Journal, TradeBlock::Reconciling];

/// Whether an account may trade now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TradePermission {
    /// Whether orders can be sent that open a position or add to one.
    pub open: ActionPermission,
    /// Whether orders can be sent that close a position, or cancel an order.
    pub close: ActionPermission,
}

/// Whether orders of a kind can be sent now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ActionPermission {
    /// Whether they can, as far as the last probe told.
    pub allowed: bool,
    /// Why not. Empty if they can.
    pub reasons: Vec<TradeBlock>,
}

impl TradePermission {
    /// Whether an account may trade now.
    pub fn of(ledger: &Ledger, account: &Account) -> TradePermission {
        let mut reasons = account.trade_blocks();
        reasons.extend(blocks(ledger, account));
        let action = ActionPermission { allowed: reasons.is_empty(), reasons };
        TradePermission { open: action.clone(), close: action }
    }
}

/// What this room has against trading. Nothing, where the settings allow none: nobody looks then.
pub fn blocks(ledger: &Ledger, account: &Account) -> Option<TradeBlock> {
    if !account.trade {
        None
    } else if ledger.journal().is_err() || ledger.journal_is_lost() {
        Some(TradeBlock::Journal)
    } else if !ledger.account(&account.name).is_some_and(|of| of.gate.is_reconciled()) {
        Some(TradeBlock::Reconciling)
    } else {
        None
    }
}

/// Tells the metrics what this room has against trading.
pub fn announce(ledger: &Ledger, account: &Account) {
    let stands = blocks(ledger, account);
    let blocked = TRADING_BLOCKS.iter().map(|block| (block.name(), stands == Some(*block)));
    let blocked = blocked.collect();
    ledger.metrics.record(Event::TradeBlocked { account: account.id, blocked });
}
