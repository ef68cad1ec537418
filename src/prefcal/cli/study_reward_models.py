"""``prefcal study reward-models``: measure, show, write."""

from __future__ import annotations

import argparse
import sys

from prefcal.cli.audit import check_targets, say
from prefcal.studies import reward_models


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    check_targets(options.report, options.json)
    found = reward_models.run(options, tell=lambda text: print(text, file=sys.stderr))
    say(found.to_json() if options.json == "-" else found.text())
    for target in (options.report, options.json):
        if target and target != "-":
            print(f"wrote {target}", file=sys.stderr)
    return 0
