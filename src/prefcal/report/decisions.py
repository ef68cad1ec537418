"""The section "what it costs" of a page: decisions of one or several models, as they are and mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from prefcal.decisions.abstention import Accepted
from prefcal.decisions.together import Costs, Decisions
from prefcal.report.axes import Series, chart, key, round_ticks
from prefcal.report.wording import MISSING, clean, decimal, percent
from prefcal.result import Estimate

#: The promise, price and threshold of the sentences.
HEADLINE = {"promise": 0.10, "cost": 0.10, "threshold": 0.90}


@dataclass(frozen=True, slots=True)
class Cell:
    """What a model says, what happens, how much too optimistic that is, and the share of decisions it is about."""

    says: str
    happens: str
    optimism: str
    share: str


@dataclass(frozen=True, slots=True)
class Row:
    """One use, before and after, and the paired change of the optimism."""

    name: str
    before: Cell
    after: Cell | None
    change: str


@dataclass(frozen=True, slots=True)
class ModelSection:
    """What the template shows of one model."""

    name: str
    sentences: tuple[str, ...]
    rows: tuple[Row, ...]
    pictures: tuple[tuple[str, Markup], ...]
    notes: tuple[str, ...]
    mended: bool


def decisions_section(found: Decisions | Mapping[str, Decisions], *, level: int = 2) -> Markup:
    """The section as HTML, for any page that has the shared style sheet.

    Parameters
    ----------
    found
        Decisions of one model, or by name of several.
    level
        Level of its heading; models are one level below.

    Returns
    -------
    A ``<section>``; it loads nothing, has no script, and every text is escaped. The same input gives the same bytes.
    """
    from prefcal.report.html import environment

    context = decisions_context(found, level=level)
    text: str = environment().get_template("decisions.html.j2").render(context)
    return Markup(text)


def decisions_context(found: Decisions | Mapping[str, Decisions], *, level: int = 2) -> dict[str, Any]:
    """What ``decisions.html.j2`` needs, for pages that include it."""
    by_name = {"": found} if isinstance(found, Decisions) else dict(found)
    models = [model_section(name, d) for name, d in by_name.items()]
    return {"decision_models": models, "decision_level": level, "decision_key": key}


def model_section(name: str, d: Decisions) -> ModelSection:
    """Sentences, table and pictures of one model."""
    pictures = []
    if d.before.best_of_n is not None and d.before.best_of_n.sizes:
        pictures.append(("Best of n", _best_of_n(name, d)))
    if d.before.abstention is not None:
        if any(p.accepted is not None for _, _, c in _versions(d) if c.abstention for p in c.abstention.promises):
            pictures.append(("Promised error rates", _promises(name, d)))
        pictures.append(("Error by coverage", _coverage(name, d)))
    notes = [f"{clean(use).replace('_', ' ')}: {clean(why)}." for use, why in d.not_applicable.items()]
    b = d.before.best_of_n
    if b is not None and b.subsets == "with the best":
        notes.append(
            "Best of n: only the best candidate is known, so the subsets are those that hold it, and the claims are "
            "given that."
        )
    if b is not None:
        notes += [f"Best of {n} left out: {clean(why)}." for n, why in b.left_out.items()]
    return ModelSection(
        clean(name), tuple(sentences(d)), tuple(_rows(d)), tuple(pictures), tuple(notes), d.after is not None
    )


def sentences(d: Decisions) -> list[str]:
    """The main numbers in words, before and after.

    Returns
    -------
    One sentence a use that applies; after a semicolon, the same of the mended model.
    """
    out = []
    for use in (_say_best_of_n, _say_promise, _say_routing, _say_filtering):
        before = use(d.before)
        if before is None:
            continue
        head, tail = before
        after = None if d.after is None else use(d.after)
        out.append(f"{head} {tail}" + (f"; after: {after[1]}." if after is not None else "."))
    if d.before.kl_weight is not None:
        out.append(d.before.kl_weight.advice)
    return out


def _say_best_of_n(c: Costs) -> tuple[str, str] | None:
    if c.best_of_n is None or not c.best_of_n.sizes:
        return None
    s = c.best_of_n.sizes[-1]
    return f"Best of {s.n}:", f"says {percent(s.claimed.value)}, is right in {_percent_interval(s.realised)}"


def _say_promise(c: Costs) -> tuple[str, str] | None:
    accepted = _promised(c, HEADLINE["promise"])
    if c.abstention is None:
        return None
    head = f"At a promised {percent(HEADLINE['promise'])} error rate you would get"
    if accepted is None:
        return head, "no decision, since the model is never that sure"
    tail = f"{_percent_interval(accepted.realised)} errors on {percent(accepted.coverage.value)} of the decisions"
    return head, tail


def _promised(c: Costs, promise: float) -> Accepted | None:
    if c.abstention is None:
        return None
    return next((p.accepted for p in c.abstention.promises if abs(p.promise - promise) < 1e-9), None)


def _say_routing(c: Costs) -> tuple[str, str] | None:
    r = None if c.routing is None else next((r for r in c.routing.costs if r.cost == HEADLINE["cost"]), None)
    if r is None:
        return None
    head = f"If asking costs {r.cost:g} of an error,"
    if r.asked.value == 1:
        return head, "the model would always ask"
    share = f"asks in {percent(r.asked.value)} of cases"
    cost = f"total cost a decision {_decimal_interval(r.realised)} where it says {decimal(r.claimed)}"
    return head, f"the model {share}: {cost}"


def _say_filtering(c: Costs) -> tuple[str, str] | None:
    if c.filtering is None:
        return None
    k = next((k for k in c.filtering.by_threshold if k.asked == HEADLINE["threshold"]), None)
    if k is None:
        return None
    head = f"Pairs kept above {percent(k.asked)} have"
    if k.pairs is None:
        return head, "no members"
    noise = f"a label noise of {_percent_interval(k.pairs.realised)} where the model says {percent(k.pairs.claimed)}"
    return head, f"{noise} ({percent(k.pairs.coverage.value)} of pairs)"


def _percent_interval(e: Estimate, digits: int = 0) -> str:
    if e.interval is None:
        return percent(e.value, digits)
    return f"{percent(e.value, digits)} [{percent(e.interval[0], digits)}, {percent(e.interval[1], digits)}]"


def _decimal_interval(e: Estimate) -> str:
    if e.interval is None:
        return decimal(e.value)
    return f"{decimal(e.value)} [{decimal(e.interval[0])}, {decimal(e.interval[1])}]"


# ------------------------------------------------------------------------------------------------------------- table


def _rows(d: Decisions) -> list[Row]:
    """Every claim and what came of it, by use."""
    before = _cells(d.before)
    after = {} if d.after is None else _cells(d.after)
    changes = {c.name: c.difference for c in d.changes}
    out = []
    for name in [*before, *(n for n in after if n not in before)]:
        empty = Cell(MISSING, MISSING, MISSING, MISSING)
        change = changes.get(f"{name}: optimism")
        out.append(
            Row(
                name,
                before.get(name, empty),
                None if d.after is None else after.get(name, empty),
                MISSING if change is None else _points_interval(change),
            )
        )
    return out


def _cells(c: Costs) -> dict[str, Cell]:
    out = {}
    for s in () if c.best_of_n is None else c.best_of_n.sizes:
        says, is_right = percent(s.claimed.value, 1), _percent_interval(s.realised, 1)
        out[f"best of {s.n}"] = Cell(says, is_right, _points_interval(s.optimism), MISSING)
    for p in () if c.abstention is None else c.abstention.promises:
        out[f"promised {100 * p.promise:g} %"] = _accepted(p.accepted)
    for r in () if c.routing is None else c.routing.costs:
        cell = Cell(decimal(r.claimed), _decimal_interval(r.realised), _decimal_interval(r.optimism), "")
        out[f"asking costs {r.cost:g}"] = Cell(cell.says, cell.happens, cell.optimism, percent(1 - r.asked.value))
    for k in () if c.filtering is None else c.filtering.by_threshold:
        out[f"pairs above {k.asked:g}"] = _accepted(k.pairs)
    return out


def _accepted(a: Accepted | None) -> Cell:
    if a is None:
        return Cell(MISSING, "none that sure", MISSING, percent(0.0))
    return Cell(
        percent(a.claimed, 1), _percent_interval(a.realised, 1), _points_interval(a.optimism),
        percent(a.coverage.value),
    )  # fmt: skip


def _points_interval(e: Estimate) -> str:
    """Percentage points with sign and interval."""
    value = _signed(e.value)
    return value if e.interval is None else f"{value} [{_signed(e.interval[0])}, {_signed(e.interval[1])}]"


def _signed(x: float) -> str:
    text = decimal(100 * x, 1)
    return f"+{text}" if text[0] not in f"−{MISSING}" and float(text) > 0 else text


# ---------------------------------------------------------------------------------------------------------- pictures


def _versions(d: Decisions) -> list[tuple[str, str, Costs]]:
    """(word, tone, costs) of each version."""
    out = [("as it is", "bad", d.before)]
    return out if d.after is None else [*out, ("mended", "good", d.after)]


def _best_of_n(name: str, d: Decisions) -> Markup:
    series, said = [], []
    for word, tone, c in _versions(d):
        if c.best_of_n is None:
            continue
        sizes = c.best_of_n.sizes
        series.append(Series(f"{word}, says", tone, [(s.n, s.claimed.value, None) for s in sizes], dashed=True))
        real = [(float(s.n), s.realised.value, s.realised.interval) for s in sizes]
        if not any(r.tone == "text" and [p[1] for p in r.points] == [p[1] for p in real] for r in series):
            series.append(Series("is right", "text", real))
        last = sizes[-1]
        said.append(f"{word}: best of {last.n} says {percent(last.claimed.value)}, is {percent(last.realised.value)}")
    largest = max(x for s in series for x, _, _ in s.points)
    xs = round_ticks(2.0, max(largest, 3.0), 6)
    return chart(
        series, xs=xs, ys=(0.0, 0.25, 0.5, 0.75, 1.0), x_title="candidates n", y_title="pick is the best, %",
        tick=_whole, x_tick=lambda v: f"{v:g}", label=_label(name, "Best of n", said),
    )  # fmt: skip


def _promises(name: str, d: Decisions) -> Markup:
    series, said = [], []
    top, right = 0.01, 0.01
    for word, tone, c in _versions(d):
        if c.abstention is None:
            continue
        right = max(right, *(p.promise for p in c.abstention.promises))
        kept = [(p.promise, p.accepted.realised) for p in c.abstention.promises if p.accepted is not None]
        series.append(Series(word, tone, [(x, e.value, e.interval) for x, e in kept]))
        top = max([top, *(e.value for _, e in kept)])
        said += [f"{word}: promised {percent(x)}, realised {percent(e.value)}" for x, e in kept[-2:]]
    return chart(
        series, xs=round_ticks(0.0, right), ys=round_ticks(0.0, max(top, right)), x_title="promised error rate, %",
        y_title="realised error rate, %", tick=_whole, diagonal=True,
        label=_label(name, "Promised error rates", said),
    )  # fmt: skip


def _coverage(name: str, d: Decisions) -> Markup:
    series, said = [], []
    top = 0.01
    for word, tone, c in _versions(d):
        if c.abstention is None:
            continue
        curve = c.abstention.curve
        says = [(a.coverage.value, a.claimed, None) for a in curve]
        real = [(a.coverage.value, a.realised.value, None) for a in curve]
        series.append(Series(f"{word}, says", tone, says, dashed=True, marks=False))
        series.append(Series(f"{word}, happens", tone, real, marks=False))
        top = max([top, *(y for _, y, _ in says + real)])
        said.append(f"{word}: area under the curve {decimal(c.abstention.aurc.value)}")
    return chart(
        series, xs=(0.0, 0.25, 0.5, 0.75, 1.0), ys=round_ticks(0.0, top), x_title="share decided, %",
        y_title="error rate, %", tick=_whole, label=_label(name, "Error by coverage", said),
    )  # fmt: skip


def _whole(v: float) -> str:
    return f"{100 * v:.3g}"


def _label(name: str, what: str, said: list[str]) -> str:
    head = f"{what}{f' of {clean(name)}' if name else ''}."
    return f"{head} {'; '.join(said)}." if said else head
