//! The symbols of the simulated broker.

use crate::mt5::SymbolInfo;

/// What distinguishes one simulated symbol from another.
#[derive(Debug)]
pub struct Spec {
    /// Name, such as `EURUSD`.
    pub name: &'static str,
    description: &'static str,
    path: &'static str,
    /// Decimal places of a price.
    pub digits: u32,
    /// The price around which it swings, in points.
    pub base: i64,
    /// A typical day's move, as a ratio of the price.
    pub volatility: f64,
    /// Ask less bid, in points.
    pub spread: i64,
    /// Units of the base in a lot.
    pub contract_size: f64,
    /// Lots in one order.
    pub volume_max: f64,
    currency_base: &'static str,
    /// What a profit comes in.
    pub currency_profit: &'static str,
    currency_margin: &'static str,
    /// `ENUM_SYMBOL_CALC_MODE`: 0 Forex, 4 CFD with leverage.
    calc_mode: i64,
}

macro_rules! spec {
    ($name:literal, $description:literal, $path:literal, $digits:literal, $base:literal,
     $volatility:literal, $spread:literal, $contract:literal, $max:literal,
     $cur_base:literal / $profit:literal / $margin:literal, $calc:literal) => {
        Spec {
            name: $name,
            description: $description,
            path: $path,
            digits: $digits,
            base: $base,
            volatility: $volatility,
            spread: $spread,
            contract_size: $contract,
            volume_max: $max,
            currency_base: $cur_base,
            currency_profit: $profit,
            currency_margin: $margin,
            calc_mode: $calc,
        }
    };
}

/// Every simulated symbol.
#[rustfmt::skip]
pub static SPECS: &[Spec] = &[
    spec!("EURUSD", "Euro vs US Dollar", "Forex\\EURUSD", 5, 112_000, 0.005, 10, 100_000.0, 500.0, "EUR" / "USD" / "EUR", 0),
    spec!("GBPUSD", "Great Britain Pound vs US Dollar", "Forex\\GBPUSD", 5, 129_000, 0.006, 13, 100_000.0, 500.0, "GBP" / "USD" / "GBP", 0),
    spec!("USDJPY", "US Dollar vs Japanese Yen", "Forex\\USDJPY", 3, 141_000, 0.006, 12, 100_000.0, 500.0, "USD" / "JPY" / "USD", 0),
    spec!("AUDUSD", "Australian Dollar vs US Dollar", "Forex\\AUDUSD", 5, 68_000, 0.007, 12, 100_000.0, 500.0, "AUD" / "USD" / "AUD", 0),
    spec!("USDCHF", "US Dollar vs Swiss Franc", "Forex\\USDCHF", 5, 90_000, 0.005, 14, 100_000.0, 500.0, "USD" / "CHF" / "USD", 0),
    spec!("XAUUSD", "Gold vs US Dollar", "Metals\\XAUUSD", 2, 235_000, 0.010, 25, 100.0, 100.0, "XAU" / "USD" / "XAU", 4),
    spec!("BTCUSD", "Bitcoin vs US Dollar", "Crypto\\BTCUSD", 2, 6_500_000, 0.025, 1_500, 1.0, 50.0, "BTC" / "USD" / "BTC", 4),
    spec!("US500", "US 500 Index", "Indices\\US500", 2, 520_000, 0.010, 50, 1.0, 1_000.0, "USD" / "USD" / "USD", 4),
];

impl Spec {
    /// The smallest price change.
    pub fn point(&self) -> f64 {
        10f64.powi(-(self.digits as i32))
    }

    /// A price from whole points, as the decimal with this symbol's digits reads.
    pub fn price(&self, points: i64) -> f64 {
        // Dividing by the exact power of ten rounds once, multiplying by its inverse twice.
        points as f64 / 10f64.powi(self.digits as i32)
    }

    /// Whole points from a price.
    pub fn points(&self, price: f64) -> i64 {
        (price * 10f64.powi(self.digits as i32)).round() as i64
    }

    /// How far from the price stops and pending orders have to lie, in points.
    pub fn stops_level(&self) -> i64 {
        self.spread
    }

    /// Whether a lot is so many dollars, whatever the price.
    pub fn is_usd_based(&self) -> bool {
        self.calc_mode == 0 && self.currency_base == "USD"
    }

    /// What a point is worth for a lot, in USD.
    pub fn tick_value(&self, price: f64) -> f64 {
        let value = self.contract_size * self.point();
        if self.currency_profit == "USD" { value } else { value / price }
    }

    /// `symbol_info` with everything that does not move.
    pub fn info(&self) -> SymbolInfo {
        SymbolInfo {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            path: self.path.to_owned(),
            digits: self.digits.into(),
            spread: self.spread,
            spread_float: false,
            ticks_bookdepth: 10,
            trade_calc_mode: self.calc_mode,
            // SYMBOL_TRADE_MODE_FULL, SYMBOL_TRADE_EXECUTION_MARKET
            trade_mode: 4,
            trade_exemode: 2,
            trade_stops_level: self.stops_level(),
            // FOK and IOC; every expiration and order type
            filling_mode: 3,
            expiration_mode: 15,
            order_mode: 127,
            swap_rollover3days: 3,
            point: self.point(),
            trade_tick_size: self.point(),
            trade_contract_size: self.contract_size,
            volume_min: 0.01,
            volume_max: self.volume_max,
            volume_step: 0.01,
            margin_hedged: self.contract_size,
            margin_hedged_use_leg: true,
            currency_base: self.currency_base.to_owned(),
            currency_profit: self.currency_profit.to_owned(),
            currency_margin: self.currency_margin.to_owned(),
            bank: "mt5-gateway".to_owned(),
            ..SymbolInfo::default()
        }
    }
}
