"""Means over decisions with cluster-robust uncertainty, and their paired differences.

Every number of this room is a mean, or a smooth function of means, over independent units (instances, or clusters of
them). A :class:`Statistic` keeps, besides the value, what each unit adds to it (its influence); intervals and paired
differences follow from these alone, without random numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.estimators.binned import Z95
from prefcal.result import Estimate, Interval

_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Statistic:
    """A value and the (units,) influence of each unit on it; the influences of a mean sum to 0."""

    value: float
    influence: FloatArray

    @property
    def standard_error(self) -> float:
        """Cluster-robust standard error; infinite with a single unit."""
        n = int(np.count_nonzero(self.influence))
        units = len(self.influence)
        if units < 2:
            return math.inf
        return math.sqrt(float(self.influence @ self.influence) * units / (units - 1)) if n else 0.0

    def minus(self, other: Statistic) -> Statistic:
        """The paired difference of two statistics of the same units."""
        return Statistic(self.value - other.value, self.influence - other.influence)

    def estimate(self, low: float = -math.inf, high: float = math.inf) -> Estimate:
        """The value with its normal 95 % interval, ends clipped to low..high."""
        if math.isnan(self.value):
            return Estimate(math.nan, None, "no decision enters")
        half = Z95 * self.standard_error
        if not math.isfinite(half):
            return Estimate(self.value, None, "a single independent unit: no interval")
        return Estimate(self.value, (max(self.value - half, low), min(self.value + half, high)))


def mean_of(values: FloatArray, weights: FloatArray, units: IntArray, n_units: int) -> Statistic:
    """The weighted mean of values (e,) of decisions that belong to ``units`` (e,); NaN where nothing has weight."""
    total = float(weights.sum())
    if total <= 0:
        return Statistic(math.nan, np.zeros(n_units))
    value = float(weights @ values) / total
    return Statistic(value, np.bincount(units, weights * (values - value), minlength=n_units) / total)


def proportion(mean: Statistic, weights: FloatArray, units: IntArray, *, spread: Statistic | None = None) -> Estimate:
    """A mean of values in [0, 1] with a 95 % interval that keeps its meaning near 0 and 1.

    Clopper and Pearson's interval for the effective number of decisions v (1 - v) / variance (Korn and Graubard 1998,
    Survey Methodology 24); for independent decisions of equal weight it is Clopper and Pearson's own. Where the
    variance is 0, Kish's number of units of equal weight takes its place.

    Parameters
    ----------
    mean
        The mean.
    weights, units
        (e,) of the decisions behind it.
    spread
        The statistic whose variance counts, if not that of ``mean``: with the mean of (outcome - forecast) the
        interval is for the same instances, whose forecasts are known.
    """
    from scipy.special import betaincinv

    v = mean.value
    if math.isnan(v):
        return Estimate(math.nan, None, "no decision enters")
    influence = (spread or mean).influence
    variance = float(influence @ influence)
    per_unit = np.bincount(units, weights)
    size = float(per_unit.sum() ** 2 / (per_unit @ per_unit))
    inside = min(max(v, 0.0), 1.0)
    if 1e-12 < inside < 1 - 1e-12 and variance > 1e-24:
        size = inside * (1 - inside) / variance
    else:
        inside = round(inside) if min(inside, 1 - inside) <= 1e-12 else inside
    x = inside * size
    low = float(betaincinv(x, size - x + 1, _TAIL)) if x > 0 else 0.0
    high = float(betaincinv(x + 1, size - x, 1 - _TAIL)) if x < size else 1.0
    return Estimate(v, (low, high))


def optimism(claimed: float, realised: Statistic, gap: Statistic, weights: FloatArray, units: IntArray) -> Estimate:
    """``claimed`` minus ``realised`` (both mean probabilities of success), given the forecasts of these instances.

    ``gap`` is the mean of (outcome - forecast) over the same decisions; its variance is what forecasts leave open.
    """
    found = proportion(realised, weights, units, spread=gap)
    if found.interval is None:
        return Estimate(math.nan, None, found.note)
    return Estimate(claimed - found.value, (claimed - found.interval[1], claimed - found.interval[0]))


def flipped(estimate: Estimate) -> Estimate:
    """One minus a probability: the error that belongs to a success, or the reverse."""
    interval: Interval | None = None
    if estimate.interval is not None:
        interval = (1 - estimate.interval[1], 1 - estimate.interval[0])
    return Estimate(1 - estimate.value, interval, estimate.note)
