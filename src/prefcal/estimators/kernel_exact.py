"""The kernel calibration error without random features: every pair of instances, for small data and as an oracle."""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.events import Items
from prefcal.estimators.inputs import aligned_ranks
from prefcal.estimators.kernel import Kernel, KernelError, plan_kernel
from prefcal.estimators.kernel_residuals import Outlook, Residuals
from prefcal.estimators.kernel_state import unit_signs
from prefcal.estimators.null import compare
from prefcal.estimators.ranking_kernels import kendall_embedding, mallows_kernel
from prefcal.notions.notion import Notion
from prefcal.views import View

MOST_RANKINGS = 8192  # observed and reference rankings; a matrix of all pairs takes half a GiB
_DRAWS = 999


def exact_kernel_error(
    h: Distribution,
    y: Outcomes,
    notion: str | Notion,
    items: Items = "labelled",
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    seed: int = 0,
    kernel: Kernel | None = None,
    bandwidth: float | None = None,
) -> KernelError:
    """The unbiased U-statistic that :func:`~prefcal.estimators.kernel.kernel_error` approximates, by all pairs.

    O(n^2) time and memory; the only randomness is in the null law (random signs of units) and, for full rankings of
    more than five items, in the reference rankings.

    Parameters
    ----------
    h, y, notion, items, weights, clusters, seed, kernel
        As in :func:`~prefcal.estimators.kernel.kernel_error`.
    bandwidth
        Of the Gaussian kernel on forecasts; default as in :func:`~prefcal.estimators.kernel.plan_kernel`.

    Raises
    ------
    UsageError
        Beyond ``MOST_RANKINGS`` observed and reference rankings, and as in ``kernel_error``.
    DataError
        With fewer than two instances of known outcome.
    """
    notion, n = Notion.parse(notion), len(y)
    if len(h) != n:
        raise UsageError(f"{len(h)} forecasts but {n} outcomes; there must be one outcome for each forecast")
    plan = plan_kernel(h, notion, items, kernel=kernel, bandwidth=bandwidth, seed=seed)
    count = n * (1 + plan.references)
    if count > MOST_RANKINGS:
        raise UsageError(
            f"{n} instances with {plan.references} reference rankings each are more than {MOST_RANKINGS}; "
            "kernel_error() is linear in their number"
        )
    outlook = Outlook(h, notion, items)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    block = Block(slice(0, n), h, None)
    ranks = np.where(w[:, None] == 0, np.nan, aligned_ranks(y, block))
    found = outlook.residuals(h, ranks, plan.references, np.random.default_rng([seed, 2, 0]))
    known = found.known.any(axis=1)
    w = w * known
    each = _pairs(found, outlook, plan.kernel, plan.bandwidth, plan.decay) * np.outer(w, w)
    mass = w
    if clusters is not None:
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        each = np.add.reduceat(np.add.reduceat(each[np.ix_(order, order)], starts, axis=0), starts, axis=1)
        mass = np.add.reduceat(w[order], starts)
    np.fill_diagonal(each, 0.0)
    units = int((mass > 0).sum())
    if units < 2:
        raise DataError(
            f"{notion.name}: a kernel estimate needs at least two instances with a known outcome, found {units}"
        )
    members = 1 if outlook.pooled else outlook.members
    scale = members * (mass.sum() ** 2 - (mass**2).sum())
    value = float(each.sum()) / scale
    signs = unit_signs(np.arange(len(each)), _DRAWS, seed)
    simulated = ((signs.T @ each) * signs.T).sum(axis=1) / scale
    projection = each.sum(axis=1) - value * members * mass * (mass.sum() - mass)
    se = max(2 * math.sqrt(float((projection**2).sum())) / scale, float(simulated.std(ddof=1)))
    return KernelError(
        value=value, null=compare(value, simulated), null_method="random signs of units",
        interval=(max(value - Z95 * se, 0.0), max(value + Z95 * se, 0.0)), n_events=int(found.known.sum()),
        n_instances=units, used=np.asarray(known, dtype=np.intp), kernel=plan.kernel, method="all pairs of instances",
        features=0, frequencies=0, references=plan.references, bandwidth=plan.bandwidth, given=plan.given,
    )  # fmt: skip


def _pairs(found: Residuals, outlook: Outlook, kernel: str, bandwidth: float, decay: float) -> FloatArray:
    """(n, n) k(u, u') r . r' summed over members; over all pairs of subsets where these are pooled."""
    n = len(found.known)
    if found.rankings is not None:
        count = found.rankings.shape[1]
        x = kendall_embedding(found.rankings).reshape(n * count, -1).astype(np.float64)
        share = (1.0 - x @ x.T / x.shape[1]) / 2
        coefficient = np.full(count, -1.0 / (count - 1))
        coefficient[0] = 1.0
        gram = np.exp(-decay * share).reshape(n, count, n, count)
        between: FloatArray = np.einsum("iajb,a,b->ij", gram, coefficient, coefficient, optimize=True)
        return between * _gaussian(found.condition[:, 0], bandwidth)
    r = found.vector
    assert r is not None
    if kernel == "mallows":
        ranks = np.argsort(View("full").outcomes(outlook.m)[0], axis=1)
        between = r[:, 0] @ mallows_kernel(ranks, ranks, decay) @ r[:, 0].T
        return between * _gaussian(found.condition[:, 0], bandwidth)
    if outlook.pooled:
        members = r.shape[1]
        u = np.broadcast_to(found.condition, (n, members, found.condition.shape[2])).reshape(n * members, -1)
        flat = r.reshape(n * members, -1)
        between = (flat @ flat.T) * _gaussian(u, bandwidth)
        between = np.asarray(between.reshape(n, members, n, members).sum(axis=(1, 3)), dtype=np.float64)
        return between
    out = np.zeros((n, n))
    for g in range(r.shape[1]):
        u = found.condition[:, min(g, found.condition.shape[1] - 1)]
        out += (r[:, g] @ r[:, g].T) * _gaussian(u, bandwidth)
    return out


def _gaussian(u: FloatArray, bandwidth: float) -> FloatArray:
    squared = (u**2).sum(axis=1)
    distance = np.maximum(squared[:, None] + squared - 2 * (u @ u.T), 0.0)
    kernel: FloatArray = np.exp(-distance / (2 * bandwidth**2))
    return kernel
