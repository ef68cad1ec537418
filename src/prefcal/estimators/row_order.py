"""An order of the records that follows from what is in them, not from where they stand."""

from __future__ import annotations

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.samples import Samples
from prefcal.estimators.inputs import aligned_ranks

_DIGITS = 9  # what is equal up to the order of summation must be equal
_LEAST = -750.0  # the logarithm of what double precision calls 0


def by_content(h: Distribution, y: Outcomes, clusters: IntArray | None = None, *, places: bool = False) -> IntArray:
    """(n,) places of the records, ordered by what they hold: forecast, outcome, and the records of their cluster.

    A test that draws random numbers draws them in this order. It then gives the same result when rows are permuted,
    and is as valid as before: whatever the data are, the numbers are independent of them. Records with the same
    content may change places, which changes nothing.

    The content of a record is two random projections (with fixed coefficients) of its items' probabilities to be the
    best (of pairwise probabilities, of the mean probability to win) and of their observed ranks. With ``places`` it
    matters which item has which; without, items are read in the order of their ranks, so that records whose items
    change names together are the same. Cost: O(n m), and a sort.
    """
    n, m = len(y), h.n_items
    weight = np.random.default_rng(0).random((2, m)) + 0.5
    content = np.zeros((n, 2))
    for block in h.blocks():
        ranks = np.nan_to_num(aligned_ranks(y, block), nan=block.dist.n_items + 1.0)
        own = _strengths(block.dist)
        if places and block.columns is not None:
            a, b = weight[:, block.columns]
        else:
            a, b = weight[:, : own.shape[1]]
        if not places:
            own, ranks = _by_rank(own, ranks)
        content[block.rows, 0] = (own * a).sum(axis=1)
        content[block.rows, 1] = (ranks * b).sum(axis=1)
        if isinstance(block.dist, Samples):  # many have the same few shares of draws that put an item first
            content[block.rows, 0] += np.sin(block.dist.orders @ b).sum(axis=1)
    content = content.round(_DIGITS)
    keys = [content[:, 1], content[:, 0]]
    if clusters is not None:
        mixed = np.sin(content[:, 0]) + np.cos(content[:, 1])
        keys.insert(0, np.bincount(clusters, mixed).astype(np.float64)[clusters].round(_DIGITS))
    return np.lexsort(keys)


def _by_rank(own: FloatArray, ranks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both in the order of the ranks, equal ranks in the order of ``own``."""
    order = np.argsort(own, axis=1, kind="stable")
    later = np.argsort(np.take_along_axis(ranks, order, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(order, later, axis=1)
    return np.take_along_axis(own, order, axis=1), np.take_along_axis(ranks, order, axis=1)


def _strengths(dist: Distribution) -> FloatArray:
    """(b, m) a number for each item that follows its forecast, whatever the items are called."""
    if dist.has_best:
        return np.maximum(dist.top_log_probs(), _LEAST)
    m = dist.n_items
    first, second = np.triu_indices(m, 1)
    odds = dist.pair_log_odds(first, second)
    stated = ~np.isnan(odds)
    tilt = np.where(stated, np.tanh(np.where(stated, odds, 0.0) / 2), 0.0)
    out = np.zeros((len(dist), m))
    for item in range(m):
        out[:, item] = tilt[:, first == item].sum(axis=1) - tilt[:, second == item].sum(axis=1)
    return out
