"""Filtering preference data: keeping the pairs that the model is sure about, and the label noise that stays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.decisions.abstention import Accepted, accept
from prefcal.decisions.choices import Choices, gather
from prefcal.decisions.uncertainty import Statistic
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError, require_numbers
from prefcal.result import plain

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
FRACTIONS = tuple(k / 10 for k in range(1, 11))


@dataclass(frozen=True, slots=True)
class Kept:
    """Pairs kept by one filter; ``pairs`` is None where the filter keeps none.

    In ``pairs``, ``coverage`` is the fraction kept, ``claimed`` and ``realised`` the label noise (share of pairs
    whose likelier order is wrong), ``optimism`` realised minus claimed.
    """

    asked: float
    pairs: Accepted | None


@dataclass(frozen=True, slots=True)
class Filtering:
    """What :func:`filtering` found.

    ``by_threshold``: pairs whose claimed probability is at least ``asked``. ``by_fraction``: the most confident share
    ``asked`` (whole groups of equal claims, so possibly a little more).
    """

    by_threshold: tuple[Kept, ...]
    by_fraction: tuple[Kept, ...]
    n_pairs: int
    coverage: dict[str, int]

    def at(self, threshold: float) -> Kept:
        """The filter at one threshold; UsageError if it was not asked for."""
        for k in self.by_threshold:
            if math.isclose(k.asked, threshold):
                return k
        raise UsageError(f"threshold {threshold} was not asked for; there are {[k.asked for k in self.by_threshold]}")

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def filtering(
    h: Distribution,
    y: Outcomes,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    fractions: Sequence[float] = FRACTIONS,
    weights: Any = None,
    clusters: Any = None,
) -> Filtering:
    """Claimed against realised label noise among pairs that a reward model labels and filters.

    The model labels each pair by its likelier order and keeps it if its probability is high enough, as in
    pseudo-labelling and in filtering data for preference tuning.

    Parameters
    ----------
    h, y
        Forecasts and outcomes; every pair with a known order counts.
    thresholds
        Claimed probabilities in [1/2, 1).
    fractions
        Fractions to keep, in (0, 1].
    weights, clusters
        As in :func:`prefcal.audit`; pairs of one instance are one unit.

    Raises
    ------
    DataError, UsageError
        No pair with a known order; thresholds or fractions outside their ranges.

    Examples
    --------
    >>> import prefcal as pc
    >>> h = pc.PlackettLuce([[3.0, 0.0], [0.1, 0.0], [0.0, 2.0], [1.0, 0.0]])
    >>> kept = filtering(h, pc.Outcomes.from_best([0, 1, 0, 0], n_items=2)).at(0.8).pairs
    >>> kept.coverage.value, round(kept.claimed, 4), kept.realised.value
    (0.5, 0.0833, 0.5)
    """
    (found,) = gather([h], y, choice="pair", weights=weights, clusters=clusters)
    return measure(found, thresholds=thresholds, fractions=fractions)[0]


def measure(
    c: Choices, *, thresholds: Sequence[float], fractions: Sequence[float]
) -> tuple[Filtering, dict[str, Statistic]]:
    """:func:`filtering` of gathered pairs, and its numbers as statistics by name."""
    require_numbers("thresholds", thresholds)
    require_numbers("fractions", fractions)
    wrong = [t for t in thresholds if not 0.5 <= t < 1] + [f for f in fractions if not 0 < f <= 1]
    if wrong:
        raise UsageError(f"thresholds must lie in [0.5, 1) and fractions in (0, 1], got {wrong[0]!r}")
    by_threshold, statistics = [], {}
    for t in thresholds:
        count = int(np.searchsorted(c.log_risk, math.log1p(-t) + 1e-12, side="right"))
        by_threshold.append(Kept(t, accept(c, slice(0, count)) if count else None))
        if count:
            kept = slice(0, count)
            statistics[f"pairs above {t:g}: label noise"] = c.mean(1.0 - c.hit, kept)
            statistics[f"pairs above {t:g}: optimism"] = c.mean(1.0 - c.hit - c.risk, kept)
    ends = c.ends
    mass = np.cumsum(c.weight)[ends - 1]
    by_fraction = []
    for f in fractions:
        count = int(ends[min(int(np.searchsorted(mass, f * mass[-1] * (1 - 1e-12))), len(ends) - 1)])
        by_fraction.append(Kept(f, accept(c, slice(0, count))))
        statistics[f"{100 * f:g} % of pairs: label noise"] = c.mean(1.0 - c.hit, slice(0, count))
    return Filtering(tuple(by_threshold), tuple(by_fraction), len(c), c.coverage), statistics
