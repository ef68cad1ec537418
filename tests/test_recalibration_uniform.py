"""The mixture with the uniform distribution: exact marginals, recovery, saturation, every class."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from prefcal.recalibration.persistence import load_recalibrator
from prefcal.recalibration.uniform import Uniform, WithUniform
from recalibration_contract import check_marginals, check_order_kept, check_saved, data_of


def simulated(n: int, seed: int, *, epsilon: float = 0.1, temperature: float = 2.0, best: bool = False) -> Data:
    """With probability epsilon the outcome has nothing to do with the scores."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(n, 4)) * 3
    utilities = s / temperature * (rng.random((n, 1)) > epsilon)
    orders = pc.PlackettLuce(utilities).sample(1, rng)[:, 0]
    y = pc.Outcomes.from_best(orders[:, 0], n_items=4) if best else pc.Outcomes.from_orders(orders)
    return data_of(pc.PlackettLuce(s), y)


def models(n: int, m: int, seed: int) -> dict[str, pc.Mallows]:
    rng = np.random.default_rng(seed)
    orders = list(itertools.permutations(range(m)))
    upper = np.triu(rng.uniform(0.05, 0.95, size=(n, m, m)), 1)
    pairs = upper + np.tril(1 - upper.transpose(0, 2, 1), -1) + 0.5 * np.eye(m)
    plain = pc.PlackettLuce(rng.normal(size=(n, m)) * 3)
    mallows = pc.Mallows(np.argsort(rng.random((n, m)), axis=1) + 1, rng.choice([0.0, 0.3, 0.9], n))
    return {
        "PlackettLuce": plain,
        "Mallows": mallows,
        "BabingtonSmith": pc.BabingtonSmith(pairs),
        "Categorical": pc.Categorical(orders, rng.dirichlet(np.full(len(orders), 0.3), size=n)),
        "Samples": pc.Samples(np.argsort(rng.random((n, 20, m)), axis=2)),
        "Mixture": pc.Mixture([plain, mallows], [0.3, 0.7]),
        "StagedPlackettLuce": pc.StagedPlackettLuce(rng.normal(size=(n, m)), rng.uniform(0.3, 2.0, m - 1)),
    }


@pytest.mark.parametrize("best", [False, True])
def test_temperature_and_epsilon_are_recovered(best):
    hits = np.zeros(2)
    for seed in range(20):
        found = Uniform.fit(simulated(2000, seed, best=best)).estimates
        for k, (name, true) in enumerate((("epsilon", 0.1), ("temperature", 2.0))):
            low, high = found[name].interval
            hits[k] += low <= true <= high
    assert (hits >= 15).all()  # 19 expected; fewer than 15 happens once in 400 if 95 % is right


def test_fifty_instances_do_no_harm():
    """Calibrated scores, n = 50: the mean held-out log loss rises by less than 0.025 nats a ranking of four."""
    test = simulated(2000, 999, epsilon=0, temperature=1)
    base = mean_log_loss(test.h, test.y)
    rise = [
        mean_log_loss(Uniform.fit(simulated(50, seed, epsilon=0, temperature=1)).apply(test.h, Context()), test.y)
        - base
        for seed in range(40)
    ]
    assert np.mean(rise) < 0.025


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("name", sorted(models(1, 3, 0)))
def test_every_class_is_mixed_exactly(name, m):
    h = models(6, m, m)[name]
    fit = Uniform(name, 0.2, 0.0, (0.0, 0.0, 0.0, 0.1), None)
    mixed = fit.apply(h, Context())
    check_marginals(mixed)
    for order in itertools.permutations(range(m)):
        np.testing.assert_allclose(
            np.exp(mixed.log_prob(list(order))), 0.8 * np.exp(h.log_prob(list(order))) + 0.2 / math.factorial(m)
        )
    check_order_kept(h, mixed)
    np.testing.assert_array_equal(mixed[2:4].mode(), h[2:4].mode())
    drawn = mixed.sample(4000, 0)
    share = (drawn[0] == np.array(h[:1].mode()[0])).all(axis=1).mean()
    p = float(np.exp(mixed.log_prob(h.mode())[0]))
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 4000) + 1e-3


@pytest.mark.parametrize("name", sorted(models(1, 3, 0)))
def test_epsilon_maximises_the_penalised_likelihood(name):
    """An independent one-dimensional search, the scale held where the fit left it."""
    from scipy.optimize import minimize_scalar

    h = models(200, 3, 1)[name]
    y = pc.Outcomes.from_best(np.random.default_rng(3).integers(0, 3, 200), n_items=3)
    fit = Uniform.fit(data_of(h, y))
    scaled = h.scaled(math.exp(fit.log_scale)) if isinstance(h, pc.PlackettLuce) else h
    p = np.exp(observed_log_prob(scaled, y))

    def loss(epsilon):
        return -np.log((1 - epsilon) * p + epsilon / 3).sum() - 0.25 * np.log(epsilon) - 4.75 * np.log1p(-epsilon)

    best = minimize_scalar(loss, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-9}).x
    assert fit.epsilon == pytest.approx(best, abs=1e-4)


def test_saturated_forecasts_become_finite():
    """Certain, and wrong once in ten: infinite log loss before, near the entropy of one in ten after."""
    rng = np.random.default_rng(1)
    right = rng.random(2000) > 0.1
    h = pc.Mallows([1, 2], np.zeros(2000))
    y = pc.Outcomes.from_best(np.where(right, 0, 1), n_items=2)
    fit = Uniform.fit(data_of(h, y))
    assert math.isinf(mean_log_loss(h, y))
    share = right.mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert mean_log_loss(fit.apply(h, Context()), y) == pytest.approx(entropy, abs=1e-3)
    assert fit.epsilon / 2 == pytest.approx(1 - share, abs=5e-3)


def test_a_map_fitted_where_something_impossible_happened_is_saved(tmp_path):
    """JSON has no infinity: the log loss before is null in the file and infinite again when loaded."""
    h, y = pc.Mallows([1, 2], np.zeros(20)), pc.Outcomes.from_best([0] * 19 + [1], n_items=2)
    fit = recalibrate(h, y, "uniform")
    fit.save(tmp_path / "map.json")
    loaded = load_recalibrator(tmp_path / "map.json")
    assert loaded.record == fit.record
    assert math.isinf(fit.record.before)


def test_certain_forecasts_that_came_true_keep_a_little_doubt():
    h, y = pc.Mallows([1, 2, 3], np.zeros(50)), pc.Outcomes.from_orders([[0, 1, 2]] * 50)
    found = Uniform.fit(data_of(h, y)).estimates["epsilon"]
    assert 0.001 < found.value < 0.015 < found.interval[1]


def test_pairwise_forecasts():
    rng = np.random.default_rng(2)
    p = rng.choice([0.0, 0.2, 0.8, 1.0], 3000)
    happened = rng.random(3000) < 0.3 * 0.5 + 0.7 * p
    probs = np.full((3000, 2, 2), np.nan)
    probs[:, 0, 1] = p
    h, y = pc.Pairwise(probs), pc.Outcomes.from_best(np.where(happened, 0, 1), n_items=2)
    fit = recalibrate(h, y, "uniform")
    low, high = fit.estimates["epsilon"].interval
    assert low < 0.3 < high
    assert high - low < 0.15
    out = fit(h)
    np.testing.assert_allclose(out.probs[:, 0, 1], (1 - fit.epsilon) * p + fit.epsilon / 2)
    assert math.isfinite(mean_log_loss(out, y))
    assert "1/2" in fit.describe()
    check_order_kept_pairs = np.sign(h.pair_log_odds([0], [1])) == np.sign(out.pair_log_odds([0], [1]))
    assert check_order_kept_pairs.all()


@settings(max_examples=40, deadline=None)
@given(strategies.ragged_scores(), st.floats(1e-6, 0.999))
def test_ragged_lists(rows, epsilon):
    """Lists of unequal length: parts, sizes and audited numbers are those of each list alone."""
    h = pc.PlackettLuce(rows)
    mixed = WithUniform(h, epsilon)
    assert mixed.sizes.tolist() == [len(r) for r in rows]
    y = pc.Outcomes.from_best([0] * len(rows), n_items=[len(r) for r in rows])
    got = observed_log_prob(mixed, y)
    for i, row in enumerate(rows):
        alone = WithUniform(pc.PlackettLuce([row]), epsilon)
        np.testing.assert_allclose(np.exp(mixed.top_log_probs()[i, : len(row)]), np.exp(alone.top_log_probs()[0]))
        if len(row) > 1:
            assert got[i] == pytest.approx(float(alone.top_log_probs()[0, 0]), abs=1e-12)
    if h.n_items > 1:
        np.testing.assert_allclose(np.nansum(mixed.marginal("position").probs, axis=2)[:, 0], 1.0)
    assert mixed.sample(2, 0).shape == (len(rows), 2, h.n_items)


def test_an_audit_takes_the_mixture():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=rng.integers(2, 5)) * 3 for _ in range(300)]
    h = pc.PlackettLuce(rows)
    y = pc.Outcomes.from_best([0] * 300, n_items=h.sizes)
    fit = recalibrate(h, y, "uniform")
    audit = pc.audit(fit(h), y, notions=("sub-2", "top-1:confidence"), items="exchangeable")
    assert audit["top-1:confidence"].n_instances == 300


@pytest.mark.parametrize("kind", ["PlackettLuce", "Mallows"])
def test_saved_maps(tmp_path, kind):
    data = simulated(200, 0)
    h = data.h if kind == "PlackettLuce" else pc.Mallows(np.argsort(-data.h.scores.dense()).argsort() + 1, 0.4)
    check_saved(recalibrate(h, data.y, "uniform"), tmp_path)


def test_row_order_and_weights():
    data = simulated(300, 4)
    weights = np.random.default_rng(0).integers(1, 3, 300).astype(float)
    rows = np.repeat(np.arange(300), weights.astype(int))
    once = Uniform.fit(Data(data.h, data.y, weights, np.arange(300)))
    twice = Uniform.fit(Data(data.h[rows], data.y[rows], np.ones(len(rows)), rows))
    assert once.epsilon == pytest.approx(twice.epsilon, rel=1e-4)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=1e-2)
    assert Uniform.fit(data_of(data.h[::-1], data.y[::-1])).epsilon == pytest.approx(
        Uniform.fit(data).epsilon, rel=1e-4
    )


def test_what_cannot_be_done():
    data = simulated(60, 0)
    fit = Uniform.fit(data)
    with pytest.raises(UsageError, match="fitted on PlackettLuce"):
        fit(pc.Mallows([1, 2, 3, 4], 0.5))
    with pytest.raises(UsageError, match="option"):
        Uniform.fit(data, epsilon=0.1)
    nothing = pc.Outcomes.from_ranks([[1, 1, 1]] * 3)
    with pytest.raises(DataError, match="no outcome"):
        Uniform.fit(data_of(pc.Mallows([1, 2, 3], [0.5] * 3), nothing))
