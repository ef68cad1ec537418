"""The study as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from prefcal.report import html
from prefcal.report.wording import clean, metric, metric_text, significant
from prefcal.studies.reward_models.claims import Claim, overall, short
from prefcal.studies.reward_models.figures import (
    Frame,
    Point,
    by_size,
    nice,
    range_axis,
    range_cell,
    scatter,
    strip,
)
from prefcal.studies.reward_models.parts import Measured

if TYPE_CHECKING:
    from prefcal.studies.reward_models.running import RewardModelStudy

#: How a claim ended -> (mark of the report, class, words).
ENDS = {
    "holds": ("calibrated", "good", "Holds"),
    "part": ("undetermined", "caution", "Holds in part"),
    "fails": ("miscalibrated", "problem", "Does not hold"),
    "open": ("undetermined", "caution", "Cannot tell"),
    "note": ("unaudited", "note", "Note"),
}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark on the page: its rows by descending accuracy and two pictures on the same axes."""

    name: str
    about: str
    rows: tuple[Measured, ...]
    published: Markup
    proper: Markup


def render(s: RewardModelStudy) -> str:
    """The page; the same study gives the same bytes, and every text from the data is escaped."""
    environment = html.environment(Path(__file__).parents[1] / "templates")
    environment.filters |= {"clean": clean, "significant": significant, "short": lambda name: clean(short(name))}
    environment.globals |= {
        "range_cell": range_cell, "range_axis": range_axis, "strip": strip, "mean": lambda v: float(np.mean(v)),
        "metric_text": metric_text, "metric": metric,
    }  # fmt: skip
    page: str = environment.get_template("reward_models.html.j2").render(
        s=s, ends=ENDS, benchmarks=_benchmarks(s), categories=_by_category(s), curves=_curves(s),
        table_picture=None if s.table is None else _table_picture(s), claims=[_clean(c) for c in s.claims],
        tau_ticks=(-1.0, -0.5, 0.0, 0.5, 1.0), gap_ticks=_gap_ticks(s),
    )  # fmt: skip
    return page


def _clean(c: Claim) -> Claim:
    return Claim(clean(c.title), c.holds, clean(c.published), clean(c.proper), tuple(clean(e) for e in c.evidence))


def _benchmarks(s: RewardModelStudy) -> list[Benchmark]:
    out = []
    abouts = (
        (s.best_of_four, "one right answer of four"),
        (s.best_of_ten, "one right solution of ten"),
        (s.pairs, "pairs: top-1 and sub-2 are one notion"),
    )
    for measured, about in abouts:
        rows = sorted(overall(measured), key=lambda r: -r.accuracy)
        xs = nice(min(r.accuracy for r in rows), max(r.accuracy for r in rows))
        values = [r.published.value for r in rows] + [v for r in rows for v in (r.top.debiased, *r.top.interval)]
        frame = Frame(xs, nice(0.0, max(values)))
        first = [
            Point(r.accuracy, r.published.value, str(i + 1), clean(short(r.model)), r.published.interval)
            for i, r in enumerate(rows)
        ]
        second = [
            Point(r.accuracy, r.top.debiased, str(i + 1), clean(short(r.model)), r.top.interval)
            for i, r in enumerate(rows)
        ]
        name = rows[0].benchmark
        out.append(
            Benchmark(
                name, f"{about}; {rows[0].n_instances:,} instances, {len(rows)} models", tuple(rows),
                scatter(
                    first, frame, "published", "accuracy", "1 − mean p(chosen)",
                    f"{name}: published statistic against accuracy.",
                ),
                scatter(
                    second, frame, "proper", "accuracy", "debiased error",
                    f"{name}: proper calibration error against accuracy.",
                ),
            )
        )  # fmt: skip
    return out


def _by_category(s: RewardModelStudy) -> list[tuple[str, list[Measured]]]:
    rows = [r for r in (*s.best_of_four, *s.ties) if r.category is not None]
    names = list(dict.fromkeys(r.model for r in rows))
    return [(clean(short(n)), [r for r in rows if r.model == n]) for n in names]


def _curves(s: RewardModelStudy) -> list[tuple[str, Markup]]:
    top = max(max((*x.sub, *x.top)) for x in s.scaling)
    sizes = s.scaling[0].sizes
    ticks: Sequence[float] = tuple(float(n) for n in sizes if n % 2 == 0) if len(sizes) > 5 else sizes
    frame = Frame(tuple(ticks) if len(ticks) > 1 else (1.0, 2.0), nice(0.0, top))
    return [(clean(short(x.model)), by_size(x, frame)) for x in s.scaling]


def _gap_ticks(s: RewardModelStudy) -> tuple[float, ...]:
    """A scale that holds 0 and all differences of the table with their intervals."""
    rows = () if s.table is None else s.table.rows
    values = [v for r in rows for v in (0.0, r.difference.value, *(r.difference.interval or ())) if math.isfinite(v)]
    return nice(min(values, default=0.0), max(values, default=1.0))


def _table_picture(s: RewardModelStudy) -> Markup:
    assert s.table is not None
    points = s.table.points
    xs = nice(min(e for _, e, _ in points), max(e for _, e, _ in points))
    ys = nice(min(v for *_, v in points), max(v for *_, v in points))
    dots = [Point(e, v, "", clean(short(m))) for m, e, v in points]
    label = f"{len(points)} models: published ECE against error rate."
    return scatter(dots, Frame(xs, ys), "published", "error rate", "published ECE", label)
