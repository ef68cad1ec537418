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
from recalibration_contract import check_marginals, check_order_kept, check_saved, data_of, weighted_and_repeated


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
    scaled = h if fit.line is None else h.scaled(math.exp(fit.log_scale))
    assert (fit.line is not None) == (name in ("PlackettLuce", "Categorical"))
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
    low, high = fit.estimates["temperature"].interval
    assert low < 1.0 < high
    q = h.scaled(math.exp(fit.log_scale)).probs[:, 0, 1]
    np.testing.assert_allclose(out.probs[:, 0, 1], (1 - fit.epsilon) * q + fit.epsilon / 2)
    assert fit.describe().startswith("Divides the log-odds of the pairs by")
    assert math.isfinite(mean_log_loss(out, y))
    assert "1/2" in fit.describe()
    check_order_kept_pairs = np.sign(h.pair_log_odds([0], [1])) == np.sign(out.pair_log_odds([0], [1]))
    assert check_order_kept_pairs.all()


def listed(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of five of the 24 rankings of four items; outcomes: 20 % from all 24, else at temperature 2."""
    rng = np.random.default_rng(seed)
    orders = np.array(list(itertools.permutations(range(4))))
    p = rng.dirichlet(np.ones(5), size=n)
    q = np.sqrt(p) / np.sqrt(p).sum(axis=1, keepdims=True)
    which = (rng.random(n)[:, None] > np.cumsum(q, axis=1)[:, :-1]).sum(axis=1) * 5
    return p, orders[np.where(rng.random(n) < 0.2, rng.integers(0, 24, n), which)]


def test_lists_get_a_temperature_and_a_uniform_part():
    """Joint maximum by an independent two-dimensional search over all 24 rankings; both numbers are recovered."""
    from scipy.optimize import minimize

    orders = np.array(list(itertools.permutations(range(4))))
    p, happened = listed(1500, 0)
    h, y = pc.Categorical(orders[::5], p), pc.Outcomes.from_orders(happened)
    fit = Uniform.fit(data_of(h, y))
    for name, true in (("epsilon", 0.2), ("temperature", 2.0)):
        low, high = fit.estimates[name].interval
        assert low < true < high
        assert high - low < 0.35 * true
    assert not fit.keeps_order
    assert not any("left out" in w for w in fit.warnings)
    every = np.zeros((1500, 24))
    every[:, ::5] = p
    column = (orders[None] == happened[:, None]).all(axis=2).argmax(axis=1)
    center = -math.log(fit.line.temperature)

    def loss(x):
        epsilon = 1 / (1 + math.exp(-x[1]))
        q = every ** math.exp(x[0]) * (every > 0)
        own = (q / q.sum(axis=1, keepdims=True))[np.arange(1500), column]
        likelihood = np.log((1 - epsilon) * own + epsilon / 24).sum()
        return -likelihood - 0.25 * math.log(epsilon) - 4.75 * math.log1p(-epsilon) + 0.5 * (x[0] - center) ** 2

    best = minimize(loss, [-0.5, -1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    assert fit.log_scale == pytest.approx(best[0], abs=1e-4)
    assert fit.epsilon == pytest.approx(1 / (1 + math.exp(-best[1])), abs=1e-4)
    out = fit(h)
    for k, order in enumerate(orders):
        q = every ** math.exp(fit.log_scale) * (every > 0)
        expected = (1 - fit.epsilon) * q[:, k] / q.sum(axis=1) + fit.epsilon / 24
        np.testing.assert_allclose(np.exp(out.log_prob(order)), expected)


def test_rankings_listed_at_probability_zero_change_nothing():
    p, happened = listed(300, 1)
    orders = np.array(list(itertools.permutations(range(4))))
    padded = np.zeros((300, 24))
    padded[:, ::5] = p
    y = pc.Outcomes.from_orders(happened)
    short, long = (
        recalibrate(h, y, "uniform") for h in (pc.Categorical(orders[::5], p), pc.Categorical(orders, padded))
    )
    assert short.epsilon == pytest.approx(long.epsilon, rel=1e-9)
    assert short.log_scale == pytest.approx(long.log_scale, rel=1e-9)


def test_pairs_that_are_certain_keep_to_the_uniform_part():
    """Of three items: certain pairs, right and wrong, beside others; an independent search finds the same maximum."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    probs = np.full((400, 3, 3), np.nan)
    probs[:, 0, 1], probs[:, 1, 2] = rng.uniform(0.05, 0.95, (2, 400))
    probs[:, 0, 2] = rng.choice([0.0, 1.0], 400)
    h = pc.Pairwise(probs)
    y = pc.Outcomes.from_orders(np.argsort(rng.random((400, 3)), axis=1))
    fit = Uniform.fit(data_of(h, y))
    ranks, center = y.dense(), -math.log(min(fit.line.temperature, math.exp(11.0)))

    def loss(x):
        epsilon, value = 1 / (1 + math.exp(-x[1])), 0.0
        for a, b in itertools.combinations(range(3), 2):
            with np.errstate(divide="ignore", over="ignore"):
                p = 1 / (1 + ((1 - h.probs[:, a, b]) / h.probs[:, a, b]) ** math.exp(x[0]))
            value += np.log((1 - epsilon) * np.where(ranks[:, a] < ranks[:, b], p, 1 - p) + epsilon / 2).sum()
        return -value - 0.25 * math.log(epsilon) - 4.75 * math.log1p(-epsilon) + 0.5 * (x[0] - center) ** 2

    start = [fit.log_scale, math.log(fit.epsilon / (1 - fit.epsilon))]
    best = min(minimize(loss, s, method="Nelder-Mead", options={"xatol": 1e-8}).fun for s in (start, [0.0, 0.0]))
    assert loss(start) <= best + 1e-6


def test_where_everything_observed_was_impossible():
    """No record can tell a temperature: it stays 1, and the uniform part takes almost all."""
    h = pc.Categorical([[0, 1, 2], [1, 0, 2]], np.tile([0.7, 0.3], (40, 1)))
    fit = recalibrate(h, pc.Outcomes.from_orders([[2, 1, 0]] * 40), "uniform")
    assert fit.line is None
    assert fit.log_scale == 0.0
    assert list(fit.estimates) == ["epsilon"]
    assert fit.epsilon > 0.85
    assert fit(h).log_prob([0, 1, 2])[0] == pytest.approx(math.log((1 - fit.epsilon) * 0.7 + fit.epsilon / 6))


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


@pytest.mark.parametrize("kind", ["PlackettLuce", "Mallows", "Categorical", "Pairwise"])
def test_saved_maps(tmp_path, kind):
    data = simulated(200, 0)
    full = data.h.marginal("full")
    place = np.argsort(-data.h.scores.dense(), axis=1).argsort(axis=1)
    h = {
        "PlackettLuce": lambda: data.h,
        "Mallows": lambda: pc.Mallows(place + 1, 0.4),
        "Categorical": lambda: pc.Categorical(full.outcomes[0], full.probs[:, 0]),
        "Pairwise": lambda: pc.Pairwise(np.where(place[:, :, None] < place[:, None, :], 0.8, 0.2)),
    }[kind]()
    check_saved(recalibrate(h, data.y, "uniform"), tmp_path)


def test_a_saved_map_of_another_kind_of_forecasts_is_refused():
    fit = Uniform.fit(simulated(60, 0))
    for kind, message in (("Categorical", "is a map of PlackettLuce"), ("Mallows", "belongs to")):
        with pytest.raises(DataError, match=message):
            Uniform.from_parameters(fit.parameters() | {"kind": kind})


def test_row_order_and_weights():
    data = simulated(300, 4)
    once, twice = weighted_and_repeated(Uniform, data)
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
