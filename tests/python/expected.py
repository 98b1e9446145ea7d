"""Prints, as JSON, what each read route has to answer over the test module."""

import json
import math

import MetaTrader5 as mt5


def plain(value):
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def rows(array):
    names = array.dtype.names
    return [{name: plain(row[name].item()) for name in names} for row in array]


for name in mt5.SYMBOLS:
    mt5.symbol_select(name, True)
mt5.market_book_add("EURUSD")
# The server of the tests' settings.
mt5.login(mt5.LOGIN, server="S-real")
T = mt5.TIME
BASE = "/api/v1/accounts/real"
print(json.dumps({
    BASE + "/ping": {"status": "ok", "mode": "live"},
    BASE + "/error": {"code": 1, "message": "Success"},
    BASE + "/version": {"version": 500, "build": 5260, "release_date": "20 Sep 2025 ☃"},
    BASE + "/terminal": plain(mt5.terminal_info()),
    BASE + "/account": plain(mt5.account_info()),
    BASE + "/symbols": mt5.SYMBOLS,
    BASE + "/symbols?group=EUR*": [name for name in mt5.SYMBOLS if name.startswith("EUR")],
    BASE + "/symbols/total": len(mt5.SYMBOLS),
    BASE + "/symbols/EURUSD": plain(mt5.symbol_info("EURUSD")),
    BASE + "/symbols/Gold%20%E2%98%83/tick": plain(mt5.symbol_info_tick("Gold ☃")),
    BASE + "/symbols/EURUSD/book": plain(mt5.market_book_get("EURUSD")),
    BASE + "/symbols/EURUSD/rates?timeframe=M1&count=3": rows(mt5.RATES[-3:]),
    BASE + f"/symbols/EURUSD/rates?timeframe=M1&count=-3&from={T + 600}": rows(mt5.RATES[8:11]),
    BASE + f"/symbols/EURUSD/rates?timeframe=M1&count=3&from={T + 600}": rows(mt5.RATES[10:13]),
    BASE + f"/symbols/EURUSD/rates?timeframe=M1&from={T}&to={T + 120}": rows(mt5.RATES[:3]),
    BASE + f"/symbols/EURUSD/ticks?count=3&from={T + 10}": rows(mt5.TICKS[10:13]),
    BASE + f"/symbols/EURUSD/ticks?count=-3&from={T + 40}": rows(mt5.TICKS[37:40]),
    BASE + f"/symbols/EURUSD/ticks?from={T}&to={T + 3}&flags=INFO": rows(mt5.TICKS[:3]),
    BASE + "/positions": plain(mt5.POSITIONS),
    BASE + "/positions?symbol=EURUSD": plain(mt5.POSITIONS[:1]),
    BASE + "/positions?group=EURG*": plain(mt5.POSITIONS[1:]),
    BASE + "/positions/total": len(mt5.POSITIONS),
    BASE + f"/positions/{mt5.BIG}": plain(mt5.POSITIONS[0]),
    BASE + "/orders": plain(mt5.ORDERS),
    BASE + "/orders/total": len(mt5.ORDERS),
    BASE + f"/orders/{mt5.BIG}": plain(mt5.ORDERS[0]),
    BASE + f"/history/orders?from={T}&to={T + 50}": plain(mt5.HISTORY_ORDERS[:1]),
    BASE + f"/history/orders?from={T}&to={T + 200}&ticket=44": plain(mt5.HISTORY_ORDERS[1:]),
    BASE + f"/history/orders/total?from={T}&to={T + 200}": 2,
    # From the beginning of time, and until after the last one that the package can name.
    BASE + f"/history/orders/total?from=0&to={2**31}": 2,
    BASE + f"/symbols/EURUSD/rates?timeframe=M1&count=-3&from={2**33}": rows(mt5.RATES[-3:]),
    BASE + f"/history/deals?from={T}&to={T + 200}": plain(mt5.DEALS),
    BASE + f"/history/deals?from={T}&to={T + 200}&ticket={mt5.BIG}": plain(mt5.DEALS[:1]),
    BASE + f"/history/deals?from={T}&to={T + 200}&position=10": plain(mt5.DEALS[1:4:2]),
    BASE + "/history/deals?position=10": plain(mt5.DEALS[1:4:2]),
    # Both deals of an order, and no other order's.
    BASE + "/history/deals?ticket=44": plain(mt5.DEALS[1:3]),
    BASE + "/history/orders?ticket=44": plain(mt5.HISTORY_ORDERS[1:]),
    BASE + f"/history/deals/total?from={T}&to={T + 50}": 1,
}))
