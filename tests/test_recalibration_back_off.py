"""Mixture of a list with itself smoothed: exact, recovered, harmless on few data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

import prefcal as pc
from prefcal.distributions.smoothed import Smoothed
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.back_off import BackOff
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from prefcal.recalibration.mixing import Terms
from recalibration_contract import check_marginals, check_saved, data_of, weighted_and_repeated

ORDERS = np.array(list(itertools.permutations(range(4))))


def lists(n: int, seed: int, r: int = 8) -> pc.Categorical:
    """Probabilities of the rankings whose best item is 0 or 1, as far as r of them go."""
    rng = np.random.default_rng(seed)
    return pc.Categorical(ORDERS[:r], rng.dirichlet(np.ones(r), size=n))


def simulated(
    n: int, seed: int, *, epsilon: float = 0.3, phi: float = 0.4, temperature: float = 2.0, r: int = 8
) -> Data:
    """Outcomes from a back-off of what the list says at the temperature."""
    h = lists(n, seed, r)
    q = h.probs ** (1 / temperature)
    base = pc.Categorical(h.orders, q / q.sum(axis=1, keepdims=True))
    truth = pc.Mixture([base, Smoothed(h, phi)], [1 - epsilon, epsilon])
    return data_of(h, pc.Outcomes.from_orders(truth.sample(1, np.random.default_rng([seed, 1]))[:, 0]))


def test_all_three_numbers_are_recovered():
    hits = np.zeros(3)
    for seed in range(20):
        found = BackOff.fit(simulated(1500, seed)).estimates
        for k, (name, true) in enumerate((("epsilon", 0.3), ("dispersion", 0.4), ("temperature", 2.0))):
            low, high = found[name].interval
            hits[k] += low <= true <= high
    assert (hits >= 15).all()  # 19 expected; fewer than 15 happens once in 400 if 95 % is right


@pytest.mark.parametrize("seen", ["full", "best", "partial"])
def test_the_fit_maximises_the_penalised_likelihood(seen):
    """An independent search over the probabilities of all 24 rankings."""
    data = simulated(400, 1)
    places = np.argsort(np.argsort(data.y.dense(), axis=1), axis=1).astype(float)
    if seen == "best":
        data = data_of(data.h, pc.Outcomes.from_best(places.argmin(axis=1), n_items=4))
    elif seen == "partial":
        places[np.arange(400), np.random.default_rng(0).integers(0, 4, 400)] = np.nan
        data = data_of(data.h, pc.Outcomes.from_ratings(-places))
    fit = BackOff.fit(data)
    ranks = data.y.dense()
    with np.errstate(invalid="ignore"):
        agrees = np.stack(
            [
                np.all([~(ranks[:, o[i]] > ranks[:, o[j]]) for i in range(4) for j in range(i + 1, 4)], axis=0)
                for o in ORDERS
            ],
            axis=1,
        )
    place = np.argsort(ORDERS, axis=1)
    distance = np.array(
        [[sum(p[c[i]] > p[c[j]] for i in range(4) for j in range(i + 1, 4)) for p in place] for c in ORDERS]
    )
    every = np.zeros((400, 24))
    every[:, :8] = data.h.probs
    middle = -math.log(fit.line.temperature)

    def loss(x):
        epsilon, phi = 1 / (1 + math.exp(-x[1])), math.exp(-math.exp(x[2]))
        p, q = every ** math.exp(x[0]) * (every > 0), every @ phi**distance
        own = (1 - epsilon) * p / p.sum(axis=1, keepdims=True) + epsilon * q / q.sum(axis=1, keepdims=True)
        prior = 0.25 * math.log(epsilon) + 4.75 * math.log1p(-epsilon) - 0.5 * (x[0] - middle) ** 2 - 0.5 * x[2] ** 2
        return -np.log((own * agrees).sum(axis=1)).sum() - prior

    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000}
    best = minimize(loss, [-0.5, -1.0, 0.0], method="Nelder-Mead", options=options)
    at = [fit.log_scale, math.log(fit.epsilon / (1 - fit.epsilon)), math.log(fit.theta)]
    assert loss(at) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(at, best.x, atol=1e-3)


@pytest.mark.parametrize("seen", ["full", "best"])
def test_derivatives(seen):
    """Finite differences at a point that is no maximum; of the smoothed part second derivatives too."""
    data = simulated(60, 2)
    if seen == "best":
        data = data_of(data.h, pc.Outcomes.from_best(data.y.dense().argmin(axis=1), n_items=4))
    terms = Terms(data, 0.0, True, smoothed=True)
    x = np.array([-0.3, -0.7, 0.4])
    gradient = terms.derivatives(x)[1].sum(axis=0)
    for k, step in enumerate(np.eye(3) * 1e-5):
        slope = (terms.value(x + step) - terms.value(x - step)) / 2e-5
        assert gradient[k] == pytest.approx(slope, rel=1e-5, abs=1e-5)
    value, _, second = terms.around.jets(0.4)
    np.testing.assert_allclose(value, terms.around.log_prob(0.4))
    low, high = (terms.around.jets(0.4 + s)[1] for s in (-1e-4, 1e-4))
    np.testing.assert_allclose(second, (high - low) / 2e-4, rtol=1e-3, atol=1e-4)


def test_records_of_every_shape_together():
    """Full rankings, best items, pairs, partial and bucket orders in one fit: each as its own likelihood says."""
    n = np.nan
    ranks = np.array(
        [[1, 2, 3, 4], [2, 1, 2, 2], [n, 2, 1, n], [1, n, 2, 3], [1, 1, 2, 2], [2, 3, 1, 4], [1, 1, 1, 2]]
    )
    h, y = lists(7, 11), pc.Outcomes.from_ranks(ranks)
    around = Terms(data_of(h, y), 0.0, True, smoothed=True).around
    for log_theta in (-3.0, 0.0, 2.0):
        expected = observed_log_prob(Smoothed(h, math.exp(-math.exp(log_theta))), y)
        np.testing.assert_allclose(around.log_prob(log_theta), expected, rtol=1e-9)
        np.testing.assert_allclose(around.jets(log_theta)[0], expected, rtol=1e-9)
    fit = recalibrate(h, y, "back-off")
    assert 0 < fit.epsilon < 1


def test_the_result_is_the_formula():
    h = lists(5, 3)
    fit = BackOff(0.25, 0.9, -0.4, (0.1,) * 9, BackOff.fit(simulated(50, 0)).line)
    out = fit.apply(h, Context())
    check_marginals(out)
    every = np.zeros((5, 24))
    every[:, :8] = h.probs
    base = every ** math.exp(-0.4) * (every > 0)
    place = np.argsort(ORDERS, axis=1)
    kernel = np.array(
        [[math.exp(-0.9 * sum(p[a] > p[b] for a, b in itertools.combinations(c, 2))) for p in place] for c in ORDERS]
    )
    kernel /= kernel.sum(axis=1, keepdims=True)
    expected = 0.75 * base / base.sum(axis=1, keepdims=True) + 0.25 * every @ kernel
    np.testing.assert_allclose(np.exp([out.log_prob(o) for o in ORDERS]).T, expected, atol=1e-12)


def test_it_beats_the_uniform_mixture_where_the_unseen_is_near():
    """The list shows 3 of 24 rankings; what it lacks stays near what it shows. Measured on new data."""
    train, test = (simulated(n, n, epsilon=0.5, phi=0.15, r=3) for n in (400, 4000))
    losses = {
        method: mean_log_loss(recalibrate(train.h, train.y, method)(test.h), test.y)
        for method in ("uniform", "back-off")
    }
    assert math.isinf(mean_log_loss(test.h, test.y))
    assert losses["back-off"] < losses["uniform"] - 0.05
    fit = pc.recalibrate(train.h, train.y)
    assert fit.chosen.method == "back-off"


def test_fifty_instances_do_no_harm():
    """Calibrated lists of all rankings, n = 50: the mean held-out log loss rises by less than 0.04 nats."""
    test = simulated(3000, 999, epsilon=0.0, temperature=1.0, r=24)
    base = mean_log_loss(test.h, test.y)
    rise = [
        mean_log_loss(
            BackOff.fit(simulated(50, seed, epsilon=0.0, temperature=1.0, r=24)).apply(test.h, Context()), test.y
        )
        - base
        for seed in range(20)
    ]
    assert np.mean(rise) < 0.04


def test_items_may_be_renamed():
    data = simulated(200, 10)
    name = np.array([2, 0, 3, 1])
    h = pc.Categorical(name[data.h.orders], data.h.probs)
    y = pc.Outcomes.from_orders(name[np.argsort(data.y.dense(), axis=1)])
    a, b = BackOff.fit(data), BackOff.fit(data_of(h, y))
    for one, two in ((a.epsilon, b.epsilon), (a.theta, b.theta), (a.log_scale, b.log_scale)):
        assert two == pytest.approx(one, rel=1e-6)
    np.testing.assert_allclose(b.covariance, a.covariance, rtol=1e-5)


def test_row_order_and_weights():
    data = simulated(300, 6)
    once, twice = weighted_and_repeated(BackOff, data)
    assert once.epsilon == pytest.approx(twice.epsilon, rel=1e-4)
    assert once.theta == pytest.approx(twice.theta, rel=1e-4)
    turned = BackOff.fit(data_of(data.h[::-1], data.y[::-1]))
    assert turned.theta == pytest.approx(BackOff.fit(data).theta, rel=1e-4)


def test_where_everything_observed_was_impossible():
    """No record can tell a temperature; what happened is one exchange away from what is listed."""
    h = pc.Categorical([[0, 1, 2], [1, 0, 2]], np.tile([0.7, 0.3], (40, 1)))
    fit = recalibrate(h, pc.Outcomes.from_orders([[0, 2, 1]] * 40), "back-off")
    assert fit.line is None
    assert list(fit.estimates) == ["epsilon", "dispersion"]
    assert "more than half" in fit.warnings[0]
    new = np.exp([fit(h).log_prob(o)[0] for o in ([0, 2, 1], [2, 1, 0], [2, 0, 1])])
    assert new[0] > new[2] > new[1]


def test_saved_maps(tmp_path):
    data = simulated(80, 8)
    check_saved(recalibrate(data.h, data.y, "back-off"), tmp_path)


def test_what_cannot_be_done():
    data = simulated(40, 9)
    fit = recalibrate(data.h, data.y, "back-off")
    with pytest.raises(UsageError, match="for Categorical forecasts"):
        fit(pc.Samples(data.h.sample(10, 0)))
    with pytest.raises(UsageError, match="option"):
        BackOff.fit(data, epsilon=0.1)
    with pytest.raises(DataError, match="no outcome"):
        BackOff.fit(data_of(data.h, pc.Outcomes.from_ranks([[1, 1, 1, 1]] * 40)))
    with pytest.raises(DataError, match="strictly between"):
        BackOff.from_parameters(fit.parameters() | {"epsilon": 0.0})
    assert np.isfinite(observed_log_prob(fit(data.h), data.y)).all()
    many = pc.Categorical([list(range(8))] * 2, [[0.5, 0.5]])
    with pytest.raises(DataError, match="a partial ranking of 8 items"):
        BackOff.fit(data_of(many, pc.Outcomes.from_ranks([[1, 2, 3, *[np.nan] * 5]])))
