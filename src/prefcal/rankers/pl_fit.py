"""Plackett-Luce models of many weighted groups of rankings at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

from prefcal.data.ragged import FloatArray
from prefcal.rankers.stages import Stages

_ARMIJO = 1e-4
_HALVINGS = 40


def fit_plackett_luce(
    ranks: FloatArray, membership: Any, *, prior: float, tol: float = 1e-6, max_iter: int = 100
) -> FloatArray:
    """Log-utilities of each group's Plackett-Luce model, partial rankings and ties with their exact likelihood.

    Maximises the weighted log-likelihood plus that of ``prior (m - 1)`` comparisons spread evenly over all ordered
    pairs: as many choices as ``prior`` complete rankings make, without any preference. The maximum is the fixed
    point of Hunter's MM iteration,

        v_a <- W_a / (sum over the stages that offer a of 1 / (sum of v over the offered items)),

    which takes thousands of steps where rankings agree strongly. The loss is convex in log v, so Newton's method with
    step halving, all groups in step, finds the same point in about ten.

    Parameters
    ----------
    ranks
        (u, m) dense ranks, NaN = unranked, equal = tied.
    membership
        (q, u) sparse weights >= 0 of the rankings in each group.
    prior
        > 0 makes the maximum finite and unique; with 0 it may not exist (some items beat all others).
    tol
        Stop a group when no derivative by a score exceeds ``tol`` times its weight (prior included).
    max_iter
        Most iterations; a ConvergenceWarning tells how many groups are not done then.

    Returns
    -------
    (q, m) log-utilities, each row with mean 0.

    References
    ----------
    D. R. Hunter (2004), MM algorithms for generalized Bradley-Terry models, Annals of Statistics 32.
    """
    weights = csr_array(membership)
    out = np.zeros((weights.shape[0], ranks.shape[1]))
    left = 0
    for start, stop in _chunks(weights, ranks.shape[1]):
        out[start:stop], missed = _fit_chunk(ranks, weights[start:stop], prior, tol, max_iter)
        left += missed
    if left:
        warnings.warn(
            f"{left} of {len(out)} Plackett-Luce fits did not converge; raise prior (now {prior:g}): without it the "
            "utilities are infinite where some items always come first",
            ConvergenceWarning,
            stacklevel=4,
        )
    return out


def _chunks(weights: Any, m: int, budget: int = 1 << 18) -> Iterator[tuple[int, int]]:
    """Ranges of groups with at most about ``budget`` ranks in their members."""
    q, start = weights.shape[0], 0
    while start < q:
        stop = int(np.searchsorted(weights.indptr, weights.indptr[start] + budget // m, side="right")) - 1
        stop = min(max(stop, start + 1), q)
        yield start, stop
        start = stop


class _Loss:
    """Penalised negative log-likelihood of the groups of one chunk, per unit of weight."""

    def __init__(self, ranks: FloatArray, weights: Any, prior: float) -> None:
        self.m = ranks.shape[1]
        self.stages = Stages(ranks[weights.indices])
        self.group = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        total = np.asarray(weights.sum(axis=1)).reshape(-1) + prior
        shares = weights.data / total[self.group]
        self.mean = csr_array((shares, np.arange(weights.nnz), weights.indptr), shape=(len(total), weights.nnz))
        self.pair = prior / (self.m * total)  # weight of each ordered pair

    def __call__(self, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        likelihood, slope = self.stages.value_and_gradient(scores[self.group])
        value, gradient = -(self.mean @ likelihood), -(self.mean @ slope)
        for gap in range(1, self.m):  # each ordered pair (a, b) once as "a wins"
            lead = scores - np.roll(scores, gap, axis=1)
            value += self.pair * np.logaddexp(0.0, -lead).sum(axis=1)
            gradient += self.pair[:, None] * np.tanh(0.5 * lead)
        return value, gradient

    def curvature(self, scores: FloatArray) -> FloatArray:
        q, m = scores.shape
        each = self.stages.curvature(scores[self.group])
        total: FloatArray = (self.mean @ each.reshape(-1, m * m)).reshape(q, m, m)
        lead = np.clip(scores[:, :, None] - scores[:, None, :], -700.0, 700.0)
        pairs = (2.0 * self.pair)[:, None, None] / (2.0 + np.exp(lead) + np.exp(-lead)) * (1.0 - np.eye(m))
        total -= pairs
        total[:, np.arange(m), np.arange(m)] += pairs.sum(axis=2)
        return total


def _fit_chunk(ranks: FloatArray, weights: Any, prior: float, tol: float, max_iter: int) -> tuple[FloatArray, int]:
    """Newton's method on all groups in step; groups that are done leave when a quarter is done."""
    q, m = weights.shape[0], ranks.shape[1]
    result = np.zeros((q, m))
    active = np.arange(q)
    loss = _Loss(ranks, weights, prior)
    scores = np.zeros((q, m))
    value, gradient = loss(scores)
    stuck = np.zeros(q, dtype=bool)
    left = 0
    for _ in range(max_iter):
        go = (np.abs(gradient).max(axis=1) > tol) & ~stuck
        if not go.any():
            break
        if go.mean() <= 0.75:
            result[active] = scores
            left += int((stuck & (np.abs(gradient).max(axis=1) > tol)).sum())
            active, scores, value, gradient = active[go], scores[go], value[go], gradient[go]
            loss = _Loss(ranks, weights[active], prior)
            stuck, go = stuck[go], go[go]
        direction = newton_direction(loss.curvature(scores), gradient)
        slope = (direction * gradient).sum(axis=1)
        step, good = np.where(go, 1.0, 0.0), go
        for halving in range(_HALVINGS + 1):
            if halving == _HALVINGS:
                step[~good] = 0.0
            trial = scores + step[:, None] * direction
            new_value, new_gradient = loss(trial)
            # Close to the minimum the values agree to all digits: then the gradients decide.
            flat = np.abs(new_value - value) <= 1e-13 * (1.0 + np.abs(value))
            shrinks = np.abs(new_gradient).max(axis=1) <= np.abs(gradient).max(axis=1)
            good = (new_value <= value + _ARMIJO * step * slope) | (flat & shrinks)
            if good.all():
                break
            step = np.where(good, step, 0.5 * step)
        stuck |= go & (step == 0.0)
        scores, value, gradient = trial, new_value, new_gradient
    result[active] = scores
    left += int((np.abs(gradient).max(axis=1) > tol).sum())
    return result - result.mean(axis=1, keepdims=True), left


def newton_direction(curvature: FloatArray, gradient: FloatArray) -> FloatArray:
    """Newton steps (q, m) for losses that do not change when all scores of a group grow alike.

    Parameters
    ----------
    curvature
        (q, m, m) second derivatives, positive semi-definite; constants are in the null space.
    gradient
        (q, m).

    Notes
    -----
    The null space is filled with the mean curvature. Where the loss is nearly flat (utilities that tend to
    infinity) a relative ridge of 1e-10 keeps the step finite, and no score moves by more than 5.
    """
    m = curvature.shape[1]
    scale = np.trace(curvature, axis1=1, axis2=2)[:, None, None] / m + 1e-300
    full = curvature + scale * (1.0 / m + 1e-10 * np.eye(m))
    direction = -np.linalg.solve(full, gradient[:, :, None])[:, :, 0]
    largest = np.abs(direction).max(axis=1, keepdims=True)
    limited: FloatArray = direction * np.minimum(1.0, 5.0 / np.maximum(largest, 1e-300))
    return limited
