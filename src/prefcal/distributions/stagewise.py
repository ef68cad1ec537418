"""Stage-wise (L-decomposable) models: each place is filled by a choice among the items still unplaced.

``P(order) = prod_t c(o_t | S_t)``, S_t the items not yet placed at stage t (Critchlow, Fligner & Verducci 1991,
Probability models on rankings). All marginals follow from dynamic programmes over subsets; none enumerates the m!
orders. Arrays in this module have the instances on the *last* axis. The choices at stage t are one array of shape
(C(m, t), m - t, n): for each set T of t placed items (lexicographic), the log probability of each of the remaining
items (ascending) to come next.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import (
    Distribution,
    as_generator,
    check_orders,
    check_pairs,
    check_size,
    chunks,
)
from prefcal.views import View, combination_index, permutation_index

# Numbers that the widest level of the subset recursion for sub-k may hold for one instance (128 MiB).
SUBSET_STATES_LIMIT = 1 << 24


class StageWise(Distribution):
    """Base of models that fill places one after another; subclasses state the choice probabilities.

    Costs for one instance, in numbers computed: ``top-k`` m!/(m-k)!; ``topset-k`` sum over t < k of C(m,t) (m-t);
    ``position`` m 2^(m-1); ``sub-k`` about k m!/(m-k)! 2^(m-k).
    """

    @abstractmethod
    def _log_stages(self, depth: int) -> list[FloatArray]:
        """Log choice probabilities of stages 0 .. depth-1, see the module; only called on dense models."""

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m, k = self.n_items, view.k
        if view.kind == "sub" and widest_level(m, k) > SUBSET_STATES_LIMIT:
            return self._sampled(view, rng, n_samples)
        out = np.empty((len(self), view.n_members(m), view.n_outcomes(m)))
        for rows in chunks(len(self), self._cost(view)):
            part: StageWise = self[rows]
            match view.kind:
                case "full" | "top":
                    length = m if view.kind == "full" else k
                    result = prefix_probs(part._log_stages(min(length, m - 1)), m, length)[None]
                case "topset":
                    result = topset_probs(part._log_stages(k), m, k)[None]
                case "position":
                    result = position_probs(part._log_stages(m), m)
                case _:
                    ordered = ordered_subset_probs(part._log_stages(m - 1), m, k)
                    result = ordered[permutation_index(view.outcomes(m), m)]
            out[rows] = np.moveaxis(result, -1, 0)
        return out, None

    def _cost(self, view: View) -> int:
        m, k = self.n_items, view.k
        match view.kind:
            case "full" | "top":
                return view.n_outcomes(m)
            case "topset":
                return sum(math.comb(m, t) * (m - t) for t in range(k))
            case "position":
                return m << (m - 1)
            case _:
                return (m << (m - 1)) + 2 * widest_level(m, k)

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(m 2^(m-1)) an instance."""
        m = self.n_items
        full = check_orders(orders, len(self), m)
        out = np.zeros(len(self))
        for rows in chunks(len(self), m << (m - 1)):
            part: StageWise = self[rows]
            here = full[rows]
            state = np.zeros(len(here), dtype=np.intp)
            instance = np.arange(len(here))
            for t, stage in enumerate(part._log_stages(m - 1)):
                choice = (remaining(m, t)[state] == here[:, t : t + 1]).argmax(axis=1)
                out[rows] += stage[state, choice, instance]
                state = after(m, t)[state, choice]
        return out

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """See :meth:`Distribution.sample`; O(m 2^(m-1)) an instance and O(m^2) a draw."""
        size, rng, m = check_size(size), as_generator(rng, "sample()"), self.n_items
        out = np.empty((len(self), size, m), dtype=np.intp)
        for rows in chunks(len(self), max(m << (m - 1), size * m)):
            part: StageWise = self[rows]
            state = np.zeros((len(part), size), dtype=np.intp)
            instance = np.arange(len(part))[:, None]
            stages = part._log_stages(m - 1) if m > 1 else []
            for t, stage in enumerate(stages):
                below = np.cumsum(np.exp(np.moveaxis(stage, -1, 0))[instance, state], axis=-1)
                u = rng.random((len(part), size)) * below[..., -1]
                choice = (below <= u[..., None]).sum(axis=-1)
                out[rows, :, t] = remaining(m, t)[state, choice]
                state = after(m, t)[state, choice]
            out[rows, :, m - 1] = remaining(m, m - 1)[state, 0]
        return out

    def mode(self) -> IntArray:
        """(n, m) a most probable ordering, by a best-path recursion over subsets; O(m 2^(m-1)) an instance."""
        m = self.n_items
        out = np.empty((len(self), m), dtype=np.intp)
        for rows in chunks(len(self), m << m):
            part: StageWise = self[rows]
            stages = part._log_stages(m)
            best: FloatArray = np.zeros((1, len(part)))
            choices: list[IntArray] = []
            for t in range(m - 1, -1, -1):
                path = stages[t] + best[after(m, t)]
                best = path.max(axis=1)
                with np.errstate(invalid="ignore"):  # -inf - -inf on sets that are never reached
                    close = path >= (best - 1e-12 * np.maximum(1.0, np.abs(best)))[:, None]
                choices.append((close | (path == best[:, None])).argmax(axis=1))
            state = np.zeros(len(part), dtype=np.intp)
            instance = np.arange(len(part))
            for t in range(m):
                choice = choices[m - 1 - t][state, instance]
                out[rows, t] = remaining(m, t)[state, choice]
                state = after(m, t)[state, choice]
        return out

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; the ``sub-2`` recursion in log space."""
        m = self.n_items
        a, b = check_pairs(first, second, m)
        out = np.empty((len(self), len(a)))
        forward = permutation_index(np.stack([a, b], axis=-1), m)
        backward = permutation_index(np.stack([b, a], axis=-1), m)
        for rows in chunks(len(self), (m << (m - 1)) + 2 * widest_level(m, 2)):
            part: StageWise = self[rows]
            log_p = ordered_subset_probs(part._log_stages(m - 1), m, 2, log=True)
            out[rows] = (log_p[forward] - log_p[backward]).T
        return out

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; the choice probabilities of the first stage."""
        out = np.empty((len(self), self.n_items))
        for rows in chunks(len(self), self.n_items << (self.n_items - 1)):
            part: StageWise = self[rows]
            out[rows] = part._log_stages(1)[0][0].T
        return out

    @abstractmethod
    def __getitem__(self, index: Any) -> StageWise: ...


def prefix_probs(log_stages: Sequence[FloatArray], m: int, k: int) -> FloatArray:
    """Probability of every ordered k-prefix, (m!/(m-k)!, n) in lexicographic order."""
    n = log_stages[0].shape[-1] if log_stages else 1
    probs: FloatArray = np.ones((1, n))
    for t in range(min(k, m - 1)):
        stage = np.exp(log_stages[t])
        probs = (probs[:, None, :] * stage[prefix_set(m, t)]).reshape(-1, n)
    return probs


def topset_probs(log_stages: Sequence[FloatArray], m: int, k: int) -> FloatArray:
    """Probability of every set of k items to be the first k, (C(m, k), n)."""
    reach: FloatArray = np.ones((1, log_stages[0].shape[-1]))
    for t in range(k):
        reach = _advance(reach[:, None, :] * np.exp(log_stages[t]), m, t)
    return reach


def position_probs(log_stages: Sequence[FloatArray], m: int) -> FloatArray:
    """Probability of each rank of each item, (m items, m ranks, n)."""
    n = log_stages[0].shape[-1]
    out = np.empty((m, m, n))
    reach: FloatArray = np.ones((1, n))
    for t in range(m):
        flow = reach[:, None, :] * np.exp(log_stages[t])
        out[:, t] = flow.reshape(-1, n)[_choices_of_item(m, t)].sum(axis=1)
        if t < m - 1:
            reach = _advance(flow, m, t)
    return out


def _advance(flow: FloatArray, m: int, t: int) -> FloatArray:
    """From the probabilities of (set, next item) to those of the sets of t + 1 items."""
    parent, choice = _parents(m, t + 1)
    reach: FloatArray = flow[parent[:, 0], choice[:, 0]]
    for q in range(1, t + 1):
        reach = reach + flow[parent[:, q], choice[:, q]]
    return reach


def ordered_subset_probs(log_stages: Sequence[FloatArray], m: int, k: int, *, log: bool = False) -> FloatArray:
    """Probability that items come in a given order, for every ordered k-tuple, (m!/(m-k)!, n) lexicographic.

    G(S, kappa), the probability that the tuple kappa of items of S is placed in this order when S is what remains,
    is c(kappa_1 | S) G(S - kappa_1, kappa_2..) + sum of c(i | S) G(S - i, kappa) over the i of S outside kappa.
    With ``log`` everything stays logarithmic, which keeps probabilities below 1e-308 at several times the cost.
    """
    n = log_stages[0].shape[-1]
    add: Callable[..., FloatArray] = np.logaddexp if log else np.add
    multiply: Callable[..., FloatArray] = np.add if log else np.multiply
    zero, one = (-np.inf, 0.0) if log else (0.0, 1.0)
    previous: dict[int, FloatArray] = {}
    for size in range(2, m + 1):
        t = m - size
        stage = log_stages[t] if log else np.exp(log_stages[t])
        current: dict[int, FloatArray] = {}
        for j in range(max(2, k - t), min(k, size) + 1):
            table = np.full((math.comb(m, t), math.perm(size, j), n), zero)
            block = math.perm(size - 1, j - 1)  # tuples that start with a given item
            for q in range(size):
                weight, rest = stage[:, q, None, :], after(m, t)[:, q]
                own = slice(q * block, (q + 1) * block)
                tail = previous[j - 1][rest] if j > 2 else np.full((1, 1, 1), one)
                table[:, own] = add(table[:, own], multiply(weight, tail))
                if j < size:
                    without = _tuples_without(size, j, q)
                    table[:, without] = add(table[:, without], multiply(weight, previous[j][rest]))
            current[j] = table
        previous = current
    result: FloatArray = previous[k][0]
    return result


def first_probs(log_stages: Sequence[FloatArray], m: int) -> FloatArray:
    """Probability of each item to come first among the items of each set, (2^m sets, m items, n).

    Sets are bit masks (item a is bit a); 0 for items outside the set. ``log_stages`` of all m stages. Item a comes
    first of K when it is chosen while all of K is left: a sum, over the sets S that hold K, of the probability that
    S is left and a is chosen. All K together are one sum over supersets, O(m^2 2^m) an instance.
    """
    n = log_stages[0].shape[-1]
    out = np.zeros((1 << m, m, n))
    reach: FloatArray = np.ones((1, n))
    for t in range(m):
        flow = reach[:, None, :] * np.exp(log_stages[t])
        free = remaining(m, t)
        out[(1 << free).sum(axis=1)[:, None], free] = flow
        if t < m - 1:
            reach = _advance(flow, m, t)
    sets = np.arange(1 << m)
    for j in range(m):
        with_j = out.reshape(-1, 2, 1 << j, m, n)
        with_j[:, 0] += with_j[:, 1]
    for j in range(m):
        out[(sets >> j) % 2 == 0, j] = 0.0
    return out


def widest_level(m: int, k: int) -> int:
    """Numbers of the widest level of :func:`ordered_subset_probs` for one instance."""
    return max(math.comb(m, size) * math.perm(size, k) for size in range(k, m + 1))


@lru_cache(maxsize=256)
def _placed(m: int, t: int) -> IntArray:
    return _frozen(np.array(list(itertools.combinations(range(m), t)), dtype=np.intp).reshape(math.comb(m, t), t))


@lru_cache(maxsize=256)
def remaining(m: int, t: int) -> IntArray:
    """(C(m, t), m - t) items outside each t-set, ascending."""
    placed = _placed(m, t)
    free = np.ones((len(placed), m), dtype=bool)
    free[np.arange(len(placed))[:, None], placed] = False
    return _frozen(np.nonzero(free)[1].reshape(len(placed), m - t).astype(np.intp))


@lru_cache(maxsize=256)
def after(m: int, t: int) -> IntArray:
    """(C(m, t), m - t) index, among the (t + 1)-sets, of each t-set with one more of its remaining items."""
    placed, free = _placed(m, t), remaining(m, t)
    joined = np.concatenate([np.repeat(placed[:, None, :], m - t, axis=1), free[:, :, None]], axis=2)
    return _frozen(combination_index(np.sort(joined, axis=2), m))


@lru_cache(maxsize=256)
def _parents(m: int, t: int) -> tuple[IntArray, IntArray]:
    """For each t-set and each of its items: the (t - 1)-set without it and the item's place among those remaining."""
    source = after(m, t - 1)
    order = np.argsort(source, axis=None, kind="stable").reshape(-1, t)
    return _frozen(order // source.shape[1]), _frozen(order % source.shape[1])


@lru_cache(maxsize=256)
def _choices_of_item(m: int, t: int) -> IntArray:
    """(m, C(m - 1, t)) flat (set, choice) positions at which each item is the choice."""
    return _frozen(np.argsort(remaining(m, t), axis=None, kind="stable").reshape(m, -1))


@lru_cache(maxsize=64)
def prefix_set(m: int, t: int) -> IntArray:
    """(m!/(m-t)!,) index of the set of each ordered t-prefix."""
    prefixes = View("top", t).outcomes(m)[0] if t else np.empty((1, 0), dtype=np.intp)
    return _frozen(combination_index(np.sort(prefixes, axis=1), m))


@lru_cache(maxsize=256)
def _tuples_without(size: int, j: int, q: int) -> IntArray:
    """Index, among the ordered j-tuples of 0..size-1, of those that avoid q, in lexicographic order."""
    tuples = np.array(list(itertools.permutations([x for x in range(size) if x != q], j)), dtype=np.intp)
    return _frozen(permutation_index(tuples, size))


def _frozen(array: IntArray) -> IntArray:
    array.setflags(write=False)
    return array
