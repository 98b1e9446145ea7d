"""The test module with a portable terminal: a folder whose `config/common.ini` says what it allows.

Like the real one it runs once in a folder, and writes into it. What it writes must not matter: at its end
it has switched automatic trading off."""

import fcntl
import os

import MetaTrader5 as package
from MetaTrader5 import *  # noqa: F403

_experts = {}
_running = None


def initialize(path, portable=False, **rest):
    global _experts, _running
    folder = os.path.dirname(path)
    if not portable or not os.access(path, os.X_OK):
        package._fail(-10003, f"IPC initialize failed, Process create failed '{path}'")
        return False
    _running = _running or open(os.path.join(folder, "running"), "w")
    try:
        fcntl.flock(_running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        package._fail(-10005, "IPC timeout")
        return False
    file = os.path.join(folder, "config", "common.ini")
    with open(file, "rb") as source:
        content = source.read()
    if not content.startswith(b"\xff\xfe"):
        package._fail(-10005, "IPC timeout")
        return False
    section, settings = "", {}
    for line in content.decode("utf-16").splitlines():
        if line.startswith("["):
            section = line
        else:
            name, _, value = line.partition("=")
            settings[section, name] = value
    if settings["[Common]", "Login"] != str(rest["login"]) or settings["[Common]", "Server"] != rest["server"]:
        package._fail(-6, "Terminal: Authorization failed")
        return False
    _experts = {name: value for (section, name), value in settings.items() if section == "[Experts]"}
    with open(file, "wb") as target:
        target.write(content.decode("utf-16").replace("Enabled=1", "Enabled=0").encode("utf-16"))
    os.makedirs(os.path.join(folder, "bases"), exist_ok=True)
    with open(os.path.join(folder, "bases", "history.hcc"), "a") as history:
        history.write("x" * 1000)
    return package.initialize(path, portable=portable, **rest)


def terminal_info():
    info = package.terminal_info()
    # The account of the start is not the one of the login before.
    allowed = all(_experts.get(name) == value for name, value in {
        "Enabled": "1", "AllowLiveTrading": "1", "Account": "0"}.items())
    folder = os.path.dirname(_running.name)
    return info._replace(trade_allowed=allowed, tradeapi_disabled=_experts.get("Api") != "0",
                         path=folder, data_path=folder)
