"""The books of the broker in `faulty_broker.py`: what happened there, and the records that tell it."""

import json
import os
import time
from collections import namedtuple

from fields import ACCOUNT, DEAL, ORDER, POSITION, SYMBOL, TERMINAL, TICK

BOOKS = os.environ["FAULTY_BROKER_BOOKS"]
BID, ASK = 1.1, 1.1001

RECORDS = {
    "TerminalInfo": TERMINAL, "AccountInfo": ACCOUNT, "SymbolInfo": SYMBOL, "Tick": TICK,
    "TradeOrder": ORDER, "TradePosition": POSITION, "TradeDeal": DEAL,
}
CLASSES = {name: namedtuple(name, [field for field, _ in types]) for name, types in RECORDS.items()}
EMPTY = {name: {field: kind() for field, kind in types} for name, types in RECORDS.items()}
REQUEST = {
    "action": 0, "magic": 0, "order": 0, "symbol": "", "volume": 0.0, "price": 0.0, "stoplimit": 0.0,
    "sl": 0.0, "tp": 0.0, "deviation": 0, "type": 0, "type_filling": 0, "type_time": 0,
    "expiration": 0, "comment": "", "position": 0, "position_by": 0,
}


def record(kind, **given):
    return CLASSES[kind](**{**EMPTY[kind], **given})


class Books:
    """What happened at the broker, in order."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.read_to = 0
        self.next = 1000
        self.orders, self.history, self.deals, self.positions = {}, [], [], {}

    def refresh(self):
        """Reads what was added, by us or by the test. Lines may be due later only."""
        try:
            with open(BOOKS) as file:
                file.seek(self.read_to)
                while line := file.readline():
                    if not line.endswith("\n"):
                        return
                    event = json.loads(line)
                    if event.get("due", 0) > time.time():
                        return
                    self.read_to = file.tell()
                    self.apply(event)
        except FileNotFoundError:
            pass

    def add(self, event):
        with open(BOOKS, "a") as file:
            file.write(json.dumps(event) + "\n")
        self.refresh()

    def ticket(self):
        self.next += 1
        return self.next

    def apply(self, event):
        request = {**REQUEST, **event["request"]}
        at = event["time"]
        times = {"time": int(at), "time_msc": int(at * 1000)}
        action = request["action"]
        comment = event.get("comment", request["comment"])
        if action == 6:
            position = self.positions.get(request["position"])
            if position:
                position.update(sl=request["sl"], tp=request["tp"], time_update=times["time"],
                                time_update_msc=times["time_msc"])
            return
        if action == 7:
            order = self.orders.get(request["order"])
            if order:
                order.update(price_open=request["price"], price_stoplimit=request["stoplimit"],
                             sl=request["sl"], tp=request["tp"],
                             type_time=request["type_time"], time_expiration=request["expiration"])
            return
        if action == 8:
            order = self.orders.pop(request["order"], None)
            if order:
                self.history.append({**order, "state": event.get("state", 2), "time_done": times["time"]})
            return
        ticket = event["order"] = self.ticket()
        shared = {"symbol": request["symbol"], "magic": request["magic"], "comment": comment,
                  "reason": event.get("reason", 3)}
        order = {**EMPTY["TradeOrder"], **shared, "ticket": ticket, "time_setup": times["time"],
                 "time_setup_msc": times["time_msc"], "type": request["type"],
                 "volume_initial": request["volume"], "volume_current": 0.0,
                 "price_open": request["price"], "sl": request["sl"], "tp": request["tp"],
                 "type_filling": request["type_filling"], "type_time": request["type_time"],
                 "time_expiration": request["expiration"], "position_id": request["position"] or ticket}
        if action == 5:
            self.orders[ticket] = {**order, "state": 1, "volume_current": request["volume"]}
            return
        event["deals"] = []
        left = self.positions.get(request["position"])
        filled = 0.0
        for part in event.get("fills", [1.0]):
            deal = self.ticket()
            volume = round(request["volume"] * part, 8)
            filled += volume
            event["deals"].append(deal)
            self.deals.append({
                **EMPTY["TradeDeal"], **shared, **times, "ticket": deal, "order": ticket,
                "type": request["type"], "entry": 1 if request["position"] else 0,
                "position_id": request["position"] or ticket, "volume": volume,
                "price": request["price"] or BID})
        rest = round(request["volume"] - filled, 8)
        self.history.append({**order, "state": 2 if rest else 4, "volume_current": rest,
                             "time_done": times["time"], "time_done_msc": times["time_msc"]})
        if request["position"]:
            if left:
                left["volume"] = round(left["volume"] - filled, 8)
                left["time_update_msc"] = times["time_msc"]
                if left["volume"] <= 0:
                    del self.positions[request["position"]]
        elif filled:
            self.positions[ticket] = {
                **EMPTY["TradePosition"], **shared, **times, "ticket": ticket, "identifier": ticket,
                "type": request["type"], "volume": filled, "price_open": request["price"] or BID,
                "sl": request["sl"], "tp": request["tp"], "time_update_msc": times["time_msc"]}
