"""Reads a stream with sseclient and websockets, leaving and coming back, and ends with
1 unless every tick came once.

    python streams.py HOST:PORT PATH
"""

import json
import sys
import urllib.request

import sseclient
from websockets.sync.client import connect

ADDRESS, PATH = sys.argv[1:]
VISITS, TICKS = 3, 200


class Ticks:
    """Tells whether each tick of a symbol follows the one before."""

    def __init__(self):
        self.last = {}

    def add(self, tick):
        symbol, number = tick["symbol"], tick["volume_real"]
        before = self.last.get(symbol, number - 1)
        assert number == before + 1, (symbol, before, number)
        self.last[symbol] = number


def server_sent(ticks, last):
    request = urllib.request.Request(f"http://{ADDRESS}{PATH}")
    if last:
        request.add_header("Last-Event-ID", last)
    with urllib.request.urlopen(request) as reply:
        for count, event in enumerate(sseclient.SSEClient(reply).events(), start=1):
            assert event.event == "ticks", event
            ticks.add(json.loads(event.data))
            if count == TICKS:
                return event.id


def web_socket(ticks, last):
    with connect(f"ws://{ADDRESS}{PATH}&last_event_id={last}") as socket:
        for count, text in enumerate(socket, start=1):
            message = json.loads(text)
            assert message["event"] == "ticks", message
            ticks.add(message["data"])
            if count == TICKS:
                return message["id"]


for read in server_sent, web_socket:
    ticks, last = Ticks(), ""
    for _ in range(VISITS):
        last = read(ticks, last)
    print(f"{read.__name__}: {VISITS * TICKS} ticks in {VISITS} visits")
