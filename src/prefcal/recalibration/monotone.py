"""A monotone map of the utilities: scores are bent, candidates keep their order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import FloatArray, Ragged
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, numbers, register
from prefcal.recalibration.conditional_logit import (
    LOG_LIMIT,
    LOG_SD,
    ConditionalLogit,
    Maximum,
    best_line,
    covariance,
    maximise,
    saved_line,
    shown,
)
from prefcal.recalibration.temperature import Temperature
from prefcal.result import Estimate

SEGMENTS = 8
#: Candidates for the prior standard deviation of the step between the log slopes of neighbouring segments.
_ROUGHNESS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
#: The line is kept unless bending it gains this much log marginal likelihood (a Bayes factor of 20).
_MARGIN = 3.0


@register
@dataclass(frozen=True)
class Monotone(Recalibrator):
    """A strictly increasing, piecewise linear map of Plackett-Luce scores: s' = g(s).

    One g for all instances, since the scores of a model live on one scale; the likelihood sees only differences
    within an instance. g has 8 segments between quantiles of the scores and goes on straight beyond the last
    knots. The log slopes follow a Gaussian random walk from segment to segment (a ridge towards a straight line,
    which is a temperature); its step size is chosen by the marginal likelihood (Laplace), and the line is kept where
    bending does not gain a Bayes factor of 20. So every slope is above 0: the order of the candidates is kept, and
    so are ties, exactly.

    Parameters
    ----------
    knots
        Inner knots in score units, increasing.
    log_slopes
        Log slope of each segment (one more than knots), in 1 / score units.
    covariance
        Of the log slopes, row by row.
    roughness
        The chosen step size; 0 is a straight line.
    line
        The temperature map of the same data; its warnings say whether the scores carry information.
    """

    method: ClassVar[str] = "monotone"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce",)
    complexity: ClassVar[int] = SEGMENTS

    knots: tuple[float, ...]
    log_slopes: tuple[float, ...]
    covariance: tuple[float, ...]
    roughness: float
    line: Temperature

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit the slopes; no options.

        Raises
        ------
        DataError
            Where no outcome tells an order, or the scores are equal within every instance.
        """
        cls.refuse_options(options)
        h = data.h
        assert isinstance(h, PlackettLuce)
        scores = h.scores
        line, spread, level = best_line(data)
        knots = _knots(scores, data.weights)
        likelihood = ConditionalLogit(data, _basis(scores.values / spread, knots / spread))
        best: tuple[float, Maximum, FloatArray, float] | None = None
        start: FloatArray | None = None
        for roughness in _ROUGHNESS if len(knots) else (0.0,):
            found, prior, evidence = _fit(likelihood, level, roughness, start)
            start = found.parameters if roughness > 0 else None
            if best is None or evidence > best[0] + (_MARGIN if best[3] == 0.0 else 0.0):
                best = evidence, found, prior, roughness
        assert best is not None
        _, found, prior, roughness = best
        if roughness == 0.0:
            variance = float(covariance(found, prior, data.units)[0, 0])
            slopes, cov = np.repeat(found.parameters, len(knots) + 1), np.full((len(knots) + 1,) * 2, variance)
        else:
            slopes, cov = found.parameters, covariance(found, prior, data.units)
        log_slopes = tuple((slopes - math.log(spread)).tolist())
        return cls(tuple(knots.tolist()), log_slopes, tuple(cov.ravel().tolist()), roughness, line)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, PlackettLuce)
        values = h.scores.values
        mapped = self.utility(values)
        if not np.isfinite(mapped).all():
            at = float(values[~np.isfinite(mapped)][0])
            raise DataError(f"score {at:g} maps to an infinite utility; the map was fitted on much smaller scores")
        return PlackettLuce(h.scores.with_values(kept_apart(h.scores, mapped)))

    def utility(self, scores: FloatArray) -> FloatArray:
        """g(s), with g(0) or g(first knot) = 0; increasing, also in floating point."""
        knots, slopes = np.array(self.knots), np.exp(self.log_slopes)
        with np.errstate(over="ignore", invalid="ignore"):
            if len(knots) == 0:
                line: FloatArray = slopes[0] * scores
                return line
            height = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(knots))])  # g at the knots
            segment = np.searchsorted(knots, scores, side="right")
            left = np.maximum(segment - 1, 0)
            out: FloatArray = height[left] + slopes[segment] * (scores - knots[left])
        # Rounding must not carry a score beyond the height of the next knot.
        inner = segment < len(knots)
        out[inner] = np.minimum(out[inner], height[segment[inner]])
        return out

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``temperature`` of the best straight line, and ``slope_1`` .. of each segment from the lowest scores up."""
        size = len(self.log_slopes)
        se = np.sqrt(np.maximum(np.diag(np.array(self.covariance).reshape(size, size)), 0.0)).tolist()
        out = {"temperature": self.line.estimates["temperature"]}
        for k, (log_slope, error) in enumerate(zip(self.log_slopes, se, strict=True), start=1):
            interval = (math.exp(log_slope - Z95 * error), math.exp(min(log_slope + Z95 * error, 700.0)))
            out[f"slope_{k}"] = Estimate(math.exp(log_slope), interval)
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        return self.line.warnings

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        estimates = self.estimates
        slopes = [estimates[f"slope_{k}"] for k in range(1, len(self.log_slopes) + 1)]
        if self.roughness == 0.0:
            return (
                f"Utilities are the scores times {shown(slopes[0])} (a temperature of {1 / slopes[0].value:.3g}): "
                "the data do not show that the scale bends. The order of the candidates is kept."
            )
        ends = [f"below {self.knots[0]:.3g}"]
        ends += [f"{a:.3g} to {b:.3g}" for a, b in pairwise(self.knots)]
        ends.append(f"above {self.knots[-1]:.3g}")
        parts = [f"{shown(slope)} {where}" for where, slope in zip(ends, slopes, strict=True)]
        return f"One score unit counts, in log-odds, {'; '.join(parts)}. The order of the candidates is kept."

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "knots": list(self.knots), "log_slopes": list(self.log_slopes), "covariance": list(self.covariance),
            "roughness": self.roughness, "line": self.line.parameters(),
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        knots = numbers(values, "knots")
        if any(a >= b for a, b in pairwise(knots)):
            raise DataError("must be strictly increasing", field="parameters.knots")
        size = len(knots) + 1
        cov = covariance_matrix(values, size)
        return cls(
            knots, numbers(values, "log_slopes", length=size, low=-700.0, high=700.0), cov,
            number(values, "roughness", low=0.0), saved_line(values),
        )  # fmt: skip


def _knots(scores: Ragged, weights: FloatArray) -> FloatArray:
    """Inner weighted quantiles of the scores of instances with at least two items; fewer where values repeat."""
    rows = np.repeat(np.arange(len(scores)), scores.sizes)
    several = (scores.sizes > 1)[rows]
    values, at = np.unique(scores.values[several], return_inverse=True)
    mass = np.cumsum(np.bincount(at, weights[rows][several]))
    wanted = np.arange(1, SEGMENTS) / SEGMENTS * mass[-1]
    inner = np.unique(values[np.searchsorted(mass, wanted * (1 - 1e-12))])  # where the mass up to a value reaches it
    out: FloatArray = inner[(inner > values.min()) & (inner < values.max())]
    return out


def _basis(values: FloatArray, knots: FloatArray) -> FloatArray:
    """(nnz, segments) length of each segment between the first knot and the value, signed: g = basis @ slopes."""
    if len(knots) == 0:
        return values[:, None].copy()
    low, high = np.concatenate([[-np.inf], knots]), np.concatenate([knots, [np.inf]])
    out = np.empty((len(values), len(low)))
    out[:, 0] = np.minimum(values - knots[0], 0.0)
    for k in range(1, len(low)):
        out[:, k] = np.clip(values, low[k], high[k]) - low[k]
    return out


def _fit(
    likelihood: ConditionalLogit, level: float, roughness: float, start: FloatArray | None
) -> tuple[Maximum, FloatArray, float]:
    """Penalised maximum in the log slopes, its prior precision, and the log marginal likelihood (Laplace).

    ``level`` is the line's log slope, ``start`` where to start instead.

    A roughness of 0 leaves one parameter, the common log slope. Both marginal likelihoods integrate over a flat
    common level, so that they are the same in the limit.
    """
    k = likelihood.p
    spread = np.ones((k, 1)) if roughness == 0.0 else np.eye(k)
    free = spread.shape[1]
    steps = np.diff(np.eye(k), axis=0)
    prior = np.zeros((1, 1)) if roughness == 0.0 else steps.T @ steps / roughness**2
    mean = np.full(free, level)
    # A weak pull to the line's slope keeps the level finite where the scores order everything right or wrong.
    weak = prior + np.full((free, free), 1.0 / free**2) / LOG_SD**2

    def value(u: FloatArray) -> float:
        if np.abs(u).max() > LOG_LIMIT:
            return -math.inf
        return likelihood.value(np.exp(spread @ u))

    def derivatives(u: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        slopes = np.exp(spread @ u)
        each, gradient, information = likelihood.derivatives(slopes, pooled=True)
        chain = slopes[:, None] * spread
        return each, gradient @ chain, chain.T @ information @ chain

    def records(u: FloatArray) -> FloatArray:
        slopes = np.exp(spread @ u)
        return likelihood.derivatives(slopes)[1] @ (slopes[:, None] * spread)

    if roughness == 0.0:
        each, _, information = derivatives(mean)
        found = Maximum(mean, each, records(mean), information)
    else:
        begin = mean if start is None else start
        found = maximise(derivatives, value, begin, mean, weak, records=records)
    u = found.parameters
    evidence = found.value - 0.5 * float((u - mean) @ weak @ (u - mean))
    sign, logdet = np.linalg.slogdet(found.information + weak)
    evidence -= 0.5 * float(logdet) if sign > 0 else math.inf
    if roughness > 0:  # normalisation of the walk's k - 1 steps; the rest is the same as without steps
        evidence -= (k - 1) * math.log(roughness)
    return found, weak, evidence


def kept_apart(scores: Ragged, mapped: FloatArray) -> FloatArray:
    """Mapped scores in which different scores of an instance stay different, by the smallest possible steps.

    A slope far below 1 can round two neighbouring scores to one number; the order of the candidates would then be
    decided by their index.
    """
    rows = np.repeat(np.arange(len(scores)), scores.sizes)
    order = np.lexsort((scores.values, rows))
    old, new, row = scores.values[order], mapped[order], rows[order]
    same_row = row[1:] == row[:-1]
    if not (same_row & (old[1:] > old[:-1]) & (new[1:] <= new[:-1])).any():
        return mapped
    for i in range(1, len(new)):
        if same_row[i - 1] and old[i] > old[i - 1]:
            new[i] = max(new[i], np.nextafter(new[i - 1], np.inf))
        elif same_row[i - 1]:
            new[i] = new[i - 1]
    out = np.empty_like(mapped)
    out[order] = new
    return out
