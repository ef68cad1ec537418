"""Adjusted p-values against their definitions, and the members of a notion judged one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control

import prefcal as pc
import strategies as some
from prefcal.estimators.families import METHODS, adjusted, member_errors

p_lists = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1, max_size=8)


def closed_testing(p):
    """Holm by the closure principle: the largest Bonferroni p-value of any set of hypotheses that holds this one."""
    everything = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in combinations(everything, size)]
    return [max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets if j in s) for j in everything]


@given(p_lists)
def test_holm_is_the_closed_test(p):
    assert adjusted(p, "holm").tolist() == pytest.approx(closed_testing(p))


@given(p_lists)
def test_false_discovery_rates_are_those_of_scipy(p):
    assert adjusted(p, "bh").tolist() == pytest.approx(false_discovery_control(p, method="bh").tolist())
    assert adjusted(p, "by").tolist() == pytest.approx(false_discovery_control(p, method="by").tolist())


@given(p_lists, st.sampled_from(sorted(METHODS)), st.randoms(use_true_random=False))
def test_adjusting_keeps_order_and_ignores_missing_tests(p, method, random):
    q = adjusted(p, method)
    assert (q >= np.array(p) - 1e-15).all()
    assert (q <= 1).all()
    order = list(range(len(p)))
    random.shuffle(order)
    assert adjusted([p[i] for i in order], method).tolist() == q[order].tolist()
    at = random.randrange(len(p) + 1)
    with_gap = adjusted([*p[:at], float("nan"), *p[at:]], method)
    assert np.isnan(with_gap[at])
    assert np.delete(with_gap, at).tolist() == q.tolist()


def test_nothing_to_adjust():
    assert adjusted([]).tolist() == []
    assert np.isnan(adjusted([np.nan, np.nan])).all()


@pytest.mark.parametrize("bad", [[-0.1], [1.5], [[0.1]], 0.2])
def test_what_is_no_list_of_p_values_is_refused(bad):
    with pytest.raises(pc.UsageError, match="between 0 and 1"):
        adjusted(bad)


def test_unknown_adjustments_are_refused():
    with pytest.raises(pc.UsageError, match="did you mean 'holm'"):
        adjusted([0.1], "hol")
    h, y = forecast(0, 20)
    with pytest.raises(pc.UsageError, match="unknown adjustment"):
        pc.audit(h, y, adjust="fdr")


def forecast(seed, n, m=4, tilt=None):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    truth = pc.PlackettLuce(scores if tilt is None else scores + np.asarray(tilt))
    return pc.PlackettLuce(scores), pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])


def test_audit_adjusts_as_asked():
    h, y = forecast(1, 200)
    field = np.random.default_rng(2).choice(5, 200)
    for method in METHODS:
        results = pc.audit(h, y, notions="sub-2", groups={"f": field}, adjust=method, draws=99).results[1:]
        expected = adjusted([r.p_value for r in results], method)
        assert [r.p_adjusted for r in results] == expected.tolist()
        assert {r.settings["adjust"] for r in results} == {method}


# ------------------------------------------------------------------------------------------------------- members


def binned(p, y, bins):
    """The binned error by its definition."""
    place = np.minimum((p * bins).astype(int), bins - 1)
    return sum(abs((y - p)[place == b].sum()) for b in range(bins)) / len(p)


@pytest.mark.parametrize("notion", ["sub-2", "sub-3", "top-1", "top-2", "topset-2", "position", "full:rankwise"])
def test_members_by_their_definition(notion):
    h, y = forecast(3, 150)
    view = pc.Notion.parse(notion).view
    probs = h.marginal(view).probs
    observed = view.classify(np.argsort(y.dense(), axis=1))
    outcomes = view.outcomes(4)
    found = {(m.items, m.outcome): m for m in member_errors(h, y, notion, bins=5)}
    pairs = notion == "sub-2"
    assert len(found) == (6 if pairs else outcomes.shape[0] * outcomes.shape[1])
    for i, items in enumerate(view.members(4)):
        for j in range(1 if pairs else outcomes.shape[1]):
            m = found[tuple(items.tolist()), tuple(outcomes[i, j].tolist())]
            p, happened = probs[:, i, j], (observed[:, i] == j).astype(float)
            assert m.value == pytest.approx(binned(p, happened, 5))
            assert (m.mean_forecast, m.mean_outcome) == pytest.approx((p.mean(), happened.mean()))
            assert m.n_events == 150


@pytest.mark.parametrize("notion", ["sub-2", "top-1", "position", "sub-2:confidence"])
def test_the_mean_over_members_is_the_audit(notion):
    h, y = forecast(4, 200)
    value = pc.audit(h, y, notions=notion, items="labelled", draws=99).results[0].value
    assert np.mean([m.value for m in member_errors(h, y, notion)]) == pytest.approx(value)


def test_the_miscalibrated_pairs_are_named():
    h, y = forecast(5, 1500, m=5, tilt=[0, 0, 0, 0, 1.2])
    found = member_errors(h, y)
    assert {m.items for m in found if m.p_adjusted <= 0.01} == {(i, 4) for i in range(4)}
    assert all(m.mean_outcome < m.mean_forecast for m in found[:4])
    assert [m.debiased for m in found] == sorted((m.debiased for m in found), reverse=True)


@settings(max_examples=15, deadline=None)
@given(some.seeds)
def test_members_do_not_depend_on_row_order_and_follow_relabelling(seed):
    rng = np.random.default_rng(seed)
    h, y = forecast(seed, 60)
    base = {m.outcome: m for m in member_errors(h, y, "top-1", draws=99)}
    order = rng.permutation(60)
    shuffled = {m.outcome: m for m in member_errors(h[order], y[order], "top-1", draws=99)}
    items = rng.permutation(4)  # new item j is old item items[j]
    renamed = member_errors(
        pc.PlackettLuce(h.scores.dense()[:, items]), pc.Outcomes.from_ranks(y.dense()[:, items]), "top-1", draws=99
    )
    for m in renamed:
        old = base[(int(items[m.outcome[0]]),)]
        assert (m.value, m.debiased) == pytest.approx((old.value, old.debiased))
    for outcome, m in base.items():
        assert shuffled[outcome].debiased == pytest.approx(m.debiased)
        assert shuffled[outcome].interval == pytest.approx(m.interval, abs=1e-9)


def test_a_weight_of_two_is_the_row_twice_in_one_cluster():
    h, y = forecast(6, 80)
    weights = np.where(np.arange(80) < 30, 2.0, 1.0)
    twice = np.concatenate([np.arange(80), np.arange(30)])
    a = {m.items: m for m in member_errors(h, y, weights=weights)}
    b = {m.items: m for m in member_errors(h[twice], y[twice], clusters=twice)}
    for items, m in a.items():
        assert m.value == pytest.approx(b[items].value)
        # How far the variance of a small bin is trusted depends on its number of events, not on their weight.
        assert m.debiased == pytest.approx(b[items].debiased, abs=0.01)
        assert m.interval == pytest.approx(b[items].interval, abs=0.02)


def test_members_of_instances_that_lack_items():
    h, y = forecast(7, 300)
    scores = h.scores.dense().copy()
    scores[np.random.default_rng(8).random(scores.shape) < 0.25] = np.nan
    scores[np.isnan(scores).sum(axis=1) > 2] = 0.0
    ranks = np.where(np.isnan(scores), np.nan, y.dense())
    gaps, seen = pc.PlackettLuce(scores), pc.Outcomes.from_ranks(np.argsort(np.argsort(ranks, axis=1), axis=1) + 1.0
                                                                 + 0 * ranks)  # fmt: skip
    for m in member_errors(gaps, seen):
        a, b = m.items
        both = ~np.isnan(scores[:, [a, b]]).any(axis=1)
        p = 1 / (1 + np.exp(scores[both, b] - scores[both, a]))
        assert m.n_events == both.sum()
        assert m.value == pytest.approx(binned(p, (ranks[both, a] < ranks[both, b]).astype(float), 15))


def test_members_that_nobody_saw_have_no_error():
    y = pc.Outcomes.from_ranks([[1, 2, np.nan], [2, 1, np.nan], [1, 2, np.nan]])
    found = member_errors(pc.PlackettLuce(np.zeros((3, 3))), y)
    assert [m.n_events for m in found] == [3, 0, 0]
    assert np.isnan([m.p_adjusted for m in found[1:]]).all()
    assert found[0].p_adjusted == found[0].p_value


@pytest.mark.parametrize(
    ("notion", "message"), [("full:canonical", "vector notion"), ("sub-9", "k may be at most"), ("sub-2", "draws")]
)
def test_members_that_cannot_be_judged_are_refused(notion, message):
    h, y = forecast(9, 20)
    with pytest.raises(pc.UsageError, match=message):
        member_errors(h, y, notion, draws=5 if message == "draws" else 99)


def test_lists_without_labels_have_no_members():
    h, y = pc.PlackettLuce([[1, 2], [1, 2, 3]]), pc.Outcomes.from_ranks([[1, 2], [1, 2, 3]])
    with pytest.raises(pc.UsageError, match="no identity"):
        member_errors(h, y)


def test_error_rates_of_members():
    """At n = 200 a calibrated model: each member at 5 %, and any member at all (Holm) at 5 %."""
    runs, single, family = 120, 0, 0
    for seed in range(runs):
        found = member_errors(*forecast([11, seed], 200), draws=499)
        single += sum(m.p_value <= 0.05 for m in found)
        family += min(m.p_adjusted for m in found) <= 0.05
    assert family <= binom.ppf(0.995, runs, 0.06)
    assert 0.025 <= single / (6 * runs) <= 0.075
