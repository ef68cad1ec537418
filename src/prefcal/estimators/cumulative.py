"""Cumulative calibration errors ECCE-R and ECCE-MAD (Arrieta-Ibarra, Gujral, Tannen, Tygert & Xu, JMLR 23, 2022).

The residuals w (y - p) / W are added up in the order of the forecast. ECCE-R is the range of the path (the largest
absolute error summed over any interval of forecasts), ECCE-MAD its largest distance from 0. No bins, no bandwidth.
Under calibration and independent events the path, over its standard deviation, tends to Brownian motion on [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.estimators.points import Points


@dataclass(frozen=True, slots=True)
class CumulativeError:
    """Range and largest distance from 0 of the cumulative residuals, in units of probability.

    ``scale`` is the standard deviation of the path's end under calibration, ``sqrt(sum w^2 p (1 - p)) / W``;
    ``p_range`` and ``p_mad`` are the asymptotic p-values, for *independent* events (one event a unit).
    """

    range: float
    mad: float
    scale: float
    p_range: float
    p_mad: float


def cumulative_error(points: Points) -> CumulativeError:
    """ECCE-R and ECCE-MAD with their asymptotic p-values.

    Events of equal forecast move the path together, so their order does not matter. From a cell table each error is
    smaller than the exact one by at most the largest weight share of one cell (MAD: half of it).

    Examples
    --------
    >>> found = cumulative_error(Points.of([0.2, 0.2, 0.8, 0.8], [0, 1, 0, 1]))
    >>> round(found.range, 6), round(found.mad, 6)  # +0.6 then -0.6, over 4
    (0.15, 0.15)
    """
    widest, mad = (float(x[0]) for x in path_errors(points.residuals[None]))
    variance = float((points.ww * points.p * (1.0 - points.p)).sum())
    scale = math.sqrt(variance) / points.weight
    return CumulativeError(
        widest, mad, scale, _p_value(widest, scale, range_survival), _p_value(mad, scale, max_abs_survival)
    )


def path_errors(residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(d,) range and largest absolute value of the running sums of (d, k) residuals, 0 included."""
    path = np.cumsum(residuals, axis=1)
    high, low = np.maximum(path.max(axis=1), 0.0), np.minimum(path.min(axis=1), 0.0)
    return high - low, np.maximum(high, -low)


def _p_value(value: float, scale: float, survival: Callable[[float], float]) -> float:
    if scale <= 0:  # every forecast is 0 or 1: a calibrated model makes no error at all
        return 1.0 if value == 0 else 0.0
    return survival(value / scale)


def range_survival(x: float) -> float:
    """P(range of Brownian motion on [0, 1] > x) (Feller 1951).

    Two series: ``8 sum (-1)^(k-1) k Phi(-k x)`` for large x, its Poisson dual for small x.
    """
    if x <= 0:
        return 1.0
    if x < 2.0:
        odd = (np.arange(40) + 0.5) ** 2 * math.pi**2
        return max(1.0 - float(((8.0 / x**2 + 2.0 / odd) * np.exp(-2.0 * odd / x**2)).sum()), 0.0)
    return max(8.0 * sum((-1.0) ** (k - 1) * k * _tail(k * x) for k in range(1, 12)), 0.0)


def max_abs_survival(x: float) -> float:
    """P(largest absolute value of Brownian motion on [0, 1] > x), by the reflection principle or its dual."""
    if x <= 0:
        return 1.0
    if x < 1.0:
        odd = 2 * np.arange(40) + 1
        sign = 1.0 - 2.0 * (np.arange(40) % 2)
        return max(1.0 - float(4.0 / math.pi * (sign / odd * np.exp(-((odd * math.pi / x) ** 2) / 8.0)).sum()), 0.0)
    return max(4.0 * sum((-1.0) ** k * _tail((2 * k + 1) * x) for k in range(12)), 0.0)


def _tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2.0))
