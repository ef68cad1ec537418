"""Routing, filtering, the KL weight, and all decisions together with paired differences."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given

import prefcal as pc
from prefcal.datasets import find
from prefcal.datasets.reward_models import rewardmath_classifiers
from prefcal.decisions import abstention, best_of_n, compare_decisions, decisions, filtering, kl_weight, routing
from prefcal.decisions.choices import gather
from prefcal.errors import DataError, UsageError
from prefcal.estimators.temperature import cross_fitted, temperature
from rankings import plackett_luce_ranks
from strategies import seeds


def simulated(rng: np.random.Generator, n: int, factor: float = 1.0, m: int = 4):
    truth = rng.normal(size=(n, m)) * 1.5
    y = pc.Outcomes.from_ranks(plackett_luce_ranks(truth, rng))
    return pc.PlackettLuce(truth * factor), y


# ----------------------------------------------------------------------------------------------------------- routing


@given(seeds)
def test_routing_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    h, y = simulated(rng, 30, 2.0)
    (c,) = gather([h], y, choice="best", weights=None, clusters=None)
    for r in routing(h, y, costs=[0.05, 0.3]).costs:
        keep = c.risk <= r.cost
        assert r.asked.value == pytest.approx((~keep).mean())
        assert r.claimed == pytest.approx(np.minimum(c.risk, r.cost).mean())
        assert r.realised.value == pytest.approx(np.where(keep, 1 - c.hit, r.cost).mean())
        assert r.optimism.value == pytest.approx(r.realised.value - r.claimed)
        cuts = [np.where(c.log_risk <= t, 1 - c.hit, r.cost).mean() for t in [-np.inf, *c.log_risk]]
        assert r.hindsight.value == pytest.approx(min(cuts))
        assert r.hindsight.value <= min(r.realised.value, r.never.value, r.always) + 1e-12
        for e in (r.asked, r.realised, r.optimism):
            assert e.interval[0] - 1e-12 <= e.value <= e.interval[1] + 1e-12


def test_the_rule_is_the_best_for_an_honest_model_and_not_for_a_sure_one():
    h, y = simulated(np.random.default_rng(0), 4000)
    for cost in (0.05, 0.2, 0.4):
        honest = routing(h, y, costs=[cost]).costs[0]
        sure = routing(h.scaled(4.0), y, costs=[cost]).costs[0]
        assert honest.optimism.interval[0] <= 0 <= honest.optimism.interval[1]
        assert honest.regret.interval[0] <= 0.002
        assert sure.optimism.interval[0] > 0
        assert sure.regret.interval[0] > 0
        assert sure.realised.value > honest.realised.value


def test_regret_is_out_of_sample():
    """A threshold searched on the very data never loses; one from the other half does, for an honest model."""
    rng = np.random.default_rng(14)
    values = [routing(*simulated(rng, 40), costs=[0.3], seed=s).costs[0].regret.value for s in range(20)]
    assert min(values) < -0.005


def test_routing_everything_costs_its_price():
    h = pc.PlackettLuce(np.zeros((5, 4)))
    r = routing(h, pc.Outcomes.from_best([0, 1, 2, 3, 0], n_items=4), costs=[0.3]).at(0.3)
    assert r.realised.interval == (0.3, 0.3)
    assert "handed on" in r.optimism.note
    with pytest.raises(UsageError, match="price of asking"):
        routing(h, pc.Outcomes.from_best([0] * 5, n_items=4), costs=[1.5])


def test_routing_optimism_covers():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(150, 4)) * 1.5
    h = pc.PlackettLuce(truth * 3)
    p_hit, claim = (np.exp(pc.PlackettLuce(s).top_log_probs()).max(axis=1) for s in (truth, truth * 3))
    expected = np.where(claim >= 0.8, claim - p_hit, 0.0).mean()
    inside = 0
    for _ in range(300):
        y = pc.Outcomes.from_best(plackett_luce_ranks(truth, rng).argmin(axis=1), n_items=4)
        low, high = routing(h, y, costs=[0.2]).at(0.2).optimism.interval
        inside += low <= expected <= high
    assert inside / 300 > 0.905


# --------------------------------------------------------------------------------------------------------- filtering


@given(seeds)
def test_filtering_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    h, y = simulated(rng, 10, 2.0)
    (c,) = gather([h], y, choice="pair", weights=None, clusters=None)
    found = filtering(h, y)
    for k in found.by_threshold:
        kept = c.risk <= 1 - k.asked + 1e-12
        assert (k.pairs is None) == (not kept.any())
        if k.pairs is not None:
            assert k.pairs.n == kept.sum()
            assert k.pairs.realised.value == pytest.approx((1 - c.hit[kept]).mean())
            assert k.pairs.claimed == pytest.approx(c.risk[kept].mean())
    for k in found.by_fraction:
        assert k.pairs.coverage.value >= k.asked - 1e-12
        assert k.pairs.n == math.ceil(k.asked * len(c) - 1e-9)  # scores are continuous: no ties
    assert found.by_fraction[-1].pairs.realised.value == pytest.approx(1 - c.hit.mean())


def test_a_temperature_changes_thresholds_not_fractions():
    h, y = simulated(np.random.default_rng(2), 300)
    raw, sure = filtering(h, y), filtering(h.scaled(3.0), y)
    for a, b in zip(raw.by_fraction, sure.by_fraction, strict=True):
        assert a.pairs.realised == b.pairs.realised
        assert a.pairs.claimed > b.pairs.claimed
    assert sure.at(0.9).pairs.coverage.value > raw.at(0.9).pairs.coverage.value
    assert sure.at(0.9).pairs.optimism.interval[0] > 0
    with pytest.raises(UsageError, match="thresholds must lie"):
        filtering(h, y, thresholds=[0.3])


# --------------------------------------------------------------------------------------------------------- KL weight


def test_kl_weight_inverts_the_temperature():
    h, y = simulated(np.random.default_rng(3), 500, 2.0)
    t = temperature(h, y, np.ones(500), best=False)
    k = kl_weight(h, y, beta=0.1)
    assert k.slope.value == pytest.approx(1 / t.value)
    assert k.slope.interval == pytest.approx((1 / t.interval[1], 1 / t.interval[0]))
    assert k.effective.value == pytest.approx(0.1 / t.value)
    assert k.factor.value == pytest.approx(t.value)
    assert k.factor.interval == pytest.approx(t.interval)
    assert "over-confident" in k.advice


def test_the_slope_s_interval_covers():
    rng = np.random.default_rng(12)
    inside = 0
    for _ in range(300):
        low, high = kl_weight(*simulated(rng, 150, 2.0)).slope.interval
        inside += low <= 0.5 <= high
    assert 0.905 < inside / 300 < 0.985


def test_scaling_rewards_scales_the_weight():
    h, y = simulated(np.random.default_rng(4), 200)
    one, three = kl_weight(h, y), kl_weight(h.scaled(3.0), y)
    assert three.effective.value == pytest.approx(one.effective.value / 3)
    assert three.heterogeneity == pytest.approx(one.heterogeneity)


def test_heterogeneous_scales_are_found():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(1500, 3)) * np.where(np.arange(1500) % 2, 0.4, 3.0)[:, None]
    y = pc.Outcomes.from_ranks(plackett_luce_ranks(truth, rng))
    alike = kl_weight(pc.PlackettLuce(truth), y)
    mixed = kl_weight(pc.PlackettLuce(truth * np.where(np.arange(1500) % 2, 1.0, 4.0)[:, None]), y)
    assert alike.heterogeneity > 0.01
    assert mixed.heterogeneity < 1e-6
    assert "no single" in mixed.advice
    assert "no single" not in alike.advice or alike.heterogeneity < 0.05


def test_equal_slopes_are_rejected_at_their_level():
    rng = np.random.default_rng(6)
    rejected = 0
    for _ in range(300):
        h, y = simulated(rng, 150, 1.7, m=3)
        rejected += kl_weight(h, y).heterogeneity < 0.05
    assert rejected / 300 < 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / 300)


def test_scores_without_or_with_negative_information():
    rng = np.random.default_rng(7)
    h, y = simulated(rng, 300)
    noise = kl_weight(pc.PlackettLuce(rng.normal(size=(300, 4))), y)
    assert noise.slope.interval[0] == 0
    assert "none is suggested" in noise.advice
    against = kl_weight(pc.PlackettLuce(-h.scores.dense()), y)
    assert against.slope.value == 0
    assert "negative" in against.advice
    assert math.isinf(against.factor.value)
    perfect = kl_weight(pc.PlackettLuce([[1.0, 0.0], [0.0, 1.0]]), pc.Outcomes.from_best([0, 1], n_items=2))
    assert perfect.slope.interval is None
    assert "no bound" in perfect.advice
    json.dumps([k.document() for k in (noise, against, perfect)], allow_nan=False)


def test_only_plackett_luce_has_rewards():
    y = pc.Outcomes.from_ranks([[1, 2, 3]])
    with pytest.raises(UsageError, match="Plackett-Luce"):
        kl_weight(pc.Mallows(np.array([[1, 2, 3]]), 0.5), y)
    with pytest.raises(UsageError, match="beta"):
        kl_weight(pc.PlackettLuce([[1.0, 0.0, 2.0]]), y, beta=0.0)
    with pytest.raises(DataError, match="no pair"):
        kl_weight(pc.PlackettLuce([[1.0, 0.0, 2.0]]), pc.Outcomes.from_ranks([[1, 1, 1]]))


# ---------------------------------------------------------------------------------------------------------- together


def test_together_is_each_alone():
    h, y = simulated(np.random.default_rng(8), 100, 2.0)
    found = decisions(h, y, mended=h.scaled(0.5))
    assert found.before.best_of_n == best_of_n(h, y)
    assert found.before.abstention == abstention(h, y)
    assert found.before.routing == routing(h, y)
    assert found.before.filtering == filtering(h, y)
    assert found.before.kl_weight == kl_weight(h, y)
    assert found.after == decisions(h.scaled(0.5), y).before
    assert found.not_applicable == {}
    assert compare_decisions(h, h.scaled(0.5), y) == found
    for c in found.changes:
        assert c.difference.value == pytest.approx(c.after - c.before)
    name = "best of 4: optimism"
    before, after = (f.best_of_n.at(4).optimism.value for f in (found.before, found.after))
    assert found.change(name).difference.value == pytest.approx(after - before)
    with pytest.raises(UsageError, match="did you mean"):
        found.change("best of 4: optimsm")
    json.dumps(found.document(), allow_nan=False)


def test_a_model_against_itself_changes_nothing():
    h, y = simulated(np.random.default_rng(9), 50)
    assert all(c.difference.interval == (0.0, 0.0) for c in decisions(h, y, mended=h).changes)


def test_paired_differences_cover_and_are_narrower():
    """The optimism of best-of-4 before and after: paired, its difference is known far better than either."""
    rng = np.random.default_rng(10)
    truth = rng.normal(size=(200, 4)) * 1.5
    h, honest = pc.PlackettLuce(truth * 3), pc.PlackettLuce(truth)
    claim = [np.exp(f.top_log_probs()).max(axis=1).mean() for f in (h, honest)]
    y = pc.Outcomes.from_best(plackett_luce_ranks(truth, rng).argmin(axis=1), n_items=4)
    found = compare_decisions(h, honest, y).change("best of 4: optimism").difference
    assert found.value == pytest.approx(claim[1] - claim[0])
    single = best_of_n(h, y).at(4).optimism.interval
    assert found.interval[1] - found.interval[0] < 0.5 * (single[1] - single[0])


def test_what_does_not_apply_is_said():
    rng = np.random.default_rng(11)
    probs = rng.uniform(0.1, 0.9, (20, 3, 3))
    upper = np.triu(probs, 1)
    complementary = upper + np.tril(1 - upper.transpose(0, 2, 1), -1) + 0.5 * np.eye(3)
    y = pc.Outcomes.from_ranks(np.argsort(rng.random((20, 3)), axis=1) + 1)
    pairs = decisions(pc.Pairwise(complementary), y)
    assert set(pairs.not_applicable) == {"best_of_n", "kl_weight"}
    assert pairs.before.abstention.choice == "pair"
    sets = decisions(pc.PlackettLuce(rng.normal(size=(20, 3))), pc.Outcomes.from_best([[0, 1]] * 20, n_items=3))
    assert set(sets.not_applicable) == {"best_of_n"}
    assert sets.before.abstention.choice == "pair"
    mallows = decisions(pc.Mallows(np.array([1, 2, 3]), np.full(20, 0.5)), y)
    assert set(mallows.not_applicable) == {"kl_weight"}
    records = decisions(
        pc.PlackettLuce(rng.normal(size=(5, 3))), pc.Outcomes.from_pairs([[0, 1, 2], [0, 0, 1], [3, 2, 0]], n_items=3)
    )
    assert set(records.not_applicable) == {"best_of_n"}
    assert records.before.filtering.n_pairs == 3
    with pytest.raises(DataError, match="no decision has a known outcome"):
        decisions(pc.PlackettLuce([[0.0, 1.0]]), pc.Outcomes.from_ranks([[1, 1]]))
    with pytest.raises(DataError, match="same instances"):
        decisions(mallows_h := pc.Mallows(np.array([1, 2, 3]), np.full(20, 0.5)), y, mended=mallows_h[:3])


def every_estimate(node):
    """All {value, interval} of a document."""
    if isinstance(node, dict):
        if set(node) == {"value", "interval", "note"}:
            return [node]
        return [e for v in node.values() for e in every_estimate(v)]
    return [e for v in node for e in every_estimate(v)] if isinstance(node, list) else []


@pytest.mark.parametrize(
    "h",
    [
        pc.PlackettLuce(np.where(np.eye(12, 4, dtype=bool), np.nan, np.arange(48.0).reshape(12, 4) % 7)),
        pc.Mallows(np.tile([2, 1, 4, 3], (12, 1)), np.linspace(0, 1, 12)),
        pc.Categorical(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), np.tile([0.25, 0.75], (12, 1))),
        pc.Samples(np.tile(np.array([[0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 3, 0]]), (12, 1, 1))),
    ],
    ids=lambda h: type(h).__name__,
)
@pytest.mark.parametrize("kind", ["ranks", "best"])
def test_every_distribution(h, kind):
    """Holes, certainties, impossible outcomes: each number lies in its interval, and none is missing unsaid."""
    rng = np.random.default_rng(13)
    ranks = np.argsort(rng.random((12, 4)), axis=1) + 1.0
    if isinstance(h, pc.PlackettLuce):
        ranks[np.isnan(h.scores.dense())] = np.nan
    if kind == "ranks":
        y = pc.Outcomes.from_ranks([np.where(np.isnan(r), np.nan, r.argsort().argsort() + 1) for r in ranks])
    else:
        y = pc.Outcomes.from_ranks(np.where(np.isnan(ranks), np.nan, 1.0 + (ranks > np.nanmin(ranks, 1)[:, None])))
    found = decisions(h, y, mended=h, draws=50)
    assert set(found.not_applicable) <= {"kl_weight"}
    estimates = every_estimate(found.document())
    assert len(estimates) > 100
    for e in estimates:
        assert e["interval"] is not None or e["note"]
        if e["interval"] is not None and e["value"] is not None and None not in e["interval"]:
            assert e["interval"][0] - 1e-9 <= e["value"] <= e["interval"][1] + 1e-9


def test_real_reward_model_before_and_after(data_dir):
    """Skywork on RewardMATH: says it is right in 90 % of the problems, is in 22 %; a temperature mends the claim."""
    (file,) = (f for f in rewardmath_classifiers() if f.name.startswith("skywork"))
    scores = pc.read(find(file))
    h, y = pc.PlackettLuce(scores.scores), scores.outcomes
    mended = cross_fitted(h, y, np.ones(len(y)), best=True, per_instance=False, units=np.arange(len(y)), seed=0)
    found = decisions(h, y, mended=mended)
    before, after = found.before.best_of_n.at(10), found.after.best_of_n.at(10)
    assert round(before.claimed.value, 2) == 0.90
    assert round(before.realised.value, 2) == round(after.realised.value, 2) == 0.22
    assert before.optimism.interval[0] > 0.6
    assert after.optimism.interval[0] < 0 < after.optimism.interval[1]
    promised = found.before.abstention.at(0.05).accepted
    assert promised.realised.interval[0] > 0.7
    assert found.after.abstention.at(0.05).accepted is None
    assert found.before.best_of_n.subsets == "with the best"
