"""The stand-in for MetaTrader5 that `streams` measures with: ten symbols, each with ten ticks a second.

The market rests until the file STREAM_MARKET names the numbers of its first tick and of the one after
its last. Tick n is there from n tenths of a second after 1970 on. Its `volume_real` is its number, and
its `volume` the moment at which it was handed out, in microseconds since 1970.
"""

import os
import time as _time

import MetaTrader5 as _base
import numpy as np
from MetaTrader5 import *  # noqa: F403: the functions that the worker asks for besides

SYMBOLS = [f"PAIR{number}" for number in range(10)]
RATE = 10
_base.SYMBOLS[:] = SYMBOLS
_switch = os.environ["STREAM_MARKET"]
_rested_since = int(_time.time())
_span = (0, 0)


def _made(first, last):
    number = np.arange(first, last, dtype="<i8")
    ticks = np.zeros(len(number), _base.TICKS.dtype)
    ticks["time_msc"] = number * 1000 // RATE
    ticks["time"] = ticks["time_msc"] // 1000
    ticks["bid"], ticks["ask"], ticks["flags"] = 1.1, 1.2, 6
    ticks["volume_real"] = number
    ticks["volume"] = _time.time_ns() // 1000
    return ticks


def copy_ticks_from(symbol, date_from, count, flags):
    global _span
    if _span == (0, 0) and os.path.exists(_switch):
        with open(_switch) as file:
            _span = tuple(map(int, file.read().split()))
    asked = date_from if isinstance(date_from, int) else int(date_from.timestamp())
    first = max(_span[0], asked * RATE)
    last = min(_span[1], int(_time.time() * RATE) + 1, first + count)
    return _base._done(_made(first, max(first, last)))


def symbol_info_tick(symbol):
    """The last tick before the market began to move."""
    return _base._done(_base.CLASSES["Tick"](_rested_since, 1.1, 1.2, 0.0, 0, 1000 * _rested_since, 6, 0.0))
