"""The Plackett-Luce likelihood of whatever was observed, where the utilities are linear in some parameters.

Pairs, best items, partial and full rankings are all products of conditional-logit stages, so one concave likelihood
fits offsets, slopes and scales alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError
from prefcal.estimators.inputs import aligned_ranks
from prefcal.rankers.stages import Stages
from prefcal.recalibration.base import Data
from prefcal.recalibration.temperature import Temperature
from prefcal.result import Estimate

_NEWTON_STEPS = 100
_HALVINGS = 40
#: Prior standard deviation of a scale, in units of 1 / spread of the scores: so wide that it matters only where the
#: scores order everything right, and the maximum would be infinite.
SCALE_SD = 10.0
#: Logs of scales stay within this of 1 / spread.
LOG_LIMIT = 12.0
#: Prior standard deviation of a log scale around that of the temperature map.
LOG_SD = 1.0
EQUAL_SCORES = "the scores are equal within every instance: no map of them can order anything"


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Records with the same number of items, of any bucket order."""

    rows: IntArray  # (b,) record
    weights: FloatArray  # (b,)
    design: FloatArray  # (b, m, p)
    stages: Stages

    def value(self, parameters: FloatArray) -> FloatArray:
        """(b,) log-likelihoods."""
        return self.stages.value_and_gradient(self.design @ parameters)[0]

    def derivatives(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(b,) log-likelihoods, (b, p) gradients, and (p, p) weighted sum of minus the second derivatives."""
        utilities = self.design @ parameters
        each, slope = self.stages.value_and_gradient(utilities)
        curved = np.matmul(self.stages.curvature(utilities), self.design) * self.weights[:, None, None]
        p = len(parameters)
        information = self.design.reshape(-1, p).T @ curved.reshape(-1, p)
        return each, np.matmul(slope[:, None, :], self.design)[:, 0], information


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Records of which one item is best and no more is known (pairs among them): one softmax, no sorting."""

    rows: IntArray  # (b,) record
    weights: FloatArray  # (b,)
    gaps: FloatArray  # (b, r, p) covariates of the r others minus those of the best

    def _chances(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(b,) log-likelihoods, and (b, r) probabilities of the others to be best."""
        logits = self.gaps @ parameters
        top = np.maximum(logits.max(axis=1), 0.0)
        weights = np.exp(logits - top[:, None])
        total = weights.sum(axis=1) + np.exp(-top)
        return -(top + np.log(total)), weights / total[:, None]

    def value(self, parameters: FloatArray) -> FloatArray:
        """See :class:`_Ranked`."""
        return self._chances(parameters)[0]

    def derivatives(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """See :class:`_Ranked`."""
        each, chance = self._chances(parameters)
        p = len(parameters)
        mean = np.matmul(chance[:, None, :], self.gaps)[:, 0]
        weighted = self.gaps * (self.weights[:, None] * chance)[:, :, None]
        information = self.gaps.reshape(-1, p).T @ weighted.reshape(-1, p)
        information -= (mean * self.weights[:, None]).T @ mean
        return each, -mean, information


class ConditionalLogit:
    """Weighted log-likelihood of records whose item utilities are ``design @ parameters``.

    Parameters
    ----------
    data
        Plackett-Luce forecasts (only their shape counts here) and outcomes. Tied items enter with the
        exact probability of their bucket, as in :mod:`prefcal.recalibration.likelihood`.
    design
        (nnz, p) covariates of the items, flat like ``data.h.scores``.
    """

    def __init__(self, data: Data, design: FloatArray) -> None:
        h = data.h
        assert isinstance(h, PlackettLuce)
        self.n, self.p = len(data), design.shape[1]
        self._parts: list[_Ranked | _Chosen] = []
        offsets = h.scores.offsets
        for block in h.blocks():
            rows = np.arange(self.n)[block.rows]
            ranks = aligned_ranks(data.y, block)
            flat = offsets[:-1][rows][:, None] + np.arange(block.dist.n_items)
            covariates, weights = design[flat], data.weights[rows]
            self._add(ranks, covariates, weights, rows)

    def _add(self, ranks: FloatArray, design: FloatArray, weights: FloatArray, rows: IntArray) -> None:
        with np.errstate(invalid="ignore"):
            some = (ranks > 1).any(axis=1) & (weights > 0)  # a single bucket is certain: it says nothing
            chosen = some & ((ranks == 1).sum(axis=1) == 1) & (ranks <= 2).all(axis=1)
        rest = some & ~chosen
        if chosen.any():
            best = np.argmin(ranks[chosen], axis=1)
            count, m = ranks[chosen].shape
            others = np.arange(m - 1) + (np.arange(m - 1) >= best[:, None])
            at = np.arange(count)[:, None]
            own = design[chosen]
            self._parts.append(_Chosen(rows[chosen], weights[chosen], own[at, others] - own[at, best[:, None]]))
        if rest.any():
            self._parts.append(_Ranked(rows[rest], weights[rest], design[rest], Stages(ranks[rest])))

    @classmethod
    def of_pairs(cls, n: int, x: FloatArray, y: FloatArray, weights: FloatArray, rows: IntArray) -> ConditionalLogit:
        """Logistic regression without intercept.

        Parameters
        ----------
        n
            Number of records.
        x
            (e, p) covariates of the log-odds of a pair.
        y
            (e,) 1 or 0: whether it came in that order.
        weights, rows
            (e,) weight and record of each pair.
        """
        self = object.__new__(cls)
        self.n, self.p = n, x.shape[1]
        some = weights > 0
        gaps = np.where(y[some, None] > 0, -x[some], x[some])[:, None, :]
        self._parts = [_Chosen(rows[some], weights[some], gaps)] if some.any() else []
        return self

    @property
    def is_empty(self) -> bool:
        """Whether no record says anything about an order."""
        return not self._parts

    def value(self, parameters: FloatArray) -> float:
        """Log-likelihood."""
        return sum(float(part.weights @ part.value(parameters)) for part in self._parts)

    def derivatives(self, parameters: FloatArray, *, pooled: bool = False) -> tuple[float, FloatArray, FloatArray]:
        """Log-likelihood, its gradient by record (n, p), and minus its second derivatives (p, p).

        ``pooled`` gives the sum of the gradients alone, (1, p), which is faster.
        """
        value, information = 0.0, np.zeros((self.p, self.p))
        gradient = np.zeros((1 if pooled else self.n, self.p))
        for part in self._parts:
            each, slope, bend = part.derivatives(parameters)
            value += float(part.weights @ each)
            if pooled:
                gradient[0] += part.weights @ slope
            else:
                np.add.at(gradient, part.rows, slope * part.weights[:, None])  # of pairs, a record may have several
            information += bend
        return value, gradient, information


Derivatives = Callable[[FloatArray], tuple[float, FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class Maximum:
    """A penalised maximum: parameters, likelihood without penalty, gradient by record, information (no penalty)."""

    parameters: FloatArray
    value: float
    by_record: FloatArray
    information: FloatArray


def maximise(
    derivatives: Derivatives,
    value: Callable[[FloatArray], float],
    start: FloatArray,
    mean: FloatArray,
    prior: FloatArray,
    *,
    records: Callable[[FloatArray], FloatArray] | None = None,
) -> Maximum:
    """Newton's method with step halving for log-likelihood minus (x - mean)' prior (x - mean) / 2.

    Parameters
    ----------
    derivatives
        Log-likelihood, gradient by record, and a positive semi-definite stand-in for minus the second derivatives.
    records
        The gradient by record, where ``derivatives`` gives only its sum (1, p).
    value
        The log-likelihood alone; -inf where it is not defined.
    start, mean, prior
        (p,), (p,) and (p, p).
    """
    x = start.astype(np.float64)

    def penalised(at: FloatArray, likelihood: float) -> float:
        return likelihood - 0.5 * float((at - mean) @ prior @ (at - mean))

    likelihood, by_record, information = derivatives(x)
    for _ in range(_NEWTON_STEPS):
        gradient = by_record.sum(axis=0) - prior @ (x - mean)
        step = solve(information + prior, gradient)
        gain = float(step @ gradient)
        if gain <= 1e-14 * (1.0 + abs(likelihood)):
            if gain > 0:  # too little to measure; the last full step makes the parameters exact to rounding
                x = x + step
                likelihood, by_record, information = derivatives(x)
            break
        now, size = penalised(x, likelihood), 1.0
        for _ in range(_HALVINGS):
            new = value(x + size * step)
            if penalised(x + size * step, new) >= now + 1e-4 * size * gain:
                break
            size *= 0.5
        else:
            break
        x = x + size * step
        likelihood, by_record, information = derivatives(x)
    return Maximum(x, likelihood, by_record if records is None else records(x), information)


def solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of a positive definite system, scaled first: parameters may have very different units."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix / scale[:, None] / scale
    target = right / (scale if right.ndim == 1 else scale[:, None])
    found = np.linalg.lstsq(scaled, target, rcond=1e-13)[0]
    result: FloatArray = found / (scale if right.ndim == 1 else scale[:, None])
    return result


def covariance(found: Maximum, prior: FloatArray, units: IntArray) -> FloatArray:
    """Sandwich covariance (p, p) of a penalised maximum, by independent unit.

    The prior's part of the noise is added to the units': where the likelihood says nothing, what is left is the prior
    itself, so that an interval covers on average over the prior even though the estimate is pulled to its mean
    (as the Bayesian intervals of smoothing splines do; Nychka 1988).
    """
    by_unit = np.zeros((int(units.max()) + 1, len(found.parameters)))
    np.add.at(by_unit, units, found.by_record)
    meat = by_unit.T @ by_unit * (len(by_unit) / max(len(by_unit) - 1, 1)) + prior
    half = solve(found.information + prior, meat)
    return solve(found.information + prior, half.T)


def within_spread(values: FloatArray, sizes: IntArray, weights: FloatArray) -> float:
    """Root mean square deviation of the items' numbers from their instance's mean; 0 where nothing varies.

    ``values`` (nnz,) are those of the items, flat; ``sizes`` and ``weights`` (n,) of the instances.
    """
    rows = np.repeat(np.arange(len(sizes)), sizes)
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    scaled = values / largest
    mean = np.bincount(rows, scaled, minlength=len(sizes)) / np.maximum(sizes, 1)
    several = (sizes > 1)[rows]
    deviations, w = (scaled - mean[rows])[several], weights[rows][several]
    # The mean of equal numbers is off by rounding: that is no spread.
    spread = math.sqrt(float(w @ deviations**2) / (float(w.sum()) or 1.0))
    return spread * largest if spread > 1e-12 else 0.0


def best_line(data: Data) -> tuple[Temperature, float, float]:
    """The temperature, the spread of the scores within an instance, and the log of spread / temperature.

    Raises DataError where the scores are equal within every instance. The log is at most ``LOG_LIMIT`` - 1 in size.
    """
    assert isinstance(data.h, PlackettLuce)
    spread = within_spread(data.h.scores.values, data.h.scores.sizes, data.weights)
    if spread == 0.0:
        raise DataError(EQUAL_SCORES)
    line = Temperature.fit(data)
    level = math.log(spread) - math.log(line.temperature)
    return line, spread, min(max(level, 1.0 - LOG_LIMIT), LOG_LIMIT - 1.0)


def saved_line(values: Mapping[str, Any]) -> Temperature:
    """The temperature map that another map was saved with; DataError where it is none."""
    stored = values.get("line")
    if not isinstance(stored, dict):
        raise DataError(
            f"must be the parameters of a temperature map, got {repr(stored)[:40]}", field="parameters.line"
        )
    return Temperature.from_parameters(stored)


def shown(found: Estimate, sign: str = "") -> str:
    """A number with its interval in words, e.g. ``0.31 [0.22, 0.4]``; ``sign="+"`` shows every sign."""
    if found.interval is None:
        return f"{found.value:{sign}.3g}"
    return f"{found.value:{sign}.3g} [{found.interval[0]:{sign}.3g}, {found.interval[1]:{sign}.3g}]"


def require_information(likelihood: ConditionalLogit) -> None:
    """DataError unless some record says which of two items is better."""
    if likelihood.is_empty:
        raise DataError("no outcome says which of two items is better: there is nothing to fit on")
