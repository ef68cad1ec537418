"""The search for the worst group: what it finds, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binom

import prefcal as pc
import strategies as some
from grouped_samples import QUICK, sample
from prefcal.estimators.events import family_for
from prefcal.estimators.inputs import groupings
from prefcal.estimators.shrinkage import pool
from prefcal.estimators.units import unit_sums
from prefcal.grouping.partitions import Partition
from prefcal.grouping.search import Search, pooled
from prefcal.report.worst import worst_tables


def two_fields(seed, n=600):
    rng = np.random.default_rng([seed, 1])
    return {"a": rng.choice(["p", "q", "r"], n), "b": rng.choice(["x", "y", "z"], n)}


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
    shrunken, draws = pooled(errors, noise, [100, 100, 100, 100], np.random.default_rng(0))
    assert 0.08 < shrunken[3] < 0.137
    assert shrunken[:3] == pytest.approx(errors[:3], abs=0.003)
    assert (draws.argmax(axis=1) == 3).mean() > 0.95
    equal, _ = pooled([0.0, 0.1], [0.02, 0.02], [50, 50], np.random.default_rng(0))
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
    parts = [Partition.single(g).eligible(np.ones(90, bool), 10)[0] for g in fields]
    search = Search(sums, parts, 0)
    together = search._standing_out(sums.residuals, sums.weights, [p.codes for p in parts])
    at = 0
    for part in parts:
        for level in range(len(part.levels)):
            rows = part.codes == level
            only = np.where(rows, 0, 1)  # this group and the rest
            alone = Search(sums, [Partition(("f",), (("in",), ("out",)), only)], 0)
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
