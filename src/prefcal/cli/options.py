"""The options of every command. Light: ``prefcal --help`` loads nothing but the standard library."""

from __future__ import annotations

import argparse
from typing import Any, Final

from prefcal.data.roles import ROLES

#: Command -> module of this package.
COMMANDS: Final = {
    "audit": "audit", "compare": "compare", "recalibrate": "recalibrate", "apply": "apply", "power": "power",
    "theory": "theory", "demo": "demo", "study": "study",
}  # fmt: skip

#: Study -> module of this package.
STUDIES: Final = {"label-ranking": "study_label_ranking", "reward-models": "study_reward_models"}


class _WithMethods(argparse.HelpFormatter):
    """Lists the registered maps where ``--method`` is explained; they load only when this help is asked for."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = super()._get_help_string(action)
        if action.dest != "method":
            return text
        from prefcal.recalibration import METHODS

        return f"{text}{', '.join(m for m in METHODS if m != 'auto')}"


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
    _compare(commands)
    _recalibrate(commands)
    _apply(commands)
    _power(commands)
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
    study = commands.add_parser(
        "study",
        help="run a published empirical study again: as published, and measured exactly",
        description="Runs a published study again: as published, and measured exactly. Options of each: "
        "prefcal study NAME --help.",
    )
    studies = study.add_subparsers(dest="study", metavar="NAME", required=True)
    _label_ranking(studies)
    _reward_models(studies)
    return parser


def _audit(commands: Any) -> None:
    audit = commands.add_parser(
        "audit",
        help="measure the calibration of one or several models on score files",
        description="Reads score files (JSON, JSON lines, CSV, Parquet; known formats are recognised by content), "
        "measures calibration with its bias and uncertainty, and gives a verdict for each notion.",
    )
    _files(audit)
    add = audit.add_argument
    add(
        "--notion",
        nargs="+",
        action="extend",
        default=[],
        metavar="N",
        help="what to judge: sub-2, top-1:confidence, full:canonical, ... (default: sub-2 top-1:confidence)",
    )
    add(
        "--group",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD",
        help="repeat everything within each value of a field, or of @spread, @margin (of the scores), @candidates, "
        "@length; many numbers are cut at their quartiles",
    )
    add(
        "--worst",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD",
        help="find the worst group of these fields, and the worst conjunction of two of them",
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
    _reading(audit)
    measuring = audit.add_argument_group("measuring")
    measure = measuring.add_argument
    measure("--bins", type=int, default=15, help="equal-width bins of the ECE (default: %(default)s)")
    measure("--weights", choices=("event", "instance"), default="event", help="what counts 1 (default: %(default)s)")
    measure("--adjust", choices=("holm", "bh", "by"), default="holm", help="for many groups (default: %(default)s)")
    measure("--tolerance", type=float, default=0.05, help="error that counts as calibrated (default: %(default)s)")
    measure("--draws", type=int, default=999, help="null draws (default: %(default)s)")
    measure("--seed", type=int, default=0)
    measure("--engine", choices=("local",), default="local", help="where the sums are made")
    add("--quiet", action="store_true", help="no summary on standard output")
    _common(audit)


def _compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="paired differences between models on the same instances, and ranks with their uncertainty",
        description="Compares models that scored the same instances: differences of the debiased error, Brier score, "
        "log loss and accuracy with 95 % intervals, and the range of ranks the data leave open.",
    )
    _files(compare)
    add = compare.add_argument
    add("--notion", nargs="+", action="extend", default=[], metavar="N", help="scalar notions (default: as in audit)")
    add("--report", metavar="F.html", help="write a self-contained HTML report")
    add("--json", metavar="F.json", help="write the comparison as JSON; - for standard output instead of the tables")
    _reading(compare)
    add("--bins", type=int, default=15, help="equal-width bins of the ECE (default: %(default)s)")
    add("--weights", choices=("event", "instance"), default="event", help="what counts 1 (default: %(default)s)")
    add("--seed", type=int, default=0)
    _common(compare)


def _recalibrate(commands: Any) -> None:
    recalibrate = commands.add_parser(
        "recalibrate",
        help="fit a map that mends a model's probabilities, and measure it out of sample",
        description="Fits a recalibration map by maximum likelihood of what was observed. The before/after numbers "
        "are of forecasts made by maps of the other folds; the saved map is fitted on everything.",
        formatter_class=_WithMethods,
    )
    _files(recalibrate, one=True)
    add = recalibrate.add_argument
    add("--method", default="auto", metavar="M", help="auto (default: cross-validated choice), or one of ")
    add("--save", metavar="CAL.json", help="write the map, to be used by prefcal apply")
    add("--report", metavar="F.html", help="write the before/after page")
    add("--json", metavar="F.json", help="write everything as JSON; - for standard output instead of the summary")
    add("--notion", nargs="+", action="extend", default=[], metavar="N", help="measured before and after")
    _context(recalibrate, "field whose values get a map each, pooled towards each other")
    add("--folds", type=int, default=5, help="parts of the cross-fit (default: %(default)s)")
    _reading(recalibrate)
    add("--bins", type=int, default=15, help="equal-width bins of the ECE (default: %(default)s)")
    add("--weights", choices=("event", "instance"), default="event", help="what counts 1 (default: %(default)s)")
    add("--tolerance", type=float, default=0.05, help="error that counts as calibrated (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--quiet", action="store_true", help="no summary on standard output")
    _common(recalibrate)


def _apply(commands: Any) -> None:
    apply = commands.add_parser(
        "apply",
        help="apply a saved map to a score file",
        description="Writes the file with recalibrated scores: one record an instance, with its id, its fields, and "
        "its outcome where it has one. Maps whose result no scores can express write best_probs and pair_probs: "
        "enough for sub-2 and top-1.",
    )
    apply.add_argument("map", metavar="CAL.json", help="what prefcal recalibrate --save wrote")
    _files(apply, one=True)
    apply.add_argument("--out", required=True, metavar="PATH", help="file to write: .jsonl, .json or .parquet")
    _context(apply, "field that names each record's group, where the map was fitted by group")
    _reading(apply)
    _common(apply)


def _context(parser: argparse.ArgumentParser, group: str) -> None:
    """What a map may use besides the scores."""
    add = parser.add_argument
    add("--feature", nargs="+", action="extend", default=[], metavar="FIELD", help="numbers that describe instances")
    add(
        "--item-feature", nargs="+", action="extend", default=[], metavar="COL",
        help="columns with a number for each candidate (length, place shown, ...)",
    )  # fmt: skip
    add("--group", metavar="FIELD", help=group)


def _power(commands: Any) -> None:
    power = commands.add_parser(
        "power",
        help="how many instances an audit needs to see an error of a given size",
        description="Simulates the audit's own test on outcomes whose true temperature is not 1, and finds the "
        "number of instances at which it rejects calibration often enough.",
    )
    add = power.add_argument
    add("--notion", default="sub-2", metavar="N", help="what will be audited (default: %(default)s)")
    add("--temperature", type=float, metavar="T", help="error to detect: scores / T fit the truth (default: 1.25)")
    add("--ece", type=float, metavar="E", help="error to detect, as the binned error of an over-confident model")
    add("--candidates", type=int, metavar="M", help="items of an instance (default: 4)")
    add("--spread", type=float, metavar="S", help="standard deviation of the scores, which are normal (default: 1)")
    add("--from", dest="source", metavar="PATH", help="take forecasts, and what outcomes show, from a score file")
    add(
        "--observed",
        choices=("ranks", "best", "pairs"),
        help="what an instance shows: ranking, best item, order of two (default: ranks, or as in the file)",
    )
    add("--n", type=int, nargs="+", default=[], metavar="N", help="show the power of so many instances")
    add("--power", type=float, default=0.8, metavar="P", help="how often to reject (default: %(default)s)")
    add("--alpha", type=float, default=0.05, metavar="A", help="size of the test (default: %(default)s)")
    add("--bins", type=int, default=15, help="equal-width bins of the ECE (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--json", metavar="F.json", help="write the plan as JSON; - for standard output instead of the summary")
    _reading(power)
    _common(power)


def _files(parser: argparse.ArgumentParser, *, one: bool = False) -> None:
    text = "the score file, of one model" if one else "score files, one model each; NAME=PATH names the model"
    parser.add_argument("paths", nargs="*", metavar="PATH", help=text)
    parser.add_argument(
        "--model", nargs="+", action="extend", default=[], metavar="NAME=PATH", help="a file with its model's name"
    )


def _reading(parser: argparse.ArgumentParser) -> None:
    """How score files are read: the same for every command that reads them."""
    reading = parser.add_argument_group("reading")
    read = reading.add_argument
    read("--format", metavar="NAME", help="do not recognise the format, take this one")
    for role in ROLES:
        read(f"--{role.replace('_', '-')}", metavar="COL", help=argparse.SUPPRESS)
    reading.description = (
        "Columns under other names: --scores COL, --ranks COL, --ratings COL, --best COL, --chosen COL, "
        "--rejected COL, --pair-probs COL, --best-probs COL; "
        "for one row a candidate: --instance COL, --score COL, --rank COL, --rating COL, --id COL."
    )
    read("--aggregate", metavar="HOW", help="one score from step probabilities: min, prod, mean, last, ...")
    read(
        "--ties", choices=("unknown", "equal"), default="unknown", help="what equal ranks mean (default: %(default)s)"
    )
    read("--items", choices=("labelled", "exchangeable"), help="whether item j is the same in every instance")
    read("--on-error", choices=("stop", "skip"), default="stop", help="unusable records (default: %(default)s)")
    read("--max-candidates", type=int, default=4096, metavar="N", help="of one instance (default: %(default)s)")


def _label_ranking(studies: Any) -> None:
    study = studies.add_parser(
        "label-ranking",
        help="calibration of label rankers (Thies et al., ICML 2026)",
        description="Data sets x models x folds, under the published protocol, the exact one, or both. Fits are "
        "stored as they finish; the same command again goes on where it stopped.",
    )
    add = study.add_argument
    add(
        "--protocol",
        choices=("published", "exact", "both"),
        default="exact",
        help="published: their splits, truncated forecasts, estimators; exact: shuffled and stratified splits, exact "
        "marginals, null level and test beside each error (default: %(default)s)",
    )
    add("--datasets", nargs="+", metavar="SET", help="names or CSV files (default: all of the paper)")
    add("--models", nargs="+", metavar="MODEL", help="pl mallows rc pl-rpc rpc (default), linear-pl knn-pl, ...")
    add("--notions", nargs="+", metavar="N", help="sub-K, top-K, full (default: sub-2 sub-3 top-1 top-2 full)")
    add("--folds", type=int, default=5, help="default: %(default)s")
    add("--seed", type=int, default=42, help="default: %(default)s")
    add("--bins", type=int, default=10, help="equal-width bins (default: %(default)s)")
    add("--draws", type=int, default=199, help="null draws (default: %(default)s)")
    add(
        "--budget",
        type=int,
        default=4_000_000,
        help="test rows x tuples up to which all subsets are measured; beyond, a sample (default: %(default)s)",
    )
    add("--no-kernel", dest="kernel", action="store_false", help="leave the Dirichlet-kernel error out")
    add("--ablate", action="store_true", help="switch each effect off alone (published protocol)")
    add(
        "--resume",
        metavar="DIR",
        default="prefcal-label-ranking",
        help="folder of results: made if new, gone on with if not (default: %(default)s)",
    )
    add("--jobs", type=int, default=0, metavar="N", help="processes (default: one for each core)")
    add("--report", metavar="F.html", help="write the report of all results in the folder")
    _common(study)


def _reward_models(studies: Any) -> None:
    study = studies.add_parser(
        "reward-models",
        help="calibration of public reward models against accuracy, by the published statistic and by proper ones",
        description="Audits the nine RewardMATH classifiers (best of ten, and the math-prm pairs) and three models "
        "on RewardBench 2, beside the statistic of the published evaluation; then the published table of 48 models. "
        "Reads the files from PREFCAL_DATA or the cache, else downloads them (8 MB). About a minute.",
    )
    study.add_argument("--report", metavar="F.html", help="write the study as a self-contained HTML page")
    study.add_argument(
        "--json", metavar="F.json", help="write everything as JSON; - for standard output instead of the summary"
    )
    study.add_argument("--seed", type=int, default=0)
    _common(study)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
