"""Mallows models of many weighted groups of rankings at once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import chunks
from prefcal.distributions.mallows import Mallows, expected_distance
from prefcal.errors import UsageError
from prefcal.rankers.base import ranks_of_orders
from prefcal.rankers.kemeny import borda_orders, kemeny_orders, order_cost

Center = Literal["kemeny", "borda"]
_ROUNDS = 50
_BISECTIONS = 64


def fit_mallows(
    ranks: FloatArray, membership: Any, *, prior: float, center: Center = "kemeny"
) -> tuple[Mallows, npt.NDArray[np.bool_]]:
    """Mallows model of each group of rankings: maximum likelihood where every ranking ranks all items.

    Ties are exact: given a bucket order the orders inside the buckets are Mallows models of their own, so its
    probability is phi ** d [t_1]! [t_2]! .. / [m]!, with d counted over pairs of different buckets and t the bucket
    sizes.

    Where rankings lack items, the centre is found as Cheng, Huehn & Huellermeier (2009) do: each partial ranking is
    replaced by its most probable completion under the current centre (missing items, one at a time, at their
    cheapest place; ties broken by the centre) until the centre stays. Their dispersion, from the same completions,
    is far too small (.5 came out as .23 with 2 of 5 items missing), so here it comes from what was observed: phi
    solves "expected = observed number of ranked pairs that contradict the centre", with the exact pairwise
    probabilities of the model. This is consistent when what is missing does not depend on the ranking, and the
    likelihood equation itself when nothing is. (Where a ranking lacks items and has ties, the expectation inside a
    bucket is that of neighbours in the centre, an approximation.)

    Parameters
    ----------
    ranks
        (u, m) dense ranks, NaN = unranked, equal = tied.
    membership
        (q, u) sparse weights >= 0.
    prior
        Weight of complete rankings drawn uniformly that are added to each group for its dispersion; with 0 a group
        of unanimous rankings has dispersion 0.
    center
        ``kemeny`` (see :func:`kemeny_orders`) or ``borda``.

    Returns
    -------
    The (q,) models, and whether each centre is known to be the Kemeny ranking of its (completed) rankings.
    """
    if center not in ("kemeny", "borda"):
        raise UsageError.unknown("center", str(center), ("kemeny", "borda"))
    weights = csr_array(membership)
    q, (u, m) = weights.shape[0], ranks.shape
    full: npt.NDArray[np.bool_] = np.asarray(~np.isnan(ranks).any(axis=1))
    counts = np.asarray(weights @ before(ranks).reshape(u, m * m)).reshape(q, m, m)
    orders, optimal = _center(counts, center)
    partial = np.flatnonzero(np.diff(weights[:, np.flatnonzero(~full)].indptr) > 0)
    for part in chunks(len(partial), max(1, weights.nnz // q) * m * m, budget=1 << 22):
        rows = partial[part]
        orders[rows], optimal[rows] = _complete(ranks, weights[rows], orders[rows], center)
    buckets = np.stack([bucket_counts(ranks, t) for t in range(2, m + 1)], axis=1)
    gaps = np.zeros((q, m - 1))
    if not full.all():
        together = (~np.isnan(ranks[:, :, None] + ranks[:, None, :]) & ~full[:, None, None]).astype(np.float64)
        pairs = np.asarray(weights @ together.reshape(u, m * m)).reshape(q, m, m)
        by_place = pairs[np.arange(q)[:, None, None], orders[:, :, None], orders[:, None, :]]
        gaps = np.stack([np.trace(by_place, offset=g, axis1=1, axis2=2) for g in range(1, m)], axis=1)
    phi = solve_dispersion(
        order_cost(counts, orders) + prior * m * (m - 1) / 4.0,
        np.asarray(weights @ full.astype(np.float64)) + prior,
        gaps,
        np.asarray(weights @ buckets),
    )
    return Mallows(ranks_of_orders(orders), phi), optimal


def _center(counts: FloatArray, center: Center) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    if center == "kemeny":
        return kemeny_orders(counts)
    orders = borda_orders(counts)
    bound = 0.5 * np.minimum(counts, counts.transpose(0, 2, 1)).sum(axis=(1, 2))
    return orders, order_cost(counts, orders) <= bound * (1 + 1e-12)


def _complete(
    ranks: FloatArray, weights: Any, orders: IntArray, center: Center
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Alternate between the most probable completions and the centre; the total distance never grows."""
    q, m = orders.shape
    members = ranks[weights.indices]
    group = np.repeat(np.arange(q), np.diff(weights.indptr))
    add = csr_array((weights.data, np.arange(weights.nnz), weights.indptr), shape=(q, weights.nnz))
    missing = np.isnan(members).any(axis=1)
    optimal = np.zeros(q, dtype=bool)
    for _ in range(_ROUNDS):
        filled = members.copy()
        filled[missing] = most_probable_completion(members[missing], ranks_of_orders(orders)[group[missing]])
        counts = (add @ before(filled).reshape(-1, m * m)).reshape(q, m, m)
        new, optimal = _center(counts, center)
        same = order_cost(counts, new) >= order_cost(counts, orders)
        orders = np.where(same[:, None], orders, new)
        if same.all():
            break
    return orders, optimal


def before(ranks: FloatArray) -> FloatArray:
    """(u, m, m) 1 where item a is ranked before item b, 0 where it is not or that is unknown."""
    return (ranks[:, :, None] < ranks[:, None, :]).astype(np.float64)


def bucket_counts(ranks: FloatArray, size: int) -> FloatArray:
    """(u,) number of buckets of ``size`` items in each ranking."""
    together = (ranks[:, :, None] == ranks[:, None, :]).sum(axis=2)
    count: FloatArray = (together == size).sum(axis=1) / size
    return count


def most_probable_completion(ranks: FloatArray, center: IntArray) -> FloatArray:
    """The complete ranking nearest to a centre (Kendall) among those that agree with a partial one.

    Parameters
    ----------
    ranks
        (r, m) dense ranks, NaN = unranked, equal = tied.
    center
        (r, m) ranks of the centre.

    Returns
    -------
    (r, m) ranks 1..m. Missing items are inserted one at a time where they cost least, which is optimal (checked
    against enumeration); O(r m^2).

    Examples
    --------
    >>> most_probable_completion(np.array([[2.0, 1.0, np.nan]]), np.array([[1, 2, 3]])).tolist()
    [[2.0, 1.0, 3.0]]
    """
    r, m = ranks.shape
    rows = np.arange(r)
    by_center = np.argsort(center, axis=1)
    key = np.where(np.isnan(ranks), np.inf, ranks)
    placed = np.take_along_axis(key, by_center, axis=1)
    order = np.take_along_axis(by_center, np.argsort(placed, axis=1, kind="stable"), axis=1)
    length = (~np.isnan(ranks)).sum(axis=1)
    for a in range(m):
        todo = np.flatnonzero(np.isnan(ranks[:, a]))
        if len(todo) == 0:
            continue
        listed = np.where(np.arange(m) < length[todo, None], order[todo], -1)
        place = np.where(listed >= 0, center[todo[:, None], np.maximum(listed, 0)], 0)
        own = center[todo, a][:, None]
        # Inserting before place j costs the listed items before j that the centre has after a, and vice versa.
        wrong_before = np.cumsum((listed >= 0) & (place > own), axis=1)
        wrong_after = ((listed >= 0) & (place < own))[:, ::-1].cumsum(axis=1)[:, ::-1]
        cost = np.zeros((len(todo), m + 1), dtype=np.intp)
        cost[:, 1:] += wrong_before
        cost[:, :-1] += wrong_after
        cost[np.arange(m + 1) > length[todo, None]] = m * m
        at = np.argmin(cost, axis=1)
        shifted = np.where(np.arange(m) < at[:, None], order[todo], np.roll(order[todo], 1, axis=1))
        shifted[np.arange(len(todo)), at] = a
        order[todo] = shifted
        length[todo] += 1
    out = np.empty((r, m))
    out[rows[:, None], order] = np.arange(1, m + 1)
    return out


def solve_dispersion(distance: FloatArray, weight: FloatArray, gaps: FloatArray, buckets: FloatArray) -> FloatArray:
    """Dispersions phi at which the expected distance to the centre is the observed one.

    Parameters
    ----------
    distance
        (q,) weighted number of pairs of different buckets that contradict the centre.
    weight
        (q,) weight of the rankings of all m items.
    gaps
        (q, m - 1) weighted number of pairs that the other rankings rank, by how far apart they are in the centre.
    buckets
        (q, m - 1) weighted number of tied buckets of 2, .., m items: pairs inside them are not in ``distance``.

    Returns
    -------
    (q,) phi in [0, 1]: the root of weight E_m(phi) + sum over gaps of P_phi(contradicted) - sum over buckets of
    E_t(phi) = distance; 0 for distance 0, 1 where the distance is that of uniform rankings or more.
    """
    m = gaps.shape[1] + 1
    sizes = [t for t in range(2, m + 1) if buckets[:, t - 2].any()]
    behind = np.arange(1, m)

    def excess(phi: FloatArray) -> FloatArray:
        total: FloatArray = weight * expected_distance(phi, m) - distance
        for t in sizes:
            total -= buckets[:, t - 2] * expected_distance(phi, t)
        if gaps.any():
            odds = Mallows(np.arange(1, m + 1), phi).pair_log_odds(np.zeros_like(behind), behind)
            total += (gaps * np.exp(-np.logaddexp(0.0, odds))).sum(axis=1)
        return total

    low, high = np.zeros(len(distance)), np.ones(len(distance))
    uniform = excess(high) <= 1e-12 * (weight + gaps.sum(axis=1))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = excess(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(uniform, 1.0, np.where(distance <= 0, 0.0, 0.5 * (low + high)))
