"""Distributions listed ranking by ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, as_array
from prefcal.distributions.base import (
    MARGINAL_LIMIT,
    Distribution,
    as_generator,
    check_factor,
    check_orders,
    check_pairs,
    check_size,
    chunks,
    powers,
)
from prefcal.errors import DataError
from prefcal.views import View

# How far the probabilities of an instance may sum from 1: forecasts are often stored as float32.
SUM_TOLERANCE = 1e-4


class Categorical(Distribution):
    """A probability for each ranking of a list; rankings outside the list have probability 0.

    Parameters
    ----------
    orders
        (r, m) rankings, best..worst, items 0-based. A ranking that occurs twice counts with the sum of its
        probabilities.
    probs
        (n, r) probabilities; each row sums to 1 within 1e-4. They are used as given, never renormalised.

    Raises
    ------
    DataError
        For rows of ``orders`` that are not permutations, negative or missing probabilities, and rows that do not
        sum to 1 (a support cut to some rankings and not renormalised makes every marginal wrong).

    Examples
    --------
    >>> h = Categorical([[0, 1, 2], [2, 1, 0]], [[0.75, 0.25]])
    >>> h.marginal("top-1").probs.tolist()
    [[[0.75, 0.0, 0.25]]]
    """

    tempered: ClassVar[str] = "the log-probabilities of the rankings"

    def __init__(self, orders: Any, probs: Any) -> None:
        table = as_array(orders, "orders", 2)
        values = as_array(probs, "probs", 2)
        r, m = table.shape
        if r == 0 or m == 0 or len(values) == 0:
            raise DataError(f"orders {table.shape} and probs {values.shape} must not be empty")
        if values.shape[1] != r:
            raise DataError(f"probs must have one column for each of the {r} orders, got shape {values.shape}")
        bad = (np.sort(table, axis=1) != np.arange(m)).any(axis=1)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{table[at].tolist()} is not an ordering of all items 0..{m - 1} (0-based, best first); "
                "partial rankings have no place in a distribution over full rankings",
                row=f"order {at}",
                field="orders",
            )
        wrong = ~(values >= 0) | np.isinf(values)
        if wrong.any():
            row, column = (int(x) for x in np.argwhere(wrong)[0])
            raise DataError(
                f"probability {values[row, column]} of order {column} is not a number >= 0",
                row=f"instance {row}",
                field="probs",
            )
        totals = values.sum(axis=1)
        off = np.abs(totals - 1.0) > SUM_TOLERANCE
        if off.any():
            at = int(np.flatnonzero(off)[0])
            raise DataError(
                f"probabilities sum to {totals[at]:.6g}, not to 1 ({int(off.sum())} such instances): the support is "
                "truncated or not normalised; give all rankings, or renormalise if the rest is truly impossible",
                row=f"instance {at}",
                field="probs",
            )
        self.orders, self.probs = _merge(table.astype(np.intp), values)

    @classmethod
    def _wrap(cls, orders: IntArray, probs: FloatArray) -> Categorical:
        self = object.__new__(cls)
        self.orders, self.probs = orders, probs
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m`` of the universe."""
        return int(self.orders.shape[1])

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, index: Any) -> Categorical:
        return self._wrap(self.orders, np.atleast_2d(self.probs[index]))

    def scaled(self, factor: float) -> Categorical:
        """See :meth:`Distribution.scaled`: probabilities to the power ``factor``, renormalised; 0 stays 0."""
        with np.errstate(divide="ignore"):
            return self._wrap(self.orders, powers(np.log(self.probs), check_factor(factor)))

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O((n + r) m log(n + r))."""
        full = check_orders(orders, len(self), self.n_items)
        r = len(self.orders)
        _, group = np.unique(np.concatenate([self.orders, full]), axis=0, return_inverse=True)
        group = group.reshape(-1)
        column = np.full(int(group.max()) + 1, -1, dtype=np.intp)
        column[group[:r]] = np.arange(r)
        found = column[group[r:]]
        p = np.where(found >= 0, self.probs[np.arange(len(self)), np.maximum(found, 0)], 0.0)
        with np.errstate(divide="ignore"):
            return np.log(p)

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """Sums over the listed rankings, O(n r) a member; exact for every view."""
        m = self.n_items
        outcome = view.classify(self.orders)  # (r, members)
        out = np.zeros((len(self), view.n_members(m), view.n_outcomes(m)))
        for g in range(outcome.shape[1]):
            out[:, g] = _group_sums(self.probs, outcome[:, g], out.shape[2])
        return out, None

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """See :meth:`Distribution.sample`; O(log r) a draw."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        r = len(self.orders)
        out = np.empty((len(self), size, self.n_items), dtype=np.intp)
        for rows in chunks(len(self), r + size * self.n_items):
            below = np.cumsum(self.probs[rows], axis=1)
            u = rng.random((len(below), size)) * below[:, -1:]
            low, high = np.zeros(u.shape, dtype=np.intp), np.full(u.shape, r - 1)
            while (low < high).any():  # first ranking whose cumulative probability passes u
                middle = (low + high) // 2
                passed = np.take_along_axis(below, middle, axis=1) > u
                high = np.where(passed, middle, high)
                low = np.where(passed, low, np.minimum(middle + 1, high))
            out[rows] = self.orders[low]
        return out

    def mode(self) -> IntArray:
        """(n, m) the most probable ranking; among equally probable ones the first in lexicographic order."""
        lexicographic = np.lexsort(self.orders.T[::-1])
        best: IntArray = self.orders[lexicographic[self.probs[:, lexicographic].argmax(axis=1)]]
        return best

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; O(n r) a pair."""
        a, b = check_pairs(first, second, self.n_items)
        place = np.argsort(self.orders, axis=1)
        before = place[:, a] < place[:, b]
        with np.errstate(divide="ignore"):
            return np.log(self.probs @ before) - np.log(self.probs @ ~before)

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; O(n r)."""
        with np.errstate(divide="ignore"):
            return np.log(_group_sums(self.probs, self.orders[:, 0], self.n_items))


def joined_lists(parts: Sequence[Categorical]) -> Categorical | None:
    """The instances of all parts one after the other, over the rankings that any part lists.

    A part gives probability 0 to what it does not list. Rankings stand in the order of their first appearance. None
    where this table would pass ``MARGINAL_LIMIT`` numbers. All parts must have the same number of items.
    """
    orders = np.concatenate([part.orders for part in parts])
    _, first, group = np.unique(orders, axis=0, return_index=True, return_inverse=True)
    kept = np.sort(first)
    column = np.searchsorted(kept, first)[group.reshape(-1)]
    n = sum(len(part) for part in parts)
    if n * len(kept) > MARGINAL_LIMIT:
        return None
    probs = np.zeros((n, len(kept)))
    row = start = 0
    for part in parts:
        mine = column[start : start + len(part.orders)]
        probs[row : row + len(part), mine] = part.probs
        row, start = row + len(part), start + len(part.orders)
    return Categorical._wrap(orders[kept], probs)


def _group_sums(values: FloatArray, group: IntArray, n_groups: int) -> FloatArray:
    """Sums of the columns of ``values`` by group, (n, n_groups)."""
    out = np.zeros((len(values), n_groups))
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    out[:, group[order][starts]] = np.add.reduceat(values[:, order], starts, axis=1)
    return out


def _merge(orders: IntArray, probs: FloatArray) -> tuple[IntArray, FloatArray]:
    """Join rankings that occur more than once, keeping the order of first appearance."""
    unique, first, group = np.unique(orders, axis=0, return_index=True, return_inverse=True)
    if len(unique) == len(orders):
        return orders, probs
    rank = np.empty(len(unique), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(unique))
    return orders[np.sort(first)], _group_sums(probs, rank[group.reshape(-1)], len(unique))
