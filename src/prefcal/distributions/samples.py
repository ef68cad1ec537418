"""Distributions known through draws only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, as_array
from prefcal.distributions.base import (
    Distribution,
    as_generator,
    check_orders,
    check_pairs,
    check_size,
    chunks,
    frequencies,
)
from prefcal.errors import DataError
from prefcal.views import View


class Samples(Distribution):
    """The empirical distribution of rankings that were drawn from a model.

    Marginals are relative frequencies and carry their standard errors sqrt(p (1 - p) / s). Log probabilities and
    log odds are those of the empirical distribution: infinite for what was never drawn.

    Parameters
    ----------
    orders
        (n, s, m) s rankings for each instance, best..worst, items 0-based.

    Raises
    ------
    DataError
        For draws that are not orderings of all items.

    Examples
    --------
    >>> h = Samples([[[0, 1, 2], [0, 2, 1], [0, 1, 2], [1, 0, 2]]])
    >>> h.marginal("top-1").probs.tolist()
    [[[0.75, 0.25, 0.0]]]
    >>> h.mode().tolist()
    [[0, 1, 2]]
    """

    def __init__(self, orders: Any) -> None:
        array = as_array(orders, "orders", 3)
        m = array.shape[2]
        if array.size == 0:
            raise DataError(f"orders must hold instances, draws and items, got shape {array.shape}")
        bad = (np.sort(array, axis=2) != np.arange(m)).any(axis=2)
        if bad.any():
            i, draw = (int(x) for x in np.argwhere(bad)[0])
            raise DataError(
                f"draw {draw}, {array[i, draw].tolist()}, is not an ordering of all items 0..{m - 1} (0-based)",
                row=f"instance {i}",
                field="orders",
            )
        self.orders: IntArray = array.astype(np.intp)

    @classmethod
    def _wrap(cls, orders: IntArray) -> Samples:
        self = object.__new__(cls)
        self.orders = orders
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return int(self.orders.shape[2])

    @property
    def n_draws(self) -> int:
        """Number of draws ``s`` of each instance."""
        return int(self.orders.shape[1])

    def __len__(self) -> int:
        return len(self.orders)

    def __getitem__(self, index: Any) -> Samples:
        part = self.orders[index]
        return self._wrap(part if part.ndim == 3 else part[None])

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """Log relative frequency of one full ordering for each instance, -inf if never drawn; O(s m)."""
        full = check_orders(orders, len(self), self.n_items)
        share = (self.orders == full[:, None]).all(axis=2).mean(axis=1)
        with np.errstate(divide="ignore"):
            result: FloatArray = np.log(share)
        return result

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """Relative frequencies, O(s k) a member."""
        m = self.n_items
        members, outcomes = view.n_members(m), view.n_outcomes(m)
        probs = np.empty((len(self), members, outcomes))
        for rows in chunks(len(self), self.n_draws * members * max(view.k, 1)):
            probs[rows] = frequencies(view.classify(self.orders[rows]), outcomes)
        return probs, np.sqrt(probs * (1.0 - probs) / self.n_draws)

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw from the draws, with replacement."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        chosen = rng.integers(self.n_draws, size=(len(self), size))
        return np.take_along_axis(self.orders, chosen[:, :, None], axis=1)

    def mode(self) -> IntArray:
        """(n, m) the ranking drawn most often; of equally frequent ones the first in lexicographic order."""
        n, s, m = self.orders.shape
        flat = self.orders.reshape(-1, m)
        instance = np.repeat(np.arange(n), s)
        order = np.lexsort((*flat.T[::-1], instance))
        flat, instance = flat[order], instance[order]
        new = np.diff(instance, prepend=-1) > 0
        new[1:] |= (flat[1:] != flat[:-1]).any(axis=1)
        starts = np.flatnonzero(new)
        count = np.diff(np.append(starts, n * s))
        best = np.lexsort((starts, -count, instance[starts]))  # most frequent first within each instance
        owner = instance[starts][best]
        lead = np.diff(owner, prepend=-1) > 0
        mode: IntArray = flat[starts[best[lead]]]
        return mode

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; of the relative frequencies, O(s) a pair."""
        a, b = check_pairs(first, second, self.n_items)
        out = np.empty((len(self), len(a)))
        for rows in chunks(len(self), self.n_draws * max(len(a), self.n_items)):
            place = np.argsort(self.orders[rows], axis=2)
            before = (place[:, :, a] < place[:, :, b]).sum(axis=1)
            with np.errstate(divide="ignore"):
                out[rows] = np.log(before) - np.log(self.n_draws - before)
        return out

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; of the relative frequencies."""
        with np.errstate(divide="ignore"):
            return np.log(frequencies(self.orders[:, :, :1], self.n_items)[:, 0])
