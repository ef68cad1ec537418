"""The Plackett-Luce likelihood of complete, partial and tied rankings, with its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray

# The trapezoidal rule on the log of the race's time. The ends lose exp(-37) on the left, exp(-exp(5.5)) on the right.
# The integrand is analytic in a strip, so the error falls exponentially in 1 / step, the slower the more items are
# tied: with these steps, each up to a number of tied items, it was below 1e-11 at every spread of scores tried.
_STEPS = ((4, 0.2), (30, 0.125), (100, 0.06))
_FINEST = 0.03


@dataclass(frozen=True, slots=True)
class Tied:
    """Buckets of one size with unknown order inside and items below them: the stages that need an integral."""

    rows: IntArray  # (e,)
    places: IntArray  # (e, size) places in the sorted row


class Stages:
    """Rankings taken apart into Plackett-Luce stages, so that their likelihood is a few array passes.

    The probability of a bucket order is the product over its buckets T, from the best, of P(the items T come
    before the items R ranked below them). For one item in T that is a softmax. For more, their order being unknown,
    it is the exact sum over the orders of T, as the probability of an exponential race in which every item of T
    arrives before the first one of R:

        P = integral over t of r exp(-r t) prod over a in T of (1 - exp(-v_a t)),  v = exp(score), r = sum of R's v,

    by the trapezoidal rule in log t (relative error below 1e-11). The last bucket is certain; unranked items take no
    part. All this is log-concave in the scores: the event is a convex set of noisy scores (Prekopa).

    Parameters
    ----------
    ranks
        (n, m) dense ranks, NaN = unranked, equal = tied.
    """

    __slots__ = ("below", "order", "single", "tied", "wins")

    def __init__(self, ranks: FloatArray) -> None:
        n, m = ranks.shape
        #: (n, m) items, best first, unranked last.
        self.order: IntArray = np.argsort(ranks, axis=1, kind="stable")
        sorted_ranks = np.take_along_axis(ranks, self.order, axis=1)
        ranked = ~np.isnan(sorted_ranks)
        new = np.ones((n, m + 1), dtype=bool)  # does a bucket start at this place?
        new[:, 1:m] = sorted_ranks[:, 1:] != sorted_ranks[:, :-1]
        worst = np.fmax.reduce(sorted_ranks, axis=1, keepdims=True)
        #: (n, m) ranked places.
        self.below = ranked
        above_last = ranked & (sorted_ranks < worst)
        #: (n, m) places that hold a bucket of one item with items below it.
        self.single = above_last & new[:, :m] & new[:, 1:]
        #: (n, m) by item: 1 where the item is above the last bucket, so that it wins exactly one stage.
        self.wins = np.empty((n, m))
        np.put_along_axis(self.wins, self.order, above_last.astype(np.float64), axis=1)
        rows, starts = np.nonzero(above_last & new[:, :m] & ~new[:, 1:])
        next_start = np.where(new, np.arange(m + 1), m)
        next_start = np.minimum.accumulate(next_start[:, ::-1], axis=1)[:, ::-1]
        sizes = next_start[rows, starts + 1] - starts
        self.tied: list[Tied] = [
            Tied(rows[sizes == size], starts[sizes == size][:, None] + np.arange(size)) for size in np.unique(sizes)
        ]

    def value_and_gradient(self, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log-likelihood of each ranking and its derivative.

        Parameters
        ----------
        scores
            (n, m) log-utilities. Cost O(n m), plus some hundred times the number of items in tied buckets.

        Returns
        -------
        (n,) log-likelihoods and (n, m) derivatives by the scores; each row of these sums to 0.
        """
        s, log_rest = self._sorted(scores)
        value = np.where(self.single, s, 0.0).sum(axis=1) - np.where(self.single, log_rest, 0.0).sum(axis=1)
        share = self.single.astype(np.float64)  # weight of the stage whose choice set starts at this place
        direct = share.copy()
        for tied in self.tied:
            after = tied.places[:, -1] + 1
            log_p, slopes, _ = log_before(s[tied.rows[:, None], tied.places], log_rest[tied.rows, after])
            np.add.at(value, tied.rows, log_p)
            direct[tied.rows[:, None], tied.places] += slopes
            share[tied.rows, after] += slopes.sum(axis=1)
        slope = direct - _drawn(s, log_rest, share)
        gradient = np.empty_like(scores)
        np.put_along_axis(gradient, self.order, slope, axis=1)
        return value, gradient

    def curvature(self, scores: FloatArray) -> FloatArray:
        """Minus the second derivatives of each log-likelihood, (n, m, m), positive semi-definite; O(n m^2)."""
        s, log_rest = self._sorted(scores)
        n, m = s.shape
        share = self.single.astype(np.float64)
        pulled = np.zeros((n, m))  # what ties take off the outer products of the stage that starts here
        blocks = np.zeros((n, m, m))
        for tied in self.tied:
            rows, first, second = tied.rows[:, None, None], tied.places[:, :, None], tied.places[:, None, :]
            after = tied.places[:, -1] + 1
            rest = log_rest[tied.rows, after]
            _, slopes, curves = log_before(s[tied.rows[:, None], tied.places], rest, curvature=True)
            assert curves is not None
            share[tied.rows, after] += slopes.sum(axis=1)
            pulled[tied.rows, after] += curves.sum(axis=(1, 2))
            blocks[rows, first, second] += curves
            chance = np.where(
                np.arange(m) >= after[:, None], np.exp(np.minimum(s[tied.rows] - rest[:, None], 0.0)), 0.0
            )
            cross = curves.sum(axis=2)[:, :, None] * chance[:, None, :]
            np.subtract.at(blocks, (rows, first, np.arange(m)[None, None, :]), cross)
            np.subtract.at(blocks, (rows, np.arange(m)[None, :, None], second), cross.transpose(0, 2, 1))
        # Places a <= b share the stages up to a: the sum over them of p_a p_b is v_a v_b times a running sum at a.
        earlier = np.minimum(np.arange(m)[:, None], np.arange(m))
        outer = np.zeros((n, m, m))
        for amount, sign in ((share, -1.0), (pulled, 1.0)):
            if amount.any():
                log_sum = np.logaddexp.accumulate(_log_ratio(amount, log_rest, 2.0), axis=1)
                outer += sign * np.exp(s[:, :, None] + s[:, None, :] + log_sum[:, earlier])
        outer[:, np.arange(m), np.arange(m)] += _drawn(s, log_rest, share)
        place = np.argsort(self.order, axis=1)
        total: FloatArray = (outer + blocks)[np.arange(n)[:, None, None], place[:, :, None], place[:, None, :]]
        return total

    def _sorted(self, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Scores by place, -inf where unranked, and the log of the summed utilities from each place on."""
        s = np.where(self.below, np.take_along_axis(scores, self.order, axis=1), -np.inf)
        return s, np.logaddexp.accumulate(s[:, ::-1], axis=1)[:, ::-1]


def _log_ratio(amount: FloatArray, log_rest: FloatArray, power: float) -> FloatArray:
    """Log of amount / rest ** power; -inf where the amount is 0."""
    with np.errstate(divide="ignore"):
        return np.where(
            amount > 0, np.log(np.maximum(amount, 0.0)) - power * np.where(amount > 0, log_rest, 0.0), -np.inf
        )


def _drawn(s: FloatArray, log_rest: FloatArray, share: FloatArray) -> FloatArray:
    """Expected number of stages that each place wins: v times the running sum of share / rest."""
    drawn: FloatArray = np.exp(s + np.logaddexp.accumulate(_log_ratio(share, log_rest, 1.0), axis=1))
    return drawn


def log_before(
    scores: FloatArray, log_rest: FloatArray, *, curvature: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Log probability that a set of items comes before all others, and its derivatives.

    Parameters
    ----------
    scores
        (e, t) log-utilities of the set's items.
    log_rest
        (e,) log of the summed utilities of the others.
    curvature
        Whether to give second derivatives too.

    Returns
    -------
    (e,) log probabilities, (e, t) derivatives by ``scores`` (the derivative by ``log_rest`` is minus their sum) and
    minus the second derivatives (e, t, t) or None.

    Examples
    --------
    >>> p, _, _ = log_before(np.zeros((1, 2)), np.zeros(1))
    >>> float(np.exp(p[0]).round(12))
    0.333333333333
    """
    count, t = scores.shape
    log_p, slopes = np.empty(count), np.empty((count, t))
    curves = np.empty((count, t, t)) if curvature else None
    log_time, log_base = _nodes(t)
    step = max(1, (1 << 18) // (t * len(log_time)))
    for start in range(0, count, step):
        part = slice(start, start + step)
        log_z = (scores[part] - log_rest[part, None])[:, :, None] + log_time
        z = np.exp(np.clip(log_z, -700.0, 700.0))
        # log(1 - exp(-z)) is log z where z is tiny.
        log_arrived = np.where(log_z < -40.0, log_z, np.log(-np.expm1(-z)))
        terms = log_arrived.sum(axis=1) + log_base
        largest = terms.max(axis=1, keepdims=True)
        mass = np.exp(terms - largest)
        total = mass.sum(axis=1, keepdims=True)
        mass /= total
        log_p[part] = (largest + np.log(total))[:, 0]
        z = np.minimum(z, 700.0)
        slope = z / np.expm1(z)  # derivative of log(1 - exp(-z)) by log z
        mean = np.einsum("ek,etk->et", mass, slope)
        slopes[part] = mean
        if curves is not None:
            inside = np.einsum("ek,etk->et", mass, slope * (1.0 - z - slope))
            spread = np.einsum("ek,eak,ebk->eab", mass, slope, slope, optimize=True)
            curves[part] = mean[:, :, None] * mean[:, None, :] - spread - inside[:, :, None] * np.eye(t)
    return log_p, slopes, curves


@cache
def _nodes(tied: int) -> tuple[FloatArray, FloatArray]:
    """Nodes on the log of time, and the log of weight times density there, for a bucket of ``tied`` items."""
    step = next((step for most, step in _STEPS if tied <= most), _FINEST)
    log_time = np.arange(-37.0, 5.6, step)
    return log_time, log_time - np.exp(log_time) + np.log(step)
