"""What a second adversarial review left open, kept from coming back."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binom

import prefcal as pc
from prefcal.cli import main
from prefcal.estimators.derived import spread
from prefcal.estimators.inputs import rounded
from prefcal.recalibration import METHODS
from prefcal.recalibration.persistence import rebuild
from prefcal.report.findings import findings
from prefcal.report.html import render_html
from prefcal.report.mending import findings_of, render_mending
from prefcal.report.terminal import render_terminal

N = 120


def some_pairs(m: int, seed: int = 0) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Scores of m candidates, and one comparison of two of them an instance."""
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(N, m)))
    order = h.sample(1, rng)[:, 0]
    first, second = np.sort(np.argsort(rng.random((N, m)), axis=1)[:, :2], axis=1).T
    rows = np.arange(N)
    return h, pc.Outcomes.from_pairs(np.column_stack([rows, order[rows, first], order[rows, second]]), n_items=m)


# ---- a default notion of which nothing is known (17)


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
    first, second = np.triu_indices(4, 1)
    p = np.full((N, 4, 4), np.nan)
    p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
    pairs = pc.Pairwise(p)
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
        first, second = np.triu_indices(4, 1)
        p = np.full((N, 4, 4), np.nan)
        p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
        h = pc.Pairwise(p)
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


# ---- what apply writes can be read and audited again (19)

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


# ---- what the help says (18)


def test_the_help_of_recalibrate_lists_every_registered_method(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # or names would be cut at their hyphens
    assert main(["recalibrate", "--help"]) == 0
    shown = capsys.readouterr().out
    text = " ".join(shown[shown.index("--method M ") :].split("--save")[0].split())
    listed = {m.strip() for m in text.split("one of ")[1].split(",")}
    assert listed == set(METHODS) - {"auto"}


@pytest.mark.parametrize("words", [["--help"], ["audit", "--help"], ["apply", "--help"]])
def test_other_help_loads_no_map(words):
    code = (
        "import sys; from prefcal.cli import main; main(sys.argv[1:]); "
        "print(sorted(m for m in sys.modules if m in ('numpy', 'scipy') or m.startswith('prefcal.recalibration')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("command", ["recalibrate", "apply"])
def test_the_help_says_what_a_command_of_one_file_takes(command, capsys):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "the score file, of one model" in text
    assert ("get a map each" in text) == (command == "recalibrate")


# ---- numbers that are none (26), and a test that was not made (27)

NO_NUMBERS = ["x", "", None, [0.3], {}, float("nan"), object(), np.array([0.1, 0.2]), b"1"]
NO_SEEDS = ["x", None, [1], -1, 2.5, float("nan"), True, object()]


def one_number() -> dict:
    """Every call with a number, or a list of one, as its argument."""
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    d = pc.decisions
    return {
        "conformal level": lambda v: pc.conformal_sets(h, y, level=v),
        "promises": lambda v: d.abstention(h, y, promises=[v], draws=9),
        "costs": lambda v: d.routing(h, y, costs=[v]),
        "thresholds": lambda v: d.filtering(h, y, thresholds=[v]),
        "fractions": lambda v: d.filtering(h, y, fractions=[v]),
        "sizes": lambda v: d.best_of_n(h, y, sizes=[v]),
        "beta": lambda v: d.kl_weight(h, y, beta=v),
        "tolerance": lambda v: pc.audit(h, y, tolerance=v),
        "tolerance of mend": lambda v: pc.mend(h, y, "temperature", tolerance=v),
        "alpha": lambda v: pc.power(alpha=v),
        "target": lambda v: pc.power(target=v),
        "spread": lambda v: pc.power(spread=v),
        "temperature": lambda v: pc.power(temperature="none" if v is None else v),
        "ece": lambda v: pc.power(ece="none" if v is None else v),
    }


@pytest.mark.parametrize("what", one_number())
def test_what_is_no_number_is_bad_usage(what):
    for value in NO_NUMBERS:
        with pytest.raises(pc.UsageError):
            one_number()[what](value)


@pytest.mark.parametrize("value", ["x", "", None, 0.5, float("nan"), True, object(), [["x"]], [None]])
@pytest.mark.parametrize("name", ["promises", "costs", "thresholds", "fractions"])
def test_what_is_no_list_of_numbers_is_bad_usage(name, value):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(30, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    with pytest.raises(pc.UsageError, match=name):
        pc.decisions.decisions(h, y, draws=9, **{name: value})


@pytest.mark.parametrize("value", NO_SEEDS)
def test_what_is_no_seed_is_bad_usage(value):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    calls = (
        pc.audit, pc.conformal_sets, pc.decisions.decisions, pc.decisions.abstention, pc.decisions.routing,
        pc.hpd_coverage, pc.rank_histogram, lambda h, y, seed: pc.mend(h, y, "temperature", seed=seed),
        lambda h, y, seed: pc.worst_group(h, y, {"a": np.arange(60) % 2}, seed=seed),
        lambda h, y, seed: pc.compare({"a": h, "b": h}, y, seed=seed),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(pc.UsageError, match="seed must be a whole number"):
            call(h, y, seed=value)


@pytest.mark.parametrize("value", [None, 3, ["top-1"], True, "x"])
def test_names_that_are_none_are_bad_usage(value):
    h, y = some_pairs(3)
    for more in ({"event": value}, {"score": value}, {"method": value}, {"method": "cross", "recalibration": value}):
        with pytest.raises(pc.UsageError, match="unknown"):
            pc.conformal_sets(h, y, **more)
    with pytest.raises(pc.UsageError, match="unknown view"):
        pc.View.parse(value)


def test_numbers_of_numpy_are_numbers():
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    assert pc.conformal_sets(h, y, level=np.float32(0.75)).level == 0.75
    assert pc.decisions.filtering(h, y, thresholds=np.array([0.5, 0.75])).at(0.75)
    assert len(pc.decisions.best_of_n(h, y, sizes=np.array([2])).sizes) == 1


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


# ---- tests that hold a draw do not depend on the order of the rows (29)

DRAWN = [
    "PlackettLuce",
    "Mallows",
    "Categorical",
    "Pairwise",
    "many items",
    "ragged",
    "best only",
    "clusters",
    "Samples",
]


def drawn_case(kind: str, n: int = 90):
    """Forecasts, outcomes and clusters of a kind, some records repeated."""
    rng = np.random.default_rng(7)
    m = 9 if kind == "many items" else 3
    scores = rng.normal(size=(n, m)).round(1)
    scores[n // 2 :] = scores[: n - n // 2]
    h: pc.Distribution = pc.PlackettLuce(scores)
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    clusters = None
    if kind == "Mallows":
        h = pc.Mallows((-scores).argsort().argsort() + 1, rng.choice([0.2, 0.7], n))
    elif kind == "Categorical":
        h = pc.Categorical(list(itertools.permutations(range(3))), rng.dirichlet(np.ones(6), n))
    elif kind == "Pairwise":
        h, y = pc.PlackettLuce(scores[:, :2]), y
        first, second = np.array([0]), np.array([1])
        p = np.full((n, 2, 2), np.nan)
        p[:, 0, 1] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)[:, 0]))
        h, y = pc.Pairwise(p), pc.Outcomes.from_best(rng.integers(0, 2, n), n_items=2)
    elif kind == "ragged":
        h = pc.PlackettLuce([row[: 2 + i % 2] for i, row in enumerate(scores)])
        y = pc.Outcomes.from_ratings([row[: 2 + i % 2] for i, row in enumerate(rng.normal(size=(n, 3)))])
    elif kind == "best only":
        y = pc.Outcomes.from_best(rng.integers(0, 3, n), n_items=3)
    elif kind == "clusters":
        clusters = rng.integers(0, 30, n)
    elif kind == "Samples":
        h = pc.Samples(h.sample(8, rng))
    return h, y, clusters


@pytest.mark.parametrize("kind", DRAWN)
def test_the_order_of_rows_changes_no_test_of_uniformity(kind):
    h, y, clusters = drawn_case(kind)
    rng = np.random.default_rng(1)
    calls = []
    if kind != "Samples":
        calls.append(lambda h, y, c: pc.hpd_coverage(h, y, clusters=c))
    if kind not in ("Pairwise", "best only"):
        calls.append(lambda h, y, c: pc.rank_histogram(h, y, clusters=c, items="exchangeable"))
    for call in calls:
        base = call(h, y, clusters)
        for _ in range(3):
            order = rng.permutation(len(y))
            moved = call(h[order], y[order], None if clusters is None else clusters[order])
            for name in ("ks", "ks_p_value", "ad", "ad_p_value", "p_value", "counts"):
                if hasattr(base, name):
                    np.testing.assert_allclose(getattr(moved, name), getattr(base, name), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(np.sort(moved.u, axis=0), np.sort(base.u, axis=0), rtol=1e-9, atol=1e-9)


def test_numbers_stand_beside_their_records():
    h, y, _ = drawn_case("PlackettLuce")
    order = np.argsort(-h.log_prob(np.argsort(y.dense(), axis=1)))
    u = pc.hpd_coverage(h, y).u[order]
    assert np.corrcoef(u, np.arange(len(u)))[0, 1] > 0.5  # the improbable outcomes have large u
    probs = np.exp(h.log_prob(np.argsort(y.dense(), axis=1)))
    every = h.marginal("full").probs[:, 0]
    above = np.where(every > probs[:, None] * (1 + 1e-9), every, 0).sum(axis=1)
    found = pc.hpd_coverage(h, y).u
    assert (found >= above - 1e-12).all()
    assert (found <= above + probs * 6 + 1e-12).all()


@pytest.mark.parametrize("kind", ["few items", "few forecasts", "clusters", "drawn"])
def test_tests_of_uniformity_have_their_size(kind):
    """Random numbers are dealt out by content, and the tests still reject as often as they say."""
    rng = np.random.default_rng(3)
    m, n = (8, 30) if kind == "drawn" else (3, 60)
    found = []
    for seed in range(300):
        scores = rng.normal(size=(n, m))
        if kind == "few forecasts":
            scores = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.5]])[rng.integers(0, 2, n)]
        h = pc.PlackettLuce(scores)
        y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
        clusters = np.arange(n) // 2 if kind == "clusters" else None
        result = pc.hpd_coverage(h, y, clusters=clusters, seed=seed, draws=49)
        found.append((result.ks_p_value, result.ad_p_value))
    for p_values in np.array(found).T:
        for level in (0.05, 0.25, 0.5):
            low, high = binom.ppf([1e-3, 1 - 1e-3], 300, level) / 300
            assert low <= (p_values <= level).mean() <= high


# ---- regret and reachable coverage do not depend on the order of the rows (25)


@pytest.mark.parametrize("choice", ["best", "pair"])
@pytest.mark.parametrize("kind", ["plain", "weights", "clusters", "ties"])
def test_the_order_of_rows_changes_no_cost_of_routing(choice, kind):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(80, 4))
    if kind == "ties":
        scores = np.round(scores)
    h = pc.PlackettLuce(2 * scores)
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    weights = rng.random(80) if kind == "weights" else None
    clusters = rng.integers(0, 25, 80) if kind == "clusters" else None

    def found(rows):
        more = {
            "weights": None if weights is None else weights[rows],
            "clusters": None if clusters is None else clusters[rows],
            "choice": choice,
        }
        routed = pc.decisions.routing(h[rows], y[rows], **more)
        kept = pc.decisions.abstention(h[rows], y[rows], draws=60, **more)
        return [x for r in routed.costs for x in (r.regret.value, *r.regret.interval)] + [
            x for p in kept.promises for x in (p.reachable.value, *p.reachable.interval)
        ]

    base = found(np.arange(80))
    for _ in range(3):
        assert found(rng.permutation(80)) == pytest.approx(base, rel=1e-9, abs=1e-12)


def test_the_interval_of_regret_holds_the_luck_of_the_halves():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(80, 4))
    h, y = pc.PlackettLuce(scores), pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    regrets = [pc.decisions.routing(h, y, costs=[0.3], seed=s).costs[0].regret for s in range(20)]
    values = np.array([r.value for r in regrets])
    low, high = np.array([r.interval for r in regrets]).T
    assert values.std() < 0.25 * (high - low).mean()
    assert (low <= values.mean()).all()
    assert (values.mean() <= high).all()
    assert all("halvings" in r.note for r in regrets)
    assert len({round(v, 12) for v in values}) > 1


# ---- scores of any size (16)

OF_SCORES = [
    m for m, cls in METHODS.items() if "PlackettLuce" in cls.accepts and m not in ("none", "ties") and cls.in_auto
] + ["auto"]


def map_inputs(method: str, n: int) -> dict:
    rng = np.random.default_rng(5)
    return {
        "group-wise": {"groups": [f"g{i % 3}" for i in range(n)]},
        "context": {"features": {"length": rng.normal(size=n)}},
        "offset": {"item_features": {"length": rng.normal(size=(n, 4))}},
    }.get(method, {})


def extreme(size: float, kind: str) -> tuple[np.ndarray, pc.Outcomes]:
    """Scores whose largest is of a size: all like it, all of one absolute value, or one instance."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(N // 2, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    large = scores / np.abs(scores).max() * size
    if kind == "signs":
        large = np.sign(scores) * size
    elif kind == "one":
        large = np.where(np.arange(len(scores))[:, None] == 7, large, scores)
    return large, y


@pytest.mark.parametrize("kind", ["plain", "signs", "one"])
@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-150, 1e-59, 1e58, 1e150, 1e300, 1.7e308])
def test_a_map_is_fitted_to_scores_of_any_size_or_the_error_says_what_to_do(size, kind):
    scores, y = extreme(size, kind)
    gap = max(float(row.max() / 2 - row.min() / 2) for row in scores)  # halves: the difference may be infinite
    for method in OF_SCORES:
        more = map_inputs(method, len(scores))
        if gap > 1e60 or gap < 1e-60:
            what = "divide" if gap > 1 else "multiply"
            where = "instance 7" if kind == "one" else "instance"
            with pytest.raises(pc.DataError, match=rf"{where}.*{what} all scores by a constant first"):
                pc.recalibrate(pc.PlackettLuce(scores), y, method, **more)
            continue
        if size > 1e50 and method == "auto":
            continue  # each of its maps is tried by itself
        fit = pc.recalibrate(pc.PlackettLuce(scores), y, method, **more)
        assert rebuild(json.loads(json.dumps(fit.document(), allow_nan=False))) == fit
        logs = fit(pc.PlackettLuce(scores), **more).top_log_probs()
        np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0)
        if kind != "one":
            assert fit.record.after <= np.log(24) + 0.1


@pytest.mark.parametrize("kind", ["plain", "one"])
@pytest.mark.parametrize("method", OF_SCORES)
def test_a_map_is_applied_to_scores_of_any_size_or_the_error_names_one(method, kind):
    ordinary, y = extreme(3.0, "plain")
    more = map_inputs(method, len(ordinary))
    first, second = np.triu_indices(4, 1)
    for factor in (1.0, -1.0, 0.02):
        fit = pc.recalibrate(pc.PlackettLuce(factor * ordinary), y, method, **more)
        for size in (5e-324, 1e-300, 1e-150, 1e60, 1e150, 1e300, 1.7e308):
            h = pc.PlackettLuce(extreme(size, kind)[0])
            refused = ""
            try:
                after = fit(h, **more)
            except pc.PrefcalError as error:
                refused = str(error)
            if refused:
                assert size == 1.7e308
                assert "infinite" in refused
                continue
            odds = after.pair_log_odds(first, second)
            np.testing.assert_allclose(np.exp(after.top_log_probs()).sum(axis=1), 1.0)
            assert not np.isnan(odds).any()
            if fit.keeps_order:
                assert not (np.sign(odds) * np.sign(h.pair_log_odds(first, second)) < 0).any()


@pytest.mark.parametrize("kind", ["plain", "signs", "one"])
@pytest.mark.parametrize("size", [5e-324, 1e150, 1.7e308])
def test_decisions_sets_and_groups_take_scores_of_any_size(size, kind):
    scores, y = extreme(size, kind)
    h = pc.PlackettLuce(scores)
    json.dumps(pc.decisions.decisions(h, y, draws=50).document(), allow_nan=False)
    for event in ("partial-order", "top-1", "full"):
        for score in ("adaptive", "probability"):
            assert np.isin(pc.conformal_sets(h, y, event=event, score=score)(h).contains(y), (0.0, 1.0)).all()
    pc.hpd_coverage(h, y)
    pc.rank_histogram(h, y)
    pc.worst_group(h, y, {"a": np.arange(len(scores)) % 2}, min_instances=10, splits=10, permutations=99)
    assert (spread(h) >= 0).all()
    if size == 1e150 and kind == "plain":
        np.testing.assert_allclose(spread(h), 1e150 * np.std(scores / 1e150, axis=1), rtol=1e-9)


def test_rounding_keeps_large_and_small_numbers():
    values = np.array([0.0, 1e-300, -1e-13, 0.1 + 0.2, 1.0, 1 + 1e-14, 1e15 + 0.5, -1.7e308, np.inf, -np.inf])
    found = rounded(values)
    assert found.tolist()[:6] == [0.0, 0.0, 0.0, 0.3, 1.0, 1.0]
    np.testing.assert_allclose(found[6:], values[6:], rtol=1e-11)
    assert np.isnan(rounded(np.array([np.nan]))).all()
    rng = np.random.default_rng(0)
    some = rng.normal(size=200) * 10.0 ** rng.integers(0, 300, 200)
    assert (rounded(some * (1 + 2e-16)) == rounded(some)).mean() > 0.99


# ---- weight 2 is the row twice (15)


@pytest.mark.parametrize("kind", ["scores", "pairs", "certain pairs"])
@pytest.mark.parametrize("observed", ["full", "best", "tied"])
@pytest.mark.parametrize("method", [*OF_SCORES, "ties"])
def test_weight_2_is_the_row_twice(method, observed, kind):
    if method == "auto" or (kind != "scores" and method not in ("offset", "temperature", "uniform")):
        return  # folds are cut by row; the other maps take scores only
    if (method == "ties") != (observed == "tied") or (observed == "best" and method == "stage-wise"):
        return
    rng = np.random.default_rng(2)
    n = 200
    scores = rng.normal(size=(n, 4))
    bent = pc.PlackettLuce(np.where(scores > 0, 3 * scores, 0.2 * scores))
    ranks = np.argsort(bent.sample(1, rng)[:, 0], axis=1) + 1.0
    y = pc.Outcomes.from_ranks(ranks)
    if observed == "best":
        y = pc.Outcomes.from_best(ranks.argmin(axis=1), n_items=4)
    elif observed == "tied":
        y = pc.Outcomes.from_ranks(np.ceil(ranks / 2), ties="equal")
    h: pc.Distribution = pc.PlackettLuce(scores)
    first, second = np.triu_indices(4, 1)
    if kind != "scores":
        p = np.full((n, 4, 4), np.nan)
        p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
        if kind == "certain pairs":
            if method == "temperature":
                return  # what was certain and did not happen leaves the fit with a count, not a weight
            p[:9] = np.where(np.isnan(p[:9]), p[:9], p[:9].round())
        h = pc.Pairwise(p)
    rows = np.arange(n)
    twice = np.sort(np.concatenate([rows, rows[::3]]))
    weights = np.where(rows % 3 == 0, 2.0, 1.0)
    features = rng.normal(size=(n, 4)) * np.where(rows % 3 == 0, 5.0, 1.0)[:, None]
    length, groups = rng.normal(size=n), np.array(["a", "b"])[rows % 2]

    def inputs(at):
        return {
            "offset": {"item_features": {"length": features[at]}},
            "context": {"features": {"length": length[at]}},
            "group-wise": {"groups": groups[at]},
        }.get(method, {})

    once = pc.recalibrate(h, y, method, weights=weights, **inputs(rows))
    again = pc.recalibrate(h[twice], y[twice], method, clusters=twice, **inputs(twice))
    odds = [fit(h, **inputs(rows)).pair_log_odds(first, second) for fit in (once, again)]
    close = 1e-9 if method in ("offset", "ties") else 1e-6  # the tolerance of the others' fits
    np.testing.assert_allclose(odds[0], odds[1], rtol=close, atol=close)
    for name, found in once.estimates.items():
        other = again.estimates[name]
        assert other.value == pytest.approx(found.value, rel=10 * close, abs=10 * close)
        if found.interval is not None:
            assert other.interval == pytest.approx(found.interval, rel=10 * close, abs=10 * close)


# ---- words (20)


@pytest.mark.parametrize(
    ("method", "kind"),
    [(m, k) for m, cls in METHODS.items() for k in ("PlackettLuce", "Pairwise") if k in cls.accepts],
)
def test_a_description_begins_with_a_capital(method, kind):
    rng = np.random.default_rng(0)
    h: pc.Distribution = pc.PlackettLuce(rng.normal(size=(80, 4)))
    y = pc.Outcomes.from_ratings(rng.integers(1, 4, (80, 4)), ties="equal")
    if kind == "Pairwise":
        first, second = np.triu_indices(4, 1)
        p = np.full((80, 4, 4), np.nan)
        p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
        h = pc.Pairwise(p)
    if method == "stage-wise":
        y = pc.Outcomes.from_orders(np.argsort(rng.random((80, 4)), axis=1))
    text = pc.recalibrate(h, y, method, **map_inputs(method, 80)).describe()
    sentences = [text, *text.replace("e.g. ", "").split(". ")[1:]]
    names = ("none", *METHODS)  # auto names the chosen method in a sentence of its own
    assert all(s[0].isupper() or s[0].isdigit() or s.startswith(names) for s in sentences), text
    assert ".." not in text


@pytest.mark.parametrize(
    ("impossible", "words"), [(1, "1 record happened although it was"), (2, "2 records happened")]
)
def test_one_record_is_singular(impossible, words):
    rng = np.random.default_rng(0)
    orders = np.array(list(itertools.permutations(range(3))))
    probs = np.tile(np.r_[0.0, np.full(5, 0.2)], (60, 1))
    at = np.r_[np.zeros(impossible, dtype=int), rng.integers(1, 6, 60 - impossible)]
    found = pc.mend(
        pc.Categorical(orders, probs), pc.Outcomes.from_orders(orders[at]), "temperature", notions="sub-2"
    )
    assert found.log_loss["before"].note.startswith(words)
    text = render_mending(found)
    assert words in text


def test_warnings_of_a_map_are_sentences_and_names_stay():
    h, y = some_pairs(4)
    found = pc.mend(pc.PlackettLuce(-h.scores.dense()), y, "temperature", model="judge")
    texts = [f.text for f in findings_of(found) if f.title.startswith("Read this")]
    assert any(t.startswith("judge (raw): left out") for t in texts)
    assert all(t[0].isupper() or t.startswith("judge") for t in texts)
    assert len(texts) > 1


@pytest.mark.parametrize("m", [2, 3, 7])
def test_a_model_that_orders_nothing_is_honest_but_says_little_in_every_notion(m):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(np.zeros((2000, m)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    audit = pc.audit(h, y, items="exchangeable", notions=["sub-2", "top-1:confidence", "top-1"], model="coin")
    little = [f for f in findings(audit) if f.title.startswith("coin is honest, but says little")]
    assert {f.notion for f in little} == {"sub-2", "top-1:confidence", "top-1"}
    assert all("Calibration is about honesty, not knowledge" in f.text for f in little)


def test_a_model_that_is_always_right_is_not_said_to_say_little():
    scores = np.tile([50.0, 0.0, -50.0], (200, 1))
    y = pc.Outcomes.from_orders(np.tile([0, 1, 2], (200, 1)))
    audit = pc.audit(pc.PlackettLuce(scores), y, items="exchangeable")
    assert not [f for f in findings(audit) if "says little" in f.title]


# ---- discrimination and its interval


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [60, 400])
def test_the_interval_of_discrimination_holds_the_debiased_value_and_says_why_not_the_plain_one(n, seed):
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(n, 4)) * rng.choice([0.1, 0.5, 1.0]))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    for r in pc.audit(h, y, items="exchangeable", draws=99).results:
        for part in ("dsc_brier", "dsc_log"):
            e = r.metrics[part]
            assert e.interval[0] <= e.debiased <= e.interval[1]
            assert 0 <= e.debiased <= e.value
            assert "gains by chance" in e.note
        for part in ("unc_brier", "unc_log"):
            assert r.metrics[part].debiased is None
            assert r.metrics[part].interval[0] <= r.metrics[part].value <= r.metrics[part].interval[1]


def test_discrimination_of_a_model_that_knows_nothing_is_0_once_debiased():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        h = pc.PlackettLuce(rng.normal(size=(300, 2)))
        y = pc.Outcomes.from_best(rng.integers(0, 2, 300), n_items=2)
        e = pc.audit(h, y, items="exchangeable", notions="sub-2", draws=99)["sub-2"].metrics["dsc_brier"]
        found.append((e.value, e.debiased, e.interval[0]))
    value, debiased, low = np.array(found).T
    assert debiased.mean() < 0.5 * value.mean()
    assert (low == 0).mean() >= 0.85  # 20 tests at 5 %, P(more than 3 fail) = 0.016
