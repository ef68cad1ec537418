"""``prefcal theory``: the lattice, and every theorem, table and witness re-verified exactly."""

from __future__ import annotations

import argparse

from prefcal.errors import UsageError
from prefcal.notions.theory import check_theory, render


def run(options: argparse.Namespace) -> int:
    """Run the command; 1 if any check fails."""
    wrong = [m for m in options.items if not 2 <= m <= 5]
    if wrong:
        raise UsageError(f"--items must be between 2 and 5, got {wrong[0]}")
    report = check_theory(tuple(dict.fromkeys(options.items)))
    print(render(report))
    return 0 if report.ok else 1
