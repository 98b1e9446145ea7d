"""The worker of mt5-gateway: one terminal behind a pipe.

Standard input and output carry frames, a 4-byte big-endian length and MessagePack. The first frame in
says what to import, how to log in, and what to do around each method; other methods are refused. The
first frame out says hello with versions. Then each call `[id, method, args, kwargs]` is answered, in
order, with `[id, status, payload]`, or `[id, status, clock, payload]` where it tells what this process's
clock shows, in nanoseconds:

    0  the answer: a record as a map, the last tick as a list, bars and ticks as raw bytes
    1  the package's error, `[code, message]`, read in the turn of the call
    2  the package raised an exception; its text
    3  the trade came after its last moment; nothing was sent
    4  the terminal is logged in to another account; which

Each answer is written before the next call begins, even if several calls wait: nobody knows how long the
next call takes. Anything that the package prints goes to standard error, which the gateway logs.

The script consists of two files: `worker.py`, what is done beside the package, and `pipe.py`, what is
done beside the gateway. With `connect.rpyc` the first runs in an RPyC server, which needs nothing else.
"""

import importlib
import os
import sys
import time
from collections import namedtuple
from datetime import datetime, timezone
from operator import attrgetter, not_

ANSWER, MT5_ERROR, RAISED, WITHDRAWN, OTHER_ACCOUNT = range(5)

# Fields of a trade request whose zero means something: a buy, fill or kill, good till cancelled.
SENT_AS_ZERO = {"action", "type", "type_filling", "type_time"}
# TRADE_ACTION_DEAL and TRADE_ACTION_PENDING, which need the symbol in Market Watch.
NEW_ORDERS = (1, 5)
UNNAMED = (-2, "Unnamed arguments not allowed")
# The first and the last moment, in unix seconds, that the package passes on unchanged. It turns a later
# one into one in 1901, and the beginning of 1970 into a random one.
FIRST_TIME, LAST_TIME = 1, 2**31 - 1
# Codes from here down say that the terminal was not reached.
IPC_ERRORS = -10000
# The packed rows that the gateway reads, as numpy describes them.
RATES_DTYPE = [
    ("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
    ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8"),
]
TICKS_DTYPE = [
    ("time", "<i8"), ("bid", "<f8"), ("ask", "<f8"), ("last", "<f8"), ("volume", "<u8"),
    ("time_msc", "<i8"), ("flags", "<u4"), ("volume_real", "<f8"),
]
DTYPES = {"rates": RATES_DTYPE, "ticks": TICKS_DTYPE}
# Records that are sent without their names, because their fields are the gateway's own in its order.
# The last tick is what is asked for most.
UNNAMED_RECORDS = {"symbol_info_tick": tuple(name for name, _ in TICKS_DTYPE)}
# What tells one account from another.
identity_of = attrgetter("login", "server", "trade_mode")
# Values that are packed as they are.
PACKABLE = frozenset({bool, int, float, str})
# Rows of at most so many bytes are copied into their frame: a second write would cost more.
COPIED = 1 << 16


RESOLUTION = 0
if hasattr(time, "CLOCK_BOOTTIME"):
    def clock():
        """Nanoseconds of a clock that counts suspension."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
elif sys.platform == "win32":
    import ctypes

    ctypes.windll.kernel32.GetTickCount64.restype = ctypes.c_uint64
    # The clock's steps, nanoseconds.
    RESOLUTION = 16_000_000

    def clock():
        """Nanoseconds of a clock that counts suspension."""
        return ctypes.windll.kernel32.GetTickCount64() * 1_000_000
else:
    clock = time.monotonic_ns


class Mt5Error(Exception):
    """The package's `last_error()`."""

    @property
    def is_ipc(self):
        return self.args[0] <= IPC_ERRORS


class Withdrawn(Exception):
    """A trade came after its last moment."""


class OtherAccount(Exception):
    """The terminal is logged in to another account than the gateway's."""


class Method:
    """A function of the package, and what the gateway says of it."""

    __slots__ = (
        "mt5", "name", "times", "symbol", "compares_account", "gives", "special", "function", "fails",
        "packable", "record_class", "names", "stand_ins",
    )

    def __init__(self, mt5, name, rules, special):
        self.mt5 = mt5
        self.name = name
        # The positions of arguments that are times, and of a symbol that has to be in Market Watch.
        self.times = rules["times"]
        self.symbol = rules["symbol"]
        # Whether the answer may be about another account.
        self.compares_account = rules["compares_account"]
        # "flag" (False is an error), "total", "rates", "ticks" or "value".
        self.gives = rules["gives"]
        # What is done instead of a plain call.
        self.special = special
        # The package's function, once it was looked up.
        self.function = None
        # Which results say that it failed, beside None.
        self.fails = {"flag": not_, "total": negative}.get(self.gives)
        # Makes of a result what is packed.
        self.packable = self.plain
        if self.gives == "total":
            self.packable = int
        elif self.gives in DTYPES:
            self.packable = Rows(DTYPES[self.gives]).packable
        # The class of the last records, and their names, or None if they are sent without names.
        self.record_class = self.names = None
        # Local classes for the records of another process, by their number of fields.
        self.stand_ins = {}

    def take(self, args, kwargs):
        """Calls the package; what means failure is its error."""
        function = self.function
        if function is None:
            function = self.function = getattr(self.mt5, self.name)
        result = function(*args, **kwargs) if kwargs else function(*args)
        if result is None or (self.fails is not None and self.fails(result)):
            raise self.error(result)
        return result

    def error(self, result):
        code, message = self.mt5.last_error()
        if code < 0:
            return Mt5Error(int(code), str(message))
        if self.gives == "total" and result is not None:
            # Without a terminal symbols_total answers the code itself.
            return Mt5Error(int(result), str(message))
        return Mt5Error(-1, f"{self.name} gave {result!r} and last_error ({code}, {message!r})")

    def plain(self, value):
        """Named tuples become maps, anything else stays as it is."""
        kind = type(value)
        if kind is self.record_class:
            return value if self.names is None else dict(zip(self.names, value))
        if kind in PACKABLE:
            return value
        if hasattr(value, "_fields"):
            return self.record(value)
        if isinstance(value, (tuple, list)):
            return [self.plain(item) for item in value]
        return value.item() if hasattr(value, "item") else value

    def record(self, value):
        """A record whose class is not that of the last one."""
        record = self.here(value)
        names = tuple(record._fields)
        if "request" in names:
            # The one record inside another, in the results of trades.
            fields = dict(zip(names, record))
            fields["request"] = self.plain(fields["request"])
            return fields
        self.record_class = type(record)
        self.names = None if names == UNNAMED_RECORDS.get(self.name) else names
        return self.plain(record)

    def here(self, record):
        """A record as a tuple of this process."""
        if issubclass(type(record), tuple):
            return record
        # One slice gives a plain tuple: behind RPyC each attribute would be a round trip.
        values = tuple(record[:])
        stand_in = self.stand_ins.get(len(values))
        if stand_in is None:
            stand_in = self.stand_ins[len(values)] = namedtuple(self.name, tuple(record._fields))
        return stand_in._make(values)


def negative(total):
    return total < 0


class Worker:
    """The package, and what is known of its terminal."""

    def __init__(self, settings):
        self.mt5 = mt5 = load(settings["module"], settings["connect"])
        self.settings = settings
        self.methods = {
            name: Method(mt5, name, rules, getattr(self, "do_" + name, None))
            for name, rules in settings["methods"].items()
        }
        # Symbols believed to be in Market Watch, so that not every call looks first.
        self.selected = set()
        self.subscriptions = {}
        self.trades_by_keywords = False
        # Login, server and mode, as seen after the login, and as seen last.
        self.identity = self.shown = None

    def hello(self):
        return {
            "python": sys.version.split()[0],
            "module": self.settings["module"],
            "version": str(getattr(self.mt5, "__version__", "unknown")),
        }

    def answer(self, number, name, args, kwargs):
        """The answer to a call, as the gateway reads it."""
        try:
            payload = self.call(name, args, kwargs)
        except Mt5Error as error:
            return number, MT5_ERROR, error.args
        except Withdrawn:
            return number, WITHDRAWN, None
        except OtherAccount as error:
            return number, OTHER_ACCOUNT, str(error)
        except Exception as error:  # whatever the package raises must not end the worker
            import traceback

            traceback.print_exc()
            return number, RAISED, f"{name} raised {described(error)}"
        if name == "account_info":
            # Every probe brings a reading of the clock, by which a trade's last moment is named.
            return number, ANSWER, clock(), payload
        return number, ANSWER, payload

    def close(self):
        self.mt5.shutdown()

    def call(self, name, args, kwargs):
        method = self.methods.get(name)
        if method is None:
            raise ValueError("the gateway gave no rules for this method")
        if method.times:
            args = list(args)
            for index in method.times:
                if index < len(args):
                    seconds = min(max(args[index], FIRST_TIME), LAST_TIME)
                    args[index] = datetime.fromtimestamp(seconds, timezone.utc)
        index = method.symbol
        if index is None:
            return self.perform(method, args, kwargs)
        symbol = args[index]
        if symbol not in self.selected:
            self.select(symbol)
            return self.perform(method, args, kwargs)
        try:
            return self.perform(method, args, kwargs)
        except Mt5Error as error:
            # Somebody may have hidden the symbol meanwhile. If not, the error stands.
            if error.is_ipc or not self.select(symbol):
                raise
        return self.perform(method, args, kwargs)

    def perform(self, method, args, kwargs):
        if method.special is None:
            result = method.take(args, kwargs)
        else:
            result = method.special(*args, **kwargs)
        if method.compares_account:
            self.check_account()
        return method.packable(result)

    def take(self, name, *args, **kwargs):
        return self.methods[name].take(args, kwargs)

    def account(self):
        return self.methods["account_info"].here(self.take("account_info"))

    def select(self, symbol):
        """Sees to it that a symbol is in Market Watch. Gives whether it was not."""
        self.selected.discard(symbol)
        hidden = not self.take("symbol_info", symbol).select
        if hidden:
            self.take("symbol_select", symbol, True)
        self.selected.add(symbol)
        return hidden

    def check_account(self):
        """Makes sure that what was just read is about the account of the login."""
        identity = identity_of(self.account())
        if self.identity is not None and identity != self.identity:
            raise OtherAccount(
                "the terminal is logged in to account %s on %r (mode %s) instead of %s on %r (mode %s)"
                % (identity + self.identity)
            )

    def do_initialize(self):
        self.identity = None
        settings = self.settings
        self.selected.clear()
        path = settings["path"]
        if settings["provided"] and sys.platform == "win32":
            path = windows_path(path)
            end_together()
        args = [path] if path is not None else []
        kwargs = {name: settings[name] for name in ("login", "password", "server", "timeout")}
        if settings["portable"]:
            kwargs["portable"] = True
        self.take("initialize", *args, **kwargs)
        for method in self.methods.values():
            method.function = None  # A package may bind its functions to the connection.
        return True

    def do_version(self):
        version = list(self.take("version"))
        if not version[0]:
            # Without a terminal the package answers (0, 0, '') instead of None.
            code, message = self.mt5.last_error()
            raise Mt5Error(int(code) if code < 0 else -10004, str(message))
        return version

    def do_last_error(self):
        code, message = self.mt5.last_error()
        return {"code": code, "message": message}

    def do_account_info(self):
        account = self.account()
        identity = identity_of(account)
        if self.identity is None and identity[0] == self.settings["login"]:
            self.identity = identity
        if identity != self.shown:
            # Each account has a Market Watch of its own.
            self.selected.clear()
            self.shown = identity
        return account

    def do_symbol_select(self, symbol, enable):
        self.selected.discard(symbol)
        self.take("symbol_info", symbol)
        return bool(self.take("symbol_select", symbol, enable))

    def take_book(self, method, symbol):
        try:
            return self.take(method, symbol)
        except NameError:
            # mt5linux 1.0.3 sends the symbol without quotes, to be evaluated there;
            # the error says that nothing was called.
            return self.take(method, repr(symbol))

    def do_market_book_add(self, symbol):
        if not self.subscriptions.get(symbol):
            self.take_book("market_book_add", symbol)
        self.subscriptions[symbol] = self.subscriptions.get(symbol, 0) + 1
        return True

    def do_market_book_release(self, symbol):
        readers = self.subscriptions.pop(symbol, 0)
        if readers > 1:
            self.subscriptions[symbol] = readers - 1
        else:
            self.take_book("market_book_release", symbol)
        return True

    def do_market_book_get(self, symbol):
        if self.subscriptions.get(symbol):
            try:
                return self.book(symbol)
            except Mt5Error as error:
                if error.is_ipc:
                    raise
            # The subscription ended with the symbol's place in Market Watch, or with a login.
            self.take_book("market_book_add", symbol)
            return self.book(symbol)
        self.take_book("market_book_add", symbol)
        try:
            return self.book(symbol)
        finally:
            try:
                self.take_book("market_book_release", symbol)
            except Mt5Error:
                pass  # the answer is true all the same

    def book(self, symbol):
        return self.take_book("market_book_get", symbol)

    def do_history_deals_get(self, *dates, **selection):
        """The deals of a period, of a position, or of the order with this ticket.

        The package documents `ticket` as the order's, but it reads one deal from the terminal, however
        many the order has. So the deals of the order's positions are asked for."""
        ticket = selection.get("ticket")
        if ticket is None:
            return self.take("history_deals_get", *dates, **selection)
        # The account is compared before the first of several calls here, and after the last by `perform`.
        self.check_account()
        here = self.methods["history_deals_get"].here
        found = {}
        for position in self.positions_of(ticket):
            for deal in map(here, self.take("history_deals_get", position=position)):
                if deal.order == ticket:
                    found[deal.ticket] = deal
        return [found[number] for number in sorted(found)]

    def positions_of(self, ticket):
        """The positions that an order opened, changed or closed: two, if it closed one by the other."""
        # A position has the ticket of the order that opened it, which an order that is filled in part
        # may not name yet.
        positions = {ticket}
        # Open orders first: an order that is filled meanwhile moves to the history, which is asked next.
        for name in "orders_get", "history_orders_get":
            for order in self.take(name, ticket=ticket):
                order = self.methods[name].here(order)
                positions |= {order.position_id, order.position_by_id}
        return sorted(positions - {0})

    def do_order_check(self, request):
        return self.trade("order_check", request)

    def do_order_send(self, request, send_by):
        symbol = request["symbol"]
        if request["action"] in NEW_ORDERS and symbol not in self.selected:
            try:
                self.select(symbol)
            except Mt5Error:
                pass  # what is hidden or delisted may be closed all the same
        return self.trade("order_send", request, send_by)

    def trade(self, method, request, send_by=None):
        """Sends a request, unless the clock has passed `send_by`.

        Some builds take the request as a dict, some as keywords only. The other way
        is tried on the one answer that says that nothing was sent, and on no other."""
        request = {name: value for name, value in request.items() if value or name in SENT_AS_ZERO}
        if request.get("magic", 0) < 0:
            # MT5's magic numbers are unsigned, and the package raises an error at others. It shows them
            # with a sign.
            request["magic"] += 1 << 64
        if not self.trades_by_keywords:
            in_time(send_by)
            try:
                return self.take(method, request)
            except Mt5Error as error:
                if error.args != UNNAMED:
                    raise
            self.trades_by_keywords = True
        in_time(send_by)
        return self.take(method, **request)


def in_time(send_by):
    """The last step before the package: a process that was stopped meanwhile sends nothing."""
    if send_by is not None and clock() + RESOLUTION >= send_by:
        raise Withdrawn


def windows_path(path):
    """A path of the gateway's system, which under Wine may be Unix, as Windows programs write it."""
    if not path.startswith("/"):
        return path
    kernel32 = ctypes.windll.kernel32
    try:
        translate = kernel32.wine_get_dos_file_name
    except AttributeError:
        return "Z:" + path.replace("/", "\\")
    translate.restype = ctypes.c_wchar_p
    return translate(os.fsencode(path))


def end_together():
    """Puts this process into a job that ends with it, and with it the terminal that it starts.

    A gateway on Windows has done so already; one that starts Python under Wine cannot."""
    kernel32 = ctypes.windll.kernel32
    kernel32.CreateJobObjectW.restype = kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    job = ctypes.c_void_p(kernel32.CreateJobObjectW(None, None))
    # JOBOBJECT_EXTENDED_LIMIT_INFORMATION with JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE as its LimitFlags. The
    # handle stays open as long as this process lives.
    limits = ctypes.create_string_buffer(144)
    limits[16:20] = (0x2000).to_bytes(4, "little")
    if not kernel32.SetInformationJobObject(job, 9, limits, len(limits)) or not (
        kernel32.AssignProcessToJobObject(job, ctypes.c_void_p(kernel32.GetCurrentProcess()))
    ):
        print("the terminal may outlive this process: no job takes both", file=sys.stderr)


class Rows:
    """The rows of an array, in the order and sizes that the gateway reads."""

    def __init__(self, dtype):
        self.names = [name for name, _ in dtype]
        self.dtype = dtype

    def packable(self, array):
        if array.dtype is not self.dtype:
            array = self.arranged(array)
        if array.nbytes <= COPIED:
            return array.tobytes()
        try:
            return memoryview(array.view("u1"))
        except (TypeError, ValueError):  # not in one piece, or not in this process
            return memoryview(array.tobytes())

    def arranged(self, array):
        missing = [name for name in self.names if name not in (array.dtype.names or ())]
        if missing:
            raise TypeError(f"the package's array lacks the field `{missing[0]}`")
        if array.dtype != self.dtype:
            return array[self.names].astype(self.dtype)
        # numpy's own object, which is found equal at once.
        self.dtype = array.dtype
        return array


def packable(value):
    """Stands for a value that MessagePack has no type for. The gateway makes of it what the
    field can hold; None, which it marks, is better than an answer that is lost."""
    try:
        if hasattr(value, "item"):
            value = value.item()  # numpy's numbers
        if value is None or isinstance(value, (bool, float, str, bytes)):
            return value
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return value
        if isinstance(value, datetime):
            import calendar

            return calendar.timegm(value.utctimetuple())
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            return str(value)
    except Exception:
        return None


def described(error):
    """An exception in a line."""
    text = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {text}"


def load(module, connect):
    name, _, attribute = module.partition(":")
    package = importlib.import_module(name)
    if not attribute:
        return package
    return getattr(package, attribute)(**(connect or {}))


def serve(settings):
    """Makes a worker in the process of an RPyC server.

    Gives its hello, what answers a call, and what ends it. Texts and bytes alone go back and forth, because
    RPyC passes them by value. Of anything else it passes a reference, whose every attribute is a question
    more."""
    import json

    worker = Worker(json.loads(settings))

    def answer(call):
        """The answer as JSON, and its rows if it has any."""
        answered = worker.answer(*json.loads(call))
        payload = answered[-1]
        if isinstance(payload, (bytes, memoryview)):
            return json.dumps(answered[:-1]), bytes(payload)
        try:
            return json.dumps(answered, default=jsonable), None
        except (TypeError, ValueError) as error:
            text = f"the answer cannot be written as JSON: {type(error).__name__}"
            return json.dumps((answered[0], RAISED, text)), None

    return json.dumps(worker.hello()), answer, worker.close


def jsonable(value):
    value = packable(value)
    return None if isinstance(value, bytes) else value
