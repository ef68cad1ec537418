"""Dirichlet-kernel calibration error with its null level (Popordanoska, Sayer & Blaschko 2022)."""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.ragged import IntArray
from prefcal.distributions.base import Distribution
from prefcal.estimators.dirichlet import kernel_errors
from prefcal.estimators.null import compare
from prefcal.studies.label_ranking.measure import (
    Measured,
    choose_members,
    outcome_index,
    probabilities,
)
from prefcal.views import View

#: Most test rows that enter (the kernel compares all pairs of rows); more are sampled.
ROWS = 1000
_MOST_DRAWS = 39
_PAIRS = 40_000_000


def dirichlet_kernel(
    h: Distribution,
    orders: IntArray,
    view: View,
    *,
    draws: int,
    budget: int,
    seed: list[int],
    bandwidth: float = 1.0,
) -> Measured:
    """Mean L1 distance between forecast and leave-one-out kernel regression of the outcome, averaged over members.

    Published estimator, bandwidth 1. Its null level and test come from outcomes drawn from the forecasts; it has no
    debiased value, since the smoothing error of the regression is not noise.

    Parameters
    ----------
    h, orders, view, draws, budget, seed
        As in :func:`prefcal.studies.label_ranking.measure.rankwise`; at most 39 draws, 1000 rows.
    bandwidth
        Of the Dirichlet kernel.

    Returns
    -------
    Measured
        ``value`` is a mean L1 distance: at most 2, twice a total variation.
    """
    rng = np.random.default_rng([*seed, 7])
    n, m = orders.shape
    note = ""
    if n > ROWS:
        rows = np.sort(rng.choice(n, ROWS, replace=False))
        h, orders, n, note = h[rows], orders[rows], ROWS, f"a sample of {ROWS} rows"
    draws = min(draws, _MOST_DRAWS)
    width, every = view.n_outcomes(m), view.n_members(m)
    # Work: pairs of rows for the weights, and again for each draw.
    affordable = max(2, min(budget // (n * width), _PAIRS * (1 + draws // 4) // (n * n * (1 + draws))))
    members = choose_members(every, affordable, rng)
    subsets = view.members(m)[members]
    probs = np.concatenate([np.array(p) for _, p in probabilities(h, view, members, subsets)])
    happened = outcome_index(orders, view, subsets)
    drawn = None
    if draws and h.has_rankings:
        drawn = outcome_index(h.sample(draws, rng), view, subsets)
    elif draws:  # pairs: independent draws of each pair give the mean, not the law
        below = np.cumsum(probs, axis=2)[:, None]
        u = rng.random((n, draws, len(members), 1))
        drawn = np.minimum((below <= u).sum(axis=3), width - 1)
        note = "; ".join(filter(None, [note, "pairs only: null mean without a test"]))
    values, null = np.empty(len(members)), np.zeros((draws, len(members)))
    for g in range(len(members)):
        sets = happened[None, :, g]
        if drawn is not None:
            sets = np.concatenate([sets, drawn[:, :, g].T])
        errors = kernel_errors(probs[:, g], sets, bandwidth=bandwidth)
        values[g], null[:, g] = errors[0], errors[1:]
    stderr = 0.0
    if len(members) < every:
        stderr = float(values.std(ddof=1) * math.sqrt((1 - len(members) / every) / len(members)))
    value = float(values.mean())
    tuples, used = every * width, len(members) * width
    if drawn is None:
        return Measured(value, stderr, width, tuples, used, note=note)
    by_draw = null.mean(axis=1)
    p = compare(value, by_draw).p_value if h.has_rankings else math.nan
    return Measured(value, stderr, width, tuples, used, float(by_draw.mean()), p, null_draws=by_draw, note=note)
