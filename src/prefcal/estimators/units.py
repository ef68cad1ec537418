"""Residual sums of each instance: what splits, permutations and arbitrary groups of instances are summed from.

A cell table adds instances up as they come and keeps memory flat. Here every instance keeps its own row of residual
sums, for questions that look at the same instances in many groupings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError
from prefcal.estimators.binned import ece_debiased
from prefcal.estimators.cells import MOMENTS, MULTIPLIER_DRAWS, CellTable, Columns
from prefcal.estimators.events import Family
from prefcal.estimators.scalar import events_by_block

#: Numbers that are kept at most (512 MiB).
UNIT_LIMIT = 1 << 26


@dataclass(frozen=True, slots=True)
class UnitSums:
    """Sums by instance (record).

    Parameters
    ----------
    moments
        (8, n, G * B) the sums named in ``MOMENTS`` of each instance's events, by member and bin.
    units
        (n,) code of the independent unit of each instance; None when each is its own.
    bins
        Equal-width bins B.
    members
        Members G whose errors are averaged.
    """

    moments: FloatArray
    units: IntArray | None
    bins: int
    members: int

    def moment(self, name: str) -> FloatArray:
        """(n, G * B) the sums that ``MOMENTS`` gives this name."""
        found: FloatArray = self.moments[MOMENTS.index(name)]
        return found

    @property
    def residuals(self) -> FloatArray:
        """(n, G * B) sums of w (y - p) by member and bin."""
        return self.moment("wy") - self.moment("wp")

    @property
    def weights(self) -> FloatArray:
        """(n, G) total weight by member."""
        out: FloatArray = self.moment("w").reshape(len(self), self.members, self.bins).sum(axis=2)
        return out

    @property
    def n_events(self) -> IntArray:
        """(n,) events of each instance."""
        out: IntArray = self.moment("n").sum(axis=1).astype(np.intp)
        return out

    def __len__(self) -> int:
        return int(self.moments.shape[1])

    def table(self, index: IntArray, rng: np.random.Generator) -> CellTable:
        """The cell table of some instances (without the parts of the Brier score and the log loss).

        ``rng`` draws the multipliers where the table holds multiplier sums.
        """
        kept = index[self.moment("n")[index].any(axis=1)]
        residuals = self.moment("wy")[kept] - self.moment("wp")[kept]
        if self.units is not None:
            residuals = sum_rows(residuals, self.units[kept])
        table = CellTable(self.bins, self.members)
        table.moments[:] = self.moments[:, kept].sum(axis=1)
        table.residual_squares = np.einsum("ug,ug->g", residuals, residuals)
        table.n_instances = len(residuals)
        if table.exact_covariance:
            table.covariance = residuals.T @ residuals
        else:
            multipliers = rng.standard_normal((MULTIPLIER_DRAWS, len(residuals)))
            table.covariance = np.column_stack([multipliers @ residuals, multipliers.sum(axis=1)])
        return table


def sum_rows(rows: FloatArray, codes: IntArray) -> FloatArray:
    """Sums of the rows of each code that occurs, in the order of the codes."""
    _, at = np.unique(codes, return_inverse=True)
    out = np.zeros((int(at.max(initial=-1)) + 1, rows.shape[1]))
    np.add.at(out, at, rows)
    return out


def debiased_error(table: CellTable, rng: np.random.Generator, *, draws: int = 400) -> tuple[float, float]:
    """The debiased ECE of a table and its standard error by normal draws (NaN for fewer than two units)."""
    scale, weights = table.scale(centred=True), table.member_weights
    squares = table.contrast_squares()
    debiased = float(ece_debiased(table.residuals, scale, weights, table.members, squares))
    if table.n_instances < 2:
        return debiased, np.nan
    around = table.residuals + table.normal_draws(draws, rng, centred=True)
    return debiased, float(ece_debiased(around, scale, weights, table.members, squares).std(ddof=1))


def unit_sums(
    h: Distribution,
    y: Outcomes,
    family: Family,
    *,
    weights: FloatArray,
    per_instance: bool,
    units: IntArray | None,
    bins: int,
) -> UnitSums:
    """Sums of one pass over forecasts and outcomes of the same records; arguments as for ``fill_tables``.

    Raises UsageError when ``UNIT_LIMIT`` numbers would not hold them.
    """
    n, size = len(y), family.n_members * bins
    if len(MOMENTS) * n * size > UNIT_LIMIT:
        raise UsageError(
            f"{n} instances x {size} residual cells are too many to keep; ask for a smaller k, fewer bins, or a "
            "sample of the instances"
        )
    moments = np.zeros((len(MOMENTS), n, size))
    for seen in events_by_block(h, y, family, weights=weights, per_instance=per_instance, bins=bins):
        at = (seen.of(np.arange(n)), seen.cell[seen.known])
        w, p, outcome = (array[seen.known] for array in (seen.weight, seen.forecast.p, seen.happened))
        for moment, values in zip(moments, Columns.of(p, outcome, w), strict=True):
            np.add.at(moment, at, 1.0 if values is None else values)
    return UnitSums(moments, units, bins, family.n_members)
