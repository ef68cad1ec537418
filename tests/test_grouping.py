"""Derived groups, the worst group and the worst conjunction: definitions, invariances, error rates, what is shown."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import prefcal as pc
import strategies as some
from prefcal.audited import Audit
from prefcal.cli import main
from prefcal.estimators.binned import binned_error
from prefcal.estimators.derived import LENGTH_FIELDS, derived_values, levels_of
from prefcal.estimators.events import family_for
from prefcal.estimators.inputs import groupings
from prefcal.estimators.scalar import fill_tables
from prefcal.estimators.shrinkage import pool
from prefcal.estimators.units import debiased_error, unit_sums
from prefcal.grouping import _Part, _pooled, _Search
from prefcal.report.html import render_html
from prefcal.report.worst import MOST_ROWS, worst_tables
from test_report_html import Structure

QUICK = {"splits": 10, "permutations": 99, "items": "exchangeable"}


def sample(seed, n=600, m=4, factor=1.0):
    """Forecasts whose scores are ``factor`` (n values or one) times the true ones."""
    rng = np.random.default_rng(seed)
    truth = pc.PlackettLuce(rng.normal(size=(n, m)))
    y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    return pc.PlackettLuce(truth.scores.dense() * np.broadcast_to(factor, n)[:, None]), y


def two_fields(seed, n=600):
    rng = np.random.default_rng([seed, 1])
    return {"a": rng.choice(["p", "q", "r"], n), "b": rng.choice(["x", "y", "z"], n)}


# -------------------------------------------------------------------------------------------------- derived groups


@settings(deadline=None)
@given(some.ragged_scores())
def test_derived_values_of_plack_luce_are_those_of_the_scores(rows):
    h = pc.PlackettLuce(rows)
    fields = {name: function(h) for name, function in derived_functions().items()}
    for i, row in enumerate(rows):
        assert fields["@candidates"][i] == len(row)
        assert fields["@spread"][i] == pytest.approx(np.std(row), abs=1e-9)
        top = sorted(row)[::-1]
        assert fields["@margin"][i] == pytest.approx(
            top[0] - top[1] if len(row) > 1 else math.nan, abs=1e-9, nan_ok=True
        )


def derived_functions():
    from prefcal.estimators.derived import DERIVED

    return DERIVED


def test_derived_values_of_gaps_and_of_other_distributions():
    scores = np.array([[1.0, np.nan, 3.0], [0.0, 5.0, 1.0]])
    spread, margin = derived_functions()["@spread"], derived_functions()["@margin"]
    assert spread(pc.PlackettLuce(scores)).tolist() == pytest.approx([1.0, np.std([0, 5, 1])])
    assert margin(pc.PlackettLuce(scores)).tolist() == pytest.approx([2.0, 4.0])
    sure = pc.Mallows(np.array([[1, 2, 3]]), 0.0)
    assert spread(sure).tolist() == margin(sure).tolist() == [math.inf]
    loose = pc.Mallows(np.array([[1, 2, 3]]), 0.5)
    assert margin(loose).tolist() == pytest.approx([math.log(2)])  # one place further down: phi times as probable


def test_pairwise_probabilities_have_candidates_but_no_spread():
    h = pc.Pairwise(np.full((2, 3, 3), 0.5))
    assert derived_values("@candidates", h).tolist() == [3, 3]
    with pytest.raises(pc.UsageError, match="@spread needs to know who is best"):
        derived_values("@spread", h)


def test_length_is_a_field():
    h = pc.PlackettLuce(np.zeros((3, 2)))
    for name in LENGTH_FIELDS:
        assert derived_values("@length", h, {"other": [0, 0, 0], name: [4, 5, 6]}).tolist() == [4, 5, 6]
    with pytest.raises(pc.UsageError, match="@length needs a field with the length"):
        derived_values("@length", h, {"other": [0, 0, 0]})
    with pytest.raises(pc.UsageError, match="did you mean '@spread'"):
        derived_values("@spred", h)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0, math.nan, math.inf])), min_size=30))
def test_levels_are_a_cut(values):
    array = np.array(values)
    levels = levels_of(array, "f")
    assert len(levels) == len(array)
    if levels.dtype.kind == "f":
        assert len(np.unique(array)) <= 12 or (array[np.isfinite(array)] % 1 == 0).all()
        return
    assert (np.isnan(array) == (levels == "(missing)")).all()
    known = ~np.isnan(array)
    order = np.argsort(array[known], kind="stable")
    names = levels[known][order]
    assert names.tolist() == sorted(names.tolist())  # the number in front: levels follow the values
    assert 2 <= len(set(names.tolist())) <= 4
    for value in np.unique(array[known]):
        assert len(set(levels[array == value].tolist())) == 1


def test_quarters_are_quarters():
    levels = levels_of(np.arange(4000) / 7, "f")
    assert sorted(np.unique(levels, return_counts=True)[1].tolist()) == [1000] * 4
    assert levels_of(np.arange(100), "ids").dtype.kind == "i"
    with pytest.raises(pc.UsageError, match="101 distinct values"):
        levels_of(np.array([str(i) for i in range(101)]), "ids")


def test_groups_by_callable_by_name_and_by_values_agree():
    h, y = sample(1, 200)
    values = derived_values("@spread", h)
    by = {
        "callable": pc.audit(
            h, y, notions="sub-2", draws=99, groups={"@spread": lambda h, y: h.scores.dense().std(axis=1)}
        ),
        "name": pc.audit(h, y, notions="sub-2", draws=99, groups={"@spread": "@spread"}),
        "list": pc.audit(h, y, notions="sub-2", draws=99, groups=["@spread"]),
        "values": pc.audit(h, y, notions="sub-2", draws=99, groups={"@spread": values}),
    }
    first = [(r.group, r.value, r.p_adjusted) for r in by["values"].results]
    assert len(first) == 5
    for found in by.values():
        assert [(r.group, r.value, r.p_adjusted) for r in found.results] == first


def test_a_callable_sees_one_forecast_for_each_record():
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(40, 2)))
    y = pc.Outcomes.from_pairs([(i, *pair) for i in range(40) for pair in ((0, 1), (1, 0))], n_items=2)
    seen = []
    pc.audit(
        h, y, notions="sub-2", draws=99, groups={"f": lambda h, y: (seen.append((len(h), len(y))), y.instance % 2)[1]}
    )
    assert seen == [(80, 80)]
    with pytest.raises(pc.DataError, match="one value for each of 80"):
        pc.audit(h, y, notions="sub-2", groups={"f": lambda h, y: np.zeros(40)})


# --------------------------------------------------------------------------------------------------- unit sums


@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence", "sub-3"])
@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
@pytest.mark.parametrize("clustered", [False, True])
def test_tables_of_unit_sums_are_the_tables_of_the_pass(notion, items, clustered):
    h, y = sample(2, 120, m=3)
    rng = np.random.default_rng(3)
    weights, units = rng.choice([0.0, 1.0, 2.0], 120), rng.integers(0, 50, 120) if clustered else None
    units = None if units is None else np.unique(units, return_inverse=True)[1]
    by = groupings({"f": rng.choice(2, 120)}, y)
    family = family_for(pc.Notion.parse(notion), items, h, ties_equal=False)
    common = {"bins": 10, "weights": weights, "per_instance": False}
    (tables,) = fill_tables(h, y, [family], groupings=by, clusters=units, seed=0, **common)
    sums = unit_sums(h, y, family, units=units, **common)
    for level, expected in enumerate(tables.groups["f"]):
        found = sums.table(np.flatnonzero(by[0].codes == level), np.random.default_rng(0))
        assert found.n_instances == expected.n_instances
        assert found.moments[:5] == pytest.approx(expected.moments[:5], abs=1e-9)
        assert found.covariance == pytest.approx(expected.covariance, abs=1e-9)
        errors = [binned_error(t, np.random.default_rng(1)) for t in (found, expected)]
        assert errors[0].debiased == pytest.approx(errors[1].debiased)
        assert errors[0].interval == pytest.approx(errors[1].interval, abs=1e-6)


def test_the_standard_error_is_that_of_repetitions():
    """Of data sets drawn again, at an error well above zero; the mean standard error within 25 %."""
    errors = []
    for seed in range(80):
        h, y = sample([4, seed], 300, factor=2.0)
        family = family_for(pc.Notion.parse("sub-2"), "exchangeable", h, ties_equal=False)
        sums = unit_sums(h, y, family, weights=np.ones(300), per_instance=False, units=None, bins=15)
        errors.append(debiased_error(sums.table(np.arange(300), np.random.default_rng(0)), np.random.default_rng(1)))
    found, se = np.array(errors).T
    assert se.mean() == pytest.approx(found.std(), rel=0.25)


def test_too_many_numbers_are_refused_before_they_are_made():
    h = pc.PlackettLuce(np.zeros((40_000, 7)))
    y = pc.Outcomes.from_ranks(np.tile(np.arange(1, 8), (40_000, 1)))
    with pytest.raises(pc.UsageError, match="too many to keep"):
        pc.worst_group(h, y, {"f": np.arange(40_000) % 2}, items="labelled")


# ------------------------------------------------------------------------------------------------------- search


def test_groups_are_those_of_the_audit():
    h, y = sample(5, 800, factor=1.7)
    fields = two_fields(5, 800)
    found = pc.worst_group(h, y, fields, **QUICK)
    audit = pc.audit(h, y, notions="sub-2", items="exchangeable", groups=fields, draws=99)
    assert found.overall.error == pytest.approx(audit["sub-2"].debiased)
    assert len(found.groups) == 6
    for g in found.groups:
        result = audit.select(notion="sub-2", group=g.group)
        assert g.error == pytest.approx(result.debiased)
        assert (g.n_instances, g.n_events) == (result.n_instances, result.n_events)
        assert g.gap == pytest.approx(result.metrics["accuracy"].value - result.metrics["mean_forecast"].value)
    assert sum(g.probability_worst for g in found.groups) == pytest.approx(1)
    assert [g.shrunken for g in found.groups] == sorted((g.shrunken for g in found.groups), reverse=True)


def test_shrinking_takes_luck_off():
    """Calibrated: the largest measured error is well above zero, the shrunken and the held-out one are nearer."""
    raw, shrunken, held_out = [], [], []
    for seed in range(15):
        h, y = sample([6, seed])
        found = pc.worst_conjunction(h, y, two_fields(seed), seed=seed, **QUICK)
        raw.append(max(g.error for g in found.groups))
        shrunken.append(max(found.worst.shrunken, 0.0))
        held_out.append(found.held_out.error)
    assert np.mean(shrunken) < 0.6 * np.mean(raw)
    assert np.mean(held_out) < 0.6 * np.mean(raw)


def test_sure_groups_do_not_drown_an_uncertain_one():
    """Found on real data: groups of sure forecasts (tiny errors, tiny noise) pulled one of 0.137 down to 0.008."""
    errors, noise = [0.004, 0.006, 0.005, 0.137], [0.002, 0.002, 0.002, 0.045]
    shrunken, draws = _pooled(errors, noise, [100, 100, 100, 100], np.random.default_rng(0))
    assert 0.08 < shrunken[3] < 0.137
    assert shrunken[:3] == pytest.approx(errors[:3], abs=0.003)
    assert (draws.argmax(axis=1) == 3).mean() > 0.95
    equal, _ = _pooled([0.0, 0.1], [0.02, 0.02], [50, 50], np.random.default_rng(0))
    assert equal.tolist() == pytest.approx(
        pool([0.0, 0.1], [0.02, 0.02], rng=np.random.default_rng(0)).shrunken.tolist(), abs=0.03
    )


def test_a_planted_conjunction_is_found():
    n, hits, shown = 1200, 0, 0
    for seed in range(5):
        fields = two_fields(seed, n)
        planted = (fields["a"] == "p") & (fields["b"] == "z")
        h, y = sample([7, seed], n, factor=np.where(planted, 3.5, 1.0))
        found = pc.worst_conjunction(h, y, fields, seed=seed, **QUICK)
        hits += found.worst.group == {"a": "p", "b": "z"}
        shown += found.held_out.p_value <= 0.05 and found.p_larger <= 0.05
        assert found.worst.gap is None or found.worst.gap < 0 or found.worst.group != {"a": "p", "b": "z"}
    assert hits == 5
    assert shown >= 4


def error_rates(runs, factor, notion="sub-2", n=400):
    """Share of runs in which each test rejects where the fields have nothing to do with the errors."""
    held, larger = 0, 0
    for seed in range(runs):
        h, y = sample([8, seed], n, factor=factor)
        found = pc.worst_conjunction(h, y, two_fields(seed, n), notion=notion, seed=seed, **QUICK)
        held += found.held_out.p_value <= 0.05
        larger += found.p_larger <= 0.05
    return held, larger


def test_error_rates_of_a_calibrated_model():
    runs = 30
    held, larger = error_rates(runs, 1.0)
    assert max(held, larger) <= binom.ppf(0.995, runs, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence"])
@pytest.mark.parametrize("factor", [1.0, 1.6])
def test_error_rates(factor, notion):
    """Neither a calibrated model nor one whose error is the same everywhere has a worst conjunction."""
    runs = 300
    held, larger = error_rates(runs, factor, notion)
    assert larger <= binom.ppf(0.995, runs, 0.05)
    if factor == 1.0:  # with an error everywhere the conjunction chosen is miscalibrated too: no error to find it so
        assert held <= binom.ppf(0.995, runs, 0.05)


def test_results_do_not_depend_on_names_and_repeat():
    h, y = sample(9)
    fields = two_fields(9)
    base = pc.worst_group(h, y, fields, **QUICK)
    assert pc.worst_group(h, y, fields, **QUICK) == base
    renamed = pc.worst_group(h, y, {k: np.char.add("0", v) for k, v in fields.items()}, **QUICK)
    assert [g.shrunken for g in renamed.groups] == [g.shrunken for g in base.groups]
    assert renamed.p_larger == base.p_larger


@settings(max_examples=10, deadline=None)
@given(some.seeds)
def test_what_stands_out_is_measured_group_by_group(seed):
    """The fast statistic of the permutation test, group by group from the definition."""
    h, y = sample(seed, 90)
    fields = groupings(two_fields(seed % 1000, 90), y)
    family = family_for(pc.Notion.parse("sub-2"), "exchangeable", h, ties_equal=False)
    sums = unit_sums(h, y, family, weights=np.ones(90), per_instance=False, units=None, bins=5)
    parts = [_Part.single(g).eligible(np.ones(90, bool), 10)[0] for g in fields]
    search = _Search(sums, parts, 0)
    together = search._standing_out(sums.residuals, sums.weights, [p.codes for p in parts])
    at = 0
    for part in parts:
        for level in range(len(part.levels)):
            rows = part.codes == level
            only = np.where(rows, 0, 1)  # this group and the rest
            alone = _Search(sums, [_Part(("f",), (("in",), ("out",)), only)], 0)
            assert together[at] == pytest.approx(alone._standing_out(sums.residuals, sums.weights, [only])[0])
            at += 1


def test_conjunctions_that_are_whole_groups_and_small_ones_are_left_out():
    h, y = sample(10, 400)
    a = np.repeat(["p", "q"], 200)
    b = np.where(a == "p", "x", np.where(np.arange(400) < 380, "y", "z"))  # p is x; q is y (180) or z (20)
    c = np.tile(["m", "n"], 200)
    found = pc.worst_conjunction(h, y, {"a": a, "b": b, "c": c}, **QUICK)
    looked = [g.group for g in found.groups]
    assert {"a": "p", "b": "x"} not in looked
    assert {"a": "q", "b": "y"} not in looked  # y alone is the same group
    assert {"a": "p", "c": "m"} in looked
    assert found.n_nested == 2
    assert found.n_small == 3  # q z, z m, z n


def test_clusters_stay_together():
    h, y = sample(11, 300)
    twice = np.repeat(np.arange(300), 2)
    field = np.where(np.arange(300) % 3 == 0, "u", "v")
    once = pc.worst_group(h, y, {"f": field}, **QUICK)
    double = pc.worst_group(h[twice], y[twice], {"f": field[twice]}, clusters=twice, **QUICK)
    assert double.held_out.splits == once.held_out.splits
    for g in once.groups:
        (other,) = (o for o in double.groups if o.group == g.group)
        assert other.gap == pytest.approx(g.gap)
        width, doubled = (x.interval[1] - x.error for x in (g, other))
        assert doubled == pytest.approx(width, rel=0.15)
    assert double.p_larger <= 1
    mixed = pc.worst_group(h[twice], y[twice], {"f": np.tile(["u", "v"], 300)}, clusters=twice, **QUICK)
    assert math.isnan(mixed.p_larger)
    (table,) = worst_tables([mixed])
    assert "not tested" in table.text[-1]


def test_labelled_members_are_averaged():
    h, y = sample(12, 300, m=3)
    found = pc.worst_group(h, y, two_fields(12, 300), notion="top-1", splits=10, permutations=99, items="labelled")
    assert found.worst.gap is None
    assert found.items == "labelled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"notion": "full:canonical"}, "vector notion"),
        ({"splits": 3}, "splits must be a whole number, at least 10"),
        ({"permutations": 9}, "permutations"),
        ({"min_instances": True}, "min_instances"),
        ({"adjust": "none"}, "unknown adjustment"),
    ],
)
def test_searches_that_cannot_be_made_are_refused(change, message):
    h, y = sample(13, 100)
    with pytest.raises(pc.UsageError, match=message):
        pc.worst_group(h, y, {"f": np.arange(100) % 2}, **change)


def test_a_search_needs_fields_and_groups():
    h, y = sample(14, 100)
    with pytest.raises(pc.UsageError, match="at least two fields"):
        pc.worst_conjunction(h, y, {"f": np.arange(100) % 2}, **QUICK)
    with pytest.raises(pc.UsageError, match="at least one field"):
        pc.worst_group(h, y, {}, **QUICK)
    with pytest.raises(pc.DataError, match="1 groups with 30 usable instances"):
        pc.worst_group(h, y, {"f": np.arange(100) < 80}, **QUICK)
    with pytest.raises(pc.DataError, match="no instance has a usable event"):
        pc.worst_group(h, pc.Outcomes.from_ranks(np.ones((100, 4))), {"f": np.arange(100) % 2}, **QUICK)


# ----------------------------------------------------------------------------------------------------- what is shown


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
