"""Kernel calibration error for notions whose forecast is a vector (canonical and full givens).

The squared kernel calibration error (SKCE; Widmann, Lindsten & Zachariah 2019) of a member is
E[k(u, u') r . r'] over two independent instances, with u what is conditioned on and r = one-hot outcome - forecast.
For the Gaussian kernel k it is 0 exactly when the notion holds. With random Fourier features phi and
S = sum_i phi(u_i) r_i' the unbiased U-statistic (|S|^2 - sum_i |phi_i r_i'|^2) / (n (n - 1)) is linear in n.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.events import Items, classify_ranks
from prefcal.estimators.null import NullLaw, compare
from prefcal.estimators.scalar import aligned_ranks
from prefcal.notions.notion import Notion
from prefcal.result import Interval
from prefcal.views import View, permutation_index

VECTOR_LIMIT = 5040  # numbers in the outcome vectors of one instance
_STATE = 1 << 17  # numbers in the state S
_WORK = 3e10  # multiply-adds of all null draws
_DRAWS = (199, 499)
_BLOCK = 1 << 12


@dataclass(frozen=True, slots=True)
class KernelError:
    """Kernel estimate of a vector notion, its null law and interval, and how it was made."""

    value: float
    null: NullLaw
    interval: Interval
    n_events: int
    n_instances: int
    used: IntArray
    frequencies: int
    bandwidth: float
    given: str


def kernel_error(
    h: Distribution, y: Outcomes, notion: Notion, items: Items, *, clusters: IntArray | None, seed: int
) -> KernelError:
    """Unbiased squared kernel calibration error of a vector notion, averaged over members.

    Exchangeable items are relabelled by the model's own order, and the subsets of sub-k are pooled. The null law
    flips the residuals of each instance (or cluster) by random signs: it needs the notion itself, whatever the
    dependence inside an instance, and enough instances. The interval is a jackknife one, clipped at 0.

    Cost: the state holds at most 2^17 numbers and the null draws take at most 3e10 multiply-adds; the numbers of
    features and draws follow from that and are reported.

    Raises
    ------
    UsageError
        When an instance's outcome vectors hold more than ``VECTOR_LIMIT`` numbers, instances differ in their number
        of items, or the model states probabilities of pairs only.
    """
    view, m = _checked(h, notion)
    pooled = items == "exchangeable"
    members = 1 if pooled else view.n_members(m)
    width = view.n_outcomes(m)
    rng = np.random.default_rng([seed, 1])
    state = min(_STATE, _WORK / (len(y) * _DRAWS[0]))
    frequencies = int(np.clip(state / (2 * members * width), 8, 128))
    draws = int(np.clip(_WORK / (len(y) * 2 * frequencies * members * width), *_DRAWS))
    features, bandwidth, given = _features(h, notion, view, pooled, frequencies, rng)

    shape = (members, 2 * frequencies, width)
    null = np.zeros((draws, math.prod(shape)))
    total = np.zeros(math.prod(shape))
    used = np.zeros(len(y), dtype=np.intp)
    n_events = 0
    units: list[FloatArray] = []
    for rows, block in _whole_clusters(h, clusters):
        vector, outcome, condition = _block_forecast(block, y, notion, view, pooled)
        known = outcome >= 0
        n_events += int(known.sum())
        used[rows] = known.any(axis=1)
        phi = features(condition) * known[..., None]
        residual = (outcome[..., None] == np.arange(width)) - vector
        if pooled:
            each = np.einsum("bgf,bgw->bfw", phi, residual).reshape(len(rows), -1)
        else:
            each = np.einsum("bgf,bgw->bgfw", phi, residual).reshape(len(rows), -1)
        if clusters is not None:
            each = np.add.reduceat(each, np.flatnonzero(np.diff(clusters[rows], prepend=-1)), axis=0)
        total += each.sum(axis=0)
        signs = np.random.default_rng([seed, zlib.crc32(each.tobytes())]).integers(0, 2, (draws, len(each)))
        null += (2.0 * signs - 1.0) @ each
        units.append(each)
    return _finish(total, null, units, used, members, n_events, frequencies, bandwidth, given)


def _finish(
    total: FloatArray, null: FloatArray, units: list[FloatArray], used: IntArray, members: int, n_events: int,
    frequencies: int, bandwidth: float, given: str,
) -> KernelError:  # fmt: skip
    own = np.concatenate([(u**2).sum(axis=1) for u in units])
    with_total = np.concatenate([u @ total for u in units])
    n = int((own > 0).sum())
    if n < 2:
        raise UsageError("a kernel estimate needs at least two instances with a known outcome")
    scale = members * n * (n - 1)
    value = float((total @ total - own.sum()) / scale)
    simulated = ((null**2).sum(axis=1) - own.sum()) / scale
    # First-order projection of the U-statistic, for its standard error away from 0.
    projection = (with_total - own)[own > 0] / (members * (n - 1))
    se = 2 * float(projection.std(ddof=1)) / math.sqrt(n)
    se = max(se, float(simulated.std(ddof=1)))  # the degenerate part, which rules near 0
    interval = (max(value - Z95 * se, 0.0), max(value + Z95 * se, 0.0))
    return KernelError(value, compare(value, simulated), interval, n_events, n, used, frequencies, bandwidth, given)


def _checked(h: Distribution, notion: Notion) -> tuple[View, int]:
    if not h.has_rankings:
        raise UsageError(f"{notion.name}: pairwise probabilities state nothing beyond pairs; ask for sub-2")
    sizes = np.unique(h.sizes)
    if len(sizes) > 1:
        raise UsageError(
            f"{notion.name}: vector notions need the same number of items in every instance, found {sizes.min()} to "
            f"{sizes.max()}; audit each size apart, or ask for {notion.view.name}:rankwise"
        )
    m = int(sizes[0])
    view = notion.view.resolve(m)
    width = view.n_members(m) * view.n_outcomes(m)
    if width > VECTOR_LIMIT:
        raise UsageError(
            f"{notion.name}: {width} outcomes for {m} items, more than {VECTOR_LIMIT}; ask for a smaller k, "
            f"{notion.view.name}:confidence, or sub-2"
        )
    return view, m


def _whole_clusters(h: Distribution, clusters: IntArray | None) -> Iterator[tuple[IntArray, Block]]:
    """Blocks of instances sorted so that a cluster is never split."""
    n = len(h)
    if clusters is None:
        order, edges = np.arange(n), np.arange(0, n + _BLOCK, _BLOCK)
    else:
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        edges = np.unique([starts[np.searchsorted(starts, e, side="right") - 1] for e in range(0, n, _BLOCK)] + [n])
    for low, high in pairwise(edges.tolist()):
        rows = order[low : min(high, n)]
        if len(rows):
            yield rows, Block(rows, h[rows], None)


def _block_forecast(
    block: Block, y: Outcomes, notion: Notion, view: View, pooled: bool
) -> tuple[FloatArray, IntArray, FloatArray]:
    """(b, g, w) forecasts, (b, g) outcome index or -1, (b, g or 1, d) what is conditioned on."""
    h = block.dist
    outcome = classify_ranks(view, aligned_ranks(y, block))
    vector = h.marginal(view).probs
    if pooled:
        place = np.argsort(h.mode(), axis=1)  # the model's own rank of each item, 0-based
        vector, outcome = _relabel(vector, outcome, view, place)
    if notion.given == "full":
        condition = _whole(h, place if pooled else None)[:, None, :]
        condition = np.broadcast_to(condition, (*vector.shape[:2], condition.shape[2]))
    else:
        condition = vector
    return vector, outcome, condition


def _relabel(vector: FloatArray, outcome: IntArray, view: View, place: IntArray) -> tuple[FloatArray, IntArray]:
    """Name items by the model's own order, so that outcomes mean the same in every instance."""
    b, m = place.shape
    names = view.outcomes(m)
    if view.kind == "sub":  # within each subset: own order 0..k-1
        own = np.argsort(np.argsort(place[:, view.members(m)], axis=-1), axis=-1)  # (b, G, k)
        new = permutation_index(own[:, :, View("full").outcomes(view.k)[0]], view.k)
    elif view.kind == "position":
        member = place[:, :, None] * m + np.arange(m)  # position of the model's r-th item
        flat = np.empty((b, m * m))
        np.put_along_axis(flat, member.reshape(b, -1), vector.reshape(b, -1), axis=1)
        moved = np.full((b, m), -1, dtype=np.intp)
        np.put_along_axis(moved, place, outcome, axis=1)
        return flat.reshape(b, m, m), moved
    else:
        renamed = place[:, names[0]]  # (b, W, L)
        if view.kind == "topset":
            lookup = View("topset", view.k).classify(_complete(np.sort(renamed, axis=-1), m))[..., 0]
        else:
            lookup = permutation_index(renamed, m)
        new = lookup[:, None, :]
    out = np.empty_like(vector)
    np.put_along_axis(out, new, vector, axis=2)
    moved = np.take_along_axis(new, np.maximum(outcome, 0)[..., None], axis=2)[..., 0]
    return out, np.where(outcome < 0, -1, moved)


def _complete(sets: IntArray, m: int) -> IntArray:
    """Any full ordering that starts with the set."""
    inside = (sets[..., None] == np.arange(m)).any(axis=-2)
    rest = np.argsort(inside, axis=-1, kind="stable")[..., : m - sets.shape[-1]]
    return np.concatenate([sets, rest], axis=-1)


def _whole(h: Distribution, place: IntArray | None) -> FloatArray:
    """What stands for all of h: every ranking's probability up to five items, else pair and top probabilities."""
    m = h.n_items
    if m <= 5:
        probs = h.marginal("full").probs
        if place is not None:
            probs, _ = _relabel(probs, np.full((len(h), 1), -1), View("full"), place)
        return probs[:, 0]
    first, second = np.triu_indices(m, 1)
    pairs = np.zeros((len(h), m, m))
    p = 1.0 / (1.0 + np.exp(-h.pair_log_odds(first, second)))
    pairs[:, first, second], pairs[:, second, first] = p, 1 - p
    top = np.exp(h.top_log_probs())
    if place is not None:
        own = np.argsort(place, axis=1)
        rows = np.arange(len(h))[:, None]
        pairs, top = pairs[rows[:, :, None], own[:, :, None], own[:, None, :]], top[rows, own]
    return np.concatenate([pairs[:, first, second], top], axis=1)


def _features(
    h: Distribution, notion: Notion, view: View, pooled: bool, frequencies: int, rng: np.random.Generator
) -> tuple[Callable[[FloatArray], FloatArray], float, str]:
    """Random Fourier features of the Gaussian kernel whose bandwidth is the median distance of 400 forecasts."""
    some = h[np.sort(rng.choice(len(h), min(len(h), 400), replace=False))]
    nothing = Outcomes.from_ranks(np.ones((len(some), some.n_items)))
    condition = _block_forecast(Block(slice(None), some, None), nothing, notion, view, pooled)[2]
    points = condition[:, rng.integers(0, condition.shape[1])]
    squares = (points**2).sum(axis=1)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0))
    gaps = gaps[np.triu_indices(len(points), 1)]
    bandwidth = float(np.median(gaps[gaps > 1e-9])) if (gaps > 1e-9).any() else 1.0
    directions = rng.standard_normal((condition.shape[-1], frequencies)) / bandwidth

    def features(u: FloatArray) -> FloatArray:
        angle = u @ directions
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1) / math.sqrt(frequencies)

    if notion.given == "full":
        what = "all ranking probabilities" if h.n_items <= 5 else "pair and top-1 probabilities"
    else:
        what = f"the {view.name} forecast"
    return features, bandwidth, what
