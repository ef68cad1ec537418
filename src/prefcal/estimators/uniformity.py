"""Tests that numbers are uniform on [0, 1], and bands for their counts."""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray


def kolmogorov_smirnov(u: FloatArray) -> tuple[float, float, float]:
    """Largest distance of the empirical distribution of ``u`` (n,) from uniform: statistic, null mean, p-value.

    The p-value is that of scipy (exact, or the Pelz-Good expansion for large n); the null mean that of the limiting
    law with the correction of Stephens (1970).
    """
    from scipy.stats import kstwo

    n = len(u)
    ordered = np.sort(u)
    steps = np.arange(1, n + 1) / n
    distance = float(max((steps - ordered).max(), (ordered - steps + 1 / n).max()))
    root = math.sqrt(n)
    mean = math.sqrt(math.pi / 2) * math.log(2) / (root + 0.12 + 0.11 / root)
    return distance, mean, float(kstwo.sf(distance, n))


def anderson_darling(u: FloatArray) -> tuple[float, float, float]:
    """Anderson-Darling statistic of ``u`` (n,) against uniform, its null mean (1), and p-value.

    It weighs the ends, where over- and under-confidence show. The p-value follows Marsaglia and Marsaglia (2004); its
    error is below 1e-5 where it matters, and values under 1e-6 say no more than "tiny".
    """
    n = len(u)
    ordered = np.clip(np.sort(u), 1e-300, 1 - 2.0**-53)
    weight = 2 * np.arange(1, n + 1) - 1
    statistic = float(-n - (weight * (np.log(ordered) + np.log1p(-ordered[::-1]))).sum() / n)
    limit = _limit(statistic)
    return statistic, 1.0, float(min(max(1.0 - limit - _correction(n, limit), 0.0), 1.0))


def _limit(z: float) -> float:
    """Limiting distribution function of the Anderson-Darling statistic."""
    if z <= 0:
        return 0.0
    if z < 2:
        poly = np.polyval([-0.00168691, 0.0116720, -0.0347962, 0.0649821, -0.247105, 0.0], z)
        return float(math.exp(-1.2337141 / z) / math.sqrt(z) * (2.00012 - poly))
    poly = np.polyval([-0.0003146, 0.008056, -0.082433, 0.43424, -2.30695, 1.0776], z)
    return math.exp(-math.exp(min(float(poly), 700.0))) if z < 60 else 1.0


def _correction(n: int, x: float) -> float:
    """What finite n adds to :func:`_limit`."""
    if x > 0.8:
        return float(np.polyval([255.7844, -1116.360, 1950.646, -1705.091, 745.2337, -130.2137], x)) / n
    c = 0.01265 + 0.1757 / n
    if x < c:
        t = x / c
        return math.sqrt(t) * (1 - t) * (49 * t - 102) * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n
    t = (x - c) / (0.8 - c)
    poly = float(np.polyval([1.91864, -8.259, 14.458, -14.6538, 6.54034, -0.00022633], t))
    return poly * (0.04213 + 0.01365 / n) / n


def binomial_band(n: int, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shares between which a count of ``n`` with probability ``p`` falls in 95 % of repetitions, point by point."""
    from scipy.stats import binom

    low, high = (np.asarray(binom.ppf(q, n, p), dtype=np.float64) / n for q in (0.025, 0.975))
    return np.asarray(low), np.asarray(high)


def one_per_cluster(usable: IntArray, clusters: IntArray | None, seed: int) -> IntArray:
    """Of the usable instances (indices) one at random in each cluster: instances that may be taken as independent."""
    if clusters is None:
        return usable
    shuffled = np.random.default_rng([seed, 7]).permutation(usable)
    _, at = np.unique(clusters[shuffled], return_index=True)
    return np.sort(shuffled[at])


def holm(p_values: FloatArray) -> FloatArray:
    """Adjusted p-values (Holm 1979); NaN stays and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    out = np.full(p.shape, np.nan)
    at = np.flatnonzero(~np.isnan(p))
    order = at[np.argsort(p[at], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return out
