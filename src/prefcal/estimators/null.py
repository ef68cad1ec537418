"""Null laws: how large a calibration error a calibrated model of this size would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block
from prefcal.estimators.binned import ece
from prefcal.estimators.cells import MULTIPLIER_DRAWS, CellTable

# Exact Monte Carlo redraws outcomes while events x draws stay under this budget (about two seconds).
MONTE_CARLO_BUDGET = 60_000_000
_CHUNK = 1 << 21


@dataclass(frozen=True, slots=True)
class NullLaw:
    """Distribution of a statistic under calibration.

    ``p_value`` = (1 + #{T_b >= T}) / (B + 1); with a stopping rule see :func:`compare`. ``draws`` is how many were
    used for it, ``rule`` says when they ended.
    """

    mean: float
    p_value: float
    draws: int
    rule: str = "fixed number of draws"


def at_least(value: float, simulated: FloatArray) -> npt.NDArray[np.bool_]:
    """Which draws are at least as large as ``value``: equal up to rounding counts (sums in another order)."""
    reached: npt.NDArray[np.bool_] = simulated >= value - 1e-12 * max(abs(value), 1.0)
    return reached


def compare(value: float, simulated: FloatArray, *, stop_after: int | None = None) -> NullLaw:
    """Monte-Carlo p-value of ``value`` among equally distributed draws (never 0; valid at any size).

    With ``stop_after`` = h the draws are read in order and end with the h-th that is at least as large as ``value``;
    if that is draw l, p = h / l (Besag & Clifford 1991, Biometrika 78). Else all draws count and p is as without the
    rule. The rule is valid whatever p is, and then ends after about h / p draws: for h = 20, a relative standard
    error of at most 22 %. The mean is over all draws that are given.

    Examples
    --------
    >>> simulated = np.array([0.1, 0.3, 0.2, 0.4, 0.1, 0.1])
    >>> compare(0.25, simulated).p_value, compare(0.25, simulated, stop_after=1).p_value
    (0.42857142857142855, 0.5)
    """
    reached = at_least(value, simulated)
    mean, count, draws = float(simulated.mean()), int(reached.sum()), len(simulated)
    if stop_after is None:
        return NullLaw(mean, (1 + count) / (draws + 1), draws)
    rule = f"ends when {stop_after} draws are at least as large (Besag-Clifford)"
    if count < stop_after:
        return NullLaw(mean, (1 + count) / (draws + 1), draws, rule)
    last = int(np.flatnonzero(reached)[stop_after - 1]) + 1
    return NullLaw(mean, stop_after / last, last, rule)


#: How :func:`normal_null` is named in settings.
NORMAL_NULL = "normal residual sums, stated variances widened by the dependence inside instances"


def normal_null(table: CellTable, rng: np.random.Generator, draws: int = 999) -> FloatArray:
    """ECE of normal residual sums with mean 0, cluster-robust correlations and a calibrated model's scale, (draws,).

    Valid for large samples whatever the dependence inside an instance: it needs the notion itself to hold, not
    full calibration.
    """
    if not table.exact_covariance:
        draws = min(draws, MULTIPLIER_DRAWS)
    return ece(table.normal_draws(draws, rng, centred=False), table.member_weights, table.members)


class OutcomeSimulator:
    """Draws outcomes from the forecast itself, seen through the same observation as the real ones.

    A real outcome is a bucket order of some items; a simulated one is a full ranking drawn from h whose ranked
    items are put into buckets of the same sizes (so "only the best is known" stays just that).
    """

    def __init__(self, block: Block, ranks: FloatArray) -> None:
        self.dist = block.dist
        m = ranks.shape[1]
        self.missing = np.isnan(ranks)
        ordered = np.sort(ranks, axis=1)
        self.bucket = np.where(np.isnan(ordered), np.nan, ordered)  # bucket of the j-th ranked item
        strict = (ordered[:, 1:] > ordered[:, :-1]) | np.isnan(ordered[:, 1:])
        self.strict = bool(strict.all())
        self.best_only = (
            not self.missing.any() and m > 1 and bool((ordered[:, 1:] == 2).all() and (ordered[:, 0] == 1).all())
        )

    def draw(self, size: int, rng: np.random.Generator) -> FloatArray:
        """(size, b, m) simulated ranks (any increasing scale), NaN where the real outcome has none."""
        keys = self.dist.sample_keys(size, rng)
        if self.missing.any():
            keys = np.where(self.missing, np.nan, keys)
        if self.strict:
            return keys
        if self.best_only:
            return np.where(keys == keys.min(axis=-1, keepdims=True), 1.0, 2.0)
        place = np.argsort(np.argsort(keys, axis=-1), axis=-1)  # NaN last
        ranks: FloatArray = np.take_along_axis(np.broadcast_to(self.bucket, keys.shape), place, axis=-1)
        return ranks


def sums_by_cell(values: FloatArray, cells: list[tuple[IntArray, int]]) -> list[FloatArray]:
    """Sum values of simulated outcomes of one block by cell.

    Parameters
    ----------
    values
        (d, b, e) in each of d draws.
    cells
        Several (cell, size): (b, e) cell indices below ``size``.

    Returns
    -------
    One (d, size) array for each entry of ``cells``.
    """
    d, shape = len(values), values.shape[1:]
    flat = values.reshape(d, -1)
    out = []
    for cell, size in cells:
        index = np.broadcast_to(cell, shape).ravel()
        if index.size * size <= _CHUNK:  # a matrix product beats counting
            chooser = np.zeros((index.size, size))
            chooser[np.arange(index.size), index] = 1.0
            out.append(flat @ chooser)
        else:
            spread = (index + np.arange(d)[:, None] * size).ravel()
            counted = np.bincount(spread, flat.ravel(), minlength=d * size).astype(np.float64)
            out.append(counted.reshape(d, size))
    return out
