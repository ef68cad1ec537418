"""A temperature that depends on the context: number of candidates, spread of the scores, any given feature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
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
from prefcal.recalibration.scales import LOG_SCALE_LIMIT, best_strength, fit_log_scale, not_positive, rescaled, slope
from prefcal.recalibration.temperature import FLAT, LARGEST, information_warnings
from prefcal.result import Estimate

#: Features that follow from the scores; given ones may not have these names.
CANDIDATES, SPREAD = "log number of candidates", "log score spread"
#: Strengths of the ridge that are tried: 1 / (prior variance of an effect for one standard deviation of the feature).
STRENGTHS = tuple(10.0**k for k in range(6))


@register
@dataclass(frozen=True)
class ContextTemperature(Recalibrator):
    """Divide the scores by a temperature whose logarithm is linear in features of the instance.

    The features are the log number of candidates, the log standard deviation of the instance's scores, and every
    feature passed as ``features``; those that do not vary are left out. They are standardised, and cut to the range
    seen in the fit when the map is applied.

    Fitted by maximum likelihood with a ridge on the effects, whose strength maximises the Laplace approximation
    of the marginal likelihood (empirical Bayes); at the largest strength the map is a temperature.

    Parameters
    ----------
    features
        Names of the features used.
    center, spread, low, high
        Mean and standard deviation of each feature in the fit, and its range.
    temperature, interval
        At average features, with its 95 % interval.
    effects, effect_intervals
        Change of the log temperature for one standard deviation of each feature (sandwich intervals by unit; the
        ridge makes them, and the effects, a little too small).
    ridge
        The strength.
    left_out
        Features that did not vary.
    notes
        Warnings about the information that the scores carry.
    flat
        Whether the best common scale is not positive: all candidates are then made equally likely.
    """

    method: ClassVar[str] = "context"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce",)
    complexity: ClassVar[int] = 3

    features: tuple[str, ...]
    center: tuple[float, ...]
    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    temperature: float
    interval: tuple[float, float]
    effects: tuple[float, ...]
    effect_intervals: tuple[tuple[float, float], ...]
    ridge: float
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    flat: bool = False

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """See :meth:`Recalibrator.fit`."""
        assert isinstance(data.h, PlackettLuce)
        taken = sorted({CANDIDATES, SPREAD} & set(data.features))
        if taken:
            raise UsageError(f"features: the name {taken[0]!r} is one that the map makes itself")
        table = own_features(data.h) | dict(data.features)
        w = data.weights / data.weights.sum()
        names, columns, stats, left_out = [], [], [], []
        for name, values in table.items():
            mean = float((w * values).sum())
            sd = math.sqrt(float((w * (values - mean) ** 2).sum()))
            if sd <= 1e-9 * max(abs(mean), 1.0):
                left_out.append(name)
                continue
            names.append(name)
            columns.append((values - mean) / sd)
            seen = values[data.weights > 0]
            stats.append((mean, sd, float(seen.min()), float(seen.max())))
        x = np.column_stack([np.ones(len(data)), *columns])
        parts = choices(data.h, data.y)

        def design(choice: Choice) -> FloatArray:
            return x[choice.rows]

        p = x.shape[1]
        effects_only = np.diag([0.0] + [1.0] * (p - 1))
        if p == 1:
            strength, found = STRENGTHS[-1], fit_log_scale(parts, data.weights, data.units, design, effects_only)
        else:
            strength, found = best_strength(
                STRENGTHS,
                lambda ridge, start: fit_log_scale(parts, data.weights, data.units, design, ridge, start=start),
                effects_only,
            )
        at = [found.interval(row) for row in np.eye(p)]
        raw = slope(parts, data.weights, data.units, math.exp(at[0][0]))
        center, spread, low, high = (tuple(s[k] for s in stats) for k in range(4))
        return cls(
            tuple(names), center, spread, low, high, math.exp(-at[0][0]),
            (bounded_exp(-at[0][2]), bounded_exp(-at[0][1])), tuple(-v for v, _, _ in at[1:]),
            tuple((-b, -a) for _, a, b in at[1:]), strength, tuple(left_out), information_warnings(raw),
            not_positive(raw),
        )  # fmt: skip

    def log_temperatures(self, h: PlackettLuce, context: Context) -> FloatArray:
        """(n,) log temperature of each instance."""
        table = own_features(h) | dict(context.features)
        out = np.full(len(h), math.log(self.temperature))
        for k, name in enumerate(self.features):
            if name not in table:
                raise UsageError(f"this map needs features={{{name!r}: ...}}, one number for each instance")
            values = np.clip(table[name], self.low[k], self.high[k])
            out += self.effects[k] * (values - self.center[k]) / self.spread[k]
        return np.asarray(np.clip(out, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, PlackettLuce)
        if self.flat:
            return rescaled(h, np.zeros(len(h)))
        return rescaled(h, np.exp(-self.log_temperatures(h, context)))

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        if self.flat:
            return FLAT
        low, high = self.interval
        parts = [
            f"Divides the scores by {self.temperature:.3g} (95 % interval {low:.3g} to {high:.3g}) in an average "
            "context"
        ]
        for name, effect, (a, b) in zip(self.features, self.effects, self.effect_intervals, strict=True):
            parts.append(
                f"times {math.exp(effect):.3g} ({bounded_exp(a):.3g} to {bounded_exp(b):.3g}) for each standard "
                f"deviation of {name}"
            )
        none = "" if not self.left_out else f" Not used, since it did not vary: {', '.join(self.left_out)}."
        return ", ".join(parts) + f".{none} The order of the candidates is kept."

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``temperature`` in an average context, and ``effect of <feature>`` on its logarithm."""
        out = {"temperature": Estimate(self.temperature, self.interval)}
        for name, effect, interval in zip(self.features, self.effects, self.effect_intervals, strict=True):
            out[f"effect of {name}"] = Estimate(effect, interval, "log temperature for one standard deviation")
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :meth:`Recalibrator.warnings`."""
        return self.notes

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "features": list(self.features), "center": list(self.center), "spread": list(self.spread),
            "low": list(self.low), "high": list(self.high), "temperature": self.temperature,
            "interval": list(self.interval), "effects": list(self.effects),
            "effects_low": [a for a, _ in self.effect_intervals],
            "effects_high": [b for _, b in self.effect_intervals],
            "ridge": self.ridge, "left_out": list(self.left_out), "notes": list(self.notes), "flat": self.flat,
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        names = texts(values, "features")
        if not isinstance(values.get("flat"), bool):
            raise DataError("must be true or false", field="parameters.flat")
        p = len(names)
        low, high = numbers(values, "low", length=p), numbers(values, "high", length=p)
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise DataError("holds a range whose low end is above its high end", field="parameters.low")
        ends = numbers(values, "effects_low", length=p), numbers(values, "effects_high", length=p)
        return cls(
            names, numbers(values, "center", length=p), numbers(values, "spread", length=p, low=1e-300), low, high,
            number(values, "temperature", low=1 / LARGEST, high=LARGEST), interval_of(values, "interval"),
            numbers(values, "effects", length=p, low=-LOG_SCALE_LIMIT, high=LOG_SCALE_LIMIT),
            tuple(zip(*ends, strict=True)), number(values, "ridge", low=0.0), texts(values, "left_out"),
            texts(values, "notes"), values["flat"],
        )  # fmt: skip


def own_features(h: PlackettLuce) -> dict[str, FloatArray]:
    """Log number of candidates and log standard deviation of the scores of each instance, (n,) each.

    Where all scores are equal the temperature does not matter; the spread is then given as the median of the others.
    """
    sizes = h.sizes
    start = h.scores.offsets[:-1]
    values = h.scores.values
    size = np.abs(values).max(initial=0.0) or 1.0
    mean = np.add.reduceat(values / size, start) / sizes
    variance = np.add.reduceat((values / size - np.repeat(mean, sizes)) ** 2, start) / sizes
    seen = variance > 1e-24
    with np.errstate(divide="ignore"):
        log_sd = 0.5 * np.log(variance) + math.log(size)
    log_sd[~seen] = np.median(log_sd[seen]) if seen.any() else 0.0
    return {CANDIDATES: np.log(sizes), SPREAD: log_sd}
