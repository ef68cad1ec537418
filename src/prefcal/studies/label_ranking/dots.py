"""Votes on dots: the one real set whose conditional law is almost known, so misfit of a family can be seen.

Each voter ordered four pictures by their number of dots; the only feature, the gap between the numbers, has four
levels with about 795 votes each. All votes of a level follow one law, and its frequencies are nearly that law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError
from prefcal.studies.label_ranking.measure import Measured, rankwise
from prefcal.studies.label_ranking.sets import StudySet, load_set
from prefcal.views import View

NAME: Final = "preflib/dots"
VIEWS: Final = ("sub-2", "top-1", "full")
DRAWS: Final = 999


@dataclass(frozen=True, slots=True)
class DotsResult:
    """One family on one level.

    Parameters
    ----------
    level
        Gap in the number of dots: a large one is easy.
    family
        ``Mallows`` or ``Plackett-Luce``.
    n
        Votes.
    errors
        View -> rankwise error of out-of-fold forecasts, with null level, interval and test.
    best_observed, best_forecast
        How often the true first picture was put first, and the mean forecast of it.
    variation
        Total variation between observed frequencies and mean forecast, over all 24 rankings.
    variation_null
        What it is expected to be for a calibrated forecast.
    """

    level: float
    family: str
    n: int
    errors: dict[str, Measured]
    best_observed: float
    best_forecast: float
    variation: float
    variation_null: float


def dots(*, folds: int = 5, bins: int = 10, seed: int = 42, data: StudySet | None = None) -> list[DotsResult]:
    """Fit Mallows and Plackett-Luce to each level by maximum likelihood and judge them on votes they did not see.

    Each vote is forecast by the model of the other folds. Forecasts of a level therefore differ a little between
    folds; outcomes drawn from them give the null law.

    Raises
    ------
    DataError
        When the data are neither in the mirror nor in the cache (nothing is downloaded here).
    """
    votes = _local() if data is None else data
    out = []
    for level in np.unique(votes.features[:, 0]):
        rows = np.flatnonzero(votes.features[:, 0] == level)
        for family, ranker in _families().items():
            out.append(_judge(float(level), family, ranker, votes.ranks[rows], folds, bins, seed))
    return out


def _local() -> StudySet:
    from prefcal import datasets

    if datasets.find(datasets.describe(NAME).table) is None:
        raise DataError(f"{NAME} is not on this machine; fetch it with prefcal.datasets.load({NAME!r})")
    return load_set(NAME)


def _families() -> dict[str, Callable[[], Any]]:
    from prefcal.rankers import LinearPlackettLuce, MallowsModel

    return {"Mallows": MallowsModel, "Plackett-Luce": lambda: LinearPlackettLuce(alpha=0.0)}


def _judge(
    level: float, family: str, ranker: Callable[[], Any], ranks: IntArray, folds: int, bins: int, seed: int
) -> DotsResult:
    from sklearn.model_selection import KFold

    constant: FloatArray = np.zeros((len(ranks), 1))
    order, parts = [], []
    for train, test in KFold(folds, shuffle=True, random_state=seed).split(ranks):
        parts.append(ranker().fit(constant[train], ranks[train]).predict_distribution(constant[test]))
        order.append(test)
    votes = np.argsort(ranks[np.concatenate(order)], axis=1)
    forecast = _joined(parts)
    errors = {
        name: rankwise(
            forecast,
            votes,
            View.parse(name),
            bins=bins,
            draws=DRAWS,
            budget=10**7,
            seed=[seed, int(level), len(family)],
        )
        for name in VIEWS
    }
    full = forecast.marginal("full").probs[:, 0].mean(axis=0)
    observed = np.bincount(View("full").classify(votes)[:, 0], minlength=len(full)) / len(votes)
    rng = np.random.default_rng([seed, int(level), len(family), 1])
    drawn = View("full").classify(forecast.sample(DRAWS, rng))[..., 0]
    null = [0.5 * np.abs(np.bincount(d, minlength=len(full)) / len(votes) - full).sum() for d in drawn.T]
    return DotsResult(
        level,
        family,
        len(votes),
        errors,
        float((votes[:, 0] == 0).mean()),
        float(np.exp(forecast.top_log_probs()[:, 0]).mean()),
        float(0.5 * np.abs(observed - full).sum()),
        float(np.mean(null)),
    )


def _joined(parts: list[Distribution]) -> Distribution:
    """Forecasts of several folds as one."""
    from prefcal.distributions.mallows import Mallows
    from prefcal.distributions.plackett_luce import PlackettLuce

    if all(isinstance(p, PlackettLuce) for p in parts):
        return PlackettLuce(np.concatenate([p.scores.dense() for p in parts if isinstance(p, PlackettLuce)]))
    centers = np.concatenate([p.places + 1 for p in parts if isinstance(p, Mallows)])
    return Mallows(centers, np.concatenate([p.dispersion for p in parts if isinstance(p, Mallows)]))
