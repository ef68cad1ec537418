"""The dispersion map: recovery, both ends of phi, exact likelihood of partial outcomes."""

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
from prefcal.recalibration.likelihood import mean_log_loss
from prefcal.recalibration.mallows import Dispersion
from recalibration_contract import check_marginals, check_order_kept, check_saved, data_of, weighted_and_repeated


def simulated(
    n: int, seed: int, slope: float = 0.5, intercept: float = 0.2, *, seen: str = "full", constant: bool = False
) -> Data:
    rng = np.random.default_rng(seed)
    centers = np.argsort(rng.random((n, 4)), axis=1) + 1
    theta = np.full(n, 1.0) if constant else rng.uniform(0.2, 2.5, n)
    orders = pc.Mallows(centers, np.exp(-(slope * theta + intercept))).sample(1, rng)[:, 0]
    if seen == "best":
        y = pc.Outcomes.from_best(orders[:, 0], n_items=4)
    elif seen == "partial":  # three of the four items, the lower two of them tied
        places = np.argsort(orders, axis=1).astype(float)
        places[np.arange(n), rng.integers(0, 4, n)] = np.nan
        y = pc.Outcomes.from_ratings(-np.where(places > np.nanmin(places, axis=1, keepdims=True), 9.0, places))
    else:
        y = pc.Outcomes.from_orders(orders)
    return data_of(pc.Mallows(centers, np.exp(-theta)), y)


@pytest.mark.parametrize("seen", ["full", "best", "partial"])
def test_slope_and_intercept_are_recovered(seen):
    hits = np.zeros(2)
    runs = 40 if seen == "full" else 15
    for seed in range(runs):
        found = Dispersion.fit(simulated(1000, seed, seen=seen)).estimates
        for k, (name, true) in enumerate((("slope", 0.5), ("intercept", 0.2))):
            low, high = found[name].interval
            hits[k] += low <= true <= high
    assert (hits >= 0.95 * runs - 3 * math.sqrt(0.0475 * runs)).all()


def test_one_dispersion_for_all_has_a_slope_only():
    hits = 0
    for seed in range(40):
        fit = Dispersion.fit(simulated(500, seed, 0.5, 0.0, constant=True))
        low, high = fit.estimates["slope"].interval
        hits += low <= 0.5 <= high
        assert fit.intercept == 0.0
        assert fit.estimates["intercept"].interval is None
    assert hits >= 33  # 38 expected


def test_the_fit_maximises_the_exact_likelihood():
    """Brute force over all orders for bucket orders with gaps, and an independent search."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    n, orders = 40, np.array(list(itertools.permutations(range(3))))
    centers, theta = np.argsort(rng.random((n, 3)), axis=1) + 1, rng.uniform(0.2, 2.0, n)
    ranks = rng.integers(1, 3, size=(n, 3)).astype(float)
    ranks[rng.random((n, 3)) < 0.2] = np.nan
    ranks[:, 0] = 1.0
    y = pc.Outcomes.from_ratings(-ranks)
    ranks = y.dense()
    agree = np.array(
        [[not any(r[o[s]] > r[o[t]] for s in range(3) for t in range(s + 1, 3)) for o in orders] for r in ranks]
    )
    place = np.argsort(orders, axis=1)
    pairs = list(itertools.combinations(range(3), 2))
    distance = np.array(
        [[sum((c[a] < c[b]) != (p[a] < p[b]) for a, b in pairs) for p in place] for c in centers.astype(int)]
    )

    def loss(x):
        weight = np.exp(-np.maximum(x[0] * theta + x[1], 1e-6)[:, None] * distance)
        logs = np.log((weight * agree).sum(axis=1) / weight.sum(axis=1))
        return -logs.sum() + 0.5 * (x[0] - 1) ** 2 + 0.5 * x[1] ** 2

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    fit = Dispersion.fit(data_of(pc.Mallows(centers, np.exp(-theta)), y))
    assert best[0] > 0
    np.testing.assert_allclose([fit.slope, fit.intercept], best, atol=1e-4)


def test_fifty_instances_do_no_harm():
    """Calibrated, n = 50: the mean held-out log loss rises by less than 0.03 nats a ranking of four."""
    test = simulated(2000, 999, 1.0, 0.0)
    base = mean_log_loss(test.h, test.y)
    rise = [
        mean_log_loss(Dispersion.fit(simulated(50, s, 1.0, 0.0)).apply(test.h, Context()), test.y) - base
        for s in range(30)
    ]
    assert np.mean(rise) < 0.03


def test_certain_forecasts_get_a_finite_dispersion():
    """phi = 0 that is wrong now and then: the forecast that fits is the one that generated the data."""
    rng = np.random.default_rng(3)
    centers = np.argsort(rng.random((3000, 3)), axis=1) + 1
    phi = rng.choice([0.0, 0.5], 3000)
    truth = pc.Mallows(centers, np.where(phi == 0.0, 0.2, 0.6))
    y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    h = pc.Mallows(centers, phi)
    assert math.isinf(mean_log_loss(h, y))
    fit = recalibrate(h, y, "dispersion")
    out = fit(h)
    np.testing.assert_allclose(out.dispersion[phi == 0.0], 0.2, atol=0.03)
    np.testing.assert_allclose(out.dispersion[phi == 0.5], 0.6, atol=0.05)
    assert fit.cap > 0
    assert "phi = 0 counts as" in fit.describe()
    only = recalibrate(h[phi == 0.0], y[phi == 0.0], "dispersion")
    np.testing.assert_allclose(only(h[phi == 0.0]).dispersion, 0.2, atol=0.03)


def test_uniform_forecasts_stay_uniform():
    fit = Dispersion(1.0, 0.5, 0.0, 2.0, (0.01, 0.0, 0.0, 0.01), 0.0)
    assert fit.apply(pc.Mallows([2, 1, 3], 1.0), Context()).dispersion[0] == 1.0
    down = Dispersion(1.0, -5.0, 0.0, 2.0, (0.01, 0.0, 0.0, 0.01), 0.0)
    h = pc.Mallows([2, 1, 3], [0.5, 1.0, 0.0])
    assert down.apply(h, Context()).dispersion[0] == pytest.approx(1.0, abs=1e-5)
    check_order_kept(h, down.apply(h, Context()))


@settings(max_examples=60, deadline=None)
@given(strategies.dispersions, st.floats(0, 50), st.floats(-50, 50), st.integers(1, 5), st.data())
def test_every_dispersion_is_safe(phi, slope, intercept, m, draw):
    center = draw.draw(strategies.ranks(1, m))
    fit = Dispersion(slope, intercept, 0.0, 3.0, (0.1, 0.0, 0.0, 0.1), 0.0)
    h = pc.Mallows(center, phi)
    out = fit.apply(h, Context())
    assert 0 <= out.dispersion[0] <= 1
    if phi > 1e-12 and m > 1:
        check_order_kept(h, out)
    if 2 <= m <= 4:
        check_marginals(out)


def test_centres_that_mislead():
    data = simulated(600, 0, 1.0, 0.0)
    turned = pc.Mallows(5 - (data.h.places + 1), data.h.dispersion)
    fit = Dispersion.fit(data_of(turned, data.y))
    assert "negative information" in " ".join(fit.warnings)
    assert (fit.apply(turned, Context()).dispersion > 0.99).all()


def test_dispersions_that_say_nothing():
    """theta differs, the outcomes do not: the slope's interval holds 0, or it is 0."""
    rng = np.random.default_rng(0)
    data = simulated(1500, 0, 0.0, 0.8)
    fit = Dispersion.fit(data)
    assert fit.slope == 0.0 or fit.estimates["slope"].interval[0] < 0.1
    shuffled = pc.Mallows(data.h.places + 1, np.exp(-rng.uniform(0.2, 2.5, 1500)))
    reverse = simulated(1500, 1, -0.3, 1.0)
    assert "no information" in " ".join(Dispersion.fit(reverse).warnings)
    assert Dispersion.fit(data_of(shuffled, data.y)).slope < 0.2


def test_row_order_and_weights():
    data = simulated(200, 4)
    once, twice = weighted_and_repeated(Dispersion, data)
    np.testing.assert_allclose([once.slope, once.intercept], [twice.slope, twice.intercept], atol=1e-6)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=1e-4)
    assert Dispersion.fit(data.take(np.arange(200)[::-1])).slope == pytest.approx(
        Dispersion.fit(data).slope, rel=1e-6
    )


def test_what_cannot_be_fitted():
    y = pc.Outcomes.from_orders([[0, 1, 2]] * 3)
    with pytest.raises(DataError, match="uniform"):
        Dispersion.fit(data_of(pc.Mallows([[1, 2, 3]] * 3, 1.0), y))
    with pytest.raises(DataError, match="no outcome"):
        Dispersion.fit(data_of(pc.Mallows([[1, 2, 3]] * 3, 0.5), pc.Outcomes.from_ranks([[1, 1, 1]] * 3)))
    with pytest.raises(UsageError, match="option"):
        Dispersion.fit(data_of(pc.Mallows([[1, 2, 3]] * 3, 0.5), y), cap=1)


@pytest.mark.parametrize("constant", [True, False])
def test_saved_maps(tmp_path, constant):
    check_saved(Dispersion.fit(simulated(100, 0, constant=constant)), tmp_path)
