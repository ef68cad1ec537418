"""Dirichlet-kernel canonical calibration error (Popordanoska, Sayer & Blaschko 2022), as the paper uses it.

At instance j the outcome is regressed on the forecast, leaving j out:

    E_j = sum_{i != j} w_ij y_i / (sum_{i != j} w_ij + 1e-8),
    log w_ij = log density of Dirichlet(f_i / h + 1) at f_j - its largest value over i != j,

with f clamped at 1e-8 inside the logarithm of the density, y_i the one-hot outcome. The error is the mean over j of
|E_j - f_j|_1; of sub-k, the mean of that over the subsets. The estimate is biased, often by more than the errors that
it is used to measure, which is why its null mean comes with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import gammaln

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError
from prefcal.estimators.labelled import LabelledView
from prefcal.estimators.null import compare
from prefcal.views import View

CLAMP = 1e-8  # smallest probability inside the logarithm
EPSILON = 1e-8  # added to the sum of the weights
# Numbers of forecasts and redrawn outcomes that are kept: 1 GiB of float64.
STATE_LIMIT = 1 << 27
_WORK = 1 << 21


@dataclass(frozen=True, slots=True)
class DirichletKernelError:
    """The Dirichlet-kernel canonical calibration error of a view.

    ``float()`` gives ``value``.

    Parameters
    ----------
    view, bandwidth
        The view's name and the bandwidth h.
    value
        Mean of ``errors``, in [0, 2].
    errors
        (G,) error of each member (of each subset for ``sub-k``); NaN where fewer than 2 instances tell.
    n_instances
        (G,) instances that entered each member.
    null_mean, p_value
        Expected value and p-value under full calibration, by redrawing outcomes from h; None without draws. The
        p-value is None for pairwise probabilities too: they do not state how the pairs of an instance depend.
    draws, seed
        How the null law was made.
    """

    view: str
    bandwidth: float
    value: float
    errors: FloatArray
    n_instances: IntArray
    null_mean: float | None
    p_value: float | None
    draws: int
    seed: int

    def __float__(self) -> float:
        return self.value


def dirichlet_kernel_error(
    h: Distribution,
    y: Outcomes,
    view: str | View,
    *,
    bandwidth: float = 1.0,
    observed_only: bool = False,
    subsets: Sequence[int] | None = None,
    draws: int = 99,
    seed: int = 0,
) -> DirichletKernelError:
    """Canonical calibration error of a view by leave-one-out Dirichlet-kernel regression.

    Parameters
    ----------
    h, y
        Forecasts and outcomes of n instances of labelled items. Instances whose outcome is not known in a member
        (ties, unranked items) do not enter it.
    view
        E.g. ``sub-2``, ``top-1``, ``full``.
    bandwidth
        h > 0 of the kernel; the paper's study uses 1.
    observed_only
        Keep only outcomes that happened at least once, forecasts not renormalised: the published study's rule for 8
        items and more. It has no null law here: pass ``draws=0``.
    subsets
        Indices into ``View.members``: only these subsets.
    draws
        Outcomes redrawn from h for the null law; 0: none. The p-value is at least 1 / (draws + 1).
    seed
        Of the draws (and of marginals that can only be sampled).

    Returns
    -------
    DirichletKernelError

    Raises
    ------
    DataError
        When forecasts and outcomes do not belong together, or no member has two instances.
    UsageError
        When the view has no meaning here, or the numbers to keep pass 2^27.

    Notes
    -----
    Cost: O(n^2 (W + draws)) for each member with W outcomes; memory O(n (G W + draws m)), never n x n.

    References
    ----------
    T. Popordanoska, R. Sayer, M. Blaschko (2022), A consistent and differentiable Lp canonical calibration error
    estimator, NeurIPS. Thies et al., arXiv 2605.30447.

    Examples
    --------
    >>> from prefcal import Outcomes, PlackettLuce
    >>> h = PlackettLuce([[0.0, 0.0]] * 4)
    >>> found = dirichlet_kernel_error(h, Outcomes.from_best([0, 0, 1, 1], n_items=2), "full", draws=0)
    >>> round(float(found), 6)
    0.333333
    """
    if not (isinstance(bandwidth, int | float | np.number) and math.isfinite(bandwidth) and bandwidth > 0):
        raise UsageError(f"bandwidth must be a finite number > 0, got {bandwidth!r}")
    labelled = LabelledView(h, y, view, subsets)
    labelled.check_redraw(draws)
    if observed_only and draws:
        raise UsageError("observed_only keeps outcomes by what happened, so it has no null law; pass draws=0")
    n, members = len(y), labelled.n_members
    numbers = n * members * (labelled.n_outcomes + draws + 1)
    if numbers > STATE_LIMIT:
        raise UsageError(
            f"{labelled.view.name}: {n} instances x {members} members x ({labelled.n_outcomes} outcomes + "
            f"{draws + 1} data sets) are more than {STATE_LIMIT} numbers; use a smaller k, fewer draws, or a sample "
            "of subsets"
        )
    rng = np.random.default_rng(seed)
    forecast = np.empty((members, n, labelled.n_outcomes))
    outcome = np.empty((members, 1 + draws, n), dtype=np.int32)
    for block in labelled.blocks(rng, draws):
        forecast[:, block.rows] = block.p.transpose(1, 0, 2)
        outcome[:, 0, block.rows] = block.outcome.T
        if draws:
            drawn = labelled.redraw(block, draws, rng)
            drawn[:, block.outcome < 0] = -1
            outcome[:, 1:, block.rows] = drawn.transpose(2, 0, 1)
    errors = np.full((members, 1 + draws), np.nan)
    for member in range(members):
        known = outcome[member, 0] >= 0
        if known.sum() < 2:
            continue
        f, what = forecast[member, known], outcome[member][:, known]
        if observed_only:
            seen, index = np.unique(what[0], return_inverse=True)
            f, what = f[:, seen], index.reshape(1, -1)
        errors[member] = kernel_errors(f, what, bandwidth=bandwidth)
    counts = (outcome[:, 0] >= 0).sum(axis=1)
    if (counts < 2).all():
        raise DataError(f"{labelled.view.name}: the outcome of fewer than 2 instances is known")
    values = np.nanmean(errors[counts >= 2], axis=0)
    null = compare(float(values[0]), values[1:]) if draws else None
    return DirichletKernelError(
        view=labelled.view.name, bandwidth=float(bandwidth), value=float(values[0]), errors=errors[:, 0],
        n_instances=counts, null_mean=None if null is None else null.mean,
        p_value=None if null is None or not h.has_rankings else null.p_value, draws=int(draws), seed=seed,
    )  # fmt: skip


def kernel_errors(forecast: FloatArray, outcomes: IntArray, *, bandwidth: float = 1.0) -> FloatArray:
    """Dirichlet-kernel error of one member for several sets of outcomes, which share the weights.

    Parameters
    ----------
    forecast
        (n, W) probabilities; they need not sum to 1 (a published truncation), and are used as given.
    outcomes
        (D, n) outcome of each instance in each of D data sets, 0..W-1; -1 = not known there: the instance then
        takes no part in that data set.
    bandwidth
        h > 0.

    Returns
    -------
    (D,) errors; NaN where fewer than 2 instances take part.
    """
    f = np.ascontiguousarray(forecast, dtype=np.float64)
    n, width = f.shape
    sets = len(outcomes)
    known = outcomes >= 0
    complete = bool(known.all())
    # Rows of the indicator matrix: the outcomes that occur in each data set, data set by data set.
    at, instance = np.nonzero(known)
    code = at * width + outcomes[at, instance]
    occurring, row = np.unique(code, return_inverse=True)
    indicator = csr_array((np.ones(len(code)), (row.reshape(-1), instance)), shape=(len(occurring), n))
    of_set, of_outcome = occurring // width, occurring % width
    alpha = f / bandwidth + 1.0
    constant = gammaln(alpha.sum(axis=1)) - gammaln(alpha).sum(axis=1)
    scaled, log_f = f / bandwidth, np.log(np.maximum(f, CLAMP))
    mass = f.sum(axis=1)
    takes_part = known.astype(np.float64)
    total = np.zeros(sets)
    starts = np.flatnonzero(np.diff(of_set, prepend=-1))
    step = max(1, min(n, _WORK // max(n, len(occurring))))
    for start in range(0, n, step):
        here = np.arange(start, min(start + step, n))
        log_w = scaled @ log_f[here].T + constant[:, None]  # (i, j)
        log_w[here, here - start] = -np.inf
        log_w -= log_w.max(axis=0)
        weight = np.exp(log_w, out=log_w)
        below: Any = weight.sum(axis=0)[None] if complete else takes_part @ weight
        below = np.broadcast_to(below + EPSILON, (sets, len(here)))
        expected = indicator @ weight  # (occurring, j)
        expected /= below[of_set]
        own = f[here].T[of_outcome]
        # |E - f| over outcomes that occur, f over the others, where E is 0.
        gap = np.subtract(expected, own, out=expected)
        np.abs(gap, out=gap)
        gap -= own
        distance = np.zeros((sets, len(here)))
        distance[of_set[starts]] = np.add.reduceat(gap, starts, axis=0)
        distance += mass[here]
        total += (distance * takes_part[:, here]).sum(axis=1)
    counts = known.sum(axis=1)
    return np.where(counts > 1, total / np.maximum(counts, 1), np.nan)
