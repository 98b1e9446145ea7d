//! The 32 functions of the `MetaTrader5` package as one closed set.

macro_rules! methods {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A function of the `MetaTrader5` package. The names are those of
        /// <https://www.mql5.com/en/docs/python_metatrader5>.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Method {
            /// Every method, in declaration order: `ALL[method as usize] == method`.
            pub const ALL: &'static [Method] = &[$(Method::$variant,)*];

            /// The function's name in the package.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Method::$variant => $name,)*
                }
            }
        }
    };
}

methods! {
    Initialize = "initialize",
    Login = "login",
    Shutdown = "shutdown",
    Version = "version",
    LastError = "last_error",
    AccountInfo = "account_info",
    TerminalInfo = "terminal_info",
    SymbolsTotal = "symbols_total",
    SymbolsGet = "symbols_get",
    SymbolInfo = "symbol_info",
    SymbolInfoTick = "symbol_info_tick",
    SymbolSelect = "symbol_select",
    MarketBookAdd = "market_book_add",
    MarketBookGet = "market_book_get",
    MarketBookRelease = "market_book_release",
    CopyRatesFrom = "copy_rates_from",
    CopyRatesFromPos = "copy_rates_from_pos",
    CopyRatesRange = "copy_rates_range",
    CopyTicksFrom = "copy_ticks_from",
    CopyTicksRange = "copy_ticks_range",
    OrdersTotal = "orders_total",
    OrdersGet = "orders_get",
    OrderCalcMargin = "order_calc_margin",
    OrderCalcProfit = "order_calc_profit",
    OrderCheck = "order_check",
    OrderSend = "order_send",
    PositionsTotal = "positions_total",
    PositionsGet = "positions_get",
    HistoryOrdersTotal = "history_orders_total",
    HistoryOrdersGet = "history_orders_get",
    HistoryDealsTotal = "history_deals_total",
    HistoryDealsGet = "history_deals_get",
}

impl Method {
    /// The method with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.iter().copied().find(|method| method.name() == name)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Method;

    #[test]
    fn the_package_has_32_functions_and_each_is_found_by_its_name() {
        assert_eq!(Method::ALL.len(), 32);
        for (index, method) in Method::ALL.iter().enumerate() {
            assert_eq!(*method as usize, index);
            assert_eq!(Method::from_name(method.name()), Some(*method));
        }
    }
}
