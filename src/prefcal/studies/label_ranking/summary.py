"""Folds put together: means, intervals over folds and instances, tests, and what each effect adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.estimators.binned import Z95
from prefcal.estimators.null import compare
from prefcal.studies.label_ranking.measure import without_bias
from prefcal.studies.label_ranking.models import TITLES
from prefcal.studies.label_ranking.protocol import TRUNCATED
from prefcal.studies.label_ranking.sets import PAPER_SETS

#: Sets with published values.
PUBLISHED_SETS: Final = tuple(name for name in PAPER_SETS if name not in ("pendigits", "letter"))
ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the study: all folds of a data set, model, notion and way of measuring.

    Parameters
    ----------
    values
        Of the folds, by fold.
    value, se
        Mean over folds and its standard error.
    null_mean, p_value
        Of the mean over folds, from null draws averaged over folds; NaN without a null law.
    debiased, low, high
        Error without what noise adds (see :func:`~prefcal.studies.label_ranking.measure.without_bias`), and a 95 %
        interval from the larger of the spreads over folds and over instances.
    total
        ``value`` in total-variation units: half the sum over a member's outcomes.
    outcomes
        Tuples of a member, for other conversions to these units.
    """

    protocol: str
    cut: str
    dataset: str
    model: str
    notion: str
    estimator: str
    support: str
    mass_filter: bool
    values: tuple[float, ...]
    value: float
    se: float
    null_mean: float
    p_value: float
    debiased: float
    low: float
    high: float
    total: float
    outcomes: float
    sampled: bool
    n_test: int
    n_items: int

    @property
    def is_main(self) -> bool:
        """Whether this is what its protocol reports: without filter, cut and support as the protocol has them."""
        if self.mass_filter:
            return False
        if self.protocol == "exact":
            return True
        return self.cut == "tail" and self.support == ("observed" if self.dataset in TRUNCATED else "all")

    @property
    def title(self) -> str:
        """The model's name in tables."""
        return TITLES.get(self.model, self.model)


def summarize(rows: Iterable[dict[str, Any]]) -> list[Cell]:
    """Cells of all rows, in the order: protocol, data set (as in the paper), model, notion."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    keys = ("protocol", "cut", "dataset", "model", "notion", "estimator", "support", "mass_filter")
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    cells = [_cell(dict(zip(keys, key, strict=True)), group) for key, group in groups.items()]
    sets = {name: i for i, name in enumerate(PAPER_SETS)}
    models = {name: i for i, name in enumerate(TITLES)}
    return sorted(
        cells,
        key=lambda c: (
            c.protocol, c.cut, sets.get(c.dataset, 99), c.dataset, models.get(c.model, 99), c.estimator,
            not c.notion.startswith("sub"), c.notion == "full", c.notion, c.support, c.mass_filter,
        ),
    )  # fmt: skip


def _cell(key: dict[str, Any], group: list[dict[str, Any]]) -> Cell:
    group = sorted(group, key=lambda r: r["fold"])
    values = np.array([r["value"] for r in group])
    null_mean = float(np.mean([r["null_mean"] for r in group]))
    p = math.nan
    if all(r["null_draws"] for r in group) and not any(math.isnan(r["p_value"]) for r in group):
        draws = min(len(r["null_draws"]) for r in group)
        # Folds are drawn independently: the mean of their b-th draws is a draw of the mean. Draws are stored as
        # single-precision numbers, so equality is settled in their favour.
        null = np.mean([np.asarray(r["null_draws"][:draws], dtype=np.float64) for r in group], axis=0)
        p = compare(float(values.mean()) * (1 - 1e-7), null).p_value
    debiased = low = high = math.nan
    spreads = np.array([r["spread"] for r in group])
    if not np.isnan(spreads).any():
        debiased, low, high = without_bias(float(values.mean()), null_mean, half_width(values, spreads))
        low = low if p <= ALPHA else 0.0
    outcomes = 2 * group[0]["total"] / group[0]["value"] if group[0]["value"] > 0 else math.nan
    return Cell(
        **key,
        values=tuple(values.tolist()),
        value=float(values.mean()),
        se=standard_error(values),
        null_mean=null_mean,
        p_value=p,
        debiased=debiased,
        low=low,
        high=high,
        total=float(np.mean([r["total"] for r in group])),
        outcomes=outcomes,
        sampled=any(r["tuples_used"] is not None and r["tuples_used"] < r["tuples"] for r in group)
        and key["support"] == "all" and key["protocol"] == "exact",
        n_test=int(sum(r["n_test"] for r in group)),
        n_items=int(group[0]["n_items"]),
    )  # fmt: skip


def standard_error(values: FloatArray) -> float:
    """Of a mean; NaN for fewer than two values."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def half_width(values: FloatArray, spreads: FloatArray) -> float:
    """Half of a 95 % interval of the mean over folds.

    The spread over folds (Student's t) holds the noise of instances and of training, but few folds estimate it badly;
    the part of the instances alone bounds it from below.
    """
    count = len(values)
    half = Z95 * math.sqrt(float((spreads**2).mean()) / count)
    if count > 1:
        from scipy.stats import t

        half = max(half, float(t.ppf(0.975, count - 1)) * standard_error(values))
    return half


@dataclass(frozen=True, slots=True)
class Effects:
    """One published number taken apart: from what was published to what is there.

    Each number is the error measured; ``nan`` where the run that would tell is not in the store.

    Parameters
    ----------
    filtered
        Published, with the filter of 95 % of the mass.
    published
        Published, without it.
    untruncated
        The same fits, with exact marginals over all tuples.
    shuffled
        Fits with a random cut, exact marginals.
    exact, null_mean, debiased, p_value
        Of the exact protocol.
    """

    dataset: str
    model: str
    notion: str
    estimator: str
    filtered: float
    published: float
    untruncated: float
    shuffled: float
    exact: float
    null_mean: float
    debiased: float
    p_value: float

    @property
    def title(self) -> str:
        """The model's name in tables."""
        return TITLES.get(self.model, self.model)


def effects(cells: Sequence[Cell], estimator: str = "rankwise_ece") -> list[Effects]:
    """One entry for each data set, model and notion that has both protocols."""
    found = {
        (c.protocol, c.cut, c.dataset, c.model, c.notion, c.support, c.mass_filter): c
        for c in cells
        if c.estimator == estimator
    }
    out = []
    for c in cells:
        if c.estimator != estimator or c.protocol != "exact":
            continue

        def value(protocol: str, cut: str, support: str, mass_filter: bool, cell: Cell = c) -> float:
            hit = found.get((protocol, cut, cell.dataset, cell.model, cell.notion, support, mass_filter))
            return math.nan if hit is None else hit.value

        support = "observed" if c.dataset in TRUNCATED else "all"
        published = value("published", "tail", support, False)
        if math.isnan(published):
            continue
        out.append(
            Effects(
                c.dataset,
                c.model,
                c.notion,
                estimator,
                value("published", "tail", support, True),
                published,
                value("published", "tail", "all", False),
                value("published", "random", "all", False),
                c.value,
                c.null_mean,
                c.debiased,
                c.p_value,
            )
        )
    return out
