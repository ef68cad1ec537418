"""How often an audit rejects calibration: its test repeated on the residual sums of the bins.

These sums are close to normal, so the test (two null laws of the binned error, and a rejection by both) can be
repeated thousands of times on B numbers instead of n instances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.errors import UsageError
from prefcal.estimators.binned import Z95, ece
from prefcal.estimators.noise import null_scale, root
from prefcal.estimators.tempered import MANY_CELLS, ResidualLaw
from prefcal.result import Estimate

_SHAPE, _SMALLER_SHAPE = (8, 999), (4, 249)  # batches x draws; the smaller one for many cells
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Rejections:
    """How often a test rejects, and the standard error of that by simulation."""

    rate: float
    se: float

    @property
    def estimate(self) -> Estimate:
        """The rate with its 95 % interval."""
        low, high = max(self.rate - Z95 * self.se, 0.0), min(self.rate + Z95 * self.se, 1.0)
        return Estimate(self.rate, (low, high), "share of simulated data sets; the interval is of the simulation")


class RepeatedTest:
    """The audit's test on many data sets of so many instances, for one null law and any truth.

    Parameters
    ----------
    null
        Law of the residual sums under calibration (temperature 1).
    instances
        Size of the data set; laws are scaled to it.
    rng
        Of the normal draws. They are made once, so that rates change smoothly with the truth.
    alpha
        Size of the test.
    given_forecasts
        The forecasts are those of the laws; otherwise each data set has new ones of the same population.
    exact
        The audit also draws outcomes from the forecasts (as it does below its budget) and rejects only if both
        null laws do.

    Raises
    ------
    UsageError
        For an alpha that so many draws cannot resolve.
    """

    def __init__(
        self,
        null: ResidualLaw,
        *,
        instances: float,
        rng: np.random.Generator,
        alpha: float = 0.05,
        given_forecasts: bool = False,
        exact: bool = True,
    ) -> None:
        size = len(null.mean)
        self.shape = _SHAPE if size <= MANY_CELLS else _SMALLER_SHAPE
        batches, draws = self.shape
        self.place = math.floor(alpha * (draws + 1))  # p = (1 + #{T_b >= T}) / (B + 1) <= alpha
        if self.place < 1:
            raise UsageError(f"alpha must be at least {1 / (draws + 1):g} for {size} residual cells, got {alpha}")
        self.null, self.exact, self.given_forecasts = null, exact, given_forecasts
        self.instances, self.factor = instances, instances / null.n
        self.null_draws, self.draws = rng.standard_normal((2, batches * draws, size))
        # Where the outcome chooses the events, sums need not be 0 on average for a calibrated model: this law knows.
        self.limit = self._limit(null, null.mean, self._spread(null)) if exact else np.full(batches, -np.inf)

    def _spread(self, law: ResidualLaw) -> FloatArray:
        return law.conditional if self.given_forecasts else law.second - np.outer(law.mean, law.mean) / law.n

    def _errors(self, law: ResidualLaw, mean: FloatArray | float, noise: FloatArray) -> FloatArray:
        """(batches, draws) binned errors of the mean and some noise."""
        found = ece(self.factor * mean + math.sqrt(self.factor) * noise, law.weights * self.factor, law.members)
        return found.reshape(self.shape)

    def _limit(
        self, law: ResidualLaw, mean: FloatArray | float, covariance: FloatArray, stretch: FloatArray | float = 1.0
    ) -> FloatArray:
        """(batches,) the error that a p-value of alpha takes."""
        noise = (self.null_draws @ factor(covariance).T) * stretch
        limit: FloatArray = np.sort(self._errors(law, mean, noise), axis=1)[:, -self.place]
        return limit

    def rejections(self, truth: ResidualLaw) -> Rejections:
        """How often calibration is rejected if outcomes come from ``truth``."""
        values = self._errors(truth, truth.mean, self.draws @ factor(self._spread(truth)).T)
        own = np.maximum(np.diag(truth.second), 0.0) * self.factor  # rounding leaves less than no variance
        sums = (own, truth.single * self.factor, truth.stated * self.factor, truth.told * self.factor)
        scale = null_scale(*sums, truth.weights * self.factor, round(self.instances))
        stretch = np.divide(scale, np.sqrt(own), out=np.ones(len(own)), where=own > 0)
        robust = self._limit(truth, 0.0, truth.second, stretch)
        rates = (values > np.maximum(self.limit, robust)[:, None]).mean(axis=1)
        rate = float(rates.mean())
        # Batches that agree by luck still stand for a binomial proportion.
        binomial = math.sqrt(max(rate * (1.0 - rate), 0.25 / values.size) / values.size)
        se = max(float(rates.std(ddof=1)) / math.sqrt(len(rates)), binomial)
        if truth.noise.any():  # means that are off move the error and its limit, at worst in opposite directions
            laws = [truth, self.null] if self.exact else [truth]
            moved = sum(math.sqrt(float(law.noise.sum())) for law in laws) * self.factor
            moved /= float((truth.weights[truth.weights > 0] * self.factor).mean()) * truth.members
            density = _NORMAL.pdf(_NORMAL.inv_cdf(min(max(rate, 0.001), 0.999)))
            se = math.hypot(se, moved / float(values.std()) * density)
        return Rejections(rate, se)


def factor(covariance: FloatArray) -> FloatArray:
    """A root of a covariance: F with F F' equal to it up to 1e-8 of the variances; 0 where a variance is 0."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    live = np.flatnonzero(sd > 0)
    out: FloatArray = np.zeros_like(covariance)
    out[np.ix_(live, live)] = root(covariance[np.ix_(live, live)] / np.outer(sd[live], sd[live])) * sd[live, None]
    return out


def crossing(
    reject: Callable[[float], tuple[Rejections, float]], start: float, limit: float, power: float
) -> tuple[float, float, float, float, float] | None:
    """Where the rejection rate crosses ``power``: place, its interval, the error there, and the error's slope.

    The probit of the rate is close to linear in the size of the effect: bracket, then interpolate until the rate is
    within its own simulation error. None where it stays below up to ``limit``.
    """
    target = _NORMAL.inv_cdf(power)
    density = _NORMAL.pdf(target)

    def probit(found: Rejections) -> float:
        return _NORMAL.inv_cdf(min(max(found.rate, 1e-4), 1 - 1e-4)) - target

    below, low_value, low_error = 0.0, _NORMAL.inv_cdf(0.05) - target, 0.0
    whole = -low_value
    above = min(start, limit)
    found, error = reject(above)
    while probit(found) < 0:
        if above >= limit:
            return None
        below, low_value, low_error = above, probit(found), error
        effect = max(low_value + whole, 0.1)  # between no effect and small ones it grows faster than linearly
        above = min(above * min(max(1.05 * (whole / effect) ** (2 / 3), 1.1), 2.0), limit)
        found, error = reject(above)
    high_value, high_error = probit(found), error
    middle = above
    for step in range(12):
        if high_value - low_value < 1e-9:
            break
        share = 0.5 if step % 3 == 2 else -low_value / (high_value - low_value)  # halving keeps both ends moving
        middle = below + (above - below) * min(max(share, 0.05), 0.95)
        found, error = reject(middle)
        value = probit(found)
        if value < 0:
            below, low_value, low_error = middle, value, error
        else:
            above, high_value, high_error = middle, value, error
        if abs(value) < max(found.se / density, 0.01):
            break
    width = max(above - below, 1e-12)
    slope = max((high_value - low_value) / width, 1e-9)
    half = Z95 * found.se / (density * slope)
    return middle, max(middle - half, 0.0), middle + half, error, (high_error - low_error) / width
