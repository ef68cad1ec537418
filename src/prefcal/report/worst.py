"""Where the model is worst: the finding in sentences, and the groups with their raw and shrunken errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prefcal.grouping import GroupError, Worst
from prefcal.report.wording import clean, count, decimal, listing, p_clause, percent, point_range, points

if TYPE_CHECKING:
    from markupsafe import Markup

    from prefcal.report.svg import Scale

#: Groups that are drawn; the JSON has them all.
MOST_ROWS = 20
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class WorstTable:
    """One search: its finding and its largest groups.

    ``rows`` are (name, group); ``n_more`` groups are not drawn, ``n_small`` were too small to look at.
    """

    model: str
    notion: str
    title: str
    text: tuple[str, ...]
    rows: tuple[tuple[str, GroupError], ...]
    n_more: int
    n_small: int
    min_instances: int


def worst_tables(found: Iterable[Worst]) -> tuple[WorstTable, ...]:
    """What each search found, as printable plain text."""
    return tuple(_table(w) for w in found)


def name_of(group: Mapping[str, Any]) -> str:
    """A group by its fields and values: ``subset = Math, @spread = 1: below 2``."""
    return ", ".join(f"{clean(field)} = {clean(value)}" for field, value in group.items())


def _table(w: Worst) -> WorstTable:
    kind = "conjunction of two fields" if w.conjunctions else "group"
    shown = w.groups[:MOST_ROWS]
    return WorstTable(
        model=clean(w.model),
        notion=clean(w.notion),
        title=f"Worst {kind}: {clean(w.model)}, {clean(w.notion)}",
        text=tuple(_sentences(w)),
        rows=tuple((name_of(g.group), g) for g in shown),
        n_more=len(w.groups) - len(shown),
        n_small=w.n_small,
        min_instances=int(w.settings["min_instances"]),
    )


def _sentences(w: Worst) -> Iterable[str]:
    worst, held, n = w.worst, w.held_out, len(w.groups)
    what = "conjunctions" if w.conjunctions else "groups"
    tendency = ""
    if worst.gap is not None and worst.p_value <= ALPHA:
        tendency = ", over-confident on the whole" if worst.gap < 0 else ", under-confident on the whole"
    yield (
        f"Of {n} {what} of {listing([clean(f) for f in w.fields], 6)} the worst is {name_of(worst.group)} "
        f"({count(worst.n_instances, 'instance')}): error {points(max(worst.shrunken, 0.0))} "
        f"({point_range(worst.shrunken_interval)}){tendency}; all instances together: "
        f"{points(max(w.overall.error, 0.0))}. Measured there: {points(max(worst.error, 0.0))}. The largest of many "
        "measured errors owes a part to luck, which partial pooling takes off."
    )
    rivals = len(w.may_be_worst)
    sure = f"It is the worst with probability {percent(min(worst.probability_worst, 0.9999))}"
    yield (f"{sure}." if rivals == 1 else f"{sure}; the truly worst is with 95 % among {rivals} of the {n} {what}.")
    verdict = (
        "so what the search finds is miscalibrated" if held.p_value <= ALPHA
        else "so half the data do not show that what the search finds is miscalibrated"
    )  # fmt: skip
    yield (
        f"Chosen on one half of the data and measured on the other ({held.splits} random halves): error "
        f"{points(max(held.error, 0.0))} ({point_range(held.interval)}), {p_clause(held.p_value)}, {verdict}. "
        f"{percent(held.agreement)} of the halves chose the same."
    )
    if math.isnan(w.p_larger):
        varying = listing([clean(f) for f in w.settings.get("varies_within_clusters", ())], 6) or "a field"
        yield (
            f"Whether it stands out from the rest is not tested (p_larger is empty): {varying} varies within "
            "clusters, whose instances depend on each other, so its values cannot be exchanged between instances. "
            "What is said of the halves holds: clusters stay whole there."
        )
    elif w.p_larger <= ALPHA:
        yield f"It stands out from the model as a whole more than random groups would ({p_clause(w.p_larger)})."
    else:
        yield (
            f"Random groups of the same sizes stand out as far ({p_clause(w.p_larger)}): that these fields matter is "
            "not shown."
        )


def scale_of_groups(rows: Iterable[tuple[str, GroupError]]) -> Scale:
    """One scale for all errors and intervals of a table."""
    from prefcal.report.svg import Scale

    like: list[Any] = []
    for _, g in rows:
        for value, interval in ((g.error, g.interval), (g.shrunken, g.shrunken_interval)):
            like.append(SimpleNamespace(debiased=value, interval=interval, settings={}))
    return Scale.of(like)


def forest_cell(g: GroupError, scale: Scale) -> Markup:
    """One group in a forest plot: above the error as measured (hollow), below the shrunken one (full)."""
    from prefcal.report.svg import element, picture

    width, height, upper, lower = 240.0, 30.0, 9.0, 21.0
    out = [element("line", x1=scale.at(t), x2=scale.at(t), y1=0, y2=height, class_="grid") for t in scale.ticks]
    out.append(element("line", x1=scale.at(0), x2=scale.at(0), y1=0, y2=height, class_="axis"))
    for y, value, interval, tone in (
        (upper, g.error, g.interval, "stroke-raw"),
        (lower, g.shrunken, g.shrunken_interval, "stroke-shrunken"),
    ):
        x0, x1 = (scale.at(v) for v in interval)
        out.append(element("line", x1=x0, x2=x1, y1=y, y2=y, class_=f"range {tone}"))
        dot = "dot-raw" if y == upper else "dot-shrunken"
        out.append(element("circle", cx=scale.at(value), cy=y, r=4 if y == lower else 3.6, class_=dot))
    low, high = g.shrunken_interval
    label = (
        f"as measured {decimal(g.error)}, shrunken {decimal(g.shrunken)}, interval {decimal(low)} to {decimal(high)}"
    )
    return picture(width, height, label, out, "cell-plot")
