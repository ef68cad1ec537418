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
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.events import Items, classify_ranks
from prefcal.estimators.inputs import aligned_ranks
from prefcal.estimators.null import NullLaw, OutcomeSimulator, compare
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
    null_method: str
    interval: Interval
    n_events: int
    n_instances: int
    used: IntArray
    frequencies: int
    bandwidth: float
    given: str


def kernel_error(
    h: Distribution,
    y: Outcomes,
    notion: Notion,
    items: Items,
    *,
    weights: FloatArray,
    clusters: IntArray | None,
    seed: int,
) -> KernelError:
    """Unbiased squared kernel calibration error of a vector notion, averaged over members.

    Exchangeable items are relabelled by the model's own order, and the subsets of sub-k are pooled. The null law
    redraws outcomes from h (exact under full calibration) where a view has one member and the work allows; else it
    flips the residuals of each instance (or cluster) by random signs, which needs the notion itself, whatever the
    dependence inside an instance, and many instances. The interval is a jackknife one, clipped at 0.

    Cost: the state holds at most 2^17 numbers and the null draws take at most 3e10 multiply-adds; the numbers of
    features and draws follow from that and are reported.

    Raises
    ------
    UsageError
        When an instance's outcome vectors hold more than ``VECTOR_LIMIT`` numbers, instances differ in their number
        of items, or the model states probabilities of pairs only.
    """
    view, m = _checked(h, notion)
    renamed = items == "exchangeable"
    pooled = renamed and view.kind == "sub"  # subsets of the model's own order are alike, its positions are not
    members = 1 if pooled else view.n_members(m)
    width = view.n_outcomes(m)
    rng = np.random.default_rng([seed, 1])
    state = min(_STATE, _WORK / (len(y) * _DRAWS[0]))
    frequencies = int(np.clip(state / (2 * members * width), 8, 128))
    draws = int(np.clip(_WORK / (len(y) * 2 * frequencies * members * width), *_DRAWS))
    features, bandwidth, given = _features(h, notion, view, renamed, frequencies, rng)

    shape = (members, 2 * frequencies, width)
    null, own = np.zeros((draws, math.prod(shape))), np.zeros(draws)
    total = np.zeros(math.prod(shape))
    used = np.zeros(len(y), dtype=np.intp)
    n_events = 0
    masses: list[FloatArray] = []
    units: list[FloatArray] = []
    exact = clusters is None and view.n_members(m) == 1 and len(y) * 2 * frequencies * width * draws <= _WORK
    for rows, block in _whole_clusters(h, clusters):
        ranks = aligned_ranks(y, block)
        forecast = _forecast(block.dist, notion, view, renamed)
        outcome = _outcome(view, forecast, ranks)
        outcome[weights[rows] == 0] = -1
        known = outcome >= 0
        n_events += int(known.sum())
        used[rows] = known.any(axis=1)
        w = weights[rows]
        phi = features(forecast.condition) * known[..., None]
        residual = (outcome[..., None] == np.arange(width)) - forecast.vector
        each = np.einsum("bgf,bgw->bfw" if pooled else "bgf,bgw->bgfw", phi, residual).reshape(len(rows), -1)
        each *= w[:, None]
        mass = w * known.any(axis=1)
        if clusters is not None:
            starts = np.flatnonzero(np.diff(clusters[rows], prepend=-1))
            each = np.add.reduceat(each, starts, axis=0)
            mass = np.add.reduceat(mass, starts)
        masses.append(mass)
        total += each.sum(axis=0)
        units.append(each)
        if exact:
            simulator = OutcomeSimulator(block, ranks)
            weighted = phi[:, 0].T * w
            base = weighted @ forecast.vector[:, 0]
            size2 = (forecast.vector[:, 0] ** 2).sum(axis=1)
            for d in range(draws):
                drawn = _outcome(view, forecast, simulator.draw(1, rng)[0])[:, 0]
                seen = np.flatnonzero((drawn >= 0) & known[:, 0])
                hot = np.zeros((len(rows), width))
                hot[seen, drawn[seen]] = 1.0
                null[d] += (weighted @ hot - base).reshape(-1)
                own[d] += (w[seen] ** 2 * (1 - 2 * forecast.vector[seen, 0, drawn[seen]] + size2[seen])).sum()
        else:
            signs = np.random.default_rng([seed, zlib.crc32(each.tobytes())]).integers(0, 2, (draws, len(each)))
            null += (2.0 * signs - 1.0) @ each
            own += (each**2).sum()
    observed = sum(float((u**2).sum()) for u in units)
    mass = np.concatenate(masses)
    n = int((mass > 0).sum())
    if n < 2:
        raise DataError(
            f"{notion.name}: a kernel estimate needs at least two instances with a known outcome, found {n}"
        )
    scale = members * (mass.sum() ** 2 - (mass**2).sum())  # pairs of instances in different units
    value = (float(total @ total) - observed) / scale
    simulated = ((null**2).sum(axis=1) - own) / scale
    # First-order projection of the U-statistic, for its standard error away from 0; near 0 its degenerate part rules.
    projection = np.concatenate([u @ total - (u**2).sum(axis=1) for u in units])[mass > 0] * n / scale
    se = max(2 * float(projection.std(ddof=1)) / math.sqrt(n), float(simulated.std(ddof=1)))
    return KernelError(
        value=value,
        null=compare(value, simulated),
        null_method="exact Monte Carlo, outcomes drawn from the forecasts" if exact else "random signs of units",
        interval=(max(value - Z95 * se, 0.0), max(value + Z95 * se, 0.0)),
        n_events=n_events,
        n_instances=n,
        used=used,
        frequencies=frequencies,
        bandwidth=bandwidth,
        given=given,
    )


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


@dataclass(frozen=True, slots=True)
class _Forecast:
    """(b, g, w) forecasts, what is conditioned on (b, g, d), and how outcomes and members are renamed, if at all."""

    vector: FloatArray
    condition: FloatArray
    new: IntArray | None
    member: IntArray | None


def _forecast(h: Distribution, notion: Notion, view: View, renamed: bool) -> _Forecast:
    vector = h.marginal(view).probs
    place = new = member = None
    if renamed:
        own = h.mode()
        place = np.argsort(own, axis=1)
        new = _relabel(view, place)
        vector = _moved(vector, new)
        if view.kind == "position":  # member r: the rank of the model's r-th item
            member = own
            vector = np.take_along_axis(vector, member[..., None], axis=1)
    condition = vector
    if notion.given == "full":
        whole = _whole(h, place)[:, None, :]
        condition = np.broadcast_to(whole, (*vector.shape[:2], whole.shape[2]))
    return _Forecast(vector, condition, new, member)


def _outcome(view: View, forecast: _Forecast, ranks: FloatArray) -> IntArray:
    index = classify_ranks(view, ranks)
    if forecast.member is not None:
        index = np.take_along_axis(index, forecast.member, axis=1)
    return index if forecast.new is None else _renamed(index, forecast.new)


def _relabel(view: View, place: IntArray) -> IntArray:
    """(b, members or 1, outcomes) index of each outcome once items are named by the model's own order.

    ``place`` (b, m) is the model's own rank of each item, 0-based. Members are not renamed; see ``_moved``.
    """
    m = place.shape[1]
    if view.kind == "sub":  # within each subset: own order 0..k-1
        own = np.argsort(np.argsort(place[:, view.members(m)], axis=-1), axis=-1)  # (b, G, k)
        return permutation_index(own[:, :, View("full").outcomes(view.k)[0]], view.k)
    if view.kind == "position":  # the rank of an item does not depend on names
        return np.broadcast_to(np.arange(m), (len(place), 1, m))
    renamed = place[:, view.outcomes(m)[0]]  # (b, W, L)
    if view.kind == "topset":
        return view.classify(_complete(np.sort(renamed, axis=-1), m))[..., 0][:, None, :]
    return permutation_index(renamed, m)[:, None, :]


def _moved(vector: FloatArray, new: IntArray) -> FloatArray:
    out = np.empty_like(vector)
    np.put_along_axis(out, np.broadcast_to(new, vector.shape), vector, axis=2)
    return out


def _renamed(outcome: IntArray, new: IntArray) -> IntArray:
    """(b, g) outcome indices after :func:`_relabel`; -1 stays."""
    index = np.take_along_axis(
        np.broadcast_to(new, (*outcome.shape, new.shape[2])), np.maximum(outcome, 0)[..., None], axis=2
    )
    return np.where(outcome < 0, -1, index[..., 0])


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
        return (probs if place is None else _moved(probs, _relabel(View("full"), place)))[:, 0]
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
    h: Distribution, notion: Notion, view: View, renamed: bool, frequencies: int, rng: np.random.Generator
) -> tuple[Callable[[FloatArray], FloatArray], float, str]:
    """Random Fourier features of the Gaussian kernel; bandwidth = root mean squared distance of 400 forecasts."""
    some = h[np.sort(rng.choice(len(h), min(len(h), 400), replace=False))]
    condition = _forecast(some, notion, view, renamed).condition
    points = condition.reshape(-1, condition.shape[-1])
    spread = float(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    bandwidth = math.sqrt(2 * spread) if spread > 1e-18 else 1.0
    directions = rng.standard_normal((condition.shape[-1], frequencies)) / bandwidth

    def features(u: FloatArray) -> FloatArray:
        angle = u @ directions
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1) / math.sqrt(frequencies)

    if notion.given == "full":
        what = "all ranking probabilities" if h.n_items <= 5 else "pair and top-1 probabilities"
    else:
        what = f"the {view.name} forecast"
    return features, bandwidth, what
