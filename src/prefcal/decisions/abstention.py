"""Abstention: deciding only where the model is sure, and what a promised error rate is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.decisions.choices import Choice, Choices, gather
from prefcal.decisions.uncertainty import Statistic, flipped, optimism, proportion
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError, require_numbers, require_whole
from prefcal.result import Estimate, plain

PROMISES = (0.01, 0.02, 0.05, 0.10, 0.20)
_COVERAGES = tuple(k / 20 for k in range(1, 21))
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Accepted:
    """The most confident decisions, all whose claimed risk is at most ``threshold``.

    Parameters
    ----------
    threshold
        Largest claimed risk among them.
    coverage
        Their share of all decisions (weighted); its interval holds the threshold fixed.
    claimed
        Their mean claimed risk.
    realised
        The share of them that were wrong.
    optimism
        Realised minus claimed risk: positive where the model promises too much. Its interval is for these instances'
        forecasts.
    n
        Number of decisions.
    """

    threshold: float
    coverage: Estimate
    claimed: float
    realised: Estimate
    optimism: Estimate
    n: int


@dataclass(frozen=True, slots=True)
class Promise:
    """A promised error rate: the threshold that the claims allow, and what it gives.

    Parameters
    ----------
    promise
        The error rate promised.
    accepted
        The largest set of most confident decisions whose mean claimed risk is at most the promise; None where no
        decision is that sure.
    reachable
        Largest coverage at which the realised error rate of these data is at most the promise (in hindsight, so with
        some luck in it).
    """

    promise: float
    accepted: Accepted | None
    reachable: Estimate


@dataclass(frozen=True, slots=True)
class Abstention:
    """What :func:`abstention` found.

    Parameters
    ----------
    choice
        What is decided: the ``best`` candidate of each instance, or the order of each ``pair``.
    error_rate, claimed_error
        Realised and mean claimed risk when everything is decided.
    aurc
        Area under the risk-coverage curve: mean over coverages c in (0, 1] of the error rate among the most
        confident share c.
    excess_aurc
        ``aurc`` less that of an oracle with the same error rate that abstains on its errors first.
    curve
        The curve at coverages of (about, where claims are tied) 5 %, 10 %, ... 100 %.
    promises
        Promised error rates.
    n_decisions, coverage
        Decisions with a known outcome; why instances do not enter.
    """

    choice: Choice
    error_rate: Estimate
    claimed_error: Estimate
    aurc: Estimate
    excess_aurc: Estimate
    curve: tuple[Accepted, ...]
    promises: tuple[Promise, ...]
    n_decisions: int
    coverage: dict[str, int]

    def at(self, promise: float) -> Promise:
        """One promise; UsageError if it was not asked for."""
        for p in self.promises:
            if math.isclose(p.promise, promise):
                return p
        raise UsageError(f"promise {promise} was not asked for; there are {[p.promise for p in self.promises]}")

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def abstention(
    h: Distribution,
    y: Outcomes,
    *,
    choice: Choice = "best",
    promises: Sequence[float] = PROMISES,
    weights: Any = None,
    clusters: Any = None,
    draws: int = 400,
    seed: int = 0,
) -> Abstention:
    """Risk-coverage curve, its area, and what promised error rates give.

    Parameters
    ----------
    h, y
        Forecasts and outcomes.
    choice
        ``best``: the candidate most probable to be best, one decision an instance. ``pair``: the likelier order of
        each pair with a known order.
    promises
        Error rates in (0, 1).
    weights, clusters
        As in :func:`prefcal.audit`.
    draws, seed
        Bootstrap by unit for the interval of ``reachable``, the only number here that is no smooth function of means.

    Notes
    -----
    With e(u) the error of the decision at confidence quantile u (0 = most confident), AURC = integral of
    (1/c) integral_0^c e(u) du dc = integral of e(u) (-ln u) du; decisions of equal claimed risk count with their mean
    error, which is the expectation over their random order. This differs from the sum over ranks of Geifman and
    El-Yaniv (2017) by O(log n / n), and does not change when every row is doubled. The interval: infinitesimal
    jackknife by unit. Oracle: r + (1 - r) ln(1 - r) for error rate r (Geifman, Uziel and El-Yaniv 2019).
    A temperature leaves the order of pairs by confidence, hence their AURC, as it is; it may change that of
    best-of-m choices.

    Cost: O(e log e) for e decisions, and ``draws`` passes over them.

    Raises
    ------
    DataError, UsageError
        No known outcome; promises outside (0, 1).

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> honest = pc.PlackettLuce(rng.normal(size=(2000, 4)))
    >>> y = pc.Outcomes.from_orders(honest.sample(1, rng)[:, 0])
    >>> sure = abstention(honest.scaled(4.0), y, promises=[0.1]).at(0.1).accepted
    >>> bool(sure.claimed <= 0.1 < sure.realised.interval[0])
    True
    """
    (found,) = gather([h], y, choice=choice, weights=weights, clusters=clusters)
    return measure(found, choice, promises=promises, draws=draws, seed=seed)[0]


def measure(
    c: Choices, choice: Choice, *, promises: Sequence[float], draws: int, seed: int
) -> tuple[Abstention, dict[str, Statistic]]:
    """:func:`abstention` of gathered decisions, and its numbers as statistics by name."""
    require_numbers("promises", promises)
    require_whole("draws", draws, 0)
    require_whole("seed", seed, 0)
    wrong = [p for p in promises if not 0 < p < 1]
    if wrong:
        raise UsageError(f"a promised error rate must lie between 0 and 1, got {wrong[0]!r}")
    error, area, excess = c.mean(1.0 - c.hit), *areas(c)
    statistics = {"area under the risk-coverage curve": area, "error rate": error}
    ends = c.ends
    weight = np.cumsum(c.weight)
    claimed = np.cumsum(c.weight * c.risk)[ends - 1] / weight[ends - 1]
    reach = _reachable(c, promises, draws, seed)
    kept = []
    for promise, reachable in zip(promises, reach, strict=True):
        # claimed is a running mean of ascending risks: it does not fall (up to rounding)
        allowed = np.flatnonzero(claimed <= promise * (1 + 1e-12))
        if len(allowed) == 0:
            kept.append(Promise(promise, None, reachable))
            continue
        first = slice(0, int(ends[allowed[-1]]))
        kept.append(Promise(promise, accept(c, first), reachable))
        name = f"promised {100 * promise:g} %"
        statistics[f"{name}: realised error"] = c.mean(1.0 - c.hit, first)
        statistics[f"{name}: optimism"] = c.mean(1.0 - c.hit - c.risk, first)
        inside = np.zeros(len(c))
        inside[first] = 1.0
        statistics[f"{name}: coverage"] = c.mean(inside)
    targets = np.searchsorted(weight[ends - 1], np.array(_COVERAGES) * weight[-1] * (1 - 1e-12))
    curve = tuple(accept(c, slice(0, int(e))) for e in ends[np.unique(targets)])
    right = flipped(proportion(c.mean(c.hit), c.weight, c.unit))
    result = Abstention(
        choice, right, c.mean(c.risk).estimate(0.0, 1.0), area.estimate(0.0, 1.0), excess.estimate(0.0, 1.0), curve,
        tuple(kept), len(c), c.coverage,
    )  # fmt: skip
    return result, statistics


def accept(c: Choices, which: slice) -> Accepted:
    """Claim and reality of the first decisions."""
    w, unit = c.weight[which], c.unit[which]
    hit = c.mean(c.hit, which)
    gap = c.mean(c.hit - (1.0 - c.risk), which)
    claimed = c.mean(c.risk, which).value
    inside = np.zeros(len(c))
    inside[which] = 1.0
    return Accepted(
        threshold=float(c.risk[which][-1]),
        coverage=proportion(c.mean(inside), c.weight, c.unit),
        claimed=claimed,
        realised=flipped(proportion(hit, w, unit)),
        optimism=optimism(1.0 - claimed, hit, gap, w, unit),
        n=len(w),
    )


def areas(c: Choices) -> tuple[Statistic, Statistic]:
    """AURC and its excess over the oracle's, with their influences by unit."""
    block = np.concatenate([[0], np.cumsum(c.log_risk[1:] != c.log_risk[:-1])])
    total = float(c.weight.sum())
    share = np.bincount(block, c.weight) / total
    miss = 1.0 - c.hit
    error = np.bincount(block, c.weight * miss) / np.maximum(share * total, 1e-300)
    b = np.minimum(np.cumsum(share), 1.0)
    b[-1] = 1.0
    a = np.concatenate([[0.0], b[:-1]])
    log_a = np.log(np.maximum(a, 1e-300))
    piece = _integral(b) - _integral(a)  # of -ln u
    value = float(error @ piece)
    # Derivative to a row's weight w_k: its block's error at -ln b; the later blocks' pieces shift; all are rescaled.
    shift = error * np.where(a > 0, log_a - np.log(b), 0.0)
    later = np.concatenate([np.cumsum(shift[::-1])[::-1][1:], [0.0]])
    rescale = float(error @ (b * np.log(b) - np.where(a > 0, a * log_a, 0.0)))
    by_block = -error * np.log(b) + later + rescale
    derivative = by_block[block] + (miss - error[block]) * (piece / np.maximum(share, 1e-300))[block]
    influence = np.bincount(c.unit, c.weight * derivative, minlength=c.n_units) / total
    area = Statistic(value, influence)
    rate = c.mean(miss)
    r = min(max(rate.value, 0.0), 1.0)
    oracle = r + (1 - r) * math.log1p(-r) if r < 1 else 1.0
    slope = -math.log1p(-r) if r < 1 else 0.0
    return area, Statistic(value - oracle, influence - slope * rate.influence)


def _integral(u: FloatArray) -> FloatArray:
    """Integral of -ln from 0 to u."""
    safe = np.maximum(u, 1e-300)
    out: FloatArray = np.where(u > 0, u * (1.0 - np.log(safe)), 0.0)
    return out


def _reachable(c: Choices, promises: Sequence[float], draws: int, seed: int) -> list[Estimate]:
    """Largest coverage with a realised error rate of at most each promise, with bootstrap intervals by unit."""
    ends = c.ends
    miss = 1.0 - c.hit
    value = _largest(c.weight[None], miss, ends, promises)[0]
    if c.n_units < 2 or draws < 40:
        note = "a single independent unit: no interval" if c.n_units < 2 else "fewer than 40 draws: no interval"
        return [Estimate(float(v), None, note) for v in value]
    rng, place = np.random.default_rng([seed, 17]), c.places[c.unit]
    step = max(1, _CHUNK // max(len(c), c.n_units))
    parts = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        counts = rng.multinomial(c.n_units, np.full(c.n_units, 1.0 / c.n_units), size=size)
        parts.append(_largest(counts[:, place] * c.weight, miss, ends, promises))
    low, high = np.quantile(np.concatenate(parts), [0.025, 0.975], axis=0)
    return [
        Estimate(float(v), (float(min(lo, v)), float(max(hi, v)))) for v, lo, hi in zip(value, low, high, strict=True)
    ]


def _largest(weight: FloatArray, miss: FloatArray, ends: Any, promises: Sequence[float]) -> FloatArray:
    """(draws, promises) largest coverage at a block end whose error rate is at most the promise, else 0."""
    mass = np.cumsum(weight, axis=1)[:, ends - 1]
    errors = np.cumsum(weight * miss, axis=1)[:, ends - 1]
    out = np.zeros((len(weight), len(promises)))
    for j, promise in enumerate(promises):
        meets = (errors <= promise * mass * (1 + 1e-12)) & (mass > 0)
        last = meets.shape[1] - 1 - np.argmax(meets[:, ::-1], axis=1)
        rows = np.arange(len(weight))
        out[:, j] = np.where(meets.any(axis=1), mass[rows, last] / mass[:, -1], 0.0)
    return out
