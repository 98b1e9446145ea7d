//! The money of accounts as families: shown while it is known, and only if the settings say so.

use prometheus::core::{Atomic, GenericGauge};

use super::children::Children;
use super::{AccountFigures, Catalog};

/// The longest name of a currency that becomes a label value. Real ones have three letters.
const LONGEST_CURRENCY: usize = 8;

impl AccountFigures {
    /// Shows what is known of an account, and removes the series of what is not: old money would be
    /// taken for the present.
    pub(super) fn show(figures: Option<&AccountFigures>, catalog: &Catalog, account: &str) {
        let values = figures.map(|figures| &figures.values);
        let money = [
            (&catalog.mt5_account_balance, values.map(|values| values.balance)),
            (&catalog.mt5_account_equity, values.map(|values| values.equity)),
            (&catalog.mt5_account_margin, values.map(|values| values.margin)),
            (&catalog.mt5_account_margin_free, values.map(|values| values.margin_free)),
            (
                &catalog.mt5_account_margin_level_ratio,
                values.and_then(|values| values.margin_level_ratio),
            ),
            (&catalog.mt5_account_profit, values.map(|values| values.profit)),
        ];
        for (family, value) in money {
            show(family, account, value);
        }
        let count = |total: u64| i64::try_from(total).unwrap_or(i64::MAX);
        let totals = [
            (&catalog.mt5_account_positions, figures.and_then(|figures| figures.positions)),
            (&catalog.mt5_account_orders, figures.and_then(|figures| figures.orders)),
        ];
        for (family, total) in totals {
            show(family, account, total.map(count));
        }
        let leverage = values.map(|values| values.leverage.to_string()).unwrap_or_default();
        let labels = values.map(|values| {
            let currency = currency(&values.currency);
            [account, currency, &leverage, values.margin_mode, values.trade_mode]
        });
        // What has changed is another series.
        let same =
            |of: &[Box<str>]| labels.is_some_and(|labels| of.iter().map(|it| &**it).eq(labels));
        catalog.mt5_account_info.retain(|of| *of[0] != *account || same(of));
        if let Some(labels) = labels {
            catalog.mt5_account_info.with_label_values(&labels).set(1);
        }
    }
}

/// Sets the series of an account, or removes it.
fn show<P: Atomic + 'static>(
    family: &Children<GenericGauge<P>>,
    account: &str,
    value: Option<P::T>,
) {
    match value {
        Some(value) => family.with_label_values(&[account]).set(value),
        None => family.retain(|labels| *labels[0] != *account),
    }
}

/// A currency's name as a label value. Only its terminal says what it is, so anything that is no such
/// name is `other`.
fn currency(name: &str) -> &str {
    let is_name = (1..=LONGEST_CURRENCY).contains(&name.len())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric());
    if is_name { name } else { "other" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render::render;
    use crate::metrics::{LabelSets, Options};
    use crate::mt5::AccountValues;

    #[test]
    fn money_is_shown_while_it_is_known() {
        let options = Options::of_tests();
        let accounts = [("a".to_owned(), 1), ("b".to_owned(), 1)];
        let catalog = Catalog::new(&options, &accounts, &LabelSets::default()).unwrap();
        let shown = || {
            let text = String::from_utf8(render(&catalog).to_vec()).unwrap();
            let money = text.lines().filter(|line| line.starts_with("mt5_account_"));
            let money = money.filter(|line| !line.starts_with("mt5_account_trade_"));
            money.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(), [""; 0]);
        let values = AccountValues {
            currency: "USD".to_owned(),
            balance: 10.5,
            margin_level_ratio: Some(2.5),
            leverage: 100,
            margin_mode: "hedging",
            trade_mode: "demo",
            ..AccountValues::default()
        };
        let figures = AccountFigures { values, positions: Some(3), orders: None };
        AccountFigures::show(Some(&figures), &catalog, "a");
        let info = |currency: &str, leverage: u32| {
            format!(
                "mt5_account_info{{account=\"a\",currency=\"{currency}\",leverage=\"{leverage}\",\
                 margin_mode=\"hedging\",trade_mode=\"demo\"}} 1"
            )
        };
        let lines = shown();
        assert_eq!(lines.len(), 8, "{lines:?}");
        for line in [
            "mt5_account_balance{account=\"a\"} 10.5",
            "mt5_account_margin_level_ratio{account=\"a\"} 2.5",
            "mt5_account_positions{account=\"a\"} 3",
            &info("USD", 100),
        ] {
            assert!(lines.iter().any(|shown| shown == line), "{line}: {lines:?}");
        }
        let mut other = figures.clone();
        other.values.leverage = 30;
        other.values.currency = "a\"b".to_owned();
        other.values.margin_level_ratio = None;
        AccountFigures::show(Some(&other), &catalog, "a");
        let lines = shown();
        assert!(lines.contains(&info("other", 30)) && !lines.contains(&info("USD", 100)));
        assert_eq!(lines.len(), 7, "no margin, no level: {lines:?}");
        AccountFigures::show(Some(&figures), &catalog, "b");
        AccountFigures::show(None, &catalog, "a");
        assert!(shown().iter().all(|line| line.contains("account=\"b\"")));
        assert_eq!(shown().len(), 8);
    }
}
