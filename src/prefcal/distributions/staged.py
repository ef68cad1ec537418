"""Plackett-Luce with one scale for each choice stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray, Ragged
from prefcal.distributions.base import Block, as_generator, check_orders, check_pairs, check_size, chunks
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.stagewise import StageWise, after, remaining
from prefcal.errors import DataError, UsageError
from prefcal.views import View, combination_index

# Items up to which pairs are exact (a recursion over 2^m sets); beyond, PAIR_DRAWS seeded orders are averaged.
MAX_EXACT_ITEMS = 14
PAIR_DRAWS = 2000
# Items up to which other recursions over subsets are affordable (18 * 2^17 numbers an instance).
MAX_SUBSET_ITEMS = 18
_PAIR_SEED = 20_000
# Differences of scaled scores up to which products of choice probabilities cannot underflow in sums over 14 stages.
_LINEAR_RANGE = 45.0


class StagedPlackettLuce(StageWise):
    """Plackett-Luce whose scores are multiplied by a scale that depends on how many items are left.

    ``P(order) = prod_t softmax(scales[k] * scores of the k items left)[o_t]``, k = m - t. With equal scales it is
    Plackett-Luce. With unequal ones Luce's axiom no longer holds: how often a beats b depends on the other items.

    Parameters
    ----------
    scores
        As in :class:`~prefcal.distributions.plackett_luce.PlackettLuce`: (n, m) with NaN for items that an instance
        lacks, or rows of unequal length.
    scales
        Positive numbers for 2, 3, ..., items left; at least as many as the longest instance has choices (its size
        minus 1). ``scales[j]`` multiplies the scores when j + 2 items are left.

    Raises
    ------
    DataError
        For scores that Plackett-Luce refuses, and scales that are not positive, finite or enough.

    Notes
    -----
    Exact, at the cost that :class:`~prefcal.distributions.stagewise.StageWise` states: all marginals up to 18 items;
    top-k prefixes, the best item, log probabilities and draws for any number. Pairs are exact up to 14 items (a
    recursion over subsets); beyond, :meth:`pair_log_odds` and ``marginal("sub-2")`` average exact conditional
    probabilities over 2,000 orders drawn with a fixed seed: the same call gives the same numbers, the standard error
    of a probability p is below sqrt(p (1 - p) / 2000) <= .012, and the marginal states it. Other marginals beyond 18
    items are sampled, with standard errors, and need ``rng``.

    Of two items the one with the higher score is the likelier to come first, and to be best, whatever the scales.

    References
    ----------
    Stage-wise models: Fligner and Verducci (1988), Multistage ranking models, JASA 83.

    Examples
    --------
    >>> h = StagedPlackettLuce([[1.0, 0.0, -1.0]], [1.0, 0.5])
    >>> h.marginal("top-1").probs.round(3).tolist()  # softmax of half the scores
    [[[0.506, 0.307, 0.186]]]
    """

    tempered: ClassVar[str] = "the scores"

    def __init__(self, scores: Any, scales: Sequence[float] | FloatArray) -> None:
        self.scores: Ragged = PlackettLuce(scores).scores
        array = np.asarray(scales, dtype=np.float64)
        if array.ndim != 1 or len(array) < self.scores.sizes.max(initial=1) - 1:
            raise DataError(
                f"scales must hold a number for each of 2 .. {self.scores.sizes.max()} items left, "
                f"got shape {array.shape}"
            )
        bad = ~(np.isfinite(array) & (array > 0))
        if bad.any():
            raise DataError(f"scale {array[bad][0]} is not a positive finite number", field="scales")
        self.scales: FloatArray = array

    @classmethod
    def _wrap(cls, scores: Ragged, scales: FloatArray) -> StagedPlackettLuce:
        self = object.__new__(cls)
        self.scores, self.scales = scores, scales
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

    def __getitem__(self, index: Any) -> StagedPlackettLuce:
        return self._wrap(self.scores.take(index), self.scales)

    def scaled(self, factor: float) -> StagedPlackettLuce:
        """See :meth:`PlackettLuce.scaled`; the scales of the stages stay."""
        return self._wrap(PlackettLuce._wrap(self.scores).scaled(factor).scores, self.scales)

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """See :meth:`Distribution.blocks`; parts without gaps, by number of items."""
        for rows, size in self.scores.blocks(elements):
            dense = Ragged.from_dense(self.scores.block(rows, size), drop_nan=False)
            yield Block(rows, self._wrap(dense, self.scales), self.scores.block_columns(rows, size))

    def _scale(self, left: int) -> float:
        return float(self.scales[left - 2]) if left > 1 else 1.0

    def _log_stages(self, depth: int) -> list[FloatArray]:
        scores = np.ascontiguousarray(self.scores.dense().T)
        m = len(scores)
        return [_log_softmax(scores[remaining(m, t)], self._scale(m - t), axis=1) for t in range(depth)]

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(m^2) an instance."""
        full = check_orders(orders, len(self), self.n_items, self.sizes)
        out = np.empty(len(self))
        for rows, size in self.scores.blocks():
            columns, order = self._columns(rows, size), full[rows][:, :size]
            if (np.sort(order, axis=1) != columns).any():
                at = int(np.flatnonzero((np.sort(order, axis=1) != columns).any(axis=1))[0])
                raise UsageError(
                    f"orders row {int(np.arange(len(self))[rows][at])} = {order[at].tolist()} is not an ordering of "
                    f"the items {columns[at].tolist()}"
                )
            local = np.argsort(np.argsort(order, axis=1), axis=1)
            s = np.take_along_axis(self.scores.block(rows, size), local, axis=1)
            total = np.zeros(len(s))
            for t in range(size - 1):
                total += _log_softmax(s[:, t:], self._scale(size - t), axis=1)[:, 0]
            out[rows] = total
        return out

    def _columns(self, rows: slice | IntArray, size: int) -> IntArray:
        columns = self.scores.block_columns(rows, size)
        if columns is None:
            count = len(np.arange(len(self))[rows])
            return np.broadcast_to(np.arange(size), (count, size))
        return columns

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m, k = self.n_items, view.k
        pairs = view == View("sub", 2)
        if self.scores.is_dense:
            if not pairs:
                if m > MAX_SUBSET_ITEMS and view.kind in ("sub", "topset", "position"):
                    return self._sampled(view, rng, n_samples)
                return super()._probs(view, rng, n_samples)
            return self._pair_probs(view)
        if view.kind not in ("sub", "position"):
            at = int(np.flatnonzero(self.sizes < m)[0])
            raise UsageError(
                f"marginal {view.name}: instance {at} has {self.sizes[at]} of {m} items and no outcome about all "
                "items; use blocks(), which yields parts without gaps, or views sub-k and position"
            )
        out = np.full((len(self), view.n_members(m), view.n_outcomes(m)), np.nan)
        stderr = np.zeros(out.shape)
        sampled = False
        for block in self.blocks():
            size = block.dist.n_items
            if size < max(k, 2):
                if view.kind == "position":
                    self._fill_single(out, block)
                continue
            part = block.dist.marginal(view, rng=rng, n_samples=n_samples)
            instance = np.arange(len(self))[block.rows][:, None]
            columns = np.arange(size)[None] if block.columns is None else block.columns
            if view.kind == "sub":
                at_members = combination_index(columns[:, View("sub", k).members(size)], m)
                out[instance, at_members] = part.probs
                if part.stderr is not None:
                    stderr[instance, at_members], sampled = part.stderr, True
            else:
                out[instance, columns, :size] = part.probs
                out[instance, columns, size:] = 0.0
        return out, stderr if sampled else None

    def _fill_single(self, out: FloatArray, block: Block) -> None:
        rows = np.arange(len(self))[block.rows]
        columns = np.zeros(len(rows), dtype=np.intp) if block.columns is None else block.columns[:, 0]
        out[rows, columns] = 0.0
        out[rows, columns, 0] = 1.0

    def _pair_probs(self, view: View) -> tuple[FloatArray, FloatArray | None]:
        m = self.n_items
        log_p, stderr = self._pair_matrix()
        outcomes = view.outcomes(m)
        probs = np.exp(log_p[:, outcomes[..., 0], outcomes[..., 1]])
        if stderr is None:
            return probs, None
        return probs, stderr[:, outcomes[..., 0], outcomes[..., 1]]

    def _pair_matrix(self) -> tuple[FloatArray, FloatArray | None]:
        """(n, m, m) log P(a before b) of a dense model, and standard errors where they are estimates."""
        m = self.n_items
        out = np.empty((len(self), m, m))
        if m > MAX_EXACT_ITEMS:
            stderr = np.empty(out.shape)
            for rows in chunks(len(self), PAIR_DRAWS * m):
                out[rows], stderr[rows] = self[rows]._sampled_pairs()
            return out, stderr
        for rows in chunks(len(self), m << (m - 1)):
            part = self[rows]
            scores = part.scores.dense()
            with np.errstate(over="ignore"):
                size = np.ptp(scores, axis=1) * float(self.scales[: m - 1].max())
            log_odds: FloatArray | None = None
            if (size > _LINEAR_RANGE).any():
                a, b = np.nonzero(~np.eye(m, dtype=bool))
                odds = StageWise.pair_log_odds(part, a, b)
                log_odds = np.zeros((len(part), m, m))
                log_odds[:, a, b] = -np.logaddexp(0.0, -odds)
            else:
                with np.errstate(divide="ignore"):
                    log_odds = np.log(_pair_flow([np.exp(s) for s in part._log_stages(m - 1)], m))
            out[rows] = log_odds
        return out, None

    def _sampled_pairs(self) -> tuple[FloatArray, FloatArray]:
        """Average over drawn orders of P(a first | a or b is chosen now): one of the two-item choices, exactly.

        When the first of a and b is chosen, k items being left, it is a with probability
        1 / (1 + exp(-scale_k (s_a - s_b))). The average varies less than the share of orders with a before b.
        """
        m = self.n_items
        place = np.argsort(self.sample(PAIR_DRAWS, _PAIR_SEED), axis=2)
        gap = self.scores.dense()[:, :, None] - self.scores.dense()[:, None, :]
        log_p, stderr = np.empty(gap.shape), np.empty(gap.shape)
        for a in range(m):
            left = m - np.minimum(place[:, :, a, None], place)  # (n, draws, m)
            x = gap[:, None, a] * self.scales[np.maximum(left, 2) - 2]
            log_each = -np.logaddexp(0.0, -x)
            log_p[:, a] = np.logaddexp.reduce(log_each, axis=1) - math.log(PAIR_DRAWS)
            stderr[:, a] = np.exp(log_each).std(axis=1, ddof=1) / math.sqrt(PAIR_DRAWS)
        return log_p, stderr

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; see the class for more than 14 items."""
        a, b = check_pairs(first, second, self.n_items)
        out = np.full((len(self), len(a)), np.nan)
        for block in self.blocks():
            size = block.dist.n_items
            rows = np.arange(len(self))[block.rows]
            if size < 2:
                continue
            assert isinstance(block.dist, StagedPlackettLuce)
            log_p, _ = block.dist._pair_matrix()
            local = np.full((len(rows), self.n_items), -1)
            columns = np.broadcast_to(np.arange(size), (len(rows), size)) if block.columns is None else block.columns
            np.put_along_axis(local, columns, np.broadcast_to(np.arange(size), columns.shape), axis=1)
            la, lb = local[:, a], local[:, b]
            each = np.arange(len(rows))[:, None]
            odds = log_p[each, la, lb] - log_p[each, lb, la]
            out[rows] = np.where((la < 0) | (lb < 0), np.nan, odds)
        return out

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; a log softmax, O(m) an instance."""
        out = np.full((len(self), self.n_items), -np.inf)
        for rows, size in self.scores.blocks():
            log_p = _log_softmax(self.scores.block(rows, size), self._scale(size), axis=1)
            np.put_along_axis(block := out[rows], self._columns(rows, size), log_p, axis=1)
            out[rows] = block
        return out

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw choice by choice, each with fresh Gumbel noise (Yellott 1977); O(m^2) a draw."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        out = np.full((len(self), size, self.n_items), -1, dtype=np.intp)
        for rows, m in self.scores.blocks(max(1, (1 << 20) // size)):
            s = self.scores.block(rows, m)
            columns = np.broadcast_to(self._columns(rows, m)[:, None, :], (len(s), size, m))
            gone = np.zeros(columns.shape, dtype=bool)
            part = np.empty(columns.shape, dtype=np.intp)
            for t in range(m):
                log_p = _log_softmax(np.where(gone, -np.inf, s[:, None, :]), self._scale(m - t), axis=2)
                chosen = (log_p + rng.gumbel(size=log_p.shape)).argmax(axis=2)[..., None]
                part[:, :, t] = np.take_along_axis(columns, chosen, axis=2)[..., 0]
                np.put_along_axis(gone, chosen, True, axis=2)
            out[rows, :, :m] = part
        return out

    def mode(self) -> IntArray:
        """(n, m) a most probable ordering; equal items in the order of their index.

        Descending scores where the scales do not grow as items are placed (an exchange of neighbours then never
        gains), else the best path over subsets, O(m 2^(m-1)) an instance.

        Raises UsageError for instances of more than 18 items whose scales grow.
        """
        out = np.full((len(self), self.n_items), -1, dtype=np.intp)
        for rows, m in self.scores.blocks():
            if m > 2 and (np.diff(self.scales[: m - 1]) < 0).any():
                if m > MAX_SUBSET_ITEMS:
                    raise UsageError(f"mode: no exact way is affordable for {m} items with these scales")
                dense = Ragged.from_dense(self.scores.block(rows, m), drop_nan=False)
                order = super(StagedPlackettLuce, self._wrap(dense, self.scales)).mode()
            else:
                order = np.argsort(-self.scores.block(rows, m), axis=1, kind="stable")
            out[rows, :m] = np.take_along_axis(self._columns(rows, m), order, axis=1)
        return out


def _log_softmax(scores: FloatArray, scale: float, axis: int) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        s = (scores - scores.max(axis=axis, keepdims=True)) * scale
    return np.asarray(s - np.log(np.exp(s).sum(axis=axis, keepdims=True)))


def _pair_flow(stages: list[FloatArray], m: int) -> FloatArray:
    """(n, m, m) P(a before b): the flow of "a is chosen" through all sets of remaining items that hold b."""
    n = stages[0].shape[-1]
    out = np.zeros((n, m, m))
    reach: FloatArray = np.ones((1, n))
    for t, stage in enumerate(stages):
        flow = reach[:, None, :] * stage  # (sets, m - t, n)
        free = remaining(m, t)
        holds = np.zeros((len(free), m))
        holds[np.arange(len(free))[:, None], free] = 1.0
        by_item = np.zeros((m, len(free), n))
        by_item[free, np.arange(len(free))[:, None]] = flow
        out += np.einsum("asn,sb->nab", by_item, holds, optimize=True)
        children = np.argsort(after(m, t), axis=None, kind="stable").reshape(math.comb(m, t + 1), t + 1)
        reach = flow.reshape(-1, n)[children].sum(axis=1)
    items = np.arange(m)
    out[:, items, items] = 0.5
    return out
