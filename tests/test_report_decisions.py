"""The section on decisions: well built, escaped, deterministic, and in a real browser without a fault."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
import prefcal.report.html as page_module
from fabricated_audits import HOSTILE
from prefcal.decisions import Decisions, decisions
from prefcal.report.axes import Series, chart, round_ticks
from prefcal.report.decisions import decisions_context, decisions_section, sentences
from rankings import plackett_luce_ranks
from test_report_html import Structure, browser  # noqa: F401

STYLE = (Path(page_module.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def found(n: int = 200, factor: float = 4.0, *, mended: bool = True) -> Decisions:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(n, 4))
    y = pc.Outcomes.from_best(plackett_luce_ranks(truth, rng).argmin(axis=1), n_items=4)
    h = pc.PlackettLuce(truth * factor)
    return decisions(h, y, mended=pc.PlackettLuce(truth) if mended else None, draws=50)


def pairs_only() -> Decisions:
    y = pc.Outcomes.from_ranks([[1, 2], [2, 1], [1, 2]])
    return decisions(pc.Pairwise(np.tile([[0.5, 0.7], [0.3, 0.5]], (3, 1, 1))), y, draws=50)


def unsure() -> Decisions:
    return decisions(pc.PlackettLuce(np.zeros((6, 3))), pc.Outcomes.from_best([0, 1, 2] * 2, n_items=3), draws=50)


CASES = {
    "one": lambda: found(mended=False),
    "mended": found,
    "several": lambda: {"a": found(), HOSTILE: found(60, 0.3), "pairs": pairs_only(), "unsure": unsure()},
}


def page(section: str) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<title>t</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    body = f'<div class="wrap"><main><h1>Test</h1>{section}</main></div>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{body}</body></html>'


@pytest.mark.parametrize("name", sorted(CASES))
def test_structure(name):
    text = page(str(decisions_section(CASES[name]())))
    s = Structure(text)
    assert all(b - a <= 1 for a, b in zip(s.headings, s.headings[1:], strict=False))
    assert len(s.ids) == len(set(s.ids))
    assert all(v.get("aria-hidden") == "true" or (v.get("role") == "img" and v.get("aria-label")) for v in s.svgs)
    assert all(v.get("scope") in ("col", "row") for v in s.heads)
    assert not s.tags & {"script", "iframe", "img", "i"}
    assert not re.search(r"https?://|url\(|@import|src=", text)
    words = " ".join(s.text)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined|Estimate\(", words)


def test_same_input_same_bytes():
    assert decisions_section(CASES["several"]()) == decisions_section(CASES["several"]())


def test_names_are_escaped():
    section = str(decisions_section({HOSTILE: found(50)}))
    assert "<script" not in section
    assert HOSTILE in "".join(Structure(page(section)).text)


def test_sentences_say_both_versions():
    said = [s.replace("\xa0", " ") for s in sentences(found(2000))]
    best, promise, asking, pairs, kl = said
    assert re.match(r"Best of 4: says 8\d %, is right in \d\d % \[\d\d %, \d\d %\]; after: says \d\d %", best)
    assert re.match(r"At a promised 10 % error rate you would get \d\d % \[", promise)
    assert asking.startswith("If asking costs 0.1 of an error, the model asks in")
    assert pairs.startswith("Pairs kept above 90 % have a label noise of")
    assert "over-confident" in kl


def test_what_cannot_be_shown_is_said():
    text = " ".join(Structure(page(str(decisions_section(CASES["several"]())))).text).replace("\xa0", " ")
    assert "best of n: pairwise probabilities" in text
    assert "no decision, since the model is never that sure" in text
    assert "would always ask" in text


def test_every_number_of_the_table_is_of_the_result():
    d = found()
    row = next(r for r in decisions_context(d)["decision_models"][0].rows if r.name == "best of 4")
    s = d.before.best_of_n.at(4)
    assert row.before.says.replace("\xa0", " ") == f"{100 * s.claimed.value:.1f} %"
    assert row.before.optimism.startswith(f"+{100 * s.optimism.value:.1f} [")
    change = d.change("best of 4: optimism").difference
    assert row.change.startswith(f"−{-100 * change.value:.1f} [")


def test_chart_keeps_points_inside_and_escapes():
    svg = str(
        chart(
            [Series("<b>", "good", [(0.0, 2.0, (0.5, 3.0)), (1.0, -1.0, None)])],
            xs=(0.0, 1.0), ys=(0.0, 1.0), x_title="<x>", y_title="y", label="<l>",
        )
    )  # fmt: skip
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg
    ys = [float(v) for v in re.findall(r'cy="([\d.]+)"', svg)]
    assert ys == [10.0, 190.0]


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.2), (-1.3, 7.0), (2.0, 2.0), (0.0, 1e-7)])
def test_round_ticks_hold_both_ends(low, high):
    ticks = round_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_chromium(browser, scheme):  # noqa: F811
    tab = browser.new_page(color_scheme=scheme)
    messages: list[str] = []
    tab.on("console", lambda m: messages.append(m.text))
    tab.on("pageerror", lambda e: messages.append(str(e)))
    for width in (360, 800, 1600):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.set_content(page(str(decisions_section(CASES["several"]()))))
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 8)")
    assert messages == []
    tab.close()
