"""The study's report: one self-contained page, in the style of the audit report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

import prefcal
from prefcal.errors import PrefcalError
from prefcal.report import html
from prefcal.report.svg import element, picture
from prefcal.report.wording import decimal, p_value
from prefcal.studies.label_ranking.claims import TOLERANCE, Claim, Judged, claims, judge, main_cells
from prefcal.studies.label_ranking.dots import VIEWS, DotsResult, dots
from prefcal.studies.label_ranking.models import TITLES
from prefcal.studies.label_ranking.protocol import Settings
from prefcal.studies.label_ranking.published import published_values
from prefcal.studies.label_ranking.sets import PAPER_SETS
from prefcal.studies.label_ranking.summary import Cell, Effects, effects, standard_error, summarize
from prefcal.views import View

_WIDTH, _HEIGHT, _PAD = 300.0, 26.0, 12.0
#: Tables of these notions stand open.
_OPEN: Final = ("sub-2", "top-1")


@dataclass(frozen=True, slots=True)
class Compared:
    """A published mean and ours."""

    dataset: str
    title: str
    notion: str
    estimator: str
    mass_filter: bool
    ours: float
    theirs: float
    se: float
    worst_fold: float

    @property
    def z(self) -> float:
        """Difference in standard errors of the published mean over folds."""
        return (self.ours - self.theirs) / self.se if self.se > 0 else math.nan

    @property
    def within(self) -> bool:
        """Whether the means agree within two standard errors (or to 1e-4)."""
        return abs(self.ours - self.theirs) <= max(2 * self.se, 1e-4)


def compare_with_published(cells: Sequence[Cell]) -> list[Compared]:
    """Every mean of the published protocol beside the value that was published.

    Raises
    ------
    DataError
        When the published tables cannot be had.
    """
    out = []
    for c in cells:
        if c.protocol != "published" or c.cut != "tail" or c.dataset not in PAPER_SETS:
            continue
        main = c.is_main or c.mass_filter
        names = [c.notion]
        if c.notion == "full":  # they call it sub-m and top-(m-1)
            names = [f"sub-{c.n_items}", f"top-{c.n_items - 1}"]
        values = published_values(c.dataset)
        hit = next((values[k] for n in names if (k := (c.model, n, c.estimator, c.mass_filter)) in values), None)
        if not main or hit is None or len(hit) != len(c.values):
            continue
        theirs = [hit[fold] for fold in sorted(hit)]
        se = standard_error(_array(theirs))
        worst = max(abs(a - b) for a, b in zip(c.values, theirs, strict=True))
        out.append(
            Compared(
                c.dataset, c.title, c.notion, c.estimator, c.mass_filter, c.value, _mean(theirs), se, worst
            )
        )  # fmt: skip
    return out


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _array(values: Iterable[float]) -> Any:
    import numpy as np

    return np.asarray(list(values))


def render(rows: Iterable[dict[str, Any]], settings: Settings, *, with_dots: bool = True) -> str:
    """Render the report of a store's rows.

    Parameters
    ----------
    rows
        Of :meth:`prefcal.studies.label_ranking.store.Store.rows`.
    settings
        Of the store.
    with_dots
        Whether to fit and judge the families on the votes on dots (a few seconds).

    Returns
    -------
    One HTML page. It loads nothing and has no script; every text from the data is escaped.
    """
    everything = list(rows)
    cells = summarize(everything)
    compared, compared_missing = _try(lambda: compare_with_published(cells))
    votes, votes_missing = _try(lambda: dots(seed=settings.seed)) if with_dots else ([], "")
    exact = {
        notion: _matrix(judge(main_cells(cells, "exact", notion)))
        for notion in dict.fromkeys(c.notion for c in cells if c.estimator == "rankwise_ece")
        if main_cells(cells, "exact", notion)
    }
    apart = effects(cells)
    context = {
        "version": prefcal.__version__,
        "settings": settings,
        "claims": claims(cells),
        "states": _STATES,
        "compared": compared,
        "compared_missing": compared_missing,
        "outside": [c for c in compared if not c.within],
        "exact": exact,
        "open": _OPEN,
        "effects": {n: [e for e in apart if e.notion == n] for n in dict.fromkeys(e.notion for e in apart)},
        "scales": {n: _scale([e for e in apart if e.notion == n]) for n in dict.fromkeys(e.notion for e in apart)},
        "tau": _tau(cells),
        "dots": votes,
        "dots_missing": votes_missing,
        "dots_views": VIEWS,
        "times": _times(everything),
        "sampled": sorted({(c.dataset, c.notion) for c in cells if c.sampled and c.estimator == "rankwise_ece"}),
        "titles": TITLES,
        "tolerance": TOLERANCE,
    }
    page: str = _environment().get_template("label_ranking.html.j2").render(context)
    return page


_STATES: Final = {
    "problem": ("miscalibrated", "Does not hold"),
    "caution": ("undetermined", "Holds in part"),
    "good": ("calibrated", "Holds"),
    "note": ("unaudited", "Note"),
}


def _try(work: Any) -> tuple[list[Any], str]:
    """The result, or why there is none: a report of what is here beats no report."""
    try:
        return work(), ""
    except PrefcalError as error:
        return [], str(error)


def _matrix(judged: Sequence[Judged]) -> tuple[list[str], list[tuple[str, dict[str, Judged]]]]:
    """Models, and for each data set its judged cells by model."""
    models = [m for m in TITLES if any(j.cell.model == m for j in judged)]
    rows: dict[str, dict[str, Judged]] = {}
    for j in judged:
        rows.setdefault(j.cell.dataset, {})[j.cell.model] = j
    return models, list(rows.items())


def _tau(cells: Sequence[Cell]) -> list[Cell]:
    return [c for c in cells if c.estimator == "kendall_tau" and c.protocol == "exact"]


def _times(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, int, float, float]]:
    """(protocol, data set, fits, seconds fitting, seconds measuring), single-core."""
    total: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["estimator"] == "kendall_tau":  # one such row a fit
            entry = total.setdefault((row["protocol"], row["dataset"]), [0.0, 0.0, 0.0])
            entry[0] += 1
            entry[1] += row["fit_seconds"]
            entry[2] += row["measure_seconds"]
    order = {name: i for i, name in enumerate(PAPER_SETS)}
    return [
        (protocol, name, int(v[0]), v[1], v[2])
        for (protocol, name), v in sorted(total.items(), key=lambda kv: (kv[0][0], order.get(kv[0][1], 99), kv[0][1]))
    ]


# --------------------------------------------------------------------------------------------------------- pictures


def _scale(entries: Sequence[Effects]) -> float:
    values = [
        v for e in entries
        for v in (e.filtered, e.published, e.untruncated, e.shuffled, e.exact, e.null_mean)
        if not math.isnan(v)
    ]  # fmt: skip
    top = max(values, default=0.1)
    return math.ceil(top * 20 + 1e-9) / 20


def effect_axis(top: float) -> Markup:
    """The head of a column of :func:`effect_cell`."""
    labels = [
        element("text", decimal(v, 2), x=_at(v, top), y=15, text_anchor="middle", class_="tick")
        for v in (0.0, top / 2, top)
    ]
    return picture(_WIDTH, 20, f"Scale from 0 to {decimal(top, 2)}", labels, "effect-plot")


def effect_cell(e: Effects, top: float) -> Markup:
    """One number's way: published (square) to exact (dot), what a calibrated model shows as a shaded band."""
    middle = _HEIGHT / 2
    out = []
    if not math.isnan(e.null_mean):
        x = _at(e.null_mean, top)
        out.append(element("rect", x=_PAD, y=3, width=max(x - _PAD, 0.5), height=_HEIGHT - 6, class_="band"))
    out.append(element("line", x1=_PAD, x2=_PAD, y1=0, y2=_HEIGHT, class_="axis"))
    steps = [v for v in (e.published, e.untruncated, e.shuffled, e.exact) if not math.isnan(v)]
    for a, b in pairwise(steps):
        out.append(element("line", x1=_at(a, top), x2=_at(b, top), y1=middle, y2=middle, class_="whisker"))
    if not math.isnan(e.filtered):
        x = _at(e.filtered, top)
        out.append(element("rect", x=x - 4, y=middle - 4, width=8, height=8, rx=1, class_="outline-bad"))
    x = _at(e.published, top)
    out.append(element("rect", x=x - 4, y=middle - 4, width=8, height=8, rx=1, class_="fill-bad"))
    for v in (e.untruncated, e.shuffled):
        if not math.isnan(v):
            out.append(element("circle", cx=_at(v, top), cy=middle, r=3, class_="dot-in"))
    out.append(element("circle", cx=_at(e.exact, top), cy=middle, r=4.5, class_="fill-good"))
    label = f"published {decimal(e.published)}, exact {decimal(e.exact)}, null level {decimal(e.null_mean)}"
    return picture(_WIDTH, _HEIGHT, label, out, "effect-plot")


def _at(value: float, top: float) -> float:
    return _PAD + (_WIDTH - 2 * _PAD) * min(value / top, 1.0)


def total_variation(cell: Cell) -> float:
    """The debiased error of a cell in total-variation units."""
    return cell.debiased * cell.outcomes / 2


def view_size(name: str, m: int) -> int:
    """Outcomes of a view's member."""
    return View.parse(name).n_outcomes(m)


def _environment() -> Any:
    environment = html.environment(Path(__file__).parent / "templates")
    environment.filters |= {"p": _p, "seconds": _seconds}
    environment.globals |= {
        "effect_axis": effect_axis,
        "effect_cell": effect_cell,
        "total_variation": total_variation,
        "view_size": view_size,
        "isnan": math.isnan,
    }
    return environment


def _p(p: float) -> str:
    return "" if math.isnan(p) else p_value(p)


def _seconds(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


__all__ = ["Claim", "Compared", "DotsResult", "compare_with_published", "render"]
