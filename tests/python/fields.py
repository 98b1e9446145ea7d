"""The fields of the package's records, in its order, with their types."""


def fields(kind, names):
    return [(name, kind) for name in names.split()]


TERMINAL = (
    fields(bool, "community_account community_connection connected dlls_allowed trade_allowed"
            " tradeapi_disabled email_enabled ftp_enabled notifications_enabled mqid")
    + fields(int, "build maxbars codepage ping_last")
    + fields(float, "community_balance retransmission")
    + fields(str, "company name language path data_path commondata_path")
)
ACCOUNT = (
    fields(int, "login trade_mode leverage limit_orders margin_so_mode")
    + fields(bool, "trade_allowed trade_expert") + fields(int, "margin_mode currency_digits")
    + fields(bool, "fifo_close")
    + fields(float, "balance credit profit equity margin margin_free margin_level margin_so_call"
              " margin_so_so margin_initial margin_maintenance assets liabilities commission_blocked")
    + fields(str, "name server currency company")
)
SYMBOL = (
    fields(bool, "custom") + fields(int, "chart_mode") + fields(bool, "select visible")
    + fields(int, "session_deals session_buy_orders session_sell_orders volume volumehigh volumelow"
              " time digits spread") + fields(bool, "spread_float")
    + fields(int, "ticks_bookdepth trade_calc_mode trade_mode start_time expiration_time"
              " trade_stops_level trade_freeze_level trade_exemode swap_mode swap_rollover3days")
    + fields(bool, "margin_hedged_use_leg")
    + fields(int, "expiration_mode filling_mode order_mode order_gtc_mode option_mode option_right")
    + fields(float, "bid bidhigh bidlow ask askhigh asklow last lasthigh lastlow volume_real"
              " volumehigh_real volumelow_real option_strike point trade_tick_value"
              " trade_tick_value_profit trade_tick_value_loss trade_tick_size trade_contract_size"
              " trade_accrued_interest trade_face_value trade_liquidity_rate volume_min volume_max"
              " volume_step volume_limit swap_long swap_short margin_initial margin_maintenance"
              " session_volume session_turnover session_interest session_buy_orders_volume"
              " session_sell_orders_volume session_open session_close session_aw"
              " session_price_settlement session_price_limit_min session_price_limit_max"
              " margin_hedged price_change price_volatility price_theoretical price_greeks_delta"
              " price_greeks_theta price_greeks_gamma price_greeks_vega price_greeks_rho"
              " price_greeks_omega price_sensitivity")
    + fields(str, "basis category currency_base currency_profit currency_margin bank description"
              " exchange formula isin name page path")
)
TICK = fields(int, "time") + fields(float, "bid ask last") + fields(int, "volume time_msc flags") \
    + fields(float, "volume_real")
BOOK = fields(int, "type") + fields(float, "price") + fields(int, "volume") \
    + fields(float, "volume_dbl")
ORDER = (
    fields(int, "ticket time_setup time_setup_msc time_done time_done_msc time_expiration type"
            " type_time type_filling state magic position_id position_by_id reason")
    + fields(float, "volume_initial volume_current price_open sl tp price_current price_stoplimit")
    + fields(str, "symbol comment external_id")
)
POSITION = (
    fields(int, "ticket time time_msc time_update time_update_msc type magic identifier reason")
    + fields(float, "volume price_open sl tp price_current swap profit")
    + fields(str, "symbol comment external_id")
)
DEAL = (
    fields(int, "ticket order time time_msc type entry magic position_id reason")
    + fields(float, "volume price commission swap profit fee")
    + fields(str, "symbol comment external_id")
)
