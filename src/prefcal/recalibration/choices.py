"""Observed rankings as choices: which items were chosen first among those that were left.

Under Plackett-Luce a bucket order is a sequence of choices: the best bucket among all ranked items, the next among
the rest, and so on (the last bucket is certain). Items that were not ranked drop out: the order of the others is
Plackett-Luce on their own scores. With the scores multiplied by a scale ``a``, each choice has a log probability l(a)
with derivatives in closed form; every map that scales scores is fitted with them.

A bucket of several items whose order is unknown has the probability that all of them come before the first of the
rest: an integral over the time of an exponential race (see :mod:`prefcal.distributions.race`), in log space, for
any number of items.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution, chunks
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.estimators.inputs import aligned_ranks

Rows = slice | IntArray
BoolArray = npt.NDArray[np.bool_]
Jets = tuple[FloatArray, FloatArray, FloatArray]  # log probability, its first and second derivative in the scale

# Differences of scores beyond this size are cut to it: products with a scale and squares stay finite.
_LARGEST_GAP = 1e120
# Sets of so many items are summed over their orders, larger ones integrated.
_ENUMERATED = 3


@dataclass(frozen=True, slots=True)
class Choice(ABC):
    """Choices of one shape, at most one of each record.

    Parameters
    ----------
    rows
        Which c records.
    left
        Number of ranked items from which was chosen.
    complete
        Whether all items of these instances were ranked, so that ``left`` is the number of items not yet placed.
    """

    rows: Rows
    left: int
    complete: bool

    @abstractmethod
    def jets(self, scale: FloatArray | float) -> Jets:
        """(c,) log probability and its derivatives at a scale of the scores, a number or one for each record."""

    def log_prob(self, scale: FloatArray | float) -> FloatArray:
        """(c,) log probability."""
        return self.jets(scale)[0]

    @abstractmethod
    def slopes(self, scale: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """(c,) first derivative and a non-negative curvature, for scoring."""

    @abstractmethod
    def gap_range(self, which: BoolArray) -> tuple[float, float]:
        """Smallest and largest gap of the records asked for, (0, 0) if none: all <= 0 means ordered right."""

    @abstractmethod
    def typical_gap(self) -> float:
        """Mean size of a gap."""

    @abstractmethod
    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Single(Choice):
    """One item was chosen; ``gaps`` (c, r) are the scores of the r others minus its score."""

    gaps: FloatArray

    def __len__(self) -> int:
        return len(self.gaps)

    def jets(self, scale: FloatArray | float) -> Jets:
        """See :meth:`Choice.jets`: a conditional logit."""
        first, curvature = self.slopes(scale)
        return self.log_prob(scale), first, -curvature

    def log_prob(self, scale: FloatArray | float) -> FloatArray:
        """See :meth:`Choice.log_prob`."""
        logits = self.gaps * (scale if np.ndim(scale) == 0 else np.asarray(scale)[:, None])
        if self.gaps.shape[1] == 1:
            x = logits[:, 0]
            small = np.abs(x)
            np.negative(small, out=small)
            np.log1p(np.exp(small, out=small), out=small)
            np.maximum(x, 0.0, out=x)
            small += x
            return np.asarray(np.negative(small, out=small))
        top = np.maximum(logits.max(axis=1), 0.0)
        return np.asarray(-(top + np.log(np.exp(logits - top[:, None]).sum(axis=1) + np.exp(-top))))

    def gap_range(self, which: BoolArray) -> tuple[float, float]:
        """See :meth:`Choice.gap_range`."""
        gaps = self.gaps if which.all() else self.gaps[which]
        return (float(gaps.min()), float(gaps.max())) if gaps.size else (0.0, 0.0)

    def typical_gap(self) -> float:
        """See :meth:`Choice.typical_gap`."""
        return float(np.abs(self.gaps).mean())

    def slopes(self, scale: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """See :meth:`Choice.slopes`; the curvature is the variance of the gap, here exactly -l''."""
        gaps = self.gaps
        if gaps.shape[1] == 1:
            gap = gaps[:, 0]
            miss = np.tanh(gap * (0.5 * scale))
            curvature = miss * miss
            np.subtract(1.0, curvature, out=curvature)
            curvature *= 0.25
            curvature *= gap
            curvature *= gap
            miss += 1.0
            miss *= gap
            miss *= -0.5
            return miss, curvature
        logits = gaps * (scale if np.ndim(scale) == 0 else np.asarray(scale)[:, None])
        top = np.maximum(logits.max(axis=1), 0.0)
        p = np.exp(logits - top[:, None])
        p /= (p.sum(axis=1) + np.exp(-top))[:, None]
        p *= gaps
        mean = p.sum(axis=1)
        p *= gaps
        return -mean, np.maximum(p.sum(axis=1) - mean * mean, 0.0)


@dataclass(frozen=True, slots=True)
class Several(Choice):
    """A set of items was chosen in unknown order: scores ``inside`` (c, b) the set and ``outside`` (c, r)."""

    inside: FloatArray
    outside: FloatArray

    def jets(self, scale: FloatArray | float) -> Jets:
        """See :meth:`Choice.jets`: P = E prod_i (1 - exp(-X e^(a s_i) / R)), R outside's total, X exponential."""
        count, b = self.inside.shape
        if b <= _ENUMERATED:
            return self._by_orders(scale)
        m = b + self.outside.shape[1]
        step = min(0.125, 0.7 / math.sqrt(m))
        u = np.arange(-40.0, math.log(66.0 + 4.0 * b), step)
        a = np.broadcast_to(np.asarray(scale, dtype=np.float64), (count,))
        out = np.empty((3, count))
        for part in chunks(count, len(u) * b):
            inside, outside, factor = self.inside[part], self.outside[part], a[part, None]
            logits = outside * factor
            top = logits.max(axis=1, keepdims=True)
            w = np.exp(logits - top)
            total = w.sum(axis=1, keepdims=True)
            log_rate = top + np.log(total)
            w /= total
            mean = (w * outside).sum(axis=1, keepdims=True)
            variance = (w * (outside - mean) ** 2).sum(axis=1)
            z = u[:, None, None] + (inside * factor - log_rate)  # (nodes, c, b)
            x = np.exp(np.minimum(z, 700.0))
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                log_arrived = np.where(z < -30.0, z, np.log(-np.expm1(-x)))
                ratio = np.where(x > 1e-12, x / np.expm1(x), 1.0)  # d log_arrived / dz
                bend = ratio * (1.0 - np.where(ratio > 0, x, 0.0) - ratio)
            dz = inside - mean
            f = log_arrived.sum(axis=2) + (u - np.exp(u))[:, None]
            first = (ratio * dz).sum(axis=2)
            second = (bend * dz**2).sum(axis=2) - ratio.sum(axis=2) * variance
            top_f = f.max(axis=0)
            weight = np.exp(f - top_f)
            mass = weight.sum(axis=0)
            weight /= mass
            slope = (weight * first).sum(axis=0)
            out[0, part] = top_f + np.log(mass * step)
            out[1, part] = slope
            out[2, part] = (weight * (second + first**2)).sum(axis=0) - slope**2
        return out[0], out[1], out[2]

    def _by_orders(self, scale: FloatArray | float) -> Jets:
        """The sum over the b! orders inside a small set: each is a sequence of single choices."""
        log_p, first, second = [], [], []
        for order in itertools.permutations(range(self.inside.shape[1])):
            total = np.zeros((3, len(self)))
            for t, item in enumerate(order):
                rest = np.concatenate([self.inside[:, list(order[t + 1 :])], self.outside], axis=1)
                total += Single(self.rows, self.left - t, self.complete, rest - self.inside[:, [item]]).jets(scale)
            log_p.append(total[0])
            first.append(total[1])
            second.append(total[2])
        value = np.logaddexp.reduce(log_p)
        weight = np.exp(np.array(log_p) - value)
        slope = (weight * first).sum(axis=0)
        return value, slope, (weight * (np.array(second) + np.square(first))).sum(axis=0) - slope**2

    def __len__(self) -> int:
        return len(self.inside)

    def gap_range(self, which: BoolArray) -> tuple[float, float]:
        """See :meth:`Choice.gap_range`; the gaps of each of the set to each of the rest."""
        inside, outside = self.inside[which], self.outside[which]
        low = (outside.min(axis=1) - inside.max(axis=1)).min(initial=0.0)
        return float(low), float((outside.max(axis=1) - inside.min(axis=1)).max(initial=0.0))

    def typical_gap(self) -> float:
        """See :meth:`Choice.typical_gap`."""
        return float(np.abs(self.outside.mean(axis=1) - self.inside.mean(axis=1)).mean())

    def slopes(self, scale: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """See :meth:`Choice.slopes`; the curvature is -l'' where that is positive."""
        _, first, second = self.jets(scale)
        return first, np.maximum(-second, 0.0)


def choices(h: PlackettLuce, y: Outcomes) -> list[Choice]:
    """All choices of aligned forecasts and outcomes (row i of both is one record).

    Complete rankings of m items give m - 1 choices a record, "only the best is known" one, a pair one. Cost: a sort
    of each record's items; pairs are not sorted.
    """
    out: list[Choice] = []
    for block in h.blocks():
        ranks = aligned_ranks(y, block)
        scores = block.dist.scores.dense() if isinstance(block.dist, PlackettLuce) else np.empty(ranks.shape)
        if scores.shape[1] == 2:
            out.extend(_pair(block.rows, scores, ranks))
        elif scores.shape[1] > 2:
            out.extend(_sorted(block.rows, scores, ranks))
    return out


def pair_choices(h: Distribution, y: Outcomes) -> list[Choice]:
    """Each pair whose order is known as one choice, with minus the model's log odds as its gap.

    For models of pairs alone: their likelihood of a longer ranking is that of its pairs taken one by one. Pairs of
    which the model says nothing are left out; certain ones have an infinite gap.
    """
    out: list[Choice] = []
    for block in h.blocks():
        ranks = aligned_ranks(y, block)
        records = _records(block.rows)
        first, second = np.triu_indices(ranks.shape[1], 1)
        # A column at a time: records with few ranked items have few known pairs.
        for a, b in zip(first, second, strict=True):
            direction = (ranks[:, a] > ranks[:, b]).astype(np.float64) - (ranks[:, a] < ranks[:, b])
            known = np.flatnonzero(direction)
            if len(known):
                odds = block.dist[known].pair_log_odds(np.array([a]), np.array([b]))[:, 0]
                said = ~np.isnan(odds)
                gaps = direction[known][said] * odds[said]
                out.append(Single(records[known[said]], 2, ranks.shape[1] == 2, gaps[:, None]))
    return out


def _pair(rows: Rows, scores: FloatArray, ranks: FloatArray) -> Iterator[Choice]:
    forward, backward = ranks[:, 0] < ranks[:, 1], ranks[:, 0] > ranks[:, 1]
    with np.errstate(over="ignore"):
        gap = scores[:, 1] - scores[:, 0]
    gap = np.where(forward, gap, -gap)
    known = forward | backward
    if not known.all():
        rows, gap = _records(rows)[known], gap[known]
    if len(gap):
        yield Single(rows, 2, True, _cut(gap)[:, None])


def _sorted(rows: Rows, scores: FloatArray, ranks: FloatArray) -> Iterator[Choice]:
    count, m = ranks.shape
    order = np.argsort(ranks, axis=1, kind="stable")  # NaN last
    ranks, scores = np.take_along_axis(ranks, order, axis=1), np.take_along_axis(scores, order, axis=1)
    same = ranks[:, 1:] == ranks[:, :-1]
    ranked = (~np.isnan(ranks)).sum(axis=1)
    end = np.empty((count, m), dtype=np.intp)  # one past the last place of the bucket of each place
    end[:, -1] = m
    for t in range(m - 2, -1, -1):
        end[:, t] = np.where(same[:, t], end[:, t + 1], t + 1)
    for t in range(m - 1):
        begins = end[:, t] < ranked if t == 0 else ~same[:, t - 1] & (end[:, t] < ranked)
        if not begins.any():
            continue
        shape = np.where(begins, end[:, t] * (m + 1) + ranked, -1)
        for code in np.unique(shape[begins]):
            stop, n_ranked = divmod(int(code), m + 1)
            mine = shape == code
            part: Rows
            if mine.all():
                part, s = rows, scores
            else:
                part, s = _records(rows)[mine], scores[mine]
            left, complete = n_ranked - t, n_ranked == m
            if stop - t == 1:
                with np.errstate(over="ignore"):
                    gaps = s[:, stop:n_ranked] - s[:, t : t + 1]
                yield Single(part, left, complete, _cut(gaps))
            else:
                shifted = s - s[:, t:n_ranked].mean(axis=1, keepdims=True)  # only differences matter
                yield Several(part, left, complete, _cut(shifted[:, t:stop]), _cut(shifted[:, stop:n_ranked]))


def _records(rows: Rows) -> IntArray:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _cut(values: FloatArray) -> FloatArray:
    size = np.abs(values).max(initial=0.0)
    return values if size <= _LARGEST_GAP else np.clip(values, -_LARGEST_GAP, _LARGEST_GAP)
