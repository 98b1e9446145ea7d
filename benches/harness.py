"""Helpers of the scripts here: servers on one core, the load on another.

Needs Linux, wrk and taskset (Debian: wrk, util-linux). Python packages are installed below
target/bench on first use. Timings are printed and never asserted.
"""

import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GATEWAY = os.path.join(ROOT, "target/release/mt5-gateway")
HELLO = os.path.join(ROOT, "target/release/hello")
REQUIREMENTS = os.path.join(ROOT, "benches/requirements.txt")
VENV = os.path.join(ROOT, "target/bench/venv")
PYTHON = os.path.join(VENV, "bin/python")
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 16
KEY = "a key of the benchmarks"
HEADERS = {"X-API-Key": KEY}
# The stand-in for the MetaTrader5 package, and the fields of its records.
MODULES = f"{ROOT}/benches/stand_in:{ROOT}/tests/python"

SIMULATOR = "[accounts.demo]\nlogin = 5001\nserver = 'S'\nterminal.kind = 'simulator'\n"
TICK = "/api/v1/accounts/demo/symbols/EURUSD/tick"


def worker(account="demo", login=5001, sessions=1, python=PYTHON):
    """Settings of an account behind Python workers."""
    return (
        f"[accounts.{account}]\nlogin = {login}\nserver = 'S'\npassword = 'p'\nsessions = {sessions}\n"
        f"[accounts.{account}.terminal]\nkind = 'worker'\npython = '{python}'\npath = '/{account}/terminal64.exe'\n"
    )


def prepare(*binaries):
    """Says what is missing, and installs the Python packages."""
    for program in ["wrk", "taskset"]:
        shutil.which(program) or sys.exit(f"{program} is missing (Debian: wrk, util-linux)")
    for binary in binaries:
        os.path.exists(binary) or sys.exit(
            f"{binary} is missing: cargo build --release --bins --features hello"
        )
    install()


def install():
    """Installs the Python packages."""
    with open(REQUIREMENTS) as file:
        wanted = file.read()
    marker = os.path.join(VENV, "installed")
    if not os.path.exists(marker) or open(marker).read() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
        with open(marker, "w") as file:
            file.write(wanted)


def core_seconds(pid):
    """Seconds of a core that a process has used, with the kernel's on its behalf."""
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Server:
    """A server on its core and a free port, quiet, with an empty working directory."""

    def __init__(self, command, ready, core=SERVER_CORE, under=(), stderr=None, **environment):
        self.directory = tempfile.mkdtemp()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "PYTHONPATH": MODULES, **environment}
        pinned = ["taskset", "-c", core] if core else []
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [*pinned, *under, *command(self.port, self.directory)],
            cwd=self.directory, env=environment, stderr=stderr,
        )
        while True:
            try:
                self.get(ready)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begun > 120:
                    self.process.kill()
                    sys.exit("a server does not get ready")
                time.sleep(0.005)
        self.started_after = time.monotonic() - begun

    def get(self, path):
        return urllib.request.urlopen(urllib.request.Request(self.url + path, headers=HEADERS)).read()

    def load(self, path=TICK, connections=CONNECTIONS, seconds=SECONDS):
        """Requests a second, and the median and the 99th percentile in milliseconds."""
        output = subprocess.run(
            ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}",
             "--timeout", "60", "--latency", *(f"-H{name}: {value}" for name, value in HEADERS.items()),
             self.url + path],
            capture_output=True, text=True, check=True,
        ).stdout
        if "Non-2xx" in output:
            sys.exit(f"not every answer was 200:\n{output}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
        if not rate:
            sys.exit(f"no answer to {path} within {seconds} s")
        units = {"us": 0.001, "ms": 1, "s": 1000}
        percentile = lambda which: re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", output).groups()
        half, most = (float(value) * units[unit] for value, unit in map(percentile, [50, 99]))
        return rate, half, most

    def memory(self):
        """Resident bytes of the server itself."""
        return memory_of(self.process.pid)[0]

    def core_seconds(self):
        """Seconds of a core that the server itself has used, with the kernel's on its behalf."""
        return core_seconds(self.process.pid)

    def workers(self):
        """Ids of the processes that the server has started."""
        started = glob.glob(f"/proc/{self.process.pid}/task/*/children")
        return [int(child) for children in started for child in open(children).read().split()]

    def workers_core_seconds(self):
        return sum(map(core_seconds, self.workers()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory)


def memory_of(process):
    """Resident bytes of a process, and its share of them where others map them too."""
    with open(f"/proc/{process}/smaps_rollup") as file:
        text = file.read()
    return tuple(1024 * int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1]) for name in ["Rss", "Pss"])


class Gateway(Server):
    """The release binary. Reads are neither shared nor kept, and no line is logged for a request."""

    OPEN = (
        "log.access = false\nlog.filter = 'error'\nreads.share = false\nreads.cache = '0'\n"
        "metrics.rate_limit_per_second = 1000000\nmetrics.rate_limit_burst = 1000000\n"
    )
    # As in production: who asks has to show a key.
    QUIET = (
        f"{OPEN}auth.keys.bench.sha256 = '{hashlib.sha256(KEY.encode()).hexdigest()}'\n"
        "auth.keys.bench.scopes = ['trade']\n"
    )

    def __init__(self, settings, head=QUIET, binary=GATEWAY, **options):
        def command(port, directory):
            path = os.path.join(directory, "gateway.toml")
            with open(path, "w") as file:
                file.write(f"server.listen = '127.0.0.1:{port}'\n{head}{settings}")
            return [binary, "--config", path]

        super().__init__(command, "/readyz", **options)

    def metric(self, name, label=""):
        """The sum of a family's series, or of those that have a label."""
        lines = self.get("/metrics").decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and label in line)

    def wait_for_sessions(self, number):
        """Waits until so many terminals are logged in."""
        while self.metric("mt5_pool_sessions", 'state="ready"') < number:
            time.sleep(0.01)


def python_stack(app, ready, **environment):
    """An application of the folder here in uvicorn, as fast as that is."""
    return Server(
        lambda port, _: [
            PYTHON, "-m", "uvicorn", "--app-dir", os.path.join(ROOT, "benches"), app,
            "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log",
            "--log-level", "error",
        ],
        ready, **environment,
    )


def fast_api(**environment):
    """MetaTrader5 behind FastAPI, as `fastapi_stack.py` describes it."""
    return python_stack("fastapi_stack:app", "/metrics", API_KEY=KEY, **environment)


def hello(binary=HELLO, **options):
    """A warp filter that answers with a word."""
    return Server(lambda port, _: [binary, f"127.0.0.1:{port}"], "/hello", **options)


def module_alone(**environment):
    """Ticks a second of the stand-in, in the process that calls it."""
    code = (
        "import time, MetaTrader5 as mt5\n"
        f"calls, begun, end = 0, time.monotonic(), time.monotonic() + {SECONDS}\n"
        "while time.monotonic() < end: mt5.symbol_info_tick('EURUSD'); calls += 1\n"
        "print(calls / (time.monotonic() - begun))"
    )
    output = subprocess.run(
        ["taskset", "-c", SERVER_CORE, PYTHON, "-c", code], env={**os.environ, "PYTHONPATH": MODULES, **environment},
        capture_output=True, text=True, check=True,
    )
    return [float(output.stdout)]


def medians(runs):
    return [statistics.median(column) for column in zip(*runs)]


def in_turn(*loads):
    """Measures several loads in turn, so that a slow minute of the machine affects all: rounds of their results."""
    for load in loads:
        load()
    return [[load() for load in loads] for _ in range(ROUNDS)]


def ratio(rounds, one, other, figure=0):
    """The median over the rounds of one load's figure to another's."""
    return statistics.median(each[one][figure] / each[other][figure] for each in rounds)
