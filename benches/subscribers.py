"""Subscribers of the ten symbols of `stream_market`, for the scripts here: a thousand connections that
count what they get, in one thread."""

import base64
import math
import os
import re
import resource
import select
import socket
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from harness import KEY, ROOT, SECONDS, Gateway, worker

RATE = 10
SYMBOLS = [f"PAIR{number}" for number in range(10)]
# Events to each subscriber.
EXPECTED = SECONDS * RATE * len(SYMBOLS)
STREAM = "/api/v1/accounts/demo/stream"
# Every 50th subscriber is looked at for latencies.
LOOKED_AT_EVERY = 50
# Subscribers that connect at the same time.
CONNECTING = 16
# How long nothing may come before events count as lost, and a connection as stuck; seconds.
PATIENCE = 30
# Each event has it once.
MARK = b'"volume_real":'
HANDED_OUT = re.compile(rb'"volume":(\d{16}),')
# No heartbeats while the market moves, which the subscribers would have to answer.
SETTINGS = "streams.heartbeat = '1h'\n" + worker() + "module = 'stream_market'\n"


class Market:
    """The market of one server, which rests until it is opened."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "market")
        path = ":".join(os.path.join(ROOT, folder) for folder in ["benches", "tests/python"])
        self.environment = {"STREAM_MARKET": self.file, "PYTHONPATH": path}

    def open(self):
        """Lets prices move for SECONDS, and gives the time at which they begin to."""
        first = math.ceil((time.time() + 0.5) * RATE)
        with open(self.file + ".new", "w") as file:
            file.write(f"{first} {first + SECONDS * RATE}")
        os.rename(self.file + ".new", self.file)
        return first / RATE


class Subscribers:
    """Connections that read events and count them, all in this thread."""

    def __init__(self, server, path, sse, web_sockets):
        self.poll, self.sockets, self.counts, self.rest = select.epoll(), {}, {}, {}
        self.latencies, self.looked_at = [], set()
        target = f"{path}?symbols={','.join(SYMBOLS)}"
        # The kinds alternate, so that neither is always served first.
        kinds = [number % 2 == 1 if sse and web_sockets else not sse for number in range(sse + web_sockets)]
        with ThreadPoolExecutor(CONNECTING) as pool:
            streams = list(pool.map(lambda kind: self.connect(server, target, kind), kinds))
        for number, stream in enumerate(streams):
            self.sockets[stream.fileno()] = stream
            self.counts[stream.fileno()] = 0
            self.rest[stream.fileno()] = b""
            # One that is odd and one that is even in turn, and with them the kinds.
            if number % LOOKED_AT_EVERY == number // LOOKED_AT_EVERY % 2:
                self.looked_at.add(stream.fileno())
            self.poll.register(stream, select.EPOLLIN)

    @staticmethod
    def connect(server, target, is_web_socket):
        head = f"GET {target} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n"
        if is_web_socket:
            key = base64.b64encode(os.urandom(16)).decode()
            head += "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
            head += f"sec-websocket-key: {key}\r\n"
        stream = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        stream.sendall(f"{head}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += stream.recv(1)
        status = b"HTTP/1.1 101" if is_web_socket else b"HTTP/1.1 200"
        if not answer.startswith(status):
            sys.exit(f"a stream is answered with {answer.decode()}")
        stream.setblocking(False)
        return stream

    def read(self, patience):
        """Reads what has come, at once if something has. Whether anything came in time."""
        ready = self.poll.poll(patience)
        for number, _ in ready:
            try:
                data = self.sockets[number].recv(1 << 18)
            except BlockingIOError:
                continue
            if not data:
                sys.exit("a stream has ended")
            whole = self.rest[number] + data
            self.counts[number] += whole.count(MARK)
            self.rest[number] = whole[-len(MARK) + 1:]
            if number in self.looked_at:
                now = time.time_ns() // 1000
                self.latencies += [now - int(moment) for moment in HANDED_OUT.findall(whole)]
        return bool(ready)

    def forget_the_first(self):
        """Passes over what a stream begins with."""
        while self.read(1):
            pass
        self.counts = dict.fromkeys(self.counts, 0)
        self.latencies.clear()

    def read_all(self):
        """Reads until each has what it should, or nothing comes any more."""
        missing = True
        while missing and self.read(PATIENCE):
            missing = sum(self.counts.values()) < EXPECTED * len(self.counts)
        return not missing

    def close(self):
        for stream in self.sockets.values():
            stream.close()
        self.poll.close()


def measure(server, market, path, sse, web_sockets):
    """One run on a fresh server: core-seconds of the server and of its workers, the 99th percentile of
    latencies in milliseconds, how long it took, what part of its core the subscribers' process needed
    meanwhile, and the server's memory."""
    subscribers = Subscribers(server, path, sse, web_sockets)
    subscribers.forget_the_first()
    own, workers = server.core_seconds(), server.workers_core_seconds()
    own_client = time.process_time()
    begun = market.open()
    complete = subscribers.read_all()
    took = time.time() - begun
    own, workers = server.core_seconds() - own, server.workers_core_seconds() - workers
    client = (time.process_time() - own_client) / took
    memory = server.memory()
    subscribers.close()
    counts = set(subscribers.counts.values())
    if not complete or counts != {EXPECTED}:
        print(f"{sse} SSE, {web_sockets} WebSockets: each should have {EXPECTED} ticks, they have {counts}")
        sys.exit(1)
    p99 = statistics.quantiles(subscribers.latencies, n=100)[-1] / 1000
    return own, workers, p99, took, client, memory


def gateway(sse, web_sockets):
    """One run of the gateway."""
    market = Market()
    with Gateway(SETTINGS, **market.environment) as server:
        return measure(server, market, STREAM, sse, web_sockets)


def raise_file_descriptors(subscribers):
    """For this process and the servers, which inherit it."""
    needed = 2 * subscribers + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed} open files are needed, and {hard} allowed: ulimit -Hn {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
