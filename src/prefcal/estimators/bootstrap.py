"""Cluster bootstrap of any function of per-unit sums: BCa and studentised intervals.

Accuracy, Brier score, log loss, skill scores, differences of two models: each is a function of a few totals over
independent units (instances, or clusters of them). Units are drawn with replacement; the function sees new totals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray
from prefcal.errors import DataError, UsageError
from prefcal.estimators.points import unit_codes
from prefcal.result import Estimate

Functional = Callable[[FloatArray], FloatArray]
Method = Literal["bca", "studentised"]
_CHUNK = 1 << 23


def bootstrap(
    sums: npt.ArrayLike,
    functional: Functional,
    *,
    method: Method = "bca",
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 1999,
    seed: int = 0,
) -> Estimate:
    """A functional of totals with its bootstrap interval.

    Parameters
    ----------
    sums
        (n, d) sums of each instance, e.g. columns weight, weight x outcome, weight x squared error.
    functional
        Maps (..., d) totals over all units to (...) values; called with many rows at once.
    method
        ``bca``: bias-corrected and accelerated percentiles (Efron 1987), the acceleration from the jackknife; follows
        transformations and stays in the functional's range. ``studentised``: quantiles of (draw - value) / standard
        error, with delta-method standard errors from numerical gradients (Davison & Hinkley 1997, section 5.2); for
        smooth functionals.
    clusters
        (n,) independent unit of each instance; None: each instance is one.
    level
        Nominal coverage, between 0 and 1.
    draws, seed
        Bootstrap draws. Cost: draws x units x d multiplications (studentised: x d^2), in bounded memory.

    Returns
    -------
    Estimate
        ``value`` and ``interval``; None with a note where there are fewer than two units, or where the functional is
        not finite on the data or on a draw.

    Raises
    ------
    DataError, UsageError
        Sums that are not finite numbers, a functional that does not return one value a row, unknown options.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.random(400) < 0.9
    >>> found = bootstrap(np.column_stack([np.ones(400), y]), lambda s: s[..., 1] / s[..., 0])
    >>> found.interval[0] < found.value < found.interval[1]
    True
    """
    if method not in ("bca", "studentised"):
        raise UsageError.unknown("method", str(method), ("bca", "studentised"))
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    if draws < 99:
        raise UsageError(f"draws must be at least 99, got {draws}")
    units = _unit_sums(sums, clusters)
    n = len(units)
    total = units.sum(axis=0)
    value = float(_evaluate(functional, total[None])[0])
    if n < 2:
        return Estimate(value, note="one independent unit: no interval")
    if not math.isfinite(value):
        return Estimate(value, note="not finite: no interval")
    rng = np.random.default_rng([seed, 32])
    totals, errors = np.empty((draws, units.shape[1])), np.empty(draws)
    squares = (units[:, :, None] * units[:, None, :]).reshape(n, -1) if method == "studentised" else None
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=stop - start).astype(np.float64)
        totals[start:stop] = counts @ units
        if squares is not None:
            errors[start:stop] = _delta_errors(functional, totals[start:stop], counts @ squares, n)
    drawn = _evaluate(functional, totals)
    if not np.isfinite(drawn).all():
        share = float(np.mean(~np.isfinite(drawn)))
        return Estimate(value, note=f"not finite on {share:.1%} of the bootstrap draws: no interval")
    tail = (1.0 - level) / 2.0
    if squares is None:
        low, high = _bca(functional, units, total, value, drawn, tail)
    else:
        own = float(_delta_errors(functional, total[None], squares.sum(axis=0)[None], n)[0])
        usable = errors > 0
        if own == 0 or not usable.any():
            return Estimate(value, (value, value), note="no variation between units")
        t = np.quantile((drawn[usable] - value) / errors[usable], [tail, 1.0 - tail])
        low, high = value - t[1] * own, value - t[0] * own
    return Estimate(value, (float(low), float(high)), note=f"{method} bootstrap of {n} units, {draws} draws")


def _unit_sums(sums: npt.ArrayLike, clusters: npt.ArrayLike | None) -> FloatArray:
    array = np.asarray(sums, dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise DataError(f"sums must be (n, d) with at least one row, got shape {array.shape}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise DataError("sums must be finite", row=f"instance {int(np.flatnonzero(bad)[0])}")
    if clusters is None:
        return array
    code = unit_codes(clusters, len(array))
    out = np.zeros((int(code.max()) + 1, array.shape[1]))
    np.add.at(out, code, array)
    return out


def _evaluate(functional: Functional, totals: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(functional(totals), dtype=np.float64)
    if values.shape != totals.shape[:-1]:
        raise UsageError(f"the functional must map {totals.shape} totals to {totals.shape[:-1]}, got {values.shape}")
    return values


def _bca(
    functional: Functional, units: FloatArray, total: FloatArray, value: float, drawn: FloatArray, tail: float
) -> tuple[float, float]:
    """Percentiles moved by the median bias and by the skewness of the jackknife influences."""
    from statistics import NormalDist

    normal = NormalDist()
    below = (np.sum(drawn < value) + 0.5 * np.sum(drawn == value)) / len(drawn)
    bias = normal.inv_cdf(min(max(float(below), 0.5 / len(drawn)), 1.0 - 0.5 / len(drawn)))
    left_out = _evaluate(functional, total - units)
    left_out = left_out[np.isfinite(left_out)]
    influence = left_out.mean() - left_out
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6.0 * spread**1.5) if spread > 0 else 0.0
    levels = []
    for z in (normal.inv_cdf(tail), normal.inv_cdf(1.0 - tail)):
        moved = bias + z
        levels.append(normal.cdf(bias + moved / max(1.0 - acceleration * moved, 1e-6)))
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)


def _delta_errors(functional: Functional, totals: FloatArray, squares: FloatArray, n: int) -> FloatArray:
    """Standard errors of the functional at (b, d) totals from (b, d * d) sums of squares, by central differences."""
    b, d = totals.shape
    size = np.abs(totals).max(axis=0)
    step = 1e-5 * np.where(size > 0, size, 1.0)
    moved = totals[:, None, None, :] + np.stack([np.diag(step), -np.diag(step)])  # (b, 2, d, d)
    values = _evaluate(functional, moved)
    with np.errstate(invalid="ignore"):
        gradient = (values[:, 0] - values[:, 1]) / (2.0 * step)
        covariance = squares.reshape(b, d, d) - totals[:, :, None] * totals[:, None, :] / n
        variance = np.einsum("bi,bij,bj->b", gradient, covariance, gradient) * n / (n - 1)
    errors: FloatArray = np.sqrt(np.maximum(np.nan_to_num(variance), 0.0))
    return errors
