//! An account's money, as a terminal shows it.

use serde::Serialize;
use utoipa::ToSchema;

use super::AccountInfo;

/// An account's money, in its currency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct AccountValues {
    /// The currency's name, such as `USD`.
    pub currency: String,
    /// Money without the result of open positions.
    pub balance: f64,
    /// Money with the result of open positions.
    pub equity: f64,
    /// Money that open positions tie up.
    pub margin: f64,
    /// Money for further positions.
    pub margin_free: f64,
    /// Equity by margin: 2 stands for MT5's 200 %. `null`: nothing ties up money.
    pub margin_level_ratio: Option<f64>,
    /// The result of open positions.
    pub profit: f64,
    /// Leverage: 100 stands for 1:100.
    pub leverage: i64,
    /// `netting`, `exchange` or `hedging`.
    pub margin_mode: &'static str,
    /// `demo`, `contest` or `real`.
    pub trade_mode: &'static str,
}

impl AccountValues {
    /// What `account_info()` shows.
    pub fn of(info: &AccountInfo) -> AccountValues {
        AccountValues {
            currency: info.currency.clone(),
            balance: info.balance,
            equity: info.equity,
            margin: info.margin,
            margin_free: info.margin_free,
            margin_level_ratio: (info.margin > 0.0).then_some(info.margin_level / 100.0),
            profit: info.profit,
            leverage: info.leverage,
            margin_mode: named(info.margin_mode, &["netting", "exchange", "hedging"]),
            trade_mode: named(info.trade_mode, &["demo", "contest", "real"]),
        }
    }
}

/// The name of a value of one of MT5's enumerations.
fn named(value: i64, names: &[&'static str]) -> &'static str {
    usize::try_from(value).ok().and_then(|value| names.get(value)).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_without_margin_has_no_margin_level() {
        let info = AccountInfo { margin: 50.0, margin_level: 250.0, ..AccountInfo::default() };
        assert_eq!(AccountValues::of(&info).margin_level_ratio, Some(2.5));
        let info = AccountInfo { margin_mode: 7, trade_mode: 2, ..AccountInfo::default() };
        let values = AccountValues::of(&info);
        let modes = (values.margin_mode, values.trade_mode);
        assert_eq!((values.margin_level_ratio, modes), (None, ("other", "real")));
    }
}
