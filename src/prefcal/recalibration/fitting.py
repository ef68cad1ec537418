"""Fitting a map: what a caller passes brought into one shape, folds by unit, and the one entry point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray, Ragged, as_ragged, unwrap
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError, require_whole
from prefcal.estimators.inputs import check_alignment, instance_weights, per_record
from prefcal.recalibration.base import METHODS, Context, Data, Recalibrator, Record
from prefcal.recalibration.likelihood import observed_log_prob

#: Differences of scores beyond this, or below its inverse: their powers, which fits need, leave the doubles.
_MOST_GAP = 1e60


def recalibrate(
    h: Distribution,
    y: Outcomes,
    method: str = "auto",
    *,
    features: Mapping[str, Any] | None = None,
    item_features: Mapping[str, Any] | None = None,
    groups: Any = None,
    weights: Any = None,
    clusters: Any = None,
    seed: int = 0,
    folds: int = 5,
    **options: Any,
) -> Recalibrator:
    """Fit a map from these forecasts to better calibrated ones, by maximum likelihood of what was observed.

    Parameters
    ----------
    h, y
        Forecasts and outcomes (pairs, best items, partial or full rankings), as in :func:`prefcal.audit`.
    method
        A map's name, or ``auto``: the simplest of the applicable maps whose cross-validated log loss is within one
        standard error of the smallest.
    features
        Name -> (n,) numbers that describe an instance, for maps that use them.
    item_features
        Name -> numbers of the candidates, in the shape of the scores.
    groups
        (n,) group names, for ``group-wise``.
    weights, clusters
        (n,) weights of the instances, and names of the independent units; records of one instance are one unit. Folds
        never split a unit, and intervals count units.
    seed, folds
        For cross-validation.
    options
        Options of the method.

    Returns
    -------
    The fitted map: call it on forecasts, ``describe()`` it, ``save(path)`` it.

    Raises
    ------
    UsageError
        For an unknown method, or one that does not accept this kind of distribution or misses an input.
    DataError
        For outcomes that do not fit the forecasts, or that determine nothing; for Plackett-Luce scores whose largest
        difference within an instance is not between 1e-60 and 1e60 (or 0).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=(2000, 4))
    >>> y = Outcomes.from_orders(PlackettLuce(scores).sample(1, rng)[:, 0])
    >>> fitted = recalibrate(PlackettLuce(2 * scores), y, "temperature")
    >>> low, high = fitted.estimates["temperature"].interval
    >>> bool(low < 2 < high)
    True
    """
    require_whole("seed", seed, 0)
    data = prepare(h, y, features, item_features, groups, weights, clusters)
    cls = _method(method, type(h).__name__)
    for need in cls.needs:
        if not getattr(data, need):
            raise UsageError(f"method {cls.method!r} needs {need}=...")
    if cls.method == "auto" or "folds" in _options(cls):
        options = {"seed": seed, "folds": folds} | options
    unknown = sorted(set(options) - _options(cls))
    if unknown:
        raise UsageError.unknown(f"option of {cls.method}", unknown[0], sorted(_options(cls)) or ["(none)"])
    return fitted(cls, data, **options)


def fitted(cls: type[Recalibrator], data: Data, **options: Any) -> Recalibrator:
    """Fit a map and note what it was fitted on."""
    _check_size(data.h)
    before = observed_log_prob(data.h, data.y)
    seen = (~np.isnan(before) | cls.uses_ties) & (data.weights > 0)
    if not (seen & ~np.isnan(before)).any():
        raise DataError("no record tells an order of two items: nothing can be fitted")
    if not seen.all():
        rows = np.flatnonzero(seen)
        data, before = data.take(rows), before[rows]
    fit = cls.fit(data, **options)
    after = observed_log_prob(apply_to(fit, data), data.y)
    w, before, after = (x[~np.isnan(before)] for x in (data.weights, before, after))  # a tie has no probability
    record = Record(
        len(data),
        int(data.units.max()) + 1,
        -float((w * before).sum() / w.sum()),
        -float((w * after).sum() / w.sum()),
    )
    object.__setattr__(fit, "record", record)
    return fit


def _check_size(h: Distribution) -> None:
    """Raise DataError for scores whose differences are so large or small that no map can be fitted in doubles."""
    if not isinstance(h, PlackettLuce):
        return
    largest, where = 0.0, 0
    for rows, size in h.scores.blocks():
        scores = h.scores.block(rows, size)
        with np.errstate(over="ignore"):
            gap = scores.max(axis=1, initial=-np.inf) - scores.min(axis=1, initial=np.inf)
        at = int(gap.argmax())
        if gap[at] > largest:
            largest, where = float(gap[at]), int(np.arange(len(h))[rows][at])
    if largest > _MOST_GAP or 0 < largest < 1 / _MOST_GAP:
        say, do = ("at most", "divide") if largest > 1 else ("at least", "multiply")
        bound = _MOST_GAP if largest > 1 else 1 / _MOST_GAP
        raise DataError(
            f"the largest difference between the scores of two candidates is {largest:.3g}; a map can be fitted "
            f"where it is {say} {bound:g}: {do} all scores by a constant first, and check that none stands for a "
            "missing one",
            row=f"instance {where}",
        )


def prepare(
    h: Distribution,
    y: Outcomes,
    features: Mapping[str, Any] | None = None,
    item_features: Mapping[str, Any] | None = None,
    groups: Any = None,
    weights: Any = None,
    clusters: Any = None,
) -> Data:
    """Check and align everything: one forecast, one feature value, one weight and one group for each record."""
    context = context_of(h, features, item_features, groups)
    n_forecasts = len(h)
    per_instance, codes = per_record(h, y, clusters)
    w, _ = instance_weights(weights, y, n_forecasts)
    rows = y.instance
    if len(y) != n_forecasts or (rows != np.arange(len(y))).any():
        context = Context(
            {k: v[rows] for k, v in context.features.items()},
            {k: v.take(rows) for k, v in context.item_features.items()},
            None if context.groups is None else tuple(context.groups[i] for i in rows),
        )
        y = Outcomes(y.ranks, y.ties, np.arange(len(y)))
    check_alignment(per_instance, y)
    units = np.arange(len(y)) if codes is None else codes
    return Data(per_instance, y, w, units, context.features, context.item_features, context.groups)


def context_of(
    h: Distribution, features: Mapping[str, Any] | None, item_features: Mapping[str, Any] | None, groups: Any
) -> Context:
    """Check the inputs of a map that go with the forecasts ``h``; DataError names the one that does not fit."""
    n = len(h)
    plain: dict[str, FloatArray] = {}
    for name, values in (features or {}).items():
        try:
            array = np.asarray(unwrap(values), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"must be numbers ({error})", field=f"features[{name!r}]") from None
        if array.shape != (n,):
            raise DataError(
                f"must be one number for each of {n} forecasts, got shape {array.shape}", field=f"features[{name!r}]"
            )
        if not np.isfinite(array).all():
            at = int(np.flatnonzero(~np.isfinite(array))[0])
            raise DataError(f"{array[at]} is not finite", row=f"instance {at}", field=f"features[{name!r}]")
        plain[str(name)] = array
    of_items: dict[str, Ragged] = {}
    for name, values in (item_features or {}).items():
        ragged = as_ragged(values, f"item_features[{name!r}]", drop_nan=True)
        wrong = len(ragged) != n or not np.array_equal(ragged.sizes, h.sizes)
        if not wrong and isinstance(h, PlackettLuce) and not h.scores.is_dense and ragged.columns is not None:
            wrong = h.scores.columns is None or not np.array_equal(ragged.columns, h.scores.columns)
        if wrong:
            raise DataError("must have one number for each candidate", field=f"item_features[{name!r}]")
        if not np.isfinite(ragged.values).all():
            raise DataError("holds a number that is not finite", field=f"item_features[{name!r}]")
        of_items[str(name)] = ragged
    names: tuple[str, ...] | None = None
    if groups is not None:
        array = np.asarray(unwrap(groups), dtype=object)
        if array.shape != (n,):
            raise DataError(f"must be one name for each of {n} forecasts, got shape {array.shape}", field="groups")
        names = tuple("(missing)" if v is None or v != v else str(v) for v in array.tolist())
    return Context(plain, of_items, names)


def unit_folds(units: IntArray, folds: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """(fit rows, held-out rows) of each fold; all records of a unit are in the same fold.

    Raises UsageError for fewer than 2 folds or more than there are units.
    """
    n_units = int(units.max()) + 1
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= n_units:
        raise UsageError(f"folds must be a whole number from 2 to the {n_units} independent units, got {folds!r}")
    fold = (np.random.default_rng([seed, 6]).permutation(n_units) % folds)[units]
    for k in range(folds):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def apply_to(fit: Recalibrator, data: Data) -> Distribution:
    """Apply a map to the forecasts it was fitted on, or to held-out ones."""
    return fit.apply(data.h, Context(data.features, data.item_features, data.groups))


def _options(cls: type[Recalibrator]) -> set[str]:
    code = cls.fit.__func__.__code__  # type: ignore[attr-defined]
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return set(names)


def _method(name: str, kind: str) -> type[Recalibrator]:
    allowed = sorted(m for m, cls in METHODS.items() if kind in cls.accepts)
    if name not in METHODS:
        raise UsageError.unknown("method", str(name), allowed)
    if name not in allowed:
        raise UsageError(
            f"method {name!r} is for {' or '.join(METHODS[name].accepts)}, got {kind}; "
            f"methods for it: {', '.join(allowed) or 'none'}"
        )
    return METHODS[name]
