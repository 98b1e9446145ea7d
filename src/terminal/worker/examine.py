"""What a worker needs of this Python: its version, the packages, and the terminal's files as it sees them.

The rest of standard input is a JSON object with `modules` (pairs of a package and an attribute of it, or null), `path`
and `portable`. Standard output gets one line of JSON. Nothing is started, and no file stays."""

import importlib
import json
import os
import sys
import tempfile

asked = json.loads(sys.stdin.buffer.read().decode("utf-8"))
# What a package prints must not end up in the answer.
answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.stdout = sys.stderr


def version(name, package):
    found = getattr(package, "__version__", None)
    if isinstance(found, str):
        return found
    try:
        from importlib.metadata import version as installed

        return installed(name.split(".")[0])
    except Exception:
        return "of an unknown version"


def look_at_module(name, attribute):
    try:
        package = importlib.import_module(name)
        if attribute is not None:
            getattr(package, attribute)
    except BaseException as error:  # a package may end the interpreter
        text = (str(error).splitlines() or [""])[0][:200]
        return {"name": name, "fault": f"{type(error).__name__}: {text}"}
    return {"name": name, "version": version(name, package)}


def look_at_terminal(path, portable):
    if path is None:
        return None
    if os.path.isdir(path):
        return {"is": "folder"}
    if not os.path.exists(path):
        return {"is": "missing"}
    if not portable:
        return {"is": "file"}
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))):
            return {"is": "file"}
    except OSError as error:
        return {"is": "read_only", "fault": str(error)}


found = {
    "python": sys.version.split()[0],
    "platform": sys.platform,
    "terminal": look_at_terminal(asked["path"], asked["portable"]),
    "modules": [look_at_module(*module) for module in asked["modules"]],
}
answer.write(json.dumps(found).encode("ascii") + b"\n")
answer.flush()
# A package may have begun threads that never end.
os._exit(0)
