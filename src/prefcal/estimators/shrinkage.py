"""Partial pooling: estimates of many groups drawn towards their mean, as far as their noise warrants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray
from prefcal.errors import UsageError
from prefcal.result import Interval

_GRID = 400
_LEAST = 1e-6  # a standard error that is 0 in the sample is not 0


@dataclass(frozen=True, slots=True)
class Pooled:
    """Posterior of the true values of k groups.

    Parameters
    ----------
    mean, mean_interval
        Of the groups' true values in general.
    spread, spread_interval
        Standard deviation of the true values among groups: posterior median and 95 % interval.
    shrunken
        (k,) posterior means: each estimate drawn towards the mean.
    intervals
        (k, 2) 95 % posterior intervals.
    draws
        (draws, k) joint posterior draws, for any other question (which is largest?).
    """

    mean: float
    mean_interval: Interval
    spread: float
    spread_interval: Interval
    shrunken: FloatArray
    intervals: FloatArray
    draws: FloatArray

    @property
    def largest(self) -> FloatArray:
        """(k,) posterior probability of each group to have the largest true value."""
        counted = np.bincount(self.draws.argmax(axis=1), minlength=self.draws.shape[1])
        return np.asarray(counted / len(self.draws), dtype=np.float64)


def pool(
    estimates: npt.ArrayLike,
    errors: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = 4000,
    largest_spread: float = 0.5,
) -> Pooled:
    """Partial pooling of independent estimates with known standard errors.

    The normal hierarchical model: estimate ~ N(truth, error^2), truth ~ N(mean, spread^2), a flat prior on the mean
    and a uniform one on the spread from 0 to ``largest_spread`` (no distribution on [0, 1] has a larger standard
    deviation than 1/2). The spread is integrated out on a grid, so that the intervals carry its uncertainty; a
    plug-in (Paule-Mandel, DerSimonian-Laird, REML) is often 0 when groups differ little, and its intervals too
    short. Source: Rubin 1981; Gelman et al., Bayesian Data Analysis (3rd ed.), section 5.4; for the prior Gelman
    2006. Posterior means are exact to the grid, intervals by ``draws``.

    Parameters
    ----------
    estimates, errors
        (k,) finite numbers, k >= 1, and their standard errors (not negative).
    rng
        Of the posterior draws.

    Raises
    ------
    UsageError
        For anything else.

    Examples
    --------
    >>> found = pool([0.02, 0.03, 0.02, 0.16], [0.02, 0.02, 0.02, 0.06], rng=np.random.default_rng(0))
    >>> found.shrunken.round(3).tolist(), found.largest.round(1).tolist()
    ([0.024, 0.031, 0.024, 0.079], [0.1, 0.1, 0.1, 0.7])
    """
    d, s = np.asarray(estimates, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if d.ndim != 1 or d.shape != s.shape or not len(d) or not np.isfinite(d).all() or not np.isfinite(s).all():
        raise UsageError(
            f"pooling needs finite estimates and standard errors of one length, got {d.shape}, {s.shape}"
        )
    if (s < 0).any() or not largest_spread > 0 or draws < 2:
        raise UsageError("standard errors must not be negative, largest_spread and draws must be positive")
    variance = np.maximum(s, _LEAST) ** 2
    u = (np.arange(_GRID) + 0.5) / _GRID
    spread = largest_spread * u**2  # finer near 0; prior mass of a step is proportional to u
    total = variance + spread[:, None] ** 2  # (grid, k)
    precision = (1 / total).sum(axis=1)
    centre = (d / total).sum(axis=1) / precision
    log_posterior = np.log(u) - 0.5 * (
        np.log(total).sum(axis=1) + np.log(precision) + ((d - centre[:, None]) ** 2 / total).sum(axis=1)
    )
    mass = np.exp(log_posterior - log_posterior.max())
    mass /= mass.sum()
    keep = variance / total  # how much of the way to the mean
    shrunken = (mass[:, None] * (d + keep * (centre[:, None] - d))).sum(axis=0)
    at = rng.choice(_GRID, draws, p=mass)
    mean = centre[at] + rng.standard_normal(draws) / np.sqrt(precision[at])
    truth = d + keep[at] * (mean[:, None] - d)
    truth += np.sqrt((1 - keep[at]) * variance) * rng.standard_normal((draws, len(d)))
    return Pooled(
        mean=float((mass * centre).sum()),
        mean_interval=_interval(mean),
        spread=float(np.median(spread[at])),
        spread_interval=_interval(spread[at]),
        shrunken=shrunken,
        intervals=np.quantile(truth, [0.025, 0.975], axis=0).T,
        draws=truth,
    )


def _interval(draws: FloatArray) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return (float(low), float(high))
