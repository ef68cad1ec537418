"""The statistics of the study that an audit does not hold: the published one, rank correlations, resampling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import UsageError
from prefcal.estimators.binned import Z95, binned_error, metrics
from prefcal.estimators.events import classify_known, family_for
from prefcal.estimators.scalar import fill_tables
from prefcal.notions.notion import Notion
from prefcal.result import Estimate, Interval
from prefcal.views import View

#: Up to here all permutations are enumerated (9! = 362,880).
EXACT_UP_TO = 9


def position_conditioned(h: PlackettLuce, position: int = 0) -> Estimate:
    """The statistic of the published evaluation: 1 - mean p(candidate at a storage position to be best).

    The published code gives the binned ECE the forecasts p(candidate 0 is best) and outcomes that are all 1,
    because the chosen answer is stored first. With y = 1 throughout, each bin adds its weight times 1 - mean p,
    so for any bins the sum is 1 - mean p(chosen). It is the mean of a score, small for sure and accurate models;
    it falls as a model becomes over-confident and says nothing about calibration.

    Parameters
    ----------
    h
        n forecasts.
    position
        Storage place of the chosen candidate.

    Returns
    -------
    The statistic in 0..1 with a normal 95 % interval by instance.

    Examples
    --------
    >>> position_conditioned(PlackettLuce([[1.0, 0.0], [0.0, 0.0]])).value.__round__(3)
    0.384
    """
    p = np.exp(h.top_log_probs()[:, position])
    value = 1 - float(p.mean())
    if len(p) < 2:
        return Estimate(value, note="one instance: no interval")
    half = Z95 * float(p.std(ddof=1)) / math.sqrt(len(p))
    return Estimate(value, (max(value - half, 0.0), min(value + half, 1.0)))


@dataclass(frozen=True, slots=True)
class Errors:
    """ECE as printed and with its bias removed, and the mean outcome, of one notion."""

    value: float
    debiased: float
    accuracy: float


def scalar_errors(
    h: PlackettLuce, y: Outcomes, notions: Sequence[str] = ("sub-2", "top-1:confidence"), *, bins: int = 15
) -> dict[str, Errors]:
    """``value``, ``debiased`` and ``accuracy`` of an audit of exchangeable items, without its null law and
    interval: for the thousands of resamples in which only the numbers matter (some milliseconds each).

    Raises UsageError and DataError as :func:`prefcal.audit` does.
    """
    families = [family_for(Notion.parse(n), "exchangeable", h, ties_equal=y.ties == "equal") for n in notions]
    tables = fill_tables(
        h, y, families, bins=bins, groupings=(), weights=np.ones(len(y)), per_instance=False, clusters=None, seed=0
    )
    out = {}
    for name, t in zip(notions, tables, strict=True):
        found = binned_error(t.overall, np.random.default_rng(0), draws=2)
        out[name] = Errors(found.value, found.debiased, metrics(t.overall)["accuracy"].value)
    return out


# ------------------------------------------------------------------------------------------------ rank correlation


def kendall(x: FloatArray, y: FloatArray) -> FloatArray:
    """Kendall's tau-b along the last axis, (...,) from (..., n); NaN where one side is constant.

    Kendall (1945): (concordant - discordant) / sqrt(pairs not tied in x * pairs not tied in y). O(n^2).

    Examples
    --------
    >>> float(kendall(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])))
    -1.0
    """
    a, b = np.triu_indices(np.shape(x)[-1], 1)
    dx, dy = np.sign(x[..., a] - x[..., b]), np.sign(y[..., a] - y[..., b])
    scale = np.sqrt((dx * dx).sum(axis=-1) * (dy * dy).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: FloatArray = np.where(scale > 0, (dx * dy).sum(axis=-1) / scale, np.nan)
    return tau


def partial_kendall(xy: float, xz: float, yz: float) -> float:
    """Kendall's partial tau of x and y given z, from the three taus; NaN where z determines one of them."""
    rest = (1 - xz * xz) * (1 - yz * yz)
    return (xy - xz * yz) / math.sqrt(rest) if rest > 0 else math.nan


def permutation_p(x: FloatArray, y: FloatArray, rng: np.random.Generator, *, draws: int = 9999) -> tuple[float, bool]:
    """Two-sided p-value of Kendall's tau-b under all pairings, and whether they were enumerated.

    Exact up to ``EXACT_UP_TO`` points (ties are respected), else (1 + #) / (draws + 1) over random pairings.
    """
    n = len(x)
    sx, sy = (np.sign(v[:, None] - v[None, :]).astype(np.int8) for v in (x, y))
    exact = n <= EXACT_UP_TO
    if exact:
        orders = np.array(list(itertools.permutations(range(n))), dtype=np.intp)
    else:
        orders = rng.permuted(np.broadcast_to(np.arange(n), (draws, n)), axis=1)
    total = np.zeros(len(orders), dtype=np.int64)
    seen = 0
    for i in range(n):
        for j in range(i + 1, n):
            if sx[i, j]:
                total += sx[i, j] * sy[orders[:, i], orders[:, j]]
                seen += int(sx[i, j] * sy[i, j])
    hits = int((np.abs(total) >= abs(seen)).sum())
    return (hits / len(orders), True) if exact else ((1 + hits) / (draws + 1), False)


def percentile(draws: FloatArray) -> Interval:
    """The 2.5 % and 97.5 % points of bootstrap draws; undefined draws (NaN) are left out."""
    kept = draws[np.isfinite(draws)]
    if not len(kept):
        return (math.nan, math.nan)
    low, high = np.quantile(kept, [0.025, 0.975])
    return (float(low), float(high))


# ------------------------------------------------------------------------------------------- views and candidates


@dataclass(frozen=True, slots=True)
class Observable:
    """How much of a view the outcomes determine: members whose outcome is known, and instances with one."""

    view: str
    instances: int
    n_instances: int
    members: int
    n_members: int


def observable(y: Outcomes, views: Sequence[str]) -> list[Observable]:
    """Count, for each view, the members whose outcome follows from what was observed.

    Instances with too few items for a view have no member of it. Cost: members of the view x instances.
    """
    out = []
    for name in views:
        view = View.parse(name)
        known = total = instances = 0
        for rows, size in y.ranks.blocks():
            try:
                view.check(size)
            except UsageError:
                continue
            flags = classify_known(view, y.ranks.block(rows, size))
            known += int(flags.sum())
            total += flags.size
            instances += int(flags.any(axis=-1).sum())
        out.append(Observable(name, instances, len(y), known, total))
    return out


def keep_wrong(scores: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Candidate 0 and ``size - 1`` others, drawn anew for each instance: (n, size) from (n, m) scores.

    A Plackett-Luce model restricted to some candidates is Plackett-Luce with their scores, so the smaller choice
    is exactly what the model states about it.
    """
    n, m = scores.shape
    if not 2 <= size <= m:
        raise UsageError(f"size must be 2..{m}, got {size}")
    others: IntArray = rng.permuted(np.broadcast_to(np.arange(1, m), (n, m - 1)), axis=1)[:, : size - 1]
    columns = np.concatenate([np.zeros((n, 1), dtype=np.intp), np.sort(others, axis=1)], axis=1)
    kept: FloatArray = np.take_along_axis(scores, columns, axis=1)
    return kept
