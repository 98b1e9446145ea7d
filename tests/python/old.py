"""A Python that says that it is version 3.8. Used in place of Python: it runs the program
that the gateway's own arguments, `-c PROGRAM`, give."""

import sys

sys.version_info = (3, 8, 10, "final", 0)
sys.version = "3.8.10 (default, Nov 14 2022, 12:59:47)"
exec(sys.argv[2])
