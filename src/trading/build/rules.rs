//! The rules of a symbol: what prices, volumes, lifetimes and comments it takes. Pure functions.

use super::{Ready, Refused};
use crate::mt5::{Lots, OrderTime, Position, SymbolInfo, TradeRequest};
use crate::pool::CallError;
use crate::terminal::Failure;
use crate::trading::command::NewOrder;

/// The package refuses comments and symbols of this many characters or more.
const TOO_LONG: usize = 30;

/// Tolerance for rounding errors of doubles: `price - 100 * point` is off by some 1e-16.
const NOISE: f64 = 1e-9;

/// Decimal places that are compared.
const PLACES: usize = 12;

/// Distances that a symbol requires of stops and pending orders.
#[derive(Debug, Clone, PartialEq)]
pub struct StopRules {
    symbol: String,
    digits: usize,
    point: f64,
    /// Least distance between the price and a stop, points.
    stops_level: i64,
    /// Distance from the price within which orders and stops cannot be changed, points.
    freeze_level: i64,
}

impl StopRules {
    /// The symbol's rules.
    pub fn of(symbol: &SymbolInfo) -> StopRules {
        StopRules {
            symbol: symbol.name.clone(),
            digits: digits(symbol),
            point: symbol.point,
            stops_level: symbol.trade_stops_level,
            freeze_level: symbol.trade_freeze_level,
        }
    }

    /// What the symbol allows, and what was asked for, for a refusal with `invalid_stops`.
    pub fn explain(&self, request: &TradeRequest) -> String {
        let StopRules { symbol, digits, point, stops_level, freeze_level } = self;
        let distance = *stops_level as f64 * point;
        format!(
            "{symbol} wants stops at least {stops_level} points ({distance:.digits$}) from the price \
             (trade_stops_level) and changes nothing within {freeze_level} points of it \
             (trade_freeze_level); asked for: price {:.digits$}, sl {:.digits$}, tp {:.digits$}",
            request.price, request.sl, request.tp,
        )
    }
}

fn digits(symbol: &SymbolInfo) -> usize {
    usize::try_from(symbol.digits).unwrap_or(0).min(PLACES)
}

/// The refusal of a command without a required field.
pub fn missing(field: &str, why: &str) -> Refused {
    Refused::Invalid(format!("field `{field}` is missing: {why}"))
}

/// A text's length as the package counts it, in UTF-16 units.
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Checks a comment's length.
pub fn comment(comment: &str) -> Ready<()> {
    let length = length(comment);
    if length < TOO_LONG {
        return Ok(());
    }
    let longest = TOO_LONG - 1;
    Err(Refused::Invalid(format!(
        "field `comment`: MT5 takes at most {longest} characters, got {length}, where an \
         emoji counts as two"
    )))
}

/// The lifetime of an order, with its expiration.
pub fn lifetime(type_time: Option<OrderTime>, expiration: Option<i64>) -> Ready<(OrderTime, i64)> {
    let invalid = |rule: &str| Err(Refused::Invalid(rule.to_owned()));
    match (type_time, expiration) {
        (None | Some(OrderTime::Gtc), None) => Ok((OrderTime::Gtc, 0)),
        (Some(OrderTime::Day), None) => Ok((OrderTime::Day, 0)),
        (None, Some(at)) => Ok((OrderTime::Specified, at)),
        (Some(OrderTime::Specified | OrderTime::SpecifiedDay), None) => invalid(
            "field `expiration` is missing: `type_time` SPECIFIED and SPECIFIED_DAY need it",
        ),
        (Some(kind @ (OrderTime::Specified | OrderTime::SpecifiedDay)), Some(at)) => Ok((kind, at)),
        (Some(OrderTime::Gtc | OrderTime::Day), Some(_)) => {
            invalid("field `expiration`: `type_time` GTC and DAY have none; use SPECIFIED")
        }
    }
}

/// The decimals of a number as it is written, `None` beyond what any broker uses.
fn scaled(value: f64) -> Option<i128> {
    if !value.is_finite() || value.abs() >= 1e15 {
        return None;
    }
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    (fraction.len() <= PLACES).then(|| format!("{whole}{fraction:0<PLACES$}").parse().ok())?
}

/// The number that has these decimals.
fn unscaled(value: i128) -> Option<f64> {
    const ONE: i128 = 10i128.pow(PLACES as u32);
    format!("{}.{:0PLACES$}", value / ONE, value % ONE).parse().ok()
}

/// The volume in whole steps, freed from rounding errors.
///
/// # Errors
/// If it is not a volume that the symbol takes.
pub fn volume(symbol: &SymbolInfo, lots: Lots) -> Ready<Lots> {
    let volume = lots.get();
    let SymbolInfo { name, volume_min, volume_max, volume_step, .. } = symbol;
    let invalid =
        |rule: String| Err(Refused::Invalid(format!("field `volume`: {rule}, got {volume}")));
    if volume.is_nan() || volume <= 0.0 || volume < *volume_min - NOISE {
        return invalid(format!("{name} takes at least {volume_min} lots (volume_min)"));
    }
    if *volume_max > 0.0 && volume > *volume_max + NOISE {
        return invalid(format!("{name} takes at most {volume_max} lots (volume_max)"));
    }
    let Some(step) = scaled(*volume_step).filter(|step| *step > 0) else {
        return Ok(lots);
    };
    let steps = (volume / volume_step).round();
    let legal = unscaled(steps as i128 * step).filter(|legal| (legal - volume).abs() <= NOISE);
    match legal {
        Some(legal) => Ok(Lots::new(legal)),
        None => invalid(format!("{name} takes steps of {volume_step} lots (volume_step)")),
    }
}

/// The price with the symbol's digits, freed from rounding errors; 0 means none.
///
/// # Errors
/// If it is not a price that the symbol has.
pub fn price(symbol: &SymbolInfo, field: &str, price: f64) -> Ready<f64> {
    let (digits, name) = (digits(symbol), &symbol.name);
    if price.is_nan() || price < 0.0 {
        let rule = format!("field `{field}`: a price is above 0, got {price}");
        return Err(Refused::Invalid(rule));
    }
    let legal = format!("{price:.digits$}").parse::<f64>().ok();
    let legal = legal.filter(|legal| price < 1e12 && (legal - price).abs() <= NOISE);
    legal.ok_or_else(|| {
        let rule = format!("{name} has prices of {digits} decimal places (digits)");
        Refused::Invalid(format!("field `{field}`: {rule}, got {price}"))
    })
}

/// The present value of a field that the client does not change. MT5 clears fields that are left out, so a
/// value that cannot be read must not be sent as none.
///
/// # Errors
/// If the terminal shows no number.
pub fn present(field: &str, value: f64) -> Ready<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    let detail = format!("the terminal shows no number for `{field}`, which is to stay: give it");
    Err(CallError::Failed(Failure::Unusable(detail)).into())
}

/// Checks that a position has the volume that is to be closed.
pub fn within(position: &Position, volume: Lots) -> Ready<()> {
    if volume.get() <= position.volume + NOISE {
        return Ok(());
    }
    let (ticket, has) = (position.ticket, position.volume);
    Err(Refused::Invalid(format!("field `volume`: position {ticket} has {has} lots, got {volume}")))
}

/// Checks that an order that names a position closes it.
pub fn closing(position: &Position, order: &NewOrder, volume: Lots) -> Ready<()> {
    let ticket = position.ticket;
    if !order.kind.is_market() {
        let rule = format!("field `position`: {} is not executed at once", order.kind.name());
        return Err(Refused::Invalid(rule));
    }
    if position.symbol != order.symbol {
        let rule = format!("field `symbol`: position {ticket} is in {}", position.symbol);
        return Err(Refused::Invalid(rule));
    }
    if position.r#type == order.kind.value() {
        let rule = format!("field `type`: position {ticket} is closed by the opposite type");
        return Err(Refused::Invalid(rule));
    }
    within(position, volume)
}

/// Checks that two positions can close each other.
pub fn pair(one: &Position, other: &Position, symbol: &str, volume: Option<Lots>) -> Ready<()> {
    for position in [one, other] {
        if position.symbol != symbol {
            let (ticket, has) = (position.ticket, &position.symbol);
            let rule = format!("field `symbol`: position {ticket} is in {has}");
            return Err(Refused::Invalid(rule));
        }
    }
    if one.r#type == other.r#type {
        let rule = "field `position_by`: the two positions have the same direction";
        return Err(Refused::Invalid(rule.to_owned()));
    }
    let smaller = one.volume.min(other.volume);
    match volume {
        Some(volume) if (volume.get() - smaller).abs() > NOISE => Err(Refused::Invalid(format!(
            "field `volume`: closing by each other takes the smaller one's {smaller} lots, got {volume}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn volume(symbol: &SymbolInfo, lots: f64) -> Ready<f64> {
        super::volume(symbol, Lots::new(lots)).map(Lots::get)
    }

    fn symbol(volume_step: f64) -> SymbolInfo {
        SymbolInfo {
            name: "EURUSD".to_owned(),
            digits: 5,
            point: 0.00001,
            volume_min: volume_step,
            volume_max: 500.0,
            volume_step,
            ..SymbolInfo::default()
        }
    }

    proptest! {
        #[test]
        fn whole_steps_pass_with_their_noise_and_others_do_not(steps in 1..50_000i64) {
            let lots = steps as f64 / 100.0;
            prop_assert_eq!(volume(&symbol(0.01), lots), Ok(lots));
            // What adding up lots gives.
            let summed: f64 = (0..steps % 100).map(|_| 0.01).sum::<f64>() + (steps / 100) as f64;
            prop_assert_eq!(volume(&symbol(0.01), summed.max(0.01)).is_ok(), true);
            prop_assert!(volume(&symbol(0.01), lots + 0.001).is_err());
            prop_assert!(volume(&symbol(0.01), lots + 2e-9).is_err());
            prop_assert_eq!(volume(&symbol(1.0), lots).is_ok(), steps % 100 == 0);
        }

        #[test]
        fn a_price_less_some_points_is_that_price(points in 1_000..1_000_000i64, less in 0..1_000i64) {
            let exact = (points - less) as f64 / 100_000.0;
            let computed = points as f64 / 100_000.0 - less as f64 * 0.00001;
            prop_assert_eq!(price(&symbol(0.01), "sl", computed), Ok(exact));
            prop_assert!(price(&symbol(0.01), "sl", computed + 0.000_001).is_err());
        }

        #[test]
        fn no_number_breaks_a_rule(value: f64) {
            let _ = volume(&symbol(0.01), value);
            let _ = price(&symbol(0.01), "sl", value);
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused_with_the_rule() {
        for lots in [0.0, -0.1, f64::NAN, f64::INFINITY, 0.123_456_789_012_345_67, 500.01] {
            let rule = volume(&symbol(0.01), lots).unwrap_err().to_string();
            assert!(rule.contains("(volume_"), "{rule}");
        }
        for value in [-1.0, f64::NAN, f64::INFINITY, 1.072_424_9, 1e300] {
            let refused = price(&symbol(0.01), "sl", value).unwrap_err();
            assert!(refused.to_string().starts_with("field `sl`: "), "{refused}");
        }
        assert_eq!(volume(&symbol(0.01), 0.300_000_000_000_000_04), Ok(0.3));
        assert_eq!(price(&symbol(0.01), "sl", 1.072_420_000_000_000_2), Ok(1.07242));
    }

    #[test]
    fn a_stop_that_cannot_be_read_is_not_cleared() {
        assert_eq!(present("sl", 1.5), Ok(1.5));
        assert!(present("sl", f64::NAN).unwrap_err().to_string().contains("`sl`"));
    }

    #[test]
    fn refused_stops_are_explained_with_what_the_symbol_allows() {
        let levels = SymbolInfo { trade_stops_level: 50, trade_freeze_level: 10, ..symbol(0.01) };
        let request = TradeRequest { price: 1.1, sl: 1.0999, ..TradeRequest::default() };
        let explained = StopRules::of(&levels).explain(&request);
        for part in ["50 points (0.00050)", "within 10 points", "sl 1.09990"] {
            assert!(explained.contains(part), "{explained}");
        }
    }
}
