"""Mixtures of a forecast with a second, vaguer distribution: the likelihood and its penalised maximum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, chunks
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mallows import expected_distance, log_normalizer
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.smoothed import Smoothed, distances
from prefcal.errors import DataError
from prefcal.estimators.binned import Z95
from prefcal.estimators.inputs import aligned_ranks
from prefcal.recalibration.base import Data, number
from prefcal.recalibration.choices import Choice, Jets, Single, choices, pair_choices
from prefcal.recalibration.conditional_logit import (
    LOG_LIMIT,
    LOG_SD,
    Maximum,
    best_line,
    covariance,
    maximise,
    saved_line,
)
from prefcal.recalibration.likelihood import MAX_ENUMERATED_ITEMS, agreeing, observed_log_prob, shapes
from prefcal.recalibration.powers import listed_choices
from prefcal.recalibration.temperature import Temperature, choices_of
from prefcal.result import Estimate
from prefcal.views import View

#: Pseudo-observations: this many that only the second part could have made, this many that only the model could.
_OTHER_COUNT, _MODEL_COUNT = 0.25, 4.75
#: Starting values of epsilon, and of theta beside them.
_STARTS = ((0.02, 1.0), (0.2, 0.3))
#: Kinds of forecasts that have a temperature of their own here.
SCALED = ("PlackettLuce", "Categorical", "Pairwise")
#: Prior standard deviation of log theta around 0, and its bound.
_LOG_THETA_SD = 1.0
LOG_THETA_LIMIT = 6.0
_STEP = 1e-3


@dataclass(frozen=True, slots=True)
class MixtureFit:
    """What :func:`fit_mixture` found; ``covariance`` of (log_scale, logit epsilon[, log_theta]), row by row."""

    epsilon: float
    log_scale: float
    log_theta: float
    covariance: tuple[float, ...]
    line: Temperature | None


def fit_mixture(data: Data, *, smoothed: bool = False) -> MixtureFit:
    """Penalised maximum likelihood of (1 - epsilon) h + epsilon q, h at a temperature where it has one.

    ``q`` is uniform, or h itself smoothed by the Mallows kernel, with one dispersion exp(-theta) for all, which is
    fitted too (Categorical only).

    Raises
    ------
    DataError
        Where no outcome tells an order, or Plackett-Luce scores are equal within every instance.
    """
    h = data.h
    line, middle, log_spread = None, 0.0, 0.0
    if isinstance(h, PlackettLuce):
        line, spread, middle = best_line(data)
        log_spread = math.log(spread)
    elif isinstance(h, Categorical | Pairwise) and choices_of(data)[0]:
        line = Temperature.fit(data)
        middle = min(max(-math.log(line.temperature), 1.0 - LOG_LIMIT), LOG_LIMIT - 1.0)
    terms = Terms(data, log_spread, line is not None, smoothed=smoothed)
    if not terms.told:
        raise DataError("no outcome says which of two items is better: there is nothing to fit on")
    free, k = terms.scaled, 3 if smoothed else 2
    prior = np.diag([LOG_SD**-2 if free else 1e30, 0.0, _LOG_THETA_SD**-2])[:k, :k]
    mean = np.array([middle, 0.0, 0.0])[:k]
    best: tuple[float, Maximum] | None = None
    for epsilon, theta in _STARTS:
        warmer = 1.0 if free and epsilon > 0.1 else 0.0
        x0 = np.array([middle + warmer, math.log(epsilon / (1 - epsilon)), math.log(theta)])[:k]
        found = maximise(terms.derivatives, terms.value, x0, mean, prior)
        away = found.parameters - mean
        score = found.value - 0.5 * float(away @ prior @ away)
        if best is None or score > best[0]:
            best = score, found
    assert best is not None
    found = best[1]
    x, z = found.parameters[:2].tolist()
    epsilon = logistic(z)
    pull = prior.copy()
    pull[1, 1] += (_OTHER_COUNT + _MODEL_COUNT) * epsilon * (1 - epsilon)
    plain = Maximum(found.parameters, found.value, found.by_record[:-1], found.information - pull + prior)
    cov = covariance(plain, pull, data.units)
    if not free:
        cov[0], cov[:, 0] = 0.0, 0.0
    return MixtureFit(
        epsilon, x - log_spread if free else 0.0, float(found.parameters[2]) if k > 2 else 0.0,
        tuple(cov.ravel().tolist()), line,
    )  # fmt: skip


def weight_estimate(epsilon: float, se: float) -> Estimate:
    """The weight epsilon with the interval of its logit, whose standard error is given."""
    z = math.log(epsilon) - math.log1p(-epsilon)
    return Estimate(epsilon, (logistic(z - Z95 * se), logistic(z + Z95 * se)))


def temperature_estimate(log_scale: float, se: float) -> Estimate:
    """1 / scale with the interval of its logarithm."""
    low, value, high = (math.exp(min(c * Z95 * se - log_scale, 700.0)) for c in (-1, 0, 1))
    return Estimate(value, (low, high))


def saved_weight(values: Mapping[str, Any]) -> float:
    """The ``epsilon`` of a saved mixture; DataError unless it lies strictly between 0 and 1."""
    epsilon = number(values, "epsilon", low=0.0, high=1.0)
    if epsilon in (0.0, 1.0):
        raise DataError(f"must lie strictly between 0 and 1, got {epsilon:g}", field="parameters.epsilon")
    return epsilon


def saved_mixture_line(values: Mapping[str, Any], kind: str) -> Temperature | None:
    """The temperature map that a mixture was saved with; DataError where it does not go with the forecasts."""
    if kind == "PlackettLuce" or (kind in SCALED and ("line" not in values or values["line"] is not None)):
        line = saved_line(values)
        if line.kind != kind:
            raise DataError(f"is a map of {line.kind}, not of {kind} forecasts", field="parameters.line")
        return line
    if values.get("line") is not None:
        raise DataError(f"belongs to {', '.join(SCALED)} forecasts only", field="parameters.line")
    return None


class Terms:
    """Log-likelihood of (log scale in units of 1 / spread, logit epsilon), each term a mixture of two probabilities.

    A term is a record, or a pair of a record for pairwise forecasts. The last row of the gradients is the
    pseudo-observations. The second part is uniform, or the smoothed list: then log theta is the third
    parameter.
    """

    def __init__(self, data: Data, log_spread: float, scaled: bool, *, smoothed: bool = False) -> None:
        h, y = data.h, data.y
        self.n, self.scaled = len(data), scaled
        parts: list[tuple[Choice, IntArray]] = []  # what the scale changes, and which terms it belongs to
        if isinstance(h, Pairwise):
            pairs = [(np.arange(self.n)[c.rows], c) for c in pair_choices(h, y)]
            self.rows = np.concatenate([np.zeros(0, dtype=np.intp), *(rows for rows, _ in pairs)])
            self.log_p = np.concatenate([np.zeros(0), *(c.log_prob(1.0) for _, c in pairs)])
            self.log_q = np.full(len(self.rows), -math.log(2.0))
            start = 0
            for rows, choice in pairs:
                assert isinstance(choice, Single)
                at = np.flatnonzero(np.isfinite(choice.gaps[:, 0]))  # certain pairs stay certain
                parts.append((Single(rows[at], choice.left, choice.complete, choice.gaps[at]), start + at))
                start += len(rows)
        else:
            shape = h.scores.with_values(np.zeros(len(h.scores.values))) if isinstance(h, PlackettLuce) else None
            flat = PlackettLuce(np.zeros((self.n, h.n_items)) if shape is None else shape)
            log_q = observed_log_prob(flat, y)
            self.rows = np.flatnonzero(~np.isnan(log_q))
            self.log_q = log_q[self.rows]
            self.log_p = np.zeros(len(self.rows))
            term = np.full(self.n, len(self.rows))  # records without a term share one that is left out
            term[self.rows] = np.arange(len(self.rows))
            found: list[Choice] = []
            if isinstance(h, PlackettLuce):
                found = choices(PlackettLuce(h.scores.with_values(h.scores.values / math.exp(log_spread))), y)
            else:
                self.log_p = observed_log_prob(h, y)[self.rows]
                if scaled:
                    assert isinstance(h, Categorical)
                    found = listed_choices(h, y)
            parts = [(choice, term[choice.rows]) for choice in found]
        self.around: _Around | None = None
        if smoothed:
            assert isinstance(h, Categorical)
            self.around = _Around(h[self.rows], y[self.rows])
        self.parts = parts
        self.weights = data.weights[self.rows]
        self.fixed = np.append(self.log_p, 0.0)
        for _, at in parts:
            self.fixed[at] = 0.0  # impossible and certain terms keep what they are

    @property
    def told(self) -> bool:
        """Whether some record says anything about an order."""
        return bool((self.weights > 0).any())

    def _model(self, log_scale: float) -> Jets:
        """Log probability of each term under the scaled model, and its derivatives by the log scale."""
        if not self.scaled:
            zero = np.zeros(len(self.rows))
            return self.log_p, zero, zero
        scale = math.exp(log_scale)
        total = np.stack([self.fixed, np.zeros(len(self.fixed)), np.zeros(len(self.fixed))])
        for choice, at in self.parts:
            for k, part in enumerate(choice.jets(scale)):
                total[k][at] += part
        log_p, first, second = total[:, :-1]
        return log_p, scale * first, scale * scale * second + scale * first

    def _model_alone(self, log_scale: float) -> FloatArray:
        """Log probabilities of :meth:`_model`."""
        if not self.scaled:
            return self.log_p
        total = self.fixed.copy()
        for choice, at in self.parts:
            total[at] += choice.log_prob(math.exp(log_scale))
        return total[:-1]

    def value(self, x: FloatArray) -> float:
        """Log-likelihood with the pseudo-observations; -inf outside the bounds."""
        if (self.scaled and abs(x[0]) > LOG_LIMIT) or (len(x) > 2 and abs(x[2]) > LOG_THETA_LIMIT):
            return -math.inf
        log_q = self.log_q if self.around is None else self.around.log_prob(float(x[2]))
        log_f = np.logaddexp(
            log_q - np.logaddexp(0.0, -x[1]), self._model_alone(float(x[0])) - np.logaddexp(0.0, x[1])
        )
        return float(self.weights @ log_f) + _pseudo(float(x[1]))

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """See :data:`prefcal.recalibration.conditional_logit.Derivatives`."""
        p, first, second = self._model(float(x[0]))
        log_q, turn, bend = self.log_q, np.zeros(len(self.rows)), np.zeros(len(self.rows))
        if self.around is not None:
            log_q, turn, bend = self.around.jets(float(x[2]))
        log_q = log_q - np.logaddexp(0.0, -x[1])
        log_f = np.logaddexp(log_q, p - np.logaddexp(0.0, x[1]))
        share = np.exp(log_q - log_f)
        epsilon, w, other, k = logistic(float(x[1])), self.weights, 1.0 - share, len(x)
        both = share * other
        by_record, counts = np.zeros((self.n + 1, k)), _OTHER_COUNT + _MODEL_COUNT
        np.add.at(
            by_record, self.rows, w[:, None] * np.stack([other * first, share - epsilon, share * turn], 1)[:, :k]
        )
        by_record[-1, 1] = _OTHER_COUNT - counts * epsilon
        hessian = np.empty((3, 3))
        hessian[0, 0] = w @ (other * second + both * first**2)
        hessian[0, 1] = hessian[1, 0] = -w @ (both * first)
        hessian[1, 1] = w @ both - (w.sum() + counts) * epsilon * (1 - epsilon)
        hessian[0, 2] = hessian[2, 0] = -w @ (both * first * turn)
        hessian[1, 2] = hessian[2, 1] = w @ (both * turn)
        hessian[2, 2] = w @ (share * bend + both * turn**2)
        values, vectors = np.linalg.eigh(-hessian[:k, :k])
        # Not concave everywhere: where it bends upwards, step by the size of the bend.
        information = (vectors * np.maximum(np.abs(values), 1e-12)) @ vectors.T
        return float(w @ log_f) + _pseudo(float(x[1])), by_record, information


class _Around:
    """Log probability of what was observed under the smoothed list, by log theta.

    Of full and partial rankings it is a sum over distances d: ``mass`` (n, K), the probability of the listed rankings
    at each distance from those that agree with the record, times phi^d / Z(phi). Partial rankings are enumerated,
    once.
    """

    def __init__(self, h: Categorical, y: Outcomes) -> None:
        m = h.n_items
        ranks = aligned_ranks(y, Block(slice(None), h, None))
        full, best, pair, rest = shapes(ranks)
        if rest.any() and m > MAX_ENUMERATED_ITEMS:
            raise DataError(
                f"a partial ranking of {m} items cannot be summed over (at most {MAX_ENUMERATED_ITEMS} items); pass "
                "full rankings, the best item, or single pairs",
                row=f"instance {int(np.flatnonzero(rest)[0])}",
            )
        self.m, self.n = m, len(h)
        self.other = np.flatnonzero(best | pair)
        self.h, self.y = h[self.other], y[self.other]
        self.summed = np.flatnonzero(full | rest)
        mass = np.zeros((len(h), m * (m - 1) // 2 + 1))
        _add_full(mass, np.flatnonzero(full), h, ranks)
        _add_partial(mass, np.flatnonzero(rest), h, ranks)
        with np.errstate(divide="ignore"):
            self.log_mass = np.log(mass[self.summed])

    def log_prob(self, log_theta: float) -> FloatArray:
        """(n,) log probabilities."""
        out, theta = np.empty(self.n), math.exp(log_theta)
        top, w = self._terms(theta)
        out[self.summed] = top + np.log(w.sum(axis=1)) - float(log_normalizer(math.exp(-theta), self.m))
        if len(self.other):
            out[self.other] = observed_log_prob(Smoothed(self.h, math.exp(-theta)), self.y)
        return out

    def _terms(self, theta: float) -> tuple[FloatArray, FloatArray]:
        """Log of the largest term mass phi^d of each record, and all terms divided by it."""
        w = self.log_mass - theta * np.arange(self.log_mass.shape[1])
        top = w.max(axis=1)
        return top, np.exp(w - top[:, None])

    def jets(self, log_theta: float) -> Jets:
        """Log probabilities and their derivatives; of pairs and best items by differences, error about 1e-7."""
        value, first, second = self.log_prob(log_theta), np.empty(self.n), np.empty(self.n)
        theta, step = math.exp(log_theta), _STEP * math.exp(log_theta)
        _, w = self._terms(theta)
        w /= w.sum(axis=1, keepdims=True)
        d = np.arange(w.shape[1])
        mean = w @ d
        below, own, above = (float(expected_distance(math.exp(-(theta + k * step)), self.m)) for k in (-1, 0, 1))
        slope = own - mean
        bend = w @ d**2 - mean**2 + (above - below) / (2.0 * step)  # the kernel's variance: minus its mean's slope
        first[self.summed], second[self.summed] = theta * slope, theta * theta * bend + theta * slope
        if len(self.other):
            low, high = (self.log_prob(log_theta + k * _STEP)[self.other] for k in (-1, 1))
            first[self.other] = (high - low) / (2.0 * _STEP)
            second[self.other] = (high - 2.0 * value[self.other] + low) / _STEP**2
        return value, first, second


def _add_full(mass: FloatArray, rows: IntArray, h: Categorical, ranks: FloatArray) -> None:
    """Fill ``mass`` (n, K) of records that are full rankings."""
    width = mass.shape[1]
    for part in chunks(len(rows), len(h.orders)):
        at = rows[part]
        cell = (
            distances(np.argsort(ranks[at], axis=1), h.orders).astype(np.intp) + width * np.arange(len(at))[:, None]
        )
        mass[at] = np.bincount(cell.ravel(), h.probs[at].ravel(), width * len(at)).reshape(-1, width)


def _add_partial(mass: FloatArray, rows: IntArray, h: Categorical, ranks: FloatArray) -> None:
    """Fill ``mass`` of other records, from all rankings that agree with them."""
    if len(rows) == 0:
        return
    every = View("full").outcomes(h.n_items)[0]
    away = distances(every, h.orders)
    for part in chunks(len(rows), len(every) * h.n_items):
        at = rows[part]
        agrees = agreeing(every[None], ranks[at])
        for d in range(mass.shape[1]):
            mass[at, d] = (agrees * (h.probs[at] @ (away == d).T)).sum(axis=1)


def _pseudo(z: float) -> float:
    return -_OTHER_COUNT * float(np.logaddexp(0.0, -z)) - _MODEL_COUNT * float(np.logaddexp(0.0, z))


def logistic(z: float) -> float:
    """1 / (1 + exp(-z)), never 0."""
    return 0.5 + 0.5 * math.tanh(0.5 * z) if z > -20 else math.exp(z)
