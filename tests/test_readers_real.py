"""The real result files: what the readers return against a second, plain way of reading the same files."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from prefcal import DataError
from prefcal.data.readers import AGGREGATES, read

MATH = "RewardMATH_official/results/RewardMATH"
CLASSIFIERS = (
    "ArmoRM Eurus-RM beaver grm_gemma grm_llama3 internlm2 internlm2_20b oasst-rm skywork_llama3".split()  # noqa: SIM905
)
PAIR_FILES = (
    "ArmoRM Eurus-RM GRM-Llama3-8B GRM_Gemma_2B Skywork-Llama-3.1-8B beaver internlm2-20b internlm2 oasst-rm".split()  # noqa: SIM905
)
GATE = "themis-judge-reliability/results/gate"
REWARD_BENCH_2 = [
    "LxzGordon__URM-LLaMa-3.1-8B",
    "Skywork__Skywork-Reward-V2-Llama-3.1-8B",
    "Skywork__Skywork-Reward-V2-Qwen3-8B",
]


@pytest.fixture(scope="module")
def root(data_dir) -> Path:
    folder = data_dir / "reward_models"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: no reward-model files to test on")
    return folder


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_rewardmath_classifiers(root, name):
    path = root / MATH / f"{name}_reward.json"
    expected = np.array([r["score"] for r in json.loads(path.read_text())])
    got = read(path)
    assert got.scores is not None
    assert np.array_equal(got.scores.dense(), expected)
    assert expected.shape == (483, 10)
    assert np.array_equal(got.outcomes.dense(), np.tile([1.0] + [2.0] * 9, (483, 1)))
    assert got.outcomes.ties == "unknown"
    info = got.info
    assert (info.format, info.outcome, info.items) == ("rewardmath", "best", "exchangeable")
    assert (info.n_instances, info.n_items, info.n_skipped) == (483, (10, 10), 0)
    assert (info.path, info.model) == (str(path), f"{name}_reward")
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(set(got.ids)) == 483


@pytest.mark.parametrize("name", PAIR_FILES)
def test_rewardmath_pairs(root, name):
    path = root / "RewardMATH_official/results/Rewardbench" / f"rewardbench_{name}.json"
    got = read(path)
    assert np.array_equal(got.scores.dense(), [r["score"] for r in json.loads(path.read_text())])
    assert (len(got), got.info.n_items) == (447, (2, 2))
    assert got.outcomes.dense().tolist() == [[1.0, 2.0]] * 447


def test_ids_join_files_that_list_the_problems_in_different_orders(root):
    folder = root / "RewardMATH_official/results/Rewardbench"
    a, b = (read(folder / f"rewardbench_{name}.json") for name in ("ArmoRM", "beaver"))
    assert set(a.ids) == set(b.ids)
    assert list(a.ids) != list(b.ids)
    texts = {r["problem"]: r["score"] for r in json.loads((folder / "rewardbench_beaver.json").read_text())}
    problems = [r["problem"] for r in json.loads((folder / "rewardbench_ArmoRM.json").read_text())]
    place = {key: i for i, key in enumerate(b.ids)}
    joined = b.scores.dense()[[place[key] for key in a.ids]]
    assert np.array_equal(joined, [texts[p] for p in problems])


def by_hand(p: list[float], how: str) -> float:
    x = np.array(p)
    match how:
        case "min":
            return min(p)
        case "max":
            return max(p)
        case "prod":
            return float(np.prod(x))
        case "geometric_mean":
            return float(np.prod(x) ** (1 / len(p)))
        case "mean":
            return float(np.mean(x))
        case "mean_logit":
            return float(1 / (1 + np.exp(-np.mean(np.log(x / (1 - x))))))
        case "mean_odd":
            return max(0.0, float(np.mean(x / (1 - x))))
        case _:
            return p[-1]


@pytest.mark.parametrize("how", AGGREGATES)
@pytest.mark.parametrize("name", ["Math_Shepherd", "ReasonEval_7B"])
def test_process_reward_models(root, name, how):
    path = root / MATH / f"{name}_reward.json"
    expected = [[by_hand(steps, how) for steps in r["score"]] for r in json.loads(path.read_text())]
    got = read(path, aggregate=how)
    assert got.info.settings == {"aggregate": how}
    assert got.info.format == "rewardmath-prm"
    np.testing.assert_allclose(got.scores.dense(), expected, rtol=1e-11)


def test_process_reward_models_have_no_default_aggregate(root):
    with pytest.raises(DataError, match="min, max, prod, geometric_mean, mean, mean_logit, mean_odd, last"):
        read(root / MATH / "Math_Shepherd_reward.json")


def test_gpt4o_repeats_are_refused_or_dropped_with_a_count(root):
    path = root / MATH / "gpt4o_reward.json"
    with pytest.raises(DataError, match=r"gpt4o_reward\.json, record 484, field 'problem': repeats record 482"):
        read(path)
    got = read(path, on_error="skip")
    rows = json.loads(path.read_text())
    assert np.array_equal(got.scores.dense(), [r["score"] for r in rows[:483]])
    assert (got.info.n_instances, got.info.n_skipped, len(got.info.skipped)) == (483, 2, 2)
    assert any("could not be parsed" in note for note in got.info.notes)


def test_prometheus(root):
    got = read(root / MATH / "prometheus_7B_reward.json")
    assert len(got) == 483
    assert set(np.unique(got.scores.values)) == {1, 2, 3, 4, 5}


def test_pairwise_judge(root):
    path = root / MATH / "llama3_8B_pairwise_reward.json"
    rows = json.loads(path.read_text())
    got = read(path)
    assert got.scores is None
    assert got.pair_probs.shape == (483, 10, 10)
    for i in (0, 100, 482):
        for j, (said, place) in enumerate(zip(rows[i]["score"], rows[i]["chosen_position"])):
            forward, back = got.pair_probs[i, 0, j + 1], got.pair_probs[i, j + 1, 0]
            if said is None:
                assert np.isnan(forward)
                assert np.isnan(back)
            else:
                assert (forward, back) == (float(said == place), float(said != place))
    stated = got.pair_probs[:, 0, 1:]
    assert np.isnan(stated).sum() == 621
    right = sum(s == p for r in rows for s, p in zip(r["score"], r["chosen_position"]))
    assert np.nansum(stated) == right
    assert np.isnan(got.pair_probs[:, 1:, 1:]).all()
    said_a = [s for r in rows for s in r["score"] if s is not None].count("A") / (4347 - 621)
    assert any("621 of 4347" in n and f"{said_a:.1%}" in n for n in got.info.notes)
    assert got.outcomes.dense().tolist() == [[1.0] + [2.0] * 9] * 483


@pytest.mark.parametrize("name", REWARD_BENCH_2)
def test_rewardbench_2(root, name):
    path = root / GATE / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()][1:]
    got = read(path)
    flat = [s[0] for r in rows for s in r["scores"]]
    assert got.scores.values.tolist() == flat
    assert len(flat) == 8977
    assert got.scores.sizes.tolist() == [len(r["scores"]) for r in rows]
    assert (got.info.n_instances, got.info.n_items) == (1865, (4, 38))
    ranks = [1.0 if j < r["num_correct"] else 2.0 for r in rows for j in range(len(r["scores"]))]
    correct = [1.0 if j < r["num_correct"] else 0.0 for r in rows for j in range(len(r["scores"]))]
    assert got.outcomes.ranks.values.tolist() == ranks
    assert sum(correct) == sum(r["num_correct"] for r in rows)
    counts = dict(zip(*np.unique(got.fields["subset"], return_counts=True)))
    assert counts == {"Factuality": 475, "Focus": 495, "Math": 183, "Precise IF": 160, "Safety": 450, "Ties": 102}
    assert sorted(got.fields) == ["num_correct", "subset"]
    assert got.fields["num_correct"].dtype.kind == "i"
    assert len(set(got.ids)) == 1865
    assert got.ids[0] == "Factuality/0"
    assert got.info.model == name


def test_rewardbench_2_cut_at_a_line_is_noticed(root, tmp_path):
    lines = (root / GATE / f"{REWARD_BENCH_2[0]}.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "cut.jsonl"
    path.write_text("".join(lines[:1000]))
    with pytest.raises(DataError, match=r"announces 1865 records, but it holds 999"):
        read(path)
    assert any("1865" in note for note in read(path, on_error="skip").info.notes)


def test_generative_rewardbench_2_holds_no_scores(root):
    with pytest.raises(DataError, match=r"cold1\.jsonl: holds verdicts .* but no scores.*eval-set-scores"):
        read(root / "themis-judge-reliability/results/variance/qwen2.5-7b-instruct__cold1.jsonl")


@pytest.mark.parametrize("name", ["each_small_section_score", "main_score"])
@pytest.mark.parametrize("model", ["RM-R1-DeepSeek-Distilled-Qwen-32B", "RM-R1-Qwen2.5-Instruct-32B"])
def test_aggregates_are_refused_with_the_file_to_use(root, model, name):
    path = root / "RM-R1/eval/result" / model / "reward_bench/score_result" / f"{name}.json"
    with pytest.raises(DataError, match=rf"{name}\.json: holds aggregate accuracies.*eval-set-scores"):
        read(path)


@pytest.mark.parametrize(("name", "n"), [("Natural", 100), ("Adversarial/GPTOut", 47), ("Adversarial/Manual", 46)])
def test_llmbar(root, name, n):
    path = root / "LLMBar/Dataset/LLMBar" / name / "evaluators/GPT-4/Rating/result.json"
    rows = json.loads(path.read_text())
    got = read(path)
    expected = [[int(r["results"][0]["score_1"][0]), int(r["results"][0]["score_2"][0])] for r in rows]
    assert got.scores.dense().tolist() == expected
    assert got.outcomes.dense().tolist() == [[1.0, 2.0] if r["label"] == 1 else [2.0, 1.0] for r in rows]
    assert len(got) == n


def test_llmbar_missing_rating_stops_or_is_counted(root):
    path = root / "LLMBar/Dataset/LLMBar/Adversarial/Neighbor/evaluators/GPT-4/Rating/result.json"
    with pytest.raises(DataError, match=r"record 93, field 'score_1': the rating is missing"):
        read(path)
    got = read(path, on_error="skip")
    assert (len(got), got.info.n_skipped) == (133, 1)
    scores = got.scores.dense()
    assert (scores[:, 0] == scores[:, 1]).sum() == 28


def test_pandalm_votes(root):
    path = root / "PandaLM/data/testset-v1.json"
    rows = json.loads(path.read_text())
    got = read(path)
    assert len(got) == len(got.outcomes) == 3 * 999
    credit = {0: 0.5, 1: 1.0, 2: 0.0}
    for i, row in enumerate(rows):
        votes = [row[f"annotator{a}"] for a in (1, 2, 3)]
        for a, vote in enumerate(votes):
            others = [credit[v] for b, v in enumerate(votes) if b != a]
            assert got.pair_probs[3 * i + a, 0, 1] == sum(others) / 2
            assert got.outcomes.dense()[3 * i + a].tolist() == {0: [1, 1], 1: [1, 2], 2: [2, 1]}[vote]
        if i == 60:
            break
    assert got.outcomes.ties == "equal"
    tied = sum(row[f"annotator{a}"] == 0 for row in rows for a in (1, 2, 3))
    assert int((got.outcomes.dense() == 1).all(axis=1).sum()) == tied
    assert got.clusters.tolist() == np.repeat(np.arange(999), 3).tolist()
    assert len(np.unique(got.fields["cmp_key"])) == 10
    assert set(got.fields) == {"motivation_app", "cmp_key", "annotator"}


def test_hanna(root):
    path = root / "hanna-benchmark-asg/hanna_metric_scores.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    metric = "ROUGE-1 F-Score Ξ§"
    got = read(path, columns={"scores": metric, "ratings": "Coherence"}, ties="equal")
    scores = np.array([ast.literal_eval(r[metric]) for r in rows]).T
    human = np.array([ast.literal_eval(r["Coherence"]) for r in rows]).T
    assert scores.shape == (96, 11)
    assert np.array_equal(got.scores.dense(), scores)
    ranks = got.outcomes.dense()
    for i in range(96):
        levels = sorted(set(human[i]), reverse=True)
        assert ranks[i].tolist() == [levels.index(v) + 1 for v in human[i]]
    assert (got.info.items, got.info.outcome, got.outcomes.ties) == ("labelled", "ratings", "equal")
    assert got.info.settings["labels"] == [r["Model"] for r in rows]
    with pytest.raises(DataError, match=r"criteria: Relevance, .*metrics: BLEU"):
        read(path)


def test_other_files_beside_them_are_refused(root):
    for name in ("SOURCES.md", "FORMATS.md", "LLMBar/LICENSE", f"{GATE}/comparison.txt"):
        with pytest.raises(DataError, match=Path(name).name):
            read(root / name)
