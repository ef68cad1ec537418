"""Binned errors beside the equal-width L1 error of ``binned.py``: equal-mass bins; L1, L2 and largest gap.

With the residual sum R_b and the weight W_b of bin b, and W the total: L1 is ``sum |R_b| / W``, L2 the square root of
``sum (W_b / W) (R_b / W_b)^2``, the maximum calibration error the largest ``|R_b| / W_b``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import UsageError
from prefcal.estimators.points import Points, sums_by


@dataclass(frozen=True, slots=True)
class BinErrors:
    """Errors of one binning; ``bins`` (k,) bin of each point, empty bins do not count."""

    l1: float
    l2: float
    largest: float
    bins: IntArray


def equal_mass_bins(p_weight: FloatArray, bins: int) -> IntArray:
    """(k,) bin of each of k sorted points: bin floor(B m), m = (weight below + half the point's own) / W.

    Points are not split, so ties stay together; without ties, and with n a multiple of B, each bin has n / B events.
    A point that holds more than 1 / B of the weight leaves bins empty.

    Examples
    --------
    >>> equal_mass_bins(np.ones(6), 3).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")
    middle = (np.cumsum(p_weight) - 0.5 * p_weight) / p_weight.sum()
    index: IntArray = np.minimum((middle * bins).astype(np.intp), bins - 1)
    return index


def equal_width_bins(p: FloatArray, bins: int) -> IntArray:
    """(k,) bin floor(p B), p = 1 in the last."""
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")
    index: IntArray = np.minimum((p * bins).astype(np.intp), bins - 1)
    return index


def bin_errors(points: Points, bins: int, *, width: str = "mass") -> BinErrors:
    """L1, L2 and largest error over ``bins`` bins of equal ``"mass"`` (weight) or equal ``"width"``.

    From a cell table equal-width errors are exact where ``bins`` divides 5040 (but for forecasts within one rounding
    of an edge). With equal mass each of the B - 1 edges may move inside the cell that holds it: L1 by at most twice
    the weight share of those cells; L2 and the largest gap by what
    :func:`~prefcal.estimators.discretisation.cell_bounds` says, since they divide by the weight of a bin.
    """
    if width not in ("mass", "width"):
        raise UsageError.unknown("width", width, ("mass", "width"))
    index = equal_mass_bins(points.w, bins) if width == "mass" else equal_width_bins(points.p, bins)
    sums = sums_by(index, points.residuals, bins)[None]
    share = sums_by(index, points.w, bins) / points.weight
    return BinErrors(float(l1(sums)[0]), float(l2(sums, share)[0]), float(largest(sums, share)[0]), index)


def l1(sums: FloatArray) -> FloatArray:
    """(d,) L1 errors of (d, B) residual sums over the total weight."""
    result: FloatArray = np.abs(sums).sum(axis=1)
    return result


def l2(sums: FloatArray, share: FloatArray) -> FloatArray:
    """(d,) L2 errors of (d, B) residual sums over the total weight; ``share`` (B,) weight shares of the bins."""
    live = share > 0
    result: FloatArray = np.sqrt((sums[:, live] ** 2 / share[live]).sum(axis=1))
    return result


def largest(sums: FloatArray, share: FloatArray) -> FloatArray:
    """(d,) largest absolute gaps of a bin; arguments as for :func:`l2`."""
    live = share > 0
    result: FloatArray = (np.abs(sums[:, live]) / share[live]).max(axis=1)
    return result


def l2_squared_debiased(sums: FloatArray, variances: FloatArray, share: FloatArray) -> float:
    """Unbiased estimate of the squared L2 error: each squared gap less the variance of the gap.

    ``variances`` (B,) are those of the residual sums over the total weight, cluster-robust and so right whatever the
    dependence inside a unit. (For independent events Kumar, Liang & Ma 2019 take ``ybar (1 - ybar) / (n - 1)``, the
    variance given the forecasts.) May be negative.
    """
    live = share > 0
    return float(((sums[live] ** 2 - variances[live]) / share[live]).sum())
