"""One job of the study: fit a model to a fold and measure its forecasts; rows come back."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from prefcal.data.ragged import IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import PrefcalError
from prefcal.studies.label_ranking.kernel import dirichlet_kernel
from prefcal.studies.label_ranking.measure import (
    Measured,
    frequent_orders,
    listable,
    rankwise,
    truncated,
)
from prefcal.studies.label_ranking.models import Task, builder, predicted_ranks
from prefcal.studies.label_ranking.protocol import (
    KERNEL_VIEWS,
    OBSERVED_TUPLES_FROM,
    Job,
    Settings,
    Split,
    Variant,
    notions_for,
    split,
    variants,
)
from prefcal.studies.label_ranking.sets import StudySet
from prefcal.studies.label_ranking.store import COLUMNS, NUMBERS
from prefcal.views import View

#: Share of a test fold that the published filter keeps, by frequency of rankings.
MASS = 0.95
_UNKNOWN = dict.fromkeys(NUMBERS, math.nan)


def evaluate(data: StudySet, job: Job, settings: Settings) -> list[dict[str, Any]]:
    """Fit and measure.

    Returns
    -------
    Rows of the store: one for each measured variant and notion, one for Kendall's tau, and one for the share of
    calibration rows whose ranking no fitting row shows.

    Raises
    ------
    UsageError, DataError
        For data that the model cannot be fitted to, naming the job.
    """
    rows_of = split(data, job, settings)
    task = Task(data, rows_of, job, settings)
    start = time.perf_counter()
    forecast = builder(job.model, job.protocol)(task)
    fit_seconds = time.perf_counter() - start
    orders = data.orders[rows_of.test]
    common = {
        "protocol": job.protocol,
        "dataset": job.dataset,
        "model": job.model,
        "fold": job.fold,
        "cut": job.cut,
        "data_sha256": data.sha256,
        "n_test": len(orders),
        "n_fit": len(rows_of.fit),
        "n_items": data.n_items,
        "fit_seconds": fit_seconds,
    }
    rows = [common | tau_row(forecast, data.ranks[rows_of.test]), common | unseen_row(data, rows_of)]
    start = time.perf_counter()
    for variant in variants(job):
        for row in _measure(data, job, settings, forecast, orders, variant):
            rows.append(common | row)
    for row in rows:
        row["measure_seconds"] = time.perf_counter() - start
    return [dict.fromkeys(COLUMNS) | _UNKNOWN | row for row in rows]


def tau_row(forecast: Distribution, ranks: IntArray) -> dict[str, Any]:
    """Mean Kendall tau of the most probable rankings."""
    from prefcal.rankers.base import kendall_tau

    tau = kendall_tau(predicted_ranks(forecast), ranks)
    return {
        "support": "all",
        "mass_filter": False,
        "notion": "full",
        "estimator": "kendall_tau",
        "value": float(tau.mean()),
        "stderr": float(tau.std(ddof=1) / math.sqrt(len(tau))) if len(tau) > 1 else math.nan,
    }


def unseen_row(data: StudySet, rows_of: Split) -> dict[str, Any]:
    """Share of the calibration rows whose ranking no fitting row shows."""
    fitted = {tuple(r) for r in data.ranks[rows_of.fit].tolist()}
    unseen = [tuple(r) not in fitted for r in data.ranks[rows_of.calibration].tolist()]
    label = {"support": "all", "mass_filter": False, "notion": "full", "estimator": "unseen_calibration"}
    return label | {"value": sum(unseen) / len(unseen)}


def _measure(
    data: StudySet, job: Job, settings: Settings, forecast: Distribution, orders: IntArray, variant: Variant
) -> list[dict[str, Any]]:
    m = data.n_items
    cut, kept = forecast, orders
    if variant.mass_filter:
        # Frequencies and the kept rows are those of the test fold, as published.
        support, rows = frequent_orders(orders, MASS)
        cut, kept = truncated(forecast[np.flatnonzero(rows)], support), orders[rows]
    elif variant.support == "observed" and forecast.has_rankings:
        cut = truncated(forecast, np.unique(data.orders, axis=0))
    seen = orders if job.protocol == "published" and m >= OBSERVED_TUPLES_FROM else None
    label = {"support": variant.support, "mass_filter": variant.mass_filter}
    if variant.null:
        # Beside a null level the published restriction to tuples seen would depend on the outcomes: all tuples count.
        label["support"], seen = "all", seen if variant.support == "observed" else None
    out = []
    for notion in notions_for(settings, m):
        view = View.parse(notion)
        if not forecast.has_rankings and notion != "sub-2":
            continue
        seed = job.seed(settings, f"{notion} {variant}")
        if listable(view, m):
            found = rankwise(
                cut,
                kept,
                view,
                bins=settings.bins,
                draws=settings.draws if variant.null else 0,
                budget=settings.budget,
                seed=seed,
                seen=seen,
            )
            out.append(label | _row(found, notion, "rankwise_ece"))
        if settings.kernel and notion in KERNEL_VIEWS and listable(view, m):
            found = dirichlet_kernel(
                cut, kept, view, draws=settings.draws if variant.null else 0, budget=settings.budget, seed=seed
            )
            out.append(label | _row(found, notion, "dirichlet_kernel"))
    return out


def _row(found: Measured, notion: str, estimator: str) -> dict[str, Any]:
    draws = found.null_draws
    return {
        "notion": notion,
        "estimator": estimator,
        "value": found.value,
        "stderr": found.stderr,
        "total": found.value * found.outcomes / 2 if estimator == "rankwise_ece" else found.value / 2,
        "null_mean": found.null_mean,
        "p_value": found.p_value,
        "spread": found.spread,
        "debiased": found.debiased,
        "low": found.low,
        "high": found.high,
        "tuples": found.tuples,
        "tuples_used": found.tuples_used,
        "draws": 0 if draws is None else len(draws),
        "null_draws": None if draws is None else [float(v) for v in draws],
        "note": found.note or None,
    }


def evaluate_named(data: StudySet, job: Job, settings: Settings) -> list[dict[str, Any]]:
    """:func:`evaluate`, with the job's name in every error."""
    try:
        return evaluate(data, replace(job), settings)
    except PrefcalError as error:
        error.args = (f"{job.dataset}, {job.model}, fold {job.fold} ({job.protocol}): {error}",)
        raise
