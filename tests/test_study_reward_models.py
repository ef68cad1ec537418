"""The reward-model study as a whole: its page, its claims, and real data."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil

import numpy as np
import pytest

import prefcal as pc
from prefcal.data.source import InputInfo
from prefcal.errors import DataError, UsageError
from prefcal.studies import reward_models
from prefcal.studies.reward_models import Settings, running, sources
from prefcal.studies.reward_models.claims import conclude
from prefcal.studies.reward_models.figures import nice
from prefcal.studies.reward_models.measures import (
    observable,
)
from prefcal.studies.reward_models.parts import SUB, measure, splits_of, table_part
from prefcal.studies.reward_models.sources import Scored, load_table
from reward_model_study import family, made_up_table, utilities

SMALL = Settings(draws=99, splits=2, resamples=4, table_resamples=50, repeats=2)


HOSTILE = 'x"><script>alert(1)</script>\x1b[31m'


def small_study(bad: str = "c"):
    category = np.array(["one", "two"] * 60, dtype=object)
    return reward_models.study(
        best_of_ten=family("ten", 100, 10, bad=bad),
        pairs=family("two", 100, 2, seed=5, bad=bad),
        best_of_four=family("four", 120, 4, category=category, seed=9, bad=bad),
        table=made_up_table(),
        settings=SMALL,
    )


@pytest.fixture(scope="module")
def made_up():
    return small_study()


def test_settings_are_checked():
    for name, bad in (("seed", -1), ("draws", 3), ("splits", 0), ("resamples", 1.5)):
        with pytest.raises(UsageError, match=name):
            Settings(**{name: bad})


def test_study_orders_models_by_both_statistics(made_up):
    titles = {c.title: c for c in made_up.claims}
    assert len(titles) == 7
    assert all(c.published and c.proper and c.evidence for c in made_up.claims)
    rows = {r.model: r for r in made_up.best_of_four if r.category is None}
    assert rows["org/b"].published.value < rows["org/a"].published.value
    assert rows["org/b"].top.value > rows["org/a"].top.value


def with_ties(model: str, factor: float) -> Scored:
    """40 prompts with one right answer of four, 10 Ties prompts with two right answers of six, 5 with one."""
    four, six = factor * utilities(40, 4, 3), factor * utilities(15, 6, 4)
    y = pc.Outcomes.from_best([[0]] * 40 + [[0, 1]] * 10 + [[0]] * 5, n_items=[4] * 40 + [6] * 15)
    h = pc.PlackettLuce([*four.tolist(), *six.tolist()])
    category = np.array(["Math"] * 40 + ["Ties"] * 15, dtype=object)
    info = InputInfo("made-up", "0" * 64, "wide", 55, (4, 6), 0, "best", "exchangeable", model)
    return Scored("four", model, h, y, category, np.arange(55), info)


def test_ties_prompts_are_kept_apart():
    s = reward_models.study(
        best_of_ten=family("ten", 60, 5),
        pairs=family("two", 60, 2),
        best_of_four=[with_ties("a", 1.0), with_ties("b", 3.0), with_ties("c", 0.1)],
        table=made_up_table(),
        settings=SMALL,
    )
    assert {r.n_instances for r in s.best_of_four if r.category is None} == {40}
    assert [(r.category, r.n_instances, r.top.n_instances) for r in s.ties] == [("Ties", 15, 5)] * 3
    assert all(r.results[SUB].n_events == 10 * 8 + 5 * 5 for r in s.ties)
    known = {o.view: o for o in s.known["four, Ties, often several right"]}
    assert (known["top-1"].instances, known["topset-2"].instances) == (5, 10)
    assert "15 prompts several answers may be right" in s.claims[0].evidence[-1]
    assert "Ties, 15" in s.html()
    keys = [(r["model"], r["notion"], str(r["group"]), r["estimator"]) for r in s.document()["results"]]
    assert len(keys) == len(set(keys))


def test_claims_follow_the_numbers(made_up):
    order = lambda s: next(c for c in conclude(s) if c.title.startswith("A lower"))  # noqa: E731
    rows = [r for r in made_up.best_of_four if r.category is None]

    def with_published(values):
        new = [
            dataclasses.replace(r, published=dataclasses.replace(r.published, value=v))
            for r, v in zip(rows, values, strict=True)
        ]
        return dataclasses.replace(made_up, best_of_four=tuple(new))

    proper = np.array([r.top.value for r in rows])
    assert order(with_published(proper)).holds == "holds"
    assert order(with_published(1 - proper)).holds == "fails"
    assert "the other way round" in order(with_published(1 - proper)).proper
    heal = lambda p: dataclasses.replace(  # noqa: E731
        made_up, splits=tuple(dataclasses.replace(x, mended_p=(q, q)) for x, q in zip(made_up.splits, p, strict=True))
    )
    ends = [next(c for c in conclude(heal(p)) if "temperature" in c.title).holds for p in
            ((0.5, 0.5, 0.5), (0.5, 0.01, 0.01), (0.01, 0.01, 0.01))]  # fmt: skip
    assert ends == ["holds", "part", "fails"]


def test_same_input_same_bytes(made_up):
    again = small_study()
    assert again.html() == made_up.html()
    assert again.text() == made_up.text()


def test_page_is_self_contained_and_well_formed(made_up):
    page = made_up.html()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|url\(|@import|src=|<script", page)
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined|Estimate\(|Correlation\(", text)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert all('aria-label="' in svg or 'aria-hidden="true"' in svg for svg in re.findall(r"<svg[^>]*>", page))


def test_hostile_names_are_text():
    s = small_study(bad=HOSTILE)
    page = s.html()
    assert "<script" not in page
    assert "\x1b" not in page + s.text()
    assert "&lt;script&gt;" in page


def test_json_has_the_results_of_the_contract_and_the_parts(made_up, tmp_path):
    document = json.loads(made_up.to_json(tmp_path / "s.json"))
    assert document == json.loads((tmp_path / "s.json").read_text())
    assert document["study"] == "reward-models"
    assert document["schema"] == 1
    assert {"model", "notion", "estimator", "value", "null_mean", "verdict"} <= set(document["results"][0])
    assert document["best_of_four"][0]["published"]["value"] == made_up.best_of_four[0].published.value
    assert len(document["splits"]) == len(document["scaling"]) == 3


def test_terminal_summary_is_narrow_and_complete(made_up):
    text = made_up.text()
    assert max(map(len, text.splitlines())) <= 110
    for part in ("org" not in text, "top-1:confidence" in text, "Kendall tau" in text, "error rate" in text):
        assert part


def test_without_the_table_the_study_goes_on_and_says_so(monkeypatch):
    def absent():
        raise DataError("is in no mirror", file="rb2_models.csv")

    monkeypatch.setattr(running, "load_table", absent)
    s = reward_models.study(
        best_of_ten=family("ten", 60, 5),
        pairs=family("two", 60, 2),
        best_of_four=family("four", 60, 4),
        settings=SMALL,
    )
    assert s.table is None
    assert "rb2_models.csv" in s.warnings[0]
    assert "left out" in s.html()
    assert "left out" in s.text()


def test_absent_files_are_an_error_with_a_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFCAL_DATA", str(tmp_path))
    monkeypatch.setenv("PREFCAL_CACHE", str(tmp_path))
    import pooch

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(DataError, match="PREFCAL_DATA"):
        reward_models.study(settings=SMALL)


def test_run_writes_both_files_or_none(monkeypatch, tmp_path, made_up):
    monkeypatch.setattr(running, "study", lambda **_: made_up)
    page, document = tmp_path / "r.html", tmp_path / "s.json"
    assert reward_models.run(argparse.Namespace(report=str(page), json=str(document))) is made_up
    assert page.read_text(encoding="utf-8") == made_up.html()
    assert json.loads(document.read_text())["study"] == "reward-models"
    with pytest.raises(OSError):
        reward_models.run(argparse.Namespace(report=str(tmp_path / "x.html"), json=str(tmp_path / "no" / "s.json")))
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.37), (0, 1), (0.8, 0.89), (-0.08, 0.2), (0.3, 0.3)])
def test_nice_scales_hold_what_they_show(low, high):
    ticks = nice(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 6
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_chromium(made_up, tmp_path, scheme):
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must look at the page in a real browser")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    file = tmp_path / "study.html"
    made_up.report(file)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(color_scheme=scheme)
        messages: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda m: messages.append(m.text))
        tab.on("request", lambda r: requests.append(r.url))
        for width in (360, 800, 1600):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.goto(file.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert messages == []
        assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
        browser.close()


# 1 - mean p(chosen); top-1:confidence ECE15, its null mean; accuracy; temperature.
KNOWN = {
    "Skywork-Reward-V2-Llama-3.1-8B": (0.120, 0.062, 0.010, 0.891, 2.4),
    "Skywork-Reward-V2-Qwen3-8B": (0.180, 0.049, 0.015, 0.851, 1.6),
    "URM-LLaMa-3.1-8B": (0.255, 0.038, 0.019, 0.801, 1.4),
}


# Kendall tau with the error of a category: plain error rate, published ECE.
TAUS = {
    "Leaderboard": (0.885, 0.771),
    "Focus": (0.766, 0.753),
    "Safety": (0.749, 0.726),
    "Factuality": (0.737, 0.645),
    "Precise IF": (0.637, 0.595),
    "Math": (0.604, 0.542),
}


@pytest.fixture(scope="module")
def four(data_dir) -> list[Scored]:
    if not (data_dir / "reward_models").is_dir():
        pytest.skip(f"{data_dir} holds no reward_models")
    return [f.take(f.category != "Ties") for f in sources.rewardbench2()]


def test_real_models_stand_the_other_way_round(four):
    rows = {r.model.rpartition("/")[2]: r for r in measure(four, seed=0, draws=999, bins=15)}
    assert rows.keys() == KNOWN.keys()
    for name, (published, ece, null, accuracy, _) in KNOWN.items():
        r = rows[name]
        assert r.n_instances == 1763
        assert r.published.value == pytest.approx(published, abs=5e-4)
        assert r.top.value == pytest.approx(ece, abs=5e-4)
        assert r.top.null_mean == pytest.approx(null, abs=1e-3)
        assert r.accuracy == pytest.approx(accuracy, abs=5e-4)
    by_published = sorted(rows, key=lambda n: rows[n].published.value)
    assert by_published == sorted(rows, key=lambda n: -rows[n].top.value)


def test_one_temperature_leaves_little_on_the_other_half_of_real_prompts(four):
    for f in four:
        found = splits_of(f, splits=4, seed=1, bins=15)
        assert np.mean(found.temperatures) == pytest.approx(KNOWN[f.model.rpartition("/")[2]][4], abs=0.15)
        assert found.share_undetected >= 0.5
        assert np.mean(found.mended_debiased) < np.mean(found.raw_debiased)
        assert np.mean(found.mended_debiased) < 0.025


def test_real_table(data_dir, four):
    if not (data_dir / "paper" / "rb2_models.csv").is_file():
        pytest.skip(f"{data_dir} holds no paper/rb2_models.csv")
    part = table_part(load_table(), sources.rewardbench2(), resamples=200, seed=0)
    assert part.n_models == 48
    assert {r.category: (round(r.error_rate.tau, 3), round(r.published.tau, 3)) for r in part.rows} == TAUS
    assert len(part.reproduced) == 3
    for _, there, here in part.reproduced:
        assert here == pytest.approx(there, abs=1e-4)


def test_real_files_join_and_only_the_best_is_known(data_dir):
    if not (data_dir / "reward_models").is_dir():
        pytest.skip(f"{data_dir} holds no reward_models")
    ten, two = sources.rewardmath(), sources.math_prm()
    assert [len(f.y) for f in ten] == [483] * 9
    assert [len(f.y) for f in two] == [447] * 9
    assert {f.model for f in ten} == {f.model for f in two}
    assert len({tuple(f.ids.tolist()) for f in two}) == 1
    shares = {o.view: o.members / o.n_members for o in observable(ten[0].y, ("sub-2", "sub-3", "top-1", "top-2"))}
    assert shares == {"sub-2": 9 / 45, "sub-3": 0, "top-1": 1, "top-2": 0}
