"""The before/after page of a recalibration, and the same on a terminal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefcal.mending import MENDED, RAW, Mending
from prefcal.report.findings import Finding
from prefcal.report.html import environment, page_context
from prefcal.report.summary import input_row, summarize
from prefcal.report.svg import Scale
from prefcal.report.wording import VERDICTS, clean, decimal, decimal_range, p_value, percent
from prefcal.result import Estimate, Result

if TYPE_CHECKING:
    from prefcal.comparing import Difference


@dataclass(frozen=True, slots=True)
class Row:
    """One notion before and after; ``change`` is the paired difference of debiased errors, None where not scalar."""

    notion: str
    before: Result
    after: Result
    change: Difference | None


def rows_of(found: Mending) -> tuple[Row, ...]:
    """The notions in the order in which they were asked for."""
    out = []
    for before, after in zip(found.before.results, found.after.results, strict=True):
        change = None
        if found.comparison is not None and before.notion in found.comparison.n_instances:
            change = found.comparison.select(before.notion, "debiased", MENDED, RAW)
        out.append(Row(before.notion, before, after, change))
    return tuple(out)


def findings_of(found: Mending) -> list[Finding]:
    """What the map does and what it changed, the important first."""
    out = []
    for text in found.warnings:  # those of the audit begin with the model's name
        shown = clean(text) if text in found.before.warnings else f"{clean(text)[:1].upper()}{clean(text)[1:]}"
        out.append(Finding("caution", "Read this before the map is used", shown))
    loss = found.log_loss["difference"]
    for row in rows_of(found):
        out.append(_changed(row))
    low, high = loss.interval or (math.nan, math.nan)
    ends = f"{decimal(found.log_loss['before'].value)} to {decimal(found.log_loss['after'].value)} nats a record"
    if not math.isfinite(loss.value):
        out.append(_infinite(found.log_loss))
    elif high < 0:
        text = f"Log loss falls from {ends} ({_diff(loss)})."
        out.append(Finding("good", "What happened became more probable", text))
    elif low > 0:
        text = f"Log loss rises from {ends} ({_diff(loss)})."
        out.append(Finding("problem", "What happened became less probable", text))
    else:
        text = f"Log loss: {ends} ({_diff(loss)}); the change is within noise."
        out.append(Finding("note", "The log loss does not change detectably", text))
    out.append(Finding("note", "What the map does", clean(found.fitted_map.describe())))
    if not math.isnan(found.same_top):
        share = percent(found.same_top, 1 if found.same_top < 1 else 0)
        title = "No pick changes" if found.same_top == 1 else "Some picks change"
        text = f"In {share} of instances the most probable best candidate is the same as before."
        out.append(Finding("note" if found.same_top == 1 else "caution", title, text))
    rank = {"problem": 0, "caution": 1, "good": 2, "note": 3}
    return sorted(out, key=lambda f: rank[f.severity])


def _infinite(loss: Mapping[str, Estimate]) -> Finding:
    """What to say where something happened that had probability 0."""
    before, after = loss["before"], loss["after"]
    if math.isfinite(after.value):
        text = f"The log loss falls from infinity ({before.note}) to {decimal(after.value)} nats a record."
        return Finding("good", "What happened became more probable", text)
    if math.isfinite(before.value):
        text = f"The log loss rises from {decimal(before.value)} nats a record to infinity ({after.note})."
        return Finding("problem", "What happened became less probable", text)
    text = (
        f"The log loss is infinite before ({before.note}) and after ({after.note}); method 'uniform' would mend it."
    )
    return Finding("caution", "The log loss is infinite", text)


def _diff(e: Estimate) -> str:
    return f"difference {decimal(e.value, 4)} {decimal_range(e.interval, 4)}"


def _changed(row: Row) -> Finding:
    a, b = row.before, row.after
    name = clean(row.notion)
    first, last = (f"{decimal(r.debiased)} {decimal_range(r.interval)}" for r in (a, b))
    ends = f"from {first} to {last}"
    verdicts = f"Verdict: {VERDICTS[a.verdict][1]}, then {VERDICTS[b.verdict][1]}."
    if row.change is None:
        return Finding("note", f"{name}: {a.estimator.upper()} before and after", f"It goes {ends}. {verdicts}")
    c = row.change
    change = f"{decimal(c.difference)} {decimal_range(c.interval)}"
    text = f"The debiased error goes {ends}; difference {change}. {verdicts}"
    if c.interval[1] < 0:
        return Finding("good", f"{name}: the error falls", text)
    if c.interval[0] > 0:
        return Finding("problem", f"{name}: the error rises", text)
    return Finding("note", f"{name}: the error does not change detectably", text)


def render_mending(found: Mending) -> str:
    """The before/after page: self-contained, no script, the same bytes for the same result."""
    rows = rows_of(found)
    model = clean(found.before.models[0]).removesuffix(f" ({RAW})")
    everything = [r for row in rows for r in (row.before, row.after)]
    summary = dataclasses.replace(
        summarize(dataclasses.replace(found.after, results=everything)),
        title=f"Mending {model}",
        subtitle=f"Recalibration by {clean(found.fitted_map.method)}: before and after, out of sample",
        findings=tuple(findings_of(found)),
        inputs=tuple(input_row(i) for i in found.inputs),
    )
    context: dict[str, Any] = page_context(summary) | {
        "rows": rows, "scale": Scale.of(everything), "folds": found.folds, "loss": found.log_loss,
        "methods": ", ".join(dict.fromkeys(clean(c) for c in found.chosen)), "costs": found.costs,
    }  # fmt: skip
    if found.costs is not None:
        from prefcal.report.decisions import decisions_context

        context |= decisions_context(found.costs)
    page: str = environment().get_template("mending.html.j2").render(context)
    return page


def terminal_mending(found: Mending) -> str:
    """The findings and the table as text of 100 columns."""
    import io

    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    file = io.StringIO()
    console = Console(file=file, width=100, color_system=None, highlight=False)
    console.print(f"Recalibration by {found.fitted_map.method}, measured out of sample ({found.folds} folds)")
    console.print()
    sign = {"problem": "✗", "caution": "?", "good": "✓", "note": "·"}
    for f in findings_of(found):
        console.print(f"{sign[f.severity]} {f.title}", markup=False)
        console.print(Padding(f.text, (0, 0, 0, 2)), markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("notion", "before", "95 % interval", "p", "after", "95 % interval", "p"):
        table.add_column(heading, justify="left" if heading == "notion" else "right")
    for row in rows_of(found):
        cells = []
        for r in (row.before, row.after):
            cells += [decimal(r.debiased), f"\\{decimal_range(r.interval)}", p_value(r.p_value)]
        table.add_row(row.notion, *cells)
    console.print()
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
