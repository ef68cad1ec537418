"""Do the verdicts keep their promises? Rates over many seeded simulations.

The short forms run always; the full ones of 1,000 runs are marked slow. Rates are compared with their nominal value
plus four binomial standard deviations.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import prefcal as pc

NOTIONS = ("sub-2", "top-1:confidence", "top-1:rankwise", "sub-3:rankwise", "full:rankwise", "full:canonical")
SCALAR = NOTIONS[:-1]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Thousands of small matrices: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def simulated(seed: list[int], n: int, *, scale: float = 1.0, m: int = 4) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """A Plackett-Luce world, and the model that states its scores ``scale`` times too large (its temperature)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    orders = pc.PlackettLuce(scores).sample(1, rng)[:, 0]
    return pc.PlackettLuce(scale * scores), pc.Outcomes.from_orders(orders)


def verdicts(runs: int, n: int, items: str, notions: tuple[str, ...], *, scale: float = 1.0) -> dict[str, Counter]:
    counts: dict[str, Counter] = {notion: Counter() for notion in notions}
    for seed in range(runs):
        h, y = simulated([n, seed], n, scale=scale)
        audit = pc.audit(h, y, notions=notions, items=items, draws=199, estimators="ece", seed=seed)
        for notion in notions:
            counts[notion][audit[notion].verdict] += 1
    return counts


def at_most(rate: float, runs: int) -> float:
    return runs * rate + 4 * math.sqrt(runs * rate * (1 - rate))


def check_calibrated(counts: dict[str, Counter], runs: int) -> None:
    for notion, count in counts.items():
        assert count["miscalibrated"] <= at_most(0.05, runs), (notion, count)


@pytest.mark.parametrize(("items", "runs"), [("exchangeable", 150), ("labelled", 40)])
def test_calibrated_models_are_rarely_called_miscalibrated(items, runs):
    check_calibrated(verdicts(runs, 100, items, SCALAR), runs)


@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
def test_calibrated_models_at_1000_instances(items):
    """20 runs; pairs are then precise enough to call the model calibrated every time."""
    counts = verdicts(20, 1000, items, ("sub-2", "top-1:confidence"))
    check_calibrated(counts, 20)
    if items == "exchangeable":
        assert counts["sub-2"]["calibrated"] == 20


@pytest.mark.parametrize("scale", [2.0, 0.5])
@pytest.mark.parametrize(("items", "runs"), [("exchangeable", 10), ("labelled", 4)])
def test_a_temperature_of_two_is_found_at_1000_instances(items, runs, scale):
    """Over- and under-confident models, every scalar notion."""
    counts = verdicts(runs, 1000, items, SCALAR, scale=scale)
    for notion, count in counts.items():
        assert count["miscalibrated"] == runs, (notion, count)


@pytest.mark.slow
@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
def test_calibrated_models_1000_runs_of_100(items):
    check_calibrated(verdicts(1000, 100, items, NOTIONS), 1000)


@pytest.mark.slow
@pytest.mark.parametrize(("items", "runs"), [("exchangeable", 1000), ("labelled", 300)])
def test_calibrated_models_1000_runs_of_1000(items, runs):
    check_calibrated(verdicts(runs, 1000, items, NOTIONS), runs)


@pytest.mark.slow
@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
def test_a_temperature_of_two_is_found_95_times_in_100(items):
    counts = verdicts(100, 1000, items, NOTIONS, scale=2.0)
    for notion, count in counts.items():
        assert count["miscalibrated"] >= 95, (notion, count)


@pytest.mark.slow
@pytest.mark.parametrize("best_only", [False, True])
def test_p_values_are_uniform_for_a_calibrated_model(best_only):
    """400 runs of 60 instances: the largest distance of the empirical law of p from the uniform one (1 % level)."""
    p: dict[str, list[float]] = {"sub-2": [], "top-1:confidence": []}
    for seed in range(400):
        h, y = simulated([7, seed], 60)
        if best_only:
            y = pc.Outcomes.from_best(y.dense().argmin(axis=1), n_items=4)
        audit = pc.audit(h, y, notions=tuple(p), items="exchangeable", draws=199, estimators="ece", seed=seed)
        for notion in p:
            p[notion].append(audit[notion].p_value)
    for values in p.values():
        gap = np.abs(np.sort(values) - (np.arange(400) + 0.5) / 400).max()
        assert gap < 1.63 / math.sqrt(400) + 0.005


def test_dependent_instances_do_not_cause_false_alarms():
    """Every instance three times under one cluster: 100 runs of 60 distinct ones."""
    wrong = 0
    for seed in range(100):
        h, y = simulated([11, seed], 60)
        rows = np.repeat(np.arange(60), 3)
        audit = pc.audit(
            h[rows], y[rows], notions=["sub-2"], items="exchangeable", clusters=rows, draws=199, estimators="ece"
        )
        wrong += audit["sub-2"].verdict == "miscalibrated"
    assert wrong <= at_most(0.05, 100)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1.25, 1.5, 2.0])
@pytest.mark.parametrize("n", [200, 1000])
def test_intervals_cover_the_population_error(n, scale):
    """200 intervals against the error of 400,000 instances: at least 92 %, less four binomial standard deviations."""
    h, y = simulated([400_000], 400_000, scale=scale)
    big = pc.audit(h, y, items="exchangeable", draws=99)
    for notion in ("sub-2", "top-1:confidence"):
        exact = 0.0 if scale == 1 else big[notion].value
        inside = 0
        for seed in range(200):
            h, y = simulated([n, seed], n, scale=scale)
            low, high = pc.audit(h, y, notions=[notion], items="exchangeable", draws=199, estimators="ece")[
                notion
            ].interval
            inside += low <= exact <= high
        assert inside >= at_least(0.92, 200), (notion, inside / 200)


STUDY = Path(__file__).parents[1] / "benchmarks" / "validity"
MODULES = ("worlds", "simulation", "others", "tables", "tables_others", "run")


@pytest.fixture(scope="module")
def study():
    """The modules of the validity study, which is a script."""
    sys.path.insert(0, str(STUDY))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(STUDY))
        for name in MODULES:
            sys.modules.pop(name, None)


def at_least(rate: float, runs: int) -> float:
    return runs * rate - 4 * math.sqrt(runs * rate * (1 - rate))


def cell(study, truth: str, distortion: float, m: int, items: str, n: int):
    world = study["worlds"].World(truth, m, distortion)
    return study["simulation"].Cell(world, items, n)


@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
def test_the_study_measures_what_an_audit_prints(study, items):
    """The groups of one large data set against one audit each: value and debiased error to rounding.

    Null means and intervals have draws of their own: 5 runs of 99 draws each against 5 of 999.
    """
    chosen = cell(study, "pl", 2.0, 3, items, 200)
    records = study["simulation"].batch(chosen, 0, runs=5)
    rng = np.random.default_rng([study["simulation"].zlib.crc32(chosen.name.encode()), 0])
    h, truth = chosen.world.draw(1000, rng)
    y = study["worlds"].observed(truth, rng)
    parts = [slice(200 * i, 200 * i + 200) for i in range(5)]
    audits = [pc.audit(h[p], y[p], notions=chosen.notions, items=items) for p in parts]
    for notion, record in zip(chosen.notions, records, strict=True):
        found = [a[notion] for a in audits]
        assert record["value"] == pytest.approx(sum(r.value for r in found), rel=1e-12)
        assert record["debiased"] == pytest.approx(sum(r.debiased for r in found), rel=1e-9)
        assert record["null_mean"] == pytest.approx(sum(r.null_mean for r in found), rel=0.15)
        assert record["width"] == pytest.approx(sum(r.interval[1] - r.interval[0] for r in found), rel=0.15)


@pytest.mark.parametrize(
    ("truth", "items"), [("pl", "exchangeable"), ("mallows", "exchangeable"), ("categorical", "labelled")]
)
def test_expected_outcomes_are_those_of_many_draws(study, truth, items):
    """The population's error from exact probabilities against that of 20,000 drawn outcomes."""
    chosen = cell(study, truth, study["worlds"].DISTORTIONS[truth][-1], 3, items, 200)
    exact = study["simulation"].population(chosen.world, items, tuple(chosen.notions))
    rng = np.random.default_rng(5)
    h, world = chosen.world.draw(20_000, rng)
    audit = pc.audit(h, study["worlds"].observed(world, rng), notions=chosen.notions, items=items, draws=99)
    for notion, error in zip(chosen.notions, exact, strict=True):
        assert audit[notion].debiased == pytest.approx(error, abs=0.008)
        low, high = audit[notion].interval
        assert low - 0.003 <= error <= high + 0.003


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_the_study_of_the_other_estimators_measures_what_an_audit_prints(study, kind):
    """Two data sets, each audited with the study's seed: every estimate to rounding."""
    world = study["worlds"].World("pl", 4, 2.0)
    chosen = study["others"].OtherCell(world, kind, 60)
    records = {(r["notion"], r["estimator"]): r for r in chosen.batch(3, runs=2)}
    rng = np.random.default_rng([zlib.crc32(chosen.name.encode()), 3])
    audits = []
    for run in range(2):
        h, truth = world.draw(60, rng)
        y = study["worlds"].observed(truth, rng)
        items = "exchangeable" if kind == "scalar" else "labelled"
        audits.append(pc.audit(h, y, notions=chosen.notions, items=items, draws=199, seed=3000 + run))
    checked = 0
    for (notion, name), record in records.items():
        if name in study["others"].METHODS:
            continue
        found = [a[notion] if name == "kernel" else a[notion].metrics[name] for a in audits]
        assert record["value"] == pytest.approx(sum(e.value for e in found), rel=1e-9)
        assert record["rejected"] == sum(e.p_value <= 0.05 for e in found)
        if kind == "scalar":
            assert record["debiased"] == pytest.approx(sum(e.debiased for e in found), rel=1e-9)
            assert record["width"] == pytest.approx(sum(e.interval[1] - e.interval[0] for e in found), rel=1e-9)
        checked += 1
    assert checked == (16 if kind == "scalar" else 6)


@pytest.mark.parametrize(("truth", "m"), [("pl", 4), ("mallows", 2), ("categorical", 4)])
def test_the_populations_other_errors_are_those_of_many_draws(study, truth, m):
    """Exact expectations against 10,000 drawn outcomes; smooth and cumulative errors have noise of their own."""
    world = study["worlds"].World(truth, m, study["worlds"].DISTORTIONS[truth][-1])
    exact = study["others"].population(world, ("sub-2",), 20_000)
    rng = np.random.default_rng(8)
    h, drawn = world.draw(10_000, rng)
    found = study["others"].scalar(h, study["worlds"].observed(drawn, rng), ["sub-2"], 0)
    for key, estimate in found.items():
        low, high = estimate.interval
        assert low - 0.004 <= exact[key] <= high + 0.004, key


def test_calibrated_models_in_short(study):
    """The study's promises at n = 200, exchangeable, m = 3: size, coverage, and a fifth of the plain error's bias."""
    wrong = {"exact": 0, "normal": 0}
    covered = total = 0
    for truth in ("pl", "mallows", "categorical"):
        chosen = cell(study, truth, study["worlds"].DISTORTIONS[truth][0], 3, "exchangeable", 200)
        for record in study["simulation"].batch(chosen, 1, runs=80):
            runs = record["runs"]
            total += runs
            covered += runs - record["below"] - record["above"]
            for test in wrong:
                wrong[test] += record[f"reject_{test}"]
            se = math.sqrt(record["debiased2"] / runs - (record["debiased"] / runs) ** 2) / math.sqrt(runs)
            assert abs(record["debiased"] / runs) <= record["value"] / runs / 5 + 3 * se
            assert record["null_mean"] / runs == pytest.approx(record["value"] / runs, rel=0.05)
    assert total * 0.05 - 4 * math.sqrt(total * 0.05) <= wrong["exact"] <= at_most(0.05, total)
    assert wrong["normal"] <= at_most(0.075, total)
    assert covered >= at_least(0.95, total)


@pytest.mark.parametrize(
    ("truth", "distortion", "items", "n"),
    [
        ("pl", 1.25, "exchangeable", 200),
        ("pl", 2.0, "labelled", 50),
        ("mallows", 0.1, "exchangeable", 200),
        ("categorical", 0.6, "exchangeable", 50),
    ],
)
def test_miscalibrated_models_in_short(study, truth, distortion, items, n):
    """Coverage of at least 92 %; less bias than the plain error; the power of a naive test of the right size."""
    chosen = cell(study, truth, distortion, 3, items, n)
    for record in study["simulation"].batch(chosen, 1, runs=50):
        runs, error = record["runs"], record["error"]
        assert runs - record["below"] - record["above"] >= at_least(0.92, runs)
        se = math.sqrt(record["debiased2"] / runs - (record["debiased"] / runs) ** 2) / math.sqrt(runs)
        plain = record["value"] / runs - error
        assert abs(record["debiased"] / runs - error) <= abs(plain) + 3 * se
        if n == 200:
            assert record["reject_exact"] >= record["reject_naive"] - 3 * math.sqrt(runs * 0.25)


def test_the_study_goes_on_where_it_was_and_adds_up(study, tmp_path):
    run = study["run"].main
    only = ["--out", str(tmp_path), "--cells", "categorical-1-m2-exchangeable-n200"]
    run([*only, "--runs", "50"])
    first = (tmp_path / "batches.jsonl").read_text()
    run([*only, "--runs", "50"])
    assert (tmp_path / "batches.jsonl").read_text() == first
    run([*only, "--runs", "100"])
    both = (tmp_path / "batches.jsonl").read_text()
    assert both.startswith(first)
    records = [json.loads(line) for line in both.splitlines()]
    assert [r["batch"] for r in records] == [0, 1]
    (tmp_path / "batches.jsonl").write_text("\n".join(both.splitlines()[::-1]) + "\n")
    (row,) = study["tables"].summarise(records)
    assert row["runs"] == 100
    assert row["value"] == pytest.approx(sum(r["value"] for r in records), rel=1e-8)
    assert row["reject_exact"] == sum(r["reject_exact"] for r in records)


def test_the_page_shows_the_stored_results(study):
    """docs/validity.md is what the stored sums give, and these meet the promises where they are made."""
    rows, others = (json.loads((STUDY / f"{name}.json").read_text()) for name in ("results", "others"))
    page = (STUDY.parents[1] / "docs" / "validity.md").read_text(encoding="utf-8")
    assert page == study["tables"].render(rows) + study["tables_others"].render_others(others)
    tested = [r for r in others if r["calibrated"] and r.get("tested")]
    for (name, n), part in study["tables"].groups(tested, "estimator", "n"):
        assert sum(r["rejected"] for r in part) <= 0.075 * sum(r["tested"] for r in part), (name, n)
    for test, least, most in (("exact", 0.035, 0.065), ("normal", 0.0, 0.075)):
        tested = [r for r in rows if r["calibrated"] and f"reject_{test}" in r]
        for n in study["simulation"].SIZES:
            part = [r for r in tested if r["n"] == n]
            rate = sum(r[f"reject_{test}"] for r in part) / sum(r["runs"] for r in part)
            assert least <= rate <= most, (test, n)
    for (n, kind), part in study["tables"].groups(rows, "n", "items"):
        inside = sum(study["tables"].covered(r) for r in part) / sum(r["runs"] for r in part)
        assert inside >= 0.92, (n, kind)


def chosen_first(n: int, seed: int, scale: float) -> tuple[pc.PlackettLuce, pc.Outcomes, float]:
    """Best-of-4 data as benchmarks store them: the best candidate at index 0; and 1 - mean p(chosen)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 4))
    best = pc.PlackettLuce(scores).sample(1, rng)[:, 0, 0]
    rows = np.arange(n)
    scores[rows, 0], scores[rows, best] = scores[rows, best], scores[rows, 0].copy()
    h = pc.PlackettLuce(scale * scores)
    y = pc.Outcomes.from_best(np.zeros(n, dtype=int), n_items=4)
    return h, y, 1 - float(np.exp(h.top_log_probs()[:, 0]).mean())


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "calibrated"), (3.0, "miscalibrated"), (0.3, "miscalibrated")])
def test_storage_position_is_never_conditioned_on(scale, verdict):
    """4,000 prompts with the best candidate always first.

    Conditioned on position every outcome is "yes" and the "error" is 1 - mean p(chosen), which is large for a
    calibrated model and falls as it grows over-confident. prefcal must report neither that number nor that order.
    """
    h, y, position_error = chosen_first(4000, 0, scale)
    audit = pc.audit(h, y, items="exchangeable", draws=199)
    for notion in ("sub-2", "top-1:confidence"):
        result = audit[notion]
        assert result.verdict == verdict
        left = result.metrics["ece_at_temperature"].value
        for number in (result.value, result.debiased, result.null_mean, left):
            assert abs(number - position_error) > 0.05
        assert result.metrics["accuracy"].value < 0.9  # not every outcome is "yes"
    names = [e for r in audit.results for e in r.metrics]
    assert not any("position" in name or "chosen" in name for name in names)


def test_the_published_statistic_orders_models_the_wrong_way_round():
    """The over-confident model has the smaller 1 - mean p(chosen) and the larger calibration error."""
    honest, y, published_honest = chosen_first(4000, 1, 1.0)
    bold, _, published_bold = chosen_first(4000, 1, 3.0)
    assert published_bold < published_honest
    errors = [pc.audit(h, y, items="exchangeable", draws=99)["top-1:confidence"].debiased for h in (honest, bold)]
    assert errors[0] < 0.03 < 0.1 < errors[1]


def test_storing_the_best_candidate_first_changes_nothing():
    """The same data in random storage order: the same numbers."""
    h, y, _ = chosen_first(500, 2, 1.5)
    scores = h.scores.dense()
    moved = np.argsort(np.random.default_rng(0).random(scores.shape), axis=1)
    other = pc.audit(
        pc.PlackettLuce(np.take_along_axis(scores, moved, 1)),
        pc.Outcomes.from_best((moved == 0).argmax(axis=1), n_items=4), items="exchangeable", draws=99,
    )  # fmt: skip
    plain = pc.audit(h, y, items="exchangeable", draws=99)
    for notion in ("sub-2", "top-1:confidence"):
        assert other[notion].value == pytest.approx(plain[notion].value, abs=1e-12)
        assert other[notion].interval == pytest.approx(plain[notion].interval, abs=1e-9)
