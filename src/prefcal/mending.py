"""Before and after: what a recalibration map does to forecasts that it was not fitted on."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import prefcal
from prefcal.audited import Audit, write_files
from prefcal.auditing import TOLERANCE, audit
from prefcal.comparing import Comparison, compare
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.data.source import InputInfo
from prefcal.decisions import Decisions, decisions
from prefcal.distributions.base import Distribution
from prefcal.distributions.stacked import stack
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.events import Items, kind_of_items
from prefcal.notions.notion import Notion
from prefcal.recalibration.auto import Auto
from prefcal.recalibration.base import METHODS, Recalibrator
from prefcal.recalibration.fitting import fitted, prepare, recalibrate, unit_folds
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.result import Estimate, plain

RAW, MENDED = "raw", "recalibrated"


@dataclasses.dataclass(frozen=True, slots=True)
class Mending:
    """What :func:`mend` found.

    Attributes
    ----------
    fitted_map
        Fitted on all records: what to save and use.
    chosen
        Method of the map of each fold (they may differ under ``auto``).
    before, after
        Audits of the raw forecasts, and of forecasts each made by the map of the other folds.
    comparison
        Their paired differences in the scalar notions; None where there is no scalar notion.
    log_loss
        ``before``, ``after`` and ``difference`` (after - before) of what was observed, in nats a record.
    same_top
        Share of instances whose most probable best candidate is the same after as before (equals stay equals).
    costs
        What miscalibration costs in decisions, before and after.
    """

    fitted_map: Recalibrator
    chosen: tuple[str, ...]
    before: Audit
    after: Audit
    comparison: Comparison | None
    log_loss: dict[str, Estimate]
    same_top: float
    costs: Decisions | None
    folds: int
    seed: int
    inputs: tuple[InputInfo, ...] = ()
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": 1,
            "prefcal": prefcal.__version__,
            "inputs": [i.record() for i in self.inputs],
            "map": self.fitted_map.document(),
            "folds": self.folds,
            "seed": self.seed,
            "methods_of_folds": list(self.chosen),
            "log_loss": plain(self.log_loss),
            "same_top": None if math.isnan(self.same_top) else self.same_top,
            "before": self.before.records(),
            "after": self.after.records(),
            "comparison": None if self.comparison is None else self.comparison.document(),
            "decisions": None if self.costs is None else self.costs.document(),
            "warnings": list(self.warnings),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The document as text; written to ``path`` if one is given."""
        text = json.dumps(self.document(), indent=1, allow_nan=False) + "\n"
        if path is not None:
            write_files({os.fspath(path): text})
        return text

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the before/after page, self-contained HTML."""
        from prefcal.report.mending import render_mending

        write_files({os.fspath(path): render_mending(self)})


def mend(
    h: Distribution,
    y: Outcomes,
    method: str = "auto",
    *,
    notions: Iterable[str | Notion] | None = None,
    items: Items | None = None,
    features: Mapping[str, Any] | None = None,
    item_features: Mapping[str, Any] | None = None,
    groups: Any = None,
    weights: Any = None,
    clusters: Any = None,
    folds: int = 5,
    bins: int = 15,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    model: str = "model",
    inputs: Iterable[InputInfo] = (),
    **options: Any,
) -> Mending:
    """Fit a recalibration map and measure, out of sample only, what it changes.

    The records are cut into ``folds`` parts that keep independent units whole. Each part is forecast by the map
    fitted on the others (its method, too, is chosen there under ``auto``); all numbers are of these forecasts. The
    map that is returned is fitted on everything.

    Parameters
    ----------
    h, y, method, features, item_features, groups, weights, clusters, options
        As in :func:`prefcal.recalibrate`.
    notions, items, bins, tolerance, model
        As in :func:`prefcal.audit`.
    folds, seed
        Parts of the cross-fit, and the seed of everything random.
    inputs
        Where the data came from, for the report.

    Raises
    ------
    DataError, UsageError
        As :func:`prefcal.recalibrate` and :func:`prefcal.audit`.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=(800, 4))
    >>> y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    >>> found = pc.mend(pc.PlackettLuce(2 * scores), y, "temperature", items="exchangeable")
    >>> bool(found.log_loss["difference"].value < 0), found.same_top
    (True, 1.0)
    """
    inputs_of_map = {"features": features, "item_features": item_features, "groups": groups}
    data = prepare(h, y, features, item_features, groups, weights, clusters)
    whole = recalibrate(
        h, y, method, **inputs_of_map, weights=weights, clusters=clusters, seed=seed,
        folds=_inner_folds(data.units), **options,
    )  # fmt: skip
    parts, chosen = [], []
    for fit_rows, held in unit_folds(data.units, folds, seed):
        inner = {"seed": seed, "folds": _inner_folds(data.units[fit_rows])} if method == "auto" else {}
        part = fitted(METHODS[method], data.take(fit_rows), **inner, **options)
        rest = data.take(held)
        parts.append(
            (held, part(rest.h, features=rest.features, item_features=rest.item_features, groups=rest.groups))
        )
        chosen.append(part.chosen.method if isinstance(part, Auto) else part.method)
    mended = stack(parts)

    one_each = len(np.unique(data.units)) == len(data)
    common: dict[str, Any] = {
        "items": kind_of_items(items, h),
        # Shares within an instance cannot be told from records of several; then the records' own weights stand in.
        "weights": "instance" if isinstance(weights, str) and (data.weights == 1.0).all() else data.weights,
        "clusters": None if one_each else data.units, "bins": bins, "seed": seed,
    }  # fmt: skip
    before = audit(data.h, data.y, notions=notions, tolerance=tolerance, model=f"{model} ({RAW})", **common)
    named = [r.notion for r in before.results]  # the same after, where the default left one out
    after = audit(mended, data.y, notions=named, tolerance=tolerance, model=f"{model} ({MENDED})", **common)
    scalar = [n for n in named if Notion.parse(n).is_scalar(h.n_items)]
    notes = list(dict.fromkeys([*whole.warnings, *before.warnings]))
    if len(set(chosen)) > 1:
        notes.append(f"the folds chose different methods: {', '.join(chosen)}")
    comparison = compare({RAW: data.h, MENDED: mended}, data.y, notions=scalar, **common) if scalar else None
    try:
        costs = decisions(
            data.h, data.y, mended=mended, weights=common["weights"], clusters=common["clusters"], seed=seed
        )
    except (DataError, UsageError) as error:
        costs = None
        notes.append(f"what it costs in decisions was not computed: {error}")
    return Mending(
        whole, tuple(chosen), before, after, comparison, _log_loss(data, mended), _same_top(data.h, mended), costs,
        folds, seed, tuple(inputs), tuple(notes),
    )  # fmt: skip


def _inner_folds(units: Any) -> int:
    """Folds among which ``auto`` chooses: five, or as many as there are units."""
    return min(5, len(np.unique(units)))


def _log_loss(data: Any, mended: Distribution) -> dict[str, Estimate]:
    """Mean of -log probability of what was observed, raw, mended and difference, cluster-robust."""
    losses = {"before": -observed_log_prob(data.h, data.y), "after": -observed_log_prob(mended, data.y)}
    seen = ~np.isnan(losses["before"]) & ~np.isnan(losses["after"]) & (data.weights > 0)
    with np.errstate(invalid="ignore"):
        losses["difference"] = losses["after"] - losses["before"]
    out = {}
    for name, loss in losses.items():
        out[name] = _mean(loss[seen], data.weights[seen], data.units[seen])
    return out


def _mean(values: FloatArray, weights: FloatArray, units: Any) -> Estimate:
    total = weights.sum()
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        with np.errstate(invalid="ignore"):  # a difference of infinities is not a number
            what = "1 record happened although it was" if bad == 1 else f"{bad} records happened although they were"
            return Estimate(float(values.sum()), note=f"{what} given probability 0")
    value = float(weights @ values / total)
    by_unit = np.bincount(units, weights * (values - value))
    n = len(np.unique(units))
    if n < 2:
        return Estimate(value, note="one unit: no interval")
    se = math.sqrt(float(by_unit @ by_unit) * n / (n - 1)) / float(total)
    return Estimate(value, (value - Z95 * se, value + Z95 * se))


def _same_top(raw: Distribution, mended: Distribution) -> float:
    """Share of instances in which some candidate is the most probable best one both before and after."""
    if not (raw.has_best and mended.has_best):
        return math.nan
    sets = []
    for h in (raw, mended):
        logs = h.top_log_probs()
        sets.append(logs >= logs.max(axis=1, keepdims=True) - 1e-12)
    return float((sets[0] & sets[1]).any(axis=1).mean())
