"""The usual Python stack for streams: one process that polls MetaTrader5 and sends with sse-starlette.

    STREAM_MARKET=FILE PYTHONPATH=tests/python uvicorn --app-dir benches stream_stack:app --loop uvloop

One poll serves all subscribers, each tick is written as JSON once, and nothing is measured or logged.
"""

import asyncio
import contextlib
import json
from collections import defaultdict

import stream_market as mt5
from fastapi import FastAPI
from sse_starlette import EventSourceResponse

INTERVAL = 0.1
COPY_TICKS_ALL = -1
PAGE = 1000

with contextlib.redirect_stdout(None):
    mt5.initialize(login=5001, password="p", server="S")
queues = defaultdict(set)


async def poll():
    """Asks for the new ticks of each symbol that has subscribers, and puts them into their queues."""
    clock = asyncio.get_running_loop().time
    newest = defaultdict(int)
    since = int(mt5.symbol_info_tick(mt5.SYMBOLS[0]).time)
    while True:
        due = clock() + INTERVAL
        for symbol, subscribed in queues.items():
            second = newest[symbol] // mt5.RATE or since
            for tick in mt5.copy_ticks_from(symbol, second, PAGE, COPY_TICKS_ALL):
                if tick["volume_real"] <= newest[symbol]:
                    continue
                newest[symbol] = int(tick["volume_real"])
                fields = zip(tick.dtype.names, tick.item())
                data = json.dumps({"symbol": symbol, **dict(fields)}, separators=(",", ":"))
                event = {"id": str(newest[symbol]), "event": "ticks", "data": data}
                for queue in subscribed:
                    queue.put_nowait(event)
        await asyncio.sleep(max(0, due - clock()))


@contextlib.asynccontextmanager
async def lifespan(_):
    polling = asyncio.create_task(poll())
    yield
    polling.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready():
    return {}


@app.get("/stream")
async def stream(symbols: str):
    queue = asyncio.Queue()
    names = symbols.split(",")

    async def events():
        for name in names:
            queues[name].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            for name in names:
                queues[name].discard(queue)

    return EventSourceResponse(events(), ping=3600)
