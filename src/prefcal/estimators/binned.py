"""Binned calibration error of a cell table: value, bias, interval, reliability curve, parts of the Brier score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.estimators.cells import CellTable
from prefcal.result import CurvePoint, Estimate, Interval

Z95 = 1.959963984540054
_EXACT_TRIALS = 2000  # above it the normal approximation of a binomial band is within its own width's percent

# |z| overstates |delta| for z ~ N(delta, 1): by 0.80 at delta = 0, by 0.17 at 1. No estimate of |delta| is unbiased.
# |z| - sum a exp(-z^2 / 2 s^2) with (a, s) below was fitted to a small bias over all delta. Few cells: a moderate
# variance (bias +0.23 at 0, -0.23 at 1, under 0.07 beyond 2; standard deviation 0.88 at 0, where |z| has 0.60). Many
# members, whose noise averages out while bias does not: a small bias (+0.19 at 0, -0.12 at 1, 0.12 at 2.5; 1.45).
_FEW = ((-3.352, 0.5), (5.818, 0.8), (-2.039, 1.2))
_MANY = ((1.0, 0.4), (1.0, 0.5), (1.0, 0.7), (-1.0, 1.4))


@dataclass(frozen=True, slots=True)
class BinnedError:
    """The expected calibration error with what is needed to judge it."""

    value: float
    debiased: float
    interval: Interval
    draws: int


def ece(residuals: FloatArray, weights: FloatArray, members: int) -> FloatArray:
    """Mean over members with events of the sum over bins of |residual sum| / weight.

    ``residuals`` are (..., G * B) sums of w (y - p) by member and bin, ``weights`` the total weight of the member
    that each cell belongs to, of a shape that broadcasts.
    """
    return _mean_over_members(np.abs(residuals), weights, members)


def _mean_over_members(parts: FloatArray, weights: FloatArray, members: int) -> FloatArray:
    present = weights > 0
    share = np.divide(parts, weights, out=np.zeros(np.broadcast(parts, weights).shape), where=present)
    bins = weights.shape[-1] // members
    counted = present.sum(axis=-1) / bins
    result: FloatArray = share.sum(axis=-1) / np.maximum(counted, 1)
    return result


def binned_error(table: CellTable, rng: np.random.Generator, *, draws: int = 1000) -> BinnedError:
    """ECE, its debiased value, and a 95 % interval of the population's binned error, by instance.

    The residual sum of each bin is close to normal with a cluster-robust variance. Each ``|residual|`` is replaced
    by a nearly unbiased estimate of the size of its mean; the spread of the total comes from normal draws with the
    cluster-robust covariance around what was observed. Ends are clipped to [0, 1].
    """
    weights, members = table.member_weights, table.members
    residuals = table.residuals
    value = float(ece(residuals, weights, members))
    scale = np.sqrt(table.variances(centred=True))
    around = residuals + table.normal_draws(draws, rng, centred=True)
    debiased = float(ece_debiased(residuals, scale, weights, members))
    spread = float(ece_debiased(around, scale, weights, members).std(ddof=1)) if len(around) > 1 else 0.0
    if table.n_instances < 2:
        return BinnedError(value, debiased, (0.0, 1.0), len(around))
    low, high = debiased - Z95 * spread, debiased + Z95 * spread
    return BinnedError(value, debiased, (min(max(low, 0.0), 1.0), max(min(high, 1.0), 0.0)), len(around))


def ece_debiased(residuals: FloatArray, scale: FloatArray, weights: FloatArray, members: int) -> FloatArray:
    """:func:`ece` with the bias of each absolute value removed, for (..., G * B) sums with standard errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z2 = np.where(scale > 0, (residuals / scale) ** 2, np.inf)
    bias = sum(a * np.exp(-z2 / (2 * s * s)) for a, s in (_FEW if members == 1 else _MANY)) * scale
    return _mean_over_members(np.abs(residuals) - bias, weights, members)


def reliability_curve(table: CellTable) -> tuple[CurvePoint, ...]:
    """One point for each bin that holds events, members pooled.

    Intervals of the observed frequency are Wilson intervals at the effective sample size that the cluster-robust
    variance of the bin implies; null bands are binomial, around the mean forecast.
    """
    moments = table.moments.reshape(7, table.members, table.bins).sum(axis=1)
    centred = table.variances(centred=True).reshape(table.members, table.bins)
    null = table.variances(centred=False).reshape(table.members, table.bins)
    # Members share instances: the variance of a pooled sum is bounded by fully dependent members.
    centred_sd = np.sqrt(centred).sum(axis=0) if table.members > 1 else np.sqrt(centred[0])
    null_sd = np.sqrt(null).sum(axis=0) if table.members > 1 else np.sqrt(null[0])
    points = []
    for b in range(table.bins):
        n, w, wp, wy = moments[0, b], moments[1, b], moments[2, b], moments[3, b]
        if n == 0 or w == 0:
            continue
        forecast, outcome = wp / w, wy / w
        points.append(
            CurvePoint(
                low=b / table.bins, high=(b + 1) / table.bins, n=int(n), weight=float(w),
                mean_forecast=float(forecast), mean_outcome=float(outcome),
                interval=_wilson(float(outcome), float(centred_sd[b] / w), int(n)),
                null_band=_null_band(float(forecast), float(null_sd[b] / w), int(n)),
            )
        )  # fmt: skip
    return tuple(points)


def _wilson(p: float, se: float, n: int) -> Interval:
    """Wilson interval at the effective number of trials p (1 - p) / se^2, at most the number of events."""
    trials = n if se <= 0 else min(max(p * (1 - p) / se**2, 1.0), n)
    z2 = Z95 * Z95
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(max(p * (1 - p), 0.0) / trials + z2 / (4 * trials * trials))
    return (max(centre - half, 0.0), min(centre + half, 1.0))


def _null_band(p: float, se: float, n: int) -> Interval:
    """Where the frequency of ``p`` falls in 95 % of repetitions: binomial quantiles at the effective trials.

    ``se`` is the cluster-robust standard error of the bin; it can only lower the number of trials below ``n``.
    """
    trials = n if se <= 0 else max(round(min(p * (1 - p) / se**2, n)), 1)
    if trials > _EXACT_TRIALS:
        half = Z95 * math.sqrt(p * (1 - p) / trials)
        return (max(p - half, 0.0), min(p + half, 1.0))
    if p in (0.0, 1.0):
        return (p, p)
    k = np.arange(trials + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    log_pmf = (
        log_factorial[-1] - log_factorial - log_factorial[::-1] + k * math.log(p) + (trials - k) * math.log1p(-p)
    )
    cumulative = np.cumsum(np.exp(log_pmf))
    low, high = np.searchsorted(cumulative, [0.025, 0.975])
    return (min(float(low) / trials, p), max(float(min(high, trials)) / trials, p))


def metrics(table: CellTable) -> dict[str, Estimate]:
    """Accuracy, mean forecast, Brier score with its parts, and log loss; intervals are cluster-robust.

    The Brier parts satisfy brier = calibration - resolution + uncertainty + within exactly; ``within`` is what
    varies inside bins (Stephenson, Coelho & Jolliffe 2008), with members pooled.
    """
    w = table.sums[0]
    out: dict[str, Estimate] = {}
    for name, index in (("accuracy", 1), ("mean_forecast", 2), ("brier", 3)):
        out[name] = _ratio(table, index)
    moments = table.moments.reshape(7, table.members, table.bins).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = moments[1] / w
        forecast = np.where(moments[1] > 0, moments[2] / moments[1], 0.0)
        outcome = np.where(moments[1] > 0, moments[3] / moments[1], 0.0)
    mean = table.sums[1] / w
    calibration = float((share * (forecast - outcome) ** 2).sum())
    resolution = float((share * (outcome - mean) ** 2).sum())
    uncertainty = float(moments[6].sum() / w - mean**2)
    note = "a part of the Brier score, of the bins as observed: no interval, biased by the noise of bins"
    out["brier_calibration"] = Estimate(calibration, note=note)
    out["brier_resolution"] = Estimate(resolution, note=note)
    out["brier_uncertainty"] = Estimate(uncertainty, note=note)
    out["brier_within"] = Estimate(out["brier"].value - calibration + resolution - uncertainty, note=note)
    if table.impossible:
        note = f"infinite: {table.impossible} events happened although the model gave them probability 0"
        out["log_loss"] = Estimate(math.inf, note=note)
    else:
        out["log_loss"] = _ratio(table, 4)
    return out


def _ratio(table: CellTable, index: int) -> Estimate:
    w, n = table.sums[0], table.n_instances
    value = table.sums[index] / w
    if n < 2:
        return Estimate(float(value), note="one instance: no interval")
    direction = np.zeros(5)
    direction[index], direction[0] = 1.0, -value
    se = math.sqrt(max(float(direction @ table.squares @ direction), 0.0) * n / (n - 1)) / w
    return Estimate(float(value), (float(value - Z95 * se), float(value + Z95 * se)))
