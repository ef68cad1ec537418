"""What is shown of a search for the worst group; real data."""

from __future__ import annotations

import io
import json

import numpy as np
from rich.console import Console

import prefcal as pc
from grouped_samples import QUICK, sample
from prefcal.audited import Audit
from prefcal.cli import main
from prefcal.report.html import render_html
from prefcal.report.terminal import render_terminal
from prefcal.report.worst import MOST_ROWS, worst_tables
from test_report_html import Structure


def test_json_terminal_and_page_show_the_search(tmp_path, capsys):
    h, y = sample(15, 300, factor=np.where(np.arange(300) % 2, 3.0, 1.0))
    ranks = y.dense()
    path = tmp_path / "s.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(300):
            row = {"scores": h.scores.dense()[i].tolist(), "ranks": ranks[i].tolist()}
            file.write(json.dumps(row | {"kind": "<b>" if i % 2 else "even", "length": i}) + "\n")
    report, document = tmp_path / "r.html", tmp_path / "r.json"
    files = ["--report", str(report), "--json", str(document)]
    assert main(["audit", str(path), "--notion", "sub-2", "--worst", "kind", "@spread", "@length", *files]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    found = json.loads(document.read_text(encoding="utf-8"))
    assert [w["conjunctions"] for w in found["worst"]] == [False, True]
    assert found["worst"][0]["groups"][0]["group"] == {"kind": "<b>"}
    assert found["worst"][0]["may_be_worst"]
    assert {k for r in found["results"] for k in r} == {
        "model", "notion", "group", "estimator", "value", "null_mean", "debiased", "interval", "p_value",
        "p_adjusted", "n_events", "n_instances", "verdict", "settings", "curve",
    }  # fmt: skip
    page = report.read_text(encoding="utf-8")
    assert "worst" in Structure(page).ids  # well formed, too
    assert "kind = &lt;b&gt;" in page
    assert "Worst group: s, sub-2" in shown
    assert "the worst is kind = <b> (150 instances)" in shown
    assert main(["audit", str(path), "--notion", "sub-2", "--json", str(document), "--quiet"]) == 0
    assert "worst" not in json.loads(document.read_text(encoding="utf-8"))


def test_unknown_fields_are_refused_with_both_kinds_of_names(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text('{"scores": [1, 2], "best": 0, "kind": "a"}\n' * 3, encoding="utf-8")
    for option in ("--group", "--worst"):
        assert main(["audit", str(path), option, "@nothing"]) == 2
        message = capsys.readouterr().err
        assert "kind" in message
        assert "@spread, @margin, @candidates, @length" in message


def test_a_search_without_groups_is_a_warning(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text(
        '{"scores": [1, 2], "best": 0, "kind": "a"}\n{"scores": [1, 2], "best": 1, "kind": "b"}\n', encoding="utf-8"
    )
    assert main(["audit", str(path), "--worst", "kind", "--notion", "sub-2"]) == 0
    assert "groups with 30 usable instances" in " ".join(capsys.readouterr().out.split())


def test_merged_audits_keep_their_searches():
    h, y = sample(16, 200)
    w = pc.worst_group(h, y, {"f": np.arange(200) % 2}, **QUICK)
    one = Audit(pc.audit(h, y, notions="sub-2", draws=99).results, worst=[w])
    both = one.merge(one)
    assert both.worst == [w, w]
    assert len(json.loads(both.to_json())["worst"]) == 2
    assert render_html(both).count("Worst group: model, sub-2") >= 2


def test_many_groups_are_counted_not_drawn():
    h, y = sample(17, 2000)
    w = pc.worst_group(h, y, {"f": np.arange(2000) % 40}, **QUICK)
    (table,) = worst_tables([w])
    assert (len(table.rows), table.n_more) == (MOST_ROWS, 40 - MOST_ROWS)


def test_rewardbench2_precise_instruction_following_is_worst(data_dir):
    folder = data_dir / "reward_models/themis-judge-reliability/results/gate"
    file = pc.read(folder / "Skywork__Skywork-Reward-V2-Llama-3.1-8B.jsonl")
    h = pc.PlackettLuce(file.scores)
    found = pc.worst_group(h, file.outcomes, {"subset": file.fields["subset"]}, items="exchangeable")
    assert found.worst.group == {"subset": "Precise IF"}
    assert found.worst.probability_worst > 0.9
    assert found.held_out.p_value < 0.05
    assert found.p_larger < 0.01


def test_a_search_says_why_the_fields_are_not_tested_and_names_the_one():
    rng = np.random.default_rng(0)
    truth = pc.PlackettLuce(rng.normal(size=(400, 3)))
    y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    clusters = np.arange(400) // 4
    fields = {"<b>shift</b>": np.arange(400) % 2, "constant": clusters % 2}
    for search in (pc.worst_group, pc.worst_conjunction):
        found = search(truth.scaled(2.0), y, fields, items="exchangeable", clusters=clusters)
        assert np.isnan(found.p_larger)
        assert found.settings["varies_within_clusters"] == ["<b>shift</b>"]
        assert found.record()["p_larger"] is None
        audit = pc.audit(truth, y, items="exchangeable")
        audit.worst.append(found)
        page = render_html(audit)
        assert "is not tested (p_larger is empty): &lt;b&gt;shift&lt;/b&gt; varies within clusters" in page
        console = Console(file=io.StringIO(), width=500, color_system=None)
        render_terminal(audit, console)
        assert "shift</b> varies within clusters" in console.file.getvalue()
    tested = pc.worst_group(truth, y, {"constant": clusters % 2}, items="exchangeable", clusters=clusters)
    assert tested.settings["varies_within_clusters"] == []
    assert tested.p_larger > 0
