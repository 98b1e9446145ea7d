"""Compares names of integers, from the standard input as JSON, with the constants of MT5's package."""

import json
import sys

from mt5linux.constants import Constants

compared = 0
for name, value in json.load(sys.stdin).items():
    if hasattr(Constants, name):
        assert getattr(Constants, name) == value, (name, value, getattr(Constants, name))
        compared += 1
print(compared)
