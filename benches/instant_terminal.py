"""A MetaTrader5 module that answers at once and with the same objects every time, so that `worker`
measures the worker and not the module under it."""

import os
import sys
from collections import namedtuple

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/python"))
from fields import ACCOUNT, POSITION, SYMBOL, TERMINAL, TICK  # noqa: E402

__version__ = "5.0.6231"

VALUES = {bool: True, int: 1_700_000_000, float: 1.10256, str: "EURUSD"}
RATE = np.dtype([
    ("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
    ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8"),
])


def record(name, types, **given):
    fields = [field for field, _ in types]
    return namedtuple(name, fields)(**{**{field: VALUES[kind] for field, kind in types}, **given})


LOGIN = record("AccountInfo", ACCOUNT, login=5001, server="S")
TERMINAL_INFO = record("TerminalInfo", TERMINAL)
SYMBOL_INFO = record("SymbolInfo", SYMBOL)
LAST_TICK = record("Tick", TICK)
POSITIONS = tuple(record("TradePosition", POSITION, ticket=ticket) for ticket in (1, 2))
SYMBOLS = (SYMBOL_INFO,) * 1_000
BARS = np.zeros(100_000, RATE)

TradeRequest = namedtuple(
    "TradeRequest",
    "action magic order symbol volume price stoplimit sl tp deviation type type_filling type_time"
    " expiration comment position position_by",
)
CHECKED = namedtuple(
    "OrderCheckResult", "retcode balance equity profit margin margin_free margin_level comment request"
)(0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, "Done",
  TradeRequest(1, 0, 0, "EURUSD", 0.1, 1.1, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, "", 0, 0))


def initialize(*arguments, **keywords):
    return True


def shutdown():
    pass


def last_error():
    return -4, "Terminal: Not found"


def account_info():
    return LOGIN


def terminal_info():
    return TERMINAL_INFO


def symbol_info(symbol):
    return SYMBOL_INFO if symbol == "EURUSD" else None


def symbols_get(group=None):
    return SYMBOLS


def symbol_info_tick(symbol):
    return LAST_TICK


def positions_get(symbol=None, group=None, ticket=None):
    return POSITIONS


def order_check(request):
    return CHECKED


def copy_rates_from_pos(symbol, timeframe, start, count):
    return BARS[start:start + count]
