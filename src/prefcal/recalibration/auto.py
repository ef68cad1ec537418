"""No map at all, and the choice among maps by cross-validated log loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, PrefcalError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import METHODS, Context, Data, Recalibrator, number, optional_number, register, text
from prefcal.recalibration.fitting import apply_to, unit_folds
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.recalibration.persistence import rebuild_method
from prefcal.result import Estimate

ALL = (
    "PlackettLuce",
    "Categorical",
    "Pairwise",
    "BabingtonSmith",
    "Mallows",
    "Samples",
    "Mixture",
    "StagedPlackettLuce",
)
_MOST_CANDIDATES = 100


@register
@dataclass(frozen=True)
class Identity(Recalibrator):
    """The forecasts as they are: what every other map has to beat."""

    method: ClassVar[str] = "none"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ALL
    complexity: ClassVar[int] = 0

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Nothing is fitted."""
        return cls()

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """Return ``h``."""
        return h

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        return "Leaves the forecasts as they are."

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        return cls()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A map that took part in the choice.

    Parameters
    ----------
    method, complexity
        Its name, and how many numbers it fits.
    log_loss
        Held-out mean log loss in nats; None where the map could not be fitted, or what happened had probability 0.
    excess, stderr
        Mean difference to the best candidate on the same records, and its standard error by unit.
    note
        Why there is no number.
    """

    method: str
    complexity: int
    log_loss: float | None
    excess: float | None = None
    stderr: float | None = None
    note: str = ""


@register
@dataclass(frozen=True)
class Auto(Recalibrator):
    """The simplest map whose cross-validated log loss is within one standard error of the best.

    Every registered map takes part that accepts the forecasts and whose inputs were given, and so does no map at all.
    Each is fitted on all folds but one and scored there; records of one unit stay in one fold. The standard error is
    that of the difference to the best map on the same records, by unit. The chosen map is then fitted on all records.

    Parameters
    ----------
    chosen
        The map.
    candidates
        All maps that took part, simplest first.
    """

    method: ClassVar[str] = "auto"
    keeps_order: ClassVar[bool] = False  # of the class: it depends on the chosen map
    accepts: ClassVar[tuple[str, ...]] = ALL
    complexity: ClassVar[int] = 0
    in_auto: ClassVar[bool] = False

    chosen: Recalibrator
    candidates: tuple[Candidate, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_order", self.chosen.keeps_order)
        object.__setattr__(self, "accepts", self.chosen.accepts)

    @classmethod
    def fit(cls, data: Data, *, seed: int = 0, folds: int = 5, **options: Any) -> Self:
        """See :meth:`Recalibrator.fit`; raises UsageError where there are fewer units than folds."""
        kind = type(data.h).__name__
        maps = [
            m for m in METHODS.values() if m.in_auto and kind in m.accepts and all(getattr(data, n) for n in m.needs)
        ]
        maps.sort(key=lambda m: (m.complexity, m.method))
        held_out: dict[str, FloatArray] = {}
        notes: dict[str, str] = {}
        splits = list(unit_folds(data.units, folds, seed))
        for map_ in maps:
            log_p = np.empty(len(data))
            try:
                for fit_rows, test_rows in splits:
                    part = data.take(test_rows)
                    fitted = map_.fit(data.take(fit_rows))
                    log_p[test_rows] = observed_log_prob(apply_to(fitted, part), part.y)
            except PrefcalError as error:
                notes[map_.method] = str(error)[:900]
                continue
            held_out[map_.method] = log_p
        chosen, table = choose(maps, held_out, notes, data)
        return cls(METHODS[chosen].fit(data), table)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        return self.chosen.apply(h, context)

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        lines = []
        for c in self.candidates:
            if c.log_loss is None:
                lines.append(f"{c.method} not applicable ({c.note})")
            elif c.excess == 0.0:
                lines.append(f"{c.method} {c.log_loss:.4f} (the lowest)")
            else:
                lines.append(f"{c.method} {c.log_loss:.4f} (+{c.excess:.4f}, standard error {c.stderr:.4f})")
        return (
            f"Chosen by cross-validated log loss, the simplest within one standard error of the lowest: "
            f"{self.chosen.method}. {self.chosen.describe()} Held-out log loss in nats: {'; '.join(lines)}."
        )

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Those of the chosen map, and ``excess log loss of <method>`` over the best candidate."""
        out = dict(self.chosen.estimates)
        for c in self.candidates:
            if c.excess is not None and c.stderr is not None:
                half = Z95 * c.stderr
                out[f"excess log loss of {c.method}"] = Estimate(c.excess, (c.excess - half, c.excess + half))
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the chosen map."""
        return self.chosen.warnings

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "chosen": self.chosen.method, "chosen_parameters": self.chosen.parameters(),
            "candidates": [
                {"method": c.method, "complexity": c.complexity, "log_loss": c.log_loss, "excess": c.excess,
                 "stderr": c.stderr, "note": c.note}
                for c in self.candidates
            ],
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        if values.get("chosen") == cls.method:
            raise DataError("must be a map, not a choice among maps", field="parameters.chosen")
        chosen = rebuild_method(values.get("chosen"), values.get("chosen_parameters"))
        listed = values.get("candidates")
        if (
            not isinstance(listed, list)
            or len(listed) > _MOST_CANDIDATES
            or not all(isinstance(c, dict) for c in listed)
        ):
            raise DataError(f"must be a list of at most {_MOST_CANDIDATES} objects", field="parameters.candidates")
        table = []
        for c in listed:
            extra = sorted(set(c) - {"method", "complexity", "log_loss", "excess", "stderr", "note"})
            if extra:
                raise DataError("is not part of a candidate", field=f"parameters.candidates.{extra[0][:40]}")
            loss, excess = optional_number(c, "log_loss"), optional_number(c, "excess", low=0.0)
            stderr = optional_number(c, "stderr", low=0.0)
            if len({loss is None, excess is None, stderr is None}) > 1:
                raise DataError(
                    "must have log_loss, excess and stderr, or none of them", field="parameters.candidates"
                )
            complexity = int(number(c, "complexity", low=0, high=1e6))
            table.append(Candidate(text(c, "method"), complexity, loss, excess, stderr, text(c, "note")))
        return cls(chosen, tuple(table))


def choose(
    maps: list[type[Recalibrator]], held_out: Mapping[str, FloatArray], notes: Mapping[str, str], data: Data
) -> tuple[str, tuple[Candidate, ...]]:
    """The one-standard-error rule on held-out log probabilities (n,) by method; ``maps`` simplest first."""
    w = data.weights / data.weights.sum()
    loss = {name: -float((w * log_p).sum()) for name, log_p in held_out.items()}
    finite = {name: value for name, value in loss.items() if math.isfinite(value)}
    if not finite:
        raise DataError(
            "no map could be cross-validated: " + "; ".join(f"{k}: {v}" for k, v in notes.items())
            if notes
            else "every map gives probability 0 to something that happened; try method 'uniform'"
        )
    best = min(finite, key=lambda name: (finite[name], [m.method for m in maps].index(name)))
    n_units = int(data.units.max()) + 1
    table, chosen = [], best
    for map_ in reversed(maps):
        name = map_.method
        if name not in finite:
            note = notes.get(name, "gives probability 0 to something that happened")
            table.append(Candidate(name, map_.complexity, None, note=note))
            continue
        difference = held_out[best] - held_out[name]
        excess = finite[name] - finite[best]
        by_unit = np.bincount(data.units, w * (difference - excess), n_units)
        stderr = math.sqrt(float(by_unit @ by_unit) * n_units / max(n_units - 1, 1))
        table.append(Candidate(name, map_.complexity, finite[name], excess, stderr))
        if excess <= stderr:
            chosen = name
    return chosen, tuple(reversed(table))
