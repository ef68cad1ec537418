"""Binned calibration error of a cell table: value, bias, interval, reliability curve, parts of the Brier score."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.estimators.cells import MOMENTS, SUMS, CellTable, contrast_directions, contrasts
from prefcal.result import CurvePoint, Estimate, Interval

Z95 = 1.959963984540054
_EXACT_TRIALS = 2000  # above it the normal approximation of a binomial band is within its own width's percent

# |z| overstates |delta| for z ~ N(delta, 1): by 0.80 at delta = 0, by 0.17 at 1. No estimate of |delta| is unbiased.
# |z| - sum a exp(-z^2 / 2 s^2) with these (a, s) has the bias 0.35 at 0, at most 0.09 in size beyond delta = 0.4, and
# standard deviations 1.05 at 0 and 1.2 at 1 (|z|: 0.60, 0.87). They minimise the mean squared bias over [0, 6]
# plus 0.004 times the mean variance at 0, 1 and 2, with the bias at 0 held at 0.35.
_KERNELS = ((-3.385, 0.4), (6.732, 0.6), (-3.198, 1.0), (0.604, 1.5))
# At this p-value of what a tilt and a shift leave, half trust in them. At 0.05, gaps of one standard error without a
# pattern came out a third of a standard error too low (0.1: a quarter to a third; each bin by itself: up to a fifth).
_FADE_ROUGH = 0.1
# Where the shared gap is this many standard errors of the bin, exp(-1/2) of that trust, and soon none: there |r| has
# no bias to mend, and no shape need be believed.
_NEAR_ZERO = 1.5
# What is left at 0 is taken off where the table as a whole shows no more than noise: at a p-value p of the table,
# p^4 / (p^4 + _FADE^4) of it. Of all ways to take off as much at calibration, a step in p would take off least from a
# small miscalibration, whose p-values are lower; this is a step without the jump. A smaller _FADE leaves less at
# calibration and takes too much off a small miscalibration.
_LEFT_AT_ZERO = 0.35
_FADE = 0.35
_FOR_SHARED = 0.8  # of the level of that p-value, for tilts and shifts that all bins share

# Two-sided 96 %. The families that the interval inverts have one parameter, the population one for each bin: at 95 %
# it covered down to 90 % where the error is one to two standard errors (benchmarks/validity).
_LEVEL = 0.98
# Variances come from instances that contribute unequally: a t law with this many degrees of freedom an instance.
_DEGREES = 1 / 3
# Of the noise's standard deviation, part of the upper family's pattern of gaps (0: as observed; it then has bins
# without any gap by chance, and misses small errors of many bins).
_NOISE_IN_PATTERN = 0.5
_STEPS = 10


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

    The residual sums of the bins are close to normal with a cluster-robust covariance. ``debiased`` is
    :func:`ece_debiased`. The interval inverts a parametric bootstrap: populations whose bins have gaps of a pattern
    times a common factor, noise as estimated; those whose ECE would come out as observed, neither in its upper nor
    in its lower tail, make up the interval. So it knows the bias of an ECE at any size of the error. How much noise
    adds depends on how even the gaps are, which data tell poorly: the lower end is that of a family with gaps where
    they show, the upper end that of one with gaps everywhere. (Adding the spread of the debiased error on both sides
    covered less, and is wider near 0.) Ends lie in [0, 1].
    """
    weights, members = table.member_weights, table.members
    residuals = table.residuals
    value = float(ece(residuals, weights, members))
    scale = table.scale(centred=True)
    debiased = float(ece_debiased(residuals, scale, weights, members, table.contrast_squares()))
    if table.n_instances < 2:
        return BinnedError(value, debiased, (0.0, 1.0), 0)
    noise = table.normal_draws(draws, rng, centred=True)
    return BinnedError(
        value, debiased, _inverted(residuals, noise, scale, weights, members, table.n_instances), len(noise)
    )


def _inverted(
    residuals: FloatArray, noise: FloatArray, scale: FloatArray, weights: FloatArray, members: int, n: int
) -> Interval:
    """Errors whose ECE, with ``noise`` (draws, G * B) on top, has the observed one within its 96 %.

    Patterns of gaps have the observed signs: below, r^3 / (r^2 + s^2), what a bin shows beyond noise; above,
    sqrt(r^2 + (s / 2)^2), where a bin that shows nothing by chance still takes part.
    """
    from scipy.special import stdtrit

    value = float(ece(residuals, weights, members))
    size = np.hypot(residuals, scale)
    shown = residuals * np.divide(residuals, size, out=np.zeros(len(size)), where=size > 0) ** 2
    even = np.copysign(np.sqrt(residuals**2 + (_NOISE_IN_PATTERN * scale) ** 2), residuals)
    if not even.any():
        return (0.0, 0.0)
    times = float(stdtrit(max(_DEGREES * n, 1.0), _LEVEL))
    signed = ece(even + noise, weights, members)
    linear = _mean_over_members(np.sign(even) * noise, weights, members)
    # The ECE is at least the error on average, and no more variable than where signs are certain.
    most = value + 1.2 * times * max(float(signed.std()), float(linear.std()))

    def reaches(pattern: FloatArray, limit: float, sign: int) -> float:
        whole = float(ece(pattern, weights, members))
        if whole == 0:
            return 0.0

        def above(error: float) -> float:
            found = ece(pattern * (error / whole) + noise, weights, members)
            return float(found.mean() + sign * times * found.std()) - value

        return _crossing(above, limit)

    return (min(reaches(shown, value, 1), 1.0), min(reaches(even, most, -1), 1.0))


def _crossing(above: Callable[[float], float], limit: float) -> float:
    """Where a rising function is 0 in [0, limit], to a thousandth of ``limit`` (Illinois); else an end."""
    low, high = 0.0, limit
    at_low, at_high = above(low), above(high)
    if at_low >= 0:
        return low
    if at_high <= 0:
        return high
    for _ in range(_STEPS):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at = above(middle)
        if abs(at) <= 1e-3 * limit:
            return middle
        if at < 0:
            low, at_low, at_high = middle, at, at_high / 2
        else:
            high, at_high, at_low = middle, at, at_low / 2
    return middle


def ece_debiased(
    residuals: FloatArray, scale: FloatArray, weights: FloatArray, members: int, squares: FloatArray
) -> FloatArray:
    """:func:`ece` with the bias of its absolute values removed, for (..., G * B) sums with standard deviations.

    A bin's |r| loses an amount that depends on z = r / s and nearly is its bias where |E z| > 0.4. Near 0 a kink
    stays: no function of z is unbiased there. So few z as possible should be near 0: where gaps are of the size of
    noise, those of a tilt and a shift that all bins share, which are known much better, take the place of each bin's
    own, as far as the residuals differ from them by no more than noise. (Gaps of about a standard error whose signs
    alternate from bin to bin are taken for noise then, and come out lower than by each bin's own.) What is left at
    E z = 0 is taken off too as far as the table as a whole shows nothing but noise: then the error of a calibrated
    model comes out near 0 on average. It may be slightly negative. Its standard deviation is about twice the plain
    error's at calibration, and the same where the error is large.

    ``squares`` is the (..., 2, 2) sum over instances of t t', t their :func:`prefcal.estimators.cells.contrasts`.
    """
    share = np.divide(scale, weights, out=np.zeros(np.broadcast(scale, weights).shape), where=weights > 0)
    shared = _p_contrasts(contrasts(residuals, members), squares) / _FOR_SHARED
    anywhere = _p_pattern(_z_squares(residuals, scale), share) / (1 - _FOR_SHARED)
    left = _LEFT_AT_ZERO * _steps_up(np.minimum(np.minimum(shared, anywhere), 1.0), _FADE)
    smooth, error = _tilt_and_shift(residuals, scale, squares, members)
    trust = _steps_up(_p_pattern(_z_squares(residuals - smooth, scale), share), _FADE_ROUGH)
    trust = trust * np.exp(-_z_squares(smooth, scale) / (2 * _NEAR_ZERO**2))
    sizes = trust * _less_bias(smooth, error, left) + (1 - trust) * _less_bias(residuals, scale, left)
    return _mean_over_members(sizes, weights, members)


def _z_squares(residuals: FloatArray, scale: FloatArray) -> FloatArray:
    zeros = np.zeros(np.broadcast(residuals, scale).shape)
    found: FloatArray = np.minimum(np.abs(np.divide(residuals, scale, out=zeros, where=scale > 0)), 1e6) ** 2
    return found


def _less_bias(residuals: FloatArray, scale: FloatArray, left: FloatArray) -> FloatArray:
    """Sizes of residuals, less what noise of standard deviations ``scale`` adds to them."""
    z2 = _z_squares(residuals, scale)
    bias = sum(a * np.exp(-z2 / (2 * s * s)) for a, s in _KERNELS)
    found: FloatArray = np.abs(residuals) - (bias + left) * scale
    return found


def _steps_up(p: FloatArray, at: float) -> FloatArray:
    """(..., 1) from 0 at a p-value of 0 to about 1 at 1, half of it at ``at``."""
    found: FloatArray = (p**4 / (p**4 + at**4))[..., None]
    return found


def _p_pattern(z2: FloatArray, share: FloatArray) -> FloatArray:
    """(...) p-value of gaps of any pattern: the mean of z^2, weighted by the bins' part in the error."""
    from scipy.special import chdtrc

    total = share.sum(axis=-1, keepdims=True)
    part = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    degrees = 1.0 / np.maximum((part**2).sum(axis=-1), 1e-300)
    found: FloatArray = np.where(total[..., 0] > 0, chdtrc(degrees, (part * z2).sum(axis=-1) * degrees), 1.0)
    return found


def _p_contrasts(sums: FloatArray, squares: FloatArray) -> FloatArray:
    """(...) p-value of a tilt or a shift that all bins share: sharper than any pattern for most models."""
    from scipy.special import chdtrc

    values, vectors = np.linalg.eigh(squares)
    along = np.einsum("...i,...ij->...j", sums, vectors)
    # A direction whose variance is what rounding left (probabilities of a member add up to 1) tells nothing.
    live = values > 1e-9 * np.maximum(np.trace(squares, axis1=-2, axis2=-1)[..., None], 1e-300)
    square = np.divide(along**2, values, out=np.zeros_like(along), where=live & np.ones(along.shape, dtype=bool))
    found: FloatArray = chdtrc(np.maximum(live.sum(axis=-1), 1), square.sum(axis=-1))
    return found


def _tilt_and_shift(
    residuals: FloatArray, scale: FloatArray, squares: FloatArray, members: int
) -> tuple[FloatArray, FloatArray]:
    """(..., G * B) residual sums of one tilt and shift of all bins, and their standard errors.

    Gaps s^2 (a + c place): what a logistic recalibration does to bins of variances s^2, to first order (Cox 1958). By
    weighted least squares for independent bins; the errors are cluster-robust. A bin without noise, say of events
    that were called impossible and all happened, is its own estimate and tells nothing of the others.
    """
    known = scale > 0
    along = contrast_directions(residuals.shape[-1], members)
    variance = scale**2
    inverse = np.linalg.pinv(np.einsum("...g,ig,jg->...ij", variance, along, along), rcond=1e-8, hermitian=True)
    sums = contrasts(np.where(known, residuals, 0.0), members)
    fitted = variance * np.einsum("ig,...ij,...j->...g", along, inverse, sums)
    error = np.einsum("ig,...ij,jg->...g", along, inverse @ squares @ inverse, along)
    return np.where(known, fitted, residuals), variance * np.sqrt(np.maximum(error, 0.0))


def reliability_curve(table: CellTable) -> tuple[CurvePoint, ...]:
    """One point for each bin that holds events, members pooled.

    Intervals of the observed frequency are Wilson intervals at the effective sample size that the cluster-robust
    variance of the bin implies; null bands are binomial, around the mean forecast.
    """
    pooled = table.moments.reshape(len(MOMENTS), table.members, table.bins).sum(axis=1)
    centred = table.variances(centred=True).reshape(table.members, table.bins)
    null = table.variances(centred=False).reshape(table.members, table.bins)
    # Members share instances: the variance of a pooled sum is bounded by fully dependent members.
    centred_sd = np.sqrt(centred).sum(axis=0) if table.members > 1 else np.sqrt(centred[0])
    null_sd = np.sqrt(null).sum(axis=0) if table.members > 1 else np.sqrt(null[0])
    points = []
    for b in range(table.bins):
        n, w, wp, wy = pooled[:4, b]
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
    w = table.total("w")
    out = {"accuracy": _ratio(table, "wy"), "mean_forecast": _ratio(table, "wp"), "brier": _ratio(table, "brier")}
    pooled = table.moments.reshape(len(MOMENTS), table.members, table.bins).sum(axis=1)
    _, weight, wp, wy, _, wyy, _, _ = pooled
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weight / w
        forecast = np.where(weight > 0, wp / weight, 0.0)
        outcome = np.where(weight > 0, wy / weight, 0.0)
    mean = table.total("wy") / w
    calibration = float((share * (forecast - outcome) ** 2).sum())
    resolution = float((share * (outcome - mean) ** 2).sum())
    uncertainty = float(wyy.sum() / w - mean**2)
    note = "a part of the Brier score, of the bins as observed: no interval, biased by the noise of bins"
    out["brier_calibration"] = Estimate(calibration, note=note)
    out["brier_resolution"] = Estimate(resolution, note=note)
    out["brier_uncertainty"] = Estimate(uncertainty, note=note)
    out["brier_within"] = Estimate(out["brier"].value - calibration + resolution - uncertainty, note=note)
    if table.impossible:
        note = f"infinite: {table.impossible} events happened although the model gave them probability 0"
        out["log_loss"] = Estimate(math.inf, note=note)
    else:
        out["log_loss"] = _ratio(table, "log_loss")
    return out


def _ratio(table: CellTable, amount: str) -> Estimate:
    w, n = table.total("w"), table.n_instances
    value = table.total(amount) / w
    if n < 2:
        return Estimate(float(value), note="one instance: no interval")
    direction = np.zeros(len(SUMS))
    direction[SUMS.index(amount)], direction[SUMS.index("w")] = 1.0, -value
    se = math.sqrt(max(float(direction @ table.squares @ direction), 0.0) * n / (n - 1)) / w
    return Estimate(float(value), (float(value - Z95 * se), float(value + Z95 * se)))
