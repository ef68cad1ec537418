"""Kernel calibration error for notions whose forecast is a vector (canonical and full givens).

The squared kernel calibration error (SKCE; Widmann, Lindsten & Zachariah 2019, 2021) over two independent instances
is

    E[k(u, u') (K(y, y') - K(z, y') - K(y, z') + K(z, z'))],    z ~ h(x), z' ~ h(x'),

u what is conditioned on, k a Gaussian kernel, K a kernel between outcomes:

- ``delta`` (equal or not), for sub-k, top-k, topset-k and position: E[k r . r'], r = one-hot outcome - forecast.
- ``kendall``, for sub-2: the same for each pair, that is (1/2) E[k r_ab r'_ab] averaged over pairs, with
  r_ab = sgn_ab(y) - (2 P(a before b) - 1).
- ``mallows``, for full rankings: universal, and alike where rankings are alike, which is where models go wrong.

It is 0 exactly when the notion holds (with respect to what stands for the forecast; see ``given``). Random features
make it linear in the number of instances: see :mod:`~prefcal.estimators.kernel_state`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.distributions.samples import Samples
from prefcal.errors import UsageError
from prefcal.estimators.events import Items
from prefcal.estimators.inputs import aligned_ranks
from prefcal.estimators.kernel_features import Features, exchange
from prefcal.estimators.kernel_residuals import Outlook
from prefcal.estimators.kernel_state import KernelPlan, KernelState
from prefcal.estimators.null import NullLaw
from prefcal.estimators.ranking_kernels import DECAY
from prefcal.notions.notion import Notion
from prefcal.result import Interval
from prefcal.views import View

Kernel = Literal["delta", "kendall", "mallows"]
#: Bandwidth in root mean squared distances of forecasts. At 1 the kernel is nearly constant and sees mean residuals
#: but little else: Plackett-Luce, 3 to 5 labelled items, temperature 1.6, n = 300: found in 0 to 3 of 10 runs.
BANDWIDTH = 0.4
_OWN = 24  # outcome vectors up to this length keep their coordinates
_MIXES = 8
_FEATURES = ((20_000, 1024), (200_000, 512), (2_000_000, 256))  # D by number of instances, then 128
_SIGN_WORK = 2e10  # multiply-adds of the random signs
_REDRAW_WORK = 1e10
_COSINES = 3e8
_REFERENCES = 16


@dataclass(frozen=True, slots=True)
class KernelError:
    """Kernel estimate of a vector notion, its null law and interval, and how it was made.

    ``used`` (n,) is 1 for instances with a known outcome; ``given`` says what stands for the forecast that is
    conditioned on, ``null_method`` how the null law was found.
    """

    value: float
    null: NullLaw
    null_method: str
    interval: Interval
    n_events: int
    n_instances: int
    used: IntArray
    kernel: str
    method: str
    features: int
    frequencies: int
    references: int
    bandwidth: float
    given: str

    def settings(self) -> dict[str, Any]:
        """How the number was made, as plain data for a result's settings."""
        out = {
            "kernel": f"{self.kernel} on outcomes, Gaussian on forecasts", "method": self.method, "given": self.given,
            "bandwidth": self.bandwidth, "null": self.null_method, "draws": self.null.draws, "interval": "jackknife",
        }  # fmt: skip
        if self.features:
            out |= {"features": self.features, "frequencies": self.frequencies}
        if self.references:
            out["references"] = self.references
        return out


def kernel_error(
    h: Distribution,
    y: Outcomes,
    notion: Notion,
    items: Items,
    *,
    weights: FloatArray,
    clusters: IntArray | None,
    seed: int,
    kernel: Kernel | None = None,
) -> KernelError:
    """Unbiased squared kernel calibration error of a vector notion, averaged over members, in linear time.

    Exchangeable items are relabelled by the model's own order, and the subsets of sub-k are pooled. Where a view has
    one member (full, top-k, topset-k) and the work allows, the null law redraws outcomes from h: exact under the
    notion, at any sample size. Else it flips the residuals of each instance (or cluster) by random signs: exact
    where one reference ranking is drawn, else it needs many instances; it needs the notion itself, whatever the
    dependence inside a unit. The interval is a jackknife one, clipped at 0.

    Parameters
    ----------
    h, y
        Forecasts and outcomes, one each for n instances; all with the same number of items.
    notion, items
        The notion; ``rankwise`` is possible too (a kernel test of a scalar notion).
    weights
        (n,) weight of each instance.
    clusters
        (n,) codes; instances of equal code are one unit. None: each is its own.
    seed
        Of features, signs, references and draws.
    kernel
        See the module. Default: ``mallows`` for full, ``kendall`` for sub-2, else ``delta``.

    Raises
    ------
    UsageError
        When an instance's outcome vectors hold more than ``VECTOR_LIMIT`` numbers (full rankings may have any number
        of items), instances differ in their number of items, or the model states probabilities of pairs only.
    DataError
        With fewer than two instances of known outcome.

    Notes
    -----
    Full rankings of more than five items are compared with rankings drawn from h. Views whose exact marginals are not
    affordable are estimated from 256 rankings, independently for what is judged and what is conditioned on.
    ``Samples`` are taken as draws of a forecast: every second draw is judged, the others are conditioned on.
    """
    plan = plan_kernel(h, notion, items, kernel=kernel, clustered=clusters is not None, seed=seed)
    state, used = _filled(plan, h, y, weights, clusters, 0)
    if plan.redraws:
        how = "observed and drawn rankings exchanged" if plan.references else "outcomes drawn from the forecasts"
        method = f"exact Monte Carlo, {how}"
    else:
        method = "random signs of units"
    return KernelError(
        value=state.value, null=state.null(), null_method=method, interval=state.interval(), n_events=state.n_events,
        n_instances=state.n_units, used=used, kernel=plan.kernel, method="random features", features=state.size,
        frequencies=plan.frequencies, references=plan.references, bandwidth=plan.bandwidth, given=plan.given,
    )  # fmt: skip


def plan_kernel(
    h: Distribution,
    notion: str | Notion,
    items: Items = "labelled",
    *,
    n: int | None = None,
    kernel: Kernel | None = None,
    clustered: bool = False,
    redraw: bool = True,
    bandwidth: float | None = None,
    decay: float = DECAY,
    seed: int = 0,
) -> KernelPlan:
    """Settle a kernel estimate before outcomes are seen, for states that are made apart and merged.

    Parameters
    ----------
    h
        Forecasts, all or the first of them.
    notion, items, kernel, seed
        As in :func:`kernel_error`.
    n
        Number of instances that will come in all (default: those of ``h``): more instances get fewer features and
        draws, so that the work stays bounded.
    clustered
        Whether units are clusters of instances: then the null law is by signs.
    redraw
        Whether the null law may redraw outcomes; False for signs.
    bandwidth
        Of the Gaussian kernel on forecasts; default: ``BANDWIDTH`` times the root mean squared
        distance of 400 forecasts of ``h``.
    decay
        Of the Mallows kernel.
    """
    notion = Notion.parse(notion)
    outlook = Outlook(h, notion, items)
    kernel = _kernel(outlook, kernel)
    n = len(h) if n is None else n
    features = next((d for most, d in _FEATURES if n <= most), 128)
    length = outlook.width if outlook.pooled else outlook.members * outlook.width
    own = outlook.listed and length <= _OWN
    mixes = 0 if own else _MIXES
    each = length if own else _MIXES
    frequencies = int(np.clip(features // (2 * each), 16, 128))
    size = 2 * frequencies * each
    references = 0
    if not outlook.listed:
        references = int(np.clip(_COSINES / (max(n, 1) * size) - 1, 1, _REFERENCES))
        if isinstance(h, Samples):
            references = min(references, (h.n_draws + 1) // 2)
    redraws = 0
    if redraw and not clustered and outlook.members == 1 and notion.given != "rankwise":
        work = n * (size * (1 + references) if references else 2 * frequencies * outlook.width)
        affordable = int(_REDRAW_WORK / max(work, 1))
        sampled = outlook.listed and h[:1].marginal(outlook.view, rng=0, n_samples=1).stderr is not None
        redraws = min(affordable, 499) if affordable >= 199 and not sampled else 0
    # Where outcomes are redrawn signs serve for the standard error only.
    draws = 199 if redraws else int(np.clip(_SIGN_WORK / (max(n, 1) * size), 199, 499))
    if bandwidth is None:
        bandwidth = _bandwidth(h, outlook, seed)
    elif not (math.isfinite(bandwidth) and bandwidth > 0):
        raise UsageError(f"bandwidth must be a finite number > 0, got {bandwidth!r}")
    return KernelPlan(
        notion=notion.name, items=items, n_items=outlook.m, kernel=kernel, decay=decay, frequencies=frequencies,
        mixes=mixes, references=references, bandwidth=float(bandwidth), draws=draws, redraws=redraws,
        given=outlook.given, seed=seed,
    )  # fmt: skip


def _kernel(outlook: Outlook, kernel: Kernel | None) -> Kernel:
    pairs = outlook.view == View("sub", 2)
    rankings = outlook.full and outlook.notion.given != "rankwise"
    default: Kernel = "mallows" if rankings else "kendall" if pairs else "delta"
    allowed: tuple[Kernel, ...] = (default,)
    if rankings and outlook.listed:
        allowed = ("mallows", "delta")
    if kernel is None:
        return default
    if kernel not in allowed:
        raise UsageError.unknown(f"kernel for {outlook.notion.name} with {outlook.m} items", str(kernel), allowed)
    return kernel


def _bandwidth(h: Distribution, outlook: Outlook, seed: int) -> float:
    rng = np.random.default_rng([seed, 0])
    some = h[np.sort(rng.choice(len(h), min(len(h), 400), replace=False))]
    condition = outlook.condition(some, rng)
    points = condition.reshape(-1, condition.shape[-1])
    spread = float(np.nanmean(((points - np.nanmean(points, axis=0)) ** 2), axis=0).sum())
    return BANDWIDTH * math.sqrt(2 * spread) if spread > 1e-18 else 1.0


def kernel_state(
    plan: KernelPlan,
    h: Distribution,
    y: Outcomes,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    first: int = 0,
) -> KernelState:
    """The mergeable state of some instances; memory does not grow with their number.

    Parameters
    ----------
    plan
        From :func:`plan_kernel`, the same for all parts.
    h, y, weights, clusters
        As in :func:`kernel_error`; a cluster must lie in one part.
    first
        Number of the first instance (or cluster code 0) among all parts: parts must not overlap. Parts that start at
        a multiple of 4,096 merge to the bits of the whole; elsewhere sums round differently, and reference rankings
        are other draws of the same forecasts.

    Examples
    --------
    >>> import prefcal as pc
    >>> h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(300, 4)))
    >>> y = pc.Outcomes.from_orders(h.sample(1, 1)[:, 0])
    >>> plan = plan_kernel(h, "full:canonical")
    >>> parts = [kernel_state(plan, h[:100], y[:100]), kernel_state(plan, h[100:], y[100:], first=100)]
    >>> whole = kernel_state(plan, h, y)
    >>> abs((parts[0] + parts[1]).value - whole.value) < 1e-9
    True
    """
    if len(h) != len(y):
        raise UsageError(f"{len(h)} forecasts but {len(y)} outcomes; there must be one outcome for each forecast")
    if clusters is not None and plan.redraws:
        raise UsageError("clusters need random signs: plan_kernel(..., clustered=True)")
    return _filled(plan, h, y, np.ones(len(y)) if weights is None else weights, clusters, first)[0]


def _filled(
    plan: KernelPlan, h: Distribution, y: Outcomes, weights: FloatArray, clusters: IntArray | None, first: int
) -> tuple[KernelState, IntArray]:
    outlook = Outlook(h, Notion.parse(plan.notion), plan.items)  # type: ignore[arg-type]
    if outlook.m != plan.n_items or outlook.given != plan.given:
        raise UsageError(
            f"the plan is for {plan.n_items} items given {plan.given}; these forecasts have {outlook.m} items given "
            f"{outlook.given}"
        )
    features = Features(plan, outlook, h)
    state = KernelState(plan, features.size, 1 if outlook.pooled else outlook.members)
    used = np.zeros(len(y), dtype=np.intp)
    for start, rows, block in _whole_clusters(h, clusters, first, features.rows_at_once):
        rng = np.random.default_rng([plan.seed, 2, start])
        ranks = aligned_ranks(y, block)
        ranks = np.where(weights[rows, None] == 0, np.nan, ranks)
        found = outlook.residuals(block.dist, ranks, plan.references, rng)
        known = found.known.any(axis=1)
        used[rows] = known
        w = weights[rows] * known
        phi = features.forecast(found)
        if found.rankings is None:
            units = features.listed(found, phi) * w[:, None]
        else:
            candidates = features.drawn(found.rankings, phi) * w[:, None, None].astype(np.float32)
            units = candidates[:, 0].astype(np.float64)
        if plan.redraws:
            if found.rankings is None:
                assert found.probs is not None
                features.redraw(state, phi[:, 0], found.probs, w, rng)
            else:
                exchange(state, candidates, rng)
        mass, numbers = w, rows + first
        if clusters is not None:
            starts = np.flatnonzero(np.diff(clusters[rows], prepend=-1))
            units, mass = np.add.reduceat(units, starts, axis=0), np.add.reduceat(mass, starts)
            numbers = clusters[rows][starts] + first
        state.add(units, mass, numbers, int(found.known.sum()))
    return state, used


def _whole_clusters(
    h: Distribution, clusters: IntArray | None, first: int, step: int
) -> Iterator[tuple[int, IntArray, Block]]:
    """Blocks of instances, sorted so that a cluster is never split; cut at multiples of ``step``."""
    n = len(h)
    grid = np.arange(-(first % step), n + step, step)
    if clusters is None:
        order, edges = np.arange(n), np.clip(grid, 0, n)
    else:
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        cuts = [starts[np.searchsorted(starts, e, side="right") - 1] for e in range(0, n, step)]
        edges = np.array([*cuts, n])
    for low, high in pairwise(np.unique(edges).tolist()):
        rows = order[low:high]
        yield first + low, rows, Block(rows, h[rows], None)
