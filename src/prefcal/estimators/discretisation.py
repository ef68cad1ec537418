"""How far estimates from a cell table may be from those of the events themselves.

A table knows of the events in a cell how many there are, their weight, their mean forecast and outcome; which outcome
belongs to which forecast is lost. Every bound here holds for all data that leave the same table, and comes from the
table alone. What sums over events (the score itself, its uncertainty part, errors of equal-width bins whose number
divides 5040) is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import UsageError
from prefcal.estimators.binnings import bin_errors, equal_mass_bins
from prefcal.estimators.cells import FINE, CellTable
from prefcal.estimators.points import Points, sums_by
from prefcal.estimators.smooth import smooth_ece

_ROUNDING = 1e-12  # of cumulated weight shares


def cell_bounds(table: CellTable) -> dict[str, float]:
    """Largest possible difference between each estimate from the table and the one from the events in memory.

    With T the largest weight share of a cell (of those with two events or more: one event alone is known exactly):

    - ``ecce``: the largest T |y - p| that is possible in a cell, ``ecce_mad``: half of it. The path of the residuals
      is known at the cells' edges; in between it is at most half a cell away from the nearer one.
    - ``mcb_brier``, ``dsc_brier``: T / 3; ``mcb_log``, ``dsc_log``: T nats, with no condition on the forecasts. Both
      scores are mixtures of the elementary scores of thresholds theta (Ehm, Gneiting, Jordan & Krueger 2016), all of
      which the isotonic fit minimises. A threshold inside a cell becomes one at its edge, which costs at most
      theta (1 - theta) T; the integrals of that over the weights 2 and 1 / (theta (1 - theta)) are 1 / 3 and 1. The
      table's values are the smaller ones.
    - ``smece``: 0.8 m / (5040 sigma), see :func:`~prefcal.estimators.smooth.smooth_ece`; the table knows the mean
      size m of a residual to 1 / 5040.
    - ``ece_mass``, ``ece_l2``, ``mce``: a cell that holds an edge between bins of equal mass is cut there in memory
      and stays whole in the table. Where its events fall is not known, so each bin's residual sum and weight are only
      known up to the parts of its cut cells; the bound takes the worst. For ``ece_mass`` it is at most twice the
      weight share of the cut cells, of which there are at most B - 1. No such simple bound exists for ``ece_l2`` and
      ``mce``: they divide by the weight of a bin, and nothing is known of a bin made of parts of one heavy cell.

    Raises UsageError for a table of several members, which keeps no fine cells.

    Examples
    --------
    >>> import prefcal as pc
    >>> from prefcal.estimators.events import Pairs
    >>> from prefcal.estimators.scalar import fill_tables
    >>> rng = np.random.default_rng(0)
    >>> h = pc.PlackettLuce(rng.normal(size=(5000, 2)))
    >>> y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    >>> (tables,) = fill_tables(h, y, [Pairs(False)], bins=15, groupings=(), weights=np.ones(5000),
    ...                         per_instance=False, clusters=None, seed=0)
    >>> {name: round(bound, 4) for name, bound in cell_bounds(tables.overall).items() if name[0] == "e"}
    {'ecce': 0.0013, 'ecce_mad': 0.0006, 'ece_mass': 0.0067, 'ece_l2': 0.0108}
    """
    points = Points.of_table(table)
    cells = _Cells.of(table)
    heaviest = float(cells.share[cells.several].max(initial=0.0))
    path = float((cells.share * cells.size)[cells.several].max(initial=0.0))
    size = float((cells.share * (points.y * (1.0 - points.p) + (1.0 - points.y) * points.p)).sum()) + 1.0 / FINE
    smooth = smooth_ece(points)
    out = {
        "smece": 0.8 * size / (FINE * smooth.bandwidth), "ecce": path, "ecce_mad": path / 2.0,
        "mcb_brier": heaviest / 3.0, "dsc_brier": heaviest / 3.0, "mcb_log": heaviest, "dsc_log": heaviest,
    }  # fmt: skip
    found = bin_errors(points, table.bins)
    for name, value, (low, high) in zip(
        ("ece_mass", "ece_l2", "mce"), (found.l1, found.l2, found.largest), cells.equal_mass(table.bins), strict=True
    ):
        out[name] = max(value - low, high - value, 0.0)
    return out


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells with weight, by forecast: shares of the weight, mean residuals times shares, and what may be inside.

    ``size`` (k,) is the largest possible size of a residual y - p in the cell, ``several`` whether it has two events.
    """

    weight: FloatArray
    share: FloatArray
    residual: FloatArray
    size: FloatArray
    several: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def of(cls, table: CellTable) -> _Cells:
        n, w, wp, wy = table.cells[:4]
        at = np.flatnonzero(w > 0)
        mean = wp[at] / w[at]
        size = np.minimum(np.maximum(mean, 1.0 - mean) + 1.0 / FINE, 1.0)
        total = w.sum()
        return cls(w[at], w[at] / total, (wy - wp)[at] / total, size, np.asarray(n[at] > 1))

    def equal_mass(self, bins: int) -> list[tuple[float, float]]:
        """Ranges of the L1, L2 and largest error of ``bins`` bins of equal mass, whatever is inside the cells."""
        if bins < 1:
            raise UsageError(f"bins must be at least 1, got {bins}")
        end = np.cumsum(self.share)
        first = np.floor(bins * (end - self.share + _ROUNDING)).astype(np.intp)
        last = np.minimum(np.ceil(bins * (end - _ROUNDING)).astype(np.intp) - 1, bins - 1)
        cut = self.several & (last > first)
        whole: IntArray = equal_mass_bins(self.weight, bins)[~cut]
        residual, share = (sums_by(whole, values[~cut], bins) for values in (self.residual, self.share))
        # Weight, and size of the residual sum, that parts of cut cells may bring into each bin.
        weight, spread = np.zeros((2, bins))
        for c in np.flatnonzero(cut):
            weight[first[c] : last[c] + 1] += self.share[c]
            spread[first[c] : last[c] + 1] += self.share[c] * self.size[c]
        size = np.abs(residual)
        lost, most = np.maximum(size - spread, 0.0), size + spread
        moved = float((self.share * self.size)[cut].sum())
        sum_low = max(float(lost.sum()), float(size.sum()) - moved)
        own, gap_low, gap_high = (
            _ratio(a, b) for a, b in ((size, share), (lost, share + weight), (most, share + weight))
        )
        # Both are convex in how much of the cut cells comes in: the ends are the worst.
        square_high = np.maximum(own * size, gap_high * most)
        return [
            (sum_low, float(size.sum()) + moved),
            (math.sqrt(float((gap_low * lost).sum())), math.sqrt(float(square_high.sum()))),
            (float(gap_low.max()), min(float(np.maximum(own, gap_high).max()), 1.0)),
        ]


def _ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)
