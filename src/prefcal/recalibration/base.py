"""What every recalibration map offers: fit on outcomes, apply to forecasts, say what it does, save, load.

A map takes a distribution over rankings and returns one, so every marginal of the result is consistent with every
other. It is fitted by maximum likelihood of whatever was observed (:mod:`prefcal.recalibration.likelihood`).
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray, Ragged
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError
from prefcal.result import Estimate

SCHEMA = 1
#: A file larger than this is no recalibration map.
MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Data:
    """Aligned material of a fit: row i of everything is one observed record.

    Parameters
    ----------
    h, y
        n forecasts and n outcome records (``y.instance`` already used: one forecast for each record).
    weights
        (n,) non-negative.
    units
        (n,) codes 0.. of the independent units (clusters); folds never split one.
    features
        Name -> (n,) finite numbers that describe an instance (number of candidates, ...).
    item_features
        Name -> Ragged numbers of the candidates, same sizes as the scores (length, order shown, ...).
    groups
        (n,) group names as strings, or None.
    """

    h: Distribution
    y: Outcomes
    weights: FloatArray
    units: IntArray
    features: Mapping[str, FloatArray] = field(default_factory=dict)
    item_features: Mapping[str, Ragged] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: IntArray) -> Data:
        """Some records."""
        return Data(
            self.h[rows], self.y[rows], self.weights[rows], np.unique(self.units[rows], return_inverse=True)[1],
            {k: v[rows] for k, v in self.features.items()}, {k: v.take(rows) for k, v in self.item_features.items()},
            None if self.groups is None else tuple(self.groups[i] for i in rows),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """What a map was fitted on; log losses are means over the records, in sample, in nats.

    ``before`` is the log loss of the forecasts as they came, ``after`` that of the map on the same records it was
    fitted on: no estimate of its benefit on new data.
    """

    n_records: int
    n_units: int
    before: float
    after: float

    def document(self) -> dict[str, Any]:
        """Plain data for JSON, which has no infinity: null where a record had probability 0."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Context:
    """What a map may use besides the forecasts when it is applied; the parts of :class:`Data` of the same names."""

    features: Mapping[str, FloatArray] = field(default_factory=dict)
    item_features: Mapping[str, Ragged] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None


class Recalibrator(ABC):
    """A fitted map from forecasts to better calibrated forecasts.

    Subclasses are frozen dataclasses whose fields are the fitted parameters as plain numbers, strings and (nested)
    tuples; they are registered with :func:`register`.
    """

    #: Name in ``recalibrate(method=...)`` and in saved files.
    method: ClassVar[str]
    #: Whether the order of the candidates of every instance is kept (ties of scores excepted).
    keeps_order: ClassVar[bool]
    #: Classes of distributions that the map accepts, by name: ("PlackettLuce",).
    accepts: ClassVar[tuple[str, ...]]
    #: How many numbers are fitted, for the order from simple to rich in ``auto``.
    complexity: ClassVar[int]
    #: Inputs without which the map cannot be fitted: "features", "item_features", "groups".
    needs: ClassVar[tuple[str, ...]] = ()
    #: Whether ``auto`` tries the map.
    in_auto: ClassVar[bool] = True
    #: Whether records that say no more than "equally good" tell the map something.
    uses_ties: ClassVar[bool] = False
    #: What the map was fitted on; set by :func:`prefcal.recalibrate` and by the loader.
    record: Record | None = None

    @classmethod
    @abstractmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit by (penalised) maximum likelihood; raises DataError where the data cannot determine the map."""

    @classmethod
    def refuse_options(cls, options: Mapping[str, Any], *allowed: str) -> None:
        """Raise UsageError where :meth:`fit` got an option beyond those ``allowed``."""
        if options:
            has = f"allowed: {', '.join(allowed)}" if allowed else "it has none"
            raise UsageError(f"the {cls.method} map has no option {next(iter(options))!r}; {has}")

    @abstractmethod
    def apply(self, h: Distribution, context: Context) -> Distribution:
        """The recalibrated forecasts; ``h`` has been checked to be of an accepted class."""

    @abstractmethod
    def describe(self) -> str:
        """What the map does, in words and numbers, with 95 % intervals; one paragraph."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The fitted parameters as JSON-ready plain data."""

    @classmethod
    @abstractmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """The map of :meth:`parameters`; DataError, naming the field, for anything else."""

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The interpretable numbers with intervals, e.g. {"temperature": ...}; may be empty."""
        return {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know: scores without information, negative information, a parameter at its bound."""
        return ()

    def __call__(
        self,
        h: Distribution,
        *,
        features: Mapping[str, Any] | None = None,
        item_features: Mapping[str, Any] | None = None,
        groups: Any = None,
    ) -> Distribution:
        """Apply the map.

        Parameters
        ----------
        h
            Forecasts of the kind the map was fitted on.
        features, item_features, groups
            As in :func:`prefcal.recalibrate`, where the map was fitted with them.

        Raises
        ------
        UsageError
            For another kind of distribution, or a feature that the map needs and did not get.
        """
        from prefcal.recalibration.fitting import context_of  # the shapes callers may pass

        if type(h).__name__ not in self.accepts:
            raise UsageError(
                f"this {self.method} map is for {' or '.join(self.accepts)} forecasts, got {type(h).__name__}"
            )
        return self.apply(h, context_of(h, features, item_features, groups))

    def document(self) -> dict[str, Any]:
        """What :meth:`save` writes."""
        import prefcal

        return {
            "schema": SCHEMA, "kind": "prefcal-recalibration", "prefcal": prefcal.__version__, "method": self.method,
            "accepts": list(self.accepts), "description": self.describe(), "parameters": self.parameters(),
            "record": None if self.record is None else self.record.document(),
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as plain JSON (no code); :func:`load_recalibrator` reads it."""
        Path(path).write_text(json.dumps(self.document(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


METHODS: dict[str, type[Recalibrator]] = {}


_R = TypeVar("_R", bound=type[Recalibrator])


def register(cls: _R) -> _R:
    """Class decorator: make a map known by its ``method``."""
    METHODS[cls.method] = cls
    return cls


def number(
    values: Mapping[str, Any],
    name: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    prefix: str = "parameters",
) -> float:
    """A finite number of a saved map, within bounds; DataError naming the field otherwise."""
    where = f"{prefix}.{name}"
    if name not in values:
        raise DataError("is missing", field=where)
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise DataError(f"must be a finite number, got {repr(value)[:40]}", field=where)
    if not low <= value <= high:
        raise DataError(f"must lie between {low:g} and {high:g}, got {repr(value)[:40]}", field=where)
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"must be a finite number, got {repr(value)[:40]}", field=where) from None


def covariance_matrix(values: Mapping[str, Any], size: int) -> tuple[float, ...]:
    """The (size * size,) ``covariance`` of a saved map, row by row; DataError for negative variances too."""
    found = numbers(values, "covariance", length=size * size)
    if any(v < 0 for v in found[:: size + 1]):
        raise DataError("must have no negative variance on its diagonal", field="parameters.covariance")
    return found


def bounded_exp(x: float) -> float:
    """exp(x), finite and above 0 for every x."""
    return math.exp(min(max(x, -700.0), 700.0))


def numbers(
    values: Mapping[str, Any], name: str, *, length: int | None = None, low: float = -math.inf, high: float = math.inf
) -> tuple[float, ...]:
    """A list of finite numbers of a saved map; DataError naming the field otherwise."""
    listed = values.get(name)
    if not isinstance(listed, list) or (length is not None and len(listed) != length):
        what = "a list" if length is None else f"a list of {length} numbers"
        raise DataError(f"must be {what}, got {str(listed)[:40]!r}", field=f"parameters.{name}")
    return tuple(number({f"{name}[{i}]": v}, f"{name}[{i}]", low=low, high=high) for i, v in enumerate(listed))


def optional_number(
    values: Mapping[str, Any], name: str, *, low: float = -math.inf, high: float = math.inf
) -> float | None:
    """As :func:`number`, or None where null is stored."""
    if name in values and values[name] is None:
        return None
    return number(values, name, low=low, high=high)


def text(values: Mapping[str, Any], name: str, *, longest: int = 1000) -> str:
    """A string of a saved map, of bounded length; DataError naming the field otherwise."""
    value = values.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise DataError(
            f"must be a text of at most {longest} characters, got {str(value)[:40]!r}", field=f"parameters.{name}"
        )
    return value


def texts(values: Mapping[str, Any], name: str, *, length: int | None = None) -> tuple[str, ...]:
    """A list of different strings of a saved map; DataError naming the field otherwise."""
    listed = values.get(name)
    if not isinstance(listed, list) or (length is not None and len(listed) != length):
        raise DataError(f"must be a list of texts, got {repr(listed)[:40]}", field=f"parameters.{name}")
    out = tuple(text({f"{name}[{i}]": v}, f"{name}[{i}]") for i, v in enumerate(listed))
    if len(set(out)) < len(out):
        raise DataError("names something twice", field=f"parameters.{name}")
    return out


def interval_of(values: Mapping[str, Any], name: str, *, infinite: bool = False) -> tuple[float, float]:
    """Two numbers >= 0 of a saved map, in order; with ``infinite`` null is infinity. DataError naming the field."""
    listed = values.get(name)
    if not isinstance(listed, list) or len(listed) != 2:
        raise DataError(f"must be a list of 2 numbers, got {repr(listed)[:40]}", field=f"parameters.{name}")
    read = optional_number if infinite else number
    ends = [read({f"{name}[{i}]": v}, f"{name}[{i}]", low=0.0) for i, v in enumerate(listed)]
    low, high = (math.inf if x is None else x for x in ends)
    if low > high:
        raise DataError(f"the low end {low:g} is above the high end {high:g}", field=f"parameters.{name}")
    return low, high
