//! Profit and margin. Amounts are whole cents of USD, so that sums are exact;
//! prices and volumes are MT5's doubles.

use std::collections::BTreeMap;

use super::LEVERAGE;
use crate::mt5::Position;
use crate::terminal::simulator::feed::{Feed, Quote};
use crate::terminal::simulator::symbols::Spec;

/// An amount in whole cents.
pub fn cents(amount: f64) -> i64 {
    (amount * 100.0).round() as i64
}

/// Whole cents as an amount.
pub fn amount(cents: i64) -> f64 {
    cents as f64 / 100.0
}

/// Lots in whole hundredths, which is every symbol's `volume_step`.
pub fn steps(volume: f64) -> i64 {
    (volume * 100.0).round() as i64
}

/// Whole hundredths of a lot as lots.
pub fn lots(steps: i64) -> f64 {
    steps as f64 / 100.0
}

/// The profit of buying (or selling) at one price and closing at another, in
/// cents; a profit in another currency is changed at the closing price.
pub fn profit(spec: &Spec, buy: bool, volume: f64, open: f64, close: f64) -> i64 {
    let moved = if buy { close - open } else { open - close };
    let profit = moved * spec.contract_size * volume;
    cents(if spec.currency_profit == "USD" { profit } else { profit / close })
}

/// The margin of a position, in cents. Source:
/// <https://www.mql5.com/en/docs/constants/environment_state/marketinfoconstants#enum_symbol_calc_mode>,
/// `FOREX` and `CFDLEVERAGE`.
pub fn margin(spec: &Spec, volume: f64, price: f64) -> i64 {
    let worth = volume * spec.contract_size;
    let in_usd = if spec.is_usd_based() { worth } else { worth * price };
    cents(in_usd / LEVERAGE as f64)
}

/// The margin of positions, in cents. Of a symbol that is both bought and sold
/// the dearer side counts (`margin_hedged_use_leg`).
pub fn margin_of<'a>(
    positions: impl Iterator<Item = &'a Position>,
    feeds: &BTreeMap<&'static str, Feed>,
) -> i64 {
    let mut sides: BTreeMap<&str, [i64; 2]> = BTreeMap::new();
    for position in positions {
        if let Some(feed) = feeds.get(position.symbol.as_str()) {
            let side = usize::from(position.r#type != 0);
            sides.entry(feed.spec.name).or_default()[side] +=
                margin(feed.spec, position.volume, position.price_open);
        }
    }
    sides.values().map(|[bought, sold]| (*bought).max(*sold)).sum()
}

/// What a position would be closed at, and its profit then, in cents.
pub fn value(spec: &Spec, position: &Position, quote: Quote) -> (f64, i64) {
    let buy = position.r#type == 0;
    let close = spec.price(if buy { quote.bid } else { quote.ask });
    (close, profit(spec, buy, position.volume, position.price_open, close))
}
