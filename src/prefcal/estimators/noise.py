"""How much residual sums vary: by themselves, and where the model is calibrated.

A cell that few instances fell into shows a variance that is mostly luck, and where outcomes are rare even one of many
instances does. Both kinds of standard deviation here lean on what the forecasts state, as far as the outcomes of a
cell do not tell.
"""

from __future__ import annotations

import numpy as np

from prefcal.data.ragged import FloatArray

# Trust in what is stated beside what a cell shows, in events of probability 1/2. In simulations with ten labelled
# members and 50 or 200 instances (benchmarks/validity), intervals covered more than with 2 or 5; 40 gave the same.
PRIOR_EVENTS = 15


def event_variance(binomial: FloatArray, weight: FloatArray, happened: FloatArray, squares: FloatArray) -> FloatArray:
    """(cells,) sums over events of the variance of y: as stated, or as seen where that is more.

    Parameters
    ----------
    binomial
        Sums of w p (1 - p).
    weight, happened, squares
        Sums of w, w y and w y^2. Where a model is sure and often wrong, p (1 - p) says nothing of how much y varies.
    """
    mean = np.divide(happened**2, weight, out=np.zeros(len(weight)), where=weight > 0)
    found: FloatArray = np.maximum(np.maximum(binomial, squares - mean), 0.0)
    return found


def _told(variance: FloatArray, member_weights: FloatArray, n: int) -> FloatArray:
    """(cells,) what each cell tells of its variance, in events of probability 1/2; weights count by their ratios."""
    share = np.divide(variance, member_weights, out=np.zeros(len(variance)), where=member_weights > 0)
    return 4.0 * n * share


def steady_scale(variances: FloatArray, single: FloatArray, member_weights: FloatArray, n: int) -> FloatArray:
    """(cells,) standard deviations of residual sums, steady also where a cell tells little.

    Cluster-robust variances are shrunk towards the variances of the events, scaled to the same total over all cells.

    Parameters
    ----------
    variances
        (G * B,) cluster-robust variances of the cells.
    single
        (G * B,) sums of the variances of the events, by :func:`event_variance`.
    member_weights
        (G * B,) weight of the member that each cell belongs to.
    n
        Number of instances.
    """
    total = float(single.sum())
    if total <= 0:
        return np.sqrt(variances)
    told = _told(single, member_weights, n)
    prior = single * (float(variances.sum()) / total)
    result: FloatArray = np.sqrt((told * variances + PRIOR_EVENTS * prior) / (told + PRIOR_EVENTS))
    return result


def null_scale(
    squares: FloatArray, single: FloatArray, stated: FloatArray, told: FloatArray, member_weights: FloatArray, n: int
) -> FloatArray:
    """(cells,) standard deviations of the residual sums of a model that is calibrated.

    The variance that the forecasts state for each event, times how much the dependence inside instances widens it.
    (Observed squares alone hold the gaps of a model that is not calibrated, and hide them.)

    Parameters
    ----------
    squares
        (G * B,) sums over instances of the squares of their residual sums.
    single
        (G * B,) sums of w^2 (y - p)^2 over events: equal to ``squares`` where instances have one event a cell.
    stated
        (G * B,) sums of w^2 p (1 - p).
    told
        (G * B,) sums of w p (1 - p).
    member_weights, n
        As for :func:`steady_scale`.
    """
    total = float(single.sum())
    if total <= 0:
        return np.sqrt(stated)
    overall = float(squares.sum()) / total
    own = np.divide(squares, single, out=np.full(len(single), overall), where=single > 0)
    seen = _told(told, member_weights, n)
    result: FloatArray = np.sqrt(stated * (seen * own + PRIOR_EVENTS * overall) / (seen + PRIOR_EVENTS))
    return result


def root(correlation: FloatArray) -> FloatArray:
    """A Cholesky factor; sums may be collinear (a member's probabilities add up to 1), so the diagonal is raised."""
    for jitter in (1e-8, 1e-6, 1e-4):
        try:
            return np.asarray(np.linalg.cholesky(correlation + jitter * np.eye(len(correlation))), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
    values, vectors = np.linalg.eigh(correlation)
    factor: FloatArray = vectors * np.sqrt(np.maximum(values, 0.0))
    return factor
