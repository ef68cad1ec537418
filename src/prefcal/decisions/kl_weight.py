"""The effective KL weight: which beta RLHF really works with when rewards are over- or under-confident."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError, require_number
from prefcal.estimators.binned import Z95
from prefcal.estimators.inputs import aligned
from prefcal.estimators.temperature import temperature
from prefcal.result import Estimate, plain

_THIRDS = ("narrow", "middle", "wide")
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class KLWeight:
    """What :func:`kl_weight` found.

    Parameters
    ----------
    slope
        a: a * scores is the calibrated (Bradley-Terry) scale of the observed pairs; 1 / temperature. Below 1 the
        rewards are over-confident. It is cut at 0; ``note`` then says so.
    beta
        The KL weight in use.
    effective
        a * beta: the weight on the calibrated reward that training with ``beta`` amounts to.
    factor
        1 / a: multiply beta by it (or divide the rewards by it) to get the weight that was meant.
    by_spread
        a in the thirds of the instances by the spread (standard deviation) of their scores, narrow to wide.
    heterogeneity
        p-value of equal slopes in the three thirds (Cochran's Q); NaN where a third has no finite slope.
    advice
        In words, with limits.
    """

    slope: Estimate
    beta: float
    effective: Estimate
    factor: Estimate
    by_spread: dict[str, Estimate]
    heterogeneity: float
    advice: str

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def kl_weight(
    h: Distribution, y: Outcomes, *, beta: float = 1.0, weights: Any = None, clusters: Any = None
) -> KLWeight:
    """The KL weight that KL-regularised RLHF effectively has with this reward model.

    The policy that maximises E[r] - beta KL(pi || pi0) is pi0 exp(r / beta) up to a constant. If a * r is the
    calibrated reward, r / beta = (a r) / (a beta): training acts like weight a * beta on the calibrated reward. With
    a < 1 (over-confident) it optimises too greedily.

    Parameters
    ----------
    h
        Plackett-Luce forecasts (scores = rewards).
    y
        Outcomes; the slope is that of the pairs with a known order.
    beta
        The KL weight in use, > 0; with the default 1 ``effective`` is the slope itself.
    weights, clusters
        As in :func:`prefcal.audit`.

    Raises
    ------
    UsageError
        For other distributions, whose scores are not rewards, and beta <= 0.
    DataError
        Where no pair has a known order.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> honest = pc.PlackettLuce(rng.normal(size=(2000, 4)))
    >>> y = pc.Outcomes.from_orders(honest.sample(1, rng)[:, 0])
    >>> low, high = kl_weight(honest.scaled(2.0), y, beta=0.1).effective.interval
    >>> low < 0.05 < high
    True
    """
    if not isinstance(h, PlackettLuce):
        raise UsageError(f"rewards are scores of a Plackett-Luce model; {type(h).__name__} has none")
    require_number("beta", beta)
    if beta <= 0:
        raise UsageError(f"beta must be a finite number > 0, got {beta!r}")
    by_record, weight, per_instance, codes = aligned(h, y, weights, clusters)
    assert isinstance(by_record, PlackettLuce)
    h = by_record
    units = np.arange(len(y), dtype=np.intp) if codes is None else codes
    if not _any_pair(y):
        raise DataError("no pair of candidates has a known order")
    slope = _slope(temperature(h, y, weight, best=False, per_instance=per_instance, clusters=units))
    parts = {}
    third = _thirds(_spread(h), weight)
    for k, name in enumerate(_THIRDS):
        rows = np.flatnonzero(third == k)
        if len(rows) < 2 or not _any_pair(y[rows]) or not weight[rows].any():
            parts[name] = Estimate(math.nan, None, "no pair with a known order")
            continue
        _, local = np.unique(units[rows], return_inverse=True)
        found = temperature(
            h[rows], y[rows], weight[rows], best=False, per_instance=per_instance, clusters=local.astype(np.intp)
        )
        parts[name] = _slope(found)
    p = _cochran(list(parts.values()))
    scaled = None if slope.interval is None else (beta * slope.interval[0], beta * slope.interval[1])
    inverse = None
    if slope.interval is not None:
        inverse = (_invert(slope.interval[1]), _invert(slope.interval[0]))
    return KLWeight(
        slope, float(beta), Estimate(beta * slope.value, scaled, slope.note),
        Estimate(_invert(slope.value), inverse, slope.note), parts, p, _advice(slope, beta, p),
    )  # fmt: skip


def _invert(x: float) -> float:
    return 1 / x if x > 0 else math.inf


def _slope(t: Estimate) -> Estimate:
    """1 / temperature with its interval, cut at 0."""
    value = 0.0 if math.isinf(t.value) else _invert(t.value)
    if t.interval is None:
        return Estimate(value, None, t.note)
    low, high = (0.0 if math.isinf(end) else _invert(end) for end in reversed(t.interval))
    return Estimate(value, (low, high), t.note)


def _thirds(values: FloatArray, weight: FloatArray) -> IntArray:
    """(n,) 0, 1, 2: the third of the weight in which the middle of each value's mass lies; equal values together."""
    _, level = np.unique(values, return_inverse=True)
    mass = np.bincount(level, weight)
    middle = np.cumsum(mass) - 0.5 * mass
    out: IntArray = np.minimum((3.0 * middle / mass.sum() + 1e-9).astype(np.intp), 2)[level]
    return out


def _spread(h: PlackettLuce) -> FloatArray:
    """(n,) standard deviation of each instance's scores, in units of the largest score."""
    rows = np.repeat(np.arange(len(h)), h.sizes)
    n = np.maximum(h.sizes, 1)
    values = h.scores.values / (np.abs(h.scores.values).max(initial=0.0) or 1.0)
    mean = np.bincount(rows, values, minlength=len(h)) / n
    out: FloatArray = np.sqrt(np.bincount(rows, (values - mean[rows]) ** 2, minlength=len(h)) / n)
    return out.round(_DIGITS)  # equal but for the order of summation is equal


def _any_pair(y: Outcomes) -> bool:
    for rows, size in y.ranks.blocks():
        ranks = np.sort(y.ranks.block(rows, size), axis=1)
        if size >= 2 and (ranks[:, 1:] > ranks[:, :-1]).any():
            return True
    return False


def _cochran(parts: list[Estimate]) -> float:
    """p-value of equal slopes; NaN unless all have intervals of finite, positive width above 0."""
    errors = []
    for e in parts:
        if e.interval is None or not 0 < e.interval[0] < e.interval[1] < math.inf:
            return math.nan
        errors.append((e.interval[1] - e.interval[0]) / (2 * Z95))
    unit = max(errors)  # of the slopes: squares of very large or small ones are no numbers
    precision = 1 / np.square(np.array(errors) / unit)
    values = np.array([e.value for e in parts]) / unit
    q = float(precision @ (values - precision @ values / precision.sum()) ** 2)
    return math.exp(-q / 2)  # chi-squared with two degrees of freedom


def _advice(slope: Estimate, beta: float, p: float) -> str:
    if slope.interval is None and slope.value > 0:
        return "The rewards order every pair right; these data set no bound on the scale."
    if slope.interval is None or slope.interval[0] <= 0:
        why = slope.note or "the scores carry no detectable information about these events"
        return f"{why[0].upper()}{why[1:]}: no KL weight mends that, and none is suggested."
    low, high = slope.interval
    if low <= 1 <= high:
        words = (
            f"The scale of the rewards is not distinguishable from the calibrated one: the KL weight {beta:g} means "
            "what it says."
        )
    else:
        side = "over-confident, optimisation too greedy" if high < 1 else "under-confident, optimisation too timid"
        words = (
            f"The rewards are {side}: KL weight {beta:g} acts like {beta * slope.value:.3g} on calibrated rewards. "
            f"Multiply it by {1 / slope.value:.3g}, or divide the rewards by that."
        )
    if p < 0.05:
        words += (
            " The scale differs between instances of narrow and wide scores: one factor is an average, and no single "
            "KL weight is right for all prompts."
        )
    return words + " The slope is that of these pairs; answers of a policy far from them may have another."
