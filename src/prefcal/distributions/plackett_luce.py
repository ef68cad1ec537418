"""The Plackett-Luce model, for dense and ragged lists of items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray, Ragged, as_ragged
from prefcal.distributions.base import (
    Block,
    as_generator,
    check_factor,
    check_orders,
    check_pairs,
    check_size,
    chunks,
)
from prefcal.distributions.race import position_race, race_cost, topset_race
from prefcal.distributions.stagewise import StageWise, prefix_probs, remaining
from prefcal.errors import DataError, UsageError
from prefcal.views import View, combination_index

# Beyond this size a score plus noise loses digits of the noise, so draws compare the rounding errors as well.
_EXACT_SUM_ABOVE = 1e6

_LARGEST = float(np.finfo(np.float64).max)

# One number of the recursion over subsets (gathered) takes as long as about eight of the integrals (streamed).
_RECURSION_WEIGHT = 8


class PlackettLuce(StageWise):
    """Plackett-Luce: the next item is chosen with probability proportional to exp(score) among those left.

    The distribution behind Bradley-Terry reward models (pairs) and softmax over candidates (best of n).

    Parameters
    ----------
    scores
        Log-utilities, one row an instance: (n, m) numbers, where NaN means that the instance has no such item, or
        rows of unequal length (items then carry no labels). Any finite size; all sums are taken in log space.

    Attributes
    ----------
    scores
        :class:`~prefcal.data.ragged.Ragged` log-utilities.

    Raises
    ------
    DataError
        For infinite scores and instances without items.

    Notes
    -----
    Cost of :meth:`marginal` for one instance, in numbers computed: ``sub-k`` C(m,k) k! (a subset is Plackett-Luce
    on its own scores); ``top-k`` m!/(m-k)!; ``position`` m 2^(m-1) up to 12 items (recursion over subsets), then
    about 180 m^3; ``topset-k`` sum over t < k of C(m,t) (m-t), or about 360 k C(m,k) where that is faster. The second
    ways are one-dimensional integrals over the time of an exponential race, with errors below 1e-12.

    References
    ----------
    R. L. Plackett (1975), The analysis of permutations. R. D. Luce (1959), Individual choice behavior.

    Examples
    --------
    >>> h = PlackettLuce([[0.0, 0.0, 0.0], [1.0, 0.0, float("nan")]])
    >>> h.marginal("sub-2").probs[0].tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    >>> h.mode().tolist()
    [[0, 1, 2], [0, 1, -1]]
    """

    tempered: ClassVar[str] = "the scores"

    def __init__(self, scores: Any) -> None:
        ragged = as_ragged(scores, "scores", drop_nan=True)
        if len(ragged) == 0:
            raise DataError("scores is empty: it must hold at least one instance")
        bad = ~np.isfinite(ragged.values)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            row = int(np.searchsorted(ragged.offsets, at, side="right")) - 1
            raise DataError(
                f"score {ragged.values[at]} is not a finite number", row=f"instance {row}", field="scores"
            )
        empty = ragged.sizes == 0
        if empty.any():
            raise DataError("there is no item", row=f"instance {int(np.flatnonzero(empty)[0])}", field="scores")
        self.scores = ragged

    @classmethod
    def _wrap(cls, scores: Ragged) -> PlackettLuce:
        self = object.__new__(cls)
        self.scores = scores
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m`` of the universe; of the longest instance when items carry no labels."""
        return self.scores.n_columns

    @property
    def has_labels(self) -> bool:
        """Whether item j is the same item in every instance; False for lists of unequal length."""
        return self.scores.is_dense or self.scores.columns is not None

    @property
    def sizes(self) -> IntArray:
        """(n,) number of items of each instance."""
        return self.scores.sizes

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> PlackettLuce:
        return self._wrap(self.scores.take(index))

    def scaled(self, factor: float) -> PlackettLuce:
        """The model with all scores multiplied by ``factor`` >= 0: 1 / temperature.

        Scores that would leave the range of floats are put near its end, in their order: two that differ there
        differ by over 1e280 nats, and the better one comes first for certain.
        """
        factor = check_factor(factor)
        with np.errstate(over="ignore"):
            values = self.scores.values * factor
        if not np.isfinite(values).all():
            values = self._saturated(values)
        return self._wrap(self.scores.with_values(values))

    def _saturated(self, values: FloatArray) -> FloatArray:
        """Finite numbers in the order of the scores: beyond half the largest float they are spread evenly."""
        far = np.flatnonzero(np.abs(values) > 0.5 * _LARGEST)
        sizes, place = np.unique(np.abs(self.scores.values[far]), return_inverse=True)
        out = values.copy()
        out[far] = np.sign(values[far]) * (0.5 * _LARGEST) * (1.0 + (place + 1) / len(sizes))
        return out

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """See :meth:`Distribution.blocks`; parts without gaps, by number of items."""
        for rows, size in self.scores.blocks(elements):
            dense = Ragged.from_dense(self.scores.block(rows, size), drop_nan=False)
            yield Block(rows, self._wrap(dense), self.scores.block_columns(rows, size))

    def _dense(self) -> FloatArray:
        """(m, n) scores of a model without gaps: instances last."""
        return np.ascontiguousarray(self.scores.dense().T)

    def _log_stages(self, depth: int) -> list[FloatArray]:
        return log_choice_probs(self._dense(), depth)

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(m) an instance."""
        m = self.n_items
        full = check_orders(orders, len(self), m, self.sizes)
        out = np.empty(len(self))
        for rows, size in self.scores.blocks():
            columns, order = self.scores.block_columns(rows, size), full[rows][:, :size]
            if columns is None and size < m and (order >= size).any():
                columns = np.broadcast_to(np.arange(size), order.shape)
            if columns is not None:
                order = self._local(order, columns, rows)
            s = np.take_along_axis(self.scores.block(rows, size), order, axis=1).T
            # From the last place up: log sum exp of the scores so far is top + excess. Only differences of scores
            # are added to small numbers, so that large scores lose no digits.
            top, excess, total = s[-1], np.zeros(s.shape[1]), np.zeros(s.shape[1])
            with np.errstate(over="ignore"):
                for own in s[-2::-1]:
                    new_top = np.maximum(top, own)
                    excess = np.logaddexp(own - new_top, top - new_top + excess)
                    total += own - new_top - excess
                    top = new_top
            out[rows] = total
        return out

    def _local(self, order: IntArray, columns: IntArray, rows: slice | IntArray) -> IntArray:
        """Replace items by their places in ``columns``, which lists the instance's items in ascending order."""
        if (np.sort(order, axis=1) != columns).any():
            at = int(np.flatnonzero((np.sort(order, axis=1) != columns).any(axis=1))[0])
            row = int(np.arange(len(self))[rows][at])
            raise UsageError(
                f"orders row {row} = {order[at].tolist()} is not an ordering of the items {columns[at].tolist()}"
            )
        return np.argsort(np.argsort(order, axis=1), axis=1)

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m, k = self.n_items, view.k
        if self.scores.is_dense:
            return self._dense_probs(view), None
        if m == 2 and view.kind == "full":  # sub-2 of two items, which those with one item lack
            view, k = View("sub", 2), 2
        if view.kind not in ("sub", "position"):
            at = int(np.flatnonzero(self.sizes < m)[0])
            raise UsageError(
                f"marginal {view.name}: instance {at} has {self.sizes[at]} of {m} items and no outcome about all "
                "items; use blocks(), which yields parts without gaps, or views sub-k and position"
            )
        out = np.full((len(self), view.n_members(m), view.n_outcomes(m)), np.nan)
        for block in self.blocks():
            part, size = block.dist, block.dist.n_items
            if not isinstance(part, PlackettLuce) or (view.kind == "sub" and size < k):
                continue
            instance = np.arange(len(self))[block.rows][:, None]
            columns = np.arange(size)[None] if block.columns is None else block.columns
            probs = part._dense_probs(view)
            if view.kind == "sub":
                out[instance, combination_index(columns[:, View("sub", k).members(size)], m)] = probs
            else:
                out[instance, columns, :size] = probs
                out[instance, columns, size:] = 0.0
        return out, None

    def _dense_probs(self, view: View) -> FloatArray:
        m, k = self.n_items, view.k
        members, outcomes = view.n_members(m), view.n_outcomes(m)
        if m == 1 or (view.kind == "sub" and k == 1):
            return np.ones((len(self), members, outcomes))
        scores = self._dense()
        if view.kind == "sub":
            out = np.empty((len(self), members, outcomes))
            subsets = np.ascontiguousarray(view.members(m).T) if k < m else np.arange(m)[:, None]
            for rows in chunks(len(self), members * (outcomes + k)):
                s = scores[:, rows][subsets]  # (k, members, instances)
                probs = prefix_probs(log_choice_probs(s.reshape(k, -1), k - 1), k, k)
                out[rows] = probs.reshape(outcomes, members, -1).transpose(2, 1, 0)
            return out
        if view.kind in ("position", "topset") and race_cost(view, m) < _RECURSION_WEIGHT * self._cost(view):
            if view.kind == "position":
                return np.moveaxis(position_race(scores), -1, 0)
            return topset_race(scores, view.outcomes(m)[0]).T[:, None, :]
        return super()._probs(view, None, 1)[0]

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw by adding Gumbel noise to the scores and sorting (Yellott 1977); O(m log m) a draw."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        out = np.full((len(self), size, self.n_items), -1, dtype=np.intp)
        exact = np.abs(self.scores.values).max(initial=0.0) > _EXACT_SUM_ABOVE
        for rows, m in self.scores.blocks(max(1, (1 << 22) // size)):
            s = self.scores.block(rows, m)[:, None, :]
            noise = rng.gumbel(size=(len(s), size, m))
            key = s + noise
            if exact:
                back = key - s
                error = (s - (key - back)) + (noise - back)
                order = np.lexsort((-error, -key), axis=-1)
            else:
                order = np.argsort(-key, axis=-1, kind="stable")
            columns = self.scores.block_columns(rows, m)
            out[rows, :, :m] = order if columns is None else np.take_along_axis(columns[:, None, :], order, axis=2)
        return out

    def sample_keys(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Arrival times of the exponential race on a log scale: no sort is needed to compare items."""
        scores = self.scores.dense()
        if np.abs(scores).max(initial=0.0) > 1e9:  # rounding would eat the noise of equal scores
            return super().sample_keys(size, rng)
        noise = rng.standard_exponential((size, *scores.shape))
        keys: FloatArray = np.log(noise, out=noise) - (scores - scores.max(axis=1, keepdims=True))
        return keys

    def mode(self) -> IntArray:
        """(n, m) items by descending score; equal scores in the order of their index."""
        out = np.full((len(self), self.n_items), -1, dtype=np.intp)
        for rows, m in self.scores.blocks():
            order = np.argsort(-self.scores.block(rows, m), axis=1, kind="stable")
            columns = self.scores.block_columns(rows, m)
            out[rows, :m] = order if columns is None else np.take_along_axis(columns, order, axis=1)
        return out

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; the difference of the scores."""
        a, b = check_pairs(first, second, self.n_items)
        dense = self.scores.dense()
        with np.errstate(over="ignore"):
            return dense[:, a] - dense[:, b]

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; the log softmax of the scores, O(m) an instance."""
        out = np.full((len(self), self.n_items), -np.inf)
        for rows, size in self.scores.blocks():
            s = self.scores.block(rows, size)
            with np.errstate(over="ignore"):
                shifted = s - s.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            columns = self.scores.block_columns(rows, size)
            if columns is None:
                out[rows, :size] = log_p
            else:
                out[np.arange(len(self))[rows][:, None], columns] = log_p
        return out


def log_choice_probs(scores: FloatArray, depth: int) -> list[FloatArray]:
    """Log choice probabilities of stages 0 .. depth-1 (see ``stagewise``) from scores (m, n)."""
    m = len(scores)
    stages = []
    for t in range(depth):
        s = scores[remaining(m, t)]  # (sets, m - t, n)
        with np.errstate(over="ignore"):
            s = s - s.max(axis=1, keepdims=True)
        s -= np.log(np.exp(s).sum(axis=1, keepdims=True))
        stages.append(s)
    return stages
