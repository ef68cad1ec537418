"""Vector scaling: recovery of power and offsets, zeros, partial outcomes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.categorical import VectorScaling
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from recalibration_contract import check_marginals, check_order_kept, check_saved, data_of, weighted_and_repeated

ORDERS = np.array(list(itertools.permutations(range(4))))
LEADS = 1.5 - np.argsort(ORDERS, axis=1)
OFFSETS = np.array([0.4, -0.2, -0.2, 0.0])


def simulated(n: int, seed: int, power: float = 0.5, offsets=OFFSETS, *, seen: str = "full") -> Data:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) @ LEADS.T * 0.6 + rng.normal(size=(n, 24)) * 0.5
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    q = p**power * np.exp(LEADS @ np.asarray(offsets))
    q /= q.sum(axis=1, keepdims=True)
    happened = ORDERS[(rng.random(n)[:, None] > np.cumsum(q, axis=1)).sum(axis=1).clip(max=23)]
    if seen == "best":
        y = pc.Outcomes.from_best(happened[:, 0], n_items=4)
    elif seen == "partial":
        places = np.argsort(happened, axis=1).astype(float)
        places[np.arange(n), rng.integers(0, 4, n)] = np.nan
        y = pc.Outcomes.from_ratings(-places)
    else:
        y = pc.Outcomes.from_orders(happened)
    return data_of(pc.Categorical(ORDERS, p), y)


def test_power_and_offsets_are_recovered():
    hits = np.zeros(5)
    for seed in range(30):
        found = VectorScaling.fit(simulated(1000, seed, seen=("full", "best", "partial")[seed % 3])).estimates
        for k, (name, true) in enumerate([("power", 0.5), *((f"item_{j}", OFFSETS[j]) for j in range(4))]):
            interval = found[name].interval
            hits[k] += interval is not None and interval[0] <= true <= interval[1]
    assert (hits >= 24).all()  # 28.5 expected, less three and a half binomial standard errors
    assert abs(sum(found[f"item_{j}"].value for j in range(4))) < 1e-9


def test_offsets_of_single_rankings_are_recovered_by_shrinkage():
    data = simulated(2000, 0)
    fit = VectorScaling.fit(data, structure="rankings")
    true = LEADS @ OFFSETS
    error = np.array(fit.offsets) - np.mean(fit.offsets) - true
    assert np.corrcoef(fit.offsets, true)[0, 1] > 0.85
    assert np.sqrt((error**2).mean()) < 0.3
    at = VectorScaling.fit(data, structure="none")
    assert at.offsets == ()
    assert at.power < 0.6


@pytest.mark.parametrize("structure", ["items", "rankings", "none"])
def test_fifty_instances_do_no_harm(structure):
    """Calibrated, n = 50: the mean held-out log loss rises by less than 0.03 nats a ranking of four."""
    test = simulated(2000, 999, 1.0, np.zeros(4))
    base = mean_log_loss(test.h, test.y)
    rise = [
        mean_log_loss(
            VectorScaling.fit(simulated(50, s, 1.0, np.zeros(4)), structure=structure).apply(test.h, Context()),
            test.y,
        )
        - base
        for s in range(20)
    ]
    assert np.mean(rise) < 0.03


@pytest.mark.parametrize("seen", ["full", "best", "partial"])
def test_the_fit_maximises_the_penalised_likelihood(seen):
    from scipy.optimize import minimize

    data = simulated(150, 3, seen=seen)
    fit = VectorScaling.fit(data, structure="none")

    def loss(x):
        p = data.h.probs ** x[0]
        scaled = pc.Categorical(ORDERS, p / p.sum(axis=1, keepdims=True))
        return -observed_log_prob(scaled, data.y).sum() + 0.5 * (x[0] - 1) ** 2

    best = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    assert fit.power == pytest.approx(best[0], abs=1e-5)


def test_apply_is_the_formula():
    data = simulated(8, 0)
    fit = VectorScaling("items", 4, 0.7, (0.3, -0.1, -0.2, 0.0), (), 0.1, 1, (0.01,) * 25)
    got = fit.apply(data.h, Context())
    mixed = 0.9 * data.h.probs + 0.1 / 24
    expected = mixed**0.7 * np.exp(LEADS @ [0.3, -0.1, -0.2, 0.0])
    np.testing.assert_allclose(got.probs, expected / expected.sum(axis=1, keepdims=True))
    check_marginals(got)


def test_offsets_belong_to_rankings_not_to_columns():
    data = simulated(300, 5)
    fit = VectorScaling.fit(data, structure="rankings")
    turn = np.random.default_rng(0).permutation(24)
    turned = pc.Categorical(ORDERS[turn], data.h.probs[:, turn])
    np.testing.assert_allclose(fit.apply(turned, Context()).probs, fit.apply(data.h, Context()).probs[:, turn])


def test_items_may_be_renamed():
    data = simulated(400, 6)
    name = np.array([2, 0, 3, 1])
    h = pc.Categorical(name[ORDERS], data.h.probs)
    y = pc.Outcomes.from_orders(name[np.argsort(data.y.dense(), axis=1)])
    a, b = VectorScaling.fit(data), VectorScaling.fit(data_of(h, y))
    assert b.power == pytest.approx(a.power, abs=1e-6)
    np.testing.assert_allclose(np.array(b.offsets)[name], a.offsets, atol=1e-6)


def test_a_listed_ranking_of_probability_zero_happens():
    rng = np.random.default_rng(0)
    p = np.tile([0.6, 0.4, 0.0], (400, 1))
    orders = [[0, 1, 2], [1, 0, 2], [2, 1, 0]]
    which = rng.choice(3, 400, p=[0.5, 0.4, 0.1])
    h, y = pc.Categorical(orders, p), pc.Outcomes.from_orders(np.array(orders)[which])
    fit = recalibrate(h, y, "vector-scaling", structure="rankings")
    out = fit(h)
    assert fit.impossible == (which == 2).sum()
    assert "had probability 0" in fit.warnings[0]
    assert len(out.orders) == 6
    shares = np.exp([out.log_prob(o)[0] for o in orders])
    np.testing.assert_allclose(shares, np.bincount(which) / 400, atol=0.06)
    kept = recalibrate(h, pc.Outcomes.from_orders(np.array(orders)[which % 2]), "vector-scaling")
    assert kept.floor == 0.0
    assert (kept(h).probs[:, 2] == 0).all()
    assert not kept.warnings


def test_a_ranking_outside_the_list_happens():
    rng = np.random.default_rng(0)
    orders = [[0, 1, 2], [1, 0, 2]]
    h = pc.Categorical(orders, np.tile([0.7, 0.3], (300, 1)))
    happened = np.array([*orders, [2, 1, 0]])[rng.choice(3, 300, p=[0.5, 0.4, 0.1])]
    fit = recalibrate(h, pc.Outcomes.from_orders(happened), "vector-scaling")
    out = fit(h)
    assert len(out.orders) == 6
    assert (out.probs > 0).all()
    assert "all rankings" in fit.warnings[0]
    check_marginals(out[:3])
    many = pc.Categorical([list(range(7))], [[1.0]])
    with pytest.raises(DataError, match="method='uniform'"):
        VectorScaling.fit(data_of(many, pc.Outcomes.from_orders([[*range(1, 7), 0]])))
    saved = VectorScaling("none", 7, 1.0, (), (), 0.1, 1, (0.1,)).parameters()
    with pytest.raises(DataError, match="must be 0 beyond 6 items"):
        VectorScaling.from_parameters(saved)


@pytest.mark.parametrize("structure", ["items", "none"])
def test_rankings_listed_at_probability_zero_change_nothing(structure):
    """Also where what happened had probability 0: the list may hold all rankings that ever happened, or not."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), size=300)
    happened = ORDERS[np.where(rng.random(300) < 0.1, rng.integers(0, 24, 300), rng.integers(0, 6, 300))]
    y = pc.Outcomes.from_orders(happened)
    fits, outs = [], []
    for r in (6, 15, 24):
        h = pc.Categorical(ORDERS[:r], np.concatenate([p, np.zeros((300, r - 6))], axis=1))
        fits.append(recalibrate(h, y, "vector-scaling", structure=structure))
        outs.append(np.stack([fits[-1](h).log_prob(o) for o in ORDERS]))
    assert fits[0].floor > 0
    for fit, out in zip(fits[1:], outs[1:], strict=True):
        assert fit.power == pytest.approx(fits[0].power, rel=1e-9)
        np.testing.assert_allclose(out, outs[0], rtol=1e-9)


def test_forecasts_that_mislead_are_not_flipped():
    fit = VectorScaling.fit(simulated(600, 0, -0.5, np.zeros(4)))
    assert fit.power == 0.0
    assert "not flipped" in " ".join(fit.warnings)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.floats(0.01, 5))
def test_a_power_keeps_the_order_of_rankings_and_zeros(draw, power):
    m = draw.draw(st.integers(1, 3))
    orders = np.array(list(itertools.permutations(range(m))))
    p = draw.draw(strategies.distribution_rows(3, len(orders)))
    fit = VectorScaling("none", m, power, (), (), 0.0, 0, (0.1,))
    out = fit.apply(pc.Categorical(orders, p), Context())
    np.testing.assert_array_equal(out.probs == 0, p == 0)
    for a, b in zip(p, out.probs, strict=True):
        assert (np.diff(b[np.argsort(a, kind="stable")]) >= -1e-15).all()


def test_row_order_and_weights():
    data = simulated(200, 4)
    once, twice = weighted_and_repeated(VectorScaling, data)
    np.testing.assert_allclose([once.power, *once.offsets], [twice.power, *twice.offsets], atol=1e-6)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=1e-4, atol=1e-9)


def test_what_cannot_be_fitted():
    data = simulated(20, 0)
    with pytest.raises(UsageError, match="structure"):
        VectorScaling.fit(data, structure="item")
    with pytest.raises(DataError, match="no outcome"):
        VectorScaling.fit(data_of(data.h, pc.Outcomes.from_ranks([[1, 1, 1, 1]] * 20)))
    with pytest.raises(DataError, match="4 items"):
        VectorScaling.fit(data).apply(pc.Categorical([[0, 1]], [[1.0]]), Context())


@pytest.mark.parametrize("structure", ["items", "rankings", "none"])
def test_saved_maps(tmp_path, structure):
    check_saved(VectorScaling.fit(simulated(100, 0), structure=structure), tmp_path)


def test_the_identity_keeps_everything():
    data = simulated(5, 0)
    fit = VectorScaling("none", 4, 1.0, (), (), 0.0, 0, (0.1,))
    check_order_kept(data.h, fit.apply(data.h, Context()))
