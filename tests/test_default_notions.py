"""Default notions that cannot be judged are left out, with a word; named ones fail."""

from __future__ import annotations

import json

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import some_pairs, stated_pairs
from prefcal.cli import main

N = 120


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [3, 5])
def test_a_default_notion_of_which_nothing_is_known_is_left_out_and_named(m, items):
    h, y = some_pairs(m)
    found = pc.audit(h, y, items=items)
    assert [r.notion for r in found.results] == ["sub-2"]
    assert len(found.warnings) == 1
    assert "left out of the default notions: top-1:confidence: no instance has a usable event" in found.warnings[0]
    alone = pc.audit(h, y, notions="sub-2", items=items)
    assert alone.records() == found.records()
    assert alone.warnings == []
    for named in ("top-1:confidence", ("sub-2", "top-1:confidence")):
        with pytest.raises(pc.DataError, match="no instance has a usable event"):
            pc.audit(h, y, notions=named, items=items)


def test_with_two_candidates_a_pair_tells_the_best_and_nothing_is_left_out():
    found = pc.audit(*some_pairs(2))
    assert [r.notion for r in found.results] == ["sub-2", "top-1:confidence"]
    assert found.warnings == []


def test_a_default_notion_that_the_forecasts_do_not_state_is_left_out_and_named():
    h, y = some_pairs(4)
    pairs = stated_pairs(h)
    found = pc.audit(pairs, y)
    assert [r.notion for r in found.results] == ["sub-2"]
    assert "top-1:confidence: pairwise probabilities state nothing beyond pairs" in found.warnings[0]
    with pytest.raises(pc.UsageError, match="nothing beyond pairs"):
        pc.audit(pairs, y, notions="top-1:confidence")


def test_where_no_default_notion_can_be_judged_the_audit_fails():
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(5, 3)))
    unknown = pc.Outcomes.from_ranks(np.tile([1.0, np.nan, np.nan], (5, 1)))
    tied = pc.Outcomes.from_ranks(np.ones((5, 3)))
    for y in (unknown, tied):
        with pytest.raises(pc.DataError, match="no instance has a usable event"):
            pc.audit(h, y)


@pytest.mark.parametrize("kind", ["scores", "pairs"])
def test_mend_leaves_the_same_default_notions_out_before_and_after(kind):
    h, y = some_pairs(4)
    if kind == "pairs":
        h = stated_pairs(h)
    found = pc.mend(h, y, "temperature")
    assert [r.notion for r in found.before.results] == [r.notion for r in found.after.results] == ["sub-2"]
    assert sum("left out of the default notions: top-1:confidence" in text for text in found.warnings) == 1
    json.loads(found.to_json())
    with pytest.raises(pc.PrefcalError, match="top-1:confidence"):
        pc.mend(h, y, "temperature", notions=["top-1:confidence"])


@pytest.mark.parametrize("command", ["audit", "recalibrate"])
def test_the_commands_leave_default_notions_out_and_fail_for_named_ones(command, tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "scores.jsonl"
    path.write_text(
        "".join(
            json.dumps({"scores": rng.normal(size=3).tolist(), "chosen": [0], "rejected": [int(rng.integers(1, 3))]})
            + "\n"
            for _ in range(N)
        )
    )
    assert main([command, str(path), "--json", "-"]) == 0
    text = capsys.readouterr().out
    assert "left out of the default notions: top-1:confidence" in text
    assert '"sub-2"' in text
    assert main([command, str(path), "--notion", "top-1:confidence"]) == 2
    assert "no instance has a usable event" in capsys.readouterr().err
