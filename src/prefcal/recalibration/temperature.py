"""One temperature: the scores are divided by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.distributions.babington_smith import BabingtonSmith
from prefcal.distributions.base import Distribution
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError
from prefcal.recalibration.base import (
    Context,
    Data,
    Recalibrator,
    bounded_exp,
    interval_of,
    number,
    numbers,
    optional_number,
    register,
    text,
)
from prefcal.recalibration.choices import Choice, Single, choices, pair_choices
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.recalibration.powers import compared_choices, listed_choices
from prefcal.recalibration.scales import LOG_SCALE_LIMIT, constant, fit_log_scale, not_positive, slope
from prefcal.result import Estimate

LARGEST = math.exp(LOG_SCALE_LIMIT)
#: Kind of forecasts -> what is divided by the temperature, what stays as it is, what an infinite one makes equal.
WORDS = {
    "PlackettLuce": ("Divides the scores by", "The order of the candidates is kept.", "candidates"),
    "Pairwise": ("Divides the log-odds of the pairs by", "The order of the candidates is kept.", "orders of a pair"),
    "Categorical": (
        "Takes the probabilities of the rankings to the power 1 over",
        "The order of the rankings is kept; the most probable best candidate may change.",
        "possible rankings",
    ),
    "BabingtonSmith": (
        "Divides the log-odds of the comparisons by",
        "The most probable best candidate may change.",
        "possible rankings",
    ),
}


@register
@dataclass(frozen=True)
class Temperature(Recalibrator):
    """Divide the scores by one number, so that the forecasts become as bold as the outcomes warrant.

    Plackett-Luce scores are divided by it; so are the log-odds of Pairwise and Babington Smith forecasts; listed
    probabilities (Categorical) are taken to the power 1 / temperature and renormalised. Above 1: the forecasts were
    over-confident. The order of the candidates is kept for Plackett-Luce and Pairwise. For Categorical it is the
    order of the *rankings* that is kept; the most probable best candidate may change there, as for Babington Smith.

    Fitted by maximum likelihood of what was observed, with a Cauchy prior on the log temperature around 0
    (:data:`~prefcal.recalibration.scales.PRIOR_SPREAD`), which keeps it positive where the scores order everything
    right.
    Where the best scale is not positive (``slope`` at most 0: the better-scored candidate is not the better
    one more often than not), nothing is flipped: the scale is 0, the temperature infinite, all candidates are equally
    likely, and a warning says so.

    Parameters
    ----------
    temperature, interval
        The number and its 95 % interval (sandwich standard error of its logarithm, by unit).
    slope, slope_interval
        The scale of any sign that fits best without a prior, 1 / temperature if all is well; infinite, without an
        interval, where every choice is ordered right (or wrong).
    n_impossible
        Records that had probability 0 at every temperature and were left out.
    kind
        Class of the forecasts; the map is for no other, since one number means something else in each.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks.
    """

    method: ClassVar[str] = "temperature"
    keeps_order: ClassVar[bool] = False  # of the class: it depends on the kind of forecasts
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce", "Categorical", "Pairwise", "BabingtonSmith")
    complexity: ClassVar[int] = 1

    temperature: float
    interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float] | None
    slope_note: str = ""
    n_impossible: int = 0
    kind: str = "PlackettLuce"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_order", self.kind in ("PlackettLuce", "Pairwise"))
        object.__setattr__(self, "accepts", (self.kind,))

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """See :meth:`Recalibrator.fit`; Newton's method on closed-form derivatives."""
        kind = type(data.h).__name__
        parts, n_impossible = choices_of(data)
        if not parts:
            raise DataError("every record is impossible under its forecast (probability 0): no temperature helps")
        found = fit_log_scale(parts, data.weights, data.units, constant, np.zeros((1, 1)))
        log_scale, low, high = found.interval(np.ones(1))
        raw = slope(parts, data.weights, data.units, math.exp(log_scale))
        if not_positive(raw):
            most = 0.0 if raw.interval is None else raw.interval[1]
            lowest = 1 / most if most > 0 else math.inf
            return cls(math.inf, (lowest, math.inf), raw.value, raw.interval, raw.note, n_impossible, kind)
        return cls(
            math.exp(-log_scale), (bounded_exp(-high), bounded_exp(-low)), raw.value, raw.interval, raw.note,
            n_impossible, kind,
        )  # fmt: skip

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        return h.scaled(1.0 / self.temperature)

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        low, high = self.interval
        scaled, kept, flat = WORDS[self.kind]
        if math.isinf(self.temperature):
            return (
                f"Makes all {flat} equally likely (temperature infinite, 95 % interval {low:.3g} to infinity): what "
                "the forecasts call more probable does not happen more often."
            )
        verdict = (
            "over-confident" if low > 1 else "under-confident" if high < 1 else "not detectably too bold or timid"
        )
        return (
            f"{scaled} {self.temperature:.3g} (95 % interval {low:.3g} to {high:.3g}): the forecasts were {verdict}. "
            f"{kept}"
        )

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``temperature``, and the unpenalised ``slope`` of any sign."""
        return {
            "temperature": Estimate(self.temperature, self.interval),
            "slope": Estimate(self.slope, self.slope_interval, self.slope_note),
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :meth:`Recalibrator.warnings`."""
        out = information_warnings(Estimate(self.slope, self.slope_interval, self.slope_note))
        if self.n_impossible:
            out += (
                f"{self.n_impossible} records had probability 0 in their forecast; no temperature mends that, and "
                "they were left out of the fit (method 'uniform' would mend it)",
            )
        return out

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "temperature": None if math.isinf(self.temperature) else self.temperature,
            "interval": [None if math.isinf(x) else x for x in self.interval],
            "slope": self.slope if math.isfinite(self.slope) else None,
            "slope_sign": 1 if self.slope > 0 else -1,
            "slope_interval": None if self.slope_interval is None else list(self.slope_interval),
            "slope_note": self.slope_note,
            "n_impossible": self.n_impossible,
            "kind": self.kind,
        }

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        temperature = optional_number(values, "temperature", low=1 / LARGEST, high=LARGEST)
        raw, sign = optional_number(values, "slope"), number(values, "slope_sign", low=-1, high=1)
        slope_interval = None if values.get("slope_interval") is None else numbers(values, "slope_interval", length=2)
        kind = values.get("kind")
        if kind not in cls.accepts:
            raise DataError(
                f"must be one of {', '.join(cls.accepts)}, got {str(kind)[:40]!r}", field="parameters.kind"
            )
        return cls(
            math.inf if temperature is None else temperature, interval_of(values, "interval", infinite=True),
            math.copysign(math.inf, sign) if raw is None else raw,
            None if slope_interval is None else (slope_interval[0], slope_interval[1]), text(values, "slope_note"),
            int(number(values, "n_impossible", low=0)), str(kind),
        )  # fmt: skip


def information_warnings(raw: Estimate) -> tuple[str, ...]:
    """What to say where the slope's interval contains 0 or lies below it."""
    low, high = raw.interval or (raw.value, raw.value)
    if high < 0:
        return (
            f"the scores carry NEGATIVE information: the better-scored candidate tends to be the worse one (slope "
            f"{raw.value:.3g}). Nothing was flipped: no map ranks the candidates the other way round. Check the "
            "direction of the scores and of the outcomes",
        )
    if low <= 0:
        return (
            f"the scores carry no detectable information about these outcomes (slope {raw.value:.3g}, 95 % interval "
            f"{low:.3g} to {high:.3g} contains 0)",
        )
    return ()


FLAT = "Makes all candidates equally likely: the scores do not rank the better candidate higher."


def choices_of(data: Data) -> tuple[list[Choice], int]:
    """Choices of the possible records, and how many were impossible at every scale."""
    h, y = data.h, data.y
    if isinstance(h, PlackettLuce):
        return choices(h, y), 0
    log_p = observed_log_prob(h, y)
    impossible = int(np.isneginf(log_p).sum())
    if isinstance(h, Categorical):
        return listed_choices(h, y), impossible
    possible = np.flatnonzero(np.isfinite(log_p))
    if isinstance(h, BabingtonSmith):
        parts = compared_choices(h[possible], y[possible]) if len(possible) else []
        return [replace(part, rows=possible[part.rows]) for part in parts], impossible
    out: list[Choice] = []
    for part in pair_choices(h, y):
        assert isinstance(part, Single)
        keep = np.isfinite(part.gaps[:, 0])
        if keep.any():
            rows = np.arange(len(y))[part.rows][keep]
            out.append(Single(rows, part.left, part.complete, part.gaps[keep]))
    return out, impossible
