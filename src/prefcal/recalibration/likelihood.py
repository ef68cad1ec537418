"""The log probability that a model gives to exactly what was observed.

A record is a bucket order: its probability is the sum over all full rankings that agree with it. Items that were not
ranked may stand anywhere; items of one bucket may stand in any order among themselves. Items judged *equal*
(``ties="equal"``) are treated in the same way: a distribution over strict rankings has no outcome "equal", so the sum
over both orders says nothing about them.
"""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, Ragged
from prefcal.distributions.base import Distribution, chunks
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.samples import Samples
from prefcal.distributions.stagewise import StageWise, after, remaining
from prefcal.errors import DataError
from prefcal.estimators.inputs import aligned_ranks, check_alignment
from prefcal.recalibration.choices import BoolArray, choices, pair_choices

# Items up to which the rankings that agree with any observation are summed over subsets: 18 * 2^17 numbers a record.
MAX_SUBSET_ITEMS = 18
# Items up to which a distribution without stages is enumerated (7! rankings).
MAX_ENUMERATED_ITEMS = 7


def observed_log_prob(h: Distribution, y: Outcomes) -> FloatArray:
    """Log probability under ``h`` of what each record observed.

    Parameters
    ----------
    h, y
        Forecasts and outcomes; ``y.instance`` says which forecast a record belongs to.

    Returns
    -------
    (len(y),) natural logarithms, at most 0; -inf where the observation is impossible under the model; NaN where
    nothing was observed (fewer than two ranked items, or all in one bucket).

    Notes
    -----
    Exact throughout. Plackett-Luce: any number of items, see :mod:`prefcal.recalibration.choices`. Pairs, full
    rankings and "only the best is known": any distribution. Categorical, Samples: sums over the listed rankings.
    Mixture: from its components. Stage-wise models and Mallows: any bucket order by a recursion over subsets,
    O(m 2^(m-1)) a record, up to 18 items. Others: enumeration up to 7 items. Pairwise probabilities have no
    distribution over longer rankings; their pairs are taken one by one (a composite likelihood).

    Raises
    ------
    DataError
        Where forecasts and outcomes do not fit together, or an observation of so many items has no exact way.

    Examples
    --------
    >>> h = PlackettLuce([[0.0, 0.0, 0.0]])
    >>> np.exp(observed_log_prob(h, Outcomes.from_best([[0, 1]], n_items=3))).round(12).tolist()
    [0.333333333333]
    """
    if len(y) != len(h) or (y.instance != np.arange(len(y))).any():
        if int(y.instance.max()) >= len(h) or int(y.instance.min()) < 0:
            raise DataError(f"outcomes name instance {int(y.instance.max())} but there are {len(h)} forecasts")
        h, y = h[y.instance], Outcomes(y.ranks, y.ties, np.arange(len(y)))
    check_alignment(h, y)
    out = np.full(len(y), np.nan)
    if isinstance(h, PlackettLuce) or not h.has_rankings:
        for choice in choices(h, y) if isinstance(h, PlackettLuce) else pair_choices(h, y):
            part = out[choice.rows]
            out[choice.rows] = np.where(np.isnan(part), 0.0, part) + choice.log_prob(1.0)
        return out
    for block in h.blocks():
        rows = np.arange(len(y))[block.rows]
        out[rows] = _dense(block.dist, aligned_ranks(y, block), rows)
    return out


def mean_log_loss(h: Distribution, y: Outcomes, weights: FloatArray | None = None) -> float:
    """Weighted mean of minus :func:`observed_log_prob` over the records that observed something."""
    log_p = observed_log_prob(h, y)
    seen = ~np.isnan(log_p)
    w = np.ones(len(log_p)) if weights is None else weights
    return float(-(w[seen] * log_p[seen]).sum() / w[seen].sum()) if w[seen].sum() > 0 else math.nan


def _dense(h: Distribution, ranks: FloatArray, rows: np.ndarray) -> FloatArray:
    """Log probabilities of a block in which every instance has all m items; ranks (b, m)."""
    out = np.full(len(ranks), np.nan)
    if ranks.shape[1] < 2:
        return out
    full, best, pair, rest = shapes(ranks)
    if full.any():
        out[full] = h[full].log_prob(np.argsort(ranks[full], axis=1))
    if best.any():
        out[best] = np.take_along_axis(h[best].top_log_probs(), ranks[best].argmin(axis=1)[:, None], axis=1)[:, 0]
    if pair.any():
        out[pair] = _pairs(h, ranks, np.flatnonzero(pair))
    if rest.any():
        out[rest] = _general(h[rest], ranks[rest], rows[rest])
    return out


def shapes(ranks: FloatArray) -> tuple[BoolArray, BoolArray, BoolArray, BoolArray]:
    """Which bucket orders (b, m) are full rankings, best items alone, single pairs, and any other observation."""
    m = ranks.shape[1]
    ordered = np.sort(ranks, axis=1)
    n_ranked = (~np.isnan(ranks)).sum(axis=1)
    strict = (ordered[:, 1:] > ordered[:, :-1]).sum(axis=1)  # NaN compares false
    seen = strict > 0
    full = strict == m - 1
    pair = seen & (n_ranked == 2) & ~full
    best = seen & (n_ranked == m) & (strict == 1) & (ordered[:, 1] > ordered[:, 0]) & ~full
    return full, best, pair, seen & ~full & ~best & ~pair


def _pairs(h: Distribution, ranks: FloatArray, which: np.ndarray) -> FloatArray:
    order = np.argsort(ranks[which], axis=1)[:, :2]
    out = np.empty(len(which))
    code = order[:, 0] * ranks.shape[1] + order[:, 1]
    for value in np.unique(code):  # at most m (m - 1) different pairs
        mine = code == value
        a, b = divmod(int(value), ranks.shape[1])
        odds = h[which[mine]].pair_log_odds(np.array([a]), np.array([b]))[:, 0]
        out[mine] = -np.logaddexp(0.0, -odds)
    return out


def _general(h: Distribution, ranks: FloatArray, rows: np.ndarray) -> FloatArray:
    m = ranks.shape[1]
    with np.errstate(divide="ignore"):
        if isinstance(h, Categorical):
            return np.asarray(np.log((h.probs * agreeing(h.orders[None], ranks)).sum(axis=1)))
        if isinstance(h, Samples):
            return np.asarray(np.log(agreeing(h.orders, ranks).mean(axis=1)))
        if isinstance(h, Mixture):
            parts = [_dense(part, ranks, rows) for part in h.components]
            return np.asarray(np.logaddexp.reduce([np.log(h.weights[:, c]) + p for c, p in enumerate(parts)]))
        if isinstance(h, PlackettLuce):  # a component of a mixture
            dense = Ragged.from_dense(ranks, drop_nan=False)
            return observed_log_prob(h, Outcomes(dense, "unknown", np.arange(len(h))))
        if isinstance(h, StageWise | Mallows) and m <= MAX_SUBSET_ITEMS:
            out = np.empty(len(h))
            for part in chunks(len(h), m << (m - 1)):
                out[part] = _over_subsets(_stages(h[part]), ranks[part].T)
            return out
        if m <= MAX_ENUMERATED_ITEMS and not isinstance(h, StageWise | Mallows):
            marginal = h.marginal("full")
            return np.asarray(np.log((marginal.probs[:, 0] * agreeing(marginal.outcomes, ranks)).sum(axis=1)))
    most = MAX_SUBSET_ITEMS if isinstance(h, StageWise | Mallows) else MAX_ENUMERATED_ITEMS
    raise DataError(
        f"a partial ranking of {m} items has no exact likelihood under {type(h).__name__} beyond {most} items; "
        "pass full rankings, the best item, or single pairs (Outcomes.from_pairs)",
        row=f"instance {rows[0]}",
    )


def agreeing(orders: np.ndarray, ranks: FloatArray) -> np.ndarray:
    """Whether each ordering agrees with the bucket orders: (b, r) from orders (1 or b, r, m) and ranks (b, m)."""
    out = np.ones((len(ranks), orders.shape[1]), dtype=bool)
    at = np.take_along_axis(ranks[:, None, :], np.broadcast_to(orders, (len(ranks), *orders.shape[1:])), axis=2)
    worst = np.zeros(out.shape)
    for t in range(orders.shape[2]):
        here = at[:, :, t]
        out &= ~(here < worst)  # unranked items (NaN) never contradict
        worst = np.fmax(worst, here)
    return out


def _stages(h: Distribution) -> list[FloatArray]:
    """Log choice probabilities of all stages but the last, see :mod:`prefcal.distributions.stagewise`."""
    m = h.n_items
    if isinstance(h, StageWise):
        return h._log_stages(m - 1)
    assert isinstance(h, Mallows)
    out = []
    with np.errstate(divide="ignore", invalid="ignore"):
        log_phi = np.log(h.dispersion)
        for t in range(m - 1):
            places = h.places.T[remaining(m, t)]  # (sets, m - t, n)
            rank = np.argsort(np.argsort(places, axis=1), axis=1)
            powers = np.arange(m - t)[:, None] * log_phi
            powers[0] = 0.0  # 0 * -inf at phi = 0
            log_p = powers - np.logaddexp.reduce(powers, axis=0)
            out.append(np.take_along_axis(np.broadcast_to(log_p[None], places.shape), rank, axis=1))
    return out


def _over_subsets(stages: list[FloatArray], ranks: FloatArray) -> FloatArray:
    """(n,) log sum over the orders that agree with ranks (m, n): a forward recursion over the sets of placed items.

    An item may come next if it is unranked, or no remaining item is in a better bucket.
    """
    m, n = ranks.shape
    key = np.where(np.isnan(ranks), -np.inf, ranks)
    reach: FloatArray = np.zeros((1, n))
    for t, stage in enumerate(stages):
        free = key[remaining(m, t)]
        ranked = np.where(np.isneginf(free), np.inf, free)
        allowed = free <= ranked.min(axis=1, keepdims=True)
        flow = np.where(allowed, reach[:, None] + stage, -np.inf).reshape(-1, n)
        children = np.argsort(after(m, t), axis=None, kind="stable").reshape(math.comb(m, t + 1), t + 1)
        reach = flow[children[:, 0]]
        for q in range(1, t + 1):
            reach = np.logaddexp(reach, flow[children[:, q]])
    # One item is left over: it is last, which agrees if no other ranked item is behind it; none is.
    return np.asarray(np.logaddexp.reduce(reach, axis=0))
