//! Whether an account may trade now, with what the trading room knows beside its terminal.

use serde::Serialize;
use utoipa::ToSchema;

use super::ledger::Ledger;
use crate::metrics::Event;
use crate::pool::{Account, TradeBlock};

/// The reasons against trading that this room finds.
const TRADING_BLOCKS: [TradeBlock; 3] =
    [TradeBlock::Journal, TradeBlock::Reconciling, TradeBlock::Halted];

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

impl ActionPermission {
    fn with(reasons: Vec<TradeBlock>) -> ActionPermission {
        ActionPermission { allowed: reasons.is_empty(), reasons }
    }
}

impl TradePermission {
    /// Whether an account may trade now.
    pub fn of(ledger: &Ledger, account: &Account) -> TradePermission {
        let mut reasons = account.trade_blocks();
        reasons.extend(blocks(ledger, account));
        let closing = reasons.iter().copied().filter(|block| block.stands_against_closing());
        let close = ActionPermission::with(closing.collect());
        TradePermission { open: ActionPermission::with(reasons), close }
    }
}

/// What this room has against trading. Without the right to trade nobody asks for the journal.
pub fn blocks(ledger: &Ledger, account: &Account) -> Vec<TradeBlock> {
    let has_journal = || ledger.journal().is_ok() && !ledger.journal_is_lost();
    let is_reconciled = || ledger.account(&account.name).is_some_and(|of| of.gate.is_reconciled());
    let mut blocks = vec![];
    if account.trade && !has_journal() {
        blocks.push(TradeBlock::Journal);
    } else if account.trade && !is_reconciled() {
        blocks.push(TradeBlock::Reconciling);
    }
    if ledger.halts.is_halted(account) {
        blocks.push(TradeBlock::Halted);
    }
    blocks
}

/// Tells the metrics what this room has against trading.
pub fn announce(ledger: &Ledger, account: &Account) {
    let stands = blocks(ledger, account);
    let blocked = TRADING_BLOCKS.iter().map(|block| (block.name(), stands.contains(block)));
    let blocked = blocked.collect();
    ledger.metrics.record(Event::TradeBlocked { account: account.id, blocked });
}
