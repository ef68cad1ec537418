"""Plackett-Luce as an exponential race: one-dimensional integrals for large numbers of items.

Item a arrives at a time that is exponential with rate exp(score a); the order of arrival is Plackett-Luce. Given the
time of one arrival the others are independent, so positions and top sets are integrals over one time. In u = log
time the integrands are analytic and fall off on both sides, where the trapezoidal rule converges geometrically; the
grid follows the arrival that is integrated over, so scores may differ by any amount.
"""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import chunks
from prefcal.views import View

# The density exp(u - exp(u)) of the log of a unit exponential time leaves 4e-18 below and 1e-29 above these ends.
_LOWEST, _HIGHEST = -40.0, 4.2


def _grid(m: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights for expectations over u; the step follows the width, about 1.4 / sqrt(m), of an order
    statistic's log time.
    """
    step = min(0.125, 0.7 / math.sqrt(m))
    u = np.arange(_LOWEST, _HIGHEST, step)
    return u, step * np.exp(u - np.exp(u))


def race_cost(view: View, m: int) -> int:
    """Numbers computed for one instance by the integrals."""
    nodes = len(_grid(m)[0])
    return nodes * (m**3 // 2 if view.kind == "position" else view.k * math.comb(m, view.k))


def _log_survival(log_time: FloatArray, scores: FloatArray) -> FloatArray:
    """Log probability that an item has not arrived by a time."""
    return -np.exp(np.minimum(log_time + scores, 700.0))


def position_race(scores: FloatArray) -> FloatArray:
    """P(rank of item a = r), (m items, m ranks, n), from scores (m, n).

    The rank of a is 1 + the number of items that arrived before it: Poisson binomial given the time of a.
    """
    m, n = scores.shape
    u, weight = _grid(m)
    out = np.empty((m, m, n))
    for a in range(m):
        for rows in chunks(n, len(u) * m):
            s = scores[:, rows]
            count = np.zeros((m, len(u), s.shape[1]))
            count[0] = 1.0
            for met, b in enumerate((b for b in range(m) if b != a), start=1):
                with np.errstate(over="ignore"):
                    late = _log_survival(u[:, None], s[b] - s[a])
                arrived, absent = -np.expm1(late), np.exp(late)
                count[1 : met + 1] = count[1 : met + 1] * absent + count[:met] * arrived
                count[0] *= absent
            out[a, :, rows] = np.einsum("u,run->rn", weight, count)
    return out


def topset_race(scores: FloatArray, sets: IntArray) -> FloatArray:
    """P(the items of each set are the first k), (sets, n), from scores (m, n) and sets (sets, k).

    All of the set arrive before the first of the others, whose rate is the sum of the others' rates.
    """
    m, n = scores.shape
    k = sets.shape[1]
    u, weight = _grid(m)
    outside = np.ones((len(sets), m), dtype=bool)
    outside[np.arange(len(sets))[:, None], sets] = False
    others = np.nonzero(outside)[1].reshape(len(sets), m - k)
    out = np.zeros((len(sets), n))
    for rows in chunks(n, len(sets) * m):
        s = scores[:, rows]
        rest = s[others]
        top = rest.max(axis=1)
        with np.errstate(over="ignore"):
            log_rate = top + np.log(np.exp(rest - top[:, None]).sum(axis=1))
            gap = s[sets] - log_rate[:, None]  # (sets, k, instances)
        for node, w in zip(u, weight, strict=True):
            out[:, rows] += w * np.prod(-np.expm1(_log_survival(node, gap)), axis=1)
    return out
