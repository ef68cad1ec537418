"""Runs of the label-ranking study: resumed, interrupted, in any order; and what they measure."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import prefcal as pc
from label_ranking_runs import QUICK, job, small_run, table_writer, toy, without_times
from prefcal.errors import DataError, UsageError
from prefcal.studies.label_ranking.evaluate import evaluate
from prefcal.studies.label_ranking.protocol import Settings, variants
from prefcal.studies.label_ranking.run import Progress, _Clock
from prefcal.studies.label_ranking.sets import StudySet
from prefcal.studies.label_ranking.store import Store, read_part
from prefcal.studies.label_ranking.summary import summarize


@pytest.fixture
def table(tmp_path):
    return table_writer(tmp_path)


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
