"""The label-ranking study: data, splits, models, without torch where it is absent."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc
from label_ranking_runs import QUICK, job, table_writer, toy, without_times
from prefcal.errors import DataError, UsageError
from prefcal.studies.label_ranking.evaluate import evaluate
from prefcal.studies.label_ranking.models import (
    kendall_distances,
    mallows_dispersion,
    newman_weights,
    predicted_ranks,
    swap_center,
)
from prefcal.studies.label_ranking.protocol import Settings, notions_for, split, stratify
from prefcal.studies.label_ranking.run import plan
from prefcal.studies.label_ranking.sets import StudySet, load_set, short_name


@pytest.fixture
def table(tmp_path):
    return table_writer(tmp_path)


def test_a_csv_file_is_read(table):
    data = load_set(table())
    assert (data.ranks == toy().ranks).all()
    assert data.sha256 == toy().sha256
    assert short_name("paper/iris") == short_name("iris") == "iris"
    assert short_name("kebi/iris") == "kebi/iris"


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        ([[1, 2, 4], [1, 2, 3]], "rank"),
        ([[1, 2, 2], [1, 2, 3]], "has ties"),
        ([[1, 2, np.nan], [1, 2, 3]], "unranked"),
        ([[0, 1, 2], [1, 2, 3]], "rank"),
    ],
)
def test_incomplete_rankings_are_refused(ranks, says):
    with pytest.raises(DataError, match=says) as caught:
        StudySet.build("bad", np.zeros((2, 1)), np.array(ranks, dtype=float))
    assert "bad" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A0,L0,L1\n1,1,2\n2,x,1\n", "not a number"),
        ("A0,L0,L1\n1,1,2\n,2,1\n", "finite"),
        ("A0,L0,L1\n1,1\n", "cells"),
        ("A0,A1\n1,2\n", "label columns"),
        ("A0,L0,L1\n", "no data"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        load_set(str(path))
    assert "bad.csv" in str(caught.value)


def test_no_such_file():
    with pytest.raises(UsageError, match="no such file"):
        load_set("nowhere.csv")


@pytest.mark.parametrize(("protocol", "cut"), [("exact", "random"), ("published", "tail"), ("published", "random")])
def test_every_row_is_tested_once_and_never_trained_on(protocol, cut):
    data = toy()
    parts = [split(data, job(protocol, fold=f, cut=cut), QUICK) for f in range(3)]
    assert sorted(np.concatenate([p.test for p in parts]).tolist()) == list(range(48))
    for p in parts:
        assert sorted(np.concatenate([p.fit, p.calibration, p.test]).tolist()) == list(range(48))
        assert len(p.fit) == int(0.8 * 32)


def test_published_splits_are_the_published_ones():
    from sklearn.model_selection import KFold

    data = toy(n=30)
    train, test = list(KFold(5, shuffle=True, random_state=42).split(data.features))[2]
    found = split(data, job("published", fold=2, cut="tail"), Settings())
    assert (found.test == test).all()
    assert (found.fit == train[: int(0.8 * len(train))]).all()


def test_strata_have_a_row_for_each_fold():
    for seed in range(5):
        label = stratify(toy(n=60, m=5, seed=seed), 5)
        assert np.bincount(label).min() >= 5
    alone = np.argsort(np.random.default_rng(0).random((6, 6)), axis=1) + 1.0
    assert (stratify(StudySet.build("x", np.zeros((6, 1)), alone), 5) == 0).all()


def test_fewer_rows_than_folds():
    with pytest.raises(UsageError, match=r"4 rows for 5 folds"):
        split(toy(n=4), job(), Settings())


def test_notions_of_few_items_count_once():
    assert notions_for(Settings(), 3) == ("sub-2", "full", "top-1")
    assert notions_for(Settings(), 2) == ("full",)


def test_settings_are_checked():
    with pytest.raises(UsageError, match="folds"):
        Settings(folds=1)
    with pytest.raises(UsageError, match="topset"):
        Settings(notions=("topset-2",))


def test_a_swapped_centre_is_a_local_optimum_and_often_kemeny():
    import itertools

    for seed in range(20):
        ranks = toy(n=15, m=4, seed=seed).ranks
        found = kendall_distances(ranks, swap_center(ranks)).sum()
        every = [np.array(p) for p in itertools.permutations(range(1, 5))]
        assert found <= kendall_distances(ranks, np.argsort(np.argsort(ranks.mean(axis=0))) + 1).sum()
        assert found >= min(kendall_distances(ranks, c).sum() for c in every)


def test_the_dispersion_is_the_maximum_of_the_likelihood():
    from prefcal.distributions.mallows import log_normalizer

    phi = mallows_dispersion(2.1, 5)
    grid = np.linspace(0.01, 0.99, 2000)
    likelihood = 2.1 * np.log(grid) - log_normalizer(grid, 5)
    assert phi == pytest.approx(grid[likelihood.argmax()], abs=1e-3)
    assert mallows_dispersion(0.0, 5) == pytest.approx(np.exp(-20))
    assert mallows_dispersion(5.0, 5) == pytest.approx(1.0, abs=1e-5)


def test_newman_s_iteration_ends_where_the_library_s_coupling_does():
    from prefcal.rankers.coupling import pairs_to_plackett_luce

    rng = np.random.default_rng(0)
    p = np.full((6, 4, 4), 0.5)
    first, second = np.triu_indices(4, 1)
    p[:, first, second] = rng.uniform(0.1, 0.9, (6, 6))
    p[:, second, first] = 1 - p[:, first, second]
    ours = np.log(newman_weights(p, rng, steps=500))
    theirs = pairs_to_plackett_luce(pc.Pairwise(p)).scores.dense()
    assert ours - ours.mean(axis=1, keepdims=True) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("model", ["mallows", "rpc", "pl-rpc", "linear-pl", "knn-mallows", "knn-pl", "forest"])
def test_every_model_without_torch(model):
    rows = evaluate(toy(), job(model=model), QUICK)
    assert {r["notion"] for r in rows if r["estimator"] == "rankwise_ece"} >= {"sub-2"}
    assert all(0 <= r["value"] <= 1 for r in rows if r["estimator"] == "rankwise_ece")
    tau = [r["value"] for r in rows if r["estimator"] == "kendall_tau"]
    assert len(tau) == 1
    assert -1 <= tau[0] <= 1


@pytest.mark.parametrize("protocol", ["published", "exact"])
@pytest.mark.parametrize("model", ["pl", "rc"])
def test_neural_models(model, protocol):
    pytest.importorskip("torch")
    where = job(protocol, model, cut="tail" if protocol == "published" else "random")
    first, second = evaluate(toy(), where, QUICK), evaluate(toy(), where, QUICK)
    assert without_times(first) == without_times(second)
    assert next(r["value"] for r in first if r["estimator"] == "kendall_tau") > 0.2


def test_the_published_classifier_gives_all_rankings_their_probability():
    torch = pytest.importorskip("torch")
    from prefcal.studies.label_ranking.models import Task, rank_classifier

    assert torch.get_num_threads() >= 1
    data = toy(n=20, m=4)
    where = job("published", "rc", cut="tail")
    h = rank_classifier(Task(data, split(data, where, QUICK), where, QUICK))
    every = pc.View("full").outcomes(4)[0]
    total = sum(np.exp(h.log_prob(o)) for o in every)
    assert total == pytest.approx(np.ones(len(h)), abs=1e-12)
    seen = {tuple(o) for o in data.orders.tolist()}
    unseen = [np.exp(h.log_prob(o)) for o in every if tuple(o.tolist()) not in seen]
    assert np.ptp(np.array(unseen), axis=0) == pytest.approx(np.zeros(len(h)), abs=1e-15)
    assert predicted_ranks(h).shape == (len(h), 4)


def test_constant_features_and_unanimous_pairs():
    ranks = np.tile([1.0, 2.0, 3.0], (30, 1))
    ranks[:10, :2] = [2.0, 1.0]
    data = StudySet.build("flat", np.ones((30, 2)), ranks)
    for model in ("mallows", "rpc", "pl-rpc", "linear-pl", "forest"):
        for protocol in ("exact", "published"):
            if protocol == "published" and model in ("linear-pl", "forest"):
                continue
            cut = "random" if protocol == "exact" else "tail"
            rows = evaluate(data, job(protocol, model, cut=cut, dataset="flat"), QUICK)
            assert all(np.isfinite(r["value"]) for r in rows)


def test_a_ranking_that_no_training_row_shows():
    """The exact classifier has no class for it: its probability is 0, which the error shows."""
    pytest.importorskip("torch")
    data = toy(n=30, m=5, seed=3)
    rows = evaluate(data, job("exact", "rc"), QUICK)
    full = next(r for r in rows if r["notion"] == "full" and r["estimator"] == "rankwise_ece")
    assert full["value"] > full["null_mean"]


def test_unknown_models():
    with pytest.raises(UsageError, match="unknown model"):
        plan("exact", ["toy"], ["oracle"], QUICK)
    with pytest.raises(UsageError, match="published protocol"):
        plan("published", ["toy"], ["forest"], QUICK)
