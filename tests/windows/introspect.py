"""Prints what MetaQuotes' package offers, as JSON: its constants, the fields of its records, the names of
its functions' arguments."""

import json

import MetaTrader5 as mt5

names = [name for name in dir(mt5) if not name.startswith("_")]
things = {name: getattr(mt5, name) for name in names}
print(json.dumps({
    "version": mt5.__version__,
    "constants": {name: value for name, value in things.items() if type(value) is int},
    "records": {
        name: list(thing.__match_args__) for name, thing in things.items() if isinstance(thing, type)
    },
    "functions": {
        # The first line of the documentation is the call.
        name: thing.__doc__.splitlines()[0]
        for name, thing in things.items()
        if type(thing).__name__ == "builtin_function_or_method"
    },
}, indent=1, sort_keys=True))
