"""The page of a comparison: what it says, that it says it safely, and how it stands in a real browser."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil

import numpy as np
import pytest

import prefcal as pc
from prefcal.comparing import Comparison, Difference, Standing
from prefcal.report.comparison import render_comparison, summarize_comparison
from prefcal.report.comparison_text import render_text

HOSTILE = '<img src=x onerror="alert(1)"> \x1b[31m'


def simulated(n_models: int, names: str = "model {}") -> Comparison:
    rng = np.random.default_rng(n_models)
    scores = rng.normal(size=(200, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    factors = np.linspace(1.0, 4.0, n_models)
    models = {names.format(i): pc.PlackettLuce(c * scores) for i, c in enumerate(factors)}
    return pc.compare(models, y, items="exchangeable")


def pair(calibration: float, accuracy: float, p: tuple[float, float]) -> Comparison:
    """A against B with given differences and adjusted p-values."""
    standings, differences = [], []
    for estimator, d, q in (("debiased", calibration, p[0]), ("accuracy", accuracy, p[1])):
        differences.append(Difference("sub-2", estimator, "A", "B", d, (d - 0.01, d + 0.01), q, q))
        for model, value in (("A", 0.5 + d), ("B", 0.5)):
            standings.append(Standing("sub-2", estimator, model, value, (value - 0.1, value + 0.1), (1, 2)))
    return Comparison(standings, differences, {"sub-2": 100})


def test_two_models_in_one_sentence():
    (finding,) = summarize_comparison(pair(-0.031, 0.004, (0.001, 0.4))).findings
    assert finding.title == (
        "In sub-2, A is better calibrated than B by 0.031 [0.021, 0.041]; they do not differ detectably in accuracy."
    )
    assert finding.severity == "good"
    (finding,) = summarize_comparison(pair(0.005, -0.04, (0.3, 0.001))).findings
    assert finding.title == (
        "In sub-2, A and B do not differ detectably in calibration error; B is more accurate than A by "
        "0.040 [0.030, 0.050]."
    )
    assert finding.severity == "caution"


def test_many_models_name_who_may_be_best():
    summary = summarize_comparison(simulated(5))
    titles = " ".join(f.title for f in summary.findings)
    assert "may be the best calibrated" in titles or "is the best calibrated" in titles
    assert "any of the 5 models may be the most accurate" in titles  # scaling leaves the order of candidates as it is


def test_more_accurate_but_worse_calibrated_is_said():
    rng = np.random.default_rng(0)
    scores, noise = rng.normal(size=(2, 1500, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    weak = 0.35 * (scores + 1.5 * noise)
    models = {"sure": pc.PlackettLuce(3 * scores), "modest": pc.PlackettLuce(weak), "so-so": pc.PlackettLuce(scores)}
    found = summarize_comparison(pc.compare(models, y, notions="sub-2", items="exchangeable"))
    (conflict,) = [f for f in found.findings if "more accurate is not better calibrated" in f.title]
    assert "sure against modest" in conflict.title


def test_matrix_is_antisymmetric_and_marks_what_is_shown():
    found = simulated(5)
    for section in summarize_comparison(found).sections:
        for block in section.blocks:
            for i, row in enumerate(block.matrix):
                for j, cell in enumerate(row):
                    back = block.matrix[j][i]
                    if i == j:
                        assert cell is None
                        continue
                    assert cell is not None
                    assert back is not None
                    assert (cell.sign, back.sign) in {("", ""), ("better", "worse"), ("worse", "better")}
            shown = sum(c.sign == "better" for row in block.matrix for c in row if c is not None)
            assert shown == block.n_shown


@pytest.mark.parametrize("n_models", [2, 3, 12])
def test_page_is_one_safe_file(n_models):
    found = simulated(n_models, names=HOSTILE + " {}")
    page = render_comparison(found)
    assert page == render_comparison(found)
    assert "<img" not in page
    assert "\x1b" not in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert page.count("<table") >= 2 * 4 * 2
    for term in ("p, adjusted", "Calibration error", "Log loss"):
        assert term in page
    text = render_text(found)
    assert "\x1b" not in text


def test_infinite_log_loss_is_shown_not_drawn():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 2))
    y = pc.Outcomes.from_best(rng.integers(0, 2, 50), n_items=2)
    found = pc.compare(
        {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(1e308 * np.sign(scores))}, y, notions="sub-2"
    )
    assert math.isinf(next(s.value for s in found.standings if (s.estimator, s.model) == ("log_loss", "b")))
    for text in (render_comparison(found), render_text(found)):
        assert "∞" in text
        assert "nan" not in text.replace("n and", "")


def test_warnings_and_clusters_are_said():
    found = dataclasses.replace(simulated(2), warnings=["mind the gap"], settings={"clusters": True})
    page, text = render_comparison(found), render_text(found)
    assert "mind the gap" in page
    assert "Warning: mind the gap" in text
    assert "200 clusters" in page


def test_report_writes_the_page(tmp_path):
    found = simulated(2)
    found.report(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == render_comparison(found)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must look at the report in a real browser")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    flags = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=list(flags))
        yield b
        b.close()


@pytest.mark.parametrize("n_models", [2, 12])
def test_in_chromium(browser, tmp_path, n_models):
    file = tmp_path / "page.html"
    simulated(n_models, names="a-rather_long/name-of-a-reward-model-{}").report(file)
    for scheme in ("light", "dark"):
        tab = browser.new_page(color_scheme=scheme)
        messages: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda m, to=messages: to.append(m.text))
        tab.on("request", lambda r, to=requests: to.append(r.url))
        for width in (360, 800, 1600):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.goto(file.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            tall = (
                "Math.max(...[...document.querySelectorAll('tbody tr')].map(r => r.getBoundingClientRect().height))"
            )
            assert tab.evaluate(tall) < 220
        assert messages == []
        assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
        tab.close()
