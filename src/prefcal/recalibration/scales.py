"""The engine of all maps that scale scores: a log scale that is linear in a design, by penalised maximum likelihood.

The scale of a choice is ``a = exp(x . beta)``, so it is positive and the order of the candidates is kept. Fisher
scoring with a line search; intervals from the sandwich covariance by independent unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.choices import Choice
from prefcal.result import Estimate

#: Spread of the Cauchy prior on the log temperature: half the prior mass lies between 1/e and e. Its pull towards 1
#: is worth at most two choices' worth of information and fades for temperatures far from 1.
PRIOR_SPREAD = 1.0
#: Log scales are kept within these bounds, in fits and in saved files.
LOG_SCALE_LIMIT = 300.0

#: Note of a slope that does not exist.
EQUAL_SCORES = "the scores tell no candidates apart"

_ITERATIONS = 100
_SUBSAMPLE = 1 << 14  # records of a first, rough fit

Design = Callable[[Choice], FloatArray]  # (p,) the same for all records of the choice, or (c, p)


@dataclass(frozen=True, slots=True)
class ScaleFit:
    """Coefficients ``beta`` (p,), their covariance, and the penalised information (p, p).

    The covariance is the sandwich by unit with the prior's information added to the meat: the posterior covariance
    where the likelihood is right, and honest about dependence within units where it is not.
    """

    beta: FloatArray
    covariance: FloatArray
    information: FloatArray
    log_likelihood: float

    def interval(self, direction: FloatArray) -> tuple[float, float, float]:
        """Value of a linear form in ``beta`` and the ends of its 95 % interval."""
        value = float(direction @ self.beta)
        half = Z95 * math.sqrt(max(float(direction @ self.covariance @ direction), 0.0))
        return value, value - half, value + half


def constant(_: Choice) -> FloatArray:
    """Design of one common scale."""
    return np.ones(1)


def fit_log_scale(
    parts: Sequence[Choice],
    weights: FloatArray,
    units: IntArray,
    design: Design,
    ridge: FloatArray,
    *,
    start: FloatArray | None = None,
    cauchy: bool = True,
) -> ScaleFit:
    """Maximise sum of w l(exp(x . beta)) - beta' ridge beta / 2 - log(1 + (beta_0 / PRIOR_SPREAD)^2).

    Parameters
    ----------
    parts
        Choices, see :func:`prefcal.recalibration.choices.choices`.
    weights, units
        (n,) of the records; codes of the independent units.
    design
        Gives x for each choice.
    ridge
        (p, p) precision of the Gaussian part of the prior.
    start
        (p,) where to start. Default: 0 and, where gaps of scores are typically far from 1, also the scale that makes
        them 1, whichever ends better (the Cauchy prior may leave two maxima).
    cauchy
        Whether the first coefficient has the Cauchy prior.

    Raises DataError where the iteration does not settle (it does for every finite input that the tests tried).
    """
    beta = np.zeros(len(ridge)) if start is None else start.copy()
    fit = _Objective(parts, weights, design, ridge, cauchy)
    if start is None and len(weights) > 4 * _SUBSAMPLE:  # a rough fit of a few blocks saves full iterations
        taken, seen = [], 0
        for part in parts[:: max(1, len(parts) * _SUBSAMPLE // len(weights))] if len(parts) > 8 else []:
            taken.append(part)
            seen += len(part)
            if seen > _SUBSAMPLE:
                break
        if taken:
            beta = _ascend(_Objective(taken, weights, design, ridge, cauchy), beta, tolerance=1e-2)
    tolerance = 1e-5 if len(beta) == 1 else 1e-7
    log_size = math.log(typical_gap(parts)) if start is None else 0.0
    starts = [beta] if abs(log_size) < 20 else []
    if abs(log_size) > 2:
        other = np.zeros(len(ridge))
        other[0] = -log_size
        starts.append(other)
    ends, failed = [], None
    for begin in starts:
        try:
            ends.append(_ascend(fit, begin, tolerance))
        except DataError as error:  # the other start may settle
            failed = error
    if not ends:
        if failed is None or abs(log_size) < 20:
            raise failed or DataError("there is nothing to fit")
        ends.append(_ascend(fit, np.zeros(len(ridge)), tolerance))
    beta = ends[0] if len(ends) == 1 else max(ends, key=lambda b: fit.likelihood(b) - fit.penalty(b))
    _, information, by_record = fit.derivatives(beta, by_record=True)
    n_units = int(units.max()) + 1
    if n_units < len(units):
        by_record = np.stack([np.bincount(units, column, n_units) for column in by_record.T], axis=1)
    meat = by_record.T @ by_record * (n_units / max(n_units - 1, 1))
    bread = np.linalg.pinv(information, hermitian=True)
    meat += fit.prior_information(beta)  # the pull of the prior is uncertain too: with it, the posterior covariance
    return ScaleFit(beta, bread @ meat @ bread, information, fit.likelihood(beta))


def slope(parts: Sequence[Choice], weights: FloatArray, units: IntArray, start: float) -> Estimate:
    """Unpenalised maximum-likelihood scale, of any sign, with its 95 % interval: do the scores carry information?

    Infinite, with a note, where the scores order every choice right, or every choice wrong.
    """
    side = _separated(parts, weights)
    if side is None:
        return Estimate(0.0, note=EQUAL_SCORES)
    if side:
        word = "right" if side > 0 else "wrong"
        return Estimate(side * math.inf, note=f"the scores order every event {word}; no finite scale fits")
    a = start
    for _ in range(_ITERATIONS):
        gradient, information = _plain(parts, weights, a)
        if information <= 0:
            break
        step = float(np.clip(gradient / information, -1.0 - abs(a), 1.0 + abs(a)))
        a += step
        if abs(step) <= 1e-4 * abs(a) + 1e-12:
            break
    by_record, information = np.zeros(len(weights)), 0.0
    for part in parts:
        first, curvature = part.slopes(a)
        w = weights[part.rows]
        by_record[part.rows] += w * first
        information += float((w * curvature).sum())
    n_units = int(units.max()) + 1
    scores = by_record if n_units == len(units) else np.bincount(units, by_record, n_units)
    half = Z95 * math.sqrt(float(scores @ scores) * n_units / max(n_units - 1, 1)) / max(information, 1e-300)
    return Estimate(a, (a - half, a + half))


@dataclass(frozen=True, slots=True)
class _Objective:
    parts: Sequence[Choice]
    weights: FloatArray
    design: Design
    ridge: FloatArray
    cauchy: bool

    def _scale(self, x: FloatArray, beta: FloatArray) -> FloatArray | float:
        log_scale = np.clip(x @ beta, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
        return float(np.exp(log_scale)) if x.ndim == 1 else np.asarray(np.exp(log_scale))

    def likelihood(self, beta: FloatArray) -> float:
        total = 0.0
        for part in self.parts:
            log_p = part.log_prob(self._scale(self.design(part), beta))
            total += float((self.weights[part.rows] * log_p).sum())
        return total

    def penalty(self, beta: FloatArray) -> float:
        own = 0.5 * float(beta @ self.ridge @ beta)
        return own + (math.log1p((beta[0] / PRIOR_SPREAD) ** 2) if self.cauchy else 0.0)

    def prior_information(self, beta: FloatArray) -> FloatArray:
        out = self.ridge.copy()
        if self.cauchy:
            out[0, 0] += 2 / (PRIOR_SPREAD**2 + beta[0] ** 2)
        return out

    def derivatives(self, beta: FloatArray, *, by_record: bool = False) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gradient and information of the penalised objective; scores (n, p) of the likelihood by record.

        The observed information where it is positive definite, else the expected one.
        """
        p = len(beta)
        gradient, information, excess = -self.ridge @ beta, self.prior_information(beta), np.zeros((p, p))
        scores = np.zeros((len(self.weights), p)) if by_record else np.empty((0, p))
        for part in self.parts:
            x = self.design(part)
            a = self._scale(x, beta)
            first, curvature = part.slopes(a)
            w = self.weights[part.rows]
            g, c = w * (a * first), w * (a * a * curvature)
            if x.ndim == 1:
                gradient += float(g.sum()) * x
                information += float(c.sum()) * np.multiply.outer(x, x)
                excess -= float(g.sum()) * np.multiply.outer(x, x)
            else:
                gradient += np.einsum("c,cp->p", g, x)  # products this thin are no work for BLAS threads
                information += np.einsum("cp,cq->pq", x * c[:, None], x)
                excess -= np.einsum("cp,cq->pq", x * g[:, None], x)
            if by_record:
                scores[part.rows] += g[:, None] * x
        if self.cauchy:
            gradient[0] -= 2 * beta[0] / (PRIOR_SPREAD**2 + beta[0] ** 2)
        observed = information + excess
        scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
        definite = np.linalg.eigvalsh(observed / np.multiply.outer(scale, scale)).min() > 0.1
        return gradient, observed if definite else information, scores


def _ascend(fit: _Objective, beta: FloatArray, tolerance: float) -> FloatArray:
    value, damping = -math.inf, 1.0
    last: FloatArray = np.zeros(len(beta))
    for _ in range(_ITERATIONS):
        gradient, information, _ = fit.derivatives(beta)
        step = np.linalg.lstsq(information, gradient, rcond=1e-12)[0]
        if step @ last < 0 and np.abs(step).max() > 0.5 * np.abs(last).max():
            damping *= 0.5  # back and forth: the expected information may be too small a curvature
        step *= damping
        size = float(np.abs(step).max())
        step *= min(1.0, 2.0 / max(size, 1e-300))
        last = np.asarray(step, dtype=np.float64)
        if size > 0.1:  # away from the maximum: never accept a step that loses
            if value == -math.inf:
                value = fit.likelihood(beta) - fit.penalty(beta)
            while True:
                new = fit.likelihood(beta + step) - fit.penalty(beta + step)
                if new >= value - 1e-12 * abs(value) or np.abs(step).max() < tolerance:
                    break
                step *= 0.5
            value = new
        else:
            value = -math.inf
        beta = beta + step
        if np.abs(step).max() < tolerance:
            return beta
    raise DataError("the fit of the scale does not settle; are there scores of very different size?")


def _plain(parts: Sequence[Choice], weights: FloatArray, a: float) -> tuple[float, float]:
    gradient = information = 0.0
    for part in parts:
        first, curvature = part.slopes(a)
        w = weights[part.rows]
        gradient += float((w * first).sum())
        information += float((w * curvature).sum())
    return gradient, information


def typical_gap(parts: Sequence[Choice]) -> float:
    """Mean size of a gap between scores, 1 where all scores are equal."""
    mean = float(np.mean([part.typical_gap() for part in parts])) if parts else 0.0
    return mean or 1.0


def _separated(parts: Sequence[Choice], weights: FloatArray) -> int | None:
    """1 if a larger scale always fits better, -1 if a more negative one does, 0 if neither, None if all are equal."""
    right = wrong = True
    some = False
    for part in parts:
        low, high = part.gap_range(weights[part.rows] > 0)
        right, wrong, some = right and high <= 0, wrong and low >= 0, some or low < 0 or high > 0
        if not (right or wrong):
            return 0
    if not some:
        return None
    return 1 if right else -1


def best_strength(
    strengths: Sequence[float], fit: Callable[[FloatArray, FloatArray | None], ScaleFit], shape: FloatArray
) -> tuple[float, ScaleFit]:
    """Empirical Bayes: the precision ``strength * shape`` of the prior that makes the data most probable.

    By Laplace's approximation of the marginal likelihood; of equally good strengths the largest. ``shape`` (p, p) is
    positive semi-definite; the directions that it leaves free have the same prior at every strength.
    """
    rank = int(np.linalg.matrix_rank(shape, hermitian=True))
    best: tuple[float, float, ScaleFit] | None = None
    start: FloatArray | None = None
    for strength in sorted(strengths, reverse=True):
        found = fit(strength * shape, start)
        start = found.beta
        own = float(start @ shape @ start) * strength
        evidence = found.log_likelihood - 0.5 * own + 0.5 * rank * math.log(strength)
        evidence -= 0.5 * float(np.linalg.slogdet(found.information)[1])
        if best is None or evidence > best[0] + 1e-6:
            best = evidence, strength, found
    assert best is not None
    return best[1], best[2]


def not_positive(raw: Estimate) -> bool:
    """Whether the best scale of any sign is not positive, so that the best one that flips nothing is 0."""
    return raw.value <= 0 and raw.note != EQUAL_SCORES


def rescaled(h: PlackettLuce, factor: FloatArray) -> PlackettLuce:
    """Scores multiplied by one positive factor for each instance."""
    with np.errstate(over="ignore"):
        return with_utilities(h, h.scores.values * np.repeat(factor, h.sizes))


def with_utilities(h: PlackettLuce, values: FloatArray) -> PlackettLuce:
    """Forecasts of the same shape with other utilities; DataError names a score whose utility is not finite."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"score {h.scores.values[at]:g} maps to an infinite utility; the map was fitted on much smaller scores",
            row=f"instance {int(np.searchsorted(h.scores.offsets, at, side='right')) - 1}",
        )
    return PlackettLuce(h.scores.with_values(values))
