"""Kemeny rankings of many matrices of pair counts at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import chunks

#: Largest number of items for which the Kemeny ranking is found exactly whatever the counts.
EXACT_UP_TO = 10


def borda_orders(counts: FloatArray) -> IntArray:
    """Orders (q, m), best first, by the sum over the others of the share of wins; ties by index.

    A pair that was never compared counts one half on each side, so that partial rankings are treated evenly.
    """
    both = counts + counts.transpose(0, 2, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(both > 0, counts / both, 0.5)
    complete = (both.max(axis=(1, 2)) == _off_diagonal_min(both))[:, None]
    # With equal numbers of comparisons plain wins give the same order without rounding.
    points = np.where(complete, counts.sum(axis=2), share.sum(axis=2))
    return np.argsort(-points, axis=1, kind="stable")


def kemeny_orders(counts: FloatArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Orders that disagree least with weighted pair counts.

    Where the order by number of majority wins agrees with every majority it is optimal (Condorcet). Otherwise, up to
    10 items, dynamic programming over subsets finds the optimum in O(m 2^m); beyond that the Borda order improved by
    moving single items as long as that helps, without a guarantee.

    Parameters
    ----------
    counts
        (q, m, m) >= 0; ``counts[i, a, b]`` = weight of the rankings that put a before b.

    Returns
    -------
    (q, m) orders, best first, and (q,) whether each is known to be optimal.

    References
    ----------
    J. G. Kemeny (1959), Mathematics without numbers, Daedalus 88.
    """
    q, m, _ = counts.shape
    margin = np.sign(counts - counts.transpose(0, 2, 1))
    borda = borda_orders(counts)
    standing = np.empty((q, m))
    np.put_along_axis(standing, borda, np.arange(m, dtype=np.float64)[None, :] / (2 * m), axis=1)
    orders = np.argsort(standing - margin.sum(axis=2), axis=1, kind="stable")
    optimal = order_cost(counts, orders) <= 0.5 * np.minimum(counts, counts.transpose(0, 2, 1)).sum(axis=(1, 2)) * (
        1 + 1e-12
    )
    hard = np.flatnonzero(~optimal)
    if len(hard) == 0:
        return orders, optimal
    if m <= EXACT_UP_TO:
        for part in chunks(len(hard), m << m, budget=1 << 22):
            orders[hard[part]] = _by_subsets(counts[hard[part]])
        optimal[hard] = True
    else:
        orders[hard] = _by_insertion(counts[hard], borda[hard])
    return orders, optimal


def order_cost(counts: FloatArray, orders: IntArray) -> FloatArray:
    """(q,) weighted number of pairwise disagreements of each order with its counts."""
    q = np.arange(len(counts))[:, None, None]
    sorted_counts = counts[q, orders[:, :, None], orders[:, None, :]]
    cost: FloatArray = np.tril(sorted_counts, -1).sum(axis=(1, 2))
    return cost


def _off_diagonal_min(matrices: FloatArray) -> FloatArray:
    m = matrices.shape[1]
    least: FloatArray = (matrices + np.where(np.eye(m) > 0, np.inf, 0.0)).min(axis=(1, 2))
    return least


def _by_subsets(counts: FloatArray) -> IntArray:
    """Exact orders by the best way to fill the first places with each subset."""
    q, m, _ = counts.shape
    subsets = np.arange(1 << m)
    inside = (subsets[:, None] >> np.arange(m)) & 1
    # next_cost[s, a]: a comes right after the set s, against those who prefer an item outside s to a.
    next_cost = np.einsum("sb,qba->sqa", 1.0 - inside, counts, optimize=True)
    best = np.full((1 << m, q), np.inf)
    best[0] = 0.0
    last = np.zeros((1 << m, q), dtype=np.int8)
    size = inside.sum(axis=1)
    for k in range(1, m + 1):
        layer = subsets[size == k]
        for a in range(m):
            with_a = layer[(layer >> a) & 1 == 1]
            cost = best[with_a ^ (1 << a)] + next_cost[with_a ^ (1 << a), :, a]
            better = cost < best[with_a] - 1e-12
            best[with_a] = np.where(better, cost, best[with_a])
            last[with_a] = np.where(better, a, last[with_a])
    orders = np.empty((q, m), dtype=np.intp)
    state = np.full(q, (1 << m) - 1)
    for place in range(m - 1, -1, -1):
        orders[:, place] = last[state, np.arange(q)]
        state ^= 1 << orders[:, place]
    return orders


def _by_insertion(counts: FloatArray, orders: IntArray, rounds: int = 100) -> IntArray:
    """Move single items to their best place until no move helps."""
    q, m = orders.shape
    rows = np.arange(q)
    margin = counts - counts.transpose(0, 2, 1)
    scale = 1e-12 * counts.sum(axis=(1, 2))
    for _ in range(rounds):
        moved = False
        for a in range(m):
            others = orders[orders != a].reshape(q, m - 1)
            # Gain of putting a before place j of the others, relative to the very end.
            gain = np.zeros((q, m))
            gain[:, :-1] = np.cumsum(margin[rows[:, None], a, others][:, ::-1], axis=1)[:, ::-1]
            now = np.argmax(orders == a, axis=1)
            to = np.argmax(gain, axis=1)
            to = np.where(gain[rows, to] > gain[rows, now] + scale, to, now)
            moved |= bool((to != now).any())
            place = np.arange(m - 1)[None, :] + (np.arange(m - 1)[None, :] >= to[:, None])
            orders = np.empty_like(orders)
            np.put_along_axis(orders, place, others, axis=1)
            orders[rows, to] = a
        if not moved:
            break
    return orders
