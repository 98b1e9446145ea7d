//! Whether an account may trade, as far as its settings and its terminal tell.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;

use crate::mt5::{AccountInfo, TerminalInfo};

/// Why an account may not trade.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TradeBlock {
    /// The settings do not let it trade, or it is paused.
    AccountSetting,
    /// AutoTrading is off in the terminal.
    AutotradingOff,
    /// The terminal's options forbid trading through the Python API.
    ApiTradingOff,
    /// This login may not trade although the broker allows automated trading on the account, as after
    /// a login with the investor password. MT5 has no flag of its own for it.
    InvestorLogin,
    /// The broker allows no trading on the account.
    AccountTradeDisabled,
    /// The broker allows no automated trading on the account.
    ExpertsDisabled,
    /// No terminal of the account is ready.
    NotConnected,
    /// The journal of trades cannot be used.
    Journal,
    /// Trades from before the start are still being looked for.
    Reconciling,
    /// Somebody has halted the account, or all of them. Closing goes on.
    Halted,
}

impl TradeBlock {
    /// Names of those that keep an account from opening only.
    pub const OF_OPENING: &'static [&'static str] = &["halted"];

    /// Whether it also keeps an account from closing what is open.
    pub fn stands_against_closing(self) -> bool {
        !TradeBlock::OF_OPENING.contains(&self.name())
    }

    /// Its name in the API, in logs and in metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What is wrong, and what to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            TradeBlock::AccountSetting => {
                "the account's settings have `trade = false`, or it is paused; set `trade = true` to let it trade"
            }
            TradeBlock::AutotradingOff => {
                "AutoTrading is off in the terminal; switch it on with the Algo Trading button"
            }
            TradeBlock::ApiTradingOff => {
                "the terminal forbids trading through the Python API; clear \"Disable automated trading \
                 via external Python API\" under Tools, Options, Expert Advisors"
            }
            TradeBlock::InvestorLogin => {
                "the login may not trade, as with the investor password; configure the account's \
                 trading password, and ask the broker if it is that one"
            }
            TradeBlock::AccountTradeDisabled => {
                "the broker allows no trading on the account; ask the broker"
            }
            TradeBlock::ExpertsDisabled => {
                "the broker allows no automated trading on the account; ask the broker"
            }
            TradeBlock::NotConnected => "no terminal of the account is ready",
            TradeBlock::Journal => "the journal of trades cannot be used; the log says why",
            TradeBlock::Halted => {
                "somebody has halted the account, or all of them, and nothing may be opened, moved or widened; `GET \
                 /api/v1/halt` says who and when, and `mt5-gateway halt --lift`, with `--account NAME` for one, \
                 lifts it"
            }
            TradeBlock::Reconciling => {
                "trades from before the account was opened are still being looked for"
            }
        }
    }
}

/// What a terminal showed last about whether it may trade.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TradeFlags {
    terminal: Option<TerminalFlags>,
    account: Option<AccountFlags>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TerminalFlags {
    trade_allowed: bool,
    tradeapi_disabled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AccountFlags {
    trade_allowed: bool,
    trade_expert: bool,
}

impl TradeFlags {
    /// What both records show.
    pub fn of(terminal: &TerminalInfo, account: &AccountInfo) -> TradeFlags {
        let mut flags = TradeFlags::default();
        flags.see_terminal(terminal);
        // Without its broker a terminal shows every account as one that may not trade.
        if terminal.connected {
            flags.see_account(account);
        }
        flags
    }

    /// Notes what `terminal_info()` shows. Without its broker a terminal shows nothing of the account.
    pub fn see_terminal(&mut self, info: &TerminalInfo) {
        let TerminalInfo { trade_allowed, tradeapi_disabled, .. } = *info;
        self.terminal = Some(TerminalFlags { trade_allowed, tradeapi_disabled });
        if !info.connected {
            self.account = None;
        }
    }

    /// Notes what `account_info()` shows.
    pub fn see_account(&mut self, info: &AccountInfo) {
        let AccountInfo { trade_allowed, trade_expert, .. } = *info;
        self.account = Some(AccountFlags { trade_allowed, trade_expert });
    }

    /// Why nothing can be traded through this terminal. What it has not shown yet is no reason.
    pub fn blocks(self) -> Vec<TradeBlock> {
        let mut blocks = vec![];
        if let Some(TerminalFlags { trade_allowed, tradeapi_disabled }) = self.terminal {
            if !trade_allowed {
                blocks.push(TradeBlock::AutotradingOff);
            }
            if tradeapi_disabled {
                blocks.push(TradeBlock::ApiTradingOff);
            }
        }
        if let Some(AccountFlags { trade_allowed, trade_expert }) = self.account {
            match (trade_allowed, trade_expert) {
                (true, true) => {}
                (true, false) => blocks.push(TradeBlock::ExpertsDisabled),
                (false, true) => blocks.push(TradeBlock::InvestorLogin),
                (false, false) => blocks.push(TradeBlock::AccountTradeDisabled),
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_that_forbids_trading_is_a_reason() {
        use TradeBlock::{
            AccountTradeDisabled, ApiTradingOff, AutotradingOff, ExpertsDisabled, InvestorLogin,
        };
        // AutoTrading, the Python API disabled, the login may trade, experts may.
        let cases: [([bool; 4], &[TradeBlock]); 7] = [
            ([true, false, true, true], &[]),
            ([false, false, true, true], &[AutotradingOff]),
            ([true, true, true, true], &[ApiTradingOff]),
            ([true, false, true, false], &[ExpertsDisabled]),
            ([true, false, false, true], &[InvestorLogin]),
            ([true, false, false, false], &[AccountTradeDisabled]),
            ([false, true, false, true], &[AutotradingOff, ApiTradingOff, InvestorLogin]),
        ];
        for ([button, disabled, login, experts], expected) in cases {
            let terminal = TerminalInfo {
                connected: true,
                trade_allowed: button,
                tradeapi_disabled: disabled,
                ..TerminalInfo::default()
            };
            let account = AccountInfo {
                trade_allowed: login,
                trade_expert: experts,
                ..AccountInfo::default()
            };
            assert_eq!(TradeFlags::of(&terminal, &account).blocks(), expected);
        }
    }

    #[test]
    fn what_a_terminal_has_not_shown_or_cannot_know_is_no_reason() {
        let mut flags = TradeFlags::default();
        assert_eq!(flags.blocks(), []);
        flags.see_account(&AccountInfo::default());
        assert_eq!(flags.blocks(), [TradeBlock::AccountTradeDisabled]);
        let mut terminal = TerminalInfo { trade_allowed: true, ..TerminalInfo::default() };
        // Without its broker a terminal shows every account as one that may not trade.
        flags.see_terminal(&terminal);
        assert_eq!(flags.blocks(), []);
        terminal.connected = true;
        flags.see_terminal(&terminal);
        assert_eq!(flags.blocks(), []);
    }
}
