"""The study of reward models: its statistics by other computations, its logic on made-up models, real numbers."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from scipy import stats

import prefcal as pc
from prefcal.data.source import InputInfo
from prefcal.errors import DataError, UsageError
from prefcal.studies import reward_models
from prefcal.studies.reward_models import Settings, running, sources
from prefcal.studies.reward_models.claims import conclude
from prefcal.studies.reward_models.figures import nice
from prefcal.studies.reward_models.measures import (
    keep_wrong,
    kendall,
    observable,
    partial_kendall,
    percentile,
    permutation_p,
    position_conditioned,
    scalar_errors,
)
from prefcal.studies.reward_models.parts import SUB, TOP, correlations, measure, scaling, splits_of, table_part
from prefcal.studies.reward_models.sources import Scored, Table, joined, load_scores, load_table

SMALL = Settings(draws=99, splits=2, resamples=4, table_resamples=50, repeats=2)
HOSTILE = 'x"><script>alert(1)</script>\x1b[31m'


def utilities(n: int, m: int, seed: int) -> np.ndarray:
    """True log-utilities whose best item, drawn from the Plackett-Luce model, is moved to column 0."""
    rng = np.random.default_rng(seed)
    u = rng.normal(scale=1.5, size=(n, m))
    best = pc.PlackettLuce(u).sample(1, rng)[:, 0, 0]
    rows = np.arange(n)
    first = u[rows, best].copy()
    u[rows, best] = u[:, 0]
    u[:, 0] = first
    return u


def scored(benchmark: str, model: str, scores, category=None, ids=None) -> Scored:
    n, m = scores.shape
    info = InputInfo("made-up", "0" * 64, "wide", n, (m, m), 0, "best", "exchangeable", model)
    y = pc.Outcomes.from_best(np.zeros(n, dtype=int), n_items=m)
    keys = np.arange(n) if ids is None else np.asarray(ids)
    return Scored(benchmark, model, pc.PlackettLuce(scores), y, category, keys, info)


def family(benchmark: str, n: int, m: int, *, category=None, seed: int = 0, bad: str = "c") -> list[Scored]:
    """Three models: calibrated, over-confident, and noise."""
    u = utilities(n, m, seed)
    noise = np.random.default_rng(seed + 1).normal(size=(n, m))
    return [scored(benchmark, k, s, category) for k, s in (("org/a", u), ("org/b", 3 * u), (bad, noise))]


def made_up_table(n: int = 12, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.1, 0.6, n)
    scores = {name: 1 - error + rng.normal(scale=0.05, size=n) for name in sources.CATEGORIES.values()}
    published = error + rng.normal(scale=0.1, size=n)
    return Table(tuple(f"m{i}" for i in range(n)), published, error, scores, np.full(n, 100))


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


# ------------------------------------------------------------------------------------------ the published statistic


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_position_conditioned_is_the_ece_whose_outcomes_are_all_yes(bins):
    h = pc.PlackettLuce(utilities(300, 4, 3))
    p = np.exp(h.top_log_probs()[:, 0])
    place = np.minimum((p * bins).astype(int), bins - 1)
    by_bins = sum(
        (place == b).mean() * abs(1 - p[place == b].mean()) for b in range(bins) if (place == b).any()
    )  # fmt: skip
    assert position_conditioned(h).value == pytest.approx(by_bins, abs=1e-12)


def test_published_statistic_falls_as_the_model_grows_over_confident_and_the_proper_error_rises():
    u = utilities(4000, 4, 1)
    y = pc.Outcomes.from_best(np.zeros(len(u), dtype=int), n_items=4)
    factors = (1.0, 1.5, 2.5, 5.0, 20.0)
    published = [position_conditioned(pc.PlackettLuce(a * u)).value for a in factors]
    proper = [scalar_errors(pc.PlackettLuce(a * u), y)[TOP].debiased for a in factors]
    assert all(a > b for a, b in itertools.pairwise(published[:4]))
    assert all(a < b for a, b in itertools.pairwise(proper))
    assert abs(proper[0]) < 0.02  # calibrated, while the published statistic says
    assert published[0] > 0.3


def test_position_conditioned_interval_covers_its_mean():
    value, other = (position_conditioned(pc.PlackettLuce(utilities(2000, 4, s))) for s in (1, 2))
    assert value.interval[0] < other.value < value.interval[1]
    assert position_conditioned(pc.PlackettLuce([[0.0, 0.0]])).interval is None


def test_scalar_errors_are_those_of_an_audit():
    f = family("b", 200, 5)[1]
    found, audited = scalar_errors(f.h, f.y), pc.audit(f.h, f.y, items="exchangeable")
    for notion in (SUB, TOP):
        r = audited[notion]
        assert (found[notion].value, found[notion].debiased) == (r.value, r.debiased)
        assert found[notion].accuracy == r.metrics["accuracy"].value


# ------------------------------------------------------------------------------------------------ rank correlation


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=15))
@budget(max_examples=80, deadline=None)
def test_kendall_is_tau_b(pairs):
    x, y = np.array(pairs, dtype=float).T
    ours = float(kendall(x, y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("n", [3, 6, 7])
def test_permutation_p_is_the_exact_test(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, n))
    p, exact = permutation_p(x, y, rng)
    assert exact
    assert p == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue, abs=1e-12)


def test_permutation_p_with_ties_counts_all_pairings():
    x, y = np.array([1.0, 1, 2, 3, 4]), np.array([1.0, 2, 2, 3, 5])
    seen = abs(kendall(x, y))
    draws = [abs(kendall(x, y[list(o)])) >= seen - 1e-12 for o in itertools.permutations(range(5))]
    assert permutation_p(x, y, np.random.default_rng(0))[0] == pytest.approx(np.mean(draws))


def test_permutation_p_of_many_points_is_drawn():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    p, exact = permutation_p(x, y, rng, draws=4000)
    assert not exact
    assert p == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue, abs=0.04)
    assert permutation_p(np.arange(30.0), np.arange(30.0), rng, draws=999)[0] == 1 / 1000


def test_partial_kendall():
    assert partial_kendall(0.5, 0.0, 0.0) == 0.5
    assert partial_kendall(0.5, 0.5, 0.5) == pytest.approx(0.25 / 0.75)
    assert partial_kendall(0.7, 0.7 / 0.8, 0.8) == pytest.approx(0)
    assert np.isnan(partial_kendall(0.5, 1.0, 0.5))


def test_percentile_leaves_undefined_draws_out():
    assert percentile(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(percentile(np.array([np.nan]))).all()


# ------------------------------------------------------------------------------------------- views and candidates


@pytest.mark.parametrize("best", [[0], [0, 1], [0, 1, 2]])
def test_observable_counts_members_that_every_consistent_ranking_agrees_on(best):
    m = 4
    y = pc.Outcomes.from_best([best], n_items=m)
    rankings = [o for o in itertools.permutations(range(m)) if set(o[: len(best)]) == set(best)]
    views = ("sub-2", "sub-3", "top-1", "top-2", "topset-2", "topset-3", "position", "full")
    for name, found in zip(views, observable(y, views), strict=True):
        index = pc.View.parse(name).classify(np.array(rankings))
        known = int((index == index[:1]).all(axis=0).sum())
        assert (found.members, found.n_members) == (known, index.shape[1]), name
        assert found.instances == (known > 0)


def test_observable_skips_views_that_an_instance_is_too_small_for():
    y = pc.Outcomes.from_best([0, 0], n_items=[2, 4])
    (found,) = observable(y, ["sub-3"])
    assert (found.n_members, found.n_instances) == (4, 2)


def test_keep_wrong_keeps_the_right_one_and_distinct_others():
    scores = np.arange(600.0).reshape(60, 10)
    kept = keep_wrong(scores, 4, np.random.default_rng(0))
    assert (kept[:, 0] == scores[:, 0]).all()
    column = (kept - scores[:, :1]).astype(int)
    assert all(len(set(row)) == 4 and max(row) < 10 for row in column.tolist())
    assert len({tuple(row) for row in column.tolist()}) > 20
    assert (keep_wrong(scores, 10, np.random.default_rng(0)) == scores).all()
    for size in (1, 11):
        with pytest.raises(UsageError, match=r"2\.\.10"):
            keep_wrong(scores, size, np.random.default_rng(0))


def test_sub_2_does_not_depend_on_the_number_of_candidates_and_top_1_does():
    files = [scored("ten", "b", 3 * utilities(1500, 8, 2))]
    rows = measure(files, seed=0, draws=99, bins=15)
    found = scaling(files[0], rows, (0.0, 0.1), repeats=4, seed=0, bins=15)
    assert found.sizes == (2, 3, 4, 5, 6, 7, 8)
    assert found.sub[0] == pytest.approx(found.top[0], abs=1e-12)
    assert max(found.sub) - min(found.sub) < 0.02
    assert found.top[-1] > found.top[0] + 0.05
    assert found.sub[-1] == rows[0].results[SUB].debiased
    assert found.top[-1] == rows[0].results[TOP].debiased
    assert found.difference.value == pytest.approx(found.top[-1] - found.sub[-1])


# ---------------------------------------------------------------------------------------------------------- parts


def test_measure_finds_the_over_confident_model():
    calibrated, over, noise = measure(family("four", 800, 4), seed=0, draws=99, bins=15)
    assert over.published.value < calibrated.published.value  # the published statistic prefers it
    assert over.top.debiased > calibrated.top.debiased + 0.05
    assert over.accuracy == calibrated.accuracy > noise.accuracy
    assert over.top.verdict == "miscalibrated"


def test_one_temperature_mends_a_scaled_model_and_is_judged_on_other_prompts():
    over = family("four", 600, 4)[1]
    found = splits_of(over, splits=5, seed=0, bins=15)
    assert found.share_undetected_raw == 0
    assert found.share_undetected >= 0.6
    assert all(2.2 < t < 4 for t in found.temperatures)
    assert (found.n_fit, found.n_test) == (300, 300)
    assert np.mean(found.mended_debiased) < 0.03 < np.mean(found.raw_debiased)


def test_correlations_of_pairs_have_one_notion():
    files = family("two", 60, 2)
    rows = measure(files, seed=0, draws=99, bins=15)
    found, gaps = correlations(files, rows, resamples=3, seed=0, bins=15)
    assert [c.of for c in found] == ["1 - mean p(chosen)", "sub-2, debiased"]
    assert gaps == {}
    assert all(c.exact and c.n_models == 3 for c in found)


def test_categories_are_audited_apart_and_before_and_after_a_temperature():
    category = np.array(["x", "y"] * 150, dtype=object)
    rows = measure(family("four", 300, 4, category=category), seed=0, draws=99, bins=15, by_category=True, mend=True)
    assert [r.category for r in rows] == [None, "x", "y"] * 3
    assert [r.n_instances for r in rows[:3]] == [300, 150, 150]
    over = rows[3]
    assert set(over.mended) == {SUB, TOP}
    assert over.mended[TOP].debiased < over.top.debiased


def test_table_part_on_a_table_where_both_columns_are_the_error():
    t = made_up_table()
    same = dataclasses.replace(t, published=t.error_rate)
    part = table_part(same, family("four", 30, 4), resamples=20, seed=0)
    assert all(r.published.tau == r.error_rate.tau and r.difference.value == 0 for r in part.rows)
    assert all(np.isnan(r.partial.value) for r in part.rows)
    assert part.published_with_error.tau == 1
    assert part.reproduced == ()
    named = dataclasses.replace(t, models=("org/a", *t.models[1:]))
    files = family("four", 30, 4)
    assert table_part(named, files, resamples=20, seed=0).reproduced == (
        ("org/a", t.published[0], position_conditioned(files[0].h).value),
    )


# -------------------------------------------------------------------------------------------------------- sources


def test_joined_takes_common_instances_in_the_order_of_the_first():
    s = np.arange(12.0).reshape(4, 3)
    a = scored("b", "a", s, ids=["p", "q", "r", "s"])
    b = scored("b", "b", s, ids=["s", "x", "p", "q"])
    first, second = joined([a, b])
    assert first.ids.tolist() == second.ids.tolist() == ["p", "q", "s"]
    assert second.h.scores.dense()[:, 0].tolist() == [6, 9, 0]
    with pytest.raises(DataError, match="no problem in common"):
        joined([a, scored("b", "b", s, ids=list("wxyz"))])


def test_load_scores_refuses_files_that_do_not_store_the_chosen_answer_first(tmp_path):
    rows = [{"id": str(i), "num_correct": 1, "scores": [1.0, 0.0, 2.0], "results": 0.0} for i in range(3)]
    good = tmp_path / "good.jsonl"
    good.write_text("\n".join(json.dumps(r) for r in rows))
    assert len(load_scores("b", "m", good).y) == 3
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(json.dumps({"scores": [1.0, 2.0], "best": 1, "id": i}) for i in range(3)))
    with pytest.raises(DataError, match=r"candidate 0|no key"):
        load_scores("b", "m", bad)


def write_table(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


HEAD = "model,ece_score,model_accuracy,n_examples,leaderboard_score,focus,safety,factuality,precise_if,math\n"


def test_load_table(tmp_path):
    t = load_table(write_table(tmp_path / "t.csv", HEAD + "m,0.25,0.7,10,80,70,60,50,40,30\n"))
    assert len(t) == 1
    assert t.error_rate[0] == pytest.approx(0.3)
    assert {k: v[0] for k, v in t.scores.items()}["Math"] == pytest.approx(0.3)
    with pytest.raises(DataError, match="ece_score"):
        load_table(write_table(tmp_path / "u.csv", "model,x\na,1\n"))
    with pytest.raises(DataError, match=r"u\.csv.*model"):
        load_table(write_table(tmp_path / "u.csv", ""))
    with pytest.raises(DataError, match="'n/a' is not a number") as error:
        load_table(write_table(tmp_path / "v.csv", HEAD + "m,n/a,0.7,10,80,70,60,50,40,30\n"))
    assert "row 2" in str(error.value)


# ------------------------------------------------------------------------------------------------------ the study


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


# ------------------------------------------------------------------------------------------------------- real data

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
