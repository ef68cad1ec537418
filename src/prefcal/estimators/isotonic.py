"""Isotonic decomposition of the Brier and the log score: CORP (Dimitriadis, Gneiting & Jordan, PNAS 118, 2021).

The forecasts are recalibrated by the increasing function of the forecast that fits best (pool adjacent violators; the
same for every proper score). Then score = MCB - DSC + UNC: miscalibration is what recalibrating gains,
discrimination what the recalibrated forecast gains over the constant one, uncertainty the score of the constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray
from prefcal.errors import UsageError
from prefcal.estimators.points import Points, event_arrays, sums_by, unit_codes

Score = Literal["brier", "log"]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """``score = mcb - dsc + unc``, exactly; all are at least 0 (mcb, log: infinite if the impossible happened)."""

    score: float
    mcb: float
    dsc: float
    unc: float


@dataclass(frozen=True, slots=True)
class IsotonicCurve:
    """Recalibrated probability at each distinct forecast, with its band.

    (k,) ``p`` forecasts, ``recalibrated``, ``low`` and ``high``: pointwise 95 % bootstrap percentiles, by unit.
    """

    p: FloatArray
    recalibrated: FloatArray
    low: FloatArray
    high: FloatArray


def recalibrated(points: Points) -> FloatArray:
    """(k,) increasing recalibrated probabilities."""
    fitted: FloatArray = np.clip(pool(points.y[None], points.w)[0], 0.0, 1.0)
    return fitted


def pool(y: FloatArray, w: FloatArray) -> FloatArray:
    """(d, k) increasing sequences nearest to the rows of ``y`` in squares weighted by ``w`` (k,) or (d, k).

    Adjacent violators always end in one block, so each pass pools all of them at once, in all rows; the number of
    blocks shrinks quickly, and the first few passes are nearly all of the cost.
    """
    d, k = y.shape
    weight = np.broadcast_to(w, y.shape).ravel()
    total = y.ravel() * weight
    row, size = np.repeat(np.arange(d), k), np.ones(d * k, dtype=np.intp)
    while True:
        mean = total / weight
        start = np.concatenate([[True], (mean[1:] > mean[:-1]) | (row[1:] != row[:-1])])
        if start.all():
            return np.repeat(mean, size).reshape(d, k)
        at = np.flatnonzero(start)
        total, weight, size = (np.add.reduceat(x, at) for x in (total, weight, size))
        row = row[at]


def decomposition(
    points: Points, score: Score = "brier", *, total: float | None = None, fitted: FloatArray | None = None
) -> Decomposition:
    """Decompose the mean score of the forecasts.

    Parameters
    ----------
    points
        Events by forecast. From a cell table, whose cells move together, MCB and DSC are smaller than the exact ones,
        both by the same amount: at most a third of the largest weight share of a cell for the Brier score, that share
        itself (in nats) for the log score (:func:`~prefcal.estimators.discretisation.cell_bounds`). UNC is exact, and
        so is the score where ``total`` is given.
    score
        ``brier``: (y - p)^2, ``log``: -y log p - (1 - y) log(1 - p), natural logarithms.
    total
        The mean score itself where it is known exactly (a cell table keeps it); else computed from the points. From
        cells the log score would be off by at most their weight shares times log(b / a), forecasts (or 1 - p) of the
        cell being in [a, b]: at most 0.3 between 1e-12 and 1 - 1e-12, without bound beyond.
    fitted
        :func:`recalibrated` of the points, if at hand.

    Examples
    --------
    >>> found = decomposition(Points.of([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1]))
    >>> [round(x, 4) for x in (found.score, found.mcb, found.dsc, found.unc)]
    [0.185, 0.06, 0.125, 0.25]
    """
    if score not in ("brier", "log"):
        raise UsageError.unknown("score", score, ("brier", "log"))
    fitted = recalibrated(points) if fitted is None else fitted
    share = points.w / points.weight
    mean = float((share * points.y).sum())
    # What outcomes vary at one forecast is part of every Brier score; the log score is linear in the outcome.
    within = points.yy - float((share * points.y**2).sum()) if score == "brier" else 0.0
    best = float((share * _loss(points.y, fitted, score)).sum()) + within
    constant = float((share * _loss(points.y, np.full(len(fitted), mean), score)).sum()) + within
    whole = float((share * _loss(points.y, points.p, score)).sum()) + within if total is None else total
    return Decomposition(whole, max(whole - best, 0.0), max(constant - best, 0.0), constant)


def _loss(y: FloatArray, p: FloatArray, score: Score) -> FloatArray:
    """Expected loss of forecast ``p`` at mean outcome ``y`` (Brier: less the variance of outcomes at the point)."""
    if score == "brier":
        result: FloatArray = (y - p) ** 2
        return result
    return log_score(y, p)


def log_score(y: FloatArray, p: FloatArray) -> FloatArray:
    """-y log p - (1 - y) log(1 - p) with 0 log 0 = 0; infinite where something impossible happened."""
    with np.errstate(divide="ignore", invalid="ignore"):
        happened = np.where(y > 0, y * np.log(p), 0.0)
        loss: FloatArray = -happened - np.where(y < 1, (1.0 - y) * np.log1p(-p), 0.0)
    return loss


def isotonic_curve(
    p: npt.ArrayLike,
    y: npt.ArrayLike,
    w: npt.ArrayLike | None = None,
    *,
    clusters: npt.ArrayLike | None = None,
    draws: int = 199,
    seed: int = 0,
) -> IsotonicCurve:
    """The recalibrated curve of events in memory with a bootstrap band, units drawn with replacement.

    Parameters
    ----------
    p, y, w
        (n,) forecasts, outcomes, weights, as for :meth:`Points.of`.
    clusters
        (n,) independent unit of each event; None: each event is one. Pairs of one instance are one unit.
    draws, seed
        Bootstrap draws. Cost: ``draws`` isotonic fits of k points.

    Notes
    -----
    Isotonic fits converge at cube-root speed and the bootstrap is not consistent for them (Sen, Banerjee & Woodroofe
    2010): read the band as a guide to scale, not as a test; tests are with MCB.
    """
    if draws < 99:
        raise UsageError(f"draws must be at least 99, got {draws}")
    forecast, outcome, weight = event_arrays(p, y, w)
    unit = unit_codes(clusters, len(forecast))
    distinct, place = np.unique(forecast, return_inverse=True)
    k, n = len(distinct), int(unit.max()) + 1
    curve = Points.of(forecast, outcome, weight)
    centre = np.interp(distinct, curve.p, recalibrated(curve))
    rng = np.random.default_rng([seed, 31])
    fits = np.empty((draws, k))
    for b in range(draws):
        again = np.bincount(rng.integers(n, size=n), minlength=n)[unit] * weight
        total = sums_by(place, again, k)
        at = total > 0
        mean = sums_by(place, again * outcome, k)[at] / total[at]
        fits[b] = np.interp(distinct, distinct[at], pool(mean[None], total[at])[0])
    low, high = np.quantile(fits, [0.025, 0.975], axis=0)
    return IsotonicCurve(distinct, centre, np.minimum(low, centre), np.maximum(high, centre))


def miscalibrations(y: FloatArray, p: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(d,) Brier and log MCB of (d, k) mean outcomes at k forecasts with weight shares ``share``.

    For noise that is normal, not binary, outcomes may leave [0, 1]; the fit is clipped.
    """
    fitted = np.clip(pool(y, share), 0.0, 1.0)
    brier = ((y - p) ** 2 - (y - fitted) ** 2) @ share
    log_p, log_q = np.log(np.maximum(p, 1e-300)), np.log(np.maximum(1.0 - p, 1e-300))
    # In a pooled block the mean outcome is the fit, so its expected log score is the fit's entropy.
    log = -(y @ (share * log_p)) - (1.0 - y) @ (share * log_q) - log_score(fitted, fitted) @ share
    return np.maximum(brier, 0.0), np.maximum(log, 0.0)
