"""A temperature for each group, pulled towards the common one as far as the groups are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import (
    Context,
    Data,
    Recalibrator,
    bounded_exp,
    interval_of,
    number,
    numbers,
    register,
    texts,
)
from prefcal.recalibration.choices import Choice, choices
from prefcal.recalibration.scales import LOG_SCALE_LIMIT, PRIOR_SPREAD, rescaled, slope
from prefcal.recalibration.temperature import LARGEST, information_warnings
from prefcal.result import Estimate

#: Standard deviations of the log temperature between groups that are tried.
SPREADS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0)
_ITERATIONS = 200


@register
@dataclass(frozen=True)
class GroupTemperature(Recalibrator):
    """Divide the scores by the temperature of the instance's group, estimated with partial pooling.

    Log temperatures of the groups are normal around a common one: a small group borrows from the others. The common
    value has the Cauchy prior of :mod:`~prefcal.recalibration.scales`; the standard deviation between groups
    maximises the Laplace approximation of the marginal likelihood (empirical Bayes). A group that the fit has not
    seen gets the common temperature.

    Parameters
    ----------
    temperature, interval
        The common one, with its 95 % interval: for a typical group.
    between
        Standard deviation of the log temperature between groups.
    groups, temperatures, low, high
        Each group's temperature with its 95 % posterior interval (records taken as independent).
    notes
        Warnings about the information that the scores carry.
    """

    method: ClassVar[str] = "group-wise"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce",)
    complexity: ClassVar[int] = 5
    needs: ClassVar[tuple[str, ...]] = ("groups",)

    temperature: float
    interval: tuple[float, float]
    between: float
    groups: tuple[str, ...]
    temperatures: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """See :meth:`Recalibrator.fit`."""
        assert isinstance(data.h, PlackettLuce)
        if data.groups is None:
            raise UsageError("method 'group-wise' needs groups=...")
        names, codes = np.unique(np.array(data.groups, dtype=object).astype(str), return_inverse=True)
        parts = choices(data.h, data.y)
        best: tuple[float, float, _Fit] | None = None
        start = np.zeros(len(names) + 1)
        for between in SPREADS:
            found = _fit(parts, data.weights, codes, between, start)
            start = found.theta
            if best is None or found.evidence > best[0] + 1e-6:  # equally good: the more alike
                best = found.evidence, between, found
        assert best is not None
        _, between, found = best
        common, theta = found.theta[-1], found.theta[:-1]
        own_variance = 1.0 / found.curvature
        pull = own_variance / between**2
        half = Z95 * np.sqrt(own_variance + pull**2 * found.common_variance)
        width = Z95 * math.sqrt(found.common_variance)
        value, low, high = (
            tuple(np.exp(np.clip(x, -700, 700)).tolist()) for x in (-theta, -theta - half, -theta + half)
        )
        return cls(
            math.exp(-common), (bounded_exp(-common - width), bounded_exp(-common + width)), between,
            tuple(str(n) for n in names), value, low, high,
            information_warnings(slope(parts, data.weights, data.units, math.exp(common))),
        )  # fmt: skip

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, PlackettLuce)
        if context.groups is None:
            raise UsageError("this map needs groups=..., one name for each instance")
        place = dict(zip(self.groups, self.temperatures, strict=True))
        return rescaled(h, 1.0 / np.array([place.get(g, self.temperature) for g in context.groups]))

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        low, high = self.interval
        order = np.argsort(self.temperatures, kind="stable")
        told = [*order[:3], *order[-3:]] if len(order) > 6 else list(order)
        listed = ", ".join(
            f"{self.groups[g]} {self.temperatures[g]:.3g} ({self.low[g]:.3g} to {self.high[g]:.3g})" for g in told
        )
        which = " (the lowest and highest)" if len(order) > 6 else ""
        return (
            f"Divides the scores by a temperature for each of {len(self.groups)} groups{which}: {listed}. A typical "
            f"group, and one not seen: {self.temperature:.3g} (95 % intervals, here {low:.3g} to {high:.3g}). "
            f"Between groups the logarithm varies by {self.between:.2g}. The order of the candidates is kept."
        )

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``temperature`` of a typical group, and ``temperature of <group>``."""
        out = {"temperature": Estimate(self.temperature, self.interval)}
        for name, value, low, high in zip(self.groups, self.temperatures, self.low, self.high, strict=True):
            out[f"temperature of {name}"] = Estimate(value, (low, high))
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :meth:`Recalibrator.warnings`."""
        if len(self.groups) == 1:
            return (*self.notes, "there is one group only: the map is a temperature")
        return self.notes

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "temperature": self.temperature, "interval": list(self.interval), "between": self.between,
            "groups": list(self.groups), "temperatures": list(self.temperatures), "low": list(self.low),
            "high": list(self.high), "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        names = texts(values, "groups")
        if not names:
            raise DataError("must name at least one group", field="parameters.groups")
        return cls(
            number(values, "temperature", low=1 / LARGEST, high=LARGEST), interval_of(values, "interval"),
            number(values, "between", low=0.0), names,
            numbers(values, "temperatures", length=len(names), low=1 / LARGEST, high=LARGEST),
            numbers(values, "low", length=len(names), low=0.0), numbers(values, "high", length=len(names), low=0.0),
            texts(values, "notes"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fit:
    theta: FloatArray  # (groups + 1,) log scales; the common one last
    curvature: FloatArray  # (groups,) posterior precision of each given the common one
    common_variance: float
    evidence: float


def _fit(parts: Sequence[Choice], weights: FloatArray, codes: IntArray, between: float, start: FloatArray) -> _Fit:
    """Posterior mode for one standard deviation between groups, and the log evidence.

    The Hessian is an arrow (groups meet in the common value alone), so a Newton step costs one pass.
    """
    n_groups, precision = len(start) - 1, between**-2
    theta = start.copy()

    def passes(own: FloatArray, common: float) -> tuple[float, FloatArray, FloatArray]:
        value, gradient, curvature = 0.0, np.zeros(n_groups), np.zeros(n_groups)
        scale = np.exp(np.clip(own, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))[codes]
        for part in parts:
            a, w, group = scale[part.rows], weights[part.rows], codes[part.rows]
            value += float((w * part.log_prob(a)).sum())
            first, second = part.slopes(a)
            gradient += np.bincount(group, w * a * first, n_groups)
            curvature += np.bincount(group, w * a * a * second, n_groups)
        value -= 0.5 * precision * float(((own - common) ** 2).sum()) + math.log1p((common / PRIOR_SPREAD) ** 2)
        return value, gradient - precision * (own - common), curvature

    own, common = theta[:-1], float(theta[-1])
    value, gradient, curvature = passes(own, common)
    for _ in range(_ITERATIONS):
        # d2/d theta2 of l(exp(theta)) is a^2 l'' + a l'; its second part only helps where it adds curvature.
        excess = np.maximum(-(gradient + precision * (own - common)), 0.0)
        diagonal = curvature + excess + precision
        pull = precision * float((own - common).sum()) - 2 * common / (PRIOR_SPREAD**2 + common**2)
        hyper = 2 / (PRIOR_SPREAD**2 + common**2)
        corner = n_groups * precision + hyper - float((precision**2 / diagonal).sum())
        step_common = (pull + float((precision / diagonal * gradient).sum())) / corner
        step = (gradient + precision * step_common) / diagonal
        size = max(float(np.abs(step).max()), abs(step_common))
        shrink = min(1.0, 2.0 / max(size, 1e-300))
        while True:
            new = passes(own + shrink * step, common + shrink * step_common)
            if new[0] >= value - 1e-9 * abs(value) or shrink * size < 1e-8:
                break
            shrink *= 0.5
        own, common = own + shrink * step, common + shrink * step_common
        value, gradient, curvature = new
        if shrink * size < 1e-7:
            break
    else:
        raise DataError("the fit of the groups' scales does not settle; are there scores of very different size?")
    diagonal = curvature + precision
    corner = n_groups * precision + 2 / (PRIOR_SPREAD**2 + common**2) - float((precision**2 / diagonal).sum())
    evidence = (
        value + 0.5 * n_groups * math.log(precision) - 0.5 * float(np.log(diagonal).sum()) - 0.5 * math.log(corner)
    )
    return _Fit(np.append(own, common), diagonal, 1.0 / corner, evidence)
