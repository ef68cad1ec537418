"""``prefcal power``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main
from prefcal.report.power import detectable_text
from prefcal.result import Estimate

FAST = ("power", "--candidates", "2", "--temperature", "2.5")


@pytest.fixture
def scores(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 2))
    best = pc.PlackettLuce(values).sample(1, rng)[:, 0, 0]
    path = tmp_path / "model.jsonl"
    rows = ({"scores": s.tolist(), "best": int(b)} for s, b in zip(values, best, strict=True))
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_summary_says_n_and_why(capsys):
    assert main([*FAST, "--n", "60", "240"]) == 0
    out = capsys.readouterr().out
    assert "divided by 2.50 (over-confident)" in " ".join(out.split())
    assert "instances [" in out
    assert [line.split()[0] for line in out.splitlines() if line.strip().endswith("%") and "to" in line] == [
        "60",
        "240",
    ]
    assert all(len(line) <= 100 for line in out.splitlines())


def test_json_is_the_plan(capsys, tmp_path):
    assert main([*FAST, "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(pc.power(m=2, temperature=2.5).to_json())
    assert document["schema"] == 1
    assert document["prefcal"] == pc.__version__
    assert document["n"]["interval"][0] < document["n"]["value"] < document["n"]["interval"][1]
    target = tmp_path / "plan.json"
    assert main([*FAST, "--json", str(target)]) == 0
    assert json.loads(target.read_text()) == document


def test_a_file_is_the_population(capsys, scores):
    assert main(["power", "--from", str(scores), "--temperature", "2.5", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    (source,) = document["inputs"]
    assert source["path"] == str(scores)
    assert len(source["sha256"]) == 64
    assert document["settings"]["observed"] == "as in the outcomes given"
    assert document["settings"]["m"] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--temperature", "1"), "not 1"),
        (("--notion", "full:canonical"), "vector notion"),
        (("--notion", "sub-9"), "sub-9"),
        (("--json", "no-such-folder/x.json"), "no directory"),
        (("--from", "no-such-file.jsonl"), "no such file"),
    ],
)
def test_refusals(capsys, arguments, words):
    assert main(["power", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert re.search(words, err), err


def test_a_population_is_made_up_or_given(capsys, scores):
    assert main(["power", "--from", str(scores), "--spread", "2"]) == 2
    assert "leave them out with --from" in capsys.readouterr().err


def test_words_for_what_data_could_show():
    assert detectable_text(None, None) == ""
    text = detectable_text(Estimate(1.41), Estimate(0.0))
    assert text == "this data could only have shown a temperature above 1.4"


def test_stated_pair_probabilities_are_a_population(capsys, tmp_path):
    rng = np.random.default_rng(1)
    first = rng.uniform(0.1, 0.9, 200)
    rows = [{"pair_probs": [[0.5, p], [1 - p, 0.5]], "best": int(rng.random() > p)} for p in first.tolist()]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["power", "--from", str(path), "--temperature", "2.5"]) == 0
    assert "when the log-odds of the pairs should be divided by 2.50" in " ".join(capsys.readouterr().out.split())
    rows = [{"pair_probs": np.full((3, 3), 0.5).tolist(), "ranks": [1, 2, 3]}] * 4
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["power", "--from", str(path)]) == 2
    assert "how the events of an instance depend on each other" in capsys.readouterr().err
