"""A worker that breaks the protocol. Used in place of Python: the gateway's own
arguments follow the name of the fault and are not looked at."""

import os
import struct
import sys
import time

import msgpack

source, sink = sys.stdin.buffer, sys.stdout.buffer
fault = sys.argv[1]
LOGIN = 5001


def read():
    header = source.read(4)
    if len(header) < 4:
        sys.exit(0)
    return source.read(struct.unpack(">I", header)[0])


def write(message):
    body = msgpack.packb(message)
    sink.write(struct.pack(">I", len(body)) + body)
    sink.flush()


read()
settings = msgpack.unpackb(read())
if fault == "silent":
    # A worker that is killed does not notice that its input closes.
    source.read()
    sys.exit("the input closed")
if fault == "rubbish":
    sink.write(b"Traceback (most recent call last): this is no frame at all\n" * 100)
    sink.flush()
    time.sleep(3600)
write({"python": "3", "module": "misbehaving", "version": "0"})
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import MetaTrader5 as mt5  # noqa: E402

while True:
    number, method, args, kwargs = msgpack.unpackb(read())
    if method == "symbol_info_tick":
        if fault == "cut":
            sink.write(struct.pack(">I", 1000) + b"half")
            sink.flush()
            os._exit(1)
        if fault == "huge":
            sink.write(b"\xff\xff\xff\xff")
            sink.flush()
            time.sleep(3600)
        if fault == "twice":
            answer = [number, 0, dict(mt5._make("Tick")._asdict())]
            write(answer)
            write(answer)
            continue
        if fault == "lacking":
            tick = dict(mt5._make("Tick")._asdict())
            del tick["time_msc"]
            write([number, 0, tick])
            continue
    if method == "account_info":
        account = mt5._make("AccountInfo", login=LOGIN, server=settings["server"])
        write([number, 0, dict(account._asdict())])
    elif method == "terminal_info":
        write([number, 0, dict(mt5._make("TerminalInfo")._asdict())])
    elif method == "initialize":
        write([number, 0, True])
    else:
        write([number, 1, [-1, "not in this test"]])
