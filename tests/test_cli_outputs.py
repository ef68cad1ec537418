"""Outputs replace nothing that is read, and hold what there is."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main


@pytest.fixture
def scores(tmp_path):
    """A score file with lists of 2 to 5 candidates."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        own = rng.normal(size=2 + i % 4)
        best = int(np.argmax(own / 3 + rng.gumbel(size=len(own))))
        rows.append(json.dumps({"scores": own.tolist(), "best": best, "subset": "ab"[i % 2]}))
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "line",
    [
        "audit {s} --report {s}", "audit {s} --json {s}",
        "compare {s} {o} --report {o}", "compare {s} {o} --json {s}",
        "recalibrate {s} --save {s}", "recalibrate {s} --report {s}", "recalibrate {s} --save {n} --report {n}",
        "recalibrate {s} --save {n} --json {n}", "apply {m} {s} --out {s}", "apply {m} {s} --out {m}",
        "power --from {s} --json {s}",
    ],
)  # fmt: skip
def test_no_output_replaces_what_is_read_or_another_output(line, scores, tmp_path, capsys):
    other, saved = tmp_path / "other.jsonl", tmp_path / "map.json"
    other.write_bytes(scores.read_bytes())
    assert main(["recalibrate", str(scores), "--method", "temperature", "--save", str(saved), "--quiet"]) == 0
    before = {p: p.read_bytes() for p in (scores, other, saved)}
    words = line.format(s=scores, o=other, m=saved, n=tmp_path / "new.json").split()
    assert main(words) == 2
    assert "error: --" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in before} == before
    assert not (tmp_path / "new.json").exists()


def test_a_negative_seed_is_bad_usage_for_every_command(scores, capsys):
    for command in ("audit", "recalibrate"):
        assert main([command, str(scores), "--seed", "-1"]) == 2
    assert main(["compare", str(scores), f"b={scores}", "--seed", "-1"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_pair_probabilities_are_written_for_the_candidates_that_there_are(scores, tmp_path):
    saved, out = tmp_path / "map.json", tmp_path / "out.jsonl"
    assert main(["recalibrate", str(scores), "--method", "uniform", "--save", str(saved), "--quiet"]) == 0
    assert main(["apply", str(saved), str(scores), "--out", str(out)]) == 0
    read = [json.loads(line)["scores"] for line in scores.read_text(encoding="utf-8").splitlines()]
    fit = pc.load_recalibrator(saved)
    for own, row in zip(read, map(json.loads, out.read_text(encoding="utf-8").splitlines()), strict=True):
        alone = fit(pc.PlackettLuce([own]))
        assert np.shape(row["pair_probs"]) == (len(own), len(own))
        np.testing.assert_allclose(row["best_probs"], np.exp(alone.top_log_probs()[0]), rtol=1e-12)
        for a, b in itertools.combinations(range(len(own)), 2):
            p = 1 / (1 + math.exp(-alone.pair_log_odds(np.array([a]), np.array([b]))[0, 0]))
            assert row["pair_probs"][a][b] == pytest.approx(p, rel=1e-12)
            assert row["pair_probs"][b][a] == pytest.approx(1 - p, rel=1e-9)
