"""The cell table: one mergeable state behind every scalar notion (design section 3).

Tables of different blocks, files or machines add up. Merging is associative and commutative, has an identity (an
empty table) and refuses a table of another configuration.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import UsageError
from prefcal.estimators.events import BoolArray, Forecast, log_loss
from prefcal.estimators.noise import event_variance, null_scale, root, steady_scale

FINE = 5040  # divisible by 10, 12, 14, 15, 16, 20, 30: the usual bins are exact unions of cells
LOG_CELLS = 64  # the first and last fine cell are split on a log scale ...
LOG_FLOOR = 1e-12  # ... down to this distance from 0 and 1
N_CELLS = FINE + 2 * (LOG_CELLS - 1)
_LOG_SPAN = np.log(1.0 / FINE) - np.log(LOG_FLOOR)

# Above this many residual cells (members x bins) the covariance is kept as multiplier sums, not as a matrix.
COVARIANCE_LIMIT = 400
MULTIPLIER_DRAWS = 400
_DENSE = 1 << 22

SUMS = ("w", "wy", "wp", "brier", "log_loss")


def cell_index(p: FloatArray, log_p: FloatArray, log_q: FloatArray) -> IntArray:
    """Fine cell of each forecast, 0..N_CELLS-1, increasing in p.

    Cells have width 1/5040 (cell floor(5040 p), up to the rounding of the product); the first is split by log p, the
    last by log(1 - p).
    """
    # p = k / B must fall in the cell that starts there, also where 5040 p is rounded to just below it.
    cell = (p * FINE * (1.0 + 4e-16)).astype(np.intp)
    np.minimum(cell, FINE - 1, out=cell)
    low = cell == 0
    high = cell == FINE - 1
    cell += LOG_CELLS - 1
    if low.any():
        depth = (np.maximum(log_p[low], np.log(LOG_FLOOR)) - np.log(LOG_FLOOR)) / _LOG_SPAN
        cell[low] = np.clip((depth * LOG_CELLS).astype(np.intp), 0, LOG_CELLS - 1)
    if high.any():
        depth = (np.maximum(log_q[high], np.log(LOG_FLOOR)) - np.log(LOG_FLOOR)) / _LOG_SPAN
        cell[high] = N_CELLS - 1 - np.clip((depth * LOG_CELLS).astype(np.intp), 0, LOG_CELLS - 1)
    return cell


def cell_bins(bins: int) -> IntArray:
    """(N_CELLS,) equal-width bin that holds each fine cell; ``bins`` must divide 5040."""
    if FINE % bins:
        raise UsageError(f"bins must divide {FINE} to be unions of cells, got {bins}")
    coarse = np.clip(np.arange(N_CELLS) - (LOG_CELLS - 1), 0, FINE - 1)
    return coarse // (FINE // bins)


class Columns(NamedTuple):
    """What each event adds to the sums named in ``MOMENTS``; None stands for ones, equal columns are one array."""

    n: None
    w: FloatArray | None
    wp: FloatArray
    wy: FloatArray
    wpp: FloatArray
    wyy: FloatArray
    wwv: FloatArray
    wwe: FloatArray

    @classmethod
    def of(cls, p: FloatArray, y: FloatArray, w: FloatArray) -> Columns:
        """The columns of (k,) events: forecasts, what happened, weights."""
        whole = (y == 1.0) | (y == 0.0)
        binary, unit = bool(whole.all()), bool((w == 1.0).all())
        wp, wy = (p, y) if unit else (w * p, w * y)
        seen = (y - p) ** 2
        stated = p - p * p if binary else np.where(whole, p - p * p, seen)
        if not unit:
            stated, seen = stated * (w * w), seen * (w * w)
        return cls(None, None if unit else w, wp, wy, wp * p, wy if binary else wy * y, stated, seen)


# Sums over events: wwv of w^2 p (1 - p) (of w^2 (y - p)^2 where y is a fraction), wwe of w^2 (y - p)^2.
MOMENTS = Columns._fields


@dataclass(slots=True)
class CellTable:
    """Sums over events, by cell, by bin, and by instance.

    Parameters
    ----------
    bins
        Number of equal-width bins B of the residual sums.
    members
        Number of members G whose errors are kept apart.
    seed
        Of the multiplier sums (only used where G * B is above ``COVARIANCE_LIMIT``).
    cells
        (5, N_CELLS) n, sum w, sum w p, sum w y, sum w p^2 by fine cell (only for G = 1; else empty).
    moments
        (8, G * B) the sums named in ``MOMENTS`` by member and bin.
    covariance
        (G * B, G * B) sum over instances of r r', r = the instance's sums of w (y - p) by cell; or, above the
        limit, (draws, G * B + 1) sums of (r, 1) with independent standard normal weights, one for each instance.
    residual_squares
        (G * B,) the diagonal of the covariance, exact in both cases.
    sums, squares
        (5,) totals over instances of the quantities in ``SUMS``, and (5, 5) their second moments.
    n_instances
        Instances with at least one event.
    impossible
        Events that happened although the model gave them probability 0.
    """

    bins: int
    members: int = 1
    seed: int = 0
    cells: FloatArray = field(default_factory=lambda: np.zeros((5, 0)))
    moments: FloatArray = field(default_factory=lambda: np.zeros((len(MOMENTS), 0)))
    covariance: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    residual_squares: FloatArray = field(default_factory=lambda: np.zeros(0))
    sums: FloatArray = field(default_factory=lambda: np.zeros(5))
    squares: FloatArray = field(default_factory=lambda: np.zeros((5, 5)))
    n_instances: int = 0
    impossible: int = 0
    _open: FloatArray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= FINE:
            raise UsageError(f"bins must be between 1 and {FINE}, got {self.bins}")
        size = self.members * self.bins
        if self.moments.shape[1] == 0:
            self.moments = np.zeros((len(MOMENTS), size))
            self.residual_squares = np.zeros(size)
            self.covariance = np.zeros((size, size) if self.exact_covariance else (MULTIPLIER_DRAWS, size + 1))
            if self.members == 1:
                self.cells = np.zeros((5, N_CELLS))

    @property
    def exact_covariance(self) -> bool:
        """Whether ``covariance`` is the matrix itself rather than multiplier sums."""
        return self.members * self.bins <= COVARIANCE_LIMIT

    @property
    def config(self) -> tuple[int, int, int]:
        """What two tables must share to be merged."""
        return (self.bins, self.members, self.seed)

    def add(
        self,
        forecast: Forecast,
        y: FloatArray,
        weight: FloatArray,
        cell: IntArray,
        clusters: IntArray | None = None,
    ) -> None:
        """Add the events of a block.

        Parameters
        ----------
        forecast
            Potential events, (b, e).
        y
            (b, e) what happened, NaN = not an event.
        weight
            (b, e) weights, or (b, 1).
        cell
            (b, e) residual cell (:meth:`Family.residual_cells`).
        clusters
            (b,) codes from 0 of the cluster of each instance, where instances are not the independent units; then
            :meth:`close_clusters` must follow the last block.
        """
        known: BoolArray = ~np.isnan(y)
        everything = bool(known.all())
        used: BoolArray = np.asarray(known.any(axis=1))
        units, size = len(y), self.members * self.bins
        weight, cell = np.broadcast_to(weight, y.shape), np.broadcast_to(cell, y.shape)
        rows = np.repeat(np.arange(units), y.shape[1]).reshape(y.shape)

        def flat(array: Any) -> Any:
            return array.ravel() if everything else array[known]

        p, log_p, log_q = flat(forecast.p), flat(forecast.log_p), flat(forecast.log_q)
        y, w, rows, cell = flat(y), flat(weight), flat(rows), flat(cell)
        loss = log_loss(y, log_p, log_q)
        infinite = np.isposinf(loss)
        if infinite.any():
            self.impossible += int(infinite.sum())
            loss[infinite] = 0.0
        columns = Columns.of(p, y, w)
        residual, squared = y - p, columns.wwe
        if columns.w is not None:
            residual, squared, loss = w * residual, w * (residual * residual), w * loss

        def by(index: IntArray, values: FloatArray | None, length: int) -> FloatArray:
            return np.bincount(index, values, minlength=length).astype(np.float64, copy=False)

        def by_columns(index: IntArray, some: tuple[FloatArray | None, ...], length: int) -> list[FloatArray]:
            sums = {id(column): by(index, column, length) for column in some}  # equal columns are one array
            return [sums[id(column)] for column in some]

        self.moments += by_columns(cell, columns, size)
        if self.members == 1:
            fine = cell_index(p, log_p, log_q)
            if FINE % self.bins == 0:  # one ulp beside an edge the two products may round apart: the bin is right
                width = FINE // self.bins
                inside = np.clip(fine - (LOG_CELLS - 1), cell * width, cell * width + width - 1) + (LOG_CELLS - 1)
                middle = (fine >= LOG_CELLS) & (fine < N_CELLS - LOG_CELLS)
                fine = np.where(middle, inside, fine)
            self.cells += by_columns(fine, columns[: len(self.cells)], N_CELLS)
        totals = (w, columns.wy, columns.wp, squared, loss)
        if everything:
            per = np.stack([values.reshape(units, -1).sum(axis=1) for values in totals])
        else:
            per = np.stack([by(rows, values, units) for values in totals])
        # Slices of instances bound the dense (instances, cells) matrix when there are many members.
        step = max(1, _DENSE // size)
        for start in range(0, units, step):
            stop = min(start + step, units)
            part = slice(None) if step >= units else slice(*np.searchsorted(rows, np.array([start, stop])).tolist())
            sums = by((rows[part] - start) * size + cell[part], residual[part], (stop - start) * size)
            sums = sums.reshape(-1, size)
            if clusters is None:
                self._add_units(sums, per[:, start:stop], used[start:stop])
            else:
                self._buffer(sums, per[:, start:stop], used[start:stop], clusters[start:stop])

    def _add_units(self, sums: FloatArray, per: FloatArray, used: BoolArray) -> None:
        """Add independent units: (c, G * B) residual sums, (5, c) totals, (c,) whether they have events."""
        self.sums += per.sum(axis=1)
        self.squares += per @ per.T
        self.n_instances += int(used.sum())
        self.residual_squares += np.einsum("cg,cg->g", sums, sums)
        if self.exact_covariance:
            self.covariance += sums.T @ sums
            return
        # Seeded by content: the sums do not depend on the order of blocks, and parts merge. (Blocks that are equal
        # byte for byte share their multipliers; such data should come with clusters.)
        rng = np.random.default_rng([self.seed, zlib.crc32(sums.tobytes())])
        multipliers = rng.standard_normal((MULTIPLIER_DRAWS, int(used.sum())))
        size = self.members * self.bins
        self.covariance[:, :size] += multipliers @ sums[used]
        self.covariance[:, size] += multipliers.sum(axis=1)

    def _buffer(self, sums: FloatArray, per: FloatArray, used: BoolArray, clusters: IntArray) -> None:
        needed = int(clusters.max(initial=-1)) + 1
        if needed > len(self._open):
            grown = np.zeros((max(needed, 2 * len(self._open)), sums.shape[1] + 6))
            if len(self._open):
                grown[: len(self._open)] = self._open
            self._open = grown
        np.add.at(self._open, clusters, np.column_stack([sums, per.T, used]))

    def close_clusters(self) -> None:
        """Turn the open clusters into independent units; blocks added later start new ones."""
        if len(self._open):
            size = self.members * self.bins
            self._add_units(self._open[:, :size], self._open[:, size:-1].T, self._open[:, -1] > 0)
            self._open = np.zeros((0, 0))

    def merge(self, other: CellTable) -> CellTable:
        """The table of both; UsageError when the configurations differ."""
        if self.config != other.config:
            raise UsageError(
                f"cell tables of different configurations do not merge: {self.config} and {other.config}"
            )
        if len(self._open) or len(other._open):
            raise UsageError("close_clusters() before merging: a cluster must not be spread over tables")
        total = CellTable(*self.config)
        for name in ("cells", "moments", "covariance", "residual_squares", "sums", "squares"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        for name in ("n_instances", "impossible"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    __add__ = merge

    def moment(self, name: str) -> FloatArray:
        """(G * B,) the sums that ``MOMENTS`` gives this name."""
        found: FloatArray = self.moments[MOMENTS.index(name)]
        return found

    def total(self, name: str) -> float:
        """The total that ``SUMS`` gives this name."""
        found: float = self.sums[SUMS.index(name)]
        return found

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.moment("n").sum())

    @property
    def residuals(self) -> FloatArray:
        """(G * B,) sum of w (y - p) in each residual cell."""
        return self.moment("wy") - self.moment("wp")

    @property
    def member_weights(self) -> FloatArray:
        """(G * B,) total weight of the member that each residual cell belongs to."""
        total = self.moment("w").reshape(self.members, self.bins).sum(axis=1)
        return np.repeat(total, self.bins)

    def normal_draws(self, draws: int, rng: np.random.Generator, *, centred: bool) -> FloatArray:
        """(draws, G * B) normal vectors, mean 0: cluster-robust correlations, standard deviations :meth:`scale`.

        ``centred`` subtracts the mean residual (for intervals); without it residuals have mean 0 by hypothesis
        (the null law), and their standard deviations are those of a calibrated model. Cells without a variance of
        their own vary by themselves. Multiplier sums give at most ``MULTIPLIER_DRAWS`` vectors.
        """
        n, size = self.n_instances, self.members * self.bins
        if n < 2:
            return np.zeros((draws, size))
        scale = self.scale(centred=centred)
        sd = np.sqrt(self.variances(centred=centred) * (n - 1) / n)
        # What is left of a variance after a subtraction that only leaves rounding is no variance.
        live = np.flatnonzero(sd**2 > 1e-10 * self.residual_squares)
        alone = np.setdiff1d(np.flatnonzero(scale > 0), live)
        if self.exact_covariance:
            matrix = self.covariance - (np.outer(self.residuals, self.residuals) / n if centred else 0.0)
            factor = root(matrix[np.ix_(live, live)] / np.outer(sd[live], sd[live]))
            drawn = rng.standard_normal((draws, len(live))) @ factor.T
        else:
            sums, multipliers = self.covariance[:draws, :size], self.covariance[:draws, size:]
            drawn = (sums - multipliers * (self.residuals / n if centred else 0.0))[:, live] / sd[live]
        result: FloatArray = np.zeros((len(drawn), size))
        result[:, live] = drawn * scale[live]
        result[:, alone] = rng.standard_normal((len(drawn), len(alone))) * scale[alone]
        return result

    def variances(self, *, centred: bool) -> FloatArray:
        """(G * B,) cluster-robust variances of the residual sums."""
        n = self.n_instances
        raw = self.residual_squares
        out: FloatArray = np.maximum(raw - (self.residuals**2 / n if centred and n else 0.0), 0.0)
        return out * (n / (n - 1)) if n > 1 else out

    def scale(self, *, centred: bool) -> FloatArray:
        """(G * B,) standard deviations: :func:`steady_scale`, or without ``centred`` :func:`null_scale`."""
        _, w, wp, wy, wpp, wyy, stated, single = self.moments
        binomial = np.maximum(wp - wpp, 0.0)
        n, members = self.n_instances, self.member_weights
        if centred:
            return steady_scale(self.variances(centred=True), event_variance(binomial, w, wy, wyy), members, n)
        return null_scale(self.residual_squares, single, np.maximum(stated, 0.0), binomial, members, n)

    def contrast_squares(self) -> FloatArray:
        """(2, 2) sum over instances of t t', t = :func:`contrasts` of the instance's residual sums."""
        size = self.members * self.bins
        if self.exact_covariance:
            return contrasts(contrasts(self.covariance, self.members).T, self.members)
        moved = contrasts(self.covariance[:, :size], self.members)
        found: FloatArray = moved.T @ moved / len(moved)
        return found


def contrasts(residuals: FloatArray, members: int) -> FloatArray:
    """(..., 2) from (..., G * B) residual sums: their total, and their total weighted by place (-1 to 1).

    A model that is over- or under-confident, or biased one way, shows in these two sums of all bins.
    """
    _, place = contrast_directions(residuals.shape[-1], members)
    found: FloatArray = np.stack([residuals.sum(axis=-1), residuals @ place], axis=-1)
    return found


def contrast_directions(size: int, members: int) -> FloatArray:
    """(2, G * B) what :func:`contrasts` multiplies the ``size`` = G * B residual sums with: ones, and places."""
    bins = size // members
    found: FloatArray = np.stack([np.ones(size), np.tile((2 * np.arange(bins) + 1) / bins - 1, members)])
    return found


def merge_all(tables: list[CellTable]) -> CellTable:
    """Merge tables of one configuration."""
    return reduce(CellTable.merge, tables)
