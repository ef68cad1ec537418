"""Known formats, on files that the tests write as the upstream tools write them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prefcal import DataError, UsageError
from prefcal.data.readers import FORMATS, read
from prefcal.data.readers.content import Content
from prefcal.data.readers.reading import Format


def rewardbench_1(scores_chosen, scores_rejected, **columns):
    n = len(scores_chosen)
    return {
        "chat_template": "tokenizer",
        "model": "org/<b>model</b>",
        "model_type": "Seq. Classifier",
        "results": [1] * n,
        "scores_chosen": scores_chosen,
        "scores_rejected": scores_rejected,
        "text_chosen": ["a long answer " * 50] * n,
        "text_rejected": [[{"role": "user", "content": "hello"}]] * n,
    } | columns


def write(path, value, **options):
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("nested", [False, True])
def test_rewardbench_1_columns(tmp_path, indent, nested):
    chosen, rejected = [2.5, -1.0, 3.0], [1.5, -2.0, 0.5]
    stored = [[[v] for v in c] if nested else c for c in (chosen, rejected)]
    value = rewardbench_1(*stored, subset=["hep-cpp", "math-prm", "math-prm"], id=[0, 1, 2], extra=[1.5, None, 2.5])
    got = read(write(tmp_path / "m.json", value, indent=indent, sort_keys=True))
    assert got.info.format == "rewardbench-1"
    assert got.scores.dense().tolist() == [list(p) for p in zip(chosen, rejected)]
    assert got.outcomes.dense().tolist() == [[1, 2]] * 3
    assert got.fields["subset"].tolist() == ["hep-cpp", "math-prm", "math-prm"]
    assert np.array_equal(got.fields["extra"], [1.5, np.nan, 2.5], equal_nan=True)
    assert set(got.fields) == {"subset", "extra"}
    assert got.ids.tolist() == ["hep-cpp/0", "math-prm/1", "math-prm/2"]
    assert got.info.notes == ()


def test_rewardbench_1_without_ids(tmp_path):
    got = read(write(tmp_path / "dpo.json", rewardbench_1([1.0, 2.0], [0.0, 3.0], results=[1, 0], subset=["a", "a"])))
    assert got.ids is None
    assert got.info.notes == ()


def test_rewardbench_1_results_that_contradict_the_scores_are_noted(tmp_path):
    got = read(write(tmp_path / "m.json", rewardbench_1([1.0, 2.0, 1.0], [0.0, 3.0, 1.0], results=[1, 1, 0])))
    assert any("'results' of 1 of 3" in note and "record 2" in note for note in got.info.notes)


def test_rewardbench_command_outputs(tmp_path):
    path = tmp_path / "model_outputs.jsonl"
    rows = [
        {"prompt": "p", "results": 1, "scores_chosen": 1.5, "scores_rejected": 0.5, "text_chosen": "x", "lang": "en"},
        {"prompt": "q", "results": 0, "scores_chosen": 0.1, "scores_rejected": 0.5, "text_chosen": "y", "lang": "de"},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    got = read(path)
    assert got.info.format == "rewardbench-1"
    assert got.scores.dense().tolist() == [[1.5, 0.5], [0.1, 0.5]]
    assert got.fields["lang"].tolist() == ["en", "de"]


def test_rewardbench_command_all_scores(tmp_path):
    path = tmp_path / "model_all.jsonl"
    path.write_text('{"chosen": [1.5], "rejected": [0.5]}\n{"chosen": [0.25], "rejected": [2]}\n')
    got = read(path)
    assert got.scores.dense().tolist() == [[1.5, 0.5], [0.25, 2.0]]
    assert got.info.outcome == "chosen/rejected"


def rewardbench_2(n=12, *, nested=True, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 9, n)
    scores = [np.round(rng.normal(size=k), 3).tolist() for k in sizes]
    return {
        "scores": [[[v] for v in row] for row in scores] if nested else scores,
        "num_correct": [int(rng.integers(1, k + 1)) for k in sizes],
        "id": [str(i) for i in range(n)],
        "subset": ["Factuality", "Ties"] * (n // 2),
        "results": [0.5] * n,
        "text": [["long " * 80] * int(k) for k in sizes],
        "model": "m",
        "model_type": "Seq. Classifier",
        "chat_template": None,
    }, scores


@pytest.mark.parametrize("nested", [False, True])
def test_rewardbench_2_columns_and_records_agree(tmp_path, nested):
    value, scores = rewardbench_2(nested=nested)
    a = read(write(tmp_path / "a.json", value, indent=4, sort_keys=True))
    lists = {k: v for k, v in value.items() if isinstance(v, list)}
    rows = [dict(zip(lists, entry)) for entry in zip(*lists.values())]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "c.json").write_text("".join(json.dumps(r, indent=4) + "\n" for r in rows))
    write(tmp_path / "d.json", rows)
    for name in ("b.jsonl", "c.json", "d.json"):
        b = read(tmp_path / name)
        assert b.scores.values.tolist() == a.scores.values.tolist() == [v for row in scores for v in row]
        assert b.outcomes.ranks.values.tolist() == a.outcomes.ranks.values.tolist()
        assert b.ids.tolist() == a.ids.tolist()
        assert {k: v.tolist() for k, v in b.fields.items()} == {k: v.tolist() for k, v in a.fields.items()}
        assert b.info.format == a.info.format == "rewardbench-2"
    for i, (row, k) in enumerate(zip(scores, value["num_correct"])):
        ranks = a.outcomes.ranks.values[a.scores.offsets[i] : a.scores.offsets[i + 1]]
        assert ranks.tolist() == [1.0] * k + [2.0] * (len(row) - k)


def test_rewardbench_2_ids_unique_within_a_subset_only(tmp_path):
    value, _ = rewardbench_2()
    value["id"] = [str(i // 2) for i in range(12)]
    assert len(set(read(write(tmp_path / "a.json", value)).ids)) == 12


def test_rewardbench_2_repeated_keys_with_other_scores_fall_back_to_row_order(tmp_path):
    value, _ = rewardbench_2()
    value["id"][10] = "0"
    got = read(write(tmp_path / "a.json", value))
    assert len(got) == 12
    assert got.ids[10] == "#11"
    assert any("1 records repeat the key" in n and "record 11" in n for n in got.info.notes)


def test_rewardbench_2_exact_repeats_are_refused_or_dropped(tmp_path):
    value, _ = rewardbench_2()
    for column in ("scores", "num_correct", "id", "subset"):
        value[column][10] = value[column][0]
    path = write(tmp_path / "a.json", value)
    with pytest.raises(DataError, match=r"record 11, field 'id': repeats record 1"):
        read(path)
    got = read(path, on_error="skip")
    assert (len(got), got.info.n_skipped) == (11, 1)


def test_rm_bench(tmp_path):
    rows = [
        {"id": "a", "domain": "chat", "prompt": "p", "score_chosen": [3, 1, 2.5], "score_rejected": [0, -1, 2]},
        {"id": "b", "domain": "math", "prompt": "q", "score_chosen": [0, 1, 2], "score_rejected": [4, 5, 6]},
    ]
    got = read(write(tmp_path / "rm.json", rows))
    assert got.scores.dense().tolist() == [[3, 1, 2.5, 0, -1, 2], [0, 1, 2, 4, 5, 6]]
    assert got.outcomes.dense().tolist() == [[1, 1, 1, 2, 2, 2]] * 2
    assert got.fields["domain"].tolist() == ["chat", "math"]
    assert got.ids.tolist() == ["a", "b"]


def test_rmb(tmp_path):
    rows = [
        {
            "pair_uid": f"u{i}",
            "category_path": f"Pairwise_set/Helpfulness/Code/{i}.json",
            "chosen_reward": i + 0.5,
            "reject_reward": 1.0,
            "is_correct": True,
        }
        for i in range(3)
    ]
    got = read(write(tmp_path / "rmb.json", rows))
    assert got.scores.dense().tolist() == [[0.5, 1.0], [1.5, 1.0], [2.5, 1.0]]
    assert got.fields["category_2"].tolist() == ["Helpfulness"] * 3
    assert got.fields["category_3"].tolist() == ["Code"] * 3
    assert got.ids.tolist() == ["u0", "u1", "u2"]


def math_row(i, scores, first="human_to_GPT-4"):
    return {"problem": f"p{i}", "solution_reference": [first] + ["other"] * (len(scores) - 1), "score": scores}


def test_rewardmath_needs_the_correct_solution_first(tmp_path):
    rows = [math_row(0, [1.0, 2.0, 3.0]), math_row(1, [1.0, 2.0, 3.0], "someone")]
    with pytest.raises(
        DataError, match=r"record 2, field 'solution_reference': candidate 0 is by 'someone'|'someone'"
    ):
        read(write(tmp_path / "m.json", rows))


def test_rewardmath_step_probabilities_must_be_probabilities(tmp_path):
    for bad, message in (
        ([[0.5, 1.5], [0.2]], "step 1 is 1.5"),
        ([[0.5], []], "candidate 1 is an empty list"),
        ([[0.5], [None]], "candidate 1, step 0 is null"),
        ([[0.5], [True]], "true"),
        ([[0.5, 0.1], 0.5], "candidate 1"),
    ):
        path = write(tmp_path / "prm.json", [math_row(0, [[0.1, 0.2], [0.3]]), math_row(1, bad)])
        with pytest.raises(DataError, match=message) as caught:
            read(path, aggregate="min")
        assert "record 2, field 'score'" in str(caught.value)
        got = read(path, aggregate="min", on_error="skip")
        assert got.scores.dense().tolist() == [[0.1, 0.3]]


def test_an_aggregate_that_is_not_finite_is_refused(tmp_path):
    path = write(tmp_path / "prm.json", [math_row(0, [[0.1, 0.2], [0.3]]), math_row(1, [[0.5, 1.0], [0.2]])])
    with pytest.raises(DataError, match=r"record 2.*'mean_odd' is not finite"):
        read(path, aggregate="mean_odd")
    assert read(path, aggregate="mean_logit").scores.dense()[1, 0] == 1.0


def test_aggregate_of_one_score_a_candidate_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="step probabilities"):
        read(write(tmp_path / "m.json", [math_row(0, [1.0, 2.0])]), aggregate="min")
    with pytest.raises(UsageError, match="did you mean 'mean_logit'"):
        read(write(tmp_path / "m.json", [math_row(0, [1.0, 2.0])]), aggregate="mean_logits")


def judge_row(i, said, places):
    return {"problem": f"p{i}", "solution_reference": ["x"] * len(said), "score": said, "chosen_position": places}


def test_pairwise_judge_with_different_numbers_of_candidates(tmp_path):
    rows = [judge_row(0, ["A", None, "B"], ["A", "A", "A"]), judge_row(1, ["B"], ["B"])]
    got = read(write(tmp_path / "j.json", rows))
    nan = np.nan
    assert np.array_equal(got.pair_probs[:, 0], [[nan, 1, nan, 0], [nan, 1, nan, nan]], equal_nan=True)
    assert np.array_equal(got.pair_probs[0, :, 0], [nan, 0, nan, 1], equal_nan=True)
    assert got.outcomes.sizes.tolist() == got.sizes.tolist() == [4, 2]
    assert any("1 of 4 verdicts are null" in n and "33.3%" in n for n in got.info.notes)
    assert got.info.n_items == (2, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (judge_row(1, ["A", "C"], ["A", "B"]), "'C'"),
        (judge_row(1, ["A"], ["A", "B"]), "has 2 entries"),
        (judge_row(1, [], []), "empty list"),
        (judge_row(1, ["A", "B"], ["A", None]), "entry 1 is null"),
        (judge_row(0, ["A", "B"], ["A", "B"]), "repeats record 1|key of record 1"),
    ],
)
def test_pairwise_judge_bad_records(tmp_path, row, message):
    path = write(tmp_path / "j.json", [judge_row(0, ["A", "B"], ["A", "B"]), row])
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "j.json, record 2" in str(caught.value)
    assert read(path, on_error="skip").info.n_skipped == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": "m", "Chat": 0.9, "Chat Hard": 0.8, "Safety": 0.9, "Reasoning": 0.7}, "eval-set-scores"),
        ({"model": "m", "alpacaeval-easy": 0.9, "math-prm": 0.3, "hep-cpp": 0.8}, "aggregate accuracies"),
        ({"accuracy": 0.9, "num_prompts": 10, "model": "m", "extra_results": None}, "aggregate accuracies"),
        ({"text_chosen": ["a"], "text_rejected": ["b"], "results": [1], "subset": ["s"], "model": "m"}, "verdicts"),
        ({"text": ["a", "b"], "results": [0.3, 1.5]}, "one answer a prompt"),
        ([{"input": "p", "output": "a", "reward": 0.5}], "nothing says which answer is better"),
        ([{"prompt": "p", "chosen": "a", "chosen_reward": 2, "rejected": "b", "rejected_reward": 1}], "itself chose"),
        ([{"prompt": "p", "scores": [1.0, 2.0], "model": "m", "id": 3}], "no outcome"),
    ],
)
def test_files_without_what_an_audit_needs_are_refused_by_name(tmp_path, value, message):
    path = write(tmp_path / "file.json", value)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "file.json" in str(caught.value)


def test_openrlhf_with_an_outcome_reads_as_long(tmp_path):
    rows = [
        {"input": p, "output": "x", "reward": r, "right": g} for p, r, g in [("a", 1, 1), ("b", 2, 0), ("a", 0, 0)]
    ]
    rows.append({"input": "b", "output": "y", "reward": 0.5, "right": 1})
    path = write(tmp_path / "o.json", rows)
    got = read(path, columns={"instance": "input", "score": "reward", "best": "right"})
    assert got.ids.tolist() == ["a", "b"]
    assert got.scores.dense().tolist() == [[1, 0], [2, 0.5]]
    assert got.outcomes.dense().tolist() == [[1, 2], [2, 1]]


def test_chosen_by_others_reads_as_pairs(tmp_path):
    path = write(
        tmp_path / "o.json", [{"chosen_reward": 2, "rejected_reward": 1}, {"chosen_reward": 0, "rejected_reward": 1}]
    )
    got = read(path, columns={"chosen": "chosen_reward", "rejected": "rejected_reward"})
    assert got.scores.dense().tolist() == [[2, 1], [0, 1]]


def test_hanna_cells(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text(
        'Model,Relevance,BLEU\nHuman,"[3.0, 2.0]","[0.1, 0.2]"\nGPT,"[1.0, 2.0]","[0.3, 0.1]"\n', encoding="utf-8"
    )
    got = read(path, columns={"scores": "BLEU", "ratings": "Relevance"})
    assert got.scores.dense().tolist() == [[0.1, 0.3], [0.2, 0.1]]
    assert got.outcomes.dense().tolist() == [[1, 2], [1, 1]]
    assert got.info.settings["labels"] == ["Human", "GPT"]
    for old, new, message in (
        ("[0.3, 0.1]", "[0.3]", "has 1 numbers"),
        ("[0.3, 0.1]", "[0.3, 'x']", "prompt 1 is text 'x'"),
        ("[0.3, 0.1]", "boom()", "where a list"),
        ("GPT", "Human", "twice"),
    ):
        bad = tmp_path / "bad.csv"
        bad.write_text(path.read_text().replace(old, new))
        with pytest.raises(DataError, match=message):
            read(bad, columns={"scores": "BLEU", "ratings": "Relevance"})


def test_format_can_be_named_and_is_then_checked(tmp_path):
    value, _ = rewardbench_2()
    path = write(tmp_path / "a.json", value)
    assert read(path, format="rewardbench-2").info.format == "rewardbench-2"
    with pytest.raises(DataError, match=r"a\.json: is not of format 'rewardmath'.*looked for .*found"):
        read(path, format="rewardmath")
    with pytest.raises(UsageError, match="did you mean 'rewardbench-2'"):
        read(path, format="rewardbench2")
    with pytest.raises(UsageError, match="takes no column for scores"):
        read(path, format="rewardbench-2", columns={"scores": "scores"})


def test_every_format_is_registered_once_and_describes_itself():
    assert len({type(f) for f in FORMATS.values()}) == len(FORMATS)
    for name, fmt in FORMATS.items():
        assert fmt.name == name
        assert fmt.looks_for
        assert (type(fmt).__doc__ or "").strip()


def test_a_new_format_needs_its_class_and_its_line_only(tmp_path, monkeypatch):
    class Mine(Format):
        """A format of the test."""

        name = "mine"
        looks_for = "'mine'"

        def sniff(self, content: Content, columns) -> bool:
            return "mine" in content.names

        def read(self, reading):
            reading.notes.append("read by mine")
            return FORMATS["wide"].read(reading)

    monkeypatch.setattr("prefcal.data.readers.FORMATS", {"mine": Mine(), **FORMATS})
    got = read(write(tmp_path / "a.json", [{"mine": 1, "scores": [1, 2], "best": 0}]))
    assert got.info.notes == ("read by mine",)
