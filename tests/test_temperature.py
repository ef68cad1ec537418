"""The fitted temperature against a general optimiser, against the truth, and where there is none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

import prefcal as pc
from strategies import seeds


def fitted(scores, y, notion: str, **options):
    return pc.audit(pc.PlackettLuce(scores), y, notions=[notion], items="exchangeable", draws=99, **options)[
        notion
    ].metrics["temperature"]


def simulate(seed: int, n: int, m: int, scale: float):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    return scores, pc.PlackettLuce(scale * scores).sample(1, rng)[:, 0]


def loss_of_pairs(t, scores, ranks, weights):
    """Negative log likelihood of every pair with a known order, and its gradient by instance."""
    total, gradient = 0.0, np.zeros(len(scores))
    for i in range(len(scores)):
        for a in range(scores.shape[1]):
            for b in range(scores.shape[1]):
                if ranks[i, a] < ranks[i, b]:
                    d = scores[i, a] - scores[i, b]
                    total += weights[i] * np.logaddexp(0, -t * d)
                    gradient[i] -= weights[i] * d / (1 + math.exp(t * d))
    return total, gradient


def loss_of_best(t, scores, ranks, weights):
    total, gradient = 0.0, np.zeros(len(scores))
    for i in range(len(scores)):
        winner = np.flatnonzero(ranks[i] == ranks[i].min())
        if len(winner) == 1:
            p = np.exp(t * scores[i] - logsumexp(t * scores[i]))
            total += weights[i] * (logsumexp(t * scores[i]) - t * scores[i, winner[0]])
            gradient[i] += weights[i] * (p @ scores[i] - scores[i, winner[0]])
    return total, gradient


LOSSES = {"sub-2": loss_of_pairs, "top-1:confidence": loss_of_best}


@pytest.mark.parametrize("notion", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_interval_are_those_of_a_general_optimiser(notion, weighted):
    """The maximum of the likelihood, and the sandwich interval by instance from numeric second derivatives."""
    scores, orders = simulate(0, 80, 4, 0.6)
    ranks = np.argsort(orders, axis=1) + 1.0
    ranks[::5, 2:] = ranks[::5, 2:].min(axis=1, keepdims=True)  # some ties
    y = pc.Outcomes.from_ratings(-ranks)
    weights = np.random.default_rng(1).random(80) + 0.5 if weighted else np.ones(80)
    loss = LOSSES[notion]
    best = minimize_scalar(
        lambda t: loss(t, scores, ranks, weights)[0], bounds=(1e-3, 20), method="bounded", options={"xatol": 1e-10}
    )
    found = fitted(scores, y, notion, weights=weights if weighted else None)
    assert 1 / found.value == pytest.approx(best.x, rel=1e-5)
    t, step = 1 / found.value, 1e-5
    gradient = loss(t, scores, ranks, weights)[1]
    assert abs(gradient.sum()) < 1e-7
    curvature = (loss(t + step, scores, ranks, weights)[1] - loss(t - step, scores, ranks, weights)[1]).sum()
    se = math.sqrt(float(gradient @ gradient)) / (curvature / (2 * step))
    low, high = t - 1.959964 * se, t + 1.959964 * se
    assert found.interval == pytest.approx((1 / high, 1 / low), rel=1e-4)


@pytest.mark.parametrize("notion", LOSSES)
def test_instance_weights_share_an_instance_among_its_pairs(notion):
    scores, orders = simulate(2, 120, 4, 0.6)
    ranks = np.argsort(orders, axis=1) + 1.0
    ranks[::2] = np.where(ranks[::2] == 1, 1, 2)  # best only: three pairs instead of six
    y = pc.Outcomes.from_ranks(ranks)
    pairs = np.where(np.arange(120) % 2 == 0, 3, 6) if notion == "sub-2" else np.ones(120)
    shared = fitted(scores, y, notion, weights="instance")
    by_hand = fitted(scores, y, notion, weights=1 / pairs)
    assert shared.value == pytest.approx(by_hand.value, rel=1e-8)
    assert shared.interval == pytest.approx(by_hand.interval, rel=1e-8)


@pytest.mark.parametrize("notion", LOSSES)
@pytest.mark.parametrize("temperature", [0.25, 1.0, 1.6, 4.0])
def test_a_known_temperature_is_recovered(notion, temperature):
    """Scores ``temperature`` times too large."""
    scores, orders = simulate(13, 4000, 4, 1.0)
    found = fitted(temperature * scores, pc.Outcomes.from_orders(orders), notion)
    assert found.value == pytest.approx(temperature, rel=0.08)
    assert found.interval[0] < temperature < found.interval[1]
    assert found.note == ""


@pytest.mark.parametrize("notion", LOSSES)
def test_coverage_of_the_interval(notion):
    """95 % of 200 intervals, by the binomial at five standard deviations."""
    inside = 0
    for seed in range(200):
        scores, orders = simulate(1000 + seed, 150, 3, 0.7)
        low, high = fitted(scores, pc.Outcomes.from_orders(orders), notion).interval
        inside += low < 1 / 0.7 < high
    assert abs(inside - 190) < 5 * math.sqrt(200 * 0.95 * 0.05)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_units_and_offsets_of_scores(seed):
    """Scores c times larger have a temperature c times larger; an offset for an instance changes nothing."""
    scores, orders = simulate(seed, 60, 3, 1.0)
    y = pc.Outcomes.from_orders(orders)
    rng = np.random.default_rng(seed)
    factor = float(10 ** rng.uniform(-6, 6))
    for notion in LOSSES:
        a = fitted(scores, y, notion)
        b = fitted(factor * scores, y, notion)
        c = fitted(scores + 10 * rng.normal(size=(60, 1)), y, notion)
        if math.isfinite(a.value):
            assert b.value == pytest.approx(factor * a.value, rel=1e-6)
            assert c.value == pytest.approx(a.value, rel=1e-6)


@pytest.mark.parametrize("notion", LOSSES)
def test_scores_without_information(notion):
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(400, 4))
    y = pc.Outcomes.from_orders(np.argsort(rng.random((400, 4)), axis=1))
    found = fitted(scores, y, notion)
    assert "no detectable information" in found.note
    assert found.interval[1] == math.inf


@pytest.mark.parametrize("notion", LOSSES)
def test_scores_that_point_the_wrong_way(notion):
    scores, orders = simulate(6, 400, 4, 1.0)
    found = fitted(-scores, pc.Outcomes.from_orders(orders), notion)
    assert "negative information" in found.note
    assert found.value == math.inf


@pytest.mark.parametrize("notion", LOSSES)
@pytest.mark.parametrize(("sign", "value", "word"), [(1, 0.0, "right"), (-1, math.inf, "wrong")])
def test_separable_events_have_no_finite_scale(notion, sign, value, word):
    scores = np.random.default_rng(7).normal(size=(50, 4))
    y = pc.Outcomes.from_orders(np.argsort(-sign * scores, axis=1))
    result = pc.audit(pc.PlackettLuce(scores), y, notions=[notion], items="exchangeable", draws=99)
    found = result[notion].metrics["temperature"]
    assert found.value == value
    assert word in found.note
    json.loads(result.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize("scores", [np.zeros((30, 3)), np.full((30, 3), 1e300)])
def test_equal_scores_have_no_temperature(scores):
    result = pc.audit(
        pc.PlackettLuce(scores), pc.Outcomes.from_best([0, 1, 2] * 10, n_items=3), items="exchangeable", draws=99
    )
    assert any("equal scores" in w for w in result.warnings)
    for notion in LOSSES:
        found = result[notion].metrics["temperature"]
        assert not math.isnan(found.value)
        assert found.interval is None or not any(map(math.isnan, found.interval))
        assert found.note != ""


@pytest.mark.parametrize("size", [1e-300, 1e-9, 1e9, 1e150])
def test_extreme_units(size):
    scores, orders = simulate(8, 200, 3, 1.0)
    found = fitted(size * scores, pc.Outcomes.from_orders(orders), "sub-2")
    assert found.value == pytest.approx(size, rel=0.5)
    assert found.interval[0] < found.value < found.interval[1]
