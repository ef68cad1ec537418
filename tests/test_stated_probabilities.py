"""What apply writes of forecasts without scores can be read and audited again; files of probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import some_pairs
from prefcal.cli import main

N = 120

MAPS = ["stage-wise", "uniform", "temperature"]


def score_file(path, sizes, seed: int = 0, scale: float = 3.0):
    """Over-confident scores with ranks, one list for each of ``sizes``."""
    rng = np.random.default_rng(seed)
    records = []
    for i, m in enumerate(sizes):
        scores = rng.normal(size=m)
        ranks = (-(scores + rng.gumbel(size=m))).argsort().argsort() + 1
        records.append({"id": i, "kind": "ab"[i % 2], "scores": (scale * scores).tolist(), "ranks": ranks.tolist()})
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("sizes", [(4,) * 150, (2, 3, 5) * 50], ids=["fixed", "varying"])
def test_what_apply_writes_is_audited_as_the_distribution_it_was(sizes, method, ending, tmp_path, capsys):
    path, cal, out = score_file(tmp_path / "s.jsonl", sizes), tmp_path / "cal.json", tmp_path / f"out{ending}"
    assert main(["recalibrate", str(path), "--method", method, "--save", str(cal), "--quiet"]) == 0
    assert main(["apply", str(cal), str(path), "--out", str(out)]) == 0
    file = pc.read(path)
    mended = pc.load_recalibrator(cal)(pc.PlackettLuce(file.scores))
    expected = pc.audit(mended, file.outcomes, items="exchangeable", groups={"kind": file.fields["kind"]})
    capsys.readouterr()
    assert main(["audit", str(out), "--group", "kind", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"][0]["n_items"] == [min(sizes), max(sizes)]
    # The file's forecasts cannot be drawn from, so null laws differ; every statistic of the data is the same.
    by_key = {(r["notion"], str(r["group"]), r["estimator"]): r for r in found["results"]}
    compared = 0
    for record in expected.records():
        key = (record["notion"], str(record["group"]), record["estimator"])
        if key not in by_key or "temperature" in key[2] or key[2].startswith(("detectable", "p_value")):
            continue
        assert by_key[key]["value"] == pytest.approx(record["value"], rel=1e-7, abs=1e-9), key
        if record["estimator"] == "ece":
            assert by_key[key]["debiased"] == pytest.approx(record["debiased"], rel=1e-6, abs=1e-8)
            assert by_key[key]["n_events"] == record["n_events"]
            compared += 1
    assert compared == 6  # two notions; all, and two groups


def test_notions_that_a_file_of_probabilities_does_not_state_are_refused(tmp_path, capsys):
    path, cal, out = score_file(tmp_path / "s.jsonl", (4,) * 80), tmp_path / "cal.json", tmp_path / "out.jsonl"
    assert main(["recalibrate", str(path), "--method", "uniform", "--save", str(cal), "--quiet"]) == 0
    assert main(["apply", str(cal), str(path), "--out", str(out)]) == 0
    for notion in ("top-2", "sub-3", "topset-2", "position", "full:canonical", "top-1:canonical", "full:confidence"):
        capsys.readouterr()
        assert main(["audit", str(out), "--notion", notion]) == 2
        assert "pairwise probabilities state nothing beyond" in capsys.readouterr().err
    assert main(["audit", str(out), "--notion", "top-1", "topset-1", "topset-1:confidence", "--quiet"]) == 0
    assert main(["audit", str(out), "--items", "labelled", "--notion", "sub-2", "top-1", "sub-2:rankwise"]) == 0
    assert main(["compare", str(out), "--model", f"again={out}"]) == 0
    assert "top-1:confidence" in capsys.readouterr().out
    assert main(["recalibrate", str(out), "--method", "temperature"]) == 2
    assert "PairsAndBest" in capsys.readouterr().err


def test_a_map_of_a_judges_pairs_is_applied_and_audited_in_the_same_format(tmp_path, capsys):
    rng = np.random.default_rng(0)
    h, y = some_pairs(3)
    path, cal, out = tmp_path / "judge.jsonl", tmp_path / "cal.json", tmp_path / "out.jsonl"
    records = []
    for i in range(N):
        a, b = (int(np.flatnonzero(y.dense()[i] == r)[0]) for r in (1, 2))
        first, second = np.triu_indices(3, 1)
        p = [[None] * 3 for _ in range(3)]
        for u, v, odds in zip(first, second, 3 * h[i].pair_log_odds(first, second)[0], strict=True):
            if rng.random() < 0.9:  # a reply that could not be parsed states nothing
                p[u][v] = 1 / (1 + np.exp(-odds))
        records.append({"pair_probs": p, "chosen": a, "rejected": [b]})
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    file = pc.read(path)
    assert file.scores is None
    assert file.pair_probs.shape == (N, 3, 3)
    assert main(["recalibrate", str(path), "--method", "temperature", "--save", str(cal), "--quiet"]) == 0
    assert main(["apply", str(cal), str(path), "--out", str(out)]) == 0
    mended = pc.load_recalibrator(cal)(pc.Pairwise(file.pair_probs))
    again = pc.Pairwise(pc.read(out).pair_probs)
    np.testing.assert_allclose(again.probs, mended.probs, rtol=0, atol=1e-15)
    a, b = (pc.audit(d, file.outcomes, items="exchangeable")["sub-2"] for d in (mended, again))
    assert a.value == pytest.approx(b.value, rel=1e-12)
    assert a.interval == pytest.approx(b.interval, rel=1e-9)


@pytest.mark.parametrize("form", ["number", "matrix", "csv"])
def test_the_probability_of_one_pair_is_a_number_or_a_matrix(form, tmp_path):
    rng = np.random.default_rng(0)
    p = rng.random(40)
    best = (rng.random(40) > p).astype(int)
    path = tmp_path / ("judge.csv" if form == "csv" else "judge.jsonl")
    if form == "csv":
        path.write_text("judge,best\n" + "".join(f"{x!r},{b}\n" for x, b in zip(p.tolist(), best, strict=True)))
    else:
        shown = p.tolist() if form == "number" else [[[None, x], [1 - x, 0.5]] for x in p.tolist()]
        lines = [json.dumps({"judge": x, "best": int(b)}) for x, b in zip(shown, best, strict=True)]
        path.write_text("\n".join(lines))
    file = pc.read(path, columns={"pair_probs": "judge"})
    expected = pc.audit(
        pc.PlackettLuce(np.column_stack([np.log(p), np.log1p(-p)])), file.outcomes, items="exchangeable"
    )
    found = pc.audit(pc.Pairwise(file.pair_probs), file.outcomes, items="exchangeable")
    assert found["sub-2"].value == pytest.approx(expected["sub-2"].value, abs=1e-12)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"pair_probs": 1.2}, "is 1.2; a probability is expected"),
        ({"pair_probs": "0.5"}, "where a list of lists"),
        ({"pair_probs": None}, "where a list of lists"),
        ({"pair_probs": True}, "where a list of lists"),
        ({"pair_probs": []}, "where a list of lists"),
        ({"pair_probs": [[None, 0.5]]}, "is no square"),
        ({"pair_probs": [[None, 0.5], [0.5]]}, "is no square"),
        ({"pair_probs": [[None, 0.5], 0.5]}, "is no square"),
        ({"pair_probs": [[0.5]]}, "only one candidate"),
        ({"pair_probs": [[None, "a"], [0.5, None]]}, "holds text 'a' where a probability or null is expected"),
        ({"pair_probs": [[None, True], [0.5, None]]}, "where a probability or null is expected"),
        ({"pair_probs": [[None, -0.5], [None, None]]}, "entry [0][1] is -0.5"),
        ({"pair_probs": [[None, float("nan")], [None, None]]}, "NaN"),
        ({"pair_probs": [[None, 10**400], [None, None]]}, "too large for float64"),
        ({"pair_probs": [[None, 0.7], [0.7, None]]}, "do not sum to 1"),
        ({}, "is missing"),
        ({"best_probs": [0.5, 0.2]}, "sums to 0.7; probabilities to be best sum to 1"),
        ({"best_probs": [1.5, -0.5]}, "is no probability"),
        ({"best_probs": [1.0]}, "has 1 entries, but 'pair_probs' has 2"),
        ({"best_probs": [None, 1.0]}, "is null"),
        ({"ranks": [1, 2, 3]}, "has 3 entries, but 'pair_probs' has 2"),
    ],
)
def test_records_without_usable_probabilities_are_named_or_skipped(record, message, tmp_path):
    good = {"pair_probs": [[None, 0.7], [0.3, None]], "best_probs": [0.7, 0.3], "ranks": [1, 2]}
    bad = {k: v for k, v in (good | record).items() if record or k != "pair_probs"}
    path = tmp_path / "judge.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (good, bad, good)))
    with pytest.raises(pc.DataError) as error:
        pc.read(path)
    assert message in str(error.value)
    assert "line 2" in str(error.value)
    kept = pc.read(path, on_error="skip")
    assert (len(kept), kept.info.n_skipped) == (2, 1)
    assert kept.pair_probs.shape == (2, 2, 2)


def test_one_record_of_a_matrix_is_a_record(tmp_path):
    path = tmp_path / "judge.jsonl"
    path.write_text(json.dumps({"pair_probs": [[None, 0.7], [0.3, None]], "ranks": [1, 2]}))
    assert len(pc.read(path)) == 1


def test_scores_win_over_probabilities_beside_them_unless_these_are_asked_for(tmp_path):
    path = tmp_path / "both.jsonl"
    path.write_text(json.dumps({"scores": [1.0, 0.0], "pair_probs": [[None, 0.9], [0.1, None]], "best": 0}) + "\n")
    file = pc.read(path)
    assert file.scores is not None
    assert "holds scores and probabilities of pairs" in file.info.notes[0]
    file = pc.read(path, columns={"pair_probs": "pair_probs"})
    assert file.scores is None
    assert file.pair_probs[0, 0, 1] == 0.9
