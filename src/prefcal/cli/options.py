"""The options of every command. Light: ``prefcal --help`` loads nothing but the standard library."""

from __future__ import annotations

import argparse
from typing import Any, Final

#: Command -> module of this package.
COMMANDS: Final = {"audit": "audit", "theory": "theory", "demo": "demo"}

#: Roles of columns in the generic file shapes.
ROLES: Final = (
    "scores",
    "ranks",
    "ratings",
    "best",
    "chosen",
    "rejected",
    "instance",
    "score",
    "rank",
    "rating",
    "id",
)


def build_parser(version: str) -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="prefcal",
        description="Is your preference model honest? Calibration of probabilities over rankings.",
        epilog="Start with: prefcal audit scores.jsonl --report report.html",
    )
    parser.add_argument("--version", action="version", version=f"prefcal {version}")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _audit(commands)
    theory = commands.add_parser(
        "theory",
        help="print the lattice of notions and re-verify every theorem, table and witness exactly",
        description="Prints which calibration notion implies which, and re-verifies all of it in exact arithmetic. "
        "Exit status 1 if any check fails.",
    )
    theory.add_argument("--items", type=int, nargs="+", default=[3, 4], metavar="M", help="numbers of items, 2 to 5")
    _common(theory)
    demo = commands.add_parser(
        "demo",
        help="audit real data, offline, and write a report",
        description="Offline: ranks the classes of scikit-learn's digits by a naive Bayes posterior, fits a "
        "Plackett-Luce ranker, audits it, and writes the report. Audits RewardMATH too where a mirror "
        "(PREFCAL_DATA) or the cache holds it.",
    )
    demo.add_argument("--report", default="prefcal-demo.html", metavar="F.html", help="default: %(default)s")
    demo.add_argument("--download", action="store_true", help="fetch RewardMATH (4 MB) if it is not here")
    demo.add_argument("--seed", type=int, default=0)
    _common(demo)
    return parser


def _audit(commands: Any) -> None:
    audit = commands.add_parser(
        "audit",
        help="measure the calibration of one or several models on score files",
        description="Reads score files (JSON, JSON lines, CSV, Parquet; known formats are recognised by content), "
        "measures calibration with its bias and uncertainty, and gives a verdict for each notion.",
    )
    audit.add_argument("paths", nargs="*", metavar="PATH", help="score files, one model each")
    add = audit.add_argument
    add("--model", nargs="+", action="extend", default=[], metavar="NAME=PATH", help="a file with its model's name")
    add(
        "--notion",
        nargs="+",
        action="extend",
        default=[],
        metavar="N",
        help="what to judge: sub-2, top-1:confidence, full:canonical, ... (default: sub-2 top-1:confidence)",
    )
    add(
        "--group", nargs="+", action="extend", default=[], metavar="FIELD", help="repeat everything within each value"
    )
    add("--report", metavar="F.html", help="write a self-contained HTML report")
    add("--json", metavar="F.json", help="write all results as JSON; - for standard output instead of the summary")
    add(
        "--fail-if",
        nargs="+",
        action="extend",
        default=[],
        metavar="GATE",
        help="exit with 1 if it holds for any model: 'sub-2.ece > 0.05', 'sub-2.verdict == miscalibrated'",
    )
    reading = audit.add_argument_group("reading")
    read = reading.add_argument
    read("--format", metavar="NAME", help="do not recognise the format, take this one")
    for role in ROLES:
        read(f"--{role}", metavar="COL", help=argparse.SUPPRESS)
    reading.description = (
        "Columns under other names: --scores COL, --ranks COL, --ratings COL, --best COL, --chosen COL, "
        "--rejected COL; "
        "for one row a candidate: --instance COL, --score COL, --rank COL, --rating COL, --id COL."
    )
    read("--aggregate", metavar="HOW", help="one score from step probabilities: min, prod, mean, last, ...")
    read(
        "--ties", choices=("unknown", "equal"), default="unknown", help="what equal ranks mean (default: %(default)s)"
    )
    read("--items", choices=("labelled", "exchangeable"), help="whether item j is the same in every instance")
    read("--on-error", choices=("stop", "skip"), default="stop", help="unusable records (default: %(default)s)")
    read("--max-candidates", type=int, default=4096, metavar="N", help="of one instance (default: %(default)s)")
    measuring = audit.add_argument_group("measuring")
    measure = measuring.add_argument
    measure("--bins", type=int, default=15, help="equal-width bins of the ECE (default: %(default)s)")
    measure("--weights", choices=("event", "instance"), default="event", help="what counts 1 (default: %(default)s)")
    measure("--tolerance", type=float, default=0.05, help="error that counts as calibrated (default: %(default)s)")
    measure("--draws", type=int, default=999, help="null draws (default: %(default)s)")
    measure("--seed", type=int, default=0)
    measure("--engine", choices=("local",), default="local", help="where the sums are made")
    add("--quiet", action="store_true", help="no summary on standard output")
    _common(audit)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
