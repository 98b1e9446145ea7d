"""The worker of mt5-gateway: one terminal behind a pipe.

Standard input and output carry frames, a 4-byte big-endian length and
MessagePack. The first frame in says what to import, how to log in, and what to do around
each method; other methods are refused. The first frame out says hello with versions. Then each call `[id, method, args, kwargs]`
is answered, in order, with `[id, status, payload]`, or `[id, status, clock, payload]` where it tells
what this process's clock shows, in nanoseconds:

    0  the answer: a record as a map, the last tick as a list, bars and ticks as raw bytes
    1  the package's error, `[code, message]`, read in the turn of the call
    2  the package raised an exception; its text
    3  the trade came after its last moment; nothing was sent
    4  the terminal is logged in to another account; which

Anything that the package prints goes to standard error, which the gateway logs.
"""

import calendar
import codecs
import importlib
import os
import sys
import time
import traceback

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
from datetime import datetime, timezone

import msgpack

ANSWER, MT5_ERROR, RAISED, WITHDRAWN, OTHER_ACCOUNT = range(5)

# Fields of a trade request whose zero means something: a buy, fill or kill, good till cancelled.
SENT_AS_ZERO = {"action", "type", "type_filling", "type_time"}
# TRADE_ACTION_DEAL and TRADE_ACTION_PENDING, which need the symbol in Market Watch.
NEW_ORDERS = (1, 5)
UNNAMED = (-2, "Unnamed arguments not allowed")
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
TICK_FIELDS = tuple(name for name, _ in TICKS_DTYPE)


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


class Worker:
    def __init__(self, mt5, settings):
        self.mt5 = mt5
        self.settings = settings
        # By name: `times` and `symbol` are positions of arguments, `compares_account` says whether
        # the answer may be about another account, `gives` what it is: "flag" (False is an error),
        # "total", "rates", "ticks" or "value".
        self.methods = settings["methods"]
        # Symbols believed to be in Market Watch, so that not every call looks first.
        self.selected = set()
        self.subscriptions = {}
        self.fields = {}
        self.trades_by_keywords = False
        # Login, server and mode, as seen after the login, and as seen last.
        self.identity = self.shown = None
        self.special = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def call(self, method, args, kwargs):
        rules = self.methods.get(method)
        if rules is None:
            raise ValueError("the gateway gave no rules for this method")
        for index in rules["times"]:
            if index < len(args):
                args[index] = datetime.fromtimestamp(args[index], timezone.utc)
        index = rules["symbol"]
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
        rules = self.methods[method]
        special = self.special.get(method)
        if special is not None:
            result = special(*args, **kwargs)
        else:
            result = self.take(method, *args, **kwargs)
            if rules["gives"] == "total":
                result = self.total(result)
        if rules["compares_account"]:
            self.check_account()
        if special is not None:
            return result
        if rules["gives"] in DTYPES:
            return Rows(result, DTYPES[rules["gives"]])
        return self.plain(method, result)

    def take(self, method, *args, **kwargs):
        """Calls the package; None, and False where it means failure, is its error."""
        result = getattr(self.mt5, method)(*args, **kwargs)
        if result is None or (self.methods[method]["gives"] == "flag" and not result):
            code, message = self.mt5.last_error()
            if code >= 0:
                raise Mt5Error(-1, f"{method} gave {result!r} and last_error ({code}, {message!r})")
            raise Mt5Error(int(code), str(message))
        return result

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
        identity = self.identity_of(self.take("account_info"))
        if self.identity is not None and identity != self.identity:
            raise OtherAccount(
                "the terminal is logged in to account %s on %r (mode %s) instead of %s on %r (mode %s)"
                % (identity + self.identity)
            )

    def identity_of(self, account):
        # One slice, as in `record`.
        values = tuple(account[:])
        shown = dict(zip(self.names("account_info", account, values), values))
        return shown["login"], shown["server"], shown["trade_mode"]

    def do_initialize(self):
        self.identity = None
        settings = self.settings
        self.selected.clear()
        args = [settings["path"]] if settings["path"] is not None else []
        kwargs = {name: settings[name] for name in ("login", "password", "server", "timeout")}
        if settings["portable"]:
            kwargs["portable"] = True
        return bool(self.take("initialize", *args, **kwargs))

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
        account = self.take("account_info")
        identity = self.identity_of(account)
        if self.identity is None and identity[0] == self.settings["login"]:
            self.identity = identity
        if identity != self.shown:
            # Each account has a Market Watch of its own.
            self.selected.clear()
            self.shown = identity
        return self.plain("account_info", account)

    def do_symbol_info_tick(self, symbol):
        tick = self.take("symbol_info_tick", symbol)
        values = tuple(tick[:])
        # What is asked for most: names that are the gateway's own need not be sent.
        if self.names("symbol_info_tick", tick, values) == TICK_FIELDS:
            return values
        return self.record("symbol_info_tick", tick)

    def do_symbol_select(self, symbol, enable):
        self.selected.discard(symbol)
        self.take("symbol_info", symbol)
        return bool(self.take("symbol_select", symbol, enable))

    def total(self, total):
        if total < 0:
            # Without a terminal symbols_total answers the code itself.
            code, message = self.mt5.last_error()
            raise Mt5Error(int(code) if code < 0 else int(total), str(message))
        return int(total)

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
        return self.plain("market_book_get", self.take_book("market_book_get", symbol))

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
        if not self.trades_by_keywords:
            in_time(send_by)
            try:
                return self.plain(method, self.take(method, request))
            except Mt5Error as error:
                if error.args != UNNAMED:
                    raise
            self.trades_by_keywords = True
        in_time(send_by)
        return self.plain(method, self.take(method, **request))

    def plain(self, method, value):
        """Named tuples become maps, anything else stays as it is."""
        if hasattr(value, "_fields"):
            return self.record(method, value)
        if isinstance(value, (tuple, list)):
            return [self.plain(method, item) for item in value]
        if isinstance(value, (bool, str)):
            return value
        return value.item() if hasattr(value, "item") else value

    def record(self, method, value):
        # One slice gives a plain tuple: behind RPyC each attribute would be a round trip.
        values = tuple(value[:])
        record = dict(zip(self.names(method, value, values), values))
        if "request" in record:
            # The one record inside another, in the results of trades.
            record["request"] = self.plain(method, record["request"])
        return record

    def names(self, method, value, values):
        names = self.fields.get((method, len(values)))
        if names is None:
            names = self.fields[method, len(values)] = tuple(value._fields)
        return names


def in_time(send_by):
    """The last step before the package: a process that was stopped meanwhile sends nothing."""
    if send_by is not None and clock() + RESOLUTION >= send_by:
        raise Withdrawn


class Rows:
    """The rows of an array, in the order and sizes that the gateway reads."""

    def __init__(self, array, dtype):
        names = [name for name, _ in dtype]
        missing = [name for name in names if name not in (array.dtype.names or ())]
        if missing:
            raise TypeError(f"the package's array lacks the field `{missing[0]}`")
        if array.dtype != dtype:
            array = array[names].astype(dtype)
        try:
            self.bytes = memoryview(array.view("u1"))
        except (TypeError, ValueError):  # not in one piece, or not in this process
            self.bytes = array.tobytes()


def mark(error):
    """Encodes the surrogates in a text: the halves of a pair as their character, any other as
    U+FFFD. The gateway's own mark, because "?" could be the broker's, and because the bytes of
    "surrogatepass" are no UTF-8."""
    surrogates = error.object[error.start:error.end].encode("utf-16-le", "surrogatepass")
    return surrogates.decode("utf-16-le", "replace").encode(), error.end


codecs.register_error("mt5_gateway_mark", mark)


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
            return calendar.timegm(value.utctimetuple())
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            return str(value)
    except Exception:
        return None


def load(settings):
    name, _, attribute = settings["module"].partition(":")
    module = importlib.import_module(name)
    if not attribute:
        return module
    return getattr(module, attribute)(**(settings["connect"] or {}))


def main():
    # The pipe is ours alone: what the package prints must not end up in a frame.
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        # So that a hundred thousand bars do not take turns with their reader every 64 kB.
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 20)
    except (AttributeError, OSError):
        pass  # not Linux, or as many as this user may have

    def read():
        header = source.read(4)
        if len(header) < 4:
            return None
        body = source.read(int.from_bytes(header, "big"))
        return msgpack.unpackb(body)

    def write(*parts):
        size = sum(map(len, parts))
        send(size.to_bytes(4, "big") + parts[0])
        for part in parts[1:]:
            send(part)

    def send(data):
        sent = sink.write(data)
        while sent < len(data):
            sent += sink.write(memoryview(data)[sent:])

    pack = msgpack.Packer().pack
    # Slower for every text, so it takes only what the other refuses.
    pack_odd = msgpack.Packer(default=packable, unicode_errors="mt5_gateway_mark").pack
    unpackable = (TypeError, ValueError, OverflowError)

    def answer(number, status, payload, shown=None):
        if isinstance(payload, Rows):
            # As MessagePack would, but without a copy of them.
            rows = payload.bytes
            head = b"\x93" + pack(number) + pack(status) + b"\xc6" + len(rows).to_bytes(4, "big")
            return write(head, rows)
        head = [number, status] if shown is None else [number, status, shown]
        message = [*head, payload]
        try:
            packed = pack(message)
        except unpackable:
            try:
                packed = pack_odd(message)
            except unpackable as error:
                text = f"the answer cannot be packed: {type(error).__name__}"
                packed = pack([number, RAISED, text])
        write(packed)

    settings = read()
    if settings is None:
        return
    mt5 = load(settings)
    worker = Worker(mt5, settings)
    write(pack({
        "python": sys.version.split()[0],
        "module": settings["module"],
        "version": str(getattr(mt5, "__version__", "unknown")),
    }))
    while (message := read()) is not None:
        number, method, args, kwargs = message
        try:
            payload = worker.call(method, args, kwargs)
        except Mt5Error as error:
            answer(number, MT5_ERROR, list(error.args))
        except Withdrawn:
            answer(number, WITHDRAWN, None)
        except OtherAccount as error:
            answer(number, OTHER_ACCOUNT, str(error))
        except Exception as error:  # whatever the package raises must not end the worker
            traceback.print_exc()
            text = (str(error).splitlines() or [""])[0][:200]
            answer(number, RAISED, f"{method} raised {type(error).__name__}: {text}")
        else:
            # Every probe brings a reading of the clock, by which a trade's last moment is named.
            answer(number, ANSWER, payload, clock() if method == "account_info" else None)
    mt5.shutdown()


main()
