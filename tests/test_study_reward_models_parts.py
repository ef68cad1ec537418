"""The parts of the reward-model study: statistics, correlations, views, sources."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from scipy import stats

import prefcal as pc
from prefcal.errors import DataError, UsageError
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
from prefcal.studies.reward_models.sources import joined, load_scores, load_table
from reward_model_study import family, made_up_table, scored, utilities


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
