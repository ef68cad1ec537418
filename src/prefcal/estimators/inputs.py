"""What a caller passes, brought into one shape: aligned outcomes, clusters, groups and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.derived import called_values, derived_values


@dataclass(frozen=True, slots=True)
class Grouping:
    """A partition of the instances by a field; ``codes`` (n,) index into ``levels``."""

    field: str
    levels: tuple[Any, ...]
    codes: IntArray

    @classmethod
    def build(cls, name: str, values: npt.ArrayLike) -> Grouping:
        """Group by equal values, levels sorted (numbers first); None and NaN are one level, ``(missing)``."""
        array = np.array(values, dtype=object)
        missing = np.array([v is None or v != v for v in array.tolist()], dtype=bool)
        array[missing] = "(missing)"
        distinct = {v.item() if isinstance(v, np.generic) else v for v in array.tolist()}
        levels = sorted(
            distinct, key=lambda v: (isinstance(v, str), v is None, v if isinstance(v, int | float) else str(v))
        )
        place = {v: i for i, v in enumerate(levels)}
        return cls(name, tuple(levels), np.array([place[v] for v in array.tolist()], dtype=np.intp))


def aligned_ranks(y: Outcomes, block: Block) -> FloatArray:
    """(b, m) ranks of a block's items.

    Raises DataError when outcome and forecast are about different items.
    """
    rows, size = block.rows, block.dist.n_items
    if y.ranks.is_dense and (block.columns is not None or y.ranks.n_columns != size):
        whole = y.ranks.block(rows, y.ranks.n_columns)
        columns = np.arange(size)[None] if block.columns is None else block.columns
        return np.take_along_axis(whole, np.broadcast_to(columns, (len(whole), size)), axis=1)
    return y.ranks.block(rows, size)


def check_alignment(h: Distribution, y: Outcomes) -> None:
    """Raise DataError unless forecasts and outcomes have the same instances and items."""
    if len(h) != len(y):
        raise DataError(
            f"{len(h)} forecasts but {len(y)} outcomes; there must be one outcome record for each forecast"
        )
    sizes = h.sizes
    if h.has_labels and (y.ranks.is_dense or not (sizes == h.n_items).all()):
        if h.n_items != y.n_items:
            raise DataError(f"forecasts are about {h.n_items} items, outcomes about {y.n_items}")
        if (sizes == h.n_items).all():
            return
        absent = np.isnan(h.scores.dense()) if isinstance(h, PlackettLuce) else np.zeros((len(h), h.n_items), bool)
        extra = ((~np.isnan(y.dense())) & absent).any(axis=1)
        if extra.any():
            at = int(np.flatnonzero(extra)[0])
            raise DataError("the outcome ranks an item that the forecast does not have", row=f"instance {at}")
        return
    if y.ranks.is_dense and (sizes <= y.n_items).all():  # short lists against an array padded with NaN
        extra = ((~np.isnan(y.dense())) & (np.arange(y.n_items) >= sizes[:, None])).any(axis=1)
        if not extra.any():
            return
        at = int(np.flatnonzero(extra)[0])
        raise DataError(f"the outcome ranks more than the {sizes[at]} items that are forecast", row=f"instance {at}")
    wrong = np.flatnonzero(sizes != y.sizes)
    if len(wrong):
        at = int(wrong[0])
        raise DataError(f"{sizes[at]} items are forecast but the outcome has {y.sizes[at]}", row=f"instance {at}")


def per_record(h: Distribution, y: Outcomes, clusters: Any) -> tuple[Distribution, IntArray | None]:
    """One forecast for each record, and cluster codes where records or instances are not independent."""
    one_each = bool((y.instance == np.arange(len(y))).all())
    if one_each and len(y) != len(h):
        raise DataError(f"{len(h)} forecasts but {len(y)} outcomes; there must be one outcome for each forecast")
    if not one_each:
        if y.instance.max() >= len(h) or y.instance.min() < 0:
            raise DataError(f"outcomes name instance {int(y.instance.max())} but there are {len(h)} forecasts")
        h = h[y.instance]
    names = y.instance if clusters is None else np.asarray(clusters)
    if names.shape != (len(y),):
        if names.ndim != 1 or len(names) <= int(y.instance.max()):
            raise DataError(f"clusters must be one value for each of {len(y)} outcomes, got shape {names.shape}")
        names = names[y.instance]
    _, codes = np.unique(names, return_inverse=True)
    return h, None if int(codes.max()) + 1 == len(codes) else codes.astype(np.intp)


def aligned(
    h: Distribution, y: Outcomes, weights: Any, clusters: Any
) -> tuple[Distribution, FloatArray, bool, IntArray | None]:
    """Forecasts by record, checked against the outcomes, with weights and the codes of dependent records.

    See :func:`per_record`, :func:`check_alignment` and :func:`instance_weights`.
    """
    n_forecasts = len(h)
    h, codes = per_record(h, y, clusters)
    check_alignment(h, y)
    return h, *instance_weights(weights, y, n_forecasts), codes


def groupings(groups: Any, y: Outcomes, h: Distribution | None = None) -> list[Grouping]:
    """Partitions from a mapping or frame of field -> values, or from values alone (then the field is ``group``).

    With ``h``, one forecast for each record, values may also be the name of a derived group (``@spread``, see
    :mod:`prefcal.estimators.derived`) or a callable ``f(h, y)``; then many numbers are cut at their quartiles. A
    name alone (``"@spread"``) or a list of such names is short for ``{"@spread": "@spread"}``.
    """
    if groups is None:
        return []
    names = getattr(groups, "column_names", getattr(groups, "columns", None))  # PyArrow; pandas, Polars
    if names is not None and not isinstance(groups, Mapping):
        groups = {str(c): groups[c] for c in names}
    if isinstance(groups, str):
        groups = [groups]
    if isinstance(groups, list | tuple) and groups and all(isinstance(g, str) and g.startswith("@") for g in groups):
        groups = {g: g for g in groups}
    if not isinstance(groups, Mapping):
        groups = {"group": groups}
    out = []
    for name, given in groups.items():
        values = given
        if h is not None and callable(given):
            values = called_values(given, h, y, str(name))
        elif h is not None and isinstance(given, str):
            fields = {str(k): v for k, v in groups.items() if not callable(v) and not isinstance(v, str)}
            values = derived_values(given, h, fields)
        array = np.asarray(values, dtype=object)
        if array.ndim != 1 or (len(array) != len(y) and len(array) <= int(y.instance.max())):
            raise DataError(
                f"groups[{name!r}] must hold one value for each of {len(y)} instances, got shape {array.shape}"
            )
        out.append(Grouping.build(str(name), array if len(array) == len(y) else array[y.instance]))
    return out


def instance_weights(weights: Any, y: Outcomes, n_forecasts: int) -> tuple[FloatArray, bool]:
    """(n,) weights, and whether each is shared by the instance's events."""
    n = len(y)
    if weights is None:
        return np.ones(n), False
    if isinstance(weights, str) and weights == "instance":
        return 1.0 / np.bincount(y.instance)[y.instance], True
    if isinstance(weights, str):
        raise UsageError.unknown("weights", weights, ("instance",))
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"weights must be numbers ({error})") from None
    if array.shape == (n_forecasts,) != (n,):
        array = array[y.instance]
    if array.shape != (n,):
        raise DataError(f"weights must be one number for each of {n} instances, got shape {array.shape}")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        raise DataError(
            f"weights must be finite and not negative, got {array[bad][0]}", row=f"instance {np.flatnonzero(bad)[0]}"
        )
    if not array.any():
        raise DataError("all weights are 0")
    return array, False


def rounded(values: FloatArray) -> FloatArray:
    """Values to 12 digits after the point, or 12 significant ones from 1 on: equal but for rounding is then equal."""
    mantissa, exponent = np.frexp(values)
    large = np.ldexp(mantissa.round(12), exponent)
    small = np.abs(values) < 1
    return np.where(small, np.where(small, values, 0.0).round(12), large)


def event_weights(weights: FloatArray, happened: FloatArray, per_instance: bool) -> FloatArray:
    """(b, e) weight of each event: the instance's, shared among its known events with ``per_instance``."""
    shared = weights[:, None]
    if per_instance:
        shared = shared / np.maximum((~np.isnan(happened)).sum(axis=1, keepdims=True), 1)
    return np.broadcast_to(shared, happened.shape)
