"""A module with the API of the official package, for tests.

Records are named tuples, bars and ticks numpy arrays, failures None with
last_error(). Its values are fixed and odd on purpose: Unicode, NaN, infinities,
64-bit tickets. The worker imports it, or an RPyC server to which mt5linux connects.
Environment variables make it misbehave:

    FAKE_MT5_PASSWORD  the password that initialize takes; others are refused
    FAKE_MT5_HANG      name of a function that never returns, once the file
                       FAKE_MT5_SWITCH exists (or at once without that variable)
    FAKE_MT5_OFFLINE   a file; while it exists the terminal has lost its broker
    FAKE_MT5_SWITCHED  a file; while it exists somebody has logged in to another account
    FAKE_MT5_SERVER_SWITCHED
                       a file; while it exists the account is one of another server
    FAKE_MT5_HIDE      a file that names a symbol; while it exists that symbol is hidden from
                       Market Watch; selecting the symbol removes the file
    FAKE_MT5_ODD       if set, records have fields that are not of their type
    FAKE_MT5_KEYWORDS  order_check and order_send take keywords only, as some builds do
    FAKE_MT5_PROGRAM   starts a program that takes 100 MB, as Wine does: not as a child of the
                       worker, but in its process group
    FAKE_MT5_LAYOUT    if set, ticks have their fields in another order, and arrays also gaps

and these make it a market:

    FAKE_MT5_TICKS     ticks a second that each symbol has from now on; the volume_real of
                       each is that of the one before and one more
    FAKE_MT5_BARS      how many bars each symbol has
"""

import os
import time as _time
from collections import namedtuple
from decimal import Decimal

import numpy as np

from fields import ACCOUNT, BOOK, DEAL, ORDER, POSITION, SYMBOL, TERMINAL, TICK

__version__ = "5.0.6231"

NAN = float("nan")
INF = float("inf")
BIG = 2**63 + 12345  # fits an unsigned 64-bit ticket only


RECORDS = {
    "TerminalInfo": TERMINAL, "AccountInfo": ACCOUNT, "SymbolInfo": SYMBOL, "Tick": TICK,
    "BookInfo": BOOK, "TradeOrder": ORDER, "TradePosition": POSITION, "TradeDeal": DEAL,
}
CLASSES = {
    name: namedtuple(name, [field for field, _ in types]) for name, types in RECORDS.items()
}
# namedtuple classes are pickled and proxied by their module's names.
globals().update(CLASSES)


# A value of its own for every field, so that none can be mistaken for another.
DEFAULTS = {
    record: {
        field: {bool: index % 2 == 1, int: 1000 + index, float: index + 0.125,
                str: f"{field} Ünï ☃ {index}"}[kind]
        for index, (field, kind) in enumerate(types, start=1)
    }
    for record, types in RECORDS.items()
}
# The account may trade.
DEFAULTS["TerminalInfo"].update(trade_allowed=True, tradeapi_disabled=False)
DEFAULTS["AccountInfo"].update(trade_allowed=True, trade_expert=True)


def _make(record, /, **given):
    return CLASSES[record](**{**DEFAULTS[record], **given})


LOGIN = 5001
TIME = 1_700_000_000
SYMBOLS = ["EURUSD", "GBPUSD", "EURGBP", "Gold ☃"]
# One that can be traded: its steps and digits make sense. It is in no list.
TRADED = "TRADED"

RATES = np.array(
    [(TIME + 60 * i, 1.1 + i / 1000, 1.2 + i / 1000, 1.0, 1.15, 7 + i, 3, 2**60 + i)
     for i in range(int(os.environ.get("FAKE_MT5_BARS", 50)))],
    dtype=[("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
           ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8")],
)
TICKS = np.array(
    [(TIME + i, 1.1, 1.2, NAN, 2**63 + i, (TIME + i) * 1000 + i, 6, 0.5) for i in range(50)],
    dtype=[("time", "<i8"), ("bid", "<f8"), ("ask", "<f8"), ("last", "<f8"), ("volume", "<u8"),
           ("time_msc", "<i8"), ("flags", "<u4"), ("volume_real", "<f8")],
)
OTHER_LAYOUT = "FAKE_MT5_LAYOUT" in os.environ
HANGING = os.environ.get("FAKE_MT5_HANG")
HIDE = os.environ.get("FAKE_MT5_HIDE")
LAST_TICK = _make("Tick", last=NAN, volume=0)[1:]
TICK_RATE = int(os.environ.get("FAKE_MT5_TICKS", 0))
ORDERS = (
    _make("TradeOrder", ticket=BIG, symbol="EURUSD", time_done=0, magic=-7),
    _make("TradeOrder", ticket=22, symbol="GBPUSD", comment="naïve ☃ комментарий"),
)
POSITIONS = (
    _make("TradePosition", ticket=BIG, symbol="EURUSD", swap=NAN, magic=2**62),
    _make("TradePosition", ticket=33, symbol="EURGBP"),
)
ODD = "FAKE_MT5_ODD" in os.environ
if ODD:
    POSITIONS = (
        POSITIONS[0]._replace(comment=None, swap=Decimal("1.5")),
        POSITIONS[1]._replace(comment="\ud800", magic=2**64 - 1),
    )
HISTORY_ORDERS = (
    _make("TradeOrder", ticket=BIG, symbol="EURUSD", time_done=TIME, position_id=9),
    # Closes one position by another.
    _make("TradeOrder", ticket=44, symbol="GBPUSD", time_done=TIME + 100, position_id=10, position_by_id=11),
)
DEALS = (
    _make("TradeDeal", ticket=1, order=BIG, symbol="EURUSD", time=TIME, position_id=9, profit=-INF),
    _make("TradeDeal", ticket=2, order=44, symbol="GBPUSD", time=TIME + 100, position_id=10),
    _make("TradeDeal", ticket=3, order=44, symbol="GBPUSD", time=TIME + 100, position_id=11),
    # Another order changed the same position.
    _make("TradeDeal", ticket=4, order=45, symbol="GBPUSD", time=TIME + 90, position_id=10),
)

_error = (1, "Success")
_selected = {"EURUSD"}
_books = set()
_connected = False
_server = DEFAULTS["AccountInfo"]["server"]


def _start_program():
    """Starts a program that ends with this process."""
    import subprocess
    import sys

    ends, _ = os.pipe()
    program = f"import os; taken = b'x' * 100_000_000; os.read({ends}, 1)"
    subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{program}" &'], pass_fds=[ends], check=True)


if "FAKE_MT5_PROGRAM" in os.environ:
    _start_program()


def _exists(variable):
    """Whether the file that an environment variable names exists."""
    path = os.environ.get(variable)
    return path is not None and os.path.exists(path)


def _fail(code, message):
    global _error
    _error = (code, message)
    return None


def _done(value):
    global _error
    _error = (1, "Success")
    return value


def _hang(name):
    if HANGING == name:
        switch = os.environ.get("FAKE_MT5_SWITCH")
        if switch is None or os.path.exists(switch):
            if switch is not None:
                os.remove(switch)
            while True:
                _time.sleep(3600)


def initialize(path=None, login=None, password=None, server=None, timeout=60000, portable=False):
    global _connected, _server
    _hang("initialize")
    print("the package prints to standard output")
    if password != os.environ.get("FAKE_MT5_PASSWORD", password):
        _fail(-6, "Terminal: Authorization failed")
        return False
    _connected = True
    _server = server or _server
    return _done(True)


def login(login, password=None, server=None, timeout=60000):
    global _server
    _server = server or _server
    return _done(True)


def shutdown():
    global _connected
    _connected = False


def version():
    _hang("version")
    return _done((500, 5260, "20 Sep 2025 ☃"))


def last_error():
    return _error


def terminal_info():
    connected = not _exists("FAKE_MT5_OFFLINE")
    return _done(_make("TerminalInfo", connected=connected, retransmission=INF))


def account_info():
    server = "Other-Live" if _exists("FAKE_MT5_SERVER_SWITCHED") else _server
    if _exists("FAKE_MT5_SWITCHED"):
        return _done(_make("AccountInfo", login=LOGIN + 1, server=server))
    return _done(_make("AccountInfo", login=int(os.environ.get("FAKE_MT5_LOGIN", LOGIN)),
                       server=server, margin_level=NAN, name=None if ODD else "Ünï ☃ имя"))


def symbols_total():
    return _done(len(SYMBOLS))


def symbols_get(group=None):
    names = SYMBOLS if group is None else [name for name in SYMBOLS if name.startswith("EUR")]
    return _done(tuple(_info(name) for name in names))


def _hide():
    """Hides the symbol that FAKE_MT5_HIDE names, and gives it."""
    if HIDE is None or not os.path.exists(HIDE):
        return None
    with open(HIDE) as file:
        hidden = file.read().strip()
    _selected.discard(hidden)
    _books.discard(hidden)
    return hidden


def _info(name):
    _hide()
    return _make("SymbolInfo", name=name, select=name in _selected, price_change=NAN, bid=-INF,
                 volume_max=1.7976931348623157e308)


def symbol_info(symbol):
    if symbol == TRADED:
        return _done(_info(TRADED)._replace(select=True, digits=5, volume_min=0.01, volume_max=100.0,
                                            volume_step=0.01, filling_mode=2))
    return _done(_info(symbol)) if symbol in SYMBOLS else _fail(-4, "Terminal: Not found")


def symbol_select(symbol, enable=True):
    if symbol not in SYMBOLS:
        _fail(-1, "Terminal: Call failed")
        return False
    if _hide() == symbol and enable:
        os.remove(HIDE)
    (_selected.add if enable else _selected.discard)(symbol)
    return _done(True)


def symbol_info_tick(symbol):
    _hang("symbol_info_tick")
    if symbol == TRADED:
        return _done(_make("Tick", time=TIME, bid=1.1, ask=1.2))
    _hide()
    if symbol not in _selected:
        return _fail(-4, "Terminal: Not found")
    if TICK_RATE:
        newest = int(_time.time() * TICK_RATE) - 1
        return _done(CLASSES["Tick"](*_made(newest, newest + 1)[0].item()))
    tick = CLASSES["Tick"](TIME, *LAST_TICK)
    if OTHER_LAYOUT:
        return _done(namedtuple("Tick", tick._fields[::-1])(*tick[::-1]))
    return _done(tick)


def market_book_add(symbol):
    _hide()
    if symbol not in _selected:
        _fail(-1, "Terminal: Call failed")
        return False
    _books.add(symbol)
    return _done(True)


def market_book_get(symbol):
    _hide()
    if symbol not in _books:
        return _fail(-1, "Terminal: Call failed")
    return _done((_make("BookInfo", type=1), _make("BookInfo", type=2, price=NAN)))


def market_book_release(symbol):
    _books.discard(symbol)
    return _done(True)


def _seconds(moment):
    """As the package passes a time on, which has 32 bits for it."""
    seconds = int(moment if isinstance(moment, (int, float)) else moment.timestamp())
    return seconds if 0 < seconds < 2**31 else -(2**31)


def _rates(symbol, rows):
    _hide()
    if symbol not in _selected:
        return _fail(-4, "Terminal: Not found")
    if OTHER_LAYOUT:
        return _done(np.repeat(rows[list(rows.dtype.names[::-1])], 2)[::2])
    # An array of its own, as the package gives; byte by byte, which numpy copies in one go.
    return _done(np.ascontiguousarray(rows).view("u1").copy().view(rows.dtype))


def copy_rates_from(symbol, timeframe, date_from, count):
    return _rates(symbol, RATES[RATES["time"] <= _seconds(date_from)][-count:])


def copy_rates_from_pos(symbol, timeframe, start_pos, count):
    end = len(RATES) - start_pos
    return _rates(symbol, RATES[max(0, end - count):end])


def copy_rates_range(symbol, timeframe, date_from, date_to):
    inside = (RATES["time"] >= _seconds(date_from)) & (RATES["time"] <= _seconds(date_to))
    return _rates(symbol, RATES[inside])


def _made(first, last):
    """Ticks of a market that never rests, by their numbers since 1970."""
    number = np.arange(first, last, dtype="<i8")
    ticks = np.zeros(len(number), TICKS.dtype)
    ticks["time_msc"] = number * 1000 // TICK_RATE
    ticks["time"] = ticks["time_msc"] // 1000
    ticks["bid"], ticks["ask"], ticks["flags"] = 1.1, 1.2, 6
    ticks["volume_real"] = number
    return ticks


def copy_ticks_from(symbol, date_from, count, flags):
    if TICK_RATE:
        first = _seconds(date_from) * TICK_RATE
        return _rates(symbol, _made(first, min(first + count, int(_time.time() * TICK_RATE))))
    return _rates(symbol, TICKS[TICKS["time"] >= _seconds(date_from)][:count])


def copy_ticks_range(symbol, date_from, date_to, flags):
    inside = (TICKS["time"] >= _seconds(date_from)) & (TICKS["time"] <= _seconds(date_to))
    return _rates(symbol, TICKS[inside])


def _chosen(records, symbol=None, group=None, ticket=None):
    if symbol is not None:
        records = [record for record in records if record.symbol == symbol]
    if group is not None:
        records = [record for record in records if record.symbol.startswith(group.strip("*"))]
    if ticket is not None:
        records = [record for record in records if record.ticket == ticket]
    return _done(tuple(records))


def orders_total():
    return _done(len(ORDERS))


def orders_get(symbol=None, group=None, ticket=None):
    return _chosen(ORDERS, symbol, group, ticket)


def positions_total():
    return _done(len(POSITIONS))


def positions_get(symbol=None, group=None, ticket=None):
    return _chosen(POSITIONS, symbol, group, ticket)


def _period(records, clock, date_from, date_to, group=None, ticket=None, position=None):
    if date_from is not None:
        start, end = _seconds(date_from), _seconds(date_to)
        records = [record for record in records if start <= getattr(record, clock) <= end]
    if position is not None:
        records = [record for record in records if record.position_id == position]
    if ticket is not None:
        records = [record for record in records if record.ticket == ticket]
    return _chosen(records, group=group)


def history_orders_total(date_from, date_to):
    return _done(len(_period(HISTORY_ORDERS, "time_done", date_from, date_to)))


def history_orders_get(date_from=None, date_to=None, group=None, ticket=None, position=None):
    return _period(HISTORY_ORDERS, "time_done", date_from, date_to, group, ticket, position)


def history_deals_total(date_from, date_to):
    return _done(len(_period(DEALS, "time", date_from, date_to)))


def history_deals_get(date_from=None, date_to=None, group=None, ticket=None, position=None):
    # The package reads one deal for a ticket, that of the deal.
    return _period(DEALS, "time", date_from, date_to, group, ticket, position)


REQUEST = [
    ("action", int), ("magic", int), ("order", int), ("symbol", str), ("volume", float), ("price", float),
    ("stoplimit", float), ("sl", float), ("tp", float), ("deviation", int), ("type", int),
    ("type_filling", int), ("type_time", int), ("expiration", int), ("comment", str), ("position", int),
    ("position_by", int),
]
TradeRequest = namedtuple("TradeRequest", [field for field, _ in REQUEST])
OrderSendResult = namedtuple("OrderSendResult", "retcode deal order volume price bid ask comment request_id"
                             " retcode_external request")
OrderCheckResult = namedtuple("OrderCheckResult", "retcode balance equity profit margin margin_free"
                              " margin_level comment request")


def _asked(arguments, keywords):
    """The request, given in the one way that this build takes."""
    if os.environ.get("FAKE_MT5_KEYWORDS"):
        if arguments:
            return _fail(-2, "Unnamed arguments not allowed")
        given = keywords
    else:
        (given,) = arguments
    # As the package says of what is not unsigned.
    if given.get("magic", 0) < 0:
        raise SystemError("<built-in function> returned a result with an exception set")
    return TradeRequest(**{**{field: kind() for field, kind in REQUEST}, **given})


def order_send(*arguments, **keywords):
    request = _asked(arguments, keywords)
    if request is None:
        return None
    print("order_send received", dict(request._asdict()))
    return _done(OrderSendResult(10009, 71, BIG, request.volume, request.price, 1.1, 1.2,
                                 None if ODD else "Ünï ☃", 9, -3, request))


def order_check(*arguments, **keywords):
    request = _asked(arguments, keywords)
    if request is None:
        return None
    return _done(OrderCheckResult(0, 1.5, 2.5, 3.5, 4.5, 5.5, INF, "Done", request))


def order_calc_margin(action, symbol, volume, price):
    return _done(1000.0 * action + volume + price)


def order_calc_profit(action, symbol, volume, price_open, price_close):
    return _done(1000.0 * action + volume + price_close - price_open)
