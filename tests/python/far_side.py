"""A worker whose broker keeps its own list of what it received, and which goes
wrong at random: it answers late, twice, or not at all, dies before or after it
takes a trade, refuses, and says that it does not know. Used in place of Python;
the gateway's own arguments are not looked at.

What goes wrong with a trade follows from FAR_SIDE_SEED and the trade's magic
number (or position), so that a run can be repeated. FAR_SIDE_LIST is the file of
what was received, a JSON line each; it is the broker's memory across restarts.
FAR_SIDE_LATE is how long a late answer, or a late fill, takes, in seconds.
FAR_SIDE_FAULT, if set, is what goes wrong with every trade.
"""

import json
import os
import random
import struct
import sys
import time

import msgpack

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fields import ACCOUNT, DEAL, ORDER, POSITION, SYMBOL, TERMINAL, TICK  # noqa: E402

SEED = os.environ["FAR_SIDE_SEED"]
LATE = float(os.environ["FAR_SIDE_LATE"])
DONE, NO_MONEY, TIMEOUT, CONNECTION, CLOSED = 10009, 10019, 10012, 10031, 10036
# How often each happens, in thousandths of all trades.
FAULTS = {
    "dies before": 8, "dies after": 8, "hangs before": 4, "hangs after": 4, "answers late": 8,
    "answers twice": 8, "refuses": 30, "timeout before": 8, "timeout after": 8,
    "connection before": 8, "connection after": 8, "ipc before": 8, "ipc after": 8,
}

source, sink = sys.stdin.buffer, sys.stdout.buffer


def read():
    header = source.read(4)
    if len(header) < 4:
        sys.exit(0)
    return source.read(struct.unpack(">I", header)[0])


def frame(number, payload):
    body = b"\x93" + msgpack.packb(number) + msgpack.packb(0) + payload
    return struct.pack(">I", len(body)) + body


def write(message):
    body = msgpack.packb(message)
    sink.write(struct.pack(">I", len(body)) + body)
    sink.flush()


def record(types, **given):
    values = {field: kind() for field, kind in types}
    values.update(given)
    return values


def packed(records):
    return struct.pack(">BI", 0xDD, len(records)) + b"".join(records)


class Broker:
    """Orders, deals and positions, as packed records by the time they were made."""

    def __init__(self):
        self.list = open(os.environ["FAR_SIDE_LIST"], "a+")
        self.later = os.environ["FAR_SIDE_LIST"] + ".later"
        self.list.seek(0)
        self.orders, self.history, self.deals, self.positions = {}, [], [], {}
        self.received = 0
        for line in self.list:
            if line.endswith("\n"):
                self.apply(json.loads(line))

    def take(self, request):
        """Executes a trade: from here on it is on the far side."""
        entry = {"time": int(time.time()), **request}
        self.list.write(json.dumps(entry) + "\n")
        self.list.flush()
        return self.apply(entry)

    def take_later(self, request):
        """The broker has the trade, but shows it only when LATE is over."""
        with open(self.later, "w") as later:
            json.dump({"due": time.time() + LATE, "request": request}, later)

    def mature(self):
        if os.path.exists(self.later):
            with open(self.later) as later:
                entry = json.load(later)
            if entry["due"] <= time.time():
                os.remove(self.later)
                self.take(entry["request"])

    def apply(self, entry):
        self.received += 1
        order, deal = 2 * self.received, 2 * self.received + 1
        # Some brokers cut comments.
        comment = entry.get("comment", "")
        if entry["magic"] % 7 == 3:
            comment = comment[:15]
        shared = {"symbol": entry["symbol"], "magic": entry["magic"], "comment": comment}
        placed = record(ORDER, ticket=order, time_setup=entry["time"], time_done=entry["time"],
                        type=entry["type"], volume_initial=entry["volume"],
                        price_open=entry["price"], position_id=entry.get("position") or order, **shared)
        if entry["action"] == 5:
            self.orders[order] = msgpack.packb({**placed, "time_done": 0, "state": 1,
                                                "volume_current": entry["volume"]})
            return order, 0
        self.history.append((entry["time"], msgpack.packb({**placed, "state": 4})))
        closes = entry.get("position", 0)
        self.deals.append((entry["time"], msgpack.packb(record(
            DEAL, ticket=deal, order=order, time=entry["time"], type=entry["type"],
            entry=1 if closes else 0, position_id=closes or order, volume=entry["volume"],
            price=entry["price"], **shared))))
        if closes:
            self.positions.pop(closes, None)
        else:
            self.positions[order] = record(
                POSITION, ticket=order, identifier=order, time=entry["time"], type=entry["type"],
                volume=entry["volume"], price_open=entry["price"], **shared)
        return order, deal


def fault_of(request):
    if "FAR_SIDE_FAULT" in os.environ:
        return os.environ["FAR_SIDE_FAULT"]
    draw = random.Random(f"{SEED} {request['magic']} {request.get('position', 0)}").randrange(1000)
    for fault, share in FAULTS.items():
        if draw < share:
            return fault
        draw -= share
    return ""


def result(request, retcode, order=0, deal=0):
    asked = {"action": 0, "magic": 0, "order": 0, "symbol": "", "volume": 0.0, "price": 0.0,
             "stoplimit": 0.0, "sl": 0.0, "tp": 0.0, "deviation": 0, "type": 0, "type_filling": 0,
             "type_time": 0, "expiration": 0, "comment": "", "position": 0, "position_by": 0}
    return {"retcode": retcode, "deal": deal, "order": order, "volume": request["volume"],
            "price": request["price"], "bid": 1.1, "ask": 1.1001, "comment": "Request executed",
            "request_id": 1, "retcode_external": 0, "request": {**asked, **request}}


def send(broker, number, request):
    request.setdefault("magic", 0)
    if request.get("position") and request["position"] not in broker.positions:
        return write([number, 0, result(request, CLOSED)])
    fault = fault_of(request)
    if fault == "refuses":
        return write([number, 0, result(request, NO_MONEY)])
    if fault == "fills late":
        broker.take_later(request)
        os._exit(1)
    if fault.endswith("before"):
        order, deal = 0, 0
    else:
        order, deal = broker.take(request)
    if fault.startswith("dies"):
        os._exit(1)
    if fault.startswith("hangs"):
        time.sleep(3600)
    if fault.startswith("timeout"):
        return write([number, 0, result(request, TIMEOUT)])
    if fault.startswith("connection"):
        return write([number, 0, result(request, CONNECTION)])
    if fault.startswith("ipc"):
        return write([number, 1, [-10001, "IPC send failed"]])
    if fault == "answers late":
        time.sleep(LATE)
    write([number, 0, result(request, DONE, order, deal)])
    if fault == "answers twice":
        write([number, 0, result(request, DONE, order, deal)])


def main():
    read()
    settings = msgpack.unpackb(read())
    broker = Broker()
    symbol = msgpack.packb(record(SYMBOL, name="EURUSD", select=True, digits=5, filling_mode=3,
                                  volume_min=0.01, volume_max=100.0, volume_step=0.01))
    account = msgpack.packb(record(ACCOUNT, login=settings["login"], server=settings["server"]))
    terminal = msgpack.packb(record(TERMINAL, connected=True))
    write({"python": "3", "module": "far side", "version": "1"})
    while True:
        number, method, args, kwargs = msgpack.unpackb(read())
        broker.mature()
        if method == "order_send":
            send(broker, number, args[0])
            continue
        if method == "initialize":
            answer = msgpack.packb(True)
        elif method == "account_info":
            answer = account
        elif method == "terminal_info":
            answer = terminal
        elif method == "symbol_info":
            answer = symbol
        elif method == "symbol_info_tick":
            answer = msgpack.packb(record(TICK, time=int(time.time()), bid=1.1, ask=1.1001))
        elif method == "orders_get":
            answer = packed(list(broker.orders.values()))
        elif method == "positions_get":
            positions = broker.positions
            if "ticket" in kwargs:
                positions = {ticket: positions[ticket] for ticket in [kwargs["ticket"]] if ticket in positions}
            answer = msgpack.packb(list(positions.values()))
        elif method in ("history_orders_get", "history_deals_get"):
            records = broker.history if method == "history_orders_get" else broker.deals
            answer = packed([body for at, body in records if args[0] <= at <= args[1]])
        else:
            write([number, 1, [-1, f"{method} is not in this test"]])
            continue
        sink.write(frame(number, answer))
        sink.flush()


main()
