"""A module with the API of the official package, as far as the benchmarks call it.

A tick costs what it costs at least in any such module: a price is computed and packed into a named
tuple. STAND_IN_MICROSECONDS makes each tick take that long, as a terminal does. The module waits
in a loop, because a sleep ends late by a multiple of what is measured.
"""

import functools
import math
import os
import time as _time
from collections import namedtuple

import numpy as np

from fields import ACCOUNT, SYMBOL, TERMINAL, TICK

__version__ = "5.0.6231"

TIMEFRAME_M1 = 1
BARS = 100_000
TICK_NANOSECONDS = 1000 * int(os.environ.get("STAND_IN_MICROSECONDS", 0))


def _record(name, fields):
    """A record's class, and the record whose fields are all false, zero or empty."""
    record = namedtuple(name, [field for field, _ in fields])
    return record, record(*(kind() for _, kind in fields))


Tick, _ = _record("Tick", TICK)
AccountInfo, _account = _record("AccountInfo", ACCOUNT)
TerminalInfo, _terminal = _record("TerminalInfo", TERMINAL)
SymbolInfo, _symbol = _record("SymbolInfo", SYMBOL)


def initialize(path=None, login=0, password=None, server="", timeout=60_000, portable=False):
    global _account
    _account = _account._replace(login=login, server=server)
    return True


def shutdown():
    pass


def version():
    return 500, 5260, "20 Sep 2025"


def last_error():
    return 1, "Success"


def terminal_info():
    return _terminal._replace(connected=True)


def account_info():
    return _account


def symbol_info(symbol):
    return _symbol._replace(name=symbol, select=True, visible=True)


def symbol_select(symbol, enable=True):
    return True


def symbol_info_tick(symbol):
    if TICK_NANOSECONDS:
        end = _time.perf_counter_ns() + TICK_NANOSECONDS
        while _time.perf_counter_ns() < end:
            pass
    now = _time.time()
    bid = round(1.1 + 0.01 * math.sin(now), 5)
    return Tick(int(now), bid, round(bid + 0.0001, 5), 0.0, 0, int(1000 * now), 6, 0.0)


@functools.cache
def _bars():
    number = np.arange(BARS)
    bars = np.zeros(BARS, [
        ("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
        ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8"),
    ])
    price = 1.1 + 0.01 * np.sin(number / 1000)
    bars["time"], bars["tick_volume"], bars["spread"] = 1_700_000_000 + 60 * number, 7 + number % 500, 10
    for name, offset in [("open", 0.0), ("high", 0.0004), ("low", -0.0003), ("close", 0.0001)]:
        bars[name] = (price + offset).round(5)
    return bars


def copy_rates_from_pos(symbol, timeframe, start_pos, count):
    end = BARS - start_pos
    # An array of its own, as the package gives.
    return _bars()[max(0, end - count):end].copy()
