"""Mallows dispersions that are too small or too large: a straight line through theta = -log phi."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.mallows import Mallows
from prefcal.errors import DataError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, register
from prefcal.recalibration.conditional_logit import Maximum, covariance, maximise, shown
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.result import Estimate

#: Prior standard deviations of the slope around 1 and of the intercept around 0.
_SLOPE_SD, _INTERCEPT_SD = 1.0, 1.0
#: A forecast of phi = 0 counts as the largest other theta plus one of these, whichever fits best.
_BEYOND = (0.5, 1.0, 2.0, 4.0, 8.0)
_STEP = 1e-4
# Beyond this theta, exp(-theta) is 0 for every purpose: the likelihood of a wrong forecast stays finite.
_LARGEST = 700.0
# A theta that is uniform for every purpose and still keeps the order of the centre.
_SMALLEST = 1e-6


@register
@dataclass(frozen=True)
class Dispersion(Recalibrator):
    """Mallows with the same centre and theta' = slope theta + intercept, theta = -log phi, at least 1e-6.

    Both ends of phi are safe. phi = 1 stays 1: a uniform forecast states no order, and none is made of it. phi = 0
    counts as a finite theta, which is fitted with the line. Where the line falls below 0, theta' = 1e-6: uniform for
    every purpose, the order of the centre kept. slope >= 0: a forecast that was more certain than another stays so.
    The intercept is 0 where all forecasts of the fit have the same phi.

    Fitted by the exact likelihood of what was observed, with Gaussian priors (slope 1 +- 1, intercept 0 +- 1).

    Parameters
    ----------
    slope, intercept
        Of the line.
    cap
        theta that phi = 0 counts as; 0 where no forecast of the fit had it: then the largest other theta of the fit.
    largest
        Largest finite theta of the fit.
    covariance
        (4,) of (slope, intercept), row by row; zeros for what was not free.
    gradient
        Derivative of the log-likelihood by theta' of all records at the solution, per unit of its standard error:
        clearly negative where even the uniform distribution says too much.
    """

    method: ClassVar[str] = "dispersion"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("Mallows",)
    complexity: ClassVar[int] = 2

    slope: float
    intercept: float
    cap: float
    largest: float
    covariance: tuple[float, ...]
    gradient: float

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit the line; no options.

        Raises
        ------
        DataError
            Where no outcome tells an order, every forecast is uniform, or what was observed has no exact likelihood
            (partial rankings of more than 18 items).
        """
        cls.refuse_options(options)
        h = data.h
        assert isinstance(h, Mallows)
        theta = _theta(h.dispersion)
        if not theta.any():
            raise DataError("every forecast is uniform (phi = 1): there is no dispersion to map", field="dispersion")
        finite = theta[np.isfinite(theta)]
        largest = float(finite.max(initial=0.0))
        certain = bool(np.isinf(theta).any())
        caps = [0.0] if not certain else ([1.0] if largest == 0.0 else [largest + step for step in _BEYOND])
        best: tuple[float, float, _Line, Maximum, FloatArray] | None = None
        for cap in caps:
            line = _Line(data, np.where(np.isinf(theta), cap, theta))
            found, prior = line.fit()
            away = found.parameters - np.array([1.0, 0.0])
            score = found.value - 0.5 * float(away @ prior @ away)
            if best is None or score > best[0]:
                best = score, cap, line, found, prior
        assert best is not None
        _, cap, line, found, prior = best
        cov = covariance(found, prior, data.units)
        fixed = np.diag(prior) > 1e20
        cov[fixed], cov[:, fixed] = 0.0, 0.0
        slope, intercept = found.parameters.tolist()
        by_unit = np.bincount(data.units, line.slopes(found.parameters) * data.weights)
        size = math.sqrt(float(by_unit @ by_unit))
        return cls(
            slope, intercept, cap, largest, tuple(cov.ravel().tolist()), float(by_unit.sum()) / size if size else 0.0
        )

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, Mallows)
        theta = _theta(h.dispersion)
        capped = np.where(np.isinf(theta), self.cap or max(self.largest, 1.0), theta)
        with np.errstate(over="ignore"):
            mapped = np.clip(self.slope * capped + self.intercept, _SMALLEST, _LARGEST)
        return Mallows(h.places + 1, np.exp(-np.where(theta == 0.0, 0.0, mapped)))

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``slope`` and ``intercept``; an interval is missing, with a note, for what was not free."""
        out = {}
        for name, value, variance in (
            ("slope", self.slope, self.covariance[0]), ("intercept", self.intercept, self.covariance[3]),
        ):  # fmt: skip
            se = math.sqrt(variance)
            fixed = "" if se else "held: the forecasts of the fit do not determine it"
            out[name] = Estimate(value, (value - Z95 * se, value + Z95 * se) if se else None, fixed)
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        found: tuple[str, ...] = ()
        line = self.estimates["slope"]
        if self.slope == 0.0:
            found += ("the stated dispersions carry no information: all forecasts get the same one",)
        elif line.interval is not None and line.interval[0] <= 0:
            found += ("the stated dispersions carry no detectable information: the slope's interval holds 0",)
        if self.gradient < -Z95:
            found += (
                "the centres carry negative information: forecasts become uniform, the centres are not flipped",
            )
        return found

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        parts = [f"{shown(self.estimates['slope'])} times theta"]
        if self.intercept or self.estimates["intercept"].interval is not None:
            parts.append(f"{shown(self.estimates['intercept'], '+')}")
        text = f"theta = -log(phi) becomes {' '.join(parts)}, at least 0"
        middle = 0.5 * self.largest or 1.0
        example = math.exp(-max(0.0, self.slope * middle + self.intercept))
        text += f": a dispersion of {math.exp(-middle):.3g} becomes {example:.3g}"
        if self.cap:
            text += f"; a forecast of phi = 0 counts as theta = {self.cap:.3g}"
        return f"{text}. The centres are kept."

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "slope": self.slope, "intercept": self.intercept, "cap": self.cap, "largest": self.largest,
            "covariance": list(self.covariance), "gradient": self.gradient,
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        cov = covariance_matrix(values, 2)
        return cls(
            number(values, "slope", low=0.0), number(values, "intercept"), number(values, "cap", low=0.0),
            number(values, "largest", low=0.0), cov, number(values, "gradient"),
        )  # fmt: skip


class _Line:
    """Log-likelihood of (slope, intercept)."""

    def __init__(self, data: Data, theta: FloatArray) -> None:
        h = data.h
        assert isinstance(h, Mallows)
        self.theta, self.n = theta, len(data)
        told = ~np.isnan(observed_log_prob(Mallows._wrap(h.places, np.full(self.n, 0.5)), data.y))
        self.rows = np.flatnonzero(told & (data.weights > 0) & (theta > 0))
        if len(self.rows) == 0:
            raise DataError("no outcome says which of two items is better where the forecast is not uniform")
        self.places, self.weights = h.places[self.rows], data.weights[self.rows]
        self.y: Outcomes = data.y[self.rows]

    def fit(self) -> tuple[Maximum, FloatArray]:
        """Penalised maximum with slope >= 0, and the prior precision (1e30 for what is held)."""
        used = self.theta[self.rows]
        prior = np.diag([_SLOPE_SD**-2, _INTERCEPT_SD**-2])
        constant = float(np.ptp(used)) <= 1e-9 * float(used.max())
        if constant:
            prior[1, 1] = 1e30
        mean = np.array([1.0, 0.0])
        found = maximise(self.derivatives, self.value, mean, mean, prior)
        if constant:
            found.parameters[1] = 0.0
        if found.parameters[0] <= 0:
            mean, prior = np.zeros(2), np.diag([1e30, _INTERCEPT_SD**-2])
            start = np.array([0.0, max(float(found.parameters[1]), 0.1)])
            found = maximise(self.derivatives, self.value, start, mean, prior)
            found.parameters[0] = 0.0
        return found, prior

    def _at(self, theta: FloatArray) -> FloatArray:
        return observed_log_prob(Mallows._wrap(self.places, np.exp(-theta)), self.y)

    def _mapped(self, x: FloatArray) -> FloatArray:
        mapped: FloatArray = np.clip(x[0] * self.theta[self.rows] + x[1], _SMALLEST, _LARGEST)
        return mapped

    def value(self, x: FloatArray) -> float:
        return float(self.weights @ self._at(self._mapped(x)))

    def _jets(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log probabilities and their derivatives by theta, from three nearby exact values (error about 1e-7)."""
        step = _STEP * (1.0 + theta)
        middle = np.maximum(theta, step)
        low, mid, high = self._at(middle - step), self._at(middle), self._at(middle + step)
        second = (high - 2.0 * mid + low) / step**2
        first = (high - low) / (2.0 * step) + second * (theta - middle)
        return mid + (first - 0.5 * second * (theta - middle)) * (theta - middle), first, second

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        mapped = self._mapped(x)
        _, first, second = self._jets(mapped)
        inside = mapped > _SMALLEST
        covariates = np.stack([self.theta[self.rows], np.ones(len(self.rows))], axis=1) * inside[:, None]
        by_record = np.zeros((self.n, 2))
        by_record[self.rows] = (self.weights * first)[:, None] * covariates
        bend = self.weights * np.maximum(-second, 0.0)
        return self.value(x), by_record, (covariates * bend[:, None]).T @ covariates

    def slopes(self, x: FloatArray) -> FloatArray:
        """(n,) derivative of each record's log probability by its theta', where the line is cut off too."""
        out = np.zeros(self.n)
        out[self.rows] = self._jets(self._mapped(x))[1]
        return out


def _theta(phi: FloatArray) -> FloatArray:
    """-log phi, infinite at 0."""
    with np.errstate(divide="ignore"):
        theta: FloatArray = -np.log(phi) + 0.0  # no negative zero
    return theta
