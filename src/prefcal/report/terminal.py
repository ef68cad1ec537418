"""The report on a terminal: the content of the page in 80 columns, in plain text where colour is not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from prefcal.report.contract import AuditLike
from prefcal.report.findings import group_name
from prefcal.report.lattice import Implies
from prefcal.report.summary import CoverageRow, InputRow, Summary, Table, summarize
from prefcal.report.wording import (
    NBSP,
    VERDICTS,
    count,
    decimal,
    decimal_range,
    metric,
    p_value,
    percent,
    short_count,
)
from prefcal.result import Result, Verdict

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

_STYLES: dict[Verdict, str] = {"calibrated": "blue", "miscalibrated": "red", "undetermined": "yellow"}
_KINDS = {
    "problem": ("✗ Problem", "bold red"),
    "caution": ("? Caution", "bold yellow"),
    "good": ("✓ Good", "bold blue"),
    "note": ("· Note", "bold"),
}
_BARS = "▁▂▃▄▅▆▇█"
# Long audits: the page shows everything, the terminal says how much more there is.
_MOST_FINDINGS, _MOST_GROUPS, _MOST_CURVES, _MOST_TABLES = 8, 10, 6, 6
_MOST_WORST = 5


def render_terminal(
    audit: AuditLike, console: Console, *, full: bool = False, implies: Implies | None = None
) -> None:
    """Print the report of an audit.

    Parameters
    ----------
    audit
        Anything with ``results``, ``inputs``, ``warnings`` and ``version`` (an ``Audit``).
    console
        Where to; its width, encoding and colours are respected (``NO_COLOR``, pipes). A console whose encoding
        is not Unicode gets ASCII signs.
    full
        Print all findings, groups, diagrams and definitions, not only the first ones.
    implies
        As in :func:`prefcal.report.html.render_html`.
    """
    _Printer(console, full).summary(summarize(audit, implies=implies))


class _Printer:
    def __init__(self, console: Console, full: bool) -> None:
        self.console = console
        self.full = full
        self.unicode = (console.encoding or "").lower().startswith("utf")

    def summary(self, s: Summary) -> None:
        self.console.print()
        self.line(s.title, "bold")
        self.line(s.subtitle, "dim")
        self.findings(s)
        self.lattice(s)
        for table in s.tables:
            self.table(table)
        self.reliability(s)
        self.groups(s)
        self.worst(s)
        self.coverage(s.coverage, s.warnings)
        self.inputs(s.inputs)
        self.definitions(s)

    def text(self, text: str, style: str = "") -> Text:
        """Plain text, never markup; signs that the console cannot encode become ASCII."""
        shown = text.replace(NBSP, " ")
        if not self.unicode:
            for sign, ascii_sign in (
                ("✗", "x"),
                ("✓", "+"),
                ("·", "-"),
                ("–", "-"),
                ("−", "-"),
                ("∞", "inf"),
                ("’", "'"),
            ):
                shown = shown.replace(sign, ascii_sign)
            shown = shown.encode("ascii", "backslashreplace").decode("ascii")
        return Text(shown, style=style)

    def line(self, text: str, style: str = "", indent: int = 0) -> None:
        self.console.print(Padding(self.text(text, style), (0, 0, 0, indent), expand=False))

    def head(self, text: str) -> None:
        self.console.print()
        self.console.print(
            Rule(self.text(text, "bold"), align="left", style="dim", characters="─" if self.unicode else "-")
        )

    def findings(self, s: Summary) -> None:
        self.head("Findings")
        for f in self.some(s.findings, _MOST_FINDINGS):
            word, style = _KINDS[f.severity]
            self.line(f"{word}: {f.title}", style)
            self.line(f.text, indent=2)
        self.more(len(s.findings) - _MOST_FINDINGS, "finding")
        if not s.findings:
            self.line("No result: nothing could be audited.")

    def some(self, things: Sequence[T], most: int) -> Sequence[T]:
        return things if self.full else things[:most]

    def more(self, n: int, what: str) -> None:
        if n > 0 and not self.full:
            self.line(f"... and {count(n, f'more {what}')}; the HTML report shows all.", "dim")

    def lattice(self, s: Summary) -> None:
        rows = [p for p in s.pictures if p.refuted]
        if not rows:
            return
        self.head("What follows in the lattice of notions")
        for p in rows:
            through: dict[str, list[str]] = {}
            for node in p.refuted:
                through.setdefault(node.via, []).append(node.name)
            told = "; ".join(f"{', '.join(names)} (through {via})" for via, names in through.items())
            self.line(f"{p.model}: refuted as well: {told}.")

    def table(self, table: Table) -> None:
        self.head(table.title or "The numbers")
        self.rows(table.rows, table.results[0].estimator)

    def rows(self, rows: Sequence[tuple[str, Result]], estimator: str, *, adjusted: bool = False) -> None:
        """Numbers in fixed columns; names have a line of their own where the console is narrow."""
        heads = (
            estimator.upper(),
            "null",
            "debiased",
            "95 % interval",
            "p adj" if adjusted else "p",
            "says",
            "happens",
            "n",
        )
        wide = self.console.width >= 112
        gap = min(max((cell_len(label) for label, _ in rows), default=0), 30) + 2 if wide else 0
        self.line(" " * gap + _columns(("verdict", *heads)), "dim")
        for label, r in rows:
            start = Text(" " * gap)
            if wide and cell_len(label) <= gap - 2:
                start = self.text(label + " " * (gap - cell_len(label)), "bold")
            else:
                self.line(label, "bold")
            numbers = (
                decimal(r.value),
                decimal(r.null_mean),
                decimal(r.debiased),
                decimal_range(r.interval),
                p_value(r.p_adjusted).replace(NBSP, ""),
                decimal(metric(r, "mean_forecast")),
                decimal(metric(r, "accuracy")),
                short_count(r.n_instances),
            )
            sign, word = VERDICTS[r.verdict]
            verdict = self.text(f"{sign} {word:<14}", _STYLES[r.verdict])
            self.console.print(
                Text.assemble(start, verdict, self.text(_columns(("", *numbers))[16:])), soft_wrap=True
            )

    def reliability(self, s: Summary) -> None:
        curves = [r for table in s.tables for r in table.results if r.curve]
        if not curves:
            return
        self.head("Reliability: what it says, what happens")
        for r in self.some(curves, _MOST_CURVES):
            self.line(f"{r.model}, {r.notion}", "bold")
            bins = [c for c in r.curve if c.n]
            most = max((c.n for c in bins), default=1)
            for c in bins:
                inside = c.null_band[0] <= c.mean_outcome <= c.null_band[1]
                sign = "within chance" if inside else "too high" if c.mean_forecast > c.mean_outcome else "too low"
                bar = _BARS[min(int(8 * c.n / most), 7)] if self.unicode else "#"
                self.line(
                    f"says {_percent(c.mean_forecast):>4} {self.strip(c.mean_forecast, c.mean_outcome)} "
                    f"{_percent(c.mean_outcome):>4} happens {bar} {count(c.n):>9}  {sign}",
                    "" if inside else "red",
                    indent=2,
                )
        self.more(len(curves) - _MOST_CURVES, "diagram")

    def strip(self, said: float, happened: float, width: int = 24) -> str:
        """A line from 0 to 1 with ``|`` where the model says and ``o`` where it happens."""
        cells = ["·" if self.unicode else "."] * width
        cells[min(int(said * width), width - 1)] = "|"
        cells[min(int(happened * width), width - 1)] = "●" if self.unicode else "o"
        return "".join(cells)

    def groups(self, s: Summary) -> None:
        for table in self.some(s.groups, _MOST_TABLES):
            self.head(f"{table.model}, {table.notion}, by {table.field}")
            shown = [(group_name(r), r) for r in self.some(table.results, _MOST_GROUPS)]
            self.rows(shown, table.results[0].estimator, adjusted=True)
            self.more(len(table.results) - _MOST_GROUPS, "group")
        self.more(len(s.groups) - _MOST_TABLES, "group table")

    def worst(self, s: Summary) -> None:
        for table in self.some(s.worst, _MOST_TABLES):
            self.head(table.title)
            for sentence in table.text:
                self.line(sentence)
            self.line("shrunken     95 % interval  measured  p adj  worst      n", "dim")
            for name, g in self.some(table.rows, _MOST_WORST):
                self.line(name, "bold")
                self.line(
                    f"{decimal(g.shrunken):>8}  {decimal_range(g.shrunken_interval):>16}  {decimal(g.error):>8}  "
                    f"{p_value(g.p_adjusted).replace(NBSP, ''):>5}  {_percent(max(g.probability_worst, 0.0001)):>5}  "
                    f"{short_count(g.n_instances):>5}"
                )
            self.more(len(table.rows) - _MOST_WORST, "group")
        self.more(len(s.worst) - _MOST_TABLES, "search")

    def coverage(self, rows: tuple[CoverageRow, ...], warnings: tuple[str, ...]) -> None:
        self.head("Coverage and warnings")
        for w in warnings:
            self.line(f"Warning: {w}", "yellow")
        for c in rows:
            out = "; ".join(f"{reason}: {count(n)}" for reason, n in c.left_out)
            self.line(
                f"{c.model}, {c.notion}: {count(c.used)} of {count(c.total, 'instance')} used"
                + (f"; {out}" if out else "")
            )
        if not rows and not warnings:
            self.line("No warnings.")

    def inputs(self, rows: tuple[InputRow, ...]) -> None:
        if not rows:
            return
        self.head("Inputs")
        for i in rows:
            self.line(f"{i.model}: {i.path}")
            self.line(
                f"{i.format}, outcome {i.outcome}, {i.items} items; {count(i.n_instances, 'instance')} of "
                f"{i.n_items} items; {count(i.n_skipped, 'record')} skipped",
                indent=2,
            )
            self.line(f"sha256 {i.sha256}", "dim", indent=2)
            for setting, value in i.settings:
                self.line(f"{setting}: {value}", indent=2)
            for text in (*i.notes, *i.skipped):
                self.line(text, indent=2)

    def definitions(self, s: Summary) -> None:
        self.head("How each number is defined")
        if self.full:
            for term, meaning in s.definitions:
                self.line(f"{term}: {meaning}", "dim")
        else:
            self.line(_SHORT_GUIDE, "dim")
        if s.settings:
            self.line("Settings: " + "; ".join(f"{key} {value}" for key, value in s.settings), "dim")
        self.line(f"prefcal {s.version}", "dim")


_WIDTHS = (-15, 6, 6, 9, 16, 7, 6, 8, 6)
_SHORT_GUIDE = (
    "ECE: mean distance between what it says and what happens. null: what a calibrated model of this size would show "
    "by chance. debiased: ECE without that bias, with its 95 % interval by instance. calibrated: the whole interval "
    "lies below the tolerance; cannot tell: the data are too few. The HTML report defines every number."
)


def _columns(cells: Sequence[str]) -> str:
    """Cells in columns; negative widths align left."""
    return "".join(f"{c:<{-w}} " if w < 0 else f"{c:>{w}}" for c, w in zip(cells, _WIDTHS, strict=True))


def _percent(x: float) -> str:
    return percent(x).replace(NBSP, "")
