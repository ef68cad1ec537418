"""Means over all subsets of the candidates: what a choice model claims about its pick, and how often it is right."""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import chunks

# A gap of this size between neighbouring log-weights is as good as infinite: exp(-40) is below half an ulp of 1.
_GAP = 40.0
# Trapezoid step on the log time axis. Each term is a Gumbel density, for which the rule errs by at most
# 2 |Gamma(1 + 2 pi i / step)| < 1e-13 relative.
_STEP = 0.3
_BEYOND = 38.0  # exp(-38) of the mass is cut off on the left; exp(-exp(3.9)) on the right
_ELEMENTS = 1 << 21
_ENUMERATED = 12  # up to here 2^m subsets are cheaper than the integral


def expected_claims(log_weights: FloatArray, best: IntArray | None, top: int) -> FloatArray:
    """Mean over subsets S of max over S of w / (sum over S of w), for every size up to ``top``.

    Parameters
    ----------
    log_weights
        (b, m) logarithms; -inf counts as far below all others.
    best
        (b,) an item that every subset must hold, or None for all subsets.
    top
        Largest size.

    Returns
    -------
    (b, top + 1), column n for subsets of n items; column 0 is NaN.

    Notes
    -----
    Up to 12 items by enumeration, 2^m numbers a row. Beyond, 1/W_S = integral of e^{-W_S t} dt turns the sum over
    subsets into integrals of w e^{-wt} times elementary symmetric polynomials of the e^{-wt} of the items below, on a
    grid of log t: error below 1e-12, O(m top) for each of some hundred nodes.
    """
    b, m = log_weights.shape
    order = np.argsort(-log_weights, axis=1, kind="stable")
    s = np.take_along_axis(log_weights, order, axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.nan_to_num(np.diff(s, axis=1), nan=0.0, neginf=-_GAP)
    s = np.concatenate([np.zeros((b, 1)), np.cumsum(np.maximum(gaps, -_GAP), axis=1)], axis=1)
    place = np.full(b, -1) if best is None else np.argmax(order == best[:, None], axis=1)
    if m <= _ENUMERATED:
        out = np.empty((b, top + 1))
        for part in chunks(b, 1 << m, _ELEMENTS):
            out[part] = _enumerate(s[part], place[part], best is not None, top)
        return out
    out = np.full((b, top + 1), np.nan)
    by_range = np.argsort(-s[:, -1], kind="stable")
    start = 0
    while start < b:
        # The slice's widest scores are its last ones; a first guess at the number of nodes sets its length.
        nodes = int((_BEYOND + math.log(m) + 4.0 - s[by_range[start], -1]) / _STEP) + 2
        stop = min(b, start + max(1, _ELEMENTS // (2 * nodes * (top + 1))))
        rows = by_range[start:stop]
        out[rows] = _integrate(s[rows], place[rows], best is not None, top)
        start = stop
    return out


def _integrate(s: FloatArray, place: IntArray, forced: bool, top: int) -> FloatArray:
    b, m = s.shape
    x = np.arange(-math.log(m) - _BEYOND, -s.min() + 4.0 + _STEP, _STEP)
    symmetric = np.zeros((b, len(x), top + 1))  # of e^{-w t} of the items so far, by degree
    symmetric[:, :, 0] = 1.0
    total = np.zeros((b, top + 1))
    holds = np.full(b, not forced)
    for j in range(m - 1, -1, -1):
        rate = np.exp(np.minimum(s[:, j, None] + x, 700.0))
        alive = np.exp(-rate)
        at = place == j
        holds = holds | at
        density = np.where(holds[:, None], rate * alive, 0.0)
        total[:, 1:] += _STEP * np.einsum("bq,bqk->bk", density, symmetric[:, :, :-1])
        with_j = symmetric[:, :, :-1] * alive[:, :, None]
        if at.any():
            symmetric[at] = 0.0
        symmetric[:, :, 1:] += with_j
    return _mean(total, m, forced)


def _enumerate(s: FloatArray, place: IntArray, forced: bool, top: int) -> FloatArray:
    b, m = s.shape
    total = np.zeros((b, top + 1))
    for i in range(m):  # the subset's item of largest weight; bit j stands for item i + 1 + j
        relative = np.exp(s[:, i + 1 :] - s[:, i, None])
        below = np.zeros((b, 1))
        for j in range(m - 1 - i):
            below = np.concatenate([below, below + relative[:, j, None]], axis=1)
        masks = np.arange(below.shape[1])
        sizes = 1 + sum(((masks >> j) & 1 for j in range(m - 1 - i)), np.zeros_like(masks))
        claim = 1.0 / (1.0 + below)
        if forced:
            held = (masks >> np.maximum(place - i - 1, 0)[:, None]) & 1
            claim *= np.where((place == i)[:, None], 1, held) * (place >= i)[:, None]
        total += claim @ (sizes[:, None] == np.arange(top + 1))
    return _mean(total, m, forced)


def _mean(total: FloatArray, m: int, forced: bool) -> FloatArray:
    """Sums over subsets divided by their number; NaN for size 0."""
    top = total.shape[1] - 1
    counts = [math.comb(m - 1, n - 1) if forced else math.comb(m, n) for n in range(1, top + 1)]
    out = np.full(total.shape, np.nan)
    out[:, 1:] = np.minimum(total[:, 1:] / np.maximum(np.array(counts, dtype=float), 1.0), 1.0)
    return out


def expected_hits(log_weights: FloatArray, ranks: FloatArray, best: IntArray | None, top: int) -> FloatArray:
    """Share of subsets whose item of largest weight is truly their best; tied weights share it.

    Parameters
    ----------
    log_weights
        (b, m), higher = preferred by the model.
    ranks
        (b, m), smaller = better; only used where ``best`` is None (complete rankings).
    best
        (b,) an item that every subset must hold and that is better than all others, or None.
    top
        Largest size.

    Returns
    -------
    (b, top + 1), column n for subsets of n items; column 0 is NaN.
    """
    b, m = log_weights.shape
    below = log_weights[:, None, :] < log_weights[:, :, None]  # [i, a, c]: the model places c below a
    level = log_weights[:, None, :] == log_weights[:, :, None]
    level[:, np.arange(m), np.arange(m)] = False
    if best is None:
        worse = ranks[:, None, :] > ranks[:, :, None]
        below, level = below & worse, level & worse
    n_below, n_level = below.sum(axis=2), level.sum(axis=2)  # (b, m)
    if best is not None:
        n_below, n_level = (np.take_along_axis(v, best[:, None], axis=1) for v in (n_below, n_level))
    binomial = np.array([[math.comb(a, k) for k in range(top + 1)] for a in range(m + 1)], dtype=float)
    out = np.full((b, top + 1), np.nan)
    for n in range(1, top + 1):
        hits = np.zeros(b)
        for t in range(1, min(n, int(n_level.max(initial=0)) + 1) + 1):  # t items share the subset's largest weight
            hits += (binomial[n_level, t - 1] * binomial[n_below, n - t]).sum(axis=1) / t
        total = math.comb(m, n) if best is None else math.comb(m - 1, n - 1)
        out[:, n] = hits / total if total else np.nan
    return out
