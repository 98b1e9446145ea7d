"""The usual Python stack: MetaTrader5 behind FastAPI, in one process with one lock, because the
package has one global connection.

    API_KEY=secret PYTHONPATH=benches/stand_in:tests/python \\
        uvicorn --app-dir benches fastapi_stack:app --loop uvloop --http httptools
"""

import os
import secrets
import threading

import MetaTrader5 as mt5
from fastapi import FastAPI, HTTPException, Security
from fastapi.security import APIKeyHeader
from prometheus_fastapi_instrumentator import Instrumentator

API_KEY = os.environ["API_KEY"]


async def authorize(key: str = Security(APIKeyHeader(name="X-API-Key"))):
    if not secrets.compare_digest(key, API_KEY):
        raise HTTPException(401, "unknown key")


app = FastAPI(dependencies=[Security(authorize)])
Instrumentator().instrument(app).expose(app)
lock = threading.Lock()
mt5.initialize(login=5001, password="p", server="S")


@app.get("/symbols/{symbol}/tick")
def tick(symbol: str):
    with lock:
        tick = mt5.symbol_info_tick(symbol)
    if tick is None:
        raise HTTPException(404, mt5.last_error()[1])
    return tick._asdict()


@app.get("/symbols/{symbol}/rates")
def rates(symbol: str, count: int):
    with lock:
        rates = mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_M1, 0, count)
    if rates is None:
        raise HTTPException(404, mt5.last_error()[1])
    return [dict(zip(rates.dtype.names, row)) for row in rates.tolist()]
