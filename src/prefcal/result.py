"""What an audit found: estimates with their uncertainty, one Result for each model, notion and group."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["calibrated", "miscalibrated", "undetermined"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its uncertainty; ``interval`` is None only where ``note`` says why there is none.

    ``null_mean``, ``debiased`` and ``p_value`` belong to estimators of calibration error (see :class:`Result`) and
    are None for others.
    """

    value: float
    interval: Interval | None = None
    note: str = ""
    null_mean: float | None = None
    debiased: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One bin of a reliability curve; all are probabilities except the counts.

    ``interval`` is the 95 % interval of the observed frequency, by instance; ``null_band`` is where the
    observed frequency of a calibrated model falls in 95 % of repetitions.
    """

    low: float
    high: float
    n: int
    weight: float
    mean_forecast: float
    mean_outcome: float
    interval: Interval
    null_band: Interval


@dataclass(frozen=True, slots=True)
class Result:
    """Calibration of one model in one notion, over all instances or one group.

    Parameters
    ----------
    model, notion, items
        Names; ``items`` is ``labelled`` or ``exchangeable``.
    group
        None for all instances, else ``{field: value}``.
    estimator
        What ``value`` is: ``ece`` for scalar notions, ``skce`` (kernel) for vector notions.
    value
        The estimate as usually printed, bias included.
    null_mean
        What ``value`` is expected to be for a calibrated model of the same size: bias, not error.
    debiased
        The estimate with its bias removed; it may be slightly negative.
    interval
        95 % interval for the population value, by instance; ends clipped to the possible range.
    p_value, p_adjusted
        Test of calibration; adjusted (``settings["adjust"]``) over the groups of a field, else equal to ``p_value``.
    verdict
        ``calibrated``: the whole interval lies below ``settings["tolerance"]``; ``miscalibrated``: it does not
        and calibration is rejected at 5 %; else ``undetermined``.
    n_events, n_instances
        Events and instances that entered.
    coverage
        Why instances did not enter: ``{"used": 400, "best item unknown": 83}`` and the like.
    metrics
        Other estimators by name: accuracy, mean_forecast, brier, brier_calibration, brier_resolution,
        brier_uncertainty, log_loss, ...
    settings
        How the numbers were made: bins, tolerance, null method, draws, seed, ...
    curve
        Reliability curve, empty for vector notions.
    """

    model: str
    notion: str
    items: str
    group: dict[str, Any] | None
    estimator: str
    value: float
    null_mean: float
    debiased: float
    interval: Interval
    p_value: float
    p_adjusted: float
    verdict: Verdict
    n_events: int
    n_instances: int
    coverage: dict[str, int]
    metrics: dict[str, Estimate] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """The JSON entries of this result: one for the estimator, one for each metric (design 4.4)."""
        common: dict[str, Any] = {"model": self.model, "notion": self.notion, "group": self.group}
        counts = {"n_events": self.n_events, "n_instances": self.n_instances}
        main: dict[str, Any] = common | {
            "estimator": self.estimator,
            "value": _number(self.value),
            "null_mean": _number(self.null_mean),
            "debiased": _number(self.debiased),
            "interval": [_number(x) for x in self.interval],
            "p_value": _number(self.p_value),
            "p_adjusted": _number(self.p_adjusted),
            **counts,
            "verdict": self.verdict,
            "settings": self.settings | {"items": self.items, "coverage": self.coverage},
            "curve": [
                {
                    "low": c.low,
                    "high": c.high,
                    "n": c.n,
                    "weight": c.weight,
                    "mean_forecast": c.mean_forecast,
                    "mean_outcome": c.mean_outcome,
                    "interval": list(c.interval),
                    "null_band": list(c.null_band),
                }
                for c in self.curve
            ],
        }
        out: list[dict[str, Any]] = [main]
        for name, estimate in self.metrics.items():
            interval = None if estimate.interval is None else [_number(x) for x in estimate.interval]
            out.append(
                common
                | {
                    "estimator": name,
                    "value": _number(estimate.value),
                    "null_mean": _optional(estimate.null_mean),
                    "debiased": _optional(estimate.debiased),
                    "interval": interval,
                    "p_value": _optional(estimate.p_value),
                    "p_adjusted": None,
                    **counts,
                    "verdict": None,
                    "settings": {"note": estimate.note} if estimate.note else {},
                    "curve": [],
                }
            )
        return out


def plain(value: Any) -> Any:
    """Dataclasses, tuples and numpy numbers as plain data for JSON; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Estimate):
            interval = None if value.interval is None else [plain(v) for v in value.interval]
            return {"value": plain(value.value), "interval": interval, "note": value.note}
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _optional(x: float | None) -> float | None:
    return None if x is None else _number(x)


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None
