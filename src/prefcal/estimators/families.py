"""Families of tests: adjusted p-values, and the members (subset, outcome) of a notion judged one by one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError, require_whole
from prefcal.estimators.binned import binned_error
from prefcal.estimators.cells import CellTable
from prefcal.estimators.events import Forecast, Rankwise, family_for
from prefcal.estimators.inputs import aligned
from prefcal.estimators.null import compare, normal_null
from prefcal.estimators.scalar import events_by_block
from prefcal.notions.notion import Notion
from prefcal.result import Interval

Adjust = Literal["holm", "bh", "by"]

#: Method -> (how a paper names it, what it controls).
METHODS: Final[dict[Adjust, tuple[str, str]]] = {
    "holm": ("Holm 1979", "the probability of one false rejection or more, under any dependence"),
    "bh": ("Benjamini & Hochberg 1995", "the expected share of false rejections, under independence or positive "
           "dependence"),
    "by": ("Benjamini & Yekutieli 2001", "the expected share of false rejections, under any dependence"),
}  # fmt: skip

ALPHA = 0.05
MEMBER_DRAWS = 9_999
#: Tables of one member each; more members would not fit in memory, and no reader looks at so many.
MEMBER_LIMIT = 5_040


def adjusted(p_values: npt.ArrayLike, method: Adjust = "holm") -> FloatArray:
    """Adjust p-values for the number of tests.

    Parameters
    ----------
    p_values
        (n,) numbers in [0, 1]; NaN marks a test that could not be made: it stays NaN and does not count.
    method
        ``holm``, ``bh`` or ``by``, see ``METHODS``.

    Returns
    -------
    (n,) adjusted p-values, at most 1; reject where they are at most the level. Equal p-values stay equal.

    Raises
    ------
    UsageError
        For another method, or numbers outside [0, 1].

    Examples
    --------
    >>> adjusted([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    >>> adjusted([0.01, 0.04, float("nan"), 0.03], "bh").tolist()
    [0.03, 0.04, nan, 0.04]
    """
    if method not in METHODS:
        raise UsageError.unknown("adjustment", str(method), METHODS)
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if p.ndim != 1 or (p[known] < 0).any() or (p[known] > 1).any():
        raise UsageError("p-values must be a list of numbers between 0 and 1")
    order = np.argsort(p, kind="stable")[: int(known.sum())]  # NaN last
    n = len(order)
    place = np.arange(1, n + 1)
    if method == "holm":
        steps = np.maximum.accumulate(p[order] * (n + 1 - place))
    else:
        penalty = (1.0 / place).sum() if method == "by" else 1.0
        steps = np.minimum.accumulate((p[order] * penalty * n / place)[::-1])[::-1]
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(steps, 1.0)
    return out


@dataclass(frozen=True, slots=True)
class MemberError:
    """Calibration of one member of a notion, see :func:`member_errors`.

    Parameters
    ----------
    items
        The items that the member looks at (0-based).
    outcome
        What is forecast: an ordering best first, a sorted set (``topset``), ``(item, rank)`` (``position``); None
        for ``confidence``, whose event is that the most probable outcome happens.
    mean_forecast, mean_outcome
        What the model says on average, and how often it happens.
    value, null_mean, debiased, interval, p_value
        As in :class:`prefcal.Result`; NaN, and the interval [0, 1], where fewer than two instances count.
    p_adjusted
        Over all members.
    """

    items: tuple[int, ...]
    outcome: tuple[int, ...] | None
    n_events: int
    mean_forecast: float
    mean_outcome: float
    value: float
    null_mean: float
    debiased: float
    interval: Interval
    p_value: float
    p_adjusted: float


def member_errors(
    h: Distribution,
    y: Outcomes,
    notion: str | Notion = "sub-2",
    *,
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    adjust: Adjust = "holm",
    draws: int = MEMBER_DRAWS,
    seed: int = 0,
) -> list[MemberError]:
    """Calibration error of every member of a scalar notion of labelled items: which pair of labels is off?

    Parameters
    ----------
    h, y, weights, clusters, bins
        As in :func:`prefcal.audit`.
    notion
        ``sub-k``, ``top-k``, ``position``, ... rankwise or confidence. Of the two outcomes of a pair only the first
        (a before b, a < b) is listed: the error of the other is the same.
    adjust
        How p-values are adjusted over the members, see :func:`adjusted`.
    draws
        Of the normal law of each member's residual sums (cluster-robust covariance). A p-value is at least
        1 / (draws + 1): with Holm's method more than 500 members at the default cannot be rejected at 5 %.
    seed
        Of everything random.

    Returns
    -------
    One entry a member and outcome, the largest debiased error first. Cost: O(events) and members * draws * bins.

    Raises
    ------
    UsageError
        For vector notions, more than ``MEMBER_LIMIT`` members, or lists without labels.
    DataError
        For inputs that do not fit together, or without any event.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> h = pc.PlackettLuce(rng.normal(size=(1500, 3)))
    >>> truth = pc.PlackettLuce(h.scores.dense() + [0.0, 0.0, 1.0])
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> [(m.outcome, m.p_adjusted < 0.01) for m in member_errors(h, y)]
    [((1, 2), True), ((0, 2), True), ((0, 1), False)]
    """
    notion = Notion.parse(notion)
    if not notion.is_scalar(h.n_items):
        raise UsageError(f"{notion.name} is a vector notion: it has no members with an error of their own")
    require_whole("draws", draws, 99)
    h, weight, per_instance, units = aligned(h, y, weights, clusters)
    if not h.has_labels:
        raise UsageError("items of lists without labels have no identity: there are no members to tell apart")
    family = family_for(notion, "labelled", h, ties_equal=y.ties == "equal")
    names = _names(notion, h.n_items, isinstance(family, Rankwise))
    if len(names) > MEMBER_LIMIT:
        raise UsageError(f"{notion.name} has {len(names)} members, at most {MEMBER_LIMIT} are judged one by one")
    tables = [CellTable(bins, 1, seed) for _ in range(family.n_members)]
    for seen in events_by_block(h, y, family, weights=weight, per_instance=per_instance, bins=bins):
        owner, places = seen.cell // bins, seen.cell % bins
        for at in np.unique(owner):
            of: Any = np.nonzero(owner == at)  # at most one event an instance
            happened, w, place = (array[of][:, None] for array in (seen.happened, seen.weight, places))
            table_units = None if units is None else units[seen.rows[of[0]]]
            tables[at].add(_column(seen.forecast, of), happened, w, place, table_units)
    found = []
    for at, (items, outcome) in names.items():
        tables[at].close_clusters()
        found.append(_judge(items, outcome, tables[at], np.random.default_rng([seed, 7, at]), draws))
    if not any(m.n_events for m in found):
        raise DataError(f"{notion.name}: no instance has a usable event: {family.unusable}")
    p_adjusted = adjusted([m.p_value for m in found], adjust).tolist()
    found = [dataclasses.replace(m, p_adjusted=p) for m, p in zip(found, p_adjusted, strict=True)]
    return sorted(found, key=lambda m: -m.debiased if m.debiased == m.debiased else np.inf)


def _names(notion: Notion, m: int, by_outcome: bool) -> dict[int, tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """Index of each member that is listed -> its items and its outcome."""
    view = notion.view
    members = [tuple(items) for items in view.members(m).tolist()]
    if not by_outcome:
        return {i: (items, None) for i, items in enumerate(members)}
    count = view.n_outcomes(m)
    listed = 1 if count == 2 and view.kind in ("sub", "full") else count
    outcomes = view.outcomes(m).tolist()
    return {i * count + j: (items, tuple(outcomes[i][j])) for i, items in enumerate(members) for j in range(listed)}


def _column(forecast: Forecast, of: tuple[IntArray, IntArray]) -> Forecast:
    """The events at some places of a block, one an instance."""
    p, log_p, log_q = (
        np.broadcast_to(a, forecast.p.shape)[of][:, None] for a in (forecast.p, forecast.log_p, forecast.log_q)
    )
    return Forecast(p, log_p, log_q, None, np.empty(0))


def _judge(
    items: tuple[int, ...], outcome: tuple[int, ...] | None, table: CellTable, rng: np.random.Generator, draws: int
) -> MemberError:
    nan = float("nan")
    w = table.moment("w").sum()
    if w == 0:
        return MemberError(items, outcome, 0, nan, nan, nan, nan, nan, (0.0, 1.0), nan, nan)
    said, happened = float(table.moment("wp").sum() / w), float(table.moment("wy").sum() / w)
    error = binned_error(table, rng)
    if table.n_instances < 2:
        return MemberError(
            items, outcome, table.n_events, said, happened, error.value, nan, nan, error.interval, nan, nan
        )
    law = compare(error.value, normal_null(table, rng, draws))
    low, high = error.interval  # as in an audit: it holds 0 exactly when calibration is not rejected
    interval = (low if law.p_value <= ALPHA else 0.0, high)
    return MemberError(
        items, outcome, table.n_events, said, happened, error.value, law.mean, error.debiased, interval,
        law.p_value, law.p_value,
    )  # fmt: skip
