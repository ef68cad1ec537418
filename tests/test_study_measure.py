"""Rankwise errors of the label-ranking study: brute force, null laws, cut forecasts, samples of subsets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
from prefcal.estimators.dirichlet import dirichlet_kernel_error
from prefcal.estimators.rankwise import rankwise_errors
from prefcal.studies.label_ranking.kernel import dirichlet_kernel
from prefcal.studies.label_ranking.measure import (
    frequent_orders,
    listed_probabilities,
    outcome_index,
    rankwise,
    truncated,
    without_bias,
)
from prefcal.views import View


def forecast(n, m, seed, scale=1.5):
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(n, m)) * scale)
    return h, h.sample(1, rng)[:, 0]


def measured(h, orders, name, **options):
    settled = {"bins": 10, "draws": 0, "budget": 10**9, "seed": [1]} | options
    return rankwise(h, orders, View.parse(name), **settled)


def by_hand(h, orders, name, bins, seen=None):
    """Mean binary ECE over ordered tuples, from all m! rankings and loops."""
    view, m = View.parse(name), orders.shape[1]
    every = list(itertools.permutations(range(m)))
    full = np.stack([np.exp(h.log_prob(np.array(o))) for o in every], axis=1)
    k = m if view.kind == "full" else view.k

    def shows(order, t):
        return order[:k] == t if view.kind != "sub" else tuple(a for a in order if a in t) == t

    errors = []
    for t in itertools.permutations(range(m), k):
        if seen is not None and not any(shows(tuple(o), t) for o in seen.tolist()):
            continue
        p = full[:, [shows(o, t) for o in every]].sum(axis=1)
        y = np.array([shows(tuple(o), t) for o in orders.tolist()], dtype=float)
        level = np.minimum((p * bins).astype(int), bins - 1)
        errors.append(sum(abs((y - p)[level == b].sum()) for b in range(bins)) / len(y))
    return float(np.mean(errors))


@pytest.mark.parametrize("name", ["sub-2", "sub-3", "top-1", "top-2", "full"])
@pytest.mark.parametrize("observed", [False, True])
def test_equals_loops_over_all_rankings(name, observed):
    h, orders = forecast(23, 4, 3)
    seen = orders[:9] if observed else None
    found = measured(h, orders, name, seen=seen)
    assert found.value == pytest.approx(by_hand(h, orders, name, 10, seen), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from(["sub-2", "top-1", "full"]), st.integers(1, 15))
def test_equals_the_library_s_estimator(seed, m, name, bins):
    h, orders = forecast(17, m, seed)
    other = rankwise_errors(h, pc.Outcomes.from_orders(orders, n_items=m), name, bins)
    assert measured(h, orders, name, bins=bins).value == pytest.approx(other.mean, abs=1e-10)


@pytest.mark.parametrize("kind", ["pl", "categorical", "mallows", "mixture", "pairwise"])
def test_every_kind_of_forecast(kind):
    h, orders = forecast(20, 4, 5)
    rng = np.random.default_rng(0)
    every = np.array(list(itertools.permutations(range(4))))
    listed = pc.Categorical(every, rng.dirichlet(np.ones(24), 20))
    mallows = pc.Mallows([2, 1, 3, 4], np.full(20, 0.4))
    h = {
        "pl": h,
        "categorical": listed,
        "mallows": mallows,
        "mixture": pc.Mixture([listed, mallows], [0.3, 0.7]),
        "pairwise": pc.Pairwise(_pairs(h)),
    }[kind]
    y = pc.Outcomes.from_orders(orders)
    assert measured(h, orders, "sub-2").value == pytest.approx(rankwise_errors(h, y, "sub-2").mean, abs=1e-10)


def _pairs(h):
    first, second = np.triu_indices(h.n_items, 1)
    p = np.full((len(h), h.n_items, h.n_items), 0.5)
    p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
    p[:, second, first] = 1 - p[:, first, second]
    return p


def test_outcome_index_agrees_with_the_view():
    rng = np.random.default_rng(0)
    orders = np.argsort(rng.random((9, 3, 7)), axis=-1)
    for name in ("sub-2", "sub-3", "sub-5", "sub-6", "top-2", "full"):
        view = View.parse(name)
        assert (outcome_index(orders, view, view.members(7)) == view.classify(orders)).all(), name


def test_p_values_are_uniform_under_calibration_and_small_without():
    right, wrong = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        h = pc.PlackettLuce(rng.normal(size=(40, 3)) * 2)
        orders = h.sample(1, rng)[:, 0]
        right.append(measured(h, orders, "sub-2", draws=59, seed=[seed]))
        wrong.append(measured(pc.PlackettLuce(h.scores.dense() * 4), orders, "sub-2", draws=59, seed=[seed]))
    p = np.array([m.p_value for m in right])
    assert 0.35 < p.mean() < 0.65
    assert (p <= 0.05).mean() <= 0.15
    assert np.mean([m.value for m in right]) == pytest.approx(np.mean([m.null_mean for m in right]), rel=0.05)
    assert np.median([m.p_value for m in wrong]) < 0.05
    assert np.mean([m.debiased for m in wrong]) > 2 * np.mean([m.debiased for m in right])
    assert all(m.low == 0 for m in right if m.p_value > 0.05)


def test_pairs_have_the_null_mean_of_the_rankings_they_come_from():
    h, orders = forecast(50, 4, 2)
    whole = measured(h, orders, "sub-2", draws=400)
    pairs = measured(pc.Pairwise(_pairs(h)), orders, "sub-2", draws=400)
    assert pairs.value == pytest.approx(whole.value, abs=1e-12)
    assert pairs.null_mean == pytest.approx(whole.null_mean, rel=0.05)
    assert "multipliers" in pairs.note
    assert 0 < pairs.p_value <= 1


def test_a_sample_of_subsets_is_unbiased_and_says_its_error():
    h, orders = forecast(30, 9, 4)
    everything = measured(h, orders, "sub-3")
    assert everything.stderr == 0
    assert everything.tuples == everything.tuples_used == 84 * 6
    found = [measured(h, orders, "sub-3", budget=30 * 6 * 12, seed=[s]) for s in range(60)]
    assert all(f.tuples_used == 72 for f in found)
    deviations = np.array([(f.value - everything.value) / f.stderr for f in found])
    assert abs(np.mean([f.value for f in found]) - everything.value) < 3 * found[0].stderr / np.sqrt(60)
    assert 0.6 < deviations.std() < 1.5


def test_a_sample_of_subsets_is_the_same_for_every_kind_of_forecast():
    h, orders = forecast(6, 6, 4)
    every = np.array(list(itertools.permutations(range(6))))
    listed = pc.Categorical(every, listed_probabilities(h, every))
    a = measured(h, orders, "sub-3", budget=6 * 6 * 5)
    b = measured(listed, orders, "sub-3", budget=6 * 6 * 5)
    assert a.tuples_used == b.tuples_used == 30
    assert a.value == pytest.approx(b.value, abs=1e-10)


def test_results_do_not_depend_on_how_rows_are_split(monkeypatch):
    h, orders = forecast(50, 5, 6)
    whole = measured(h, orders, "sub-3")
    monkeypatch.setattr("prefcal.studies.label_ranking.measure._ROWS", 500)
    assert measured(h, orders, "sub-3").value == pytest.approx(whole.value, abs=1e-12)


def test_listed_probabilities_of_all_kinds():
    h, _ = forecast(5, 4, 9)
    every = np.array(list(itertools.permutations(range(4))))
    expected = np.stack([np.exp(h.log_prob(o)) for o in every], axis=1)
    assert listed_probabilities(h, every) == pytest.approx(expected, abs=1e-12)
    listed = pc.Categorical(every, expected)
    assert listed_probabilities(listed, every[::-1]) == pytest.approx(expected[:, ::-1], abs=1e-12)
    few = pc.Categorical(every[:2], [[0.25, 0.75]])
    assert listed_probabilities(few, every[1:3]).tolist() == [[0.75, 0.0]]
    mallows = pc.Mallows([1, 2, 3, 4], np.full(5, 0.5))
    assert listed_probabilities(mallows, every)[0] == pytest.approx(
        [np.exp(mallows[0].log_prob(o))[0] for o in every], abs=1e-12
    )
    varied = pc.Mallows([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.5])
    both = pc.Mixture([listed, varied], [0.5, 0.5])
    assert listed_probabilities(both, every).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-10)


def test_truncation_keeps_probabilities_and_drops_the_rest():
    h, orders = forecast(8, 4, 1)
    cut = truncated(h, np.unique(orders, axis=0))
    mass = cut.marginal("full").probs.sum(axis=(1, 2))
    assert (mass < 0.999).all()
    pairs = truncated(pc.Pairwise(_pairs(h)), np.array([[0, 1, 2, 3]]))
    assert (pairs.probs[:, 0, 1] > 0).all()
    assert (pairs.probs[:, 1, 0] == 0).all()


def test_the_filter_takes_the_most_frequent_orders_in_order_of_appearance():
    rows = [[0, 1]] * 9 + [[1, 0]]
    kept, mask = frequent_orders(np.array(rows), 0.9)
    assert kept.tolist() == [[0, 1]]
    assert mask.sum() == 9
    ties = np.array([[2, 1, 0], [0, 1, 2]])
    kept, mask = frequent_orders(ties, 0.5)
    assert kept.tolist() == [[2, 1, 0]]
    assert mask.tolist() == [True, False]


def test_without_bias():
    assert without_bias(0.5, 0.3, 0.1) == pytest.approx((0.4, 0.07**0.5, 0.27**0.5))
    assert without_bias(0.2, 0.3, 0.05)[:2] == (0.0, 0.0)


@pytest.mark.parametrize("name", ["sub-2", "top-1", "full"])
def test_kernel_error_equals_the_library_s(name):
    h, orders = forecast(25, 4, 8)
    found = dirichlet_kernel(h, orders, View.parse(name), draws=0, budget=10**9, seed=[1])
    other = dirichlet_kernel_error(h, pc.Outcomes.from_orders(orders), name, draws=0)
    assert found.value == pytest.approx(other.value, abs=1e-9)
    tested = dirichlet_kernel(h, orders, View.parse(name), draws=39, budget=10**9, seed=[1])
    assert tested.value == found.value
    assert 0 < tested.null_mean < 2


def test_kernel_error_of_pairs_has_a_null_mean_but_no_test():
    h, orders = forecast(25, 4, 8)
    found = dirichlet_kernel(pc.Pairwise(_pairs(h)), orders, View.parse("sub-2"), draws=39, budget=10**9, seed=[1])
    whole = dirichlet_kernel(h, orders, View.parse("sub-2"), draws=39, budget=10**9, seed=[1])
    assert found.value == pytest.approx(whole.value, abs=1e-9)
    assert found.null_mean == pytest.approx(whole.null_mean, rel=0.2)
    assert np.isnan(found.p_value)


@pytest.mark.slow
def test_golden_values_of_the_published_estimators(data_dir: Path):
    """Their estimators on their forecasts, cut ones included (prob_i need not sum to 1)."""
    checked = 0
    for path in sorted((data_dir / "paper" / "golden").glob("*.json")):
        arrays = np.load(path.with_suffix(".npz"))
        for case in json.loads(path.read_text()):
            kind = "sub" if "sub_k" in case["fn"] else "top"
            ranks = arrays[f"y_{case['case']}"]
            orders = np.argsort(ranks, axis=1)
            rankings = arrays[f"rankings_{case['case']}"].astype(int) - 1
            m = orders.shape[1]
            if "full_rank" in case["fn"] or rankings.shape[1] != m or m >= 8 or case["k"] > 3:
                continue
            h = pc.Categorical._wrap(rankings, arrays[f"prob_{case['case']}"].T.astype(float))
            found = measured(h, orders, f"{kind}-{case['k']}")
            assert found.value == pytest.approx(case["value"], abs=1e-6), (path.name, case)
            checked += 1
    assert checked > 20
