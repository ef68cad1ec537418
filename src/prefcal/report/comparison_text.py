"""A comparison on the terminal: the same findings as the page, and its tables."""

from __future__ import annotations

import io

from prefcal.comparing import Comparison
from prefcal.report.comparison import OPEN_MODELS, Block, rank_text, signed, summarize_comparison
from prefcal.report.wording import count, decimal, decimal_range, p_value

_WIDTH = 100
_MARKS = {"good": "✓", "caution": "?", "note": "·"}


def render_text(found: Comparison) -> str:
    """Findings first, then for each notion and estimator the standings and differences; plain text."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    file = io.StringIO()
    console = Console(file=file, width=_WIDTH, color_system=None, highlight=False)
    s = summarize_comparison(found)
    console.print(Text(s.title))
    console.print(Text(s.subtitle))
    for f in s.findings:
        console.print()
        console.print(Text(f"{_MARKS[f.severity]} {f.title}"))
        console.print(Padding(Text(f.text), (0, 0, 0, 2)))
    for section in s.sections:
        console.print()
        console.print(Text(f"{section.notion}: {section.n} with an event for every model"))
        if section.note:
            console.print(Padding(Text(section.note), (0, 0, 0, 2)))
        for block in section.blocks:
            _print_block(console, block, len(s.models))
    for warning in s.warnings:
        console.print(Text(f"Warning: {warning}"))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _print_block(console: object, block: Block, n_models: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert isinstance(console, Console)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(block.heading, min_width=24, overflow="fold")
    for heading in ("value", "95 % interval", "rank"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in block.standings:
        table.add_row(Text(r.model), decimal(r.value), Text(decimal_range(r.interval)), rank_text(r))
    console.print()
    console.print(table)
    if n_models > OPEN_MODELS:
        console.print(f"  {block.n_shown} of {count(len(block.differences), 'pair')} shown to differ (Holm, 5 %)")
        return
    gaps = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    gaps.add_column("difference", min_width=24, overflow="fold")
    for heading in ("value", "95 % interval", "p"):
        gaps.add_column(heading, justify="right", no_wrap=True)
    gaps.add_column("shown better", overflow="fold")
    for d in block.differences:
        told, p = d.better or "neither", p_value(d.p_adjusted).replace("\u00a0", " ")
        numbers = (signed(d.difference), Text(decimal_range(d.interval)), p)
        gaps.add_row(Text(f"{d.first} − {d.second}"), *numbers, Text(told))
    console.print(gaps)
