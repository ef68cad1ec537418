"""Audits of the real files against a second computation in plain loops, and against the paper's own numbers."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main

MATH = "RewardMATH_official/results/RewardMATH"
PAIRS = "RewardMATH_official/results/Rewardbench"
GATE = "themis-judge-reliability/results/gate"
CLASSIFIERS = (
    "ArmoRM Eurus-RM beaver grm_gemma grm_llama3 internlm2 internlm2_20b oasst-rm skywork_llama3".split()  # noqa: SIM905
)
PAIR_FILES = (
    "ArmoRM Eurus-RM GRM-Llama3-8B GRM_Gemma_2B Skywork-Llama-3.1-8B beaver internlm2-20b internlm2 oasst-rm".split()  # noqa: SIM905
)
REWARD_BENCH_2 = {
    "LxzGordon__URM-LLaMa-3.1-8B": (0.255, 0.038, 0.801),
    "Skywork__Skywork-Reward-V2-Llama-3.1-8B": (0.120, 0.062, 0.891),
    "Skywork__Skywork-Reward-V2-Qwen3-8B": (0.180, 0.049, 0.851),
}
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def root(data_dir) -> Path:
    folder = data_dir / "reward_models"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: no reward-model files to test on")
    return folder


def pair_events(scores: list[float], n_correct: int) -> list[tuple[float, float]]:
    """(p, y) of every pair of a correct and a wrong candidate; the first ``n_correct`` are correct."""
    events = []
    for good in scores[:n_correct]:
        for bad in scores[n_correct:]:
            p = 1.0 / (1.0 + math.exp(-abs(good - bad)))
            events.append((p, 1.0 if good > bad else 0.0 if good < bad else 0.5))
    return events


def top_events(scores: list[float], n_correct: int) -> list[tuple[float, float]]:
    """(p, y) of the best-scored candidate, where exactly one is correct."""
    if n_correct != 1:
        return []
    largest = max(scores)
    p = 1.0 / math.fsum(math.exp(s - largest) for s in scores)
    winners = [j for j, s in enumerate(scores) if s == largest]
    return [(p, 1.0 / len(winners) if 0 in winners else 0.0)]


EVENTS = {"sub-2": pair_events, "top-1:confidence": top_events}


def expected(instances: list[tuple[list[float], int]], notion: str, *, per_instance: bool) -> dict[str, float]:
    """ECE of 15 bins, accuracy, mean forecast, and counts, by loops over instances and events."""
    bins = [[0.0, 0.0, 0.0] for _ in range(15)]
    n_events = n_instances = 0
    for scores, n_correct in instances:
        events = EVENTS[notion](scores, n_correct)
        n_events += len(events)
        n_instances += bool(events)
        for p, y in events:
            w = 1.0 / len(events) if per_instance else 1.0
            b = bins[min(math.floor(p * 15), 14)]
            b[0] += w
            b[1] += w * p
            b[2] += w * y
    total = math.fsum(b[0] for b in bins)
    return {
        "ece": math.fsum(abs(b[2] - b[1]) for b in bins) / total,
        "accuracy": math.fsum(b[2] for b in bins) / total,
        "mean_forecast": math.fsum(b[1] for b in bins) / total,
        "n_events": n_events,
        "n_instances": n_instances,
    }


@cache
def instances(path: Path) -> list[tuple[list[float], int, str]]:
    """(scores, number of correct candidates, which come first, subset) of a real file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        rows = [r for r in rows if "_record" not in r]
        return [([s[0] for s in r["scores"]], r["num_correct"], r["subset"]) for r in rows]
    return [(r["score"], 1, "") for r in json.loads(text)]


def run_cli(path: Path, out: Path, *options: str) -> list[dict]:
    assert main(["audit", str(path), "--json", str(out), "--quiet", "--draws", "99", *options]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["inputs"][0]["path"] == str(path)
    return document["results"]


def assert_agrees(results: list[dict], group: dict | None, notion: str, want: dict[str, float]) -> None:
    """Each number stands once in the document and agrees with ``want``."""
    for name in ("ece", "accuracy", "mean_forecast"):
        found = [r for r in results if (r["notion"], r["group"], r["estimator"]) == (notion, group, name)]
        assert len(found) == 1
        assert found[0]["value"] == pytest.approx(want[name], abs=TOLERANCE)
        assert (found[0]["n_events"], found[0]["n_instances"]) == (want["n_events"], want["n_instances"])


@pytest.mark.parametrize("weights", ["event", "instance"])
@pytest.mark.parametrize(
    "relative",
    [f"{MATH}/{name}_reward.json" for name in CLASSIFIERS] + [f"{PAIRS}/rewardbench_{n}.json" for n in PAIR_FILES],
)
def test_rewardmath(root, tmp_path, relative, weights):
    rows = [(scores, n_correct) for scores, n_correct, _ in instances(root / relative)]
    results = run_cli(root / relative, tmp_path / "out.json", "--weights", weights)
    assert len(rows) in (483, 447)
    for notion in EVENTS:
        want = expected(rows, notion, per_instance=weights == "instance")
        assert_agrees(results, None, notion, want)
        assert want["n_events"] == len(rows) * (len(rows[0][0]) - 1 if notion == "sub-2" else 1)


@pytest.mark.parametrize("weights", ["event", "instance"])
@pytest.mark.parametrize("name", REWARD_BENCH_2)
def test_rewardbench_2_as_a_whole_and_by_subset(root, tmp_path, name, weights):
    path = root / GATE / f"{name}.jsonl"
    rows = instances(path)
    results = run_cli(path, tmp_path / "out.json", "--weights", weights, "--group", "subset")
    subsets = sorted({subset for *_, subset in rows})
    assert len(subsets) == 6
    for notion in EVENTS:
        for subset in (None, *subsets):
            part = [(scores, k) for scores, k, s in rows if subset in (None, s)]
            group = None if subset is None else {"subset": subset}
            assert_agrees(results, group, notion, expected(part, notion, per_instance=weights == "instance"))


@pytest.mark.parametrize("name", REWARD_BENCH_2)
def test_rewardbench_2_ties_enter_pairs_but_the_best_only_where_one_is_correct(root, tmp_path, name):
    path = root / GATE / f"{name}.jsonl"
    ties = [(scores, k) for scores, k, subset in instances(path) if subset == "Ties"]
    single = sum(k == 1 for _, k in ties)
    assert (len(ties), 0 < single < len(ties)) == (102, True)
    results = run_cli(path, tmp_path / "out.json", "--group", "subset")
    main_of = {(r["notion"], json.dumps(r["group"])): r for r in results if r["estimator"] == "ece"}
    group = json.dumps({"subset": "Ties"})
    assert main_of["sub-2", group]["n_instances"] == 102
    assert main_of["sub-2", group]["n_events"] == sum(k * (len(s) - k) for s, k in ties)
    top = main_of["top-1:confidence", group]
    assert (top["n_instances"], top["n_events"]) == (single, single)
    assert top["settings"]["coverage"]["used"] == single
    assert sum(top["settings"]["coverage"].values()) == 102
    whole = main_of["top-1:confidence", "null"]
    assert whole["settings"]["coverage"]["used"] == 1865 - (102 - single) == whole["n_instances"]


@pytest.mark.parametrize("name", REWARD_BENCH_2)
def test_the_published_statistic_is_not_what_prefcal_reports(root, tmp_path, name):
    """1 - mean p(chosen), which a published evaluation called ECE, against the error of design section 6."""
    path = root / GATE / f"{name}.jsonl"
    four = [r for r in instances(path) if r[2] != "Ties"]
    assert len(four) == 1763
    chosen = [1.0 / math.fsum(math.exp(s - scores[0]) for s in scores) for scores, *_ in four]
    published, error, accuracy = REWARD_BENCH_2[name]
    assert 1 - math.fsum(chosen) / len(chosen) == pytest.approx(published, abs=6e-4)
    want = expected([(s, k) for s, k, _ in four], "top-1:confidence", per_instance=False)
    file = tmp_path / "four.jsonl"
    file.write_text("".join(json.dumps({"scores": s, "best": 0}) + "\n" for s, *_ in four))
    results = run_cli(file, tmp_path / "out.json", "--items", "exchangeable")
    assert_agrees(results, None, "top-1:confidence", want)
    assert want["ece"] == pytest.approx(error, abs=6e-4)
    assert want["accuracy"] == pytest.approx(accuracy, abs=6e-4)
    for record in results:
        if record["notion"] == "top-1:confidence" and record["estimator"] == "ece":
            assert abs(record["value"] - published) > 0.05


def test_scores_of_equal_candidates_are_half_right(root, tmp_path):
    """ArmoRM's scores hold exact ties (half precision): p = y = 1/2, without which accuracy is another number."""
    path = root / MATH / "ArmoRM_reward.json"
    rows = [(s, k) for s, k, _ in instances(path)]
    tied = sum(s[0] == x for s, _ in rows for x in s[1:])
    assert tied > 20
    strict = sum(s[0] > x for s, _ in rows for x in s[1:])
    accuracy = next(
        r["value"]
        for r in run_cli(path, tmp_path / "out.json")
        if (r["notion"], r["estimator"]) == ("sub-2", "accuracy")
    )
    assert accuracy == pytest.approx((strict + tied / 2) / (9 * 483), abs=1e-12)


@pytest.mark.parametrize("name", ["iris", "vehicle"])
def test_labelled_rankwise_errors_are_the_papers(data_dir, name):
    """What the authors' own estimators returned for their models' forecasts (10 bins, mean over tuples).

    They are stored in single precision; pairwise models (two columns of rankings) have sub-2 only.
    """
    folder = data_dir / "paper" / "golden"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: no golden values")
    arrays = np.load(folder / f"{name}.npz")
    values = json.loads((folder / f"{name}.json").read_text())
    views = {"calculate_sub_k_calibration": "sub", "calculate_top_k_calibration": "top"}
    by_case: dict[int, dict[str, float]] = defaultdict(dict)
    for entry in values:
        if entry["fn"] in views:
            by_case[entry["case"]][f"{views[entry['fn']]}-{entry['k']}:rankwise"] = entry["value"]
    checked = 0
    for case, want in by_case.items():
        ranks, orders = arrays[f"y_{case}"], arrays[f"rankings_{case}"].astype(int) - 1
        probs = arrays[f"prob_{case}"].astype(float).T
        m = ranks.shape[1]
        if orders.shape[1] == m:
            h = pc.Categorical(orders, probs)
        else:
            pairs = np.full((len(ranks), m, m), np.nan)
            pairs[:, orders[:, 0], orders[:, 1]] = probs
            h = pc.Pairwise(pairs)
            assert set(want) == {"sub-2:rankwise"}
        got = pc.audit(h, pc.Outcomes.from_ranks(ranks), notions=list(want), items="labelled", bins=10, draws=99)
        for notion, value in want.items():
            assert got[notion].value == pytest.approx(value, abs=1e-6)
            checked += 1
    assert checked == len([e for e in values if e["fn"] in views]) > 80
