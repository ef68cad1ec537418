"""The whole study: load, measure, conclude, render."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import prefcal
from prefcal.audited import Audit, write_files
from prefcal.data.source import InputInfo
from prefcal.errors import DataError, require_whole
from prefcal.studies.reward_models.claims import Claim, conclude
from prefcal.studies.reward_models.measures import Observable
from prefcal.studies.reward_models.parts import (
    Correlation,
    Measured,
    Scaling,
    Splits,
    TablePart,
    correlations,
    measure,
    plain,
    scaling,
    splits_of,
    table_part,
    transfer,
    views_known,
)
from prefcal.studies.reward_models.sources import (
    Scored,
    Table,
    load_table,
    math_prm,
    rewardbench2,
    rewardmath,
)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is computed; everything random starts from ``seed``.

    Parameters
    ----------
    bins, draws
        Of each audit.
    splits
        Random halves on which one temperature is fitted.
    resamples
        Of prompts, for the intervals of correlations (nine models a resample).
    table_resamples
        Of models, for the table.
    repeats
        Random choices of wrong candidates for each number of candidates.
    """

    seed: int = 0
    bins: int = 15
    draws: int = 999
    splits: int = 20
    resamples: int = 300
    table_resamples: int = 2000
    repeats: int = 10

    def __post_init__(self) -> None:
        least = {"seed": 0, "bins": 1, "draws": 99, "splits": 1, "resamples": 2, "table_resamples": 2, "repeats": 1}
        for name, low in least.items():
            require_whole(name, getattr(self, name), low)


@dataclass(frozen=True, slots=True)
class RewardModelStudy:
    """Everything the study found; :meth:`report` and :meth:`to_json` write it.

    Parameters
    ----------
    settings
        How it was computed.
    best_of_ten, pairs, best_of_four, ties
        Each model on RewardMATH, on the math-prm pairs, on the prompts of RewardBench 2 with four answers (over
        all and by category, before and after one cross-fitted temperature), and on its Ties prompts.
    splits
        One temperature, fitted on half of the prompts with four answers.
    correlations
        Over models, on each benchmark.
    table
        The table of published numbers; None where it cannot be had, and ``warnings`` says why.
    known
        Which views the outcomes determine.
    scaling
        Errors by number of candidates on RewardMATH.
    claims
        Conclusions in plain words.
    """

    settings: Settings
    best_of_ten: tuple[Measured, ...]
    pairs: tuple[Measured, ...]
    best_of_four: tuple[Measured, ...]
    ties: tuple[Measured, ...]
    splits: tuple[Splits, ...]
    correlations: tuple[Correlation, ...]
    table: TablePart | None
    known: dict[str, list[Observable]]
    scaling: tuple[Scaling, ...]
    claims: tuple[Claim, ...]
    inputs: tuple[InputInfo, ...]
    warnings: tuple[str, ...]
    version: str = prefcal.__version__

    def audit(self) -> Audit:
        """All audit results, models named ``benchmark: model``."""
        rows = (*self.best_of_ten, *self.pairs, *self.best_of_four, *self.ties)
        results = [r for row in rows for r in row.results.values()]
        return Audit(results, list(self.inputs), list(self.warnings), self.version)

    def document(self) -> dict[str, Any]:
        """The JSON document: that of an audit, with ``study`` and the parts of the study beside it."""
        parts = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        for name in ("inputs", "warnings", "version"):
            del parts[name]
        return self.audit().document() | {"study": "reward-models", **parts}

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The JSON document as text; written to ``path`` if one is given."""
        text = json.dumps(self.document(), indent=1, allow_nan=False, default=_item) + "\n"
        if path is not None:
            write_files({os.fspath(path): text})
        return text

    def html(self) -> str:
        """The self-contained page: no network, no script, the same bytes for the same study."""
        from prefcal.studies.reward_models.page import render

        return render(self)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the page."""
        write_files({os.fspath(path): self.html()})

    def text(self) -> str:
        """The summary for a terminal, plain text of at most 100 columns."""
        from prefcal.studies.reward_models.summary import summarise

        return summarise(self)


def study(
    *,
    best_of_ten: Sequence[Scored] | None = None,
    pairs: Sequence[Scored] | None = None,
    best_of_four: Sequence[Scored] | None = None,
    table: Table | None = None,
    settings: Settings | None = None,
    tell: Tell | None = None,
) -> RewardModelStudy:
    """Calibration against accuracy of public reward models, by the published statistic and by proper ones.

    Parameters
    ----------
    best_of_ten, pairs, best_of_four
        Joined files (:func:`~prefcal.studies.reward_models.sources.joined`) of models on best-of-n problems with
        one right candidate, on pairs, and on RewardBench 2; default: the public ones, from the mirror that
        PREFCAL_DATA names, the cache, or the network.
    table
        Default: the paper's, which only mirrors have; without it the study goes on and says so.
    settings
        How much is computed (default about a minute on two cores).
    tell
        Called with a line about each part when it begins.

    Raises
    ------
    DataError
        When score files cannot be had or do not hold what they should.
    """
    s = settings or Settings()
    say = tell or (lambda text: None)
    say("reading score files")
    ten = rewardmath() if best_of_ten is None else list(best_of_ten)
    two = math_prm() if pairs is None else list(pairs)
    rb2 = rewardbench2() if best_of_four is None else list(best_of_four)
    warnings = []
    if table is None:
        try:
            table = load_table()
        except DataError as error:
            warnings.append(f"the table of published numbers is not here, so its part is left out: {error}")
    seed, bins = s.seed, s.bins
    single = rb2[0].y.ranks.values == 1
    one_best = np.add.reduceat(single, rb2[0].y.ranks.offsets[:-1]) == 1
    is_ties = _ties(rb2[0])
    four = [f.take(~is_ties & one_best) for f in rb2]
    tied = [dataclasses.replace(f.take(is_ties), benchmark=f"{f.benchmark}, Ties") for f in rb2 if is_ties.any()]
    say("auditing every model on every benchmark")
    rows_ten = measure(ten, seed=seed, draws=s.draws, bins=bins)
    rows_two = measure(two, seed=seed, draws=s.draws, bins=bins)
    rows_four = measure(four, seed=seed, draws=s.draws, bins=bins, by_category=True, mend=True)
    rows_tied = [dataclasses.replace(r, category="Ties") for r in measure(tied, seed=seed, draws=s.draws, bins=bins)]
    say(f"one temperature from half of the prompts, {s.splits} splits of {len(four)} models")
    halves = [splits_of(f, splits=s.splits, seed=seed, bins=bins) for f in four]
    say(f"rank correlations, {s.resamples} resamples of prompts")
    found: list[Correlation] = []
    gaps = {}
    for files, rows in ((ten, rows_ten), (two, rows_two), (four, rows_four)):
        part, gap = correlations(files, rows, resamples=s.resamples, seed=seed, bins=bins)
        found += part
        gaps.update(gap if files is ten else {})
    found.append(transfer(rows_ten, rows_two, s.seed))
    reproduced = None if table is None else table_part(table, rb2, resamples=s.table_resamples, seed=s.seed)
    say("errors by number of candidates")
    by_size = [scaling(f, rows_ten, gaps[f.model], repeats=s.repeats, seed=seed, bins=bins) for f in ten]
    known = {f"{f.benchmark}, one right of {int(f.h.sizes.max())}": f.y for f in (ten[0], four[0])}
    if tied:
        known[f"{tied[0].benchmark}, often several right"] = tied[0].y
    out = RewardModelStudy(
        settings=s,
        best_of_ten=tuple(rows_ten),
        pairs=tuple(rows_two),
        best_of_four=tuple(rows_four),
        ties=tuple(rows_tied),
        splits=tuple(halves),
        correlations=tuple(found),
        table=reproduced,
        known=views_known(known),
        scaling=tuple(by_size),
        claims=(),
        inputs=tuple(f.info for f in (*ten, *two, *rb2)),
        warnings=tuple(warnings),
    )
    return dataclasses.replace(out, claims=tuple(conclude(out)))


def run(options: argparse.Namespace, tell: Tell | None = None) -> RewardModelStudy:
    """What ``prefcal study reward-models`` does: the study, and the files that ``--report`` and ``--json`` name.

    ``options`` may lack any of ``report``, ``json``, ``seed``; both files are written whole or not at all.
    ``json`` = ``-`` is for the caller, who prints.
    """
    found = study(settings=Settings(seed=getattr(options, "seed", None) or 0), tell=tell)
    report, document = getattr(options, "report", None), getattr(options, "json", None)
    texts = {report: found.html()} if report else {}
    if document and document != "-":
        texts[document] = found.to_json()
    write_files(texts)
    return found


def _ties(f: Scored) -> Any:
    """(n,) whether an instance is of RewardBench 2's Ties subset (many answers, several right)."""
    return np.zeros(len(f.y), dtype=bool) if f.category is None else f.category == "Ties"


def _item(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no JSON value: {type(value).__name__}")
