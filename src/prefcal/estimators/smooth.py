"""Smooth calibration error (Blasiok & Nakkiran, *Smooth ECE*, ICLR 2024, arXiv 2309.12236).

The residuals w (y - p), placed at p, are smoothed by a Gaussian kernel reflected at 0 and 1; ``smECE_sigma`` is the
integral of the absolute value of what results, and the smooth ECE is the bandwidth that equals its own error,
``sigma = smECE_sigma`` (``smECE_sigma`` falls in sigma, so there is one).

The reflected Gaussian kernel is the heat kernel of [0, 1]: cosines are its eigenfunctions, so smoothing multiplies
the k-th cosine coefficient by ``exp(-(sigma pi k)^2 / 2)``, all reflections included. Residuals are shared linearly
between the two nearest nodes of a grid; on ``GRID`` intervals this widens the kernel's variance by at most
``1 / (4 GRID^2)``. The integral is a trapezoid sum over the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import UsageError
from prefcal.estimators.cells import FINE
from prefcal.estimators.points import Points

RealArray = npt.NDArray[np.floating[Any]]

GRID = FINE
#: Smallest bandwidth: below it the error is reported at this bandwidth.
FLOOR = 1e-3
_STEPS = 12


@dataclass(frozen=True, slots=True)
class SmoothError:
    """``value`` of the smooth ECE and the ``bandwidth`` it belongs to (the same number above ``FLOOR``)."""

    value: float
    bandwidth: float


def smooth_ece(points: Points) -> SmoothError:
    """Smooth ECE at the bandwidth that equals it.

    From a cell table it differs by at most ``0.8 m / (5040 sigma)``, m the mean size ``|y - p|`` of the *events'*
    residuals (those of cells are smaller), as moving a residual by d changes its smoothed density by at most
    ``0.8 d / sigma`` in L1; sigma is the bandwidth. Cost: a dozen transforms of 5,041
    nodes, whatever the number of points.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, 2000)
    >>> y = rng.random(2000) < p**1.2
    >>> round(smooth_ece(Points.of(p, y)).value, 3)
    0.064
    """
    cosine = cosines(points.p, points.residuals[None], GRID)
    value, bandwidth = fixed_point(cosine, _STEPS)
    return SmoothError(float(value[0]), float(bandwidth[0]))


def smooth_ece_at(points: Points, bandwidth: float) -> float:
    """``smECE_sigma``: the smooth calibration error at a given bandwidth, at least ``FLOOR``."""
    if not bandwidth >= FLOOR:
        raise UsageError(f"bandwidth must be at least {FLOOR}, got {bandwidth}")
    return float(error_at(cosines(points.p, points.residuals[None], GRID), np.array([bandwidth]))[0])


def nodes(p: FloatArray, grid: int) -> tuple[IntArray, FloatArray]:
    """(k,) node to the left of each forecast, and the share of a residual that goes to the node at its right."""
    place = p * grid
    left = np.minimum(place.astype(np.intp), grid - 1)
    return left, place - left


def cosines(p: FloatArray, residuals: FloatArray, grid: int) -> FloatArray:
    """(d, grid + 1) cosine coefficients ``sum_i r_i cos(pi k p_i)`` of d residual vectors (d, k)."""
    from scipy.sparse import coo_array

    left, share = nodes(p, grid)
    k = len(p)
    where = (np.concatenate([left, left + 1]), np.tile(np.arange(k), 2))
    spread = coo_array((np.concatenate([1.0 - share, share]), where), shape=(grid + 1, k)).tocsr()
    return _transform((spread @ residuals.T).T)


def _transform(at_nodes: FloatArray) -> FloatArray:
    from scipy.fft import dct

    at_nodes = np.array(at_nodes)
    at_nodes[:, 1:-1] *= 0.5  # scipy's type 1 counts inner nodes twice
    result: FloatArray = dct(at_nodes, type=1, axis=1)
    return result


def error_at(cosine: RealArray, bandwidth: FloatArray) -> FloatArray:
    """(d,) ``smECE_sigma`` of d residual vectors, each at its own bandwidth; in single precision if they are."""
    from scipy.fft import dct

    grid = cosine.shape[1] - 1
    # exp(-(sigma pi k)^2 / 2) is below 1e-17 beyond this k for every row.
    last = min(grid, int(9.0 / (np.pi * bandwidth.min())) + 1)
    damped = np.zeros_like(cosine)
    exponent = (-0.5 * (np.pi * np.arange(last + 1)) ** 2).astype(cosine.dtype)
    np.exp(bandwidth[:, None].astype(cosine.dtype) ** 2 * exponent, out=damped[:, : last + 1])
    damped[:, : last + 1] *= cosine[:, : last + 1]
    smoothed = dct(damped, type=1, axis=1, overwrite_x=True)
    np.abs(smoothed, out=smoothed)
    result: FloatArray = (smoothed.sum(axis=1) - 0.5 * (smoothed[:, 0] + smoothed[:, -1])) / grid
    return result.astype(np.float64)


def fixed_point(cosine: RealArray, steps: int, start: float = 0.03) -> tuple[FloatArray, FloatArray]:
    """(d,) values and bandwidths where ``smECE_sigma = sigma``, by secant steps in logarithms kept in a bracket.

    Under calibration ``smECE_sigma`` falls like ``sigma^-1/2``, far from it hardly at all: log against log it is
    nearly straight, so four steps from about the right ``start`` give three digits and twelve from anywhere nearly
    all. The value is never below the mean residual's size, the error at infinite bandwidth.
    """
    low = np.log(np.clip(np.abs(cosine[:, 0]), FLOOR, 1.0))
    high = np.zeros(len(cosine))  # smECE is at most 1
    u = np.maximum(np.log(np.clip(start, FLOOR, 1.0)), low)
    slope = np.full(len(cosine), -1.25)
    before = before_gap = np.zeros(0)
    value = np.zeros(len(cosine))
    for step in range(steps):
        value = error_at(cosine, np.exp(u))
        gap = np.log(np.maximum(value, 1e-300)) - u  # decreasing in u
        low, high = np.where(gap > 0, u, low), np.where(gap < 0, u, high)
        if step:
            moved = u - before
            with np.errstate(divide="ignore", invalid="ignore"):
                secant = (gap - before_gap) / moved
            slope = np.where(np.abs(moved) > 1e-9, np.clip(secant, -3.0, -1.0), slope)
        before, before_gap = u, gap
        if step < steps - 1:
            u = np.clip(u - gap / slope, low, high)
            if np.all(np.abs(u - before) < 1e-12):
                break
    return value, np.exp(before)
