"""The one number that would mend most: by what should Plackett-Luce scores be divided?

Maximum likelihood of the scale ``t`` in ``t * scores`` for the events that a notion looks at. Both likelihoods are
convex in ``t`` (a logistic regression without intercept for pairs, a conditional logit for the best item).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.estimators.binned import Z95
from prefcal.estimators.inputs import aligned_ranks, event_weights
from prefcal.result import Estimate

_ITERATIONS = 60
_Block = tuple[FloatArray, FloatArray, FloatArray, IntArray]  # features, labels, weights, instance


def temperature(
    h: PlackettLuce,
    y: Outcomes,
    weights: FloatArray,
    *,
    best: bool,
    per_instance: bool = False,
    clusters: IntArray | None = None,
) -> Estimate:
    """Maximum-likelihood temperature: scores divided by it fit the observed pairs, or the best items.

    Parameters
    ----------
    h, y, weights
        Forecasts, outcomes and (n,) weights.
    best
        Fit the best item (conditional logit) instead of the pairs with a known order.
    per_instance
        Share each instance's weight among its pairs.
    clusters
        (n,) codes of the independent units; None: each instance is one.

    Returns
    -------
    The temperature with a 95 % interval (sandwich standard error by unit). It is infinite, with a note, where the
    scores carry no or negative information, and 0 where they order everything right.
    """
    values = h.scores.values
    size = float(np.abs(values).max(initial=0.0)) or 1.0
    spread = float(np.std(values / size)) * size or 1.0
    scaled = PlackettLuce(h.scores.with_values(values / spread))
    blocks = list((_best_blocks if best else _pair_blocks)(scaled, y, weights, per_instance))
    side = _separated(blocks, best)
    if side:
        word = "right" if side > 0 else "wrong"
        return Estimate(
            0.0 if side > 0 else math.inf, note=f"the scores order every event {word}; no finite scale fits"
        )
    t, step = 0.0, 1.0
    for _ in range(_ITERATIONS):
        score, information = _total(blocks, t, best)
        if information <= 1e-12 * max(abs(score), 1.0):
            break
        step = float(np.clip(score / information, -2.0 - abs(t), 2.0 + abs(t)))
        t += step
        if abs(step) < 1e-10 * (1 + abs(t)):
            break
    _, information = _total(blocks, t, best)
    units = np.arange(len(y)) if clusters is None else clusters
    by_unit = np.zeros(int(units.max()) + 1)
    for block in blocks:
        np.add.at(by_unit, units[block[3]], _scores(block, t, best)[0])
    se = math.sqrt(float(by_unit @ by_unit)) / information if information > 0 else math.inf
    low, high = (t - Z95 * se) / spread, (t + Z95 * se) / spread
    note = ""
    if low <= 0:
        kind = "negative" if high < 0 else "no detectable"
        note = f"the scores carry {kind} information about these events (scale {t / spread:.3g})"
    value = spread / t if t > 0 else math.inf
    interval = (1 / high if high > 0 else math.inf, 1 / low if low > 0 else math.inf)
    return Estimate(value, interval, note)


def cross_fitted(
    h: PlackettLuce, y: Outcomes, weights: FloatArray, *, best: bool, per_instance: bool, units: IntArray, seed: int
) -> PlackettLuce | None:
    """Forecasts with each random half's scores divided by the temperature of the other half.

    ``units`` (n,) codes of the independent units, which stay together. None where a half has no positive finite
    temperature: nothing is mended then.
    """
    half = (np.random.default_rng([seed, 4]).permutation(int(units.max()) + 1) % 2)[units]
    factor = np.ones(len(y))
    for side in (0, 1):
        fit = np.flatnonzero(half != side)
        if len(fit) < 2:
            return None
        found = temperature(h[fit], y[fit], weights[fit], best=best, per_instance=per_instance).value
        if not 0 < found < math.inf:
            return None
        factor[half == side] = found
    scores = h.scores
    return PlackettLuce(scores.with_values(scores.values / np.repeat(factor, scores.sizes)))


def _pair_blocks(h: PlackettLuce, y: Outcomes, weights: FloatArray, per_instance: bool) -> Iterator[_Block]:
    for block in h.blocks():
        rows = np.arange(len(y))[block.rows]
        ranks = aligned_ranks(y, block)
        first, second = np.triu_indices(ranks.shape[1], 1)
        margin = block.dist.pair_log_odds(first, second)
        with np.errstate(invalid="ignore"):
            direction = np.nan_to_num(np.sign(ranks[:, second] - ranks[:, first]))  # +1: first is better, 0: unknown
        known = direction != 0
        share = np.where(known, 1.0, np.nan)
        yield direction * margin, known.astype(float), event_weights(weights[rows], share, per_instance), rows


def _best_blocks(h: PlackettLuce, y: Outcomes, weights: FloatArray, per_instance: bool) -> Iterator[_Block]:
    for block in h.blocks():
        rows = np.arange(len(y))[block.rows]
        ranks = aligned_ranks(y, block)
        is_best = ranks == ranks.min(axis=1, keepdims=True)
        known = is_best.sum(axis=1) == 1
        scores = h.scores.block(block.rows, ranks.shape[1])[known]
        shifted = scores - scores.max(axis=1, keepdims=True)
        yield shifted, is_best[known].astype(float), weights[rows][known], rows[known]


def _separated(blocks: list[_Block], best: bool) -> int:
    """1 if a larger scale always fits better, -1 if a more negative one does, 0 if neither (a maximum exists)."""
    right, wrong, some = True, True, False
    for x, y, w, _ in blocks:
        if best:
            winner = (y * x).sum(axis=1)
            above, below = x.max(axis=1, initial=-np.inf) - winner, winner - x.min(axis=1, initial=np.inf)
        else:
            signed = (x * y * (w > 0)).ravel()
            above, below = np.maximum(-signed, 0.0), np.maximum(signed, 0.0)
        right, wrong = right and not (above > 0).any(), wrong and not (below > 0).any()
        some = some or bool((above > 0).any() or (below > 0).any())
    return 0 if right == wrong or not some else (1 if right else -1)


def _scores(block: _Block, t: float, best: bool) -> tuple[FloatArray, FloatArray]:
    """(b,) derivative of the log likelihood of each instance, and its negative second derivative."""
    x, y, w, _ = block
    if best:
        logits = t * x
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * x).sum(axis=1)
        return w * ((y * x).sum(axis=1) - mean), w * ((p * x * x).sum(axis=1) - mean**2)
    miss = 0.5 - 0.5 * np.tanh(0.5 * t * x)  # probability of the other order
    weighted = w * y * miss * x
    return weighted.sum(axis=1), (weighted * (1 - miss) * x).sum(axis=1)


def _total(blocks: list[_Block], t: float, best: bool) -> tuple[float, float]:
    parts = [_scores(block, t, best) for block in blocks]
    return sum(float(a.sum()) for a, _ in parts), sum(float(b.sum()) for _, b in parts)
