"""The command line: parse, call one library function, print, return a code.

Exit status: 0 done; 1 a ``--fail-if`` gate (or a check of ``theory``) failed; 2 bad usage or bad input. Results go to
stdout, talk to stderr. Each command's module loads when it is called.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from prefcal import __version__
from prefcal.cli.options import COMMANDS, build_parser
from prefcal.errors import PrefcalError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser(__version__)
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse: 0 for --help and --version, 2 for bad usage
        return int(stop.code or 0)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        module = importlib.import_module(f"prefcal.cli.{COMMANDS[options.command]}")
        return int(module.run(options))
    except PrefcalError as error:
        return _complain(options, error)
    except BrokenPipeError:  # the reader of our output went away; nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("prefcal: interrupted", file=sys.stderr)
        return 130
    except (OSError, MemoryError) as error:
        return _complain(options, error)


def _complain(options: argparse.Namespace, error: BaseException) -> int:
    if options.debug:
        traceback.print_exception(error)
        return 2
    text = str(error) or type(error).__name__
    print(f"prefcal {options.command}: error: {_printable(text)}", file=sys.stderr)
    return 2


def _printable(text: str) -> str:
    """One safe line: control characters shown as escapes (a file may hold anything)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
