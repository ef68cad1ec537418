"""The label-ranking study from end to end: splits, models, the store, killed runs, the command, the report."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main
from prefcal.cli.study_label_ranking import Reporter, duration
from prefcal.errors import DataError, UsageError
from prefcal.studies.label_ranking.claims import claims
from prefcal.studies.label_ranking.dots import dots
from prefcal.studies.label_ranking.evaluate import evaluate
from prefcal.studies.label_ranking.models import (
    kendall_distances,
    mallows_dispersion,
    newman_weights,
    predicted_ranks,
    swap_center,
)
from prefcal.studies.label_ranking.protocol import Job, Settings, notions_for, split, stratify, variants
from prefcal.studies.label_ranking.report import compare_with_published, render
from prefcal.studies.label_ranking.run import Progress, _Clock, plan, run
from prefcal.studies.label_ranking.sets import StudySet, load_set, short_name
from prefcal.studies.label_ranking.store import Store, read_part
from prefcal.studies.label_ranking.summary import effects, summarize

QUICK = Settings(folds=3, draws=19, notions=("sub-2", "top-1", "full"))


def toy(n=48, m=4, seed=0, name="toy"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    h = pc.PlackettLuce(x @ rng.normal(size=(2, m)) * 2)
    return StudySet.build(name, x, (np.argsort(h.sample(1, rng)[:, 0], axis=1) + 1).astype(float))


@pytest.fixture
def table(tmp_path):
    def write(name="toy.csv", **options):
        data = toy(**options)
        path = tmp_path / name
        with path.open("w", newline="") as handle:
            out = csv.writer(handle)
            p = data.features.shape[1]
            out.writerow([f"A{i}" for i in range(p)] + [f"L{i}" for i in range(data.n_items)])
            out.writerows([*map(repr, f), *map(int, r)] for f, r in zip(data.features.tolist(), data.ranks.tolist()))
        return str(path)

    return write


def without_times(rows):
    out = [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in rows]
    return [{k: None if v != v else v for k, v in r.items()} for r in out]


# ------------------------------------------------------------------------------------------------------------ data


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


# ---------------------------------------------------------------------------------------------------------- splits


def job(protocol="exact", model="mallows", fold=0, cut="random", dataset="toy"):
    return Job(protocol, dataset, model, fold, cut)


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


# ---------------------------------------------------------------------------------------------------------- models


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


# ------------------------------------------------------------------------------------------------- runs and the store


def small_run(folder, path, protocol="exact", models=("mallows", "rpc"), processes=1, ablate=False, listener=None):
    store = Store(folder, QUICK)
    run(store, plan(protocol, [path], models, QUICK, ablate=ablate), processes=processes, listener=listener)
    return store


def test_a_second_run_does_nothing_and_adds_nothing(tmp_path, table):
    path = table()
    seen: list[Progress] = []
    store = small_run(tmp_path / "r", path, listener=seen.append)
    rows = store.rows()
    assert [p.done for p in seen] == list(range(1, 7))
    assert seen[0].remaining is None
    assert seen[-1].remaining == 0
    before = {p: p.stat().st_mtime_ns for p in store.parts.iterdir()}
    again: list[Progress] = []
    small_run(tmp_path / "r", path, listener=again.append)
    assert again == []
    assert {p: p.stat().st_mtime_ns for p in store.parts.iterdir()} == before
    assert len(store.rows()) == len(rows)
    assert len(read_part(store.compact())) == len(rows)


@pytest.mark.slow
def test_numbers_do_not_depend_on_processes_or_order(tmp_path, table):
    path = table()
    one = small_run(tmp_path / "one", path, models=("mallows", "pl-rpc"))
    two = small_run(tmp_path / "two", path, models=("pl-rpc", "mallows"), processes=2)
    assert without_times(one.rows()) == without_times(two.rows())


def test_other_settings_are_refused(tmp_path, table):
    small_run(tmp_path / "r", table(), models=("mallows",))
    with pytest.raises(UsageError, match=r"seed: 42 there, 7 now"):
        Store(tmp_path / "r", Settings(folds=3, draws=19, notions=QUICK.notions, seed=7))


def test_other_data_under_the_same_name_are_refused(tmp_path, table):
    path = table()
    small_run(tmp_path / "r", path, models=("mallows",))
    table(seed=5)
    from prefcal.studies.label_ranking.run import _loaded

    _loaded.cache_clear()
    with pytest.raises(UsageError, match="other data"):
        small_run(tmp_path / "r", path, models=("rpc",))


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        Store(tmp_path, QUICK)
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(UsageError, match="another study"):
        Store(tmp_path, QUICK)


def test_a_broken_part_is_named(tmp_path, table):
    store = small_run(tmp_path / "r", table(), models=("mallows",))
    victim = sorted(store.parts.iterdir())[0]
    victim.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=re.escape(victim.name)):
        store.rows()


def test_two_runs_on_one_folder(tmp_path, table):
    store = small_run(tmp_path / "r", table(), models=("mallows",))
    with store.lock(), pytest.raises(UsageError, match="another run"), Store(tmp_path / "r", QUICK).lock():
        pass


def test_stray_temporary_files_go(tmp_path, table):
    store = small_run(tmp_path / "r", table(), models=("mallows",))
    (store.parts / "x.parquet.99.tmp").write_bytes(b"half")
    rows = store.rows()
    with store.lock():
        pass
    assert not list(store.parts.glob("*.tmp"))
    assert len(rows) == len(store.rows())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, table, processes):
    """SIGKILL again and again, at any moment, until the run gets through: the rows are those of one calm run."""
    path = table(n=300, m=5)
    words = ["--datasets", path, "--models", "mallows", "pl-rpc", "rpc", "--folds", "3", "--draws", "19", "--jobs"]
    words += [processes, "--notions", "sub-2", "top-1", "full", "--resume", str(tmp_path / "killed")]
    program = "import sys; from prefcal.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "study", "label-ranking", *words]
    parts = tmp_path / "killed" / "parts"
    kills = 0
    for target in (1, 3, 5):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < until:
            if parts.is_dir() and len(list(parts.glob("*.parquet"))) >= target:
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        kills += child.wait() == -signal.SIGKILL
        finished = {p: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
        assert all(read_part(p) for p in finished)
    assert kills >= 2
    time.sleep(1.2)  # the dead run's workers leave
    finished = {p: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert all(p.stat().st_mtime_ns == at for p, at in finished.items()), "a finished fit was computed again"
    calm = small_run(tmp_path / "calm", path, models=("mallows", "pl-rpc", "rpc"))
    killed = Store(tmp_path / "killed", QUICK)
    assert without_times(killed.rows()) == without_times(calm.rows())
    assert len(list(parts.iterdir())) == 9


def test_an_error_names_its_job_and_stops(tmp_path, table, monkeypatch):
    import prefcal.studies.label_ranking.evaluate as module

    def fail(*_args):
        raise DataError("no good")

    monkeypatch.setattr(module, "evaluate", fail)
    with pytest.raises(DataError, match=r"mallows, fold 0 \(exact\): no good"):
        small_run(tmp_path / "r", table(), models=("mallows",))


def test_the_clock_learns():
    jobs = [job(model=m, fold=f, dataset=d) for d in ("a", "b") for m in ("mallows", "rpc") for f in range(5)]
    clock = _Clock({"a": (10.0, 1.0), "b": (20.0, 3.0)}, jobs, 0)
    for j in jobs[:10]:
        state = clock.finished(j, 2.0, 2)
    assert state.remaining == pytest.approx(10 * 2.0 * 2 / 2)  # twice as long each, on two cores
    for j in jobs[10:]:
        state = clock.finished(j, 3.0, 2)
    assert state.remaining == 0
    assert state.done == 20


# ------------------------------------------------------------------------------------------------------ measurements


def test_variants_switch_one_thing_at_a_time():
    plain = variants(job("published", dataset="iris", cut="tail"))
    assert [(v.support, v.mass_filter, v.null) for v in plain] == [("all", False, True), ("all", True, False)]
    cut = variants(job("published", dataset="movies", cut="tail"))
    assert [(v.support, v.mass_filter, v.null) for v in cut] == [
        ("observed", False, False), ("observed", True, False), ("all", False, True),
    ]  # fmt: skip
    assert len(variants(job("exact", dataset="movies"))) == 1


def test_truncation_moves_the_error_and_pairs_are_not_hit(monkeypatch):
    data = toy(n=60, m=4, name="movies")  # the name decides whether the published code truncates
    found = {}
    for model in ("mallows", "rpc"):
        for r in evaluate(data, job("published", model, cut="tail", dataset="movies"), QUICK):
            if r["notion"] == "sub-2" and r["estimator"] == "rankwise_ece" and not r["mass_filter"]:
                found[model, r["support"]] = r["value"]
    assert found["rpc", "observed"] == pytest.approx(found["rpc", "all"])
    assert ("mallows", "observed") in found
    few = StudySet.build("movies", data.features, np.where(np.arange(60)[:, None] < 30, [1, 2, 3, 4], [4, 3, 2, 1.0]))
    rows = evaluate(few, job("published", "mallows", cut="tail", dataset="movies"), QUICK)
    sub = {r["support"]: r["value"] for r in rows if r["notion"] == "sub-2" and r["estimator"] == "rankwise_ece"
           and not r["mass_filter"]}  # fmt: skip
    assert sub["observed"] > sub["all"] + 0.2


def test_folds_are_put_together(tmp_path, table):
    store = small_run(tmp_path / "r", table(), models=("mallows",))
    cell = next(c for c in summarize(store.rows()) if c.notion == "sub-2" and c.estimator == "rankwise_ece")
    values = [r["value"] for r in store.rows() if r["notion"] == "sub-2" and r["estimator"] == "rankwise_ece"]
    assert cell.value == pytest.approx(np.mean(values))
    assert cell.se == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert cell.n_test == 48
    assert cell.low <= cell.debiased <= cell.high
    assert cell.p_value >= 1 / 20


def test_mallows_without_features_is_found_miscalibrated_only_where_it_is(tmp_path):
    """A mixture of two camps that the features tell apart is no single Mallows model."""
    rng = np.random.default_rng(1)
    x = np.repeat([0.0, 1.0], 75)[:, None]
    camps = pc.Mallows(np.where(x == 0, [[1, 2, 3, 4]], [[4, 3, 2, 1]]), np.full(150, 0.3))
    right = pc.Mallows([1, 2, 3, 4], np.full(150, 0.6))
    out = {}
    for name, h in (("camps", camps), ("right", right)):
        ranks = np.argsort(h.sample(1, rng)[:, 0], axis=1) + 1.0
        data = StudySet.build(name, x, ranks)
        rows = [r for f in range(3) for r in evaluate(data, job(fold=f, dataset=name), QUICK)]
        out[name] = next(c for c in summarize(rows) if c.notion == "full" and c.estimator == "rankwise_ece")
    assert out["camps"].p_value <= 0.05
    assert out["right"].p_value > 0.05


# ------------------------------------------------------------------------------------------------ command and report


def command(*words):
    return main(["study", "label-ranking", *map(str, words)])


def test_the_command_runs_reports_and_resumes(tmp_path, table, capsys, monkeypatch):
    monkeypatch.delenv("PREFCAL_DATA", raising=False)
    monkeypatch.setenv("PREFCAL_CACHE", str(tmp_path / "cache"))
    path, report = table(), tmp_path / "r.html"
    words = [
        "--protocol", "both", "--ablate", "--datasets", path, "--models", "mallows", "rpc", "--folds", "3", "--draws",
        "19", "--notions", "sub-2", "top-1", "--resume", tmp_path / "store", "--jobs", "1", "--report", report,
    ]  # fmt: skip
    assert command(*words) == 0
    shown = capsys.readouterr()
    assert "18 fits done" in shown.err
    assert "mallows" in shown.out
    page = report.read_text()
    assert "Percent of calibration rows whose ranking no fitting row shows" in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert "not on this machine" in page
    assert "Are label rankers calibrated?" in page
    assert command(*words) == 0
    assert "18 were stored already" in capsys.readouterr().err
    assert report.read_text() == page


def test_effects_need_both_protocols(tmp_path, table):
    folder, path = tmp_path / "r", table()
    small_run(folder, path, models=("mallows",))
    assert effects(summarize(Store(folder, QUICK).rows())) == []
    small_run(folder, path, "published", models=("mallows",), ablate=True)
    found = {e.notion: e for e in effects(summarize(Store(folder, QUICK).rows()))}
    e = found["sub-2"]
    assert e.published == e.untruncated  # four items: nothing was cut
    assert np.isfinite([e.filtered, e.shuffled, e.exact, e.null_mean, e.debiased]).all()


def test_names_from_data_are_escaped(tmp_path, table):
    store = small_run(tmp_path / "r", table(name="<b>&.csv"), models=("mallows",))
    page = render(store.rows(), QUICK, with_dots=False)
    assert "<b>&.csv" not in page
    assert "&lt;b&gt;&amp;.csv" in page


def test_an_empty_report_says_so():
    page = render([], QUICK, with_dots=False)
    assert "say nothing about the claims" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--models", "oracle"], "unknown model"),
        (["--models", "mallows", "--datasets", "nowhere.csv"], "no such file"),
        (["--models", "mallows", "--folds", "1"], "folds"),
        (["--models", "mallows", "--ablate"], "--protocol published"),
        (["--models", "mallows", "--jobs", "-1"], "--jobs"),
        (["--models", "mallows", "--notions", "position"], "position"),
    ],
)
def test_bad_usage_is_one_clear_line(tmp_path, capsys, words, says):
    assert command(*words, "--resume", tmp_path / "s") == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


def test_missing_torch_is_said_before_the_work(tmp_path, table, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert command("--datasets", table(), "--resume", tmp_path / "s") == 2
    shown = capsys.readouterr().err
    assert "prefcal[torch]" in shown
    assert "--models mallows pl-rpc rpc" in shown
    assert not (tmp_path / "s").exists()


def test_the_reporter_is_plain_off_a_terminal(capsys):
    reporter = Reporter(sys.stderr)
    reporter(Progress(1, 3, 0, 12.0, None, job()))
    reporter(Progress(2, 3, 0, 13.0, 30.0, job()))
    reporter(Progress(3, 3, 0, 14.0, 0.0, job()))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert "left" not in shown[0]
    assert duration(59.6) == "1 min 0 s"


# ---------------------------------------------------------------------------------------------------------- real data


def test_votes_of_a_mallows_model_look_calibrated_and_of_another_law_do_not():
    rng = np.random.default_rng(0)
    level = np.repeat([3.0, 9.0], 300)[:, None]
    right = pc.Mallows([1, 2, 3, 4], np.full(600, 0.7)).sample(1, rng)[:, 0]
    found = {(r.level, r.family): r for r in dots(data=StudySet.build("x", level, np.argsort(right, axis=1) + 1.0))}
    assert found[3.0, "Mallows"].errors["full"].p_value > 0.05
    assert found[9.0, "Mallows"].n == 300
    camps = np.where(rng.random((600, 1)) < 0.5, [[1, 2, 3, 4]], [[4, 3, 2, 1]]).astype(float)
    wrong = dots(data=StudySet.build("x", level, camps))
    assert all(r.errors["full"].p_value <= 0.002 and r.variation > 0.5 for r in wrong)


@pytest.mark.slow
def test_the_votes_on_dots(data_dir):
    assert data_dir
    found = dots()
    assert {(r.level, r.n) for r in found} == {(3.0, 795), (5.0, 794), (7.0, 800), (9.0, 794)}
    assert all(r.errors["full"].p_value <= 0.01 for r in found if r.family == "Plackett-Luce")
    assert all(0.07 < r.variation < 0.15 for r in found)


@pytest.mark.slow
def test_published_values_come_out_again(tmp_path, data_dir):
    """Networks and trees from the published seeds: equal on iris to 1e-4 in every fold (without the filter)."""
    pytest.importorskip("torch")
    assert data_dir
    settings = Settings(notions=("sub-2", "top-1"), draws=19)
    store = Store(tmp_path / "r", settings)
    run(store, plan("published", ["iris"], ["pl", "mallows", "rc", "pl-rpc", "rpc"], settings))
    compared = compare_with_published(summarize(store.rows()))
    plain = [c for c in compared if not c.mass_filter]
    assert len(plain) == 18
    assert all(c.worst_fold < 1e-4 for c in plain), [(c.title, c.notion, c.worst_fold) for c in plain]
    # The filtered results came from another run, whose trees broke ties otherwise.
    assert all(c.within for c in compared if c.title not in ("RPC", "PL-RPC"))
    assert all(c.worst_fold < 1e-4 for c in compared if c.title == "Mallows")
    assert claims(summarize(store.rows())) == []
