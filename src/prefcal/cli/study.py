"""``prefcal study NAME``: hands over to the study's own module."""

from __future__ import annotations

import argparse
import importlib

from prefcal.cli.options import STUDIES


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return int(importlib.import_module(f"prefcal.cli.{STUDIES[options.study]}").run(options))
