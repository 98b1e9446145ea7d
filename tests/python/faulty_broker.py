"""A MetaTrader5 module with a broker behind it that keeps books and goes wrong on demand.

The books are a file of JSON lines (FAULTY_BROKER_BOOKS): every line is something that happened at the
broker, whoever did it, so that a test can add what a person or a server does. They outlive the worker.
What `order_send` was asked is noted in FAULTY_BROKER_SENDS before anything else happens, with the
moment on the clock that counts suspension.

FAULTY_BROKER_CONTROL is a JSON file that is read at every call:

    fault          what goes wrong with every trade, one of FAULTS or "fills late", "answers late"
    fills          parts of the volume in which deals are made, such as [0.4, 0.6]
    keeps          how many characters of a comment the broker keeps
    closes         "drop": the comments of closing orders are dropped
    offset         what the server's clock is ahead of UTC, seconds
    quiet          how old the last tick is, seconds; "never": there is none
    login, server, trade_mode, connected        what the terminal shows
    account, terminal        fields of account_info and terminal_info that differ
    hides          how many of the newest deals and orders the history lacks
    slow           seconds that a method takes, by its name; "*": every one
    hangs          a method that never answers
    hangs_once     the same for the first process that comes to it
    stalls         seconds between the arrival of order_send at the worker and its being called
    symbol         fields of symbol_info that differ; null: the symbol does not exist
    retcode        the retcode of every trade, which is carried out all the same

With FAULTY_BROKER_SEED instead of `fault`, what goes wrong follows from the seed and the trade's magic
number (or position), so that a run can be repeated.
"""

import json
import os
import random
import sys
import time
from collections import namedtuple

import __main__
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from broker_books import ASK, BID, BOOKS, CLASSES, REQUEST, Books, record  # noqa: E402

__version__ = "5.0.6231"
SENDS = os.environ["FAULTY_BROKER_SENDS"]
CONTROL = os.environ.get("FAULTY_BROKER_CONTROL", "")
SEED = os.environ.get("FAULTY_BROKER_SEED")
LATE = float(os.environ.get("FAULTY_BROKER_LATE", "0.8"))
PLACED, DONE, PARTIAL, TIMEOUT, NO_MONEY, NO_CHANGES = 10008, 10009, 10010, 10012, 10019, 10025
CONNECTION, CLOSED = 10031, 10036
# How often each happens, in thousandths of all trades.
FAULTS = {
    "dies before": 8, "dies after": 8, "hangs before": 4, "hangs after": 4, "answers late": 8,
    "refuses": 30, "timeout before": 8, "timeout after": 8, "connection before": 8,
    "connection after": 8, "ipc before": 8, "ipc after": 8, "parts": 30, "accepts": 12,
    "parts, dies after": 6, "waits": 6, "switches": 4, "turns the clock": 4,
    "drops comment, dies after": 4,
}

TradeRequest = namedtuple("TradeRequest", list(REQUEST))
OrderSendResult = namedtuple("OrderSendResult", "retcode deal order volume price bid ask comment"
                             " request_id retcode_external request")

_error = (1, "Success")
_settings = {}


def control():
    try:
        with open(CONTROL) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def server_time():
    return time.time() + control().get("offset", 0)


def done(value):
    global _error
    _error = (1, "Success")
    return value


def failed(code, message):
    global _error
    _error = (code, message)
    return None


BOOK = Books()
def stalling(call):
    """What the worker begins each call with: a process may be stopped right here."""
    def stalled(worker, name, args, kwargs):
        if name == "order_send":
            time.sleep(control().get("stalls", 0))
        return call(worker, name, args, kwargs)

    return stalled


if hasattr(__main__, "Worker"):  # An RPyC server has it elsewhere.
    __main__.Worker.call = stalling(__main__.Worker.call)


def seen(method):
    """What every call begins with."""
    settings = control()
    slow = settings.get("slow", {})
    time.sleep(slow.get(method, slow.get("*", 0)))
    if settings.get("hangs") == method:
        time.sleep(3600)
    if settings.get("hangs_once") == method:
        change_control(hangs_once=None)
        time.sleep(3600)
    BOOK.refresh()
    return settings


def initialize(path=None, login=None, password=None, server=None, timeout=60000, portable=False):
    seen("initialize")
    _settings.update(login=login, server=server)
    # Whoever was logged in is not any more.
    if CONTROL:
        settings = control()
        if settings.pop("until_login", None):
            for name in ("login", "server", "trade_mode"):
                settings.pop(name, None)
            with open(CONTROL, "w") as file:
                json.dump(settings, file)
    return done(True)


def shutdown():
    pass


def last_error():
    return _error


def version():
    return done((500, 5260, "20 Sep 2025"))


def account_info():
    settings = seen("account_info")
    return done(record(
        "AccountInfo", login=settings.get("login", _settings["login"]),
        server=settings.get("server", _settings["server"]),
        trade_mode=settings.get("trade_mode", 0), margin_mode=2,
        **{"trade_allowed": True, "trade_expert": True, **settings.get("account", {})}))


def terminal_info():
    settings = seen("terminal_info")
    return done(record("TerminalInfo", connected=settings.get("connected", True), maxbars=100000,
                       **{"trade_allowed": True, **settings.get("terminal", {})}))


def symbol_info(symbol):
    settings = seen("symbol_info")
    given = settings.get("symbol", {})
    if given is None:
        return failed(-4, "Terminal: Not found")
    quoted = settings.get("quiet") != "never"
    values = {"name": symbol, "select": True, "digits": 5, "point": 0.00001, "filling_mode": 3,
              "trade_exemode": 2, "volume_min": 0.01, "volume_max": 100.0, "volume_step": 0.01,
              "trade_stops_level": 10, "bid": BID if quoted else 0.0, "ask": ASK if quoted else 0.0}
    return done(record("SymbolInfo", **{**values, **given}))


def symbols_get(group=None):
    return done((symbol_info("EURUSD")._replace(time=int(server_time())),))


def symbol_select(symbol, enable=True):
    return done(True)


def symbol_info_tick(symbol):
    settings = seen("symbol_info_tick")
    if settings.get("symbol", {}) is None:
        return failed(-4, "Terminal: Not found")
    quiet = settings.get("quiet", 0)
    if quiet == "never":
        return done(record("Tick"))
    at = server_time() - quiet
    return done(record("Tick", time=int(at), time_msc=int(at * 1000), bid=BID, ask=ASK))


def chosen(kind, records, ticket=None, symbol=None, group=None):
    rows = [CLASSES[kind](**row) for row in records if ticket is None or row["ticket"] == ticket]
    return done(tuple(row for row in rows if symbol is None or row.symbol == symbol))


def orders_get(symbol=None, group=None, ticket=None):
    seen("orders_get")
    return chosen("TradeOrder", BOOK.orders.values(), ticket, symbol)


def positions_get(symbol=None, group=None, ticket=None):
    seen("positions_get")
    return chosen("TradePosition", BOOK.positions.values(), ticket, symbol)


def orders_total():
    return done(len(BOOK.orders))


def positions_total():
    return done(len(BOOK.positions))


def past(method, records, clock, key, date_from, date_to, ticket, position):
    settings = seen(method)
    records = records[:len(records) - settings.get("hides", 0)]
    if date_from is not None:
        start, end = date_from.timestamp(), date_to.timestamp()
        return [row for row in records if start <= row[clock] <= end]
    if position is not None:
        return [row for row in records if row["position_id"] == position]
    return [row for row in records if row[key] == ticket]


def history_orders_get(date_from=None, date_to=None, group=None, ticket=None, position=None):
    rows = past("history_orders_get", BOOK.history, "time_done", "ticket", date_from, date_to, ticket,
                position)
    return chosen("TradeOrder", rows)


def history_deals_get(date_from=None, date_to=None, group=None, ticket=None, position=None):
    # The package reads one deal for a ticket, that of the deal.
    rows = past("history_deals_get", BOOK.deals, "time", "ticket", date_from, date_to, ticket, position)
    return chosen("TradeDeal", rows)


def history_deals_total(date_from, date_to):
    return done(len(past("history_deals_total", BOOK.deals, "time", "order", date_from, date_to, None, None)))


def history_orders_total(date_from, date_to):
    rows = past("history_orders_total", BOOK.history, "time_done", "ticket", date_from, date_to, None, None)
    return done(len(rows))


def copy_rates_range(symbol, timeframe, date_from, date_to):
    return done(np.zeros(0, dtype=[
        ("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
        ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8")]))


def fault_of(settings, request):
    if SEED is None:
        return settings.get("fault", "")
    draw = random.Random(f"{SEED} {request['magic']} {request['position']} {request['action']}")
    draw = draw.randrange(1000)
    for fault, share in FAULTS.items():
        if draw < share:
            return fault
        draw -= share
    return ""


def change_control(**given):
    settings = {**control(), **given}
    with open(CONTROL + ".new", "w") as file:
        json.dump(settings, file)
    os.replace(CONTROL + ".new", CONTROL)


def executed(settings, request, fills, fault):
    """Carries a trade out: from here on it is in the books."""
    comment = request["comment"]
    keeps = settings.get("keeps")
    # Some brokers cut comments.
    if keeps is None and SEED is not None and request["magic"] % 7 == 3:
        keeps = 15
    comment = comment if keeps is None else comment[:keeps]
    if request["position"] and settings.get("closes") == "drop" or fault.startswith("drops comment"):
        comment = ""
    event = {"time": server_time(), "request": request, "comment": comment, "fills": fills}
    known = len(BOOK.history) + len(BOOK.orders)
    BOOK.add(event)
    if request["action"] not in (1, 5):
        return request["order"], 0
    order = max([row["ticket"] for row in BOOK.history] + list(BOOK.orders), default=0)
    assert len(BOOK.history) + len(BOOK.orders) == known + 1
    deals = [row["ticket"] for row in BOOK.deals if row["order"] == order]
    return order, deals[0] if deals else 0


def result(request, retcode, order=0, deal=0, volume=None):
    volume = request["volume"] if volume is None else volume
    comment = "Request executed" if retcode == DONE else "Request"
    return done(OrderSendResult(retcode, deal, order, volume, request["price"], BID, ASK, comment, 1, 0,
                                TradeRequest(**request)))


def order_send(request):
    settings = seen("order_send")
    request = {**REQUEST, **request}
    with open(SENDS, "a") as file:
        sent = {"at": time.clock_gettime(time.CLOCK_BOOTTIME), **request}
        file.write(json.dumps(sent) + "\n")
    if request["position"] and request["position"] not in BOOK.positions:
        return result(request, CLOSED)
    fault = fault_of(settings, request)
    if fault == "refuses":
        return result(request, NO_MONEY)
    if fault == "fills late":
        with open(BOOKS, "a") as file:
            event = {"due": time.time() + LATE, "time": server_time() + LATE, "request": request}
            file.write(json.dumps(event) + "\n")
        os._exit(1)
    fills = settings.get("fills", [0.4, 0.6] if fault.startswith("parts") else [1.0])
    if request["volume"] <= 0.01 and SEED is not None:
        fills = [1.0]
    if fault.endswith("before"):
        order, deal = 0, 0
    else:
        order, deal = executed(settings, request, fills, fault)
    if "dies" in fault:
        os._exit(1)
    if fault.startswith("hangs"):
        time.sleep(3600)
    if fault.startswith("timeout"):
        return result(request, TIMEOUT)
    if fault.startswith("connection"):
        return result(request, CONNECTION)
    if fault.startswith("ipc"):
        return failed(-10001, "IPC send failed")
    if fault == "answers late":
        time.sleep(LATE)
    if fault == "waits":
        # Trades that wait behind it find their time over.
        time.sleep(0.3)
    if fault == "switches":
        # Somebody logs in to another account, until the gateway logs in again.
        change_control(login=_settings["login"] + 1, until_login=True)
    if fault == "turns the clock":
        change_control(offset=3600 - control().get("offset", 0))
    if fault == "accepts":
        return result(request, PLACED, order, 0, 0.0)
    if fault.startswith("parts") and len(fills) > 1:
        return result(request, DONE, order, deal, round(request["volume"] * fills[0], 8))
    if settings.get("retcode"):
        return result(request, settings["retcode"], order, deal)
    return result(request, DONE, order, deal)


def order_check(request):
    return failed(-7, "not in this test")
